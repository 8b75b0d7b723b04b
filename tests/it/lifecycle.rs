//! Starting, stopping, and what may not run together.

use std::net::TcpListener;

use cartwright_protocol::{Operation, OrderCancel, Reply};
use cartwright_test_support::{Site, binary, buy, checkout, clean_audit, connect, stock, stock_item, stop_cleanly};
use cartwright_tools::server_process::free_port;

#[test]
fn sigterm_ends_with_zero_and_keeps_everything() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    stock_item(&mut client, "a", 5);
    let receipt = buy(&mut client, &checkout("ann", "k1", &[("a", 2)]));
    let before = clean_audit(&mut client);
    stop_cleanly(server);

    let server = site.start();
    let mut client = connect(&server);
    assert!(cartwright_test_support::order(&mut client, receipt.id).is_some());
    assert_eq!(clean_audit(&mut client).state_hash, before.state_hash);
    stop_cleanly(server);
}

#[test]
fn any_number_of_shards_restores_the_same_state() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    for number in 0..50 {
        stock_item(&mut client, &format!("sku-{number}"), 1_000);
    }
    for number in 0..200u64 {
        let codes: Vec<_> = (0..=number % 7)
            .map(|line| format!("sku-{}", (number * 11 + line * 7) % 50))
            .collect();
        let lines: Vec<_> = codes.iter().map(|code| (code.as_str(), 1 + number % 3)).collect();
        let mut cart = checkout(&format!("customer-{}", number % 13), &format!("k{number}"), &lines);
        cart.hold_ms = (number % 5 == 0).then_some(3_600_000);
        let receipt = buy(&mut client, &cart);
        if number % 9 == 0 {
            let cancel = Operation::OrderCancel(OrderCancel {
                id: receipt.id,
                key: None,
            });
            assert!(matches!(client.call(&cancel).unwrap(), Reply::State(_)));
        }
    }
    let before = clean_audit(&mut client);
    assert_eq!((before.orders, before.items), (200, 50));
    stop_cleanly(server);
    for shard_count in [1, 3, 4, 2] {
        let server = cartwright_test_support::start(&site.options().shards(shard_count));
        let mut client = connect(&server);
        assert_eq!(client.server().shard_count, shard_count);
        let after = clean_audit(&mut client);
        let sums =
            |audit: &cartwright_protocol::AuditReport| (audit.state_hash, audit.orders, audit.items, audit.lines);
        assert_eq!(sums(&after), sums(&before), "with {shard_count} shards");
        stop_cleanly(server);
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_the_first_serves_on() {
    let site = Site::new(1);
    let server = site.start();
    let said = Site::start_in_vain(&site.options());
    assert!(
        said.contains(&site.data().display().to_string()),
        "it does not name the directory:\n{said}"
    );
    let mut client = connect(&server);
    stock_item(&mut client, "a", 5);
    assert_eq!(stock(&mut client, "a").available, 5);
    stop_cleanly(server);
}

#[test]
fn a_taken_port_is_refused_by_name() {
    let site = Site::new(1);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = site.options().command(port).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&port.to_string()), "it does not name the port:\n{said}");
}

#[test]
fn verify_finds_a_stopped_server_whole() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    stock_item(&mut client, "a", 5);
    buy(&mut client, &checkout("ann", "k1", &[("a", 2)]));
    stop_cleanly(server);
    let output = std::process::Command::new(binary())
        .arg("verify")
        .arg("--data")
        .arg(site.data())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
}

#[test]
fn an_unknown_flag_is_refused() {
    let port = free_port().unwrap();
    let site = Site::new(1);
    let output = site.options().command(port).arg("--no-such-flag").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-flag"));
}
