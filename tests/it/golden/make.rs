//! Makes the golden directories of a format: what a server of that format leaves behind.
//!
//! Run once for each format, with the last server that writes it:
//!
//! ```sh
//! cargo test --test it -- --ignored make_the_golden_directories
//! ```
//!
//! The directories of the format that are there already stay as they are.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cartwright::engine::RecordKind;
use cartwright::log::{CheckpointDirectory, DataDirectory, LOG_FORMAT_VERSION};
use cartwright::runtime::recovery::identities;
use cartwright_test_support::resp::Resp;
use cartwright_test_support::{Site, start, stop_cleanly};
use cartwright_tools::server_process::SyncMode;

use super::scenario::{everything, more, say, stock};
use super::written::{Written, answer, telling};
use super::{archive, checkpoint, folder, verify};

/// The directories of a format.
pub const NAMES: [&str; 7] = [
    "one-shard",
    "two-shards",
    "four-shards",
    "two-generations",
    "killed-carts",
    "killed-keys",
    "pending-in-checkpoint",
];

/// How often a server is killed in the hope that the right things are in flight.
const TRIES_MAX: usize = 400;

#[test]
#[ignore = "makes the golden directories of a format, once for each"]
fn make_the_golden_directories() {
    let format = folder().join(format!("format-{LOG_FORMAT_VERSION}"));
    fs::create_dir_all(&format).unwrap();
    for name in NAMES {
        let path = format.join(name).with_extension("golden");
        if path.exists() {
            println!("{} is there and stays", path.display());
            continue;
        }
        let (site, written) = make(name);
        fs::write(path.with_extension("txt"), written.text()).unwrap();
        fs::write(&path, archive::pack(&site.data())).unwrap();
        println!("{}: {} bytes", path.display(), fs::metadata(&path).unwrap().len());
    }
}

fn make(name: &str) -> (Site, Written) {
    match name {
        "one-shard" => logs_only(1),
        "two-shards" => checkpoint_and_log(2),
        "four-shards" => checkpoint_and_log(4),
        "two-generations" => two_generations(),
        "killed-carts" => killed(carts),
        "killed-keys" => killed(transactions),
        "pending-in-checkpoint" => pending_in_checkpoint(),
        other => panic!("{other} is no golden directory"),
    }
}

/// What `verify` says of the directory, and a server on it answers, for good.
fn written(site: &Site, shard_count: u16, commands: Vec<String>) -> Written {
    let verified = telling(&verify(&site.data()));
    // Asked of a copy: what is written down stays as the server that made it has left it.
    let copy = Site::new(shard_count);
    archive::unpack(&archive::pack(&site.data()), &copy.data());
    let server = copy.start();
    let mut client = Resp::connect(server.port());
    let answers = commands
        .into_iter()
        .map(|command| {
            let reply = answer(&mut client, &command);
            (command, reply)
        })
        .collect();
    stop_cleanly(server);
    Written {
        shard_count,
        verified,
        answers,
    }
}

/// Everything, in logs alone, stopped in order and started again once.
fn logs_only(shard_count: u16) -> (Site, Written) {
    let site = Site::new(shard_count);
    let (commands, server) = everything(&site);
    stop_cleanly(server);
    let server = site.start();
    let commands = [commands, more(&server)].concat();
    stop_cleanly(server);
    let written = written(&site, shard_count, commands);
    (site, written)
}

/// Everything in checkpoints, of which there are two, and in the log behind each.
fn checkpoint_and_log(shard_count: u16) -> (Site, Written) {
    let site = Site::new(shard_count);
    let (commands, server) = everything(&site);
    checkpoint(&server);
    stop_cleanly(server);
    let server = site.start();
    let commands = [commands, more(&server)].concat();
    checkpoint(&server);
    let mut client = Resp::connect(server.port());
    say(&mut client, "SET behind the-checkpoint");
    stop_cleanly(server);
    let written = written(&site, shard_count, [commands, vec!["GET behind".to_owned()]].concat());
    (site, written)
}

/// Logs of one number of shards behind those of another, before any checkpoint stands for the first.
fn two_generations() -> (Site, Written) {
    for _ in 0..TRIES_MAX {
        let site = Site::new(1);
        let (mut commands, server) = everything(&site);
        server.kill().unwrap();
        // It takes a checkpoint at once: what is said has to be quick.
        let server = start(&site.options().shards(2));
        say(&mut Resp::connect(server.port()), "SET behind the-change");
        server.kill().unwrap();
        commands.push("GET behind".to_owned());
        let generations = fs::read_dir(site.data().join("log")).unwrap().count();
        if generations == 2 {
            let written = written(&site, 2, commands);
            return (site, written);
        }
    }
    panic!("the first generation is always gone");
}

/// A server that is killed while `load` runs, with transactions in flight that are whole and others that are not.
fn killed(load: fn(u16)) -> (Site, Written) {
    for round in 0..TRIES_MAX {
        let site = Site::new(2);
        let server = start(&site.options().syncing(SyncMode::EverySecond));
        let mut client = Resp::connect(server.port());
        stock(&mut client, 40);
        let port = server.port();
        let loads: Vec<_> = (0..4).map(|_| std::thread::spawn(move || load(port))).collect();
        std::thread::sleep(Duration::from_millis(10 + round as u64 % 10));
        server.kill().unwrap();
        for load in loads {
            load.join().unwrap();
        }
        let report = verify(&site.data());
        let in_flight = report.lines().find(|line| line.starts_with("in flight")).unwrap();
        if !in_flight.contains(" 0 carts complete") && !in_flight.contains(" 0 undone") {
            let commands = (0..40).map(|item| format!("STOCK.GET item-{item}"));
            let keys = (0..20).map(|key| format!("GET number-{key}"));
            let written = written(&site, 2, commands.chain(keys).collect());
            return (site, written);
        }
    }
    panic!("nothing is ever in flight");
}

/// A checkpoint that begins while carts and keys are in flight.
fn pending_in_checkpoint() -> (Site, Written) {
    for _ in 0..TRIES_MAX {
        let site = Site::new(2);
        let server = site.start();
        let mut client = Resp::connect(server.port());
        stock(&mut client, 40);
        let port = server.port();
        let loads = [carts, transactions, carts, transactions].map(|load| std::thread::spawn(move || load(port)));
        std::thread::sleep(Duration::from_millis(20));
        checkpoint(&server);
        server.kill().unwrap();
        for load in loads {
            load.join().unwrap();
        }
        if holds_pending(&site.data()) {
            let commands = (0..40).map(|item| format!("STOCK.GET item-{item}"));
            let keys = (0..20).map(|key| format!("GET number-{key}"));
            let written = written(&site, 2, commands.chain(keys).collect());
            return (site, written);
        }
    }
    panic!("nothing is ever in flight when a checkpoint begins");
}

/// Whether checkpoints show carts and keys in flight: by how long the first parts are.
fn holds_pending(data: &Path) -> bool {
    let data = DataDirectory::open_read_only(data).unwrap();
    let newest = *data.manifest().generations.last().unwrap();
    let (mut carts, mut keys) = (false, false);
    for identity in identities(newest) {
        let directory = CheckpointDirectory::new(&data, identity);
        for begins in directory.list().unwrap() {
            let mut lengths = Vec::new();
            let mut on_part = |_: RecordKind, part: &[u8]| {
                lengths.push(part.len());
                Ok::<_, std::convert::Infallible>(())
            };
            directory.read(begins, &mut on_part).unwrap();
            println!("{:?}", &lengths[..lengths.len().min(4)]);
            carts |= lengths[0] > 100;
            keys |= lengths[1] > 100;
        }
    }
    carts && keys
}

/// Buys carts of many items until the server is gone.
fn carts(port: u16) {
    let name = format!("{:?}", std::thread::current().id());
    let name: String = name.chars().filter(char::is_ascii_digit).collect();
    load(port, |number| {
        let lines: Vec<_> = (0..5)
            .map(|line| format!("item-{} 1", (number * 3 + line * 7) % 40))
            .collect();
        let lines = lines.join(" ");
        vec![format!(
            "CHECKOUT customer-{} KEY {name}-{number} LINES 5 {lines}",
            number % 9
        )]
    });
}

/// Counts keys of all shards up in transactions until the server is gone.
fn transactions(port: u16) {
    load(port, |number| {
        let first = number % 5 * 4;
        let counts = (first..first + 4).map(|key| format!("INCR number-{key}"));
        ["MULTI".to_owned()]
            .into_iter()
            .chain(counts)
            .chain(["EXEC".to_owned()])
            .collect()
    });
}

/// Says what `commands` gives for 0, 1 and so on, a few at a time.
fn load(port: u16, commands: impl Fn(usize) -> Vec<String>) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    for number in 0..120 {
        for command in commands(number) {
            let words: Vec<_> = command.split(' ').collect();
            if stream.write_all(&Resp::encode(&words)).is_err() {
                return;
            }
        }
        if number % 4 == 3 && !matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
            return;
        }
    }
    // Until it is killed.
    let _ = stream.read_to_end(&mut Vec::new());
}
