//! The blocking client against sessions on real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use cartwright_protocol::client::{Client, ClientError};
use cartwright_protocol::{ItemGet, Operation, Reply, Sku};

use super::{answer, answer_of_shop, session};

/// Serves one connection until the client leaves it; how many bytes it read.
fn serve_one() -> (SocketAddr, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let serving = spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        serve(&mut stream)
    });
    (address, serving)
}

fn serve(stream: &mut TcpStream) -> usize {
    let (mut session, mut buffer, mut total) = (session(), [0; 4096], 0);
    loop {
        // Answered in reverse, so that a client that counts on the order shows.
        let mut run: Vec<_> = std::iter::from_fn(|| session.next_request()).collect();
        while let Some((sequence, operation)) = run.pop() {
            session.complete(sequence, answer(&operation));
        }
        stream.write_all(session.output()).expect("the client reads");
        session.output().clear();
        if session.is_closing() {
            return total;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return total,
            Ok(count) => {
                session.receive(&buffer[..count]);
                total += count;
            }
        }
    }
}

fn get(sku: &str) -> Operation {
    Operation::ItemGet(ItemGet {
        sku: Sku::new(sku.as_bytes()).unwrap(),
    })
}

#[test]
fn a_call_gets_its_own_reply_also_amid_pipelined_ones() {
    let (address, serving) = serve_one();
    let mut client = Client::connect(address).expect("served");
    assert_eq!((client.server().shard_count, client.server().connection_id), (2, 7));
    client.ping().expect("alive");
    let sent: Vec<_> = (0..50)
        .map(|n| (client.send(&get(&format!("sku-{n}"))), format!("sku-{n}")))
        .collect();
    assert_eq!(
        client.call(&Operation::Audit).expect("answered"),
        answer_of_shop(&Operation::Audit)
    );
    for _ in 0..50 {
        let (id, reply) = client.receive().expect("answered");
        let (_, sku) = sent.iter().find(|(sent, _)| *sent == id).expect("an id that was sent");
        assert_eq!(reply, answer_of_shop(&get(sku)));
    }
    assert!(matches!(client.call(&get("none")), Ok(Reply::Null)));
    drop(client);
    assert!(serving.join().expect("served") > 0);
}

#[test]
fn one_thread_sends_while_another_receives() {
    const REQUESTS: u64 = 20_000;
    let (address, serving) = serve_one();
    let (mut sender, mut receiver) = Client::connect(address).expect("served").split();
    let receiving = spawn(move || {
        (0..REQUESTS)
            .map(|_| receiver.receive().expect("answered").0)
            .sum::<u64>()
    });
    let mut ids = 0;
    for _ in 0..REQUESTS {
        ids += sender.send(&get("22423"));
        if sender.buffered_bytes() > 10_000 {
            sender.flush().expect("sent");
        }
    }
    sender.flush().expect("sent");
    assert_eq!(receiving.join().expect("received"), ids);
    sender.finish().expect("closed");
    serving.join().expect("served");
}

#[test]
fn a_timeout_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let serving = spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut session, mut buffer) = (session(), [0; 4096]);
        while session.unanswered() == 0 {
            let count = stream.read(&mut buffer).expect("the client's bytes");
            session.receive(&buffer[..count]);
            stream.write_all(session.output()).expect("the client reads");
            session.output().clear();
        }
        let (sequence, operation) = session.next_request().expect("a request");
        session.complete(sequence, answer(&operation));
        let output = session.output();
        stream.write_all(&output[..10]).expect("the client reads");
        wait.recv().expect("the client's word");
        stream.write_all(&output[10..]).expect("the client reads");
    });
    let mut client = Client::connect(address).expect("served");
    client.set_timeout(Some(Duration::from_millis(30))).expect("set");
    let error = client.call(&get("22423")).expect_err("a reply that stops half way");
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
    go.send(()).expect("the server waits");
    client.set_timeout(None).expect("set");
    assert_eq!(client.receive().expect("the rest").1, answer_of_shop(&get("22423")));
    assert!(matches!(client.receive(), Err(ClientError::Closed)));
    serving.join().expect("served");
}

#[test]
fn what_is_no_cartwright_server_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let serving = spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(b"-ERR unknown command\r\n").expect("the client reads");
    });
    assert!(matches!(Client::connect(address), Err(ClientError::Hello(_))));
    serving.join().expect("served");
    assert!(matches!(Client::connect(address), Err(ClientError::Connect { .. })));
}
