//! The books' part in checkpoints: what is told of a slot in one moment, and what has parts of its own.
//!
//! In a slot's own part, for each book that has something to say in it: its book, kind and version (a byte each), and its
//! content (a string as in [`cartwright_core::codec`]).

use cartwright_core::codec::{Reader, put_string};
use cartwright_protocol::Slot;

use super::entries::parts::{EntriesCursor, restore_entries};
use super::shop::parts::{SLOT_1, next_orders, put_shop, restore_orders, restore_shop};
use super::{SlotTables, entries, format_2, shop};
use crate::engine::kernel::ids::{LogPosition, RecordKind};
use crate::engine::kernel::restore::Restore;
use crate::engine::kernel::state::State;

/// What is left to write of a slot behind its own part.
#[derive(Debug, Default)]
pub struct SlotCursor {
    /// Keys and values as of the slot's part.
    entries: Option<EntriesCursor>,
    /// Orders behind this number.
    orders_after: u64,
}

impl SlotCursor {
    /// The slot's own part is written.
    pub fn begin(tables: &SlotTables) -> Self {
        let entries = &tables.entries.table;
        Self {
            entries: (!entries.is_empty()).then(|| EntriesCursor::begin(entries)),
            orders_after: 0,
        }
    }

    /// Encodes the next part into `buffer` and says what it is; `None` when there is none. `packed` is memory to do it
    /// in.
    pub fn next_part(
        &mut self,
        slot: u16,
        position: LogPosition,
        tables: &SlotTables,
        packed: &mut Vec<u8>,
        buffer: &mut Vec<u8>,
    ) -> Option<RecordKind> {
        if let Some(entries) = &mut self.entries {
            let kind = entries.next_part(slot, packed, buffer);
            if kind.is_some() {
                return kind;
            }
            self.entries = None;
        }
        next_orders(&mut self.orders_after, slot, position, &tables.shop, packed, buffer)
    }
}

/// Adds what each book tells of a slot in one moment; `scratch` is memory to do it in.
pub fn put_slot(bytes: &mut Vec<u8>, scratch: &mut Vec<u8>, tables: &SlotTables) {
    scratch.clear();
    put_shop(scratch, &tables.shop);
    let RecordKind { book, kind, version } = SLOT_1;
    bytes.extend_from_slice(&[book, kind, version]);
    put_string(bytes, scratch);
}

/// Restores what each book told of a slot. The error says what is wrong with it.
pub fn restore_slot(state: &mut State, slot: Slot, bytes: &[u8]) -> Result<(), String> {
    const CUT: &str = "what a slot holds is cut short";
    let mut reader = Reader { bytes };
    while !reader.bytes.is_empty() {
        let kind = reader.take(3).ok_or(CUT)?;
        let kind = RecordKind {
            book: kind[0],
            kind: kind[1],
            version: kind[2],
        };
        let content = reader.string().ok_or(CUT)?;
        match kind {
            SLOT_1 => restore_shop(state, slot, content)?,
            _ => return Err(format!("what a slot holds is of {kind}, which is not known")),
        }
    }
    Ok(())
}

/// Restores a part; `None` where no book has this kind. The error says what is wrong with it.
pub fn restore_part(restore: &mut Restore, kind: RecordKind, bytes: &[u8]) -> Option<Result<(), String>> {
    if kind == RecordKind::OF_FORMAT_2 {
        return Some(format_2::restore(restore, bytes));
    }
    match kind.book {
        shop::BOOK => restore_orders(restore, kind, bytes),
        entries::BOOK => restore_entries(restore, kind, bytes),
        _ => None,
    }
}
