//! Commands on keys of any type.

use cartwright_core::glob::Pattern;
use cartwright_protocol::command::{ALL_KEYS, Flags, Group, KeyPositions, ONE_KEY, TWO_KEYS};
use cartwright_protocol::resp::Arguments;

use super::spec::{CommandSpec, Scope};
use super::{READ, READ_FAST, WRITE, WRITE_FAST, WRITE_MORE, argument, either, first, no_such_key};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::scan::Scan;

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[
    &DEL, &UNLINK, &EXISTS, &TOUCH, &TYPE, &RENAME, &RENAMENX, &COPY, &KEYS, &SCAN, &RANDOMKEY, &DBSIZE, &FLUSHDB,
    &FLUSHALL,
];

/// `DEL`
pub static DEL: CommandSpec = CommandSpec {
    name: "del",
    arity: -2,
    flags: WRITE.and(Flags::REMOVES_ONLY),
    keys: ALL_KEYS,
    group: Group::Keys,
    syntax: "key [key ...]",
    summary: "Deletes keys.",
    scope: Scope::Keys,
    run: delete_all,
};

/// `UNLINK`
pub static UNLINK: CommandSpec = CommandSpec {
    name: "unlink",
    arity: -2,
    flags: WRITE_FAST.and(Flags::REMOVES_ONLY),
    keys: ALL_KEYS,
    group: Group::Keys,
    syntax: "key [key ...]",
    summary: "Deletes keys.",
    scope: Scope::Keys,
    run: delete_all,
};

/// `EXISTS`
pub static EXISTS: CommandSpec = CommandSpec {
    name: "exists",
    arity: -2,
    flags: READ_FAST,
    keys: ALL_KEYS,
    group: Group::Keys,
    syntax: "key [key ...]",
    summary: "Counts how many of the keys there are.",
    scope: Scope::Keys,
    run: count_all,
};

/// `TOUCH`
pub static TOUCH: CommandSpec = CommandSpec {
    name: "touch",
    arity: -2,
    flags: READ_FAST,
    keys: ALL_KEYS,
    group: Group::Keys,
    syntax: "key [key ...]",
    summary: "Counts how many of the keys there are.",
    scope: Scope::Keys,
    run: count_all,
};

/// `TYPE`
pub static TYPE: CommandSpec = CommandSpec {
    name: "type",
    arity: 2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Keys,
    syntax: "key",
    summary: "Gives the type of what a key holds.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let name = first(keys, arguments);
        Answer::Simple(keys.find(name).map_or("none", |entry| entry.value.type_name()))
    },
};

/// `RENAME`
pub static RENAME: CommandSpec = CommandSpec {
    name: "rename",
    arity: 3,
    flags: WRITE.and(Flags::CARRIES),
    keys: TWO_KEYS,
    group: Group::Keys,
    syntax: "key newkey",
    summary: "Renames a key, over what the new name held.",
    scope: Scope::Keys,
    run: |keys, arguments| either(rename(keys, arguments, false).map(|_| Answer::Ok)),
};

/// `RENAMENX`
pub static RENAMENX: CommandSpec = CommandSpec {
    name: "renamenx",
    arity: 3,
    flags: WRITE_FAST.and(Flags::CARRIES),
    keys: TWO_KEYS,
    group: Group::Keys,
    syntax: "key newkey",
    summary: "Renames a key, unless the new name holds something.",
    scope: Scope::Keys,
    run: |keys, arguments| either(rename(keys, arguments, true).map(Answer::truth)),
};

/// `COPY`
pub static COPY: CommandSpec = CommandSpec {
    name: "copy",
    arity: -3,
    flags: WRITE_MORE.and(Flags::CARRIES),
    keys: TWO_KEYS,
    group: Group::Keys,
    syntax: "source destination [DB destination-db] [REPLACE]",
    summary: "Copies what a key holds.",
    scope: Scope::Keys,
    run: |keys, arguments| either(copy(keys, arguments)),
};

/// `KEYS`
pub static KEYS: CommandSpec = CommandSpec {
    name: "keys",
    arity: 2,
    flags: READ,
    keys: KeyPositions::None,
    group: Group::Keys,
    syntax: "pattern",
    summary: "Lists the keys that match a pattern.",
    scope: Scope::Names,
    run: |keys, arguments| {
        let pattern = Pattern::new(argument(arguments, 1));
        let names = keys.matching(|name| pattern.matches_key(name));
        Answer::Array(names.into_iter().map(Answer::Bulk).collect())
    },
};

/// `SCAN`
pub static SCAN: CommandSpec = CommandSpec {
    name: "scan",
    arity: -2,
    flags: READ,
    keys: KeyPositions::None,
    group: Group::Keys,
    syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
    summary: "Walks over the keys, some at a time.",
    scope: Scope::Cursor,
    run: |keys, arguments| either(scan(keys, arguments)),
};

/// `RANDOMKEY`
pub static RANDOMKEY: CommandSpec = CommandSpec {
    name: "randomkey",
    arity: 1,
    flags: READ,
    keys: KeyPositions::None,
    group: Group::Keys,
    syntax: "",
    summary: "Gives any key.",
    scope: Scope::Any,
    run: |keys, _| Answer::or_nil(keys.any()),
};

/// `DBSIZE`
pub static DBSIZE: CommandSpec = CommandSpec {
    name: "dbsize",
    arity: 1,
    flags: READ_FAST,
    keys: KeyPositions::None,
    group: Group::Server,
    syntax: "",
    summary: "Counts the keys.",
    scope: Scope::Count,
    run: |keys, _| Answer::Integer(keys.count() as i64),
};

/// `FLUSHDB`
pub static FLUSHDB: CommandSpec = CommandSpec {
    name: "flushdb",
    arity: -1,
    flags: WRITE.and(Flags::REMOVES_ONLY),
    keys: KeyPositions::None,
    group: Group::Server,
    syntax: "[ASYNC | SYNC]",
    summary: "Deletes all keys; the shop stays.",
    scope: Scope::All,
    run: flush,
};

/// `FLUSHALL`
pub static FLUSHALL: CommandSpec = CommandSpec {
    name: "flushall",
    arity: -1,
    flags: WRITE.and(Flags::REMOVES_ONLY),
    keys: KeyPositions::None,
    group: Group::Server,
    syntax: "[ASYNC | SYNC]",
    summary: "Deletes all keys; the shop stays.",
    scope: Scope::All,
    run: flush,
};

fn delete_all(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Answer {
    let names = keys.names(arguments);
    Answer::count(names.filter(|&name| keys.delete(name)).count())
}

fn count_all(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Answer {
    let names = keys.names(arguments);
    Answer::count(names.filter(|&name| keys.find(name).is_some()).count())
}

fn rename(keys: &mut Keys<'_>, arguments: Arguments<'_>, only_new: bool) -> Result<bool, Answer> {
    let (from, to) = (keys.name(arguments, 1), keys.name(arguments, 2));
    let entry = keys.copy_of(from).ok_or_else(no_such_key)?;
    if from.bytes == to.bytes {
        return Ok(!only_new);
    }
    if only_new && keys.find(to).is_some() {
        return Ok(false);
    }
    keys.put(to, &entry.value, entry.expires_at, 0)?;
    keys.delete(from);
    Ok(true)
}

fn copy(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let (from, to) = (keys.name(arguments, 1), keys.name(arguments, 2));
    let (mut replaces, mut index) = (false, 3);
    while let Some(word) = arguments.get(index) {
        match arguments.get(index + 1) {
            _ if word.eq_ignore_ascii_case(b"REPLACE") => replaces = true,
            Some(_) if word.eq_ignore_ascii_case(b"DB") => {
                let database = super::integer(arguments, index + 1)?;
                if i32::try_from(database).is_err() {
                    return Err(Answer::error(
                        "ERR value is out of range, value must between -2147483648 and 2147483647",
                    ));
                }
                if database != 0 {
                    return Err(Answer::error("ERR DB index is out of range"));
                }
                index += 1;
            }
            _ => return Err(Answer::syntax_error()),
        }
        index += 1;
    }
    if from.bytes == to.bytes {
        return Err(Answer::error("ERR source and destination objects are the same"));
    }
    let Some(entry) = keys.copy_of(from) else {
        return Ok(Answer::Integer(0));
    };
    if !replaces && keys.find(to).is_some() {
        return Ok(Answer::Integer(0));
    }
    keys.put(to, &entry.value, entry.expires_at, 0)?;
    Ok(Answer::Integer(1))
}

fn scan(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let scan = Scan::of_keys(arguments)?;
    let (cursor, names) = keys
        .scan(&scan)
        .map_or((0, Vec::new()), |scanned| (scanned.cursor, scanned.names));
    Ok(Answer::Array(vec![
        Answer::bulk(cursor.to_string().as_bytes()),
        Answer::Array(names.into_iter().map(Answer::Bulk).collect()),
    ]))
}

fn flush(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Answer {
    let is_mode = |word: &[u8]| word.eq_ignore_ascii_case(b"SYNC") || word.eq_ignore_ascii_case(b"ASYNC");
    if arguments.len() > 2 || arguments.get(1).is_some_and(|word| !is_mode(word)) {
        return Answer::syntax_error();
    }
    keys.flush();
    Answer::Ok
}
