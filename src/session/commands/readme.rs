//! Holds the README's list of Redis commands to the table.
//!
//! `CARTWRIGHT_UPDATE_README=1 cargo test -p cartwright readme_lists` writes the list anew.

use std::fmt::Write as _;

use super::{Command, Group, all};

const BEGIN: &str = "<!-- the command table: generated, see src/session/commands/readme.rs -->\n";
const END: &str = "<!-- end of the command table -->";

const GROUPS: &[(Group, &str)] = &[
    (Group::Keys, "keys"),
    (Group::Strings, "strings"),
    (Group::Bits, "bits"),
    (Group::Hashes, "hashes"),
    (Group::Transactions, "transactions"),
    (Group::PubSub, "pub/sub"),
    (Group::Connection, "connection"),
    (Group::Server, "server"),
];

fn listed(command: &Command) -> String {
    let name = command.name.to_ascii_uppercase();
    if command.subcommands.is_empty() {
        return format!("`{name}`");
    }
    let subcommands: Vec<_> = command
        .subcommands
        .iter()
        .map(|subcommand| subcommand.name.to_ascii_uppercase())
        .collect();
    format!("`{name}` ({})", subcommands.join(", "))
}

fn table() -> String {
    let mut table = String::from("\n| group | commands |\n| --- | --- |\n");
    for (group, name) in GROUPS {
        let mut rows: Vec<_> = all().filter(|command| command.group == Some(*group)).collect();
        if rows.is_empty() {
            continue;
        }
        rows.sort_unstable_by_key(|command| command.name);
        let commands: Vec<_> = rows.into_iter().map(listed).collect();
        writeln!(table, "| {name} | {} |", commands.join(", ")).expect("appending to a string cannot fail");
    }
    table.push('\n');
    table
}

#[test]
fn the_readme_lists_the_commands_that_there_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("the README is there");
    let (before, rest) = readme
        .split_once(BEGIN)
        .expect("the README has the beginning of the table");
    let (listed, after) = rest.split_once(END).expect("the README has the end of the table");
    if std::env::var_os("CARTWRIGHT_UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).expect("the README can be written");
        return;
    }
    assert_eq!(
        listed,
        table(),
        "the README's command table is behind: run\n  \
         CARTWRIGHT_UPDATE_README=1 cargo test -p cartwright readme_lists"
    );
}
