//! Commands on the bits of strings. The first bit is the highest of the first byte.

use cartwright_protocol::command::{Flags, Group, KEYS_FROM_SECOND, ONE_KEY};
use cartwright_protocol::resp::{Arguments, parse_i64};

use super::spec::{CommandSpec, Scope};
use super::{READ, READ_FAST, WRITE_MORE, argument, check_length, clamped, either, first, integer, range};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::name::Name;
use crate::engine::books::entries::types::string::{Change, StringValue};

/// Bits of the longest string of Redis: offsets from there on are no offsets.
pub const BITS_MAX: i64 = 512 << 23;

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[&SETBIT, &GETBIT, &BITCOUNT, &BITPOS, &BITOP];

/// `GETBIT`
pub static GETBIT: CommandSpec = CommandSpec {
    name: "getbit",
    arity: 3,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Bits,
    syntax: "key offset",
    summary: "Gives a bit.",
    scope: Scope::Keys,
    run: |keys, arguments| either(get_bit(keys, arguments)),
};

/// `SETBIT`
pub static SETBIT: CommandSpec = CommandSpec {
    name: "setbit",
    arity: 4,
    flags: WRITE_MORE,
    keys: ONE_KEY,
    group: Group::Bits,
    syntax: "key offset value",
    summary: "Sets a bit, and gives what it was.",
    scope: Scope::Keys,
    run: |keys, arguments| either(set_bit(keys, arguments)),
};

/// `BITCOUNT`
pub static BITCOUNT: CommandSpec = CommandSpec {
    name: "bitcount",
    arity: -2,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Bits,
    syntax: "key [start end [BYTE | BIT]]",
    summary: "Counts the bits that are set.",
    scope: Scope::Keys,
    run: |keys, arguments| either(count(keys, arguments)),
};

/// `BITPOS`
pub static BITPOS: CommandSpec = CommandSpec {
    name: "bitpos",
    arity: -3,
    flags: READ,
    keys: ONE_KEY,
    group: Group::Bits,
    syntax: "key bit [start [end [BYTE | BIT]]]",
    summary: "Finds the first bit that is set, or is not.",
    scope: Scope::Keys,
    run: |keys, arguments| either(position(keys, arguments)),
};

/// `BITOP`
pub static BITOP: CommandSpec = CommandSpec {
    name: "bitop",
    arity: -4,
    flags: WRITE_MORE.and(Flags::CARRIES),
    keys: KEYS_FROM_SECOND,
    group: Group::Bits,
    syntax: "<AND | OR | XOR | NOT> destkey key [key ...]",
    summary: "Combines strings bit by bit into a key.",
    scope: Scope::Keys,
    run: |keys, arguments| either(combine(keys, arguments)),
};

fn offset(keys: &Keys<'_>, arguments: Arguments<'_>) -> Result<u64, Answer> {
    let offset = parse_i64(argument(arguments, 2)).and_then(|offset| u64::try_from(offset).ok());
    let offset = offset.filter(|offset| offset / 8 < keys.string_bytes_max as u64);
    offset.ok_or_else(no_offset)
}

fn no_offset() -> Answer {
    Answer::error("ERR bit offset is not an integer or out of range")
}

fn bit_of(bytes: &[u8], offset: u64) -> bool {
    let byte = bytes.get((offset / 8) as usize).copied().unwrap_or(0);
    byte >> (7 - offset % 8) & 1 == 1
}

fn get_bit(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let offset = offset(keys, arguments)?;
    let name = first(keys, arguments);
    let value = keys.string(name)?;
    Ok(Answer::truth(value.is_some_and(|value| bit_of(&value, offset))))
}

fn set_bit(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let offset = offset(keys, arguments)?;
    let bit = match argument(arguments, 3) {
        b"0" => 0,
        b"1" => 1,
        _ => return Err(Answer::error("ERR bit is not an integer or out of range")),
    };
    let name = first(keys, arguments);
    let value = keys.string(name)?.unwrap_or(ValueBytes::new(&[]));
    let before = bit_of(&value, offset);
    // What is written as it was is no change, for those who watch the key.
    if before == (bit == 1) && is_reached(keys, name, offset / 8) {
        return Ok(Answer::truth(before));
    }
    let byte = value.get((offset / 8) as usize).copied().unwrap_or(0);
    let shift = 7 - offset % 8;
    drop(value);
    keys.change(
        name,
        Change::SetRange(offset / 8, &[byte & !(1 << shift) | bit << shift]),
    );
    Ok(Answer::truth(before))
}

/// Whether the key holds a string that has the byte with this index, and that Redis would change in its place.
pub fn is_reached(keys: &mut Keys<'_>, name: Name<'_>, index: u64) -> bool {
    match keys.value(name) {
        Ok(Some(string @ StringValue::Bytes(bytes))) => string.is_raw() && bytes.len() as u64 > index,
        _ => false,
    }
}

/// Whether `BYTE` or `BIT` is said: whether positions count bits.
fn counts_bits(word: Option<&[u8]>) -> Result<bool, Answer> {
    match word {
        None => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"BYTE") => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"BIT") => Ok(true),
        Some(_) => Err(Answer::syntax_error()),
    }
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words
        .iter()
        .map(|word| u64::from(u64::from_le_bytes(*word).count_ones()));
    words.sum::<u64>() + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The number of ones in a range of bits.
fn ones_in(bytes: &[u8], bits: std::ops::Range<usize>) -> u64 {
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    let all = ones(&bytes[first..=last]);
    let before = bytes[first] as u16 >> (8 - bits.start % 8);
    let behind = if bits.end.is_multiple_of(8) {
        0
    } else {
        bytes[last] << (bits.end % 8)
    };
    all - u64::from(before.count_ones()) - u64::from(behind.count_ones())
}

fn count(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let name = first(keys, arguments);
    let Some(value) = keys.string(name)? else {
        return Ok(Answer::Integer(0));
    };
    let limits = match arguments.len() {
        2 => None,
        4 | 5 => {
            let (start, end) = (integer(arguments, 2)?, integer(arguments, 3)?);
            if start < 0 && end < 0 && start > end {
                return Ok(Answer::Integer(0));
            }
            Some((start, end, counts_bits(arguments.get(4))?))
        }
        _ => return Err(Answer::syntax_error()),
    };
    let bits = match limits {
        None => (!value.is_empty()).then_some(0..value.len() * 8),
        Some((start, end, true)) => range(start, end, value.len() * 8),
        Some((start, end, false)) => range(start, end, value.len()).map(|bytes| bytes.start * 8..bytes.end * 8),
    };
    Ok(Answer::Integer(bits.map_or(0, |bits| ones_in(&value, bits)) as i64))
}

fn position(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let bit = match integer(arguments, 2)? {
        0 => false,
        1 => true,
        _ => return Err(Answer::error("ERR The bit argument must be 1 or 0.")),
    };
    let name = first(keys, arguments);
    let Some(value) = keys.string(name)? else {
        return Ok(Answer::Integer(if bit { -1 } else { 0 }));
    };
    if arguments.len() > 6 {
        return Err(Answer::syntax_error());
    }
    let start = arguments.get(3).map(|_| integer(arguments, 3)).transpose()?;
    let in_bits = counts_bits(arguments.get(5))?;
    let end = arguments.get(4).map(|_| integer(arguments, 4)).transpose()?;
    let unit = if in_bits { 1 } else { 8 };
    let found = clamped(start.unwrap_or(0), end.unwrap_or(-1), value.len() * 8 / unit);
    let Some(found) = found else {
        return Ok(Answer::Integer(-1));
    };
    let bits = found.start * unit..found.end * unit;
    let skip = if bit { 0x00 } else { 0xff };
    let mut at = bits.start;
    while at < bits.end {
        if at.is_multiple_of(8) && value[at / 8] == skip {
            at += 8;
        } else if bit_of(&value, at as u64) == bit {
            return Ok(Answer::count(at));
        } else {
            at += 1;
        }
    }
    // A string without an end given goes on in zeros.
    Ok(if !bit && end.is_none() {
        Answer::count(bits.end)
    } else {
        Answer::Integer(-1)
    })
}

fn combine(keys: &mut Keys<'_>, arguments: Arguments<'_>) -> Result<Answer, Answer> {
    let operation: fn(u8, u8) -> u8 = match argument(arguments, 1).to_ascii_uppercase().as_slice() {
        b"AND" => |one, other| one & other,
        b"OR" => |one, other| one | other,
        b"XOR" => |one, other| one ^ other,
        b"NOT" => |one, _| !one,
        _ => return Err(Answer::syntax_error()),
    };
    let is_not = argument(arguments, 1).eq_ignore_ascii_case(b"NOT");
    if is_not && arguments.len() != 4 {
        return Err(Answer::error("ERR BITOP NOT must be called with a single source key."));
    }
    let mut names = keys.names(arguments);
    let target = names.next().ok_or_else(Answer::syntax_error)?;
    let mut sources = Vec::new();
    for name in names {
        sources.push(keys.string(name)?.unwrap_or(ValueBytes::new(&[])));
    }
    let length = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    if length == 0 {
        keys.delete(target);
        return Ok(Answer::Integer(0));
    }
    check_length(keys, length as u64)?;
    let byte = |source: &ValueBytes, index: usize| source.get(index).copied().unwrap_or(0);
    let combined: Vec<u8> = (0..length)
        .map(|index| {
            let first = byte(&sources[0], index);
            if is_not {
                return operation(first, 0);
            }
            sources[1..]
                .iter()
                .fold(first, |combined, source| operation(combined, byte(source, index)))
        })
        .collect();
    keys.fits(combined.len())?;
    // A string made of parts, as Redis has it: never an integer.
    keys.delete(target);
    keys.change(target, Change::SetRange(0, &combined));
    Ok(Answer::count(length))
}

/// Whether a string may have bits up to `end`.
pub fn check_bits_end(keys: &Keys<'_>, end: u64) -> Result<(), Answer> {
    check_length(keys, end.div_ceil(8)).map_err(|_| no_offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_in_any_range_are_counted() {
        let bytes: Vec<u8> = (0..40u8).map(|byte| byte.wrapping_mul(37)).collect();
        for start in 0..60 {
            for end in start + 1..=320 {
                let counted = (start..end).filter(|&bit| bit_of(&bytes, bit as u64)).count() as u64;
                assert_eq!(ones_in(&bytes, start..end), counted, "{start}..{end}");
            }
        }
    }
}
