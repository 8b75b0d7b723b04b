//! What a slot remembers of keys that are not there any more, for `WATCH`: which record removed a key last.
//!
//! Volatile. Only some keys are remembered one by one; the others count as removed by the last record that is forgotten,
//! which may give an `EXEC` up that need not be, and never the other way round.

use std::collections::VecDeque;

use crate::engine::kernel::ids::LogPosition;

/// Keys that are remembered one by one.
const REMEMBERED_MAX: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Removals {
    /// Every other key was removed here at the latest.
    others: LogPosition,
    /// Hashes of keys, and the records that removed them; the latest last.
    remembered: VecDeque<(u64, LogPosition)>,
}

impl Removals {
    /// The record at `position` removed the key with this hash.
    pub fn note(&mut self, hash: u64, position: LogPosition) {
        self.remembered.retain(|&(other, _)| other != hash);
        self.remembered.push_back((hash, position));
        if self.remembered.len() > REMEMBERED_MAX
            && let Some((_, forgotten)) = self.remembered.pop_front()
        {
            self.others = self.others.max(forgotten);
        }
    }

    /// The record at `position` removed every key.
    pub fn note_all(&mut self, position: LogPosition) {
        self.remembered.clear();
        self.others = position;
    }

    /// What `WATCH` compares of a key that is not there: differs from every version of one that is.
    pub fn version(&self, hash: u64) -> LogPosition {
        let found = self.remembered.iter().find(|&&(other, _)| other == hash);
        let removed_at = found.map_or(self.others, |&(_, position)| position);
        LogPosition(removed_at.0 | 1 << 63)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_never_missed_and_seldom_taken_for_that_of_another_key() {
        let mut removals = Removals::default();
        let before = removals.version(7);
        for other in 100..100 + REMEMBERED_MAX as u64 {
            removals.note(other, LogPosition(other));
        }
        assert_eq!(removals.version(7), before, "others were removed");
        removals.note(7, LogPosition(200));
        let mut last = removals.version(7);
        assert_ne!(last, before);
        for other in 300..400 {
            removals.note(other, LogPosition(other));
            let version = removals.version(7);
            assert!(
                version >= last && version != before,
                "what is forgotten counts all the same"
            );
            last = version;
        }
        removals.note_all(LogPosition(500));
        assert!(removals.version(7) > last);
    }
}
