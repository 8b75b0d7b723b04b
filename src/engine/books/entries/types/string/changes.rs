//! What commands change of a string. That a key holds another string from now on is no change of this one, and an
//! effect of its own.

use std::sync::Arc;

use super::StringValue;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::encoding::{Reader, put_number, put_string};
use crate::engine::books::entries::types::value_type::TypeChange;

const APPEND: u8 = 4;
const SET_RANGE: u8 = 5;
const INTEGER: u8 = 6;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The string, or a new one, is longer by this.
    Append(&'a [u8]),
    /// These bytes stand in the string, or in a new one, from this offset on; zeros fill the gap before them.
    SetRange(u64, &'a [u8]),
    /// The string, or a new one, is this integer.
    Integer(i64),
}

impl<'a> TypeChange<'a> for Change<'a> {
    const KINDS: &'static [u8] = &[APPEND, SET_RANGE, INTEGER];

    fn kind(&self) -> u8 {
        match self {
            Self::Append(_) => APPEND,
            Self::SetRange(..) => SET_RANGE,
            Self::Integer(_) => INTEGER,
        }
    }

    fn put(&self, log: &mut Vec<u8>) {
        match *self {
            Self::Append(bytes) => put_string(log, bytes),
            Self::SetRange(offset, bytes) => {
                put_number(log, offset);
                put_string(log, bytes);
            }
            Self::Integer(integer) => log.extend_from_slice(&integer.to_le_bytes()),
        }
    }

    fn take(kind: u8, reader: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            APPEND => Self::Append(reader.string()?),
            SET_RANGE => Self::SetRange(reader.number()?, reader.string()?),
            INTEGER => Self::Integer(i64::from_le_bytes(reader.take(8)?.try_into().ok()?)),
            _ => return None,
        })
    }
}

impl Change<'_> {
    /// What it makes where there is no string.
    #[inline]
    pub(super) fn make(self) -> StringValue {
        match self {
            Self::Append(bytes) => StringValue::new(bytes),
            Self::SetRange(offset, bytes) => {
                let mut string = Vec::new();
                set_range(&mut string, offset, bytes);
                StringValue::Bytes(ValueBytes::Growing(Arc::new(string)))
            }
            Self::Integer(integer) => StringValue::Integer(integer),
        }
    }

    /// Changes a string.
    #[inline]
    pub(super) fn apply(self, string: &mut StringValue) {
        match self {
            Self::Append(bytes) => string.bytes_mut().extend_from_slice(bytes),
            Self::SetRange(offset, bytes) => set_range(string.bytes_mut(), offset, bytes),
            Self::Integer(integer) => *string = StringValue::Integer(integer),
        }
    }
}

fn set_range(string: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = offset as usize;
    let end = offset + bytes.len();
    if string.len() < end {
        string.resize(end, 0);
    }
    string[offset..end].copy_from_slice(bytes);
}
