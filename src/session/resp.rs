//! The RESP front end: commands ⇄ operations, answered in the order of the requests.
//!
//! Called by [`super::Session`]. Commands about the connection or the server are answered while parsing, the shop's go
//! to the engine in runs that [`super::queue`] allows; replies leave in order, whatever order they come in.

use std::collections::VecDeque;
use std::net::SocketAddr;

use cartwright_protocol::resp::{Arguments, RequestParser, RespVersion, Writer};

use super::commands::{Command, Handler, find};
use super::connection::{Call, Connection, shortened};
use super::context::SessionContext;
use super::queue::{Queue, Weight};
use super::render::{write_reply, write_response};
use crate::engine::{Ask, Response};

/// A request whose reply has not been written to the output.
struct Slot {
    /// What the connection spoke when the request was parsed.
    version: RespVersion,
    weight: Weight,
    answer: Answer,
}

enum Answer {
    /// The engine has it, or will.
    Awaited,
    /// The engine has answered, but not yet what came before.
    Engine(Response),
    /// Answered while parsing.
    Bytes(Vec<u8>),
}

/// See the module.
pub(super) struct Resp {
    parser: RequestParser,
    connection: Connection,
    pub(super) queue: Queue,
    /// In the order of the requests.
    slots: VecDeque<Slot>,
    /// The sequence of the first slot; the others follow without gaps.
    first_sequence: u64,
}

impl Resp {
    pub(super) fn new(connection_id: u64, peer: Option<SocketAddr>, context: &SessionContext) -> Self {
        Self {
            parser: RequestParser::new(context.limits.resp),
            connection: Connection::new(connection_id, peer),
            queue: Queue::new(),
            slots: VecDeque::new(),
            first_sequence: 0,
        }
    }

    pub(super) const fn is_closing(&self) -> bool {
        self.connection.closing
    }

    /// Parses commands from the start of `bytes` until they end, a limit is reached, or the connection is to close. How
    /// many bytes it took.
    pub(super) fn parse(&mut self, bytes: &[u8], output: &mut Vec<u8>, context: &SessionContext) -> usize {
        let mut consumed = 0;
        while !self.connection.closing && !self.queue.is_full(&context.limits, output.len()) {
            let rest = &bytes[consumed..];
            match self.parser.parse(rest) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    consumed += length;
                    self.dispatch(rest, length, output, context);
                }
                Err(error) => {
                    self.connection.closing = true;
                    self.answer(output, |version, output| {
                        Writer::new(output, version).error(format_args!("ERR {error}"));
                    });
                }
            }
        }
        consumed
    }

    /// Acts on the command that the parser has just found at the start of `bytes`.
    fn dispatch(&mut self, bytes: &[u8], length: usize, output: &mut Vec<u8>, context: &SessionContext) {
        let Self {
            parser,
            connection,
            queue,
            slots,
            first_sequence,
        } = self;
        let arguments = parser.arguments(bytes);
        let Some(name) = arguments.get(0) else { return };
        context.commands.set(context.commands.get() + 1);
        let rejection = match resolve(name, arguments) {
            Ok((container, command)) => match command.handler {
                Handler::Shop(parse) => match parse(arguments) {
                    Ok(operation) => {
                        let sequence = *first_sequence + slots.len() as u64;
                        let weight = queue.push(sequence, length, Ask::Shop(operation));
                        slots.push_back(Slot {
                            version: connection.version,
                            weight,
                            answer: Answer::Awaited,
                        });
                        return;
                    }
                    Err(reply) => Err(reply),
                },
                Handler::Local(run) => Ok((container, command, run)),
                Handler::Container => unreachable!("a container is resolved to its subcommand"),
            },
            Err(text) => {
                connection.closing |= is_http(name);
                let version = connection.version;
                return answer(queue, slots, output, version, |output| {
                    Writer::new(output, version).error(text);
                });
            }
        };
        let version = connection.version;
        answer(queue, slots, output, version, |output| match rejection {
            Err(reply) => write_reply(&mut Writer::new(output, version), &reply),
            Ok((container, command, run)) => {
                run(&mut Call {
                    command,
                    container,
                    arguments,
                    connection,
                    context,
                    output,
                });
            }
        });
    }

    /// Writes a reply that needs no engine, after those before it.
    fn answer(&mut self, output: &mut Vec<u8>, write: impl FnOnce(RespVersion, &mut Vec<u8>)) {
        let version = self.connection.version;
        answer(&mut self.queue, &mut self.slots, output, version, |output| {
            write(version, output);
        });
    }

    /// Takes the engine's answer, and writes all that is now in order.
    pub(super) fn complete(&mut self, sequence: u64, reply: Response, output: &mut Vec<u8>) {
        let index = sequence
            .checked_sub(self.first_sequence)
            .and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get_mut(index));
        let slot = slot.filter(|slot| matches!(slot.answer, Answer::Awaited));
        let slot = slot.expect("a session's driver completes each request it was given once");
        slot.answer = Answer::Engine(reply);
        self.queue.answered();
        while let Some(front) = self
            .slots
            .pop_front_if(|front| !matches!(front.answer, Answer::Awaited))
        {
            self.first_sequence += 1;
            self.queue.release(front.weight);
            match front.answer {
                Answer::Engine(reply) => write_response(&mut Writer::new(output, front.version), &reply),
                Answer::Bytes(bytes) => output.extend_from_slice(&bytes),
                Answer::Awaited => unreachable!("only answered slots are taken"),
            }
        }
    }
}

/// Writes a reply to the output, or, where earlier ones are still awaited, into a slot of its own.
fn answer(
    queue: &mut Queue,
    slots: &mut VecDeque<Slot>,
    output: &mut Vec<u8>,
    version: RespVersion,
    write: impl FnOnce(&mut Vec<u8>),
) {
    if slots.is_empty() {
        write(output);
        return;
    }
    let mut bytes = Vec::new();
    write(&mut bytes);
    let weight = queue.push_answered(bytes.len());
    slots.push_back(Slot {
        version,
        weight,
        answer: Answer::Bytes(bytes),
    });
}

type Resolved = (Option<&'static Command>, &'static Command);

/// The row for a command's name and, for a container, its subcommand, with the right count of arguments; or the error.
fn resolve(name: &[u8], arguments: Arguments<'_>) -> Result<Resolved, String> {
    let Some(command) = find(name) else {
        return Err(unknown_command(name, arguments));
    };
    let resolved = match arguments.get(1) {
        Some(word) if !command.subcommands.is_empty() => {
            let Some(subcommand) = command.subcommand(word) else {
                let (word, container) = (shortened(word), command.name.to_ascii_uppercase());
                return Err(format!("ERR unknown subcommand '{word}'. Try {container} HELP."));
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
    Err(format!(
        "ERR wrong number of arguments for '{container}{}' command",
        resolved.1.name
    ))
}

/// Redis's text to the letter, its cut included: clients look at how it begins.
fn unknown_command(name: &[u8], arguments: Arguments<'_>) -> String {
    const SHOWN_BYTES_MAX: usize = 128;
    let mut shown = String::new();
    for argument in arguments.from(1).iter() {
        if shown.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - shown.len();
        let argument = String::from_utf8_lossy(&argument[..argument.len().min(room)]);
        shown.push('\'');
        shown.push_str(&argument);
        shown.push_str("' ");
    }
    format!(
        "ERR unknown command '{}', with args beginning with: {shown}",
        shortened(name)
    )
}

/// A browser tricked into talking to this port must not get further than its first line. As in Redis.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}
