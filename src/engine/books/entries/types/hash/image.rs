//! A hash as bytes: its image, and the pieces of a large one.

use std::collections::VecDeque;

use super::{Field, Hash};
use crate::engine::books::entries::encoding::{LENGTH_BYTES_MAX, Reader, put_string};
use crate::engine::books::entries::table::PagedTable;
use crate::engine::books::entries::types::value_type::PIECE_BYTES;

const LIST: u8 = 3;
const TABLE: u8 = 4;

/// What images of hashes begin with.
pub const KINDS: &[u8] = &[LIST, TABLE];

/// Adds the image of a hash.
pub fn put(image: &mut Vec<u8>, hash: &Hash) {
    image.push(if hash.is_list() { LIST } else { TABLE });
    put_fields(image, hash.iter());
}

fn put_fields<'a>(image: &mut Vec<u8>, fields: impl Iterator<Item = &'a Field>) {
    for field in fields {
        put_string(image, &field.name);
        put_string(image, &field.value);
    }
}

/// How long the image of a hash is, at most.
pub fn bytes_max(hash: &Hash) -> usize {
    1 + hash.content_bytes() + hash.len() * 2 * LENGTH_BYTES_MAX
}

/// The hash of an image.
pub fn read(kind: u8, body: &[u8]) -> Option<Hash> {
    let mut hash = match kind {
        LIST => Hash::default(),
        TABLE => Hash::table(),
        _ => return None,
    };
    add_fields(&mut hash, body)?;
    Some(hash)
}

/// Puts more fields into a hash of which the first were read back.
pub fn add(hash: &mut Hash, kind: u8, body: &[u8]) -> Option<()> {
    if kind != TABLE {
        return None;
    }
    add_fields(hash, body)
}

/// `None` where they are none, or where there are none.
fn add_fields(hash: &mut Hash, bytes: &[u8]) -> Option<()> {
    let mut reader = Reader { bytes };
    while !reader.bytes.is_empty() {
        hash.set(reader.string()?, reader.string()?);
    }
    (!bytes.is_empty()).then_some(())
}

/// A large hash on its way into a checkpoint.
#[derive(Debug)]
pub struct HashPieces {
    fields: PagedTable<Field>,
    page: VecDeque<Field>,
}

impl HashPieces {
    /// Of a hash that is a table.
    pub fn of(hash: &Hash) -> Option<Self> {
        Some(Self {
            fields: hash.as_table()?.clone(),
            page: VecDeque::new(),
        })
    }

    /// The image of the next fields; `None` at the end.
    pub fn next(&mut self, key_bytes: usize) -> Option<Vec<u8>> {
        let (mut fields, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES.max(key_bytes) {
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
        let mut image = Vec::with_capacity(1 + bytes + 2 * LENGTH_BYTES_MAX * fields.len());
        image.push(TABLE);
        put_fields(&mut image, fields.iter());
        Some(image)
    }
}
