//! Damage to what a killed server left: every byte of it flipped, every file cut at every length.
//!
//! A start either refuses and names the file, or recovers everything that was acknowledged. The whole sweep runs on the
//! reader that a start uses; a seeded sample of it on the server itself.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::files::{copy_directory, cut_to_what_was_written, files_of, written_bytes};
use cartwright::config::VerifyConfig;
use cartwright::engine::ShardId;
use cartwright::log::{DataDirectory, Generation, LogIdentity, LogRecord, LogStart, SEGMENT_BYTES_MIN, open_log};
use cartwright::runtime::{ExitCode, verify};
use cartwright_protocol::client::Client;
use cartwright_protocol::{
    AuditReport, Checkout, Operation, OrderCancel, OrderConfirm, OrderView, Receipt, Reply, StockView,
};
use cartwright_test_support::{
    Site, binary, buy, checkout, clean_audit, connect, order, start, stock, stock_item, stop_cleanly,
};
use cartwright_tools::random::Random;
use cartwright_tools::server_process::{ServerOptions, ServerProcess, ServerProcessError};
use tempfile::TempDir;

const SHARD_COUNT: u16 = 2;
const SKUS: [&str; 6] = ["anvil", "bell", "cup", "drum", "easel", "flute"];
const UNITS: i64 = 1000;
const CART_COUNT: usize = 18;

/// Carts that are under way when the server is killed.
const UNANSWERED_COUNT: usize = 12;

const SEED: u64 = 0x0dd_b17;
const SAMPLE_COUNT: usize = 40;

/// A killed server's directory, and what its clients were told.
struct Remains {
    directory: TempDir,
    orders: Vec<(Checkout, Receipt, OrderView)>,
    stock: Vec<StockView>,
    audit: AuditReport,
    unanswered: Vec<Checkout>,
}

impl Remains {
    /// Runs a shop for a few dozen operations, and kills it with so many carts under way.
    fn of_a_shop(unanswered_count: usize) -> Self {
        let site = Site::new(SHARD_COUNT);
        let server = site.start();
        let mut client = connect(&server);
        for code in SKUS {
            stock_item(&mut client, code, UNITS);
        }
        let mut receipts = Vec::new();
        for number in 0..CART_COUNT {
            let mut cart = cart(&format!("key-{number}"), number);
            cart.hold_ms = (number % 3 == 0).then_some(3_600_000);
            let receipt = buy(&mut client, &cart);
            let id = receipt.id;
            receipts.push((cart, receipt));
            let change = match number % 6 {
                0 => Operation::OrderConfirm(OrderConfirm { id, key: None }),
                1 | 4 => Operation::OrderCancel(OrderCancel { id, key: None }),
                _ => continue,
            };
            assert!(matches!(client.call(&change).unwrap(), Reply::State(_)));
        }
        let orders = receipts.into_iter().map(|(cart, receipt)| {
            let view = order(&mut client, receipt.id).expect("the order was acknowledged");
            (cart, receipt, view)
        });
        let orders = orders.collect();
        let stock = stock_levels(&mut client);
        let audit = clean_audit(&mut client);
        let unanswered: Vec<_> = (0..unanswered_count)
            .map(|number| cart(&format!("late-{number}"), number))
            .collect();
        for cart in &unanswered {
            client.send(&Operation::Checkout(Box::new(cart.clone())));
        }
        client.flush().unwrap();
        server.kill().unwrap();

        let directory = TempDir::new().unwrap();
        copy_directory(&site.data(), directory.path());
        let before = books(directory.path()).unwrap();
        for path in segments(directory.path()) {
            cut_to_what_was_written(&path);
        }
        assert_eq!(
            books(directory.path()).unwrap(),
            before,
            "smaller segments hold the same"
        );
        Self {
            directory,
            orders,
            stock,
            audit,
            unanswered,
        }
    }

    /// The same files elsewhere, to be damaged.
    fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        copy_directory(self.directory.path(), copy.path());
        copy
    }

    /// Everything acknowledged is there, and nothing is there by half.
    fn check(&self, server: &ServerProcess) {
        let mut client = connect(server);
        let audit = clean_audit(&mut client);
        for (cart, receipt, view) in &self.orders {
            assert_eq!(order(&mut client, receipt.id).as_ref(), Some(view), "{cart:?}");
            assert_eq!(buy(&mut client, cart), *receipt, "another answer to the same key");
        }
        if self.unanswered.is_empty() {
            assert_eq!(stock_levels(&mut client), self.stock);
            assert_eq!(audit.state_hash, self.audit.state_hash);
        }
        let acknowledged = self.orders.len();
        let possible = acknowledged..=acknowledged + self.unanswered.len();
        assert!(possible.contains(&(audit.orders as usize)), "{audit:?}");
        for cart in &self.unanswered {
            buy(&mut client, cart);
        }
        let orders = clean_audit(&mut client).orders as usize;
        assert_eq!(orders, *possible.end(), "each cart under way was taken once");
    }
}

fn cart(with: &str, number: usize) -> Checkout {
    let lines: Vec<_> = (0..=number % 4)
        .map(|line| (SKUS[(number + line) % SKUS.len()], 1 + line as u64))
        .collect();
    checkout(&format!("customer-{}", number % 5), with, &lines)
}

fn stock_levels(client: &mut Client) -> Vec<StockView> {
    SKUS.iter().map(|code| stock(client, code)).collect()
}

fn segments_of(data: &Path, shard: u16) -> Vec<PathBuf> {
    files_of(data, shard, "log")
}

fn segments(data: &Path) -> Vec<PathBuf> {
    (0..SHARD_COUNT).flat_map(|shard| segments_of(data, shard)).collect()
}

/// What a start would recover, in words that tell every two states apart; or why it would refuse.
fn books(data: &Path) -> Result<Vec<String>, String> {
    let mut report = Vec::new();
    let config = VerifyConfig { data: data.to_owned() };
    verify(&config, &mut report).map_err(|error| error.to_string())?;
    let report = String::from_utf8(report).unwrap();
    let lines = report.lines().map(str::to_owned);
    let lines: Vec<_> = lines
        .filter(|line| line.starts_with("holds:") || line.starts_with("state hash"))
        .collect();
    assert!(
        lines.len() == 2 && lines[1].ends_with(" 0 violations of the books"),
        "{report}"
    );
    Ok(lines)
}

/// One way to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// One bit of this byte.
    Flip(usize),
    /// Only so many bytes are left.
    Cut(usize),
    /// The file is gone.
    Removal,
}

impl Damage {
    fn apply(self, path: &Path) {
        match self {
            Self::Flip(at) => flip(&OpenOptions::new().read(true).write(true).open(path).unwrap(), at),
            Self::Cut(length) => File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(length as u64)
                .unwrap(),
            Self::Removal => fs::remove_file(path).unwrap(),
        }
    }
}

/// Another bit in each of eight neighbours; flipped twice, the byte is as it was.
fn flip(file: &File, at: usize) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (at % 8)], at as u64).unwrap();
}

/// One shard's log as a start reads it.
struct LogReader {
    data: DataDirectory,
    identity: LogIdentity,
}

impl LogReader {
    fn new(data: &Path, shard: u16) -> Self {
        Self {
            data: DataDirectory::open_read_only(data).unwrap(),
            identity: LogIdentity {
                generation: Generation(1),
                shard: ShardId(shard),
                shard_count: SHARD_COUNT,
            },
        }
    }

    /// Its payloads, and how many of them the log proves to have been on disk.
    fn read(&self) -> Result<(Vec<Vec<u8>>, usize), String> {
        let mut payloads = Vec::new();
        let mut on_record = |record: LogRecord<'_>| {
            payloads.push(record.payload.to_vec());
            Ok::<_, std::convert::Infallible>(())
        };
        let log = open_log(
            &self.data,
            self.identity,
            SEGMENT_BYTES_MIN,
            LogStart::BEGINNING,
            &mut on_record,
        );
        let proven = log.map_err(|error| error.to_string())?.synced_proven().0 as usize;
        Ok((payloads, proven))
    }
}

/// What a sweep over one shard's files found.
#[derive(Default)]
struct Sweep {
    refused: usize,
    accepted: usize,
    /// A way to each end of the log that was accepted.
    ends: BTreeMap<usize, (PathBuf, Damage)>,
}

/// Every byte and every length of every segment of a shard.
fn sweep(data: &Path, shard: u16) -> Sweep {
    let log = LogReader::new(data, shard);
    let (whole, proven) = log.read().unwrap();
    let mut sweep = Sweep::default();
    for path in segments_of(data, shard) {
        let mut look = |damage: Damage| match log.read() {
            Ok((payloads, _)) => {
                assert!(
                    matches!(damage, Damage::Flip(_)),
                    "{damage:?} of {} went unnoticed",
                    path.display()
                );
                assert!(
                    payloads.len() >= proven && whole.starts_with(&payloads),
                    "{damage:?} of {}: {} of {} records, {proven} of which were acknowledged",
                    path.display(),
                    payloads.len(),
                    whole.len()
                );
                sweep.accepted += 1;
                sweep
                    .ends
                    .entry(payloads.len())
                    .or_insert_with(|| (path.clone(), damage));
            }
            Err(error) => {
                let names_the_place = error.contains(path.to_str().unwrap()) && error.contains("byte ");
                assert!(names_the_place, "{damage:?} of {}: {error}", path.display());
                sweep.refused += 1;
            }
        };
        let bytes = fs::read(&path).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        for at in 0..bytes.len() {
            flip(&file, at);
            look(Damage::Flip(at));
            flip(&file, at);
        }
        for length in (0..bytes.len()).rev() {
            file.set_len(length as u64).unwrap();
            look(Damage::Cut(length));
        }
        file.write_all_at(&bytes, 0).unwrap();
    }
    assert_eq!(log.read().unwrap().0, whole, "the sweep left everything as it was");
    sweep
}

#[test]
fn no_flipped_byte_and_no_cut_of_a_log_loses_an_acknowledged_operation() {
    let remains = Remains::of_a_shop(0);
    let whole = books(remains.directory.path()).unwrap();
    let copies = [(); SHARD_COUNT as usize].map(|()| remains.copy());
    let sweeps: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SHARD_COUNT)
            .zip(&copies)
            .map(|(shard, copy)| scope.spawn(move || sweep(copy.path(), shard)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (sweep, copy) in sweeps.iter().zip(&copies) {
        assert!(
            sweep.refused > 10_000 && sweep.accepted > 1000,
            "{} refused, {} accepted: too few to show anything",
            sweep.refused,
            sweep.accepted
        );
        // The records of one shard's log are all that damage to it can change: one way to each end stands for all.
        for (end, (path, damage)) in &sweep.ends {
            let bytes = fs::read(path).unwrap();
            damage.apply(path);
            assert_eq!(
                books(copy.path()).as_ref(),
                Ok(&whole),
                "{damage:?} of {}, and {end} records are left",
                path.display()
            );
            fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn no_flipped_byte_and_no_cut_of_the_manifest_is_taken_for_it() {
    let remains = Remains::of_a_shop(0);
    let path = remains.directory.path().join("MANIFEST");
    let bytes = fs::read(&path).unwrap();
    let damages = (0..bytes.len()).flat_map(|at| [Damage::Flip(at), Damage::Cut(at)]);
    for damage in damages.chain([Damage::Removal]) {
        damage.apply(&path);
        let error = books(remains.directory.path()).unwrap_err();
        assert!(error.contains("MANIFEST"), "{damage:?}: {error}");
        fs::write(&path, &bytes).unwrap();
    }
    books(remains.directory.path()).unwrap();
}

/// A server's start on damaged files: `None` if it serves and everything is there, else what it said.
fn start_on(remains: &Remains, data: &Path, damaged: &Path, what: &str) -> Option<String> {
    let before = fs::read(damaged).ok();
    let options = ServerOptions::new(binary(), data).shards(SHARD_COUNT).segments_of(20);
    match ServerProcess::start(&options) {
        Ok(server) => {
            remains.check(&server);
            server.kill().unwrap();
            let server = start(&options);
            remains.check(&server);
            stop_cleanly(server);
            None
        }
        Err(ServerProcessError::Ended { status, output }) => {
            assert_eq!(status.code(), Some(ExitCode::Damage as i32), "{what}: {output}");
            assert!(output.contains(damaged.to_str().unwrap()), "{what}: {output}");
            assert_eq!(fs::read(damaged).ok(), before, "{what}: the refused file was changed");
            Some(output)
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn a_server_on_damaged_files_refuses_or_serves_everything_acknowledged() {
    let remains = Remains::of_a_shop(UNANSWERED_COUNT);
    let mut random = Random::new(SEED);
    let (mut refused, mut served) = (0, 0);
    for number in 0..SAMPLE_COUNT {
        let copy = remains.copy();
        let files = segments(copy.path());
        let path = random.pick(&files);
        let bytes = fs::read(path).unwrap();
        let written = written_bytes(&bytes);
        // Anywhere, near the end of the records, in the last one, which nothing behind it proves, and a cut.
        let damage = match number % 5 {
            0 | 1 => Damage::Flip(random.index(bytes.len())),
            2 => Damage::Flip(written.saturating_sub(random.index(400)).min(bytes.len() - 1)),
            3 => Damage::Flip(written.saturating_sub(1 + random.index(16))),
            _ => Damage::Cut(random.index(bytes.len())),
        };
        damage.apply(path);
        let what = format!("{damage:?} of {}", path.display());
        match start_on(&remains, copy.path(), path, &what) {
            Some(said) => {
                assert!(said.contains("byte "), "{what}: {said}");
                refused += 1;
            }
            None => served += 1,
        }
    }
    assert!(
        refused > 3 && served > 1,
        "{refused} refused, {served} served: too few to show anything"
    );
}

#[test]
fn a_server_without_a_file_that_it_needs_refuses_and_names_it() {
    let remains = Remains::of_a_shop(0);
    let bytes = fs::metadata(remains.directory.path().join("MANIFEST")).unwrap().len() as usize;
    let first_segment = |shard| format!("log/generation-00001/shard-{shard:03}/segment-00000001.log");
    for (file, damage, reason) in [
        (first_segment(0), Damage::Removal, "missing"),
        (first_segment(1), Damage::Removal, "missing"),
        ("MANIFEST".to_owned(), Damage::Flip(bytes / 2), "damaged"),
        ("MANIFEST".to_owned(), Damage::Cut(0), "damaged"),
        ("MANIFEST".to_owned(), Damage::Cut(bytes - 1), "damaged"),
    ] {
        let copy = remains.copy();
        let path = copy.path().join(&file);
        damage.apply(&path);
        let what = format!("{damage:?} of {file}");
        let said = start_on(&remains, copy.path(), &path, &what).expect("a start on less than it needs");
        assert!(said.contains(reason), "{what}: {said}");
    }
    let copy = remains.copy();
    fs::remove_file(copy.path().join("MANIFEST")).unwrap();
    let said = start_on(&remains, copy.path(), copy.path(), "no MANIFEST").expect("a start without its manifest");
    assert!(said.contains("no MANIFEST"), "{said}");
}

#[test]
fn what_is_in_the_lock_file_stops_no_server() {
    let remains = Remains::of_a_shop(0);
    let contents: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"4294967296000\n"), Some(&[0xff; 5000])];
    for content in contents {
        let copy = remains.copy();
        let path = copy.path().join("LOCK");
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        assert_eq!(start_on(&remains, copy.path(), &path, "LOCK"), None);
    }
}
