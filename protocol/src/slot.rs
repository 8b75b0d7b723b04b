//! Slots: the 16,384 units in which keys are spread over shards, by Redis Cluster's function.
//!
//! Called wherever a key needs a home; a shard-aware client may compute the same.

/// How many slots there are.
pub const SLOT_COUNT: usize = 16_384;

/// One of [`SLOT_COUNT`] slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of `key`: CRC-16/XMODEM of the key, or of what stands between its first `{` and the next `}` if that
    /// is not empty, modulo [`SLOT_COUNT`]. Source: the Redis Cluster specification, "Key distribution model".
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        let crc = short_without_tag(key).unwrap_or_else(|| crc16(hash_tag(key)));
        Self(crc % SLOT_COUNT as u16)
    }

    /// `None` from [`SLOT_COUNT`] upwards.
    pub const fn new(index: u16) -> Option<Self> {
        if (index as usize) < SLOT_COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The slot's number, below [`SLOT_COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let after = &key[open + 1..];
    match after.iter().position(|&byte| byte == b'}') {
        Some(close) if close > 0 => &after[..close],
        _ => key,
    }
}

/// Bytes whose look-ups do not wait for each other, in a long key.
const STRIDE: usize = 4;

/// Longest key all of whose look-ups are independent.
const SHORT_BYTES_MAX: usize = 16;

/// `TABLES[distance][byte]`: what a byte adds to the CRC that many bytes further on. Source: "slicing", Kounavis and
/// Berry, "A Systematic Approach to Building High Performance Software-based CRC Generators", 2005.
const TABLES: [[u16; 256]; SHORT_BYTES_MAX] = {
    let mut tables = [[0u16; 256]; SHORT_BYTES_MAX];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut distance = 0;
        while distance < SHORT_BYTES_MAX {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 == 0 {
                    crc << 1
                } else {
                    (crc << 1) ^ 0x1021
                };
                bit += 1;
            }
            tables[distance][byte] = crc;
            distance += 1;
        }
        byte += 1;
    }
    tables
};

/// The CRC of a short key that has no hash tag: nearly every key.
#[inline]
fn short_without_tag(key: &[u8]) -> Option<u16> {
    if key.len() > SHORT_BYTES_MAX {
        return None;
    }
    let (mut crc, mut has_brace) = (0, false);
    for (&byte, table) in key.iter().rev().zip(&TABLES) {
        crc ^= table[usize::from(byte)];
        has_brace |= byte == b'{';
    }
    (!has_brace).then_some(crc)
}

fn crc16(bytes: &[u8]) -> u16 {
    let (strides, rest) = bytes.as_chunks::<STRIDE>();
    let crc = strides.iter().fold(0u16, |crc, &[one, two, three, four]| {
        let [high, low] = crc.to_be_bytes();
        TABLES[3][usize::from(one ^ high)]
            ^ TABLES[2][usize::from(two ^ low)]
            ^ TABLES[1][usize::from(three)]
            ^ TABLES[0][usize::from(four)]
    });
    rest.iter().fold(crc, |crc, &byte| {
        (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(Slot::of(b"foo").index(), 12_182);
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"{user1000}.followers"));
        assert_eq!(
            Slot::of(b"foo{}{bar}").index(),
            usize::from(crc16(b"foo{}{bar}")) % SLOT_COUNT
        );
        assert_eq!(Slot::of(b"foo{{bar}}zap"), Slot::of(b"{bar"));
    }

    proptest::proptest! {
        #[test]
        fn strides_give_what_single_bits_give(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..50)) {
            let bitwise = bytes.iter().fold(0u16, |crc, &byte| {
                (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
            });
            proptest::prop_assert_eq!(crc16(&bytes), bitwise);
            if !bytes.contains(&b'{') {
                proptest::prop_assert_eq!(Slot::of(&bytes).index(), usize::from(bitwise) % SLOT_COUNT);
            }
        }
    }
}
