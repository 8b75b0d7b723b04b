//! Buyers: threads that send random carts, several in flight each, until the server is gone, and remember what they
//! were told.

use std::collections::HashMap;

use cartwright_protocol::client::Client;
use cartwright_protocol::{CartLine, Checkout, Operation, Quantity, Receipt, Reply, Sku};
use cartwright_tools::random::Random;

use super::{customer, key, sku};

/// Carts in flight for each buyer.
const IN_FLIGHT: usize = 12;

/// One cart in so many is only held.
const HELD_ONE_IN: usize = 8;

/// For how long: longer than any test.
const HOLD_MS: u32 = 3_600_000;

/// What a buyer knows at the end.
#[derive(Default)]
pub struct Memory {
    /// Every cart with an answer.
    pub acknowledged: Vec<(Checkout, Receipt)>,
    /// Carts that were sent and not answered.
    pub unanswered: Vec<Checkout>,
}

/// The SKUs that buyers buy.
pub fn skus(count: usize) -> Vec<Sku> {
    (0..count).map(|number| sku(&format!("sku-{number}"))).collect()
}

/// Buys until the connection is lost. `name` makes the keys this buyer's own.
pub fn buy_until_lost(client: Client, name: &str, skus: &[Sku], random: &mut Random) -> Memory {
    let mut memory = Memory::default();
    let (mut sender, mut receiver) = client.split();
    let mut open: HashMap<u64, Checkout> = HashMap::new();
    let mut count = 0;
    loop {
        while open.len() < IN_FLIGHT {
            count += 1;
            let cart = random_cart(&format!("{name}-{count}"), skus, random);
            let id = sender.send(&Operation::Checkout(Box::new(cart.clone())));
            open.insert(id, cart);
        }
        if sender.flush().is_err() {
            break;
        }
        let Ok((id, reply)) = receiver.receive() else { break };
        let cart = open.remove(&id).expect("a reply belongs to a request");
        match reply {
            Reply::Receipt(receipt) => memory.acknowledged.push((cart, receipt)),
            other => panic!("{cart:?} was answered with {other:?}"),
        }
    }
    // Replies that were on their way when the server died count as given.
    while let Ok(Some((id, reply))) = receiver.received() {
        let cart = open.remove(&id).expect("a reply belongs to a request");
        if let Reply::Receipt(receipt) = reply {
            memory.acknowledged.push((cart, receipt));
        }
    }
    memory.unanswered = open.into_values().collect();
    memory
}

/// One to nine different items, one to three of each.
fn random_cart(with: &str, skus: &[Sku], random: &mut Random) -> Checkout {
    let mut places: Vec<usize> = (0..skus.len()).collect();
    random.shuffle(&mut places);
    let line_count = 1 + random.index(9);
    Checkout {
        customer: customer(&format!("customer-{}", random.index(40))),
        key: key(with),
        hold_ms: (random.index(HELD_ONE_IN) == 0).then_some(HOLD_MS),
        lines: places[..line_count]
            .iter()
            .map(|&place| CartLine {
                sku: skus[place].clone(),
                quantity: Quantity::new(1 + random.index(3) as u64).expect("one to three is a quantity"),
            })
            .collect(),
    }
}
