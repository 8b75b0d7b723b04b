//! The audit: rule R1 checked over everything, on one consistent cut, and the hash of the whole state.
//!
//! The cut: every shard stops taking on changes and says so once its own are over; then every shard counts, as soon as
//! nothing of others pends on it. The sum over open orders must equal the items' counters, though orders and items live
//! on different shards: each shard adds, slot by slot, `units × coefficient(sku, location, counter)` for its items and
//! subtracts the same for its orders' lines. Over all shards every slot must come to zero; with coefficients that are
//! 64-bit hashes, books that do not balance come to zero with probability 2⁻⁶⁴. No list of items is ever exchanged.

use std::collections::VecDeque;

use cartwright_protocol::{AuditReport, Location, Reply, SLOT_COUNT, Slot};

use crate::engine::books::entries::entry_hash;
use crate::engine::books::shop::inventory::{Allocations, Item};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::books::shop::state::Counts;
use crate::engine::kernel::book::HoldsKey;
use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::ids::{LogPosition, ShardId, Timestamp};
use crate::engine::kernel::message::{ReplyTo, Request, ShardMessage};
use crate::engine::kernel::request_key_table::KeptKey;
use crate::engine::kernel::request_keys::{KeptReply, KeyRecord, Scope};
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::slots::SlotState;
use crate::engine::kernel::state::State;

/// A step of an audit, between the coordinator and every shard.
#[derive(Debug)]
pub enum AuditMessage {
    /// Take on no more changes.
    Pause,
    /// None of mine are in flight.
    Quiet,
    /// Count.
    Scan,
    /// What one shard counted.
    Counted(Box<Part>),
    /// Go on.
    Resume,
}

/// What one shard counted.
#[derive(Debug)]
pub struct Part {
    report: AuditReport,
    /// Per slot of the items' SKUs: counters minus open orders, in coefficients.
    balance: Box<[u64]>,
    /// The count shows this shard's log up to here.
    shows: LogPosition,
}

/// An audit that this shard coordinates.
#[derive(Debug)]
struct Run {
    asked: Vec<ReplyTo>,
    began: Timestamp,
    quiet_count: usize,
    parts: Vec<(ShardId, Part)>,
    /// The report, once all have counted; it waits for what it shows to be safe.
    report: Option<AuditReport>,
}

/// This shard's part in audits. Volatile.
#[derive(Debug, Default)]
pub struct Auditing {
    run: Option<Run>,
    /// Who asked for an audit while one ran: theirs begins after it, since its cut may lie before their question.
    asked_meanwhile: Vec<ReplyTo>,
    /// The coordinator for whom changes are paused here.
    paused_for: Option<ShardId>,
    said_quiet: bool,
    scan_wanted: bool,
    /// A count under way, in pieces: nothing changes meanwhile.
    scan: Option<Scan>,
    waiting: VecDeque<Request>,
}

impl Auditing {
    /// Whether changes wait.
    pub const fn is_paused(&self) -> bool {
        self.paused_for.is_some()
    }

    /// Whether a count is under way: the next piece wants a tick.
    pub const fn is_counting(&self) -> bool {
        self.scan.is_some()
    }

    /// Whether this shard takes part in an audit.
    pub const fn is_running(&self) -> bool {
        self.paused_for.is_some() || self.run.is_some()
    }
}

impl Step<'_> {
    /// `AUDIT`. The driver sends all audits to one shard.
    pub fn begin_audit(&mut self, reply_to: ReplyTo) {
        if self.shard.auditing.run.is_some() {
            if self.shard.auditing.asked_meanwhile.len() >= self.shard.limits.waiting_max {
                let error = self.shard.busy("audits waiting", self.shard.limits.waiting_max);
                return self.answer(reply_to, Reply::Error(error), LogPosition::ZERO);
            }
            return self.shard.auditing.asked_meanwhile.push(reply_to);
        }
        self.start_audit(vec![reply_to]);
    }

    fn start_audit(&mut self, asked: Vec<ReplyTo>) {
        let began = self.shard.now;
        self.shard.auditing.run = Some(Run {
            asked,
            began,
            quiet_count: 0,
            parts: Vec::new(),
            report: None,
        });
        self.tell_all(|| AuditMessage::Pause);
    }

    fn tell_all(&mut self, message: impl Fn() -> AuditMessage) {
        for shard in self.shard.map.shards() {
            self.tell(shard, message());
        }
    }

    fn tell(&mut self, to: ShardId, message: AuditMessage) {
        if to == self.shard.id {
            self.on_audit_message(to, message);
        } else {
            self.output.messages.push((to, ShardMessage::Audit(message)));
        }
    }

    /// A step of an audit arrived.
    pub fn on_audit_message(&mut self, from: ShardId, message: AuditMessage) {
        let shard_count = usize::from(self.shard.map.shard_count());
        let auditing = &mut self.shard.auditing;
        match message {
            AuditMessage::Pause => {
                assert!(auditing.paused_for.is_none(), "one audit at a time");
                auditing.paused_for = Some(from);
                auditing.said_quiet = false;
            }
            AuditMessage::Quiet => {
                let run = auditing.run.as_mut().expect("only a coordinator is told");
                run.quiet_count += 1;
                if run.quiet_count == shard_count {
                    self.tell_all(|| AuditMessage::Scan);
                }
            }
            AuditMessage::Scan => auditing.scan_wanted = true,
            AuditMessage::Counted(part) => {
                let run = auditing.run.as_mut().expect("only a coordinator is told");
                run.parts.push((from, *part));
                if run.parts.len() == shard_count {
                    run.report = Some(add_up(&run.parts));
                    let paused_ms = self.shard.now.unix_ms() - run.began.unix_ms();
                    run.report.as_mut().expect("set above").paused_ms = paused_ms;
                    self.tell_all(|| AuditMessage::Resume);
                }
            }
            AuditMessage::Resume => {
                auditing.paused_for = None;
                for request in std::mem::take(&mut auditing.waiting) {
                    self.on_mutation(request);
                }
                self.resume_keys();
            }
        }
    }

    /// Goes on with whatever part of an audit can go on now.
    pub fn continue_audit(&mut self) {
        if let Some(coordinator) = self.shard.auditing.paused_for {
            let quiet = self.shard.in_flight.is_empty()
                && self.shard.stock_queue.count() == 0
                && self.shard.keyspace.is_quiet();
            if quiet && !self.shard.auditing.said_quiet {
                self.shard.auditing.said_quiet = true;
                self.tell(coordinator, AuditMessage::Quiet);
            }
            let is_left_alone = self.shard.participating.is_empty() && self.shard.keyspace.is_left_alone();
            if self.shard.auditing.scan_wanted && is_left_alone {
                self.shard.auditing.scan_wanted = false;
                self.shard.auditing.scan = Some(Scan::new(&self.shard.state));
                self.count_on();
            }
        }
        let Some(run) = &self.shard.auditing.run else { return };
        let Some(report) = &run.report else { return };
        if run
            .parts
            .iter()
            .any(|(shard, part)| self.shard.safe[shard.index()] < part.shows)
        {
            return;
        }
        let report = Reply::Audit(report.clone());
        let run = self.shard.auditing.run.take().expect("looked at above");
        for reply_to in run.asked {
            self.answer(reply_to, report.clone(), LogPosition::ZERO);
        }
        let asked = std::mem::take(&mut self.shard.auditing.asked_meanwhile);
        if !asked.is_empty() {
            self.start_audit(asked);
        }
    }

    /// Counts the next piece; with the last one the coordinator is told. Between pieces the shard answers reads.
    pub fn count_on(&mut self) {
        let Some(mut scan) = self.shard.auditing.scan.take() else {
            return;
        };
        if scan.count_on(&self.shard.state) {
            let part = Part {
                report: scan.report,
                balance: scan.balance,
                shows: self.shard.end,
            };
            let coordinator = self.shard.auditing.paused_for.expect("a count belongs to an audit");
            self.tell(coordinator, AuditMessage::Counted(Box::new(part)));
        } else {
            self.shard.auditing.scan = Some(scan);
        }
    }

    /// A change arrives while an audit counts.
    pub fn wait_for_audit(&mut self, request: Request) {
        if self.shard.auditing.waiting.len() >= self.shard.limits.waiting_max {
            let error = self
                .shard
                .busy("changes waiting for an audit", self.shard.limits.waiting_max);
            return self.answer(request.reply_to, Reply::Error(error), LogPosition::ZERO);
        }
        self.shard.auditing.waiting.push_back(request);
    }
}

fn add_up(parts: &[(ShardId, Part)]) -> AuditReport {
    let mut sum = AuditReport::default();
    let mut balance = vec![0u64; SLOT_COUNT];
    for (_, part) in parts {
        sum.items += part.report.items;
        sum.orders += part.report.orders;
        sum.lines += part.report.lines;
        sum.violations += part.report.violations;
        sum.state_hash = sum.state_hash.wrapping_add(part.report.state_hash);
        for (slot, value) in balance.iter_mut().zip(&part.balance) {
            *slot = slot.wrapping_add(*value);
        }
    }
    sum.violations += balance.iter().filter(|&&value| value != 0).count() as u64;
    sum
}

/// Checks the books of all these states together, with nothing in flight: what an audit of a running server reports.
pub fn audit_states<'a>(states: impl Iterator<Item = (ShardId, &'a State)>) -> AuditReport {
    let part = |(shard, state)| {
        let mut scan = Scan::new(state);
        while !scan.count_on(state) {}
        (
            shard,
            Part {
                report: scan.report,
                balance: scan.balance,
                shows: LogPosition::ZERO,
            },
        )
    };
    add_up(&states.map(part).collect::<Vec<_>>())
}

/// How many things one piece of a count looks at: about a millisecond's worth.
const THINGS_PER_PIECE: u64 = 10_000;

/// A shard's count, slot by slot.
#[derive(Debug)]
struct Scan {
    next_slot: usize,
    report: AuditReport,
    balance: Box<[u64]>,
    fingerprint: Fingerprint,
}

impl Scan {
    fn new(state: &State) -> Self {
        let Counts {
            items, orders, lines, ..
        } = state.counts.books.shop;
        let report = AuditReport {
            items,
            orders,
            lines,
            ..AuditReport::default()
        };
        let balance = vec![0; SLOT_COUNT].into_boxed_slice();
        Self {
            next_slot: 0,
            report,
            balance,
            fingerprint: Fingerprint::default(),
        }
    }

    /// Counts the next piece; `true` once all is counted. The state must not change between pieces.
    fn count_on(&mut self, state: &State) -> bool {
        let mut things = 0;
        for (number, slot) in state.slots().skip(self.next_slot) {
            self.next_slot += 1;
            for item in slot.books.shop.items() {
                things += 1;
                self.count_item(item);
            }
            for order in slot.books.shop.orders() {
                things += u64::from(order.line_count());
                self.count_order(order);
            }
            things += slot.books.entries.table.len() as u64;
            let hash = slot_hash(&mut self.fingerprint, number, slot);
            self.report.state_hash = self.report.state_hash.wrapping_add(hash);
            if things >= THINGS_PER_PIECE {
                return false;
            }
        }
        true
    }

    fn count_item(&mut self, item: &Item) {
        self.report.violations += u64::from(!item_balances(item));
        let sum = &mut self.balance[item.sku.slot().index()];
        for (location, level) in item.levels() {
            for (held, units) in [(true, level.held), (false, level.committed)] {
                let value =
                    coefficient(&mut self.fingerprint, item.sku.as_bytes(), location, held).wrapping_mul(units as u64);
                *sum = sum.wrapping_add(value);
            }
        }
    }

    fn count_order(&mut self, order: &PackedOrder) {
        let Some(held) = order.open_units_are_held() else {
            return;
        };
        for line in order.lines() {
            let sku = line.sku_bytes();
            let sum = &mut self.balance[Slot::of(sku).index()];
            let mut take = |location: &str, units: u32| {
                let value = coefficient(&mut self.fingerprint, sku, location, held).wrapping_mul(units.into());
                *sum = sum.wrapping_sub(value);
            };
            match &line.allocations {
                Allocations::Main => take(Location::MAIN, line.ordered),
                Allocations::Split(parts) => {
                    for part in parts {
                        take(part.location.as_str(), part.quantity);
                    }
                }
            }
        }
    }
}

fn item_balances(item: &Item) -> bool {
    item.levels().all(|(location, level)| {
        let allowance = if location == Location::MAIN {
            i64::from(item.backorder)
        } else {
            0
        };
        level.on_hand >= 0 && level.held >= 0 && level.committed >= 0 && level.available() + allowance >= 0
    })
}

fn coefficient(fingerprint: &mut Fingerprint, sku: &[u8], location: &str, held: bool) -> u64 {
    fingerprint
        .begin(u8::from(held))
        .bytes(sku)
        .bytes(location.as_bytes())
        .finish()
}

/// Hash of the decided state. A sum over things, so that neither their order nor their shard matters.
pub fn state_hash(state: &State) -> u64 {
    let mut fingerprint = Fingerprint::default();
    state
        .slots()
        .map(|(number, slot)| slot_hash(&mut fingerprint, number, slot))
        .fold(0, u64::wrapping_add)
}

fn slot_hash(fingerprint: &mut Fingerprint, number: Slot, slot: &SlotState) -> u64 {
    let items = slot
        .books
        .shop
        .items()
        .map(|item| item_hash(fingerprint, item))
        .fold(0, u64::wrapping_add);
    let orders = slot
        .books
        .shop
        .orders()
        .map(|order| order_hash(fingerprint, order))
        .fold(0, u64::wrapping_add);
    let keys = slot
        .request_keys
        .iter(&slot.books)
        .map(|key| kept_key_hash(fingerprint, key))
        .fold(0, u64::wrapping_add);
    let entries = slot
        .books
        .entries
        .table
        .iter()
        .map(|entry| entry_hash(fingerprint, entry))
        .fold(0, u64::wrapping_add);
    let sum = items.wrapping_add(orders).wrapping_add(keys).wrapping_add(entries);
    if slot.books.shop.order_sequence == 0 {
        return sum;
    }
    sum.wrapping_add(
        fingerprint
            .begin(4)
            .integer(number.index() as u64)
            .integer(slot.books.shop.order_sequence)
            .finish(),
    )
}

fn item_hash(fingerprint: &mut Fingerprint, item: &Item) -> u64 {
    fingerprint
        .begin(1)
        .bytes(item.sku.as_bytes())
        .integer(item.price.minor_units())
        .bytes(item.currency.as_bytes())
        .bytes(item.name.as_str().as_bytes())
        .integer(item.limit.map_or(0, |limit| limit.units().into()))
        .integer(item.backorder.into());
    for (location, level) in item.levels() {
        fingerprint.bytes(location.as_bytes());
        for counter in [level.on_hand, level.held, level.committed] {
            fingerprint.integer(counter as u64);
        }
    }
    fingerprint.finish()
}

fn order_hash(fingerprint: &mut Fingerprint, order: &PackedOrder) -> u64 {
    fingerprint
        .begin(2)
        .integer(order.id().to_integer())
        .bytes(order.customer_bytes())
        .integer(order.state() as u64)
        .bytes(order.currency().as_bytes())
        .integer(order.total().minor_units())
        .integer(order.created_at().unix_ms())
        .integer(order.updated_at().unix_ms())
        .integer(order.expires_at().map_or(0, Timestamp::unix_ms));
    for line in order.lines() {
        fingerprint
            .bytes(line.sku_bytes())
            .integer(line.price.minor_units())
            .integer(line.ordered.into())
            .integer(order.cancelled_units(&line).into());
        if let Allocations::Split(parts) = &line.allocations {
            for part in parts {
                fingerprint
                    .bytes(part.location.as_bytes())
                    .integer(part.quantity.into());
            }
        }
    }
    fingerprint.finish()
}

fn kept_key_hash(fingerprint: &mut Fingerprint, kept: KeptKey<'_>) -> u64 {
    match kept {
        KeptKey::Held(holder) => holder.hash_key(fingerprint),
        KeptKey::Record(record) => key_hash(fingerprint, record),
    }
}

fn key_hash(fingerprint: &mut Fingerprint, record: &KeyRecord) -> u64 {
    fingerprint.begin(3);
    match &record.scope {
        Scope::Customer(customer) => fingerprint.integer(1).bytes(customer.as_bytes()),
        Scope::Sku(sku) => fingerprint.integer(2).bytes(sku.as_bytes()),
        Scope::Order(id) => fingerprint.integer(3).integer(id.to_integer()),
    };
    fingerprint
        .bytes(record.key.as_bytes())
        .integer(record.fingerprint)
        .integer(record.at.unix_ms());
    match &record.reply {
        KeptReply::Ok => fingerprint.integer(1),
        KeptReply::Integer(integer) => fingerprint.integer(2).integer(*integer as u64),
        KeptReply::Receipt(receipt) => fingerprint
            .integer(3)
            .integer(receipt.id.to_integer())
            .integer(receipt.state as u64)
            .integer(receipt.total.minor_units())
            .bytes(receipt.currency.as_bytes())
            .integer(receipt.expires_at_ms),
        KeptReply::State(state) => fingerprint.integer(4).integer(*state as u64),
        KeptReply::Error(error) => fingerprint
            .integer(5)
            .integer(error.code as u64)
            .bytes(error.message.as_bytes()),
    };
    fingerprint.finish()
}
