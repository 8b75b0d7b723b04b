//! Replies of the shop as RESP values.
//!
//! Called by the RESP front end; the one place that knows the field names of the maps.

use cartwright_protocol::resp::{RespVersion, Writer};
use cartwright_protocol::{
    AuditReport, ItemView, LineView, OrderId, OrderSummary, OrderView, Receipt, Reply, StockView,
};

use crate::engine::{Answer, Response};

/// Writes what the engine answered.
pub(super) fn write_response(writer: &mut Writer<'_>, response: &Response) {
    match response {
        Response::Shop(reply) => write_reply(writer, reply),
        Response::Keys(answer) => write_answer(writer, answer),
        Response::Together(_) => unreachable!("EXEC takes its answers one by one"),
    }
}

/// Writes what a command of the keyspace answered.
pub(super) fn write_answer(writer: &mut Writer<'_>, answer: &Answer) {
    match answer {
        Answer::Ok => writer.simple("OK"),
        Answer::Simple(text) => writer.simple(text),
        Answer::Error(text) => writer.error(text),
        Answer::Integer(integer) => writer.integer(*integer),
        Answer::Bulk(bytes) => writer.bulk(bytes),
        Answer::Nil => writer.null(),
        Answer::NilArray => writer.null_array(),
        Answer::Array(answers) => {
            writer.array(answers.len());
            for answer in answers {
                write_answer(writer, answer);
            }
        }
        Answer::Set(answers) => {
            writer.set(answers.len());
            for answer in answers {
                write_answer(writer, answer);
            }
        }
        Answer::Map(pairs) => {
            writer.map(pairs.len());
            for (field, value) in pairs {
                write_answer(writer, field);
                write_answer(writer, value);
            }
        }
        Answer::Pairs(pairs) => {
            let is_flat = writer.version() == RespVersion::Two;
            writer.array(if is_flat { pairs.len() * 2 } else { pairs.len() });
            for (first, second) in pairs {
                if !is_flat {
                    writer.array(2);
                }
                write_answer(writer, first);
                write_answer(writer, second);
            }
        }
        Answer::Double(number) => writer.double(*number),
        Answer::Versions(versions) => {
            writer.array(versions.len());
            for version in versions {
                writer.count(version.0);
            }
        }
    }
}

/// Writes `reply`.
pub(super) fn write_reply(writer: &mut Writer<'_>, reply: &Reply) {
    match reply {
        Reply::Ok => writer.simple("OK"),
        Reply::Null => writer.null(),
        Reply::Integer(integer) => writer.integer(*integer),
        Reply::Item(item) => write_item(writer, item),
        Reply::Stock(stock) => write_stock(writer, *stock),
        Reply::Receipt(receipt) => write_receipt(writer, receipt),
        Reply::Order(order) => write_order(writer, order),
        Reply::Orders(orders) => {
            writer.array(orders.len());
            for order in orders {
                write_summary(writer, order);
            }
        }
        Reply::State(state) => writer.text(state.as_str()),
        Reply::Audit(audit) => write_audit(writer, audit),
        Reply::Error(error) => writer.error(error),
    }
}

fn text(writer: &mut Writer<'_>, field: &str, value: &str) {
    writer.text(field);
    writer.text(value);
}

fn count(writer: &mut Writer<'_>, field: &str, value: u64) {
    writer.text(field);
    writer.count(value);
}

fn units(writer: &mut Writer<'_>, field: &str, value: i64) {
    writer.text(field);
    writer.integer(value);
}

fn id(writer: &mut Writer<'_>, id: OrderId) {
    count(writer, "id", id.to_integer());
}

fn write_item(writer: &mut Writer<'_>, item: &ItemView) {
    writer.map(6);
    text(writer, "sku", item.sku.as_str());
    count(writer, "price", item.price.minor_units());
    text(writer, "currency", item.currency.as_str());
    text(writer, "name", item.name.as_str());
    count(writer, "limit", u64::from(item.limit));
    count(writer, "backorder", u64::from(item.backorder));
}

fn write_stock(writer: &mut Writer<'_>, stock: StockView) {
    writer.map(4);
    units(writer, "on_hand", stock.on_hand);
    units(writer, "held", stock.held);
    units(writer, "committed", stock.committed);
    units(writer, "available", stock.available);
}

fn write_receipt(writer: &mut Writer<'_>, receipt: &Receipt) {
    writer.map(5);
    id(writer, receipt.id);
    text(writer, "state", receipt.state.as_str());
    count(writer, "total", receipt.total.minor_units());
    text(writer, "currency", receipt.currency.as_str());
    count(writer, "expires_at", receipt.expires_at_ms);
}

fn write_order(writer: &mut Writer<'_>, order: &OrderView) {
    writer.map(9);
    id(writer, order.id);
    text(writer, "customer", order.customer.as_str());
    text(writer, "state", order.state.as_str());
    text(writer, "currency", order.currency.as_str());
    count(writer, "total", order.total.minor_units());
    count(writer, "created_at", order.created_at_ms);
    count(writer, "updated_at", order.updated_at_ms);
    count(writer, "expires_at", order.expires_at_ms);
    writer.text("lines");
    writer.array(order.lines.len());
    for line in &order.lines {
        write_line(writer, line);
    }
}

fn write_line(writer: &mut Writer<'_>, line: &LineView) {
    writer.map(6);
    text(writer, "sku", line.sku.as_str());
    count(writer, "price", line.price.minor_units());
    count(writer, "ordered", u64::from(line.ordered));
    count(writer, "cancelled", u64::from(line.cancelled));
    count(writer, "shipped", u64::from(line.shipped));
    count(writer, "returned", u64::from(line.returned));
}

fn write_summary(writer: &mut Writer<'_>, order: &OrderSummary) {
    writer.map(5);
    id(writer, order.id);
    text(writer, "state", order.state.as_str());
    count(writer, "total", order.total.minor_units());
    text(writer, "currency", order.currency.as_str());
    count(writer, "created_at", order.created_at_ms);
}

fn write_audit(writer: &mut Writer<'_>, audit: &AuditReport) {
    writer.map(6);
    count(writer, "items", audit.items);
    count(writer, "orders", audit.orders);
    count(writer, "lines", audit.lines);
    count(writer, "violations", audit.violations);
    text(writer, "state_hash", &format!("{:016x}", audit.state_hash));
    count(writer, "paused_ms", audit.paused_ms);
}
