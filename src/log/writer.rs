//! The writer: appends records to the segments of one shard's log, and says what to sync next.
//!
//! Driven by the shard's loop (and by the simulator): append, begin a sync, and once that sync is done release what
//! waited for it. Makes no system call: segments come from outside, syncs are run outside. Never looks into a payload.

use std::collections::VecDeque;
use std::ops::Range;

use super::record::{
    Frame, Framing, MARK_BYTES, ORDINARY_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, Record, SEAL_BYTES,
    record_bytes,
};
use super::scan::ScanEnd;
use super::segment::{
    LogIdentity, RECORD_OVERHEAD_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_RESERVE_BYTES, SegmentHeader, SegmentMemory,
    SegmentNumber, payload_bytes_max, written_bytes,
};
use cartwright_core::ids::{LogPosition, RecordKind};
use cartwright_core::journal::Journal;
use cartwright_core::mutation::{Mutation, is_on};

/// One range of bytes of one segment to sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRange {
    /// The segment; [`LogWriter::segment`] has its memory.
    pub segment: SegmentNumber,
    /// From the segment's first byte.
    pub bytes: Range<usize>,
}

/// A sync under way. Hand it back to [`LogWriter::sync_done`] once every range is on disk. A sync that fails is never
/// repeated: the process ends.
#[derive(Debug)]
#[must_use = "the sync must be run and reported done"]
pub struct SyncPlan {
    /// At least one, ascending.
    pub ranges: Vec<SyncRange>,
    /// Every record up to and including this one is on disk when the sync is done.
    pub through: LogPosition,
}

/// Appends to one shard's log. See the module's text.
#[derive(Debug)]
pub struct LogWriter<M> {
    identity: LogIdentity,
    /// Full, sealed, not yet wholly synced; ascending.
    sealed: VecDeque<ActiveSegment<M>>,
    current: ActiveSegment<M>,
    /// Empty, to go on in; ascending. One is a usual reserve; behind it may come one for a large record.
    spares: VecDeque<ActiveSegment<M>>,
    reserve: Reserve,
    /// Sealed and wholly synced: of no more use to the writer.
    retired: Vec<M>,
    last: LogPosition,
    synced: LogPosition,
    term: u64,
    sync_outstanding: bool,
    /// Bytes appended to segments before the current one.
    turned_bytes: u64,
    /// Where this writer's first byte in the current segment went.
    begun_at: usize,
    /// Empty; keeps the memory of the last plan's ranges for the next.
    ranges: Vec<SyncRange>,
}

/// What the segments, all but the current one's room, come to: known until one is taken or used up.
#[derive(Clone, Copy, Debug)]
struct Reserve {
    /// See [`LogWriter::payload_bytes_max`].
    payload_bytes_max: usize,
    /// What the spare segments add to a current one that takes a payload of that size.
    added_bytes: u64,
    /// What is certain to fit them alone.
    own_bytes: u64,
}

impl Reserve {
    fn of<M: SegmentMemory>(current: &ActiveSegment<M>, spares: &VecDeque<ActiveSegment<M>>) -> Self {
        let largest = std::iter::once(current).chain(spares);
        let largest = largest.map(|segment| payload_bytes_max(segment.segment_bytes as u64));
        let payload_bytes_max = largest.min().unwrap_or(ORDINARY_PAYLOAD_BYTES_MAX);
        let cost = cost_of(payload_bytes_max);
        // The payload that opens a segment leaves a gap in the one before, smaller than itself.
        let rooms = spares.iter().map(ActiveSegment::room_bytes);
        let added_bytes = rooms.clone().map(|room| room.saturating_sub(cost)).sum();
        let widest = rooms.max().unwrap_or_default();
        Self {
            payload_bytes_max,
            added_bytes,
            own_bytes: if widest < cost { widest } else { added_bytes + cost },
        }
    }

    fn cost(&self) -> u64 {
        cost_of(self.payload_bytes_max)
    }
}

/// What a payload takes of the room, at most.
const fn cost_of(payload_bytes: usize) -> u64 {
    payload_bytes as u64 + RECORD_OVERHEAD_BYTES
}

#[derive(Debug)]
struct ActiveSegment<M> {
    number: SegmentNumber,
    framing: Framing,
    /// Of another format than what is written now: it takes marks and its seal, and no payload.
    is_old: bool,
    memory: M,
    segment_bytes: usize,
    /// Where the next record goes.
    offset: usize,
    /// Everything before is on disk, or in the sync under way.
    sync_begun: usize,
}

impl<M: SegmentMemory> LogWriter<M> {
    /// A writer of a new log. `first` is its first segment, on disk, holding nothing but its header.
    pub fn create(identity: LogIdentity, first: M) -> Self {
        Self::resume(identity, first, &ScanEnd::of_new_log())
    }

    /// A writer that goes on where a scan ended. The caller has put everything before that end on disk, has erased
    /// everything behind it in `current`, durably, and has removed the segments after `current` (or offers the next one,
    /// if it holds nothing but its header).
    pub fn resume(identity: LogIdentity, current: M, end: &ScanEnd) -> Self {
        let mut current = ActiveSegment::new(identity, end.segment, current);
        assert!(
            written_bytes(&current.memory.bytes()[end.offset..]) == 0,
            "a torn tail is erased before the log goes on, or its records could come back"
        );
        current.offset = end.offset;
        current.sync_begun = end.offset;
        let spares = VecDeque::new();
        let mut writer = Self {
            identity,
            sealed: VecDeque::new(),
            reserve: Reserve::of(&current, &spares),
            current,
            spares,
            retired: Vec::new(),
            last: end.last,
            synced: end.last,
            term: end.term,
            sync_outstanding: false,
            turned_bytes: 0,
            begun_at: end.offset,
            ranges: Vec::new(),
        };
        // The marks a writer keeps room for may be used up when nothing is left to prove, and only then.
        if end.offset == SEGMENT_HEADER_BYTES || end.proven < end.last {
            writer.mark();
        }
        writer
    }

    /// Which log this is.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// The last record's position; [`LogPosition::ZERO`] while there is none.
    pub fn last(&self) -> LogPosition {
        self.last
    }

    /// The highest position up to which every record is known to be on disk.
    pub fn synced(&self) -> LogPosition {
        self.synced
    }

    /// Bytes that this writer has appended, with everything that a record brings along.
    pub fn appended_bytes(&self) -> u64 {
        self.turned_bytes + (self.current.offset - self.begun_at) as u64
    }

    /// Largest payload that any of the segments takes, given room; at most [`ORDINARY_PAYLOAD_BYTES_MAX`].
    pub fn payload_bytes_max(&self) -> usize {
        self.reserve.payload_bytes_max
    }

    /// The term in which records are appended.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Records are appended in `term` from now on, which is no earlier than the one before. Takes as much room as a
    /// payload of eight bytes.
    pub fn begin_term(&mut self, term: u64) {
        assert!(self.term <= term, "terms only grow");
        if self.term < term {
            while !self.current.takes(MARK_BYTES - RECORD_HEADER_BYTES) {
                self.turn();
            }
            self.term = term;
            self.mark();
        }
    }

    /// How much log is certain to be appendable. Appends of payloads up to [`Self::payload_bytes_max`] are sure to
    /// succeed, whatever syncs complete between them, as long as payload bytes plus [`RECORD_OVERHEAD_BYTES`] for each
    /// record add up to no more.
    pub fn room_bytes(&self) -> u64 {
        let current = self.current.room_bytes();
        if current < self.reserve.cost() {
            current.max(self.reserve.own_bytes)
        } else {
            current + self.reserve.added_bytes
        }
    }

    /// How much of it lies in one piece, in the last segment. One payload of any size is sure to fit if it takes no more
    /// than this, reckoned as for [`Self::room_bytes`]; what it leaves of this is all that is certain then.
    pub fn piece_bytes(&self) -> u64 {
        self.spares.back().unwrap_or(&self.current).room_bytes()
    }

    /// Which segment to make next; `None` while there is a spare one.
    pub fn wants_segment(&self) -> Option<SegmentNumber> {
        self.spares.is_empty().then(|| self.next_segment())
    }

    /// The number of the segment behind all there are.
    pub fn next_segment(&self) -> SegmentNumber {
        self.spares.back().unwrap_or(&self.current).number.next()
    }

    /// Takes the segment [`Self::next_segment`] as a spare one: on disk, with its name, holding nothing but its header.
    pub fn offer_segment(&mut self, memory: M) {
        let spare = ActiveSegment::new(self.identity, self.next_segment(), memory);
        self.spares.push_back(spare);
        self.reserve = Reserve::of(&self.current, &self.spares);
    }

    /// The memory of a segment named in a [`SyncPlan`], until that plan is done.
    pub fn segment(&self, number: SegmentNumber) -> Option<&M> {
        self.sealed
            .iter()
            .chain([&self.current])
            .find(|segment| segment.number == number)
            .map(|segment| &segment.memory)
    }

    /// What to sync, if records were appended since the last sync began and none is under way.
    pub fn begin_sync(&mut self) -> Option<SyncPlan> {
        if self.sync_outstanding || self.synced == self.last {
            None
        } else {
            self.plan()
        }
    }

    /// Whether all records are on disk, and the mark that says so is not: damage to the last of them could not be told
    /// from a torn tail after a power cut.
    pub fn has_unsynced_mark(&self) -> bool {
        !self.sync_outstanding && self.synced == self.last && self.current.sync_begun < self.current.offset
    }

    /// What to sync while nothing is appended, so that the last mark reaches the disk; `None` where it is there.
    pub fn begin_mark_sync(&mut self) -> Option<SyncPlan> {
        if self.has_unsynced_mark() { self.plan() } else { None }
    }

    /// What to sync before an orderly end: also marks that no record follows. `None` once all is on disk. No sync may be
    /// under way.
    pub fn begin_final_sync(&mut self) -> Option<SyncPlan> {
        assert!(!self.sync_outstanding, "the last sync begins when no other runs");
        self.plan()
    }

    fn plan(&mut self) -> Option<SyncPlan> {
        let segments = self.sealed.iter_mut().chain([&mut self.current]);
        self.ranges.extend(segments.filter_map(ActiveSegment::begin_sync));
        if self.ranges.is_empty() {
            return None;
        }
        if is_on(Mutation::SkipSync) && self.ranges.len() > 1 {
            self.ranges.remove(0);
        }
        self.sync_outstanding = true;
        Some(SyncPlan {
            ranges: std::mem::take(&mut self.ranges),
            through: self.last,
        })
    }

    /// The sync is done: advances [`Self::synced`], and writes so into the log, where it outlives the process. Only then
    /// may anything that waited for the sync leave.
    pub fn sync_done(&mut self, plan: SyncPlan) {
        let SyncPlan { mut ranges, through } = plan;
        assert!(self.sync_outstanding, "a sync is done once");
        assert!(
            self.synced <= through && through <= self.last,
            "a sync covers records that were appended"
        );
        self.sync_outstanding = false;
        ranges.clear();
        self.ranges = ranges;
        if self.synced < through {
            self.synced = through;
            self.mark();
        }
        while self
            .sealed
            .front()
            .is_some_and(|segment| segment.sync_begun == segment.offset)
        {
            let segment = self.sealed.pop_front().expect("the front was just looked at");
            self.retired.push(segment.memory);
        }
    }

    /// Segments that are full and wholly on disk, to be unmapped. They stay part of the log.
    pub fn take_retired(&mut self) -> Vec<M> {
        std::mem::take(&mut self.retired)
    }

    fn mark(&mut self) {
        let term = self.term.to_le_bytes();
        // Before there were terms a mark had no payload.
        let payload = if self.current.framing.names_kinds() {
            &term[..]
        } else {
            &[]
        };
        self.current.put(Frame::Mark, self.last, self.synced, payload);
    }

    /// Seals the current segment and goes on in the next.
    fn turn(&mut self) {
        let spare = self
            .spares
            .pop_front()
            .expect("callers append no more than room_bytes() allows");
        self.current
            .put(Frame::Seal, self.last, self.synced, &spare.number.0.to_le_bytes());
        self.turned_bytes = self.appended_bytes();
        self.begun_at = SEGMENT_HEADER_BYTES;
        self.sealed.push_back(std::mem::replace(&mut self.current, spare));
        self.reserve = Reserve::of(&self.current, &self.spares);
        self.mark();
    }
}

impl<M: SegmentMemory> Journal for LogWriter<M> {
    fn append(&mut self, kind: RecordKind, payload: &[u8]) -> LogPosition {
        self.append_pieces(kind, payload, &[])
    }

    fn append_pieces(&mut self, kind: RecordKind, first: &[u8], more: &[u8]) -> LogPosition {
        let payload_bytes = first.len() + more.len();
        assert!(
            payload_bytes <= PAYLOAD_BYTES_MAX,
            "a payload has at most {PAYLOAD_BYTES_MAX} bytes"
        );
        // A large one may pass segments in which nothing else stands.
        while !self.current.takes(payload_bytes) {
            self.turn();
        }
        self.last = self.last.next();
        let record = Record {
            frame: Frame::Payload(kind),
            position: self.last,
            synced: self.synced,
            payload: first,
        };
        self.current.put_with(&record, more);
        self.last
    }
}

impl<M: SegmentMemory> ActiveSegment<M> {
    fn new(identity: LogIdentity, number: SegmentNumber, memory: M) -> Self {
        let bytes = memory.bytes();
        let header = SegmentHeader::decode(bytes).expect("a segment has its header before the log takes it");
        assert!(
            header.identity == identity && header.number == number && header.segment_bytes == bytes.len() as u64,
            "the segment offered is the one the log needs next"
        );
        Self {
            number,
            framing: header.framing(),
            is_old: !header.is_current(),
            segment_bytes: bytes.len(),
            memory,
            offset: SEGMENT_HEADER_BYTES,
            sync_begun: SEGMENT_HEADER_BYTES,
        }
    }

    /// Whether a payload fits with the reserve left behind it.
    fn takes(&self, payload_bytes: usize) -> bool {
        !self.is_old && self.offset + record_bytes(payload_bytes) + SEGMENT_RESERVE_BYTES <= self.segment_bytes
    }

    /// See [`LogWriter::room_bytes`]. The first two marks to come may be those of records already appended; each record
    /// to come is charged with one of its own.
    fn room_bytes(&self) -> u64 {
        if self.is_old {
            return 0;
        }
        let opening = if self.offset == SEGMENT_HEADER_BYTES {
            MARK_BYTES
        } else {
            0
        };
        let kept = self.offset + opening + 2 * MARK_BYTES + SEGMENT_RESERVE_BYTES;
        self.segment_bytes.saturating_sub(kept) as u64
    }

    fn put(&mut self, frame: Frame, position: LogPosition, synced: LogPosition, payload: &[u8]) {
        let record = Record {
            frame,
            position,
            synced,
            payload,
        };
        self.put_with(&record, &[]);
    }

    /// Puts a record whose payload goes on with `more`.
    fn put_with(&mut self, record: &Record<'_>, more: &[u8]) {
        let end = self.offset + record_bytes(record.payload.len() + more.len());
        let limit = if record.frame == Frame::Seal {
            self.segment_bytes
        } else {
            self.segment_bytes - SEAL_BYTES
        };
        assert!(end <= limit, "a segment always has room for its seal and its marks");
        record.encode(more, self.framing.salt, &mut self.memory.bytes_mut()[self.offset..end]);
        self.offset = end;
    }

    fn begin_sync(&mut self) -> Option<SyncRange> {
        let bytes = self.sync_begun..self.offset;
        self.sync_begun = self.offset;
        (!bytes.is_empty()).then_some(SyncRange {
            segment: self.number,
            bytes,
        })
    }
}
