//! Commands on keys of any type.

use cartwright_core::glob::Pattern;
use cartwright_protocol::resp::Arguments;

use super::{argument, carries, either, first, no_such_key, reads, writes};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::request::{KeyCommand, Scope};
use crate::engine::books::entries::scan::Scan;

/// `DEL`
pub static DEL: KeyCommand = writes("del", delete_all);

/// `UNLINK`
pub static UNLINK: KeyCommand = writes("unlink", delete_all);

/// `EXISTS`
pub static EXISTS: KeyCommand = reads("exists", count_all);

/// `TOUCH`
pub static TOUCH: KeyCommand = reads("touch", count_all);

/// `TYPE`
pub static TYPE: KeyCommand = reads("type", |keys, arguments| {
    let name = first(keys, arguments);
    Answer::Simple(keys.find(name).map_or("none", |entry| entry.value.type_name()))
});

/// `RENAME`
pub static RENAME: KeyCommand = carries("rename", |keys, arguments| {
    either(rename(keys, arguments, false).map(|_| Answer::Ok))
});

/// `RENAMENX`
pub static RENAMENX: KeyCommand = carries("renamenx", |keys, arguments| {
    either(rename(keys, arguments, true).map(Answer::truth))
});

/// `COPY`
pub static COPY: KeyCommand = carries("copy", |keys, arguments| either(copy(keys, arguments)));

/// `KEYS`
pub static KEYS: KeyCommand = KeyCommand {
    scope: Scope::Names,
    ..reads("keys", |keys, arguments| {
        let pattern = Pattern::new(argument(arguments, 1));
        let names = keys.matching(|name| pattern.matches_key(name));
        Answer::Array(names.into_iter().map(Answer::Bulk).collect())
    })
};

/// `SCAN`
pub static SCAN: KeyCommand = KeyCommand {
    scope: Scope::Cursor,
    ..reads("scan", |keys, arguments| either(scan(keys, arguments)))
};

/// `RANDOMKEY`
pub static RANDOMKEY: KeyCommand = KeyCommand {
    scope: Scope::Any,
    ..reads("randomkey", |keys, _| Answer::or_nil(keys.any()))
};

/// `DBSIZE`
pub static DBSIZE: KeyCommand = KeyCommand {
    scope: Scope::Count,
    ..reads("dbsize", |keys, _| Answer::Integer(keys.count() as i64))
};

/// `FLUSHDB`
pub static FLUSHDB: KeyCommand = KeyCommand {
    scope: Scope::All,
    ..writes("flushdb", flush)
};

/// `FLUSHALL`
pub static FLUSHALL: KeyCommand = KeyCommand {
    scope: Scope::All,
    ..writes("flushall", flush)
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
