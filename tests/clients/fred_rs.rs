//! The `fred` crate, over RESP2 and RESP3.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::cmd;
use fred::interfaces::{
    ClientLike, EventInterface, HashesInterface, KeysInterface, PubsubInterface, TransactionInterface,
};
use fred::prelude::{Builder, Client, Config, Error, ErrorKind, Expiration, ReconnectPolicy, SetOptions, Value};
use fred::types::{Key, RespVersion};

use cartwright_test_support::{Site, start, stop_cleanly};

/// How long any answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Without a space: `HELLO` is an inline command of fred's, and it quotes nothing.
const PASSWORD: &str = "correct-horse";

const VERSIONS: [RespVersion; 2] = [RespVersion::RESP2, RespVersion::RESP3];

fn builder(port: u16, version: &RespVersion) -> Builder {
    let config = Config {
        version: version.clone(),
        ..Config::from_url(&format!("redis://127.0.0.1:{port}")).unwrap()
    };
    let mut builder = Builder::from_config(config);
    builder
        .set_policy(ReconnectPolicy::new_constant(0, 50))
        .with_performance_config(|config| config.default_command_timeout = TIMEOUT);
    builder
}

async fn connect(builder: &Builder) -> Client {
    let client = builder.build().unwrap();
    client.init().await.unwrap();
    client
}

/// Runs a check to its end.
fn run<T>(check: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(check)
}

/// Asks again and again until the answer is true.
async fn eventually(what: &str, mut question: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if question().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

async fn call(client: &Client, words: &[&str]) -> Result<Value, Error> {
    client.custom(cmd!(words[0]), words[1..].to_vec()).await
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().details().to_owned()
}

#[test]
fn keys_and_hashes() {
    let site = Site::new(2);
    let server = site.start();
    for version in &VERSIONS {
        run(async {
            let r = connect(&builder(server.port(), version)).await;
            let _: Value = call(&r, &["FLUSHALL"]).await.unwrap();
            call(&r, &["CLIENT", "SETNAME", "till-7"]).await.unwrap();
            let info = call(&r, &["CLIENT", "INFO"]).await.unwrap().into_string().unwrap();
            let resp = if *version == RespVersion::RESP3 {
                "resp=3"
            } else {
                "resp=2"
            };
            assert!(info.contains("name=till-7") && info.contains(resp), "{info}");

            let () = r.set("s", "one", Some(Expiration::EX(100)), None, false).await.unwrap();
            assert_eq!(r.get::<String, _>("s").await.unwrap(), "one");
            assert_eq!(r.get::<Option<String>, _>("nothing").await.unwrap(), None);
            let kept: Option<String> = r.set("s", "two", None, Some(SetOptions::NX), false).await.unwrap();
            assert_eq!(kept, None);
            assert!((90..=100).contains(&r.ttl::<i64, _>("s").await.unwrap()));
            assert_eq!(r.incr_by::<i64, _>("n", 42).await.unwrap(), 42);
            let () = r.mset(HashMap::from([("a", 1), ("b", 2)])).await.unwrap();
            let found: Vec<Option<i64>> = r.mget(vec!["a", "nothing", "b"]).await.unwrap();
            assert_eq!(found, [Some(1), None, Some(2)]);
            assert_eq!(r.del::<i64, _>(vec!["a", "b", "nothing"]).await.unwrap(), 2);

            let () = r.hset("h", HashMap::from([("one", 1), ("two", 2)])).await.unwrap();
            let all: HashMap<String, i64> = r.hgetall("h").await.unwrap();
            assert_eq!(all, HashMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]));
            assert_eq!(r.hincrby::<i64, _, _>("h", "one", 9).await.unwrap(), 10);

            let every_byte: Vec<u8> = (0..=255).collect();
            let () = r
                .set(
                    &every_byte[..],
                    Value::Bytes(every_byte.clone().into()),
                    None,
                    None,
                    false,
                )
                .await
                .unwrap();
            let found: Value = r.get(&every_byte[..]).await.unwrap();
            assert_eq!(found.as_bytes(), Some(&every_byte[..]));

            for number in 0..300 {
                let () = r
                    .set(format!("item:{number}"), number, None, None, false)
                    .await
                    .unwrap();
            }
            let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
            loop {
                let (next, keys): (String, Vec<Key>) = r.scan_page(cursor, "item:*", Some(50), None).await.unwrap();
                found.extend(keys.into_iter().map(|key| key.into_string().unwrap()));
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(found.len(), 300);

            let () = r.set("text", "x", None, None, false).await.unwrap();
            assert!(refusal(r.hget::<String, _, _>("text", "f").await).starts_with("WRONGTYPE"));
            assert!(refusal(r.incr::<i64, _>("text").await).contains("not an integer"));
            assert!(refusal(call(&r, &["NONSENSE", "a"]).await).contains("unknown command 'NONSENSE'"));
            r.quit().await.unwrap();
        });
    }
    stop_cleanly(server);
}

#[test]
fn pipelines_transactions_and_pools() {
    let site = Site::new(2);
    let server = site.start();
    for version in &VERSIONS {
        run(async {
            let builder = builder(server.port(), version);
            let (r, other) = (connect(&builder).await, connect(&builder).await);
            let _: Value = call(&r, &["FLUSHALL"]).await.unwrap();
            let pipeline = r.pipeline();
            for number in 0..1000 {
                let () = pipeline.incr(format!("counter-{}", number % 7)).await.unwrap();
            }
            let sums: Vec<i64> = pipeline.all().await.unwrap();
            assert_eq!(sums, (0..1000).map(|number| 1 + number / 7).collect::<Vec<_>>());

            let transaction = r.multi();
            let () = transaction.set("a", 1, None, None, false).await.unwrap();
            let () = transaction.incr("a").await.unwrap();
            let () = transaction.mget(vec!["a", "b"]).await.unwrap();
            let replies: (String, i64, Vec<Option<String>>) = transaction.exec(true).await.unwrap();
            assert_eq!(replies, ("OK".to_owned(), 2, vec![Some("2".to_owned()), None]));

            r.watch("a").await.unwrap();
            let () = other.set("a", 10, None, None, false).await.unwrap();
            let transaction = r.multi();
            let () = transaction.incr("a").await.unwrap();
            assert_eq!(transaction.exec::<Value>(true).await.unwrap(), Value::Null);
            assert_eq!(r.get::<i64, _>("a").await.unwrap(), 10);
            r.watch("a").await.unwrap();
            let transaction = r.multi();
            let () = transaction.incr("a").await.unwrap();
            assert_eq!(transaction.exec::<Vec<i64>>(true).await.unwrap(), [11]);

            let pool = builder.build_pool(5).unwrap();
            pool.init().await.unwrap();
            let tasks: Vec<_> = (0..500)
                .map(|number| {
                    let pool = pool.clone();
                    tokio::spawn(async move {
                        let key = format!("own-{number}");
                        let () = pool.set(&key, number, None, None, false).await.unwrap();
                        // Another connection of the pool, after the answer: the key is there for everybody.
                        assert_eq!(pool.get::<i64, _>(&key).await.unwrap(), number);
                        pool.incr::<i64, _>("all").await.unwrap()
                    })
                })
                .collect();
            let mut sums = BTreeSet::new();
            for task in tasks {
                sums.insert(task.await.unwrap());
            }
            assert_eq!(sums, (1..=500).collect());
        });
    }
    stop_cleanly(server);
}

#[test]
fn a_password_is_asked_for() {
    let site = Site::new(1);
    let server = start(&site.options().with(&["--requirepass", PASSWORD]));
    for version in &VERSIONS {
        run(async {
            let with = |user: Option<&str>, password: Option<&str>| {
                let mut builder = builder(server.port(), version);
                builder.with_config(|config| {
                    config.username = user.map(str::to_owned);
                    config.password = password.map(str::to_owned);
                    config.fail_fast = true;
                });
                builder.build().unwrap()
            };
            for refused in [
                with(None, None),
                with(None, Some("wrong")),
                with(Some("ann"), Some(PASSWORD)),
            ] {
                let answer = match refused.init().await {
                    Ok(_) => refused.get::<Value, _>("a").await.map(drop),
                    Err(error) => Err(error),
                };
                assert_eq!(*answer.unwrap_err().kind(), ErrorKind::Auth);
            }
            for user in [None, Some("default")] {
                let inside = with(user, Some(PASSWORD));
                inside.init().await.unwrap();
                let () = inside.set("in", 1, None, None, false).await.unwrap();
                assert_eq!(inside.get::<i64, _>("in").await.unwrap(), 1);
            }
        });
    }
    stop_cleanly(server);
}

#[test]
fn messages_the_shop_and_a_crash() {
    for version in &VERSIONS {
        let site = Site::new(2);
        let server = site.start();
        let builder = builder(server.port(), version);
        run(async {
            let r = connect(&builder).await;
            let subscriber: SubscriberClient = builder.build_subscriber_client().unwrap();
            subscriber.init().await.unwrap();
            let mut heard = subscriber.message_rx();
            let resubscribe = subscriber.manage_subscriptions();
            subscriber.subscribe("news").await.unwrap();
            subscriber.psubscribe("ne?s*").await.unwrap();
            // The client does not wait for the answer.
            let patterns = async || call(&r, &["PUBSUB", "NUMPAT"]).await.unwrap() == Value::Integer(1);
            eventually("the subscription", patterns).await;
            assert_eq!(r.publish::<i64, _, _>("news", "extra").await.unwrap(), 2);
            for _ in 0..2 {
                let message = tokio::time::timeout(TIMEOUT, heard.recv()).await.unwrap().unwrap();
                assert_eq!(
                    (&*message.channel, message.value.as_str().as_deref()),
                    ("news", Some("extra"))
                );
            }
            subscriber.punsubscribe("ne?s*").await.unwrap();

            call(&r, &["ITEM.PUT", "22423", "1275", "GBP"]).await.unwrap();
            assert_eq!(
                call(&r, &["STOCK.ADD", "22423", "10"]).await.unwrap(),
                Value::Integer(10)
            );
            let cart = ["CHECKOUT", "ann", "KEY", "basket-1", "LINES", "1", "22423", "3"];
            let placed: HashMap<String, Value> = call(&r, &cart).await.unwrap().convert().unwrap();
            assert_eq!(placed["total"], Value::Integer(3825));
            let refused = call(&r, &["CHECKOUT", "bob", "KEY", "b", "LINES", "1", "22423", "8"]).await;
            assert!(refusal(refused).starts_with("OUTOFSTOCK"));
            let () = r.set("kept", "1", None, None, false).await.unwrap();

            let port = server.port();
            server.kill().unwrap();
            let server = start(&site.options().on_port(port));
            eventually("the client to come back", async || {
                r.get::<String, _>("kept").await.is_ok()
            })
            .await;
            let again: HashMap<String, Value> = call(&r, &cart).await.unwrap().convert().unwrap();
            assert_eq!(again, placed);
            let level: HashMap<String, i64> = call(&r, &["STOCK.GET", "22423"]).await.unwrap().convert().unwrap();
            assert_eq!((level["committed"], level["available"]), (3, 7));
            let publish = async || {
                r.publish::<i64, _, _>("news", "I am back")
                    .await
                    .is_ok_and(|count| count == 1)
            };
            eventually("the subscriber to come back", publish).await;
            let message = tokio::time::timeout(TIMEOUT, heard.recv()).await.unwrap().unwrap();
            assert_eq!(message.value.as_str().as_deref(), Some("I am back"));
            resubscribe.abort();
            stop_cleanly(server);
        });
    }
}
