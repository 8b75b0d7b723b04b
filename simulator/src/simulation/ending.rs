//! How a run ends: the faults stop, and what they have left must come right.
//!
//! Everything drains, rests, fills the disk and empties it, expires and can be sold; nothing is left behind on the disk;
//! and all of it comes back after one more crash.

use cartwright::config::SyncMode;
use cartwright::engine::Timestamp;
use cartwright::log::CHECKPOINTS_KEPT;
use cartwright::runtime::MARK_SYNC_DELAY_MS;
use cartwright_protocol::{CartLine, Error, ErrorCode, Operation, OrderConfirm, OrderState, Quantity, Reply, StockGet};

use super::{DRAIN_ROUNDS_MAX, Simulation};
use crate::damage::{check_all_is_proven, check_disk_use};
use crate::disk::Crash;
use crate::key_wishes::Explained;
use crate::violation::Checked;
use crate::workload::cart;
use crate::{promise, violation};

/// In how many rounds all held orders must expire.
const EXPIRY_ROUNDS_MAX: u32 = 2000;

/// How many writes are sent to a disk that is full, at most, and how many at once.
const WRITES_TO_FILL_MAX: usize = 400;
const WRITES_AT_ONCE: usize = 8;

/// In how many rounds a server that nobody asks anything has synced what is left.
const REST_ROUNDS: u32 = 3;

/// How many rests in a row may be disturbed by something that expires.
const RESTS_MAX: u32 = 1000;

/// How long an expiry that found no room waits, and a little more.
const EXPIRY_RETRY_MS: u64 = 1100;

impl Simulation {
    /// The faults stop; everything ends, expires, adds up, and comes back after one more crash.
    pub(super) fn end(&mut self) -> Checked {
        self.trace.event(format_args!("the faults stop"));
        self.set_disk_full(false);
        self.parameters.interrupt_start = 0;
        self.read_everything()?;
        if self.parameters.disk_full > 0 {
            self.fill_disk()?;
        }
        self.expire_all()?;
        self.sell_all()?;
        self.read_everything()?;
        self.checker.check_all_refused(&self.witness.shop)?;
        let witness = &self.witness;
        let explained = Explained {
            keys: &witness.keys,
            is_durable: &|source| witness.is_durable(source),
            latest: witness.latest,
        };
        explained.check_refused(&self.key_attempts.refused)?;
        self.rest()?;
        self.check_disk_use()?;
        let server = self.server.as_ref().expect("a server runs between starts");
        let hash = server.state_hash();
        let crash = match self.parameters.sync {
            SyncMode::Always => Crash::PowerCut(0),
            SyncMode::EverySecond | SyncMode::No => Crash::Kill,
        };
        self.come_back(Crash::Kill, hash)?;
        self.come_back(crash, hash)?;
        self.shard_count = self.shard_count % 8 + 1;
        self.come_back(crash, hash)?;
        self.read_everything()
    }

    /// Nothing is asked for long enough that the last marks are synced.
    fn rest(&mut self) -> Checked {
        self.drain()?;
        self.now = self.now.max(self.witness.latest.unix_ms());
        for round in 0.. {
            promise!(round < RESTS_MAX, "after {round} rests the logs still grow");
            let before = self.server().log_ends();
            self.now += MARK_SYNC_DELAY_MS;
            for _ in 0..REST_ROUNDS {
                for shard in 0..self.server().shard_count() {
                    self.turn(shard, true)?;
                }
            }
            // What expires meanwhile is written, and begins another rest.
            if self.server().log_ends() == before {
                break;
            }
        }
        if self.parameters.sync != SyncMode::Always {
            return Ok(());
        }
        let disk = self.disk.fork();
        disk.crash(Crash::PowerCut(0), &mut self.random);
        check_all_is_proven(&disk, &self.witness)
    }

    /// After two checkpoints of every shard nothing is left on disk but these, the log behind the older one, a spare
    /// segment, and one put by.
    fn check_disk_use(&mut self) -> Checked {
        for _ in 0..CHECKPOINTS_KEPT {
            self.server().request_checkpoint();
            for round in 0.. {
                promise!(round < DRAIN_ROUNDS_MAX, "a checkpoint never ends");
                for shard in 0..self.server().shard_count() {
                    self.turn(shard, true)?;
                }
                if self.server().has_checkpoints() {
                    break;
                }
                self.now += 1;
            }
        }
        let generation = self.server().generation();
        check_disk_use(&self.disk, generation)
    }

    pub(super) fn come_back(&mut self, crash: Crash, hash: u64) -> Checked {
        self.end_process(crash);
        self.start(crash == Crash::Kill)?;
        let again = self.server().state_hash();
        promise!(
            again == hash,
            "R5: the state was {hash:x}, and is {again:x} after {crash:?} and a start with {} shards",
            self.shard_count
        );
        Ok(())
    }

    /// On a full disk every request is still answered, in bounded time, and reads go on; with room again so do writes.
    fn fill_disk(&mut self) -> Checked {
        self.set_disk_full(true);
        self.trace.event(format_args!("the disk stays full"));
        let mut is_read_only = false;
        for _ in 0..WRITES_TO_FILL_MAX / WRITES_AT_ONCE {
            let writes: Vec<_> = (0..WRITES_AT_ONCE)
                .map(|_| {
                    self.workload
                        .next(&self.parameters, &self.witness.shop, &mut self.random)
                })
                .collect();
            let answers = self.ask_at_once(writes)?;
            let read_only = |answer: &Reply| matches!(answer, Reply::Error(error) if error.code == ErrorCode::ReadOnly);
            is_read_only |= answers.iter().any(read_only);
            if is_read_only {
                break;
            }
        }
        let over = self.witness.shop.orders.keys().filter_map(|&id| {
            let order = self.witness.shop.order(id)?;
            order.expires_at.map(|at| (at.unix_ms(), id))
        });
        let over: Vec<_> = over.collect();
        self.now = over.iter().map(|&(at, _)| at).fold(self.now, u64::max) + 1;
        let confirm = |&(_, id): &(u64, _)| Operation::OrderConfirm(OrderConfirm { id, key: None });
        self.ask_at_once(over.iter().take(WRITES_AT_ONCE).map(confirm).collect())?;
        let sku = self.workload.skus()[0].clone();
        let answers = self.ask_at_once(vec![Operation::StockGet(StockGet { sku, location: None })])?;
        promise!(
            matches!(
                &answers[0],
                Reply::Stock(_)
                    | Reply::Error(Error {
                        code: ErrorCode::NoItem,
                        ..
                    })
            ),
            "a full disk refuses a read: {:?}",
            answers[0]
        );
        self.set_disk_full(false);
        self.now += EXPIRY_RETRY_MS;
        self.drain()
    }

    /// Every held order expires once its time is over. Time goes from one end to the next, so that a small log is not
    /// asked to end all of them at once.
    fn expire_all(&mut self) -> Checked {
        self.now = self.now.max(self.witness.latest.unix_ms());
        for _ in 0..EXPIRY_ROUNDS_MAX {
            let held = self.witness.shop.orders.keys().filter_map(|&id| {
                let order = self.witness.shop.order(id)?;
                (order.state == OrderState::Held).then_some(order.expires_at)
            });
            let Some(next) = held.min() else { return Ok(()) };
            let next = next.map_or(0, Timestamp::unix_ms);
            // What is over already waits for its next try.
            self.now = if next > self.now {
                next
            } else {
                self.now + EXPIRY_RETRY_MS
            };
            self.drain()?;
        }
        Err(violation!("a held order never expires, though its time is over"))
    }

    /// Whatever is available can be bought: nothing is reserved for nobody.
    fn sell_all(&mut self) -> Checked {
        let customer = self.workload.customers()[0].clone();
        for sku in self.workload.skus().to_vec() {
            let Some(item) = self.witness.shop.item(&sku) else {
                continue;
            };
            let (room, view) = (item.room(), item.view(&sku));
            let unlimited = self.workload.unlimited(view);
            self.ask(vec![unlimited])?;
            let Some(quantity) = u64::try_from(room).ok().and_then(Quantity::new) else {
                continue;
            };
            let line = CartLine { sku, quantity };
            let key = self.workload.mark();
            let answers = self.ask(vec![cart(&customer, &key, None, vec![line])])?;
            // A shard may be full of orders or keys; then this shows nothing.
            let is_sold = matches!(
                &answers[0],
                Reply::Receipt(_)
                    | Reply::Error(Error {
                        code: ErrorCode::Busy,
                        ..
                    })
            );
            promise!(
                is_sold,
                "{room} units are available, and cannot be bought: {:?}",
                answers[0]
            );
        }
        Ok(())
    }
}
