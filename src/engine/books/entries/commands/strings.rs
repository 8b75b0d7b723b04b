//! Commands on strings.

use cartwright_protocol::command::{ALL_KEYS, Flags, Group, KEYS_AND_VALUES, ONE_KEY};
use cartwright_protocol::resp::{Arguments, parse_i64};

use super::decimal::Decimal;
use super::expiry::{Expiry, parse_expiry};
use super::spec::{CommandSpec, Scope};
use super::{
    READ, READ_FAST, WRITE_FAST, WRITE_MORE, WRITE_MORE_FAST, argument, check_length, either, first, integer, range,
};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::effect::Effect;
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::name::Name;
use crate::engine::books::entries::types::string::{Change, StringValue};
use crate::engine::kernel::ids::Timestamp;

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[
    &GET,
    &SET,
    &SETNX,
    &SETEX,
    &PSETEX,
    &GETSET,
    &GETDEL,
    &GETEX,
    &APPEND,
    &STRLEN,
    &INCR,
    &DECR,
    &INCRBY,
    &DECRBY,
    &INCRBYFLOAT,
    &GETRANGE,
    &SUBSTR,
    &SETRANGE,
    &MGET,
    &MSET,
    &MSETNX,
];

/// `GET`
pub static GET: CommandSpec = CommandSpec {
    name: "get",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key",
    summary: "Gives the string at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        keys.string(name).map_or_else(|error| error, Answer::or_nil)
    },
};

/// `SET`
pub static SET: CommandSpec = CommandSpec {
    name: "set",
    arity: -3,
    flags: WRITE_MORE,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
    summary: "Sets a key to a string.",
    scope: Scope::Keys,
    run: |keys, arguments| either(set(keys, arguments)),
};

/// `SETNX`
pub static SETNX: CommandSpec = CommandSpec {
    name: "setnx",
    arity: 3,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key value",
    summary: "Sets a key that is not there.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        let is_new = keys.find(name).is_none();
        if is_new {
            put(keys, name, argument(arguments, 2), Timestamp::default());
        }
        Answer::truth(is_new)
    },
};

/// `SETEX`
pub static SETEX: CommandSpec = CommandSpec {
    name: "setex",
    arity: 4,
    flags: WRITE_MORE,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key seconds value",
    summary: "Sets a key that expires.",
    scope: Scope::Keys,
    run: |keys, arguments| set_expiring(keys, arguments, Expiry::Seconds, "setex"),
};

/// `PSETEX`
pub static PSETEX: CommandSpec = CommandSpec {
    name: "psetex",
    arity: 4,
    flags: WRITE_MORE,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key milliseconds value",
    summary: "Sets a key that expires.",
    scope: Scope::Keys,
    run: |keys, arguments| set_expiring(keys, arguments, Expiry::Milliseconds, "psetex"),
};

/// `GETSET`
pub static GETSET: CommandSpec = CommandSpec {
    name: "getset",
    arity: 3,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key value",
    summary: "Sets a key, and gives what it held.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        match keys.string(name) {
            Err(error) => error,
            Ok(before) => {
                put(keys, name, argument(arguments, 2), Timestamp::default());
                Answer::or_nil(before)
            }
        }
    },
};

/// `GETDEL`
pub static GETDEL: CommandSpec = CommandSpec {
    name: "getdel",
    arity: 2,
    flags: WRITE_FAST.and(Flags::REMOVES_ONLY),
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key",
    summary: "Deletes a key, and gives what it held.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        match keys.string(name) {
            Ok(Some(value)) => {
                keys.delete(name);
                Answer::Bulk(value)
            }
            other => other.map_or_else(|error| error, Answer::or_nil),
        }
    },
};

/// `GETEX`
pub static GETEX: CommandSpec = CommandSpec {
    name: "getex",
    arity: -2,
    flags: WRITE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
    summary: "Gives the string at a key, and sets when it expires.",
    scope: Scope::Keys,
    run: |keys, arguments| either(getex(keys, arguments)),
};

/// `APPEND`
pub static APPEND: CommandSpec = CommandSpec {
    name: "append",
    arity: 3,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key value",
    summary: "Appends to the string at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(append(keys, arguments)),
};

/// `STRLEN`
pub static STRLEN: CommandSpec = CommandSpec {
    name: "strlen",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key",
    summary: "Gives the length of the string at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        keys.string(name).map_or_else(
            |error| error,
            |value| Answer::count(value.map_or(0, |value| value.len())),
        )
    },
};

/// `INCR`
pub static INCR: CommandSpec = CommandSpec {
    name: "incr",
    arity: 2,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key",
    summary: "Adds one to the number at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(add(keys, arguments, 1)),
};

/// `DECR`
pub static DECR: CommandSpec = CommandSpec {
    name: "decr",
    arity: 2,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key",
    summary: "Takes one from the number at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(add(keys, arguments, -1)),
};

/// `INCRBY`
pub static INCRBY: CommandSpec = CommandSpec {
    name: "incrby",
    arity: 3,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key increment",
    summary: "Adds to the number at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(integer(arguments, 2).and_then(|by| add(keys, arguments, by))),
};

/// `DECRBY`
pub static DECRBY: CommandSpec = CommandSpec {
    name: "decrby",
    arity: 3,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key decrement",
    summary: "Takes from the number at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        either(integer(arguments, 2).and_then(|by| {
            let by = by.checked_neg();
            let by = by.ok_or_else(|| Answer::error("ERR decrement would overflow"))?;
            add(keys, arguments, by)
        }))
    },
};

/// `INCRBYFLOAT`
pub static INCRBYFLOAT: CommandSpec = CommandSpec {
    name: "incrbyfloat",
    arity: 3,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key increment",
    summary: "Adds to the decimal number at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(add_decimal(keys, arguments)),
};

/// `GETRANGE`
pub static GETRANGE: CommandSpec = CommandSpec {
    name: "getrange",
    arity: 4,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key start end",
    summary: "Gives part of the string at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(get_range(keys, arguments)),
};

/// `SUBSTR`
pub static SUBSTR: CommandSpec = CommandSpec {
    name: "substr",
    arity: 4,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key start end",
    summary: "Gives part of the string at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(get_range(keys, arguments)),
};

/// `SETRANGE`
pub static SETRANGE: CommandSpec = CommandSpec {
    name: "setrange",
    arity: 4,
    flags: WRITE_MORE,
    keys: ONE_KEY,
    group: Group::Strings,
    syntax: "key offset value",
    summary: "Writes over part of the string at a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(set_range(keys, arguments)),
};

/// `MGET`
pub static MGET: CommandSpec = CommandSpec {
    name: "mget",
    arity: -2,
    flags: READ_FAST,
    keys: ALL_KEYS,
    group: Group::Strings,
    syntax: "key [key ...]",
    summary: "Gives the strings at keys.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        // Another type is no value here, and no error.
        let names = keys.names(arguments);
        let values = names.map(|name| keys.string(name).map_or(Answer::Nil, Answer::or_nil));
        Answer::Array(values.collect())
    },
};

/// `MSET`
pub static MSET: CommandSpec = CommandSpec {
    name: "mset",
    arity: -3,
    flags: WRITE_MORE,
    keys: KEYS_AND_VALUES,
    group: Group::Strings,
    syntax: "key value [key value ...]",
    summary: "Sets keys to strings, all at once.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        if arguments.len() % 2 == 0 {
            return Answer::error("ERR wrong number of arguments for 'mset' command");
        }
        put_all(keys, arguments);
        Answer::Ok
    },
};

/// `MSETNX`
pub static MSETNX: CommandSpec = CommandSpec {
    name: "msetnx",
    arity: -3,
    flags: WRITE_MORE,
    keys: KEYS_AND_VALUES,
    group: Group::Strings,
    syntax: "key value [key value ...]",
    summary: "Sets keys, if none of them is there.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        if arguments.len() % 2 == 0 {
            return Answer::error("ERR wrong number of arguments for 'msetnx' command");
        }
        let names = keys.names(arguments);
        let all_new = names.into_iter().all(|name| keys.find(name).is_none());
        if all_new {
            put_all(keys, arguments);
        }
        Answer::truth(all_new)
    },
};

impl Keys<'_> {
    /// The string that the key holds.
    #[inline]
    pub(super) fn string(&mut self, name: Name<'_>) -> Result<Option<ValueBytes>, Answer> {
        Ok(self.value(name)?.map(StringValue::to_bytes))
    }
}

fn put(keys: &mut Keys<'_>, name: Name<'_>, value: &[u8], expires_at: Timestamp) {
    let effect = Effect::Set {
        key: name.bytes,
        value,
        expires_at,
    };
    keys.write(name, &effect);
}

fn put_all(keys: &mut Keys<'_>, arguments: Arguments<'_>) {
    for (pair, name) in keys.names(arguments).enumerate() {
        put(keys, name, argument(arguments, 2 * pair + 2), Timestamp::default());
    }
}

/// What a `SET` is told beside key and value, or a `GETEX` beside its key.
#[expect(clippy::struct_excessive_bools, reason = "independent words of a command")]
#[derive(Default)]
struct Options<'a> {
    only_new: bool,
    only_there: bool,
    gets: bool,
    /// When the key expires stays as it is.
    keeps: bool,
    /// The key does not expire any more.
    persists: bool,
    /// When it expires from now on, not looked at yet.
    expiry: Option<(Expiry, &'a [u8])>,
}

impl<'a> Options<'a> {
    #[inline]
    fn parse(arguments: Arguments<'a>, first: usize, is_set: bool) -> Result<Self, Answer> {
        let mut options = Self::default();
        let mut index = first;
        while let Some(word) = arguments.get(index) {
            let is = |option: &str| word.eq_ignore_ascii_case(option.as_bytes());
            let is_free = options.expiry.is_none();
            if is_set && is("NX") && !options.only_there {
                options.only_new = true;
            } else if is_set && is("XX") && !options.only_new {
                options.only_there = true;
            } else if is_set && is("GET") {
                options.gets = true;
            } else if is_set && is("KEEPTTL") && is_free {
                options.keeps = true;
            } else if !is_set && is("PERSIST") && is_free {
                options.persists = true;
            } else if let (Some(unit), Some(value)) = (Expiry::of_option(word), arguments.get(index + 1))
                && !options.keeps
                && !options.persists
                // The same once more is taken, and the last of them counts.
                && options.expiry.is_none_or(|(before, _)| before == unit)
            {
                options.expiry = Some((unit, value));
                index += 1;
            } else {
                return Err(Answer::syntax_error());
            }
            index += 1;
        }
        Ok(options)
    }

    /// When the key expires from now on, if that is told.
    fn expires_at(&self, keys: &Keys<'_>, command: &str) -> Result<Option<Timestamp>, Answer> {
        self.expiry
            .map(|(unit, value)| parse_expiry(value, unit, keys.now, command))
            .transpose()
    }
}

fn set(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let name = first(keys, arguments);
    let value = argument(arguments, 2);
    if arguments.len() == 3 {
        put(keys, name, value, Timestamp::default());
        return Ok(Answer::Ok);
    }
    let options = Options::parse(arguments, 3, true)?;
    let told = options.expires_at(keys, "set")?;
    let before = if options.gets { keys.string(name)? } else { None };
    let entry = keys.find(name);
    let (is_there, expires) = (entry.is_some(), entry.map(|entry| entry.expires_at));
    let is_wanted = if is_there {
        !options.only_new
    } else {
        !options.only_there
    };
    if is_wanted {
        let kept = expires.filter(|_| options.keeps);
        put(keys, name, value, told.or(kept).unwrap_or_default());
    }
    Ok(match (options.gets, is_wanted) {
        (true, _) => Answer::or_nil(before),
        (false, true) => Answer::Ok,
        (false, false) => Answer::Nil,
    })
}

fn set_expiring(keys: &mut Keys<'_>, arguments: Arguments<'_>, unit: Expiry, command: &str) -> Answer {
    match parse_expiry(argument(arguments, 2), unit, keys.now, command) {
        Err(error) => error,
        Ok(expires_at) => {
            let name = first(keys, arguments);
            put(keys, name, argument(arguments, 3), expires_at);
            Answer::Ok
        }
    }
}

fn getex(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let options = Options::parse(arguments, 2, false)?;
    let name = first(keys, arguments);
    let Some(value) = keys.string(name)? else {
        return Ok(Answer::Nil);
    };
    if let Some(at) = options.expires_at(keys, "getex")? {
        super::expiry::expire_at(keys, name, at);
    } else if options.persists && keys.find(name).is_some_and(|entry| entry.expiry().is_some()) {
        super::expiry::expire_at(keys, name, Timestamp::default());
    }
    Ok(Answer::Bulk(value))
}

fn append(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let name = first(keys, arguments);
    let bytes = argument(arguments, 2);
    let before = keys.string(name)?.map_or(0, |value| value.len());
    let length = before + bytes.len();
    check_length(keys, length as u64)?;
    keys.change(name, Change::Append(bytes));
    Ok(Answer::count(length))
}

fn add(keys: &mut Keys<'_>, arguments: Arguments<'_>, by: i64) -> Result<Answer, Answer> {
    let name = first(keys, arguments);
    let before = match keys.value(name)? {
        None => 0,
        Some(&StringValue::Integer(integer)) => integer,
        // What APPEND and its like have made may read as an integer as well.
        Some(StringValue::Bytes(text)) => parse_i64(text).ok_or_else(Answer::not_an_integer)?,
    };
    let after = before.checked_add(by);
    let value = after.ok_or_else(|| Answer::error("ERR increment or decrement would overflow"))?;
    keys.change(name, Change::Integer(value));
    Ok(Answer::Integer(value))
}

fn add_decimal(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let name = first(keys, arguments);
    let not_a_float = || Answer::error("ERR value is not a valid float");
    let before = match keys.string(name)? {
        None => Decimal::Exact(0),
        Some(text) => Decimal::parse(&text).ok_or_else(not_a_float)?,
    };
    let by = Decimal::parse(argument(arguments, 2)).ok_or_else(not_a_float)?;
    let sum = before
        .plus(by)
        .ok_or_else(|| Answer::error("ERR increment would produce NaN or Infinity"))?
        .text();
    let expires_at = keys.find(name).map_or(Timestamp::default(), |entry| entry.expires_at);
    // As text, also where it reads as an integer: that is how Redis holds it.
    let text = StringValue::Bytes(ValueBytes::new(sum.as_bytes()));
    keys.put(name, &text.into(), expires_at, 0)?;
    Ok(Answer::bulk(sum.as_bytes()))
}

fn get_range(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let (start, end) = (integer(arguments, 2)?, integer(arguments, 3)?);
    let name = first(keys, arguments);
    let value = keys.string(name)?.unwrap_or(ValueBytes::new(&[]));
    let part = range(start, end, value.len()).map_or(&[][..], |range| &value[range]);
    Ok(Answer::bulk(part))
}

fn set_range(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let offset = integer(arguments, 2)?;
    let offset = u64::try_from(offset).map_err(|_| Answer::error("ERR offset is out of range"))?;
    let bytes = argument(arguments, 3);
    let name = first(keys, arguments);
    let before = keys.string(name)?.map_or(0, |value| value.len());
    if bytes.is_empty() {
        return Ok(Answer::count(before));
    }
    let end = offset.saturating_add(bytes.len() as u64);
    check_length(keys, end)?;
    keys.change(name, Change::SetRange(offset, bytes));
    Ok(Answer::count(before.max(end as usize)))
}
