//! Entry points for fuzzing: each takes any bytes to one reader of bytes that the server did not make, or may find
//! changed.
//!
//! Called by the targets beside this file (`cargo +nightly fuzz run session`) and, with mutated seeds, by the
//! server's own `tests/fuzz.rs`. Each says whether the reader took its bytes for whole, so that seeds can be held to it;
//! a broken promise is a panic.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use cartwright::engine::{EngineLimits, Journal, LogPosition, Packing, Record, RecordKind, Restore, ShardId, ShardMap};
use cartwright::log::{
    CheckpointDirectory, DataDirectory, Generation, LOG_FORMAT_VERSION, LogIdentity, LogRecord, LogScan, LogWriter,
    Manifest, SEGMENT_BYTES_MIN, Salt, ScanEnd, SegmentHeader, SegmentNumber,
};
use cartwright::session::{Request, ServerCounters, Session, SessionContext, SessionLimits};
use cartwright_protocol::native::{
    ClientHello, ServerHello, decode_frame, decode_reply, decode_request, encode_reply, encode_request,
};
use cartwright_protocol::resp::parser::LINE_BYTES_MAX;
use cartwright_protocol::resp::{ParserLimits, ProtocolError, ReplyError, ReplyParser, RequestParser};
use cartwright_protocol::{Error, ErrorCode, Reply};
use tempfile::TempDir;

/// Whose logs and checkpoints the seeds are.
pub const IDENTITY: LogIdentity = LogIdentity {
    generation: Generation(1),
    shard: ShardId(0),
    shard_count: 2,
};

/// Where the seeds' checkpoints begin.
pub const CHECKPOINT_BEGINS: LogPosition = LogPosition(7);

/// Most bytes of output that a session may hold when nobody takes it: its limit, and the longest reply.
const OUTPUT_BYTES_MAX: usize = SessionLimits::DEFAULT.output_bytes_max + (1 << 20);

/// The commands in a stream, and what ended it.
type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Parses `stream` as it arrives in pieces of so many bytes.
fn commands(stream: &[u8], piece: usize) -> Commands {
    let mut parser = RequestParser::new(ParserLimits::REDIS);
    let (mut commands, mut start, mut end) = (Vec::new(), 0, 0);
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        loop {
            match parser.parse(&stream[start..end]) {
                Ok(Some(length)) => {
                    assert!(
                        (1..=end - start).contains(&length),
                        "a command takes bytes that there are"
                    );
                    let arguments = parser.arguments(&stream[start..end]);
                    commands.push(arguments.iter().map(<[u8]>::to_vec).collect());
                    start += length;
                }
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

/// RESP requests: however a stream is split, it says the same. The first byte is the length of the pieces.
pub fn resp_requests(bytes: &[u8]) -> bool {
    let Some((&piece, stream)) = bytes.split_first() else {
        return false;
    };
    let pieces = commands(stream, usize::from(piece) + 1);
    // A line is too long as soon as it is seen to be, which depends on the pieces.
    if stream.len() <= LINE_BYTES_MAX {
        assert_eq!(commands(stream, stream.len().max(1)), pieces);
    }
    pieces.1.is_none() && !pieces.0.is_empty()
}

/// The lengths of the replies in a stream with how many parts each has, and what ended it.
type Replies = (Vec<(usize, usize)>, Option<ReplyError>);

/// Parses `stream` as it arrives in pieces of so many bytes.
fn replies(stream: &[u8], piece: usize) -> Replies {
    let mut parser = ReplyParser::new(ParserLimits::REDIS.bulk_bytes_max);
    let (mut replies, mut start, mut end) = (Vec::new(), 0, 0);
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        loop {
            match parser.parse(&stream[start..end]) {
                Ok(Some(reply)) => {
                    // All of it can be built.
                    let _ = reply.value();
                    replies.push((reply.len(), reply.tokens().count()));
                    start += reply.len();
                }
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

/// RESP replies: however a stream is split, it says the same. The first byte is the length of the pieces.
pub fn resp_replies(bytes: &[u8]) -> bool {
    let Some((&piece, stream)) = bytes.split_first() else {
        return false;
    };
    let pieces = replies(stream, usize::from(piece) + 1);
    assert_eq!(replies(stream, stream.len().max(1)), pieces);
    let taken: usize = pieces.0.iter().map(|&(length, _)| length).sum();
    taken > 0 && taken == stream.len()
}

/// Native frames: what decodes is encoded and decoded to the same again.
pub fn native_frames(bytes: &[u8]) -> bool {
    // Either may be what a stream begins with.
    let _ = (ClientHello::decode(bytes), ServerHello::decode(bytes));
    let (mut rest, mut count) = (bytes, 0);
    while let Ok(Some((frame, length))) = decode_frame(rest) {
        let mut again = Vec::new();
        if let Ok(operation) = decode_request(&frame) {
            encode_request(&mut again, frame.request_id, &operation);
            let (frame, _) = decode_frame(&again).unwrap().expect("what was encoded is a frame");
            assert_eq!(decode_request(&frame).as_ref(), Ok(&operation));
            count += 1;
        }
        if let Ok(reply) = decode_reply(&frame) {
            again.clear();
            encode_reply(&mut again, frame.request_id, &reply);
            let (frame, _) = decode_frame(&again).unwrap().expect("what was encoded is a frame");
            assert_eq!(decode_reply(&frame).as_ref(), Ok(&reply));
            count += 1;
        }
        assert!(length <= rest.len());
        rest = &rest[length..];
    }
    count > 0 && rest.is_empty()
}

/// A whole session of either protocol, whose requests are all refused. The first byte is the length of the pieces.
pub fn session(bytes: &[u8]) -> bool {
    let Some((&piece, stream)) = bytes.split_first() else {
        return false;
    };
    let facts = Box::new(ServerCounters::default());
    let context = SessionContext::new(0, 2, 6379, "0".repeat(40), facts);
    let mut session = Session::new(1, Rc::new(context));
    let mut answered = 0;
    for piece in stream.chunks(usize::from(piece) + 1) {
        if !session.wants_input() {
            break;
        }
        session.receive(piece);
        while let Some((sequence, request)) = session.next_request() {
            match request {
                Request::Engine(_) => {
                    session.complete(sequence, Reply::Error(Error::new(ErrorCode::Busy, "try again")));
                }
                Request::Server(_) => session.complete_task(sequence, Vec::new()),
            }
            answered += 1;
        }
        assert_eq!(session.in_flight(), 0);
        assert!(session.output().len() <= OUTPUT_BYTES_MAX);
        // Every other time, so that replies pile up as well.
        if answered % 2 == 0 {
            session.output().clear();
        }
    }
    answered > 0 && !session.is_closing()
}

/// What a scan makes of segments numbered from 1: how many records it handed out, and where the log ends, if it is one.
fn scan<S: AsRef<[u8]>>(segments: &[S]) -> (u64, Option<ScanEnd>) {
    let mut scan = LogScan::new(IDENTITY);
    let mut count = 0;
    let mut on_record = |record: LogRecord<'_>| {
        count += 1;
        assert_eq!(record.position.0, count, "positions follow one another");
        Ok::<_, Infallible>(())
    };
    for (number, bytes) in (1..).zip(segments) {
        if scan
            .segment(SegmentNumber(number), bytes.as_ref(), &mut on_record)
            .is_err()
        {
            return (count, None);
        }
    }
    let end = scan.finish().ok();
    if let Some(end) = &end {
        assert_eq!(end.last.0, count);
        assert!(end.proven <= end.last);
        let last = segments[end.segment.0 as usize - 1].as_ref();
        assert!(end.offset <= last.len());
    }
    (count, end)
}

/// A log's files as they are found: one segment, or one after the other where the first says that it is shorter.
pub fn log_files(bytes: &[u8]) -> bool {
    let mut segments = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size =
            SegmentHeader::decode(rest).map_or(rest.len(), |header| rest.len().min(header.segment_bytes as usize));
        let (segment, others) = rest.split_at(size);
        segments.push(segment);
        rest = others;
    }
    let (count, end) = scan(&segments);
    count > 0 && end.is_some_and(|end| end.torn_bytes == 0)
}

/// A log that is written and then damaged. One damaged byte never takes away what was synced; more may, but what is left
/// is still in order.
///
/// Byte by byte: below 128 appends a record of so many bytes times three, up to 191 syncs, above that ends the writing;
/// then come damages of four bytes each: segment, offset (two bytes), and what to change.
pub fn log_damage(bytes: &[u8]) -> bool {
    let blank = |number: SegmentNumber| {
        let mut memory = vec![0; SEGMENT_BYTES_MIN as usize];
        SegmentHeader {
            version: LOG_FORMAT_VERSION,
            identity: IDENTITY,
            number,
            segment_bytes: SEGMENT_BYTES_MIN,
            salt: Salt(0x1234_5678_9abc_def0 ^ number.0),
        }
        .encode(&mut memory);
        memory
    };
    let mut writer = LogWriter::create(IDENTITY, blank(SegmentNumber::FIRST));
    let mut retired = Vec::new();
    let mut commands = bytes.iter();
    for &command in commands.by_ref() {
        match command {
            0..128 => {
                if let Some(number) = writer.wants_segment() {
                    writer.offer_segment(blank(number));
                }
                writer.append(RecordKind::OF_FORMAT_2, &vec![command; usize::from(command) * 3]);
            }
            128..192 => {
                if let Some(plan) = writer.begin_sync() {
                    writer.sync_done(plan);
                    retired.append(&mut writer.take_retired());
                }
            }
            _ => break,
        }
    }
    let (last, synced) = (writer.last().0, writer.synced().0);
    let kept = (retired.len() as u64 + 1..).map_while(|number| writer.segment(SegmentNumber(number)).cloned());
    let kept: Vec<_> = kept.collect();
    let mut segments = [retired, kept].concat();
    let (count, end) = scan(&segments);
    assert!(count == last && end.is_some(), "what was written reads back");

    let damages: Vec<_> = commands.copied().collect();
    let (damages, _) = damages.as_chunks::<4>();
    for &[segment, low, high, change] in damages {
        let segment = usize::from(segment) % segments.len();
        let offset = usize::from(u16::from_le_bytes([low, high])) % SEGMENT_BYTES_MIN as usize;
        segments[segment][offset] ^= change;
    }
    let (count, end) = scan(&segments);
    assert!(count <= last, "{count} records of {last}");
    // A scan that refuses loses nothing; one that cuts a tail must not cut what was synced.
    if damages.len() <= 1 && end.is_some() {
        assert!(count >= synced, "{count} records are left of {synced} synced ones");
    }
    last > 0
}

/// A log's payload behind its kind: what decodes is encoded and decoded to the same again.
pub fn log_payload(bytes: &[u8]) -> bool {
    let Some((&[book, kind, version], payload)) = bytes.split_first_chunk() else {
        return false;
    };
    let kind = RecordKind { book, kind, version };
    let Ok(record) = Record::decode(LogPosition(1), kind, payload) else {
        return false;
    };
    // Only read any more, and by a reader that believes the names in it.
    if kind == RecordKind::OF_FORMAT_2 {
        return true;
    }
    let mut again = Vec::new();
    let kind = record.encode(&mut Packing::default(), &mut again);
    assert_eq!(Record::decode(LogPosition(1), kind, &again).unwrap(), record);
    true
}

/// A place for one checkpoint's file, in memory where there is such a place.
struct CheckpointPlace {
    /// Removed with the thread.
    _directory: TempDir,
    checkpoints: CheckpointDirectory,
    path: PathBuf,
}

impl CheckpointPlace {
    fn new() -> Self {
        let in_memory = tempfile::tempdir_in("/dev/shm");
        let directory = in_memory
            .or_else(|_| TempDir::new())
            .expect("a temporary directory can be made");
        let data = DataDirectory::open(directory.path()).expect("a fresh directory can be used");
        let checkpoints = CheckpointDirectory::new(&data, IDENTITY);
        let shard_directory = directory.path().join("log/generation-00001/shard-000");
        fs::create_dir_all(&shard_directory).expect("a directory can be made");
        // Its name is the directory's business: what it names a real one is taken over.
        let mut writer = checkpoints.create(CHECKPOINT_BEGINS).expect("a file can be made");
        writer.close(CHECKPOINT_BEGINS).expect("a file can be written");
        writer.publish().expect("a file can be named");
        let mut entries = fs::read_dir(&shard_directory).expect("a directory can be listed");
        let path = entries
            .next()
            .expect("a file was made")
            .expect("it can be listed")
            .path();
        Self {
            _directory: directory,
            checkpoints,
            path,
        }
    }
}

thread_local! {
    static CHECKPOINT_PLACE: CheckpointPlace = CheckpointPlace::new();
}

/// A checkpoint's file, with its parts restored.
pub fn checkpoint_file(bytes: &[u8]) -> bool {
    CHECKPOINT_PLACE.with(|place| {
        fs::write(&place.path, bytes).expect("a file can be written");
        let mut restore = Restore::new(IDENTITY.shard, ShardMap::new(IDENTITY.shard_count), CHECKPOINT_BEGINS);
        let mut part_bytes = 0;
        let summary = place.checkpoints.read(CHECKPOINT_BEGINS, &mut |kind, part| {
            part_bytes += part.len();
            restore.part(kind, part)
        });
        assert!(part_bytes <= bytes.len(), "parts are no longer than their file");
        summary.is_ok_and(|summary| {
            assert_eq!(summary.bytes, bytes.len() as u64);
            restore.finish(EngineLimits::default());
            part_bytes > 0
        })
    })
}

/// One part of a checkpoint behind its kind.
pub fn checkpoint_part(bytes: &[u8]) -> bool {
    let Some((&[book, kind, version], part)) = bytes.split_first_chunk() else {
        return false;
    };
    let kind = RecordKind { book, kind, version };
    let mut restore = Restore::new(IDENTITY.shard, ShardMap::new(IDENTITY.shard_count), CHECKPOINT_BEGINS);
    let is_part = restore.part(kind, part).is_ok();
    if is_part {
        restore.finish(EngineLimits::default());
    }
    is_part
}

/// The manifest: only what was written is one.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(bytes) else {
        return false;
    };
    let again = manifest.encode();
    assert_eq!(Manifest::decode(&again).as_ref(), Ok(&manifest));
    // One of a format before is written as one of this.
    let is_current = bytes.split(|&byte| byte == b'\n').next() == again.split(|&byte| byte == b'\n').next();
    assert!(!is_current || again == bytes);
    true
}
