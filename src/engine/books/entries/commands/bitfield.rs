//! `BITFIELD`: integers of any width at any bit of a string.

use cartwright_protocol::command::{Group, ONE_KEY};
use cartwright_protocol::resp::{Arguments, parse_i64};

use super::bits::{BITS_MAX, check_bits_end, is_reached};
use super::spec::{CommandSpec, Scope};
use super::{READ_FAST, WRITE_MORE, argument, either, first};
use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::keys::Keys;
use crate::engine::books::entries::types::string::Change;

/// Its commands.
pub const COMMANDS: &[&CommandSpec] = &[&BITFIELD, &BITFIELD_RO];

/// `BITFIELD`
pub static BITFIELD: CommandSpec = CommandSpec {
    name: "bitfield",
    arity: -2,
    flags: WRITE_MORE,
    keys: ONE_KEY,
    group: Group::Bits,
    syntax: "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]",
    summary: "Reads and writes integers of any width within a string.",
    scope: Scope::Keys,
    run: |keys, arguments| either(bitfield(keys, arguments, false)),
};

/// `BITFIELD_RO`
pub static BITFIELD_RO: CommandSpec = CommandSpec {
    name: "bitfield_ro",
    arity: -2,
    flags: READ_FAST,
    keys: ONE_KEY,
    group: Group::Bits,
    syntax: "key [GET encoding offset [GET encoding offset ...]]",
    summary: "Reads integers of any width within a string.",
    scope: Scope::Keys,
    run: |keys, arguments| either(bitfield(keys, arguments, true)),
};

/// A kind of integer.
#[derive(Clone, Copy, Debug)]
struct Kind {
    is_signed: bool,
    bits: u32,
}

impl Kind {
    fn parse(text: &[u8]) -> Result<Self, Answer> {
        let invalid = || {
            Answer::error(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            )
        };
        let (sign, digits) = text.split_first().ok_or_else(invalid)?;
        let is_signed = match sign {
            b'i' => true,
            b'u' => false,
            _ => return Err(invalid()),
        };
        let most = if is_signed { 64 } else { 63 };
        let bits = parse_i64(digits)
            .filter(|bits| (1..=most).contains(bits))
            .ok_or_else(invalid)?;
        Ok(Self {
            is_signed,
            bits: bits as u32,
        })
    }

    fn range(self) -> std::ops::RangeInclusive<i128> {
        if self.is_signed {
            -(1 << (self.bits - 1))..=(1 << (self.bits - 1)) - 1
        } else {
            0..=(1 << self.bits) - 1
        }
    }

    fn wrap(self, value: i128) -> i64 {
        let value = value & ((1 << self.bits) - 1);
        let is_negative = self.is_signed && value >> (self.bits - 1) & 1 == 1;
        (if is_negative { value - (1 << self.bits) } else { value }) as i64
    }

    fn offset(self, text: &[u8]) -> Result<u64, Answer> {
        let (text, times) = match text.split_first() {
            Some((b'#', rest)) => (rest, i64::from(self.bits)),
            _ => (text, 1),
        };
        let offset = parse_i64(text).and_then(|offset| offset.checked_mul(times));
        let offset = offset.filter(|offset| (0..=BITS_MAX - i64::from(self.bits)).contains(offset));
        let offset = offset.ok_or_else(|| Answer::error("ERR bit offset is not an integer or out of range"))?;
        Ok(offset as u64)
    }
}

#[derive(Clone, Copy, Debug)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    kind: Kind,
    offset: u64,
    action: Action,
    overflow: Overflow,
}

fn parse(arguments: Arguments<'_>) -> Result<Vec<Operation>, Answer> {
    let mut overflow = Overflow::Wrap;
    let mut operations = Vec::new();
    let mut index = 2;
    while let Some(word) = arguments.get(index) {
        let left = arguments.len() - index - 1;
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("OVERFLOW") && left >= 1 {
            overflow = match argument(arguments, index + 1).to_ascii_uppercase().as_slice() {
                b"WRAP" => Overflow::Wrap,
                b"SAT" => Overflow::Saturate,
                b"FAIL" => Overflow::Fail,
                _ => return Err(Answer::error("ERR Invalid OVERFLOW type specified")),
            };
            index += 2;
            continue;
        }
        let (takes_value, is_set) = match () {
            () if is("GET") && left >= 2 => (false, false),
            () if is("SET") && left >= 3 => (true, true),
            () if is("INCRBY") && left >= 3 => (true, false),
            () => return Err(Answer::syntax_error()),
        };
        let kind = Kind::parse(argument(arguments, index + 1))?;
        let offset = kind.offset(argument(arguments, index + 2))?;
        let action = if takes_value {
            let value = parse_i64(argument(arguments, index + 3)).ok_or_else(Answer::not_an_integer)?;
            if is_set { Action::Set(value) } else { Action::Add(value) }
        } else {
            Action::Get
        };
        operations.push(Operation {
            kind,
            offset,
            action,
            overflow,
        });
        index += if takes_value { 4 } else { 3 };
    }
    Ok(operations)
}

fn read(bytes: &[u8], kind: Kind, offset: u64) -> i64 {
    let mut value: i128 = 0;
    for bit in offset..offset + u64::from(kind.bits) {
        let byte = bytes.get((bit / 8) as usize).copied().unwrap_or(0);
        value = value << 1 | i128::from(byte >> (7 - bit % 8) & 1);
    }
    kind.wrap(value)
}

/// The bytes that hold the integer, with it in them, and where they stand.
fn written(bytes: &[u8], kind: Kind, offset: u64, value: i64) -> (u64, Vec<u8>) {
    let (start, end) = (offset / 8, (offset + u64::from(kind.bits)).div_ceil(8));
    let mut part: Vec<u8> = (start..end)
        .map(|index| bytes.get(index as usize).copied().unwrap_or(0))
        .collect();
    for place in 0..u64::from(kind.bits) {
        let bit = offset + place - start * 8;
        let shift = 7 - bit % 8;
        let one = (value >> (u64::from(kind.bits) - 1 - place) & 1) as u8;
        let byte = &mut part[(bit / 8) as usize];
        *byte = *byte & !(1 << shift) | one << shift;
    }
    (start, part)
}

/// What becomes of `value`; `None`: nothing is done.
fn settled(kind: Kind, value: i128, overflow: Overflow) -> Option<i64> {
    let range = kind.range();
    if range.contains(&value) {
        return Some(value as i64);
    }
    match overflow {
        Overflow::Wrap => Some(kind.wrap(value)),
        Overflow::Saturate => Some(value.clamp(*range.start(), *range.end()) as i64),
        Overflow::Fail => None,
    }
}

fn bitfield(keys: &mut Keys<'_>, arguments: Arguments<'_>, only_reads: bool) -> Result<Answer, Answer> {
    let operations = parse(arguments)?;
    let name = first(keys, arguments);
    let writes = operations
        .iter()
        .filter(|operation| !matches!(operation.action, Action::Get));
    let ends = writes.map(|operation| operation.offset + u64::from(operation.kind.bits));
    if let Some(end) = ends.clone().max() {
        if only_reads {
            return Err(Answer::error("ERR BITFIELD_RO only supports the GET subcommand"));
        }
        // The whole of it fits, or nothing is done.
        check_bits_end(keys, end)?;
        keys.fits((ends.count() + 1) * (name.bytes.len() + 64))?;
        // It becomes as long as its writes reach, be they refused by OVERFLOW FAIL.
        let last = end.div_ceil(8) - 1;
        if !is_reached(keys, name, last) {
            let byte = keys.string(name)?.and_then(|string| string.get(last as usize).copied());
            keys.change(name, Change::SetRange(last, &[byte.unwrap_or(0)]));
        }
    } else {
        keys.string(name)?;
    }
    let mut answers = Vec::with_capacity(operations.len());
    for Operation {
        kind,
        offset,
        action,
        overflow,
    } in operations
    {
        let bytes = keys.string(name)?.unwrap_or(ValueBytes::new(&[]));
        let before = read(&bytes, kind, offset);
        let after = match action {
            Action::Get => {
                answers.push(Answer::Integer(before));
                continue;
            }
            // A negative number for an unsigned one is a large one, as for Redis.
            Action::Set(value) if !kind.is_signed => settled(kind, i128::from(value as u64), overflow),
            Action::Set(value) => settled(kind, i128::from(value), overflow),
            Action::Add(value) => settled(kind, i128::from(before) + i128::from(value), overflow),
        };
        let Some(after) = after else {
            answers.push(Answer::Nil);
            continue;
        };
        let is_set = matches!(action, Action::Set(_));
        answers.push(Answer::Integer(if is_set { before } else { after }));
        // What is written as it was is no change, for those who watch the key.
        if after == before {
            continue;
        }
        let (start, part) = written(&bytes, kind, offset, after);
        // Held, the string would be copied before it is changed.
        drop(bytes);
        keys.change(name, Change::SetRange(start, &part));
    }
    Ok(Answer::Array(answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_width_read_back() {
        for is_signed in [true, false] {
            for bits in 1..=(if is_signed { 64 } else { 63 }) {
                let kind = Kind { is_signed, bits };
                for value in [0, *kind.range().start(), *kind.range().end(), *kind.range().end() / 3] {
                    for offset in [0, 3, 8, 61] {
                        let value = value as i64;
                        let around = [0xa5; 20];
                        let (start, part) = written(&around, kind, offset, value);
                        let mut bytes = around;
                        bytes[start as usize..start as usize + part.len()].copy_from_slice(&part);
                        assert_eq!(read(&bytes, kind, offset), value, "{kind:?} at {offset}");
                        let flipped: u32 = bytes.iter().zip(&around).map(|(a, b)| (a ^ b).count_ones()).sum();
                        assert!(flipped <= bits, "what stands around it stays");
                    }
                }
            }
        }
    }
}
