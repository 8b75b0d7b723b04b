//! Puts a benchmark's items on a server and stocks them, so that none is sold out while something else is measured.
//!
//! Called before runs. Stocks only what has fallen below half, so that a second run finds everything ready.

use std::sync::atomic::AtomicBool;

use cartwright_protocol::{
    Amount, Currency, ItemGet, ItemPut, Operation, QUANTITY_MAX, Reply, Sku, StockAdd, StockGet, Text,
};

use super::WorkloadError;
use crate::bench::cart_mix::sku;
use crate::bench::carts::stock_key;
use crate::bench::redis_client::{RedisClient, Value};
use crate::bench::target::{Kind, Target};
use crate::pipeline::Pipeline;

/// Requests in flight while preparing.
const PIPELINE_DEPTH: usize = 256;

/// Units that each item is stocked with; below half of it, it is stocked again.
pub const STOCK_UNITS: u64 = QUANTITY_MAX as u64;

/// Prices go from here in steps of one, and begin again after as many.
const PRICE_FIRST: u64 = 100;
const PRICE_STEPS: usize = 1_000;

/// Puts and stocks items 0 to `count` - 1.
pub fn prepare_items(target: &Target, count: usize) -> Result<(), WorkloadError> {
    match target.kind {
        Kind::Cartwright => prepare_own(target, count),
        Kind::Redis | Kind::Valkey => prepare_redis(target, count),
    }
}

/// Asks about every item, and gives the answers.
fn ask_all<T: Copy>(
    pipeline: &mut Pipeline,
    items: impl IntoIterator<Item = T>,
    request: impl Fn(&T) -> Operation,
    mut hear: impl FnMut(T, Reply) -> Result<(), WorkloadError>,
) -> Result<(), WorkloadError> {
    let mut items = items.into_iter();
    let mut heard = Ok(());
    pipeline.run(
        &AtomicBool::new(false),
        || items.next(),
        request,
        |item, reply, _| {
            if heard.is_ok() {
                heard = hear(item, reply);
            }
        },
    )?;
    heard
}

fn unexpected(doing: &'static str, reply: &Reply) -> WorkloadError {
    let answer = match reply {
        Reply::Error(error) => error.to_string(),
        other => format!("{other:?}"),
    };
    WorkloadError::Answer { doing, answer }
}

/// An item's name as the server takes it.
pub fn item_sku(number: usize) -> Sku {
    Sku::new(sku(number).as_bytes()).expect("a letter and digits are a SKU")
}

/// The request that puts an item.
pub fn item_put(sku: Sku, number: usize) -> Operation {
    Operation::ItemPut(Box::new(ItemPut {
        sku,
        price: Amount::new(PRICE_FIRST + (number % PRICE_STEPS) as u64).expect("a small price is an amount"),
        currency: Currency::new(b"GBP").expect("three capital letters are a currency"),
        name: Text::default(),
        limit: None,
        backorder: None,
        key: None,
    }))
}

/// The request that stocks an item.
pub fn stock_add(sku: Sku, units: u64) -> Operation {
    Operation::StockAdd(Box::new(StockAdd {
        sku,
        delta: units as i64,
        location: None,
        reason: Text::default(),
        key: None,
    }))
}

fn prepare_own(target: &Target, count: usize) -> Result<(), WorkloadError> {
    let mut pipeline = Pipeline::connect(&target.address, PIPELINE_DEPTH)?;
    let (mut missing, mut low) = (Vec::new(), Vec::new());
    ask_all(
        &mut pipeline,
        0..count,
        |&item| Operation::ItemGet(ItemGet { sku: item_sku(item) }),
        |item, reply| {
            match reply {
                Reply::Null => missing.push(item),
                Reply::Item(_) => {}
                other => return Err(unexpected("looking for items", &other)),
            }
            Ok(())
        },
    )?;
    ask_all(
        &mut pipeline,
        missing,
        |&item| item_put(item_sku(item), item),
        |_, reply| match reply {
            Reply::Ok => Ok(()),
            other => Err(unexpected("putting items", &other)),
        },
    )?;
    ask_all(
        &mut pipeline,
        0..count,
        |&item| {
            Operation::StockGet(StockGet {
                sku: item_sku(item),
                location: None,
            })
        },
        |item, reply| match reply {
            Reply::Stock(stock) => {
                if stock.available < (STOCK_UNITS / 2) as i64 {
                    low.push(item);
                }
                Ok(())
            }
            other => Err(unexpected("reading stock", &other)),
        },
    )?;
    ask_all(
        &mut pipeline,
        low,
        |&item| stock_add(item_sku(item), STOCK_UNITS),
        |_, reply| match reply {
            Reply::Integer(_) => Ok(()),
            other => Err(unexpected("stocking items", &other)),
        },
    )
}

/// Units of items 0 to `count` - 1 that orders hold.
pub fn held_units(target: &Target, count: usize) -> Result<i64, WorkloadError> {
    let mut pipeline = Pipeline::connect(&target.address, PIPELINE_DEPTH)?;
    let mut held = 0;
    ask_all(
        &mut pipeline,
        0..count,
        |&item| {
            Operation::StockGet(StockGet {
                sku: item_sku(item),
                location: None,
            })
        },
        |_, reply| match reply {
            Reply::Stock(stock) => {
                held += stock.held;
                Ok(())
            }
            other => Err(unexpected("reading stock", &other)),
        },
    )?;
    Ok(held)
}

/// Makes one item with so many units of stock.
pub fn prepare_item(target: &Target, number: usize, units: u64) -> Result<(), WorkloadError> {
    if target.kind != Kind::Cartwright {
        RedisClient::connect(&target.address)?.call(&["SET", &stock_key(number), &units.to_string()])?;
        return Ok(());
    }
    let mut client = target.address.connect()?;
    match client.call(&item_put(item_sku(number), number))? {
        Reply::Ok => {}
        other => return Err(unexpected("putting an item", &other)),
    }
    match client.call(&stock_add(item_sku(number), units))? {
        Reply::Integer(_) => Ok(()),
        other => Err(unexpected("stocking an item", &other)),
    }
}

fn prepare_redis(target: &Target, count: usize) -> Result<(), WorkloadError> {
    let mut client = RedisClient::connect(&target.address)?;
    client.call_all((0..count).map(|item| vec!["SET".to_owned(), stock_key(item), STOCK_UNITS.to_string()]))?;
    Ok(())
}

/// Units of an item that can be sold.
pub fn available(target: &Target, sku: &Sku) -> Result<i64, WorkloadError> {
    let doing = "reading stock";
    if target.kind == Kind::Cartwright {
        let reply = target.address.connect()?.call(&Operation::StockGet(StockGet {
            sku: sku.clone(),
            location: None,
        }))?;
        return match reply {
            Reply::Stock(stock) => Ok(stock.available),
            other => Err(unexpected(doing, &other)),
        };
    }
    let key = format!("stock:{sku}");
    let value = RedisClient::connect(&target.address)?.call(&["GET", &key])?;
    value
        .text()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| WorkloadError::Answer {
            doing,
            answer: format!("{value:?}"),
        })
}

/// Loads the cart script, and gives its digest.
pub fn load_script(target: &Target, script: &str) -> Result<String, WorkloadError> {
    let value = RedisClient::connect(&target.address)?.call(&["SCRIPT", "LOAD", script])?;
    match value {
        Value::Text(digest) => Ok(digest),
        other => Err(WorkloadError::Answer {
            doing: "loading the cart script",
            answer: format!("{other:?}"),
        }),
    }
}
