//! The journal: what the engine appends its records to, and the log is.

use crate::ids::{LogPosition, RecordKind};

/// Where a step's records go, at once and in order. The driver has made sure of the room.
pub trait Journal {
    /// Appends one encoded record of this kind; its position is the next one.
    fn append(&mut self, kind: RecordKind, payload: &[u8]) -> LogPosition;

    /// The same for a record in two pieces, of which the first is too large to be copied to the other.
    fn append_pieces(&mut self, kind: RecordKind, first: &[u8], more: &[u8]) -> LogPosition {
        self.append(kind, &[first, more].concat())
    }
}
