//! How far each shard's log is safe, published to all shards: one number each, written by its shard alone.
//!
//! Saves a message per transaction: who waits for another's log looks at its number.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::engine::{LogPosition, ShardId};

/// All shards' safe positions.
#[derive(Debug)]
pub struct Watermarks(Box<[CachePadded<AtomicU64>]>);

impl Watermarks {
    /// All before their first record.
    pub fn new(shard_count: u16) -> Self {
        Self((0..shard_count).map(|_| CachePadded::default()).collect())
    }

    /// `shard` itself says how far its log is safe.
    pub fn publish(&self, shard: ShardId, position: LogPosition) {
        let before = self.0[shard.index()].swap(position.0, Ordering::AcqRel);
        assert!(before <= position.0, "a safe position never goes back");
    }

    /// How far the log of `shard` is safe, at least.
    pub fn read(&self, shard: ShardId) -> LogPosition {
        LogPosition(self.0[shard.index()].load(Ordering::Acquire))
    }
}

/// One shard's view of the others' watermarks: which have moved since it last looked.
#[derive(Debug)]
pub struct WatermarkView {
    own: ShardId,
    seen: Vec<LogPosition>,
}

impl WatermarkView {
    /// Has seen nothing.
    pub fn new(own: ShardId, shard_count: u16) -> Self {
        Self {
            own,
            seen: vec![LogPosition::ZERO; usize::from(shard_count)],
        }
    }

    /// Whether a peer's watermark has moved since the last [`WatermarkView::look`].
    pub fn has_moved(&self, watermarks: &Watermarks) -> bool {
        self.peers()
            .any(|peer| watermarks.read(peer) != self.seen[peer.index()])
    }

    /// Calls `moved` for each peer whose watermark has moved since the last look.
    pub fn look(&mut self, watermarks: &Watermarks, mut moved: impl FnMut(ShardId, LogPosition)) {
        for index in 0..self.seen.len() as u16 {
            let peer = ShardId(index);
            let position = watermarks.read(peer);
            if peer != self.own && position != self.seen[peer.index()] {
                self.seen[peer.index()] = position;
                moved(peer, position);
            }
        }
    }

    fn peers(&self) -> impl Iterator<Item = ShardId> + '_ {
        (0..self.seen.len() as u16)
            .map(ShardId)
            .filter(|&peer| peer != self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_seen_once_and_never_ones_own() {
        let watermarks = Watermarks::new(3);
        let mut view = WatermarkView::new(ShardId(1), 3);
        watermarks.publish(ShardId(1), LogPosition(5));
        assert!(!view.has_moved(&watermarks));
        watermarks.publish(ShardId(2), LogPosition(7));
        assert!(view.has_moved(&watermarks));
        let mut moves = Vec::new();
        view.look(&watermarks, |peer, position| moves.push((peer, position)));
        view.look(&watermarks, |peer, position| moves.push((peer, position)));
        assert_eq!(moves, [(ShardId(2), LogPosition(7))]);
        assert!(!view.has_moved(&watermarks));
    }
}
