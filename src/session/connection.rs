//! A RESP connection's own state, and the commands about it: `HELLO`, `PING`, `CLIENT` and their like.
//!
//! Called through the command table. These answer at once and never reach the engine.

use std::fmt::Display;
use std::net::SocketAddr;

use cartwright_protocol::resp::{Arguments, RespVersion, Writer, parse_i64};

use super::commands::Command;
use super::context::{REDIS_VERSION, SessionContext};

/// Longest name of a connection or of a client library, in bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 1024;

/// What a RESP connection has said about itself.
pub(super) struct Connection {
    id: u64,
    peer: Option<SocketAddr>,
    pub(super) version: RespVersion,
    name: String,
    library_name: String,
    library_version: String,
    pub(super) closing: bool,
}

impl Connection {
    pub(super) const fn new(id: u64, peer: Option<SocketAddr>) -> Self {
        Self {
            id,
            peer,
            version: RespVersion::Two,
            name: String::new(),
            library_name: String::new(),
            library_version: String::new(),
            closing: false,
        }
    }
}

/// One call of a command that is answered at once.
pub(super) struct Call<'a> {
    pub(super) command: &'static Command,
    /// The command that `command` is a subcommand of.
    pub(super) container: Option<&'static Command>,
    pub(super) arguments: Arguments<'a>,
    pub(super) connection: &'a mut Connection,
    pub(super) context: &'a SessionContext,
    pub(super) output: &'a mut Vec<u8>,
}

impl Call<'_> {
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.output, self.connection.version)
    }

    pub(super) fn error(&mut self, text: impl Display) {
        self.writer().error(text);
    }

    fn ok(&mut self) {
        self.writer().simple("OK");
    }

    /// The texts that commands of Redis have in common.
    pub(super) fn syntax_error(&mut self) {
        self.error("ERR syntax error");
    }

    pub(super) fn wrong_arity(&mut self) {
        let (container, name) = (self.container, self.command.name);
        match container {
            Some(container) => {
                self.error(format_args!(
                    "ERR wrong number of arguments for '{}|{name}' command",
                    container.name
                ));
            }
            None => self.error(format_args!("ERR wrong number of arguments for '{name}' command")),
        }
    }
}

pub(super) fn ping(call: &mut Call<'_>) {
    match (call.arguments.len(), call.arguments.get(1)) {
        (1, _) => call.writer().simple("PONG"),
        (2, Some(message)) => call.writer().bulk(message),
        _ => call.wrong_arity(),
    }
}

pub(super) fn echo(call: &mut Call<'_>) {
    let message = call.arguments.get(1).unwrap_or_default();
    call.writer().bulk(message);
}

pub(super) fn quit(call: &mut Call<'_>) {
    call.connection.closing = true;
    call.ok();
}

pub(super) fn reset(call: &mut Call<'_>) {
    call.connection.version = RespVersion::Two;
    call.connection.name.clear();
    call.writer().simple("RESET");
}

pub(super) fn select(call: &mut Call<'_>) {
    match call
        .arguments
        .get(1)
        .and_then(parse_i64)
        .and_then(|index| i32::try_from(index).ok())
    {
        Some(0) => call.ok(),
        Some(_) => call.error("ERR DB index is out of range"),
        None => call.error("ERR value is not an integer or out of range"),
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// There are no users but Redis's default one, and it has no password.
fn is_default_user(user: &[u8]) -> bool {
    user == b"default"
}

pub(super) fn auth(call: &mut Call<'_>) {
    match (call.arguments.len(), call.arguments.get(1)) {
        (3, Some(user)) if is_default_user(user) => call.ok(),
        (3, _) => call.error(WRONG_PASSWORD),
        (2, _) => call.error(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ),
        _ => call.syntax_error(),
    }
}

pub(super) fn hello(call: &mut Call<'_>) {
    let version = match call.arguments.get(1).map(parse_i64) {
        None => call.connection.version,
        Some(Some(2)) => RespVersion::Two,
        Some(Some(3)) => RespVersion::Three,
        Some(Some(_)) => return call.error("NOPROTO unsupported protocol version"),
        Some(None) => return call.error("ERR Protocol version is not an integer or out of range"),
    };
    let options = call.arguments.from(2);
    let (mut index, mut name) = (0, None);
    while let Some(word) = options.get(index) {
        match (options.get(index + 1), options.get(index + 2)) {
            (Some(user), Some(_)) if word.eq_ignore_ascii_case(b"AUTH") => {
                if !is_default_user(user) {
                    return call.error(WRONG_PASSWORD);
                }
                index += 3;
            }
            (Some(value), _) if word.eq_ignore_ascii_case(b"SETNAME") => {
                name = Some(value);
                index += 2;
            }
            _ => {
                let word = shortened(word);
                return call.error(format_args!("ERR Syntax error in HELLO option '{word}'"));
            }
        }
    }
    if let Some(name) = name {
        match label("Client names", name) {
            Ok(name) => call.connection.name = name,
            Err(error) => return call.error(error),
        }
    }
    call.connection.version = version;
    let id = call.connection.id;
    let mut writer = call.writer();
    writer.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        writer.text(field);
        writer.text(value);
    }
    writer.text("proto");
    writer.integer(version as i64);
    writer.text("id");
    writer.count(id);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        writer.text(field);
        writer.text(value);
    }
    writer.text("modules");
    writer.array(0);
}

/// A client's bytes for an error text, as Redis cuts them.
pub(super) fn shortened(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    const SHOWN_BYTES_MAX: usize = 128;
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)])
}

/// A name that stands in a line of `CLIENT LIST`: no spaces, nothing that is not visible.
fn label(what: &str, bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > CLIENT_NAME_BYTES_MAX {
        return Err(format!(
            "ERR {what} cannot be longer than {CLIENT_NAME_BYTES_MAX} bytes."
        ));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(u8::is_ascii_graphic) => Ok(text.to_owned()),
        _ => Err(format!(
            "ERR {what} cannot contain spaces, newlines or special characters."
        )),
    }
}

pub(super) fn client_id(call: &mut Call<'_>) {
    let id = call.connection.id;
    call.writer().count(id);
}

fn description(call: &Call<'_>) -> String {
    let connection = &call.connection;
    let peer = connection.peer.map_or_else(String::new, |peer| peer.to_string());
    let (container, name) = (call.container.map_or("", |container| container.name), call.command.name);
    format!(
        "id={} addr={peer} laddr= fd=-1 name={} age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 \
         cmd={container}|{name} user=default lib-name={} lib-ver={} resp={} shard={}\n",
        connection.id,
        connection.name,
        connection.library_name,
        connection.library_version,
        connection.version as u8,
        call.context.shard,
    )
}

pub(super) fn client_info(call: &mut Call<'_>) {
    let description = description(call);
    call.writer().verbatim(&description);
}

pub(super) fn client_list(call: &mut Call<'_>) {
    let (arguments, id) = (call.arguments, call.connection.id);
    let is_listed = match (arguments.get(2), arguments.get(3)) {
        (None, _) => true,
        (Some(word), Some(kind)) if word.eq_ignore_ascii_case(b"TYPE") && arguments.len() == 4 => {
            let others: [&[u8]; 4] = [b"master", b"replica", b"slave", b"pubsub"];
            if others.iter().any(|other| kind.eq_ignore_ascii_case(other)) {
                false
            } else if kind.eq_ignore_ascii_case(b"normal") {
                true
            } else {
                let kind = shortened(kind);
                return call.error(format_args!("ERR Unknown client type '{kind}'"));
            }
        }
        (Some(word), Some(_)) if word.eq_ignore_ascii_case(b"ID") => {
            let mut listed = false;
            for wanted in arguments.from(3).iter() {
                match parse_i64(wanted).filter(|&wanted| wanted > 0) {
                    Some(wanted) => listed |= wanted as u64 == id,
                    None => return call.error("ERR Invalid client ID"),
                }
            }
            listed
        }
        _ => return call.syntax_error(),
    };
    let description = if is_listed { description(call) } else { String::new() };
    call.writer().verbatim(&description);
}

pub(super) fn client_setname(call: &mut Call<'_>) {
    match label("Client names", call.arguments.get(2).unwrap_or_default()) {
        Ok(name) => {
            call.connection.name = name;
            call.ok();
        }
        Err(error) => call.error(error),
    }
}

pub(super) fn client_getname(call: &mut Call<'_>) {
    let mut writer = Writer::new(call.output, call.connection.version);
    if call.connection.name.is_empty() {
        writer.null();
    } else {
        writer.text(&call.connection.name);
    }
}

pub(super) fn client_setinfo(call: &mut Call<'_>) {
    let option = call.arguments.get(2).unwrap_or_default();
    let (what, is_name) = match option {
        option if option.eq_ignore_ascii_case(b"LIB-NAME") => ("lib-name", true),
        option if option.eq_ignore_ascii_case(b"LIB-VER") => ("lib-ver", false),
        option => {
            let option = shortened(option);
            return call.error(format_args!("ERR Unrecognized option '{option}'"));
        }
    };
    match label(what, call.arguments.get(3).unwrap_or_default()) {
        Ok(value) => {
            let connection = &mut *call.connection;
            *(if is_name {
                &mut connection.library_name
            } else {
                &mut connection.library_version
            }) = value;
            call.ok();
        }
        Err(error) => call.error(error),
    }
}

/// `NO-EVICT` and `NO-TOUCH`: nothing here is evicted, and nothing ages, so either answer holds already.
pub(super) fn client_switch(call: &mut Call<'_>) {
    let value = call.arguments.get(2).unwrap_or_default();
    if value.eq_ignore_ascii_case(b"ON") || value.eq_ignore_ascii_case(b"OFF") {
        call.ok();
    } else {
        call.syntax_error();
    }
}
