//! The rows of the commands about a connection.

use super::{Command, Flags, container, help, local, task};
use crate::session::clients;
use crate::session::connection;

/// Answered at once, whatever the connection's state.
const LIGHT: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);

/// Changes who the client is, or what it gets.
const FIRST: Flags = LIGHT.and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);

pub(super) const COMMANDS: &[Command] = &[
    local(
        "ping",
        -1,
        Flags::FAST.and(Flags::WHEN_SUBSCRIBED),
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
        FIRST.and(Flags::WHEN_SUBSCRIBED).and(Flags::NOT_QUEUED),
        "",
        "Closes the connection.",
        connection::quit,
    ),
    local(
        "reset",
        1,
        FIRST.and(Flags::WHEN_SUBSCRIBED).and(Flags::NOT_QUEUED),
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
        FIRST.and(Flags::NO_MULTI),
        "[username] password",
        "Says the password.",
        connection::auth,
    ),
    local(
        "hello",
        -1,
        FIRST.and(Flags::NO_MULTI),
        "[protover [AUTH username password] [SETNAME clientname]]",
        "Changes the version of RESP and tells about the server.",
        connection::hello,
    ),
    container("client", "About connections.", CLIENT),
];

const CLIENT: &[Command] = &[
    local("id", 2, LIGHT, "", "Gives the connection's number.", clients::id),
    task("info", 2, LIGHT, "", "Tells about this connection.", clients::info),
    task(
        "list",
        -2,
        LIGHT.and(Flags::ADMIN),
        "[TYPE client-type] [ID client-id [client-id ...]]",
        "Lists connections.",
        clients::list,
    ),
    local(
        "setname",
        3,
        LIGHT,
        "connection-name",
        "Names the connection.",
        clients::setname,
    ),
    local(
        "getname",
        2,
        LIGHT,
        "",
        "Gives the connection's name.",
        clients::getname,
    ),
    local(
        "setinfo",
        4,
        LIGHT,
        "<LIB-NAME libname | LIB-VER libver>",
        "Tells the server which client library this is.",
        clients::setinfo,
    ),
    local(
        "no-evict",
        3,
        LIGHT.and(Flags::ADMIN),
        "<ON | OFF>",
        "Accepted; nothing is evicted.",
        clients::no_evict,
    ),
    local(
        "no-touch",
        3,
        LIGHT,
        "<ON | OFF>",
        "Accepted; nothing ages.",
        clients::no_touch,
    ),
    task(
        "kill",
        -3,
        LIGHT.and(Flags::ADMIN),
        "<ip:port | [ID client-id] [TYPE client-type] [USER username] [ADDR ip:port] [LADDR ip:port] [MAXAGE seconds] [SKIPME yes/no]>",
        "Ends connections.",
        clients::kill,
    ),
    local(
        "reply",
        3,
        LIGHT.and(Flags::NEVER_MUTE).and(Flags::NO_MULTI),
        "<ON | OFF | SKIP>",
        "Says whether commands are answered.",
        clients::reply,
    ),
    task(
        "pause",
        -3,
        LIGHT.and(Flags::ADMIN),
        "timeout [WRITE | ALL]",
        "Holds all clients' commands back for so many milliseconds.",
        clients::pause,
    ),
    task(
        "unpause",
        2,
        LIGHT.and(Flags::ADMIN),
        "",
        "Ends a CLIENT PAUSE.",
        clients::unpause,
    ),
    help(),
];
