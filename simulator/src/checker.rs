//! The checker: every answer must be explained by the sequential shop at some moment between its request and itself
//! (linearizability), and by nothing that a crash could take back (rule R3).
//!
//! Writes take effect at a known moment (see [`crate::witness`]); reads and refusals change nothing, so each may choose
//! its own moment. Knows requests and answers, and nothing of shards.

use std::collections::{BTreeMap, BTreeSet};

use cartwright::engine::{KeptReply, KeyRecord, Scope};
use cartwright_protocol::shop::Home;
use cartwright_protocol::{
    CartLine, Currency, Error, ErrorCode, ItemGet, Key, Location, Operation, OrderGet, OrderId, OrderList, Reply, Sku,
    StockGet,
};

use crate::shop::order_changes;
use crate::shop::{Item, Shop, Version, Versioned};
use crate::violation::Checked;
use crate::witness::{News, Witness};
use crate::{promise, violation};

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was asked.
    pub operation: Operation,
    /// The shop's version when it was sent.
    pub sent: Version,
}

type ScopedKey = (Scope, Key);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Checker {
    /// Requests that may be answered, by sequence number.
    attempts: BTreeMap<u64, Attempt>,
    /// Those of them whose clients are gone: they may take effect, and nobody is told.
    abandoned: BTreeSet<u64>,
    /// Every request ever sent with a key.
    bodies: BTreeMap<ScopedKey, Vec<Operation>>,
    /// Which request has been given its key's answer.
    answered: BTreeMap<ScopedKey, Operation>,
    /// Movements and entries without a key that were refused: they must never happen.
    refused: BTreeSet<String>,
    /// Whether the disk has been full.
    pub disk_was_full: bool,
    /// Answers checked.
    pub answer_count: u64,
    /// Of these, refusals for want of room or time.
    pub busy_count: u64,
}

/// The key of a request in its scope.
pub fn key_of(operation: &Operation) -> Option<ScopedKey> {
    let key = operation.request_key()?.clone();
    let scope = match operation.subject()? {
        Home::Sku(sku) => Scope::Sku(sku.clone()),
        Home::Customer(customer) => Scope::Customer(customer.clone()),
        Home::Order(id) => Scope::Order(*id),
    };
    Some((scope, key))
}

/// A cart with one line a SKU, in the order of the cart.
pub fn merged(lines: &[CartLine]) -> Vec<(Sku, u64)> {
    let mut merged: Vec<(Sku, u64)> = Vec::new();
    for CartLine { sku, quantity } in lines {
        match merged.iter_mut().find(|(other, _)| other == sku) {
            Some((_, units)) => *units += u64::from(quantity.units()),
            None => merged.push((sku.clone(), quantity.units().into())),
        }
    }
    merged
}

fn is_transient(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Busy | ErrorCode::ReadOnly | ErrorCode::TooBig | ErrorCode::Err
    )
}

impl Checker {
    /// A request leaves its client.
    pub fn send(&mut self, sequence: u64, operation: Operation, shop: &Shop) {
        if let Some(key) = key_of(&operation) {
            let bodies = self.bodies.entry(key).or_default();
            if !bodies.contains(&operation) {
                bodies.push(operation.clone());
            }
        }
        let sent = shop.version;
        self.attempts.insert(sequence, Attempt { operation, sent });
    }

    /// Requests that are not answered, and will be.
    pub fn open_count(&self) -> usize {
        self.attempts.len() - self.abandoned.len()
    }

    /// Nobody will be told the answer to this request, if it is one to the shop.
    pub fn abandon(&mut self, sequence: u64) {
        if self.attempts.contains_key(&sequence) {
            self.abandoned.insert(sequence);
        }
    }

    /// Nothing is in flight: what was abandoned takes no effect any more.
    pub fn forget_abandoned(&mut self) {
        for sequence in std::mem::take(&mut self.abandoned) {
            self.attempts.remove(&sequence);
        }
    }

    /// One of them, for a message.
    pub fn an_open_one(&self) -> Option<(&u64, &Attempt)> {
        self.attempts
            .iter()
            .find(|(sequence, _)| !self.abandoned.contains(sequence))
    }

    /// The server is gone: nothing in flight is answered any more.
    pub fn forget_open(&mut self) {
        self.attempts.clear();
        self.abandoned.clear();
    }

    /// Decisions that name a request: there must be one.
    pub fn check_news(&self, witness: &mut Witness, recovering: bool) -> Checked {
        for news in std::mem::take(&mut witness.news) {
            match news {
                News::Made(id, key) => self.check_made(id, &key, &witness.shop, recovering)?,
                News::Answered(key) if !recovering => self.check_answered(&key, witness)?,
                News::Answered(_) => {}
            }
        }
        Ok(())
    }

    /// The earliest version at which an open request with this key was sent.
    fn sent_with(&self, key: &ScopedKey) -> Option<Version> {
        let attempts = self.attempts.values();
        let with_key = attempts.filter(|attempt| key_of(&attempt.operation).as_ref() == Some(key));
        with_key.map(|attempt| attempt.sent).min()
    }

    fn check_made(&self, id: OrderId, record: &KeyRecord, shop: &Shop, recovering: bool) -> Checked {
        let order = shop.order(id).expect("an order that was just made");
        let scoped = (record.scope.clone(), record.key.clone());
        let lines: Vec<_> = order
            .lines
            .iter()
            .map(|line| (line.sku.clone(), u64::from(line.ordered)))
            .collect();
        let is_body = |operation: &Operation| {
            let Operation::Checkout(checkout) = operation else {
                return false;
            };
            checkout.customer == order.customer
                && checkout.hold_ms.is_some() == order.expires_at.is_some()
                && merged(&checkout.lines) == lines
        };
        let bodies = self.bodies.get(&scoped);
        promise!(
            bodies.is_some_and(|bodies| bodies.iter().any(is_body)),
            "order {id} with key {} is none that was asked for: {order:?}",
            record.key
        );
        let view = order.view(id);
        let KeptReply::Receipt(receipt) = &record.reply else {
            return Err(violation!("the key of order {id} keeps {:?}", record.reply));
        };
        promise!(
            (
                receipt.id,
                receipt.state,
                receipt.total,
                receipt.currency,
                receipt.expires_at_ms
            ) == (id, view.state, view.total, view.currency, view.expires_at_ms),
            "the receipt {receipt:?} is not that of {view:?}"
        );
        if recovering {
            return Ok(());
        }
        let sent = self.sent_with(&scoped);
        let sent = sent.ok_or_else(|| violation!("order {id} was made when nobody asked for it"))?;
        let larger = shop.customers[&order.customer]
            .iter()
            .rev()
            .take_while(|&&other| other > id);
        for other in larger {
            promise!(
                shop.order_at(*other, sent).is_none(),
                "order {id} was asked for after order {other} of the same customer was made, and has a smaller id"
            );
        }
        let skus = || order.lines.iter().map(|line| &line.sku);
        let priced_at = |version: Version| {
            order.lines.iter().all(|line| {
                shop.item_at(&line.sku, version)
                    .is_some_and(|item| item.value.price() == line.price && item.value.currency == view.currency)
            })
        };
        promise!(
            shop.versions_of(skus(), sent).into_iter().any(priced_at),
            "R5: the prices of order {id} were never true at one moment since it was asked for: {order:?}"
        );
        Ok(())
    }

    fn check_answered(&self, record: &KeyRecord, witness: &Witness) -> Checked {
        let scoped = (record.scope.clone(), record.key.clone());
        let open = self
            .attempts
            .values()
            .filter(|attempt| key_of(&attempt.operation).as_ref() == Some(&scoped));
        for attempt in open {
            let explained = match &record.reply {
                KeptReply::Error(error) => {
                    let durable_or_not = |_: &Versioned<Item>| true;
                    is_explained(&attempt.operation, error, attempt.sent, &witness.shop, &durable_or_not)
                }
                kept => order_changes::is_kept(&attempt.operation, kept, attempt.sent, &witness.shop),
            };
            if explained {
                return Ok(());
            }
        }
        Err(violation!(
            "no request with key {} since it was sent explains its answer {:?}; {}",
            record.key,
            record.reply,
            self.context(&scoped, &witness.shop)
        ))
    }

    fn context(&self, scoped: &ScopedKey, shop: &Shop) -> String {
        let attempts: Vec<_> = self
            .attempts
            .values()
            .filter(|attempt| key_of(&attempt.operation).as_ref() == Some(scoped))
            .collect();
        format!("requests {attempts:?}, version {}", shop.version)
    }

    /// An answer leaves the server.
    pub fn release(&mut self, sequence: u64, reply: &Reply, witness: &Witness) -> Checked {
        let attempt = self
            .attempts
            .remove(&sequence)
            .filter(|_| !self.abandoned.contains(&sequence));
        let attempt =
            attempt.ok_or_else(|| violation!("request {sequence} is answered twice, or was never sent: {reply:?}"))?;
        self.answer_count += 1;
        if let Reply::Error(error) = reply
            && is_transient(error.code)
        {
            self.busy_count += 1;
            promise!(
                error.code == ErrorCode::Busy || error.code == ErrorCode::ReadOnly,
                "{:?} is refused with {error}",
                attempt.operation
            );
            promise!(
                error.code != ErrorCode::ReadOnly || self.disk_was_full,
                "writes are refused though the disk was never full: {error}"
            );
            return self.refuse(&attempt.operation, witness);
        }
        if let Some(key) = key_of(&attempt.operation) {
            return self.release_keyed(&attempt, &key, reply, witness);
        }
        let explained = match reply {
            Reply::Error(error) => {
                self.refuse(&attempt.operation, witness)?;
                let durable = |item: &Versioned<Item>| witness.is_durable(item.source);
                is_explained(&attempt.operation, error, attempt.sent, &witness.shop, &durable)
            }
            reply => is_true(&attempt, reply, witness)?,
        };
        promise!(
            explained,
            "at no moment since it was sent (version {} to {}), and as far as the disk has it, was {:?} to be answered {reply:?}",
            attempt.sent,
            witness.shop.version,
            attempt.operation
        );
        Ok(())
    }

    fn release_keyed(&mut self, attempt: &Attempt, key: &ScopedKey, reply: &Reply, witness: &Witness) -> Checked {
        if let Reply::Error(error) = reply
            && error.code == ErrorCode::Conflict
        {
            promise!(
                self.bodies[key].iter().any(|body| *body != attempt.operation),
                "R4: {:?} is a conflict with itself",
                attempt.operation
            );
            return Ok(());
        }
        let kept = witness.shop.keys.get(key);
        let kept = kept.ok_or_else(|| {
            violation!(
                "R4: {:?} is answered {reply:?}, and its key is not kept",
                attempt.operation
            )
        })?;
        promise!(
            kept.reply.to_reply() == *reply,
            "R4: {:?} is answered {reply:?}, but its key keeps {:?}",
            attempt.operation,
            kept.reply
        );
        promise!(
            witness.is_durable(kept.source),
            "R3: {:?} is answered {reply:?} before the disk has it, at {:?}",
            attempt.operation,
            kept.source
        );
        let first = self
            .answered
            .entry(key.clone())
            .or_insert_with(|| attempt.operation.clone());
        promise!(
            *first == attempt.operation || kept.is_forgotten,
            "R4: two requests with one key get its answer: {first:?} and {:?}",
            attempt.operation
        );
        Ok(())
    }

    /// A request without a key that was refused has no effect, now or later.
    fn refuse(&mut self, operation: &Operation, witness: &Witness) -> Checked {
        let tag = match operation {
            Operation::StockAdd(add) if add.key.is_none() => add.reason.as_str(),
            Operation::ItemPut(put) if put.key.is_none() => put.name.as_str(),
            _ => return Ok(()),
        };
        self.refused.insert(tag.to_owned());
        Self::check_refused(tag, &witness.shop)
    }

    fn check_refused(tag: &str, shop: &Shop) -> Checked {
        promise!(
            !shop.movements.contains_key(tag) && !shop.entries.contains_key(tag),
            "{tag} was refused, and happened"
        );
        Ok(())
    }

    /// What was refused has not happened since.
    pub fn check_all_refused(&self, shop: &Shop) -> Checked {
        self.refused.iter().try_for_each(|tag| Self::check_refused(tag, shop))
    }
}

/// Whether a refusal was right at some moment from `sent` on.
fn is_explained(
    operation: &Operation,
    error: &Error,
    sent: Version,
    shop: &Shop,
    durable: &dyn Fn(&Versioned<Item>) -> bool,
) -> bool {
    let item_was = |sku: &Sku, is: &dyn Fn(&Item) -> bool| {
        let mut versions = shop.item_since(sku, sent).flatten();
        versions.any(|item| durable(item) && is(&item.value))
    };
    let item_was_missing = |sku: &Sku| shop.item_since(sku, sent).any(|item| item.is_none());
    match (operation, error.code) {
        (Operation::Checkout(checkout), code) => {
            let lines = merged(&checkout.lines);
            let named = lines
                .iter()
                .filter(|(sku, _)| error.message.as_str().split(' ').next() == Some(sku.as_str()));
            let mut named = named.clone();
            match code {
                ErrorCode::OutOfStock => named.any(|(sku, units)| {
                    let wanted = format!("{sku} wanted {units}, available ");
                    error.message.starts_with(&wanted) && item_was(sku, &|item| item.room() < *units as i64)
                }),
                ErrorCode::Limit => named.any(|(sku, units)| {
                    let open = shop.open_units_since(&checkout.customer, sku, sent);
                    item_was(sku, &|item| item.limit > 0 && open + units > u64::from(item.limit))
                }),
                ErrorCode::NoItem => named.any(|(sku, _)| item_was_missing(sku)),
                ErrorCode::Currency => {
                    let versions = shop.versions_of(lines.iter().map(|(sku, _)| sku), sent);
                    versions.into_iter().any(|version| {
                        let currencies: BTreeSet<Currency> = lines
                            .iter()
                            .filter_map(|(sku, _)| Some(shop.item_at(sku, version)?.value.currency))
                            .collect();
                        currencies.len() > 1
                    })
                }
                _ => false,
            }
        }
        (Operation::StockAdd(add), ErrorCode::Insufficient) => {
            let at = add.location.clone().unwrap_or_else(Location::main);
            item_was(&add.sku, &|item| {
                let level = item.level(&at);
                level.on_hand + add.delta < 0 || level.available() + add.delta < 0
            })
        }
        (Operation::StockAdd(add), ErrorCode::NoItem) => item_was_missing(&add.sku),
        (Operation::StockGet(StockGet { sku, .. }), ErrorCode::NoItem) => item_was_missing(sku),
        (Operation::ItemPut(put), ErrorCode::Insufficient) => {
            let allowance = put.backorder.map_or(0, cartwright_protocol::Quantity::units);
            item_was(&put.sku, &|item| {
                item.level(&Location::main()).available() + i64::from(allowance) < 0
            })
        }
        (operation, code) => order_changes::is_explained(operation, code, sent, shop),
    }
}

/// Whether an answer was true at some moment since its request was sent, and is on disk.
fn is_true(attempt: &Attempt, reply: &Reply, witness: &Witness) -> Checked<bool> {
    let (shop, sent) = (&witness.shop, attempt.sent);
    let is = match (&attempt.operation, reply) {
        (Operation::ItemGet(ItemGet { sku }), reply) => shop.item_since(sku, sent).any(|item| match (item, reply) {
            (None, Reply::Null) => true,
            (Some(item), Reply::Item(view)) => **view == item.value.view(sku) && witness.is_durable(item.source),
            _ => false,
        }),
        (Operation::StockGet(StockGet { sku, location }), Reply::Stock(view)) => shop
            .local_since(sku, sent)
            .any(|item| *view == item.value.stock(location.as_ref()) && witness.is_durable(item.source)),
        (Operation::OrderGet(OrderGet { id }), reply) => {
            shop.order_since(*id, sent).any(|order| match (order, reply) {
                (None, Reply::Null) => true,
                (Some(order), Reply::Order(view)) => {
                    **view == order.value.view(*id) && witness.is_durable(order.source)
                }
                _ => false,
            })
        }
        (
            Operation::OrderList(OrderList {
                customer,
                before,
                count,
            }),
            Reply::Orders(list),
        ) => {
            let ids = shop.customers.get(customer).map(Vec::as_slice).unwrap_or_default();
            let mut versions = BTreeSet::from([sent]);
            for id in ids {
                versions.extend(
                    shop.order_since(*id, sent)
                        .flatten()
                        .map(|order| order.version.max(sent)),
                );
            }
            versions.into_iter().any(|version| {
                let orders = ids
                    .iter()
                    .rev()
                    .filter(|id| before.is_none_or(|before| **id < before))
                    .filter_map(|id| Some((id, shop.order_at(*id, version)?)));
                let orders: Vec<_> = orders.take(*count as usize).collect();
                orders.len() == list.len()
                    && orders.iter().zip(list).all(|((id, order), summary)| {
                        order.value.summary(**id) == *summary && witness.is_durable(order.source)
                    })
            })
        }
        (Operation::Audit, Reply::Audit(report)) => {
            promise!(report.violations == 0, "R1: an audit finds {report:?}");
            shop.counts_since(sent)
                .any(|counts| counts == (report.items, report.orders, report.lines))
        }
        (Operation::ItemPut(put), Reply::Ok) => shop
            .entries
            .get(put.name.as_str())
            .is_some_and(|&source| witness.is_durable(source)),
        (Operation::StockAdd(add), Reply::Integer(on_hand)) => {
            let at = add.location.clone().unwrap_or_else(Location::main);
            shop.movements.get(add.reason.as_str()).is_some_and(|&source| {
                let mut versions = shop.item_since(&add.sku, sent).flatten();
                let made = versions.find(|item| item.source == source);
                made.is_some_and(|item| item.value.level(&at).on_hand == *on_hand) && witness.is_durable(source)
            })
        }
        (operation, reply) => {
            let holds = |source| witness.is_durable(source);
            order_changes::is_true(operation, reply, sent, shop, &holds)
        }
    };
    Ok(is)
}
