//! Connections as others see them: listed, ended, held back, let in.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use cartwright_test_support::resp::{Resp, Value, ok, text};
use cartwright_test_support::{Site, start, stop_cleanly};

fn error(value: &Value) -> &str {
    match value {
        Value::Error(text) => text,
        other => panic!("{other:?} is no error"),
    }
}

fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Text(text) => text.lines().map(str::to_owned).collect(),
        other => panic!("{other:?} is no text"),
    }
}

fn number(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("{other:?} is no number"),
    }
}

#[test]
fn all_connections_of_all_shards_are_listed_and_can_be_ended() {
    let site = Site::new(2);
    let server = site.start();
    let mut clients: Vec<_> = (0..6).map(|_| Resp::connect(server.port())).collect();
    let mut ids = Vec::new();
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.call(&["CLIENT", "SETNAME", &format!("client-{index}")]), ok());
        ids.push(number(&client.call(&["CLIENT", "ID"])));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "numbers are unique over all shards");
    clients[5].call(&["SUBSCRIBE", "a", "b"]);
    clients[5].receive();
    let list = lines(&clients[0].call(&["CLIENT", "LIST"]));
    assert_eq!(list.len(), 6, "{list:#?}");
    for (index, client) in clients.iter().enumerate() {
        let name = format!("name=client-{index} ");
        let line = list.iter().find(|line| line.contains(&name)).expect("it is listed");
        assert!(line.contains(&format!("addr={} ", client.local_address())), "{line}");
        assert_eq!(
            line.contains(" flags=P ") && line.contains(" sub=2 "),
            index == 5,
            "{line}"
        );
    }
    let shards: std::collections::BTreeSet<_> = list.iter().map(|line| line.rsplit("shard=").next()).collect();
    assert_eq!(shards.len(), 2, "{list:#?}");
    assert_eq!(lines(&clients[0].call(&["CLIENT", "LIST", "TYPE", "pubsub"])).len(), 1);
    let id = number(&clients[1].call(&["CLIENT", "ID"]));
    let listed = lines(&clients[0].call(&["CLIENT", "LIST", "ID", &id.to_string(), "999999"]));
    assert!(
        listed.len() == 1 && listed[0].starts_with(&format!("id={id} ")),
        "{listed:?}"
    );

    assert_eq!(
        clients[0].call(&["CLIENT", "KILL", "ID", &id.to_string()]),
        Value::Integer(1)
    );
    assert!(clients[1].is_closed());
    let address = clients[2].local_address();
    assert_eq!(clients[0].call(&["CLIENT", "KILL", &address]), ok());
    assert!(clients[2].is_closed());
    assert_eq!(
        error(&clients[0].call(&["CLIENT", "KILL", &address])),
        "ERR No such client"
    );
    assert_eq!(
        clients[0].call(&["CLIENT", "KILL", "TYPE", "pubsub"]),
        Value::Integer(1)
    );
    assert!(clients[5].is_closed());
    assert_eq!(
        clients[0].call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]),
        Value::Integer(2)
    );
    assert!(clients[3].is_closed() && clients[4].is_closed());
    let own = number(&clients[0].call(&["CLIENT", "ID"])).to_string();
    assert_eq!(
        clients[0].call(&["CLIENT", "KILL", "ID", &own, "SKIPME", "no"]),
        Value::Integer(1),
        "who ends itself is told so before"
    );
    assert!(clients[0].is_closed());
    stop_cleanly(server);
}

#[test]
fn a_password_lets_in_who_says_it_on_every_shard() {
    let site = Site::new(2);
    let file = site.data().with_file_name("password");
    std::fs::write(&file, "a long secret\nnot this\n").unwrap();
    let server = start(&site.options().with(&["--requirepass-file", file.to_str().unwrap()]));
    for _ in 0..4 {
        let mut client = Resp::connect(server.port());
        assert_eq!(error(&client.call(&["GET", "a"])), "NOAUTH Authentication required.");
        assert!(error(&client.call(&["AUTH", "a long secre"])).starts_with("WRONGPASS "));
        assert!(error(&client.call(&["AUTH", "default", "not this"])).starts_with("WRONGPASS "));
        assert!(error(&client.call(&["HELLO", "3"])).starts_with("NOAUTH "));
        assert_eq!(client.call(&["AUTH", "a long secret"]), ok());
        assert_eq!(client.call(&["SET", "a", "1"]), ok());
    }
    let mut client = Resp::connect(server.port());
    let hello = client.call(&["HELLO", "3", "AUTH", "default", "a long secret"]);
    assert_eq!(hello.field("proto"), &Value::Integer(3));
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", "another"]), ok());
    assert_eq!(client.call(&["GET", "a"]), text("1"), "who is in stays");
    let mut other = Resp::connect(server.port());
    assert!(error(&other.call(&["AUTH", "a long secret"])).starts_with("WRONGPASS "));
    assert_eq!(other.call(&["AUTH", "another"]), ok());
    let native = cartwright_protocol::client::Client::connect(("127.0.0.1", server.port()));
    let Err(refusal) = native else {
        panic!("the native protocol was let in without a password")
    };
    assert!(refusal.to_string().contains("Password"), "{refusal}");
    stop_cleanly(server);
}

#[test]
fn an_empty_password_is_no_password() {
    let site = Site::new(1);
    let file = site.data().with_file_name("password");
    std::fs::write(&file, "\n").unwrap();
    let output = Site::start_in_vain(&site.options().with(&["--requirepass-file", file.to_str().unwrap()]));
    assert!(output.contains("the password is empty"), "{output}");
    let output = Site::start_in_vain(&site.options().with(&["--set", "nosuch=1"]));
    assert!(output.contains("no setting 'nosuch'"), "{output}");
}

/// An address of this machine that is not the loopback's, where it has one.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: it only asks which address would be used.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn without_a_password_other_machines_are_refused() {
    let Some(address) = outer_address() else {
        eprintln!("this machine has no address but the loopback's; the session's own test has to do");
        return;
    };
    let site = Site::new(2);
    let server = start(&site.options().with(&["--bind", "0.0.0.0"]));
    let from_outside = format!("{address}:{}", server.port());
    let mut inner = Resp::connect(server.port());
    for _ in 0..3 {
        let refusal = Resp::connect_to(&from_outside).receive();
        assert!(error(&refusal).starts_with("DENIED "), "{refusal:?}");
    }
    assert_eq!(inner.call(&["CONFIG", "SET", "protected-mode", "no"]), ok());
    assert_eq!(Resp::connect_to(&from_outside).call(&["PING"]), text("PONG"));
    assert_eq!(
        inner.call(&["CONFIG", "SET", "protected-mode", "yes", "requirepass", "secret"]),
        ok()
    );
    let mut outer = Resp::connect_to(&from_outside);
    assert_eq!(outer.call(&["AUTH", "secret"]), ok());
    assert_eq!(outer.call(&["PING"]), text("PONG"));
    stop_cleanly(server);
}

#[test]
fn a_pause_holds_writers_of_all_shards_back_and_nobody_else() {
    let site = Site::new(2);
    let server = site.start();
    let mut clients: Vec<_> = (0..4).map(|_| Resp::connect(server.port())).collect();
    assert_eq!(clients[0].call(&["CLIENT", "PAUSE", "60000", "WRITE"]), ok());
    for client in &mut clients {
        client.send(&Resp::encode(&["PING"]));
        client.send(&Resp::encode(&["INCR", "counter"]));
    }
    for client in &mut clients {
        assert_eq!(client.receive(), text("PONG"));
    }
    let mut other = Resp::connect(server.port());
    assert_eq!(other.call(&["GET", "counter"]), Value::Null, "nobody writes");
    assert_eq!(other.call(&["CLIENT", "UNPAUSE"]), ok());
    let mut numbers: Vec<_> = clients.iter_mut().map(|client| number(&client.receive())).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
    // One that ends by itself.
    let began = Instant::now();
    assert_eq!(other.call(&["CLIENT", "PAUSE", "300"]), ok());
    assert_eq!(clients[0].call(&["INCR", "counter"]), Value::Integer(5));
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    stop_cleanly(server);
}

#[test]
fn a_debug_sleep_makes_nobody_else_wait() {
    let site = Site::new(1);
    let server = site.start();
    let mut sleeper = Resp::connect(server.port());
    let mut other = Resp::connect(server.port());
    let began = Instant::now();
    sleeper.send(&Resp::encode(&["DEBUG", "SLEEP", "2"]));
    let mut answered = 0;
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(other.call(&["PING"]), text("PONG"));
        answered += 1;
    }
    assert!(answered > 10, "{answered} answers in 1.5 s");
    assert_eq!(sleeper.receive(), ok());
    assert!(began.elapsed() >= Duration::from_secs(2));
    stop_cleanly(server);
}

#[test]
fn the_server_tells_about_itself_and_its_slow_commands() {
    let site = Site::new(2);
    let server = start(&site.options().with(&["--set", "slowlog-log-slower-than=0"]));
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["SET", "a-key", "1"]), ok());
    error(&client.call(&["INCR", "a-key", "2"]));
    let text_of = |value: Value| match value {
        Value::Text(text) => text,
        other => panic!("{other:?} is no text"),
    };
    assert_eq!(client.call(&["SET", "brief", "1", "EX", "100"]), ok());
    let info = text_of(client.call(&["INFO", "everything"]));
    for part in [
        "connected_clients:1\r\n",
        "cmdstat_set:calls=2,",
        "db0:keys=2,expires=1,",
        "errorstat_ERR:count=1\r\n",
        "safe_position_shard_0:",
        "safe_position_shard_1:",
        "log_sync_usec_p99:",
        "transactions_checkout:0\r\n",
    ] {
        assert!(info.contains(part), "{part} in {info}");
    }
    let Value::Array(slow) = client.call(&["SLOWLOG", "GET", "-1"]) else {
        panic!("SLOWLOG GET is a list")
    };
    let of_set = slow.iter().find_map(|entry| match entry {
        Value::Array(parts)
            if parts[3] == Value::Array(vec![text("set"), text("a-key"), text("... (1 more arguments)")]) =>
        {
            Some(parts)
        }
        _ => None,
    });
    assert!(matches!(of_set, Some(parts) if number(&parts[2]) > 0), "{slow:?}");
    assert_eq!(client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"]), ok());
    assert_eq!(client.call(&["SLOWLOG", "RESET"]), ok());
    assert_eq!(client.call(&["SLOWLOG", "LEN"]), Value::Integer(0));
    assert_eq!(client.call(&["CONFIG", "RESETSTAT"]), ok());
    let info = text_of(client.call(&["INFO", "commandstats"]));
    assert!(!info.contains("cmdstat_set"), "{info}");

    assert_eq!(client.call(&["LATENCY", "LATEST"]), Value::Array(vec![]));
    assert_eq!(client.call(&["CONFIG", "SET", "latency-monitor-threshold", "10"]), ok());
    assert_eq!(client.call(&["DEBUG", "SLEEP", "0.05"]), ok());
    let Value::Array(events) = client.call(&["LATENCY", "LATEST"]) else {
        panic!("LATENCY LATEST is a list")
    };
    assert!(
        events.iter().any(
            |event| matches!(event, Value::Array(parts) if parts[0] == text("command") && number(&parts[3]) >= 50)
        ),
        "{events:?}"
    );
    assert!(number(&client.call(&["LATENCY", "RESET"])) >= 1);
    assert_eq!(client.call(&["WAIT", "0", "10"]), Value::Integer(0));
    assert_eq!(
        client.call(&["WAITAOF", "1", "0", "0"]),
        Value::Array(vec![Value::Integer(1), Value::Integer(0)])
    );
    assert_eq!(client.call(&["SAVE"]), ok());
    client.send(&Resp::encode(&["SHUTDOWN"]));
    assert!(client.is_closed());
    let mut server = server;
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = server.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "SHUTDOWN did not end the server");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn a_silent_connection_is_closed_once_it_has_been_silent_for_too_long() {
    let site = Site::new(2);
    let server = start(&site.options().with(&["--set", "timeout=1"]));
    let mut silent: Vec<_> = (0..2).map(|_| Resp::connect(server.port())).collect();
    let mut subscriber = Resp::connect(server.port());
    subscriber.call(&["SUBSCRIBE", "a"]);
    for client in &mut silent {
        assert_eq!(client.call(&["PING"]), text("PONG"));
    }
    for client in &mut silent {
        assert!(client.is_closed());
    }
    assert_eq!(
        subscriber.call(&["PING"]),
        cartwright_test_support::resp::texts(&["pong", ""])
    );
    stop_cleanly(server);
}
