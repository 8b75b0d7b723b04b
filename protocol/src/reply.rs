//! What the shop answers. The same on both protocols; the engine's output.

use crate::{Amount, Currency, Customer, Error, OrderId, Sku, Text};

/// The state of an order; `DOMAIN` order: see the README's diagram. The numbers are the wire's and the log's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
#[repr(u8)]
pub enum OrderState {
    /// Units are reserved until `expires_at`.
    Held = 1,
    /// Sold.
    Placed = 2,
    /// Called off; its units are available again.
    Cancelled = 3,
    /// Held for too long; its units are available again.
    Expired = 4,
}

impl OrderState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Held, Self::Placed, Self::Cancelled, Self::Expired];

    /// The state's name on RESP and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Placed => "placed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state with this number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }
}

impl std::fmt::Display for OrderState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A catalogue entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemView {
    /// The item's code.
    pub sku: Sku,
    /// Price of one unit.
    pub price: Amount,
    /// The price's currency.
    pub currency: Currency,
    /// What people call it.
    pub name: Text,
    /// Most units one customer may have in open orders; 0: no limit.
    pub limit: u32,
    /// How far below zero `available` may go.
    pub backorder: u32,
}

/// Stock of an item, at one location or over all. Always `available = on_hand − held − committed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StockView {
    /// Units in the building.
    pub on_hand: i64,
    /// Of these, held by orders not yet confirmed.
    pub held: i64,
    /// Of these, sold and not yet shipped.
    pub committed: i64,
    /// What can be sold; below 0 only within the item's backorder allowance.
    pub available: i64,
}

/// What a checkout made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Receipt {
    /// The new order.
    pub id: OrderId,
    /// `held` or `placed`.
    pub state: OrderState,
    /// Sum of the lines.
    pub total: Amount,
    /// The cart's one currency.
    pub currency: Currency,
    /// Unix milliseconds; 0 where it does not expire.
    pub expires_at_ms: u64,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineView {
    /// What.
    pub sku: Sku,
    /// Price of one unit at checkout.
    pub price: Amount,
    /// Units ordered.
    pub ordered: u32,
    /// Units cancelled or expired.
    pub cancelled: u32,
    /// Units shipped.
    pub shipped: u32,
    /// Units returned.
    pub returned: u32,
}

/// An order, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The order.
    pub id: OrderId,
    /// Who bought.
    pub customer: Customer,
    /// Its state.
    pub state: OrderState,
    /// The cart's one currency.
    pub currency: Currency,
    /// Sum of the lines at checkout.
    pub total: Amount,
    /// Unix milliseconds.
    pub created_at_ms: u64,
    /// Unix milliseconds.
    pub updated_at_ms: u64,
    /// Unix milliseconds; 0 where it does not expire.
    pub expires_at_ms: u64,
    /// Its lines, in the order of the cart.
    pub lines: Vec<LineView>,
}

/// An order in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderSummary {
    /// The order.
    pub id: OrderId,
    /// Its state.
    pub state: OrderState,
    /// Sum of the lines at checkout.
    pub total: Amount,
    /// The cart's one currency.
    pub currency: Currency,
    /// Unix milliseconds.
    pub created_at_ms: u64,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Catalogue entries.
    pub items: u64,
    /// Orders, in any state.
    pub orders: u64,
    /// Order lines.
    pub lines: u64,
    /// Items and slots whose books do not balance.
    pub violations: u64,
    /// Hash of the whole state; does not depend on the number of shards.
    pub state_hash: u64,
    /// For how long writes waited, in milliseconds.
    pub paused_ms: u64,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// No such thing, where that is an answer and no error.
    Null,
    /// A number.
    Integer(i64),
    /// A catalogue entry.
    Item(Box<ItemView>),
    /// Stock.
    Stock(StockView),
    /// What a checkout made.
    Receipt(Receipt),
    /// An order.
    Order(Box<OrderView>),
    /// Orders, newest first.
    Orders(Vec<OrderSummary>),
    /// An order's new state.
    State(OrderState),
    /// What an audit found.
    Audit(AuditReport),
    /// Refused: nothing was changed.
    Error(Error),
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
