//! The rows of the commands about transactions.

use super::{Command, Flags, Handler, local, row};
use crate::engine::entries::commands::WATCH;
use crate::session::transaction::{self, Verb};

const FLAGS: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::ALLOW_BUSY);

const fn verb(name: &'static str, arity: i16, syntax: &'static str, summary: &'static str, verb: Verb) -> Command {
    row(
        name,
        arity,
        FLAGS.and(Flags::NOT_QUEUED),
        syntax,
        summary,
        Handler::Transaction(verb),
    )
}

pub(super) const COMMANDS: &[Command] = &[
    verb(
        "multi",
        1,
        "",
        "Begins a transaction: commands are queued until EXEC.",
        Verb::Multi,
    ),
    verb(
        "exec",
        1,
        "",
        "Runs what is queued, all of it or, if a watched key has changed, nothing.",
        Verb::Exec,
    ),
    verb(
        "discard",
        1,
        "",
        "Forgets what is queued, and which keys are watched.",
        Verb::Discard,
    ),
    verb(WATCH.name, WATCH.arity, WATCH.syntax, WATCH.summary, Verb::Watch).with_keys(WATCH.keys),
    local(
        "unwatch",
        1,
        // What is being watched is known when its answer is there.
        FLAGS.and(Flags::IN_TURN),
        "",
        "Watches nothing any more.",
        transaction::unwatch,
    ),
];
