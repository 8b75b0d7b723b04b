//! The witness: reads every record the moment it is appended, knows which of them the disk has for certain, and leads
//! the sequential [`Shop`] through the decisions in the order in which they took effect.
//!
//! A decision of one shard takes effect when its record is appended, a cross-shard transaction when its home commits
//! it. After a crash the witness forgets what the disk has lost, and says itself what must have become of every
//! transaction that was in flight. It looks into no engine: only logs and answers reach it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use cartwright::config::SyncMode;
use cartwright::engine::{
    BookRecord, Decided, DecidedTransaction, EntriesRecord, KeyRecord, LogPosition, OrderChange, PreparedTransaction,
    Record, ShardId, ShardMap, ShopRecord, Timestamp, TransactionId,
};
use cartwright::log::{Generation, LogOffset, SegmentNumber};

use cartwright_protocol::OrderId;

use crate::disk::{Disk, SegmentName};
use crate::frame::{FIRST_FRAME, Frame, PAYLOAD, SEAL};
use crate::keys::Keys;
use crate::shop::{Change, Movement, Shop, Source, Version, key_of};
use crate::violation::Checked;
use crate::{promise, violation};

/// What is known of one shard's log.
#[derive(Debug, Default)]
struct LogFacts {
    /// A hash of each payload, by position.
    payloads: Vec<u64>,
    /// Frames that the disk may not have.
    frames: VecDeque<Frame>,
    durable: LogPosition,
}

/// The home's part of a transaction.
#[derive(Clone, Debug)]
struct Decision {
    position: LogPosition,
    /// The orders it makes or changes.
    changes: Vec<Decided>,
    /// What it does to keys of its home.
    effects: Vec<u8>,
    /// The other parts.
    prepared: Vec<(ShardId, LogPosition)>,
    /// Up to where the logs of shards without a part were read.
    shows: Vec<(ShardId, LogPosition)>,
    /// A crash took something that was read.
    lost_what_it_read: bool,
}

/// What the logs tell of a transaction.
#[derive(Clone, Debug, Default)]
struct Transaction {
    prepared: BTreeMap<ShardId, LogPosition>,
    /// What it does to keys, by the shard that has logged it.
    key_parts: BTreeMap<ShardId, Vec<u8>>,
    decision: Option<Decision>,
    outcome: Option<bool>,
    /// Where its outcome is.
    resolved: BTreeMap<ShardId, LogPosition>,
    /// When it was committed, and what it moves, while its shards hear of it.
    effect: Option<(Version, Vec<Movement>)>,
}

impl Transaction {
    /// Rule: committed if, and only if, every part is on disk.
    fn is_whole(&self) -> bool {
        self.decision.as_ref().is_some_and(|decision| {
            !decision.lost_what_it_read
                && decision
                    .prepared
                    .iter()
                    .all(|(shard, position)| self.prepared.get(shard) == Some(position))
        })
    }

    fn holders(&self, home: ShardId) -> impl Iterator<Item = ShardId> {
        let home = self.decision.is_some().then_some(home);
        self.prepared.keys().copied().chain(home)
    }
}

/// A decision that names the request it answers.
#[derive(Clone, Debug)]
pub enum News {
    /// An order was made.
    Made(OrderId, KeyRecord),
    /// A request with a key was answered without changing anything.
    Answered(KeyRecord),
}

/// See the module's text.
#[derive(Debug)]
pub struct Witness {
    /// The sequential shop.
    pub shop: Shop,
    /// Decisions since this was last emptied.
    pub news: Vec<News>,
    changes: Vec<(Source, Change)>,
    /// The sequential keyspace.
    pub keys: Keys,
    key_changes: Vec<(Source, Vec<Vec<u8>>)>,
    transactions: BTreeMap<TransactionId, Transaction>,
    generation: Generation,
    logs: Vec<LogFacts>,
    /// The latest time any shard was told.
    pub latest: Timestamp,
    /// What must be on disk before anybody is told.
    sync: SyncMode,
}

fn hash_of(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

impl Witness {
    /// Of an empty shop.
    pub fn new(sync: SyncMode) -> Self {
        Self {
            shop: Shop::default(),
            news: Vec::new(),
            changes: Vec::new(),
            keys: Keys::default(),
            key_changes: Vec::new(),
            transactions: BTreeMap::new(),
            generation: Generation(0),
            logs: Vec::new(),
            latest: Timestamp(0),
            sync,
        }
    }

    /// The newest generation it knows; 0 before the first.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// How many records of this log were ever appended and not lost.
    pub fn appended(&self, shard: ShardId) -> LogPosition {
        LogPosition(self.logs[shard.index()].payloads.len() as u64)
    }

    /// How many changes were decided.
    pub const fn change_count(&self) -> usize {
        self.changes.len()
    }

    /// How far the disk has this log for certain.
    pub fn durable(&self, shard: ShardId) -> LogPosition {
        self.logs[shard.index()].durable
    }

    /// How far others may build on this log: as far as the disk has it, or, where answers do not wait for the disk, as
    /// far as it goes.
    fn safe(&self, shard: ShardId) -> LogPosition {
        match self.sync {
            SyncMode::Always => self.durable(shard),
            SyncMode::EverySecond | SyncMode::No => self.appended(shard),
        }
    }

    /// Whether no crash that is promised to be survived can take back what this record did.
    pub fn is_durable(&self, source: Source) -> bool {
        source.generation < self.generation || source.position <= self.safe(source.shard)
    }

    /// A frame was appended to a log.
    pub fn observe(&mut self, shard: ShardId, frame: Frame, segment: &[u8]) -> Checked {
        let log = &mut self.logs[shard.index()];
        if frame.kind != PAYLOAD {
            log.frames.push_back(frame);
            return Ok(());
        }
        let payload = frame.payload(segment);
        let position = frame.position;
        promise!(
            position.0 == log.payloads.len() as u64 + 1,
            "shard {shard} appends position {position} after {} records",
            log.payloads.len()
        );
        let record = Record::decode(position, frame.payload_kind, payload);
        let record = record.map_err(|error| violation!("shard {shard}: {error}"))?;
        log.payloads.push(hash_of(payload));
        log.frames.push_back(frame);
        self.take(shard, position, record)
    }

    fn take(&mut self, shard: ShardId, position: LogPosition, record: Record) -> Checked {
        match record {
            Record::Started { .. } => Ok(()),
            Record::Book(BookRecord::Entries(EntriesRecord::Changed { effects, .. })) => {
                let source = Source {
                    generation: self.generation,
                    shard,
                    position,
                };
                self.change_keys(source, vec![effects])
            }
            Record::PreparedTogether { transactions } => transactions
                .into_iter()
                .try_for_each(|prepared| self.prepare(shard, position, prepared)),
            Record::DecidedTogether { transactions, .. } => transactions
                .into_iter()
                .try_for_each(|decided| self.decide(shard, position, decided)),
            Record::ResolvedTogether { outcomes } => outcomes
                .into_iter()
                .try_for_each(|(transaction, committed)| self.resolve(shard, position, transaction, committed)),
            record => {
                let source = Source {
                    generation: self.generation,
                    shard,
                    position,
                };
                self.change(source, Change::Alone(record))
            }
        }
    }

    fn prepare(&mut self, shard: ShardId, position: LogPosition, prepared: PreparedTransaction) -> Checked {
        let transaction = prepared.transaction;
        promise!(
            transaction.home != shard,
            "the home of {transaction:?} logs a piece apart from its decision"
        );
        let entry = self.transactions.entry(transaction).or_default();
        promise!(
            entry.decision.is_none(),
            "{transaction:?} is prepared after its decision"
        );
        if !prepared.effects.is_empty() {
            entry.key_parts.insert(shard, prepared.effects);
        }
        let before = entry.prepared.insert(shard, position);
        promise!(before.is_none(), "R2: shard {shard} prepares {transaction:?} twice");
        Ok(())
    }

    fn decide(&mut self, shard: ShardId, position: LogPosition, decided: DecidedTransaction) -> Checked {
        let DecidedTransaction {
            transaction,
            named,
            changes,
            effects,
        } = decided;
        let entry = self.transactions.entry(transaction).or_default();
        promise!(
            transaction.home == shard && entry.decision.is_none() && entry.outcome.is_none(),
            "R2: {transaction:?} is decided twice, or by shard {shard}"
        );
        let (prepared, shows): (Vec<_>, Vec<_>) = named
            .into_iter()
            .partition(|(shard, _)| entry.prepared.contains_key(shard));
        let part_count = prepared.len();
        entry.decision = Some(Decision {
            position,
            changes,
            effects,
            prepared,
            shows,
            lost_what_it_read: false,
        });
        promise!(
            entry.is_whole() && entry.prepared.len() == part_count,
            "R2: {transaction:?} is decided over other parts than were prepared: {entry:?}"
        );
        Ok(())
    }

    fn resolve(&mut self, shard: ShardId, position: LogPosition, id: TransactionId, committed: bool) -> Checked {
        let shards = (0..self.logs.len()).map(|shard| ShardId(shard as u16));
        let safe: Vec<_> = shards.map(|shard| self.safe(shard)).collect();
        let entry = self.transactions.get_mut(&id);
        let entry =
            entry.ok_or_else(|| violation!("R2: {id:?} is resolved on shard {shard}, but has no part anywhere"))?;
        promise!(
            entry.resolved.insert(shard, position).is_none(),
            "R2: {id:?} is resolved twice on shard {shard}"
        );
        if let Some(outcome) = entry.outcome {
            promise!(
                outcome == committed,
                "R2: {id:?} is {} on shard {shard}, and {} elsewhere",
                if committed { "committed" } else { "aborted" },
                if outcome { "committed" } else { "aborted" }
            );
            self.arrive(shard, id);
            return Ok(());
        }
        entry.outcome = Some(committed);
        if !committed {
            promise!(
                entry.decision.is_none(),
                "R2: {id:?} is aborted, though its decision and all its parts were appended"
            );
            return Ok(());
        }
        promise!(
            entry.is_whole(),
            "R2: {id:?} is committed without all its parts: {entry:?}"
        );
        let decision = entry.decision.clone().expect("a whole transaction is decided");
        let own = (id.home, decision.position);
        for &(part, at) in decision.prepared.iter().chain(&decision.shows).chain([&own]) {
            promise!(
                at <= safe[part.index()],
                "R2: {id:?} is committed while its part at {at} of shard {part} is not on disk, which has {}",
                safe[part.index()]
            );
        }
        let is_of_shop = !decision.changes.is_empty();
        self.commit(id, decision)?;
        let moved = if is_of_shop { self.shop.take_moved() } else { Vec::new() };
        let effect = (self.shop.version, moved);
        self.transactions.get_mut(&id).expect("looked up above").effect = Some(effect);
        self.arrive(shard, id);
        Ok(())
    }

    /// A shard hears that a transaction is committed.
    fn arrive(&mut self, shard: ShardId, id: TransactionId) {
        let transaction = &self.transactions[&id];
        let Some((version, movements)) = &transaction.effect else {
            return;
        };
        let map = ShardMap::new(self.logs.len() as u16);
        let here = |movement: &&Movement| map.shard_of(movement.0.slot()) == shard;
        let here: Vec<_> = movements.iter().filter(here).cloned().collect();
        let source = Source {
            generation: self.generation,
            shard: id.home,
            position: transaction
                .decision
                .as_ref()
                .map_or(LogPosition::ZERO, |decision| decision.position),
        };
        self.shop.arrive(source, *version, &here);
    }

    fn commit(&mut self, id: TransactionId, decision: Decision) -> Checked {
        let source = Source {
            generation: self.generation,
            shard: id.home,
            position: decision.position,
        };
        for Decided { change, key } in decision.changes {
            self.change(source, Change::Transaction { change, key })?;
        }
        let parts = self.transactions[&id].key_parts.values().cloned();
        let parts: Vec<_> = parts
            .chain([decision.effects])
            .filter(|part| !part.is_empty())
            .collect();
        if parts.is_empty() {
            return Ok(());
        }
        self.change_keys(source, parts)
    }

    fn change_keys(&mut self, source: Source, logs: Vec<Vec<u8>>) -> Checked {
        self.keys.apply(source, logs.iter().map(Vec::as_slice))?;
        self.key_changes.push((source, logs));
        Ok(())
    }

    fn change(&mut self, source: Source, change: Change) -> Checked {
        self.shop.apply(source, &change, self.latest)?;
        match &change {
            Change::Alone(Record::Book(BookRecord::Shop(ShopRecord::OrderChanged {
                change: OrderChange::Made(order),
                ..
            })))
            | Change::Transaction {
                change: OrderChange::Made(order),
                ..
            } => self.news.push(News::Made(order.id(), key_of(order))),
            Change::Alone(Record::Answered { key }) => self.news.push(News::Answered(key.clone())),
            _ => {}
        }
        self.changes.push((source, change));
        Ok(())
    }

    /// Something reached the disk: how far each log is durable is looked up anew.
    pub fn look_at_disk(&mut self, disk: &Disk, shard: ShardId) {
        let generation = self.generation;
        let log = &mut self.logs[shard.index()];
        while let Some(frame) = log.frames.front() {
            let path = SegmentName {
                generation,
                shard,
                number: frame.segment,
            }
            .path();
            let has_frame = disk.look(&path, |file| {
                let bytes = frame.bytes.clone();
                file.durable().get(bytes.clone()) == file.bytes().get(bytes)
                    && Frame::at(frame.segment, file.durable(), frame.bytes.start).as_ref() == Some(frame)
            });
            // Only what was on disk is ever truncated.
            let is_truncated = has_frame.is_none();
            if !is_truncated && (has_frame != Some(true) || !disk.is_name_durable(&path)) {
                break;
            }
            log.durable = log.durable.max(frame.position);
            log.frames.pop_front();
        }
    }

    /// A start has read this far of a log: what it must find, and what it may.
    pub fn check_end(&self, shard: ShardId, end: LogPosition, killed: bool) -> Checked {
        let log = &self.logs[shard.index()];
        promise!(
            log.durable <= end,
            "R3: the log of shard {shard} ends at {end} after a crash, but the disk had it up to {}",
            log.durable
        );
        promise!(
            !killed || end.0 == log.payloads.len() as u64,
            "a killed process lost records: the log of shard {shard} ends at {end}, {} were appended",
            log.payloads.len()
        );
        Ok(())
    }

    /// A start reads a record: it must be the one that was appended there.
    pub fn check_record(&self, shard: ShardId, position: LogPosition, payload: &[u8]) -> Checked {
        let known = self.logs[shard.index()].payloads.get(position.0 as usize - 1);
        promise!(
            known == Some(&hash_of(payload)),
            "shard {shard} recovers a record at {position} that was not appended there"
        );
        Ok(())
    }

    /// The logs of the newest generation end at these positions: what was behind is forgotten. Everything up to there is
    /// on disk now.
    pub fn forget_lost(&mut self, ends: &[LogPosition]) -> Checked {
        for (log, end) in self.logs.iter_mut().zip(ends) {
            log.payloads.truncate(end.0 as usize);
            log.frames.clear();
            log.durable = *end;
        }
        for (id, transaction) in &mut self.transactions {
            transaction
                .prepared
                .retain(|shard, position| *position <= ends[shard.index()]);
            transaction
                .resolved
                .retain(|shard, position| *position <= ends[shard.index()]);
            if transaction
                .decision
                .as_ref()
                .is_some_and(|decision| decision.position > ends[id.home.index()])
            {
                transaction.decision = None;
            }
            if let Some(decision) = &mut transaction.decision {
                let is_lost = |&(shard, position): &(ShardId, LogPosition)| position > ends[shard.index()];
                decision.lost_what_it_read |= decision.shows.iter().any(is_lost);
            }
            transaction
                .key_parts
                .retain(|shard, _| transaction.prepared.contains_key(shard));
            promise!(
                transaction.outcome != Some(true) || transaction.is_whole(),
                "R2: {id:?} had been committed, and a crash took a part of it"
            );
        }
        self.transactions.retain(|id, transaction| {
            transaction
                .holders(id.home)
                .any(|holder| !transaction.resolved.contains_key(&holder))
        });
        let generation = self.generation;
        let count = self.changes.len();
        let survives =
            |source: &Source| source.generation < generation || source.position <= ends[source.shard.index()];
        self.changes.retain(|(source, _)| survives(source));
        let key_count = self.key_changes.len();
        self.key_changes.retain(|(source, _)| survives(source));
        if self.key_changes.len() < key_count {
            let mut keys = Keys::default();
            for (source, logs) in &self.key_changes {
                keys.apply(*source, logs.iter().map(Vec::as_slice))?;
            }
            self.keys = keys;
        }
        if self.changes.len() < count {
            let mut shop = Shop::default();
            for (source, change) in &self.changes {
                shop.apply(*source, change, self.latest)?;
            }
            self.shop = shop;
        }
        Ok(())
    }

    /// What must become of the transactions that were in flight.
    pub fn decide_in_flight(&mut self) -> Checked {
        let undecided: Vec<_> = self.transactions.keys().copied().collect();
        for id in undecided {
            let transaction = self.transactions.get_mut(&id).expect("just listed");
            let whole = transaction.is_whole();
            let before = transaction.outcome.replace(whole);
            promise!(
                before.is_none_or(|before| before == whole),
                "R2: {id:?} was decided before the crash, committed: {before:?}, and its parts say otherwise"
            );
            if whole && before.is_none() {
                let decision = transaction.decision.clone().expect("a whole transaction is decided");
                self.commit(id, decision)?;
            }
        }
        for transaction in self.transactions.values_mut() {
            transaction.effect = None;
        }
        self.shop.arrive_all();
        Ok(())
    }

    /// A new generation of logs begins; those before are on disk and everything in them is decided.
    pub fn begin_generation(&mut self, generation: Generation, shard_count: u16) {
        self.transactions.clear();
        self.generation = generation;
        self.logs = (0..shard_count).map(|_| LogFacts::default()).collect();
    }

    /// After a start: everything that was in flight is resolved on every shard that has a part in it.
    pub fn check_resolved(&self) -> Checked {
        for (id, transaction) in &self.transactions {
            for holder in transaction.holders(id.home) {
                promise!(
                    transaction.resolved.contains_key(&holder),
                    "R2: {id:?} is left undecided on shard {holder}: {transaction:?}"
                );
            }
        }
        Ok(())
    }
}

/// Where the witness has read a log up to.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    /// The segment.
    pub segment: SegmentNumber,
    /// Where its next frame begins.
    pub offset: usize,
}

impl Default for Follower {
    /// At the beginning of a log.
    fn default() -> Self {
        Self {
            segment: SegmentNumber::FIRST,
            offset: FIRST_FRAME,
        }
    }
}

impl Follower {
    /// Goes on from here.
    pub const fn behind(at: LogOffset) -> Self {
        Self {
            segment: at.segment,
            offset: at.offset,
        }
    }

    /// Hands the witness every frame appended since, of the segments that there are.
    pub fn follow<'a>(
        &mut self,
        shard: ShardId,
        witness: &mut Witness,
        segment: impl Fn(SegmentNumber) -> Option<&'a [u8]>,
    ) -> Checked {
        while let Some(bytes) = segment(self.segment) {
            let Some(frame) = Frame::at(self.segment, bytes, self.offset) else {
                break;
            };
            self.offset = frame.bytes.end;
            if frame.kind == SEAL {
                self.segment = self.segment.next();
                self.offset = FIRST_FRAME;
            }
            witness.observe(shard, frame, bytes)?;
        }
        Ok(())
    }
}
