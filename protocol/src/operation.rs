//! What a client can ask of the shop. The same on both protocols; the engine's input.

use crate::{Amount, Currency, Customer, Key, Location, OrderId, Sku, Slot, Text};

/// Largest quantity of one line, delta or limit.
pub const QUANTITY_MAX: u32 = 1_000_000_000;

/// Most lines in a cart, counted before lines of one SKU are added up.
pub const CART_LINES_MAX: usize = 4096;

/// Longest hold, in milliseconds: seven days.
pub const HOLD_MS_MAX: u32 = 604_800_000;

/// How many orders `ORDER.LIST` gives unless told.
pub const ORDER_LIST_COUNT_DEFAULT: u32 = 100;

/// How many orders `ORDER.LIST` gives at most.
pub const ORDER_LIST_COUNT_MAX: u32 = 1000;

/// Units of an item: 1 to [`QUANTITY_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Quantity(u32);

impl Quantity {
    /// `None` outside 1 to [`QUANTITY_MAX`].
    pub fn new(units: u64) -> Option<Self> {
        (1..=u64::from(QUANTITY_MAX))
            .contains(&units)
            .then_some(Self(units as u32))
    }

    /// The number of units.
    pub const fn units(self) -> u32 {
        self.0
    }
}

/// One line of a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CartLine {
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

/// `ITEM.PUT`: makes or replaces the catalogue entry; stock is untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPut {
    /// The item's code.
    pub sku: Sku,
    /// Price of one unit.
    pub price: Amount,
    /// The price's currency.
    pub currency: Currency,
    /// What people call it; empty where not given.
    pub name: Text,
    /// Most units one customer may have in open orders.
    pub limit: Option<Quantity>,
    /// How far below zero `available` may go.
    pub backorder: Option<Quantity>,
    /// Idempotency key.
    pub key: Option<Key>,
}

/// `STOCK.ADD`: moves `on_hand` of one location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockAdd {
    /// The item's code.
    pub sku: Sku,
    /// Units to add; negative for shrinkage. Magnitude at most [`QUANTITY_MAX`], and not 0.
    pub delta: i64,
    /// Where; `main` where not given.
    pub location: Option<Location>,
    /// Why, for the log.
    pub reason: Text,
    /// Idempotency key.
    pub key: Option<Key>,
}

/// `CHECKOUT`: the whole cart or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// Who buys.
    pub customer: Customer,
    /// Idempotency key.
    pub key: Key,
    /// For how long the order is held, 1 to [`HOLD_MS_MAX`]; `None`: placed at once.
    pub hold_ms: Option<u32>,
    /// 1 to [`CART_LINES_MAX`] lines.
    pub lines: Vec<CartLine>,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `ITEM.PUT`; answered with [`crate::Reply::Ok`].
    ItemPut(Box<ItemPut>),
    /// `ITEM.GET`; answered with [`crate::Reply::Item`] or [`crate::Reply::Null`].
    ItemGet {
        /// The item's code.
        sku: Sku,
    },
    /// `STOCK.ADD`; answered with [`crate::Reply::Integer`], the new `on_hand` of the location.
    StockAdd(Box<StockAdd>),
    /// `STOCK.GET`; answered with [`crate::Reply::Stock`].
    StockGet {
        /// The item's code.
        sku: Sku,
        /// One location, or the sum over all.
        location: Option<Location>,
    },
    /// `CHECKOUT`; answered with [`crate::Reply::Receipt`].
    Checkout(Box<Checkout>),
    /// `ORDER.GET`; answered with [`crate::Reply::Order`] or [`crate::Reply::Null`].
    OrderGet {
        /// The order.
        id: OrderId,
    },
    /// `ORDER.LIST`; answered with [`crate::Reply::Orders`], newest first.
    OrderList {
        /// Whose orders.
        customer: Customer,
        /// Only orders with a smaller id.
        before: Option<OrderId>,
        /// How many at most, 1 to [`ORDER_LIST_COUNT_MAX`].
        count: u32,
    },
    /// `ORDER.CONFIRM`; answered with [`crate::Reply::State`].
    OrderConfirm {
        /// The order.
        id: OrderId,
        /// Idempotency key.
        key: Option<Key>,
    },
    /// `ORDER.CANCEL`; answered with [`crate::Reply::State`].
    OrderCancel {
        /// The order.
        id: OrderId,
        /// Idempotency key.
        key: Option<Key>,
    },
    /// `AUDIT`; answered with [`crate::Reply::Audit`].
    Audit,
}

impl Operation {
    /// The slot whose shard coordinates this operation: that of the SKU, the customer or the order. `None` for
    /// operations over everything.
    pub fn home(&self) -> Option<Slot> {
        match self {
            Self::ItemPut(put) => Some(put.sku.slot()),
            Self::StockAdd(add) => Some(add.sku.slot()),
            Self::ItemGet { sku } | Self::StockGet { sku, .. } => Some(sku.slot()),
            Self::Checkout(checkout) => Some(checkout.customer.slot()),
            Self::OrderList { customer, .. } => Some(customer.slot()),
            Self::OrderGet { id } | Self::OrderConfirm { id, .. } | Self::OrderCancel { id, .. } => Some(id.slot()),
            Self::Audit => None,
        }
    }
}
