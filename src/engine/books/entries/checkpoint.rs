//! The keys of a slot in a checkpoint: taken at once, written in pieces.
//!
//! A copy of a slot's table shares its pages and values with the original, so the keys of a slot, however many, are all
//! shown at the same position; what changes while they are written is copied page by page.

use std::collections::VecDeque;

use super::bytes::ValueBytes;
use super::encoding::Strings;
use super::hash::Field;
use super::image::{image_bytes_max, put_hash_image, put_image, put_string_image, read_image, strings_of_image};
use super::table::PagedTable;
use super::value::{Entry, KeyTable, Value};
use crate::engine::kernel::ids::{LogPosition, Timestamp};

/// How long a piece gets, but for a value that is longer by itself: a field of a hash, and up to a limit a string.
const PIECE_BYTES: usize = 64 << 10;

/// A longer string is cut. As large as what the shard may write of a checkpoint at once.
const STRING_PIECE_BYTES: usize = 1 << 20;

/// A key, or a part of one, as a checkpoint holds it.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EntryImage {
    pub(super) key: Vec<u8>,
    /// Unix milliseconds; 0: never.
    pub(super) expires_at: u64,
    /// The value, or more of one.
    pub(super) image: Vec<u8>,
    /// This is more of the value that came before under the same key: fields of a hash, or bytes of a string.
    pub(super) continues: bool,
}

/// The keys of a slot on their way into a checkpoint.
#[derive(Debug)]
pub struct EntriesCursor {
    table: KeyTable,
    page: VecDeque<Entry>,
    /// A large hash that is being written.
    hash: Option<HashCursor>,
    /// A long string that is being written, and how much of it is.
    string: Option<(Entry, usize)>,
}

#[derive(Debug)]
struct HashCursor {
    key: ValueBytes,
    expires_at: Timestamp,
    fields: PagedTable<Field>,
    page: VecDeque<Field>,
    continues: bool,
}

impl HashCursor {
    /// The next fields; `None` at the end.
    fn piece(&mut self) -> Option<EntryImage> {
        let (mut fields, mut bytes) = (Vec::new(), 0);
        // Its key goes with each piece.
        while bytes < PIECE_BYTES.max(self.key.len()) {
            let Some(field) = self.page.pop_front() else {
                match self.fields.take_page() {
                    Some(page) => self.page = page.into(),
                    None => break,
                }
                continue;
            };
            bytes += field.name.len() + field.value.len();
            fields.push(field);
        }
        if fields.is_empty() {
            return None;
        }
        let mut image = Vec::with_capacity(bytes + 16 * fields.len());
        put_hash_image(&mut image, false, fields.iter());
        let continues = std::mem::replace(&mut self.continues, true);
        Some(EntryImage {
            key: self.key.to_vec(),
            expires_at: self.expires_at.unix_ms(),
            image,
            continues,
        })
    }
}

impl EntriesCursor {
    /// The keys of this table as they are now.
    pub fn begin(table: &KeyTable) -> Self {
        Self {
            table: table.clone(),
            page: VecDeque::new(),
            hash: None,
            string: None,
        }
    }

    /// The next piece; `None` at the end.
    pub fn piece(&mut self) -> Option<Vec<EntryImage>> {
        let (mut images, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES {
            if let Some(hash) = &mut self.hash {
                match hash.piece() {
                    Some(image) => {
                        bytes += image.image.len();
                        images.push(image);
                    }
                    None => self.hash = None,
                }
                continue;
            }
            if let Some((entry, written)) = &mut self.string {
                let image = string_piece(entry, written);
                bytes += image.image.len();
                images.push(image);
                if entry.value.string_bytes().is_none_or(|string| string.len() == *written) {
                    self.string = None;
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
            if let Value::Hash(hash) = &entry.value
                && let Some(fields) = hash.as_table()
            {
                self.hash = Some(HashCursor {
                    key: entry.key,
                    expires_at: entry.expires_at,
                    fields: fields.clone(),
                    page: VecDeque::new(),
                    continues: false,
                });
                continue;
            }
            if entry
                .value
                .string_bytes()
                .is_some_and(|string| string.len() > STRING_PIECE_BYTES)
            {
                self.string = Some((entry, 0));
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

/// The next part of a long string, of which so much is written.
fn string_piece(entry: &Entry, written: &mut usize) -> EntryImage {
    let string = entry.value.string_bytes().expect("only strings are cut");
    // Its key goes with each piece.
    let length = STRING_PIECE_BYTES.max(entry.key.len());
    let (start, end) = (*written, string.len().min(*written + length));
    *written = end;
    let mut image = Vec::with_capacity(end - start + 1);
    put_string_image(&mut image, string.is_growing(), &string[start..end]);
    EntryImage {
        key: entry.key.to_vec(),
        expires_at: entry.expires_at.unix_ms(),
        image,
        continues: start > 0,
    }
}

/// What an image holds.
#[derive(Debug)]
pub enum Restored {
    /// A key.
    Entry(Entry),
    /// More fields, with their values, of the hash under this key.
    Fields(Vec<u8>, Vec<u8>),
    /// More of the string under this key.
    Bytes(Vec<u8>, ValueBytes),
}

impl EntryImage {
    /// What it holds; `None` where it is none.
    pub fn restore(self) -> Option<Restored> {
        let value = read_image(&self.image)?;
        if self.continues {
            return match value {
                Value::String(bytes) => Some(Restored::Bytes(self.key, bytes)),
                Value::Hash(_) => {
                    strings_of_image(&self.image)?;
                    Some(Restored::Fields(self.key, self.image))
                }
                Value::Integer(_) => None,
            };
        }
        Some(Restored::Entry(Entry {
            key: ValueBytes::new(&self.key),
            value,
            expires_at: Timestamp(self.expires_at),
            version: LogPosition::ZERO,
        }))
    }
}

/// The fields of an image that continues a hash.
pub fn fields_of(image: &[u8]) -> Strings<'_> {
    strings_of_image(image).expect("looked through when it was read")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::table::hash_of;
    use super::*;

    #[test]
    fn long_strings_are_cut_and_come_back_whole() {
        let bytes = |length: usize| (0..length).map(|at| (at * 7 / 5) as u8).collect::<Vec<_>>();
        let long_key = bytes(2 * STRING_PIECE_BYTES);
        let written = [
            (&b"short"[..], Value::string(b"1x")),
            (b"fixed", Value::string(&bytes(5 * STRING_PIECE_BYTES / 2))),
            (
                b"growing",
                Value::String(ValueBytes::Growing(Arc::new(bytes(2 * STRING_PIECE_BYTES)))),
            ),
            (&long_key, Value::string(&bytes(3 * STRING_PIECE_BYTES))),
        ];
        let mut table = KeyTable::default();
        for (key, value) in &written {
            let entry = Entry {
                key: ValueBytes::new(key),
                value: value.clone(),
                expires_at: Timestamp(7),
                version: LogPosition(1),
            };
            table.insert_new(hash_of(key), entry);
        }
        let mut cursor = EntriesCursor::begin(&table);
        let mut read: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut pieces = 0;
        while let Some(images) = cursor.piece() {
            pieces += 1;
            let bytes = images.iter().map(|image| image.key.len() + image.image.len());
            assert!(bytes.sum::<usize>() <= 5 * STRING_PIECE_BYTES, "a piece is a piece");
            for image in images {
                match image.restore().expect("an image") {
                    Restored::Entry(entry) => {
                        let string = entry.value.as_string().expect("a string");
                        assert_eq!(entry.expires_at, Timestamp(7));
                        read.push((entry.key.to_vec(), string.to_vec()));
                    }
                    Restored::Bytes(key, bytes) => {
                        let (last, string) = read.last_mut().expect("its beginning came before");
                        assert!(*last == key);
                        string.extend_from_slice(&bytes);
                    }
                    Restored::Fields(..) => panic!("there is no hash"),
                }
            }
        }
        assert!(pieces >= 3 + 2 + 2, "{pieces} pieces");
        assert_eq!(read.len(), written.len());
        for (key, value) in &written {
            let found = read.iter().find(|(name, _)| name == key).expect("every key");
            assert!(value.as_string().is_some_and(|string| *string == *found.1));
        }
    }
}
