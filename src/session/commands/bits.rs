//! The rows of the commands about bits of strings.

use super::{Command, KEYS_FROM_SECOND, ONE_KEY, READ, READ_FAST, WRITE_MORE, keyed};
use crate::engine::entries::commands::{bitfield, bits};

pub(super) const COMMANDS: &[Command] = &[
    keyed(
        "setbit",
        4,
        WRITE_MORE,
        ONE_KEY,
        "key offset value",
        "Sets a bit, and gives what it was.",
        &bits::SETBIT,
    ),
    keyed(
        "getbit",
        3,
        READ_FAST,
        ONE_KEY,
        "key offset",
        "Gives a bit.",
        &bits::GETBIT,
    ),
    keyed(
        "bitcount",
        -2,
        READ,
        ONE_KEY,
        "key [start end [BYTE | BIT]]",
        "Counts the bits that are set.",
        &bits::BITCOUNT,
    ),
    keyed(
        "bitpos",
        -3,
        READ,
        ONE_KEY,
        "key bit [start [end [BYTE | BIT]]]",
        "Finds the first bit that is set, or is not.",
        &bits::BITPOS,
    ),
    keyed(
        "bitop",
        -4,
        WRITE_MORE,
        KEYS_FROM_SECOND,
        "<AND | OR | XOR | NOT> destkey key [key ...]",
        "Combines strings bit by bit into a key.",
        &bits::BITOP,
    ),
    keyed(
        "bitfield",
        -2,
        WRITE_MORE,
        ONE_KEY,
        "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]",
        "Reads and writes integers of any width within a string.",
        &bitfield::BITFIELD,
    ),
    keyed(
        "bitfield_ro",
        -2,
        READ_FAST,
        ONE_KEY,
        "key [GET encoding offset [GET encoding offset ...]]",
        "Reads integers of any width within a string.",
        &bitfield::BITFIELD_RO,
    ),
];
