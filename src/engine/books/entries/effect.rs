//! What commands do to keys: resolved changes, as they are logged, sent to other shards and applied.
//!
//! An effect says all that is to be known by itself: applying it looks at no clock, draws nothing, and decides nothing
//! that depends on more than the key. Where a value may be large the effect is the part of it that changes.

use super::bytes::ValueBytes;
use super::encoding::{Reader, put_number, put_string};
use super::image::read_image;
use super::types::string::StringValue;
use super::types::value::{CHANGE_KINDS, Change, are_apart};
use super::value::{Entry, KeyTable};
use crate::engine::kernel::ids::{LogPosition, Timestamp};
use crate::engine::kernel::limits::{LARGE_RECORD_BYTES_MAX, RECORD_BYTES_MAX};

/// What an effect takes beside its bytes, at most: its kind, its lengths and numbers.
pub const EFFECT_OVERHEAD_BYTES: usize = 32;

/// Bytes of effects that one record takes, where several shards have a part in the change; and elsewhere, unless more
/// log is made ready for it. What is left of the record is for what stands around them.
pub const EFFECTS_BYTES_MAX: usize = RECORD_BYTES_MAX - AROUND_BYTES;

/// Bytes of effects that one record takes, where all keys are on one shard.
pub const LARGE_EFFECTS_BYTES_MAX: usize = LARGE_RECORD_BYTES_MAX - AROUND_BYTES;

/// What stands around the effects of a record, at most.
const AROUND_BYTES: usize = 8192;

/// A change of one key, or of all.
#[expect(missing_docs, reason = "the fields' names say what they are")]
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    /// The key holds this string, and nothing of what it held before.
    Set {
        key: &'a [u8],
        value: &'a [u8],
        expires_at: Timestamp,
    },
    /// The key, which is there, is gone.
    Delete { key: &'a [u8] },
    /// The key, which is there, expires then; 0: never.
    Expire { key: &'a [u8], at: Timestamp },
    /// The value of the key, which is of the change's type, changes; or one is made. When it expires stays.
    Change { key: &'a [u8], change: Change<'a> },
    /// The key holds the value of this image, and nothing of what it held before.
    Restore {
        key: &'a [u8],
        image: &'a [u8],
        expires_at: Timestamp,
    },
    /// No key is there.
    Flush,
}

const SET: u8 = 1;
const DELETE: u8 = 2;
const EXPIRE: u8 = 3;
const RESTORE: u8 = 9;
const FLUSH: u8 = 10;
const SET_EXPIRING: u8 = 11;

// On disk, as are the kinds of the types' changes: no number is changed, nor used again.
const _: () = {
    let own: &[u8] = &[SET, DELETE, EXPIRE, RESTORE, FLUSH, SET_EXPIRING];
    let mut of_type = 0;
    while of_type < CHANGE_KINDS.len() {
        assert!(
            are_apart(&[own, CHANGE_KINDS[of_type]]),
            "a kind of effect is used twice"
        );
        of_type += 1;
    }
};

/// What an effect did to whether and until when a key is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// When it expired before, 0 for never; `None`: it was not there.
    pub before: Option<Timestamp>,
    /// The same afterwards.
    pub after: Option<Timestamp>,
}

impl<'a> Effect<'a> {
    /// The key it changes; `None`: all.
    pub const fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Set { key, .. }
            | Self::Delete { key }
            | Self::Expire { key, .. }
            | Self::Change { key, .. }
            | Self::Restore { key, .. } => Some(key),
            Self::Flush => None,
        }
    }

    /// Adds its encoding to `log`.
    pub fn encode(&self, log: &mut Vec<u8>) {
        match *self {
            Self::Set { key, value, expires_at } => {
                let expires = expires_at != Timestamp::default();
                log.push(if expires { SET_EXPIRING } else { SET });
                put_string(log, key);
                put_string(log, value);
                if expires {
                    put_number(log, expires_at.unix_ms());
                }
            }
            Self::Delete { key } => {
                log.push(DELETE);
                put_string(log, key);
            }
            Self::Expire { key, at } => {
                log.push(EXPIRE);
                put_string(log, key);
                put_number(log, at.unix_ms());
            }
            Self::Change { key, change } => {
                log.push(change.kind());
                put_string(log, key);
                change.put(log);
            }
            Self::Restore { key, image, expires_at } => {
                log.push(RESTORE);
                put_string(log, key);
                put_string(log, image);
                put_number(log, expires_at.unix_ms());
            }
            Self::Flush => log.push(FLUSH),
        }
    }

    /// Applies it to the table that holds its key, as of `position`; `hash` is the key's.
    ///
    /// # Panics
    /// Where it contradicts what the table holds: it was not made for it.
    pub fn apply(&self, table: &mut KeyTable, hash: u64, position: LogPosition) -> Shift {
        let key = self.key().expect("a flush is no matter of one key");
        let mut shift = Shift::default();
        let Some(entry) = table.find_mut(hash, key) else {
            shift.after = Some(self.insert(table, hash, position));
            return shift;
        };
        shift.before = Some(entry.expires_at);
        entry.version = position;
        let mut is_gone = false;
        match *self {
            Self::Set { value, expires_at, .. } => {
                entry.value = StringValue::new(value).into();
                entry.expires_at = expires_at;
            }
            Self::Delete { .. } => is_gone = true,
            Self::Expire { at, .. } => entry.expires_at = at,
            Self::Change { change, .. } => {
                entry.value.apply(change);
                is_gone = entry.value.is_gone();
            }
            Self::Restore { image, expires_at, .. } => {
                entry.value = read_image(image).expect("an effect's image is one");
                entry.expires_at = expires_at;
            }
            Self::Flush => unreachable!("it has no key"),
        }
        if is_gone {
            table.remove(hash, key);
        } else {
            shift.after = Some(entry.expires_at);
        }
        shift
    }

    /// Applies it to a key that is not there. When the new one expires.
    fn insert(&self, table: &mut KeyTable, hash: u64, position: LogPosition) -> Timestamp {
        let (value, expires_at) = match *self {
            Self::Set { value, expires_at, .. } => (StringValue::new(value).into(), expires_at),
            Self::Change { change, .. } => {
                let made = change.make();
                let value = made.unwrap_or_else(|| panic!("a record changes {self:?}, which no record before it made"));
                (value, Timestamp::default())
            }
            Self::Restore { image, expires_at, .. } => {
                (read_image(image).expect("an effect's image is one"), expires_at)
            }
            Self::Delete { .. } | Self::Expire { .. } | Self::Flush => {
                panic!("a record changes {self:?}, which no record before it made")
            }
        };
        let key = ValueBytes::new(self.key().expect("a flush is no matter of one key"));
        table.insert_new(
            hash,
            Entry {
                key,
                value,
                expires_at,
                version: position,
            },
        );
        expires_at
    }
}

fn take_effect<'a>(reader: &mut Reader<'a>) -> Option<Effect<'a>> {
    let kind = reader.take(1)?[0];
    Some(match kind {
        SET | SET_EXPIRING => Effect::Set {
            key: reader.string()?,
            value: reader.string()?,
            expires_at: Timestamp(if kind == SET { 0 } else { reader.number()? }),
        },
        DELETE => Effect::Delete { key: reader.string()? },
        EXPIRE => Effect::Expire {
            key: reader.string()?,
            at: Timestamp(reader.number()?),
        },
        RESTORE => Effect::Restore {
            key: reader.string()?,
            image: reader.string()?,
            expires_at: Timestamp(reader.number()?),
        },
        FLUSH => Effect::Flush,
        _ => Effect::Change {
            key: reader.string()?,
            change: Change::take(kind, reader)?,
        },
    })
}

/// The effects of a record, in order.
pub fn effects(log: &[u8]) -> impl Iterator<Item = Effect<'_>> {
    let mut reader = Reader { bytes: log };
    std::iter::from_fn(move || {
        (!reader.bytes.is_empty())
            .then(|| take_effect(&mut reader).expect("a record's effects were looked through before"))
    })
}

/// Whether bytes read back are effects: looked at once, when a record is decoded.
pub fn are_effects(log: &[u8]) -> bool {
    let mut reader = Reader { bytes: log };
    while !reader.bytes.is_empty() {
        match take_effect(&mut reader) {
            Some(Effect::Restore { image, .. }) if read_image(image).is_none() => return false,
            Some(_) => {}
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encoding::Strings;
    use super::super::table::hash_of;
    use super::super::types::{hash, string};
    use super::*;

    #[test]
    fn effects_read_back_as_they_were_written() {
        let at = Timestamp(1 << 41);
        let never = Timestamp::default();
        let key = &b"key"[..];
        let long = &[b'x'; 300][..];
        let pairs = [b"a", b"1", b"b", long];
        let written = [
            Effect::Set {
                key,
                value: b"1",
                expires_at: never,
            },
            Effect::Set {
                key: long,
                value: long,
                expires_at: at,
            },
            Effect::Delete { key },
            Effect::Expire { key, at },
            Effect::Change {
                key,
                change: string::Change::Append(long).into(),
            },
            Effect::Change {
                key,
                change: string::Change::SetRange(1 << 33, b"").into(),
            },
            Effect::Change {
                key,
                change: string::Change::Integer(i64::MIN).into(),
            },
            Effect::Change {
                key,
                change: hash::Change::Set(Strings::Slices(&pairs)).into(),
            },
            Effect::Change {
                key,
                change: hash::Change::Delete(Strings::Slices(&[b"a", b""])).into(),
            },
            Effect::Restore {
                key,
                image: &[1, b'x'],
                expires_at: at,
            },
            Effect::Flush,
        ];
        let mut log = Vec::new();
        for effect in &written {
            effect.encode(&mut log);
        }
        assert!(are_effects(&log));
        let mut again = Vec::new();
        for (read, written) in effects(&log).zip(&written) {
            assert_eq!(read.key(), written.key());
            read.encode(&mut again);
        }
        assert_eq!(log, again);
    }

    proptest! {
        #[test]
        fn any_bytes_are_effects_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if are_effects(&bytes) {
                effects(&bytes).for_each(drop);
            }
            read_image(&bytes);
        }
    }

    #[test]
    fn a_hash_without_fields_is_gone() {
        let (mut table, key, at) = (KeyTable::default(), &b"h"[..], LogPosition(1));
        let hash = hash_of(key);
        Effect::Change {
            key,
            change: hash::Change::Set(Strings::Slices(&[b"f", b"v"])).into(),
        }
        .apply(&mut table, hash, at);
        let shift = Effect::Change {
            key,
            change: hash::Change::Delete(Strings::Slices(&[b"f"])).into(),
        }
        .apply(&mut table, hash, at);
        assert_eq!(
            shift,
            Shift {
                before: Some(Timestamp::default()),
                after: None
            }
        );
        assert!(table.is_empty());
    }
}
