//! Requests: [`Operation`] ⇄ frame.
//!
//! Called by sessions (decode) and by clients (encode). Decoding is one pass, and allocates nothing but the operation.

use super::body::{BodyError, Reader, put_name, put_optional_name, put_text};
use super::frame::{Frame, encode_frame};
use super::opcode::RequestOpcode;
use crate::argument::{self, named};
use crate::{
    CartLine, Checkout, Customer, ItemPut, Key, Location, ORDER_LIST_COUNT_DEFAULT, Operation, OrderId, Quantity,
    Reply, Sku, StockAdd, Text,
};

/// Appends `operation` to `output` as one frame.
///
/// An operation with more lines than a cart may have is encoded as far as a frame can say, and refused by the server.
pub fn encode_request(output: &mut Vec<u8>, request_id: u64, operation: &Operation) {
    let opcode = match operation {
        Operation::ItemPut(_) => RequestOpcode::ItemPut,
        Operation::ItemGet { .. } => RequestOpcode::ItemGet,
        Operation::StockAdd(_) => RequestOpcode::StockAdd,
        Operation::StockGet { .. } => RequestOpcode::StockGet,
        Operation::Checkout(_) => RequestOpcode::Checkout,
        Operation::OrderGet { .. } => RequestOpcode::OrderGet,
        Operation::OrderList { .. } => RequestOpcode::OrderList,
        Operation::OrderConfirm { .. } => RequestOpcode::OrderConfirm,
        Operation::OrderCancel { .. } => RequestOpcode::OrderCancel,
        Operation::Audit => RequestOpcode::Audit,
    };
    encode_frame(output, opcode as u8, request_id, |body| put_operation(body, operation));
}

/// Appends a ping to `output`: [`Reply::Ok`] comes back without passing through the shop.
pub fn encode_ping(output: &mut Vec<u8>, request_id: u64) {
    encode_frame(output, RequestOpcode::Ping as u8, request_id, |_| ());
}

fn put_operation(body: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::ItemPut(put) => {
            put_name(body, put.sku.as_str());
            body.extend_from_slice(&put.price.minor_units().to_le_bytes());
            body.extend_from_slice(put.currency.as_bytes());
            put_text(body, put.name.as_str());
            body.extend_from_slice(&put.limit.map_or(0, Quantity::units).to_le_bytes());
            body.extend_from_slice(&put.backorder.map_or(0, Quantity::units).to_le_bytes());
            put_optional_name(body, put.key.as_ref().map(Key::as_str));
        }
        Operation::ItemGet { sku } => put_name(body, sku.as_str()),
        Operation::StockAdd(add) => {
            put_name(body, add.sku.as_str());
            body.extend_from_slice(&add.delta.to_le_bytes());
            put_optional_name(body, add.location.as_ref().map(Location::as_str));
            put_text(body, add.reason.as_str());
            put_optional_name(body, add.key.as_ref().map(Key::as_str));
        }
        Operation::StockGet { sku, location } => {
            put_name(body, sku.as_str());
            put_optional_name(body, location.as_ref().map(Location::as_str));
        }
        Operation::Checkout(checkout) => {
            put_name(body, checkout.customer.as_str());
            put_name(body, checkout.key.as_str());
            body.extend_from_slice(&checkout.hold_ms.unwrap_or(0).to_le_bytes());
            let count = checkout.lines.len().min(crate::CART_LINES_MAX + 1);
            body.extend_from_slice(&(count as u16).to_le_bytes());
            for line in &checkout.lines[..count] {
                put_name(body, line.sku.as_str());
                body.extend_from_slice(&line.quantity.units().to_le_bytes());
            }
        }
        Operation::OrderGet { id } => body.extend_from_slice(&id.to_integer().to_le_bytes()),
        Operation::OrderList {
            customer,
            before,
            count,
        } => {
            put_name(body, customer.as_str());
            body.extend_from_slice(&before.map_or(0, OrderId::to_integer).to_le_bytes());
            body.extend_from_slice(&count.to_le_bytes());
        }
        Operation::OrderConfirm { id, key } | Operation::OrderCancel { id, key } => {
            body.extend_from_slice(&id.to_integer().to_le_bytes());
            put_optional_name(body, key.as_ref().map(Key::as_str));
        }
        Operation::Audit => (),
    }
}

/// The operation in `frame`, or the reply to send at once: a refusal, `OK` to a ping, null for an order that cannot
/// exist. Either way the connection goes on.
pub fn decode_request(frame: &Frame<'_>) -> Result<Operation, Reply> {
    let opcode = RequestOpcode::from_number(frame.opcode).ok_or(BodyError::Opcode(frame.opcode))?;
    if frame.flags != 0 {
        return Err(BodyError::Flags(frame.flags).into());
    }
    let mut body = Reader::new(frame.body);
    let operation = match opcode {
        RequestOpcode::Ping => {
            body.finish()?;
            return Err(Reply::Ok);
        }
        RequestOpcode::Checkout => Operation::Checkout(Box::new(take_checkout(&mut body)?)),
        RequestOpcode::ItemPut => Operation::ItemPut(Box::new(take_item_put(&mut body)?)),
        RequestOpcode::ItemGet => Operation::ItemGet {
            sku: named("sku", Sku::new(body.name("sku")?))?,
        },
        RequestOpcode::StockAdd => Operation::StockAdd(Box::new(take_stock_add(&mut body)?)),
        RequestOpcode::StockGet => Operation::StockGet {
            sku: named("sku", Sku::new(body.name("sku")?))?,
            location: take_location(&mut body)?,
        },
        RequestOpcode::OrderGet => {
            let id = argument::order_number("id", Some(body.u64("id")?))?;
            body.finish()?;
            return argument::order_get(id);
        }
        RequestOpcode::OrderList => return take_order_list(body),
        RequestOpcode::OrderConfirm | RequestOpcode::OrderCancel => {
            let id = argument::order_number("id", Some(body.u64("id")?))?;
            let key = take_key(&mut body)?;
            body.finish()?;
            let id = argument::known_order(id)?;
            return Ok(match opcode {
                RequestOpcode::OrderConfirm => Operation::OrderConfirm { id, key },
                _ => Operation::OrderCancel { id, key },
            });
        }
        RequestOpcode::Audit => Operation::Audit,
    };
    body.finish()?;
    Ok(operation)
}

fn take_checkout(body: &mut Reader<'_>) -> Result<Checkout, Reply> {
    let customer = named("customer", Customer::new(body.name("customer")?))?;
    let key = named("key", Key::new(body.name("key")?))?;
    let hold_ms = match body.u32("hold_ms")? {
        0 => None,
        milliseconds => Some(argument::hold_ms("hold_ms", Some(u64::from(milliseconds)))?),
    };
    let count = argument::line_count("lines", Some(u64::from(body.u16("lines")?)))?;
    let mut lines = Vec::with_capacity(count);
    while lines.len() < count {
        let before = body.clone();
        match take_line(body) {
            Some(line) => lines.push(line),
            None => return Err(refused_line(before, lines.len() + 1)),
        }
    }
    Ok(Checkout {
        customer,
        key,
        hold_ms,
        lines,
    })
}

/// A line, or that something is wrong with it: a request's most frequent part, kept free of everything that only an
/// error needs.
#[inline]
fn take_line(body: &mut Reader<'_>) -> Option<CartLine> {
    let sku = Sku::new(body.name("sku").ok()?).ok()?;
    let quantity = Quantity::new(u64::from(body.u32("quantity").ok()?))?;
    Some(CartLine { sku, quantity })
}

/// What is wrong with the line that `body` begins with, the `line`-th.
#[cold]
fn refused_line(mut body: Reader<'_>, line: usize) -> Reply {
    let refusal = |body: &mut Reader<'_>| -> Result<Quantity, Reply> {
        named(format_args!("sku of line {line}"), Sku::new(body.name("sku")?))?;
        let units = u64::from(body.u32("quantity")?);
        Ok(argument::quantity(
            format_args!("quantity of line {line}"),
            Some(units),
        )?)
    };
    refusal(&mut body).expect_err("only a line that was refused is asked about")
}

fn take_item_put(body: &mut Reader<'_>) -> Result<ItemPut, Reply> {
    Ok(ItemPut {
        sku: named("sku", Sku::new(body.name("sku")?))?,
        price: argument::amount("price", Some(body.u64("price")?))?,
        currency: argument::currency("currency", body.bytes(3, "currency")?)?,
        name: named("name", Text::new(body.text("name")?))?,
        limit: argument::quantity_or_none("limit", Some(u64::from(body.u32("limit")?)))?,
        backorder: argument::quantity_or_none("backorder", Some(u64::from(body.u32("backorder")?)))?,
        key: take_key(body)?,
    })
}

fn take_stock_add(body: &mut Reader<'_>) -> Result<StockAdd, Reply> {
    Ok(StockAdd {
        sku: named("sku", Sku::new(body.name("sku")?))?,
        delta: argument::delta("delta", Some(body.i64("delta")?))?,
        location: take_location(body)?,
        reason: named("reason", Text::new(body.text("reason")?))?,
        key: take_key(body)?,
    })
}

fn take_order_list(mut body: Reader<'_>) -> Result<Operation, Reply> {
    let customer = named("customer", Customer::new(body.name("customer")?))?;
    let before = match body.u64("before")? {
        0 => None,
        integer => Some(argument::order_number("before", Some(integer))?),
    };
    let count = match body.u32("count")? {
        0 => ORDER_LIST_COUNT_DEFAULT,
        count => argument::list_count("count", Some(u64::from(count)))?,
    };
    body.finish()?;
    argument::order_list(customer, before, count)
}

fn take_location(body: &mut Reader<'_>) -> Result<Option<Location>, Reply> {
    let name = body.optional_name("location")?;
    Ok(name.map(|name| named("location", Location::new(name))).transpose()?)
}

fn take_key(body: &mut Reader<'_>) -> Result<Option<Key>, Reply> {
    let name = body.optional_name("key")?;
    Ok(name.map(|name| named("key", Key::new(name))).transpose()?)
}
