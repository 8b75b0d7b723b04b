//! What must be there after a crash: every acknowledged order, whole, and stock that adds up.

use std::collections::{BTreeMap, HashMap};

use cartwright_protocol::client::Client;
use cartwright_protocol::{Checkout, Operation, OrderGet, OrderState, OrderView, Receipt, Reply};

use super::stock;

/// Requests in flight while orders are read.
const READS_IN_FLIGHT: usize = 64;

/// Whether the order is the whole cart, as it was acknowledged.
pub fn is_whole(cart: &Checkout, receipt: &Receipt, view: &OrderView) -> bool {
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
pub fn check_orders(client: &mut Client, orders: &[(Checkout, Receipt)]) {
    let mut open = HashMap::new();
    let mut left = orders.iter();
    loop {
        while open.len() < READS_IN_FLIGHT {
            let Some(entry) = left.next() else { break };
            open.insert(client.send(&Operation::OrderGet(OrderGet { id: entry.1.id })), entry);
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
pub fn check_stock(client: &mut Client, units: i64, orders: &[(Checkout, Receipt)]) {
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
        assert_eq!(found, (units, held, committed, units - held - committed), "{code}");
    }
}
