//! The rows of the commands about the server.

use super::{Command, Flags, Handler, container, help, keyed, local, task};
use crate::engine::entries::commands::objects;
use crate::session::{config, info, introspection, server, slow};

const TOLD: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(TOLD);

pub(super) const COMMANDS: &[Command] = &[
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
    task(
        "info",
        -1,
        TOLD,
        "[section [section ...]]",
        "Tells about the server.",
        info::info,
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
    task(
        "save",
        1,
        ADMIN.and(Flags::NO_MULTI),
        "",
        "Has every shard take a checkpoint, and answers when they stand.",
        server::save,
    ),
    local(
        "time",
        1,
        TOLD.and(Flags::FAST),
        "",
        "Gives the time in Unix seconds, and microseconds.",
        server::time,
    ),
    local(
        "shutdown",
        -1,
        ADMIN.and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY),
        "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        "Ends the server as SIGTERM does; nothing that was acknowledged is lost.",
        server::shutdown,
    ),
    local(
        "wait",
        3,
        Flags::NONE.and(Flags::IN_TURN),
        "numreplicas timeout",
        "Answers 0: there are no replicas.",
        server::wait,
    ),
    task(
        "waitaof",
        4,
        Flags::NONE,
        "numlocal numreplicas timeout",
        "Answers when everything before it is on this server's disk.",
        server::waitaof,
    ),
    local("role", 1, TOLD.and(Flags::FAST), "", "Answers master.", server::role),
    container("memory", "About memory.", MEMORY),
    container("config", "About the settings.", CONFIG),
    container("debug", "For tests.", DEBUG),
    container("slowlog", "About commands that took long.", SLOWLOG),
    container("latency", "About events that took long.", LATENCY),
];

const MEMORY: &[Command] = &[keyed(&objects::MEMORY_USAGE), help()];

const DEBUG: &[Command] = &[
    task(
        "sleep",
        3,
        ADMIN,
        "seconds",
        "Answers after so long; other connections are served meanwhile.",
        server::debug_sleep,
    ),
    help(),
];

const SLOWLOG: &[Command] = &[
    task(
        "get",
        -2,
        ADMIN,
        "[count]",
        "Gives the latest commands that took longer than slowlog-log-slower-than.",
        slow::slowlog_get,
    ),
    task("len", 2, ADMIN, "", "Counts them.", slow::slowlog_len),
    task("reset", 2, ADMIN, "", "Forgets them.", slow::slowlog_reset),
    help(),
];

const LATENCY: &[Command] = &[
    task(
        "latest",
        2,
        ADMIN,
        "",
        "Gives the latest sample of each event.",
        slow::latency_latest,
    ),
    task(
        "history",
        3,
        ADMIN,
        "event",
        "Gives an event's samples.",
        slow::latency_history,
    ),
    task(
        "reset",
        -2,
        ADMIN,
        "[event [event ...]]",
        "Forgets the samples of these events, or of all.",
        slow::latency_reset,
    ),
    task(
        "doctor",
        2,
        ADMIN,
        "",
        "Says what took long, and where to look.",
        slow::latency_doctor,
    ),
    task(
        "histogram",
        -2,
        ADMIN,
        "[command [command ...]]",
        "Gives how long commands took.",
        slow::latency_histogram,
    ),
    help(),
];

const COMMAND: &[Command] = &[
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
    help(),
];

const CONFIG: &[Command] = &[
    local(
        "get",
        -3,
        ADMIN,
        "parameter [parameter ...]",
        "Gives settings by name or pattern.",
        config::get,
    ),
    local(
        "set",
        -4,
        ADMIN,
        "parameter value [parameter value ...]",
        "Changes settings, all of these or none.",
        config::set,
    ),
    task(
        "resetstat",
        2,
        ADMIN,
        "",
        "Sets the counters of INFO back.",
        config::resetstat,
    ),
    local(
        "rewrite",
        2,
        ADMIN,
        "",
        "Refused: there is no file of settings.",
        config::rewrite,
    ),
    help(),
];

const _: () = assert!(
    matches!(COMMANDS[0].handler, Handler::Local(_)),
    "COMMAND alone is a command as well"
);
