//! A disk that fills up under a running server: writes are refused, reads go on, nothing acknowledged is lost, and all
//! goes on once there is space.
//!
//! The disk is a small tmpfs in a mount namespace that lives as long as the test. Where none can be made the tests say
//! so and are skipped.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cartwright::runtime::ExitCode;
use cartwright_protocol::client::Client;
use cartwright_protocol::{
    CartLine, Checkout, ErrorCode, Operation, OrderState, Quantity, Receipt, Reply, Sku, StockAdd, Text,
};
use cartwright_test_support::resp::{Resp, Value, ok};
use cartwright_test_support::{
    binary, buy, clean_audit, connect, customer, key, order, sku, start, stock, stock_item, stop_cleanly,
};
use cartwright_tools::server_process::{ServerOptions, ServerProcess, ServerProcessError};
use tempfile::TempDir;

const SHARD_COUNT: u16 = 2;
const SEGMENT_MB: u32 = 20;

/// A segment for each shard, two more for each once the ballast is gone, and a little for what else there is. Two,
/// because what one shard writes down of carts that another refuses may take it to its next segment.
const DISK_MB: u32 = 6 * SEGMENT_MB + 4;
const BALLAST_MB: u32 = 4 * SEGMENT_MB;

/// Enough items for a cart to take the log some 100 KB.
const ITEM_COUNT: usize = 1000;
const UNITS: i64 = 1_000_000;

/// More carts than any disk here holds.
const CART_COUNT_MAX: usize = 3000;
const IN_FLIGHT: usize = 16;

/// How long the held orders are held: they expire while the disk is full.
const HOLD_MS: u32 = 1500;

const PATIENCE: Duration = Duration::from_secs(30);

/// A disk of [`DISK_MB`] with [`BALLAST_MB`] on it, seen by whoever enters its namespace.
struct Disk {
    directory: TempDir,
    /// Keeps the namespace, and so the disk, until its standard input ends, however this process ends.
    keeper: Child,
    program: PathBuf,
}

impl Disk {
    /// `None`, having said why, where this system allows no mounts.
    fn new() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let user = if is_root { "" } else { "--user --map-root-user" };
        let mount = format!(
            "exec unshare {user} --mount sh -c 'mount -t tmpfs -o size={DISK_MB}m tmpfs {} && echo mounted && exec cat'",
            directory.path().display()
        );
        let mut keeper = Command::new("sh")
            .args(["-c", &mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap())
            .read_line(&mut said)
            .unwrap();
        if said != "mounted\n" {
            println!("skipped: no file system can be mounted here; it needs root, or user namespaces");
            keeper.wait().unwrap();
            return None;
        }
        let entered = if is_root { "" } else { "--user --preserve-credentials" };
        let program = directory.path().with_extension("serve");
        let script = format!(
            "#!/bin/sh\nexec nsenter {entered} --mount --target {} -- '{}' \"$@\"\n",
            keeper.id(),
            binary()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let disk = Self {
            directory,
            keeper,
            program,
        };
        let ballast = vec![0; (BALLAST_MB as usize) << 20];
        fs::write(disk.path("ballast"), ballast).unwrap();
        Some(disk)
    }

    /// A path on the disk, as everybody else sees it.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.directory.path().strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.keeper.id()))
            .join(inside)
            .join(name)
    }

    fn options(&self) -> ServerOptions {
        ServerOptions::new(&self.program, self.directory.path().join("data"))
            .shards(SHARD_COUNT)
            .segments_of(SEGMENT_MB)
    }

    /// Takes all the space there is.
    fn fill(&self) {
        let options = OpenOptions::new().create(true).append(true).clone();
        let mut ballast: File = options.open(self.path("ballast")).unwrap();
        for piece in [1 << 20, 4096] {
            let zeros = vec![0; piece];
            while ballast.write_all(&zeros).is_ok() {}
        }
    }

    /// Gives it back.
    fn free(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends by itself, and whatever cannot be tidied up here is only a small file.
        let _ = self.keeper.wait();
        let _ = fs::remove_file(&self.program);
    }
}

fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Names as long as they may be: carts take more room.
fn long_sku(number: usize) -> String {
    format!("item-{number:035}")
}

/// A cart of everything.
fn large_cart(number: usize) -> Checkout {
    Checkout {
        customer: customer(&format!("customer-{}", number % 20)),
        key: key(&format!("large-{number}")),
        hold_ms: None,
        lines: (0..ITEM_COUNT)
            .map(|item| CartLine {
                sku: long_sku(item).parse::<Sku>().unwrap(),
                quantity: Quantity::new(1).unwrap(),
            })
            .collect(),
    }
}

fn small_cart(with: &str, hold_ms: Option<u32>) -> Checkout {
    let first = long_sku(0);
    let mut cart = cartwright_test_support::checkout("ann", with, &[(&first, 1)]);
    cart.hold_ms = hold_ms;
    cart
}

fn stock_everything(client: &mut Client) {
    let names: Vec<_> = (0..ITEM_COUNT).map(long_sku).collect();
    stock_item(client, &names[0], UNITS);
    for name in &names[1..] {
        let put = cartwright_protocol::ItemPut {
            sku: sku(name),
            price: cartwright_protocol::Amount::new(250).unwrap(),
            currency: cartwright_protocol::Currency::new(b"GBP").unwrap(),
            name: Text::default(),
            limit: None,
            backorder: None,
            key: None,
        };
        client.send(&Operation::ItemPut(Box::new(put)));
    }
    client.flush().unwrap();
    for _ in 1..ITEM_COUNT {
        assert_eq!(client.receive().unwrap().1, Reply::Ok);
    }
    for name in &names[1..] {
        client.send(&add(name, UNITS));
    }
    client.flush().unwrap();
    for _ in 1..ITEM_COUNT {
        assert_eq!(client.receive().unwrap().1, Reply::Integer(UNITS));
    }
}

fn add(code: &str, delta: i64) -> Operation {
    Operation::StockAdd(Box::new(StockAdd {
        sku: sku(code),
        delta,
        location: None,
        reason: Text::default(),
        key: None,
    }))
}

/// What happened to large carts, by number.
#[derive(Default)]
struct Sales {
    next: usize,
    acknowledged: Vec<(usize, Receipt)>,
    refused: Vec<usize>,
    unanswered: Vec<usize>,
}

impl Sales {
    /// Sells large carts until the first are refused for want of space.
    fn go_on_until_refused(&mut self, client: &mut Client) {
        let mut open = HashMap::new();
        let refused_before = self.refused.len();
        loop {
            while open.len() < IN_FLIGHT && self.refused.len() == refused_before {
                assert!(self.next < CART_COUNT_MAX, "the disk took every cart");
                let cart = large_cart(self.next);
                open.insert(client.send(&Operation::Checkout(Box::new(cart))), self.next);
                self.next += 1;
            }
            if open.is_empty() {
                return;
            }
            client.flush().unwrap();
            let (id, reply) = client.receive().unwrap();
            let number = open.remove(&id).expect("a reply belongs to a request");
            match reply {
                Reply::Receipt(receipt) => self.acknowledged.push((number, receipt)),
                Reply::Error(error) => {
                    assert_eq!(error.code, ErrorCode::ReadOnly, "{error}");
                    self.refused.push(number);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends some more carts, and lets nobody wait for the answers.
    fn leave_some_under_way(&mut self, client: &mut Client) {
        for _ in 0..IN_FLIGHT {
            client.send(&Operation::Checkout(Box::new(large_cart(self.next))));
            self.unanswered.push(self.next);
            self.next += 1;
        }
        client.flush().unwrap();
    }

    /// All acknowledged orders are there, whole; no refused one is; and every unit is accounted for.
    fn check(&self, client: &mut Client, small_order_count: usize) {
        for (number, receipt) in &self.acknowledged {
            let view = order(client, receipt.id).unwrap_or_else(|| panic!("cart {number} was acknowledged"));
            assert_eq!((view.state, view.lines.len()), (OrderState::Placed, ITEM_COUNT));
        }
        let orders = clean_audit(client).orders as usize - small_order_count;
        let possible = self.acknowledged.len()..=self.acknowledged.len() + self.unanswered.len();
        assert!(
            possible.contains(&orders),
            "{orders} orders, and {possible:?} are possible"
        );
        for number in [1, ITEM_COUNT / 2, ITEM_COUNT - 1] {
            let level = stock(client, &long_sku(number));
            assert_eq!(
                (level.on_hand, level.committed),
                (UNITS, orders as i64),
                "item {number}"
            );
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_only_and_space_lets_them_go_on() {
    let Some(disk) = Disk::new() else { return };
    let server = start(&disk.options());
    let mut client = connect(&server);
    stock_everything(&mut client);
    disk.fill();
    let held: Vec<_> = (0..5)
        .map(|number| buy(&mut client, &small_cart(&format!("held-{number}"), Some(HOLD_MS))))
        .collect();
    let mut sales = Sales::default();
    sales.go_on_until_refused(&mut client);
    assert!(sales.acknowledged.len() > 100, "{} carts", sales.acknowledged.len());

    let mut reader = connect(&server);
    sales.check(&mut reader, held.len());
    // Refused again, however often it is asked for; and what small writes still fit are taken or refused, no more.
    let again = Operation::Checkout(Box::new(large_cart(sales.refused[0])));
    let until = Instant::now() + Duration::from_millis(u64::from(HOLD_MS) + 1000);
    while Instant::now() < until {
        match client.call(&again).unwrap() {
            Reply::Error(error) => assert_eq!(error.code, ErrorCode::ReadOnly, "{error}"),
            other => panic!("with the disk full a large cart was answered with {other:?}"),
        }
        assert_eq!(stock(&mut reader, &long_sku(1)).on_hand, UNITS);
        std::thread::sleep(Duration::from_millis(50));
    }

    disk.free();
    wait_for("writes to be taken again", || match client.call(&again).unwrap() {
        Reply::Receipt(receipt) => {
            sales.acknowledged.push((sales.refused[0], receipt));
            true
        }
        Reply::Error(error) => {
            assert_eq!(error.code, ErrorCode::ReadOnly, "{error}");
            false
        }
        other => panic!("{other:?}"),
    });
    // A key whose request was refused for want of space is free.
    for &number in &sales.refused[1..] {
        let receipt = buy(&mut client, &large_cart(number));
        sales.acknowledged.push((number, receipt));
    }
    for receipt in &held {
        wait_for("held orders to expire", || {
            order(&mut reader, receipt.id).unwrap().state == OrderState::Expired
        });
    }
    sales.check(&mut reader, held.len());
    let before = clean_audit(&mut reader);
    stop_cleanly(server);
    let server = start(&disk.options());
    let mut reader = connect(&server);
    sales.check(&mut reader, held.len());
    assert_eq!(clean_audit(&mut reader).state_hash, before.state_hash);
    stop_cleanly(server);
}

#[test]
fn a_server_killed_on_a_full_disk_loses_nothing_acknowledged() {
    let Some(disk) = Disk::new() else { return };
    let server = start(&disk.options());
    let mut client = connect(&server);
    stock_everything(&mut client);
    let mut sales = Sales::default();
    sales.go_on_until_refused(&mut client);
    sales.leave_some_under_way(&mut client);
    server.kill().unwrap();

    // To the last page.
    disk.fill();
    for _ in 0..2 {
        match ServerProcess::start(&disk.options()) {
            Ok(server) => {
                sales.check(&mut connect(&server), 0);
                server.kill().unwrap();
            }
            Err(ServerProcessError::Ended { status, output }) => {
                let codes = [ExitCode::DataDirectory, ExitCode::Storage].map(|code| Some(code as i32));
                assert!(codes.contains(&status.code()), "{status}: {output}");
                assert!(output.contains("free or add disk space"), "{output}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    disk.free();
    let server = start(&disk.options());
    let mut client = connect(&server);
    sales.check(&mut client, 0);
    for &number in sales.refused.iter().chain(&sales.unanswered) {
        buy(&mut client, &large_cart(number));
    }
    assert_eq!(clean_audit(&mut client).orders as usize, sales.next, "each cart once");
    stop_cleanly(server);
}

#[test]
fn a_value_that_finds_no_space_is_refused_and_disturbs_no_other() {
    let Some(disk) = Disk::new() else { return };
    let server = start(&disk.options());
    let mut client = Resp::connect(server.port());
    let long = "x".repeat(22 << 20);
    for _ in 0..2 {
        let replies = client.pipeline(&[&["SET", "key", &long], &["SET", "other", "1"], &["GET", "key"]]);
        let Value::Error(text) = &replies[0] else {
            panic!("{:?}", replies[0])
        };
        assert!(
            text.starts_with("READONLY writes are refused: the disk is full"),
            "{text}"
        );
        assert_eq!(replies[1..], [ok(), Value::Null]);
    }
    disk.free();
    wait_for("the value to be taken", || client.call(&["SET", "key", &long]) == ok());
    assert_eq!(client.call(&["STRLEN", "key"]), Value::Integer(22 << 20));
    server.kill().unwrap();
    let server = start(&disk.options());
    let mut client = Resp::connect(server.port());
    assert!(client.call(&["GET", "key"]) == Value::Text(long));
    assert_eq!(client.call(&["GET", "other"]), Value::Text("1".to_owned()));
    server.kill().unwrap();
}
