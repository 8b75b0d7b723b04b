//! Commands on hashes.

use cartwright_core::prng::{Random, SplitMix64};
use cartwright_protocol::command::{Flags, Group, ONE_KEY};
use cartwright_protocol::resp::{Arguments, parse_i64};

use super::decimal::Decimal;
use super::spec::{CommandSpec, Scope};
use super::{READ, READ_FAST, WRITE_FAST, WRITE_MORE_FAST, argument, either, first, integer};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::bytes::{IntegerText, ValueBytes};
use crate::engine::books::entries::encoding::Strings;
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::name::Name;
use crate::engine::books::entries::scan::Scan;
use crate::engine::books::entries::types::hash::{Change, Field, Hash, PLACE_BITS};

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[
    &HSET,
    &HMSET,
    &HSETNX,
    &HGET,
    &HMGET,
    &HGETALL,
    &HKEYS,
    &HVALS,
    &HLEN,
    &HEXISTS,
    &HSTRLEN,
    &HDEL,
    &HINCRBY,
    &HINCRBYFLOAT,
    &HRANDFIELD,
    &HSCAN,
];

/// `HSET`
pub static HSET: CommandSpec = CommandSpec {
    name: "hset",
    arity: -4,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field value [field value ...]",
    summary: "Sets fields, and counts those that are new.",
    scope: Scope::Keys,
    run: |keys, arguments| either(set(keys, arguments, "hset").map(Answer::count)),
};

/// `HMSET`
pub static HMSET: CommandSpec = CommandSpec {
    name: "hmset",
    arity: -4,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field value [field value ...]",
    summary: "Sets fields.",
    scope: Scope::Keys,
    run: |keys, arguments| either(set(keys, arguments, "hmset").map(|_| Answer::Ok)),
};

/// `HSETNX`
pub static HSETNX: CommandSpec = CommandSpec {
    name: "hsetnx",
    arity: 4,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field value",
    summary: "Sets a field that is not there.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let (name, field) = (first(keys, arguments), argument(arguments, 2));
        either(
            keys.hash(name)
                .map(|hash| hash.is_none_or(|hash| hash.get(field).is_none()))
                .map(|is_new| {
                    if is_new {
                        put(keys, name, field, argument(arguments, 3));
                    }
                    Answer::truth(is_new)
                }),
        )
    },
};

/// `HGET`
pub static HGET: CommandSpec = CommandSpec {
    name: "hget",
    arity: 3,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field",
    summary: "Gives a field's value.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        with(keys, arguments, Answer::Nil, |hash| {
            Answer::or_nil(hash.get(argument(arguments, 2)).cloned())
        })
    },
};

/// `HMGET`
pub static HMGET: CommandSpec = CommandSpec {
    name: "hmget",
    arity: -3,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field [field ...]",
    summary: "Gives fields' values.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let fields = arguments.from(2);
        let none = Answer::Array(vec![Answer::Nil; fields.len()]);
        with(keys, arguments, none, |hash| {
            Answer::Array(
                fields
                    .iter()
                    .map(|field| Answer::or_nil(hash.get(field).cloned()))
                    .collect(),
            )
        })
    },
};

/// `HGETALL`
pub static HGETALL: CommandSpec = CommandSpec {
    name: "hgetall",
    arity: 2,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key",
    summary: "Gives all fields with their values.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        with(keys, arguments, Answer::Map(Vec::new()), |hash| {
            Answer::Map(hash.iter().map(pair).collect())
        })
    },
};

/// `HKEYS`
pub static HKEYS: CommandSpec = CommandSpec {
    name: "hkeys",
    arity: 2,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key",
    summary: "Gives all fields.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        with(keys, arguments, Answer::Array(Vec::new()), |hash| {
            Answer::Array(hash.iter().map(|field| Answer::Bulk(field.name.clone())).collect())
        })
    },
};

/// `HVALS`
pub static HVALS: CommandSpec = CommandSpec {
    name: "hvals",
    arity: 2,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key",
    summary: "Gives all values.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        with(keys, arguments, Answer::Array(Vec::new()), |hash| {
            Answer::Array(hash.iter().map(|field| Answer::Bulk(field.value.clone())).collect())
        })
    },
};

/// `HLEN`
pub static HLEN: CommandSpec = CommandSpec {
    name: "hlen",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key",
    summary: "Counts the fields.",
    scope: Scope::Keys,
    run: |keys, arguments| with(keys, arguments, Answer::Integer(0), |hash| Answer::count(hash.len())),
};

/// `HEXISTS`
pub static HEXISTS: CommandSpec = CommandSpec {
    name: "hexists",
    arity: 3,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field",
    summary: "Tells whether there is a field.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        with(keys, arguments, Answer::Integer(0), |hash| {
            Answer::truth(hash.get(argument(arguments, 2)).is_some())
        })
    },
};

/// `HSTRLEN`
pub static HSTRLEN: CommandSpec = CommandSpec {
    name: "hstrlen",
    arity: 3,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field",
    summary: "Gives the length of a field's value.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        with(keys, arguments, Answer::Integer(0), |hash| {
            Answer::count(hash.get(argument(arguments, 2)).map_or(0, |value| value.len()))
        })
    },
};

/// `HDEL`
pub static HDEL: CommandSpec = CommandSpec {
    name: "hdel",
    arity: -3,
    flags: WRITE_FAST.and(Flags::REMOVES_ONLY),
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field [field ...]",
    summary: "Deletes fields.",
    scope: Scope::Keys,
    run: |keys, arguments| either(remove(keys, arguments)),
};

/// `HINCRBY`
pub static HINCRBY: CommandSpec = CommandSpec {
    name: "hincrby",
    arity: 4,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field increment",
    summary: "Adds to the number in a field.",
    scope: Scope::Keys,
    run: |keys, arguments| either(add(keys, arguments)),
};

/// `HINCRBYFLOAT`
pub static HINCRBYFLOAT: CommandSpec = CommandSpec {
    name: "hincrbyfloat",
    arity: 4,
    flags: WRITE_MORE_FAST,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key field increment",
    summary: "Adds to the decimal number in a field.",
    scope: Scope::Keys,
    run: |keys, arguments| either(add_decimal(keys, arguments)),
};

/// `HRANDFIELD`
pub static HRANDFIELD: CommandSpec = CommandSpec {
    name: "hrandfield",
    arity: -2,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key [count [WITHVALUES]]",
    summary: "Gives any fields.",
    scope: Scope::Keys,
    run: |keys, arguments| either(random(keys, arguments)),
};

/// `HSCAN`
pub static HSCAN: CommandSpec = CommandSpec {
    name: "hscan",
    arity: -3,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Hashes,
    syntax: "key cursor [MATCH pattern] [COUNT count]",
    summary: "Walks over the fields, some at a time.",
    scope: Scope::Keys,
    run: |keys, arguments| either(scan(keys, arguments)),
};

impl Keys<'_> {
    /// The hash that the key holds.
    fn hash(&mut self, name: Name<'_>) -> Result<Option<&Hash>, Answer> {
        self.value(name)
    }
}

fn pair(field: &Field) -> (Answer, Answer) {
    (Answer::Bulk(field.name.clone()), Answer::Bulk(field.value.clone()))
}

/// What is told of the hash that the first key holds, or `none` where there is no such key.
fn with(keys: &mut Keys<'_>, arguments: Arguments<'_>, none: Answer, tell: impl FnOnce(&Hash) -> Answer) -> Answer {
    let name = first(keys, arguments);
    match keys.hash(name) {
        Err(error) => error,
        Ok(hash) => hash.map_or(none, tell),
    }
}

fn put(keys: &mut Keys<'_>, name: Name<'_>, field: &[u8], value: &[u8]) {
    keys.change(name, Change::Set(Strings::Slices(&[field, value])));
}

/// How many fields are new.
fn set(keys: &mut Keys<'_>, arguments: Arguments<'_>, command: &str) -> Result<usize, Answer> {
    if arguments.len() % 2 == 1 {
        return Err(Answer::Error(compact_str::format_compact!(
            "ERR wrong number of arguments for '{command}' command"
        )));
    }
    let name = first(keys, arguments);
    let before = keys.hash(name)?.map_or(0, Hash::len);
    keys.change(name, Change::Set(Strings::Arguments(arguments.from(2))));
    let after = keys.hash(name)?.map_or(0, Hash::len);
    Ok(after - before)
}

fn remove(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let name = first(keys, arguments);
    let Some(hash) = keys.hash(name)? else {
        return Ok(Answer::Integer(0));
    };
    let before = hash.len();
    let fields: Vec<_> = arguments
        .from(2)
        .iter()
        .filter(|field| hash.get(field).is_some())
        .collect();
    if fields.is_empty() {
        return Ok(Answer::Integer(0));
    }
    keys.change(name, Change::Delete(Strings::Slices(&fields)));
    let after = keys.hash(name)?.map_or(0, Hash::len);
    Ok(Answer::count(before - after))
}

fn add(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let by = integer(arguments, 3)?;
    let (name, field) = (first(keys, arguments), argument(arguments, 2));
    let before = match keys.hash(name)?.and_then(|hash| hash.get(field)) {
        None => 0,
        Some(text) => parse_i64(text).ok_or_else(|| Answer::error("ERR hash value is not an integer"))?,
    };
    let sum = before.checked_add(by);
    let sum = sum.ok_or_else(|| Answer::error("ERR increment or decrement would overflow"))?;
    put(keys, name, field, IntegerText::default().of(sum));
    Ok(Answer::Integer(sum))
}

fn add_decimal(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let by = Decimal::parse(argument(arguments, 3));
    let by = by.ok_or_else(|| Answer::error("ERR value is not a valid float"))?;
    if !by.is_finite() {
        return Err(Answer::error("ERR value is NaN or Infinity"));
    }
    let (name, field) = (first(keys, arguments), argument(arguments, 2));
    let before = match keys.hash(name)?.and_then(|hash| hash.get(field)) {
        None => Decimal::Exact(0),
        Some(text) => Decimal::parse(text).ok_or_else(|| Answer::error("ERR hash value is not a float"))?,
    };
    let sum = before.plus(by);
    let sum = sum.ok_or_else(|| Answer::error("ERR increment would produce NaN or Infinity"))?;
    let text = sum.text();
    keys.fits(text.len())?;
    put(keys, name, field, text.as_bytes());
    Ok(Answer::bulk(text.as_bytes()))
}

/// Most fields that one call draws with repetition.
const DRAWS_MAX: i64 = 1_048_576;

fn random(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let name = first(keys, arguments);
    if arguments.len() == 2 {
        let draw = keys.roll();
        let hash = keys.hash(name)?;
        return Ok(Answer::or_nil(hash.map(|hash| any_field(hash, draw).name.clone())));
    }
    let count = integer(arguments, 2)?;
    if count == i64::MIN {
        return Err(Answer::error(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_values = match (arguments.len(), arguments.get(3)) {
        (3, _) => false,
        (4, Some(word)) if word.eq_ignore_ascii_case(b"WITHVALUES") => true,
        _ => return Err(Answer::syntax_error()),
    };
    if (with_values && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count)) || count < -DRAWS_MAX {
        return Err(Answer::error("ERR value is out of range"));
    }
    let mut dice = Random::<SplitMix64>::new(keys.roll());
    let Some(hash) = keys.hash(name)? else {
        return Ok(Answer::Array(Vec::new()));
    };
    let fields: Vec<&Field> = if count < 0 {
        (0..-count).map(|_| any_field(hash, dice.bits())).collect()
    } else {
        let mut fields: Vec<_> = hash.iter().collect();
        let count = fields.len().min(count as usize);
        for place in 0..count {
            let other = place + dice.bits() as usize % (fields.len() - place);
            fields.swap(place, other);
        }
        fields.truncate(count);
        fields
    };
    Ok(if with_values {
        Answer::Pairs(fields.into_iter().map(pair).collect())
    } else {
        Answer::Array(
            fields
                .into_iter()
                .map(|field| Answer::Bulk(field.name.clone()))
                .collect(),
        )
    })
}

/// A field of a hash, which has some: about as likely as any other.
fn any_field(hash: &Hash, draw: u64) -> &Field {
    if hash.is_list() {
        let index = draw as usize % hash.len();
        return hash.iter().nth(index).expect("below the number of fields");
    }
    let place = draw >> (64 - PLACE_BITS);
    hash.first_from(place)
        .or_else(|| hash.first_from(0))
        .expect("a hash has a field")
}

fn scan(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    Scan::check_cursor(arguments, 2)?;
    let name = first(keys, arguments);
    let mut elements = Vec::new();
    let Some(hash) = keys.hash(name)? else {
        return Ok(Answer::Array(vec![Answer::bulk(b"0"), Answer::Array(elements)]));
    };
    let scan = Scan::of_elements(arguments)?;
    let cursor = hash.walk(scan.cursor, scan.count, |field| {
        if scan.wants(&field.name) {
            elements.push(Answer::Bulk(field.name.clone()));
            if !scan.no_values {
                elements.push(Answer::Bulk(field.value.clone()));
            }
        }
    });
    let cursor = ValueBytes::of_integer(cursor.unwrap_or(0) as i64);
    Ok(Answer::Array(vec![Answer::Bulk(cursor), Answer::Array(elements)]))
}
