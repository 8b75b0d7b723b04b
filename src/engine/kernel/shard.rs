//! One shard: decided state, what is in flight, and the step that moves both.
//!
//! Driven by the runtime in production and by the simulator in tests; sees neither. The parts of a step live beside
//! their noun: `catalogue.rs`, `checkout.rs`, `order_changes.rs`, `transaction.rs`, `audit.rs`.

use std::collections::VecDeque;

use cartwright_protocol::{
    Error, ErrorCode, ItemGet, Operation, OrderCancel, OrderConfirm, OrderExtend, OrderGet, OrderList, Reply,
};
use compact_str::format_compact;
use hashbrown::HashMap;

use crate::engine::books::{BookRecord, StockLine, Together, Volatile};
use crate::engine::kernel::audit::Auditing;
use crate::engine::kernel::hashing::{Fingerprint, TableHasher};
use crate::engine::kernel::ids::{LogPosition, RecordKind, ShardId, ShardMap, Timestamp, TransactionId};
use crate::engine::kernel::limits::{EngineLimits, RECORD_BYTES_MAX};
use crate::engine::kernel::message::{Input, Journal, Output, Request, ShardMessage};
use crate::engine::kernel::record::{Packing, Record, RecordError};
use crate::engine::kernel::recovery::ReplayNotes;
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::request_keys::{KEY_RETENTION_MS, KeptReply, KeyUse, KeysInFlight};
use crate::engine::kernel::state::{Counts, State};
use crate::engine::kernel::transaction::{Commits, InFlight, Outbox, Participation, Preparing};
use crate::engine::kernel::waiting::Tickets;

/// Log bytes kept free for the end of everything in flight: its outcome must always find room.
pub(in crate::engine) const SETTLEMENT_BYTES: u64 = 512;

/// What a record costs in the log above its payload, at most. The driver makes sure that its log does not take more.
pub const FRAME_BYTES_MAX: u64 = 80;

/// How long an expiry that found no room waits before it tries again.
pub(in crate::engine) const EXPIRY_RETRY_MS: u64 = 1000;

/// How often one slot's old keys are forgotten: every slot of a one-shard server about once an hour.
const KEY_SWEEP_INTERVAL_MS: u64 = 200;

/// One shard of the shop.
#[derive(Debug)]
pub struct Shard {
    pub(in crate::engine) id: ShardId,
    pub(in crate::engine) map: ShardMap,
    pub(in crate::engine) limits: EngineLimits,
    pub(in crate::engine) state: State,
    pub(in crate::engine) now: Timestamp,
    /// The last record of this shard's log.
    pub(in crate::engine) end: LogPosition,
    /// Up to where each shard's log is safe, as far as this one knows.
    pub(in crate::engine) safe: Vec<LogPosition>,
    log_space_bytes: u64,
    /// See [`Input::LogSpace`].
    pub(in crate::engine) log_piece_bytes: u64,
    log_blocked: Option<&'static str>,
    incarnation: u32,
    next_transaction: u64,
    /// Transactions this shard coordinates, by sequence number.
    pub(in crate::engine) in_flight: HashMap<u64, InFlight, TableHasher>,
    /// Transactions of other homes that have a part here.
    pub(in crate::engine) participating: HashMap<TransactionId, Participation, TableHasher>,
    /// Parts reserved in this step, to be logged at its end.
    pub(in crate::engine) preparing: Preparing,
    /// Transactions of this home all of whose shards have answered.
    pub(in crate::engine) complete: VecDeque<u64>,
    /// Changes of both books that wait for the end of an audit.
    pub(in crate::engine) paused_together: VecDeque<(ReplyTo, Box<Together>)>,
    /// What waits for logs to be safe.
    pub(in crate::engine) commits: Commits,
    /// What the other shards are told at the end of the turn.
    pub(in crate::engine) outbox: Outbox,
    pub(in crate::engine) keys_in_flight: KeysInFlight,
    pub(in crate::engine) tickets: Tickets,
    pub(in crate::engine) auditing: Auditing,
    /// What each book knows of requests that are not over.
    pub(in crate::engine) books: Volatile,
    next_key_sweep: Timestamp,
    key_sweep_slot: usize,
    pub(in crate::engine) fingerprint: Fingerprint,
    record_buffer: Vec<u8>,
    packing: Packing,
    /// Only while recovering.
    pub(in crate::engine) replay_notes: ReplayNotes,
}

/// One step: the shard and where its outputs go.
pub(in crate::engine) struct Step<'a> {
    pub(in crate::engine) shard: &'a mut Shard,
    journal: &'a mut dyn Journal,
    pub(in crate::engine) output: &'a mut Output,
}

impl Shard {
    /// An empty shard. Recovery replays records into it before its first step.
    pub fn new(id: ShardId, map: ShardMap, limits: EngineLimits) -> Self {
        Self::with_state(id, map, limits, State::new(id, map))
    }

    pub(in crate::engine) fn with_state(id: ShardId, map: ShardMap, limits: EngineLimits, state: State) -> Self {
        Self {
            id,
            map,
            limits,
            now: state.latest,
            state,
            end: LogPosition::ZERO,
            safe: vec![LogPosition::ZERO; usize::from(map.shard_count())],
            log_space_bytes: 0,
            log_piece_bytes: 0,
            log_blocked: None,
            incarnation: 0,
            next_transaction: 0,
            in_flight: HashMap::default(),
            participating: HashMap::default(),
            preparing: Preparing::default(),
            complete: VecDeque::new(),
            paused_together: VecDeque::new(),
            commits: Commits::default(),
            outbox: Outbox::new(map.shard_count()),
            keys_in_flight: KeysInFlight::default(),
            tickets: Tickets::default(),
            auditing: Auditing::default(),
            books: Volatile::new(id),
            next_key_sweep: Timestamp::default(),
            key_sweep_slot: 0,
            fingerprint: Fingerprint::default(),
            record_buffer: Vec::new(),
            packing: Packing::default(),
            replay_notes: ReplayNotes::default(),
        }
    }

    /// Takes one input to its end, or to where it waits for another. The only way in.
    ///
    /// `now` may go backwards; the shard's own time does not. Every record of the step is appended to `journal`; what
    /// the step wants sent is added to `output`.
    pub fn step(&mut self, now: Timestamp, input: Input, journal: &mut dyn Journal, output: &mut Output) {
        self.now = self.now.max(now);
        let mut step = Step {
            shard: self,
            journal,
            output,
        };
        match input {
            Input::Request(request) => step.on_request(request),
            Input::Keys(reply_to, request) => step.on_keys(reply_to, request),
            Input::Together(reply_to, together) => step.on_together(reply_to, together),
            Input::Message {
                from,
                message: ShardMessage::Transactions(batch),
            } => step.on_batch(from, *batch),
            Input::Message {
                from,
                message: ShardMessage::Audit(message),
            } => step.on_audit_message(from, message),
            Input::Safe { shard, position } => {
                let safe = &mut step.shard.safe[shard.index()];
                assert!(*safe <= position, "a safe position never goes back");
                *safe = position;
            }
            Input::Tick => step.on_tick(),
            Input::LogSpace {
                bytes,
                piece_bytes,
                blocked,
            } => {
                step.shard.log_space_bytes = bytes;
                step.shard.log_piece_bytes = piece_bytes;
                step.shard.log_blocked = blocked;
            }
        }
        step.settle();
    }

    /// When this shard wants an [`Input::Tick`] next.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let sweep = (self.state.counts.request_keys > 0).then_some(self.next_key_sweep);
        let count = self.auditing.is_counting().then_some(self.now);
        let earliest = [sweep, count, self.books.next_timer(&self.state)]
            .into_iter()
            .flatten()
            .min()?;
        // An expired order that is locked stays first; it is looked at again a moment later, not in a loop.
        Some(earliest.max(self.now.plus_ms(1)))
    }

    /// The end of a turn: what the other shards are to be told becomes messages. The driver calls it before it carries
    /// any.
    pub fn flush(&mut self, output: &mut Output) {
        self.outbox.flush(output);
    }

    /// Whether [`Shard::flush`] would find something.
    pub const fn has_mail(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// How much there is of everything, as decided.
    pub const fn counts(&self) -> Counts {
        self.state.counts
    }

    /// Transactions that this shard coordinates or takes part in.
    pub fn transactions_in_flight(&self) -> usize {
        self.in_flight.len() + self.participating.len()
    }

    /// Whether nothing is in flight that this shard coordinates or takes part in.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.participating.is_empty()
            && self.commits.are_none()
            && self.outbox.is_empty()
            && !self.auditing.is_running()
            && self.books.are_idle()
    }

    /// Whether an audit's count goes on with the next tick.
    pub const fn is_counting(&self) -> bool {
        self.auditing.is_counting()
    }

    /// The latest time in any record: a clock must not start below it.
    pub const fn latest(&self) -> Timestamp {
        self.state.latest
    }

    /// Recovery: applies the record at `position` of this shard's log.
    pub fn replay(&mut self, position: LogPosition, kind: RecordKind, payload: &[u8]) -> Result<(), RecordError> {
        let record = Record::decode(position, kind, payload)?;
        self.replay_notes.note(self.id, position, &record);
        if let Record::Book(record) = &record {
            record.look_ahead(&self.state);
        }
        self.state.apply(position, record);
        self.end = position;
        Ok(())
    }

    /// Hash of the decided state; the sum over all shards does not depend on their number.
    pub fn state_hash(&self) -> u64 {
        crate::engine::kernel::state_hash::state_hash(&self.state)
    }

    pub(in crate::engine) fn next_transaction_id(&mut self) -> TransactionId {
        self.next_transaction += 1;
        TransactionId {
            incarnation: self.incarnation,
            home: self.id,
            sequence: self.next_transaction,
        }
    }

    /// From here on transactions are numbered in this incarnation.
    pub(in crate::engine) fn begin_incarnation(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
        self.next_transaction = 0;
    }

    /// Log bytes that a record may not use: its own frame, and what the end of everything in flight takes.
    fn reserved_bytes(&self) -> u64 {
        (self.transactions_in_flight() as u64 + 1) * SETTLEMENT_BYTES + FRAME_BYTES_MAX
    }

    /// Whether what takes so many bytes can go into one record, and finds room beside what this step will log.
    pub(in crate::engine) fn check_room(&self, bytes: usize) -> Result<(), Error> {
        if bytes > RECORD_BYTES_MAX {
            return Err(too_big(bytes));
        }
        let staged = self.preparing.bytes() + self.commits.deciding_bytes();
        if self.log_space_bytes < (staged + bytes) as u64 + self.reserved_bytes() + 2 * FRAME_BYTES_MAX {
            return Err(self.no_room());
        }
        Ok(())
    }

    /// Bytes of effects that a record can log now: what an archive takes around them is left out.
    pub(in crate::engine) fn room_bytes(&self) -> u64 {
        self.log_space_bytes.saturating_sub(self.bytes_around())
    }

    /// The same for a record that may be larger than [`RECORD_BYTES_MAX`].
    pub(in crate::engine) fn piece_bytes(&self) -> u64 {
        self.log_piece_bytes.saturating_sub(self.bytes_around())
    }

    /// What a record of effects takes beside them, with what may not be used.
    pub(in crate::engine) fn bytes_around(&self) -> u64 {
        self.reserved_bytes() + SETTLEMENT_BYTES
    }

    /// Sets the longest string that a command may make from now on.
    pub const fn set_string_bytes_max(&mut self, bytes: usize) {
        self.limits.books.entries.string_bytes_max = bytes;
    }

    /// Encodes a record into the buffer for them. Gives the payload's kind.
    fn encode(&mut self, record: &Record) -> RecordKind {
        record.encode(&mut self.packing, &mut self.record_buffer)
    }

    fn note_appended(&mut self, payload_bytes: usize, position: LogPosition) -> LogPosition {
        let cost = payload_bytes as u64 + FRAME_BYTES_MAX;
        self.log_space_bytes = self.log_space_bytes.saturating_sub(cost);
        self.log_piece_bytes = self.log_piece_bytes.saturating_sub(cost);
        if payload_bytes > RECORD_BYTES_MAX {
            self.log_space_bytes = self.log_space_bytes.min(self.log_piece_bytes);
        }
        assert_eq!(position, self.end.next(), "the log and the shard count alike");
        self.end = position;
        position
    }

    /// Why a record finds no room.
    pub(in crate::engine) fn no_room(&self) -> Error {
        match self.log_blocked {
            Some(why) => Error::new(ErrorCode::ReadOnly, format_compact!("writes are refused: {why}")),
            None => Error::new(ErrorCode::Busy, "the log is being extended; try again in a moment"),
        }
    }

    pub(in crate::engine) fn busy(&self, what: &str, limit: usize) -> Error {
        let text = format_compact!("shard {} has {limit} {what}, its limit; try again in a moment", self.id);
        Error::new(ErrorCode::Busy, text)
    }
}

impl Step<'_> {
    pub(in crate::engine) fn new<'a>(
        shard: &'a mut Shard,
        journal: &'a mut dyn Journal,
        output: &'a mut Output,
    ) -> Step<'a> {
        Step { shard, journal, output }
    }

    fn on_request(&mut self, request: Request) {
        match request.operation {
            Operation::ItemGet(ItemGet { ref sku }) => self.item_get(request.reply_to, sku),
            Operation::StockGet(_) => self.stock_get(request),
            Operation::OrderGet(OrderGet { id }) => self.order_get(request.reply_to, id),
            Operation::OrderList(OrderList {
                ref customer,
                before,
                count,
            }) => {
                self.order_list(request.reply_to, customer, before, count);
            }
            Operation::Audit => self.begin_audit(request.reply_to),
            _ => self.on_mutation(request),
        }
    }

    /// A request that changes something: its key is looked up before anything else.
    pub(in crate::engine) fn on_mutation(&mut self, request: Request) {
        let Request { reply_to, operation } = request;
        if self.shard.auditing.is_paused() {
            return self.wait_for_audit(Request { reply_to, operation });
        }
        let key = KeyUse::of(&operation, &mut self.shard.fingerprint);
        if let Some(key) = &key
            && self.answered_by_key(reply_to, key)
        {
            return;
        }
        match operation {
            Operation::ItemPut(_) => self.item_put(Request { reply_to, operation }, key.as_ref(), false),
            Operation::StockAdd(_) => self.stock_add(Request { reply_to, operation }, key.as_ref(), false),
            Operation::Checkout(checkout) => {
                let key = key.expect("a checkout has a key");
                self.checkout(reply_to, *checkout, key);
            }
            Operation::OrderConfirm(OrderConfirm { id, .. })
            | Operation::OrderCancel(OrderCancel { id, .. })
            | Operation::OrderExtend(OrderExtend { id, .. }) => {
                self.change_order_state(Request { reply_to, operation }, id, key);
            }
            _ => unreachable!("reads are answered before"),
        }
    }

    /// What was answered to the request that this key came with first; a conflict, where that was another.
    pub(in crate::engine) fn kept_reply(&self, key: &KeyUse) -> Option<Reply> {
        let slot = self.shard.state.slot(key.scope.slot());
        let kept = slot.request_keys.get(&key.scope, &key.key, &slot.books)?;
        let is_same = kept.fingerprint() == key.fingerprint;
        Some(if is_same {
            kept.reply()
        } else {
            Reply::Error(conflict(key))
        })
    }

    fn answered_by_key(&mut self, reply_to: ReplyTo, key: &KeyUse) -> bool {
        if let Some(reply) = self.kept_reply(key) {
            let after = self.shard.state.slot(key.scope.slot()).changed_at;
            self.answer(reply_to, reply, after);
            return true;
        }
        match self.shard.keys_in_flight.join(key, reply_to) {
            None => false,
            Some(true) => true,
            Some(false) => {
                let error = self.shard.busy(
                    "requests waiting for one key",
                    crate::engine::kernel::request_keys::JOINED_MAX,
                );
                self.answer(reply_to, Reply::Error(error), LogPosition::ZERO);
                true
            }
        }
    }

    pub(in crate::engine) fn answer(&mut self, reply_to: ReplyTo, reply: Reply, after: LogPosition) {
        self.output.replies.push((reply_to, reply.into(), after));
    }

    /// Answers who asked and everybody who joined with the same key.
    pub(in crate::engine) fn answer_all(
        &mut self,
        reply_to: Option<ReplyTo>,
        key: Option<&KeyUse>,
        reply: &Reply,
        after: LogPosition,
    ) {
        if let Some(key) = key {
            for (joined, same) in self.shard.keys_in_flight.end(key) {
                let reply = if same {
                    reply.clone()
                } else {
                    Reply::Error(conflict(key))
                };
                self.answer(joined, reply, after);
            }
        }
        if let Some(reply_to) = reply_to {
            self.answer(reply_to, reply.clone(), after);
        }
    }

    /// A refusal with a key is kept, so that a retry is refused as well, whatever has changed meanwhile. Returns the
    /// answer and what it has to wait for.
    pub(in crate::engine) fn refuse(
        &mut self,
        key: Option<KeyUse>,
        error: Error,
        reveals: LogPosition,
    ) -> (Reply, LogPosition) {
        let about_the_shop = !matches!(
            error.code,
            ErrorCode::Err | ErrorCode::Busy | ErrorCode::TooBig | ErrorCode::ReadOnly
        );
        if about_the_shop && let Some(key) = key {
            return self.keep_answer(key, KeptReply::Error(error));
        }
        (Reply::Error(error), reveals)
    }

    /// Keeps the answer to a keyed request that changes nothing.
    pub(in crate::engine) fn keep_answer(&mut self, key: KeyUse, reply: KeptReply) -> (Reply, LogPosition) {
        let answer = reply.to_reply();
        let key = key.answered(self.shard.now, reply);
        match self.append_if_room(Record::Answered { key }) {
            Ok((position, _)) => (answer, position),
            Err(error) => (Reply::Error(error), LogPosition::ZERO),
        }
    }

    /// Appends a record that must find room: room was kept free for it.
    pub(in crate::engine) fn append(&mut self, record: Record) -> (LogPosition, Option<Vec<StockLine>>) {
        self.log_staged();
        let kind = self.shard.encode(&record);
        self.append_encoded(kind, record)
    }

    /// Appends a record, or refuses where the log has no room for it or it would be over the limit.
    pub(in crate::engine) fn append_if_room(
        &mut self,
        record: impl Into<Record>,
    ) -> Result<(LogPosition, Option<Vec<StockLine>>), Error> {
        let record = record.into();
        self.log_staged();
        let kind = self.shard.encode(&record);
        let bytes = self.shard.record_buffer.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(too_big(bytes));
        }
        if self.shard.log_space_bytes < bytes as u64 + self.shard.reserved_bytes() {
            return Err(self.shard.no_room());
        }
        Ok(self.append_encoded(kind, record))
    }

    /// Appends a record that does fit, and whose effects have been applied as they were made.
    pub(in crate::engine) fn append_applied(&mut self, record: &BookRecord) -> LogPosition {
        let shard = &mut *self.shard;
        let (kind, first) = record.encode_behind(&mut shard.packing, &mut shard.record_buffer);
        match first {
            Some(first) => self.append_pieces(kind, first),
            None => self.append_payload(kind),
        }
    }

    fn append_encoded(&mut self, kind: RecordKind, record: Record) -> (LogPosition, Option<Vec<StockLine>>) {
        // What breaks an invariant ends the process here: it must not be in the log of the next.
        let applied = self.shard.state.apply(self.shard.end.next(), record);
        (self.append_payload(kind), applied)
    }

    fn append_payload(&mut self, kind: RecordKind) -> LogPosition {
        let payload = &self.shard.record_buffer;
        let bytes = payload.len();
        let position = self.journal.append(kind, payload);
        self.shard.note_appended(bytes, position)
    }

    /// Appends a record that begins with these effects and goes on with the buffer.
    fn append_pieces(&mut self, kind: RecordKind, effects: &[u8]) -> LogPosition {
        let rest = &self.shard.record_buffer;
        let bytes = effects.len() + rest.len();
        let position = self.journal.append_pieces(kind, effects, rest);
        self.shard.note_appended(bytes, position)
    }

    /// The end of every step: those whose wait is over go on.
    fn settle(&mut self) {
        loop {
            self.settle_waits();
            // The end of an audit lets changes go on.
            self.continue_audit();
            if self.is_settled() {
                break;
            }
        }
    }

    /// Whether nobody is left behind who need not wait: no other step may come.
    fn is_settled(&self) -> bool {
        let shard = &self.shard;
        shard.books.are_settled()
            && shard.complete.is_empty()
            && shard.preparing.bytes() == 0
            && shard.commits.deciding_bytes() == 0
    }

    fn settle_waits(&mut self) {
        loop {
            let mut has_moved = self.settle_books();
            while let Some(sequence) = self.shard.complete.pop_front() {
                has_moved = true;
                self.complete(sequence);
            }
            has_moved |= self.settle_reads();
            if has_moved {
                continue;
            }
            self.log_staged();
            if !self.end_what_is_safe() {
                break;
            }
        }
        assert!(self.is_settled(), "nobody is left behind");
    }

    fn on_tick(&mut self) {
        self.count_on();
        if self.shard.auditing.is_paused() {
            return;
        }
        self.tick_books();
        let now = self.shard.now;
        if self.shard.next_key_sweep <= now && self.shard.state.counts.request_keys > 0 {
            self.shard.next_key_sweep = now.plus_ms(KEY_SWEEP_INTERVAL_MS);
            self.sweep_keys();
        }
    }

    /// Forgets old keys of one slot. Recorded, so that replaying the log forgets the same.
    fn sweep_keys(&mut self) {
        let range = self.shard.map.slots_of(self.shard.id);
        let index = range.start + self.shard.key_sweep_slot % range.len();
        self.shard.key_sweep_slot += 1;
        let slot = cartwright_protocol::Slot::new(index as u16).expect("a shard's slots are slots");
        let before = Timestamp(self.shard.now.unix_ms().saturating_sub(KEY_RETENTION_MS));
        let state = self.shard.state.slot(slot);
        if state.request_keys.iter(&state.books).any(|key| key.at() < before) {
            // Without room in the log they are forgotten on a later round.
            let _ = self.append_if_room(Record::KeysForgotten {
                slot: index as u16,
                before,
            });
        }
    }
}

/// A change is too large for one record.
fn too_big(bytes: usize) -> Error {
    let text = format_compact!("the change takes {bytes} bytes of log, the limit is {RECORD_BYTES_MAX}");
    Error::new(ErrorCode::TooBig, text)
}

fn conflict(key: &KeyUse) -> Error {
    Error::new(
        ErrorCode::Conflict,
        format_compact!("key {} was used with another request", key.key),
    )
}
