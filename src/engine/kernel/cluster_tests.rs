//! Properties of several shards together: messages delayed at will, logs cut at a crash, no socket and no file.

use std::collections::{BTreeMap, VecDeque};

use cartwright_core::prng::{Random, SplitMix64};
use cartwright_protocol::{
    Amount, CartLine, Checkout, Currency, ErrorCode, ItemPut, Operation, OrderCancel, OrderConfirm, OrderGet, OrderId,
    OrderState, Quantity, Receipt, Reply, Sku, StockAdd, StockGet, StockView, Text,
};
use proptest::prelude::*;

use crate::engine::*;

/// Parts of a checkpoint.
type Parts = Vec<(RecordKind, Vec<u8>)>;

struct MemoryLog {
    records: Vec<(RecordKind, Vec<u8>)>,
    synced: usize,
}

impl Journal for MemoryLog {
    fn append(&mut self, kind: RecordKind, payload: &[u8]) -> LogPosition {
        self.records.push((kind, payload.to_vec()));
        LogPosition(self.records.len() as u64)
    }
}

/// A small generator of choices; the seed is what proptest draws and shrinks.
pub(in crate::engine) struct Dice(Random<SplitMix64>);

impl Dice {
    pub(in crate::engine) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub(in crate::engine) fn roll(&mut self, sides: usize) -> usize {
        self.0.index(sides)
    }
}

pub(in crate::engine) struct Cluster {
    pub(in crate::engine) map: ShardMap,
    pub(in crate::engine) shards: Vec<Shard>,
    logs: Vec<MemoryLog>,
    /// Messages between each ordered pair of shards.
    mail: BTreeMap<(usize, usize), VecDeque<ShardMessage>>,
    /// Replies that wait for their shard's log.
    gated: Vec<(usize, u64, Response, LogPosition)>,
    pub(in crate::engine) replies: BTreeMap<u64, Reply>,
    /// Of the keyspace.
    pub(in crate::engine) answers: BTreeMap<u64, Answer>,
    /// Of transactions over both.
    pub(in crate::engine) together: BTreeMap<u64, TogetherAnswer>,
    pub(in crate::engine) now: u64,
    next_sequence: u64,
    incarnation: u32,
    /// The newest whole checkpoint of each shard: where it begins, and its parts.
    checkpoints: Vec<Option<(LogPosition, Parts)>>,
    cursors: Vec<Option<(CheckpointCursor, Parts)>>,
}

impl Cluster {
    pub(in crate::engine) fn new(shard_count: u16) -> Self {
        let map = ShardMap::new(shard_count);
        let shards = map
            .shards()
            .map(|id| Shard::new(id, map, EngineLimits::default()))
            .collect();
        let logs = map
            .shards()
            .map(|_| MemoryLog {
                records: Vec::new(),
                synced: 0,
            })
            .collect();
        let mut cluster = Self {
            map,
            shards,
            logs,
            mail: BTreeMap::new(),
            gated: Vec::new(),
            replies: BTreeMap::new(),
            answers: BTreeMap::new(),
            together: BTreeMap::new(),
            now: 1_000_000,
            next_sequence: 0,
            incarnation: 0,
            checkpoints: vec![None; shard_count.into()],
            cursors: map.shards().map(|_| None).collect(),
        };
        cluster.start();
        cluster
    }

    fn start(&mut self) {
        self.incarnation += 1;
        recovery::start(&mut self.shards, self.incarnation, &mut self.logs);
        for shard in 0..self.shards.len() {
            self.input(
                shard,
                Input::LogSpace {
                    bytes: u64::MAX,
                    piece_bytes: u64::MAX,
                    blocked: None,
                },
            );
            self.sync(shard);
        }
        for reader in 0..self.shards.len() {
            self.tell_safe(reader);
        }
    }

    pub(in crate::engine) fn input(&mut self, shard: usize, input: Input) {
        let mut output = Output::default();
        self.shards[shard].step(Timestamp(self.now), input, &mut self.logs[shard], &mut output);
        self.post(shard, output.messages);
        for (reply_to, reply, after) in output.replies {
            self.gated.push((shard, reply_to.sequence, reply, after));
        }
    }

    fn post(&mut self, shard: usize, messages: Vec<(ShardId, ShardMessage)>) {
        for (to, message) in messages {
            assert_ne!(to.index(), shard, "a shard does not write to itself");
            self.mail.entry((shard, to.index())).or_default().push_back(message);
        }
    }

    /// The shard's turn ends.
    fn flush(&mut self, shard: usize) {
        let mut output = Output::default();
        self.shards[shard].flush(&mut output);
        self.post(shard, output.messages);
    }

    fn flush_all(&mut self) {
        (0..self.shards.len()).for_each(|shard| self.flush(shard));
    }

    pub(in crate::engine) fn sync(&mut self, shard: usize) {
        self.logs[shard].synced = self.logs[shard].records.len();
        let position = LogPosition(self.logs[shard].synced as u64);
        let mut released = Vec::new();
        self.gated.retain(|(at, sequence, reply, after)| {
            let held = *at != shard || *after > position;
            if !held {
                released.push((*sequence, reply.clone()));
            }
            held
        });
        for (sequence, reply) in released {
            let is_first = match reply {
                Response::Shop(reply) => self.replies.insert(sequence, reply).is_none(),
                Response::Keys(answer) => self.answers.insert(sequence, answer).is_none(),
                Response::Together(answer) => self.together.insert(sequence, *answer).is_none(),
            };
            assert!(is_first, "one reply a request");
        }
        self.input(
            shard,
            Input::Safe {
                shard: ShardId(shard as u16),
                position,
            },
        );
    }

    pub(in crate::engine) fn tell_safe(&mut self, reader: usize) {
        for writer in (0..self.shards.len()).filter(|&writer| writer != reader) {
            let position = LogPosition(self.logs[writer].synced as u64);
            self.input(
                reader,
                Input::Safe {
                    shard: ShardId(writer as u16),
                    position,
                },
            );
        }
    }

    pub(in crate::engine) fn deliver(&mut self, pair: (usize, usize)) {
        self.flush(pair.0);
        if let Some(message) = self.mail.get_mut(&pair).and_then(VecDeque::pop_front) {
            self.input(
                pair.1,
                Input::Message {
                    from: ShardId(pair.0 as u16),
                    message,
                },
            );
        }
    }

    fn send(&mut self, operation: Operation) -> u64 {
        self.ask(Ask::Shop(operation))
    }

    pub(in crate::engine) fn ask(&mut self, ask: Ask) -> u64 {
        self.next_sequence += 1;
        let shard = ask.home().map_or(ShardId(0), |slot| self.map.shard_of(slot));
        let reply_to = ReplyTo {
            shard,
            connection: 0,
            generation: 0,
            sequence: self.next_sequence,
        };
        self.input(shard.index(), Question { reply_to, ask }.into());
        self.next_sequence
    }

    /// A checkpoint stands for the log before it once that log is synced, and once every shard that had a part in its
    /// transactions has their outcome on disk: what this shard said before has arrived there and is synced.
    fn may_publish(&self, shard: usize, cursor: &CheckpointCursor) -> bool {
        cursor.ends().0 <= self.logs[shard].synced as u64
            && self
                .mail
                .iter()
                .all(|(&(from, _), queue)| from != shard || queue.is_empty())
            && self.logs.iter().all(|log| log.synced == log.records.len())
    }

    /// A few parts of a checkpoint; the first if none is being written.
    fn write_checkpoint(&mut self, shard: usize, parts: usize) {
        self.flush(shard);
        let begin = || (CheckpointCursor::begin(&self.shards[shard]), Vec::new());
        let (mut cursor, mut written) = self.cursors[shard].take().unwrap_or_else(begin);
        let mut buffer = Vec::new();
        for _ in 0..parts {
            if let Some(kind) = cursor.next_part(&self.shards[shard], &mut buffer) {
                written.push((kind, buffer.clone()));
            } else if self.may_publish(shard, &cursor) {
                self.checkpoints[shard] = Some((cursor.begins(), written));
                return;
            }
        }
        self.cursors[shard] = Some((cursor, written));
    }

    /// One random event.
    pub(in crate::engine) fn happen(&mut self, dice: &mut Dice) {
        let count = self.shards.len();
        match dice.roll(9) {
            8 => self.write_checkpoint(dice.roll(count), 1 + dice.roll(8)),
            0 => self.sync(dice.roll(count)),
            1 => self.tell_safe(dice.roll(count)),
            2 => {
                self.now += dice.roll(20) as u64;
                self.input(dice.roll(count), Input::Tick);
            }
            _ => {
                self.flush(dice.roll(count));
                let waiting: Vec<_> = self
                    .mail
                    .iter()
                    .filter(|(_, queue)| !queue.is_empty())
                    .map(|(&pair, _)| pair)
                    .collect();
                if !waiting.is_empty() {
                    self.deliver(waiting[dice.roll(waiting.len())]);
                }
            }
        }
    }

    /// Every shard publishes a checkpoint, with nothing in flight.
    pub(in crate::engine) fn checkpoint_all(&mut self) {
        self.drain();
        for shard in 0..self.shards.len() {
            self.write_checkpoint(shard, usize::MAX);
            assert!(
                self.cursors[shard].is_none(),
                "with nothing in flight a checkpoint is published"
            );
        }
    }

    /// Every message on its way arrives.
    pub(in crate::engine) fn deliver_all(&mut self) {
        self.flush_all();
        while let Some((&pair, _)) = self.mail.iter().find(|(_, queue)| !queue.is_empty()) {
            self.deliver(pair);
            self.flush_all();
        }
    }

    /// Everything in flight ends; panics where something is stuck.
    pub(in crate::engine) fn drain(&mut self) {
        for _ in 0..200 {
            self.deliver_all();
            for shard in 0..self.shards.len() {
                self.sync(shard);
                self.tell_safe(shard);
                if self.shards[shard].is_counting() {
                    self.input(shard, Input::Tick);
                }
            }
            if self.mail.values().all(VecDeque::is_empty)
                && self.gated.is_empty()
                && self.shards.iter().all(Shard::is_idle)
            {
                return;
            }
        }
        panic!("something is stuck: {:?} {:?}", self.gated, self.mail);
    }

    pub(in crate::engine) fn call(&mut self, operation: Operation) -> Reply {
        let sequence = self.send(operation);
        self.drain();
        self.replies[&sequence].clone()
    }

    /// Power is cut: each log keeps what was synced and a random part of the rest; what was in flight is gone.
    pub(in crate::engine) fn crash(&mut self, dice: &mut Dice) {
        for log in &mut self.logs {
            let kept = log.synced + dice.roll(log.records.len() - log.synced + 1);
            log.records.truncate(kept);
        }
        self.mail.clear();
        self.gated.clear();
        self.cursors.fill_with(|| None);
        self.shards = self.replayed();
        self.start();
    }

    pub(in crate::engine) fn replayed(&self) -> Vec<Shard> {
        let replayed = self.map.shards().zip(&self.logs).map(|(id, log)| {
            let mut begins = 0;
            let mut shard = Shard::new(id, self.map, EngineLimits::default());
            if let Some((position, parts)) = &self.checkpoints[id.index()] {
                let mut restore = Restore::new(id, self.map, *position);
                for (kind, part) in parts {
                    restore.part(*kind, part).expect("a part reads back");
                }
                shard = restore.finish(EngineLimits::default());
                begins = position.0 as usize;
            }
            for (index, (kind, payload)) in log.records.iter().enumerate().skip(begins) {
                shard
                    .replay(LogPosition(index as u64 + 1), *kind, payload)
                    .expect("a log replays");
            }
            shard
        });
        replayed.collect()
    }

    pub(in crate::engine) fn state_hash(&self) -> u64 {
        self.shards.iter().map(Shard::state_hash).fold(0, u64::wrapping_add)
    }

    pub(in crate::engine) fn check_books(&mut self) {
        self.drain();
        let Reply::Audit(report) = self.call(Operation::Audit) else {
            panic!("an audit reports")
        };
        assert_eq!(report.violations, 0, "{report:?}");
        assert_eq!(report.state_hash, self.state_hash());
        let mut replayed = self.replayed();
        recovery::resolve(&mut replayed);
        let hash = replayed.iter().map(Shard::state_hash).fold(0, u64::wrapping_add);
        assert_eq!(hash, self.state_hash(), "replaying the logs gives the same state");
    }

    pub(in crate::engine) fn stock(&mut self, sku: &Sku) -> StockView {
        match self.call(Operation::StockGet(StockGet {
            sku: sku.clone(),
            location: None,
        })) {
            Reply::Stock(view) => view,
            other => panic!("{other:?}"),
        }
    }
}

pub(in crate::engine) fn sku(number: usize) -> Sku {
    format!("sku-{number}").parse().unwrap()
}

fn put(sku: Sku) -> Operation {
    Operation::ItemPut(Box::new(ItemPut {
        sku,
        price: Amount::new(250).unwrap(),
        currency: Currency::new(b"GBP").unwrap(),
        name: Text::default(),
        limit: None,
        backorder: None,
        key: None,
    }))
}

fn put_limited(sku: Sku, limit: u64) -> Operation {
    let Operation::ItemPut(mut put) = put(sku) else {
        unreachable!("put makes an ITEM.PUT")
    };
    put.limit = Quantity::new(limit);
    Operation::ItemPut(put)
}

fn add(sku: Sku, delta: i64) -> Operation {
    Operation::StockAdd(Box::new(StockAdd {
        sku,
        delta,
        location: None,
        reason: Text::default(),
        key: None,
    }))
}

pub(in crate::engine) fn checkout(customer: usize, key: u64, hold_ms: Option<u32>, lines: &[(Sku, u64)]) -> Operation {
    let line = |(sku, units): &(Sku, u64)| CartLine {
        sku: sku.clone(),
        quantity: Quantity::new(*units).unwrap(),
    };
    Operation::Checkout(Box::new(Checkout {
        customer: format!("customer-{customer}").parse().unwrap(),
        key: format!("key-{key}").parse().unwrap(),
        hold_ms,
        lines: lines.iter().map(line).collect(),
    }))
}

pub(in crate::engine) fn stocked(shard_count: u16, items: usize, units: i64) -> Cluster {
    let mut cluster = Cluster::new(shard_count);
    for number in 0..items {
        assert_eq!(cluster.call(put(sku(number))), Reply::Ok);
        assert_eq!(cluster.call(add(sku(number), units)), Reply::Integer(units));
    }
    cluster
}

fn receipt(reply: &Reply) -> &Receipt {
    match reply {
        Reply::Receipt(receipt) => receipt,
        other => panic!("wanted a receipt, got {other:?}"),
    }
}

fn refused_with(reply: &Reply, code: ErrorCode) {
    assert!(
        matches!(reply, Reply::Error(error) if error.code == code),
        "wanted {code:?}, got {reply:?}"
    );
}

mod found_once;

#[test]
fn a_cart_is_all_or_nothing_across_shards() {
    for shard_count in [1, 2, 3, 5] {
        let mut cluster = stocked(shard_count, 10, 5);
        let all: Vec<_> = (0..10).map(|number| (sku(number), 3)).collect();
        let made = cluster.call(checkout(1, 1, None, &all));
        assert_eq!(
            (receipt(&made).state, receipt(&made).total.minor_units()),
            (OrderState::Placed, 7500)
        );
        refused_with(&cluster.call(checkout(1, 2, None, &all)), ErrorCode::OutOfStock);
        for number in 0..10 {
            let view = cluster.stock(&sku(number));
            assert_eq!((view.on_hand, view.committed, view.available), (5, 3, 2));
        }
        cluster.check_books();
    }
}

#[test]
fn the_same_requests_give_the_same_state_on_any_number_of_shards() {
    let hash = |shard_count| {
        let mut cluster = stocked(shard_count, 6, 50);
        for number in 0..30 {
            let lines: Vec<_> = (0..=number % 4)
                .map(|line| (sku((number + line) % 6), 1 + line as u64))
                .collect();
            let hold = (number % 3 == 0).then_some(1000);
            let made = cluster.call(checkout(number % 7, number as u64, hold, &lines));
            if let (Reply::Receipt(receipt), 1) = (&made, number % 5) {
                cluster.call(Operation::OrderCancel(OrderCancel {
                    id: receipt.id,
                    key: None,
                }));
            }
        }
        cluster.check_books();
        cluster.state_hash()
    };
    let one = hash(1);
    assert_eq!([one; 3], [hash(2), hash(3), hash(8)]);
}

#[test]
fn a_retry_gets_the_first_answer_and_another_body_is_a_conflict() {
    let mut cluster = stocked(3, 4, 10);
    let lines = [(sku(0), 2), (sku(1), 2)];
    let first = cluster.call(checkout(1, 9, None, &lines));
    assert_eq!(cluster.call(checkout(1, 9, None, &lines)), first);
    refused_with(&cluster.call(checkout(1, 9, None, &lines[..1])), ErrorCode::Conflict);
    assert_eq!(cluster.stock(&sku(0)).committed, 2);
    // A refusal is an answer too: it stays the answer to its key, whatever has changed meanwhile.
    let many = [(sku(2), 11)];
    refused_with(&cluster.call(checkout(1, 10, None, &many)), ErrorCode::OutOfStock);
    cluster.call(add(sku(2), 10));
    refused_with(&cluster.call(checkout(1, 10, None, &many)), ErrorCode::OutOfStock);
    receipt(&cluster.call(checkout(1, 11, None, &many)));
}

#[test]
fn a_retry_joins_the_request_in_flight() {
    let mut cluster = stocked(2, 4, 10);
    let lines: Vec<_> = (0..4).map(|number| (sku(number), 1)).collect();
    let (one, two) = (
        cluster.send(checkout(1, 5, None, &lines)),
        cluster.send(checkout(1, 5, None, &lines)),
    );
    let other = cluster.send(checkout(1, 5, None, &lines[1..]));
    cluster.drain();
    assert_eq!(cluster.replies[&one], cluster.replies[&two]);
    receipt(&cluster.replies[&one]);
    refused_with(&cluster.replies[&other], ErrorCode::Conflict);
    assert_eq!(cluster.stock(&sku(0)).committed, 1);
}

#[test]
fn a_held_order_expires_and_every_unit_is_available_again() {
    for shard_count in [1, 3] {
        let mut cluster = stocked(shard_count, 5, 2);
        let all: Vec<_> = (0..5).map(|number| (sku(number), 2)).collect();
        let made = cluster.call(checkout(1, 1, Some(50), &all));
        let id = receipt(&made).id;
        assert_eq!(cluster.stock(&sku(3)).held, 2);
        cluster.now += 50;
        for shard in 0..cluster.shards.len() {
            cluster.input(shard, Input::Tick);
        }
        cluster.drain();
        assert_eq!(cluster.stock(&sku(3)).available, 2);
        refused_with(
            &cluster.call(Operation::OrderConfirm(OrderConfirm { id, key: None })),
            ErrorCode::State,
        );
        cluster.check_books();
    }
}

#[test]
fn a_confirm_after_the_time_finds_the_order_expired_even_without_a_tick() {
    let mut cluster = stocked(3, 5, 2);
    let all: Vec<_> = (0..5).map(|number| (sku(number), 2)).collect();
    let made = cluster.call(checkout(1, 1, Some(50), &all));
    cluster.now += 60;
    refused_with(
        &cluster.call(Operation::OrderConfirm(OrderConfirm {
            id: receipt(&made).id,
            key: None,
        })),
        ErrorCode::State,
    );
    assert_eq!(cluster.stock(&sku(0)).available, 2);
}

#[test]
fn confirm_then_cancel_moves_the_units_and_repeats_change_nothing() {
    for shard_count in [1, 4] {
        let mut cluster = stocked(shard_count, 5, 9);
        let all: Vec<_> = (0..5).map(|number| (sku(number), 2)).collect();
        let id = receipt(&cluster.call(checkout(1, 1, Some(60_000), &all))).id;
        for _ in 0..2 {
            let confirmed = cluster.call(Operation::OrderConfirm(OrderConfirm { id, key: None }));
            assert_eq!(confirmed, Reply::State(OrderState::Placed));
        }
        let view = cluster.stock(&sku(1));
        assert_eq!((view.held, view.committed, view.available), (0, 2, 7));
        for _ in 0..2 {
            let cancelled = cluster.call(Operation::OrderCancel(OrderCancel { id, key: None }));
            assert_eq!(cancelled, Reply::State(OrderState::Cancelled));
        }
        assert_eq!(cluster.stock(&sku(1)).available, 9);
        cluster.check_books();
    }
}

#[test]
fn one_customer_has_at_most_the_limit_also_with_two_carts_at_once() {
    for shard_count in [1, 2, 4] {
        let mut cluster = stocked(shard_count, 4, 100);
        assert_eq!(cluster.call(put_limited(sku(0), 3)), Reply::Ok);
        let lines = [(sku(0), 2), (sku(1), 1), (sku(2), 1)];
        let (one, two) = (
            cluster.send(checkout(1, 1, None, &lines)),
            cluster.send(checkout(1, 2, None, &lines)),
        );
        cluster.drain();
        let (first, second) = (cluster.replies[&one].clone(), cluster.replies[&two].clone());
        let id = receipt(&first).id;
        refused_with(&second, ErrorCode::Limit);
        receipt(&cluster.call(checkout(2, 3, None, &lines)));
        receipt(&cluster.call(checkout(1, 4, None, &lines[1..])));
        cluster.call(Operation::OrderCancel(OrderCancel { id, key: None }));
        receipt(&cluster.call(checkout(1, 5, None, &lines)));
        refused_with(&cluster.call(checkout(1, 2, None, &lines)), ErrorCode::Limit);
        cluster.check_books();
    }
}

#[test]
fn nothing_is_answered_before_every_participant_is_safe() {
    let mut cluster = stocked(2, 8, 9);
    let all: Vec<_> = (0..8).map(|number| (sku(number), 1)).collect();
    let sequence = cluster.send(checkout(1, 1, None, &all));
    for _ in 0..10 {
        for pair in [(0, 1), (1, 0)] {
            cluster.deliver(pair);
        }
    }
    assert!(!cluster.replies.contains_key(&sequence));
    cluster.sync(0);
    cluster.tell_safe(0);
    cluster.tell_safe(1);
    assert!(
        !cluster.replies.contains_key(&sequence),
        "one of two logs is not enough"
    );
    cluster.drain();
    receipt(&cluster.replies[&sequence]);
}

#[test]
fn a_full_log_refuses_writes_and_reads_go_on() {
    let mut cluster = stocked(1, 1, 5);
    cluster.input(
        0,
        Input::LogSpace {
            bytes: 100,
            piece_bytes: 100,
            blocked: Some("the disk is full"),
        },
    );
    refused_with(&cluster.call(checkout(1, 1, None, &[(sku(0), 1)])), ErrorCode::ReadOnly);
    assert_eq!(cluster.stock(&sku(0)).available, 5);
    cluster.input(
        0,
        Input::LogSpace {
            bytes: 1 << 20,
            piece_bytes: 1 << 20,
            blocked: None,
        },
    );
    receipt(&cluster.call(checkout(1, 1, None, &[(sku(0), 1)])));
}

#[test]
fn slots_go_to_another_number_of_shards_whole() {
    let mut cluster = stocked(3, 9, 9);
    let all: Vec<_> = (0..9).map(|number| (sku(number), 1)).collect();
    cluster.call(checkout(1, 1, Some(1000), &all));
    cluster.check_books();
    let (hash, latest) = (cluster.state_hash(), cluster.now);
    let shards = recovery::repartition(cluster.replayed(), 2, EngineLimits::default());
    assert_eq!(shards.iter().map(Shard::state_hash).fold(0, u64::wrapping_add), hash);
    assert_eq!(recovery::audit(&shards).violations, 0);
    assert!(
        shards
            .iter()
            .any(|shard| shard.next_timer().is_some_and(|at| at.unix_ms() <= latest + 1000))
    );
}

/// A customer, lines and a key.
type Cart = (usize, Vec<(Sku, u64)>, u64);

/// What a client did and what it was told.
struct History {
    carts: BTreeMap<u64, Cart>,
}

fn random_traffic(cluster: &mut Cluster, dice: &mut Dice, items: usize, requests: usize, history: &mut History) {
    let mut known: Vec<OrderId> = Vec::new();
    for _ in 0..requests {
        match dice.roll(10) {
            0 => drop(cluster.send(add(
                sku(dice.roll(items)),
                dice.roll(5) as i64 - 2 + 3 * i64::from(dice.roll(2) == 0),
            ))),
            1 if !known.is_empty() => {
                let id = known[dice.roll(known.len())];
                cluster.send(Operation::OrderConfirm(OrderConfirm { id, key: None }));
            }
            2 if !known.is_empty() => {
                let id = known[dice.roll(known.len())];
                cluster.send(Operation::OrderCancel(OrderCancel { id, key: None }));
            }
            3 => drop(cluster.send(Operation::StockGet(StockGet {
                sku: sku(dice.roll(items)),
                location: None,
            }))),
            _ => {
                let lines: Vec<_> = (0..=dice.roll(4))
                    .map(|_| (sku(dice.roll(items)), 1 + dice.roll(2) as u64))
                    .collect();
                let (customer, key) = (dice.roll(5), cluster.next_sequence);
                let hold = (dice.roll(3) == 0).then_some(1 + dice.roll(60) as u32);
                let sequence = cluster.send(checkout(customer, key, hold, &lines));
                history.carts.insert(sequence, (customer, lines, key));
            }
        }
        for _ in 0..dice.roll(12) {
            cluster.happen(dice);
        }
        known.extend(cluster.replies.values().rev().take(3).filter_map(|reply| match reply {
            Reply::Receipt(receipt) => Some(receipt.id),
            _ => None,
        }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn books_balance_and_replay_agrees_whatever_the_order_of_events(seed: u64, shard_count in 1u16..6, items in 1usize..9) {
        let mut dice = Dice::new(seed);
        let mut cluster = stocked(shard_count, items, 6);
        let mut history = History { carts: BTreeMap::new() };
        random_traffic(&mut cluster, &mut dice, items, 60, &mut history);
        cluster.check_books();
        for sequence in history.carts.keys() {
            prop_assert!(cluster.replies.contains_key(sequence), "every request is answered");
        }
    }

    #[test]
    fn what_was_acknowledged_survives_crashes_and_nothing_is_half_there(
        seed: u64,
        shard_count in 1u16..6,
        items in 1usize..9,
    ) {
        let mut dice = Dice::new(seed);
        let mut cluster = stocked(shard_count, items, 12);
        let mut history = History { carts: BTreeMap::new() };
        for _ in 0..4 {
            random_traffic(&mut cluster, &mut dice, items, 25, &mut history);
            if dice.roll(2) == 0 {
                cluster.checkpoint_all();
                random_traffic(&mut cluster, &mut dice, items, 10, &mut history);
            }
            let told = cluster.replies.clone();
            cluster.crash(&mut dice);
            cluster.check_books();
            for (sequence, (customer, lines, key)) in &history.carts {
                let Some(Reply::Receipt(receipt)) = told.get(sequence) else { continue };
                let again = cluster.call(checkout(*customer, *key, None, lines));
                match again {
                    Reply::Receipt(second) => prop_assert_eq!(&second, receipt),
                    // A hold is part of the body; a conflict shows that the key is known.
                    Reply::Error(error) => prop_assert_eq!(error.code, ErrorCode::Conflict),
                    other => prop_assert!(false, "{:?}", other),
                }
                let found = cluster.call(Operation::OrderGet(OrderGet { id: receipt.id }));
                prop_assert!(matches!(&found, Reply::Order(order) if order.total == receipt.total), "{:?}", found);
            }
        }
    }
}
