//! The entries of a slot in a checkpoint: taken at once, written in pieces.
//!
//! A copy of a slot's table shares its pages and values with the original, so the entries of a slot, however many, are all
//! shown at the same position; what changes while they are written is copied page by page.

use std::collections::VecDeque;

use super::bytes::ValueBytes;
use super::image::{image_bytes_max, put_image, read_image};
use super::types::Pieces;
use super::types::value_type::PIECE_BYTES;
use super::value::{Entry, KeyTable};
use crate::engine::kernel::ids::{LogPosition, Timestamp};

/// An entry, or a part of one, as a checkpoint holds it.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EntryImage {
    pub(super) key: Vec<u8>,
    /// Unix milliseconds; 0: never.
    pub(super) expires_at: u64,
    /// The value, or more of one.
    pub(super) image: Vec<u8>,
    /// This is more of the value that came before under the same key.
    pub(super) continues: bool,
}

/// The entries of a slot on their way into a checkpoint.
#[derive(Debug)]
pub struct EntriesCursor {
    table: KeyTable,
    page: VecDeque<Entry>,
    /// The entry with a large value that is being written.
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    key: ValueBytes,
    expires_at: Timestamp,
    pieces: Pieces,
    continues: bool,
}

impl Large {
    /// The next piece; `None` at the end.
    fn piece(&mut self) -> Option<EntryImage> {
        let image = self.pieces.next(self.key.len())?;
        Some(EntryImage {
            key: self.key.to_vec(),
            expires_at: self.expires_at.unix_ms(),
            image,
            continues: std::mem::replace(&mut self.continues, true),
        })
    }
}

impl EntriesCursor {
    /// The entries of this table as they are now.
    pub fn begin(table: &KeyTable) -> Self {
        Self {
            table: table.clone(),
            page: VecDeque::new(),
            large: None,
        }
    }

    /// The next piece; `None` at the end.
    pub fn piece(&mut self) -> Option<Vec<EntryImage>> {
        let (mut images, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES {
            if let Some(large) = &mut self.large {
                match large.piece() {
                    Some(image) => {
                        bytes += image.image.len();
                        images.push(image);
                    }
                    None => self.large = None,
                }
                continue;
            }
            let Some(entry) = self.page.pop_front() else {
                match self.table.take_page() {
                    Some(page) => self.page = page.into(),
                    None => break,
                }
                continue;
            };
            if let Some(pieces) = entry.value.pieces() {
                self.large = Some(Large {
                    key: entry.key,
                    expires_at: entry.expires_at,
                    pieces,
                    continues: false,
                });
                continue;
            }
            let mut image = Vec::with_capacity(image_bytes_max(&entry.value));
            put_image(&mut image, &entry.value);
            bytes += entry.key.len() + image.len();
            images.push(EntryImage {
                key: entry.key.to_vec(),
                expires_at: entry.expires_at.unix_ms(),
                image,
                continues: false,
            });
        }
        (!images.is_empty()).then_some(images)
    }
}

/// What an image holds.
#[derive(Debug)]
pub enum Restored {
    /// An entry.
    Entry(Entry),
    /// A later piece of the value under this key.
    Piece(Vec<u8>, Vec<u8>),
}

impl EntryImage {
    /// What it holds; `None` where it is none.
    pub fn restore(self) -> Option<Restored> {
        if self.continues {
            return Some(Restored::Piece(self.key, self.image));
        }
        Some(Restored::Entry(Entry {
            key: ValueBytes::new(&self.key),
            value: read_image(&self.image)?,
            expires_at: Timestamp(self.expires_at),
            version: LogPosition::ZERO,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::table::hash_of;
    use super::super::types::Value;
    use super::super::types::hash::Hash;
    use super::super::types::string::StringValue;
    use super::super::types::value::Held;
    use super::*;

    const STRING_PIECE_BYTES: usize = 1 << 20;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 / 5) as u8).collect()
    }

    /// What comes back of entries with these values, and in how many pieces.
    fn written_and_restored(written: &[(&[u8], Value)]) -> (KeyTable, usize) {
        let mut table = KeyTable::default();
        for (key, value) in written {
            let entry = Entry {
                key: ValueBytes::new(key),
                value: value.clone(),
                expires_at: Timestamp(7),
                version: LogPosition(1),
            };
            table.insert_new(hash_of(key), entry);
        }
        let mut cursor = EntriesCursor::begin(&table);
        let (mut read, mut pieces) = (KeyTable::default(), 0);
        while let Some(images) = cursor.piece() {
            pieces += 1;
            let bytes = images.iter().map(|image| image.key.len() + image.image.len());
            assert!(bytes.sum::<usize>() <= 5 * STRING_PIECE_BYTES, "a piece is a piece");
            for image in images {
                match image.restore().expect("an image") {
                    Restored::Entry(entry) => {
                        assert_eq!(entry.expires_at, Timestamp(7));
                        let hash = hash_of(&entry.key);
                        read.insert_new(hash, entry);
                    }
                    Restored::Piece(key, image) => {
                        let entry = read.find_mut(hash_of(&key), &key).expect("its beginning came before");
                        entry.value.add_piece(&image).expect("a piece of it");
                    }
                }
            }
        }
        assert_eq!(read.len(), written.len());
        (read, pieces)
    }

    #[test]
    fn long_strings_are_cut_and_come_back_whole() {
        let long_key = bytes(2 * STRING_PIECE_BYTES);
        let growing = StringValue::Bytes(ValueBytes::Growing(Arc::new(bytes(2 * STRING_PIECE_BYTES))));
        let written = [
            (&b"short"[..], StringValue::new(b"1x").into()),
            (b"fixed", StringValue::new(&bytes(5 * STRING_PIECE_BYTES / 2)).into()),
            (b"growing", growing.into()),
            (&long_key, StringValue::new(&bytes(3 * STRING_PIECE_BYTES)).into()),
        ];
        let (read, pieces) = written_and_restored(&written);
        assert!(pieces >= 3 + 2 + 2, "{pieces} pieces");
        for (key, value) in &written {
            let found = read.find(hash_of(key), key).expect("every key");
            let (found, value) = (StringValue::of(&found.value), StringValue::of(value));
            assert!(found.expect("a string").to_bytes() == value.expect("a string").to_bytes());
        }
    }

    #[test]
    fn large_hashes_are_cut_and_come_back_whole() {
        let mut hash = Hash::table();
        for number in 0..3000u32 {
            hash.set(&number.to_le_bytes(), &bytes(number as usize % 500));
        }
        let (read, pieces) = written_and_restored(&[(b"h", Value::from(Arc::new(hash.clone())))]);
        assert!(pieces > 3000 * 250 / PIECE_BYTES, "{pieces} pieces");
        let found = read.find(hash_of(b"h"), b"h").expect("the key");
        let found = Hash::of(&found.value).expect("a hash");
        assert_eq!(found.len(), hash.len());
        for field in hash.iter() {
            assert_eq!(found.get(&field.name), Some(&field.value));
        }
    }

    #[test]
    fn a_piece_of_another_type_is_refused() {
        let hash = Arc::new(Hash::table());
        let mut image = Vec::new();
        put_image(&mut image, &StringValue::new(b"text").into());
        assert!(Value::from(hash).add_piece(&image).is_none());
        assert!(
            Value::from(StringValue::new(b"12")).add_piece(&image).is_none(),
            "integers have no pieces"
        );
        assert!(Value::from(StringValue::new(b"te")).add_piece(&image).is_some());
    }
}
