//! The parts of a step about those who wait in the shop: for units of items, for transactions to be over, for time.

use cartwright_protocol::Sku;

use crate::engine::books::shop::inventory::StockLine;
use crate::engine::kernel::request_keys::KeyUse;
use crate::engine::kernel::shard::{EXPIRY_RETRY_MS, Step};
use crate::engine::kernel::waiting::Waiting;

/// How many expired orders one tick takes on.
const EXPIRATIONS_PER_TICK_MAX: usize = 256;

impl Step<'_> {
    /// Pending transactions on these items are over: those who wait for them are looked at before the step ends.
    pub(in crate::engine) fn stock_moved(&mut self, lines: &[StockLine]) {
        for line in lines {
            self.item_moved(&line.sku);
        }
    }

    /// Like [`Self::stock_moved`], for one item.
    pub(in crate::engine) fn item_moved(&mut self, sku: &Sku) {
        if self.shard.books.shop.stock_queue.count() > 0
            && self.shard.state.item(sku).is_some_and(|item| item.has_waiting)
        {
            self.shard.books.shop.moved.push_back(sku.clone());
        }
    }

    /// What this step has reserved and decided goes into the log. Before any other record of it, and at its end.
    pub(in crate::engine) fn log_staged(&mut self) {
        self.log_prepared();
        self.log_decided();
    }

    /// Those who wait for items that moved go on; whether any item has.
    pub(in crate::engine) fn settle_moved(&mut self) -> bool {
        let mut has_moved = false;
        while let Some(sku) = self.shard.books.shop.moved.pop_front() {
            has_moved = true;
            self.retry_waiting(&sku);
        }
        has_moved
    }

    /// The first read that waits is answered, if its wait is over. Gives whether there is more to do here.
    pub(in crate::engine) fn settle_reads(&mut self) -> bool {
        let shop = &mut self.shard.books.shop;
        if !shop.moved.is_empty() {
            return true;
        }
        let tickets = &self.shard.tickets;
        let ready = shop
            .reads
            .pop_front_if(|&mut (ticket, _)| tickets.all_over_before(ticket));
        let Some((_, read)) = ready else {
            return false;
        };
        self.stock_get_decided(&read);
        true
    }

    fn retry_waiting(&mut self, sku: &Sku) {
        while let Some(waiting) = self.shard.books.shop.stock_queue.pop(sku) {
            match waiting {
                Waiting::Visit(visit, keys) => self.visit(*visit, Some(sku), keys),
                Waiting::ItemPut(request) => {
                    let key = KeyUse::of(&request.operation, &mut self.shard.fingerprint);
                    self.item_put(request, key.as_ref(), true);
                }
                Waiting::StockAdd(request) => {
                    let key = KeyUse::of(&request.operation, &mut self.shard.fingerprint);
                    self.stock_add(request, key.as_ref(), true);
                }
            }
            if self.shard.books.shop.stock_queue.was_put_back() {
                return;
            }
        }
        if self.shard.books.shop.stock_queue.is_over(sku)
            && let Some(item) = self.shard.state.item_mut(sku)
        {
            item.has_waiting = false;
        }
    }

    /// Held orders whose time is over expire, some at a time.
    pub(in crate::engine) fn expire_orders(&mut self) {
        let now = self.shard.now;
        if self.shard.books.shop.expiry_retry_at <= now {
            let due: Vec<_> = self
                .shard
                .state
                .books
                .shop
                .expirations
                .iter()
                .take_while(|&&(at, _)| at <= now)
                .filter(|(_, id)| !self.shard.books.shop.locked_orders.contains_key(id))
                .take(EXPIRATIONS_PER_TICK_MAX)
                .map(|&(_, id)| id)
                .collect();
            for id in due {
                if !self.expire_order(id) {
                    self.shard.books.shop.expiry_retry_at = now.plus_ms(EXPIRY_RETRY_MS);
                    break;
                }
            }
        }
    }
}
