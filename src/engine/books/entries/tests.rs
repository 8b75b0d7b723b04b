//! Properties of the keyspace over several shards, and its commands one by one.

mod commands;
mod shards;
mod together;

use super::commands::{LISTS, objects};
use super::{Answer, CommandSpec, KeyRequest, OwnedArguments, Watched};
use crate::engine::kernel::cluster_tests::Cluster;
use crate::engine::{Ask, Input};

/// What tests send beside the commands that are in the lists.
static OTHERS: [&CommandSpec; 3] = [
    &super::commands::WATCH,
    &objects::OBJECT_ENCODING,
    &objects::MEMORY_USAGE,
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
    let all = LISTS.iter().copied().flatten().chain(&OTHERS);
    let command = all
        .copied()
        .find(|command| command.name == name(1) || command.name == name(2))
        .unwrap_or_else(|| panic!("no command {}", name(1)));
    let arguments = OwnedArguments::of(words);
    let keys = command.keys.of(arguments.get());
    super::Invocation {
        command,
        keys: keys.expect("the tests count keys right"),
        arguments,
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
        Answer::Versions(versions) => format!("{versions:?}"),
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
        let Answer::Versions(versions) = self.call(request(&words(&command))) else {
            panic!("WATCH gives a version a key")
        };
        let watched = keys.iter().zip(&versions).map(|(key, &version)| Watched {
            key: key.as_bytes().into(),
            version,
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
