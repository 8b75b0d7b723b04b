//! The README says what the programs do: its flags are theirs, and every command in it is one.

use std::collections::BTreeSet;
use std::process::Command;

use cartwright_test_support::resp::{Resp, Value};
use cartwright_test_support::{Site, binary, stop_cleanly};
use cartwright_tools::demo::DemoOptions;
use cartwright_tools::replay::ReplayArguments;

const README: &str = include_str!("../../README.md");

/// The first cells of the table whose section or paragraph begins with `after`.
fn first_cells(after: &str) -> Vec<&'static str> {
    let (_, rest) = README
        .split_once(after)
        .unwrap_or_else(|| panic!("the README has no {after:?}"));
    rest.lines()
        .skip_while(|line| !line.starts_with("| --- "))
        .skip(1)
        .take_while(|line| line.starts_with("| "))
        .map(|line| {
            line.split('`')
                .nth(1)
                .unwrap_or_else(|| panic!("{line:?} begins with no code"))
        })
        .collect()
}

fn flags_in_readme(after: &str) -> BTreeSet<String> {
    let name = |cell: &str| cell.split(' ').next().unwrap_or_default().to_owned();
    first_cells(after).into_iter().map(name).collect()
}

/// Flags as `--help` lists them, but `--help` itself.
fn flags_in_help(help: &str) -> BTreeSet<String> {
    let is_name = |character: char| character == '-' || character.is_ascii_lowercase();
    help.lines()
        .filter_map(|line| line.trim_start().strip_prefix("-h, ").or(Some(line.trim_start())))
        .filter(|line| line.starts_with("--"))
        .map(|line| line.chars().take_while(|&character| is_name(character)).collect())
        .filter(|flag| flag != "--help")
        .collect()
}

fn server_help(command: &str) -> String {
    let output = Command::new(binary()).args([command, "--help"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn flags_of<Arguments: clap::Args>() -> BTreeSet<String> {
    Arguments::augment_args(clap::Command::new("cart"))
        .get_arguments()
        .filter_map(|flag| Some(format!("--{}", flag.get_long()?)))
        .collect()
}

#[test]
fn the_flags_in_the_readme_are_those_of_the_programs() {
    let flags = flags_in_help(&server_help("serve"));
    assert!(flags.len() > 3, "serve has flags: {flags:?}");
    assert_eq!(flags_in_readme("`cartwright serve`;"), flags, "cartwright serve");
    assert_eq!(
        flags_in_readme("## Replaying a real shop"),
        flags_of::<ReplayArguments>(),
        "cart replay"
    );
    assert_eq!(
        flags_in_readme("`cart demo`, which"),
        flags_of::<DemoOptions>(),
        "cart demo"
    );
}

#[test]
fn the_defaults_in_the_readme_are_those_of_the_server() {
    let help = server_help("serve").split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, default) in [
        ("--data", "cartwright-data"),
        ("--port", "6379"),
        ("--bind", "127.0.0.1"),
        ("--max-connections", "10000"),
        ("--segment-mb", "64"),
    ] {
        let (_, of_flag) = help.split_once(&format!("{flag} <")).unwrap();
        let (_, after) = of_flag.split_once("[default: ").unwrap();
        assert_eq!(after.split(']').next(), Some(default), "{flag}");
        let row = README
            .lines()
            .find(|line| line.starts_with(&format!("| `{flag} ")))
            .unwrap();
        assert!(
            row.replace(',', "").contains(&format!("{default}` unless told"))
                || row.replace(',', "").contains(&format!("{default} unless told")),
            "{row}"
        );
    }
}

#[test]
fn every_command_in_the_readme_is_one() {
    let commands = first_cells("## Commands");
    let site = Site::new(1);
    let server = site.start();
    let mut resp = Resp::connect(server.port());
    for line in commands {
        let name = line.split(' ').next().unwrap();
        let Value::Array(found) = resp.call(&["COMMAND", "INFO", name]) else {
            panic!("COMMAND INFO {name} is no list")
        };
        assert!(matches!(found.as_slice(), [Value::Array(_)]), "{name}: {found:?}");
    }
    stop_cleanly(server);
}
