//! The command table: everything the RESP side knows about each command, in one row.
//!
//! Dispatch, arity errors, routing by key, `COMMAND`, help and the README's list all read it; a new command is a new row
//! in the file of its group. Names are lower-case, as Redis prints them; clients may write them in any case.
//!
//! The rows of commands on keys stand with their functions in the engine, those of the shop's commands with their
//! declarations; `index` takes them over.
//!
//! - `shop`, `connection`, `server`, `keys`, `transactions`, `pubsub`: the other rows, by group
//! - `index`: from a name to its row; `readme`: the README's list

mod connection;
mod index;
mod keys;
mod pubsub;
#[cfg(test)]
mod readme;
mod server;
mod shop;
mod transactions;

use cartwright_protocol::resp::Arguments;
use cartwright_protocol::{Operation, Reply};

use cartwright_protocol::command::{ALL_KEYS, KeyPositions, ONE_KEY};
pub(super) use cartwright_protocol::command::{Flags, Group};
pub(super) use index::{all, count, find, number, shop_row};

use super::connection::Call;
use super::introspection;
use super::server_task::PendingTask;
use super::transaction::Verb;
use crate::engine::CommandSpec;

/// One command, or one subcommand.
#[derive(Clone, Copy)]
pub(super) struct Command {
    /// Lower-case; a subcommand's without its container's.
    pub(super) name: &'static str,
    /// Count of arguments, the name (and the container's) included; negative: at least that many.
    pub(super) arity: i16,
    /// What it is like.
    pub(super) flags: Flags,
    /// Which arguments are keys.
    pub(super) keys: KeyPositions,
    /// What it is for: the group of its table. `None`: a subcommand, which is for what its container is.
    pub(super) group: Option<Group>,
    /// Its place among all commands; see [`number`].
    number: u16,
    /// The arguments, as documentation writes them.
    pub(super) syntax: &'static str,
    /// One sentence.
    pub(super) summary: &'static str,
    /// What it does.
    pub(super) handler: Handler,
    /// Not empty: the first argument selects one.
    pub(super) subcommands: &'static [Self],
}

/// What a command does.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// It goes to the shop.
    Shop(fn(Arguments<'_>) -> Result<Operation, Reply>),
    /// It goes to the keyspace.
    Keys(&'static CommandSpec),
    /// It is answered from the connection's own state and the server's facts.
    Local(fn(&mut Call<'_>)),
    /// It asks for something of the server; or answers an error, and asks for nothing.
    Server(fn(&mut Call<'_>) -> Option<PendingTask>),
    /// It is about the transaction that the connection queues.
    Transaction(Verb),
    /// Only its subcommands do anything.
    Container,
}

/// A row without keys and subcommands, in no group yet.
const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    syntax: &'static str,
    summary: &'static str,
    handler: Handler,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys: KeyPositions::None,
        group: None,
        number: 0,
        syntax,
        summary,
        handler,
        subcommands: &[],
    }
}

/// A row that is answered by the session.
const fn local(
    name: &'static str,
    arity: i16,
    flags: Flags,
    syntax: &'static str,
    summary: &'static str,
    handler: fn(&mut Call<'_>),
) -> Command {
    row(name, arity, flags, syntax, summary, Handler::Local(handler))
}

/// A row that needs the server around the session.
const fn task(
    name: &'static str,
    arity: i16,
    flags: Flags,
    syntax: &'static str,
    summary: &'static str,
    handler: fn(&mut Call<'_>) -> Option<PendingTask>,
) -> Command {
    row(name, arity, flags, syntax, summary, Handler::Server(handler))
}

/// The row of a command on keys, or of a subcommand.
const fn keyed(spec: &'static CommandSpec) -> Command {
    let name = match split_at_bar(spec.name) {
        Some((_, subcommand)) => subcommand,
        None => spec.name,
    };
    let handler = Handler::Keys(spec);
    row(name, spec.arity, spec.flags, spec.syntax, spec.summary, handler).with_keys(spec.keys)
}

/// A container's name and its subcommand's.
const fn split_at_bar(name: &'static str) -> Option<(&'static str, &'static str)> {
    let mut at = 0;
    while at < name.len() {
        if name.as_bytes()[at] == b'|' {
            return Some((name.split_at(at).0, name.split_at(at + 1).1));
        }
        at += 1;
    }
    None
}

/// A row of subcommands, of which `HELP` should be one.
const fn container(name: &'static str, summary: &'static str, subcommands: &'static [Command]) -> Command {
    Command {
        subcommands,
        ..row(name, -2, Flags::NONE, "subcommand", summary, Handler::Container)
    }
}

/// The `HELP` of a container.
const fn help() -> Command {
    let flags = Flags::LOADING.and(Flags::STALE);
    local("help", 2, flags, "", "Prints this help.", introspection::help)
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

impl Command {
    /// The same, with keys.
    const fn with_keys(mut self, keys: KeyPositions) -> Self {
        self.keys = keys;
        self
    }

    /// The subcommand with this name, in any case.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        self.subcommands
            .iter()
            .find(|subcommand| subcommand.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether so many arguments, the name included, can be right.
    #[inline]
    pub(super) const fn takes(&self, count: usize) -> bool {
        if self.arity < 0 {
            count >= self.arity.unsigned_abs() as usize
        } else {
            count == self.arity as usize
        }
    }
}
