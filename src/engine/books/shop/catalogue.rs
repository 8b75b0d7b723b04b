//! The parts of a step about items: the catalogue and stock movements.

use cartwright_protocol::{Error, ErrorCode, ItemPut, Location, Operation, Quantity, Reply, Sku, StockAdd, StockGet};
use compact_str::format_compact;

use crate::engine::books::shop::inventory::{LOCATIONS_MAX, ON_HAND_MAX, Shortage};
use crate::engine::books::shop::records::ShopRecord;
use crate::engine::kernel::ids::LogPosition;
use crate::engine::kernel::message::Request;
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::request_keys::{KeptReply, KeyUse};
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::waiting::Waiting;

impl Step<'_> {
    /// `ITEM.GET`.
    pub fn item_get(&mut self, reply_to: ReplyTo, sku: &Sku) {
        let slot = self.shard.state.slot(sku.slot());
        let reply = slot
            .books
            .shop
            .item(sku)
            .map_or(Reply::Null, |item| Reply::Item(Box::new(item.view())));
        let after = slot.changed_at;
        self.answer(reply_to, reply, after);
    }

    /// `STOCK.GET`: waits for the transactions that pend on the item now.
    pub fn stock_get(&mut self, request: Request) {
        let Operation::StockGet(StockGet { sku, .. }) = &request.operation else {
            unreachable!("called for STOCK.GET")
        };
        let item = self.shard.state.item(sku);
        if item.is_none_or(|item| item.pending_count == 0) || is_on(Mutation::ReadPastPending) {
            return self.stock_get_decided(&request);
        }
        if self.shard.books.shop.reads.len() >= self.shard.limits.waiting_max {
            let error = self
                .shard
                .busy("reads waiting for transactions", self.shard.limits.waiting_max);
            return self.answer(request.reply_to, Reply::Error(error), LogPosition::ZERO);
        }
        self.shard
            .books
            .shop
            .reads
            .push_back((self.shard.tickets.next(), request));
    }

    /// `STOCK.GET` of what is decided now.
    pub fn stock_get_decided(&mut self, request: &Request) {
        let Operation::StockGet(StockGet { sku, location }) = &request.operation else {
            unreachable!("called for STOCK.GET")
        };
        let slot = self.shard.state.slot(sku.slot());
        let reply = match slot.books.shop.item(sku) {
            Some(item) => Reply::Stock(item.stock(location.as_ref())),
            None => Reply::Error(no_item(sku)),
        };
        let after = slot.changed_at;
        self.answer(request.reply_to, reply, after);
    }

    /// `ITEM.PUT`. Waits for the transactions that pend on the item: those may still fill or empty its backorder
    /// allowance, and their carts have its price, so that a cart over several shards never mixes prices from before and
    /// after. `at_front`: the request waited and has reached the front of the item's queue.
    pub fn item_put(&mut self, request: Request, key: Option<&KeyUse>, at_front: bool) {
        let reply_to = request.reply_to;
        let Operation::ItemPut(put) = &request.operation else {
            unreachable!("called for ITEM.PUT")
        };
        let item = self.shard.state.item(&put.sku);
        if item.is_some_and(|item| item.pending_count > 0 || (item.has_waiting && !at_front)) {
            let sku = put.sku.clone();
            return self.wait_for_stock(&sku, Waiting::ItemPut(request), key, at_front);
        }
        let Operation::ItemPut(put) = request.operation else {
            unreachable!("looked at above")
        };
        let backorder = put.backorder.map_or(0, Quantity::units);
        let (reply, after) = if let Err((error, reveals)) = self.check_item_put(&put, backorder) {
            self.refuse(key.cloned(), error, reveals)
        } else {
            let sku = put.sku.clone();
            let key = key.cloned().map(|key| key.answered(self.shard.now, KeptReply::Ok));
            let ItemPut {
                sku: _,
                price,
                currency,
                name,
                limit,
                ..
            } = *put;
            let record = ShopRecord::ItemPut {
                sku: sku.clone(),
                price,
                currency,
                name,
                limit,
                backorder,
                key,
            };
            match self.append_if_room(record) {
                Err(error) => (Reply::Error(error), LogPosition::ZERO),
                Ok((position, _)) => {
                    self.item_moved(&sku);
                    (Reply::Ok, position)
                }
            }
        };
        self.answer_all(Some(reply_to), key, &reply, after);
    }

    /// Joins the item's queue, or stays at its front.
    fn wait_for_stock(&mut self, sku: &Sku, waiting: Waiting, key: Option<&KeyUse>, at_front: bool) {
        if at_front {
            return self.shard.books.shop.stock_queue.push_front(sku, waiting);
        }
        if let Err(error) = self.join_stock_queue(sku) {
            let (Waiting::ItemPut(request) | Waiting::StockAdd(request)) = waiting else {
                unreachable!("pieces join by themselves")
            };
            return self.answer(request.reply_to, Reply::Error(error), LogPosition::ZERO);
        }
        if let Some(key) = key {
            self.shard.keys_in_flight.begin(key);
        }
        self.shard.books.shop.stock_queue.push(sku, waiting);
    }

    fn check_item_put(&self, put: &ItemPut, backorder: u32) -> Result<(), (Error, LogPosition)> {
        let slot = self.shard.state.slot(put.sku.slot());
        match slot.books.shop.item(&put.sku) {
            None if self.shard.state.counts.books.shop.items >= self.shard.limits.books.shop.items_max => Err((
                self.shard
                    .busy("items", self.shard.limits.books.shop.items_max as usize),
                LogPosition::ZERO,
            )),
            Some(item) if item.backorder_used() > i64::from(backorder) => {
                let (sku, used) = (&put.sku, item.backorder_used());
                let text = format_compact!("{sku} has {used} units on backorder, over the new allowance {backorder}");
                Err((Error::new(ErrorCode::Insufficient, text), slot.changed_at))
            }
            _ => Ok(()),
        }
    }

    /// `STOCK.ADD`. `at_front`: the request waited and has reached the front of the item's queue.
    pub fn stock_add(&mut self, request: Request, key: Option<&KeyUse>, at_front: bool) {
        let reply_to = request.reply_to;
        let Operation::StockAdd(add) = &request.operation else {
            unreachable!("called for STOCK.ADD")
        };
        let location = add.location.clone().unwrap_or_else(Location::main);
        let (reply, after) = match self.check_stock_add(add, &location, at_front) {
            Err(None) => {
                let sku = add.sku.clone();
                return self.wait_for_stock(&sku, Waiting::StockAdd(request), key, at_front);
            }
            Err(Some((error, reveals))) => self.refuse(key.cloned(), error, reveals),
            Ok(on_hand) => self.record_stock_add(add, location, on_hand, key.cloned()),
        };
        self.answer_all(Some(reply_to), key, &reply, after);
    }

    /// The new `on_hand`, a refusal, or `None` where pending transactions must be awaited.
    fn check_stock_add(
        &self,
        add: &StockAdd,
        location: &Location,
        at_front: bool,
    ) -> Result<i64, Option<(Error, LogPosition)>> {
        let slot = self.shard.state.slot(add.sku.slot());
        let refused = |error| Err(Some((error, slot.changed_at)));
        let Some(item) = slot.books.shop.item(&add.sku) else {
            return refused(no_item(&add.sku));
        };
        let level = item.level(location);
        let on_hand = level.map_or(0, |level| level.on_hand);
        if level.is_none() && !location.is_main() && item.elsewhere_count() + 1 >= LOCATIONS_MAX {
            let text = format_compact!("{} has stock at {LOCATIONS_MAX} locations, the limit", add.sku);
            return refused(Error::new(ErrorCode::TooBig, text));
        }
        if on_hand + add.delta > ON_HAND_MAX {
            let text = format_compact!("{} would have more than {ON_HAND_MAX} units at {location}", add.sku);
            return refused(Error::new(ErrorCode::TooBig, text));
        }
        if add.delta < 0 && item.has_waiting && !at_front {
            return Err(None);
        }
        match item.check_add(location, add.delta) {
            Ok(()) => Ok(on_hand + add.delta),
            Err(Shortage::Pending) => Err(None),
            Err(Shortage::Decided { available }) => {
                let text = format_compact!(
                    "{} cannot go down by {} at {location}: on_hand {on_hand}, available {available}",
                    add.sku,
                    add.delta.unsigned_abs()
                );
                refused(Error::new(ErrorCode::Insufficient, text))
            }
        }
    }

    fn record_stock_add(
        &mut self,
        add: &StockAdd,
        location: Location,
        on_hand: i64,
        key: Option<KeyUse>,
    ) -> (Reply, LogPosition) {
        let at = self.shard.now;
        let record = ShopRecord::StockAdded {
            sku: add.sku.clone(),
            location,
            delta: add.delta,
            reason: add.reason.clone(),
            at,
            key: key.map(|key| key.answered(at, KeptReply::Integer(on_hand))),
        };
        match self.append_if_room(record) {
            Err(error) => (Reply::Error(error), LogPosition::ZERO),
            Ok((position, _)) => {
                self.item_moved(&add.sku);
                (Reply::Integer(on_hand), position)
            }
        }
    }
}

fn no_item(sku: &Sku) -> Error {
    Error::new(ErrorCode::NoItem, format_compact!("{sku} is not in the catalogue"))
}
