//! The readers of foreign bytes under mutated seeds, for a short while; `fuzz/` does the same for as long as one likes.
//!
//! No input makes a reader panic, take longer than its length explains, or ask for much more memory than it has bytes.

#[path = "../../fuzz/src/lib.rs"]
mod entry;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::files::{cut_to_what_was_written, files_of};
use cartwright::engine::RecordKind;
use cartwright::log::{CheckpointDirectory, DataDirectory, LogStart, SEGMENT_BYTES_MIN, open_log};
use cartwright_protocol::native::{
    CLIENT_HELLO_BYTES, ClientHello, PROTOCOL_VERSION, SHARD_ANY, encode_ping, encode_reply, encode_request,
};
use cartwright_protocol::resp::{RespVersion, Writer};
use cartwright_protocol::{Operation, OrderCancel, Reply};
use cartwright_test_support::resp::Resp;
use cartwright_test_support::{Site, buy, checkout, connect, order, stock, stock_item, stop_cleanly};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A reader's name, its entry point, and how many cases it is given.
type Reader = (&'static str, fn(&[u8]) -> bool, u32);

/// A reader, by the name of its fuzz target, and how many inputs it gets. Those of checkpoints make room for a shard
/// each time.
const READERS: [Reader; 10] = [
    ("resp_requests", entry::resp_requests, 6000),
    ("resp_replies", entry::resp_replies, 6000),
    ("native_frames", entry::native_frames, 6000),
    ("session", entry::session, 4000),
    ("log_files", entry::log_files, 4000),
    ("log_damage", entry::log_damage, 4000),
    ("log_payload", entry::log_payload, 6000),
    ("checkpoint_file", entry::checkpoint_file, 1000),
    ("checkpoint_part", entry::checkpoint_part, 1500),
    ("manifest", entry::manifest, 6000),
];

/// Anything in proportion to the length takes a fraction of it, anything in proportion to its square many times that.
const LONG_INPUT_BYTES: usize = 512 << 10;
const LONG_INPUT_TIME_MAX: Duration = Duration::from_secs(20);

/// No input of a few kilobytes takes this long, on however busy a machine.
const SHORT_INPUT_TIME_MAX: Duration = Duration::from_secs(5);

/// How much the address space may grow over all inputs: a shard's tables, and what the allocator keeps. Lengths that lie
/// claim gigabytes.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

fn corpus(reader: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(reader)
}

fn seeds(reader: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(corpus(reader))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{reader} has no seeds");
    let files = paths.iter().map(|path| fs::read(path).unwrap());
    files.chain(examples(reader)).collect()
}

/// Every command of the shop, as a reader of the wire meets it.
fn examples(reader: &str) -> Vec<Vec<u8>> {
    let (mut frames, mut words) = (Vec::new(), vec![255]);
    for (id, spec) in (1..).zip(Operation::SPECS) {
        encode_request(&mut frames, id, &Operation::of_words(spec.example).unwrap());
        words.extend(Resp::encode(spec.example));
    }
    match reader {
        "native_frames" => vec![frames],
        "resp_requests" => vec![words],
        "session" => vec![words, [&[255], &hello()[..], &frames].concat()],
        _ => Vec::new(),
    }
}

fn hello() -> [u8; CLIENT_HELLO_BYTES] {
    let hello = ClientHello {
        version: PROTOCOL_VERSION,
        shard: SHARD_ANY,
    };
    hello.encode()
}

/// A change of some bytes. Places are taken modulo the length.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    /// Lengths that lie.
    Word(usize, u32),
    Cut(usize),
    Insert(usize, Vec<u8>),
    /// So many bytes from the first place to the second.
    Copy(usize, usize, usize),
}

impl Mutation {
    fn apply(self, bytes: &mut Vec<u8>) {
        let length = bytes.len().max(1);
        match self {
            Self::Flip(at, bit) => {
                if let Some(byte) = bytes.get_mut(at % length) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Word(at, word) => {
                if let Some(bytes) = bytes.get_mut(at % length..).and_then(|rest| rest.first_chunk_mut()) {
                    *bytes = word.to_le_bytes();
                }
            }
            Self::Cut(at) => bytes.truncate(at % length),
            Self::Insert(at, inserted) => {
                let at = at % length.min(bytes.len() + 1);
                bytes.splice(at..at, inserted);
            }
            Self::Copy(from, to, count) => {
                let from = from % length;
                let taken = bytes[from.min(bytes.len())..].iter().copied().take(count).collect();
                Self::Insert(to, taken).apply(bytes);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let word = prop_oneof![
        any::<u32>(),
        (0u32..300),
        (0u32..32).prop_map(|bit| 1 << bit),
        (0u32..300).prop_map(|below| u32::MAX - below),
    ];
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        2 => (any::<usize>(), word).prop_map(|(at, word)| Mutation::Word(at, word)),
        1 => any::<usize>().prop_map(Mutation::Cut),
        1 => (any::<usize>(), proptest::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (any::<usize>(), any::<usize>(), 1usize..200).prop_map(|(from, to, count)| Mutation::Copy(from, to, count)),
    ]
}

fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutated = (
        proptest::sample::select(seeds),
        proptest::collection::vec(mutation(), 1..6),
    )
        .prop_map(|(mut bytes, mutations)| {
            for mutation in mutations {
                mutation.apply(&mut bytes);
            }
            bytes
        });
    prop_oneof![
        8 => mutated,
        1 => proptest::collection::vec(any::<u8>(), 0..600),
    ]
}

/// The most address space that this process has ever had.
fn address_space_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

#[test]
fn every_seed_is_taken_whole() {
    for (name, reader, _) in READERS {
        for (number, seed) in seeds(name).iter().enumerate() {
            assert!(
                reader(seed),
                "{name} refuses its seed {number}: make new ones with `cargo test --test it write_the_seeds -- --ignored`"
            );
        }
    }
}

/// Set for the process that measures.
const MEASURES: &str = "CARTWRIGHT_TEST_MEASURES";

/// All in one test, which runs itself again: what one reader takes could not be told from what others do beside it.
#[test]
fn no_input_makes_a_reader_panic_or_take_more_time_or_memory_than_its_length_explains() {
    if std::env::var_os(MEASURES).is_none() {
        let test = "fuzz::no_input_makes_a_reader_panic_or_take_more_time_or_memory_than_its_length_explains";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(MEASURES, "yes")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    for (name, reader, case_count) in READERS {
        let seeds = seeds(name);
        // What a shard's tables take is no news.
        reader(&seeds[0]);
        let before = address_space_bytes();
        for filler in seeds
            .iter()
            .map(Vec::as_slice)
            .chain([&b"\x00"[..], b"\xff", b"*1\r\n$"])
        {
            let long: Vec<u8> = filler.iter().copied().cycle().take(LONG_INPUT_BYTES).collect();
            for long in [&long, &[&[0], &long[..]].concat()] {
                let began = Instant::now();
                reader(long);
                let took = began.elapsed();
                assert!(took < LONG_INPUT_TIME_MAX, "{name} took {took:?} for a long input");
            }
        }
        let config = Config {
            cases: case_count,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let result = runner.run(&input(seeds), |bytes| {
            let began = Instant::now();
            reader(&bytes);
            let took = began.elapsed();
            prop_assert!(took < SHORT_INPUT_TIME_MAX, "took {took:?}");
            Ok(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
        let grown = address_space_bytes() - before;
        assert!(grown < MEMORY_BYTES_MAX, "{name} asked for {grown} bytes of memory");
    }
}

fn write(reader: &str, name: &str, bytes: &[u8]) {
    fs::write(corpus(reader).join(name), bytes).unwrap();
}

/// Makes the seeds anew from a real server's files and the codecs. For when a format changes.
#[test]
#[ignore = "writes to fuzz/corpus"]
fn write_the_seeds() {
    for (name, ..) in READERS {
        let directory = corpus(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
    }
    write_wire_seeds();
    write_log_seeds();
    write_checkpoint_seeds();
}

fn replies(version: RespVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, version);
    writer.simple("OK");
    writer.error("OUTOFSTOCK a wanted 5, available 3");
    writer.integer(-17);
    writer.bulk(b"with\r\nline ends");
    writer.verbatim("# Server");
    writer.null();
    writer.null_array();
    writer.push(3);
    writer.text("message");
    writer.text("sold");
    writer.text("a");
    writer.map(2);
    writer.text("lines");
    writer.array(2);
    writer.set(1);
    writer.double(0.25);
    writer.boolean(true);
    writer.text("total");
    writer.integer(250);
    bytes
}

fn write_wire_seeds() {
    let commands: [&[&str]; 3] = [&["PING"], &["HELLO", "3"], &["CLIENT", "SETNAME", "shop"]];
    let all: Vec<u8> = commands.iter().flat_map(|words| Resp::encode(words)).collect();
    let inline = b"ITEM.GET a\r\nitem.put a 250 gbp name \"a \\x41 thing\"\r\nPING\n";
    for (reader, name) in [("resp_requests", "resp"), ("session", "resp")] {
        for (piece, stream) in [(255, &all[..]), (2, &all), (6, inline)] {
            write(reader, &format!("{name}-{piece}"), &[&[piece], stream].concat());
        }
    }
    for (version, name, piece) in [
        (RespVersion::Two, "two", 255),
        (RespVersion::Three, "three", 255),
        (RespVersion::Three, "pieces", 2),
    ] {
        write("resp_replies", name, &[&[piece], &replies(version)[..]].concat());
    }
    let mut ping = Vec::new();
    encode_ping(&mut ping, 99);
    write("native_frames", "ping", &ping);
    for piece in [255, 10] {
        let stream = [&[piece], &hello()[..], &ping].concat();
        write("session", &format!("native-{piece}"), &stream);
    }

    let site = Site::new(1);
    let server = site.start();
    let mut client = connect(&server);
    stock_item(&mut client, "a", 5);
    let receipt = buy(&mut client, &checkout("ann", "k1", &[("a", 2)]));
    let mut replies = Vec::new();
    let view = order(&mut client, receipt.id).unwrap();
    for (id, reply) in (1..).zip([
        Reply::Ok,
        Reply::Null,
        Reply::Integer(-5),
        Reply::Receipt(receipt),
        Reply::Order(Box::new(view)),
        Reply::Stock(stock(&mut client, "a")),
    ]) {
        encode_reply(&mut replies, id, &reply);
    }
    write("native_frames", "replies", &replies);
    stop_cleanly(server);
    write("manifest", "one", &fs::read(site.data().join("MANIFEST")).unwrap());
    stop_cleanly(cartwright_test_support::start(&site.options().shards(2)));
    write("manifest", "two", &fs::read(site.data().join("MANIFEST")).unwrap());
}

/// A shop of two shards with orders in every state.
fn small_shop() -> (Site, cartwright_tools::server_process::ServerProcess) {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    for code in ["a", "b", "c", "d"] {
        stock_item(&mut client, code, 50);
    }
    for number in 0..8 {
        let mut cart = checkout(&format!("c{number}"), "k", &[("a", 1), ("b", 2), ("c", 1)]);
        cart.hold_ms = (number % 2 == 0).then_some(3_600_000);
        let id = buy(&mut client, &cart).id;
        if number % 3 == 0 {
            client
                .call(&Operation::OrderCancel(OrderCancel { id, key: None }))
                .unwrap();
        }
    }
    drop(client);
    (site, server)
}

fn write_log_seeds() {
    let (site, server) = small_shop();
    server.kill().unwrap();
    let segments = files_of(&site.data(), entry::IDENTITY.shard.0, "log");
    for path in &segments {
        cut_to_what_was_written(path);
    }
    let all: Vec<_> = segments.iter().map(|path| fs::read(path).unwrap()).collect();
    write("log_files", "killed", &all.concat());
    write("log_files", "one-segment", &all[0]);

    let data = DataDirectory::open_read_only(&site.data()).unwrap();
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    open_log(
        &data,
        entry::IDENTITY,
        SEGMENT_BYTES_MIN,
        LogStart::BEGINNING,
        &mut |record| {
            let RecordKind { book, kind, version } = record.kind;
            payloads.push([&[book, kind, version], record.payload].concat());
            Ok::<_, std::convert::Infallible>(())
        },
    )
    .unwrap();
    // One of each length: each kind, and some of each.
    payloads.sort_by_key(Vec::len);
    payloads.dedup_by_key(|payload| payload.len());
    for (number, payload) in payloads.iter().enumerate() {
        write("log_payload", &format!("{number:02}"), payload);
    }
    write("log_damage", "short", &[10, 20, 130, 30, 130, 5, 255]);
    let long: Vec<u8> = (0..60u8).flat_map(|number| [40 + number, 150]).collect();
    write("log_damage", "long", &[&long[..], &[255]].concat());
    write(
        "log_damage",
        "damaged",
        &[&long[..], &[1, 2, 3, 255, 0, 80, 0, 1]].concat(),
    );
}

fn write_checkpoint_seeds() {
    let (site, server) = small_shop();
    stop_cleanly(server);
    let data = DataDirectory::open_read_only(&site.data()).unwrap();
    let found = CheckpointDirectory::new(&data, entry::IDENTITY);
    let begins = found.list().unwrap()[0];
    let mut parts = Vec::new();
    let mut keep = |kind: RecordKind, part: &[u8]| {
        parts.push((kind, part.to_vec()));
        Ok::<_, std::convert::Infallible>(())
    };
    found.read(begins, &mut keep).unwrap();

    let place = tempfile::tempdir().unwrap();
    let mut data = DataDirectory::open(place.path()).unwrap();
    data.begin_incarnation(entry::IDENTITY.shard_count, SEGMENT_BYTES_MIN)
        .unwrap();
    let mut writer = CheckpointDirectory::new(&data, entry::IDENTITY)
        .create(entry::CHECKPOINT_BEGINS)
        .unwrap();
    for (kind, part) in &parts {
        writer.part(*kind, part).unwrap();
    }
    writer.close(entry::CHECKPOINT_BEGINS).unwrap();
    writer.publish().unwrap();
    let file = files_of(place.path(), entry::IDENTITY.shard.0, "checkpoint").remove(0);
    write("checkpoint_file", "stopped", &fs::read(file).unwrap());
    for (number, (RecordKind { book, kind, version }, part)) in parts.iter().enumerate() {
        let part = [&[*book, *kind, *version], &part[..]].concat();
        write("checkpoint_part", &format!("{number:02}"), &part);
    }
}
