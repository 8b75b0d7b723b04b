//! Orders: what was sold or is held, line by line, and the state machine that moves them.

use cartwright_protocol::{
    Amount, Currency, Customer, LineView, OrderId, OrderState, OrderSummary, OrderView, Receipt, Sku,
};

use super::ids::Timestamp;
use super::inventory::{Allocations, StockChange, StockLine};

/// One line of an order: 64 bytes where the SKU has at most 24.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OrderLine {
    /// What.
    pub sku: Sku,
    /// Price of one unit at checkout.
    pub price: Amount,
    /// Units ordered.
    pub ordered: u32,
    /// Units cancelled or expired.
    pub cancelled: u32,
    /// Where the units that are still open lie.
    pub allocations: Allocations,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Order {
    /// Its id, which carries the slot.
    pub id: OrderId,
    /// Who bought.
    pub customer: Customer,
    /// Its state.
    pub state: OrderState,
    /// The cart's one currency.
    pub currency: Currency,
    /// Sum of the lines at checkout.
    pub total: Amount,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it expires, while it is held.
    pub expires_at: Option<Timestamp>,
    /// Its lines, in the order of the cart; one a SKU.
    pub lines: Box<[OrderLine]>,
}

/// A decided change to one order, with every choice made. Says itself what it does to stock, so that a record can be
/// applied to the slot of an item without looking at the slot of the order.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum OrderChange {
    /// A checkout.
    Made(Order),
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
    /// The order it changes.
    pub const fn id(&self) -> OrderId {
        match self {
            Self::Made(order) => order.id,
            Self::Moved { id, .. } => *id,
        }
    }

    /// When it was decided.
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Made(order) => order.created_at,
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

/// What a change of state asks of the stock of an order's lines.
pub const fn stock_change(from: OrderState, to: OrderState) -> Option<StockChange> {
    match (from, to) {
        (OrderState::Held, OrderState::Placed) => Some(StockChange::Confirm),
        (OrderState::Held, OrderState::Cancelled | OrderState::Expired) => Some(StockChange::ReleaseHeld),
        (OrderState::Placed, OrderState::Cancelled) => Some(StockChange::ReleaseCommitted),
        _ => None,
    }
}

impl Order {
    /// What its checkout did to the stock of its lines.
    pub const fn made_stock_change(&self) -> StockChange {
        match self.state {
            OrderState::Held => StockChange::Hold,
            _ => StockChange::Commit,
        }
    }

    /// Whether its open units are counted in `held` (true) or `committed` (false); `None` where none are open.
    pub const fn open_units_are_held(&self) -> Option<bool> {
        match self.state {
            OrderState::Held => Some(true),
            OrderState::Placed => Some(false),
            OrderState::Cancelled | OrderState::Expired => None,
        }
    }

    /// Units of an item that are neither cancelled nor expired.
    pub fn open_units(&self, sku: &Sku) -> u32 {
        self.lines
            .iter()
            .find(|line| line.sku == *sku)
            .map_or(0, |line| line.ordered - line.cancelled)
    }

    /// Its open units, line by line.
    pub fn stock_lines(&self) -> impl Iterator<Item = StockLine> {
        self.lines.iter().map(|line| StockLine {
            sku: line.sku.clone(),
            quantity: line.ordered - line.cancelled,
            allocations: line.allocations.clone(),
        })
    }

    /// Enters another state; where that closes the order, every line with it.
    pub fn move_to(&mut self, to: OrderState, at: Timestamp) {
        assert!(
            stock_change(self.state, to).is_some(),
            "an order cannot go from {} to {to}",
            self.state
        );
        self.state = to;
        self.updated_at = at;
        self.expires_at = None;
        if self.open_units_are_held().is_none() {
            for line in &mut self.lines {
                line.cancelled = line.ordered;
            }
        }
    }

    /// What its checkout answers.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            id: self.id,
            state: self.state,
            total: self.total,
            currency: self.currency,
            expires_at_ms: self.expires_at_ms(),
        }
    }

    /// The order in a list.
    pub const fn summary(&self) -> OrderSummary {
        OrderSummary {
            id: self.id,
            state: self.state,
            total: self.total,
            currency: self.currency,
            created_at_ms: self.created_at.unix_ms(),
        }
    }

    /// The order as clients see it.
    pub fn view(&self) -> OrderView {
        let line = |line: &OrderLine| LineView {
            sku: line.sku.clone(),
            price: line.price,
            ordered: line.ordered,
            cancelled: line.cancelled,
            shipped: 0,
            returned: 0,
        };
        OrderView {
            id: self.id,
            customer: self.customer.clone(),
            state: self.state,
            currency: self.currency,
            total: self.total,
            created_at_ms: self.created_at.unix_ms(),
            updated_at_ms: self.updated_at.unix_ms(),
            expires_at_ms: self.expires_at_ms(),
            lines: self.lines.iter().map(line).collect(),
        }
    }

    fn expires_at_ms(&self) -> u64 {
        self.expires_at.map_or(0, Timestamp::unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_moves_of_the_diagram_are_possible() {
        let possible: Vec<_> = OrderState::ALL
            .into_iter()
            .flat_map(|from| OrderState::ALL.map(|to| (from, to)))
            .filter(|&(from, to)| stock_change(from, to).is_some())
            .collect();
        assert_eq!(
            possible,
            [
                (OrderState::Held, OrderState::Placed),
                (OrderState::Held, OrderState::Cancelled),
                (OrderState::Held, OrderState::Expired),
                (OrderState::Placed, OrderState::Cancelled),
            ]
        );
    }
}
