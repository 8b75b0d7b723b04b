//! What commands of the keyspace cost in the engine alone, request to answer.
//!
//! `cargo bench --bench keyspace`. No network, no file: the log is a buffer that is thrown away. Each request is made
//! as a session makes it, its copy of the arguments included.

mod support;

use std::hint::black_box;

use cartwright::engine::entries::commands::{hashes, strings};
use cartwright::engine::entries::{CommandSpec, KeyPlaces, OwnedArguments};
use cartwright::engine::{
    EngineLimits, Input, KeyRequest, Output, ReplyTo, Shard, ShardId, ShardMap, Timestamp, recovery,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::ForgetfulLog;

/// Keys that are there, and that are drawn from.
const KEYS: u64 = 100_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Server {
    shard: Shard,
    log: ForgetfulLog,
    output: Output,
    drawn: u64,
}

impl Server {
    fn new() -> Self {
        let map = ShardMap::new(1);
        let mut shards = [Shard::new(ShardId(0), map, EngineLimits::default())];
        let mut logs = [ForgetfulLog::default()];
        recovery::start(&mut shards, 1, &mut logs);
        let ([shard], [log]) = (shards, logs);
        let mut server = Self {
            shard,
            log,
            output: Output::default(),
            drawn: 0,
        };
        for number in 0..KEYS {
            server.call(&strings::SET, &[b"SET", &key(number), b"value"]);
            server.call(
                &hashes::HSET,
                &[b"HSET", &[b"h", &key(number)[..]].concat(), b"field", b"value"],
            );
        }
        server
    }

    fn key(&mut self) -> Vec<u8> {
        self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        key((self.drawn >> 33) % KEYS)
    }

    fn call(&mut self, command: &'static CommandSpec, words: &[&[u8]]) {
        let arguments = OwnedArguments::of(words);
        let places = KeyPlaces::of_row(1, 1, 1, words.len());
        let request = KeyRequest::command(command, arguments.get(), places);
        let reply_to = ReplyTo {
            shard: ShardId(0),
            connection: 0,
            generation: 0,
            sequence: 0,
        };
        let space = Input::LogSpace {
            bytes: u64::MAX,
            piece_bytes: u64::MAX,
            blocked: None,
        };
        let (shard, log, output) = (&mut self.shard, &mut self.log, &mut self.output);
        shard.step(Timestamp(1), space, log, output);
        shard.step(Timestamp(1), Input::Keys(reply_to, request), log, output);
        for (_, response, _) in output.replies.drain(..) {
            black_box(response);
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keyspace");
    group.throughput(Throughput::Elements(1));
    let mut server = Server::new();
    group.bench_function("GET", |bencher| {
        bencher.iter(|| {
            let key = server.key();
            server.call(&strings::GET, &[b"GET", &key]);
        });
    });
    group.bench_function("SET", |bencher| {
        bencher.iter(|| {
            let key = server.key();
            server.call(&strings::SET, &[b"SET", &key, b"xxx"]);
        });
    });
    group.bench_function("INCR", |bencher| {
        bencher.iter(|| {
            let key = [b"n", &server.key()[..]].concat();
            server.call(&strings::INCR, &[b"INCR", &key]);
        });
    });
    group.bench_function("HSET", |bencher| {
        bencher.iter(|| {
            let key = [b"h", &server.key()[..]].concat();
            server.call(&hashes::HSET, &[b"HSET", &key, b"field", b"xxx"]);
        });
    });
    group.finish();
}

criterion_group!(benches, commands);
criterion_main!(benches);
