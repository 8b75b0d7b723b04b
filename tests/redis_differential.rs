//! The same commands to a real Redis and to this server: every reply is the same.
//!
//! Needs `redis-server` in PATH (Debian: `apt install redis-server`). Where there is none the test fails, unless
//! `CARTWRIGHT_SKIP_REDIS` is set.

mod redis;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cartwright_tools::bench::redis_process::{RedisProcess, find};
use cartwright_tools::server_process::SyncMode;
use redis::compare::same;
use redis::differences::{DIFFERENCES, is_listed};
use redis::draw::Draw;
use redis::wire::{Reply, Shown, Wire, Words};
use support::{Site, start, stop_cleanly};

/// Commands that are sent before any reply is read.
const CHUNK: usize = 100;

/// Chunks for each protocol and number of shards: four times this many are over 200,000 commands.
const CHUNK_COUNT: usize = 550;

/// Chunks until the keyspace is emptied.
const CHUNKS_A_LIFE: usize = 20;

/// Variable that leaves the comparison out.
const SKIP_VARIABLE: &str = "CARTWRIGHT_SKIP_REDIS";

/// Differences shown for each command.
const SHOWN_MAX: usize = 3;

/// The first reply of a chunk that differs and is not listed: the command, ours, theirs.
fn first_difference(commands: &[Words], ours: &[Reply], theirs: &[Reply]) -> Option<(Words, Reply, Reply)> {
    let mut queued: Vec<&Words> = Vec::new();
    let differs = |words: &Words, ours: &Reply, theirs: &Reply| {
        (!same(words, ours, theirs) && !is_listed(words, ours, theirs))
            .then(|| (words.clone(), ours.clone(), theirs.clone()))
    };
    for (index, words) in commands.iter().enumerate() {
        let (ours, theirs) = (&ours[index], &theirs[index]);
        let of_queue = std::mem::take(&mut queued);
        let found = match (ours, theirs) {
            (Reply::List(b'*', ours), Reply::List(b'*', theirs))
                if words[0].eq_ignore_ascii_case(b"exec") && ours.len() == theirs.len() =>
            {
                (0..ours.len()).find_map(|at| differs(of_queue[at], &ours[at], &theirs[at]))
            }
            _ => differs(words, ours, theirs),
        };
        if found.is_some() {
            return found;
        }
        match theirs {
            Reply::Line(b'+', status) if status == b"QUEUED" => {
                queued = of_queue;
                queued.push(words);
            }
            // A command that is refused while queueing leaves the queue, for which EXEC then answers.
            Reply::Line(b'-', _) if !words[0].eq_ignore_ascii_case(b"exec") => queued = of_queue,
            _ => (),
        }
    }
    None
}

/// Compares a seed's commands on fresh servers; the differences, with the seed's chunk, by command.
fn compare(shard_count: u16, version: u8, seed: u64) -> BTreeMap<String, Vec<String>> {
    let binary = find(&["redis-server"]).unwrap_or_else(|error| {
        panic!("{error}; or set {SKIP_VARIABLE}=1 to leave out the comparison with Redis");
    });
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let redis = RedisProcess::start(&binary, directory.path(), SyncMode::No).unwrap_or_else(|error| panic!("{error}"));
    let site = Site::new(shard_count);
    let mut options = site.options();
    options.sync = SyncMode::No;
    let server = start(&options);
    let connect = || {
        (
            Wire::connect(server.port(), version),
            Wire::connect(redis.address().port, version),
        )
    };
    let (mut ours, mut theirs) = connect();
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let mut draw = Draw::new(seed);
    for chunk in 0..CHUNK_COUNT {
        let commands = draw.commands(CHUNK);
        let replies = (ours.pipeline(&commands), theirs.pipeline(&commands));
        let difference = first_difference(&commands, &replies.0, &replies.1);
        let goes_on = difference.is_none();
        if let Some((words, ours, theirs)) = difference {
            let name = words[0].to_ascii_uppercase().escape_ascii().to_string();
            found.entry(name).or_default().push(format!(
                "{:?}\n      cartwright: {ours:?}\n      redis:      {theirs:?}",
                Shown(&words)
            ));
        }
        // Behind a difference the states differ, and all that follows would.
        if !goes_on || chunk % CHUNKS_A_LIFE == CHUNKS_A_LIFE - 1 {
            (ours, theirs) = connect();
            let flush = [vec![b"FLUSHALL".to_vec()]];
            assert_eq!(ours.pipeline(&flush), theirs.pipeline(&flush));
        }
    }
    drop((ours, theirs));
    stop_cleanly(server);
    found
}

fn every_reply_is_that_of_redis(shard_count: u16, version: u8) {
    if std::env::var_os(SKIP_VARIABLE).is_some() {
        eprintln!("{SKIP_VARIABLE} is set: nothing is compared");
        return;
    }
    let seed = u64::from(shard_count) * 10 + u64::from(version);
    let found = compare(shard_count, version, seed);
    let mut report = String::new();
    for (name, cases) in &found {
        writeln!(report, "  {name}: {} times", cases.len()).expect("appending to a string cannot fail");
        for case in cases.iter().take(SHOWN_MAX) {
            writeln!(report, "    {case}").expect("appending to a string cannot fail");
        }
    }
    assert!(
        found.is_empty(),
        "replies differ from those of Redis (seed {seed}); mend them, or list them in tests/redis/differences.rs:\n{report}"
    );
}

#[test]
#[ignore = "finds differences that are neither mended nor listed yet"]
fn every_reply_is_that_of_redis_on_one_shard_in_resp2() {
    every_reply_is_that_of_redis(1, 2);
}

#[test]
#[ignore = "finds differences that are neither mended nor listed yet"]
fn every_reply_is_that_of_redis_on_one_shard_in_resp3() {
    every_reply_is_that_of_redis(1, 3);
}

#[test]
#[ignore = "finds differences that are neither mended nor listed yet"]
fn every_reply_is_that_of_redis_on_two_shards_in_resp2() {
    every_reply_is_that_of_redis(2, 2);
}

#[test]
#[ignore = "finds differences that are neither mended nor listed yet"]
fn every_reply_is_that_of_redis_on_two_shards_in_resp3() {
    every_reply_is_that_of_redis(2, 3);
}

#[test]
fn the_readme_shows_what_differs_from_redis() {
    let readme = include_str!("../README.md");
    for difference in DIFFERENCES {
        let row = format!("| {} | {} |", difference.commands, difference.reason);
        assert!(readme.contains(&row), "the README lacks the row\n{row}");
    }
}
