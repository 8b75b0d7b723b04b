//! Commands of the shop and commands on keys in one transaction.

use cartwright_protocol::{Operation, OrderCancel, OrderId, OrderState, Reply};

use super::{Ask, transaction, words};
use crate::engine::kernel::cluster_tests::{Cluster, Dice, checkout, sku, stocked};
use crate::engine::{Answer, Shard, Together, TogetherAnswer, Watched};

fn together(operations: Vec<Operation>, commands: &[&str], watched: Vec<Watched>) -> Ask {
    let entries = (!commands.is_empty() || !watched.is_empty()).then(|| transaction(commands, watched));
    Ask::Together(Box::new(Together { operations, entries }))
}

fn call(cluster: &mut Cluster, ask: Ask) -> Result<TogetherAnswer, Answer> {
    let sequence = cluster.ask(ask);
    cluster.drain();
    match cluster.together.get(&sequence) {
        Some(answer) => Ok(answer.clone()),
        None => Err(cluster.answers[&sequence].clone()),
    }
}

fn get(cluster: &mut Cluster, command: &str) -> Answer {
    let sequence = cluster.ask(Ask::Keys(super::request(&words(command))));
    cluster.drain();
    cluster.answers[&sequence].clone()
}

fn order_made(answer: &TogetherAnswer) -> OrderId {
    match &answer.replies[0] {
        Reply::Receipt(receipt) => receipt.id,
        other => panic!("a checkout answers with a receipt, not {other:?}"),
    }
}

#[test]
fn a_cart_and_keys_of_other_shards_are_one_transaction() {
    for shard_count in 1..5 {
        let mut cluster = stocked(shard_count, 8, 10);
        let lines: Vec<_> = (0..8).map(|number| (sku(number), 1)).collect();
        let cart = |key| checkout(1, key, None, &lines);
        let commands = ["SET newest 1", "INCR carts", "HSET by:ann k 1", "GET newest"];
        let answer = call(&mut cluster, together(vec![cart(1)], &commands, Vec::new())).unwrap();
        let id = order_made(&answer);
        assert_eq!(answer.answers[1], Answer::Integer(1));
        assert_eq!(cluster.stock(&sku(3)).committed, 1);
        // A retry gets the cart's first answer; commands on keys have no key, and run again.
        let again = call(&mut cluster, together(vec![cart(1)], &["INCR carts"], Vec::new())).unwrap();
        assert_eq!((order_made(&again), &again.answers[0]), (id, &Answer::Integer(2)));
        assert_eq!(cluster.stock(&sku(3)).committed, 1);
        let cancel = Operation::OrderCancel(OrderCancel { id, key: None });
        let ended = call(&mut cluster, together(vec![cancel], &["DEL newest"], Vec::new())).unwrap();
        assert_eq!(ended.replies, [Reply::State(OrderState::Cancelled)]);
        assert_eq!(get(&mut cluster, "EXISTS newest"), Answer::Integer(0));
        assert_eq!(cluster.stock(&sku(3)).committed, 0);
        cluster.check_books();
    }
}

#[test]
fn a_refusal_of_the_shop_or_a_watched_key_that_changed_undoes_all() {
    let mut cluster = stocked(3, 2, 5);
    let cart = |key, units| checkout(1, key, None, &[(sku(0), units), (sku(1), 1)]);
    let refused = call(
        &mut cluster,
        together(vec![cart(1, 6)], &["SET a 1", "SET b 1"], Vec::new()),
    );
    let text = format!("{:?}", refused.unwrap_err());
    assert!(text.contains("OUTOFSTOCK"), "{text}");
    assert_eq!(get(&mut cluster, "EXISTS a b"), Answer::Integer(0));
    // What is refused with others keeps no key: a smaller cart with the same key is another try.
    let watched = vec![Watched {
        key: crate::engine::ValueBytes::new(b"a"),
        version: crate::engine::LogPosition(77),
    }];
    let outdated = call(&mut cluster, together(vec![cart(1, 1)], &["SET b 1"], watched));
    assert_eq!(outdated, Err(Answer::NilArray));
    assert_eq!(
        (cluster.stock(&sku(0)).available, get(&mut cluster, "EXISTS b")),
        (5, Answer::Integer(0))
    );
    assert!(call(&mut cluster, together(vec![cart(1, 1)], &["SET b 1"], Vec::new())).is_ok());
    assert_eq!(cluster.stock(&sku(0)).available, 4);
    cluster.check_books();
}

/// Each cart counts itself on another shard in the same transaction: there are as many orders as are counted, whatever
/// the order of events and whenever the power is cut.
#[test]
fn orders_and_their_count_never_part() {
    let mut taken = 0;
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut cluster = stocked(1 + (seed % 4) as u16, 6, 15);
        let mut acknowledged = 0;
        for round in 0..4_usize {
            let mut asked = Vec::new();
            for number in 0..12_usize {
                let lines: Vec<_> = (0..3).map(|_| (sku(dice.roll(6)), 1 + dice.roll(2) as u64)).collect();
                let customer = dice.roll(5);
                let cart = checkout(customer, (round * 12 + number) as u64, None, &lines);
                let commands = ["INCR count", "SET last 1", "INCR other"];
                asked.push(cluster.ask(together(vec![cart], &commands, Vec::new())));
                for _ in 0..dice.roll(12) {
                    cluster.happen(&mut dice);
                }
            }
            if dice.roll(2) == 0 {
                cluster.crash(&mut dice);
            }
            cluster.drain();
            acknowledged += asked
                .iter()
                .filter(|sequence| cluster.together.contains_key(sequence))
                .count();
            let orders: u64 = cluster
                .shards
                .iter()
                .map(Shard::counts)
                .map(|counts| counts.books.shop.orders)
                .sum();
            for key in ["count", "other"] {
                let counted = match get(&mut cluster, &format!("GET {key}")) {
                    Answer::Nil => 0,
                    Answer::Bulk(bytes) => String::from_utf8_lossy(&bytes).parse().unwrap(),
                    other => panic!("{other:?}"),
                };
                assert_eq!(orders, counted, "seed {seed}, {key}");
            }
            assert!(
                orders >= acknowledged as u64,
                "seed {seed}: an acknowledged order is lost"
            );
        }
        taken += acknowledged;
        cluster.check_books();
    }
    assert!(taken > 600, "only {taken} carts were taken");
}
