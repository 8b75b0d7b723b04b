//! The rows of the commands about the server.

use super::{Command, Flags, Group, Handler, container, help};
use crate::session::connection::Call;
use crate::session::{introspection, server};

const GROUP: Group = Group::Server;

const TOLD: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(TOLD);

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
    Command {
        subcommands: COMMAND,
        ..local(
            "command",
            -1,
            TOLD,
            "",
            "Describes every command for programs.",
            introspection::command,
        )
    },
    local(
        "info",
        -1,
        TOLD,
        "[section [section ...]]",
        "Tells about the server.",
        server::info,
    ),
    local(
        "bgsave",
        -1,
        Flags::ADMIN.and(Flags::NOSCRIPT),
        "[SCHEDULE]",
        "Has every shard take a checkpoint in the background.",
        server::bgsave,
    ),
    local(
        "lastsave",
        1,
        TOLD.and(Flags::FAST),
        "",
        "Gives the Unix time of the last checkpoint of all shards.",
        server::lastsave,
    ),
    container("config", GROUP, "About the settings.", CONFIG),
];

static COMMAND: &[Command] = &[
    local(
        "count",
        2,
        TOLD,
        "",
        "Gives how many commands there are.",
        introspection::command_count,
    ),
    local(
        "docs",
        -2,
        TOLD,
        "[command-name [command-name ...]]",
        "Describes commands for people.",
        introspection::command_docs,
    ),
    local(
        "info",
        -2,
        TOLD,
        "[command-name [command-name ...]]",
        "Describes commands for programs.",
        introspection::command_info,
    ),
    local(
        "getkeys",
        -3,
        TOLD,
        "command [arg [arg ...]]",
        "Gives the keys in a command.",
        introspection::command_getkeys,
    ),
    local(
        "list",
        -2,
        TOLD,
        "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
        "Gives the commands' names.",
        introspection::command_list,
    ),
    help(GROUP),
];

static CONFIG: &[Command] = &[
    local(
        "get",
        -3,
        ADMIN,
        "parameter [parameter ...]",
        "Gives settings by name or pattern.",
        server::config_get,
    ),
    help(GROUP),
];

const _: () = assert!(
    matches!(COMMANDS[0].handler, Handler::Local(_)),
    "COMMAND alone is a command as well"
);
