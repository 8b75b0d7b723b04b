//! What clients that misbehave cost those that do not: nothing that can be measured.
//!
//! A client at work is timed beside each of them. The bounds are generous, since this also runs on slow machines that
//! are shared; a server that waits for one client while it serves another misses them by far.

mod support;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::resp::{Resp, Value, ok, text};
use support::{Site, stop_cleanly};

/// How long the client at work may wait for any one answer, a sync of the log included.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

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

#[test]
fn who_sends_a_byte_at_a_time_costs_the_others_nothing() {
    let site = Site::new(2);
    let server = site.start();
    let port = server.port();
    let neighbour = Neighbour::start(4, |_| {
        let mut stream = connect(port);
        let command = Resp::encode(&["SET", "slow", &"x".repeat(100_000)]);
        let mut sent = 0;
        Box::new(move || {
            let byte = &command[sent % command.len()..][..1];
            sent += 1;
            std::thread::sleep(Duration::from_millis(1));
            push(&mut stream, byte, &mut 0)
        })
    });
    let longest = work(port);
    assert!(neighbour.end() > 100);
    assert!(longest < LONGEST_WAIT, "an answer took {longest:?}");
    stop_cleanly(server);
}

#[test]
fn hundreds_of_connections_and_others_that_come_and_go_cost_the_others_nothing() {
    const CONNECTIONS: usize = 400;
    let site = Site::new(2);
    let server = site.start();
    let port = server.port();
    let mut idle: Vec<_> = (0..CONNECTIONS).map(|_| Resp::connect(port)).collect();
    assert_eq!(idle[CONNECTIONS - 1].call(&["PING"]), text("PONG"));
    let neighbour = Neighbour::start(2, |_| {
        Box::new(move || {
            // Where the machine runs out of ports it is not the server that fails.
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
                return true;
            };
            push(&mut stream, b"PING\r\n", &mut 0)
        })
    });
    let longest = work(port);
    assert!(neighbour.end() > 100);
    assert!(longest < LONGEST_WAIT, "an answer took {longest:?}");
    for client in &mut idle {
        assert_eq!(client.call(&["PING"]), text("PONG"));
    }
    stop_cleanly(server);
}

#[test]
fn what_is_over_a_bound_is_refused_by_name() {
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
    let server = support::start(&options);
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
