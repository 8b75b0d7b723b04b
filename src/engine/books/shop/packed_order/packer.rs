//! Packs orders: makes the bytes that a [`PackedOrder`] is read from.

use cartwright_core::codec::put_number;
use cartwright_protocol::{Amount, Currency, Customer, Key, OrderId, OrderState, Sku};

use super::{
    CREATED_AT, CURRENCY_AT, CUSTOMER_LENGTH_AT, FINGERPRINT_AT, HEADER_BYTES, HOLD_MS_AT, ID_AT, KEY_LENGTH_AT,
    LINE_COUNT_AT, PackedOrder, STATE_AT, TOTAL_AT, UPDATED_AT, put_u32, put_u64,
};
use crate::engine::books::shop::inventory::Allocations;
use crate::engine::kernel::ids::Timestamp;

/// What an order has beside its lines, as it is made.
#[derive(Clone, Debug)]
pub struct OrderHeader<'a> {
    /// Its id, which carries the slot.
    pub id: OrderId,
    /// Who bought.
    pub customer: &'a Customer,
    /// The key it came with.
    pub key: &'a Key,
    /// Tells its request from another with the same key.
    pub fingerprint: u64,
    /// The cart's one currency.
    pub currency: Currency,
    /// Sum of the lines.
    pub total: Amount,
    /// When it is made.
    pub created_at: Timestamp,
    /// For how long it is held; `None`: it is placed at once.
    pub hold_ms: Option<u32>,
}

/// Packs orders; keeps the memory in which they grow.
#[derive(Debug, Default)]
pub struct OrderPacker {
    bytes: Vec<u8>,
}

impl OrderPacker {
    /// Begins an order.
    pub fn begin(&mut self, header: &OrderHeader<'_>) {
        let bytes = &mut self.bytes;
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        let (state, hold_ms) = match header.hold_ms {
            Some(hold_ms) => (OrderState::Held, hold_ms),
            None => (OrderState::Placed, 0),
        };
        let (customer, key) = (header.customer.as_bytes(), header.key.as_bytes());
        put_u64(bytes, ID_AT, header.id.to_integer());
        put_u64(bytes, TOTAL_AT, header.total.minor_units());
        put_u64(bytes, CREATED_AT, header.created_at.unix_ms());
        put_u64(bytes, UPDATED_AT, header.created_at.unix_ms());
        put_u64(bytes, FINGERPRINT_AT, header.fingerprint);
        put_u32(bytes, HOLD_MS_AT, hold_ms);
        bytes[STATE_AT] = state as u8;
        bytes[CUSTOMER_LENGTH_AT] = customer.len() as u8;
        bytes[KEY_LENGTH_AT] = key.len() as u8;
        bytes[CURRENCY_AT..CURRENCY_AT + 3].copy_from_slice(header.currency.as_bytes());
        bytes.extend_from_slice(customer);
        bytes.extend_from_slice(key);
    }

    /// Adds a line.
    pub fn line(&mut self, sku: &Sku, price: Amount, ordered: u32, allocations: &Allocations) {
        let bytes = &mut self.bytes;
        put_text(bytes, sku.as_bytes());
        put_number(bytes, price.minor_units());
        put_number(bytes, ordered.into());
        match allocations {
            Allocations::Main => bytes.push(0),
            Allocations::Split(parts) => {
                put_number(bytes, parts.len() as u64);
                for part in parts {
                    put_text(bytes, part.location.as_bytes());
                    put_number(bytes, part.quantity.into());
                }
            }
        }
        let count = u16::from_le_bytes([bytes[LINE_COUNT_AT], bytes[LINE_COUNT_AT + 1]]) + 1;
        bytes[LINE_COUNT_AT..LINE_COUNT_AT + 2].copy_from_slice(&count.to_le_bytes());
    }

    /// The order.
    pub fn finish(&self) -> PackedOrder {
        PackedOrder(self.bytes.as_slice().into())
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text);
}
