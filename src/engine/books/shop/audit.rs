//! What an audit counts in the shop, and the shop's part in the hash of the whole state.
//!
//! The sum over open orders must equal the items' counters, though orders and items live on different shards.

use cartwright_protocol::{Location, Slot as SlotNumber};

use crate::engine::books::StateTag;
use crate::engine::books::shop::inventory::{Allocations, Item};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::books::shop::slot::Slot;
use crate::engine::kernel::balance::Balance;
use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::ids::Timestamp;

/// Adds what is in this slot; how many things were looked at.
pub fn audit(slot: &Slot, balance: &mut Balance) -> u64 {
    let mut things = 0;
    for item in slot.items() {
        things += 1;
        audit_item(balance, item);
    }
    for order in slot.orders() {
        things += u64::from(order.line_count());
        audit_order(balance, order);
    }
    things
}

fn audit_item(balance: &mut Balance, item: &Item) {
    balance.require(item_balances(item));
    let slot = item.sku.slot();
    for (location, level) in item.levels() {
        for (held, units) in [(true, level.held), (false, level.committed)] {
            let coefficient = coefficient(&mut balance.fingerprint, item.sku.as_bytes(), location, held);
            balance.add(slot, coefficient, units as u64);
        }
    }
}

fn audit_order(balance: &mut Balance, order: &PackedOrder) {
    let Some(held) = order.open_units_are_held() else {
        return;
    };
    for line in order.lines() {
        let sku = line.sku_bytes();
        let slot = SlotNumber::of(sku);
        let mut take = |location: &str, units: u32| {
            let coefficient = coefficient(&mut balance.fingerprint, sku, location, held);
            balance.subtract(slot, coefficient, units.into());
        };
        match &line.allocations {
            Allocations::Main => take(Location::MAIN, line.ordered),
            Allocations::Split(parts) => {
                for part in parts {
                    take(part.location.as_str(), part.quantity);
                }
            }
        }
    }
}

fn item_balances(item: &Item) -> bool {
    item.levels().all(|(location, level)| {
        let allowance = if location == Location::MAIN {
            i64::from(item.backorder)
        } else {
            0
        };
        level.on_hand >= 0 && level.held >= 0 && level.committed >= 0 && level.available() + allowance >= 0
    })
}

fn coefficient(fingerprint: &mut Fingerprint, sku: &[u8], location: &str, held: bool) -> u64 {
    fingerprint
        .begin(u8::from(held))
        .bytes(sku)
        .bytes(location.as_bytes())
        .finish()
}

/// Hash of what is in this slot.
pub fn hash(slot: &Slot, fingerprint: &mut Fingerprint, number: SlotNumber) -> u64 {
    let items = slot.items().map(|item| item_hash(fingerprint, item));
    let items = items.fold(0, u64::wrapping_add);
    let orders = slot.orders().map(|order| order_hash(fingerprint, order));
    let sum = orders.fold(items, u64::wrapping_add);
    if slot.order_sequence == 0 {
        return sum;
    }
    let sequence = fingerprint
        .begin(StateTag::ORDER_SEQUENCE)
        .integer(number.index() as u64)
        .integer(slot.order_sequence)
        .finish();
    sum.wrapping_add(sequence)
}

fn item_hash(fingerprint: &mut Fingerprint, item: &Item) -> u64 {
    fingerprint
        .begin(StateTag::ITEM)
        .bytes(item.sku.as_bytes())
        .integer(item.price.minor_units())
        .bytes(item.currency.as_bytes())
        .bytes(item.name.as_str().as_bytes())
        .integer(item.limit.map_or(0, |limit| limit.units().into()))
        .integer(item.backorder.into());
    for (location, level) in item.levels() {
        fingerprint.bytes(location.as_bytes());
        for counter in [level.on_hand, level.held, level.committed] {
            fingerprint.integer(counter as u64);
        }
    }
    fingerprint.finish()
}

fn order_hash(fingerprint: &mut Fingerprint, order: &PackedOrder) -> u64 {
    fingerprint
        .begin(StateTag::ORDER)
        .integer(order.id().to_integer())
        .bytes(order.customer_bytes())
        .integer(order.state() as u64)
        .bytes(order.currency().as_bytes())
        .integer(order.total().minor_units())
        .integer(order.created_at().unix_ms())
        .integer(order.updated_at().unix_ms())
        .integer(order.expires_at().map_or(0, Timestamp::unix_ms));
    for line in order.lines() {
        fingerprint
            .bytes(line.sku_bytes())
            .integer(line.price.minor_units())
            .integer(line.ordered.into())
            .integer(order.cancelled_units(&line).into());
        if let Allocations::Split(parts) = &line.allocations {
            for part in parts {
                fingerprint
                    .bytes(part.location.as_bytes())
                    .integer(part.quantity.into());
            }
        }
    }
    fingerprint.finish()
}
