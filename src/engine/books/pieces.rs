//! What each book does in a transaction over several shards, as bytes: in its records and in the checkpoint's part of what
//! pends.
//!
//! The number of pieces, and for each its book, kind and version (a byte each) and its content (a string). Kinds of
//! pieces are counted apart from those of records. The shop's: 1, units that are reserved on this shard (a byte for the
//! change of stock, then lines); 2, an order that is made (the order as it is packed); 3, an order that moves on (id, its
//! states before and after, when, its lines on this shard as a string, its request key). Keys and values: 1, effects.

use cartwright_core::codec::{Reader, put_number, put_string};

use super::shop::inventory::StockPart;
use super::shop::orders::{Decided, OrderChange};
use super::shop::packed_lines::{change_of, number_of, put_lines, read_lines};
use super::shop::packed_order::PackedOrder;
use super::shop::records::moved;
use super::{entries, shop};
use crate::engine::kernel::packed_key::{put_key_if_any, read_key_if_any};

const RESERVED_1: [u8; 3] = [shop::BOOK, 1, 1];
const ORDER_MADE_1: [u8; 3] = [shop::BOOK, 2, 1];
const ORDER_MOVED_1: [u8; 3] = [shop::BOOK, 3, 1];
const EFFECTS_1: [u8; 3] = [entries::BOOK, 1, 1];

/// All that a transaction's record holds of the books.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Units that are reserved.
    pub stock: Vec<StockPart>,
    /// Changes of orders.
    pub changes: Vec<Decided>,
    /// What it does to keys.
    pub effects: Vec<u8>,
}

fn put_piece(bytes: &mut Vec<u8>, kind: [u8; 3], content: &[u8]) {
    bytes.extend_from_slice(&kind);
    put_string(bytes, content);
}

/// Adds pieces; `scratch` is memory to do it in.
pub fn put_pieces(
    bytes: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    stock: &[StockPart],
    changes: &[Decided],
    effects: &[u8],
) {
    let count = stock.len() + changes.len() + usize::from(!effects.is_empty());
    put_number(bytes, count as u64);
    for part in stock {
        scratch.clear();
        scratch.push(number_of(part.stock));
        put_lines(scratch, &part.lines);
        put_piece(bytes, RESERVED_1, scratch);
    }
    for Decided { change, key } in changes {
        match change {
            OrderChange::Made(order) => {
                assert!(key.is_none(), "an order holds the key that made it");
                put_piece(bytes, ORDER_MADE_1, order.bytes());
            }
            OrderChange::Moved {
                id,
                from,
                to,
                at,
                lines,
            } => {
                let mut packed = Vec::new();
                put_lines(&mut packed, lines);
                scratch.clear();
                put_number(scratch, id.to_integer());
                scratch.extend_from_slice(&[*from as u8, *to as u8]);
                put_number(scratch, at.unix_ms());
                put_string(scratch, &packed);
                put_key_if_any(scratch, key.as_ref());
                put_piece(bytes, ORDER_MOVED_1, scratch);
            }
        }
    }
    if !effects.is_empty() {
        put_piece(bytes, EFFECTS_1, effects);
    }
}

/// Takes pieces. The error says what is wrong with them.
pub fn take_pieces(reader: &mut Reader<'_>) -> Result<Pieces, String> {
    const CUT: &str = "a piece of a transaction is cut short";
    let mut pieces = Pieces::default();
    for _ in 0..reader.number().ok_or(CUT)? {
        let kind = reader.take(3).ok_or(CUT)?;
        let content = reader.string().ok_or(CUT)?;
        match <[u8; 3]>::try_from(kind).expect("three were taken") {
            RESERVED_1 => pieces
                .stock
                .push(reserved(content).ok_or("units that are reserved are none")?),
            ORDER_MADE_1 => {
                let order = PackedOrder::from_bytes(content);
                order.check()?;
                pieces.changes.push(Decided {
                    change: OrderChange::Made(order),
                    key: None,
                });
            }
            ORDER_MOVED_1 => pieces.changes.push(order_moved(content)?),
            EFFECTS_1 if pieces.effects.is_empty() && entries::are_effects(content) => {
                pieces.effects = content.to_vec();
            }
            EFFECTS_1 => return Err("it does nothing to keys that is known".to_owned()),
            [book, kind, version] => {
                return Err(format!(
                    "its piece of kind {kind} of book {book}, version {version}, is not known"
                ));
            }
        }
    }
    Ok(pieces)
}

fn reserved(content: &[u8]) -> Option<StockPart> {
    let (&stock, lines) = content.split_first()?;
    Some(StockPart {
        stock: change_of(stock)?,
        lines: read_lines(lines)?,
    })
}

fn order_moved(content: &[u8]) -> Result<Decided, String> {
    let mut reader = Reader { bytes: content };
    let mut fields = || {
        let id = reader.number()?;
        let states = reader.take(2)?;
        let at = reader.number()?;
        Some(((id, states[0], states[1], at), reader.string()?))
    };
    let (fields, lines) = fields().ok_or("a change of an order is cut short")?;
    Ok(Decided {
        change: moved(fields, lines)?,
        key: read_key_if_any(reader.bytes)?,
    })
}
