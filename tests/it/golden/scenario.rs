//! What is said to a server whose directory becomes a golden one: every kind of change there is, and what may be asked
//! about it for good, whatever the clock says by then.

use std::time::Duration;

use cartwright_test_support::Site;
use cartwright_test_support::resp::{Resp, Value, ok};
use cartwright_tools::server_process::ServerProcess;

/// An hour that no test will see: the first of 2100, in Unix milliseconds.
const FAR: &str = "4102444800000";

/// A field of a hash that is more than a small hash holds.
const LONG_FIELD_BYTES: usize = 200;

pub fn say(client: &mut Resp, command: &str) -> Value {
    let words: Vec<_> = command.split(' ').collect();
    let reply = client.call(&words);
    assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
    reply
}

/// Says each, and gives them to be asked again: none changes anything a second time.
fn say_for_good(client: &mut Resp, commands: &mut Vec<String>, command: String) -> Value {
    let words: Vec<_> = command.split(' ').collect();
    let reply = client.call(&words);
    commands.push(command);
    reply
}

/// The order that a reply names.
fn order(reply: &Value) -> i64 {
    match reply.field("id") {
        Value::Integer(id) => *id,
        other => panic!("{other:?} is no order's number"),
    }
}

pub fn stock(client: &mut Resp, count: usize) {
    for item in 0..count {
        say(client, &format!("ITEM.PUT item-{item} {} EUR", 100 + item));
        say(client, &format!("STOCK.ADD item-{item} 100000"));
    }
}

/// A server that has taken every kind of change there is, and what it may be asked for good.
pub fn everything(site: &Site) -> (Vec<String>, ServerProcess) {
    let server = site.start();
    let mut client = Resp::connect(server.port());
    say(&mut client, "SET gone with-all-others");
    say(&mut client, "HSET gone-as-well f v");
    assert_eq!(say(&mut client, "FLUSHALL"), ok());
    let mut commands = Vec::new();
    shop(&mut client, &mut commands);
    keyspace(&mut client, &mut commands);
    (commands, server)
}

fn shop(client: &mut Resp, commands: &mut Vec<String>) {
    stock(client, 12);
    for command in [
        "ITEM.PUT limited 250 EUR NAME limited LIMIT 3 KEY put-limited",
        "ITEM.PUT sold-ahead 999 GBP NAME sold-ahead BACKORDER 5",
        "STOCK.ADD limited 20 LOCATION paris REASON delivery KEY add-limited",
        "STOCK.ADD limited 30 LOCATION lyon",
        "STOCK.ADD limited -2 LOCATION lyon REASON broken",
        // The same again with its key: once is enough.
        "STOCK.ADD limited 20 LOCATION paris REASON delivery KEY add-limited",
    ] {
        say(client, command);
    }
    // Over all shards, and on one; taken, refused, and asked again.
    for number in 0..12 {
        let lines: Vec<_> = (0..=number % 4)
            .map(|line| format!("item-{} {}", (number + 5 * line) % 12, 1 + line))
            .collect();
        let (count, lines) = (lines.len(), lines.join(" "));
        let command = format!(
            "CHECKOUT customer-{} KEY cart-{number} LINES {count} {lines}",
            number % 5
        );
        say_for_good(client, commands, command);
    }
    say_for_good(client, commands, "CHECKOUT ann KEY ahead LINES 1 sold-ahead 4".into());
    say_for_good(
        client,
        commands,
        "CHECKOUT ann KEY too-many LINES 1 sold-ahead 4".into(),
    );
    say_for_good(client, commands, "CHECKOUT ann KEY none LINES 1 nothing 1".into());
    say_for_good(client, commands, "CHECKOUT bob KEY limited LINES 1 limited 2".into());
    say_for_good(client, commands, "CHECKOUT bob KEY over LINES 1 limited 2".into());
    // Held orders, over one and over several items: placed, called off, expired.
    for (count, lines) in [(1, "item-1 2"), (3, "item-2 1 item-3 2 item-4 3")] {
        for end in ["CONFIRM", "CANCEL", "expire"] {
            let hold = if end == "expire" { 100 } else { 604_800_000 };
            let command = format!("CHECKOUT held KEY held-{count}-{end} HOLD {hold} LINES {count} {lines}");
            let id = order(&say(client, &command));
            if end != "expire" {
                // Once more says what it is already.
                say(client, &format!("ORDER.{end} {id} KEY end-{count}-{end}"));
                say_for_good(client, commands, format!("ORDER.{end} {id} KEY end-{count}-{end}"));
                say_for_good(client, commands, format!("ORDER.{end} {id} KEY again-{count}-{end}"));
            }
            commands.push(format!("ORDER.GET {id}"));
        }
        let placed = order(&say(
            client,
            &format!("CHECKOUT placed KEY placed-{count} LINES {count} {lines}"),
        ));
        say_for_good(client, commands, format!("ORDER.CANCEL {placed}"));
        commands.push(format!("ORDER.GET {placed}"));
        // Stays held for a week; then its stock is as if it had never been, so nobody asks for that.
        say(
            client,
            &format!(
                "CHECKOUT week KEY week-{count} HOLD 604800000 LINES 1 item-{} 1",
                10 + count % 2
            ),
        );
    }
    std::thread::sleep(Duration::from_millis(1500));
    for item in (0..10)
        .map(|item| format!("item-{item}"))
        .chain(["limited".into(), "sold-ahead".into()])
    {
        commands.push(format!("ITEM.GET {item}"));
        commands.push(format!("STOCK.GET {item}"));
    }
    commands.push("STOCK.GET limited LOCATION lyon".into());
    for customer in 0..5 {
        commands.push(format!("ORDER.LIST customer-{customer}"));
    }
}

fn keyspace(client: &mut Resp, commands: &mut Vec<String>) {
    let (long, field) = ("x".repeat(1_200_000), "y".repeat(LONG_FIELD_BYTES));
    for command in [
        "SET plain text",
        "SET until-2100 text PXAT FAR",
        "SET number 41",
        "INCR number",
        "SET counted-until 7 PXAT FAR",
        "INCRBY counted-until -9",
        "INCRBYFLOAT float 2.5",
        "APPEND log one",
        "APPEND log two",
        "SETRANGE range 3 abc",
        "SET short gone-soon PX 60",
        "SET deleted x",
        "DEL deleted",
        "SET expires x",
        "PEXPIREAT expires FAR",
        "SET persists x PXAT FAR",
        "PERSIST persists",
        "HSET small a 1 b two",
        "HINCRBY small a 9",
        "HSET fields a 1 b 2 c 3",
        "HDEL fields a b",
        "HSET emptied a 1",
        "HDEL emptied a",
        "SET renamed-from x",
        "RENAME renamed-from renamed-to",
        "COPY small small-copy",
        "PEXPIREAT small-copy FAR",
        "SET long LONG",
        "SETRANGE long 1100000 end",
    ] {
        say(client, &command.replace("FAR", FAR).replace("LONG", &long));
    }
    // More than a piece of a checkpoint, and more than a list.
    for first in (0..400).step_by(50) {
        let fields: Vec<_> = (first..first + 50).map(|n| format!("field-{n} {field}{n}")).collect();
        say(client, &format!("HSET large {}", fields.join(" ")));
    }
    say(client, "HDEL large field-7 field-8");
    say(client, "MULTI");
    for key in 0..8 {
        say(client, &format!("SET multi-{key} {key}"));
        say(client, &format!("HSET multi-hash-{key} f {key}"));
    }
    assert!(matches!(say(client, "EXEC"), Value::Array(replies) if replies.len() == 16));
    say(client, "MSET mset-1 a mset-2 b mset-3 c mset-4 d");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(say(client, "GET short"), Value::Null);
    let asked = [
        "GET plain",
        "PEXPIRETIME until-2100",
        "GET number",
        "OBJECT ENCODING number",
        "GET counted-until",
        "PEXPIRETIME counted-until",
        "GET float",
        "GET log",
        "OBJECT ENCODING log",
        "STRLEN range",
        "GET short",
        "GET deleted",
        "PEXPIRETIME expires",
        "PEXPIRETIME persists",
        "HGET small a",
        "HGETALL fields",
        "EXISTS emptied",
        "EXISTS renamed-from renamed-to",
        "HGET small-copy b",
        "OBJECT ENCODING small-copy",
        "PEXPIRETIME small-copy",
        "STRLEN long",
        "GETRANGE long 1099995 1100005",
        "HLEN large",
        "OBJECT ENCODING large",
        "HGET large field-7",
        "HGET large field-399",
        "MGET mset-1 mset-2 mset-3 mset-4",
        "EXISTS gone gone-as-well",
        "DBSIZE",
    ];
    commands.extend(asked.map(str::to_owned));
    for key in 0..8 {
        commands.push(format!("GET multi-{key}"));
        commands.push(format!("HGETALL multi-hash-{key}"));
    }
}

/// After a start: more of one customer's orders than one part of a checkpoint holds, and a few keys. Returns what may be
/// asked for good beside what was there before.
pub fn more(server: &ServerProcess) -> Vec<String> {
    let mut client = Resp::connect(server.port());
    let mut commands = Vec::new();
    say(&mut client, "ITEM.PUT many 1 EUR");
    say(&mut client, "STOCK.ADD many 1000");
    for number in 0..260 {
        say(&mut client, &format!("CHECKOUT many KEY many-{number} LINES 1 many 1"));
    }
    say_for_good(
        &mut client,
        &mut commands,
        "CHECKOUT many KEY many-11 LINES 1 many 1".into(),
    );
    say(&mut client, "SET multi-0 changed");
    say(&mut client, "DEL mset-4");
    say(&mut client, "HSET large field-0 changed");
    commands.extend(["STOCK.GET many", "ORDER.LIST many COUNT 3", "HGET large field-0"].map(str::to_owned));
    commands
}
