//! The rows of the shop's own commands.

use cartwright_protocol::resp::Arguments;

use super::{Command, Flags, Handler, ONE_KEY, row};
use crate::session::shop::{self, Parsed};

const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const READ: Flags = Flags::READONLY.and(Flags::FAST);

/// Its first argument is a SKU or customer, whose slot is the command's home.
const fn on_item(
    name: &'static str,
    arity: i16,
    flags: Flags,
    syntax: &'static str,
    summary: &'static str,
    handler: fn(Arguments<'_>) -> Parsed,
) -> Command {
    on_order(name, arity, flags, syntax, summary, handler).with_keys(ONE_KEY)
}

/// An order's id is no key: it carries its slot, which is not that of its digits.
const fn on_order(
    name: &'static str,
    arity: i16,
    flags: Flags,
    syntax: &'static str,
    summary: &'static str,
    handler: fn(Arguments<'_>) -> Parsed,
) -> Command {
    row(name, arity, flags, syntax, summary, Handler::Shop(handler))
}

pub(super) const COMMANDS: &[Command] = &[
    on_item(
        "item.put",
        -4,
        WRITE,
        "sku price currency [NAME text] [LIMIT n] [BACKORDER n] [KEY key]",
        "Makes or replaces a catalogue entry; stock is untouched.",
        shop::item_put,
    ),
    on_item(
        "item.get",
        2,
        READ,
        "sku",
        "Gives a catalogue entry, or null.",
        shop::item_get,
    ),
    on_item(
        "stock.add",
        -3,
        WRITE,
        "sku delta [LOCATION loc] [REASON text] [KEY key]",
        "Changes the units on hand at a location and gives their new number.",
        shop::stock_add,
    ),
    on_item(
        "stock.get",
        -2,
        READ,
        "sku [LOCATION loc]",
        "Gives on_hand, held, committed and available of an item, at one location or over all.",
        shop::stock_get,
    ),
    on_item(
        "checkout",
        -6,
        Flags::WRITE,
        "customer KEY key [HOLD ms] LINES n sku qty [sku qty ...]",
        "Takes a whole cart or nothing, and makes an order.",
        shop::checkout,
    ),
    on_order(
        "order.get",
        2,
        READ,
        "id",
        "Gives an order with its lines, or null.",
        shop::order_get,
    ),
    on_item(
        "order.list",
        -2,
        Flags::READONLY,
        "customer [BEFORE id] [COUNT n]",
        "Gives a customer's orders, newest first.",
        shop::order_list,
    ),
    on_order(
        "order.confirm",
        -2,
        WRITE,
        "id [KEY key]",
        "Places a held order.",
        shop::order_confirm,
    ),
    on_order(
        "order.cancel",
        -2,
        WRITE,
        "id [KEY key]",
        "Calls off an order; its units come back.",
        shop::order_cancel,
    ),
    on_order(
        "audit",
        1,
        Flags::READONLY.and(Flags::ADMIN),
        "",
        "Checks the books of every item and order.",
        shop::audit,
    ),
];
