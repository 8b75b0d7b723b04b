//! Faults that the simulator found once, each staged step by step: what was on its way when, and what must come of it.

use super::*;

/// Rounds of deliveries and syncs within which everything ends that can.
const ROUNDS: usize = 100;

/// An item that lives on this shard.
fn sku_on(cluster: &Cluster, shard: usize) -> Sku {
    let is_there = |sku: &Sku| {
        cluster
            .map
            .shard_of(add(sku.clone(), 0).home().expect("it has one"))
            .index()
            == shard
    };
    (0..10_000).map(sku).find(is_there).expect("every shard has slots")
}

/// A customer whose orders live on this shard.
fn customer_on(cluster: &Cluster, shard: usize) -> usize {
    let home = |customer: usize| checkout(customer, 0, None, &[]).home().expect("it has one");
    (0..10_000)
        .find(|&customer| cluster.map.shard_of(home(customer)).index() == shard)
        .expect("every shard has slots")
}

fn put_at(sku: &Sku, price: u64, backorder: u64) -> Operation {
    let Operation::ItemPut(mut put) = put(sku.clone()) else {
        unreachable!("put makes an ITEM.PUT")
    };
    put.price = Amount::new(price).unwrap();
    put.backorder = Quantity::new(backorder);
    Operation::ItemPut(put)
}

/// Everything happens that can, but mail that is held stays on its way.
fn settle_without(cluster: &mut Cluster, is_held: impl Fn((usize, usize)) -> bool) {
    let count = cluster.shards.len();
    for _ in 0..ROUNDS {
        for pair in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if pair.0 != pair.1 && !is_held(pair) {
                cluster.deliver(pair);
            }
        }
        for shard in 0..count {
            cluster.sync(shard);
            cluster.tell_safe(shard);
        }
    }
}

/// A cluster with an item on each shard but the last, of so many units and with a backorder allowance, and a customer
/// on the last.
fn shop(shard_count: u16, units: i64, backorder: u64) -> (Cluster, Vec<Sku>, usize) {
    let mut cluster = Cluster::new(shard_count);
    let last = cluster.shards.len() - 1;
    let skus: Vec<_> = (0..last).map(|shard| sku_on(&cluster, shard)).collect();
    for sku in &skus {
        assert_eq!(cluster.call(put_at(sku, 250, backorder)), Reply::Ok);
        if units > 0 {
            assert_eq!(cluster.call(add(sku.clone(), units)), Reply::Integer(units));
        }
    }
    let customer = customer_on(&cluster, last);
    (cluster, skus, customer)
}

#[test]
fn an_item_put_is_not_refused_for_units_that_undecided_carts_have_taken() {
    let (mut cluster, skus, customer) = shop(3, 2, 3);
    // The first shard prepares it; the second will refuse it.
    let cart = cluster.send(checkout(
        customer,
        1,
        None,
        &[(skus[0].clone(), 4), (skus[1].clone(), 9)],
    ));
    cluster.deliver((2, 0));
    let put = cluster.send(put_at(&skus[0], 250, 0));
    settle_without(&mut cluster, |(_, to)| to == 1);
    assert!(!cluster.replies.contains_key(&put), "it waits for the cart");
    cluster.drain();
    refused_with(&cluster.replies[&cart], ErrorCode::OutOfStock);
    assert_eq!(cluster.replies[&put], Reply::Ok, "nothing was taken");
    cluster.check_books();
}

#[test]
fn an_item_put_is_not_refused_in_a_shop_that_is_nearly_sold_out_while_an_order_is_being_cancelled() {
    let (mut cluster, skus, customer) = shop(3, 2, 3);
    let made = cluster.call(checkout(
        customer,
        1,
        None,
        &[(skus[0].clone(), 4), (skus[1].clone(), 1)],
    ));
    assert_eq!(cluster.stock(&skus[0]).available, -2);
    refused_with(&cluster.call(put_at(&skus[0], 250, 0)), ErrorCode::Insufficient);
    let id = receipt(&made).id;
    let cancelled = cluster.send(Operation::OrderCancel(OrderCancel { id, key: None }));
    cluster.deliver((2, 0));
    let put = cluster.send(put_at(&skus[0], 250, 0));
    settle_without(&mut cluster, |(_, to)| to == 1);
    assert!(!cluster.replies.contains_key(&put), "it waits for the cancellation");
    cluster.drain();
    assert_eq!(cluster.replies[&cancelled], Reply::State(OrderState::Cancelled));
    assert_eq!(cluster.replies[&put], Reply::Ok, "the units are back");
    cluster.check_books();
}

/// A cart that has one price so far; the item is put with another, and once that is answered so are those that the cart
/// has yet to reach.
fn a_cart_has_all_prices_from_before_or_from_after(shard_count: u16) {
    let (mut cluster, skus, customer) = shop(shard_count, 9, 0);
    let lines: Vec<_> = skus.iter().map(|sku| (sku.clone(), 1)).collect();
    let cart = cluster.send(checkout(customer, 1, None, &lines));
    let last = cluster.shards.len() - 1;
    cluster.deliver((last, 0));
    for sku in &skus {
        let put = cluster.send(put_at(sku, 300, 0));
        settle_without(&mut cluster, |(_, to)| to == 1);
        if !cluster.replies.contains_key(&put) {
            break;
        }
    }
    cluster.drain();
    let total = receipt(&cluster.replies[&cart]).total.minor_units();
    let all = lines.len() as i64;
    assert!(
        [250 * all, 300 * all].contains(&(total as i64)),
        "{total} for {all} items mixes prices"
    );
    let next = cluster.call(checkout(customer, 2, None, &lines[..1]));
    assert_eq!(receipt(&next).total.minor_units(), 300);
    cluster.check_books();
}

#[test]
fn a_cart_never_has_one_price_from_before_an_item_put_and_another_from_after_a_later_one() {
    a_cart_has_all_prices_from_before_or_from_after(3);
}

#[test]
fn a_cart_never_mixes_prices_over_many_shards() {
    a_cart_has_all_prices_from_before_or_from_after(6);
}

#[test]
fn a_limit_that_is_confirmed_while_a_cart_is_on_its_way_holds_for_it() {
    let (mut cluster, skus, customer) = shop(3, 9, 0);
    let cart = cluster.send(checkout(
        customer,
        1,
        None,
        &[(skus[0].clone(), 3), (skus[1].clone(), 1)],
    ));
    let put = cluster.send(put_limited(skus[0].clone(), 2));
    settle_without(&mut cluster, |pair| pair == (2, 0));
    assert_eq!(cluster.replies[&put], Reply::Ok);
    cluster.drain();
    refused_with(&cluster.replies[&cart], ErrorCode::Limit);
    cluster.check_books();
}

#[test]
fn a_limit_that_is_confirmed_while_a_cart_is_on_its_way_counts_open_orders_too() {
    let (mut cluster, skus, customer) = shop(3, 9, 0);
    let lines = |units| [(skus[0].clone(), units), (skus[1].clone(), 1)];
    receipt(&cluster.call(checkout(customer, 1, None, &lines(2))));
    let cart = cluster.send(checkout(customer, 2, None, &lines(1)));
    let put = cluster.send(put_limited(skus[0].clone(), 2));
    settle_without(&mut cluster, |pair| pair == (2, 0));
    assert_eq!(cluster.replies[&put], Reply::Ok);
    cluster.drain();
    refused_with(&cluster.replies[&cart], ErrorCode::Limit);
    cluster.check_books();
}

/// An order is held over another shard, whose disk is full when its time is over; these ask for it.
fn who_asks_is_answered(ask: impl Fn(OrderId) -> Vec<Operation>) {
    let (mut cluster, skus, customer) = shop(2, 2, 0);
    let made = cluster.call(checkout(customer, 1, Some(50), &[(skus[0].clone(), 2)]));
    let id = receipt(&made).id;
    cluster.now += 60;
    let room = |bytes, blocked| Input::LogSpace {
        bytes,
        piece_bytes: bytes,
        blocked,
    };
    cluster.input(0, room(100, Some("the disk is full")));
    let asked: Vec<_> = ask(id).into_iter().map(|operation| cluster.send(operation)).collect();
    settle_without(&mut cluster, |_| false);
    for sequence in asked {
        let reply = cluster.replies.get(&sequence).expect("who asks is answered");
        assert!(
            matches!(reply, Reply::Error(error) if [ErrorCode::Busy, ErrorCode::ReadOnly].contains(&error.code)),
            "{reply:?}"
        );
    }
    cluster.input(0, room(u64::MAX, None));
    cluster.now += 2000;
    for shard in 0..cluster.shards.len() {
        cluster.input(shard, Input::Tick);
    }
    cluster.drain();
    assert_eq!(cluster.stock(&skus[0]).available, 2);
    let confirmed = cluster.call(Operation::OrderConfirm(OrderConfirm { id, key: None }));
    refused_with(&confirmed, ErrorCode::State);
    cluster.check_books();
}

#[test]
fn who_asks_for_an_order_that_a_full_disk_keeps_from_expiring_is_answered() {
    who_asks_is_answered(|id| vec![Operation::OrderConfirm(OrderConfirm { id, key: None })]);
}

#[test]
fn several_who_ask_for_an_order_that_a_full_disk_keeps_from_expiring_are_all_answered() {
    who_asks_is_answered(|id| {
        vec![
            Operation::OrderConfirm(OrderConfirm { id, key: None }),
            Operation::OrderCancel(OrderCancel { id, key: None }),
            Operation::OrderConfirm(OrderConfirm { id, key: None }),
        ]
    });
}
