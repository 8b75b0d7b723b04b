//! What a command of the keyspace answers, by RESP type.
//!
//! Made by commands, rendered by the session in the version of RESP that the connection speaks. Long values are shared
//! and not copied until they are written out.

use compact_str::CompactString;

use super::bytes::ValueBytes;
use crate::engine::kernel::ids::LogPosition;

/// A reply, without any version of RESP. `RESP2` says how it looks there where that is not the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// `+OK`.
    Ok,
    /// A simple string.
    Simple(&'static str),
    /// An error, its code first: `ERR syntax error`.
    Error(CompactString),
    /// An integer.
    Integer(i64),
    /// A bulk string.
    Bulk(ValueBytes),
    /// No value; RESP2: a null bulk string.
    Nil,
    /// No list; RESP2: a null array.
    NilArray,
    /// A list.
    Array(Vec<Answer>),
    /// Fields with values; RESP2: a flat array.
    Map(Vec<(Answer, Answer)>),
    /// A list of pairs, each an array of two; RESP2: a flat array.
    Pairs(Vec<(Answer, Answer)>),
    /// Elements in no order; RESP2: an array.
    Set(Vec<Answer>),
    /// A number; RESP2: a bulk string.
    Double(f64),
    /// What `WATCH` asked for: the version of each key. For the session, which keeps them.
    Versions(Box<[LogPosition]>),
}

impl Answer {
    /// An error; `text` begins with its code.
    pub fn error(text: &str) -> Self {
        Self::Error(CompactString::from(text))
    }

    /// A bulk string with a copy of `bytes`.
    pub fn bulk(bytes: &[u8]) -> Self {
        Self::Bulk(ValueBytes::new(bytes))
    }

    /// `1` or `0`.
    pub const fn truth(truth: bool) -> Self {
        Self::Integer(truth as i64)
    }

    /// A count of things in memory.
    pub const fn count(count: usize) -> Self {
        Self::Integer(count as i64)
    }

    /// The value, or nil.
    pub fn or_nil(value: Option<ValueBytes>) -> Self {
        value.map_or(Self::Nil, Self::Bulk)
    }

    /// `WRONGTYPE`.
    pub fn wrong_type() -> Self {
        Self::error("WRONGTYPE Operation against a key holding the wrong kind of value")
    }

    /// `ERR syntax error`.
    pub fn syntax_error() -> Self {
        Self::error("ERR syntax error")
    }

    /// `ERR value is not an integer or out of range`.
    pub fn not_an_integer() -> Self {
        Self::error("ERR value is not an integer or out of range")
    }

    /// Whether this is an error.
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// About how many bytes it takes on the wire.
    pub fn bytes(&self) -> usize {
        const HEADER: usize = 16;
        let pairs = |pairs: &[(Self, Self)]| pairs.iter().map(|(a, b)| a.bytes() + b.bytes()).sum::<usize>();
        HEADER
            + match self {
                Self::Bulk(bytes) => bytes.len() + HEADER,
                Self::Error(text) => text.len(),
                Self::Simple(text) => text.len(),
                Self::Array(answers) | Self::Set(answers) => answers.iter().map(Self::bytes).sum(),
                Self::Map(map) => pairs(map),
                Self::Pairs(list) => pairs(list) + list.len() * HEADER,
                Self::Versions(versions) => versions.len() * HEADER,
                Self::Ok | Self::Integer(_) | Self::Nil | Self::NilArray | Self::Double(_) => HEADER,
            }
    }
}
