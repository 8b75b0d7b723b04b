//! The one table of what is allowed to differ from Redis, with why. The README shows it.

use super::wire::{Reply, Words};

/// One way in which replies may differ.
pub struct Difference {
    /// The commands it is about, as the README names them.
    pub commands: &'static str,
    /// What differs, and why.
    pub reason: &'static str,
    /// Whether this is a case of it: the command, this server's reply, that of Redis.
    pub covers: fn(&Words, &Reply, &Reply) -> bool,
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        commands: "`BITCOUNT`, `BITPOS`, `GETEX`, `HSCAN`",
        reason: "arguments are read before the key is looked for, as in Redis 7.2: wrong ones are an error where there is no key, too",
        covers: |words, ours, _| is_one_of(words, &["bitcount", "bitpos", "getex", "hscan"]) && is_error(ours),
    },
    Difference {
        commands: "`INCRBYFLOAT`, `HINCRBYFLOAT`",
        reason: "numbers have the range of 64-bit floats and are decimal: what is beyond, or hexadecimal, is refused",
        covers: |words, ours, _| is_one_of(words, &["incrbyfloat", "hincrbyfloat"]) && is_error(ours),
    },
    Difference {
        commands: "`SCAN`",
        reason: "a cursor that no server gave is an error",
        covers: |words, ours, _| is_one_of(words, &["scan"]) && is_error(ours),
    },
    Difference {
        commands: "`HELLO`",
        reason: "the version told is the one whose replies are given, 7.2",
        covers: |words, ours, theirs| {
            is_one_of(words, &["hello"]) && matches!((ours, theirs), (Reply::List(..), Reply::List(..)))
        },
    },
    Difference {
        commands: "`CLIENT SETNAME`",
        reason: "names are 1,024 bytes at most",
        covers: |words, ours, _| is_one_of(words, &["client"]) && is_error(ours),
    },
    Difference {
        commands: "`HRANDFIELD`",
        reason: "a count beyond half the range of integers is refused with and without values",
        covers: |words, ours, _| is_one_of(words, &["hrandfield"]) && is_error(ours),
    },
    Difference {
        commands: "all",
        reason: "where both refuse, the text after `ERR` may be another: bytes that are no text are shown as U+FFFD, and of two faults either may be named",
        covers: |_, ours, theirs| is_plain_error(ours) && is_plain_error(theirs),
    },
];

fn is_one_of(words: &Words, names: &[&str]) -> bool {
    names.iter().any(|name| words[0].eq_ignore_ascii_case(name.as_bytes()))
}

fn is_error(reply: &Reply) -> bool {
    matches!(reply, Reply::Line(b'-', _))
}

fn is_plain_error(reply: &Reply) -> bool {
    matches!(reply, Reply::Line(b'-', text) if text.starts_with(b"ERR "))
}

/// Whether a difference is one of the table.
pub fn is_listed(words: &Words, ours: &Reply, theirs: &Reply) -> bool {
    DIFFERENCES
        .iter()
        .any(|difference| (difference.covers)(words, ours, theirs))
}
