//! Replies: [`Reply`] ⇄ frame.
//!
//! Called by sessions (encode) and by clients (decode).

use super::body::{BodyError, Reader, put_name, put_text};
use super::frame::{Frame, encode_frame};
use super::opcode::ReplyOpcode;
use crate::{
    Amount, AuditReport, CART_LINES_MAX, Currency, Customer, Error, ErrorCode, ItemView, LineView,
    ORDER_LIST_COUNT_MAX, OrderId, OrderState, OrderSummary, OrderView, Receipt, Reply, Sku, StockView, Text,
};

/// Appends `reply` to `output` as one frame.
pub fn encode_reply(output: &mut Vec<u8>, request_id: u64, reply: &Reply) {
    let opcode = match reply {
        Reply::Ok => ReplyOpcode::Ok,
        Reply::Null => ReplyOpcode::Null,
        Reply::Integer(_) => ReplyOpcode::Integer,
        Reply::Item(_) => ReplyOpcode::Item,
        Reply::Stock(_) => ReplyOpcode::Stock,
        Reply::Receipt(_) => ReplyOpcode::Receipt,
        Reply::Order(_) => ReplyOpcode::Order,
        Reply::Orders(_) => ReplyOpcode::Orders,
        Reply::State(_) => ReplyOpcode::State,
        Reply::Audit(_) => ReplyOpcode::Audit,
        Reply::Error(_) => ReplyOpcode::Error,
    };
    encode_frame(output, opcode as u8, request_id, |body| put_reply(body, reply));
}

fn put_reply(body: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Ok | Reply::Null => (),
        Reply::Integer(integer) => body.extend_from_slice(&integer.to_le_bytes()),
        Reply::Item(item) => {
            put_name(body, item.sku.as_str());
            put_money(body, item.price, item.currency);
            put_text(body, item.name.as_str());
            body.extend_from_slice(&item.limit.to_le_bytes());
            body.extend_from_slice(&item.backorder.to_le_bytes());
        }
        Reply::Stock(stock) => {
            for count in [stock.on_hand, stock.held, stock.committed, stock.available] {
                body.extend_from_slice(&count.to_le_bytes());
            }
        }
        Reply::Receipt(receipt) => {
            body.extend_from_slice(&receipt.id.to_integer().to_le_bytes());
            body.push(receipt.state as u8);
            put_money(body, receipt.total, receipt.currency);
            body.extend_from_slice(&receipt.expires_at_ms.to_le_bytes());
        }
        Reply::Order(order) => put_order(body, order),
        Reply::Orders(orders) => {
            body.extend_from_slice(&(orders.len() as u32).to_le_bytes());
            for order in orders {
                body.extend_from_slice(&order.id.to_integer().to_le_bytes());
                body.push(order.state as u8);
                put_money(body, order.total, order.currency);
                body.extend_from_slice(&order.created_at_ms.to_le_bytes());
            }
        }
        Reply::State(state) => body.push(*state as u8),
        Reply::Audit(audit) => {
            for count in [
                audit.items,
                audit.orders,
                audit.lines,
                audit.violations,
                audit.state_hash,
                audit.paused_ms,
            ] {
                body.extend_from_slice(&count.to_le_bytes());
            }
        }
        Reply::Error(error) => {
            body.push(error.code as u8);
            put_text(body, &error.message);
        }
    }
}

fn put_money(body: &mut Vec<u8>, amount: Amount, currency: Currency) {
    body.extend_from_slice(&amount.minor_units().to_le_bytes());
    body.extend_from_slice(currency.as_bytes());
}

fn put_order(body: &mut Vec<u8>, order: &OrderView) {
    body.extend_from_slice(&order.id.to_integer().to_le_bytes());
    put_name(body, order.customer.as_str());
    body.push(order.state as u8);
    put_money(body, order.total, order.currency);
    for time in [order.created_at_ms, order.updated_at_ms, order.expires_at_ms] {
        body.extend_from_slice(&time.to_le_bytes());
    }
    body.extend_from_slice(&(order.lines.len() as u32).to_le_bytes());
    for line in &order.lines {
        put_name(body, line.sku.as_str());
        body.extend_from_slice(&line.price.minor_units().to_le_bytes());
        for count in [line.ordered, line.cancelled, line.shipped, line.returned] {
            body.extend_from_slice(&count.to_le_bytes());
        }
    }
}

/// The reply in `frame`. An error is about this reply only; the connection can go on, but the two sides do not agree
/// on what a reply is, so a client had better not.
pub fn decode_reply(frame: &Frame<'_>) -> Result<Reply, BodyError> {
    let opcode = ReplyOpcode::from_number(frame.opcode).ok_or(BodyError::Opcode(frame.opcode))?;
    if frame.flags != 0 {
        return Err(BodyError::Flags(frame.flags));
    }
    let mut body = Reader::new(frame.body);
    let reply = match opcode {
        ReplyOpcode::Ok => Reply::Ok,
        ReplyOpcode::Null => Reply::Null,
        ReplyOpcode::Integer => Reply::Integer(body.i64("integer")?),
        ReplyOpcode::Error => Reply::Error(take_error(&mut body)?),
        ReplyOpcode::Item => Reply::Item(Box::new(take_item(&mut body)?)),
        ReplyOpcode::Stock => Reply::Stock(StockView {
            on_hand: body.i64("on_hand")?,
            held: body.i64("held")?,
            committed: body.i64("committed")?,
            available: body.i64("available")?,
        }),
        ReplyOpcode::Receipt => Reply::Receipt(Receipt {
            id: take_order_id(&mut body)?,
            state: take_state(&mut body)?,
            total: take_amount(&mut body, "total")?,
            currency: take_currency(&mut body)?,
            expires_at_ms: body.u64("expires_at")?,
        }),
        ReplyOpcode::Order => Reply::Order(Box::new(take_order(&mut body)?)),
        ReplyOpcode::Orders => Reply::Orders(take_orders(&mut body)?),
        ReplyOpcode::State => Reply::State(take_state(&mut body)?),
        ReplyOpcode::Audit => Reply::Audit(AuditReport {
            items: body.u64("items")?,
            orders: body.u64("orders")?,
            lines: body.u64("lines")?,
            violations: body.u64("violations")?,
            state_hash: body.u64("state_hash")?,
            paused_ms: body.u64("paused_ms")?,
        }),
    };
    body.finish()?;
    Ok(reply)
}

fn take_error(body: &mut Reader<'_>) -> Result<Error, BodyError> {
    let code = ErrorCode::from_number(body.u8("code")?).ok_or(BodyError::Value("code"))?;
    let message = std::str::from_utf8(body.text("message")?).map_err(|_| BodyError::Value("message"))?;
    Ok(Error::new(code, message))
}

fn take_item(body: &mut Reader<'_>) -> Result<ItemView, BodyError> {
    Ok(ItemView {
        sku: take_sku(body)?,
        price: take_amount(body, "price")?,
        currency: take_currency(body)?,
        name: Text::new(body.text("name")?).map_err(|_| BodyError::Value("name"))?,
        limit: body.u32("limit")?,
        backorder: body.u32("backorder")?,
    })
}

fn take_order(body: &mut Reader<'_>) -> Result<OrderView, BodyError> {
    let id = take_order_id(body)?;
    let customer = Customer::new(body.name("customer")?).map_err(|_| BodyError::Value("customer"))?;
    let state = take_state(body)?;
    let total = take_amount(body, "total")?;
    let currency = take_currency(body)?;
    let created_at_ms = body.u64("created_at")?;
    let updated_at_ms = body.u64("updated_at")?;
    let expires_at_ms = body.u64("expires_at")?;
    let count = take_count(body, "lines", CART_LINES_MAX)?;
    let mut lines = Vec::with_capacity(count);
    for _ in 0..count {
        lines.push(LineView {
            sku: take_sku(body)?,
            price: take_amount(body, "price")?,
            ordered: body.u32("ordered")?,
            cancelled: body.u32("cancelled")?,
            shipped: body.u32("shipped")?,
            returned: body.u32("returned")?,
        });
    }
    Ok(OrderView {
        id,
        customer,
        state,
        currency,
        total,
        created_at_ms,
        updated_at_ms,
        expires_at_ms,
        lines,
    })
}

fn take_orders(body: &mut Reader<'_>) -> Result<Vec<OrderSummary>, BodyError> {
    let count = take_count(body, "orders", ORDER_LIST_COUNT_MAX as usize)?;
    let mut orders = Vec::with_capacity(count);
    for _ in 0..count {
        orders.push(OrderSummary {
            id: take_order_id(body)?,
            state: take_state(body)?,
            total: take_amount(body, "total")?,
            currency: take_currency(body)?,
            created_at_ms: body.u64("created_at")?,
        });
    }
    Ok(orders)
}

fn take_sku(body: &mut Reader<'_>) -> Result<Sku, BodyError> {
    Sku::new(body.name("sku")?).map_err(|_| BodyError::Value("sku"))
}

fn take_order_id(body: &mut Reader<'_>) -> Result<OrderId, BodyError> {
    OrderId::from_integer(body.u64("id")?).ok_or(BodyError::Value("id"))
}

fn take_state(body: &mut Reader<'_>) -> Result<OrderState, BodyError> {
    OrderState::from_number(body.u8("state")?).ok_or(BodyError::Value("state"))
}

fn take_amount(body: &mut Reader<'_>, field: &'static str) -> Result<Amount, BodyError> {
    Amount::new(body.u64(field)?).ok_or(BodyError::Value(field))
}

fn take_currency(body: &mut Reader<'_>) -> Result<Currency, BodyError> {
    Currency::new(body.bytes(3, "currency")?).ok_or(BodyError::Value("currency"))
}

/// A count of records, bounded before anything is reserved for them.
fn take_count(body: &mut Reader<'_>, field: &'static str, count_max: usize) -> Result<usize, BodyError> {
    let count = body.u32(field)? as usize;
    if count <= count_max && count <= body.remaining() {
        Ok(count)
    } else {
        Err(BodyError::Value(field))
    }
}
