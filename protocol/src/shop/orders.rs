//! Commands on orders that are there.

use super::field::{Before, ListCount, Number, OrderOrNull};
use crate::argument;
use crate::command::Flags;
use crate::{Customer, Error, Key, OrderId, OrderState, OrderSummary, OrderView, Reply};

command! {
    /// Gives an order with its lines, or null.
    OrderGet = 0x21 "ORDER.GET" {
        /// The order.
        id: OrderId as OrderOrNull,
    }
    answer: Option<OrderView>;
    manual: "map `id customer state currency total created_at updated_at expires_at lines`, or null";
    home: Order(id);
    class: ReadOrder;
    flags: Flags::READONLY.and(Flags::FAST).and(Flags::NO_MULTI);
    example: "ORDER.GET" "16385";
}

command! {
    /// Gives a customer's orders, newest first.
    OrderList = 0x22 "ORDER.LIST" {
        /// Whose orders.
        customer: Customer,
        /// Only orders with a smaller id.
        before: Option<OrderId> as Before = [BEFORE id],
        /// How many at most, 1 to [`crate::ORDER_LIST_COUNT_MAX`].
        count: u32 as ListCount = [COUNT n],
    }
    answer: Vec<OrderSummary>;
    manual: "list of maps `id state total currency created_at`, newest first; 100 unless told, 1,000 at most";
    home: Customer(customer);
    class: ReadOrder;
    flags: Flags::READONLY.and(Flags::NO_MULTI);
    example: "ORDER.LIST" "ann" "BEFORE" "16385" "COUNT" "3";
}

command! {
    /// Places a held order.
    OrderConfirm = 0x23 "ORDER.CONFIRM" {
        /// The order.
        id: OrderId,
        /// The request key.
        key: Option<Key> = [KEY key],
    }
    answer: OrderState;
    manual: "the order's state: a held order is placed";
    home: Order(id);
    class: ChangeOrder;
    flags: Flags::WRITE.and(Flags::FAST);
    fingerprint: 4;
    example: "ORDER.CONFIRM" "16385" "KEY" "k1";
}

command! {
    /// Calls off an order; its units come back.
    OrderCancel = 0x24 "ORDER.CANCEL" {
        /// The order.
        id: OrderId,
        /// The request key.
        key: Option<Key> = [KEY key],
    }
    answer: OrderState;
    manual: "the order's state: a held or placed order is cancelled, and its units are available again";
    home: Order(id);
    class: ChangeOrder;
    flags: Flags::WRITE.and(Flags::FAST);
    fingerprint: 5;
    example: "ORDER.CANCEL" "16385";
}

command! {
    /// Has a held order expire so many milliseconds from now.
    OrderExtend = 0x25 "ORDER.EXTEND" {
        /// The order.
        id: OrderId,
        /// For how long it is held from now on, 1 to [`crate::HOLD_MS_MAX`].
        ms: u32 as HoldMs,
        /// The request key.
        key: Option<Key> = [KEY key],
    }
    answer: i64 = "when the order expires now";
    manual: "when it expires now: a held order is held for so long from now on, up to seven days";
    home: Order(id);
    class: ChangeOrder;
    flags: Flags::WRITE.and(Flags::FAST).and(Flags::NO_MULTI);
    fingerprint: 6;
    example: "ORDER.EXTEND" "16385" "60000" "KEY" "k1";
}

/// For how long an order is held.
#[derive(Debug)]
pub struct HoldMs;

impl Number for HoldMs {
    type Value = u32;
    type Raw = u32;

    const WIRE: &'static str = "`u32` (from 1)";
    const BYTES: usize = 4;

    fn to_wire(value: &u32) -> u64 {
        u64::from(*value)
    }

    fn check(name: &'static str, integer: Option<u64>) -> Result<u32, Error> {
        argument::hold_ms(name, integer)
    }

    fn resolve(raw: u32) -> Result<u32, Reply> {
        Ok(raw)
    }

    fn describe(value: &u32) -> String {
        value.to_string()
    }

    #[cfg(test)]
    fn strategy() -> impl proptest::strategy::Strategy<Value = u32> + 'static {
        1..=crate::HOLD_MS_MAX
    }
}
