//! The parts of a step about existing orders: reading, confirming, cancelling, expiring them.
//!
//! Two changes of one order queue up at its home, holding nothing, so that each sees what the one before left behind.

use std::collections::VecDeque;

use cartwright_protocol::{
    Amount, Customer, Error, ErrorCode, Operation, OrderExtend, OrderId, OrderState, Reply, Slot,
};
use compact_str::format_compact;

use crate::engine::books::Purpose;
use crate::engine::books::shop::inventory::StockChange;
use crate::engine::books::shop::order_states::stock_change;
use crate::engine::books::shop::orders::OrderChange;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::books::shop::piece::{PieceLine, parts_of};
use crate::engine::books::shop::records::ShopRecord;
use crate::engine::kernel::ids::LogPosition;
use crate::engine::kernel::message::Request;
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::request_keys::{KeptReply, KeyUse};
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::transaction::InFlight;

impl Step<'_> {
    /// `ORDER.GET`.
    pub fn order_get(&mut self, reply_to: ReplyTo, id: OrderId) {
        let slot = self.shard.state.slot(id.slot());
        let reply = slot
            .books
            .shop
            .order(id)
            .map_or(Reply::Null, |order| Reply::Order(Box::new(order.view())));
        let after = slot.changed_at;
        self.answer(reply_to, reply, after);
    }

    /// `ORDER.LIST`, newest first.
    pub fn order_list(&mut self, reply_to: ReplyTo, customer: &Customer, before: Option<OrderId>, count: u32) {
        let slot = self.shard.state.slot(customer.slot());
        let orders = slot
            .books
            .shop
            .orders_of(customer, before)
            .take(count as usize)
            .map(PackedOrder::summary)
            .collect();
        let after = slot.changed_at;
        self.answer(reply_to, Reply::Orders(orders), after);
    }

    /// `ORDER.CONFIRM`, `ORDER.CANCEL` and `ORDER.EXTEND`.
    pub fn change_order_state(&mut self, request: Request, id: OrderId, key: Option<KeyUse>) {
        let reply_to = request.reply_to;
        if let Some(queue) = self.shard.books.shop.locked_orders.get_mut(&id) {
            if queue.len() >= self.shard.limits.waiting_max {
                let error = self
                    .shard
                    .busy("requests waiting for one order", self.shard.limits.waiting_max);
                return self.answer(reply_to, Reply::Error(error), LogPosition::ZERO);
            }
            return queue.push_back(request);
        }
        let reveals = self.shard.state.slot(id.slot()).changed_at;
        let Some(order) = self.shard.state.order(id) else {
            let error = Error::new(ErrorCode::NoOrder, format_compact!("there is no order {id}"));
            let (reply, after) = self.refuse(key, error, reveals);
            return self.answer(reply_to, reply, after);
        };
        let from = order.state();
        if order.expires_at().is_some_and(|at| at <= self.shard.now) {
            // Its time is over: it expires first, and this request finds it expired.
            if self.shard.now < self.shard.books.shop.expiry_retry_at || !self.expire_order(id) {
                let error = Error::new(ErrorCode::Busy, format_compact!("order {id} is expiring; try again"));
                return self.answer(reply_to, Reply::Error(error), LogPosition::ZERO);
            }
            return self.on_mutation(request);
        }
        let to = match request.operation {
            Operation::OrderConfirm(_) => OrderState::Placed,
            Operation::OrderExtend(OrderExtend { ms, .. }) => return self.extend_order(reply_to, id, ms, key),
            _ => OrderState::Cancelled,
        };
        if from == to {
            let (reply, after) = match key {
                Some(key) => self.keep_answer(key, KeptReply::State(to)),
                None => (Reply::State(to), reveals),
            };
            return self.answer(reply_to, reply, after);
        }
        let Some(stock) = stock_change(from, to) else {
            let error = Error::new(
                ErrorCode::State,
                format_compact!("order {id} is {from} and cannot become {to}"),
            );
            let (reply, after) = self.refuse(key, error, reveals);
            return self.answer(reply_to, reply, after);
        };
        if self.order_is_here(id) {
            let reply = KeptReply::State(to);
            let answer = reply.to_reply();
            let key = key.map(|key| key.answered(self.shard.now, reply));
            let (reply, after) = match self.change_order_here(id, to, key) {
                Ok(position) => (answer, position),
                Err(error) => (Reply::Error(error), LogPosition::ZERO),
            };
            return self.answer(reply_to, reply, after);
        }
        if let Err(error) = self.begin_order_change(Some(reply_to), key, id, to, stock) {
            self.answer(reply_to, Reply::Error(error), LogPosition::ZERO);
        }
    }

    /// Has an order that is there expire so many milliseconds from now, if it is held. Its items have no part in it.
    fn extend_order(&mut self, reply_to: ReplyTo, id: OrderId, ms: u32, key: Option<KeyUse>) {
        let state = self.existing(id).state();
        if state != OrderState::Held {
            let text = format_compact!("order {id} is {state} and cannot be extended");
            let reveals = self.shard.state.slot(id.slot()).changed_at;
            let (reply, after) = self.refuse(key, Error::new(ErrorCode::State, text), reveals);
            return self.answer(reply_to, reply, after);
        }
        let at = self.shard.now;
        let expires_at = at.plus_ms(ms.into());
        let reply = KeptReply::Integer(expires_at.unix_ms().cast_signed());
        let answer = reply.to_reply();
        let record = ShopRecord::OrderExtended {
            id,
            at,
            expires_at,
            key: key.map(|key| key.answered(at, reply)),
        };
        let (reply, after) = match self.append_if_room(record) {
            Ok((position, _)) => (answer, position),
            Err(error) => (Reply::Error(error), LogPosition::ZERO),
        };
        self.answer(reply_to, reply, after);
    }

    /// A held order's time is over. `false`: there was no room; to be tried again.
    pub fn expire_order(&mut self, id: OrderId) -> bool {
        if self.order_is_here(id) {
            self.change_order_here(id, OrderState::Expired, None).is_ok()
        } else {
            self.begin_order_change(None, None, id, OrderState::Expired, StockChange::ReleaseHeld)
                .is_ok()
        }
    }

    fn existing(&self, id: OrderId) -> &PackedOrder {
        self.shard.state.order(id).expect("the caller has looked the order up")
    }

    fn order_is_here(&self, id: OrderId) -> bool {
        let mut lines = self.existing(id).lines();
        lines.all(|line| self.shard.map.shard_of(Slot::of(line.sku_bytes())) == self.shard.id)
    }

    fn change_order_here(
        &mut self,
        id: OrderId,
        to: OrderState,
        key: Option<crate::engine::kernel::request_keys::KeyRecord>,
    ) -> Result<LogPosition, Error> {
        let order = self.existing(id);
        let lines = order.stock_lines().collect();
        let change = OrderChange::Moved {
            id,
            from: order.state(),
            to,
            at: self.shard.now,
            lines,
        };
        let (position, lines) = self.append_if_room(ShopRecord::OrderChanged { change, key })?;
        self.stock_moved(lines.as_deref().unwrap_or_default());
        Ok(position)
    }

    /// The lines of an order that is there, as pieces of a transaction.
    pub fn order_lines(&self, id: OrderId) -> Vec<PieceLine> {
        let map = self.shard.map;
        let lines = self.existing(id).lines().enumerate().map(|(index, line)| {
            let sku = line.sku();
            let slot = sku.slot();
            PieceLine {
                shard: map.shard_of(slot),
                slot,
                cart_index: index as u16,
                sku,
                quantity: line.ordered,
                price: Amount::default(),
                limit: None,
                allocations: line.allocations,
            }
        });
        lines.collect()
    }

    /// Locks the order and begins the transaction over its items' shards.
    fn begin_order_change(
        &mut self,
        reply_to: Option<ReplyTo>,
        key: Option<KeyUse>,
        id: OrderId,
        to: OrderState,
        stock: StockChange,
    ) -> Result<(), Error> {
        if self.shard.in_flight.len() >= self.shard.limits.transactions_max {
            return Err(self
                .shard
                .busy("transactions in flight", self.shard.limits.transactions_max));
        }
        let parts = parts_of(stock, self.order_lines(id));
        let from = self.existing(id).state();
        self.shard.books.shop.locked_orders.insert(id, VecDeque::new());
        let purpose = Purpose::OrderChange { id, from, to };
        self.begin_transaction(InFlight::new(reply_to, key, purpose, parts), false);
        Ok(())
    }

    /// The change of an order is over: those who wait for it go on, in the order they came.
    pub fn unlock_order(&mut self, id: OrderId) {
        let mut queue = self
            .shard
            .books
            .shop
            .locked_orders
            .remove(&id)
            .expect("an order that changes is locked");
        while let Some(request) = queue.pop_front() {
            self.on_mutation(request);
            if let Some(locked_again) = self.shard.books.shop.locked_orders.get_mut(&id) {
                locked_again.append(&mut queue);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::{ErrorCode, Operation, OrderState, Reply};

    use crate::engine::kernel::cluster_tests::Cluster;
    use crate::engine::kernel::message::{Ask, Input};

    fn call(cluster: &mut Cluster, words: &str) -> Reply {
        let words: Vec<_> = words.split(' ').collect();
        let operation = Operation::of_words(&words).expect("a command");
        let sequence = cluster.ask(Ask::Shop(operation));
        cluster.drain();
        cluster.replies[&sequence].clone()
    }

    fn time_passes(cluster: &mut Cluster, ms: u64) {
        cluster.now += ms;
        for shard in 0..cluster.shards.len() {
            cluster.input(shard, Input::Tick);
        }
        cluster.drain();
    }

    fn code_of(reply: &Reply) -> Option<ErrorCode> {
        match reply {
            Reply::Error(error) => Some(error.code),
            _ => None,
        }
    }

    #[test]
    fn an_extended_order_is_held_until_its_new_end_also_after_a_restart() {
        for shard_count in [1, 3] {
            let mut cluster = Cluster::new(shard_count);
            for sku in ["a", "b", "c"] {
                call(&mut cluster, &format!("ITEM.PUT {sku} 100 GBP"));
                call(&mut cluster, &format!("STOCK.ADD {sku} 5"));
            }
            let cart = "CHECKOUT ann KEY k HOLD 1000 LINES 3 a 2 b 1 c 1";
            let Reply::Receipt(receipt) = call(&mut cluster, cart) else {
                panic!("there is stock")
            };
            let id = receipt.id;
            let extend = format!("ORDER.EXTEND {id} 5000 KEY e");
            time_passes(&mut cluster, 400);
            let expires_at = cluster.now + 5000;
            let extended = call(&mut cluster, &extend);
            assert_eq!(extended, Reply::Integer(expires_at as i64));
            time_passes(&mut cluster, 2000);
            assert_eq!(call(&mut cluster, &extend), extended, "a retry extends nothing");
            assert_eq!(call(&mut cluster, cart), Reply::Receipt(receipt), "a receipt stays");
            assert_eq!(
                code_of(&call(&mut cluster, &format!("ORDER.EXTEND {id} 1 KEY e"))),
                Some(ErrorCode::Conflict)
            );
            // Once from the log alone, and once from a checkpoint.
            cluster.check_books();
            cluster.checkpoint_all();
            cluster.check_books();
            let state = |cluster: &mut Cluster| match call(cluster, &format!("ORDER.GET {id}")) {
                Reply::Order(order) => (order.state, order.expires_at_ms),
                other => panic!("{other:?}"),
            };
            assert_eq!(state(&mut cluster), (OrderState::Held, expires_at));
            let left = expires_at - cluster.now;
            time_passes(&mut cluster, left - 1);
            assert_eq!(state(&mut cluster).0, OrderState::Held);
            time_passes(&mut cluster, 1);
            assert_eq!(state(&mut cluster), (OrderState::Expired, 0));
            cluster.check_books();
            let late = call(&mut cluster, &format!("ORDER.EXTEND {id} 1000"));
            assert_eq!(code_of(&late), Some(ErrorCode::State), "{late:?}");
            let unknown = call(
                &mut cluster,
                &format!("ORDER.EXTEND {} 1000", id.to_integer() + (1 << 20)),
            );
            assert_eq!(code_of(&unknown), Some(ErrorCode::NoOrder), "{unknown:?}");
        }
    }
}
