//! What several benches share.

use cartwright::engine::{Journal, LogPosition, RecordKind};

/// A log that takes a copy of each record, as a log does, and forgets it.
#[derive(Default)]
pub struct ForgetfulLog {
    /// How many records it has taken.
    pub end: u64,
    bytes: Vec<u8>,
}

impl Journal for ForgetfulLog {
    fn append(&mut self, _: RecordKind, payload: &[u8]) -> LogPosition {
        self.bytes.clear();
        self.bytes.extend_from_slice(payload);
        self.end += 1;
        LogPosition(self.end)
    }
}
