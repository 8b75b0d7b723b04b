//! The scan: reads a log's segments in order, hands out its records, and decides where the log ends.
//!
//! Run by recovery and by the simulator over plain bytes. Reads nothing past a bad record, except to look for proof that
//! what was lost had been acknowledged. Changes nothing.
//!
//! A log ends at its first bad record. Stores to a mapping reach the disk in any order, so after a power cut a bad record
//! may have good ones behind it; that is a **torn tail**, and is cut. Every record tells how far the log was synced when
//! it was written: if any record behind the bad one tells of a sync that covered it, the disk has lost or changed what
//! it had confirmed. That is **damage**, and no state is handed out as whole.

use std::collections::VecDeque;
use std::ops::Range;

use thiserror::Error;

use super::record::{Frame, Framing, RECORD_ALIGNMENT, Record, RecordFault, read_u64};
use super::segment::{HeaderFault, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentNumber, written_bytes};
use cartwright_core::ids::{LogPosition, RecordKind};
use cartwright_core::mutation::{Mutation, is_on};

/// How far apart places are remembered from which an unproven end could be written again; bounds what is remembered.
const ANCHOR_BYTES: usize = 64 * 1024;

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffset {
    /// The segment.
    pub segment: SegmentNumber,
    /// From the segment's first byte.
    pub offset: usize,
}

/// A record that a scan hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Its position.
    pub position: LogPosition,
    /// In which term it was written.
    pub term: u64,
    /// What its payload is.
    pub kind: RecordKind,
    /// What was appended.
    pub payload: &'a [u8],
}

/// What is known before a log is read: from a checkpoint, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// Records are handed out from behind this position; those up to it are not needed, and may be gone.
    pub from: LogPosition,
    /// Everything up to here was synced once, so it must be there. No less than `from`.
    pub synced: LogPosition,
}

impl LogStart {
    /// Nothing is known: the log is read from its first record.
    pub const BEGINNING: Self = Self {
        from: LogPosition::ZERO,
        synced: LogPosition::ZERO,
    };
}

/// Reads one shard's log. Feed it every segment, ascending, then [`Self::finish`].
#[derive(Debug)]
pub struct LogScan {
    identity: LogIdentity,
    start: LogStart,
    /// The segment that the scan begins with.
    first: SegmentNumber,
    last: LogPosition,
    proven: LogPosition,
    term: u64,
    /// The segment that comes next.
    next: SegmentNumber,
    records_end: Option<RecordsEnd>,
    /// Places and the first position at or behind each, ascending; the front one is before every unproven record.
    anchors: VecDeque<(LogPosition, LogOffset)>,
    /// Behind the last record that is no mark or seal.
    behind_payload: LogOffset,
    later: Vec<LaterSegment>,
    torn_bytes: u64,
}

/// Where records stopped, and why.
#[derive(Clone, Copy, Debug)]
struct RecordsEnd {
    at: LogOffset,
    fault: RecordFault,
}

/// A segment behind the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterSegment {
    /// Which.
    pub number: SegmentNumber,
    /// Whether it holds nothing but its header, as a spare one does.
    pub is_empty: bool,
}

/// Where a log ends, and what must be done before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEnd {
    /// The last record's position.
    pub last: LogPosition,
    /// The highest position the log itself proves to have been synced.
    pub proven: LogPosition,
    /// The term that the log ends in.
    pub term: u64,
    /// The segment the log ends in.
    pub segment: SegmentNumber,
    /// Where its next record goes; everything from here on is to be erased.
    pub offset: usize,
    /// From here on records, or marks and seals behind the last of them, may be in the page cache only, some marked clean
    /// by a sync that failed: to be written again and synced. `None` if nothing is behind the last proven record.
    pub unproven_from: Option<LogOffset>,
    /// Bytes behind the end that are not zero, up to the last such in each segment: 0 after an orderly end.
    pub torn_bytes: u64,
    /// Segments after [`Self::segment`], ascending.
    pub later: Vec<LaterSegment>,
}

impl ScanEnd {
    /// Whether all records are proven and nothing is behind them, as after an orderly end.
    pub fn is_orderly(&self) -> bool {
        self.torn_bytes == 0 && self.proven == self.last
    }

    /// Of a log whose first segment holds nothing but its header.
    pub(super) fn of_new_log() -> Self {
        Self {
            last: LogPosition::ZERO,
            proven: LogPosition::ZERO,
            term: 0,
            segment: SegmentNumber::FIRST,
            offset: SEGMENT_HEADER_BYTES,
            unproven_from: None,
            torn_bytes: 0,
            later: Vec::new(),
        }
    }
}

/// Damage to a log: where, and what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("at byte {}: {fault}", at.offset)]
pub struct LogDamage {
    /// Where.
    pub at: LogOffset,
    /// What.
    pub fault: LogFault,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LogFault {
    /// A segment is not there, but must be: it is the first, or one before it or after it says so.
    #[error("the segment is missing; put the file back from a copy of the data directory")]
    Missing,
    /// The header cannot be used.
    #[error("{0}; {remedy}", remedy = header_remedy(*.0))]
    Header(HeaderFault),
    /// The header is that of another file.
    #[error(
        "the segment belongs elsewhere: it says generation {}, shard {} of {}, segment {}; files were renamed or mixed up, \
         so put back the right one", .0.identity.generation.0, .0.identity.shard, .0.identity.shard_count, .0.number.0
    )]
    Elsewhere(SegmentHeader),
    /// The file was cut or has grown.
    #[error("the segment has {found} bytes and must have {expected}; put the file back from a copy")]
    Size {
        /// Bytes there are.
        found: u64,
        /// Bytes its header tells.
        expected: u64,
    },
    /// A bad record that had been acknowledged.
    #[error(
        "{fault}, but the record at position {position} must be here: the log proves that everything up to position {proof} \
         was on disk. The disk or something else changed the file; restore the data directory from a copy"
    )]
    LostRecord {
        /// What is there instead.
        fault: RecordFault,
        /// Which record was expected.
        position: LogPosition,
        /// How far the log was synced, at least.
        proof: LogPosition,
    },
    /// A whole record that is not the one that follows.
    #[error(
        "a whole record, but with position {found} after position {last}: parts of two logs were mixed; restore the data \
         directory from a copy"
    )]
    OutOfOrder {
        /// Its position.
        found: LogPosition,
        /// The last position before it.
        last: LogPosition,
    },
    /// A whole record that tells of a sync of records that did not exist.
    #[error(
        "a whole record that tells of a sync up to {synced} after position {last}; restore the data directory from a copy"
    )]
    SyncedAhead {
        /// How far it says the log was synced.
        synced: LogPosition,
        /// The last position before it.
        last: LogPosition,
    },
    /// A whole mark of a term before that of another mark in front of it.
    #[error("a whole mark of term {found} after term {last}; restore the data directory from a copy")]
    TermBefore {
        /// The term it tells.
        found: u64,
        /// The term before it.
        last: u64,
    },
    /// The first segment there is does not say what was before it.
    #[error(
        "the log begins with this segment, and the mark that tells at which position cannot be read: {0}; restore the data \
         directory from a copy"
    )]
    Opening(RecordFault),
    /// Records between a checkpoint and the first segment there is are gone.
    #[error(
        "the segment is missing: the log begins with the one after it, behind position {opening}, and its records are \
         needed from behind position {from}; put the file, or a checkpoint that stands for it, back from a copy of the \
         data directory"
    )]
    BeginsBehind {
        /// The last position before the first segment.
        opening: LogPosition,
        /// Where the checkpoint begins; zero where there is none.
        from: LogPosition,
    },
    /// A seal that names another segment than the next.
    #[error("the seal names segment {found} as the next; restore the data directory from a copy")]
    Seal {
        /// The segment it names.
        found: u64,
    },
}

fn header_remedy(fault: HeaderFault) -> &'static str {
    match fault {
        HeaderFault::Newer { .. } => "start the version that wrote it, or a later one",
        HeaderFault::NotASegment | HeaderFault::Checksum | HeaderFault::Fields => "put the file back from a copy",
    }
}

/// Why a scan stopped.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ScanError<E> {
    /// The log is damaged.
    #[error(transparent)]
    Damage(#[from] LogDamage),
    /// The caller refused a record.
    #[error("the record at position {position} (byte {}) was refused: {error}", at.offset)]
    Refused {
        /// Where it is.
        at: LogOffset,
        /// Its position.
        position: LogPosition,
        /// Why.
        error: E,
    },
}

impl LogScan {
    /// A scan of the log `identity`, from its first segment.
    pub fn new(identity: LogIdentity) -> Self {
        Self::behind(identity, SegmentNumber::FIRST, LogStart::BEGINNING)
    }

    /// A scan of the log `identity` from its segment `first` on. Records up to `start.from` are checked like the others
    /// but not handed out; if `first` does not reach back to there, that is damage.
    pub fn behind(identity: LogIdentity, first: SegmentNumber, start: LogStart) -> Self {
        assert!(
            start.from <= start.synced,
            "a checkpoint ends no earlier than it begins"
        );
        Self {
            identity,
            start,
            first,
            last: LogPosition::ZERO,
            proven: LogPosition::ZERO,
            term: 0,
            next: first,
            records_end: None,
            anchors: VecDeque::new(),
            behind_payload: LogOffset {
                segment: first,
                offset: SEGMENT_HEADER_BYTES,
            },
            later: Vec::new(),
            torn_bytes: 0,
        }
    }

    /// Reads the whole segment `number` (by its file's name), handing each record to `on_record`.
    pub fn segment<E>(
        &mut self,
        number: SegmentNumber,
        bytes: &[u8],
        on_record: &mut impl FnMut(LogRecord<'_>) -> Result<(), E>,
    ) -> Result<(), ScanError<E>> {
        if number != self.next {
            return Err(damage(self.next, 0, LogFault::Missing).into());
        }
        self.next = number.next();
        let framing = self.header(number, bytes)?.framing();
        if number == self.first {
            self.open(number, framing, bytes)?;
        }
        if self.records_end.is_some() {
            let torn_bytes = written_bytes(&bytes[SEGMENT_HEADER_BYTES..]);
            self.torn_bytes += torn_bytes as u64;
            self.later.push(LaterSegment {
                number,
                is_empty: torn_bytes == 0,
            });
            return Ok(self.search(framing, bytes, SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + torn_bytes)?);
        }
        let Some(end) = self.records(number, framing, bytes, on_record)? else {
            return Ok(());
        };
        let torn_bytes = written_bytes(&bytes[end.at.offset..]);
        self.torn_bytes += torn_bytes as u64;
        self.records_end = Some(end);
        // What the bad record itself says counts for nothing.
        Ok(self.search(
            framing,
            bytes,
            end.at.offset + RECORD_ALIGNMENT..end.at.offset + torn_bytes,
        )?)
    }

    /// Every segment was read: decides where the log ends.
    pub fn finish(self) -> Result<ScanEnd, LogDamage> {
        let Some(RecordsEnd { at, fault }) = self.records_end else {
            // No segment at all, or the last one has its seal: the one it names was on disk before.
            return Err(damage(self.next, 0, LogFault::Missing));
        };
        if self.last < self.start.synced {
            let lost = LogFault::LostRecord {
                fault,
                position: self.last.next(),
                proof: self.start.synced,
            };
            return Err(LogDamage { at, fault: lost });
        }
        Ok(ScanEnd {
            last: self.last,
            proven: self.proven,
            term: self.term,
            segment: at.segment,
            offset: at.offset,
            unproven_from: if self.proven < self.last {
                self.anchors.front().map(|&(_, at)| at)
            } else {
                // What proves the last record proves nothing of itself.
                Some(self.behind_payload).filter(|&behind| behind != at)
            },
            torn_bytes: self.torn_bytes,
            later: self.later,
        })
    }

    /// Learns at which position the scan begins: every segment but the log's first has had others before it.
    fn open(&mut self, number: SegmentNumber, framing: Framing, bytes: &[u8]) -> Result<(), LogDamage> {
        if number == SegmentNumber::FIRST {
            return Ok(());
        }
        let opening = opening_mark(framing, bytes).map_err(|fault| match fault {
            // A spare segment, never begun: what is lacking is the one before it.
            RecordFault::Empty if self.start.from == LogPosition::ZERO && number > SegmentNumber::FIRST => {
                damage(SegmentNumber(number.0 - 1), 0, LogFault::Missing)
            }
            fault => damage(number, SEGMENT_HEADER_BYTES, LogFault::Opening(fault)),
        })?;
        let from = self.start.from;
        if opening > from {
            let last_missing = SegmentNumber(number.0 - 1);
            return Err(damage(last_missing, 0, LogFault::BeginsBehind { opening, from }));
        }
        self.last = opening;
        Ok(())
    }

    fn header(&self, number: SegmentNumber, bytes: &[u8]) -> Result<SegmentHeader, LogDamage> {
        let header = SegmentHeader::decode(bytes).map_err(|fault| damage(number, 0, LogFault::Header(fault)))?;
        if header.identity != self.identity || header.number != number {
            return Err(damage(number, 0, LogFault::Elsewhere(header)));
        }
        if header.segment_bytes != bytes.len() as u64 {
            let size = LogFault::Size {
                found: bytes.len() as u64,
                expected: header.segment_bytes,
            };
            return Err(damage(number, 0, size));
        }
        Ok(header)
    }

    /// Reads records up to the seal (`None`) or the first bad one.
    fn records<E>(
        &mut self,
        number: SegmentNumber,
        framing: Framing,
        bytes: &[u8],
        on_record: &mut impl FnMut(LogRecord<'_>) -> Result<(), E>,
    ) -> Result<Option<RecordsEnd>, ScanError<E>> {
        let mut offset = SEGMENT_HEADER_BYTES;
        loop {
            let at = LogOffset {
                segment: number,
                offset,
            };
            let record = match Record::decode(framing, bytes.get(offset..).unwrap_or_default()) {
                Ok(record) => record,
                Err(fault) => return Ok(Some(RecordsEnd { at, fault })),
            };
            let expected = match record.frame {
                Frame::Payload(_) => self.last.next(),
                Frame::Mark | Frame::Seal => self.last,
            };
            if record.position != expected {
                let fault = LogFault::OutOfOrder {
                    found: record.position,
                    last: self.last,
                };
                return Err(LogDamage { at, fault }.into());
            }
            if record.synced > self.last {
                let fault = LogFault::SyncedAhead {
                    synced: record.synced,
                    last: self.last,
                };
                return Err(LogDamage { at, fault }.into());
            }
            self.remember(at);
            self.prove(record.synced);
            match record.frame {
                Frame::Payload(kind) => {
                    if record.position > self.start.from {
                        let handed_out = LogRecord {
                            position: record.position,
                            term: self.term,
                            kind,
                            payload: record.payload,
                        };
                        on_record(handed_out).map_err(|error| ScanError::Refused {
                            at,
                            position: record.position,
                            error,
                        })?;
                    }
                    self.last = record.position;
                    self.behind_payload = LogOffset {
                        segment: number,
                        offset: offset + record.bytes(),
                    };
                }
                Frame::Mark => {
                    let found = record.term();
                    if found < self.term {
                        let last = self.term;
                        let fault = LogFault::TermBefore { found, last };
                        return Err(LogDamage { at, fault }.into());
                    }
                    self.term = found;
                }
                Frame::Seal => {
                    let found = read_u64(record.payload, 0);
                    if found != number.next().0 {
                        return Err(LogDamage {
                            at,
                            fault: LogFault::Seal { found },
                        }
                        .into());
                    }
                    return Ok(None);
                }
            }
            offset += record.bytes();
        }
    }

    /// Notes a place from which everything unproven could be written again.
    fn remember(&mut self, at: LogOffset) {
        let is_far = self
            .anchors
            .back()
            .is_none_or(|(_, anchor)| anchor.segment != at.segment || at.offset - anchor.offset >= ANCHOR_BYTES);
        if is_far {
            self.anchors.push_back((self.last.next(), at));
        }
    }

    fn prove(&mut self, synced: LogPosition) {
        self.proven = self.proven.max(synced);
        // The sync that covered a record covered all before it, marks and seals included.
        while self
            .anchors
            .get(1)
            .is_some_and(|&(position, _)| position <= self.proven)
        {
            self.anchors.pop_front();
        }
    }

    /// Looks behind the bad record, where anything was written, for one that proves it was acknowledged.
    fn search(&self, framing: Framing, bytes: &[u8], starts: Range<usize>) -> Result<(), LogDamage> {
        let Some(RecordsEnd { at, fault }) = self.records_end else {
            return Ok(());
        };
        if is_on(Mutation::CutBelowMark) {
            return Ok(());
        }
        let position = self.last.next();
        let mut offset = starts.start;
        while offset < starts.end {
            let Ok(record) = Record::decode(framing, &bytes[offset..]) else {
                offset += RECORD_ALIGNMENT;
                continue;
            };
            if record.synced >= position {
                return Err(LogDamage {
                    at,
                    fault: LogFault::LostRecord {
                        fault,
                        position,
                        proof: record.synced,
                    },
                });
            }
            offset += record.bytes();
        }
        Ok(())
    }
}

/// The last position before the segment whose bytes these are, from the mark it opens with.
pub(super) fn opening_mark(framing: Framing, bytes: &[u8]) -> Result<LogPosition, RecordFault> {
    let record = Record::decode(framing, bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or_default())?;
    match record.frame {
        Frame::Mark => Ok(record.position),
        Frame::Payload(_) | Frame::Seal => Err(RecordFault::Frame),
    }
}

fn damage(segment: SegmentNumber, offset: usize, fault: LogFault) -> LogDamage {
    LogDamage {
        at: LogOffset { segment, offset },
        fault,
    }
}
