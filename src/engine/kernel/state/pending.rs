//! Transactions that are in a shard's log and whose outcome is not.

use crate::engine::books::shop::inventory::{StockChange, StockLine};
use crate::engine::books::shop::orders::OrderChange;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::ids::{LogPosition, ShardId};
use crate::engine::kernel::request_keys::KeyRecord;

/// The home shard's part of a pending transaction.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Decision {
    /// Where every other participant's `Prepared` is.
    pub prepared: Vec<(ShardId, LogPosition)>,
    pub(super) change: OrderChange,
    pub(super) key: Option<KeyRecord>,
}

/// A transaction that is in this shard's log and whose outcome is not.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Pending {
    /// Where its record is.
    pub position: LogPosition,
    pub(super) stock: StockChange,
    /// What it does to the items of this shard: reserved.
    pub lines: Vec<StockLine>,
    /// On the home shard only.
    pub decision: Option<Decision>,
    /// What it does to keys of the keyspace, where it is about those. In parts of its own in a checkpoint.
    #[rkyv(with = rkyv::with::Skip)]
    pub keys: Option<KeysPending>,
}

/// A transaction over keys: this shard's part.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct KeysPending {
    /// On the home shard: what it names of other logs.
    pub(super) prepared: Option<Vec<(ShardId, LogPosition)>>,
    pub(super) effects: Vec<u8>,
}

impl KeysPending {
    /// What it does to keys of this shard.
    pub fn effects(&self) -> &[u8] {
        &self.effects
    }
}

impl Pending {
    /// The positions in other logs on which it depends; on its home shard.
    pub fn named(&self) -> &[(ShardId, LogPosition)] {
        let of_keys = self.keys.as_ref().and_then(|keys| keys.prepared.as_ref());
        let of_shop = self.decision.as_ref().map(|decision| &decision.prepared);
        of_keys.or(of_shop).expect("the home's own record is the decision")
    }

    /// A transaction over keys; at its home with what it names of other logs.
    pub(super) fn of_keys(
        position: LogPosition,
        prepared: Option<Vec<(ShardId, LogPosition)>>,
        effects: Vec<u8>,
    ) -> Self {
        Self::about(position, KeysPending { prepared, effects })
    }

    /// A transaction over keys whose record is at `position`.
    pub fn about(position: LogPosition, keys: KeysPending) -> Self {
        Self {
            position,
            stock: StockChange::Commit,
            lines: Vec::new(),
            decision: None,
            keys: Some(keys),
        }
    }

    /// The order that this transaction makes, on its home shard.
    pub fn order_made(&self) -> Option<&PackedOrder> {
        self.decision.as_ref()?.change.order_made()
    }
}
