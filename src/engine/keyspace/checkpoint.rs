//! The keys of a slot in a checkpoint: taken at once, written in pieces.
//!
//! A copy of a slot's table shares its pages and values with the original, so the keys of a slot, however many, are all
//! shown at the same position; what changes while they are written is copied page by page.

use std::collections::VecDeque;

use super::bytes::ValueBytes;
use super::encoding::Strings;
use super::hash::Field;
use super::image::{image_bytes_max, put_hash_image, put_image, read_image, strings_of_image};
use super::table::PagedTable;
use super::value::{Entry, KeyTable, Value};
use crate::engine::ids::{LogPosition, Timestamp};

/// How long a piece gets, but for a value that is longer by itself.
const PIECE_BYTES: usize = 64 << 10;

/// A key, or a part of one, as a checkpoint holds it.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EntryImage {
    key: Vec<u8>,
    /// Unix milliseconds; 0: never.
    expires_at: u64,
    /// The value, or more of one.
    image: Vec<u8>,
    /// These are more fields of the hash that came before under the same key.
    continues: bool,
}

/// The keys of a slot on their way into a checkpoint.
#[derive(Debug)]
pub struct EntriesCursor {
    table: KeyTable,
    page: VecDeque<Entry>,
    /// A large hash that is being written.
    hash: Option<HashCursor>,
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
        while bytes < PIECE_BYTES {
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
    /// A key.
    Entry(Entry),
    /// More fields, with their values, of the hash under this key.
    Fields(Vec<u8>, Vec<u8>),
}

impl EntryImage {
    /// What it holds; `None` where it is none.
    pub fn restore(self) -> Option<Restored> {
        let value = read_image(&self.image)?;
        if self.continues {
            strings_of_image(&self.image)?;
            return Some(Restored::Fields(self.key, self.image));
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
