//! `MULTI` to `EXEC` over keys of several shards.

use cartwright_test_support::resp::{Resp, Value, ok, text};
use cartwright_test_support::{Site, stop_cleanly};

fn list(values: &[Value]) -> Value {
    Value::Array(values.to_vec())
}

#[test]
fn what_is_queued_runs_at_once_over_all_shards() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["MULTI"]), ok());
    for number in 0..20 {
        let key = format!("key-{number}");
        assert_eq!(client.call(&["SET", &key, &number.to_string()]), text("QUEUED"));
    }
    let mut other = Resp::connect(server.port());
    assert_eq!(other.call(&["GET", "key-3"]), Value::Null, "nothing runs before EXEC");
    assert_eq!(client.call(&["EXEC"]), list(&vec![ok(); 20]));
    for number in 0..20 {
        assert_eq!(
            other.call(&["GET", &format!("key-{number}")]),
            text(&number.to_string())
        );
    }
    let replies = client.pipeline(&[
        &["MULTI"],
        &["INCR", "key-1"],
        &["LPUSH"],
        &["EXEC"],
        &["MULTI"],
        &["INCR", "key-1"],
        &["HSET", "key-2", "f", "v"],
        &["PING"],
        &["PUBLISH", "nobody", "x"],
        &["GET", "key-3"],
        &["EXEC"],
        &["GET", "key-1"],
    ]);
    assert!(
        matches!(&replies[3], Value::Error(text) if text == "EXECABORT Transaction discarded because of previous errors.")
    );
    let wrong_type = Value::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned());
    assert_eq!(
        replies[10],
        list(&[
            Value::Integer(2),
            wrong_type,
            text("PONG"),
            Value::Integer(0),
            text("3")
        ])
    );
    assert_eq!(replies[11], text("2"), "what was refused had not run");
    stop_cleanly(server);
}

#[test]
fn a_watched_key_that_changes_stops_the_transaction_and_its_messages() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = Resp::connect(server.port());
    let mut other = Resp::connect(server.port());
    let mut subscriber = Resp::connect(server.port());
    subscriber.call(&["SUBSCRIBE", "sold"]);
    for key in ["a", "b", "c", "d", "never-there"] {
        for changed in [false, true] {
            assert_eq!(client.call(&["WATCH", "x", key, "y"]), ok());
            if changed {
                assert_eq!(other.call(&["SET", key, "changed"]), ok());
            }
            client.call(&["MULTI"]);
            client.call(&["INCR", "runs"]);
            client.call(&["PUBLISH", "sold", key]);
            let reply = client.call(&["EXEC"]);
            assert_eq!(reply == Value::Null, changed, "{key} {changed}: {reply:?}");
        }
        assert_eq!(
            subscriber.receive(),
            cartwright_test_support::resp::texts(&["message", "sold", key])
        );
    }
    assert_eq!(client.call(&["GET", "runs"]), text("5"));
    for forget in ["UNWATCH", "DISCARD", "EXEC"] {
        client.call(&["WATCH", "a"]);
        if forget == "UNWATCH" {
            assert_eq!(client.call(&["UNWATCH"]), ok());
        } else {
            client.call(&["MULTI"]);
            client.call(&[forget]);
        }
        other.call(&["INCR", "n"]);
        other.call(&["SET", "a", "again"]);
        client.call(&["MULTI"]);
        assert_eq!(client.call(&["EXEC"]), list(&[]), "{forget} forgets what is watched");
    }
    assert_eq!(
        client.call(&["PUBLISH", "sold", "end"]),
        Value::Integer(1),
        "the subscriber is there"
    );
    assert_eq!(
        subscriber.receive(),
        cartwright_test_support::resp::texts(&["message", "sold", "end"])
    );
    stop_cleanly(server);
}

#[test]
fn counters_of_many_clients_that_watch_lose_no_step() {
    const CLIENTS: usize = 4;
    const STEPS: usize = 50;
    let site = Site::new(2);
    let server = site.start();
    let port = server.port();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Resp::connect(port);
                let mut done = 0;
                while done < STEPS {
                    let replies = client.pipeline(&[&["WATCH", "left", "right"], &["MGET", "left", "right"]]);
                    let Value::Array(seen) = &replies[1] else {
                        panic!("MGET gives a list")
                    };
                    assert_eq!(seen[0], seen[1], "both are always written together");
                    let next = match &seen[0] {
                        Value::Text(number) => number.parse::<usize>().unwrap() + 1,
                        _ => 1,
                    };
                    let next = next.to_string();
                    let replies =
                        client.pipeline(&[&["MULTI"], &["SET", "left", &next], &["SET", "right", &next], &["EXEC"]]);
                    done += usize::from(replies[3] != Value::Null);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut client = Resp::connect(port);
    let expected = text(&(CLIENTS * STEPS).to_string());
    assert_eq!(client.call(&["GET", "left"]), expected);
    assert_eq!(client.call(&["GET", "right"]), expected);
    stop_cleanly(server);
}

#[test]
fn pipelined_commands_on_keys_take_effect_in_their_order() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = Resp::connect(server.port());
    let mut bytes = Vec::new();
    for number in 0..200 {
        let key = format!("key-{}", number % 7);
        bytes.extend(Resp::encode(&["APPEND", &key, "x"]));
        bytes.extend(Resp::encode(&["STRLEN", &key]));
        if number % 10 == 9 {
            bytes.extend(Resp::encode(&[
                "DEL", "key-0", "key-1", "key-2", "key-3", "key-4", "key-5", "key-6",
            ]));
        }
    }
    client.send(&bytes);
    let mut lengths = [0; 7];
    for number in 0..200usize {
        lengths[number % 7] += 1;
        let length = Value::Integer(lengths[number % 7]);
        assert_eq!(client.receive(), length);
        assert_eq!(client.receive(), length);
        if number % 10 == 9 {
            let there = lengths.iter().filter(|&&length| length > 0).count();
            assert_eq!(client.receive(), Value::Integer(there as i64));
            lengths = [0; 7];
        }
    }
    stop_cleanly(server);
}

#[test]
fn a_connection_is_read_on_after_any_transaction_and_any_count() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["MULTI"]), ok());
    assert_eq!(client.call(&["SET", "key", "1"]), text("QUEUED"));
    assert_eq!(client.call(&["PING"]), text("QUEUED"));
    assert_eq!(client.call(&["EXEC"]), list(&[ok(), text("PONG")]));
    assert_eq!(
        client.call(&["GET", "key"]),
        text("1"),
        "nothing came behind EXEC at first"
    );
    let most = i64::MAX.to_string();
    assert!(matches!(client.call(&["SCAN", "0", "COUNT", &most]), Value::Array(_)));
    assert_eq!(client.call(&["GET", "key"]), text("1"));
    stop_cleanly(server);
}

#[test]
fn a_watched_key_that_is_not_there_is_told_apart_from_others_of_its_slot() {
    for shards in [1, 2] {
        let site = Site::new(shards);
        let server = site.start();
        let (mut client, mut other) = (Resp::connect(server.port()), Resp::connect(server.port()));
        // With a key of another slot, the transaction is over several shards where there are several.
        let transaction: [&[&str]; 4] = [
            &["MULTI"],
            &["SET", "{u}lock", "mine"],
            &["GET", "elsewhere"],
            &["EXEC"],
        ];
        assert_eq!(other.call(&["SET", "{u}other", "value"]), ok());
        assert_eq!(client.call(&["WATCH", "{u}lock"]), ok());
        assert_eq!(other.call(&["DEL", "{u}other"]), Value::Integer(1));
        assert_eq!(client.pipeline(&transaction)[3], list(&[ok(), Value::Null]));

        assert_eq!(other.call(&["DEL", "{u}lock"]), Value::Integer(1));
        assert_eq!(client.call(&["WATCH", "{u}lock"]), ok());
        assert_eq!(other.call(&["SET", "{u}lock", "theirs"]), ok());
        assert_eq!(other.call(&["DEL", "{u}lock"]), Value::Integer(1));
        assert_eq!(client.pipeline(&transaction)[3], Value::Null, "it was there in between");
        stop_cleanly(server);
    }
}

#[test]
fn an_order_and_keys_are_one_transaction() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = Resp::connect(server.port());
    for item in ["tea", "mug", "pen"] {
        assert_eq!(client.call(&["ITEM.PUT", item, "250", "GBP"]), ok());
        assert_eq!(client.call(&["STOCK.ADD", item, "10"]), Value::Integer(10));
    }
    let cart = |key, units| {
        [
            "CHECKOUT", "ann", "KEY", key, "LINES", "3", "tea", units, "mug", "1", "pen", "1",
        ]
    };
    let replies = client.pipeline(&[
        &["MULTI"],
        &["INCR", "carts"],
        &cart("k1", "2"),
        &["SET", "newest-of-ann", "k1"],
        &["PUBLISH", "orders", "ann"],
        &["EXEC"],
        &["MGET", "carts", "newest-of-ann"],
    ]);
    let Value::Array(parts) = &replies[5] else {
        panic!("EXEC answers with an array, not {:?}", replies[5])
    };
    assert_eq!((&parts[0], &parts[2], parts.len()), (&Value::Integer(1), &ok(), 4));
    let Value::Array(receipt) = &parts[1] else {
        panic!("a checkout answers with a receipt, not {:?}", parts[1])
    };
    assert_eq!(receipt[..2], [text("id"), receipt[1].clone()]);
    assert_eq!(replies[6], list(&[text("1"), text("k1")]));

    // What the shop refuses does not happen in part, and its units stay.
    let refused = client.pipeline(&[
        &["MULTI"],
        &["INCR", "carts"],
        &cart("k2", "9"),
        &["EXEC"],
        &["GET", "carts"],
    ]);
    assert_eq!(
        refused[3],
        Value::Error("OUTOFSTOCK tea wanted 9, available 8".to_owned())
    );
    assert_eq!(refused[4], text("1"));

    // Two customers, or two carts, are refused while queueing.
    for other in ["bob", "ann"] {
        let mut second = cart("k4", "1");
        second[1] = other;
        let refused = client.pipeline(&[&["MULTI"], &cart("k3", "1"), &second, &["EXEC"]]);
        assert!(matches!(&refused[2], Value::Error(text) if text.starts_with("ERR the shop's commands in one MULTI")));
        assert!(matches!(&refused[3], Value::Error(text) if text.starts_with("EXECABORT")));
    }
    stop_cleanly(server);

    let server = site.start();
    let mut client = Resp::connect(server.port());
    assert_eq!(
        client.call(&["MGET", "carts", "newest-of-ann"]),
        list(&[text("1"), text("k1")])
    );
    let again = client.pipeline(&[&["MULTI"], &cart("k1", "2"), &["EXEC"]]);
    assert_eq!(again[2], list(std::slice::from_ref(&parts[1])));
    stop_cleanly(server);
}
