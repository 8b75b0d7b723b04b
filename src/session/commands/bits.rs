//! The rows of the commands about bits of strings.

use super::{Command, Flags, Group, KEYS_FROM_SECOND, KeyPositions, ONE_KEY, READ, READ_FAST, WRITE_MORE, keyed};
use crate::engine::KeyCommand;
use crate::engine::keyspace::commands::{bitfield, bits};

const GROUP: Group = Group::Bits;

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: KeyPositions,
    syntax: &'static str,
    summary: &'static str,
    command: &'static KeyCommand,
) -> Command {
    keyed(name, arity, flags, keys, GROUP, syntax, summary, command)
}

pub(super) static COMMANDS: &[Command] = &[
    row(
        "setbit",
        4,
        WRITE_MORE,
        ONE_KEY,
        "key offset value",
        "Sets a bit, and gives what it was.",
        &bits::SETBIT,
    ),
    row(
        "getbit",
        3,
        READ_FAST,
        ONE_KEY,
        "key offset",
        "Gives a bit.",
        &bits::GETBIT,
    ),
    row(
        "bitcount",
        -2,
        READ,
        ONE_KEY,
        "key [start end [BYTE | BIT]]",
        "Counts the bits that are set.",
        &bits::BITCOUNT,
    ),
    row(
        "bitpos",
        -3,
        READ,
        ONE_KEY,
        "key bit [start [end [BYTE | BIT]]]",
        "Finds the first bit that is set, or is not.",
        &bits::BITPOS,
    ),
    row(
        "bitop",
        -4,
        WRITE_MORE,
        KEYS_FROM_SECOND,
        "<AND | OR | XOR | NOT> destkey key [key ...]",
        "Combines strings bit by bit into a key.",
        &bits::BITOP,
    ),
    row(
        "bitfield",
        -2,
        WRITE_MORE,
        ONE_KEY,
        "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]",
        "Reads and writes integers of any width within a string.",
        &bitfield::BITFIELD,
    ),
    row(
        "bitfield_ro",
        -2,
        READ_FAST,
        ONE_KEY,
        "key [GET encoding offset [GET encoding offset ...]]",
        "Reads integers of any width within a string.",
        &bitfield::BITFIELD_RO,
    ),
];
