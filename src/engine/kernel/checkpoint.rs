//! Checkpoints: a shard's state written out piece by piece while it keeps changing.
//!
//! Every piece (a *part*) is the exact state of some things of one slot at one log position, which it names. Parts are
//! taken one after the other, each in a moment, from the position where the checkpoint *begins* to that where it *ends*:
//! nothing is copied ahead of a write, and no write waits. Restoring reads the parts, then replays the log from where
//! the checkpoint begins; a record reaches only those things whose part is older than it (see `State::apply`).
//! What pends when the checkpoint begins comes first.

use std::collections::VecDeque;

use cartwright_protocol::Slot;

use crate::engine::books::{SlotCursor, put_slot};
use crate::engine::kernel::archive::encode;
use crate::engine::kernel::ids::{LogPosition, RecordKind, TransactionId};
use crate::engine::kernel::packed_key::put_key;
use crate::engine::kernel::packed_transaction::put_pending;
use crate::engine::kernel::parts::{LATEST_1, Latest1, PENDING_1, Pending1, SLOT_1, Slot1};
use crate::engine::kernel::shard::Shard;
use crate::engine::kernel::slots::SlotState;
use crate::engine::kernel::state::Pending;

/// How long a part of pending transactions gets, but for one that is longer by itself.
const PENDING_PART_BYTES: usize = 1 << 20;

/// A checkpoint in progress. Belongs to the driver, which asks for part after part and writes them.
#[derive(Debug)]
pub struct CheckpointCursor {
    begins: LogPosition,
    ends: LogPosition,
    stage: Stage,
    pending: VecDeque<(TransactionId, Pending)>,
    /// What is left of the slot before.
    books: SlotCursor,
    /// Memory in which things are packed.
    packed: Vec<u8>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Latest,
    Pending,
    Slot(usize),
    Books(usize),
    Done,
}

impl CheckpointCursor {
    /// A checkpoint that begins at the end of the shard's log.
    pub fn begin(shard: &Shard) -> Self {
        Self {
            begins: shard.end,
            ends: shard.end,
            stage: Stage::Latest,
            pending: VecDeque::new(),
            books: SlotCursor::default(),
            packed: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The log is replayed from behind this position; records up to it are not needed any more.
    pub const fn begins(&self) -> LogPosition {
        self.begins
    }

    /// The latest position that a part so far shows. A checkpoint may be trusted once the log is synced up to here.
    pub const fn ends(&self) -> LogPosition {
        self.ends
    }

    /// How much of the slots is written, from 0 to 1.
    pub fn progress(&self, shard: &Shard) -> f64 {
        let range = shard.map.slots_of(shard.id);
        let at = match self.stage {
            Stage::Latest | Stage::Pending => range.start,
            Stage::Slot(slot) | Stage::Books(slot) => slot,
            Stage::Done => range.end,
        };
        (at - range.start) as f64 / range.len() as f64
    }

    /// Encodes the next part into `buffer` and says what it is; `None` when there is none. Empty slots make no part.
    /// Takes well under a millisecond unless a single slot holds tens of thousands of items or keys.
    ///
    /// The first call must come before the shard takes another step.
    pub fn next_part(&mut self, shard: &Shard, buffer: &mut Vec<u8>) -> Option<RecordKind> {
        let range = shard.map.slots_of(shard.id);
        let position = shard.end;
        let kind = loop {
            match self.stage {
                Stage::Latest => {
                    assert_eq!(self.begins, position, "what pends is taken where the checkpoint begins");
                    let pending = shard.state.pending.iter();
                    self.pending = pending.map(|(&id, pending)| (id, pending.clone())).collect();
                    let in_order = self.pending.make_contiguous();
                    in_order.sort_by_key(|(_, pending)| pending.position);
                    self.stage = Stage::Pending;
                    let at = shard.state.latest.unix_ms();
                    encode(&Latest1 { at }, buffer);
                    break LATEST_1;
                }
                Stage::Pending if self.pending.is_empty() => self.stage = Stage::Slot(range.start),
                Stage::Pending => {
                    self.pending_part(buffer);
                    break PENDING_1;
                }
                Stage::Slot(index) if index == range.end => self.stage = Stage::Done,
                Stage::Slot(index) => {
                    let state = shard.state.slot(slot_at(index));
                    if state.is_empty() {
                        self.stage = Stage::Slot(index + 1);
                        continue;
                    }
                    self.books = SlotCursor::begin(&state.books);
                    self.stage = Stage::Books(index);
                    self.slot_part(index, position, state, buffer);
                    break SLOT_1;
                }
                Stage::Books(index) => {
                    let tables = &shard.state.slot(slot_at(index)).books;
                    let packed = &mut self.packed;
                    match self.books.next_part(index as u16, position, tables, packed, buffer) {
                        Some(kind) => break kind,
                        None => self.stage = Stage::Slot(index + 1),
                    }
                }
                Stage::Done => return None,
            }
        };
        self.ends = position;
        Some(kind)
    }

    fn pending_part(&mut self, buffer: &mut Vec<u8>) {
        self.packed.clear();
        while self.packed.len() < PENDING_PART_BYTES
            && let Some((id, pending)) = self.pending.pop_front()
        {
            put_pending(&mut self.packed, &mut self.scratch, id, &pending);
        }
        let transactions = &self.packed[..];
        encode(&Pending1 { transactions }, buffer);
    }

    fn slot_part(&mut self, index: usize, position: LogPosition, state: &SlotState, buffer: &mut Vec<u8>) {
        let packed = &mut self.packed;
        packed.clear();
        state.request_keys.records().for_each(|record| put_key(packed, record));
        let keys = packed.len();
        put_slot(packed, &mut self.scratch, &state.books);
        let (keys, books) = packed.split_at(keys);
        let part = Slot1 {
            slot: index as u16,
            position: position.0,
            keys_from: state.request_keys.from().unix_ms(),
            keys,
            books,
        };
        encode(&part, buffer);
    }
}

fn slot_at(index: usize) -> Slot {
    Slot::new(index as u16).expect("a shard's slots are slots")
}
