//! A RESP connection's own state, and the commands that change it: `HELLO`, `AUTH`, `PING`, `RESET` and their like.
//!
//! Called through the command table. These answer at once and never reach the engine.

use std::fmt::Display;
use std::net::SocketAddr;

use cartwright_protocol::resp::{Arguments, RespVersion, Writer, parse_i64, shown};
use hashbrown::HashSet;

use super::commands::Command;
use super::context::{REDIS_VERSION, SessionContext};
use super::report::Started;
use super::subscriptions::{Address, Kind};
use super::transaction::Transaction;
use crate::engine::Watched;

/// Longest name of a connection or of a client library, in bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 1024;

/// Whether replies are written; `CLIENT REPLY` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ReplyMode {
    #[default]
    On,
    Off,
    /// Not that of the next command.
    SkipNext,
}

/// Names that a connection subscribes to, by kind.
type Names = HashSet<Box<[u8]>, ahash::RandomState>;

/// What a RESP connection has said about itself.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own that clients set"
)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) address: Address,
    pub(super) peer: Option<SocketAddr>,
    pub(super) version: RespVersion,
    pub(super) name: String,
    pub(super) library_name: String,
    pub(super) library_version: String,
    pub(super) closing: bool,
    pub(super) authenticated: bool,
    pub(super) reply_mode: ReplyMode,
    pub(super) no_evict: bool,
    pub(super) no_touch: bool,
    /// The latest command, and the container that it is a subcommand of.
    pub(super) latest: Option<(Option<&'static Command>, &'static Command)>,
    /// What `MULTI` began.
    pub(super) transaction: Option<Box<Transaction>>,
    pub(super) watched: Vec<Watched>,
    /// `WATCH`es that are not answered.
    pub(super) watches_awaited: usize,
    subscriptions: [Names; 3],
}

impl Connection {
    pub(super) fn new(id: u64, address: Address, peer: Option<SocketAddr>, context: &SessionContext) -> Self {
        Self {
            id,
            address,
            peer,
            version: RespVersion::Two,
            name: String::new(),
            library_name: String::new(),
            library_version: String::new(),
            closing: false,
            authenticated: !context.settings.has_password(),
            reply_mode: ReplyMode::On,
            no_evict: false,
            no_touch: false,
            latest: None,
            transaction: None,
            watched: Vec::new(),
            watches_awaited: 0,
            subscriptions: Default::default(),
        }
    }

    /// Counts a command that was answered.
    pub(super) fn count(&self, context: &SessionContext, started: &Started, failed: bool) {
        let who = || {
            let peer = self.peer.map_or_else(String::new, |peer| peer.to_string());
            (peer.into(), self.name.as_str().into())
        };
        let mut statistics = context.statistics.borrow_mut();
        statistics.answered(started, context.now_us(), failed, &context.settings, who);
    }

    /// Names of one kind that it subscribes to.
    pub(super) const fn subscribed(&self, kind: Kind) -> &Names {
        &self.subscriptions[kind as usize]
    }

    /// Everything that it subscribes to.
    pub(super) fn subscription_count(&self) -> usize {
        self.subscriptions.iter().map(Names::len).sum()
    }

    /// Whether RESP2 leaves it nothing but commands about subscriptions.
    pub(super) fn is_subscriber_only(&self) -> bool {
        self.version == RespVersion::Two && self.subscription_count() > 0
    }

    /// Subscribes; whether it is new.
    pub(super) fn subscribe(&mut self, kind: Kind, name: &[u8], context: &SessionContext) -> bool {
        let is_new = self.subscriptions[kind as usize].insert(name.into());
        if is_new {
            context.subscriptions.borrow_mut().enter(kind, name, self.address);
        }
        is_new
    }

    /// Ends a subscription, if it is there.
    pub(super) fn unsubscribe(&mut self, kind: Kind, name: &[u8], context: &SessionContext) {
        if self.subscriptions[kind as usize].remove(name) {
            context.subscriptions.borrow_mut().leave(kind, name, self.address);
        }
    }

    /// Ends all subscriptions, as `RESET` and the connection's end do.
    pub(super) fn unsubscribe_all(&mut self, context: &SessionContext) {
        for kind in Kind::ALL {
            for name in std::mem::take(&mut self.subscriptions[kind as usize]) {
                context.subscriptions.borrow_mut().leave(kind, &name, self.address);
            }
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
    /// An error was written.
    pub(super) failed: bool,
}

impl<'a> Call<'a> {
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.output, self.connection.version)
    }

    /// The argument at `index`, which the table's arity says is there.
    pub(super) fn argument(&self, index: usize) -> &'a [u8] {
        self.arguments
            .get(index)
            .expect("the command table has checked the count of arguments")
    }

    pub(super) fn error(&mut self, text: impl Display) {
        let text = text.to_string();
        self.context.statistics.borrow_mut().error(&text);
        self.failed = true;
        self.writer().error(text);
    }

    pub(super) fn ok(&mut self) {
        self.writer().simple("OK");
    }

    /// The texts that commands of Redis have in common.
    pub(super) fn syntax_error(&mut self) {
        self.error("ERR syntax error");
    }

    pub(super) fn not_an_integer(&mut self) {
        self.error("ERR value is not an integer or out of range");
    }

    /// What Redis answers to a subcommand whose arguments it knows in no such number.
    pub(super) fn unknown_form(&mut self) {
        let container = self.container.unwrap_or(self.command).name.to_ascii_uppercase();
        let word = shortened(self.argument(1));
        self.error(format_args!(
            "ERR unknown subcommand or wrong number of arguments for '{word}'. Try {container} HELP."
        ));
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
    if call.arguments.len() > 2 {
        return call.wrong_arity();
    }
    let message = call.arguments.get(1);
    if call.connection.is_subscriber_only() {
        let mut writer = call.writer();
        writer.array(2);
        writer.text("pong");
        writer.bulk(message.unwrap_or_default());
        return;
    }
    match message {
        None => call.writer().simple("PONG"),
        Some(message) => call.writer().bulk(message),
    }
}

pub(super) fn echo(call: &mut Call<'_>) {
    let message = call.argument(1);
    call.writer().bulk(message);
}

pub(super) fn quit(call: &mut Call<'_>) {
    call.connection.closing = true;
    call.ok();
}

pub(super) fn reset(call: &mut Call<'_>) {
    let connection = &mut *call.connection;
    connection.unsubscribe_all(call.context);
    connection.transaction = None;
    connection.watched.clear();
    connection.version = RespVersion::Two;
    connection.name.clear();
    connection.authenticated = !call.context.settings.has_password();
    connection.reply_mode = ReplyMode::On;
    (connection.no_evict, connection.no_touch) = (false, false);
    call.writer().simple("RESET");
}

pub(super) fn select(call: &mut Call<'_>) {
    match parse_i64(call.argument(1)) {
        Some(0) => call.ok(),
        Some(index) if i32::try_from(index).is_err() => call.error(format_args!(
            "ERR value is out of range, value must between {} and {}",
            i32::MIN,
            i32::MAX
        )),
        Some(_) => call.error("ERR DB index is out of range"),
        None => call.not_an_integer(),
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// There is no user but Redis's default one. Without a password set, it takes any.
fn is_right(context: &SessionContext, user: &[u8], password: &[u8]) -> bool {
    let is_password = !context.settings.has_password() || context.settings.is_password(password);
    is_password && user == b"default"
}

pub(super) fn auth(call: &mut Call<'_>) {
    let (user, password) = match call.arguments.len() {
        2 if !call.context.settings.has_password() => {
            return call.error(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            );
        }
        2 => (&b"default"[..], call.argument(1)),
        3 => (call.argument(1), call.argument(2)),
        _ => return call.syntax_error(),
    };
    if is_right(call.context, user, password) {
        call.connection.authenticated = true;
        call.ok();
    } else {
        call.error(WRONG_PASSWORD);
    }
}

pub(super) fn hello(call: &mut Call<'_>) {
    let arguments = call.arguments;
    let mut version = call.connection.version;
    if let Some(wanted) = arguments.get(1) {
        version = match parse_i64(wanted) {
            Some(2) => RespVersion::Two,
            Some(3) => RespVersion::Three,
            Some(_) => return call.error("NOPROTO unsupported protocol version"),
            None => return call.error("ERR Protocol version is not an integer or out of range"),
        };
    }
    let mut name = None;
    let mut credentials = None;
    let mut index = 2;
    while let Some(word) = arguments.get(index) {
        match (arguments.get(index + 1), arguments.get(index + 2)) {
            (Some(user), Some(password)) if word.eq_ignore_ascii_case(b"AUTH") => {
                credentials = Some((user, password));
                index += 3;
            }
            (Some(value), _) if word.eq_ignore_ascii_case(b"SETNAME") => {
                match label("Client names", value) {
                    Ok(value) => name = Some(value),
                    Err(error) => return call.error(error),
                }
                index += 2;
            }
            _ => {
                let word = shown(word);
                return call.error(format_args!("ERR Syntax error in HELLO option '{word}'"));
            }
        }
    }
    // Looked at only once all the rest is right.
    match credentials {
        Some((user, password)) if !is_right(call.context, user, password) => return call.error(WRONG_PASSWORD),
        Some(_) => call.connection.authenticated = true,
        None => {}
    }
    if !call.connection.authenticated {
        return call.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
             the same time",
        );
    }
    if let Some(name) = name {
        call.connection.name = name;
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

/// How long to wait at most, in milliseconds; or the error.
pub(super) fn parse_timeout_ms(text: &[u8]) -> Result<u64, &'static str> {
    let timeout = parse_i64(text).ok_or("ERR timeout is not an integer or out of range")?;
    u64::try_from(timeout).map_err(|_| "ERR timeout is negative")
}

/// A client's bytes for an error text, as Redis cuts them.
pub(super) fn shortened(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    const SHOWN_BYTES_MAX: usize = 128;
    shown(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)])
}

/// A name that stands in a line of `CLIENT LIST`: no spaces, nothing that is not visible.
pub(super) fn label(what: &str, bytes: &[u8]) -> Result<String, String> {
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
