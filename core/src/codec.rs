//! Numbers and strings as they are packed: seven bits of a number in a byte, the lowest first (LEB128); the length of a
//! string before its bytes.
//!
//! Orders, effects, images, items and keys in logs and checkpoints are made of these. A number has one encoding, so that
//! equal bytes mean equal values: the reader refuses a number that is longer than it need be, or that is no `u64`.

/// The longest encoding of a number, in bytes.
pub const NUMBER_BYTES_MAX: usize = 10;

/// Adds a number: 1 to 10 bytes.
#[inline]
pub fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Adds a string with its length.
#[inline]
pub fn put_string(bytes: &mut Vec<u8>, string: &[u8]) {
    put_number(bytes, string.len() as u64);
    bytes.extend_from_slice(string);
}

/// Takes a number from the front of `rest`; `None` where there is none, and then `rest` is anywhere behind where it was.
// Inlined for the numbers of one byte, which most are: loops over an order's lines keep a line in registers.
#[inline]
pub fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (&first, behind) = rest.split_first()?;
    *rest = behind;
    if first < 0x80 {
        return Some(first.into());
    }
    take_long_number(u64::from(first & 0x7f), rest)
}

fn take_long_number(mut number: u64, rest: &mut &[u8]) -> Option<u64> {
    for shift in (7..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has one bit left to give.
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte < 0x80 {
            // A last byte of 0 adds nothing: the same number has a shorter encoding.
            return (byte > 0).then_some(number);
        }
    }
    None
}

/// Reads back what was put; `None` where there is something else.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// What is left.
    pub bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// So many bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    /// A number.
    #[inline]
    pub fn number(&mut self) -> Option<u64> {
        take_number(&mut self.bytes)
    }

    /// A string.
    #[inline]
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<(u64, usize)> {
        let mut reader = Reader { bytes };
        let number = reader.number()?;
        Some((number, bytes.len() - reader.bytes.len()))
    }

    #[test]
    fn numbers_are_packed_as_they_always_were() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            assert_eq!(encoded(number), bytes);
            assert_eq!(read(bytes), Some((number, bytes.len())));
        }
    }

    #[test]
    fn a_number_that_is_too_long_or_too_large_is_refused() {
        // 2^64, which has one bit more than there is room for.
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]), None);
        // All bits of a tenth byte, and a tenth byte that is not the last.
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            None
        );
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0]),
            None
        );
        // Zero, one and 127, each in more bytes than it needs.
        assert_eq!(read(&[0x80, 0]), None);
        assert_eq!(read(&[0x81, 0x80, 0]), None);
        assert_eq!(read(&[0xff, 0]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x80]), None);
    }

    fn any_number() -> impl Strategy<Value = u64> {
        // As many short ones as long ones.
        (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
    }

    proptest! {
        #[test]
        fn what_is_put_is_read_back(numbers in proptest::collection::vec(any_number(), 0..8), string: Vec<u8>) {
            let mut bytes = Vec::new();
            for &number in &numbers {
                let before = bytes.len();
                put_number(&mut bytes, number);
                prop_assert!((1..=NUMBER_BYTES_MAX).contains(&(bytes.len() - before)));
            }
            put_string(&mut bytes, &string);
            let mut reader = Reader { bytes: &bytes };
            for &number in &numbers {
                prop_assert_eq!(reader.number(), Some(number));
            }
            prop_assert_eq!(reader.string(), Some(&string[..]));
            prop_assert!(reader.bytes.is_empty());
        }

        #[test]
        fn no_part_of_a_number_or_string_is_one(number in any_number(), string in proptest::collection::vec(any::<u8>(), 1..300)) {
            let bytes = encoded(number);
            prop_assert_eq!(read(&bytes[..bytes.len() - 1]), None);
            let mut bytes = Vec::new();
            put_string(&mut bytes, &string);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Reader { bytes: &bytes[..cut] }.string(), None);
            }
        }

        #[test]
        fn whatever_is_read_has_one_encoding(
            bytes in proptest::collection::vec(prop_oneof![Just(0x80u8), Just(0xff), Just(0), Just(1), any::<u8>()], 0..14),
        ) {
            if let Some((number, length)) = read(&bytes) {
                prop_assert_eq!(encoded(number), &bytes[..length]);
            }
        }
    }
}
