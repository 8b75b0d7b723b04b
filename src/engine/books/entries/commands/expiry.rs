//! Commands about when keys expire, and how times are told.

use cartwright_protocol::command::{Group, ONE_KEY};
use cartwright_protocol::resp::{Arguments, parse_i64, shown};
use compact_str::format_compact;

use super::spec::{CommandSpec, Scope};
use super::{READ_FAST, WRITE_FAST, argument, either, first};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::effect::Effect;
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::name::Name;
use crate::engine::books::entries::value::Entry;
use crate::engine::kernel::ids::Timestamp;

/// In what a client tells a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// From now on, in seconds.
    Seconds,
    /// From now on, in milliseconds.
    Milliseconds,
    /// Unix seconds.
    AtSeconds,
    /// Unix milliseconds.
    AtMilliseconds,
}

impl Expiry {
    /// The option `EX`, `PX`, `EXAT` or `PXAT`.
    pub fn of_option(word: &[u8]) -> Option<Self> {
        [
            ("EX", Self::Seconds),
            ("PX", Self::Milliseconds),
            ("EXAT", Self::AtSeconds),
            ("PXAT", Self::AtMilliseconds),
        ]
        .into_iter()
        .find(|(option, _)| word.eq_ignore_ascii_case(option.as_bytes()))
        .map(|(_, unit)| unit)
    }

    /// In Unix milliseconds; `None` where that is out of range.
    fn unix_ms(self, value: i64, now: Timestamp) -> Option<i64> {
        let ms = match self {
            Self::Seconds | Self::AtSeconds => value.checked_mul(1000)?,
            Self::Milliseconds | Self::AtMilliseconds => value,
        };
        match self {
            Self::Seconds | Self::Milliseconds => ms.checked_add(now.unix_ms() as i64),
            Self::AtSeconds | Self::AtMilliseconds => Some(ms),
        }
    }
}

fn invalid(command: &str) -> Answer {
    Answer::Error(format_compact!("ERR invalid expire time in '{command}' command"))
}

/// The moment that `value` means: for commands that want it above zero.
pub fn parse_expiry(value: &[u8], unit: Expiry, now: Timestamp, command: &str) -> Result<Timestamp, Answer> {
    let value = parse_i64(value).ok_or_else(Answer::not_an_integer)?;
    let at = (value > 0).then(|| unit.unix_ms(value, now)).flatten();
    at.map(|at| Timestamp(at as u64)).ok_or_else(|| invalid(command))
}

/// Has the key, which is there, expire at a moment; 0: never. What is over already is removed.
pub fn expire_at(keys: &mut Keys<'_>, name: Name<'_>, at: Timestamp) {
    let key = name.bytes;
    let effect = if at != Timestamp::default() && at <= keys.now {
        Effect::Delete { key }
    } else {
        Effect::Expire { key, at }
    };
    keys.write(name, &effect);
}

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[
    &EXPIRE,
    &PEXPIRE,
    &EXPIREAT,
    &PEXPIREAT,
    &TTL,
    &PTTL,
    &EXPIRETIME,
    &PEXPIRETIME,
    &PERSIST,
];

/// `EXPIRE`
pub static EXPIRE: CommandSpec = CommandSpec {
    name: "expire",
    arity: -3,
    flags: WRITE_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key seconds [NX | XX | GT | LT]",
    summary: "Has a key expire in so many seconds.",
    scope: Scope::Keys,
    run: |keys, arguments| either(expire(keys, arguments, Expiry::Seconds, "expire")),
};

/// `PEXPIRE`
pub static PEXPIRE: CommandSpec = CommandSpec {
    name: "pexpire",
    arity: -3,
    flags: WRITE_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key milliseconds [NX | XX | GT | LT]",
    summary: "Has a key expire in so many milliseconds.",
    scope: Scope::Keys,
    run: |keys, arguments| either(expire(keys, arguments, Expiry::Milliseconds, "pexpire")),
};

/// `EXPIREAT`
pub static EXPIREAT: CommandSpec = CommandSpec {
    name: "expireat",
    arity: -3,
    flags: WRITE_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key unix-time-seconds [NX | XX | GT | LT]",
    summary: "Has a key expire at a time.",
    scope: Scope::Keys,
    run: |keys, arguments| either(expire(keys, arguments, Expiry::AtSeconds, "expireat")),
};

/// `PEXPIREAT`
pub static PEXPIREAT: CommandSpec = CommandSpec {
    name: "pexpireat",
    arity: -3,
    flags: WRITE_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key unix-time-milliseconds [NX | XX | GT | LT]",
    summary: "Has a key expire at a time.",
    scope: Scope::Keys,
    run: |keys, arguments| either(expire(keys, arguments, Expiry::AtMilliseconds, "pexpireat")),
};

/// `TTL`
pub static TTL: CommandSpec = CommandSpec {
    name: "ttl",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives the seconds until a key expires.",
    scope: Scope::Keys,
    run: |keys, arguments| remaining(keys, arguments, |at, now| (at.saturating_sub(now) + 500) / 1000),
};

/// `PTTL`
pub static PTTL: CommandSpec = CommandSpec {
    name: "pttl",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives the milliseconds until a key expires.",
    scope: Scope::Keys,
    run: |keys, arguments| remaining(keys, arguments, u64::saturating_sub),
};

/// `EXPIRETIME`
pub static EXPIRETIME: CommandSpec = CommandSpec {
    name: "expiretime",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives when a key expires, in Unix seconds.",
    scope: Scope::Keys,
    run: |keys, arguments| remaining(keys, arguments, |at, _| at / 1000),
};

/// `PEXPIRETIME`
pub static PEXPIRETIME: CommandSpec = CommandSpec {
    name: "pexpiretime",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives when a key expires, in Unix milliseconds.",
    scope: Scope::Keys,
    run: |keys, arguments| remaining(keys, arguments, |at, _| at),
};

/// `PERSIST`
pub static PERSIST: CommandSpec = CommandSpec {
    name: "persist",
    arity: 2,
    flags: WRITE_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key",
    summary: "Has a key expire no more.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        let expires = keys.find(name).is_some_and(|entry| entry.expiry().is_some());
        if expires {
            expire_at(keys, name, Timestamp::default());
        }
        Answer::truth(expires)
    },
};

fn remaining(keys: &mut Keys<'_>, arguments: Arguments<'_>, tell: fn(u64, u64) -> u64) -> Answer {
    let name = first(keys, arguments);
    let now = keys.now.unix_ms();
    match keys.find(name).map(Entry::expiry) {
        None => Answer::Integer(-2),
        Some(None) => Answer::Integer(-1),
        Some(Some(at)) => Answer::Integer(tell(at.unix_ms(), now) as i64),
    }
}

/// When `EXPIRE` and its like do anything.
#[expect(clippy::struct_excessive_bools, reason = "four independent words of a command")]
#[derive(Clone, Copy, Default)]
struct Conditions {
    only_without: bool,
    only_with: bool,
    only_later: bool,
    only_earlier: bool,
}

impl Conditions {
    fn parse(arguments: Arguments<'_>) -> Result<Self, Answer> {
        let mut conditions = Self::default();
        for word in arguments.from(3).iter() {
            let is = |option: &str| word.eq_ignore_ascii_case(option.as_bytes());
            if is("NX") {
                conditions.only_without = true;
            } else if is("XX") {
                conditions.only_with = true;
            } else if is("GT") {
                conditions.only_later = true;
            } else if is("LT") {
                conditions.only_earlier = true;
            } else {
                let word = shown(word);
                return Err(Answer::Error(format_compact!("ERR Unsupported option {word}")));
            }
        }
        let Self {
            only_without,
            only_with,
            only_later,
            only_earlier,
        } = conditions;
        if only_without && (only_with || only_later || only_earlier) {
            return Err(Answer::error(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if only_later && only_earlier {
            return Err(Answer::error(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(conditions)
    }

    /// Whether a key that expires at `before`, if ever, may expire at `at`.
    fn allow(self, before: Option<Timestamp>, at: i64) -> bool {
        let before = before.map(|before| before.unix_ms() as i64);
        let never = i64::MAX;
        !(self.only_without && before.is_some()
            || self.only_with && before.is_none()
            || self.only_later && at <= before.unwrap_or(never)
            || self.only_earlier && before.is_some_and(|before| at >= before))
    }
}

fn expire(keys: &mut Keys<'_>, arguments: Arguments<'_>, unit: Expiry, command: &str) -> Result<Answer, Answer> {
    let conditions = Conditions::parse(arguments)?;
    let value = parse_i64(argument(arguments, 2)).ok_or_else(Answer::not_an_integer)?;
    let at = unit.unix_ms(value, keys.now).ok_or_else(|| invalid(command))?;
    let name = first(keys, arguments);
    let Some(before) = keys.find(name).map(Entry::expiry) else {
        return Ok(Answer::Integer(0));
    };
    if !conditions.allow(before, at) {
        return Ok(Answer::Integer(0));
    }
    // Zero stands for never: whatever is over by then is over by 1, too.
    expire_at(keys, name, Timestamp(at.max(1) as u64));
    Ok(Answer::Integer(1))
}
