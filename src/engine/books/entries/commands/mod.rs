//! The commands of the keyspace, group by group. A command is one row, a [`spec::CommandSpec`], with its function; the
//! command table of the sessions takes the rows over.
//!
//! A command is a plain function of its keys and arguments. It answers as Redis 7.2 does, error texts included.

pub mod bitfield;
pub mod bits;
mod decimal;
pub mod expiry;
pub mod hashes;
pub mod keys;
pub mod lcs;
pub mod objects;
pub mod spec;
pub mod strings;

use cartwright_protocol::command::{ALL_KEYS, Flags, Group};
use cartwright_protocol::resp::{Arguments, parse_i64};

use spec::{CommandSpec, Scope};

use super::answer::Answer;
use super::keys::Keys;
use super::name::Name;

/// The flags of commands on keys: what they do, whether memory may grow by it, and whether they are quick.
const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = WRITE.and(Flags::FAST);
const WRITE_MORE: Flags = WRITE.and(Flags::DENYOOM);
const WRITE_MORE_FAST: Flags = WRITE_MORE.and(Flags::FAST);

/// All commands, file by file; subcommands are with their container in the sessions' table.
pub const LISTS: &[&[&CommandSpec]] = &[
    keys::COMMANDS,
    expiry::COMMANDS,
    objects::COMMANDS,
    strings::COMMANDS,
    lcs::COMMANDS,
    bits::COMMANDS,
    bitfield::COMMANDS,
    hashes::COMMANDS,
];

/// An argument that the table says is there.
fn argument(arguments: Arguments<'_>, index: usize) -> &[u8] {
    arguments.get(index).unwrap_or_default()
}

fn integer(arguments: Arguments<'_>, index: usize) -> Result<i64, Answer> {
    parse_i64(argument(arguments, index)).ok_or_else(Answer::not_an_integer)
}

/// Makes an answer of either side.
fn either(result: Result<Answer, Answer>) -> Answer {
    result.unwrap_or_else(|error| error)
}

fn no_such_key() -> Answer {
    Answer::error("ERR no such key")
}

fn too_long() -> Answer {
    Answer::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
}

fn check_length(keys: &Keys<'_>, bytes: u64) -> Result<(), Answer> {
    if bytes > keys.string_bytes_max as u64 {
        return Err(too_long());
    }
    Ok(())
}

/// The first key of nearly every command.
fn first<'a>(keys: &Keys<'_>, arguments: Arguments<'a>) -> Name<'a> {
    keys.name(arguments, 1)
}

/// The part of `length` elements that Redis's `start` and `end` mean, each counted from the end where negative; `None`
/// where it is empty.
fn range(start: i64, end: i64, length: usize) -> Option<std::ops::Range<usize>> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    clamped(start, end, length)
}

/// The same, but that what lies before the first element is the first, as `BITPOS` has it: −3 to −5 of two is not empty.
fn clamped(start: i64, end: i64, length: usize) -> Option<std::ops::Range<usize>> {
    let length = length as i64;
    let from_end = |index: i64| if index < 0 { (length + index).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end || length == 0 {
        return None;
    }
    Some(start as usize..end as usize + 1)
}

/// `WATCH`: what to compare for each key. A session asks it, and keeps the answer.
pub static WATCH: CommandSpec = CommandSpec {
    name: "watch",
    arity: -2,
    flags: READ_FAST,
    keys: ALL_KEYS,
    group: Group::Transactions,
    syntax: "key [key ...]",
    summary: "Has the next EXEC run nothing if one of the keys changes before.",
    scope: Scope::Keys,
    run: |keys, arguments| {
        let names = keys.names(arguments).collect::<Vec<_>>();
        Answer::Versions(names.into_iter().map(|name| keys.version(name)).collect())
    },
};

#[cfg(test)]
mod tests {
    use super::{clamped, range};

    #[test]
    fn ranges_are_those_of_redis() {
        assert_eq!(range(0, -1, 5), Some(0..5));
        assert_eq!(range(-3, -1, 5), Some(2..5));
        assert_eq!(range(-100, 100, 5), Some(0..5));
        assert_eq!(range(3, 2, 5), None);
        assert_eq!(range(-1, -3, 5), None);
        assert_eq!(range(5, 9, 5), None);
        assert_eq!(range(0, 0, 0), None);
        assert_eq!(range(0, -100, 5), Some(0..1));
        assert_eq!(range(-7, -9, 5), None);
        assert_eq!(clamped(-7, -9, 5), Some(0..1));
        assert_eq!(clamped(-1, -3, 5), None);
    }
}
