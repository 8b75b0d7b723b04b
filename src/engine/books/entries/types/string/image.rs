//! A string as bytes: its image, and the pieces of a long one.

use std::sync::Arc;

use super::StringValue;
use crate::engine::books::entries::bytes::ValueBytes;

const INTEGER: u8 = 0;
const BYTES: u8 = 1;
const GROWING: u8 = 2;

/// What images of strings begin with.
pub const KINDS: &[u8] = &[INTEGER, BYTES, GROWING];

/// A longer string is cut. As large as what the shard may write of a checkpoint at once.
pub const PIECE_BYTES: usize = 1 << 20;

/// Adds the image of a string.
pub fn put(image: &mut Vec<u8>, string: &StringValue) {
    match string {
        StringValue::Integer(integer) => {
            image.push(INTEGER);
            image.extend_from_slice(&integer.to_le_bytes());
        }
        StringValue::Bytes(bytes) => put_bytes(image, bytes.is_growing(), bytes),
    }
}

/// Adds the image of bytes.
fn put_bytes(image: &mut Vec<u8>, is_growing: bool, bytes: &[u8]) {
    image.push(if is_growing { GROWING } else { BYTES });
    image.extend_from_slice(bytes);
}

/// How long the image of a string is, at most.
pub fn bytes_max(string: &StringValue) -> usize {
    1 + match string {
        StringValue::Integer(_) => size_of::<i64>(),
        StringValue::Bytes(bytes) => bytes.len(),
    }
}

/// The string of an image.
pub fn read(kind: u8, body: &[u8]) -> Option<StringValue> {
    Some(match kind {
        INTEGER => StringValue::Integer(i64::from_le_bytes(body.try_into().ok()?)),
        BYTES => StringValue::Bytes(ValueBytes::new(body)),
        GROWING => StringValue::Bytes(ValueBytes::Growing(Arc::new(body.to_vec()))),
        _ => return None,
    })
}

/// Puts more behind a string of which the beginning was read back.
pub fn add(string: &mut StringValue, kind: u8, body: &[u8]) -> Option<()> {
    match string {
        StringValue::Bytes(bytes) if matches!(kind, BYTES | GROWING) => {
            bytes.to_mut().extend_from_slice(body);
            Some(())
        }
        _ => None,
    }
}

/// A long string on its way into a checkpoint.
#[derive(Debug)]
pub struct StringPieces {
    bytes: ValueBytes,
    /// How much of it is written.
    written: usize,
}

impl StringPieces {
    /// Of a string that is too long for one piece.
    pub fn of(string: &StringValue) -> Option<Self> {
        match string {
            StringValue::Bytes(bytes) if bytes.len() > PIECE_BYTES => Some(Self {
                bytes: bytes.clone(),
                written: 0,
            }),
            _ => None,
        }
    }

    /// The image of the next piece; `None` at the end.
    pub fn next(&mut self, key_bytes: usize) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.written..];
        if rest.is_empty() {
            return None;
        }
        let piece = &rest[..rest.len().min(PIECE_BYTES.max(key_bytes))];
        let mut image = Vec::with_capacity(piece.len() + 1);
        put_bytes(&mut image, self.bytes.is_growing(), piece);
        self.written += piece.len();
        Some(image)
    }
}
