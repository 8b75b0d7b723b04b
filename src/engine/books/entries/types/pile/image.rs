//! A pile as bytes: its image, and the pieces of a high one.

use super::Pile;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::encoding::{LENGTH_BYTES_MAX, Reader, put_string};
use crate::engine::books::entries::types::value_type::PIECE_BYTES;

const HEAP: u8 = 255;

/// What images of piles begin with.
pub const KINDS: &[u8] = &[HEAP];

/// Adds the image of these.
pub fn put(image: &mut Vec<u8>, strings: &[ValueBytes]) {
    image.push(HEAP);
    for string in strings {
        put_string(image, string);
    }
}

/// How long the image of a pile is, at most.
pub fn bytes_max(pile: &Pile) -> usize {
    1 + pile
        .strings
        .iter()
        .map(|string| string.len() + LENGTH_BYTES_MAX)
        .sum::<usize>()
}

/// Puts what an image holds on top.
pub fn add(pile: &mut Pile, kind: u8, body: &[u8]) -> Option<()> {
    let mut reader = Reader { bytes: body };
    while kind == HEAP && !reader.bytes.is_empty() {
        pile.strings.push(ValueBytes::new(reader.string()?));
    }
    (kind == HEAP && !body.is_empty()).then_some(())
}

/// A high pile on its way into a checkpoint.
#[derive(Debug)]
pub struct PilePieces {
    rest: Vec<ValueBytes>,
}

impl PilePieces {
    /// Of a pile that is too high for one piece.
    pub fn of(pile: &Pile) -> Option<Self> {
        (bytes_max(pile) > PIECE_BYTES).then(|| Self {
            rest: pile.strings.clone(),
        })
    }

    /// The image of what comes next from below; `None` at the end.
    pub fn next(&mut self, key_bytes: usize) -> Option<Vec<u8>> {
        let mut bytes = 0;
        let strings = self.rest.iter().take_while(|string| {
            let is_room = bytes < PIECE_BYTES.max(key_bytes);
            bytes += string.len();
            is_room
        });
        let count = strings.count();
        if count == 0 {
            return None;
        }
        let mut image = Vec::new();
        put(&mut image, &self.rest[..count]);
        self.rest.drain(..count);
        Some(image)
    }
}
