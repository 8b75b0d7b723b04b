//! The record of keys and values: what it says, and the struct that it is archived as.
//!
//! Effects are bytes already (see [`super::effect`]); a new kind of effect is a new byte in them, which an older version
//! refuses by name.

use rkyv::with::InlineAsBox;

use super::effect::are_effects;
use crate::engine::kernel::archive::{encode, encode_behind, read};
use crate::engine::kernel::ids::{RecordKind, Timestamp};

/// A record of keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntriesRecord {
    /// Keys changed.
    Changed {
        /// When.
        at: Timestamp,
        /// How: see [`super::effect`].
        effects: Vec<u8>,
    },
}

const CHANGED_1: RecordKind = RecordKind {
    book: super::BOOK,
    kind: 1,
    version: 1,
};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Changed1<'a> {
    // First: large effects go into the log from where they are.
    #[rkyv(with = InlineAsBox)]
    effects: &'a [u8],
    at: u64,
}

/// Effects beyond this go into the log from where they are.
const COPIED_BYTES_MAX: usize = 64 << 10;

impl EntriesRecord {
    /// Whether it is better not copied.
    pub const fn is_large(&self) -> bool {
        let Self::Changed { effects, .. } = self;
        effects.len() > COPIED_BYTES_MAX
    }

    /// Encodes into `buffer`, replacing what it holds. Gives the payload's kind.
    pub fn encode(&self, buffer: &mut Vec<u8>) -> RecordKind {
        let Self::Changed { at, effects } = self;
        let at = at.unix_ms();
        encode(&Changed1 { effects, at }, buffer);
        CHANGED_1
    }

    /// Encodes without copying the effects, which are large: what follows them is put into `buffer`. `None`: everything
    /// is in there, effects included.
    pub fn encode_behind(&self, buffer: &mut Vec<u8>) -> (RecordKind, Option<&[u8]>) {
        let Self::Changed { at, effects } = self;
        let at = at.unix_ms();
        let is_behind = encode_behind(&Changed1 { effects, at }, effects, buffer);
        (CHANGED_1, is_behind.then_some(effects))
    }

    /// Checks and decodes a payload of this kind; `None` where there is no such kind. The error says what is wrong.
    pub fn decode(kind: RecordKind, payload: &[u8]) -> Option<Result<Self, String>> {
        (kind == CHANGED_1).then(|| {
            let record: &ArchivedChanged1<'_> = read(payload)?;
            if !are_effects(&record.effects) {
                return Err("it does nothing to keys that is known".to_owned());
            }
            Ok(Self::Changed {
                at: Timestamp(record.at.to_native()),
                effects: record.effects.to_vec(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_behind_its_effects_is_the_same_as_in_one_piece() {
        let record = EntriesRecord::Changed {
            at: Timestamp(1 << 41),
            effects: vec![b'x'; 5000],
        };
        let (mut whole, mut rest) = (Vec::new(), vec![1, 2, 3]);
        record.encode(&mut whole);
        let (_, effects) = record.encode_behind(&mut rest);
        assert!(rest.len() < 512, "what is set aside for it is enough");
        assert!([effects.expect("the effects come first"), &rest[..]].concat() == whole);
    }
}
