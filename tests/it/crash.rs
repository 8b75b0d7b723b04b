//! Rules R1 to R4 through crashes of the whole process, under load.

use std::time::Duration;

use cartwright_protocol::{Checkout, Receipt};
use cartwright_test_support::books::{check_orders, check_stock, is_whole};
use cartwright_test_support::buyers::{Memory, buy_until_lost, skus};
use cartwright_test_support::{Site, buy, clean_audit, connect, order, stock, stock_item, stop_cleanly};
use cartwright_tools::random::Random;

const SEED: u64 = 0x5eed;
const ROUND_COUNT: usize = 20;
const BUYER_COUNT: usize = 4;
const SKU_COUNT: usize = 30;
const UNITS: i64 = 100_000_000;

/// A round's load lasts 20 to so many milliseconds before the kill.
const LOAD_MS_MAX: usize = 400;

/// How many acknowledged orders of each round are asked for again with their keys.
const KEYS_REPEATED: usize = 100;

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
        let load = Duration::from_millis(20 + random.index(LOAD_MS_MAX - 20) as u64);
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
        check_stock(&mut client, UNITS, &known);
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
    let cart = cartwright_test_support::checkout("ann", "k1", &[("a", 2), ("b", 3)]);
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
