//! Requests over several shards: all or nothing, in order, durable before they are seen.

use std::collections::BTreeSet;

use cartwright_protocol::{Operation, Slot};
use proptest::prelude::*;

use super::{Client, request, shown, transaction, words};
use crate::engine::books::entries::Answer;
use crate::engine::books::entries::scan::CURSOR_SLOT_SHIFT;
use crate::engine::kernel::cluster_tests::Dice;
use crate::engine::{Ask, EngineLimits, Input, ShardId, recovery};

#[test]
fn a_transaction_sees_its_own_changes_and_fails_command_by_command() {
    for shard_count in [1, 2, 5] {
        let mut client = Client::new(shard_count);
        let commands = [
            "SET a 1",
            "INCR a",
            "SET b x",
            "INCR b",
            "RENAME a c",
            "MGET a b c",
            "DBSIZE",
            "KEYS *c",
        ];
        assert_eq!(
            client.execute(&commands),
            r#"[OK 2 OK -ERR value is not an integer or out of range OK [nil "x" "2"] 2 ["c"]]"#
        );
        assert_eq!(
            client.execute(&["FLUSHALL", "DBSIZE", "SET d 1", "DBSIZE", "KEYS *", "RANDOMKEY"]),
            r#"[OK 0 OK 1 ["d"] "d"]"#
        );
        assert_eq!(client.run("KEYS *"), r#"["d"]"#);
        client.check();
    }
}

#[test]
fn a_watched_key_that_changed_stops_the_transaction() {
    for shard_count in [1, 4] {
        let mut client = Client::new(shard_count);
        client.run("MSET a 1 b 1 gone 1");
        for (between, stops) in [
            ("GET a", false),
            ("SET a 1", true),
            ("SET other 1", false),
            ("HSET fresh f v", true),
            ("DEL gone", true),
            ("EXPIRE b 100", true),
            ("FLUSHALL", true),
        ] {
            client.run("MSET a 1 b 1 gone 1");
            client.run("DEL fresh");
            let watched = client.watch(&["a", "b", "gone", "fresh"]);
            client.run(between);
            let answer = client.call(transaction(&["SET a 2", "SET far 2"], watched));
            assert_eq!(answer == Answer::NilArray, stops, "{between}: {answer:?}");
        }
        client.run("SET a 1 PX 10");
        let watched = client.watch(&["a"]);
        client.cluster.now += 10;
        assert_eq!(
            client.call(transaction(&["SET b 2"], watched)),
            Answer::NilArray,
            "it expired"
        );
        client.run("DEL k");
        let watched = client.watch(&["k"]);
        client.run("SET k 1");
        client.run("DEL k");
        assert_eq!(
            client.call(transaction(&["SET b 2"], watched)),
            Answer::NilArray,
            "it was there in between"
        );
        client.check();
    }
}

#[test]
fn a_read_waits_behind_a_change_of_its_key_that_an_audit_pauses_and_others_do_not() {
    let mut client = Client::new(2);
    let map = client.cluster.map;
    let mut here = (0..)
        .map(|number| format!("key-{number}"))
        .filter(|key| map.shard_of(Slot::of(key.as_bytes())) == ShardId(0));
    let (key, other) = (here.next().unwrap(), here.next().unwrap());
    client.cluster.ask(Ask::Shop(Operation::Audit));
    let mut ask = |command: &str| client.cluster.ask(Ask::Keys(request(&words(command))));
    let change = ask(&format!("SET {key} 1"));
    let (behind, beside) = (ask(&format!("GET {key}")), ask(&format!("GET {other}")));
    client.cluster.sync(0);
    let answer = |client: &Client, sequence: u64| client.cluster.answers.get(&sequence).map(shown);
    assert_eq!(answer(&client, beside), Some("nil".to_owned()));
    assert_eq!((answer(&client, change), answer(&client, behind)), (None, None));
    client.cluster.drain();
    assert_eq!(answer(&client, behind), Some("\"1\"".to_owned()));
    client.check();
}

#[test]
fn a_scan_meets_every_key_that_stays() {
    for shard_count in [1, 3] {
        let mut client = Client::new(shard_count);
        for key in 0..300 {
            client.run(&format!("SET key-{key} 1"));
            client.run(&format!("SET {{tag}}-{key} 1"));
        }
        let (mut met, mut cursor, mut calls) = (BTreeSet::new(), 0u64, 0);
        loop {
            let command = format!("SCAN {cursor} COUNT 7 TYPE string");
            let Answer::Array(parts) = client.call(request(&words(&command))) else {
                panic!("a cursor and names")
            };
            let [Answer::Bulk(next), Answer::Array(names)] = &parts[..] else {
                panic!("a cursor and names")
            };
            for name in names {
                let Answer::Bulk(name) = name else { panic!("a name") };
                met.insert(String::from_utf8(name.to_vec()).unwrap());
            }
            calls += 1;
            client.run(&format!("SET {{tag}}-more-{calls} 1"));
            client.run(&format!("DEL {{tag}}-more-{}", calls - 1));
            cursor = std::str::from_utf8(next).unwrap().parse().unwrap();
            if cursor == 0 {
                break;
            }
        }
        assert!(calls > 20);
        for key in 0..300 {
            assert!(met.contains(&format!("key-{key}")) && met.contains(&format!("{{tag}}-{key}")));
        }
    }
}

#[test]
fn a_scan_in_a_transaction_sees_the_commands_before_it() {
    for shard_count in [1, 2, 5] {
        let mut client = Client::new(shard_count);
        client.run("MSET a 1 b 1 c 1");
        let scan = |key: &str, options: &str| {
            let cursor = (Slot::of(key.as_bytes()).index() as u64) << CURSOR_SLOT_SHIFT;
            format!("SCAN {cursor} COUNT 1 {options}")
        };
        let scans = [
            scan("a", "TYPE hash"),
            scan("d", ""),
            scan("b", "MATCH b"),
            scan("c", "TYPE hash"),
        ];
        let mut commands = vec!["DEL a", "HSET a f v", "SET d 1", "DEL b"];
        commands.extend(scans.iter().map(String::as_str));
        let Answer::Array(answers) = client.call(transaction(&commands, Vec::new())) else {
            panic!("a transaction answers a list")
        };
        let names: Vec<_> = answers[4..].iter().map(shown).collect();
        assert!(names[0].contains("\"a\"") && names[1].contains("\"d\""), "{names:?}");
        assert!(!names[2].contains("\"b\"") && !names[3].contains("\"c\""), "{names:?}");
        client.check();
    }
}

#[test]
fn a_scan_shows_what_was_answered_before_it() {
    let keys: Vec<_> = (0..6).map(|key| format!("key-{key}")).collect();
    let pairs: Vec<_> = keys.iter().map(|key| format!("{key} 1")).collect();
    let set = format!("MSET {}", pairs.join(" "));
    for seed in 0..50 {
        let (mut client, mut dice) = (Client::new(3), Dice::new(seed));
        let answered = client.cluster.ask(Ask::Keys(request(&words(&set))));
        while !client.cluster.answers.contains_key(&answered) {
            client.cluster.happen(&mut dice);
        }
        // The other shards may not have heard yet that all is done.
        let scans = keys.iter().map(|key| {
            let cursor = (Slot::of(key.as_bytes()).index() as u64) << CURSOR_SLOT_SHIFT;
            let scan = format!("SCAN {cursor} COUNT 1");
            (key, client.cluster.ask(Ask::Keys(request(&words(&scan)))))
        });
        let scans: Vec<_> = scans.collect();
        client.cluster.drain();
        for (key, scan) in scans {
            let answer = shown(&client.cluster.answers[&scan]);
            assert!(answer.contains(key.as_str()), "seed {seed}: {answer} lacks {key}");
        }
    }
}

/// A key on this shard, another one for every `index`.
fn key_on(client: &Client, shard: u16, index: usize) -> String {
    let is_there = |key: &String| client.cluster.map.shard_of(Slot::of(key.as_bytes())).0 == shard;
    let mut keys = (0..).map(|number| format!("key-{number}")).filter(is_there);
    keys.nth(index).expect("every shard has keys")
}

fn send(client: &mut Client, command: &str) -> u64 {
    client.cluster.ask(Ask::Keys(request(&words(command))))
}

fn scan_from(key: &str) -> String {
    let cursor = (Slot::of(key.as_bytes()).index() as u64) << CURSOR_SLOT_SHIFT;
    format!("SCAN {cursor} COUNT 1000000")
}

#[test]
fn a_scan_that_waits_delays_nobody() {
    let mut client = Client::new(2);
    let (near, far) = (key_on(&client, 0, 0), key_on(&client, 1, 0));
    let transaction = send(&mut client, &format!("MSET {near} 1 {far} 1"));
    client.cluster.deliver_all();
    for (shard, held) in [(0, &near), (1, &far)] {
        let free = key_on(&client, shard, 1);
        let scan = send(&mut client, &scan_from(held));
        let write = send(&mut client, &format!("SET {free} 2"));
        let read = send(&mut client, &format!("GET {free}"));
        client.cluster.sync(shard.into());
        let answers = &client.cluster.answers;
        assert!(!answers.contains_key(&scan), "the transaction has a key");
        assert!(answers.contains_key(&write) && answers.contains_key(&read));
    }
    assert!(!client.cluster.answers.contains_key(&transaction));
    client.check();
}

#[test]
fn a_scan_shows_what_a_transaction_had_when_it_came_and_waits_for_no_later_one() {
    let mut client = Client::new(3);
    let (held, home) = (key_on(&client, 0, 0), key_on(&client, 1, 0));
    let transaction = send(&mut client, &format!("MSET {home} 1 {held} 1"));
    client.cluster.deliver_all();
    client.cluster.sync(0);
    client.cluster.sync(1);
    client.cluster.tell_safe(1);
    client.cluster.sync(1);
    assert!(client.cluster.answers.contains_key(&transaction));
    // Its other shard has yet to hear.
    let scan = send(&mut client, &scan_from(&held));
    let (later, later_home) = (key_on(&client, 0, 1), key_on(&client, 2, 0));
    let last = send(&mut client, &format!("MSET {later_home} 1 {later} 1"));
    client.cluster.deliver((2, 0));
    client.cluster.sync(0);
    assert!(!client.cluster.answers.contains_key(&scan));
    client.cluster.deliver((1, 0));
    client.cluster.sync(0);
    assert!(!client.cluster.answers.contains_key(&last), "it has a key");
    let answer = shown(&client.cluster.answers[&scan]);
    assert!(answer.contains(&held) && !answer.contains(&later), "{answer}");
    client.check();
}

#[test]
fn a_transaction_that_scans_one_shard_leaves_the_others_to_the_rest() {
    let mut client = Client::new(3);
    let keys: Vec<_> = (0..3).map(|shard| key_on(&client, shard, 0)).collect();
    let sets: Vec<_> = keys.iter().map(|key| format!("SET {key} 1")).collect();
    let scan = scan_from(&keys[1]);
    let commands = [&sets[0], &sets[1], &sets[2], &scan].map(String::as_str);
    let held = client.cluster.ask(Ask::Keys(transaction(&commands, Vec::new())));
    client.cluster.deliver_all();
    for (shard, is_answered) in [(0, true), (1, false), (2, true)] {
        let free = key_on(&client, shard, 1);
        let write = send(&mut client, &format!("SET {free} 2"));
        client.cluster.sync(shard.into());
        assert_eq!(
            client.cluster.answers.contains_key(&write),
            is_answered,
            "shard {shard}"
        );
    }
    assert!(!client.cluster.answers.contains_key(&held));
    client.check();
}

#[test]
fn expired_keys_are_removed_though_nobody_asks() {
    let mut client = Client::new(3);
    for key in 0..1000 {
        client.run(&format!("SET key-{key} 1 PX {}", 10 + key % 7));
    }
    client.run("SET stays 1");
    for _ in 0..10 {
        client.wait(10);
    }
    let entries: u64 = client
        .cluster
        .shards
        .iter()
        .map(|shard| shard.counts().books.entries.entries)
        .sum();
    assert_eq!(entries, 1);
    client.check();
}

#[test]
fn keys_go_to_another_number_of_shards() {
    let mut client = Client::new(3);
    for key in 0..50 {
        client.run(&format!("SET key-{key} {key} EX 100"));
        client.run(&format!("HSET hash-{key} f {key}"));
    }
    let (hash, now) = (client.cluster.state_hash(), client.cluster.now);
    let shards = recovery::repartition(client.cluster.replayed(), 5, EngineLimits::default());
    let moved: u64 = shards
        .iter()
        .map(crate::engine::Shard::state_hash)
        .fold(0, u64::wrapping_add);
    assert_eq!(moved, hash);
    assert_eq!(
        shards
            .iter()
            .map(|shard| shard.counts().books.entries.entries)
            .sum::<u64>(),
        100
    );
    assert!(
        shards
            .iter()
            .any(|shard| shard.next_timer().is_some_and(|at| at.unix_ms() <= now + 100_000))
    );
}

#[test]
fn a_full_log_refuses_changes_and_answers_reads() {
    for shard_count in [1, 2] {
        let mut client = Client::new(shard_count);
        client.run("MSET a 1 b 1 c 1 d 1");
        for shard in 0..usize::from(shard_count) {
            client.cluster.input(
                shard,
                Input::LogSpace {
                    bytes: 0,
                    piece_bytes: 0,
                    blocked: Some("the disk is full"),
                },
            );
        }
        for command in ["SET a 2", "MSET a 2 b 2 c 2 d 2", "DEL a", "FLUSHALL"] {
            assert_eq!(
                client.run(command),
                "-READONLY writes are refused: the disk is full",
                "{command}"
            );
        }
        assert_eq!(client.run("MGET a b c d"), r#"["1" "1" "1" "1"]"#);
        assert_eq!(client.run("GET a"), "\"1\"");
    }
}

fn random_command(dice: &mut Dice, keys: usize) -> String {
    let key = |dice: &mut Dice| format!("key-{}", dice.roll(keys));
    let (one, other) = (key(dice), key(dice));
    let number = dice.roll(20);
    match dice.roll(18) {
        0 => format!("GET {one}"),
        1 => format!("SET {one} value-{number}"),
        2 => format!("SET {one} {number} PX {}", 1 + dice.roll(300)),
        3 => format!("INCRBY {one} {number}"),
        4 => format!("APPEND {one} {number}"),
        5 => format!("HSET {one} field-{number} {number} field-{} x", dice.roll(20)),
        6 => format!("HDEL {one} field-{number} field-{}", dice.roll(20)),
        7 => format!("HINCRBY {one} field-{number} 3"),
        8 => format!("MSET {one} {number} {other} {number} {} x", key(dice)),
        9 => format!("MGET {one} {other} {}", key(dice)),
        10 => format!("DEL {one} {other}"),
        11 => format!("RENAME {one} {other}"),
        12 => format!("COPY {one} {other} REPLACE"),
        13 => format!("EXPIRE {one} {}", dice.roll(3)),
        14 => format!("SETBIT {one} {} 1", dice.roll(400)),
        15 => format!("HGET {one} field-{number}"),
        16 => format!("MSETNX {one} {number} {other} {number}"),
        _ => match dice.roll(12) {
            0 => "FLUSHALL".to_owned(),
            1 => "DBSIZE".to_owned(),
            _ => format!("PERSIST {one}"),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_same_commands_give_the_same_answers_on_any_number_of_shards(seed: u64, shard_count in 2u16..7, keys in 1usize..12) {
        let mut dice = Dice::new(seed);
        let (mut one, mut many) = (Client::new(1), Client::new(shard_count));
        for _ in 0..120 {
            let command = if dice.roll(6) == 0 {
                let commands: Vec<_> = (0..=dice.roll(4)).map(|_| random_command(&mut dice, keys)).collect();
                let commands: Vec<_> = commands.iter().map(String::as_str).collect();
                prop_assert_eq!(one.execute(&commands), many.execute(&commands), "{:?}", commands);
                continue;
            } else {
                random_command(&mut dice, keys)
            };
            prop_assert_eq!(one.run(&command), many.run(&command), "{}", command);
            if dice.roll(8) == 0 {
                let ms = dice.roll(200) as u64;
                one.wait(ms);
                many.wait(ms);
            }
        }
        // What has expired may still be there on one and not on the other.
        one.wait(10_000);
        many.wait(10_000);
        prop_assert_eq!(one.cluster.state_hash(), many.cluster.state_hash());
        one.check();
        many.check();
    }

    #[test]
    fn whatever_the_order_of_events_all_are_answered_and_replay_agrees(seed: u64, shard_count in 1u16..6, keys in 1usize..9) {
        let mut dice = Dice::new(seed);
        let mut client = Client::new(shard_count);
        let mut asked = Vec::new();
        for round in 0..4 {
            for _ in 0..40 {
                let request = if dice.roll(4) == 0 {
                    let commands: Vec<_> = (0..=dice.roll(4)).map(|_| random_command(&mut dice, keys)).collect();
                    transaction(&commands.iter().map(String::as_str).collect::<Vec<_>>(), Vec::new())
                } else {
                    request(&words(&random_command(&mut dice, keys)))
                };
                asked.push(client.cluster.ask(Ask::Keys(request)));
                for _ in 0..dice.roll(12) {
                    client.cluster.happen(&mut dice);
                }
            }
            if round % 2 == 1 {
                client.check();
                for sequence in asked.drain(..) {
                    prop_assert!(client.cluster.answers.contains_key(&sequence), "every request is answered");
                }
            } else {
                if dice.roll(2) == 0 {
                    client.cluster.checkpoint_all();
                }
                client.cluster.crash(&mut dice);
                client.check();
                asked.clear();
            }
        }
    }

    /// Money moves between accounts on all shards; whoever looks sees all of it, crashes or not, and what was told to
    /// have moved has.
    #[test]
    fn transfers_over_shards_are_never_seen_by_half(seed: u64, shard_count in 2u16..6) {
        const ACCOUNTS: usize = 6;
        let mut dice = Dice::new(seed);
        let mut client = Client::new(shard_count);
        let all: Vec<_> = (0..ACCOUNTS).map(|account| format!("account-{account}")).collect();
        let opening: Vec<_> = all.iter().map(|account| format!("{account} 100")).collect();
        client.run(&format!("MSET {}", opening.join(" ")));
        let look = format!("MGET {}", all.join(" "));
        let total = |answer: &Answer| {
            let Answer::Array(values) = answer else { panic!("{answer:?}") };
            let value = |value: &Answer| match value {
                Answer::Bulk(value) => std::str::from_utf8(value).unwrap().parse::<i64>().unwrap(),
                other => panic!("{other:?}"),
            };
            values.iter().map(value).sum::<i64>()
        };
        for _ in 0..3 {
            let (mut looks, mut logged) = (Vec::new(), Vec::new());
            for transfer in 0..40 {
                let (from, to) = (dice.roll(ACCOUNTS), dice.roll(ACCOUNTS));
                let note = format!("SET note-{transfer} {seed}");
                let (from, to) = (format!("DECR {}", all[from]), format!("INCR {}", all[to]));
                let sequence = client.cluster.ask(Ask::Keys(transaction(&[&from, &to, &note], Vec::new())));
                logged.push((transfer, sequence));
                looks.push(client.cluster.ask(Ask::Keys(request(&words(&look)))));
                for _ in 0..dice.roll(20) {
                    client.cluster.happen(&mut dice);
                }
            }
            client.cluster.crash(&mut dice);
            for sequence in looks {
                if let Some(answer) = client.cluster.answers.get(&sequence) {
                    prop_assert_eq!(total(answer), 100 * ACCOUNTS as i64);
                }
            }
            let now = client.call(request(&words(&look)));
            prop_assert_eq!(total(&now), 100 * ACCOUNTS as i64);
            for (transfer, sequence) in logged {
                if client.cluster.answers.contains_key(&sequence) {
                    prop_assert_eq!(client.run(&format!("EXISTS note-{transfer}")), "1", "it was acknowledged");
                }
            }
            client.check();
        }
    }
}
