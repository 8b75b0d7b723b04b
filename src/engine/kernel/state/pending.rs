//! Transactions that are in a shard's log and whose outcome is not.

use crate::engine::books::StockPart;
use crate::engine::books::shop::orders::Decided;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::ids::{LogPosition, ShardId};

/// The home shard's part of a pending transaction.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The records of other logs that it needs: those of the other parts, and up to where the logs show what was read.
    pub named: Vec<(ShardId, LogPosition)>,
    /// The changes of orders.
    pub changes: Vec<Decided>,
}

/// A transaction that is in this shard's log and whose outcome is not.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Where its record is.
    pub position: LogPosition,
    /// What it does to the items of this shard: reserved.
    pub stock: Vec<StockPart>,
    /// What it does to keys of this shard.
    pub effects: Vec<u8>,
    /// On the home shard only.
    pub decision: Option<Decision>,
}

impl Pending {
    /// The positions in other logs on which it depends; on its home shard.
    pub fn named(&self) -> &[(ShardId, LogPosition)] {
        let decision = self.decision.as_ref();
        &decision.expect("the home's own record is the decision").named
    }

    /// The orders that this transaction makes, on its home shard.
    pub fn orders_made(&self) -> impl Iterator<Item = &PackedOrder> {
        let changes = self.decision.iter().flat_map(|decision| &decision.changes);
        changes.filter_map(|decided| decided.change.order_made())
    }
}
