//! Changes of orders, as they are decided and logged.

use cartwright_protocol::{OrderId, OrderState, Sku};

use crate::engine::books::shop::inventory::{StockChange, StockLine};
use crate::engine::books::shop::order_states::stock_change;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::request_keys::KeyRecord;

/// A decided change to one order, with every choice made. Says itself what it does to stock, so that a record can be
/// applied to the slot of an item without looking at the slot of the order.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum OrderChange {
    /// A checkout, with its key.
    Made(PackedOrder),
    /// A change of its state.
    Moved {
        /// The order.
        id: OrderId,
        /// The state it leaves.
        from: OrderState,
        /// The state it enters.
        to: OrderState,
        /// When.
        at: Timestamp,
        /// What moves with it of the items on the shard of this record.
        lines: Vec<StockLine>,
    },
}

impl OrderChange {
    /// The order that it makes.
    pub const fn order_made(&self) -> Option<&PackedOrder> {
        match self {
            Self::Made(order) => Some(order),
            Self::Moved { .. } => None,
        }
    }

    /// The order it changes.
    pub fn id(&self) -> OrderId {
        match self {
            Self::Made(order) => order.id(),
            Self::Moved { id, .. } => *id,
        }
    }

    /// When it was decided.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Made(order) => order.created_at(),
            Self::Moved { at, .. } => *at,
        }
    }

    /// What it does to the stock of its lines.
    pub fn stock(&self) -> StockChange {
        match self {
            Self::Made(order) => order.made_stock_change(),
            Self::Moved { id, from, to, .. } => {
                stock_change(*from, *to).unwrap_or_else(|| panic!("order {id} cannot go from {from} to {to}"))
            }
        }
    }

    /// Its lines whose items `owns` says are here.
    pub fn stock_lines(&self, owns: impl Fn(&Sku) -> bool) -> Vec<StockLine> {
        match self {
            Self::Made(order) => order.stock_lines().filter(|line| owns(&line.sku)).collect(),
            Self::Moved { lines, .. } => lines.clone(),
        }
    }
}

/// A change of an order as a transaction decides it, with the key that it came with where the order does not hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The change; lines whose items are on the record's shard are reserved there.
    pub change: OrderChange,
    /// The key it came with.
    pub key: Option<KeyRecord>,
}

impl Decided {
    /// Log bytes that it takes, at most.
    pub fn bytes_max(&self) -> usize {
        let change = match &self.change {
            OrderChange::Made(order) => order.bytes().len(),
            OrderChange::Moved { lines, .. } => lines.iter().map(StockLine::bytes_max).sum(),
        };
        change + 128 + self.key.as_ref().map_or(0, KeyRecord::bytes_max)
    }
}
