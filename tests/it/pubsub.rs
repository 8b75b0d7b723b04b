//! Channels over several shards: who gets what, in which order, and how much may wait.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cartwright_test_support::resp::{Resp, Value, ok, text, texts};
use cartwright_test_support::{Site, stop_cleanly};

/// Connections in the order in which they come are dealt to the shards in turn, so that several are on all of them.
fn connections(port: u16, count: usize) -> Vec<Resp> {
    (0..count).map(|_| Resp::connect(port)).collect()
}

fn message(channel: &str, payload: &str) -> Value {
    texts(&["message", channel, payload])
}

#[test]
fn every_subscriber_on_every_shard_gets_each_message_once_in_the_publishers_order() {
    const MESSAGES: usize = 500;
    let site = Site::new(2);
    let server = site.start();
    let mut subscribers = connections(server.port(), 6);
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        assert_eq!(
            subscriber.call(&["SUBSCRIBE", "news"]),
            Value::Array(vec![text("subscribe"), text("news"), Value::Integer(1)])
        );
        if number % 2 == 0 {
            subscriber.call(&["PSUBSCRIBE", "n?ws"]);
        }
    }
    let mut publishers = connections(server.port(), 2);
    let shards: std::collections::BTreeSet<_> = publishers.iter_mut().map(shard_of).collect();
    assert_eq!(shards.len(), 2, "the publishers are on both shards");
    for (which, publisher) in publishers.iter_mut().enumerate() {
        let commands: Vec<_> = (0..MESSAGES)
            .flat_map(|number| Resp::encode(&["PUBLISH", "news", &format!("{which} {number}")]))
            .collect();
        publisher.send(&commands);
    }
    for publisher in &mut publishers {
        for _ in 0..MESSAGES {
            assert_eq!(publisher.receive(), Value::Integer(6 + 3));
        }
    }
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        let copies = if number % 2 == 0 { 2 } else { 1 };
        let mut next: BTreeMap<(String, usize), usize> = BTreeMap::new();
        for _ in 0..2 * MESSAGES * copies {
            let Value::Array(parts) = subscriber.receive() else {
                panic!("a message is an array")
            };
            let Some(Value::Text(payload)) = parts.last() else {
                panic!("{parts:?} has no payload")
            };
            let (which, payload) = payload.split_once(' ').unwrap();
            let next = next.entry((which.to_owned(), parts.len())).or_default();
            assert_eq!(payload, next.to_string(), "to subscriber {number}, from {which}");
            *next += 1;
        }
        assert_eq!(next.len(), 2 * copies);
        assert_eq!(
            subscriber.call(&["PING", "nothing more"]),
            texts(&["pong", "nothing more"])
        );
    }
    stop_cleanly(server);
}

fn shard_of(resp: &mut Resp) -> String {
    let Value::Text(line) = resp.call(&["CLIENT", "INFO"]) else {
        panic!("CLIENT INFO is text")
    };
    field(&line, "shard")
}

fn field(line: &str, name: &str) -> String {
    let start = format!("{name}=");
    let word = line.split_whitespace().find(|word| word.starts_with(&start));
    word.unwrap_or_else(|| panic!("{line:?} has no {name}"))[start.len()..].to_owned()
}

#[test]
fn who_unsubscribes_or_leaves_is_no_receiver_any_more() {
    let site = Site::new(2);
    let server = site.start();
    let mut subscribers = connections(server.port(), 4);
    for subscriber in &mut subscribers {
        subscriber.call(&["SUBSCRIBE", "a"]);
        subscriber.call(&["SSUBSCRIBE", "a"]);
    }
    let mut publisher = Resp::connect(server.port());
    assert_eq!(publisher.call(&["PUBLISH", "a", "1"]), Value::Integer(4));
    assert_eq!(publisher.call(&["SPUBLISH", "a", "1"]), Value::Integer(4));
    assert_eq!(publisher.call(&["PUBLISH", "b", "1"]), Value::Integer(0));
    assert_eq!(
        publisher.call(&["PUBSUB", "NUMSUB", "a", "b"]),
        Value::Array(vec![text("a"), Value::Integer(4), text("b"), Value::Integer(0)])
    );
    assert_eq!(publisher.call(&["PUBSUB", "CHANNELS"]), texts(&["a"]));
    assert_eq!(publisher.call(&["PUBSUB", "CHANNELS", "b*"]), texts(&[]));
    assert_eq!(publisher.call(&["PUBSUB", "SHARDCHANNELS"]), texts(&["a"]));
    subscribers[0].receive();
    subscribers[0].receive();
    subscribers[0].call(&["UNSUBSCRIBE"]);
    assert_eq!(publisher.call(&["PUBLISH", "a", "2"]), Value::Integer(3));
    drop(subscribers);
    let deadline = Instant::now() + Duration::from_secs(30);
    while publisher.call(&["PUBLISH", "a", "3"]) != Value::Integer(0) {
        assert!(Instant::now() < deadline, "who has left is still a receiver");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(publisher.call(&["PUBSUB", "CHANNELS"]), texts(&[]));
    let mut pattern = Resp::connect(server.port());
    pattern.call(&["PSUBSCRIBE", "x*"]);
    let mut same = Resp::connect(server.port());
    same.call(&["PSUBSCRIBE", "x*", "y*"]);
    same.receive();
    assert_eq!(publisher.call(&["PUBSUB", "NUMPAT"]), Value::Integer(2));
    stop_cleanly(server);
}

#[test]
fn a_message_sent_after_a_write_finds_the_write() {
    let site = Site::new(2);
    let server = site.start();
    let mut subscriber = Resp::connect(server.port());
    subscriber.call(&["HELLO", "3"]);
    subscriber.call(&["SUBSCRIBE", "changed"]);
    let mut writer = Resp::connect(server.port());
    for round in 0..100 {
        let value = round.to_string();
        let replies = writer.pipeline(&[&["SET", "key", &value], &["PUBLISH", "changed", &value]]);
        assert_eq!(replies, [ok(), Value::Integer(1)]);
        assert_eq!(subscriber.receive(), message("changed", &value));
        assert_eq!(subscriber.call(&["GET", "key"]), text(&value));
    }
    stop_cleanly(server);
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_costs_only_itself() {
    let site = Site::new(2);
    let options = site
        .options()
        .with(&["--set", "client-output-buffer-limit=pubsub 4mb 2mb 60"]);
    let server = cartwright_test_support::start(&options);
    let mut deaf = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    deaf.write_all(&Resp::encode(&["SUBSCRIBE", "flood"])).unwrap();
    let mut reader = Resp::connect(server.port());
    reader.call(&["SUBSCRIBE", "flood"]);
    let mut publisher = Resp::connect(server.port());
    let deadline = Instant::now() + Duration::from_mins(1);
    while publisher.call(&["PUBSUB", "NUMSUB", "flood"]).field("flood") != &Value::Integer(2) {
        assert!(Instant::now() < deadline, "both subscribe");
    }
    let payload = "x".repeat(100_000);
    // Socket buffers take some megabytes as well; 100 MB is more than all of it.
    let mut cut_off = false;
    for _ in 0..1000 {
        let receivers = publisher.call(&["PUBLISH", "flood", &payload]);
        assert_eq!(reader.receive(), message("flood", &payload));
        if receivers == Value::Integer(1) {
            cut_off = true;
            break;
        }
    }
    assert!(cut_off, "100 MB wait for a subscriber that does not read");
    let Value::Text(info) = publisher.call(&["INFO", "stats"]) else {
        panic!("INFO is text")
    };
    assert!(
        info.contains("client_output_buffer_limit_disconnections:1\r\n"),
        "{info}"
    );
    stop_cleanly(server);
}
