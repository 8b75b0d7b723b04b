//! The sequential shop: what a server without shards, disk or concurrency would hold after the same decisions.
//!
//! Plain maps, written apart from the engine. It takes decided changes one by one and checks each against the rules; it
//! keeps every version of everything, so that an answer can be compared with what was true while its request was open.

pub mod order_changes;

use std::collections::{BTreeMap, BTreeSet};

use cartwright::engine::{
    Allocations, BookRecord, KEY_RETENTION_MS, KeptReply, KeyRecord, LogPosition, OrderChange, PackedOrder, Record,
    Scope, ShardId, ShopRecord, Timestamp,
};
use cartwright::log::Generation;
use cartwright_protocol::{
    Amount, Currency, Customer, ItemView, Key, LineView, Location, OrderId, OrderState, OrderSummary, OrderView,
    Quantity, Sku, StockView,
};

use crate::violation::Checked;
use crate::{promise, violation};

/// The use of the key that an order came with.
pub fn key_of(order: &PackedOrder) -> KeyRecord {
    KeyRecord {
        scope: Scope::Customer(order.customer()),
        key: order.key(),
        fingerprint: order.fingerprint(),
        at: order.created_at(),
        reply: KeptReply::Receipt(order.receipt()),
    }
}

/// How many changes the shop has seen: what was true when.
pub type Version = u64;

/// The record that made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Of which generation of logs.
    pub generation: Generation,
    /// Whose log.
    pub shard: ShardId,
    /// Where in it.
    pub position: LogPosition,
}

/// Stock at one location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Units in the building.
    pub on_hand: i64,
    /// Of these, held.
    pub held: i64,
    /// Of these, sold.
    pub committed: i64,
}

impl Level {
    /// What can be sold.
    pub const fn available(self) -> i64 {
        self.on_hand - self.held - self.committed
    }
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    price: Amount,
    /// The price's currency.
    pub currency: Currency,
    name: String,
    /// Most units one customer may have in open orders; 0: no limit.
    pub limit: u32,
    /// How far below zero `available` of `main` may go.
    pub backorder: u32,
    /// By location.
    pub levels: BTreeMap<Location, Level>,
}

impl Item {
    /// As `ITEM.GET` shows it.
    pub fn view(&self, sku: &Sku) -> ItemView {
        ItemView {
            sku: sku.clone(),
            price: self.price,
            currency: self.currency,
            name: cartwright_protocol::Text::new(self.name.as_bytes()).expect("a name that was a text"),
            limit: self.limit,
            backorder: self.backorder,
        }
    }

    /// As `STOCK.GET` shows it.
    pub fn stock(&self, location: Option<&Location>) -> StockView {
        let mut view = StockView::default();
        for (at, level) in &self.levels {
            if location.is_none_or(|wanted| wanted == at) {
                view.on_hand += level.on_hand;
                view.held += level.held;
                view.committed += level.committed;
                view.available += level.available();
            }
        }
        view
    }

    /// How many units one cart could take.
    pub fn room(&self) -> i64 {
        let main = self.level(&Location::main()).available() + i64::from(self.backorder);
        let elsewhere = self.levels.iter().filter(|(at, _)| !at.is_main());
        main.max(0) + elsewhere.map(|(_, level)| level.available().max(0)).sum::<i64>()
    }

    /// The level at a location; empty where there never was stock.
    pub fn level(&self, location: &Location) -> Level {
        self.levels.get(location).copied().unwrap_or_default()
    }

    fn move_units(&mut self, at: &Location, (held, committed): (i64, i64)) {
        let level = self.levels.entry(at.clone()).or_default();
        level.held += held;
        level.committed += committed;
    }

    /// The price of one unit.
    pub const fn price(&self) -> Amount {
        self.price
    }

    fn check(&self, sku: &Sku) -> Checked {
        for (at, level) in &self.levels {
            let allowance = if at.is_main() { i64::from(self.backorder) } else { 0 };
            promise!(
                level.on_hand >= 0 && level.held >= 0 && level.committed >= 0 && level.available() + allowance >= 0,
                "R1: {sku} at {at} is oversold or negative: {level:?}, backorder {allowance}"
            );
        }
        Ok(())
    }
}

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub sku: Sku,
    /// Price of one unit when it was sold.
    pub price: Amount,
    /// Units ordered.
    pub ordered: u32,
    cancelled: u32,
    allocations: Vec<(Location, u32)>,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose.
    pub customer: Customer,
    /// Its state.
    pub state: OrderState,
    currency: Currency,
    total: Amount,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// When it expires, if it is held.
    pub expires_at: Option<Timestamp>,
    /// Its lines.
    pub lines: Vec<Line>,
}

impl Order {
    /// As `ORDER.GET` shows it.
    pub fn view(&self, id: OrderId) -> OrderView {
        let line = |line: &Line| LineView {
            sku: line.sku.clone(),
            price: line.price,
            ordered: line.ordered,
            cancelled: line.cancelled,
            shipped: 0,
            returned: 0,
        };
        OrderView {
            id,
            customer: self.customer.clone(),
            state: self.state,
            currency: self.currency,
            total: self.total,
            created_at_ms: self.created_at.unix_ms(),
            updated_at_ms: self.updated_at.unix_ms(),
            expires_at_ms: self.expires_at.map_or(0, Timestamp::unix_ms),
            lines: self.lines.iter().map(line).collect(),
        }
    }

    /// As `ORDER.LIST` shows it.
    pub const fn summary(&self, id: OrderId) -> OrderSummary {
        OrderSummary {
            id,
            state: self.state,
            total: self.total,
            currency: self.currency,
            created_at_ms: self.created_at.unix_ms(),
        }
    }

    /// Units of an item that are held or sold.
    fn open_units(&self, sku: &Sku) -> u64 {
        let is_open = matches!(self.state, OrderState::Held | OrderState::Placed);
        let lines = self.lines.iter().filter(|line| is_open && line.sku == *sku);
        lines.map(|line| u64::from(line.ordered)).sum()
    }
}

/// A decided change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A record that is a decision by itself.
    Alone(Record),
    /// A cross-shard transaction that committed.
    Transaction {
        /// What it does to its order.
        change: OrderChange,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
}

/// One version of something.
#[derive(Clone, Debug)]
pub struct Versioned<T> {
    /// From which version on.
    pub version: Version,
    /// What made it so.
    pub source: Source,
    /// How it was then.
    pub value: T,
}

/// A key's answer.
#[derive(Clone, Debug)]
pub struct KeptKey {
    /// When it was used.
    pub at: Timestamp,
    /// What was answered.
    pub reply: KeptReply,
    /// What made it so.
    pub source: Source,
    /// Since when.
    pub version: Version,
    /// Its time was over: it may be used anew.
    pub is_forgotten: bool,
}

/// A change of an item by a transaction that its shard may hear of later than its home.
#[derive(Clone, Debug)]
struct Touch {
    /// When its home committed it.
    version: Version,
    /// When the item's shard did.
    arrived: Option<Version>,
}

/// One movement of units at one location: of `held` and of `committed`.
pub type Movement = (Sku, Location, (i64, i64));

/// The shop.
#[derive(Clone, Debug, Default)]
pub struct Shop {
    /// The last version.
    pub version: Version,
    /// Every version of every item.
    pub items: BTreeMap<Sku, Vec<Versioned<Item>>>,
    /// Every version of every order.
    pub orders: BTreeMap<OrderId, Vec<Versioned<Order>>>,
    /// Ascending.
    pub customers: BTreeMap<Customer, Vec<OrderId>>,
    /// Keys in use.
    pub keys: BTreeMap<(Scope, Key), KeptKey>,
    /// Stock movements by the request that they name, with the record that made each.
    pub movements: BTreeMap<String, Source>,
    /// Catalogue entries by the request that they name.
    pub entries: BTreeMap<String, Source>,
    /// Every version of every item as its own shard has it: transactions take effect there when their outcome arrives.
    local: BTreeMap<Sku, Vec<Versioned<Item>>>,
    touches: BTreeMap<Sku, Vec<Touch>>,
    /// What the last transaction moved.
    moved: Vec<Movement>,
    order_lines: u64,
    /// How many items, orders and lines there were, by version.
    counts: Vec<(Version, (u64, u64, u64))>,
}

impl Shop {
    /// Takes a decided change, and checks that it may be one. `latest` is the latest time any shard has been told.
    pub fn apply(&mut self, source: Source, change: &Change, latest: Timestamp) -> Checked {
        self.version += 1;
        self.moved.clear();
        match change {
            Change::Transaction { change, key } => {
                self.change_order(source, change, latest)?;
                self.keep(source, key.as_ref(), latest)?;
            }
            Change::Alone(record) => match record {
                Record::Book(BookRecord::Shop(ShopRecord::ItemPut {
                    sku,
                    price,
                    currency,
                    name,
                    limit,
                    backorder,
                    key,
                })) => {
                    let entry = (
                        *price,
                        *currency,
                        name.as_str(),
                        limit.map_or(0, Quantity::units),
                        *backorder,
                    );
                    self.put_item(source, sku, entry)?;
                    self.keep(source, key.as_ref(), latest)?;
                }
                Record::Book(BookRecord::Shop(ShopRecord::StockAdded {
                    sku,
                    location,
                    delta,
                    reason,
                    key,
                    ..
                })) => {
                    let on_hand = self.add_stock(source, sku, location, *delta, reason.as_str())?;
                    let kept = key.as_ref().map(|key| &key.reply);
                    promise!(
                        kept.is_none_or(|kept| *kept == KeptReply::Integer(on_hand)),
                        "R4: the key of a stock movement keeps {kept:?}, not the new on_hand {on_hand}"
                    );
                    self.keep(source, key.as_ref(), latest)?;
                }
                Record::Book(BookRecord::Shop(ShopRecord::OrderChanged { change, key })) => {
                    self.change_order(source, change, latest)?;
                    self.keep(source, key.as_ref(), latest)?;
                }
                &Record::Book(BookRecord::Shop(ShopRecord::OrderExtended {
                    id,
                    at,
                    expires_at,
                    ref key,
                })) => {
                    self.extend(source, id, (at, expires_at), latest)?;
                    self.keep(source, key.as_ref(), latest)?;
                }
                Record::Answered { key } => self.keep(source, Some(key), latest)?,
                Record::KeysForgotten { slot, before } => self.forget(*slot, *before, latest)?,
                other => return Err(violation!("{other:?} is no decision by itself")),
            },
        }
        if let Change::Alone(_) = change {
            for (sku, at, units) in std::mem::take(&mut self.moved) {
                self.change_local(source, &sku, |item| item.move_units(&at, units));
            }
        }
        let counts = (self.items.len() as u64, self.orders.len() as u64, self.order_lines);
        if self.counts.last().is_none_or(|&(_, last)| last != counts) {
            self.counts.push((self.version, counts));
        }
        Ok(())
    }

    fn change_local(&mut self, source: Source, sku: &Sku, change: impl FnOnce(&mut Item)) {
        let versions = self
            .local
            .get_mut(sku)
            .expect("an item's shard has it as long as the shop");
        let mut value = versions.last().expect("an item has a version").value.clone();
        change(&mut value);
        versions.push(Versioned {
            version: self.version,
            source,
            value,
        });
    }

    /// What the transaction that was just applied moves, to be told of shard by shard.
    pub fn take_moved(&mut self) -> Vec<Movement> {
        let version = self.version;
        for (sku, ..) in &self.moved {
            let touches = self.touches.entry(sku.clone()).or_default();
            if touches.last().is_none_or(|touch| touch.version != version) {
                touches.push(Touch { version, arrived: None });
            }
        }
        std::mem::take(&mut self.moved)
    }

    /// The outcome of the transaction that was committed at `committed` arrived at the shard of these items.
    pub fn arrive(&mut self, source: Source, committed: Version, movements: &[Movement]) {
        self.version += 1;
        for (sku, at, units) in movements {
            self.change_local(source, sku, |item| item.move_units(at, *units));
            let touches = self.touches.get_mut(sku).into_iter().flatten();
            for touch in touches.filter(|touch| touch.version == committed) {
                touch.arrived = Some(self.version);
            }
        }
    }

    /// After a start every shard has heard of everything.
    pub fn arrive_all(&mut self) {
        self.touches.clear();
        self.local.clear();
        for (sku, versions) in &self.items {
            let last = versions.last().expect("an item has a version").clone();
            self.local.insert(sku.clone(), vec![last]);
        }
    }

    /// What the item's own shard had of it at some moment from version `from` on, where it had everything that had
    /// been committed by then.
    pub fn local_since(&self, sku: &Sku, from: Version) -> impl Iterator<Item = &Versioned<Item>> {
        let touches = self.touches.get(sku).map(Vec::as_slice).unwrap_or_default();
        let has_all = move |item: &&Versioned<Item>| {
            let before = touches.iter().filter(|touch| touch.version <= from);
            before
                .into_iter()
                .all(|touch| touch.arrived.is_some_and(|arrived| arrived <= item.version))
        };
        since(self.local.get(sku).map(Vec::as_slice), from)
            .flatten()
            .filter(has_all)
    }

    fn change_item(&mut self, source: Source, sku: &Sku, change: impl FnOnce(&mut Item)) -> Checked {
        let versions = self.items.get_mut(sku);
        let versions = versions.ok_or_else(|| violation!("a record changes {sku}, which is not in the catalogue"))?;
        let mut value = versions.last().expect("an item has a version").value.clone();
        change(&mut value);
        value.check(sku)?;
        versions.push(Versioned {
            version: self.version,
            source,
            value,
        });
        Ok(())
    }

    fn put_item(
        &mut self,
        source: Source,
        sku: &Sku,
        (price, currency, name, limit, backorder): (Amount, Currency, &str, u32, u32),
    ) -> Checked {
        let again = self.entries.insert(name.to_owned(), source);
        promise!(
            again.is_none(),
            "R4: the catalogue entry {name} was made twice, by {again:?} and {source:?}"
        );
        if self.items.contains_key(sku) {
            let change = |item: &mut Item| {
                item.price = price;
                item.currency = currency;
                name.clone_into(&mut item.name);
                item.limit = limit;
                item.backorder = backorder;
            };
            self.change_local(source, sku, change);
            return self.change_item(source, sku, change);
        }
        let value = Item {
            price,
            currency,
            name: name.to_owned(),
            limit,
            backorder,
            levels: BTreeMap::from([(Location::main(), Level::default())]),
        };
        let version = self.version;
        let versions = vec![Versioned { version, source, value }];
        self.local.insert(sku.clone(), versions.clone());
        self.items.insert(sku.clone(), versions);
        Ok(())
    }

    fn add_stock(&mut self, source: Source, sku: &Sku, at: &Location, delta: i64, request: &str) -> Checked<i64> {
        let again = self.movements.insert(request.to_owned(), source);
        promise!(
            again.is_none(),
            "R4: the stock movement {request} happened twice, by {again:?} and {source:?}"
        );
        let change = |item: &mut Item| item.levels.entry(at.clone()).or_default().on_hand += delta;
        self.change_item(source, sku, change)?;
        self.change_local(source, sku, change);
        let level = self.item(sku).expect("just changed").level(at);
        promise!(
            delta > 0 || level.available() >= 0,
            "R1: {sku} at {at} went down by {delta} to {level:?}, below what is sold"
        );
        Ok(level.on_hand)
    }

    fn change_order(&mut self, source: Source, change: &OrderChange, latest: Timestamp) -> Checked {
        if let OrderChange::Made(order) = change {
            return self.make_order(source, order, latest);
        }
        self.change_existing(source, change, latest)
    }

    fn make_order(&mut self, source: Source, order: &PackedOrder, latest: Timestamp) -> Checked {
        let (id, customer, state) = (&order.id(), &order.customer(), order.state());
        promise!(
            id.slot() == customer.slot(),
            "order {id} carries another slot than {customer}'s"
        );
        promise!(order.created_at() <= latest, "order {id} was made in the future");
        promise!(!self.orders.contains_key(id), "order {id} was made twice");
        let list = self.customers.entry(customer.clone()).or_default();
        list.insert(list.partition_point(|other| other < id), *id);
        let mut total = 0;
        let mut lines = Vec::new();
        for line in order.lines() {
            let sku = line.sku();
            let allocations = match &line.allocations {
                Allocations::Main => vec![(Location::main(), line.ordered)],
                Allocations::Split(parts) => parts
                    .iter()
                    .map(|part| (part.location.clone(), part.quantity))
                    .collect(),
            };
            let sum: u64 = allocations.iter().map(|&(_, units)| u64::from(units)).sum();
            promise!(
                sum == u64::from(line.ordered),
                "order {id} takes {sum} units for a line of {line:?}"
            );
            total += line.price.minor_units() * u64::from(line.ordered);
            lines.push(Line {
                sku,
                price: line.price,
                ordered: line.ordered,
                cancelled: 0,
                allocations,
            });
        }
        let skus: BTreeSet<&Sku> = lines.iter().map(|line| &line.sku).collect();
        promise!(skus.len() == lines.len(), "order {id} has two lines of one SKU");
        promise!(
            total == order.total().minor_units(),
            "order {id} totals {} and not {total}",
            order.total().minor_units()
        );
        let held = match state {
            OrderState::Held => true,
            OrderState::Placed => false,
            other => return Err(violation!("order {id} begins {other}")),
        };
        promise!(
            held == order.expires_at().is_some(),
            "order {id} is {state} and expires at {:?}",
            order.expires_at()
        );
        let units = if held { (1, 0) } else { (0, 1) };
        for line in &lines {
            let limit = self.item(&line.sku).map_or(0, |item| item.limit);
            let open = self.open_units_since(customer, &line.sku, self.version);
            promise!(
                limit == 0 || open + u64::from(line.ordered) <= u64::from(limit),
                "LIMIT: {customer} has {open} units of {}, and gets {} more of at most {limit}",
                line.sku,
                line.ordered
            );
            self.move_units(source, line, units)?;
        }
        self.order_lines += lines.len() as u64;
        let value = Order {
            customer: customer.clone(),
            state: order.state(),
            currency: order.currency(),
            total: order.total(),
            created_at: order.created_at(),
            updated_at: order.updated_at(),
            expires_at: order.expires_at(),
            lines,
        };
        let version = self.version;
        self.orders.insert(*id, vec![Versioned { version, source, value }]);
        self.keep(source, Some(&key_of(order)), latest)
    }

    fn move_units(&mut self, source: Source, line: &Line, (held, committed): (i64, i64)) -> Checked {
        let movements = line.allocations.iter().map(|(at, units)| {
            let units = i64::from(*units);
            (line.sku.clone(), at.clone(), (held * units, committed * units))
        });
        self.moved.extend(movements.clone());
        self.change_item(source, &line.sku, |item| {
            for (_, at, units) in movements {
                item.move_units(&at, units);
            }
        })
    }

    fn keep(&mut self, source: Source, key: Option<&KeyRecord>, latest: Timestamp) -> Checked {
        let Some(record) = key else { return Ok(()) };
        promise!(record.at <= latest, "key {} was used in the future", record.key);
        let kept = KeptKey {
            at: record.at,
            reply: record.reply.clone(),
            source,
            version: self.version,
            is_forgotten: false,
        };
        let before = self.keys.insert((record.scope.clone(), record.key.clone()), kept);
        promise!(
            before.as_ref().is_none_or(|before| before.is_forgotten),
            "R4: key {} of {:?} was answered twice: {before:?}, then {:?}",
            record.key,
            record.scope,
            record.reply
        );
        Ok(())
    }

    fn forget(&mut self, slot: u16, before: Timestamp, latest: Timestamp) -> Checked {
        promise!(
            before.unix_ms() + KEY_RETENTION_MS <= latest.unix_ms(),
            "R4: keys are forgotten before their time, at {before:?}"
        );
        for ((scope, _), key) in &mut self.keys {
            key.is_forgotten |= scope.slot().index() == usize::from(slot) && key.at < before;
        }
        Ok(())
    }

    /// The item now.
    pub fn item(&self, sku: &Sku) -> Option<&Item> {
        Some(&self.items.get(sku)?.last().expect("an item has a version").value)
    }

    /// The order now.
    pub fn order(&self, id: OrderId) -> Option<&Order> {
        Some(&self.orders.get(&id)?.last().expect("an order has a version").value)
    }

    /// What was true of an item at some moment from version `from` on; `None`: it was not there.
    pub fn item_since(&self, sku: &Sku, from: Version) -> impl Iterator<Item = Option<&Versioned<Item>>> {
        since(self.items.get(sku).map(Vec::as_slice), from)
    }

    /// What was true of an order at some moment from version `from` on; `None`: it was not there.
    pub fn order_since(&self, id: OrderId, from: Version) -> impl Iterator<Item = Option<&Versioned<Order>>> {
        since(self.orders.get(&id).map(Vec::as_slice), from)
    }

    /// The item as it was at a version.
    pub fn item_at(&self, sku: &Sku, version: Version) -> Option<&Versioned<Item>> {
        at(self.items.get(sku).map(Vec::as_slice), version)
    }

    /// The order as it was at a version.
    pub fn order_at(&self, id: OrderId, version: Version) -> Option<&Versioned<Order>> {
        at(self.orders.get(&id).map(Vec::as_slice), version)
    }

    /// The versions from `from` on at which one of these items changed, and `from` itself.
    pub fn versions_of<'a>(&self, skus: impl Iterator<Item = &'a Sku>, from: Version) -> BTreeSet<Version> {
        let mut versions = BTreeSet::from([from]);
        for sku in skus {
            let changes = self.items.get(sku).into_iter().flatten();
            versions.extend(changes.map(|change| change.version).filter(|&version| version > from));
        }
        versions
    }

    /// How many items, orders and lines there were at some moments from version `from` on.
    pub fn counts_since(&self, from: Version) -> impl Iterator<Item = (u64, u64, u64)> {
        let first = self.counts.partition_point(|&(version, _)| version <= from);
        let before = first.checked_sub(1).map_or((0, 0, 0), |index| self.counts[index].1);
        std::iter::once(before).chain(self.counts[first..].iter().map(|&(_, counts)| counts))
    }

    /// Units of an item in those of a customer's orders that were open at some moment from version `from` on.
    pub fn open_units_since(&self, customer: &Customer, sku: &Sku, from: Version) -> u64 {
        let ids = self.customers.get(customer).into_iter().flatten();
        let open = |&id: &OrderId| {
            let versions = self.order_since(id, from).flatten();
            versions.map(|order| order.value.open_units(sku)).max().unwrap_or(0)
        };
        ids.map(open).sum()
    }

    /// The books: the sum over open orders equals the counters, item by item and location by location.
    pub fn check_books(&self) -> Checked {
        let mut open: BTreeMap<(&Sku, &Location), (i64, i64)> = BTreeMap::new();
        for order in self
            .orders
            .values()
            .map(|versions| &versions.last().expect("a version").value)
        {
            let held = match order.state {
                OrderState::Held => true,
                OrderState::Placed => false,
                OrderState::Cancelled | OrderState::Expired => continue,
            };
            for line in &order.lines {
                for (at, units) in &line.allocations {
                    let sums = open.entry((&line.sku, at)).or_default();
                    if held {
                        sums.0 += i64::from(*units);
                    } else {
                        sums.1 += i64::from(*units);
                    }
                }
            }
        }
        for (sku, versions) in &self.items {
            for (at, level) in &versions.last().expect("a version").value.levels {
                let sums = open.get(&(sku, at)).copied().unwrap_or_default();
                promise!(
                    (level.held, level.committed) == sums,
                    "R1: {sku} at {at} counts {level:?}, its open orders {sums:?}"
                );
            }
        }
        Ok(())
    }
}

fn at<T>(versions: Option<&[Versioned<T>]>, version: Version) -> Option<&Versioned<T>> {
    let versions = versions?;
    let next = versions.partition_point(|change| change.version <= version);
    next.checked_sub(1).map(|index| &versions[index])
}

fn since<T>(versions: Option<&[Versioned<T>]>, from: Version) -> impl Iterator<Item = Option<&Versioned<T>>> {
    let versions = versions.unwrap_or_default();
    let next = versions.partition_point(|change| change.version <= from);
    let first = next.checked_sub(1).map(|index| &versions[index]);
    std::iter::once(first).chain(versions[next..].iter().map(Some))
}
