//! What a server does at its bounds: too many clients, a log that cannot grow, a signal too many.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cartwright_protocol::client::Client;
use cartwright_protocol::{ErrorCode, ItemPut, Operation, Reply, StockGet, Text};
use cartwright_test_support::{binary, sku, stock_item};

/// A server with settings of its own, killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = serve(data, "0");
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let address = lines
            .find_map(|line| Some(line.split_once("serving on ")?.1.split_once(": ")?.0.to_owned()))
            .expect("the server says where it serves");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn connect(&self) -> Client {
        Client::connect(&self.address).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn serve(data: &Path, port: &str) -> Command {
    let mut command = Command::new(binary());
    command.arg("serve").arg("--data").arg(data).args(["--port", port]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    (directory, data)
}

/// Polls until `reached`, for at most half a minute.
fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_client_over_the_limit_is_told_so_and_the_next_is_served_once_there_is_room() {
    let (_directory, data) = directory();
    let server = Server::start(&data, &["--shards", "2", "--max-connections", "3"]);
    let ask = || {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let mut answer = String::new();
        // Fails where the server has hung up already.
        let _ = stream.write_all(b"PING\r\n");
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        (stream, answer)
    };
    let mut served: Vec<_> = (0..3).map(|_| ask()).collect();
    assert!(served.iter().all(|(_, answer)| answer == "+PONG\r\n"), "{served:?}");
    let mut refused = String::new();
    TcpStream::connect(&server.address)
        .unwrap()
        .read_to_string(&mut refused)
        .unwrap();
    assert_eq!(refused, "-ERR max number of clients reached\r\n");
    served.pop();
    wait_for("room for one more", || ask().1 == "+PONG\r\n");
}

#[test]
fn a_log_that_cannot_grow_refuses_writes_and_answers_reads_until_it_can() {
    let (_directory, data) = directory();
    let server = Server::start(&data, &["--shards", "1", "--segment-mb", "20", "--sync", "no"]);
    let mut client = server.connect();
    stock_item(&mut client, "kept", 5);
    // No segment can be made where the shard's directory is gone; the open ones are still there.
    let directory = data.join("log/generation-00001/shard-000");
    let aside = data.join("log/aside");
    wait_for("the spare segment", || directory.join("segment-00000002.log").exists());
    std::fs::rename(&directory, &aside).unwrap();

    let put = |number: u64| {
        Operation::ItemPut(Box::new(ItemPut {
            sku: sku(&format!("item-{number}")),
            price: cartwright_protocol::Amount::new(1).unwrap(),
            currency: cartwright_protocol::Currency::new(b"GBP").unwrap(),
            name: Text::new(&[b'n'; 1000]).unwrap(),
            limit: None,
            backorder: None,
            key: None,
        }))
    };
    let mut refusal = None;
    'fill: for batch in 0..400 {
        for number in 0..200 {
            client.send(&put(batch * 200 + number));
        }
        client.flush().unwrap();
        for _ in 0..200 {
            let (_, reply) = client.receive().unwrap();
            if let Reply::Error(error) = reply {
                refusal.get_or_insert(error);
            }
        }
        if refusal.is_some() {
            break 'fill;
        }
    }
    let refusal = refusal.expect("two segments of 20 MiB cannot hold 80 MB");
    assert_eq!(refusal.code, ErrorCode::ReadOnly, "{refusal}");
    let stock = client
        .call(&Operation::StockGet(StockGet {
            sku: sku("kept"),
            location: None,
        }))
        .unwrap();
    assert!(
        matches!(stock, Reply::Stock(stock) if stock.available == 5),
        "{stock:?}"
    );

    std::fs::rename(&aside, &directory).unwrap();
    wait_for("writes to be taken again", || {
        client.call(&put(1)).unwrap() == Reply::Ok
    });
}

#[test]
fn no_sync_mode_loses_an_answer_to_kill_nine() {
    for mode in ["everysec", "no"] {
        let (_directory, data) = directory();
        let arguments = ["--shards", "2", "--sync", mode];
        let server = Server::start(&data, &arguments);
        let mut client = server.connect();
        for number in 0..50 {
            stock_item(&mut client, &format!("item-{number}"), 7);
        }
        drop(server);
        let server = Server::start(&data, &arguments);
        let mut client = server.connect();
        for number in 0..50 {
            let sku = sku(&format!("item-{number}"));
            let stock = client
                .call(&Operation::StockGet(StockGet { sku, location: None }))
                .unwrap();
            assert!(
                matches!(stock, Reply::Stock(stock) if stock.available == 7),
                "{mode}: {stock:?}"
            );
        }
    }
}

#[test]
fn each_cause_of_a_failed_start_has_its_exit_code() {
    let (other, data) = directory();
    let server = Server::start(&data, &["--shards", "1"]);
    let code = |data: &Path, port: &str| serve(data, port).stderr(Stdio::null()).status().unwrap().code();
    let port = server.address.rsplit(':').next().unwrap();
    assert_eq!(code(&other.path().join("new"), port), Some(11), "the port is taken");
    assert_eq!(code(&data, "0"), Some(12), "the directory is in use");
    assert_eq!(code(&data.join("LOCK"), "0"), Some(12), "it is no directory");
    assert_eq!(code(other.path(), "none"), Some(2), "it is no port");
}
