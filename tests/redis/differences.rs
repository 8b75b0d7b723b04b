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
    /// Whether the servers' states differ from then on.
    pub parts: bool,
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        commands: "`INCRBYFLOAT`, `HINCRBYFLOAT`",
        reason: "decimals are added as people add them, to 17 places, where Redis shows the rounding of its machine's \
                 widest float; beyond the range of 64-bit floats, and hexadecimal, they are refused",
        covers: |words, ours, theirs| {
            is_one_of(words, &["incrbyfloat", "hincrbyfloat"])
                && (is_out_of_range(ours) && !is_error_like(ours, theirs) || are_nearly_equal(ours, theirs))
        },
        parts: true,
    },
    Difference {
        commands: "`HELLO`",
        reason: "the version told is the one whose replies are given, 7.2",
        covers: |words, ours, theirs| {
            is_one_of(words, &["hello"]) && differ_only_behind(&[b"version", b"id"], ours, theirs)
        },
        parts: false,
    },
    Difference {
        commands: "`CLIENT SETNAME`, `HELLO` (SETNAME)",
        reason: "names are 1,024 bytes at most",
        covers: |words, ours, theirs| {
            is_one_of(words, &["client", "hello"])
                && is_error_with(ours, "ERR Client names cannot be longer than 1024 bytes.")
                && !is_error(theirs)
        },
        parts: true,
    },
    Difference {
        commands: "`HRANDFIELD`",
        reason: "a negative count asks for 1,048,576 fields at most",
        covers: |words, ours, theirs| {
            is_one_of(words, &["hrandfield"])
                && is_error_with(ours, "ERR value is out of range")
                && matches!(theirs, Reply::List(..))
        },
        parts: false,
    },
    Difference {
        commands: "`CLIENT`, `CONFIG`, `DEBUG`, `INFO`, `LATENCY`, `MULTI`, `PUBSUB`, `SLOWLOG`",
        reason: "commands about the whole server cannot be queued by `MULTI`: other shards would have to answer amid \
                 the transaction",
        covers: |words, ours, theirs| {
            let names = ["client", "config", "debug", "info", "latency", "pubsub", "slowlog"];
            let Reply::Line(b'-', text) = ours else {
                return false;
            };
            is_one_of(words, &names)
                && text.ends_with(b" cannot be part of a MULTI: it is about the whole server")
                && is_queued(theirs)
        },
        parts: true,
    },
    Difference {
        commands: "`AUTH`, `CLIENT REPLY`, `HELLO`, `SHUTDOWN`",
        reason: "cannot be queued by `MULTI`, since they change what the connection gets",
        covers: |words, ours, theirs| {
            is_one_of(words, &["auth", "client", "hello", "shutdown"])
                && is_error_with(ours, "ERR Command not allowed inside a transaction")
                && is_queued(theirs)
        },
        parts: true,
    },
    Difference {
        commands: "errors",
        reason: "bytes of a client's that are no text are shown as U+FFFD",
        covers: |_, ours, theirs| {
            let (Reply::Line(b'-', ours), Reply::Line(b'-', theirs)) = (ours, theirs) else {
                return false;
            };
            String::from_utf8_lossy(theirs).as_bytes() == ours
        },
        parts: false,
    },
];

fn is_one_of(words: &Words, names: &[&str]) -> bool {
    names.iter().any(|name| words[0].eq_ignore_ascii_case(name.as_bytes()))
}

fn is_error(reply: &Reply) -> bool {
    matches!(reply, Reply::Line(b'-', _))
}

fn is_error_with(reply: &Reply, text: &str) -> bool {
    matches!(reply, Reply::Line(b'-', told) if told == text.as_bytes())
}

fn is_queued(reply: &Reply) -> bool {
    matches!(reply, Reply::Line(b'+', text) if text == b"QUEUED")
}

/// How `INCRBYFLOAT` and its like refuse a number.
fn is_out_of_range(reply: &Reply) -> bool {
    [
        "ERR value is not a valid float",
        "ERR hash value is not a float",
        "ERR value is NaN or Infinity",
        "ERR increment would produce NaN or Infinity",
    ]
    .iter()
    .any(|text| is_error_with(reply, text))
}

/// Whether both are errors that have nothing to do with a number's range.
fn is_error_like(ours: &Reply, theirs: &Reply) -> bool {
    ours == theirs || is_error_with(theirs, "ERR value is not a valid float")
}

/// Whether both are numbers that the rounding of a float makes of each other.
fn are_nearly_equal(one: &Reply, other: &Reply) -> bool {
    let number = |reply: &Reply| match reply {
        Reply::Bulk(_, text) => std::str::from_utf8(text).ok()?.parse::<f64>().ok(),
        _ => None,
    };
    number(one)
        .zip(number(other))
        .is_some_and(|(one, other)| (one - other).abs() <= other.abs() * 1e-15)
}

/// Whether two maps have the same in the same order, but for what these fields hold.
fn differ_only_behind(fields: &[&[u8]], one: &Reply, other: &Reply) -> bool {
    let (Reply::List(kind, one), Reply::List(other_kind, other)) = (one, other) else {
        return false;
    };
    let is_field = |reply: &Reply| matches!(reply, Reply::Bulk(_, name) if fields.contains(&name.as_slice()));
    kind == other_kind
        && one.len() == other.len()
        && (0..one.len()).all(|at| one[at] == other[at] || at % 2 == 1 && is_field(&one[at - 1]))
}

/// The row of the table that a difference is a case of.
pub fn listed(words: &Words, ours: &Reply, theirs: &Reply) -> Option<&'static Difference> {
    DIFFERENCES
        .iter()
        .find(|difference| (difference.covers)(words, ours, theirs))
}
