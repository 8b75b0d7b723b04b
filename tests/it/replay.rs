//! Replaying a shop, and the demo, as a user runs them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use cartwright_protocol::{Amount, ItemGet, Operation, Reply};
use cartwright_test_support::{Site, binary, clean_audit, connect, sku, stock, stop_cleanly};
use cartwright_tools::demo::{self, DemoOptions};
use cartwright_tools::generator::{GeneratorOptions, generate};
use cartwright_tools::order_file::{OrderFile, Skipped};
use cartwright_tools::play::PlayOptions;
use cartwright_tools::replay::{Report, replay};
use cartwright_tools::server_process::ServerProcess;
use cartwright_tools::shop::Shop;
use cartwright_tools::stocking::Amount as StockAmount;

fn fixture() -> OrderFile {
    OrderFile::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/orders.csv")).unwrap()
}

fn play(server: &ServerProcess, shop: &Shop, skipped: Skipped, amount: StockAmount) -> Report {
    let options = PlayOptions {
        address: server.address(),
        connection_count: 3,
        pipeline_depth: 4,
    };
    replay(shop, skipped, amount, &options, &AtomicBool::new(false)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_file_is_played_to_the_last_unit() {
    let site = Site::new(2);
    let server = site.start();
    let file = fixture();
    let report = play(&server, &file.shop, file.skipped, StockAmount::Exact);
    assert!(report.is_clean(), "{report}");
    let made = report.made();
    assert_eq!(
        (made.orders, made.rows, made.lines, made.units),
        (4, 9, 7, 30),
        "{report}"
    );
    assert_eq!((report.new_order_count(), report.units_left()), (4, 0), "{report}");
    let mut client = connect(&server);
    assert_eq!(clean_audit(&mut client).lines, 7);
    let Reply::Item(item) = client.call(&Operation::ItemGet(ItemGet { sku: sku("22633") })).unwrap() else {
        panic!("the item is not there");
    };
    assert_eq!(
        (item.price, item.name.as_str()),
        (Amount::new(210).unwrap(), "HAND WARMER")
    );
    let lower = client
        .call(&Operation::ItemGet(ItemGet { sku: sku("85123a") }))
        .unwrap();
    assert!(matches!(lower, Reply::Item(item) if item.price == Amount::new(212).unwrap()));
    stop_cleanly(server);
}

#[test]
fn played_again_even_after_a_restart_nothing_changes() {
    let site = Site::new(2);
    let server = site.start();
    let file = fixture();
    let first = play(&server, &file.shop, file.skipped, StockAmount::Exact);
    let second = play(&server, &file.shop, file.skipped, StockAmount::Exact);
    assert!(second.is_clean(), "{second}");
    assert_eq!((second.new_order_count(), second.made()), (0, first.made()), "{second}");
    assert_eq!(second.state_hash(), first.state_hash(), "{second}");
    server.kill().unwrap();
    let server = site.start();
    let third = play(&server, &file.shop, file.skipped, StockAmount::Exact);
    assert!(third.is_clean(), "{third}");
    assert_eq!(
        (third.new_order_count(), third.state_hash()),
        (0, first.state_hash()),
        "{third}"
    );
    stop_cleanly(server);
}

#[test]
fn with_too_little_stock_carts_are_refused_whole_and_counted() {
    let site = Site::new(2);
    let server = site.start();
    let shop = generate(&GeneratorOptions {
        seed: 3,
        order_count: 400,
        item_count: 60,
    });
    let report = play(&server, &shop, Skipped::default(), StockAmount::Each(100));
    assert!(report.is_clean(), "{report}");
    assert!((1..400).contains(&report.made().orders), "{report}");
    assert!(report.to_string().contains("OUTOFSTOCK"), "{report}");
    assert_eq!(
        report.units_left(),
        100 * shop.items.len() as i64 - report.made().units as i64,
        "{report}"
    );
    stop_cleanly(server);
}

#[test]
fn what_somebody_else_sold_is_noticed() {
    let site = Site::new(1);
    let server = site.start();
    let file = fixture();
    assert!(play(&server, &file.shop, file.skipped, StockAmount::Exact).is_clean());
    // The same orders with one invoice number that another cart has used already.
    let mut other = file.shop.clone();
    other.orders[0].lines.pop();
    let report = play(&server, &other, file.skipped, StockAmount::Exact);
    assert!(!report.is_clean(), "{report}");
    assert!(
        report.problems().iter().any(|problem| problem.contains("CONFLICT")),
        "{report}"
    );
    assert_eq!(stock(&mut connect(&server), "POST").committed, 1);
    stop_cleanly(server);
}

#[test]
fn stock_that_came_twice_is_noticed() {
    let site = Site::new(1);
    let server = site.start();
    let file = fixture();
    assert!(play(&server, &file.shop, file.skipped, StockAmount::Exact).is_clean());
    // The same orders, but by an item's name not the same file: its stock comes once more.
    let mut other = file.shop.clone();
    other.items[0].name = other.items[1].name.clone();
    let report = play(&server, &other, file.skipped, StockAmount::Exact);
    assert_eq!(report.new_order_count(), 0, "{report}");
    assert!(
        report.problems().iter().any(|problem| problem.contains("item 85123A")),
        "{report}"
    );
    stop_cleanly(server);
}

/// Set for the process that shows the demo.
const SHOWS: &str = "CARTWRIGHT_TEST_SHOWS_DEMO";

#[test]
fn the_demo_runs_to_its_end_and_leaves_nothing_behind() {
    if std::env::var_os(SHOWS).is_some() {
        let options = DemoOptions {
            seed: 5,
            count: 1500,
            shards: Some(2),
            ..DemoOptions::new(binary())
        };
        return demo::run(&options).unwrap();
    }
    let temporary = tempfile::tempdir().unwrap();
    let test = "replay::the_demo_runs_to_its_end_and_leaves_nothing_behind";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("TMPDIR", temporary.path())
        .env(SHOWS, "yes")
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    for part in ["Killed", "recovered", "0 violations", "1,500 orders"] {
        assert!(said.contains(part), "the demo does not say {part:?}:\n{said}");
    }
    assert_eq!(
        std::fs::read_dir(temporary.path()).unwrap().count(),
        0,
        "the demo left files behind"
    );
    let marker = temporary.path().as_os_str().as_encoded_bytes().to_vec();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let found = command_line.windows(marker.len()).any(|window| window == marker);
        assert!(
            !found,
            "the demo left a process behind: {}",
            String::from_utf8_lossy(&command_line)
        );
    }
}

#[test]
fn the_servers_demo_is_that_of_the_cart_beside_it() {
    // Links: a copy might still be open for writing in a process that another test has just forked.
    let place = tempfile::tempdir_in(Path::new(binary()).parent().unwrap()).unwrap();
    let (server, cart) = (place.path().join("cartwright"), place.path().join("cart"));
    std::fs::hard_link(binary(), &server).unwrap();
    let demo = || {
        Command::new(&server)
            .args(["demo", "--count", "7", "--help"])
            .output()
            .unwrap()
    };
    let output = demo();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("cargo xtask demo"), "{said}");

    std::os::unix::fs::symlink("/bin/echo", &cart).unwrap();
    let output = demo();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "demo --count 7 --help\n");
}
