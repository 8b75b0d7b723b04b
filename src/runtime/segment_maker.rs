//! Makes log segments in the background, and unmaps those that are done with: both take longer than a shard may wait.
//!
//! One thread for all shards, since they share the disk. A shard asks for its next segment as soon as it begins one, so
//! it has as long as a segment takes to fill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::partition::SegmentWanted;
use crate::engine::ShardId;
use crate::log::{MappedSegment, SegmentFactory, StorageError};
use crate::net::{Cause, Doorbell};

enum Order {
    Make {
        wanted: SegmentWanted,
        factory: SegmentFactory,
        done: Sender<Result<MappedSegment, StorageError>>,
        is_made: Arc<AtomicBool>,
        shard: ShardId,
    },
    Unmap(Vec<MappedSegment>),
}

/// The thread. Ends when all shards' orders are dropped.
pub struct SegmentMaker {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

/// One shard's way to the maker. At most one segment is under way at a time, so nothing piles up.
pub struct SegmentOrders {
    shard: ShardId,
    factory: SegmentFactory,
    orders: Sender<Order>,
    made: Receiver<Result<MappedSegment, StorageError>>,
    done: Sender<Result<MappedSegment, StorageError>>,
    under_way: bool,
    /// Set by the maker after it has sent, before it rings.
    is_made: Arc<AtomicBool>,
}

impl SegmentMaker {
    /// Starts the thread; it rings a shard's doorbell when its segment is there.
    pub fn start(doorbells: Arc<[Doorbell]>) -> std::io::Result<Self> {
        let (orders, incoming) = channel();
        let thread = std::thread::Builder::new().name("segments".into()).spawn(move || {
            while let Ok(order) = incoming.recv() {
                match order {
                    Order::Make {
                        wanted: SegmentWanted { number, bytes_min },
                        factory,
                        done,
                        is_made,
                        shard,
                    } => {
                        // A shard that has ended meanwhile does not want it any more.
                        let _ = done.send(factory.create_of(number, bytes_min));
                        is_made.store(true, Ordering::Release);
                        doorbells[shard.index()].ring(Cause::Mail);
                    }
                    Order::Unmap(segments) => drop(segments),
                }
            }
        })?;
        Ok(Self { orders, thread })
    }

    /// For one shard, whose segments `factory` makes.
    pub fn orders_of(&self, shard: ShardId, factory: SegmentFactory) -> SegmentOrders {
        let (done, made) = channel();
        SegmentOrders {
            shard,
            factory,
            orders: self.orders.clone(),
            made,
            done,
            under_way: false,
            is_made: Arc::default(),
        }
    }

    /// Waits until the orders of all shards, which must have ended, are carried out.
    pub fn finish(self) {
        drop(self.orders);
        // A panic there has ended the process already.
        let _ = self.thread.join();
    }
}

impl SegmentOrders {
    /// Orders a segment, unless one is under way.
    pub fn order(&mut self, wanted: SegmentWanted) {
        if !self.under_way {
            self.under_way = true;
            self.send(Order::Make {
                wanted,
                factory: self.factory.clone(),
                done: self.done.clone(),
                is_made: Arc::clone(&self.is_made),
                shard: self.shard,
            });
        }
    }

    /// Whether [`SegmentOrders::take`] has something.
    pub fn is_made(&self) -> bool {
        self.is_made.load(Ordering::Acquire)
    }

    /// What has become of the order under way, once it is known.
    pub fn take(&mut self) -> Option<Result<MappedSegment, StorageError>> {
        if !self.is_made() {
            return None;
        }
        self.is_made.store(false, Ordering::Relaxed);
        self.under_way = false;
        Some(self.made.try_recv().expect("what is said to be made was sent before"))
    }

    /// Has segments unmapped.
    pub fn unmap(&self, segments: Vec<MappedSegment>) {
        if !segments.is_empty() {
            self.send(Order::Unmap(segments));
        }
    }

    fn send(&self, order: Order) {
        assert!(self.orders.send(order).is_ok(), "the maker outlives the shards");
    }
}
