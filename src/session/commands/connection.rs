//! The rows of the commands about a connection.

use super::{Command, Flags, Group, container, help};
use crate::session::connection::{self, Call};

const GROUP: Group = Group::Connection;

/// Answered at once, whatever the connection's state.
const LIGHT: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);

const fn local(
    name: &'static str,
    arity: i16,
    flags: Flags,
    syntax: &'static str,
    summary: &'static str,
    handler: fn(&mut Call<'_>),
) -> Command {
    super::local(name, arity, flags, GROUP, syntax, summary, handler)
}

pub(super) static COMMANDS: &[Command] = &[
    local(
        "ping",
        -1,
        Flags::FAST,
        "[message]",
        "Answers PONG, or the message.",
        connection::ping,
    ),
    local(
        "echo",
        2,
        Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        "message",
        "Answers the message.",
        connection::echo,
    ),
    local(
        "quit",
        -1,
        LIGHT.and(Flags::FAST),
        "",
        "Closes the connection.",
        connection::quit,
    ),
    local(
        "reset",
        1,
        LIGHT.and(Flags::FAST),
        "",
        "Makes the connection as it was at first.",
        connection::reset,
    ),
    local(
        "select",
        2,
        Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        "index",
        "Accepts database 0, the only one.",
        connection::select,
    ),
    local(
        "auth",
        -2,
        LIGHT.and(Flags::FAST),
        "[username] password",
        "Accepts the default user.",
        connection::auth,
    ),
    local(
        "hello",
        -1,
        LIGHT.and(Flags::FAST),
        "[protover [AUTH username password] [SETNAME clientname]]",
        "Changes the version of RESP and tells about the server.",
        connection::hello,
    ),
    container("client", GROUP, "About connections.", CLIENT),
];

static CLIENT: &[Command] = &[
    local(
        "id",
        2,
        LIGHT,
        "",
        "Gives the connection's number.",
        connection::client_id,
    ),
    local(
        "info",
        2,
        LIGHT,
        "",
        "Tells about this connection.",
        connection::client_info,
    ),
    local(
        "list",
        -2,
        LIGHT.and(Flags::ADMIN),
        "[TYPE client-type] [ID client-id [client-id ...]]",
        "Tells about this connection, as a list of one.",
        connection::client_list,
    ),
    local(
        "setname",
        3,
        LIGHT,
        "connection-name",
        "Names the connection.",
        connection::client_setname,
    ),
    local(
        "getname",
        2,
        LIGHT,
        "",
        "Gives the connection's name.",
        connection::client_getname,
    ),
    local(
        "setinfo",
        4,
        LIGHT,
        "<LIB-NAME libname | LIB-VER libver>",
        "Tells the server which client library this is.",
        connection::client_setinfo,
    ),
    local(
        "no-evict",
        3,
        LIGHT.and(Flags::ADMIN),
        "<ON | OFF>",
        "Accepted; nothing is evicted.",
        connection::client_switch,
    ),
    local(
        "no-touch",
        3,
        LIGHT,
        "<ON | OFF>",
        "Accepted; nothing ages.",
        connection::client_switch,
    ),
    help(GROUP),
];
