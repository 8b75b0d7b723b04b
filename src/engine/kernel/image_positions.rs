//! Where the parts of a restored checkpoint end, thing by thing: records up to there are in them already.

use cartwright_protocol::{SLOT_COUNT, Slot};

use crate::engine::books::BookPositions;
use crate::engine::kernel::ids::LogPosition;

/// See the module's text.
#[derive(Debug)]
pub struct ImagePositions {
    /// Where the checkpoint begins.
    pub begins: LogPosition,
    slots: Vec<LogPosition>,
    /// Of things that have parts apart from their slot's.
    pub books: BookPositions,
}

impl ImagePositions {
    /// Those of a checkpoint that begins here and of which nothing was read.
    pub fn new(begins: LogPosition) -> Self {
        Self {
            begins,
            slots: vec![begins; SLOT_COUNT],
            books: BookPositions::default(),
        }
    }

    /// What `slot` holds is restored as of this position, but for what has parts of its own.
    pub fn slot(&self, slot: Slot) -> LogPosition {
        self.slots[slot.index()]
    }

    /// The slot's part was read.
    pub fn set_slot(&mut self, slot: Slot, position: LogPosition) {
        self.slots[slot.index()] = position;
    }
}
