//! The RESP front end: commands ⇄ requests, answered in the order of the commands.
//!
//! Called by [`super::Session`]. Commands about the connection are answered while parsing, the others go to the engine
//! or to the server around it in runs that [`super::queue`] allows; replies leave in order, whatever order they come in.
//! A command that changes what the connection gets from then on is not taken before its turn has come.

use std::collections::VecDeque;
use std::net::SocketAddr;

use cartwright_protocol::Reply;
use cartwright_protocol::resp::{Arguments, RequestParser, RespVersion, Writer, shown};

use super::commands::{Command, Flags, Handler, find};
use super::connection::{Call, Connection, ReplyMode, shortened};
use super::context::SessionContext;
use super::queue::{Queue, Request, Weight};
use super::render::{write_reply, write_response};
use super::report::{Started, kept_argument};
use super::server_task::{PendingTask, Render, ShardResult};
use super::subscriptions::Address;
use super::transaction::{self, Execution, Step, Verb};
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{Answer as KeyAnswer, Ask, KeyRequest, Response, ValueBytes};

/// A request whose reply has not been written to the output.
struct PendingReply {
    /// What the connection spoke when the request was parsed.
    version: RespVersion,
    weight: Weight,
    is_mute: bool,
    /// `None`: it is counted already.
    started: Option<Started>,
    answer: Answer,
}

enum Answer {
    /// The engine has it, or will.
    Awaited,
    /// The server around has it, or will.
    Server(Render),
    /// The engine has these keys, to say how they are now.
    Watch(Vec<Box<[u8]>>),
    /// A transaction is on its way.
    Execution(Box<Execution>),
    /// The engine has answered, but not yet what came before.
    Engine(Response),
    /// Answered, and written out.
    Bytes(Vec<u8>),
    /// A long string that is being written; so many of its bytes are.
    Long(ValueBytes, usize),
}

/// A string of more bytes is written as far as there is room, and not as a whole.
const WHOLE_BYTES_MAX: usize = 64 << 10;

impl Answer {
    const fn is_there(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::Bytes(_) | Self::Long(..))
    }

    /// Writes as much of a long string as the output has room for; whether nothing of it is left, as of all others.
    fn write_long(&mut self, output: &mut Vec<u8>, version: RespVersion, output_bytes_max: usize) -> bool {
        if let Self::Engine(Response::Keys(KeyAnswer::Bulk(bytes))) = self
            && bytes.len() > WHOLE_BYTES_MAX
        {
            Writer::new(output, version).bulk_begin(bytes.len());
            *self = Self::Long(bytes.clone(), 0);
        }
        let Self::Long(bytes, written) = self else { return true };
        let room = output_bytes_max.saturating_sub(output.len());
        let end = bytes.len().min(*written + room);
        output.extend_from_slice(&bytes[*written..end]);
        *written = end;
        if end < bytes.len() {
            return false;
        }
        Writer::new(output, version).bulk_end();
        true
    }
}

/// Why the next command is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bar {
    /// It waits until everything before it is answered.
    Turn,
    /// `CLIENT PAUSE` holds it back.
    Pause,
}

/// See the module.
pub(super) struct Resp {
    parser: RequestParser,
    pub(super) dialogue: Dialogue,
}

/// Everything of a connection but its parser.
pub(super) struct Dialogue {
    pub(super) connection: Connection,
    pub(super) queue: Queue,
    /// In the order of the requests.
    replies: VecDeque<PendingReply>,
    /// The sequence of the first reply; the others follow without gaps.
    first_sequence: u64,
    bar: Option<Bar>,
}

/// A command, and the container that it is a subcommand of.
pub(super) type Resolved = (Option<&'static Command>, &'static Command);

impl Resp {
    pub(super) fn new(id: u64, address: Address, peer: Option<SocketAddr>, context: &SessionContext) -> Self {
        Self {
            parser: RequestParser::new(context.parser_limits()),
            dialogue: Dialogue {
                connection: Connection::new(id, address, peer, context),
                queue: Queue::new(),
                replies: VecDeque::new(),
                first_sequence: 0,
                bar: None,
            },
        }
    }

    /// Parses commands from the start of `bytes` until they end, a limit is reached, or the connection is to close. How
    /// many bytes it took.
    pub(super) fn parse(&mut self, bytes: &[u8], output: &mut Vec<u8>, context: &SessionContext) -> usize {
        let Self { parser, dialogue } = self;
        parser.set_limits(context.parser_limits());
        let mut consumed = 0;
        while dialogue.may_go_on(output.len(), context) {
            // Whether or not there is a command behind it yet: a bar that stayed would keep more from being read.
            dialogue.bar = None;
            let rest = &bytes[consumed..];
            match parser.parse(rest) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    if let Some(bar) = dialogue.dispatch(parser.arguments(rest), length, output, context) {
                        dialogue.bar = Some(bar);
                        break;
                    }
                    consumed += length;
                }
                Err(error) => {
                    dialogue.connection.closing = true;
                    dialogue.refuse(output, context, &format!("ERR {error}"));
                }
            }
        }
        consumed
    }
}

impl Dialogue {
    pub(super) const fn is_closing(&self) -> bool {
        self.connection.closing
    }

    /// Whether the output ends within a reply.
    pub(super) fn is_amid_reply(&self) -> bool {
        self.replies
            .front()
            .is_some_and(|front| matches!(front.answer, Answer::Long(..)))
    }

    /// Whether the next command is held back for another reason than the queue's bounds.
    pub(super) const fn is_barred(&self) -> bool {
        self.bar.is_some()
    }

    fn may_go_on(&self, output_bytes: usize, context: &SessionContext) -> bool {
        let barred = match self.bar {
            Some(Bar::Turn) => !self.replies.is_empty(),
            Some(Bar::Pause) => context.pause().is_some(),
            None => false,
        };
        !barred && !self.connection.closing && !self.queue.is_full(&context.limits, output_bytes)
    }

    /// Acts on a command, unless something bars it: then it is to be given again.
    fn dispatch(
        &mut self,
        arguments: Arguments<'_>,
        length: usize,
        output: &mut Vec<u8>,
        context: &SessionContext,
    ) -> Option<Bar> {
        let name = arguments.get(0)?;
        let resolved = resolve(name, arguments);
        if let Ok((_, command)) = resolved
            && let Some(bar) = self.bar_for(command, context)
        {
            return Some(bar);
        }
        context.count_command();
        let is_mute = self.is_next_mute();
        let (container, command) = match resolved {
            Ok(resolved) => resolved,
            Err((row, text)) => {
                self.connection.closing |= is_http(name);
                self.reject(row, is_mute, output, context, &text);
                return None;
            }
        };
        let row = container.unwrap_or(command);
        if let Some(text) = self.refusal(container, command) {
            self.reject(Some(row), is_mute, output, context, &text);
            return None;
        }
        self.connection.latest = Some((container, command));
        let started = Started {
            command: row,
            at_us: context.now_us(),
            first_argument: kept_argument(arguments.get(1)),
            argument_count: arguments.len() as u32,
        };
        let mut entry = Entry {
            arguments,
            resolved: (container, command),
            length,
            is_mute: is_mute && !command.flags.has(Flags::NEVER_MUTE),
            started,
        };
        if self.connection.transaction.is_some() && !command.flags.has(Flags::NOT_QUEUED) {
            self.run(&mut entry, output, context, transaction::queue);
        } else {
            self.handle(entry, output, context);
        }
        None
    }

    /// Whether `CLIENT REPLY` keeps the reply to the next command back.
    const fn is_next_mute(&mut self) -> bool {
        match self.connection.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                self.connection.reply_mode = ReplyMode::On;
                true
            }
        }
    }

    /// Does what a command's row says.
    fn handle(&mut self, mut entry: Entry<'_>, output: &mut Vec<u8>, context: &SessionContext) {
        let (arguments, command) = (entry.arguments, entry.resolved.1);
        match command.handler {
            Handler::Keys(keys) => match command.keys.of(arguments) {
                Some(places) => {
                    let request = KeyRequest::command(keys, arguments, places);
                    self.enter(entry, Request::Engine(Ask::Keys(request)), Answer::Awaited);
                }
                None => self.run(&mut entry, output, context, |call| {
                    call.error("ERR the number of keys does not fit the arguments");
                    None
                }),
            },
            Handler::Shop(parse) => match parse(arguments) {
                Ok(operation) => self.enter(entry, Request::Engine(Ask::Shop(operation)), Answer::Awaited),
                Err(reply) => self.run(&mut entry, output, context, |call| {
                    if let Reply::Error(error) = &reply {
                        call.error(error);
                    } else {
                        write_reply(&mut call.writer(), &reply);
                    }
                    None
                }),
            },
            Handler::Local(run) => self.run(&mut entry, output, context, |call| {
                run(call);
                None
            }),
            Handler::Server(run) => self.run(&mut entry, output, context, run),
            Handler::Transaction(verb) => self.on_transaction(verb, entry, output, context),
            Handler::Container => unreachable!("a container is resolved to its subcommand"),
        }
    }

    /// What holds a command back, if something does.
    fn bar_for(&self, command: &Command, context: &SessionContext) -> Option<Bar> {
        let in_turn = (command.flags.has(Flags::IN_TURN) && !is_on(Mutation::SubscribeAtOnce))
            || (self.connection.watches_awaited > 0 && command.flags.has(Flags::NOT_QUEUED));
        if in_turn && !self.replies.is_empty() {
            return Some(Bar::Turn);
        }
        let pause = context.pause()?;
        let writes = command.flags.has(Flags::WRITE)
            || command.flags.has(Flags::MAY_REPLICATE)
            || (matches!(command.handler, Handler::Transaction(Verb::Exec)) && self.connection.transaction_writes());
        let held = !command.flags.has(Flags::ADMIN) && (writes || !pause.writes_only);
        let is_let_through = self.connection.transaction.is_some() && is_on(Mutation::PauseAroundTransactions);
        (held && self.connection.authenticated && !is_let_through).then_some(Bar::Pause)
    }

    /// Why the connection's state does not allow a command, if it does not.
    fn refusal(&self, container: Option<&Command>, command: &Command) -> Option<String> {
        let flags = command.flags;
        let name = || {
            container.map_or_else(
                || command.name.to_owned(),
                |container| format!("{}|{}", container.name, command.name),
            )
        };
        if !self.connection.authenticated && !flags.has(Flags::NO_AUTH) {
            return Some("NOAUTH Authentication required.".to_owned());
        }
        if self.connection.is_subscriber_only() && !flags.has(Flags::WHEN_SUBSCRIBED) {
            return Some(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context",
                name()
            ));
        }
        if self.connection.transaction.is_some() && !flags.has(Flags::NOT_QUEUED) {
            return transaction::refusal(command, name);
        }
        None
    }

    /// Takes a request in.
    fn enter(&mut self, entry: Entry<'_>, request: Request, answer: Answer) {
        let sequence = self.first_sequence + self.replies.len() as u64;
        let weight = self.queue.push(sequence, entry.length, request);
        self.replies.push_back(PendingReply {
            version: self.connection.version,
            weight,
            is_mute: entry.is_mute,
            started: Some(entry.started),
            answer,
        });
    }

    /// Runs a command that is answered at once, or makes a task for the server.
    fn run(
        &mut self,
        entry: &mut Entry<'_>,
        output: &mut Vec<u8>,
        context: &SessionContext,
        run: impl FnOnce(&mut Call<'_>) -> Option<PendingTask>,
    ) {
        let (start, mut bytes) = (output.len(), Vec::new());
        let is_first = self.replies.is_empty();
        let version = self.connection.version;
        let mut call = Call {
            command: entry.resolved.1,
            container: entry.resolved.0,
            arguments: entry.arguments,
            connection: &mut self.connection,
            context,
            output: if is_first { output } else { &mut bytes },
            failed: false,
        };
        let pending = run(&mut call);
        let failed = call.failed;
        if let Some(task) = pending {
            let sequence = self.first_sequence + self.replies.len() as u64;
            let weight = self.queue.push(sequence, entry.length, Request::Server(task.task));
            self.replies.push_back(PendingReply {
                version,
                weight,
                is_mute: entry.is_mute,
                started: Some(entry.started.clone()),
                answer: Answer::Server(task.render),
            });
            return;
        }
        self.connection.count(context, &entry.started, failed);
        if entry.is_mute {
            if is_first {
                output.truncate(start);
            }
        } else if !is_first {
            self.push_bytes(version, bytes);
        }
    }

    /// Keeps a reply until those before it are written.
    fn push_bytes(&mut self, version: RespVersion, bytes: Vec<u8>) {
        let weight = self.queue.push_answered(bytes.len());
        self.replies.push_back(PendingReply {
            version,
            weight,
            is_mute: false,
            started: None,
            answer: Answer::Bytes(bytes),
        });
    }

    /// Answers an error to a command that does not fit the table or the connection's state; a transaction that is
    /// being queued will not be run.
    fn reject(
        &mut self,
        row: Option<&'static Command>,
        is_mute: bool,
        output: &mut Vec<u8>,
        context: &SessionContext,
        text: &str,
    ) {
        if let Some(row) = row {
            context.statistics.borrow_mut().reject(row);
        }
        self.connection.spoil_transaction();
        if is_mute {
            context.statistics.borrow_mut().error(text);
        } else {
            self.refuse(output, context, text);
        }
    }

    /// Answers an error to what was not even tried.
    fn refuse(&mut self, output: &mut Vec<u8>, context: &SessionContext, text: &str) {
        context.statistics.borrow_mut().error(text);
        let version = self.connection.version;
        if self.replies.is_empty() {
            Writer::new(output, version).error(text);
        } else {
            let mut bytes = Vec::new();
            Writer::new(&mut bytes, version).error(text);
            self.push_bytes(version, bytes);
        }
    }

    /// `MULTI`, `EXEC` and their like.
    fn on_transaction(&mut self, verb: Verb, mut entry: Entry<'_>, output: &mut Vec<u8>, context: &SessionContext) {
        match transaction::begin(verb, &mut self.connection, entry.arguments, context) {
            Step::Answer(write) => self.run(&mut entry, output, context, |call| {
                write(call);
                None
            }),
            Step::Watch(request, keys) => {
                self.connection.watches_awaited += 1;
                self.enter(entry, Request::Engine(Ask::Keys(request)), Answer::Watch(keys));
            }
            Step::Execute(mut execution) => match execution.next_request() {
                Some(request) => {
                    let waits = execution.has_local_commands();
                    self.enter(entry, request, Answer::Execution(execution));
                    if waits {
                        self.bar = Some(Bar::Turn);
                    }
                }
                None => self.run(&mut entry, output, context, |call| {
                    execution.write(call);
                    None
                }),
            },
        }
    }

    /// The pending reply to a request that was handed out, and its place.
    fn awaited(&mut self, sequence: u64) -> usize {
        let index = sequence
            .checked_sub(self.first_sequence)
            .and_then(|index| usize::try_from(index).ok());
        let is_awaited = |index: &usize| self.replies.get(*index).is_some_and(|reply| !reply.answer.is_there());
        index
            .filter(is_awaited)
            .expect("a session's driver completes each request it was given once")
    }

    /// Takes the engine's answer, and writes all that is now in order.
    pub(super) fn complete(
        &mut self,
        sequence: u64,
        response: Response,
        output: &mut Vec<u8>,
        context: &SessionContext,
    ) {
        let index = self.awaited(sequence);
        self.queue.answered();
        let answer = std::mem::replace(&mut self.replies[index].answer, Answer::Awaited);
        self.replies[index].answer = match answer {
            Answer::Awaited if index > 0 && is_on(Mutation::OvertakeReplies) => {
                write_response(&mut Writer::new(output, self.connection.version), &response);
                Answer::Bytes(Vec::new())
            }
            Answer::Awaited => Answer::Engine(response),
            Answer::Watch(keys) => {
                self.connection.watches_awaited -= 1;
                Answer::Engine(Response::Keys(self.connection.watch(keys, response)))
            }
            Answer::Execution(mut execution) => {
                execution.executed(response);
                match execution.next_request() {
                    Some(request) => {
                        self.queue.push_again(sequence, request);
                        Answer::Execution(execution)
                    }
                    None => self.executed(index, *execution, context),
                }
            }
            Answer::Server(_) | Answer::Engine(_) | Answer::Bytes(_) | Answer::Long(..) => {
                panic!("a session's driver completes each request with what it asked for")
            }
        };
        self.write_ready(output, context);
    }

    /// Takes what the shards found, and writes all that is now in order.
    pub(super) fn complete_task(
        &mut self,
        sequence: u64,
        results: Vec<ShardResult>,
        output: &mut Vec<u8>,
        context: &SessionContext,
    ) {
        let index = self.awaited(sequence);
        self.queue.answered();
        let answer = std::mem::replace(&mut self.replies[index].answer, Answer::Awaited);
        self.replies[index].answer = match answer {
            Answer::Server(render) => {
                let mut bytes = Vec::new();
                render(&mut Writer::new(&mut bytes, self.replies[index].version), results);
                Answer::Bytes(bytes)
            }
            Answer::Execution(mut execution) => {
                execution.published(&results);
                self.executed(index, *execution, context)
            }
            Answer::Awaited | Answer::Watch(_) | Answer::Engine(_) | Answer::Bytes(_) | Answer::Long(..) => {
                panic!("a session's driver completes each request with what it asked for")
            }
        };
        self.write_ready(output, context);
    }

    fn executed(&mut self, index: usize, execution: Execution, context: &SessionContext) -> Answer {
        let mut bytes = Vec::new();
        let version = std::mem::replace(&mut self.connection.version, self.replies[index].version);
        let command = find(b"exec").expect("it is in the table");
        execution.write(&mut Call {
            command,
            container: None,
            arguments: Arguments::new(&[], &[]),
            connection: &mut self.connection,
            context,
            output: &mut bytes,
            failed: false,
        });
        self.connection.version = version;
        Answer::Bytes(bytes)
    }

    /// Writes what is answered and in order, as far as the output's limit: values wait shared and not copied, so that
    /// many large ones are no larger than one, and a long one costs its reader no more than that limit.
    pub(super) fn write_ready(&mut self, output: &mut Vec<u8>, context: &SessionContext) {
        let output_bytes_max = context.limits.output_bytes_max;
        let may_go = |front: &mut PendingReply, output: &mut Vec<u8>| {
            front.answer.is_there()
                && (front.is_mute || front.answer.write_long(output, front.version, output_bytes_max))
        };
        while output.len() < output_bytes_max
            && let Some(front) = self.replies.pop_front_if(|front| may_go(front, output))
        {
            self.first_sequence += 1;
            self.queue.release(front.weight);
            let mut failed = false;
            match front.answer {
                Answer::Engine(response) => {
                    if let Some(text) = error_of(&response) {
                        failed = true;
                        context.statistics.borrow_mut().error(&text);
                    }
                    if !front.is_mute {
                        write_response(&mut Writer::new(output, front.version), &response);
                    }
                }
                Answer::Bytes(bytes) if !front.is_mute => output.extend_from_slice(&bytes),
                _ => {}
            }
            if let Some(started) = &front.started {
                self.connection.count(context, started, failed);
            }
        }
    }
}

/// A command that was found in the input.
struct Entry<'a> {
    arguments: Arguments<'a>,
    resolved: Resolved,
    length: usize,
    is_mute: bool,
    started: Started,
}

/// The text of an error, of which the code is what matters.
fn error_of(response: &Response) -> Option<std::borrow::Cow<'_, str>> {
    match response {
        Response::Shop(Reply::Error(error)) => Some(error.code.as_str().into()),
        Response::Keys(KeyAnswer::Error(text)) => Some(text.as_str().into()),
        _ => None,
    }
}

/// The row for a command's name and, for a container, its subcommand, with the right count of arguments; or the error,
/// and the row that it is about.
fn resolve(name: &[u8], arguments: Arguments<'_>) -> Result<Resolved, (Option<&'static Command>, String)> {
    let Some(command) = find(name) else {
        return Err((None, unknown_command(name, arguments)));
    };
    let resolved = match arguments.get(1) {
        Some(word) if !command.subcommands.is_empty() => {
            let Some(subcommand) = command.subcommand(word) else {
                let (word, container) = (shortened(word), command.name.to_ascii_uppercase());
                let text = format!("ERR unknown subcommand '{word}'. Try {container} HELP.");
                return Err((Some(command), text));
            };
            (Some(command), subcommand)
        }
        _ => (None, command),
    };
    if resolved.1.takes(arguments.len()) {
        return Ok(resolved);
    }
    let container = resolved
        .0
        .map_or_else(String::new, |container| format!("{}|", container.name));
    let text = format!(
        "ERR wrong number of arguments for '{container}{}' command",
        resolved.1.name
    );
    Err((Some(command), text))
}

/// Redis's text to the letter, its cut included: clients look at how it begins.
fn unknown_command(name: &[u8], arguments: Arguments<'_>) -> String {
    const SHOWN_BYTES_MAX: usize = 128;
    let mut told = String::new();
    for argument in arguments.from(1).iter() {
        if told.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - told.len();
        let argument = shown(&argument[..argument.len().min(room)]);
        told.push('\'');
        told.push_str(&argument);
        told.push_str("' ");
    }
    format!(
        "ERR unknown command '{}', with args beginning with: {told}",
        shortened(name)
    )
}

/// A browser tricked into talking to this port must not get further than its first line. As in Redis.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}
