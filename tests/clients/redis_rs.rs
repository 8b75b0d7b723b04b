//! The `redis` crate, blocking, over RESP2 and RESP3.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use cartwright_tools::server_process::ServerProcess;
use redis::{
    Commands, Connection, ErrorKind, ExistenceCheck, RedisError, RedisResult, ServerErrorKind, SetExpiry, SetOptions,
    Value, cmd, pipe,
};

use cartwright_test_support::{Site, start, stop_cleanly};

/// How long any answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

const PASSWORD: &str = "correct horse";

fn open(port: u16, credentials: &str, protocol: u8) -> RedisResult<Connection> {
    let client = redis::Client::open(format!(
        "redis://{credentials}127.0.0.1:{port}/?protocol=resp{protocol}"
    ))?;
    let connection = client.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

/// A server and a connection to it.
fn setting(protocol: u8) -> (Site, ServerProcess, Connection) {
    let site = Site::new(2);
    let server = site.start();
    let connection = open(server.port(), "", protocol).unwrap();
    (site, server, connection)
}

fn in_both_protocols(check: impl Fn(&ServerProcess, &mut Connection, u8)) {
    for protocol in [2, 3] {
        let (_site, server, mut connection) = setting(protocol);
        check(&server, &mut connection, protocol);
        stop_cleanly(server);
    }
}

fn code<T: std::fmt::Debug>(result: RedisResult<T>) -> String {
    let error = result.unwrap_err();
    error
        .code()
        .unwrap_or_else(|| panic!("{error:?} has no code"))
        .to_owned()
}

#[test]
fn keys_hashes_and_bits() {
    in_both_protocols(|_, r, protocol| {
        cmd("CLIENT").arg("SETNAME").arg("till-7").exec(r).unwrap();
        let info: String = cmd("CLIENT").arg("INFO").query(r).unwrap();
        for part in ["name=till-7", "lib-name=redis-rs", &format!("resp={protocol}")] {
            assert!(info.contains(part), "{part}: {info}");
        }
        let () = r.set("s", "one").unwrap();
        assert_eq!(r.get::<_, String>("s").unwrap(), "one");
        assert_eq!(r.get::<_, Option<String>>("nothing").unwrap(), None);
        let options = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::EX(100));
        assert!(!r.set_options::<_, _, bool>("s", "two", options.clone()).unwrap());
        assert!(r.set_options::<_, _, bool>("t", "two", options).unwrap());
        assert!((90..=100).contains(&r.ttl::<_, i64>("t").unwrap()));
        assert!(r.persist::<_, bool>("t").unwrap());
        assert_eq!(r.incr::<_, _, i64>("n", 42).unwrap(), 42);
        assert!((r.incr::<_, _, f64>("f", 1.5).unwrap() - 1.5).abs() < 1e-9);
        let () = r.mset(&[("a", 1), ("b", 2)]).unwrap();
        assert_eq!(
            r.mget::<_, Vec<Option<i64>>>(&["a", "nothing", "b"]).unwrap(),
            [Some(1), None, Some(2)]
        );
        assert_eq!(r.del::<_, u64>(&["a", "b", "nothing"]).unwrap(), 2);

        let () = r.hset_multiple("h", &[("one", "1"), ("two", "2")]).unwrap();
        let all: HashMap<String, i64> = r.hgetall("h").unwrap();
        assert_eq!(all, HashMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]));
        assert!(r.hgetall::<_, HashMap<String, i64>>("nothing").unwrap().is_empty());
        assert_eq!(r.hincr::<_, _, _, i64>("h", "one", 9).unwrap(), 10);

        assert!(!r.setbit::<_, bool>("bits", 7, true).unwrap());
        assert_eq!(r.bitcount::<_, u64>("bits").unwrap(), 1);

        let every_byte: Vec<u8> = (0..=255).collect();
        let () = r.set(&every_byte, &every_byte).unwrap();
        assert_eq!(r.get::<_, Vec<u8>>(&every_byte).unwrap(), every_byte);

        for number in 0..500 {
            let () = r.set(format!("item:{number}"), number).unwrap();
        }
        let found: BTreeSet<String> = r.scan_match("item:*").unwrap().map(Result::unwrap).collect();
        assert_eq!(found.len(), 500);
        assert_eq!(r.exists::<_, u64>(found.iter().collect::<Vec<_>>()).unwrap(), 500);
    });
}

#[test]
fn pipelines_and_transactions() {
    in_both_protocols(|server, r, protocol| {
        let mut pipeline = pipe();
        for number in 0..1000 {
            pipeline.incr(format!("counter-{}", number % 7), 1);
        }
        let sums: Vec<i64> = pipeline.query(r).unwrap();
        assert_eq!(sums, (0..1000).map(|number| 1 + number / 7).collect::<Vec<_>>());

        let (sum, both): (i64, Vec<Option<String>>) = pipe()
            .atomic()
            .set("a", 1)
            .ignore()
            .incr("a", 1)
            .mget(&["a", "b"])
            .query(r)
            .unwrap();
        assert_eq!((sum, both), (2, vec![Some("2".to_owned()), None]));
        let refused = pipe()
            .atomic()
            .incr("a", 1)
            .cmd("NONSENSE")
            .incr("a", 1)
            .query::<Value>(r);
        assert_eq!(
            refused.unwrap_err().kind(),
            ErrorKind::Server(ServerErrorKind::ExecAbort)
        );
        assert_eq!(r.get::<_, i64>("a").unwrap(), 2);

        // Somebody else changes the key between WATCH and EXEC, once.
        let mut other = open(server.port(), "", protocol).unwrap();
        let mut tries = 0;
        let (sum,): (i64,) = redis::transaction(r, &["a"], |r, pipeline| {
            let found: i64 = r.get("a")?;
            tries += 1;
            if tries == 1 {
                let () = other.set("a", 10)?;
            }
            pipeline.set("a", found * 2).ignore().get("a").query(r)
        })
        .unwrap();
        assert_eq!((tries, sum), (2, 20));
    });
}

#[test]
fn transactions_of_many_threads_lose_no_update() {
    let (_site, server, mut r) = setting(3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut own = open(server.port(), "", 3).unwrap();
                for _ in 0..20 {
                    let () = redis::transaction(&mut own, &["balance"], |r, pipeline| {
                        let found: Option<i64> = r.get("balance")?;
                        pipeline.set("balance", found.unwrap_or(0) + 1).query(r)
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(r.get::<_, i64>("balance").unwrap(), 80);
    stop_cleanly(server);
}

#[test]
fn messages_reach_who_subscribed() {
    in_both_protocols(|server, r, protocol| {
        let mut subscriber = open(server.port(), "", protocol).unwrap();
        {
            let mut pubsub = subscriber.as_pubsub();
            pubsub.subscribe("news").unwrap();
            pubsub.subscribe("weather").unwrap();
            pubsub.psubscribe("ne?s*").unwrap();
            assert_eq!(r.publish::<_, _, u64>("news", "extra").unwrap(), 2);
            let mut heard = Vec::new();
            for _ in 0..2 {
                let message = pubsub.get_message().unwrap();
                assert_eq!(message.get_channel_name(), "news");
                assert_eq!(message.get_payload::<String>().unwrap(), "extra");
                heard.push(message.from_pattern());
            }
            heard.sort_unstable();
            assert_eq!(heard, [false, true]);
            pubsub.unsubscribe("news").unwrap();
            assert_eq!(r.publish::<_, _, u64>("news", &[0_u8, 255][..]).unwrap(), 1);
            assert_eq!(pubsub.get_message().unwrap().get_payload_bytes(), [0, 255]);
        }
        // The connection is one for commands again.
        assert_eq!(subscriber.incr::<_, _, i64>("n", 1).unwrap(), 1);
        assert_eq!(r.publish::<_, _, u64>("weather", "rain").unwrap(), 0);
    });
}

#[test]
fn errors_have_their_kinds_and_codes() {
    in_both_protocols(|_, r, _| {
        let () = r.set("text", "x").unwrap();
        assert_eq!(code(r.hget::<_, _, String>("text", "f")), "WRONGTYPE");
        let refused: RedisError = r.incr::<_, _, i64>("text", 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Server(ServerErrorKind::ResponseError));
        assert_eq!(refused.detail(), Some("value is not an integer or out of range"));
        let refused = cmd("NONSENSE").arg("a").query::<Value>(r).unwrap_err();
        assert!(
            refused.detail().unwrap().starts_with("unknown command 'NONSENSE'"),
            "{refused}"
        );
    });
}

#[test]
fn a_password_is_asked_for() {
    let site = Site::new(1);
    let server = start(&site.options().with(&["--requirepass", PASSWORD]));
    let encoded = PASSWORD.replace(' ', "%20");
    for protocol in [2, 3] {
        let ask = |credentials: &str| open(server.port(), credentials, protocol)?.incr::<_, _, i64>("n", 1);
        assert!(ask("").is_err());
        let refused = ask(":wrong@").unwrap_err();
        if protocol == 2 {
            assert_eq!(refused.kind(), ErrorKind::AuthenticationFailed);
        } else {
            assert_eq!(refused.code(), Some("WRONGPASS"));
        }
        assert!(ask(&format!("ann:{encoded}@")).is_err());
        let before = ask(&format!(":{encoded}@")).unwrap();
        assert_eq!(ask(&format!("default:{encoded}@")).unwrap(), before + 1);
    }
    stop_cleanly(server);
}

#[test]
fn the_shop_and_a_crash() {
    for protocol in [2, 3] {
        let (site, server, mut r) = setting(protocol);
        let put = ["ITEM.PUT", "22423", "1275", "GBP"];
        assert_eq!(cmd(put[0]).arg(&put[1..]).query::<String>(&mut r).unwrap(), "OK");
        assert_eq!(cmd("STOCK.ADD").arg("22423").arg(10).query::<i64>(&mut r).unwrap(), 10);
        let cart = |customer: &str, key: &str, units: i64| {
            let mut cart = cmd("CHECKOUT");
            cart.arg(customer)
                .arg("KEY")
                .arg(key)
                .arg("LINES")
                .arg(1)
                .arg("22423")
                .arg(units);
            cart
        };
        let placed: HashMap<String, Value> = cart("ann", "basket-1", 3).query(&mut r).unwrap();
        assert_eq!(placed["total"], Value::Int(3825));
        assert_eq!(code(cart("bob", "b", 8).query::<Value>(&mut r)), "OUTOFSTOCK");
        assert_eq!(code(cart("ann", "basket-1", 4).query::<Value>(&mut r)), "CONFLICT");
        let replies: Vec<HashMap<String, Value>> = pipe()
            .add_command(cart("cat", "c1", 1))
            .add_command(cart("cat", "c2", 1))
            .query(&mut r)
            .unwrap();
        assert_eq!(replies.len(), 2);
        let () = r.set("kept", "1").unwrap();

        let port = server.port();
        server.kill().unwrap();
        let broken = r.get::<_, String>("kept").unwrap_err();
        assert!(broken.is_connection_dropped() || broken.is_io_error(), "{broken:?}");
        let server = start(&site.options().on_port(port));
        let mut r = open(port, "", protocol).unwrap();
        assert_eq!(r.get::<_, String>("kept").unwrap(), "1");
        let again: HashMap<String, Value> = cart("ann", "basket-1", 3).query(&mut r).unwrap();
        assert_eq!(again, placed);
        let level: HashMap<String, i64> = cmd("STOCK.GET").arg("22423").query(&mut r).unwrap();
        assert_eq!((level["committed"], level["available"]), (5, 5));
        let audit: HashMap<String, Value> = cmd("AUDIT").query(&mut r).unwrap();
        assert_eq!(
            (&audit["orders"], &audit["violations"]),
            (&Value::Int(3), &Value::Int(0))
        );
        stop_cleanly(server);
    }
}
