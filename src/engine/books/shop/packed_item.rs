//! An item as checkpoints hold it: decided state only, in a few dozen bytes.
//!
//! SKU, price, currency (3 bytes), name, limit (0: none), backorder, number of locations with stock, and for each of them
//! its name, on hand, held and committed; strings and numbers as in [`cartwright_core::codec`].

use cartwright_core::codec::{Reader, put_number, put_string};
use cartwright_protocol::{Amount, Currency, Location, Quantity, Sku, Text};

use crate::engine::books::shop::inventory::Item;

/// Adds an item.
pub fn put_item(bytes: &mut Vec<u8>, item: &Item) {
    put_string(bytes, item.sku.as_bytes());
    put_number(bytes, item.price.minor_units());
    bytes.extend_from_slice(item.currency.as_bytes());
    put_string(bytes, item.name.as_str().as_bytes());
    put_number(bytes, item.limit.map_or(0, |limit| limit.units().into()));
    put_number(bytes, item.backorder.into());
    put_number(bytes, 1 + item.elsewhere_count() as u64);
    for (location, level) in item.levels() {
        put_string(bytes, location.as_bytes());
        for units in [level.on_hand, level.held, level.committed] {
            put_number(bytes, units as u64);
        }
    }
}

/// Reads an item back; `None` where there is none.
pub fn take_item(reader: &mut Reader<'_>) -> Option<Item> {
    let sku = Sku::new(reader.string()?).ok()?;
    let price = Amount::new(reader.number()?)?;
    let currency = Currency::new(reader.take(3)?)?;
    let mut item = Item::new(sku, price, currency);
    item.name = Text::new(reader.string()?).ok()?;
    item.limit = match reader.number()? {
        0 => None,
        units => Some(Quantity::new(units)?),
    };
    item.backorder = u32::try_from(reader.number()?).ok()?;
    for _ in 0..reader.number()? {
        let location = Location::new(reader.string()?).ok()?;
        let mut units = || i64::try_from(reader.number()?).ok();
        let (on_hand, held, committed) = (units()?, units()?, units()?);
        item.restore_level(&location, on_hand, held, committed);
    }
    Some(item)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_item_is_read_back_and_no_part_of_it(
            stock in proptest::collection::vec(("[a-z]{1,12}", 0..1i64 << 40), 0..4),
            limit in proptest::option::of(1..1000u32), backorder in any::<u32>(), name in "[ -~]{0,300}",
        ) {
            let mut item = Item::new("sku-1".parse().unwrap(), Amount::new(250).unwrap(), Currency::new(b"GBP").unwrap());
            item.name = Text::new(name.as_bytes()).unwrap();
            item.limit = limit.map(|units| Quantity::new(units.into()).unwrap());
            item.backorder = backorder;
            for (location, on_hand) in &stock {
                item.restore_level(&location.parse().unwrap(), *on_hand, on_hand / 2, on_hand / 4);
            }
            let mut bytes = Vec::new();
            put_item(&mut bytes, &item);
            let mut reader = Reader { bytes: &bytes };
            let read = take_item(&mut reader).unwrap();
            prop_assert!(reader.bytes.is_empty());
            prop_assert_eq!(format!("{read:?}"), format!("{item:?}"));
            for cut in 0..bytes.len() {
                let mut reader = Reader { bytes: &bytes[..cut] };
                prop_assert!(take_item(&mut reader).is_none());
            }
        }
    }
}
