//! Values as long as `proto-max-bulk-len` allows, many times as long as what the log usually takes in one piece: they are
//! kept through kills and checkpoints, and change nothing about the order of commands.
//!
//! The setting is lowered, and segments are the smallest there are: what matters is that values are longer than those.

use cartwright_protocol::Slot;
use cartwright_test_support::resp::{Resp, Value, ok, text};
use cartwright_test_support::{Site, start, stop_cleanly};
use cartwright_tools::server_process::{ServerOptions, ServerProcess};

/// As long as an argument may be here; more than two segments.
const LONGEST: usize = 48 << 20;

const SHARDS: u16 = 2;

/// Text of this length that is the same for the same seed only.
fn value(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for nibble in 0..16 {
            text.push(char::from(b'a' + (state >> (4 * nibble) & 15) as u8));
        }
    }
    text.truncate(length);
    text
}

fn options(site: &Site) -> ServerOptions {
    site.options().with(&["--set", "proto-max-bulk-len=48mb"])
}

fn count(bytes: usize) -> Value {
    Value::Integer(bytes as i64)
}

/// Not for `assert_eq`: nobody wants to see these.
fn check(client: &mut Resp, key: &str, wanted: &str) {
    assert!(client.call(&["GET", key]) == text(wanted), "{key} is another value");
}

#[test]
fn values_up_to_the_setting_outlive_kills_and_checkpoints() {
    // One for each shard.
    let (one, other) = ("a", "b");
    assert_ne!(
        Slot::of(one.as_bytes()).index() / 8192,
        Slot::of(other.as_bytes()).index() / 8192
    );
    let site = Site::new(SHARDS);
    let server = start(&options(&site));
    let mut client = Resp::connect(server.port());
    let (long, longer, longest) = (value(1, 5 << 20), value(2, 30 << 20), value(3, LONGEST));
    let read_back = |client: &mut Resp, longest: &str| {
        check(client, one, &long);
        check(client, other, &longer);
        check(client, "longest", longest);
        check(client, "small", "1");
        assert!(client.call(&["HGET", "hash", "field"]) == text(&longer));
    };
    for (key, value) in [(one, &long), (other, &longer), ("longest", &longest)] {
        assert_eq!(client.call(&["SET", key, value]), ok());
    }
    assert_eq!(client.call(&["HSET", "hash", "field", &longer]), count(1));
    assert_eq!(client.call(&["SET", "small", "1"]), ok());
    read_back(&mut client, &longest);

    server.kill().unwrap();
    let server = start(&options(&site));
    let mut client = Resp::connect(server.port());
    read_back(&mut client, &longest);
    assert_eq!(client.call(&["SAVE"]), ok());
    assert_eq!(client.call(&["SETRANGE", "longest", "0", "short"]), count(LONGEST));
    assert_eq!(client.call(&["SAVE"]), ok());
    server.kill().unwrap();

    // Two checkpoints stand for all of the log but its end.
    let server = start(&options(&site));
    assert!(server.output().contains(" from 2 checkpoints "), "{}", server.output());
    let mut client = Resp::connect(server.port());
    read_back(&mut client, &format!("short{}", &longest[5..]));
    // What is written from here on is of the usual size.
    assert_eq!(client.call(&["DEL", "longest"]), count(1));
    stop_cleanly(server);
}

fn served() -> (Site, ServerProcess, Resp) {
    let site = Site::new(SHARDS);
    let server = start(&options(&site));
    let client = Resp::connect(server.port());
    (site, server, client)
}

#[test]
fn commands_behind_a_long_one_take_effect_behind_it() {
    let (_site, server, mut client) = served();
    let long = value(4, 30 << 20);
    let replies = client.pipeline(&[
        &["SET", "a", "before"],
        &["SET", "a", &long],
        &["APPEND", "a", "x"],
        &["STRLEN", "a"],
        &["SET", "b", "1"],
        &["SET", "a", "short"],
        &["GET", "a"],
        &["COPY", "b", "{b}"],
    ]);
    let length = || count(long.len() + 1);
    assert!(replies == [ok(), ok(), length(), length(), ok(), ok(), text("short"), count(1)]);
    let replies = client.pipeline(&[
        &["MULTI"],
        &["SET", "a", &long],
        &["SET", "{a}2", &long[..10 << 20]],
        &["APPEND", "a", "x"],
        &["EXEC"],
    ]);
    assert_eq!(replies[4], Value::Array(vec![ok(), ok(), length()]));
    // A change that carries what is there is as large as that.
    assert_eq!(client.call(&["RENAME", "a", "{a}3"]), ok());
    assert_eq!(client.call(&["COPY", "{a}3", "a"]), count(1));
    check(&mut client, "a", &format!("{long}x"));
    stop_cleanly(server);
}

#[test]
fn what_is_longer_is_refused_in_the_words_of_redis() {
    let (_site, server, mut client) = served();
    let refused = |client: &mut Resp, words: &[&str]| match client.call(words) {
        Value::Error(text) => text,
        other => panic!("{words:?} is answered with {other:?}"),
    };
    let (end, behind) = ((LONGEST - 1).to_string(), LONGEST.to_string());
    let too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(client.call(&["SETRANGE", "key", &end, "x"]), count(LONGEST));
    assert_eq!(refused(&mut client, &["APPEND", "key", "x"]), too_long);
    assert_eq!(refused(&mut client, &["SETRANGE", "key", &behind, "x"]), too_long);
    assert_eq!(
        client.call(&["SETBIT", "bits", &(LONGEST * 8 - 1).to_string(), "1"]),
        count(0)
    );
    let no_offset = "ERR bit offset is not an integer or out of range";
    let offset = (LONGEST * 8).to_string();
    assert_eq!(refused(&mut client, &["SETBIT", "bits", &offset, "1"]), no_offset);
    assert_eq!(client.call(&["STRLEN", "bits"]), count(LONGEST));
    // A setting holds from the next command on.
    assert_eq!(client.call(&["CONFIG", "SET", "proto-max-bulk-len", "49mb"]), ok());
    assert_eq!(client.call(&["APPEND", "key", "x"]), count(LONGEST + 1));
    assert!(refused(&mut client, &["CONFIG", "SET", "proto-max-bulk-len", "513mb"]).contains("between"));
    // Keys of several shards are changed as before.
    let long = value(5, 5 << 20);
    let text = refused(&mut client, &["MSET", "a", &long, "b", "1"]);
    assert!(
        text.starts_with("ERR the change of keys on several shards may take "),
        "{text}"
    );
    assert_eq!(client.call(&["EXISTS", "a", "b"]), count(0));
    let too_long = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", (49 << 20) + 1);
    client.send(too_long.as_bytes());
    assert_eq!(
        client.receive(),
        Value::Error("ERR Protocol error: invalid bulk length".to_owned())
    );
    assert!(client.is_closed());
    stop_cleanly(server);
}
