//! A checkpoint being read back, part by part, into a shard. Called while a server starts.

use cartwright_core::codec::Reader;
use cartwright_protocol::Slot;

use crate::engine::books::{restore_part, restore_slot};
use crate::engine::kernel::archive::read;
use crate::engine::kernel::ids::{LogPosition, RecordKind, ShardId, ShardMap, Timestamp, TransactionId};
use crate::engine::kernel::image_positions::ImagePositions;
use crate::engine::kernel::limits::EngineLimits;
use crate::engine::kernel::packed_key::take_key;
use crate::engine::kernel::packed_transaction::read_pending;
use crate::engine::kernel::parts::{ArchivedLatest1, ArchivedPending1, ArchivedSlot1, LATEST_1, PENDING_1, SLOT_1};
use crate::engine::kernel::record::RecordError;
use crate::engine::kernel::records::KERNEL;
use crate::engine::kernel::request_keys::KeyRecord;
use crate::engine::kernel::shard::Shard;
use crate::engine::kernel::state::{Pending, State};

/// A checkpoint being read back.
#[derive(Debug)]
pub struct Restore {
    /// What was read so far.
    pub(in crate::engine) state: State,
    /// Where it ends.
    pub(in crate::engine) positions: ImagePositions,
    part_count: u64,
}

impl Restore {
    /// Reads a checkpoint of `shard` that begins at `begins`.
    pub fn new(shard: ShardId, map: ShardMap, begins: LogPosition) -> Self {
        Self {
            state: State::new(shard, map),
            positions: ImagePositions::new(begins),
            part_count: 0,
        }
    }

    /// Takes the next part, in the order in which they were written.
    pub fn part(&mut self, kind: RecordKind, bytes: &[u8]) -> Result<(), RecordError> {
        let position = LogPosition(self.part_count);
        self.part_count += 1;
        let restored = if kind.book == KERNEL {
            self.own_part(kind, bytes)
        } else {
            restore_part(self, kind, bytes)
        };
        restored
            .ok_or(RecordError::Unknown { position, kind })?
            .map_err(|detail| RecordError::Undecodable { position, detail })
    }

    fn own_part(&mut self, kind: RecordKind, bytes: &[u8]) -> Option<Result<(), String>> {
        Some(match kind {
            LATEST_1 => {
                read(bytes).map(|latest: &ArchivedLatest1| self.restore_latest(Timestamp(latest.at.to_native())))
            }
            PENDING_1 => read(bytes).and_then(|pending: &ArchivedPending1<'_>| {
                self.restore_pending(read_pending(&pending.transactions)?);
                Ok(())
            }),
            SLOT_1 => read(bytes).and_then(|slot: &ArchivedSlot1<'_>| self.slot_part(slot)),
            _ => return None,
        })
    }

    fn slot_part(&mut self, part: &ArchivedSlot1<'_>) -> Result<(), String> {
        let slot = self.own_slot(part.slot.to_native())?;
        let mut reader = Reader { bytes: &part.keys };
        let mut keys = Vec::new();
        while !reader.bytes.is_empty() {
            keys.push(take_key(&mut reader).ok_or("a request key is none")?);
        }
        self.positions.set_slot(slot, LogPosition(part.position.to_native()));
        restore_slot(&mut self.state, slot, &part.books)?;
        self.restore_request_keys(slot, Timestamp(part.keys_from.to_native()), keys)
    }

    /// The slot with this index, which is one of this shard.
    pub(in crate::engine) fn own_slot(&self, index: u16) -> Result<Slot, String> {
        let (shard, map) = self.state.owner();
        let slot = Slot::new(index).filter(|&slot| map.shard_of(slot) == shard);
        slot.ok_or_else(|| format!("slot {index} is not one of shard {shard}"))
    }

    /// No record before the checkpoint is later.
    pub(in crate::engine) fn restore_latest(&mut self, latest: Timestamp) {
        self.state.latest = self.state.latest.max(latest);
    }

    /// These pend where the checkpoint begins.
    pub(in crate::engine) fn restore_pending(&mut self, pending: Vec<(TransactionId, Pending)>) {
        self.state.pending.extend(pending);
    }

    /// The slot's request keys, but for those that things hold.
    pub(in crate::engine) fn restore_request_keys(
        &mut self,
        slot: Slot,
        from: Timestamp,
        keys: Vec<KeyRecord>,
    ) -> Result<(), String> {
        if keys.iter().any(|key| key.scope.slot() != slot) {
            return Err(format!("slot {} has a request key of another", slot.index()));
        }
        self.state.restore_request_keys(slot, from, keys);
        Ok(())
    }

    /// The shard as of the checkpoint: the log is replayed into it from behind where the checkpoint begins.
    pub fn finish(self, limits: EngineLimits) -> Shard {
        let (id, map) = self.state.owner();
        let begins = self.positions.begins;
        let mut shard = Shard::with_state(id, map, limits, self.state);
        shard.end = begins;
        shard.state.replay_over(self.positions);
        shard
    }
}
