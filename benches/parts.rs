//! What the parts around the engine cost: parsing, finding a slot, appending to the log, a message to another shard.
//!
//! `cargo bench --bench parts`. No network and no file: the log's segments are memory.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cartwright::engine::{Journal, RecordKind, ReplyTo, Response, ShardId};
use cartwright::log::{Generation, LOG_FORMAT_VERSION, LogIdentity, LogWriter, Salt, SegmentHeader, SegmentNumber};
use cartwright::net::Doorbell;
use cartwright::runtime::mailbox::{Mail, Mailboxes};
use cartwright_protocol::native::{decode_frame, decode_request, encode_request};
use cartwright_protocol::resp::{ParserLimits, RequestParser};
use cartwright_protocol::{CartLine, Checkout, Operation, Quantity, Reply, Slot};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const LINES: usize = 10;

/// Requests that are parsed one after the other.
const REQUESTS: u64 = 100;

const SEGMENT_BYTES: u64 = 1 << 20;

/// Records that are appended one after the other.
const RECORDS: u64 = 1000;

/// A packed ten-line cart is about this long.
const RECORD_BYTES: usize = 256;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn sku(number: usize) -> String {
    format!("b{number:06}")
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(REQUESTS));
    let resp = |words: &[Vec<u8>]| {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.repeat(REQUESTS as usize)
    };
    let set = resp(&[b"SET".to_vec(), b"key:000000012345".to_vec(), vec![b'x'; 64]]);
    let mut words: Vec<Vec<u8>> = ["CHECKOUT", "customer-1", "KEY", "key-1", "LINES", "10"]
        .map(|word| word.as_bytes().to_vec())
        .to_vec();
    for line in 0..LINES {
        words.extend([sku(line).into_bytes(), b"2".to_vec()]);
    }
    for (name, bytes) in [("RESP SET of 64 bytes", set), ("RESP ten-line cart", resp(&words))] {
        group.bench_function(name, |bencher| {
            let mut parser = RequestParser::new(ParserLimits::default());
            bencher.iter(|| {
                let mut rest = &bytes[..];
                while let Some(length) = parser.parse(rest).expect("the requests are right") {
                    black_box(parser.arguments(rest).len());
                    rest = &rest[length..];
                }
                assert!(rest.is_empty());
            });
        });
    }
    let cart = Operation::Checkout(Box::new(Checkout {
        customer: "customer-1".parse().expect("a customer"),
        key: "key-1".parse().expect("a key"),
        hold_ms: None,
        lines: (0..LINES)
            .map(|line| CartLine {
                sku: sku(line).parse().expect("a SKU"),
                quantity: Quantity::new(2).expect("a quantity"),
            })
            .collect(),
    }));
    let mut bytes = Vec::new();
    for id in 1..=REQUESTS {
        encode_request(&mut bytes, id, &cart);
    }
    group.bench_function("native ten-line cart", |bencher| {
        bencher.iter(|| {
            let mut rest = &bytes[..];
            while let Some((frame, length)) = decode_frame(rest).expect("the frames are right") {
                black_box(decode_request(&frame).expect("the requests are right"));
                rest = &rest[length..];
            }
            assert!(rest.is_empty());
        });
    });
    group.finish();
}

fn slots(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot");
    for key in [
        "b012345",
        "key:000000012345",
        "a-key-that-is-longer-than-sixteen-bytes",
        "{tag}rest",
    ] {
        group.bench_function(
            format!(
                "of {} bytes{}",
                key.len(),
                if key.contains('{') { " with a tag" } else { "" }
            ),
            |bencher| {
                bencher.iter(|| Slot::of(black_box(key.as_bytes())));
            },
        );
    }
    group.finish();
}

fn log(criterion: &mut Criterion) {
    let identity = LogIdentity {
        generation: Generation(1),
        shard: ShardId(0),
        shard_count: 1,
    };
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Bytes(RECORDS * RECORD_BYTES as u64));
    let payload = vec![7; RECORD_BYTES];
    group.bench_function("append a thousand records of 256 bytes", |bencher| {
        let empty = || {
            let mut bytes = vec![0; SEGMENT_BYTES as usize];
            SegmentHeader {
                version: LOG_FORMAT_VERSION,
                identity,
                number: SegmentNumber::FIRST,
                segment_bytes: SEGMENT_BYTES,
                salt: Salt(1),
            }
            .encode(&mut bytes);
            LogWriter::create(identity, bytes)
        };
        let append = |writer: &mut LogWriter<Vec<u8>>| {
            for _ in 0..RECORDS {
                writer.append(RecordKind::OF_FORMAT_2, black_box(&payload));
            }
        };
        bencher.iter_batched_ref(empty, append, BatchSize::LargeInput);
    });
    group.finish();
}

fn mail(sequence: u64) -> Mail {
    let reply_to = ReplyTo {
        shard: ShardId(0),
        connection: 0,
        generation: 0,
        sequence,
    };
    Mail::Reply(reply_to, Response::Shop(Reply::Ok))
}

/// Posts one and gives what has come.
fn hop(mailboxes: &mut Mailboxes, to: ShardId, came: &mut Vec<(ShardId, Mail)>) {
    mailboxes.post(to, mail(1));
    mailboxes.deliver();
    came.clear();
    while came.is_empty() {
        mailboxes.collect(came);
        std::hint::spin_loop();
    }
}

fn mailboxes(criterion: &mut Criterion) {
    let doorbells: Arc<[Doorbell]> = (0..2).map(|_| Doorbell::new().expect("a doorbell")).collect();
    let mut group = criterion.benchmark_group("mailbox");
    let mut all = Mailboxes::for_all(&doorbells);
    let (mut here, mut there) = (all.remove(0), all.remove(0));
    group.throughput(Throughput::Elements(REQUESTS));
    group.bench_function("a hundred messages within one core", |bencher| {
        let mut came = Vec::new();
        bencher.iter(|| {
            for sequence in 0..REQUESTS {
                here.post(ShardId(1), mail(sequence));
            }
            here.deliver();
            there.collect(&mut came);
            assert_eq!(came.len() as u64, REQUESTS);
            came.clear();
        });
    });
    group.throughput(Throughput::Elements(1));
    let stop = Arc::new(AtomicBool::new(false));
    let echo = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut came = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                there.collect(&mut came);
                for (from, mail) in came.drain(..) {
                    there.post(from, mail);
                }
                there.deliver();
                std::hint::spin_loop();
            }
        }
    });
    group.bench_function("there and back between two cores that do not rest", |bencher| {
        let mut came = Vec::new();
        bencher.iter(|| hop(&mut here, ShardId(1), &mut came));
    });
    stop.store(true, Ordering::Relaxed);
    echo.join().expect("the other shard ends");
    group.finish();
}

criterion_group!(benches, parsing, slots, log, mailboxes);
criterion_main!(benches);
