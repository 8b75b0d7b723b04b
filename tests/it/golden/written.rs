//! What is written down beside a golden directory: how many shards it has, what `verify` says of it, and what a server on
//! it answers.
//!
//! ```text
//! shards 2
//! verify in flight at the end: 1 carts complete, 0 undone
//! verify state hash 0123456789abcdef, 0 violations of the books
//! > STOCK.GET anvil
//! Array([Text("on_hand"), Integer(12)])
//! ```

use std::fmt::Write;

use cartwright_test_support::resp::Resp;

/// Lines of `verify` that tell what a directory holds, by how they begin. The others tell how it is stored.
const TELLING: [&str; 3] = ["in flight at the end: ", "holds: ", "state hash "];

/// See the module's text.
#[derive(Debug, Default)]
pub struct Written {
    /// How many shards wrote it.
    pub shard_count: u16,
    /// What `verify` says.
    pub verified: Vec<String>,
    /// Commands that change nothing a second time, each with its reply.
    pub answers: Vec<(String, String)>,
}

impl Written {
    pub fn parse(text: &str) -> Self {
        let mut written = Self::default();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(count) = line.strip_prefix("shards ") {
                written.shard_count = count.parse().unwrap();
            } else if let Some(said) = line.strip_prefix("verify ") {
                written.verified.push(said.to_owned());
            } else if let Some(command) = line.strip_prefix("> ") {
                let reply = lines.next().expect("a command has a reply");
                written.answers.push((command.to_owned(), reply.to_owned()));
            } else {
                panic!("{line:?} says nothing");
            }
        }
        assert_eq!(written.verified.len(), TELLING.len());
        assert!(!written.answers.is_empty());
        written
    }

    pub fn text(&self) -> String {
        let mut text = format!("shards {}\n", self.shard_count);
        for line in &self.verified {
            writeln!(text, "verify {line}").unwrap();
        }
        for (command, reply) in &self.answers {
            writeln!(text, "> {command}\n{reply}").unwrap();
        }
        text
    }
}

/// The lines of a report of `verify` that tell what a directory holds.
pub fn telling(report: &str) -> Vec<String> {
    let tells = |line: &&str| TELLING.iter().any(|begin| line.starts_with(begin));
    report.lines().filter(tells).map(str::to_owned).collect()
}

/// What a server answers.
pub fn answer(client: &mut Resp, command: &str) -> String {
    let words: Vec<_> = command.split(' ').collect();
    format!("{:?}", client.call(&words))
}
