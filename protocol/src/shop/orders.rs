//! Commands on orders that are there.

use super::field::{Before, ListCount, OrderOrNull};
use crate::command::Flags;
use crate::{Customer, Key, OrderId, OrderState, OrderSummary, OrderView};

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
