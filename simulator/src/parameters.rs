//! What one seed redraws for itself: how large everything is, how often everything happens, and what may go wrong.
//!
//! Many small, odd shapes find more than one realistic one: most seeds turn most faults off and some of them up.

use cartwright::config::SyncMode;
use cartwright::engine::{EngineLimits, EntriesLimits, Limits, ShopLimits};
use cartwright::session::SessionLimits;

use crate::random::Random;

/// Per mille of the moments at which something may happen.
pub type PerMille = u32;

/// One run's shape.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Shards at the first start.
    pub shard_count: u16,
    /// Steps before the faults end and everything must finish.
    pub steps: u32,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// The engine's bounds.
    pub limits: EngineLimits,
    /// How many SKUs, customers, locations and clients there are.
    pub items: usize,
    /// See above.
    pub customers: usize,
    /// See above; 1 is `main` alone.
    pub locations: usize,
    /// See above.
    pub clients: usize,
    /// Requests a client has open at a time, at most.
    pub pipeline: usize,
    /// Most lines of a cart.
    pub cart_lines_max: u64,
    /// Most units of a line.
    pub line_units_max: u64,
    /// Of the SKUs named, how many are the first one.
    pub hot_item: PerMille,
    /// What clients ask for, by weight.
    pub mix: Mix,
    /// Of the steps, how many are a shard's turn; the rest are clients' and the world's.
    pub turns: PerMille,
    /// How much of its mail, and of what clients have sent, a shard finds at a turn.
    pub mail: PerMille,
    /// How much of its output a client takes at a look.
    pub taken: PerMille,
    /// What one connection may take up.
    pub session_limits: SessionLimits,
    /// How much mail one shard may have under way to another; the rest waits, and no requests are taken meanwhile.
    pub mail_capacity: usize,
    /// Whether a sync that runs has ended at its shard's turn.
    pub sync_ends: PerMille,
    /// Whether a shard looks at the others' watermarks at its turn.
    pub looks: PerMille,
    /// Whether shards rest when they have nothing to do, so that a wake-up can be lost.
    pub rests: bool,
    /// At each step: a shard stops for a while.
    pub pause: PerMille,
    /// At each step: a client goes away in the middle of what it does.
    pub disconnect: PerMille,
    /// Of requests with a key: sent again at once, later, or with another body.
    pub retry: PerMille,
    /// At each step: the system writes back a part of what is not synced.
    pub write_back: PerMille,
    /// Bytes of log between two checkpoints.
    pub checkpoint_bytes: u64,
    /// At each step: somebody wants a checkpoint.
    pub checkpoint: PerMille,
    /// Of what is done to files while serving: the process ends in the middle of it.
    pub file_crash: PerMille,
    /// Of the checkpoints: the process ends as soon as it stands.
    pub checkpoint_crash: PerMille,
    /// Of the orders to write checkpoints: an operation on a file fails.
    pub file_fails: PerMille,
    /// At each hundredth step: the process is killed or the power goes.
    pub crash: PerMille,
    /// Of the crashes: orderly stops, in truth.
    pub stops: PerMille,
    /// When answers may leave. Only with [`SyncMode::Always`] does the power go, and do syncs fail: the others promise
    /// nothing then.
    pub sync: SyncMode,
    /// Of the crashes: power cuts.
    pub power_cut: PerMille,
    /// Of the starts: interrupted by another crash.
    pub interrupt_start: PerMille,
    /// Of the starts: with another number of shards.
    pub reshard: PerMille,
    /// Of the syncs: fail.
    pub sync_fails: PerMille,
    /// At each step: the disk becomes full, or has room again.
    pub disk_full: PerMille,
    /// Of the crashes: a copy of the disk is damaged, and looked at.
    pub damage: PerMille,
    /// At each step: the clock jumps.
    pub clock_jump: PerMille,
    /// Most milliseconds between two steps.
    pub step_ms_max: u64,
    /// Most milliseconds an order is held.
    pub hold_ms_max: u64,
    /// Steps between two looks at the books.
    pub books_every: u32,
}

/// What clients ask for, by weight.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Carts, placed at once.
    pub checkout: u64,
    /// Carts, held.
    pub hold: u64,
    /// `ORDER.CONFIRM`.
    pub confirm: u64,
    /// `ORDER.CANCEL`.
    pub cancel: u64,
    /// `STOCK.ADD`, mostly of units.
    pub restock: u64,
    /// `STOCK.ADD` of negative amounts.
    pub shrink: u64,
    /// `ITEM.PUT` of something there.
    pub item_put: u64,
    /// Reads of every kind.
    pub read: u64,
    /// `AUDIT`.
    pub audit: u64,
}

/// Bytes of log that one line of a cart takes at most, with its allocations; what bounds carts in small segments.
const LINE_BYTES_MAX: u64 = 240;

/// Bytes of a segment that are not for lines: marks, the order itself, its key.
const SEGMENT_BYTES_KEPT: u64 = 1200;

/// Bytes of a segment for each transaction that a shard may coordinate: a log must have room for how all of them end.
const TRANSACTION_BYTES: u64 = 1024;

impl Parameters {
    /// The shape that a seed draws.
    pub fn draw(random: &mut Random) -> Self {
        let segment_bytes = *random.pick(&[16_384, 16_384, 32_768, 65_536]);
        let lines_fit = (segment_bytes - SEGMENT_BYTES_KEPT) / LINE_BYTES_MAX;
        let mut sometimes = |one_in: u64, most: u64| -> PerMille {
            if random.below(one_in) == 0 {
                random.between(1, most) as PerMille
            } else {
                0
            }
        };
        let (pause, disconnect, retry) = (sometimes(3, 20), sometimes(3, 30), sometimes(2, 400));
        let (write_back, checkpoint, crash) = (sometimes(2, 100), sometimes(3, 30), sometimes(2, 150));
        let (interrupt_start, reshard, sync_fails) = (sometimes(2, 600), sometimes(3, 600), sometimes(4, 8));
        let (disk_full, damage, clock_jump) = (sometimes(5, 20), sometimes(2, 1000), sometimes(4, 10));
        let (file_crash, file_fails, stops) = (sometimes(3, 30), sometimes(4, 60), sometimes(3, 300));
        let checkpoint_crash = sometimes(2, 800);
        let hot_item = sometimes(2, 900);
        let sync = match random.below(8) {
            0 => SyncMode::EverySecond,
            1 => SyncMode::No,
            _ => SyncMode::Always,
        };
        let sync_fails = if sync == SyncMode::Always { sync_fails } else { 0 };
        let tiny_limits = random.below(5) == 0;
        let mut bound = |usual: u64| if tiny_limits { random.between(1, 20) } else { usual };
        let limits = EngineLimits {
            books: Limits {
                shop: ShopLimits {
                    items_max: bound(1000) + 4,
                    orders_max: bound(100_000) * 4,
                },
                entries: EntriesLimits {
                    entries_max: u64::MAX,
                    string_bytes_max: 64 << 20,
                },
            },
            request_keys_max: bound(100_000) * 4,
            transactions_max: bound(segment_bytes / TRANSACTION_BYTES) as usize,
            waiting_max: bound(1000) as usize,
        };
        let mut weight = |usual: u64| {
            if random.below(4) == 0 {
                0
            } else {
                random.between(1, usual)
            }
        };
        let mix = Mix {
            checkout: weight(40) + 5,
            hold: weight(40),
            confirm: weight(20),
            cancel: weight(20),
            restock: weight(15) + 1,
            shrink: weight(10),
            item_put: weight(5),
            read: weight(30) + 1,
            audit: weight(3),
        };
        Self {
            shard_count: random.between(1, 8).min(random.between(1, 8)) as u16,
            steps: random.between(100, 1500) as u32,
            segment_bytes,
            limits,
            items: random.between(1, 14) as usize,
            customers: random.between(1, 6) as usize,
            locations: random.between(1, 3).min(random.between(1, 3)) as usize,
            clients: random.between(1, 12) as usize,
            pipeline: random.between(1, 4).max(random.between(1, 8)) as usize,
            cart_lines_max: random.between(1, 40).min(random.between(1, 40)).min(lines_fit),
            line_units_max: random.between(1, 6),
            hot_item,
            mix,
            turns: random.between(300, 900) as PerMille,
            mail: random.between(100, 1000) as PerMille,
            taken: random.between(30, 1000) as PerMille,
            session_limits: SessionLimits {
                in_flight_max: *random.pick(&[1, 3, 1024, 1024]),
                output_bytes_max: *random.pick(&[300, 4000, 32 << 20]),
                ..SessionLimits::DEFAULT
            },
            mail_capacity: *random.pick(&[1, 3, 1000, 1000]),
            sync_ends: random.between(50, 1000) as PerMille,
            looks: random.between(100, 1000) as PerMille,
            rests: random.below(2) == 0,
            pause,
            disconnect,
            retry,
            write_back,
            checkpoint_bytes: segment_bytes * *random.pick(&[1, 2, 8, 1 << 20]),
            checkpoint,
            file_crash,
            checkpoint_crash,
            file_fails,
            crash,
            stops,
            sync,
            power_cut: random.between(200, 1000) as PerMille,
            interrupt_start,
            reshard,
            sync_fails,
            disk_full,
            damage,
            clock_jump,
            step_ms_max: random.between(0, 4),
            hold_ms_max: *random.pick(&[5, 50, 500, 604_800_000]),
            books_every: random.between(5, 60) as u32,
        }
    }
}
