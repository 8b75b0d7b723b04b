//! `LCS`: the longest common subsequence of two strings.

use cartwright_protocol::command::{Group, TWO_KEYS};
use cartwright_protocol::resp::Arguments;

use super::spec::{CommandSpec, Scope};
use super::{READ, either, integer};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::keys::Keys;

/// Cells of the table that one call may fill: what bounds its memory, and the pause of its shard.
const CELLS_MAX: usize = 16 << 20;

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[&LCS];

/// `LCS`
pub static LCS: CommandSpec = CommandSpec {
    name: "lcs",
    arity: -3,
    flags: READ,
    keys: TWO_KEYS,
    group: Group::Strings,
    syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
    summary: "Finds the longest common subsequence of two strings.",
    scope: Scope::Keys,
    run: |keys, arguments| either(lcs(keys, arguments)),
};

#[derive(Default)]
struct Options {
    length: bool,
    indices: bool,
    lengths_of_matches: bool,
    match_min: i64,
}

impl Options {
    fn parse(arguments: Arguments<'_>) -> Result<Self, Answer> {
        let mut options = Self::default();
        let mut index = 3;
        while let Some(word) = arguments.get(index) {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("IDX") {
                options.indices = true;
            } else if is("LEN") {
                options.length = true;
            } else if is("WITHMATCHLEN") {
                options.lengths_of_matches = true;
            } else if is("MINMATCHLEN") && index + 1 < arguments.len() {
                options.match_min = integer(arguments, index + 1)?.max(0);
                index += 1;
            } else {
                return Err(Answer::syntax_error());
            }
            index += 1;
        }
        if options.length && options.indices {
            return Err(Answer::error(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

/// A run that both strings have: its last places, and its length.
type Match = (usize, usize, usize);

fn lcs(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let names = (keys.name(arguments, 1), keys.name(arguments, 2));
    let not_strings = |_| Answer::error("ERR The specified keys must contain string values");
    let none = || ValueBytes::new(&[]);
    let one = keys.string(names.0).map_err(not_strings)?.unwrap_or_else(none);
    let other = keys.string(names.1).map_err(not_strings)?.unwrap_or_else(none);
    let options = Options::parse(arguments)?;
    if (one.len() + 1).saturating_mul(other.len() + 1) > CELLS_MAX {
        return Err(Answer::error(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let (common, matches) = longest(&one, &other);
    if options.length {
        return Ok(Answer::count(common.len()));
    }
    if !options.indices {
        return Ok(Answer::bulk(&common));
    }
    let place = |last: usize, length: usize| Answer::Array(vec![Answer::count(last + 1 - length), Answer::count(last)]);
    let matches = matches
        .into_iter()
        .filter(|&(.., length)| length as i64 >= options.match_min);
    let matches = matches.map(|(one, other, length)| {
        let mut answer = vec![place(one, length), place(other, length)];
        if options.lengths_of_matches {
            answer.push(Answer::count(length));
        }
        Answer::Array(answer)
    });
    Ok(Answer::Map(vec![
        (Answer::bulk(b"matches"), Answer::Array(matches.collect())),
        (Answer::bulk(b"len"), Answer::count(common.len())),
    ]))
}

/// The subsequence, and the runs it is made of, the last one first.
fn longest(one: &[u8], other: &[u8]) -> (Vec<u8>, Vec<Match>) {
    let width = other.len() + 1;
    let mut table = vec![0u32; (one.len() + 1) * width];
    for (row, byte) in one.iter().enumerate() {
        for (column, same) in other.iter().enumerate() {
            let at = (row + 1) * width + column + 1;
            table[at] = if byte == same {
                table[at - width - 1] + 1
            } else {
                table[at - width].max(table[at - 1])
            };
        }
    }
    let (mut row, mut column) = (one.len(), other.len());
    let (mut common, mut matches): (Vec<u8>, Vec<Match>) = (Vec::new(), Vec::new());
    while row > 0 && column > 0 {
        if one[row - 1] == other[column - 1] {
            common.push(one[row - 1]);
            match matches.last_mut() {
                Some((last_row, last_column, length))
                    if *last_row + 1 - *length == row && *last_column + 1 - *length == column =>
                {
                    *length += 1;
                }
                _ => matches.push((row - 1, column - 1, 1)),
            }
            (row, column) = (row - 1, column - 1);
        } else if table[(row - 1) * width + column] > table[row * width + column - 1] {
            row -= 1;
        } else {
            column -= 1;
        }
    }
    common.reverse();
    (common, matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_manual_comes_out() {
        let (common, matches) = longest(b"ohmytext", b"mynewtext");
        assert_eq!(common, b"mytext");
        assert_eq!(matches, [(7, 8, 4), (3, 1, 2)]);
    }
}
