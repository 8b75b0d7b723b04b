//! `MULTI` to `EXEC`: what a connection queues, and how it is run.
//!
//! Called by the RESP front end. Commands on keys become one request to the keyspace, which runs all of them or, where a
//! watched key has changed, none. What does not touch keys is done when that is answered: messages go out first, in
//! order, then the rest is answered from the connection's state. So a transaction that was not run publishes nothing.

use cartwright_protocol::resp::Arguments;
use cartwright_protocol::{Operation, Reply};

use super::commands::{Command, Flags, Handler};
use super::connection::{Call, Connection};
use super::context::SessionContext;
use super::pubsub;
use super::queue::Request;
use super::render::{write_answer, write_reply};
use super::resp::Resolved;
use super::server_task::{Message, PendingTask, ServerTask, ShardQuery, ShardResult, sums};
use super::settings::Number;
use crate::engine::entries::commands::WATCH;
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{
    Answer, Ask, Invocation, KeyPlaces, KeyRequest, OwnedArguments, Response, Together, ValueBytes, Watched,
};

/// The commands about transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Multi,
    Exec,
    Discard,
    Watch,
}

/// A command that waits for `EXEC`.
enum Queued {
    Shop(Operation),
    Keys(Invocation),
    Publish(Message),
    Local(Resolved, OwnedArguments),
}

/// What a connection has queued.
#[derive(Default)]
pub(super) struct Transaction {
    queued: Vec<Queued>,
    bytes: usize,
    /// A command was refused, so `EXEC` will run nothing.
    is_spoiled: bool,
}

impl Transaction {
    /// How many commands are queued.
    pub(super) const fn len(&self) -> usize {
        self.queued.len()
    }

    /// Whether this command of the shop can be in one transaction with those queued.
    fn has_room_for(&self, operation: &Operation) -> bool {
        let mut others = self.queued.iter().filter_map(|queued| match queued {
            Queued::Shop(other) => Some(other),
            _ => None,
        });
        let is_checkout = |operation: &Operation| matches!(operation, Operation::Checkout(_));
        others.all(|other| other.home() == operation.home() && !(is_checkout(other) && is_checkout(operation)))
    }

    /// Bytes of their arguments.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Why this command cannot be queued at all, if it cannot; `name` gives its full name.
pub(super) fn refusal(command: &Command, name: impl Fn() -> String) -> Option<String> {
    match command.handler {
        Handler::Shop(_) if command.flags.has(Flags::NO_MULTI) => Some(format!(
            "ERR '{}' cannot be part of a MULTI: of the shop's commands CHECKOUT, ORDER.CONFIRM and ORDER.CANCEL can be. \
             Send it before MULTI or after EXEC",
            name()
        )),
        _ if command.flags.has(Flags::NO_MULTI) => Some("ERR Command not allowed inside a transaction".to_owned()),
        // All of these would have to be answered by other shards amid the transaction.
        Handler::Server(_) if !command.flags.has(Flags::MAY_REPLICATE) => Some(format!(
            "ERR '{}' cannot be part of a MULTI: it is about the whole server",
            name()
        )),
        _ => None,
    }
}

/// Queues a command, and answers so.
pub(super) fn queue(call: &mut Call<'_>) -> Option<PendingTask> {
    let settings = &call.context.settings;
    let (commands_max, bytes_max) = (
        settings.size(Number::QueuedCommandsMax),
        settings.size(Number::CommandBytesMax),
    );
    let bytes: usize = call.arguments.iter().map(<[u8]>::len).sum();
    let transaction = call.connection.transaction.as_mut().expect("MULTI began one");
    if transaction.queued.len() >= commands_max {
        transaction.is_spoiled = true;
        call.error(format_args!(
            "ERR a MULTI has at most {commands_max} commands; CONFIG SET multi-queue-max raises it"
        ));
        return None;
    }
    if transaction.bytes + bytes > bytes_max {
        transaction.is_spoiled = true;
        call.error(format_args!(
            "ERR a MULTI holds at most {bytes_max} bytes; CONFIG SET client-query-buffer-limit raises it"
        ));
        return None;
    }
    let queued = match call.command.handler {
        Handler::Keys(command) => {
            let Some(keys) = call.command.keys.of(call.arguments) else {
                transaction.is_spoiled = true;
                call.error("ERR the number of keys does not fit the arguments");
                return None;
            };
            Queued::Keys(Invocation {
                command,
                arguments: OwnedArguments::new(call.arguments),
                keys,
            })
        }
        Handler::Shop(parse) => match parse(call.arguments) {
            Ok(operation) if transaction.has_room_for(&operation) => Queued::Shop(operation),
            Ok(_) => {
                transaction.is_spoiled = true;
                call.error(
                    "ERR the shop's commands in one MULTI are about one customer and their orders, and CHECKOUT is one of \
                     them at most once",
                );
                return None;
            }
            Err(reply) => {
                transaction.is_spoiled = true;
                write_reply(&mut call.writer(), &reply);
                return None;
            }
        },
        Handler::Server(_) => Queued::Publish(pubsub::message(call)),
        _ => Queued::Local((call.container, call.command), OwnedArguments::new(call.arguments)),
    };
    let transaction = call.connection.transaction.as_mut().expect("MULTI began one");
    transaction.queued.push(queued);
    transaction.bytes += bytes;
    call.writer().simple("QUEUED");
    None
}

/// What one of the verbs comes to.
pub(super) enum Step {
    /// It is answered at once.
    Answer(Box<dyn FnOnce(&mut Call<'_>)>),
    /// The keyspace is asked how these keys are.
    Watch(Box<KeyRequest>, Vec<Box<[u8]>>),
    /// What was queued is run.
    Execute(Box<Execution>),
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the method is not general enough in its lifetime"
)]
fn ok() -> Step {
    Step::Answer(Box::new(|call: &mut Call<'_>| call.ok()))
}

fn error(text: impl Into<String>) -> Step {
    let text = text.into();
    Step::Answer(Box::new(move |call| call.error(text)))
}

/// Begins what a verb says.
pub(super) fn begin(
    verb: Verb,
    connection: &mut Connection,
    arguments: Arguments<'_>,
    context: &SessionContext,
) -> Step {
    match verb {
        Verb::Multi if connection.transaction.is_some() => error("ERR MULTI calls can not be nested"),
        Verb::Multi => {
            connection.transaction = Some(Box::default());
            ok()
        }
        Verb::Discard if connection.transaction.is_none() => error("ERR DISCARD without MULTI"),
        Verb::Discard => {
            connection.transaction = None;
            connection.watched.clear();
            ok()
        }
        Verb::Watch if connection.transaction.is_some() => error("ERR WATCH inside MULTI is not allowed"),
        Verb::Watch => watch(connection, arguments, context),
        Verb::Exec => {
            let watched = std::mem::take(&mut connection.watched);
            match connection.transaction.take() {
                None => {
                    connection.watched = watched;
                    error("ERR EXEC without MULTI")
                }
                Some(transaction) if transaction.is_spoiled => {
                    error("EXECABORT Transaction discarded because of previous errors.")
                }
                Some(transaction) => {
                    let watched = if is_on(Mutation::ForgetWatched) {
                        Vec::new()
                    } else {
                        watched
                    };
                    Step::Execute(Box::new(Execution::new(*transaction, watched)))
                }
            }
        }
    }
}

/// `UNWATCH`: in a transaction it is queued, and then does nothing, since `EXEC` ends what is watched.
pub(super) fn unwatch(call: &mut Call<'_>) {
    call.connection.watched.clear();
    call.ok();
}

fn watch(connection: &Connection, arguments: Arguments<'_>, context: &SessionContext) -> Step {
    let most = context.settings.size(Number::WatchedKeysMax);
    let mut keys: Vec<Box<[u8]>> = arguments.from(1).iter().map(Into::into).collect();
    keys.sort_unstable();
    keys.dedup();
    // A key that is watched stays as it was first seen.
    keys.retain(|key| !connection.watched.iter().any(|watched| *watched.key == **key));
    if connection.watched.len() + keys.len() > most {
        return error(format!(
            "ERR a connection watches at most {most} keys; CONFIG SET watched-keys-max raises it"
        ));
    }
    if keys.is_empty() {
        return ok();
    }
    let mut words: Vec<&[u8]> = vec![b"watch"];
    words.extend(keys.iter().map(|key| &**key));
    let arguments = OwnedArguments::of(&words);
    let places = KeyPlaces::of_row(1, -1, 1, words.len());
    Step::Watch(KeyRequest::command(&WATCH, arguments.get(), places), keys)
}

impl Connection {
    /// Takes the keyspace's answer to `WATCH`: how each of these keys is; and gives the client's.
    pub(super) fn watch(&mut self, keys: Vec<Box<[u8]>>, response: Response) -> Answer {
        match response {
            Response::Keys(Answer::Versions(versions)) if versions.len() == keys.len() => {
                let watched = keys.into_iter().zip(versions).map(|(key, version)| Watched {
                    key: ValueBytes::new(&key),
                    version,
                });
                self.watched.extend(watched);
                Answer::Ok
            }
            Response::Keys(error @ Answer::Error(_)) => error,
            _ => Answer::error("ERR the keys could not be watched; send WATCH again"),
        }
    }

    /// A command was refused while queueing.
    pub(super) fn spoil_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.is_spoiled = true;
        }
    }

    /// Whether what is queued changes something, or sends messages.
    pub(super) fn transaction_writes(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| {
            transaction.queued.iter().any(|queued| match queued {
                Queued::Keys(invocation) => invocation.command.writes(),
                Queued::Publish(_) | Queued::Shop(_) => true,
                Queued::Local(..) => false,
            })
        })
    }
}

/// How far an `EXEC` is.
enum Progress {
    /// The keyspace is to run it.
    Keys(Box<KeyRequest>),
    /// The shop and the keyspace are to run it.
    Together(Box<Together>),
    /// The messages are to be sent.
    Messages,
    /// Everything but the connection's own commands is done.
    Done,
}

/// An element of `EXEC`'s reply.
enum Part {
    Shop,
    Keys,
    Publish,
    Local(Resolved, OwnedArguments),
}

/// An `EXEC` on its way.
pub(super) struct Execution {
    progress: Progress,
    parts: Vec<Part>,
    messages: Vec<Message>,
    replies: Vec<Reply>,
    answers: Vec<Answer>,
    receivers: Vec<u64>,
    /// Nothing was run, and this is all there is to say.
    refusal: Option<Answer>,
}

impl Execution {
    fn new(transaction: Transaction, watched: Vec<Watched>) -> Self {
        let (mut parts, mut messages, mut invocations) = (Vec::new(), Vec::new(), Vec::new());
        let mut operations = Vec::new();
        for queued in transaction.queued {
            parts.push(match queued {
                Queued::Shop(operation) => {
                    operations.push(operation);
                    Part::Shop
                }
                Queued::Keys(invocation) => {
                    invocations.push(invocation);
                    Part::Keys
                }
                Queued::Publish(message) => {
                    messages.push(message);
                    Part::Publish
                }
                Queued::Local(resolved, arguments) => Part::Local(resolved, arguments),
            });
        }
        let has_keys = !invocations.is_empty() || !watched.is_empty();
        let entries = has_keys.then(|| KeyRequest::transaction(invocations, watched));
        let progress = match entries {
            entries if !operations.is_empty() => Progress::Together(Box::new(Together { operations, entries })),
            Some(entries) => Progress::Keys(entries),
            None => Progress::Messages,
        };
        Self {
            progress,
            parts,
            messages,
            replies: Vec::new(),
            answers: Vec::new(),
            receivers: Vec::new(),
            refusal: None,
        }
    }

    /// Whether some of it is done with the connection as it is at the end.
    pub(super) fn has_local_commands(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Local(..)))
    }

    /// What it needs next from elsewhere, if it needs something.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        match std::mem::replace(&mut self.progress, Progress::Done) {
            Progress::Keys(request) => {
                self.progress = Progress::Messages;
                Some(Request::Engine(Ask::Keys(request)))
            }
            Progress::Together(together) => {
                self.progress = Progress::Messages;
                Some(Request::Engine(Ask::Together(together)))
            }
            Progress::Messages if self.refusal.is_none() && !self.messages.is_empty() => {
                let messages = std::mem::take(&mut self.messages);
                self.receivers = vec![0; messages.len()];
                Some(Request::Server(ServerTask::Everywhere(
                    ShardQuery::Publish(messages).into(),
                )))
            }
            Progress::Messages | Progress::Done => None,
        }
    }

    /// Takes the keyspace's answer.
    pub(super) fn executed(&mut self, response: Response) {
        match response {
            Response::Keys(Answer::Array(answers)) => self.answers = answers,
            Response::Keys(refusal) => self.refusal = Some(refusal),
            Response::Together(answer) => {
                self.replies = answer.replies;
                self.answers = answer.answers;
            }
            Response::Shop(reply) => panic!("the keyspace was asked, and {reply:?} answered"),
        }
    }

    /// Takes the numbers of receivers that the shards found.
    pub(super) fn published(&mut self, results: &[ShardResult]) {
        self.receivers = sums(results, self.receivers.len());
    }

    /// Runs what is left, and writes the reply.
    pub(super) fn write(self, call: &mut Call<'_>) {
        if let Some(refusal) = self.refusal {
            if let Answer::Error(text) = &refusal {
                call.error(text);
            } else {
                write_answer(&mut call.writer(), &refusal);
            }
            return;
        }
        call.writer().array(self.parts.len());
        let mut answers = self.answers.into_iter();
        let mut receivers = self.receivers.into_iter();
        let mut replies = self.replies.into_iter();
        for part in self.parts {
            match part {
                Part::Shop => {
                    let reply = replies.next().expect("the shop answers every command of a transaction");
                    write_reply(&mut call.writer(), &reply);
                }
                Part::Keys => {
                    let answer = answers
                        .next()
                        .expect("the keyspace answers every command of a transaction");
                    write_answer(&mut call.writer(), &answer);
                }
                Part::Publish => {
                    let count = receivers.next().expect("every message was sent");
                    call.writer().count(count);
                }
                Part::Local((container, command), arguments) => {
                    let Handler::Local(run) = command.handler else {
                        unreachable!("nothing else is queued")
                    };
                    run(&mut Call {
                        command,
                        container,
                        arguments: arguments.get(),
                        connection: call.connection,
                        context: call.context,
                        output: call.output,
                        failed: false,
                    });
                }
            }
        }
        assert!(answers.next().is_none(), "the keyspace answers what it was asked");
    }
}
