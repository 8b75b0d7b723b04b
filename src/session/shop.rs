//! The shop's commands on RESP: arguments → [`Operation`].
//!
//! Called through the command table, which has checked the count of arguments. A refusal names the argument.

use cartwright_protocol::argument::{self, named};
use cartwright_protocol::resp::{Arguments, parse_i64, parse_u64};
use cartwright_protocol::{
    CartLine, Checkout, Customer, Error, ItemPut, Key, Location, NameError, ORDER_LIST_COUNT_DEFAULT, Operation,
    Quantity, Reply, Sku, StockAdd, Text,
};

/// What a command's arguments come to: an operation for the engine, or a reply at once.
pub(super) type Parsed = Result<Operation, Reply>;

/// An argument before the options; the table's arity says that it is there.
fn required(arguments: Arguments<'_>, index: usize) -> &[u8] {
    arguments
        .get(index)
        .expect("the command table has checked the count of arguments")
}

/// The values of `KEYWORD value` pairs from argument `from` on, in the order of `keywords`, each at most once.
fn options<'a, const N: usize>(
    arguments: Arguments<'a>,
    from: usize,
    keywords: [&'static str; N],
) -> Result<[Option<&'a [u8]>; N], Error> {
    let mut values = [None; N];
    let mut index = from;
    while let Some(word) = arguments.get(index) {
        let Some(which) = keywords
            .iter()
            .position(|keyword| word.eq_ignore_ascii_case(keyword.as_bytes()))
        else {
            return Err(unexpected(index, &keywords));
        };
        set_once(&mut values[which], keywords[which], arguments.get(index + 1))?;
        index += 2;
    }
    Ok(values)
}

fn set_once<'a>(slot: &mut Option<&'a [u8]>, keyword: &str, value: Option<&'a [u8]>) -> Result<(), Error> {
    let value = value.ok_or_else(|| Error::malformed(format_args!("syntax error: {keyword} needs a value")))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::malformed(format_args!("syntax error: {keyword} is given twice"))),
    }
}

fn unexpected(index: usize, keywords: &[&str]) -> Error {
    Error::malformed(format_args!(
        "syntax error: argument {index} is none of {}",
        keywords.join(", ")
    ))
}

fn sku(arguments: Arguments<'_>) -> Result<Sku, Error> {
    named("sku", Sku::new(required(arguments, 1)))
}

fn order_number(arguments: Arguments<'_>) -> Result<u64, Error> {
    argument::order_number("id", parse_u64(required(arguments, 1)))
}

fn key(value: Option<&[u8]>) -> Result<Option<Key>, Error> {
    value.map(|value| named("KEY", Key::new(value))).transpose()
}

fn location(value: Option<&[u8]>) -> Result<Option<Location>, Error> {
    value.map(|value| named("LOCATION", Location::new(value))).transpose()
}

fn units(keyword: &str, value: Option<&[u8]>) -> Result<Option<Quantity>, Error> {
    value.map_or(Ok(None), |value| argument::quantity_or_none(keyword, parse_u64(value)))
}

pub(super) fn item_put(arguments: Arguments<'_>) -> Parsed {
    let [name, limit, backorder, put_key] = options(arguments, 4, ["NAME", "LIMIT", "BACKORDER", "KEY"])?;
    Ok(Operation::ItemPut(Box::new(ItemPut {
        sku: sku(arguments)?,
        price: argument::amount("price", parse_u64(required(arguments, 2)))?,
        currency: argument::currency("currency", required(arguments, 3))?,
        name: named("NAME", Text::new(name.unwrap_or_default()))?,
        limit: units("LIMIT", limit)?,
        backorder: units("BACKORDER", backorder)?,
        key: key(put_key)?,
    })))
}

pub(super) fn item_get(arguments: Arguments<'_>) -> Parsed {
    Ok(Operation::ItemGet { sku: sku(arguments)? })
}

pub(super) fn stock_add(arguments: Arguments<'_>) -> Parsed {
    let [place, reason, add_key] = options(arguments, 3, ["LOCATION", "REASON", "KEY"])?;
    Ok(Operation::StockAdd(Box::new(StockAdd {
        sku: sku(arguments)?,
        delta: argument::delta("delta", parse_i64(required(arguments, 2)))?,
        location: location(place)?,
        reason: named("REASON", Text::new(reason.unwrap_or_default()))?,
        key: key(add_key)?,
    })))
}

pub(super) fn stock_get(arguments: Arguments<'_>) -> Parsed {
    let [place] = options(arguments, 2, ["LOCATION"])?;
    Ok(Operation::StockGet {
        sku: sku(arguments)?,
        location: location(place)?,
    })
}

/// `CHECKOUT customer KEY key [HOLD ms] LINES n sku qty …`: the lines come last, the other keywords in any order.
pub(super) fn checkout(arguments: Arguments<'_>) -> Parsed {
    let customer = named("customer", Customer::new(required(arguments, 1)))?;
    let (mut checkout_key, mut hold) = (None, None);
    let mut index = 2;
    loop {
        let value = arguments.get(index + 1);
        match arguments.get(index) {
            Some(word) if word.eq_ignore_ascii_case(b"KEY") => set_once(&mut checkout_key, "KEY", value)?,
            Some(word) if word.eq_ignore_ascii_case(b"HOLD") => set_once(&mut hold, "HOLD", value)?,
            Some(word) if word.eq_ignore_ascii_case(b"LINES") => break,
            Some(_) => return Err(unexpected(index, &["KEY", "HOLD", "LINES"]).into()),
            None => return Err(Error::malformed("syntax error: CHECKOUT needs LINES").into()),
        }
        index += 2;
    }
    let Some(checkout_key) = checkout_key else {
        return Err(Error::malformed("syntax error: CHECKOUT needs a KEY, so that a retry is no second order").into());
    };
    let count = argument::line_count("LINES", arguments.get(index + 1).and_then(parse_u64))?;
    let rest = arguments.from(index + 2);
    if rest.len() != count * 2 {
        let (wanted, found) = (count * 2, rest.len());
        return Err(Error::malformed(format_args!(
            "syntax error: LINES {count} is followed by {wanted} arguments, sku and qty of each line, not by {found}"
        ))
        .into());
    }
    let mut lines = Vec::with_capacity(count);
    let mut words = rest.iter();
    while let (Some(code), Some(units)) = (words.next(), words.next()) {
        match (Sku::new(code), parse_u64(units).and_then(Quantity::new)) {
            (Ok(sku), Some(quantity)) => lines.push(CartLine { sku, quantity }),
            (sku, _) => return Err(refused_line(sku, lines.len() + 1).into()),
        }
    }
    Ok(Operation::Checkout(Box::new(Checkout {
        customer,
        key: named("KEY", Key::new(checkout_key))?,
        hold_ms: hold
            .map(|value| argument::hold_ms("HOLD", parse_u64(value)))
            .transpose()?,
        lines,
    })))
}

/// What is wrong with the `line`-th line: its SKU, or else its quantity.
#[cold]
fn refused_line(sku: Result<Sku, NameError>, line: usize) -> Error {
    match named(format_args!("sku of line {line}"), sku) {
        Err(error) => error,
        Ok(_) => argument::quantity(format_args!("qty of line {line}"), None).expect_err("no number is no quantity"),
    }
}

pub(super) fn order_get(arguments: Arguments<'_>) -> Parsed {
    argument::order_get(order_number(arguments)?)
}

pub(super) fn order_list(arguments: Arguments<'_>) -> Parsed {
    let [before, count] = options(arguments, 2, ["BEFORE", "COUNT"])?;
    let customer = named("customer", Customer::new(required(arguments, 1)))?;
    let before = before
        .map(|value| argument::order_number("BEFORE", parse_u64(value)))
        .transpose()?;
    let count = count.map_or(Ok(ORDER_LIST_COUNT_DEFAULT), |value| {
        argument::list_count("COUNT", parse_u64(value))
    })?;
    argument::order_list(customer, before, count)
}

pub(super) fn order_confirm(arguments: Arguments<'_>) -> Parsed {
    let [confirm_key] = options(arguments, 2, ["KEY"])?;
    let (number, key) = (order_number(arguments)?, key(confirm_key)?);
    Ok(Operation::OrderConfirm {
        id: argument::known_order(number)?,
        key,
    })
}

pub(super) fn order_cancel(arguments: Arguments<'_>) -> Parsed {
    let [cancel_key] = options(arguments, 2, ["KEY"])?;
    let (number, key) = (order_number(arguments)?, key(cancel_key)?);
    Ok(Operation::OrderCancel {
        id: argument::known_order(number)?,
        key,
    })
}

// Every row's handler has this shape, also where nothing can be wrong.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn audit(_: Arguments<'_>) -> Parsed {
    Ok(Operation::Audit)
}
