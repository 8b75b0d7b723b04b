//! Both protocols as a client meets them: order of replies, bad input, neighbours.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cartwright_protocol::native::{CLIENT_HELLO_BYTES, ClientHello, PROTOCOL_VERSION, SHARD_ANY, encode_request};
use cartwright_protocol::{ItemGet, Operation};
use cartwright_test_support::resp::{Resp, Value};
use cartwright_test_support::{Site, buy, checkout, clean_audit, connect, sku, start, stock, stock_item, stop_cleanly};
use cartwright_tools::random::Random;
use cartwright_tools::server_process::SyncMode;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn pipelined_commands_are_answered_in_order_and_see_the_ones_before() {
    let site = Site::new(2);
    let server = site.start();
    let mut resp = Resp::connect(server.port());
    let item_count: i64 = 40;
    let mut bytes = Vec::new();
    let mut say = |words: &[&str]| bytes.extend(Resp::encode(words));
    for number in 0..item_count {
        let code = format!("sku-{number}");
        say(&["ITEM.PUT", &code, "250", "GBP"]);
        say(&["STOCK.ADD", &code, "10"]);
        say(&["ECHO", &number.to_string()]);
        say(&[
            "CHECKOUT",
            "ann",
            "KEY",
            &format!("k{number}"),
            "LINES",
            "1",
            &code,
            "3",
        ]);
        say(&["STOCK.GET", &code]);
        say(&["NO.SUCH", &code]);
        say(&["PING"]);
    }
    resp.send(&bytes);
    for number in 0..item_count {
        assert_eq!(resp.receive(), text("OK"));
        assert_eq!(resp.receive(), Value::Integer(10));
        assert_eq!(resp.receive(), text(&number.to_string()));
        let receipt = resp.receive();
        assert_eq!(
            (receipt.field("state"), receipt.field("total")),
            (&text("placed"), &Value::Integer(750))
        );
        let level = resp.receive();
        assert_eq!(
            (level.field("committed"), level.field("available")),
            (&Value::Integer(3), &Value::Integer(7))
        );
        let refusal = format!("ERR unknown command 'NO.SUCH', with args beginning with: 'sku-{number}' ");
        assert_eq!(resp.receive(), Value::Error(refusal));
        assert_eq!(resp.receive(), text("PONG"));
    }
    stop_cleanly(server);
}

#[test]
fn both_protocols_see_the_same_shop() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    let mut resp = Resp::connect(server.port());
    stock_item(&mut client, "BANK CHARGES", 9);
    let receipt = buy(&mut client, &checkout("ann", "k1", &[("BANK CHARGES", 2)]));
    let order = resp.call(&["ORDER.GET", &receipt.id.to_string()]);
    assert_eq!(
        (order.field("customer"), order.field("total")),
        (&text("ann"), &Value::Integer(500))
    );
    let again = resp.call(&["checkout", "ann", "key", "k1", "lines", "1", "BANK CHARGES", "2"]);
    assert_eq!(again.field("id"), &Value::Integer(receipt.id.to_integer() as i64));
    let Value::Error(conflict) = resp.call(&["CHECKOUT", "ann", "KEY", "k1", "LINES", "1", "BANK CHARGES", "3"]) else {
        panic!("the same key with another cart was taken");
    };
    assert!(conflict.starts_with("CONFLICT "), "{conflict}");
    assert_eq!(stock(&mut client, "BANK CHARGES").committed, 2);
    stop_cleanly(server);
}

/// Input that is wrong in one of many ways.
fn garbage(random: &mut Random) -> Vec<u8> {
    let noise = |random: &mut Random, most: usize| -> Vec<u8> {
        (0..=random.index(most)).map(|_| random.bits() as u8).collect()
    };
    let hello = ClientHello {
        version: PROTOCOL_VERSION,
        shard: SHARD_ANY,
    }
    .encode();
    match random.index(9) {
        0 => noise(random, 3_000),
        1 => b"*3\r\n$-5\r\n".to_vec(),
        2 => b"*99999999999\r\n".to_vec(),
        3 => b"$".repeat(5_000),
        4 => b"*1\r\n$4\r\nPI".to_vec(),
        5 => b"*2\r\n$3\r\nGET\r\n$999999999999\r\n".to_vec(),
        6 => [&hello[..], &noise(random, 500)].concat(),
        7 => hello[..random.index(CLIENT_HELLO_BYTES)].to_vec(),
        _ => {
            let mut bytes = hello.to_vec();
            encode_request(&mut bytes, 1, &Operation::ItemGet(ItemGet { sku: sku("a") }));
            let place = CLIENT_HELLO_BYTES + random.index(bytes.len() - CLIENT_HELLO_BYTES);
            bytes[place] ^= 1 << random.index(8);
            bytes
        }
    }
}

#[test]
fn garbage_costs_nobody_else_anything() {
    let site = Site::new(2);
    let mut server = site.start();
    let mut client = connect(&server);
    client.set_timeout(Some(Duration::from_secs(20))).unwrap();
    stock_item(&mut client, "a", 1_000_000);
    let mut random = Random::new(7);
    let mut open = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        // The server may close while we write: that is its right.
        let _ = stream.write_all(&garbage(&mut random));
        if number % 3 == 0 {
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let _ = stream.read(&mut [0; 100]);
        } else if open.len() < 100 {
            open.push(stream);
        }
        buy(&mut client, &checkout("ann", &format!("k{number}"), &[("a", 1)]));
    }
    assert_eq!(stock(&mut client, "a").committed, 300);
    assert_eq!(clean_audit(&mut client).orders, 300);
    assert!(server.try_wait().unwrap().is_none());
    stop_cleanly(server);
}

#[test]
fn a_client_that_never_reads_does_not_stop_the_others() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    client.set_timeout(Some(Duration::from_secs(20))).unwrap();
    stock_item(&mut client, "a", 1_000);
    let mut deaf = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let echo = Resp::encode(&["ECHO", &"x".repeat(10_000)]).repeat(100);
    let mut stuck = false;
    for _ in 0..200 {
        if deaf.write_all(&echo).is_err() {
            stuck = true;
            break;
        }
    }
    assert!(stuck, "the server read 200 MB whose replies nobody took");
    for number in 0..50 {
        buy(&mut client, &checkout("ann", &format!("k{number}"), &[("a", 1)]));
    }
    drop(deaf);
    assert_eq!(clean_audit(&mut client).orders, 50);
    stop_cleanly(server);
}

#[test]
fn config_tells_when_the_log_is_synced() {
    for sync in [SyncMode::Always, SyncMode::EverySecond, SyncMode::No] {
        let site = Site::new(1);
        let mut options = site.options();
        options.sync = sync;
        let server = start(&options);
        let told = Resp::connect(server.port()).call(&["CONFIG", "GET", "appendfsync"]);
        assert_eq!(told.field("appendfsync"), &text(sync.as_str()), "{sync:?}");
        stop_cleanly(server);
    }
}
