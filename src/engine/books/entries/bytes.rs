//! Bytes of a key, a field or a value: short ones in place, longer ones shared.
//!
//! Cloning never copies more than [`INLINE_BYTES_MAX`]: what is long is counted by reference, so that an answer or a
//! transaction on another shard holds a value without copying it. A change of a shared value copies it first.

use std::sync::Arc;

use crate::engine::kernel::prefetch::prefetch;

/// Longest value that needs no memory of its own.
pub const INLINE_BYTES_MAX: usize = 22;

/// Immutable to whoever holds a clone; 24 bytes.
#[derive(Clone)]
pub enum ValueBytes {
    /// The first `length` of `bytes`.
    Inline {
        /// At most [`INLINE_BYTES_MAX`].
        length: u8,
        /// Zero behind the end.
        bytes: [u8; INLINE_BYTES_MAX],
    },
    /// As long as when it was made.
    Fixed(Arc<[u8]>),
    /// Grows in place: what `APPEND` and its like make.
    Growing(Arc<Vec<u8>>),
}

impl ValueBytes {
    /// A copy of `bytes`.
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_BYTES_MAX {
            let mut inline = [0; INLINE_BYTES_MAX];
            inline[..bytes.len()].copy_from_slice(bytes);
            Self::Inline {
                length: bytes.len() as u8,
                bytes: inline,
            }
        } else {
            Self::Fixed(Arc::from(bytes))
        }
    }

    /// Has the start of what lies elsewhere fetched.
    pub fn prefetch(&self) {
        match self {
            Self::Inline { .. } => {}
            Self::Fixed(bytes) => prefetch(Arc::as_ptr(bytes).cast::<u8>()),
            Self::Growing(bytes) => prefetch(Arc::as_ptr(bytes)),
        }
    }

    /// What it holds.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Self::Fixed(bytes) => bytes,
            Self::Growing(bytes) => bytes,
        }
    }

    /// To be changed and to grow; copied before if somebody else holds it.
    pub fn to_mut(&mut self) -> &mut Vec<u8> {
        if !matches!(self, Self::Growing(_)) {
            *self = Self::Growing(Arc::new(self.as_slice().to_vec()));
        }
        let Self::Growing(bytes) = self else {
            unreachable!("made so above")
        };
        Arc::make_mut(bytes)
    }

    /// Whether it was made to grow.
    pub const fn is_growing(&self) -> bool {
        matches!(self, Self::Growing(_))
    }

    /// The digits of `integer`.
    pub fn of_integer(integer: i64) -> Self {
        let mut digits = IntegerText::default();
        Self::new(digits.of(integer))
    }

    /// Memory beside these 24 bytes.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Fixed(bytes) => bytes.len() + 16,
            Self::Growing(bytes) => bytes.capacity() + 40,
        }
    }
}

impl std::ops::Deref for ValueBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for ValueBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ValueBytes {}

impl PartialOrd for ValueBytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ValueBytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl std::hash::Hash for ValueBytes {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl std::borrow::Borrow<[u8]> for ValueBytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for ValueBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for ValueBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(&bytes)
    }
}

impl std::fmt::Debug for ValueBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "\"{}\"", self.as_slice().escape_ascii())
    }
}

/// Room for the digits of an integer.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntegerText {
    text: [u8; 20],
}

impl IntegerText {
    /// The digits of `integer`, without going through a formatter.
    pub fn of(&mut self, integer: i64) -> &[u8] {
        let mut at = self.text.len();
        let mut rest = integer.unsigned_abs();
        loop {
            at -= 1;
            self.text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if integer < 0 {
            at -= 1;
            self.text[at] = b'-';
        }
        &self.text[at..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_takes_three_words() {
        assert_eq!(size_of::<ValueBytes>(), 24);
    }

    #[test]
    fn whoever_holds_a_clone_sees_no_change() {
        for length in [0, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 1000] {
            let before = vec![b'x'; length];
            let mut value = ValueBytes::new(&before);
            for _ in 0..2 {
                let held = value.clone();
                let seen = held.as_slice().to_vec();
                value.to_mut().push(b'y');
                assert_eq!(held.as_slice(), seen);
                assert_eq!(value.len(), seen.len() + 1);
            }
        }
    }

    proptest! {
        #[test]
        fn integers_have_their_digits(integer in any::<i64>()) {
            let value = ValueBytes::of_integer(integer);
            let text = integer.to_string();
            prop_assert_eq!(value.as_slice(), text.as_bytes());
        }
    }

    #[test]
    fn the_smallest_integer_has_its_digits() {
        assert_eq!(ValueBytes::of_integer(i64::MIN).as_slice(), b"-9223372036854775808");
    }
}
