//! The command table: everything the RESP side knows about each command, in one row.
//!
//! Dispatch, arity errors, `COMMAND` and help all read it; a new command is a new row. Names are lower-case, as Redis
//! prints them; clients may write them in any case.

use cartwright_protocol::resp::Arguments;

use super::shop::{self, Parsed};
use super::{connection, introspection, server};

/// One command, or one subcommand.
pub(super) struct Command {
    /// Lower-case; a subcommand's without its container's.
    pub(super) name: &'static str,
    /// Count of arguments, the name (and the container's) included; negative: at least that many.
    pub(super) arity: i16,
    /// Redis's words for what a command is like.
    pub(super) flags: &'static [&'static str],
    /// Whether the first argument is a SKU or customer whose slot is the command's home.
    pub(super) first_key: bool,
    /// What the command is for: the group in `COMMAND DOCS`.
    pub(super) group: &'static str,
    /// One sentence.
    pub(super) summary: &'static str,
    /// The arguments, as documentation writes them.
    pub(super) syntax: &'static str,
    pub(super) handler: Handler,
    /// Not empty: the first argument selects one.
    pub(super) subcommands: &'static [Command],
}

/// What a command does.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// It goes to the engine.
    Shop(fn(Arguments<'_>) -> Parsed),
    /// It is answered from the connection's own state and the server's facts.
    Local(fn(&mut connection::Call<'_>)),
    /// Only its subcommands do anything.
    Container,
}

const CONTAINER: Handler = Handler::Container;
const NO_SUBCOMMANDS: &[Command] = &[];

const fn local(
    name: &'static str,
    arity: i16,
    group: &'static str,
    syntax: &'static str,
    summary: &'static str,
    handler: fn(&mut connection::Call<'_>),
) -> Command {
    let flags = &["loading", "stale", "fast"];
    let handler = Handler::Local(handler);
    Command {
        name,
        arity,
        flags,
        first_key: false,
        group,
        summary,
        syntax,
        handler,
        subcommands: NO_SUBCOMMANDS,
    }
}

const WRITE: &[&str] = &["write", "fast"];
const READ: &[&str] = &["readonly", "fast"];

const fn on_item(
    name: &'static str,
    arity: i16,
    flags: &'static [&'static str],
    syntax: &'static str,
    summary: &'static str,
    handler: fn(Arguments<'_>) -> Parsed,
) -> Command {
    let handler = Handler::Shop(handler);
    Command {
        name,
        arity,
        flags,
        first_key: true,
        group: "shop",
        summary,
        syntax,
        handler,
        subcommands: NO_SUBCOMMANDS,
    }
}

/// An order's id is no key: it carries its slot, which is not that of its digits.
const fn on_order(
    name: &'static str,
    arity: i16,
    flags: &'static [&'static str],
    syntax: &'static str,
    summary: &'static str,
    handler: fn(Arguments<'_>) -> Parsed,
) -> Command {
    let row = on_item(name, arity, flags, syntax, summary, handler);
    Command {
        first_key: false,
        ..row
    }
}

/// Every command.
pub(super) static COMMANDS: &[Command] = &[
    on_item(
        "item.put",
        -4,
        WRITE,
        "sku price currency [NAME text] [LIMIT n] [BACKORDER n] [KEY key]",
        "Makes or replaces a catalogue entry; stock is untouched.",
        shop::item_put,
    ),
    on_item(
        "item.get",
        2,
        READ,
        "sku",
        "Gives a catalogue entry, or null.",
        shop::item_get,
    ),
    on_item(
        "stock.add",
        -3,
        WRITE,
        "sku delta [LOCATION loc] [REASON text] [KEY key]",
        "Changes the units on hand at a location and gives their new number.",
        shop::stock_add,
    ),
    on_item(
        "stock.get",
        -2,
        READ,
        "sku [LOCATION loc]",
        "Gives on_hand, held, committed and available of an item, at one location or over all.",
        shop::stock_get,
    ),
    on_item(
        "checkout",
        -6,
        &["write"],
        "customer KEY key [HOLD ms] LINES n sku qty [sku qty ...]",
        "Takes a whole cart or nothing, and makes an order.",
        shop::checkout,
    ),
    on_order(
        "order.get",
        2,
        READ,
        "id",
        "Gives an order with its lines, or null.",
        shop::order_get,
    ),
    on_item(
        "order.list",
        -2,
        &["readonly"],
        "customer [BEFORE id] [COUNT n]",
        "Gives a customer's orders, newest first.",
        shop::order_list,
    ),
    on_order(
        "order.confirm",
        -2,
        WRITE,
        "id [KEY key]",
        "Places a held order.",
        shop::order_confirm,
    ),
    on_order(
        "order.cancel",
        -2,
        WRITE,
        "id [KEY key]",
        "Calls off an order; its units come back.",
        shop::order_cancel,
    ),
    on_order(
        "audit",
        1,
        &["readonly", "admin"],
        "",
        "Checks the books of every item and order.",
        shop::audit,
    ),
    local(
        "ping",
        -1,
        "connection",
        "[message]",
        "Answers PONG, or the message.",
        connection::ping,
    ),
    local(
        "echo",
        2,
        "connection",
        "message",
        "Answers the message.",
        connection::echo,
    ),
    local("quit", -1, "connection", "", "Closes the connection.", connection::quit),
    local(
        "reset",
        1,
        "connection",
        "",
        "Makes the connection as it was at first.",
        connection::reset,
    ),
    local(
        "select",
        2,
        "connection",
        "index",
        "Accepts database 0, the only one.",
        connection::select,
    ),
    local(
        "auth",
        -2,
        "connection",
        "[username] password",
        "Accepts the default user.",
        connection::auth,
    ),
    local(
        "hello",
        -1,
        "connection",
        "[protover [AUTH username password] [SETNAME clientname]]",
        "Changes the version of RESP and tells about the server.",
        connection::hello,
    ),
    Command {
        subcommands: &[
            local(
                "id",
                2,
                "connection",
                "",
                "Gives the connection's number.",
                connection::client_id,
            ),
            local(
                "info",
                2,
                "connection",
                "",
                "Tells about this connection.",
                connection::client_info,
            ),
            local(
                "list",
                -2,
                "connection",
                "[TYPE client-type] [ID client-id [client-id ...]]",
                "Tells about this connection, as a list of one.",
                connection::client_list,
            ),
            local(
                "setname",
                3,
                "connection",
                "connection-name",
                "Names the connection.",
                connection::client_setname,
            ),
            local(
                "getname",
                2,
                "connection",
                "",
                "Gives the connection's name.",
                connection::client_getname,
            ),
            local(
                "setinfo",
                4,
                "connection",
                "<LIB-NAME libname | LIB-VER libver>",
                "Tells the server which client library this is.",
                connection::client_setinfo,
            ),
            local(
                "no-evict",
                3,
                "connection",
                "<ON | OFF>",
                "Accepted; nothing is evicted.",
                connection::client_switch,
            ),
            local(
                "no-touch",
                3,
                "connection",
                "<ON | OFF>",
                "Accepted; nothing ages.",
                connection::client_switch,
            ),
            local("help", 2, "connection", "", "Prints this help.", introspection::help),
        ],
        handler: CONTAINER,
        ..local(
            "client",
            -2,
            "connection",
            "subcommand",
            "About the connection.",
            introspection::help,
        )
    },
    Command {
        subcommands: &[
            local(
                "count",
                2,
                "server",
                "",
                "Gives how many commands there are.",
                introspection::command_count,
            ),
            local(
                "docs",
                -2,
                "server",
                "[command-name [command-name ...]]",
                "Describes commands for people.",
                introspection::command_docs,
            ),
            local(
                "info",
                -2,
                "server",
                "[command-name [command-name ...]]",
                "Describes commands for programs.",
                introspection::command_info,
            ),
            local(
                "getkeys",
                -3,
                "server",
                "command [arg [arg ...]]",
                "Gives the keys in a command.",
                introspection::command_getkeys,
            ),
            local(
                "list",
                -2,
                "server",
                "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
                "Gives the commands' names.",
                introspection::command_list,
            ),
            local("help", 2, "server", "", "Prints this help.", introspection::help),
        ],
        ..local(
            "command",
            -1,
            "server",
            "",
            "Describes every command for programs.",
            introspection::command,
        )
    },
    local(
        "info",
        -1,
        "server",
        "[section [section ...]]",
        "Tells about the server.",
        server::info,
    ),
    Command {
        flags: &["admin", "noscript"],
        ..local(
            "bgsave",
            -1,
            "server",
            "[SCHEDULE]",
            "Has every shard take a checkpoint in the background.",
            server::bgsave,
        )
    },
    local(
        "lastsave",
        1,
        "server",
        "",
        "Gives the Unix time of the last checkpoint of all shards.",
        server::lastsave,
    ),
    Command {
        subcommands: &[
            local(
                "get",
                -3,
                "server",
                "parameter [parameter ...]",
                "Gives the settings that clients ask for.",
                server::config_get,
            ),
            local("help", 2, "server", "", "Prints this help.", introspection::help),
        ],
        handler: CONTAINER,
        ..local(
            "config",
            -2,
            "server",
            "subcommand",
            "About the settings.",
            introspection::help,
        )
    },
];

/// Longest name, container and subcommand apart.
const NAME_BYTES_MAX: usize = 16;

/// Places in the index: a power of two, at least four times the commands.
const INDEX_LENGTH: usize = 128;
const EMPTY: u8 = u8::MAX;

const fn place(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    let mut at = 0;
    while at < name.len() {
        hash = hash.wrapping_mul(31) ^ name[at].to_ascii_lowercase() as u32;
        at += 1;
    }
    (hash ^ hash >> 7) as usize % INDEX_LENGTH
}

/// Where each command stands in [`COMMANDS`]: open addressing, built by the compiler.
static INDEX: [u8; INDEX_LENGTH] = {
    assert!(COMMANDS.len() * 4 <= INDEX_LENGTH && INDEX_LENGTH <= 256 && COMMANDS.len() < EMPTY as usize);
    let mut index = [EMPTY; INDEX_LENGTH];
    let mut command = 0;
    while command < COMMANDS.len() {
        let name = COMMANDS[command].name.as_bytes();
        assert!(name.len() <= NAME_BYTES_MAX);
        let mut at = place(name);
        while index[at] != EMPTY {
            at = (at + 1) % INDEX_LENGTH;
        }
        index[at] = command as u8;
        command += 1;
    }
    index
};

/// The command with this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut at = place(name);
    while INDEX[at] != EMPTY {
        let command = &COMMANDS[usize::from(INDEX[at])];
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        at = (at + 1) % INDEX_LENGTH;
    }
    None
}

impl Command {
    /// The subcommand with this name, in any case.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        self.subcommands
            .iter()
            .find(|subcommand| subcommand.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether so many arguments, the name included, can be right.
    pub(super) const fn takes(&self, count: usize) -> bool {
        if self.arity < 0 {
            count >= self.arity.unsigned_abs() as usize
        } else {
            count == self.arity as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        for command in COMMANDS {
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            for name in [command.name.to_owned(), command.name.to_ascii_uppercase()] {
                assert!(
                    std::ptr::eq(find(name.as_bytes()).expect("in the index"), command),
                    "{name}"
                );
            }
        }
        for unknown in ["", "GET", "item.pu", "item.putt", "x", "item\u{0}put"] {
            assert!(find(unknown.as_bytes()).is_none(), "{unknown}");
        }
        assert!(find(&[0xff; 1000]).is_none());
    }
}
