//! Commands on stock.

use super::field::{Delta, LocationOrAll};
use crate::command::Flags;
use crate::{Key, Location, Sku, StockView, Text};

command! {
    /// Changes the units on hand at a location and gives their new number.
    StockAdd = 0x18 "STOCK.ADD" {
        /// The item's code.
        sku: Sku,
        /// Units to add; negative for shrinkage. Magnitude at most [`crate::QUANTITY_MAX`], and not 0.
        delta: i64 as Delta,
        /// Where; `main` where not given.
        location: Option<Location> = [LOCATION loc],
        /// Why, for the log.
        reason: Text = [REASON text],
        /// The request key.
        key: Option<Key> = [KEY key],
    }
    answer: i64 = "the location's new `on_hand`";
    manual: "the new `on_hand` of the location (`main` where none is given); a negative delta takes out";
    home: Sku(sku);
    class: WriteStock;
    flags: Flags::WRITE.and(Flags::FAST).and(Flags::NO_MULTI);
    fingerprint: 2;
    example: "STOCK.ADD" "22423" "-5" "LOCATION" "leeds" "REASON" "lost";
}

command! {
    /// Gives on_hand, held, committed and available of an item, at one location or over all.
    StockGet = 0x19 "STOCK.GET" {
        /// The item's code.
        sku: Sku,
        /// One location, or the sum over all.
        location: Option<Location> as LocationOrAll = [LOCATION loc],
    }
    answer: StockView;
    manual: "map `on_hand held committed available`, over all locations where none is given";
    home: Sku(sku);
    class: ReadStock;
    flags: Flags::READONLY.and(Flags::FAST).and(Flags::NO_MULTI);
    example: "STOCK.GET" "22423";
}
