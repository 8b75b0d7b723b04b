//! What is done to a pile.

use super::Pile;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::encoding::{Reader, put_number, put_string};
use crate::engine::books::entries::types::value_type::TypeChange;

const PUSH: u8 = 254;
const POP: u8 = 255;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// This lies on top.
    Push(&'a [u8]),
    /// So many are taken from the top.
    Pop(u64),
}

impl<'a> TypeChange<'a> for Change<'a> {
    const KINDS: &'static [u8] = &[PUSH, POP];

    fn kind(&self) -> u8 {
        match self {
            Self::Push(_) => PUSH,
            Self::Pop(_) => POP,
        }
    }

    fn put(&self, log: &mut Vec<u8>) {
        match *self {
            Self::Push(string) => put_string(log, string),
            Self::Pop(count) => put_number(log, count),
        }
    }

    fn take(kind: u8, reader: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            PUSH => Self::Push(reader.string()?),
            POP => Self::Pop(reader.number()?),
            _ => return None,
        })
    }
}

impl Change<'_> {
    pub(super) fn apply(self, pile: &mut Pile) {
        match self {
            Self::Push(string) => pile.strings.push(ValueBytes::new(string)),
            Self::Pop(count) => pile.strings.truncate(pile.strings.len().saturating_sub(count as usize)),
        }
    }
}
