//! Properties of the keyspace over several shards, and its commands one by one.

mod commands;
mod shards;

use super::commands::{bitfield, bits, expiry, hashes, keys, lcs, objects, strings};
use super::{Answer, KeyCommand, KeyPlaces, KeyRequest, OwnedArguments, Watched};
use crate::engine::kernel::cluster_tests::Cluster;
use crate::engine::{Ask, Input, LogPosition};

/// A command with its first key, last key and step, as the command table has them.
type Row = (&'static KeyCommand, i16, i16, i16);

/// Every command that tests send.
static ROWS: &[Row] = &[
    (&strings::GET, 1, 1, 1),
    (&strings::SET, 1, 1, 1),
    (&strings::SETNX, 1, 1, 1),
    (&strings::SETEX, 1, 1, 1),
    (&strings::PSETEX, 1, 1, 1),
    (&strings::GETSET, 1, 1, 1),
    (&strings::GETDEL, 1, 1, 1),
    (&strings::GETEX, 1, 1, 1),
    (&strings::APPEND, 1, 1, 1),
    (&strings::STRLEN, 1, 1, 1),
    (&strings::INCR, 1, 1, 1),
    (&strings::DECR, 1, 1, 1),
    (&strings::INCRBY, 1, 1, 1),
    (&strings::DECRBY, 1, 1, 1),
    (&strings::INCRBYFLOAT, 1, 1, 1),
    (&strings::GETRANGE, 1, 1, 1),
    (&strings::SETRANGE, 1, 1, 1),
    (&strings::MGET, 1, -1, 1),
    (&strings::MSET, 1, -1, 2),
    (&strings::MSETNX, 1, -1, 2),
    (&bits::GETBIT, 1, 1, 1),
    (&bits::SETBIT, 1, 1, 1),
    (&bits::BITCOUNT, 1, 1, 1),
    (&bits::BITPOS, 1, 1, 1),
    (&bits::BITOP, 2, -1, 1),
    (&bitfield::BITFIELD, 1, 1, 1),
    (&bitfield::BITFIELD_RO, 1, 1, 1),
    (&lcs::LCS, 1, 2, 1),
    (&keys::DEL, 1, -1, 1),
    (&keys::EXISTS, 1, -1, 1),
    (&keys::TYPE, 1, 1, 1),
    (&keys::RENAME, 1, 2, 1),
    (&keys::RENAMENX, 1, 2, 1),
    (&keys::COPY, 1, 2, 1),
    (&keys::KEYS, 0, 0, 0),
    (&keys::SCAN, 0, 0, 0),
    (&keys::RANDOMKEY, 0, 0, 0),
    (&keys::DBSIZE, 0, 0, 0),
    (&keys::FLUSHALL, 0, 0, 0),
    (&expiry::EXPIRE, 1, 1, 1),
    (&expiry::PEXPIRE, 1, 1, 1),
    (&expiry::EXPIREAT, 1, 1, 1),
    (&expiry::PEXPIREAT, 1, 1, 1),
    (&expiry::TTL, 1, 1, 1),
    (&expiry::PTTL, 1, 1, 1),
    (&expiry::EXPIRETIME, 1, 1, 1),
    (&expiry::PEXPIRETIME, 1, 1, 1),
    (&expiry::PERSIST, 1, 1, 1),
    (&objects::DUMP, 1, 1, 1),
    (&objects::RESTORE, 1, 1, 1),
    (&hashes::HSET, 1, 1, 1),
    (&hashes::HMSET, 1, 1, 1),
    (&hashes::HSETNX, 1, 1, 1),
    (&hashes::HGET, 1, 1, 1),
    (&hashes::HMGET, 1, 1, 1),
    (&hashes::HGETALL, 1, 1, 1),
    (&hashes::HKEYS, 1, 1, 1),
    (&hashes::HVALS, 1, 1, 1),
    (&hashes::HLEN, 1, 1, 1),
    (&hashes::HEXISTS, 1, 1, 1),
    (&hashes::HSTRLEN, 1, 1, 1),
    (&hashes::HDEL, 1, 1, 1),
    (&hashes::HINCRBY, 1, 1, 1),
    (&hashes::HINCRBYFLOAT, 1, 1, 1),
    (&hashes::HRANDFIELD, 1, 1, 1),
    (&hashes::HSCAN, 1, 1, 1),
    (&super::commands::WATCH, 1, -1, 1),
    (&objects::OBJECT_ENCODING, 2, 2, 1),
    (&objects::MEMORY_USAGE, 2, 2, 1),
];

/// The words as a client would send them; a container and its subcommand are found by both.
fn invocation(words: &[&[u8]]) -> super::Invocation {
    let name = |count: usize| {
        let words = words
            .iter()
            .take(count)
            .map(|word| String::from_utf8_lossy(word).to_lowercase());
        words.collect::<Vec<_>>().join("|")
    };
    let row = ROWS
        .iter()
        .find(|(command, ..)| command.name == name(1) || command.name == name(2));
    let &(command, first, last, step) = row.unwrap_or_else(|| panic!("no command {}", name(1)));
    super::Invocation {
        command,
        arguments: OwnedArguments::of(words),
        keys: KeyPlaces::of_row(first, last, step, words.len()),
    }
}

fn request(words: &[&[u8]]) -> Box<KeyRequest> {
    let invocation = invocation(words);
    KeyRequest::command(invocation.command, invocation.arguments.get(), invocation.keys)
}

fn transaction(commands: &[&str], watched: Vec<Watched>) -> Box<KeyRequest> {
    let invocations = commands.iter().map(|command| invocation(&words(command)));
    KeyRequest::transaction(invocations.collect::<Vec<_>>(), watched)
}

fn words(command: &str) -> Vec<&[u8]> {
    command
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::as_bytes)
        .collect()
}

/// An answer as `redis-cli` would print it, more or less.
fn shown(answer: &Answer) -> String {
    let list = |answers: &[Answer]| answers.iter().map(shown).collect::<Vec<_>>().join(" ");
    let pairs = |pairs: &[(Answer, Answer)]| {
        let pairs = pairs
            .iter()
            .map(|(field, value)| format!("{} {}", shown(field), shown(value)));
        pairs.collect::<Vec<_>>().join(" ")
    };
    match answer {
        Answer::Ok => "OK".to_owned(),
        Answer::Simple(text) => format!("+{text}"),
        Answer::Error(text) => format!("-{text}"),
        Answer::Integer(integer) => integer.to_string(),
        Answer::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Answer::Nil => "nil".to_owned(),
        Answer::NilArray => "nil-array".to_owned(),
        Answer::Array(answers) => format!("[{}]", list(answers)),
        Answer::Set(answers) => format!("{{{}}}", list(answers)),
        Answer::Map(map) => format!("{{{}}}", pairs(map)),
        Answer::Pairs(list) => format!("[{}]", pairs(list)),
        Answer::Double(number) => number.to_string(),
    }
}

/// A cluster that is asked one thing after the other.
struct Client {
    cluster: Cluster,
}

impl Client {
    fn new(shard_count: u16) -> Self {
        Self {
            cluster: Cluster::new(shard_count),
        }
    }

    fn call(&mut self, request: Box<KeyRequest>) -> Answer {
        let sequence = self.cluster.ask(Ask::Keys(request));
        self.cluster.drain();
        self.cluster.answers[&sequence].clone()
    }

    fn run(&mut self, command: &str) -> String {
        shown(&self.call(request(&words(command))))
    }

    fn execute(&mut self, commands: &[&str]) -> String {
        shown(&self.call(transaction(commands, Vec::new())))
    }

    fn watch(&mut self, keys: &[&str]) -> Vec<Watched> {
        let command = format!("WATCH {}", keys.join(" "));
        let Answer::Array(versions) = self.call(request(&words(&command))) else {
            panic!("WATCH gives a version a key")
        };
        let watched = keys.iter().zip(&versions).map(|(key, version)| match version {
            Answer::Integer(version) => Watched {
                key: key.as_bytes().into(),
                version: LogPosition(*version as u64),
            },
            other => panic!("{other:?} is no version"),
        });
        watched.collect()
    }

    /// Time passes, and every shard may act on it.
    fn wait(&mut self, ms: u64) {
        self.cluster.now += ms;
        for shard in 0..self.cluster.shards.len() {
            self.cluster.input(shard, Input::Tick);
        }
        self.cluster.drain();
    }

    /// Replaying the logs gives the same state.
    fn check(&mut self) {
        self.cluster.check_books();
    }
}

/// Runs `script`: lines of a command, ` => `, and what it answers; on one shard and on several.
fn script(script: &str) {
    for shard_count in [1, 4] {
        let mut client = Client::new(shard_count);
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (command, wanted) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
            if let Some(ms) = command.strip_prefix("wait ") {
                client.wait(ms.parse().unwrap());
                continue;
            }
            assert_eq!(client.run(command), wanted, "{command} ({shard_count} shards)");
        }
        client.check();
    }
}
