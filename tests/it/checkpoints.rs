//! Checkpoints of a running server: what they keep, what happens to those that are damaged, what they make superfluous.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cartwright_protocol::client::Client;
use cartwright_protocol::{Amount, AuditReport, Checkout, Currency, ItemPut, Operation, Receipt, Reply, Text};
use cartwright_test_support::books::{check_orders, check_stock};
use cartwright_test_support::buyers::{Memory, buy_until_lost, skus};
use cartwright_test_support::resp::{Resp, Value};
use cartwright_test_support::{Site, binary, buy, checkout, clean_audit, connect, sku, stock_item, stop_cleanly};
use cartwright_tools::random::Random;
use cartwright_tools::server_process::{ServerOptions, ServerProcess, free_port};

const SEED: u64 = 0xc4ec;

/// For how long the rounds of kills go on.
const KILLS_FOR: Duration = Duration::from_secs(18);

const SKU_COUNT: usize = 200;
const UNITS: i64 = 100_000_000;

/// The largest item, so that logs grow fast.
const NAME_BYTES: usize = 1000;

/// Smallest segments the server makes, in MiB.
const SEGMENT_MB: u32 = 20;

fn info(port: u16, field: &str) -> String {
    let Value::Text(text) = Resp::connect(port).call(&["INFO"]) else {
        panic!("INFO is a text")
    };
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("INFO has no {field}:\n{text}"))
        .to_owned()
}

/// Waits until no checkpoint is being taken.
fn wait_for_checkpoints(server: &ServerProcess) {
    let until = Instant::now() + Duration::from_secs(30);
    while info(server.port(), "rdb_bgsave_in_progress") != "0" {
        assert!(
            Instant::now() < until,
            "a checkpoint takes too long:\n{}",
            server.output()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn begin_save(server: &ServerProcess) {
    let started = Value::Text("Background saving started".into());
    assert_eq!(Resp::connect(server.port()).call(&["BGSAVE"]), started);
}

/// Has every shard take a checkpoint, which must succeed.
fn save(server: &ServerProcess) {
    begin_save(server);
    wait_for_checkpoints(server);
    assert_eq!(
        info(server.port(), "rdb_last_bgsave_status"),
        "ok",
        "{}",
        server.output()
    );
}

/// Files under the data directory whose names contain `part`, with their sizes, ascending.
fn files(site: &Site, part: &str) -> Vec<(PathBuf, u64)> {
    fn collect(directory: &Path, part: &str, found: &mut Vec<(PathBuf, u64)>) {
        for entry in fs::read_dir(directory).expect("a directory is listed") {
            let path = entry.expect("an entry is read").path();
            if path.is_dir() {
                collect(&path, part, found);
            } else if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains(part))
            {
                let size = fs::metadata(&path).expect("a file has a size").len();
                found.push((path, size));
            }
        }
    }
    let mut found = Vec::new();
    collect(&site.data(), part, &mut found);
    found.sort();
    found
}

fn flip_in_the_middle(path: &Path) {
    let mut bytes = fs::read(path).expect("the file is read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).expect("the file is written");
}

/// Puts items with long names until about `bytes` bytes of log are written.
fn fill_log(client: &mut Client, name: &str, bytes: u64) {
    let count = bytes / (NAME_BYTES as u64 + 100);
    let name_text = Text::new("x".repeat(NAME_BYTES).as_bytes()).expect("a text");
    for number in 0..count {
        let put = Operation::ItemPut(Box::new(ItemPut {
            sku: sku(&format!("{name}-{}", number % 5000)),
            price: Amount::new(1 + number).expect("an amount"),
            currency: Currency::new(b"GBP").expect("GBP is a currency"),
            name: name_text.clone(),
            limit: None,
            backorder: None,
            key: None,
        }));
        client.send(&put);
        if number % 256 == 255 {
            receive(client, 256);
        }
    }
    receive(client, count % 256);
}

fn receive(client: &mut Client, count: u64) {
    client.flush().unwrap();
    for _ in 0..count {
        assert_eq!(client.receive().unwrap().1, Reply::Ok);
    }
}

fn sums(report: &AuditReport) -> (u64, u64, u64, u64) {
    (report.state_hash, report.orders, report.items, report.lines)
}

/// Starts a server, which must have what an audit found `before`.
fn start_with(options: &ServerOptions, before: &AuditReport) -> ServerProcess {
    let server = cartwright_test_support::start(options);
    let now = clean_audit(&mut connect(&server));
    assert_eq!(sums(&now), sums(before), "{}", server.output());
    server
}

fn sell_a_little(client: &mut Client, name: &str, count: u64) {
    for number in 0..count {
        let codes: Vec<_> = (0..=number % 5)
            .map(|line| format!("sku-{}", (number * 11 + line * 7) % 40))
            .collect();
        let lines: Vec<_> = codes.iter().map(|code| (code.as_str(), 1 + number % 3)).collect();
        let mut cart = checkout(
            &format!("customer-{}", number % 13),
            &format!("{name}-{number}"),
            &lines,
        );
        cart.hold_ms = (number % 5 == 0).then_some(3_600_000);
        buy(client, &cart);
    }
}

fn stock_a_little(client: &mut Client) {
    for number in 0..40 {
        stock_item(client, &format!("sku-{number}"), 100_000);
    }
}

/// Records that the server says it has replayed.
fn replayed(server: &ServerProcess) -> u64 {
    let output = server.output();
    let before = output
        .find(" records in ")
        .unwrap_or_else(|| panic!("it does not say what it replayed:\n{output}"));
    let words = output[..before].rsplit(' ').next().expect("a word is before");
    words
        .parse()
        .unwrap_or_else(|_| panic!("{words:?} is no number:\n{output}"))
}

fn verify(site: &Site) -> (bool, String) {
    let mut command = std::process::Command::new(binary());
    let output = command.arg("verify").arg("--data").arg(site.data()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Ends a server somewhere in its start.
fn kill_while_starting(site: &Site, random: &mut Random) {
    let mut child = site.options().command(free_port().unwrap()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(random.index(60_000) as u64));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn kills_in_checkpoints_and_in_recoveries_lose_no_acknowledged_order() {
    let site = Site::new(2);
    let options = site.options().checkpoints_after(1);
    let skus = skus(SKU_COUNT);
    let mut random = Random::new(SEED);
    let mut server = cartwright_test_support::start(&options);
    for code in &skus {
        stock_item(&mut connect(&server), code.as_str(), UNITS);
    }
    let mut known: Vec<(Checkout, Receipt)> = Vec::new();
    let until = Instant::now() + KILLS_FOR;
    let mut rounds = 0;
    while Instant::now() < until {
        rounds += 1;
        let buyers: Vec<_> = (0..3)
            .map(|buyer| {
                let (client, skus, mut random) = (connect(&server), skus.clone(), Random::new(random.bits()));
                std::thread::spawn(move || buy_until_lost(client, &format!("r{rounds}b{buyer}"), &skus, &mut random))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(random.index(150) as u64));
        // One may have begun by itself.
        Resp::connect(server.port()).call(&["BGSAVE"]);
        std::thread::sleep(Duration::from_micros(random.index(60_000) as u64));
        server.kill().unwrap();
        let memories: Vec<Memory> = buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect();
        for _ in 0..random.index(3) {
            kill_while_starting(&site, &mut random);
        }

        server = cartwright_test_support::start(&options);
        let mut client = connect(&server);
        let audit = clean_audit(&mut client);
        let acknowledged: Vec<_> = memories.iter().flat_map(|memory| memory.acknowledged.clone()).collect();
        let unanswered: Vec<_> = memories.into_iter().flat_map(|memory| memory.unanswered).collect();
        let least = known.len() + acknowledged.len();
        assert!(
            (least..=least + unanswered.len()).contains(&(audit.orders as usize)),
            "round {rounds}: {least} and {} unanswered, {audit:?}",
            unanswered.len()
        );
        check_orders(&mut client, &acknowledged);
        known.extend(acknowledged);
        for cart in unanswered {
            let receipt = buy(&mut client, &cart);
            known.push((cart, receipt));
        }
    }
    let mut client = connect(&server);
    check_orders(&mut client, &known);
    check_stock(&mut client, UNITS, &known);
    let before = clean_audit(&mut client);
    assert!(
        !files(&site, ".checkpoint").is_empty(),
        "no round came as far as a checkpoint"
    );
    assert!(rounds > 5, "only {rounds} rounds");
    stop_cleanly(server);
    let (whole, said) = verify(&site);
    assert!(whole, "{said}");
    start_with(&site.options(), &before);
}

#[test]
fn a_clean_stop_leaves_next_to_nothing_to_replay_and_an_idle_one_writes_nothing() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    stock_a_little(&mut client);
    sell_a_little(&mut client, "a", 100);
    let before = clean_audit(&mut client);
    stop_cleanly(server);
    let written = files(&site, ".checkpoint");
    assert_eq!(written.len(), 2, "{written:?}");

    let server = start_with(&site.options(), &before);
    assert_eq!(replayed(&server), 0, "{}", server.output());
    stop_cleanly(server);
    assert_eq!(files(&site, ".checkpoint"), written, "nothing changed, and yet");

    let server = start_with(&site.options(), &before);
    assert_eq!(replayed(&server), 2, "a start a shard:\n{}", server.output());
    stop_cleanly(server);
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_older_one_loudly() {
    let site = Site::new(1);
    let server = site.start();
    let mut client = connect(&server);
    stock_a_little(&mut client);
    for round in 0..3 {
        sell_a_little(&mut client, &format!("round-{round}"), 50);
        save(&server);
    }
    sell_a_little(&mut client, "last", 50);
    let before = clean_audit(&mut client);
    server.kill().unwrap();
    let kept = files(&site, ".checkpoint");
    assert_eq!(kept.len(), 2, "{kept:?}");
    let newest = &kept[1].0;
    flip_in_the_middle(newest);

    let (whole, said) = verify(&site);
    assert!(!whole && said.contains(newest.to_str().unwrap()), "{said}");
    let server = start_with(&site.options(), &before);
    let said = server.output();
    assert!(
        said.contains("damaged") && said.contains(newest.to_str().unwrap()),
        "{said}"
    );
    let mut client = connect(&server);
    // The damaged one counts no more: the next one and the one that took its place are kept.
    sell_a_little(&mut client, "more", 5);
    save(&server);
    let after = clean_audit(&mut client);
    assert!(!newest.exists() && files(&site, "damaged").is_empty());
    let kept_now = files(&site, ".checkpoint");
    assert_eq!((kept_now.len(), &kept_now[0]), (2, &kept[0]));
    server.kill().unwrap();
    flip_in_the_middle(&kept_now[1].0);
    start_with(&site.options(), &after);
}

#[test]
fn the_log_shrinks_behind_checkpoints_and_with_both_damaged_nothing_starts() {
    let site = Site::new(1);
    let options = site.options().segments_of(SEGMENT_MB).checkpoints_after(16);
    let server = cartwright_test_support::start(&options);
    let mut client = connect(&server);
    stock_a_little(&mut client);
    sell_a_little(&mut client, "a", 50);
    let mut most = 0;
    for round in 0..8 {
        fill_log(&mut client, &format!("r{}", round % 2), 16 << 20);
        wait_for_checkpoints(&server);
        let bytes: u64 = files(&site, "").iter().map(|(_, size)| size).sum();
        most = most.max(bytes);
    }
    // 10,000 items of a kilobyte: two checkpoints of about 11 MiB, the log of two intervals, two segments.
    assert!(most <= 140 << 20, "{} MiB on disk", most >> 20);
    let segments = files(&site, "segment-");
    assert!(
        !segments[0].0.ends_with("segment-00000001.log") && segments.len() <= 4,
        "{segments:?}"
    );
    sell_a_little(&mut client, "b", 50);
    let before = clean_audit(&mut client);
    server.kill().unwrap();

    let server = start_with(&options, &before);
    server.kill().unwrap();
    let (whole, said) = verify(&site);
    assert!(whole, "{said}");
    let kept = files(&site, ".checkpoint");
    for (path, _) in &kept {
        flip_in_the_middle(path);
    }
    let before = files(&site, "00");
    let said = Site::start_in_vain(&options);
    let newest = kept[1].0.to_str().unwrap();
    assert!(said.contains(newest) && said.contains("byte"), "{said}");
    assert!(said.contains("segment-"), "it does not say what the log lacks:\n{said}");
    assert_eq!(files(&site, "00"), before, "a refusal changes nothing");

    for (path, _) in &kept {
        fs::remove_file(path).unwrap();
    }
    let said = Site::start_in_vain(&options);
    assert!(said.contains("checkpoint") && said.contains("missing"), "{said}");
}

#[test]
fn another_number_of_shards_begins_with_the_checkpoints_of_the_old_one() {
    let site = Site::new(1);
    let server = site.start();
    let mut client = connect(&server);
    stock_a_little(&mut client);
    sell_a_little(&mut client, "before", 100);
    save(&server);
    sell_a_little(&mut client, "behind", 40);
    let mut before = clean_audit(&mut client);
    server.kill().unwrap();
    for shard_count in [3, 2, 1] {
        let server = start_with(&site.options().shards(shard_count), &before);
        let mut client = connect(&server);
        // It takes checkpoints by itself, and then the old number's logs go.
        wait_for_checkpoints(&server);
        let until = Instant::now() + Duration::from_secs(20);
        while fs::read_dir(site.data().join("log")).unwrap().count() > 1 {
            assert!(Instant::now() < until, "the old logs stay:\n{}", server.output());
            std::thread::sleep(Duration::from_millis(5));
        }
        sell_a_little(&mut client, &format!("with-{shard_count}"), 40);
        before = clean_audit(&mut client);
        server.kill().unwrap();
    }
    // Nothing but the checkpoint tells the state now.
    let server = start_with(&site.options(), &before);
    server.kill().unwrap();
    let checkpoint = files(&site, ".checkpoint").remove(0).0;
    flip_in_the_middle(&checkpoint);
    let said = Site::start_in_vain(&site.options());
    assert!(
        said.contains(checkpoint.to_str().unwrap()) && said.contains("byte"),
        "{said}"
    );
}

#[test]
fn a_kill_between_two_numbers_of_shards_keeps_the_state() {
    let site = Site::new(2);
    let mut random = Random::new(SEED);
    let server = site.start();
    let mut client = connect(&server);
    stock_a_little(&mut client);
    sell_a_little(&mut client, "before", 100);
    save(&server);
    sell_a_little(&mut client, "behind", 40);
    let before = clean_audit(&mut client);
    server.kill().unwrap();
    for round in 0..25 {
        let options = site.options().shards([1, 3, 2, 4][round % 4]);
        let mut child = options.command(free_port().unwrap()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.index(250_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let server = start_with(&site.options(), &before);
    stop_cleanly(server);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_told_and_the_next_one_succeeds() {
    let site = Site::new(1);
    let server = site.start();
    let mut client = connect(&server);
    stock_a_little(&mut client);
    let position: u64 = info(server.port(), "rdb_changes_since_last_save").parse().unwrap();
    let segment = files(&site, "segment-").remove(0).0;
    let in_the_way = segment.with_file_name(format!("{position:020}.checkpoint.new"));
    fs::create_dir(&in_the_way).unwrap();
    begin_save(&server);
    wait_for_checkpoints(&server);
    let until = Instant::now() + Duration::from_secs(10);
    while info(server.port(), "rdb_last_bgsave_status") != "err" {
        assert!(Instant::now() < until, "{}", server.output());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(
        server.output().contains(in_the_way.to_str().unwrap()),
        "{}",
        server.output()
    );
    sell_a_little(&mut client, "a", 10);
    fs::remove_dir(&in_the_way).unwrap();
    save(&server);
    assert_eq!(files(&site, ".checkpoint").len(), 1);
    stop_cleanly(server);
}

#[test]
fn checkpoints_are_asked_for_and_told_in_the_words_of_redis() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    stock_a_little(&mut client);
    let mut resp = Resp::connect(server.port());
    let Value::Integer(started) = resp.call(&["LASTSAVE"]) else {
        panic!("LASTSAVE is a number")
    };
    let until = Instant::now() + Duration::from_secs(30);
    let saved = loop {
        save(&server);
        let Value::Integer(saved) = resp.call(&["LASTSAVE"]) else {
            panic!("LASTSAVE is a number")
        };
        if saved > started {
            break saved;
        }
        assert!(saved == started && Instant::now() < until, "{saved} {started}");
    };
    assert_eq!(info(server.port(), "rdb_last_save_time"), saved.to_string());
    assert_eq!(info(server.port(), "rdb_changes_since_last_save"), "0");
    assert_eq!(resp.call(&["BGSAVE", "NOW"]), Value::Error("ERR syntax error".into()));
    stop_cleanly(server);
}
