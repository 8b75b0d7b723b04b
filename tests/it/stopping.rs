//! Signals while there is work: each request is answered or dropped whole, and a second signal does not wait.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use cartwright::runtime::ExitCode;
use cartwright_protocol::client::Client;
use cartwright_protocol::{Checkout, Operation, OrderState, Receipt, Reply};
use cartwright_test_support::resp::Resp;
use cartwright_test_support::{Site, binary, checkout, clean_audit, connect, order, stock, stock_item, stop_cleanly};

const BUYER_COUNT: usize = 4;

/// Carts of each buyer under way at any time: as many as the server takes of one connection.
const IN_FLIGHT: usize = 1024;

/// How many of each buyer's carts are answered before the signal.
const ANSWERED_FIRST: usize = 200;

const SKUS: [&str; 4] = ["a", "b", "c", "d"];
const UNITS: i64 = 1_000_000;

#[derive(Default)]
struct Memory {
    acknowledged: Vec<(Checkout, Receipt)>,
    unanswered: Vec<Checkout>,
}

fn cart(buyer: usize, number: usize) -> Checkout {
    let lines: Vec<_> = (0..=number % SKUS.len()).map(|line| (SKUS[line], 1)).collect();
    checkout(
        &format!("customer-{}", number % 50),
        &format!("b{buyer}-{number}"),
        &lines,
    )
}

/// Buys until the connection ends, and says when the first answers have come.
fn buy_until_the_end(client: Client, buyer: usize, under_way: &Barrier) -> Memory {
    let (mut sender, mut receiver) = client.split();
    let (mut open, mut memory, mut sent) = (HashMap::new(), Memory::default(), 0);
    let mut is_open = true;
    loop {
        while is_open && open.len() < IN_FLIGHT {
            let cart = cart(buyer, sent);
            open.insert(sender.send(&Operation::Checkout(Box::new(cart.clone()))), cart);
            sent += 1;
        }
        is_open = is_open && sender.flush().is_ok();
        let Ok((id, reply)) = receiver.receive() else { break };
        let cart = open.remove(&id).expect("a reply belongs to a request");
        match reply {
            Reply::Receipt(receipt) => memory.acknowledged.push((cart, receipt)),
            other => panic!("{cart:?} was answered with {other:?}"),
        }
        if memory.acknowledged.len() == ANSWERED_FIRST {
            under_way.wait();
        }
    }
    memory.unanswered = open.into_values().collect();
    memory
}

/// Buys all carts at once, and must get each.
fn buy_all(client: &mut Client, carts: &[&Checkout]) {
    for carts in carts.chunks(IN_FLIGHT) {
        for &cart in carts {
            client.send(&Operation::Checkout(Box::new(cart.clone())));
        }
        client.flush().unwrap();
        for _ in carts {
            assert!(matches!(client.receive().unwrap().1, Reply::Receipt(_)));
        }
    }
}

#[test]
fn sigterm_under_load_answers_or_drops_each_request_whole() {
    let site = Site::new(2);
    let server = site.start();
    for code in SKUS {
        stock_item(&mut connect(&server), code, UNITS);
    }
    let under_way = Arc::new(Barrier::new(BUYER_COUNT + 1));
    let buyers: Vec<_> = (0..BUYER_COUNT)
        .map(|buyer| {
            let (client, under_way) = (connect(&server), under_way.clone());
            std::thread::spawn(move || buy_until_the_end(client, buyer, &under_way))
        })
        .collect();
    under_way.wait();
    stop_cleanly(server);
    let memories: Vec<Memory> = buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect();
    let acknowledged: Vec<_> = memories.iter().flat_map(|memory| &memory.acknowledged).collect();
    let unanswered: Vec<_> = memories.iter().flat_map(|memory| &memory.unanswered).collect();
    assert!(
        unanswered.len() > 1000,
        "only {} were dropped: too few to show anything",
        unanswered.len()
    );

    let server = site.start();
    let mut client = connect(&server);
    let found = clean_audit(&mut client).orders as usize;
    let possible = acknowledged.len()..=acknowledged.len() + unanswered.len();
    assert!(
        possible.contains(&found),
        "{found} orders, and {possible:?} are possible"
    );
    for (cart, receipt) in &acknowledged {
        let view = order(&mut client, receipt.id).expect("the order was acknowledged");
        assert_eq!(
            (view.state, view.lines.len()),
            (OrderState::Placed, cart.lines.len()),
            "{cart:?}"
        );
    }
    buy_all(&mut client, &unanswered);
    assert_eq!(
        clean_audit(&mut client).orders as usize,
        *possible.end(),
        "each cart once"
    );
    let carts = acknowledged.iter().map(|(cart, _)| cart).chain(unanswered);
    let mut sold = [0; SKUS.len()];
    carts.for_each(|cart| (0..cart.lines.len()).for_each(|line| sold[line] += 1));
    for (code, sold) in SKUS.iter().zip(sold) {
        assert_eq!(stock(&mut client, code).committed, sold, "{code}");
    }
}

#[test]
fn a_server_that_nobody_is_connected_to_stops_as_well() {
    for shard_count in [1, 2, 3] {
        let site = Site::new(shard_count);
        let server = site.start();
        stock_item(&mut connect(&server), "a", 5);
        // The server has noticed that its client left.
        std::thread::sleep(Duration::from_millis(50));
        stop_cleanly(server);
        stop_cleanly(site.start());
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Reads what the server says up to a line with `word`.
fn wait_for_line(said: &mut impl BufRead, word: &str) -> String {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert!(
            said.read_line(&mut line).unwrap() > 0,
            "the server ended without saying {word:?}"
        );
    }
    line
}

/// A server that a client keeps from stopping for a second: it asks for a lot and takes none of it.
fn server_with_a_lazy_client(data: &std::path::Path) -> (Child, BufReader<ChildStderr>, TcpStream) {
    let mut command = Command::new(binary());
    command
        .args(["serve", "--port", "0", "--shards", "1", "--data"])
        .arg(data);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let line = wait_for_line(&mut said, "serving on ");
    let address = line.split_once("serving on ").unwrap().1.split_once(": ").unwrap().0;
    let mut client = TcpStream::connect(address).unwrap();
    let asked = Resp::encode(&["COMMAND"]).repeat(20_000);
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // The server stops reading from one that takes nothing.
    let _ = client.write_all(&asked);
    (child, said, client)
}

#[test]
fn a_second_signal_ends_the_server_at_once_and_says_so() {
    for second in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, mut said, _client) = server_with_a_lazy_client(&directory.path().join("data"));
        signal(&child, "TERM");
        wait_for_line(&mut said, "stopping");
        signal(&child, second);
        let signalled = Instant::now();
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(ExitCode::Impatience as i32));
        assert!(signalled.elapsed() < Duration::from_secs(5));
        wait_for_line(&mut said, "second signal");
    }
}

#[test]
fn a_client_that_takes_nothing_does_not_keep_the_server_from_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, mut said, _client) = server_with_a_lazy_client(&directory.path().join("data"));
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    wait_for_line(&mut said, "stopped");
}
