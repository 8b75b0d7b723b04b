//! No checkpoint is published before its time: several partitions, messages delayed at will, syncs that come when they
//! come.

use std::collections::{BTreeMap, VecDeque};

use cartwright_protocol::{Amount, CartLine, Checkout, Currency, ItemPut, Operation, Quantity, Sku, StockAdd, Text};
use proptest::prelude::*;

use super::super::partition::SegmentWanted;
use super::*;
use crate::config::SyncMode;
use crate::engine::recovery::start;
use crate::engine::{EngineLimits, RecordKind, ReplyTo, Request, Restore, Shard, ShardMessage};
use crate::log::{
    Generation, LOG_FORMAT_VERSION, LogIdentity, LogWriter, Salt, SegmentHeader, SegmentNumber, SyncPlan,
};

const SHARDS: u16 = 3;
const SEGMENT_BYTES: u64 = 256 << 10;
const NOW: Timestamp = Timestamp(1_000_000);
const SKUS: usize = 30;

fn identity(shard: ShardId) -> LogIdentity {
    LogIdentity {
        generation: Generation(1),
        shard,
        shard_count: SHARDS,
    }
}

fn segment(shard: ShardId, number: SegmentNumber) -> Vec<u8> {
    let mut bytes = vec![0; SEGMENT_BYTES as usize];
    SegmentHeader {
        version: LOG_FORMAT_VERSION,
        identity: identity(shard),
        number,
        segment_bytes: SEGMENT_BYTES,
        salt: Salt(number.0),
    }
    .encode(&mut bytes);
    bytes
}

enum Mail {
    Message(ShardMessage),
    Checkpoint(CheckpointMessage),
}

struct Node {
    partition: Partition<Vec<u8>>,
    checkpointing: Checkpointing,
    sync: Option<SyncPlan>,
    begun: bool,
    /// Parts of the checkpoint under way, and where they end.
    parts: Vec<(RecordKind, Vec<u8>)>,
    begins: LogPosition,
    ends: Option<LogPosition>,
    publish: bool,
    published: u64,
}

/// Engine messages between a pair of shards.
#[derive(Default)]
struct Pair {
    queue: VecDeque<Mail>,
    sent: usize,
    /// The end of the receiver's log after each that came.
    led_to: Vec<LogPosition>,
    /// How many had been sent when the sender's checkpoint began.
    sent_before: usize,
}

struct Cluster {
    map: ShardMap,
    nodes: Vec<Node>,
    pairs: BTreeMap<(usize, usize), Pair>,
    requests: u64,
}

impl Cluster {
    fn new(mode: SyncMode) -> Self {
        let map = ShardMap::new(SHARDS);
        let mut shards: Vec<_> = map
            .shards()
            .map(|id| Shard::new(id, map, EngineLimits::default()))
            .collect();
        let mut logs: Vec<_> = map
            .shards()
            .map(|id| LogWriter::create(identity(id), segment(id, SegmentNumber::FIRST)))
            .collect();
        start(&mut shards, 1, &mut logs);
        let nodes = shards
            .into_iter()
            .zip(logs)
            .map(|(shard, mut log)| {
                let plan = log.begin_sync().expect("a start writes a record");
                log.sync_done(plan);
                let partition = Partition::new(shard, log, mode);
                let checkpointing = Checkpointing::new(&partition, map, 1 << 40, CheckpointPast::default());
                Node {
                    partition,
                    checkpointing,
                    sync: None,
                    begun: false,
                    parts: Vec::new(),
                    begins: LogPosition::ZERO,
                    ends: None,
                    publish: false,
                    published: 0,
                }
            })
            .collect();
        let mut cluster = Self {
            map,
            nodes,
            pairs: BTreeMap::new(),
            requests: 0,
        };
        for number in 0..SKUS {
            cluster.put(number);
            cluster.request(Operation::StockAdd(Box::new(StockAdd {
                sku: sku(number),
                delta: 1_000_000,
                location: None,
                reason: Text::default(),
                key: None,
            })));
        }
        cluster
    }

    fn request(&mut self, operation: Operation) {
        self.requests += 1;
        let shard = self.map.shard_of(operation.home().expect("these have a home"));
        let reply_to = ReplyTo {
            shard,
            connection: 0,
            generation: 0,
            sequence: self.requests,
        };
        let partition = &mut self.nodes[shard.index()].partition;
        partition.request(NOW, Request { reply_to, operation });
        self.turn(shard.index(), 0);
    }

    fn put(&mut self, number: usize) {
        self.request(Operation::ItemPut(Box::new(ItemPut {
            sku: sku(number),
            price: Amount::new(100).unwrap(),
            currency: Currency::new(b"GBP").unwrap(),
            name: Text::default(),
            limit: None,
            backorder: None,
            key: None,
        })));
    }

    fn check_out(&mut self, customer: usize, first: usize, lines: usize) {
        let line = |line: usize| CartLine {
            sku: sku((first + line) % SKUS),
            quantity: Quantity::new(1).unwrap(),
        };
        self.request(Operation::Checkout(Box::new(Checkout {
            customer: format!("customer-{customer}").parse().unwrap(),
            key: format!("key-{}", self.requests).parse().unwrap(),
            hold_ms: None,
            lines: (0..lines).map(line).collect(),
        })));
    }

    /// A turn of the shard's loop, which takes so many parts of a checkpoint.
    fn turn(&mut self, own: usize, parts: usize) {
        let node = &mut self.nodes[own];
        if let Some(SegmentWanted { number, .. }) = node.partition.wants_segment() {
            node.partition.offer_segment(NOW, segment(ShardId(own as u16), number));
        }
        node.partition.settle(NOW);
        node.checkpointing.advance(NOW, &mut node.partition);
        for _ in 0..parts {
            node.checkpointing.take_part(&mut node.partition, Vec::new());
        }
        node.partition.released().for_each(drop);
        for (to, message) in node.partition.messages() {
            let pair = self.pairs.entry((own, to.index())).or_default();
            pair.queue.push_back(Mail::Message(message));
            pair.sent += 1;
        }
        for (to, message) in node.checkpointing.messages() {
            let pair = self.pairs.entry((own, to.index())).or_default();
            pair.queue.push_back(Mail::Checkpoint(message));
        }
        let orders: Vec<_> = node.checkpointing.orders().collect();
        for order in orders {
            self.carry_out(own, order);
        }
    }

    fn carry_out(&mut self, own: usize, order: CheckpointOrder) {
        let node = &mut self.nodes[own];
        match order {
            CheckpointOrder::Begin { begins } => {
                assert!(!std::mem::replace(&mut node.begun, true), "one at a time");
                assert_eq!(begins, node.partition.log().last());
                (node.begins, node.ends) = (begins, None);
                node.parts.clear();
                for (_, pair) in self.pairs.iter_mut().filter(|((from, _), _)| *from == own) {
                    pair.sent_before = pair.sent;
                }
            }
            CheckpointOrder::Part(kind, part) => node.parts.push((kind, part)),
            CheckpointOrder::Close { ends } => node.ends = Some(ends),
            CheckpointOrder::Publish => {
                let ends = node.ends.expect("closed before it is published");
                assert!(
                    ends <= node.partition.log().synced(),
                    "the log is on disk as far as parts show it"
                );
                node.publish = true;
                for (&(_, to), pair) in self.pairs.iter().filter(|((from, _), _)| *from == own) {
                    assert!(
                        pair.sent_before <= pair.led_to.len(),
                        "all that was said before has come to {to}"
                    );
                    let led_to = pair.led_to[..pair.sent_before].last();
                    let synced = self.nodes[to].partition.log().synced();
                    assert!(
                        led_to.is_none_or(|&position| position <= synced),
                        "and is on disk there"
                    );
                }
            }
        }
    }

    fn deliver(&mut self, (from, to): (usize, usize)) {
        let pair = self.pairs.get_mut(&(from, to)).expect("a pair that has mail");
        let Some(mail) = pair.queue.pop_front() else { return };
        let (node, from) = (&mut self.nodes[to], ShardId(from as u16));
        match mail {
            Mail::Message(message) => {
                node.partition.message(NOW, from, message);
                pair.led_to.push(node.partition.log().last());
            }
            Mail::Checkpoint(message) => node.checkpointing.receive(from, message, &mut node.partition),
        }
        self.turn(to, 0);
    }

    /// Begins a sync, or ends the one under way.
    fn sync(&mut self, own: usize) {
        let node = &mut self.nodes[own];
        match node.sync.take() {
            Some(plan) => node.partition.sync_done(plan),
            None => node.sync = node.partition.begin_sync(NOW),
        }
        let safe: Vec<_> = self.nodes.iter().map(|node| node.partition.safe()).collect();
        for (peer, &position) in safe.iter().enumerate().filter(|&(peer, _)| peer != own) {
            let partition = &mut self.nodes[own].partition;
            partition.peer_safe(NOW, ShardId(peer as u16), position);
        }
        self.turn(own, 0);
    }

    fn happen(&mut self, event: &Event) {
        let count = self.nodes.len();
        match *event {
            Event::Buy { customer, first, lines } => self.check_out(customer, first, lines),
            Event::Deliver(pick) => {
                let full = self.pairs.iter().filter(|(_, pair)| !pair.queue.is_empty());
                let full: Vec<_> = full.map(|(&pair, _)| pair).collect();
                if !full.is_empty() {
                    self.deliver(full[pick.index(full.len())]);
                }
            }
            Event::Sync(pick) => self.sync(pick.index(count)),
            Event::Request(pick) => self.nodes[pick.index(count)].checkpointing.request(),
            Event::Parts(pick, parts) => self.turn(pick.index(count), parts),
            Event::Written(pick, whole) => self.written(pick.index(count), whole),
        }
    }

    /// What was ordered of the file has been done, or has failed.
    fn written(&mut self, own: usize, whole: bool) {
        let node = &mut self.nodes[own];
        if node.begun && !whole {
            node.checkpointing.failed(NOW);
        } else if std::mem::take(&mut node.publish) {
            node.checkpointing.published(1000);
            node.published += 1;
        } else {
            return;
        }
        (node.begun, node.publish) = (false, false);
        self.turn(own, 0);
    }

    /// Everything that is under way ends.
    fn drain(&mut self) {
        for _ in 0..50 {
            for own in 0..self.nodes.len() {
                self.sync(own);
                self.sync(own);
                self.turn(own, usize::from(u16::MAX));
                self.written(own, true);
            }
            let pairs: Vec<_> = self.pairs.keys().copied().collect();
            for pair in pairs {
                while !self.pairs[&pair].queue.is_empty() {
                    self.deliver(pair);
                }
            }
        }
    }
}

fn sku(number: usize) -> Sku {
    format!("sku-{number}").parse().expect("a SKU")
}

#[derive(Clone, Debug)]
enum Event {
    Buy {
        customer: usize,
        first: usize,
        lines: usize,
    },
    Deliver(prop::sample::Index),
    Sync(prop::sample::Index),
    Request(prop::sample::Index),
    Parts(prop::sample::Index, usize),
    Written(prop::sample::Index, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..20usize, 0..SKUS, 1..8usize).prop_map(|(customer, first, lines)| Event::Buy { customer, first, lines }),
        12 => any::<prop::sample::Index>().prop_map(Event::Deliver),
        6 => any::<prop::sample::Index>().prop_map(Event::Sync),
        2 => any::<prop::sample::Index>().prop_map(Event::Request),
        4 => (any::<prop::sample::Index>(), 0..60usize).prop_map(|(pick, parts)| Event::Parts(pick, parts)),
        2 => (any::<prop::sample::Index>(), prop::bool::weighted(0.9)).prop_map(|(pick, whole)| Event::Written(pick, whole)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_checkpoint_is_published_when_its_log_and_what_it_led_to_are_on_disk(
        events in proptest::collection::vec(event(), 50..400),
        always: bool,
    ) {
        let mut cluster = Cluster::new(if always { SyncMode::Always } else { SyncMode::No });
        for event in events {
            cluster.happen(&event);
        }
        for own in 0..cluster.nodes.len() {
            cluster.nodes[own].checkpointing.end();
            cluster.turn(own, 0);
        }
        cluster.drain();
        for node in &cluster.nodes {
            prop_assert!(node.checkpointing.is_over(&node.partition), "{:?}", node.checkpointing);
            prop_assert!(node.published > 0, "something changed, so one is written at the end");
            prop_assert_eq!(node.begins, node.partition.log().last(), "and nothing is behind it");
            let (shard, map) = (node.partition.log().identity().shard, cluster.map);
            let mut restore = Restore::new(shard, map, node.begins);
            for (kind, part) in &node.parts {
                restore.part(*kind, part).expect("a part reads back");
            }
            let restored = restore.finish(EngineLimits::default());
            prop_assert_eq!(restored.state_hash(), node.partition.shard().state_hash());
        }
    }
}

#[test]
fn a_checkpoint_is_due_when_the_log_has_grown_enough_and_by_its_size() {
    let mut cluster = Cluster::new(SyncMode::No);
    for checkpoint_bytes in [1, 100_000] {
        let appended = cluster.nodes[0].partition.log().appended_bytes();
        let past = CheckpointPast {
            checkpoint_bytes,
            log_bytes: 100,
            ..CheckpointPast::default()
        };
        let least = appended + 5000;
        cluster.nodes[0].checkpointing = Checkpointing::new(&cluster.nodes[0].partition, cluster.map, least, past);
        let due = least.max(checkpoint_bytes);
        let own = (0..SKUS).find(|&number| cluster.map.shard_of(sku(number).slot()) == ShardId(0));
        loop {
            cluster.put(own.expect("shard 0 has an item"));
            let node = &cluster.nodes[0];
            let is_due = node.partition.log().appended_bytes() + 100 >= due;
            assert_eq!(node.checkpointing.is_running(), is_due);
            if is_due {
                break;
            }
        }
        // Once it stands, as much must be written again.
        cluster.drain();
        assert_eq!(cluster.nodes[0].published, 1);
        cluster.turn(0, 0);
        assert!(!cluster.nodes[0].checkpointing.is_running());
        cluster.nodes[0].published = 0;
    }
}

#[test]
fn nothing_is_written_at_the_end_where_nothing_has_changed() {
    let mut cluster = Cluster::new(SyncMode::Always);
    cluster.drain();
    let node = &mut cluster.nodes[0];
    let past = CheckpointPast {
        is_unchanged: true,
        ..CheckpointPast::default()
    };
    node.checkpointing = Checkpointing::new(&node.partition, cluster.map, 1 << 40, past);
    node.checkpointing.end();
    assert!(node.checkpointing.is_over(&node.partition));
    node.checkpointing = Checkpointing::new(&node.partition, cluster.map, 1 << 40, CheckpointPast::default());
    node.checkpointing.end();
    assert!(!node.checkpointing.is_over(&node.partition));
}

#[test]
fn a_failed_checkpoint_is_tried_again_after_a_while_but_not_at_the_end() {
    let mut cluster = Cluster::new(SyncMode::Always);
    cluster.drain();
    let Node {
        partition,
        checkpointing,
        ..
    } = &mut cluster.nodes[0];
    checkpointing.request();
    checkpointing.advance(NOW, partition);
    assert!(checkpointing.is_running());
    checkpointing.failed(NOW);
    checkpointing.advance(NOW.plus_ms(RETRY_MS - 1), partition);
    assert!(!checkpointing.is_running());
    assert_eq!(checkpointing.next_timer(partition), Some(NOW.plus_ms(RETRY_MS)));
    checkpointing.advance(NOW.plus_ms(RETRY_MS), partition);
    assert!(checkpointing.is_running());
    checkpointing.end();
    checkpointing.failed(NOW);
    assert!(checkpointing.is_over(partition));
}
