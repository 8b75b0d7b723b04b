//! Data directories as released formats wrote them: each is read, served, and goes on, on every run.
//!
//! `format-N/NAME.golden` is a whole data directory, `format-N/NAME.txt` what was written down when it was made. They are
//! made once for a format, by [`make`], and never again: they stand for the data that people have.

mod archive;
mod make;
mod scenario;
mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cartwright::engine::{LogPosition, Record, RecordKind, RecordOfFormat2, Restore, ShardId, ShardMap};
use cartwright_test_support::resp::{Resp, Value, text};
use cartwright_test_support::{Site, binary, clean_audit, connect, start, stop_cleanly};
use cartwright_tools::server_process::{ServerOptions, ServerProcess};
use written::{Written, answer, telling};

/// Where the folders of formats are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Every golden directory of every format.
fn archives() -> Vec<PathBuf> {
    let formats = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let formats = formats.filter(|path| path.is_dir());
    let mut found: Vec<_> = formats
        .flat_map(|format| fs::read_dir(format).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "golden"))
        .collect();
    found.sort();
    found
}

/// A copy of a golden directory, and what is written down about it.
struct Golden {
    name: String,
    site: Site,
    written: Written,
}

impl Golden {
    fn unpack(path: &Path) -> Self {
        let written = Written::parse(&fs::read_to_string(path.with_extension("txt")).unwrap());
        let site = Site::new(written.shard_count);
        archive::unpack(&fs::read(path).unwrap(), &site.data());
        let name = path.strip_prefix(folder()).unwrap().display().to_string();
        Self { name, site, written }
    }

    fn start(&self, options: &ServerOptions) -> ServerProcess {
        let server = start(options);
        let mut client = Resp::connect(server.port());
        for (command, reply) in &self.written.answers {
            assert_eq!(
                answer(&mut client, command),
                *reply,
                "{}: {command}\n{}",
                self.name,
                server.output()
            );
        }
        clean_audit(&mut connect(&server));
        server
    }
}

/// What `verify` reports of a directory, which must be whole.
fn verify(data: &Path) -> String {
    let output = Command::new(binary())
        .args(["verify", "--data"])
        .arg(data)
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {report}{said}", data.display());
    report
}

/// A field of `INFO`.
fn info(client: &mut Resp, field: &str) -> String {
    let Value::Text(text) = client.call(&["INFO"]) else {
        panic!("INFO is a text")
    };
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("INFO has no {field}:\n{text}"))
        .to_owned()
}

/// Has every shard take a checkpoint, which must succeed.
fn checkpoint(server: &ServerProcess) {
    let mut client = Resp::connect(server.port());
    let until = Instant::now() + Duration::from_secs(30);
    let wait = |client: &mut Resp| {
        while info(client, "rdb_bgsave_in_progress") != "0" {
            assert!(
                Instant::now() < until,
                "a checkpoint takes too long:\n{}",
                server.output()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    // A start with another number of shards takes one by itself.
    wait(&mut client);
    assert_eq!(client.call(&["BGSAVE"]), text("Background saving started"));
    wait(&mut client);
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok", "{}", server.output());
}

#[test]
fn every_directory_of_every_format_is_read_served_and_goes_on() {
    let archives = archives();
    assert!(archives.len() >= make::NAMES.len(), "golden directories are gone");
    for path in archives {
        let golden = Golden::unpack(&path);
        let report = verify(&golden.site.data());
        assert_eq!(telling(&report), golden.written.verified, "{}: {report}", golden.name);

        let server = golden.start(&golden.site.options());
        checkpoint(&server);
        stop_cleanly(server);
        verify(&golden.site.data());

        // From that checkpoint, and once more from what this start has written.
        for _ in 0..2 {
            stop_cleanly(golden.start(&golden.site.options()));
        }
        verify(&golden.site.data());
    }
}

#[test]
fn every_directory_goes_on_with_another_number_of_shards() {
    for path in archives() {
        let golden = Golden::unpack(&path);
        let options = golden.site.options().shards(3);
        let server = golden.start(&options);
        checkpoint(&server);
        server.kill().unwrap();
        stop_cleanly(golden.start(&options));
    }
}

/// The records or parts of a format's golden file: the name of each one's kind, its bytes, and what they decode to.
fn payloads(name: &str) -> Vec<(String, Vec<u8>, String)> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let mut lines = text.lines();
    let mut payloads = Vec::new();
    while let (Some(line), Some(debug)) = (lines.next(), lines.next()) {
        let (kind, hex) = line.split_once(' ').unwrap();
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        let (digits, _) = hex.as_bytes().as_chunks::<2>();
        let bytes = digits.iter().map(|&[high, low]| digit(high) << 4 | digit(low));
        payloads.push((kind.to_owned(), bytes.collect(), debug.trim().to_owned()));
    }
    payloads
}

fn kinds(payloads: &[(String, Vec<u8>, String)]) -> Vec<&str> {
    let mut kinds: Vec<_> = payloads.iter().map(|(kind, _, _)| &kind[..]).collect();
    kinds.dedup();
    kinds
}

#[test]
fn every_record_of_format_2_decodes_to_what_it_was() {
    let payloads = payloads("format-2/records.txt");
    let expected = [
        "Aborted",
        "Answered",
        "Committed",
        "Decided",
        "ItemPut",
        "KeysChanged",
        "KeysDecided",
        "KeysForgotten",
        "KeysPrepared",
        "OrderChanged",
        "Prepared",
        "Started",
        "StockAdded",
    ];
    assert_eq!(kinds(&payloads), expected, "one of each kind of record");
    for (kind, bytes, debug) in &payloads {
        let record = RecordOfFormat2::decode(bytes);
        assert_eq!(format!("{:?}", record.unwrap()), *debug, "{kind}");
        assert!(
            Record::decode(LogPosition(1), RecordKind::OF_FORMAT_2, bytes).is_ok(),
            "{kind}"
        );
    }
}

#[test]
fn every_part_of_format_2_is_restored() {
    let payloads = payloads("format-2/parts.txt");
    let expected = ["Entries", "KeysPending", "Latest", "Orders", "Pending", "Slot"];
    assert_eq!(kinds(&payloads), expected, "one of each kind of part");
    for (kind, bytes, _) in &payloads {
        let mut restore = Restore::new(ShardId(0), ShardMap::new(1), LogPosition(1));
        restore
            .part(RecordKind::OF_FORMAT_2, bytes)
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}
