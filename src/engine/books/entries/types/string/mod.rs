//! A string: an integer in its shortest form, or any other bytes.

mod changes;
mod image;

use cartwright_protocol::resp::parse_i64;

pub use self::changes::Change;
pub use self::image::StringPieces;
use super::value_type::ValueType;
use crate::engine::books::entries::bytes::{IntegerText, ValueBytes};
use crate::engine::kernel::hashing::Fingerprint;

/// Longest text that can be an integer.
const INTEGER_TEXT_MAX: usize = 20;

/// Longest string that Redis keeps beside its header.
const EMBEDDED_BYTES_MAX: usize = 44;

/// Integers up to here are shared in Redis, which shows in `OBJECT REFCOUNT`.
const SHARED_INTEGER_MAX: i64 = 9999;
const SHARED_REFERENCES: i64 = 2_147_483_647;

/// See the module.
#[derive(Clone, Debug)]
pub enum StringValue {
    /// An integer in its shortest form.
    Integer(i64),
    /// Any other string; one that grew may read as an integer all the same.
    Bytes(ValueBytes),
}

impl StringValue {
    /// The string `bytes`.
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= INTEGER_TEXT_MAX
            && let Some(integer) = parse_i64(bytes)
        {
            return Self::Integer(integer);
        }
        Self::Bytes(ValueBytes::new(bytes))
    }

    /// Its bytes.
    #[inline]
    pub fn to_bytes(&self) -> ValueBytes {
        match self {
            Self::Integer(integer) => ValueBytes::of_integer(*integer),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// Its bytes, to be changed.
    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        if let Self::Integer(integer) = self {
            *self = Self::Bytes(ValueBytes::of_integer(*integer));
        }
        match self {
            Self::Bytes(bytes) => bytes.to_mut(),
            Self::Integer(_) => unreachable!("made bytes above"),
        }
    }

    /// Whether Redis would change a byte of it in its place.
    pub fn is_raw(&self) -> bool {
        match self {
            Self::Integer(_) => false,
            Self::Bytes(bytes) => bytes.is_growing() || bytes.len() > EMBEDDED_BYTES_MAX,
        }
    }
}

impl ValueType for StringValue {
    const NAME: &'static str = "string";
    const NUMBER: u64 = 1;
    const IMAGE_KINDS: &'static [u8] = image::KINDS;

    type Change<'a> = Change<'a>;
    type Pieces = StringPieces;

    fn encoding(&self) -> &'static str {
        match self {
            Self::Integer(_) => "int",
            Self::Bytes(_) if self.is_raw() => "raw",
            Self::Bytes(_) => "embstr",
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Integer(_) => 0,
            Self::Bytes(bytes) => bytes.heap_bytes(),
        }
    }

    fn references(&self) -> i64 {
        match self {
            Self::Integer(0..=SHARED_INTEGER_MAX) => SHARED_REFERENCES,
            _ => 1,
        }
    }

    fn prefetch(&self) {
        if let Self::Bytes(bytes) = self {
            bytes.prefetch();
        }
    }

    /// An empty string is one.
    fn is_gone(&self) -> bool {
        false
    }

    #[inline]
    fn made_by(change: Change<'_>) -> Option<Self> {
        Some(change.make())
    }

    #[inline]
    fn apply(&mut self, change: Change<'_>) {
        change.apply(self);
    }

    fn put_image(&self, image: &mut Vec<u8>) {
        image::put(image, self);
    }

    fn image_bytes_max(&self) -> usize {
        image::bytes_max(self)
    }

    fn read_image(kind: u8, body: &[u8]) -> Option<Self> {
        image::read(kind, body)
    }

    fn encoded_anew(self) -> Self {
        match self {
            Self::Integer(_) => self,
            Self::Bytes(bytes) => Self::new(&bytes),
        }
    }

    fn pieces(&self) -> Option<StringPieces> {
        StringPieces::of(self)
    }

    fn next_piece(pieces: &mut StringPieces, key_bytes: usize) -> Option<Vec<u8>> {
        pieces.next(key_bytes)
    }

    fn add_piece(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        image::add(self, kind, body)
    }

    fn hash_into(&self, entry: &mut Fingerprint) {
        match self {
            Self::Integer(integer) => entry.bytes(IntegerText::default().of(*integer)),
            Self::Bytes(bytes) => entry.bytes(bytes),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(StringValue::new(text.as_bytes()).encoding(), encoding, "{text}");
        }
        let mut value = StringValue::new(b"12");
        value.bytes_mut().push(b'3');
        assert_eq!(value.encoding(), "raw");
    }
}
