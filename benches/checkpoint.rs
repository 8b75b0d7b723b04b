//! What a checkpoint costs a server under load, and what it saves at the next start: prints figures.
//!
//! `cargo bench --bench checkpoint -- [items] [orders] [shards]`, by default a million of each and one shard. Runs the
//! real server on a free port, in a temporary directory (`TMPDIR`) that takes about 4 GiB; the server on the first core and
//! the load on the others, where there are others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cartwright_protocol::client::Client;
use cartwright_protocol::{
    Amount, CartLine, Checkout, Currency, ItemPut, Operation, Quantity, Reply, Sku, StockAdd, Text,
};
use cartwright_tools::bench::machine;
use cartwright_tools::random::Random;
use cartwright_tools::server_process::{ServerOptions, ServerProcess};

/// Requests in flight while the shop is filled.
const FILL_IN_FLIGHT: usize = 512;

/// Connections that buy while it is measured, and carts in flight on each.
const BUYERS: usize = 4;
const IN_FLIGHT: usize = 32;

/// Lines of each cart.
const LINES: usize = 10;

/// How long a phase without a checkpoint is measured.
const PHASE: Duration = Duration::from_secs(5);

/// Log between automatic checkpoints, in MiB: more than is ever written here.
const NO_CHECKPOINTS_MB: u32 = 1 << 20;

fn main() {
    // Cargo passes flags of its own.
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let items = numbers.next().unwrap_or(1_000_000);
    let orders = numbers.next().unwrap_or(1_000_000);
    let shards = numbers.next().unwrap_or(1) as u16;
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let data = directory.path().join("data");
    let options = ServerOptions::new(env!("CARGO_BIN_EXE_cartwright"), &data)
        .shards(shards)
        .checkpoints_after(NO_CHECKPOINTS_MB);
    println!("{items} items, {orders} orders of {LINES} lines, {shards} shards");

    let cores = machine::allowed_cores();
    let (server_core, client_cores) = cores.split_at(1);
    let pin = |cores: &[usize]| {
        if shards == 1 && !cores.is_empty() {
            machine::pin(cores).expect("a core that is allowed can be chosen");
        }
    };
    pin(server_core);
    let server = start(&options);
    pin(client_cores);
    let began = Instant::now();
    let mut client = connect(&server);
    fill(&mut client, (0..items).map(put));
    fill(&mut client, (0..items).map(stock));
    let mut random = Random::new(1);
    fill(
        &mut client,
        (0..orders).map(|number| Operation::Checkout(Box::new(cart("fill", number, items, &mut random)))),
    );
    println!("filled in {:.1} s", began.elapsed().as_secs_f64());
    let state = memory(&server, "RssAnon");
    println!("memory of the state: {} MiB", state >> 20);

    let stop = Arc::new(AtomicBool::new(false));
    let buyers = buy(&server, items, &stop, "before");
    std::thread::sleep(PHASE);
    stop.store(true, Ordering::Relaxed);
    report("without a checkpoint", buyers, PHASE);

    stop.store(false, Ordering::Relaxed);
    let before = memory(&server, "RssAnon");
    let began = Instant::now();
    let buyers = buy(&server, items, &stop, "during");
    let mut resp = Redis::connect(&server);
    assert!(resp.call("BGSAVE").contains("started"));
    let mut most = before;
    while resp.info("rdb_bgsave_in_progress") != "0" {
        most = most.max(memory(&server, "RssAnon"));
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    report("during a checkpoint", buyers, took);
    let [pause, pause_cpu] =
        ["checkpoint_pause_usec_max", "checkpoint_pause_cpu_usec_max"].map(|field| resp.info(field));
    let bytes: u64 = files(&data, ".checkpoint").iter().map(|path| size(path)).sum();
    println!(
        "the checkpoint: {} MiB in {:.2} s, {:.0} MiB/s; longest pause of a shard {pause} µs, of which its own work at most \
         {pause_cpu} µs; memory at most {} MiB more, that of new orders included",
        bytes >> 20,
        took.as_secs_f64(),
        mib(bytes) / took.as_secs_f64(),
        (most - before) >> 20,
    );
    assert_eq!(resp.info("rdb_last_bgsave_status"), "ok");
    server.kill().expect("the server can be killed");

    // One checkpoint alone leaves the log whole.
    for path in files(&data, ".checkpoint") {
        std::fs::remove_file(path).expect("a checkpoint can be removed");
    }
    pin(&cores);
    let (server, seconds) = timed_start(&options);
    let lines = audit_lines(&mut connect(&server));
    println!(
        "start from the log alone: {seconds:.2} s, {:.0} order lines/s: {}",
        lines as f64 / seconds,
        said(&server)
    );
    // At rest, so that the next start has no log to read.
    let mut resp = Redis::connect(&server);
    assert!(resp.call("BGSAVE").contains("started"));
    while resp.info("rdb_bgsave_in_progress") != "0" {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.kill().expect("the server can be killed");
    let bytes: u64 = files(&data, ".checkpoint").iter().map(|path| size(path)).sum();
    let (server, seconds) = timed_start(&options);
    println!(
        "start from a checkpoint alone: {seconds:.2} s, {:.0} MiB/s: {}",
        mib(bytes) / seconds,
        said(&server)
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn start(options: &ServerOptions) -> ServerProcess {
    ServerProcess::start(options).unwrap_or_else(|error| panic!("{error}"))
}

fn timed_start(options: &ServerOptions) -> (ServerProcess, f64) {
    let began = Instant::now();
    let server = start(options);
    (server, began.elapsed().as_secs_f64())
}

fn connect(server: &ServerProcess) -> Client {
    server.address().connect().expect("the server answers")
}

/// The server's word on what it recovered.
fn said(server: &ServerProcess) -> String {
    let output = server.output();
    let line = output
        .lines()
        .find(|line| line.contains("recovered"))
        .unwrap_or_default();
    line[line.find("recovered").unwrap_or(0)..].to_owned()
}

fn sku(number: usize) -> Sku {
    format!("sku-{number}").parse().expect("a SKU")
}

fn put(number: usize) -> Operation {
    Operation::ItemPut(Box::new(ItemPut {
        sku: sku(number),
        price: Amount::new(250).expect("an amount"),
        currency: Currency::new(b"GBP").expect("a currency"),
        name: Text::new(b"a thing that can be bought").expect("a text"),
        limit: None,
        backorder: None,
        key: None,
    }))
}

fn stock(number: usize) -> Operation {
    Operation::StockAdd(Box::new(StockAdd {
        sku: sku(number),
        delta: 1_000_000,
        location: None,
        reason: Text::default(),
        key: None,
    }))
}

fn cart(name: &str, number: usize, items: usize, random: &mut Random) -> Checkout {
    let first = random.index(items);
    Checkout {
        customer: format!("customer-{}", random.index(items)).parse().expect("a customer"),
        key: format!("{name}-{number}").parse().expect("a key"),
        hold_ms: None,
        lines: (0..LINES)
            .map(|line| CartLine {
                sku: sku((first + line * 7919) % items),
                quantity: Quantity::new(1).expect("a quantity"),
            })
            .collect(),
    }
}

fn fill(client: &mut Client, operations: impl Iterator<Item = Operation>) {
    let mut open = 0;
    for operation in operations {
        client.send(&operation);
        open += 1;
        if open == FILL_IN_FLIGHT {
            client.flush().expect("the server reads");
            for _ in 0..FILL_IN_FLIGHT / 2 {
                check(&client.receive().expect("the server answers").1);
            }
            open -= FILL_IN_FLIGHT / 2;
        }
    }
    client.flush().expect("the server reads");
    for _ in 0..open {
        check(&client.receive().expect("the server answers").1);
    }
}

fn check(reply: &Reply) {
    assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
}

type Buyer = std::thread::JoinHandle<Vec<Duration>>;

/// Buyers who buy until told to stop, and then tell how long each cart took.
fn buy(server: &ServerProcess, items: usize, stop: &Arc<AtomicBool>, phase: &str) -> Vec<Buyer> {
    (0..BUYERS)
        .map(|buyer| {
            let (mut client, stop, name) = (connect(server), Arc::clone(stop), format!("{phase}-{buyer}"));
            std::thread::spawn(move || {
                let mut random = Random::new(buyer as u64 + 7);
                let mut took = Vec::new();
                let mut open = std::collections::HashMap::new();
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    while open.len() < IN_FLIGHT {
                        number += 1;
                        let cart = cart(&name, number, items, &mut random);
                        let id = client.send(&Operation::Checkout(Box::new(cart)));
                        open.insert(id, Instant::now());
                    }
                    client.flush().expect("the server reads");
                    let (id, reply) = client.receive().expect("the server answers");
                    check(&reply);
                    took.push(open.remove(&id).expect("a reply belongs to a request").elapsed());
                }
                took
            })
        })
        .collect()
}

fn report(what: &str, buyers: Vec<Buyer>, time: Duration) {
    let mut took: Vec<Duration> = buyers
        .into_iter()
        .flat_map(|buyer| buyer.join().expect("a buyer ends"))
        .collect();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_micros();
    println!(
        "{what}: {:.0} carts/s; a cart takes {} µs (median), {} (99 %), {} (99.9 %), {} at most",
        took.len() as f64 / time.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// A field of the process's status, in bytes.
fn memory(server: &ServerProcess, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("the process runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("the status has the field") << 10
}

fn audit_lines(client: &mut Client) -> u64 {
    match client.call(&Operation::Audit).expect("the server answers") {
        Reply::Audit(report) if report.violations == 0 => report.lines,
        other => panic!("{other:?}"),
    }
}

fn files(directory: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory is listed") {
        let path = entry.expect("an entry is read").path();
        if path.is_dir() {
            found.extend(files(&path, part));
        } else if path.to_string_lossy().ends_with(part) {
            found.push(path);
        }
    }
    found
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("a file has a size").len()
}

/// Inline commands, and the replies' bytes.
struct Redis(std::net::TcpStream);

impl Redis {
    fn connect(server: &ServerProcess) -> Self {
        Self(std::net::TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens"))
    }

    fn call(&mut self, command: &str) -> String {
        use std::io::{Read, Write};
        self.0
            .write_all(format!("{command}\r\nPING\r\n").as_bytes())
            .expect("the server reads");
        let mut reply = Vec::new();
        while !reply.ends_with(b"+PONG\r\n") {
            let mut bytes = [0; 4096];
            let count = self.0.read(&mut bytes).expect("the server answers");
            assert!(count > 0, "the server closed the connection");
            reply.extend(&bytes[..count]);
        }
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn info(&mut self, field: &str) -> String {
        let text = self.call("INFO");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.expect("INFO has the field").trim().to_owned()
    }
}
