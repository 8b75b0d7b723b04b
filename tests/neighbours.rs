//! What clients that misbehave cost those that do not: nothing that can be measured.
//!
//! A client at work is timed beside each of them. The bounds are generous, since this also runs on slow machines that
//! are shared; a server that waits for one client while it serves another misses them by far.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cartwright::net::open_files::raise_open_files_limit;
use cartwright_test_support::resp::{Resp, Value, ok, text};
use cartwright_test_support::{Site, stop_cleanly};
use cartwright_tools::server_process::{ServerProcess, SyncMode};

/// How long the client at work may wait for any one answer, a sync of the log included.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// One test at a time: each measures.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds of the client at work beside each misbehaving one.
const ROUNDS: usize = 60;

/// Works for some rounds on keys of all shards; the longest wait for an answer.
fn work(port: u16) -> Duration {
    let mut client = Resp::connect(port);
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        let began = Instant::now();
        assert_eq!(client.call(&["SET", &key, "value"]), ok());
        let written = Instant::now();
        assert_eq!(client.call(&["GET", &key]), text("value"));
        longest = longest.max(written - began).max(written.elapsed());
    }
    longest
}

/// Somebody who misbehaves until told to stop.
struct Neighbour {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Neighbour {
    /// On each of so many threads, `misbehave` is called again and again with the number of the call; it says when to
    /// end as well.
    fn start(threads: usize, misbehave: impl Fn(usize) -> Box<dyn FnMut() -> bool + Send>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..threads)
            .map(|number| {
                let mut misbehave = misbehave(number);
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let mut calls = 0;
                    while !stop.load(Ordering::Relaxed) && misbehave() {
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// How often it misbehaved.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    stream
}

/// Writes on from `at`, again from the start once all is written, as far as the server reads; whether the connection
/// is still there.
fn push(stream: &mut TcpStream, bytes: &[u8], at: &mut usize) -> bool {
    match stream.write(&bytes[*at..]) {
        Ok(written) => {
            *at = (*at + written) % bytes.len();
            true
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn who_floods_and_never_reads_costs_the_others_nothing() {
    let _alone = alone();
    let site = Site::new(2);
    let server = site.start();
    let port = server.port();
    // What it asks for is many times what it sends.
    let mut client = Resp::connect(port);
    assert_eq!(client.call(&["SET", "large", &"x".repeat(1_000_000)]), ok());
    let neighbour = Neighbour::start(2, |number| {
        let mut stream = connect(port);
        let command: &[&str] = if number == 0 {
            &["GET", "large"]
        } else {
            &["INCR", "flooded"]
        };
        let bytes = Resp::encode(command).repeat(1000);
        let mut at = 0;
        Box::new(move || push(&mut stream, &bytes, &mut at))
    });
    let longest = work(port);
    assert!(neighbour.end() > 0);
    assert!(longest < LONGEST_WAIT, "an answer took {longest:?}");
    let Value::Text(info) = client.call(&["INFO", "memory"]) else {
        panic!("INFO is text")
    };
    let buffered: u64 = info
        .lines()
        .find_map(|line| line.strip_prefix("mem_clients_normal:"))
        .and_then(|bytes| bytes.trim().parse().ok())
        .expect("it is told");
    assert!(buffered < 256 << 20, "{buffered} bytes wait for who does not read");
    stop_cleanly(server);
}

/// How many connections a server takes unless told otherwise, as Redis does.
const CONNECTIONS_MAX: usize = 10_000;

/// Files of this process that are no connections to the server.
const OTHER_FILES: u64 = 200;

/// Clients at work on one server, as many as it has shards: it has given each shard one.
struct Workers([Resp; 2]);

impl Workers {
    fn new(port: u16) -> Self {
        let mut workers = Self([Resp::connect(port), Resp::connect(port)]);
        assert_eq!(workers.0[0].call(&["SET", "worked", "value"]), ok());
        workers
    }

    /// How long something takes that each does in turn.
    fn time(&mut self, something: impl FnMut(&mut Resp)) -> Duration {
        let began = Instant::now();
        self.0.iter_mut().for_each(something);
        began.elapsed()
    }
}

/// One server to be misused and one to be left alone, with clients at work on both. Neither syncs: that would hide what
/// neighbours cost.
fn two_servers(sites: &[Site; 2]) -> ([ServerProcess; 2], [Workers; 2]) {
    let servers = sites
        .each_ref()
        .map(|site| cartwright_test_support::start(&site.options().syncing(SyncMode::No)));
    let workers = servers.each_ref().map(|server| Workers::new(server.port()));
    (servers, workers)
}

/// The median time that something takes on each of two servers, in turns: what else the machine does slows both.
fn medians(rounds: usize, servers: &mut [Workers; 2], mut something: impl FnMut(&mut Resp)) -> [Duration; 2] {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (workers, took) in servers.iter_mut().zip(&mut took) {
            took.push(workers.time(&mut something));
        }
    }
    took.map(|mut took| {
        took.sort_unstable();
        took[rounds / 2]
    })
}

/// Those at work on the first server, beside others, are as fast as those on the second, where nobody else is: one
/// command at a time, and with a hundred in flight. They would not be if it looked at all connections for each command.
fn cost_nothing(when: &str, servers: &mut [Workers; 2]) {
    let get: &[&str] = &["GET", "worked"];
    let answers = medians(1000, servers, |client| assert_eq!(client.call(get), text("value")));
    let batches = medians(300, servers, |client| drop(client.pipeline(&[get; 100])));
    for (what, [beside, alone]) in [("two answers", answers), ("two hundred at a time", batches)] {
        println!("{when}, {what}: {beside:?}, and {alone:?} alone");
        assert!(
            beside < alone * 3 / 2 + Duration::from_micros(50),
            "{when}, {what}: {beside:?}, not {alone:?}"
        );
    }
}

/// Asks, and tells the first line of the answer.
fn ask(stream: &mut TcpStream, question: &[u8]) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Fails where the server has hung up already.
    let _ = stream.write_all(question);
    let mut answer = String::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap_or(0) == 1 && byte[0] != b'\n' {
        answer.push(char::from(byte[0]));
    }
    answer
}

#[test]
fn who_sends_a_byte_a_second_costs_the_others_nothing() {
    const THREADS: usize = 4;
    const CLIENTS_A_THREAD: u32 = 250;
    let _alone = alone();
    assert!(raise_open_files_limit() > THREADS as u64 * u64::from(CLIENTS_A_THREAD) + OTHER_FILES);
    let sites = [Site::new(2), Site::new(2)];
    let (servers, mut workers) = two_servers(&sites);
    let port = servers[0].port();
    let began = Instant::now();
    let neighbour = Neighbour::start(THREADS, |_| {
        let mut streams: Vec<_> = (0..CLIENTS_A_THREAD).map(|_| connect(port)).collect();
        let command = Resp::encode(&["SET", "slow", &"x".repeat(100_000)]);
        let mut sent = 0;
        let began = Instant::now();
        Box::new(move || {
            let due = began + Duration::from_secs(1) * sent / CLIENTS_A_THREAD;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let byte = &command[(sent / CLIENTS_A_THREAD) as usize..][..1];
            let stream = &mut streams[(sent % CLIENTS_A_THREAD) as usize];
            sent += 1;
            push(stream, byte, &mut 0)
        })
    });
    while began.elapsed() < Duration::from_secs(4) {
        cost_nothing("beside slow senders", &mut workers);
    }
    let sent = neighbour.end();
    assert!(
        sent > 2 * THREADS as u64 * u64::from(CLIENTS_A_THREAD),
        "only {sent} bytes"
    );
    servers.into_iter().for_each(stop_cleanly);
}

#[test]
fn ten_thousand_connections_and_others_that_come_and_go_cost_the_others_nothing() {
    const PONG: &str = "+PONG\r";
    let _alone = alone();
    let sites = [Site::new(2), Site::new(2)];
    let (servers, mut workers) = two_servers(&sites);
    let port = servers[0].port();
    let Value::Array(setting) = workers[0].0[0].call(&["CONFIG", "GET", "maxclients"]) else {
        panic!("CONFIG GET is a list")
    };
    let Value::Text(allowed_there) = &setting[1] else {
        panic!("{setting:?}")
    };
    let allowed_there: usize = allowed_there.parse().unwrap();
    let allowed_here = raise_open_files_limit().saturating_sub(OTHER_FILES) as usize;
    let connections = allowed_there.min(allowed_here);
    assert!(allowed_there <= CONNECTIONS_MAX);
    if connections < CONNECTIONS_MAX {
        eprintln!(
            "only {connections} connections, not {CONNECTIONS_MAX}: the hard limit on open files is too low (ulimit -Hn)"
        );
    }

    // Some are left for those that come and go.
    let mut idle: Vec<_> = (0..connections - 100).map(|_| connect(port)).collect();
    for stream in &mut idle {
        assert_eq!(ask(stream, b"PING\r\n"), PONG);
    }
    cost_nothing("with many connections", &mut workers);
    let neighbour = Neighbour::start(2, |_| {
        Box::new(move || {
            std::thread::sleep(Duration::from_millis(1));
            // Where the machine runs out of ports it is not the server that fails.
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
                return true;
            };
            push(&mut stream, b"PING\r\n", &mut 0)
        })
    });
    let longest = (0..5).map(|_| work(port)).max();
    assert!(neighbour.end() > 20);
    assert!(longest < Some(LONGEST_WAIT), "an answer took {longest:?}");

    // What is over the limit is told so, and disturbs nobody either.
    if allowed_there == connections {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut stream = connect(port);
            let answer = ask(&mut stream, b"PING\r\n");
            if answer == PONG {
                idle.push(stream);
                assert!(idle.len() < connections - 1, "{connections} connections, and one more");
                continue;
            }
            assert_eq!(answer, "-ERR max number of clients reached\r");
            // The two at work are some as well; those that have gone may count for a moment.
            if idle.len() == connections - 2 {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "only {} of {connections} are let in",
                idle.len()
            );
        }
    }
    cost_nothing("with as many as may be", &mut workers);
    for stream in &mut idle {
        assert_eq!(ask(stream, b"PING\r\n"), PONG);
    }
    servers.into_iter().for_each(stop_cleanly);
}

#[test]
fn what_is_over_a_bound_is_refused_by_name() {
    let _alone = alone();
    let site = Site::new(2);
    let options = site.options().with(&[
        "--set",
        "proto-max-bulk-len=1mb",
        "--set",
        "multi-queue-max=2",
        "--set",
        "watched-keys-max=2",
        "--set",
        "subscriptions-max=2",
    ]);
    let server = cartwright_test_support::start(&options);
    let refused = |words: &[&[&str]]| match Resp::connect(server.port()).pipeline(words).pop() {
        Some(Value::Error(text)) => text,
        other => panic!("{other:?} is no refusal"),
    };
    let too_long = "x".repeat((1 << 20) + 1);
    assert_eq!(
        refused(&[&["SET", "a", &too_long]]),
        "ERR Protocol error: invalid bulk length"
    );
    assert!(refused(&[&["MULTI"], &["PING"], &["PING"], &["PING"]]).contains("multi-queue-max"));
    assert!(refused(&[&["WATCH", "a", "b"], &["WATCH", "c"]]).contains("watched-keys-max"));
    assert!(refused(&[&["SUBSCRIBE", "a", "b", "c"]]).contains("subscriptions-max"));
    let mut client = Resp::connect(server.port());
    client.send(b"*1048577\r\n");
    assert_eq!(
        client.receive(),
        Value::Error("ERR Protocol error: invalid multibulk length".to_owned())
    );
    stop_cleanly(server);
}

/// Time passes for a shard that is never without a request from another.
#[test]
fn holds_expire_and_audits_end_however_much_is_asked() {
    let _alone = alone();
    let site = Site::new(2);
    let mut options = site.options();
    options.sync = SyncMode::No;
    let server = cartwright_test_support::start(&options);
    let port = server.port();
    let mut client = Resp::connect(port);
    let codes: Vec<String> = (0..8).map(|number| format!("item-{number}")).collect();
    for code in &codes {
        assert_eq!(client.call(&["ITEM.PUT", code, "100", "GBP"]), ok());
        client.call(&["STOCK.ADD", code, "5"]);
    }
    let asking = Neighbour::start(12, |number| {
        let mut client = Resp::connect(port);
        let keys: Vec<String> = (0..400).map(|key| format!("key-{number}-{key}")).collect();
        Box::new(move || {
            let commands: Vec<[&str; 3]> = keys.iter().map(|key| ["SET", key, "value"]).collect();
            let commands: Vec<&[&str]> = commands.iter().map(|command| &command[..]).collect();
            client.pipeline(&commands).len() == keys.len()
        })
    });
    for (number, code) in codes.iter().enumerate() {
        let (who, key) = (format!("customer-{number}"), format!("key-{number}"));
        let cart = ["CHECKOUT", &who, "KEY", &key, "HOLD", "300", "LINES", "1", code, "5"];
        assert!(!matches!(client.call(&cart), Value::Error(_)));
    }
    let audit = Instant::now();
    assert_eq!(*client.call(&["AUDIT"]).field("violations"), Value::Integer(0));
    assert!(audit.elapsed() < LONGEST_WAIT, "an audit took {:?}", audit.elapsed());
    let held = Instant::now();
    for code in &codes {
        while *client.call(&["STOCK.GET", code]).field("available") != Value::Integer(5) {
            assert!(
                held.elapsed() < LONGEST_WAIT,
                "{code} is held long after the hold's end"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(asking.end() > 0);
    stop_cleanly(server);
}
