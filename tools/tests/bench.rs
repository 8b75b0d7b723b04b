//! `cart bench` against real servers: each workload does what it says, and its figures are true.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cartwright_tools::bench::answer::{Answer, Wire};
use cartwright_tools::bench::arguments::BenchArguments;
use cartwright_tools::bench::conductor::{RunPlan, RunReport, run};
use cartwright_tools::bench::redis_process::{REDIS_NAMES, RedisProcess, find};
use cartwright_tools::bench::source::{Source, Tag};
use cartwright_tools::bench::worker::Plan;
use cartwright_tools::bench::workload::checkout::CART_SCRIPT;
use cartwright_tools::server_process::{ServerOptions, ServerProcess, SyncMode};
use clap::Args;
use serde_json::Value;

const CART: &str = env!("CARGO_BIN_EXE_cart");

/// The smallest segments there are: servers start sooner.
const SEGMENT_MB: u32 = 20;

/// The server's program, which a build of the workspace puts beside `cart`.
fn server_binary() -> PathBuf {
    let path = Path::new(CART).with_file_name("cartwright");
    assert!(path.exists(), "no {}: run `cargo build` first", path.display());
    path
}

struct Site {
    server: ServerProcess,
    _directory: tempfile::TempDir,
}

fn start(shard_count: u16) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(server_binary(), directory.path().join("data"))
        .shards(shard_count)
        .segments_of(SEGMENT_MB);
    Site {
        server: ServerProcess::start(&options).unwrap(),
        _directory: directory,
    }
}

/// A Redis, or `None` where none is installed.
fn start_redis(directory: &Path) -> Option<RedisProcess> {
    let Ok(binary) = find(REDIS_NAMES) else {
        eprintln!("no Redis is installed: what needs one is not tested");
        return None;
    };
    Some(RedisProcess::start(&binary, directory, SyncMode::No).unwrap())
}

fn cart_bench(arguments: &[&str]) -> Output {
    Command::new(CART).arg("bench").args(arguments).output().unwrap()
}

/// Runs a workload, which must end well, and gives what it measured.
fn measure(port: u16, arguments: &[&str]) -> Value {
    let port = port.to_string();
    let shared = ["--port", &port, "--json", "-", "--quiet", "--connections", "4"];
    let output = cart_bench(&[arguments, &shared].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {said}{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).unwrap_or_else(|| panic!("no {path} in {value:#}"));
    found.as_u64().unwrap_or_else(|| panic!("{path} is {found}"))
}

fn class<'a>(run: &'a Value, name: &str) -> &'a Value {
    let classes = run["classes"].as_array().unwrap();
    classes.iter().find(|class| class["name"] == name).unwrap()
}

#[test]
fn every_requested_cart_is_in_the_books_over_either_protocol_and_however_many_threads() {
    let site = start(2);
    let mut orders = 0;
    for (protocol, threads) in [("native", "1"), ("resp", "2")] {
        for cross in ["0", "50", "100"] {
            let measured = measure(
                site.server.port(),
                &[
                    "checkout",
                    "--protocol",
                    protocol,
                    "--threads",
                    threads,
                    "--requests",
                    "600",
                    "--cross-shard",
                    cross,
                    "--items",
                    "500",
                    "--customers",
                    "500",
                ],
            );
            orders += 600;
            let run = &measured["runs"][0];
            assert_eq!(number(run, "/answered"), 600);
            assert_eq!(number(run, "/accepted/carts"), 600);
            assert_eq!(number(run, "/accepted/lines"), 6_000);
            assert_eq!(number(run, "/audit/orders"), orders);
            assert_eq!(number(run, "/audit/violations"), 0);
            assert_eq!(number(&measured, "/server/shards"), 2);
            assert!(run["memory"]["resident_after"].as_u64().unwrap() > 0);
        }
    }
}

#[test]
fn real_carts_and_skewed_items_are_sold() {
    let site = start(1);
    let port = site.server.port();
    for skus in ["uniform", "zipf:0.99", "hot:1"] {
        let measured = measure(
            port,
            &[
                "checkout",
                "--lines",
                "real",
                "--skus",
                skus,
                "--items",
                "2000",
                "--requests",
                "300",
                "--runs",
                "2",
            ],
        );
        for run in measured["runs"].as_array().unwrap() {
            assert_eq!(number(run, "/accepted/carts"), 300);
            assert!(
                number(run, "/accepted/lines") > 2_000,
                "the mean of a real cart is 27 lines"
            );
        }
        assert_eq!(measured["runs"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_run_by_time_counts_no_warm_up_and_shows_its_course() {
    let site = start(1);
    let measured = measure(
        site.server.port(),
        &[
            "checkout",
            "--items",
            "500",
            "--warmup",
            "0.5",
            "--duration",
            "1.5",
            "--bgsave",
        ],
    );
    let run = &measured["runs"][0];
    assert!(number(run, "/answered") > 0);
    assert!(
        number(run, "/answered") < number(run, "/accepted/carts"),
        "the warm-up was counted"
    );
    assert!(number(run, "/checkpoints") > 0, "--bgsave takes checkpoints");
    assert!(!run["series"].as_array().unwrap().is_empty());
    assert!(run["server_cpu_us_per_request"].as_f64().is_some());
}

#[test]
fn held_carts_are_confirmed_cancelled_or_expire_and_nothing_stays_held() {
    let site = start(1);
    for protocol in ["native", "resp"] {
        let measured = measure(
            site.server.port(),
            &[
                "hold",
                "--protocol",
                protocol,
                "--hold",
                "300",
                "--requests",
                "400",
                "--items",
                "300",
                "--confirm",
                "50",
                "--cancel",
                "30",
            ],
        );
        let run = &measured["runs"][0];
        assert_eq!(number(run, "/accepted/carts"), 400);
        let (confirmed, cancelled) = (
            number(class(run, "confirm"), "/answered"),
            number(class(run, "cancel"), "/answered"),
        );
        assert!((140..260).contains(&confirmed), "{confirmed} of 400 are about half");
        assert!((70..170).contains(&cancelled), "{cancelled} of 400 are about 30 %");
    }
}

#[test]
fn a_flash_sale_sells_exactly_what_there_is() {
    let site = start(2);
    for protocol in ["native", "resp"] {
        let sale = [
            "flash-sale",
            "--units",
            "150",
            "--buyers",
            "1000",
            "--protocol",
            protocol,
        ];
        let measured = measure(site.server.port(), &sale);
        let run = &measured["runs"][0];
        assert_eq!(number(run, "/accepted/carts"), 150);
        assert_eq!(number(run, "/refused"), 850);
        assert_eq!(number(run, "/refusals/OUTOFSTOCK/count"), 850);
    }
    let few = ["flash-sale", "--units", "150", "--buyers", "100"];
    let measured = measure(site.server.port(), &few);
    assert_eq!(number(&measured["runs"][0], "/accepted/carts"), 100);
}

#[test]
fn a_shops_day_has_all_its_parts_and_new_items_are_stocked() {
    let site = start(2);
    for protocol in ["native", "resp"] {
        let port = site.server.port();
        let measured = measure(
            port,
            &["mixed", "--protocol", protocol, "--requests", "3000", "--items", "300"],
        );
        let run = &measured["runs"][0];
        for (name, least) in [("browse", 1_500), ("stock", 500), ("checkout", 250), ("cancel", 1)] {
            let count = number(class(run, name), "/answered");
            assert!(count >= least, "{count} of {name}");
        }
        let measured = measure(port, &["load", "--protocol", protocol, "--items", "700"]);
        let run = &measured["runs"][0];
        assert_eq!(number(class(run, "put"), "/answered"), 700);
        assert_eq!(number(class(run, "stock"), "/answered"), 700);
        assert_eq!(number(run, "/accepted/items"), 700);
    }
}

#[test]
fn keys_and_script_carts_are_measured_on_a_redis() {
    let directory = tempfile::tempdir().unwrap();
    let Some(redis) = start_redis(directory.path()) else {
        return;
    };
    let port = redis.address().port;
    let measured = measure(port, &["get-set", "--keys", "500", "--requests", "2000"]);
    assert_eq!(number(&measured["runs"][0], "/answered"), 2_000);
    assert_eq!(measured["server"]["durability"], "appendfsync no");
    for workload in ["a", "b", "c", "d", "e", "f"] {
        let measured = measure(port, &["ycsb", workload, "--records", "300", "--requests", "1000"]);
        assert!(number(&measured["runs"][0], "/answered") >= 1_000, "{workload}");
        assert_eq!(number(&measured["runs"][0], "/refused"), 0, "{workload}");
    }
    let measured = measure(port, &["checkout", "--requests", "300", "--items", "100"]);
    assert_eq!(number(&measured["runs"][0], "/accepted/lines"), 3_000);
    let measured = measure(port, &["flash-sale", "--units", "50", "--buyers", "400"]);
    assert_eq!(number(&measured["runs"][0], "/accepted/carts"), 50);
    let output = cart_bench(&["hold", "--port", &port.to_string()]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a Cartwright server"));
}

#[test]
fn a_comparison_runs_both_and_leaves_a_page() {
    if find(REDIS_NAMES).is_err() {
        eprintln!("no Redis is installed: the comparison is not tested");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (page, data) = (directory.path().join("page.html"), directory.path().join("data.json"));
    let output = cart_bench(&[
        "compare",
        "--runs",
        "1",
        "--requests",
        "400",
        "--connections",
        "4",
        "--items",
        "300",
        "--quiet",
        "--html",
        page.to_str().unwrap(),
        "--json",
        data.to_str().unwrap(),
    ]);
    let (table, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{table}");
    for pair in [
        "Cartwright over RESP (--sync always) against Redis (appendfsync always)",
        "Cartwright over native (--sync no) against Redis (appendfsync no)",
    ] {
        assert!(table.contains(pair), "{pair} is not in {table}");
    }
    let sessions: Value = serde_json::from_slice(&std::fs::read(data).unwrap()).unwrap();
    assert_eq!(sessions.as_array().unwrap().len(), 6);
    assert!(std::fs::read_to_string(page).unwrap().contains("appendfsync always"));
}

#[test]
fn where_nothing_can_be_measured_the_cause_and_the_remedy_are_said() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = cart_bench(&["checkout", "--port", &unused.to_string()]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&unused.to_string()) && said.contains("--port"), "{said}");

    let site = start(1);
    let port = site.server.port().to_string();
    let output = cart_bench(&["checkout", "--port", &port, "--server-pid", "99999999"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("pgrep"));
    let output = cart_bench(&["checkout", "--port", &port, "--cross-shard", "10"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--shards 2"));

    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(CART)
        .args(["bench", "compare"])
        .env("PATH", empty.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("apt install redis-server"));
}

/// Forbids the calling process to set up rings, as a container's seccomp profile may.
fn forbid_rings() -> std::io::Result<()> {
    let statement = |code: u32, jump_if_not: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_if_not,
        k,
    };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program is valid during the calls, and the kernel copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    done.then_some(()).ok_or_else(std::io::Error::last_os_error)
}

#[test]
fn where_a_ring_cannot_be_had_the_remedy_is_said() {
    let site = start(1);
    let mut command = Command::new(CART);
    command.args(["bench", "get-set", "--keys", "10", "--requests", "10", "--port"]);
    command.arg(site.server.port().to_string());
    // SAFETY: between fork and exec it makes system calls and nothing else.
    unsafe { command.pre_exec(forbid_rings) };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("io_uring") && said.contains("seccomp"), "{said}");
}

/// A peer that answers `PING` at once, but once lets everything lie for a while.
struct StallingPeer {
    address: SocketAddr,
    thread: std::thread::JoinHandle<()>,
}

/// When it stalls, by its own first request, and for how long.
const STALL_AFTER: Duration = Duration::from_millis(200);
const STALL: Duration = Duration::from_millis(400);

impl StallingPeer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stall_at = Some(Instant::now() + STALL_AFTER);
            // A request is three lines; the peer goes away when its client does.
            while let Some(Ok(_)) = lines.nth(2) {
                if stall_at.is_some_and(|at| Instant::now() >= at) {
                    stall_at = None;
                    std::thread::sleep(STALL);
                }
                if stream.write_all(b"+PONG\r\n").is_err() {
                    return;
                }
            }
        });
        Self { address, thread }
    }
}

struct Pings;

impl Source for Pings {
    fn next(&mut self, output: &mut Vec<u8>, _request_id: u64) -> Option<Tag> {
        output.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
        Some(Tag::default())
    }

    fn answered(&mut self, _tag: Tag, answer: &Answer<'_>) {
        assert_eq!(*answer, Answer::Done(0));
    }
}

/// Pings a stalling peer for a second over one connection with one request in flight.
fn ping_stalling(rate: Option<f64>) -> RunReport {
    let peer = StallingPeer::start();
    let plan = RunPlan {
        plan: Plan {
            address: peer.address,
            wire: Wire::Resp,
            connection_count: 1,
            depth: 1,
            core: None,
            rate,
            begin_ns: 0,
            end_ns: 0,
            class_count: 1,
        },
        thread_count: 1,
        cores: Vec::new(),
        warm_up: Duration::ZERO,
        duration: Some(Duration::from_secs(1)),
        server: None,
        shard_count: 1,
    };
    let report = run(&plan, vec![Box::new(Pings)], &AtomicBool::new(false), &mut |_, _| ()).unwrap();
    peer.thread.join().unwrap();
    report
}

#[test]
fn in_the_open_loop_a_stall_is_in_the_latency_of_everything_that_fell_due_in_it() {
    const RATE: f64 = 500.0;
    let report = ping_stalling(Some(RATE));
    let latency = report.latency();
    assert_eq!(report.answered(), RATE as u64, "whatever is due is sent, however late");
    assert!(latency.max() >= STALL.as_nanos() as u64 * 9 / 10, "{}", latency.max());
    assert!(report.per_second() <= RATE * 1.01, "{}", report.per_second());
    // What fell due in the first half of the stall waited for at least the second half.
    let slow = latency.count_between(STALL.as_nanos() as u64 / 2, u64::MAX);
    let due = RATE * STALL.as_secs_f64() / 2.0;
    assert!(slow as f64 >= due * 0.8, "{slow} slow answers of {due} due");
}

#[test]
fn in_the_closed_loop_the_same_stall_is_in_one_latency() {
    let report = ping_stalling(None);
    let latency = report.latency();
    assert!(latency.max() >= STALL.as_nanos() as u64 * 9 / 10);
    assert!(latency.len() > 10, "it goes on after the stall");
}

#[test]
fn the_script_in_the_document_is_the_one_that_runs() {
    let document = include_str!("../../BENCHMARKS.md");
    assert!(document.contains(&format!("```lua\n{CART_SCRIPT}```")));
}

#[test]
fn every_bench_command_in_the_documents_is_one() {
    let documents = [include_str!("../../README.md"), include_str!("../../BENCHMARKS.md")];
    let lines = documents.iter().flat_map(|document| document.lines());
    let commands: Vec<&str> = lines
        .filter_map(|line| line.trim_start().strip_prefix("cart bench "))
        .map(|line| line.split(" #").next().unwrap_or(line))
        .collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let parser = BenchArguments::augment_args(clap::Command::new("bench").no_binary_name(true));
        if let Err(error) = parser.try_get_matches_from(command.split_whitespace()) {
            panic!("cart bench {command}: {error}");
        }
    }
}
