//! What a shard knows of the shop's requests that are not over. Volatile: never logged.

use std::collections::VecDeque;

use cartwright_protocol::{OrderId, Sku};
use hashbrown::HashMap;

use crate::engine::books::shop::packed_order::OrderPacker;
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::message::Request;
use crate::engine::kernel::waiting::StockQueue;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Volatile {
    /// Orders that a transaction is changing, with the requests that wait for them.
    pub locked_orders: HashMap<OrderId, VecDeque<Request>, TableHasher>,
    /// Who waits for units of an item.
    pub stock_queue: StockQueue,
    /// Items whose pending transactions changed in this step, for those who wait.
    pub moved: VecDeque<Sku>,
    /// Reads that wait for the transactions before their ticket.
    pub reads: VecDeque<(u64, Request)>,
    /// Expiries found no room: none is tried before.
    pub expiry_retry_at: Timestamp,
    /// Memory in which orders are packed.
    pub order_packer: OrderPacker,
}

impl Volatile {
    /// Whether nobody waits.
    pub fn is_idle(&self) -> bool {
        self.stock_queue.count() == 0 && self.reads.is_empty()
    }
}
