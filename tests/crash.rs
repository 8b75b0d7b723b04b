//! Rules R1 to R4 through crashes of the whole process, under load.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cartwright_protocol::client::Client;
use cartwright_protocol::{Checkout, Operation, OrderState, OrderView, Receipt, Reply};
use cartwright_tools::random::Random;
use support::buyers::{Memory, buy_until_lost, skus};
use support::{Site, buy, clean_audit, connect, order, stock, stock_item, stop_cleanly};

const SEED: u64 = 0x5eed;
const ROUND_COUNT: usize = 20;
const BUYER_COUNT: usize = 4;
const SKU_COUNT: usize = 30;
const UNITS: i64 = 100_000_000;

/// A round's load lasts 20 to so many milliseconds before the kill.
const LOAD_MS_MAX: usize = 400;

/// How many acknowledged orders of each round are asked for again with their keys.
const KEYS_REPEATED: usize = 100;

/// Requests in flight while orders are read.
const READS_IN_FLIGHT: usize = 64;

fn is_whole(cart: &Checkout, receipt: &Receipt, view: &OrderView) -> bool {
    let lines = |view: &OrderView| -> Vec<_> {
        let line = |line: &cartwright_protocol::LineView| (line.sku.clone(), line.ordered);
        view.lines.iter().map(line).collect()
    };
    let wanted: Vec<_> = cart
        .lines
        .iter()
        .map(|line| (line.sku.clone(), line.quantity.units()))
        .collect();
    let state = if cart.hold_ms.is_some() {
        OrderState::Held
    } else {
        OrderState::Placed
    };
    view.customer == cart.customer && view.total == receipt.total && view.state == state && lines(view) == wanted
}

/// Reads every order and compares it with its cart.
fn check_orders(client: &mut Client, orders: &[(Checkout, Receipt)]) {
    let mut open = HashMap::new();
    let mut left = orders.iter();
    loop {
        while open.len() < READS_IN_FLIGHT {
            let Some(entry) = left.next() else { break };
            open.insert(client.send(&Operation::OrderGet { id: entry.1.id }), entry);
        }
        if open.is_empty() {
            return;
        }
        client.flush().unwrap();
        let (id, reply) = client.receive().unwrap();
        let (cart, receipt) = open.remove(&id).expect("a reply belongs to a request");
        match reply {
            Reply::Order(view) => assert!(is_whole(cart, receipt, &view), "{cart:?} became {view:?}"),
            other => panic!("{receipt:?} of {cart:?} was acknowledged, and ORDER.GET says {other:?}"),
        }
    }
}

/// Every unit in an order, and no other, is held or committed.
fn check_stock(client: &mut Client, orders: &[(Checkout, Receipt)]) {
    let mut taken: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (cart, _) in orders {
        for line in &cart.lines {
            let (held, committed) = taken.entry(line.sku.as_str()).or_default();
            let counter = if cart.hold_ms.is_some() { held } else { committed };
            *counter += i64::from(line.quantity.units());
        }
    }
    for (code, (held, committed)) in taken {
        let level = stock(client, code);
        let found = (level.on_hand, level.held, level.committed, level.available);
        assert_eq!(found, (UNITS, held, committed, UNITS - held - committed), "{code}");
    }
}

#[test]
fn twenty_kills_under_load_lose_no_acknowledged_order_and_leave_no_half_cart() {
    let site = Site::new(2);
    let skus = skus(SKU_COUNT);
    let mut random = Random::new(SEED);
    let mut server = site.start();
    for code in &skus {
        stock_item(&mut connect(&server), code.as_str(), UNITS);
    }
    let mut known: Vec<(Checkout, Receipt)> = Vec::new();
    for round in 0..ROUND_COUNT {
        let load = Duration::from_millis(20 + random.below(LOAD_MS_MAX - 20) as u64);
        let buyers: Vec<_> = (0..BUYER_COUNT)
            .map(|buyer| {
                let (client, skus, mut random) = (connect(&server), skus.clone(), Random::new(random.bits()));
                std::thread::spawn(move || buy_until_lost(client, &format!("r{round}b{buyer}"), &skus, &mut random))
            })
            .collect();
        std::thread::sleep(load);
        server.kill().unwrap();
        let memories: Vec<Memory> = buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect();

        server = site.start();
        let mut client = connect(&server);
        let audit = clean_audit(&mut client);
        let acknowledged: Vec<_> = memories.iter().flat_map(|memory| memory.acknowledged.clone()).collect();
        let unanswered: Vec<_> = memories.into_iter().flat_map(|memory| memory.unanswered).collect();
        let (least, most) = (
            known.len() + acknowledged.len(),
            known.len() + acknowledged.len() + unanswered.len(),
        );
        assert!(
            (least..=most).contains(&(audit.orders as usize)),
            "round {round}: {least}..={most}, {audit:?}"
        );
        check_orders(&mut client, &acknowledged);

        for _ in 0..KEYS_REPEATED.min(acknowledged.len()) {
            let (cart, receipt) = random.pick(&acknowledged);
            assert_eq!(
                buy(&mut client, cart),
                *receipt,
                "round {round}: another answer to the same key"
            );
        }
        // Whoever got no answer asks again: the cart is there whole, or is made now. It counts from here on.
        let asked_again: Vec<_> = unanswered
            .into_iter()
            .map(|cart| (buy(&mut client, &cart), cart))
            .collect();
        known.extend(acknowledged);
        known.extend(asked_again.into_iter().map(|(receipt, cart)| (cart, receipt)));
        assert_eq!(clean_audit(&mut client).orders as usize, known.len(), "round {round}");
        check_stock(&mut client, &known);
    }
    assert!(
        known.len() > 40 * ROUND_COUNT,
        "only {} orders: too little load to show anything",
        known.len()
    );
    check_orders(&mut connect(&server), &known);
    stop_cleanly(server);
}

#[test]
fn an_acknowledged_order_survives_kill_nine_at_once() {
    let site = Site::new(2);
    let server = site.start();
    let mut client = connect(&server);
    stock_item(&mut client, "a", 5);
    stock_item(&mut client, "b", 5);
    let cart = support::checkout("ann", "k1", &[("a", 2), ("b", 3)]);
    let receipt = buy(&mut client, &cart);
    server.kill().unwrap();

    let server = site.start();
    let mut client = connect(&server);
    let view = order(&mut client, receipt.id).expect("the order was acknowledged");
    assert!(is_whole(&cart, &receipt, &view), "{view:?}");
    assert_eq!(
        (stock(&mut client, "a").available, stock(&mut client, "b").available),
        (3, 2)
    );
    assert_eq!(buy(&mut client, &cart), receipt);
    assert_eq!(clean_audit(&mut client).orders, 1);
}
