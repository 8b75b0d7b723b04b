//! The rows of the commands about transactions.

use super::{ALL_KEYS, Command, Flags, Handler, local, row};
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
    verb(
        "watch",
        -2,
        "key [key ...]",
        "Has the next EXEC run nothing if one of the keys changes before.",
        Verb::Watch,
    )
    .with_keys(ALL_KEYS),
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
