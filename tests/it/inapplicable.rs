//! Records that are whole and cannot be applied: the server and `verify` say which, where and what to do, and change
//! nothing. What breaks an invariant while it is live is not written down in the first place.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;

use cartwright::config::SyncMode;
use cartwright::engine::mutation::{Mutation, switch_on};
use cartwright::engine::{EngineLimits, Journal, LogPosition, RecordKind, ReplyTo, Request, ShardId, Timestamp};
use cartwright::log::{
    DataDirectory, Generation, LogIdentity, LogRecord, LogStart, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MIN, open_log,
};
use cartwright::runtime::caught::caught;
use cartwright::runtime::prepare::{Prepared, Shape, prepare};
use cartwright::runtime::recovery::Progress;
use cartwright::runtime::{ExitCode, StartError};
use cartwright_protocol::{Amount, Currency, ItemPut, Operation, StockAdd, Text};
use cartwright_test_support::{Site, binary, buy, checkout, connect, sku, stock, stock_item};
use cartwright_tools::server_process::{ServerProcess, ServerProcessError};

const SHARD_COUNT: u16 = 2;
const SKUS: [&str; 6] = ["anvil", "bell", "cup", "drum", "easel", "flute"];

const IDENTITY: LogIdentity = LogIdentity {
    generation: Generation(1),
    shard: ShardId(1),
    shard_count: SHARD_COUNT,
};

/// A directory whose logs end with the outcome of a cart over both shards.
fn killed_site() -> Site {
    let site = Site::new(SHARD_COUNT);
    let server = site.start();
    let mut client = connect(&server);
    for code in SKUS {
        stock_item(&mut client, code, 10);
    }
    let lines: Vec<_> = SKUS.iter().map(|&code| (code, 1)).collect();
    buy(&mut client, &checkout("ann", "basket", &lines));
    for code in SKUS {
        assert_eq!(stock(&mut client, code).available, 9);
    }
    server.kill().unwrap();
    site
}

/// Appends a record to the log of one shard: the last one's kind and payload as `change` leaves them. Returns where.
fn append(
    data: &Path,
    change: impl FnOnce(RecordKind, Vec<u8>) -> (RecordKind, Vec<u8>),
) -> (PathBuf, LogPosition, usize) {
    let data = DataDirectory::open(data).unwrap();
    let mut last = None;
    let mut on_record = |record: LogRecord<'_>| {
        last = Some((record.kind, record.payload.to_vec()));
        Ok::<_, Infallible>(())
    };
    let log = open_log(&data, IDENTITY, SEGMENT_BYTES_MIN, LogStart::BEGINNING, &mut on_record).unwrap();
    let at = log.end_offset();
    let (mut writer, _) = log.into_writer().unwrap();
    let (kind, payload) = last.unwrap();
    let (kind, payload) = change(kind, payload);
    let position = writer.append(kind, &payload);
    writer.sync_blocking().unwrap();
    let name = format!("log/generation-00001/shard-001/segment-{:08}.log", at.segment.0);
    (data.path().join(name), position, at.offset)
}

/// Neither a server nor `verify` gets past the record; both say where it is, `why`, and what to do.
fn assert_refused(site: &Site, (path, position, offset): (PathBuf, LogPosition, usize), why: &str) {
    let output = Command::new(binary())
        .args(["verify", "--data"])
        .arg(site.data())
        .output()
        .unwrap();
    let verified = String::from_utf8(output.stderr).unwrap();
    let Err(ServerProcessError::Ended { status, output: served }) = ServerProcess::start(&site.options()) else {
        panic!("a server must not come up");
    };
    for (status, said) in [(output.status, verified), (status, served)] {
        assert_eq!(status.code(), Some(ExitCode::Inapplicable as i32), "{said}");
        // A mark may stand before it.
        let bytes = [offset, offset + 40].map(|offset| format!("byte {offset}"));
        assert!(bytes.iter().any(|bytes| said.contains(bytes)), "{bytes:?}: {said}");
        for part in [
            path.to_str().unwrap(),
            &format!("position {position}"),
            why,
            "nothing was changed",
            "tart the version",
        ] {
            assert!(said.contains(part), "{part:?} is not said:\n{said}");
        }
        assert!(!said.contains("panicked"), "a panic tells no place:\n{said}");
    }
}

#[test]
fn a_record_that_contradicts_those_before_it_is_named_with_its_place() {
    let site = killed_site();
    let place = append(&site.data(), |kind, payload| (kind, payload));
    assert_refused(&site, place, "is resolved once");
}

#[test]
fn a_record_of_an_unknown_kind_is_named_with_its_place() {
    let site = killed_site();
    let kind = RecordKind {
        book: 250,
        kind: 7,
        version: 3,
    };
    let place = append(&site.data(), |_, payload| (kind, payload));
    assert_refused(&site, place, "kind 7 of book 250, version 3");
}

/// What a start makes of a directory, in this process.
fn start(data: &Path) -> Result<Prepared, StartError> {
    let shape = Shape {
        shard_count: 1,
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        limits: EngineLimits::default(),
        sync: SyncMode::Always,
    };
    prepare(&mut DataDirectory::open(data).unwrap(), &shape, &Progress::default())
}

fn request(operation: Operation) -> Request {
    let reply_to = ReplyTo {
        shard: ShardId(0),
        connection: 1,
        generation: 0,
        sequence: 1,
    };
    Request { reply_to, operation }
}

#[test]
fn what_breaks_an_invariant_is_not_in_the_log_and_the_next_start_works() {
    const NOW: Timestamp = Timestamp(1);
    let site = Site::new(1);
    let put = Operation::ItemPut(Box::new(ItemPut {
        sku: sku("anvil"),
        price: Amount::new(250).unwrap(),
        currency: Currency::new(b"GBP").unwrap(),
        name: Text::default(),
        limit: None,
        backorder: None,
        key: None,
    }));
    let add = Operation::StockAdd(Box::new(StockAdd {
        sku: sku("anvil"),
        delta: 5,
        location: None,
        reason: Text::default(),
        key: None,
    }));
    let mut partition = start(&site.data()).unwrap().partitions.remove(0);
    partition.request(NOW, request(put));
    let (hash, last) = (partition.shard().state_hash(), partition.log().last());
    switch_on(Some(Mutation::BreakInvariant));
    let said = caught(|| partition.request(NOW, request(add))).unwrap_err();
    assert!(said.contains("an invariant is broken on purpose"), "{said}");
    // The process has ended; what is mapped outlives it.
    drop(partition);
    switch_on(None);
    let again = start(&site.data()).unwrap().partitions.remove(0);
    assert_eq!(again.shard().state_hash(), hash);
    assert_eq!(
        again.log().last(),
        last.next(),
        "behind what was before stands the start's own record alone"
    );
}
