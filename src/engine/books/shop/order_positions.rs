//! Where the parts of a restored checkpoint with orders end: records up to there are in them already.

use cartwright_protocol::OrderId;
use hashbrown::HashMap;

use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::LogPosition;

/// Where the parts of a restored checkpoint with orders end: ascending by sequence number within a slot.
#[derive(Debug, Default)]
pub struct OrderPositions(HashMap<u16, Vec<(u64, LogPosition)>, TableHasher>);

impl OrderPositions {
    /// The order is restored as of this position; `None`: it has no part.
    pub fn order(&self, id: OrderId) -> Option<LogPosition> {
        let parts = self.0.get(&(id.slot().index() as u16))?;
        let part = parts.iter().find(|&&(last, _)| id.sequence() <= last)?;
        Some(part.1)
    }

    /// The parts of the slot with this index that were read.
    pub fn parts_of(&mut self, slot: u16) -> &mut Vec<(u64, LogPosition)> {
        self.0.entry(slot).or_default()
    }
}
