//! Puts a shop's items into the catalogue, stocks them, and reads their stock.
//!
//! Every change carries a key made of the shop's fingerprint: the same file stocked twice changes nothing the second
//! time, as long as the server remembers keys (at least 24 hours).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use cartwright_protocol::client::ClientError;
use cartwright_protocol::{Error, ErrorCode, Key, Operation, QUANTITY_MAX, Reply, StockAdd, StockGet, StockView, Text};

use crate::address::Address;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::shop::{ItemIndex, Shop};

/// Requests in flight while stocking and reading.
const PIPELINE_DEPTH: usize = 64;

/// Refusals by code, with how many there were and the first one's text.
pub type Refusals = BTreeMap<&'static str, (u64, String)>;

/// Counts a refusal; `about` says of what.
pub fn count_refusal(refusals: &mut Refusals, about: &str, error: &Error) {
    let (count, _) = refusals
        .entry(error.code.as_str())
        .or_insert_with(|| (0, format!("{about}: {error}")));
    *count += 1;
}

/// How many units to put of each item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// As many as all its orders need.
    Exact,
    /// As many of each.
    Each(u64),
}

impl Amount {
    /// Units of each item, by [`ItemIndex`].
    pub fn units(self, shop: &Shop) -> Vec<u64> {
        match self {
            Self::Exact => shop.units_sold(&shop.orders),
            Self::Each(units) => vec![units; shop.items.len()],
        }
    }
}

/// One `STOCK.ADD`: a part of an item's units, as a request takes [`QUANTITY_MAX`] at most.
struct Delivery {
    item: ItemIndex,
    part: u64,
    units: u64,
}

/// Puts every item, then stocks it. Gives what was refused.
pub fn stock(shop: &Shop, amount: Amount, address: &Address, progress: &Progress) -> Result<Refusals, ClientError> {
    let mut refusals = Refusals::new();
    let fingerprint = shop.fingerprint();
    let mut pipeline = Pipeline::connect(address, PIPELINE_DEPTH)?;
    let stop = AtomicBool::new(false);

    let mut items = shop.items.iter();
    pipeline.run(
        &stop,
        || items.next(),
        |item| shop.item_put(item, key(&format!("replay-item-{fingerprint:016x}"))),
        |item, reply, _| {
            refuse_unless(matches!(reply, Reply::Ok), &mut refusals, item.sku.as_str(), reply);
            progress.advance();
        },
    )?;

    // Another amount is another delivery, not a retry of the first.
    let kind = match amount {
        Amount::Exact => "exact".to_owned(),
        Amount::Each(units) => units.to_string(),
    };
    let mut deliveries = deliveries(&amount.units(shop)).into_iter();
    pipeline.run(
        &stop,
        || deliveries.next(),
        |delivery| {
            let key = key(&format!("{fingerprint:016x}-{kind}-{}", delivery.part));
            stock_add(shop, delivery, key)
        },
        |delivery, reply, _| {
            let sku = shop.items[delivery.item as usize].sku.as_str();
            refuse_unless(matches!(reply, Reply::Integer(_)), &mut refusals, sku, reply);
            progress.advance();
        },
    )?;
    Ok(refusals)
}

fn key(text: &str) -> Key {
    Key::new(text.as_bytes()).expect("a fingerprint, an amount and a part are within an identifier's length")
}

fn stock_add(shop: &Shop, delivery: &Delivery, key: Key) -> Operation {
    Operation::StockAdd(Box::new(StockAdd {
        sku: shop.items[delivery.item as usize].sku.clone(),
        delta: delivery.units as i64,
        location: None,
        reason: Text::new(b"replay").expect("a word is a text"),
        key: Some(key),
    }))
}

fn deliveries(units: &[u64]) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(units.len());
    for (item, &units) in units.iter().enumerate() {
        let most = u64::from(QUANTITY_MAX);
        for part in 0..units.div_ceil(most) {
            deliveries.push(Delivery {
                item: item as ItemIndex,
                part,
                units: most.min(units - part * most),
            });
        }
    }
    deliveries
}

fn refuse_unless(expected: bool, refusals: &mut Refusals, about: &str, reply: Reply) {
    match reply {
        _ if expected => (),
        Reply::Error(error) => count_refusal(refusals, about, &error),
        other => count_refusal(
            refusals,
            about,
            &Error::malformed(format!("unexpected answer {other:?}")),
        ),
    }
}

/// The stock of every item over all locations, by [`ItemIndex`]; nothing where there is no such item.
pub fn levels(shop: &Shop, address: &Address) -> Result<Result<Vec<StockView>, Refusals>, ClientError> {
    let mut levels = vec![StockView::default(); shop.items.len()];
    let mut refusals = Refusals::new();
    let mut items = shop.items.iter().enumerate();
    Pipeline::connect(address, PIPELINE_DEPTH)?.run(
        &AtomicBool::new(false),
        || items.next(),
        |(_, item)| {
            Operation::StockGet(StockGet {
                sku: item.sku.clone(),
                location: None,
            })
        },
        |(place, item), reply, _| match reply {
            Reply::Stock(level) => levels[place] = level,
            Reply::Null => (),
            Reply::Error(error) if error.code == ErrorCode::NoItem => (),
            reply => refuse_unless(false, &mut refusals, item.sku.as_str(), reply),
        },
    )?;
    Ok(if refusals.is_empty() { Ok(levels) } else { Err(refusals) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_units_than_one_request_takes_come_in_parts() {
        let parts: Vec<_> = deliveries(&[0, 5, 2_000_000_001])
            .iter()
            .map(|delivery| (delivery.item, delivery.part, delivery.units))
            .collect();
        assert_eq!(
            parts,
            [(1, 0, 5), (2, 0, 1_000_000_000), (2, 1, 1_000_000_000), (2, 2, 1)]
        );
    }
}
