//! Commands on the catalogue.

use crate::command::Flags;
use crate::{Amount, Currency, ItemView, Key, Quantity, Sku, Text};

command! {
    /// Makes or replaces a catalogue entry; stock is untouched.
    ItemPut = 0x10 "ITEM.PUT" {
        /// The item's code.
        sku: Sku,
        /// Price of one unit.
        price: Amount,
        /// The price's currency.
        currency: Currency,
        /// What people call it; empty where not given.
        name: Text = [NAME text],
        /// Most units one customer may have in open orders.
        limit: Option<Quantity> = [LIMIT n],
        /// How far below zero `available` may go.
        backorder: Option<Quantity> = [BACKORDER n],
        /// The request key.
        key: Option<Key> = [KEY key],
    }
    answer: ();
    manual: "`OK`; makes or replaces the catalogue entry and leaves the stock alone. `LIMIT`: most units one \
        customer may have in open orders. `BACKORDER`: how far below zero it may be sold";
    home: Sku(sku);
    class: WriteStock;
    flags: Flags::WRITE.and(Flags::FAST).and(Flags::NO_MULTI);
    fingerprint: 1;
    example: "ITEM.PUT" "22423" "1295" "GBP" "NAME" "Räder" "LIMIT" "3" "KEY" "k1";
}

command! {
    /// Gives a catalogue entry, or null.
    ItemGet = 0x11 "ITEM.GET" {
        /// The item's code.
        sku: Sku,
    }
    answer: Option<ItemView>;
    manual: "map `sku price currency name limit backorder`, or null";
    home: Sku(sku);
    class: ReadStock;
    flags: Flags::READONLY.and(Flags::FAST).and(Flags::NO_MULTI);
    example: "ITEM.GET" "22423";
}
