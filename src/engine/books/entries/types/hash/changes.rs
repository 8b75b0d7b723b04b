//! What commands change of a hash.

use super::Hash;
use crate::engine::books::entries::encoding::{Reader, Strings, put_strings, take_strings};
use crate::engine::books::entries::types::value_type::TypeChange;

const SET: u8 = 7;
const DELETE: u8 = 8;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// These fields of the hash, or of a new one, have these values: names and values in turn.
    Set(Strings<'a>),
    /// The hash, which is there, has none of these fields; without any it is gone.
    Delete(Strings<'a>),
}

impl<'a> TypeChange<'a> for Change<'a> {
    const KINDS: &'static [u8] = &[SET, DELETE];

    fn kind(&self) -> u8 {
        match self {
            Self::Set(_) => SET,
            Self::Delete(_) => DELETE,
        }
    }

    fn put(&self, log: &mut Vec<u8>) {
        let (Self::Set(strings) | Self::Delete(strings)) = *self;
        put_strings(log, strings);
    }

    fn take(kind: u8, reader: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            SET => Self::Set(take_strings(reader)?),
            DELETE => Self::Delete(take_strings(reader)?),
            _ => return None,
        })
    }
}

impl Change<'_> {
    /// What it makes where there is no hash.
    pub(super) fn make(self) -> Option<Hash> {
        match self {
            Self::Set(_) => {
                let mut hash = Hash::default();
                self.apply(&mut hash);
                Some(hash)
            }
            Self::Delete(_) => None,
        }
    }

    /// Changes a hash.
    pub(super) fn apply(self, hash: &mut Hash) {
        match self {
            Self::Set(pairs) => pairs.each_pair(|name, value| {
                hash.set(name, value);
            }),
            Self::Delete(names) => names.each(|name| {
                hash.remove(name);
            }),
        }
    }
}
