//! Debian's `redis-tools`: `redis-cli` in its various modes, and `redis-benchmark`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use cartwright_tools::server_process::{ServerProcess, SyncMode};

use crate::are_left_out;
use crate::environment::command;
use cartwright_test_support::resp::{Resp, Value};
use cartwright_test_support::{Site, start, stop_cleanly};

/// The Debian package.
const PACKAGE: &str = "redis-tools";

const PASSWORD: &str = "correct horse";

fn redis_cli(server: &ServerProcess) -> Command {
    let mut cli = command("redis-cli", PACKAGE);
    cli.args(["-p", &server.port().to_string()]);
    cli
}

/// Runs `redis-cli` with these arguments and this input.
fn run(server: &ServerProcess, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = redis_cli(server)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run");
    // It may end without reading all of it.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("a child can be waited for")
}

/// What it says, which must be text and without fault.
fn say(server: &ServerProcess, arguments: &[&str]) -> String {
    say_with(server, arguments, b"")
}

fn say_with(server: &ServerProcess, arguments: &[&str], input: &[u8]) -> String {
    let output = run(server, arguments, input);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout)
        .expect("it is text")
        .trim_end()
        .to_owned()
}

#[test]
fn redis_cli_says_commands() {
    if are_left_out() {
        return;
    }
    let site = Site::new(2);
    let server = site.start();
    assert_eq!(say(&server, &["SET", "a", "1"]), "OK");
    assert_eq!(say(&server, &["-r", "3", "-i", "0.01", "INCR", "a"]), "2\n3\n4");
    assert_eq!(
        say_with(&server, &[], b"HSET h f v\nMULTI\nINCR a\nHGET h f\nEXEC\n"),
        "1\nOK\nQUEUED\nQUEUED\n5\nv"
    );
    assert_eq!(say(&server, &["--json", "-3", "HGETALL", "h"]), r#"{"f":"v"}"#);
    assert_eq!(say(&server, &["--no-raw", "-3", "HGETALL", "h"]), r#"1# "f" => "v""#);
    assert_eq!(say(&server, &["--csv", "MGET", "a", "nothing"]), r#""5",NULL"#);
    assert_eq!(say_with(&server, &["-x", "SET", "bytes"], b"\0\xff\r\n"), "OK");
    assert_eq!(say(&server, &["--no-raw", "GET", "bytes"]), r#""\x00\xff\r\n""#);
    assert!(say(&server, &["COMMAND", "DOCS", "CHECKOUT"]).contains("summary"));
    assert!(say(&server, &["INFO", "server"]).contains("redis_version:7.2"));
    let refused = run(&server, &["-e", "INCR", "h"], b"");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).starts_with("WRONGTYPE"),
        "{refused:?}"
    );

    assert_eq!(say(&server, &["ITEM.PUT", "22423", "1275", "GBP"]), "OK");
    assert_eq!(say(&server, &["STOCK.ADD", "22423", "10"]), "10");
    let cart = [
        "--json", "-3", "CHECKOUT", "ann", "KEY", "basket-1", "LINES", "1", "22423", "3",
    ];
    assert!(say(&server, &cart).contains(r#""state":"placed","total":3825"#));
    stop_cleanly(server);
}

#[test]
fn redis_cli_says_a_password() {
    if are_left_out() {
        return;
    }
    let site = Site::new(1);
    let server = start(&site.options().with(&["--requirepass", PASSWORD]));
    assert!(run(&server, &["PING"], b"").stdout.starts_with(b"NOAUTH"));
    let quiet = "--no-auth-warning";
    assert_eq!(say(&server, &[quiet, "-a", PASSWORD, "PING"]), "PONG");
    assert_eq!(
        say(&server, &[quiet, "-3", "--user", "default", "--pass", PASSWORD, "PING"]),
        "PONG"
    );
    let wrong = run(&server, &["-a", "wrong", "PING"], b"");
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("WRONGPASS"),
        "{wrong:?}"
    );
    stop_cleanly(server);
}

#[test]
fn redis_cli_loads_scans_and_measures() {
    const KEYS: usize = 10_000;
    if are_left_out() {
        return;
    }
    let site = Site::new(2);
    let server = site.start();
    let commands: Vec<u8> = (0..KEYS)
        .flat_map(|number| Resp::encode(&["SET", &format!("item:{number}"), &number.to_string()]))
        .collect();
    let said = say_with(&server, &["--pipe"], &commands);
    assert!(said.ends_with(&format!("errors: 0, replies: {KEYS}")), "{said}");
    assert_eq!(say(&server, &["DBSIZE"]), KEYS.to_string());
    say(&server, &["HSET", "cart", "a", "1", "b", "2"]);
    let found = say(&server, &["--scan", "--pattern", "item:99*"]);
    // 99, 990 to 999, 9900 to 9999.
    assert_eq!(found.lines().count(), 111, "{found}");
    let found = say(&server, &["--bigkeys"]);
    assert!(found.contains("Sampled 10001 keys"), "{found}");
    assert!(
        found.contains(r#"Biggest   hash found '"cart"' has 2 fields"#),
        "{found}"
    );
    let found = say(&server, &["--memkeys"]);
    assert!(found.contains("Sampled 10001 keys"), "{found}");
    // Least, most and mean of the milliseconds, and how many samples.
    let found = say(&server, &["--latency", "-i", "0.3"]);
    let numbers: Vec<f64> = found.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(numbers.len() == 4 && numbers[3] >= 1.0, "{found}");
    stop_cleanly(server);
}

#[test]
fn redis_cli_hears_messages() {
    if are_left_out() {
        return;
    }
    let site = Site::new(2);
    let server = site.start();
    for version in ["-2", "-3"] {
        let mut subscriber = redis_cli(&server)
            .args([version, "PSUBSCRIBE", "ne?s"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let mut lines = BufReader::new(subscriber.stdout.take().expect("it is piped"))
            .lines()
            .map(Result::unwrap);
        assert_eq!(lines.by_ref().take(3).collect::<Vec<_>>(), ["psubscribe", "ne?s", "1"]);
        assert_eq!(say(&server, &["PUBLISH", "news", "extra"]), "1");
        assert_eq!(
            lines.by_ref().take(4).collect::<Vec<_>>(),
            ["pmessage", "ne?s", "news", "extra"]
        );
        subscriber.kill().expect("it runs");
        subscriber.wait().expect("a child can be waited for");
    }
    stop_cleanly(server);
}

/// `redis-benchmark`, with so many commands in flight on each connection, says nothing but rates, and every command
/// was done.
fn benchmark(server: &ServerProcess, sent: u64, pipeline: u64, others: &[&str]) {
    const TESTS: [&str; 5] = ["SET", "GET", "INCR", "HSET", "MSET (10 keys)"];
    let mut client = Resp::connect(server.port());
    client.call(&["CONFIG", "RESETSTAT"]);
    client.call(&["FLUSHALL"]);
    let output = command("redis-benchmark", PACKAGE)
        .args([
            "-p",
            &server.port().to_string(),
            "-t",
            "set,get,incr,hset,mset",
            "--csv",
        ])
        .args(["-n", &sent.to_string(), "-P", &pipeline.to_string()])
        .args(others)
        .stdin(Stdio::null())
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let rates: Vec<(&str, f64)> = said
        .lines()
        .skip(1)
        .map(|line| {
            let mut cells = line.split(',').map(|cell| cell.trim_matches('"'));
            let (test, rate) = (
                cells.next().unwrap_or(line),
                cells.next().and_then(|rate| rate.parse().ok()),
            );
            (
                test,
                rate.unwrap_or_else(|| panic!("{line:?} is no rate; it said:\n{said}")),
            )
        })
        .collect();
    assert_eq!(rates.iter().map(|(test, _)| *test).collect::<Vec<_>>(), TESTS, "{said}");
    assert!(rates.iter().all(|(_, rate)| *rate > 0.0), "{said}");
    let Value::Text(info) = client.call(&["INFO", "commandstats", "errorstats"]) else {
        panic!("INFO is text")
    };
    for command in ["set", "get", "incr", "hset", "mset"] {
        let calls = info.lines().find_map(|line| {
            line.strip_prefix(&format!("cmdstat_{command}:calls="))?
                .split(',')
                .next()?
                .parse()
                .ok()
        });
        assert!(calls >= Some(sent), "{command}: {calls:?} of {sent}");
    }
    assert!(!info.contains("errorstat_"), "{info}");
}

#[test]
fn redis_benchmark_runs_without_error() {
    if are_left_out() {
        return;
    }
    for shard_count in [1, 2] {
        for (sync, sent) in [(SyncMode::Always, 1), (SyncMode::No, 2)] {
            let site = Site::new(shard_count);
            let server = start(&site.options().syncing(sync));
            benchmark(&server, sent * 5000, 16, &[]);
            benchmark(
                &server,
                sent * 5000,
                16,
                &["-r", "1000", "-d", "100", "-3", "-c", "100", "--threads", "2"],
            );
            benchmark(&server, sent * 1000, 1, &["-r", "1000"]);
            stop_cleanly(server);
        }
    }
}
