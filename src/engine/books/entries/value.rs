//! What a key holds: a value of one type, when it expires, and when it last changed.

use std::sync::Arc;

use cartwright_protocol::resp::parse_i64;

use super::bytes::ValueBytes;
use super::hash::Hash;
use super::table::{Keyed, PagedTable};
use crate::engine::kernel::ids::{LogPosition, Timestamp};

/// Longest text that can be an integer.
const INTEGER_TEXT_MAX: usize = 20;

/// Longest string that Redis keeps beside its header.
const EMBEDDED_BYTES_MAX: usize = 44;

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string that is an integer in its shortest form.
    Integer(i64),
    /// Any other string.
    String(ValueBytes),
    /// Fields with values; never empty.
    Hash(Arc<Hash>),
}

impl Value {
    /// The string `bytes`.
    #[inline]
    pub fn string(bytes: &[u8]) -> Self {
        if bytes.len() <= INTEGER_TEXT_MAX
            && let Some(integer) = parse_i64(bytes)
        {
            return Self::Integer(integer);
        }
        Self::String(ValueBytes::new(bytes))
    }

    /// Redis's word for its type.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Integer(_) | Self::String(_) => "string",
            Self::Hash(_) => "hash",
        }
    }

    /// What Redis 7.2 would answer to `OBJECT ENCODING`.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Integer(_) => "int",
            Self::String(bytes) if bytes.is_growing() || bytes.len() > EMBEDDED_BYTES_MAX => "raw",
            Self::String(_) => "embstr",
            Self::Hash(hash) if hash.is_list() => "listpack",
            Self::Hash(_) => "hashtable",
        }
    }

    /// A string's bytes; `None` for another type.
    #[inline]
    pub fn as_string(&self) -> Option<ValueBytes> {
        match self {
            Self::Integer(integer) => Some(ValueBytes::of_integer(*integer)),
            Self::String(bytes) => Some(bytes.clone()),
            Self::Hash(_) => None,
        }
    }

    /// The bytes of a string that is no integer.
    pub const fn string_bytes(&self) -> Option<&ValueBytes> {
        match self {
            Self::String(bytes) => Some(bytes),
            Self::Integer(_) | Self::Hash(_) => None,
        }
    }

    /// A string's bytes to be changed; `None` for another type.
    pub fn string_mut(&mut self) -> Option<&mut Vec<u8>> {
        if let Self::Integer(integer) = self {
            *self = Self::String(ValueBytes::of_integer(*integer));
        }
        match self {
            Self::String(bytes) => Some(bytes.to_mut()),
            _ => None,
        }
    }

    /// Memory beside the value itself, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Integer(_) => 0,
            Self::String(bytes) => bytes.heap_bytes(),
            Self::Hash(hash) => hash.heap_bytes(),
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub key: ValueBytes,
    /// What it holds.
    pub value: Value,
    /// From when on it does not exist any more; 0: never.
    pub expires_at: Timestamp,
    /// The record that changed it last; what an answer about it waits for, and what `WATCH` compares.
    pub version: LogPosition,
}

impl Entry {
    /// When it expires, if ever.
    pub fn expiry(&self) -> Option<Timestamp> {
        (self.expires_at != Timestamp::default()).then_some(self.expires_at)
    }

    /// Whether it is there for a command at `now`.
    #[inline]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at == Timestamp::default() || self.expires_at > now
    }
}

impl Keyed for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Keys with their values.
pub type KeyTable = PagedTable<Entry>;

impl KeyTable {
    /// Has the bytes fetched that entries with this hash point to.
    pub fn prefetch_value(&self, hash: u64) {
        self.find_by_hash(hash, |entry| {
            entry.key.prefetch();
            if let Value::String(bytes) = &entry.value {
                bytes.prefetch();
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_of_the_cache() {
        assert_eq!(size_of::<Value>(), 24);
        assert_eq!(size_of::<Entry>(), 64);
    }

    #[test]
    fn encodings_are_those_of_redis() {
        for (text, encoding) in [
            ("12", "int"),
            ("-9223372036854775808", "int"),
            ("9223372036854775808", "embstr"),
            ("012", "embstr"),
            ("", "embstr"),
            (&"x".repeat(44), "embstr"),
            (&"x".repeat(45), "raw"),
        ] {
            assert_eq!(Value::string(text.as_bytes()).encoding(), encoding, "{text}");
        }
        let mut value = Value::string(b"12");
        value.string_mut().unwrap().push(b'3');
        assert_eq!(value.encoding(), "raw");
    }
}
