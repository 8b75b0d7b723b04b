//! The records of all books, told apart by the book in their kind.

use super::entries::records::EntriesRecord;
use super::shop::inventory::StockLine;
use super::shop::records::ShopRecord;
use super::{entries, format_2, shop};
use crate::engine::kernel::ids::{LogPosition, RecordKind};
use crate::engine::kernel::record::{Packing, Record};
use crate::engine::kernel::state::State;

/// What one book does on one shard by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BookRecord {
    /// The shop.
    Shop(ShopRecord),
    /// Keys and values.
    Entries(EntriesRecord),
}

impl From<ShopRecord> for Record {
    fn from(record: ShopRecord) -> Self {
        Self::Book(BookRecord::Shop(record))
    }
}

impl From<EntriesRecord> for Record {
    fn from(record: EntriesRecord) -> Self {
        Self::Book(BookRecord::Entries(record))
    }
}

impl BookRecord {
    /// Encodes into `buffer`, replacing what it holds; `scratch` is memory to do it in. Gives the payload's kind.
    pub fn encode(&self, scratch: &mut Vec<u8>, buffer: &mut Vec<u8>) -> RecordKind {
        match self {
            Self::Shop(record) => record.encode(scratch, buffer),
            Self::Entries(record) => record.encode(buffer),
        }
    }

    /// Encodes without copying a large first part, where there is one: what follows it is put into `buffer`. `None`:
    /// everything is in there.
    pub fn encode_behind(&self, packing: &mut Packing, buffer: &mut Vec<u8>) -> (RecordKind, Option<&[u8]>) {
        match self {
            Self::Entries(record) if record.is_large() => record.encode_behind(buffer),
            record => (record.encode(packing.bytes(), buffer), None),
        }
    }

    /// Checks and decodes a payload; `None` where no book has this kind. The error says what is wrong.
    pub fn decode(kind: RecordKind, payload: &[u8]) -> Option<Result<Record, String>> {
        if kind == RecordKind::OF_FORMAT_2 {
            return Some(format_2::Record::decode(payload).map(Record::from));
        }
        match kind.book {
            shop::BOOK => Some(ShopRecord::decode(kind, payload)?.map(Record::from)),
            entries::BOOK => Some(EntriesRecord::decode(kind, payload)?.map(Record::from)),
            _ => None,
        }
    }

    /// What it will look at is fetched: it is about to be replayed.
    pub fn look_ahead(&self, state: &State) {
        if let Self::Shop(ShopRecord::OrderChanged { change, .. }) = self
            && let Some(order) = change.order_made()
        {
            state.look_ahead_to(order);
        }
    }

    /// Applies it, at this position. Returns what a change that is over did to items here.
    pub fn apply(self, state: &mut State, position: LogPosition) -> Option<Vec<StockLine>> {
        match self {
            Self::Shop(record) => state.apply_to_shop(position, record),
            Self::Entries(EntriesRecord::Changed { at, effects }) => {
                state.latest = state.latest.max(at);
                state.apply_effects(position, &effects);
                None
            }
        }
    }
}
