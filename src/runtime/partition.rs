//! One shard with its log: the engine's [`Shard`], the [`LogWriter`] it appends to, and the gate its answers leave by.
//!
//! Pure: no I/O, no clock. The shard loop drives it over real segments, the simulator over a simulated disk. Inputs go
//! in one by one; a turn ends with [`Partition::settle`], after which the driver takes out messages, released answers
//! and the next sync.

use std::collections::VecDeque;

use crate::config::SyncMode;
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{
    FRAME_BYTES_MAX, Input, LARGE_RECORD_BYTES_MAX, LogPosition, Output, Question, RECORD_BYTES_MAX, ReplyTo, Response,
    Shard, ShardId, ShardMessage, Timestamp,
};
use crate::log::{
    Files, LogWriter, MappedSegment, ORDINARY_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX, RECORD_OVERHEAD_BYTES,
    SegmentMemory, SegmentNumber, StorageError, SyncPlan, segment_bytes_for,
};

use super::reply_gate::ReplyGate;

/// How often the log is synced with [`SyncMode::EverySecond`], in milliseconds.
const SYNC_INTERVAL_MS: u64 = 1000;

/// How long after a sync its mark is synced as well, if nothing follows that carries it along, in milliseconds. Long
/// enough for a busy log never to pay for it.
pub const MARK_SYNC_DELAY_MS: u64 = 100;

/// How often in one turn the shard is told that what it just appended is safe, where safe means appended. Being told
/// may append again; whatever is left goes into the next turn.
const SETTLE_ROUNDS_MAX: usize = 16;

/// Requests wait for a segment that is late while less than this many of the largest records would fit, so that what
/// is in flight finds room and nobody is refused for a moment's lack of it.
const RECORDS_KEPT_FREE: u64 = 2;

/// What a segment made for a large record has room for beside it: what may come into flight while it is being made, and
/// the records kept free while the next is.
const LARGE_SEGMENT_SPARE_BYTES: u64 = (RECORDS_KEPT_FREE + 2) * RECORD_BYTES_MAX as u64;

/// A segment that the log needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentWanted {
    /// Which.
    pub number: SegmentNumber,
    /// Its size, where that may have to be more than usual.
    pub bytes_min: u64,
}

/// A request that waits.
#[derive(Debug)]
struct Held {
    question: Question,
    /// See [`Shard::log_piece_wanted`], as it was when the request was last looked at.
    log_piece_wanted: u64,
}

/// What the shard was last told of its log's space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Space {
    bytes: u64,
    piece_bytes: u64,
    /// The shard counts down by itself, so it is told again after it has appended, though the room may be the same.
    last: LogPosition,
    blocked: Option<&'static str>,
}

// What the engine reckons a record costs is what it costs, and its largest record fits.
const _: () = assert!(RECORD_OVERHEAD_BYTES <= FRAME_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX <= ORDINARY_PAYLOAD_BYTES_MAX && LARGE_RECORD_BYTES_MAX <= PAYLOAD_BYTES_MAX);

/// One shard with its log.
#[derive(Debug)]
pub struct Partition<M> {
    shard: Shard,
    log: LogWriter<M>,
    mode: SyncMode,
    output: Output,
    gate: ReplyGate,
    released: Vec<(ReplyTo, Response)>,
    /// Requests that wait for a segment.
    held: VecDeque<Held>,
    told_safe: LogPosition,
    told_space: Space,
    blocked: Option<&'static str>,
    last_sync: Timestamp,
    /// To be synced up to here, whatever the mode.
    sync_wanted: LogPosition,
}

impl<M: SegmentMemory> Partition<M> {
    /// A recovered shard and the log that it goes on in, all of which is synced.
    pub fn new(shard: Shard, log: LogWriter<M>, mode: SyncMode) -> Self {
        assert_eq!(
            log.synced(),
            log.last(),
            "all logs are synced before any shard takes a step"
        );
        let mut partition = Self {
            shard,
            log,
            mode,
            output: Output::default(),
            gate: ReplyGate::default(),
            released: Vec::new(),
            held: VecDeque::new(),
            told_safe: LogPosition::ZERO,
            told_space: Space::default(),
            blocked: None,
            last_sync: Timestamp::default(),
            sync_wanted: LogPosition::ZERO,
        };
        partition.tell_space(Timestamp::default());
        partition
    }

    /// The engine's part, to look at.
    pub const fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The log, to look at.
    pub const fn log(&self) -> &LogWriter<M> {
        &self.log
    }

    /// Takes a client's request whose home is this shard.
    pub fn request(&mut self, now: Timestamp, request: impl Into<Question>) {
        let question = request.into();
        let mut log_piece_wanted = 0;
        if self.accepts_requests() {
            log_piece_wanted = self.shard.log_piece_wanted(&question.ask);
            if self.has_piece(log_piece_wanted) {
                return self.take(now, question);
            }
        }
        self.held.push_back(Held {
            question,
            log_piece_wanted,
        });
    }

    /// Whether requests are taken at once. While a segment is late they are held, and their senders should keep them.
    pub fn accepts_requests(&self) -> bool {
        self.held.is_empty() && self.has_room()
    }

    /// Takes a message from another shard.
    pub fn message(&mut self, now: Timestamp, from: ShardId, message: ShardMessage) {
        self.step(now, Input::Message { from, message });
    }

    /// The log of another shard is safe up to `position`.
    pub fn peer_safe(&mut self, now: Timestamp, shard: ShardId, position: LogPosition) {
        self.step(now, Input::Safe { shard, position });
    }

    /// Lets the shard act on the time, if it wants to.
    pub fn tick(&mut self, now: Timestamp) {
        if self.shard.next_timer().is_some_and(|due| due <= now) {
            self.step(now, Input::Tick);
        }
    }

    /// Ends a turn: tells the shard about the log, takes requests that were held, and opens the gate as far as is safe.
    pub fn settle(&mut self, now: Timestamp) {
        while self.may_take_held()
            && let Some(mut held) = self.held.pop_front()
        {
            // Those before it may have made what it carries longer.
            held.log_piece_wanted = self.shard.log_piece_wanted(&held.question.ask);
            if !self.has_piece(held.log_piece_wanted) {
                self.held.push_front(held);
                break;
            }
            self.take(now, held.question);
        }
        for _ in 0..SETTLE_ROUNDS_MAX {
            let safe = self.safe();
            if safe == self.told_safe {
                break;
            }
            self.told_safe = safe;
            self.step(
                now,
                Input::Safe {
                    shard: self.log.identity().shard,
                    position: safe,
                },
            );
        }
        self.tell_space(now);
        self.gate.open(self.told_safe, &mut self.released);
    }

    /// How far this shard's log is safe: to be published to the others after [`Partition::settle`].
    pub fn safe(&self) -> LogPosition {
        match self.mode {
            SyncMode::Always => self.log.synced(),
            SyncMode::EverySecond | SyncMode::No => self.log.last(),
        }
    }

    /// Messages to other shards, in the order in which they are to arrive.
    pub fn messages(&mut self) -> impl Iterator<Item = (ShardId, ShardMessage)> + '_ {
        self.shard.flush(&mut self.output);
        self.output.messages.drain(..)
    }

    /// Answers that may leave now.
    pub fn released(&mut self) -> impl Iterator<Item = (ReplyTo, Response)> + '_ {
        self.released.drain(..)
    }

    /// Whether a turn would find something to do without any further input.
    pub fn has_work(&self) -> bool {
        self.safe() != self.told_safe
            || !self.released.is_empty()
            || !self.output.messages.is_empty()
            || self.shard.has_mail()
            || self.may_take_held()
    }

    /// Whether nothing is in flight here and every answer has left.
    pub fn is_quiet(&self) -> bool {
        self.shard.is_idle() && self.gate.is_empty() && self.held.is_empty() && !self.has_work()
    }

    /// Whether peers' watermarks matter: something is in flight that this shard has a part in.
    pub fn awaits_peers(&self) -> bool {
        !self.shard.is_idle() && !is_on(Mutation::SleepThroughWatermarks)
    }

    /// When a turn is wanted though nothing else happens.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let sync = (self.mode == SyncMode::EverySecond && self.log.synced() < self.log.last())
            .then(|| self.last_sync.plus_ms(SYNC_INTERVAL_MS));
        let mark = self.syncs_marks().then(|| self.last_sync.plus_ms(MARK_SYNC_DELAY_MS));
        [self.shard.next_timer(), sync, mark].into_iter().flatten().min()
    }

    /// Has the log really synced up to `position`, whatever the mode; done when [`LogWriter::synced`] is there.
    pub fn want_synced(&mut self, position: LogPosition) {
        assert!(position <= self.log.last(), "only what was appended can be synced");
        self.sync_wanted = self.sync_wanted.max(position);
    }

    /// The next sync, if one is due and none is under way.
    pub fn begin_sync(&mut self, now: Timestamp) -> Option<SyncPlan> {
        let due = match self.mode {
            SyncMode::Always => true,
            SyncMode::EverySecond => now >= self.last_sync.plus_ms(SYNC_INTERVAL_MS),
            SyncMode::No => false,
        };
        let plan = if due || self.sync_wanted > self.log.synced() {
            self.log.begin_sync()
        } else {
            None
        };
        let plan = plan.or_else(|| self.begin_mark_sync(now))?;
        self.last_sync = now;
        Some(plan)
    }

    fn syncs_marks(&self) -> bool {
        self.mode != SyncMode::No && self.log.has_unsynced_mark() && !is_on(Mutation::ForgetLastMark)
    }

    fn begin_mark_sync(&mut self, now: Timestamp) -> Option<SyncPlan> {
        let is_due = self.syncs_marks() && now >= self.last_sync.plus_ms(MARK_SYNC_DELAY_MS);
        if is_due { self.log.begin_mark_sync() } else { None }
    }

    /// Everything in `plan` is on disk.
    pub fn sync_done(&mut self, plan: SyncPlan) {
        self.log.sync_done(plan);
    }

    /// Which segment to make next, where there is no spare one, or none for the large record that is to come next.
    pub fn wants_segment(&self) -> Option<SegmentWanted> {
        let large = self.held.front().filter(|held| !self.has_piece(held.log_piece_wanted));
        if let Some(held) = large {
            let bytes = held.log_piece_wanted + LARGE_SEGMENT_SPARE_BYTES;
            return Some(SegmentWanted {
                number: self.log.next_segment(),
                bytes_min: segment_bytes_for(bytes),
            });
        }
        let number = self.log.wants_segment()?;
        Some(SegmentWanted { number, bytes_min: 0 })
    }

    /// Takes a spare segment.
    pub fn offer_segment(&mut self, now: Timestamp, memory: M) {
        self.log.offer_segment(memory);
        self.blocked = None;
        self.tell_space(now);
    }

    /// No segment can be made, and why: new writes are refused once the log is full. Until the next
    /// [`Partition::offer_segment`] or [`Partition::unblock`].
    pub fn block(&mut self, now: Timestamp, why: &'static str) {
        self.blocked = Some(why);
        self.tell_space(now);
    }

    /// Segments may be had again: what wants one waits for it.
    pub fn unblock(&mut self, now: Timestamp) {
        self.blocked = None;
        self.tell_space(now);
    }

    /// Sets the longest string that a command may make from now on.
    pub const fn set_string_bytes_max(&mut self, bytes: usize) {
        self.shard.set_string_bytes_max(bytes);
    }

    /// Segments that are of no more use.
    pub fn take_retired(&mut self) -> Vec<M> {
        self.log.take_retired()
    }

    /// A segment that is late is waited for; one that cannot be had is not, so that reads go on.
    fn has_room(&self) -> bool {
        let largest = RECORD_BYTES_MAX.min(self.log.payload_bytes_max()) as u64 + RECORD_OVERHEAD_BYTES;
        let kept_free = if self.log.wants_segment().is_some() {
            RECORDS_KEPT_FREE * largest
        } else {
            0
        };
        self.blocked.is_some() || self.log.room_bytes() >= kept_free
    }

    /// Whether the log has a piece of so many bytes for one record; 0 where it needs none.
    fn has_piece(&self, wanted: u64) -> bool {
        wanted == 0 || self.blocked.is_some() || wanted <= self.log.piece_bytes()
    }

    fn may_take_held(&self) -> bool {
        let front = self.held.front();
        front.is_some_and(|front| self.has_room() && self.has_piece(front.log_piece_wanted))
    }

    /// Tells the shard of the room first, since its own count is the more cautious one: it would refuse with a segment
    /// to spare.
    fn take(&mut self, now: Timestamp, question: Question) {
        self.tell_space(now);
        self.step(now, question.into());
    }

    fn tell_space(&mut self, now: Timestamp) {
        let space = Space {
            bytes: self.log.room_bytes(),
            piece_bytes: self.log.piece_bytes(),
            last: self.log.last(),
            blocked: self.blocked,
        };
        if space != self.told_space {
            self.told_space = space;
            self.step(
                now,
                Input::LogSpace {
                    bytes: space.bytes,
                    piece_bytes: space.piece_bytes,
                    blocked: space.blocked,
                },
            );
        }
    }

    fn step(&mut self, now: Timestamp, input: Input) {
        self.shard.step(now, input, &mut self.log, &mut self.output);
        for (reply_to, reply, after) in self.output.replies.drain(..) {
            if after <= self.told_safe || is_on(Mutation::ReleaseEarly) {
                self.released.push((reply_to, reply));
            } else {
                self.gate.hold(after, reply_to, reply);
            }
        }
    }
}

impl<F: Files> Partition<MappedSegment<F>> {
    /// The orderly end: waits until everything appended is on disk, whatever the mode. No sync may be under way.
    pub fn sync_and_end(mut self) -> Result<(), StorageError> {
        self.log.sync_blocking()
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::{Amount, Currency, ErrorCode, ItemGet, ItemPut, Operation, Reply, Sku, Text};

    use super::*;
    use crate::engine::entries::commands::{keys as key_commands, strings};
    use crate::engine::recovery::start;
    use crate::engine::{Ask, CommandSpec, EngineLimits, KeyPlaces, KeyRequest, OwnedArguments, Request, ShardMap};
    use crate::log::{Generation, LOG_FORMAT_VERSION, LogIdentity, Salt, SegmentHeader};

    const SEGMENT_BYTES: u64 = 16 << 10;
    const IDENTITY: LogIdentity = LogIdentity {
        generation: Generation(1),
        shard: ShardId(0),
        shard_count: 1,
    };

    fn segment(number: SegmentNumber) -> Vec<u8> {
        segment_of(number, SEGMENT_BYTES)
    }

    fn segment_of(number: SegmentNumber, segment_bytes: u64) -> Vec<u8> {
        let mut bytes = vec![0; segment_bytes as usize];
        SegmentHeader {
            version: LOG_FORMAT_VERSION,
            identity: IDENTITY,
            number,
            segment_bytes,
            salt: Salt(number.0),
        }
        .encode(&mut bytes);
        bytes
    }

    fn partition(mode: SyncMode) -> Partition<Vec<u8>> {
        let mut shards = [Shard::new(ShardId(0), ShardMap::new(1), EngineLimits::default())];
        let mut logs = [LogWriter::create(IDENTITY, segment(SegmentNumber::FIRST))];
        start(&mut shards, 1, &mut logs);
        let ([shard], [mut log]) = (shards, logs);
        let plan = log.begin_sync().unwrap();
        log.sync_done(plan);
        log.offer_segment(segment(SegmentNumber::FIRST.next()));
        let mut partition = Partition::new(shard, log, mode);
        partition.settle(NOW);
        partition
    }

    const NOW: Timestamp = Timestamp(1_000_000);

    fn put(sequence: u64) -> Request {
        let operation = Operation::ItemPut(Box::new(ItemPut {
            sku: Sku::new(format!("sku-{sequence}").as_bytes()).unwrap(),
            price: Amount::new(100).unwrap(),
            currency: Currency::new(b"GBP").unwrap(),
            name: Text::new(&[b'n'; 100]).unwrap(),
            limit: None,
            backorder: None,
            key: None,
        }));
        request(sequence, operation)
    }

    fn get(sequence: u64, sku: u64) -> Request {
        request(
            sequence,
            Operation::ItemGet(ItemGet {
                sku: Sku::new(format!("sku-{sku}").as_bytes()).unwrap(),
            }),
        )
    }

    fn request(sequence: u64, operation: Operation) -> Request {
        Request {
            reply_to: ReplyTo {
                shard: ShardId(0),
                connection: 0,
                generation: 0,
                sequence,
            },
            operation,
        }
    }

    fn released(partition: &mut Partition<Vec<u8>>) -> Vec<(u64, Reply)> {
        partition.settle(NOW);
        partition
            .released()
            .map(|(to, reply)| (to.sequence, reply.into_shop()))
            .collect()
    }

    #[test]
    fn no_answer_reveals_what_is_not_synced() {
        let mut partition = partition(SyncMode::Always);
        partition.request(NOW, put(1));
        assert!(released(&mut partition).is_empty());
        let plan = partition.begin_sync(NOW).unwrap();
        partition.request(NOW, get(2, 1));
        partition.request(NOW, put(3));
        assert!(
            released(&mut partition).is_empty(),
            "a read as well shows only what is safe"
        );
        partition.sync_done(plan);
        let first = released(&mut partition);
        assert_eq!(
            first.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(),
            [1, 2],
            "3 came after the sync began"
        );
        assert!(!partition.is_quiet());
        let plan = partition.begin_sync(NOW).unwrap();
        partition.sync_done(plan);
        assert_eq!(released(&mut partition), [(3, Reply::Ok)]);
        partition.request(NOW, get(4, 1));
        assert_eq!(released(&mut partition).len(), 1, "what is safe is answered at once");
        assert!(partition.is_quiet());
    }

    #[test]
    fn the_last_mark_is_synced_once_nothing_follows() {
        let mut partition = partition(SyncMode::Always);
        partition.request(NOW, put(1));
        let plan = partition.begin_sync(NOW).unwrap();
        partition.sync_done(plan);
        released(&mut partition);
        let before = partition.log().last();
        let due = NOW.plus_ms(MARK_SYNC_DELAY_MS);
        assert!(partition.begin_sync(NOW.plus_ms(MARK_SYNC_DELAY_MS - 1)).is_none());
        assert!(partition.next_timer().is_some_and(|timer| timer <= due));
        let plan = partition.begin_sync(due).expect("the mark is not on disk yet");
        assert_eq!(plan.through, before, "no record is needed for it");
        partition.sync_done(plan);
        assert!(
            partition.begin_sync(due.plus_ms(1_000_000)).is_none(),
            "and that is all"
        );
    }

    #[test]
    fn every_second_answers_at_once_and_syncs_once_a_second() {
        let mut partition = partition(SyncMode::EverySecond);
        partition.request(NOW, put(1));
        assert_eq!(released(&mut partition), [(1, Reply::Ok)]);
        let plan = partition.begin_sync(NOW).expect("the last sync is long ago");
        partition.sync_done(plan);
        partition.request(NOW, put(2));
        assert_eq!(released(&mut partition).len(), 1);
        assert!(partition.begin_sync(NOW.plus_ms(999)).is_none());
        assert_eq!(
            partition.next_timer().unwrap().min(NOW.plus_ms(1000)),
            partition.next_timer().unwrap()
        );
        assert!(partition.begin_sync(NOW.plus_ms(1000)).is_some());
    }

    #[test]
    fn without_syncs_the_log_is_still_written() {
        let mut partition = partition(SyncMode::No);
        let before = partition.log().last();
        partition.request(NOW, put(1));
        assert_eq!(released(&mut partition), [(1, Reply::Ok)]);
        assert_eq!(partition.log().last(), before.next());
        assert!(partition.begin_sync(NOW.plus_ms(1_000_000)).is_none());
    }

    #[test]
    fn requests_wait_for_a_late_segment_and_are_not_refused() {
        let mut partition = partition(SyncMode::No);
        let mut answers = Vec::new();
        for sequence in 0..1000 {
            partition.request(NOW, put(sequence));
            answers.extend(released(&mut partition));
        }
        assert!(
            !partition.accepts_requests() && answers.len() < 1000,
            "the log was meant to be too short"
        );
        while answers.len() < 1000 {
            let before = answers.len();
            let number = partition
                .wants_segment()
                .expect("it is the segment that is missing")
                .number;
            partition.offer_segment(NOW, segment(number));
            answers.extend(released(&mut partition));
            assert!(answers.len() > before, "a new segment lets requests go on");
        }
        assert_eq!(
            answers,
            (0..1000).map(|sequence| (sequence, Reply::Ok)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_full_disk_refuses_writes_clearly_and_answers_reads() {
        let mut partition = partition(SyncMode::No);
        let mut refusals = Vec::new();
        for sequence in 0..1000 {
            if partition.wants_segment().is_some() {
                partition.block(NOW, "the disk is full");
            }
            partition.request(NOW, put(sequence));
            refusals.extend(
                released(&mut partition)
                    .into_iter()
                    .filter_map(|(_, reply)| match reply {
                        Reply::Error(error) => Some(error),
                        _ => None,
                    }),
            );
        }
        assert!(!refusals.is_empty());
        for error in refusals {
            assert_eq!(error.code, ErrorCode::ReadOnly, "{error}");
            assert!(error.message.contains("the disk is full"), "{error}");
        }
        partition.request(NOW, get(1, 0));
        assert!(matches!(released(&mut partition)[..], [(1, Reply::Item(_))]));
        let number = partition.wants_segment().unwrap().number;
        partition.offer_segment(NOW, segment(number));
        let number = partition.wants_segment();
        assert!(number.is_none() && partition.accepts_requests());
        partition.request(NOW, put(5000));
        assert_eq!(
            released(&mut partition),
            [(5000, Reply::Ok)],
            "once there is space, writes are taken again"
        );
    }

    /// A command on the key that is its first argument, or its first two.
    fn keys(sequence: u64, command: &'static CommandSpec, words: &[&[u8]], key_count: i16) -> Question {
        let arguments = OwnedArguments::of(words);
        let places = KeyPlaces::of_row(1, key_count, 1, words.len());
        Question {
            reply_to: request(sequence, Operation::Audit).reply_to,
            ask: Ask::Keys(KeyRequest::command(command, arguments.get(), places)),
        }
    }

    fn answers(partition: &mut Partition<Vec<u8>>) -> Vec<(u64, String)> {
        partition.settle(NOW);
        let tell = |response: Response| match response {
            Response::Keys(answer) => format!("{answer:?}"),
            Response::Shop(reply) => format!("{reply:?}"),
            Response::Together(answer) => format!("{answer:?}"),
        };
        partition
            .released()
            .map(|(to, response)| (to.sequence, tell(response)))
            .collect()
    }

    fn said(answers: &[(u64, String)], sequence: u64) -> &str {
        let answer = answers.iter().find(|&&(answered, _)| answered == sequence);
        answer.map_or("nothing", |(_, text)| text)
    }

    const LARGE_BYTES: usize = 6 << 20;

    #[test]
    fn a_large_request_waits_for_a_segment_of_its_size_with_all_behind_it() {
        let mut partition = partition(SyncMode::No);
        let large = vec![b'x'; LARGE_BYTES];
        partition.request(NOW, keys(1, &strings::SET, &[b"set", b"before", b"1"], 1));
        assert!(partition.wants_segment().is_none(), "there is a spare one");
        partition.request(NOW, keys(2, &strings::SET, &[b"set", b"key", &large], 1));
        partition.request(NOW, keys(3, &strings::STRLEN, &[b"strlen", b"key"], 1));
        partition.request(NOW, keys(4, &strings::SET, &[b"set", b"key", b"short"], 1));
        partition.request(NOW, put(5));
        assert_eq!(said(&answers(&mut partition), 1), "Ok");
        assert!(!partition.accepts_requests() && !partition.has_work() && !partition.is_quiet());
        let wanted = partition.wants_segment().expect("a large one");
        assert_eq!(wanted.number, SegmentNumber(3), "behind the spare one");
        assert!((LARGE_BYTES as u64..4 * LARGE_BYTES as u64).contains(&wanted.bytes_min));
        // One of the usual size does not help.
        partition.offer_segment(NOW, segment(wanted.number));
        assert_eq!(answers(&mut partition), []);
        let wanted = partition.wants_segment().expect("still");
        assert_eq!(wanted.number, SegmentNumber(4));
        partition.offer_segment(NOW, segment_of(wanted.number, wanted.bytes_min));
        let answers = answers(&mut partition);
        let told: Vec<_> = answers
            .iter()
            .map(|(sequence, text)| (*sequence, text.as_str()))
            .collect();
        assert_eq!(told, [(2, "Ok"), (3, "Integer(6291456)"), (4, "Ok"), (5, "Ok")]);
        assert_eq!(
            partition
                .wants_segment()
                .map(|wanted| (wanted.number, wanted.bytes_min)),
            Some((SegmentNumber(5), 0)),
            "the next is a usual one"
        );
        assert!(partition.accepts_requests(), "there is room while it is being made");
    }

    #[test]
    fn what_carries_a_large_value_waits_as_well_and_short_changes_of_one_do_not() {
        let mut partition = partition(SyncMode::No);
        let bytes = segment_bytes_for(LARGE_BYTES as u64 + (64 << 10));
        partition.offer_segment(NOW, segment_of(SegmentNumber(3), bytes));
        let large = vec![b'x'; LARGE_BYTES];
        partition.request(NOW, keys(1, &strings::SET, &[b"set", b"from", &large], 1));
        partition.request(NOW, keys(2, &strings::APPEND, &[b"append", b"from", b"x"], 1));
        assert_eq!(answers(&mut partition).len(), 1);
        let wanted = partition.wants_segment().expect("the next");
        partition.offer_segment(NOW, segment(wanted.number));
        assert_eq!(answers(&mut partition), [(2, format!("Integer({})", LARGE_BYTES + 1))]);
        for (sequence, command) in [(3, &key_commands::COPY), (4, &key_commands::RENAME)] {
            partition.request(NOW, keys(sequence, command, &[b"x", b"from", b"to"], 2));
            assert_eq!(answers(&mut partition), []);
            let wanted = partition.wants_segment().expect("for the image");
            let bytes = wanted.bytes_min - LARGE_SEGMENT_SPARE_BYTES;
            partition.offer_segment(NOW, segment_of(wanted.number, bytes));
            let answers = answers(&mut partition);
            assert!(["Ok", "Integer(1)"].contains(&said(&answers, sequence)), "{answers:?}");
            let wanted = partition.wants_segment().expect("the next");
            partition.offer_segment(NOW, segment(wanted.number));
        }
        partition.request(NOW, keys(5, &strings::STRLEN, &[b"strlen", b"to"], 1));
        assert_eq!(
            said(&answers(&mut partition), 5),
            format!("Integer({})", LARGE_BYTES + 1)
        );
    }

    #[test]
    fn a_large_request_is_refused_where_the_disk_is_full_and_others_are_not() {
        let mut partition = partition(SyncMode::No);
        let large = vec![b'x'; LARGE_BYTES];
        for round in 0..2 {
            let first = 10 * round;
            partition.request(NOW, keys(first, &strings::SET, &[b"set", b"key", &large], 1));
            partition.request(NOW, keys(first + 1, &strings::SET, &[b"set", b"other", b"1"], 1));
            assert_eq!(answers(&mut partition), []);
            assert!(
                partition
                    .wants_segment()
                    .is_some_and(|wanted| wanted.bytes_min > LARGE_BYTES as u64)
            );
            partition.block(NOW, "the disk is full");
            let answers = answers(&mut partition);
            assert_eq!(
                said(&answers, first),
                "Error(\"READONLY writes are refused: the disk is full\")"
            );
            assert_eq!(said(&answers, first + 1), "Ok");
            assert!(
                partition.wants_segment().is_none(),
                "there is a spare one for the others"
            );
            partition.unblock(NOW);
        }
    }

    #[test]
    fn what_no_segment_takes_is_refused_at_once() {
        let mut partition = partition(SyncMode::No);
        let half = vec![b'x'; 401 << 20];
        partition.request(NOW, keys(1, &strings::SET, &[b"set", &half, &half], 1));
        let answers = answers(&mut partition);
        assert!(
            said(&answers, 1).starts_with("Error(\"ERR the change may take "),
            "{}",
            answers.len()
        );
        assert!(partition.accepts_requests() && partition.wants_segment().is_none());
    }
}
