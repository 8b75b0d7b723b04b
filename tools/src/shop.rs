//! A shop's items and orders, ready to be played: what the order file and the generator make, and replay sends.
//!
//! Plain data: it reads no file and talks to no server.

use std::collections::HashSet;
use std::hash::Hasher;

use cartwright_protocol::{
    Amount, CartLine, Checkout, Currency, Customer, ItemPut, Key, Operation, Quantity, Sku, Text,
};
use twox_hash::XxHash3_64;

/// Whom an order belongs to that names no customer.
pub const GUEST: &str = "guest";

/// The currency of every price.
pub const CURRENCY: &str = "GBP";

/// An item's place in [`Shop::items`].
pub type ItemIndex = u32;

/// An item to sell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShopItem {
    /// The shop's code.
    pub sku: Sku,
    /// What people call it.
    pub name: Text,
    /// Price of one unit, in pence.
    pub price: Amount,
}

/// One row of an order. The same item may be in several rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShopLine {
    /// What, as a place in [`Shop::items`].
    pub item: ItemIndex,
    /// How many.
    pub quantity: Quantity,
}

/// An order to send as one checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShopOrder {
    /// The invoice number, which is the checkout's idempotency key.
    pub key: Key,
    /// Who buys; [`GUEST`] where nobody is named.
    pub customer: Customer,
    /// 1 to [`cartwright_protocol::CART_LINES_MAX`] lines.
    pub lines: Vec<ShopLine>,
}

/// Everything a replay needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shop {
    /// Every item that is sold at least once.
    pub items: Vec<ShopItem>,
    /// Orders in the order in which they are to be sent.
    pub orders: Vec<ShopOrder>,
}

/// Sums over orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Orders.
    pub orders: u64,
    /// Rows, as the shop wrote them.
    pub rows: u64,
    /// Order lines once rows of one item within an order are added up, as the server does.
    pub lines: u64,
    /// Units sold.
    pub units: u64,
    /// Revenue, in pence.
    pub pence: u128,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.orders += other.orders;
        self.rows += other.rows;
        self.lines += other.lines;
        self.units += other.units;
        self.pence += other.pence;
    }
}

impl Shop {
    /// The currency of every price.
    pub fn currency() -> Currency {
        Currency::new(CURRENCY.as_bytes()).expect("the shop's currency is three capital letters")
    }

    /// The sums of one order.
    pub fn order_totals(&self, order: &ShopOrder) -> Totals {
        let mut seen = HashSet::with_capacity(order.lines.len());
        let mut totals = Totals {
            orders: 1,
            rows: order.lines.len() as u64,
            ..Totals::default()
        };
        for line in &order.lines {
            seen.insert(line.item);
            let units = u64::from(line.quantity.units());
            totals.units += units;
            totals.pence += u128::from(self.items[line.item as usize].price.minor_units()) * u128::from(units);
        }
        totals.lines = seen.len() as u64;
        totals
    }

    /// The sums over all orders.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for order in &self.orders {
            totals += self.order_totals(order);
        }
        totals
    }

    /// Units of each item that these orders sell, by [`ItemIndex`].
    pub fn units_sold<'a>(&self, orders: impl IntoIterator<Item = &'a ShopOrder>) -> Vec<u64> {
        let mut units = vec![0; self.items.len()];
        for line in orders.into_iter().flat_map(|order| &order.lines) {
            units[line.item as usize] += u64::from(line.quantity.units());
        }
        units
    }

    /// The same for the same items and orders, another for others: the part of the stocking keys that tells files apart.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = XxHash3_64::with_seed(0);
        let mut text = |text: &str| {
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        };
        for item in &self.items {
            text(item.sku.as_str());
            text(item.name.as_str());
            text(&item.price.minor_units().to_string());
        }
        for order in &self.orders {
            text(order.key.as_str());
            text(order.customer.as_str());
            for line in &order.lines {
                text(self.items[line.item as usize].sku.as_str());
                text(&line.quantity.units().to_string());
            }
        }
        hasher.finish()
    }

    /// The catalogue entry of an item.
    pub fn item_put(&self, item: &ShopItem, key: Key) -> Operation {
        Operation::ItemPut(Box::new(ItemPut {
            sku: item.sku.clone(),
            price: item.price,
            currency: Self::currency(),
            name: item.name.clone(),
            limit: None,
            backorder: None,
            key: Some(key),
        }))
    }

    /// The checkout of an order.
    pub fn checkout(&self, order: &ShopOrder) -> Operation {
        Operation::Checkout(Box::new(Checkout {
            customer: order.customer.clone(),
            key: order.key.clone(),
            hold_ms: None,
            lines: order
                .lines
                .iter()
                .map(|line| CartLine {
                    sku: self.items[line.item as usize].sku.clone(),
                    quantity: line.quantity,
                })
                .collect(),
        }))
    }

    /// The lines that the server's order has: rows of one item added up, at the place of the first.
    pub fn merged_lines(&self, order: &ShopOrder) -> Vec<(&Sku, u64)> {
        merge(&order.lines)
            .into_iter()
            .map(|(item, units)| (&self.items[item as usize].sku, units))
            .collect()
    }
}

/// Adds up the lines of each item, at the place of the item's first line.
pub fn merge(lines: &[ShopLine]) -> Vec<(ItemIndex, u64)> {
    let mut place = std::collections::HashMap::with_capacity(lines.len());
    let mut merged: Vec<(ItemIndex, u64)> = Vec::with_capacity(lines.len());
    for line in lines {
        let at = *place.entry(line.item).or_insert_with(|| {
            merged.push((line.item, 0));
            merged.len() - 1
        });
        merged[at].1 += u64::from(line.quantity.units());
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(prices: [u64; 2]) -> Shop {
        let item = |sku: &str, price| ShopItem {
            sku: Sku::new(sku.as_bytes()).unwrap(),
            name: Text::default(),
            price: Amount::new(price).unwrap(),
        };
        let line = |item, units| ShopLine {
            item,
            quantity: Quantity::new(units).unwrap(),
        };
        Shop {
            items: vec![item("a", prices[0]), item("b", prices[1])],
            orders: vec![ShopOrder {
                key: Key::new(b"1").unwrap(),
                customer: Customer::new(b"ann").unwrap(),
                lines: vec![line(1, 2), line(0, 1), line(1, 3)],
            }],
        }
    }

    #[test]
    fn rows_of_one_item_are_one_line() {
        let shop = shop([100, 7]);
        let totals = Totals {
            orders: 1,
            rows: 3,
            lines: 2,
            units: 6,
            pence: 135,
        };
        assert_eq!(shop.totals(), totals);
        let merged = shop.merged_lines(&shop.orders[0]);
        assert_eq!(merged, [(&shop.items[1].sku, 5), (&shop.items[0].sku, 1)]);
        assert_eq!(shop.units_sold(&shop.orders), [1, 5]);
    }

    #[test]
    fn another_price_is_another_fingerprint() {
        assert_eq!(shop([100, 7]).fingerprint(), shop([100, 7]).fingerprint());
        assert_ne!(shop([100, 7]).fingerprint(), shop([100, 8]).fingerprint());
    }
}
