//! The items of one slot, found by SKU: a small table with open addressing whose look-up can be begun before it is
//! needed.
//!
//! Owned by a slot. Items are never removed. Each lies in a block of its own, so that growing moves pointers only.

use crate::engine::books::shop::inventory::Item;
use crate::engine::kernel::hashing::table_hash;
use crate::engine::kernel::prefetch::prefetch;

/// Smallest table that is not empty.
const PLACES_MIN: usize = 2;

/// Half of a seeded hash of a SKU's bytes; the slot has taken care of the rest.
pub fn item_hash(sku: &[u8]) -> u32 {
    table_hash(sku) as u32
}

/// An item with the hash of its SKU, or room for one.
type Place = Option<(u32, Box<Item>)>;

/// See the module's text.
#[derive(Debug, Default)]
pub struct ItemTable {
    /// Of a length that is 0 or a power of two; at least a quarter of it is empty.
    places: Box<[Place]>,
    count: u32,
}

impl ItemTable {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Has the place fetched where the item with this hash would lie first.
    #[inline]
    pub fn prefetch_place(&self, hash: u32) {
        let mask = self.places.len().wrapping_sub(1);
        prefetch(self.places.as_ptr().wrapping_add(hash as usize & mask));
    }

    /// The item that lies where the one with this hash would lie first.
    pub fn first(&self, hash: u32) -> Option<&Item> {
        let mask = self.places.len().wrapping_sub(1);
        self.places.get(hash as usize & mask)?.as_ref().map(|(_, item)| &**item)
    }

    fn place(&self, hash: u32, sku: &[u8]) -> Option<usize> {
        let mask = self.places.len().checked_sub(1)?;
        let mut place = hash as usize & mask;
        loop {
            let (other, item) = self.places[place].as_ref()?;
            if *other == hash && item.sku.as_bytes() == sku {
                return Some(place);
            }
            place = (place + 1) & mask;
        }
    }

    /// The item with this SKU; `hash` is its [`item_hash`].
    pub fn get(&self, hash: u32, sku: &[u8]) -> Option<&Item> {
        let place = self.place(hash, sku)?;
        self.places[place].as_ref().map(|(_, item)| &**item)
    }

    /// Like [`ItemTable::get`], to be changed.
    pub fn get_mut(&mut self, hash: u32, sku: &[u8]) -> Option<&mut Item> {
        let place = self.place(hash, sku)?;
        self.places[place].as_mut().map(|(_, item)| &mut **item)
    }

    /// Adds an item that is not there yet.
    pub fn insert(&mut self, item: Item) {
        let hash = item_hash(item.sku.as_bytes());
        assert!(self.get(hash, item.sku.as_bytes()).is_none(), "an item is added once");
        if (self.len() + 1) * 4 > self.places.len() * 3 {
            self.grow();
        }
        self.count += 1;
        put(&mut self.places, hash, Box::new(item));
    }

    fn grow(&mut self) {
        let length = (self.places.len() * 2).max(PLACES_MIN);
        let before = std::mem::replace(&mut self.places, (0..length).map(|_| None).collect());
        for (hash, item) in before.into_iter().flatten() {
            put(&mut self.places, hash, item);
        }
    }

    /// Every item, in no order that may matter.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.places.iter().flatten().map(|(_, item)| &**item)
    }
}

fn put(places: &mut [Place], hash: u32, item: Box<Item>) {
    let mask = places.len() - 1;
    let mut place = hash as usize & mask;
    while places[place].is_some() {
        place = (place + 1) & mask;
    }
    places[place] = Some((hash, item));
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::{Amount, Currency, Sku};

    use super::*;

    #[test]
    fn every_item_is_found_and_no_other() {
        let sku = |number: u32| format!("sku-{number}").parse::<Sku>().unwrap();
        let mut table = ItemTable::default();
        assert!(table.get(item_hash(b"sku-0"), b"sku-0").is_none() && table.first(7).is_none());
        for number in 0..1000 {
            let price = Amount::new(number.into()).unwrap();
            table.insert(Item::new(sku(number), price, Currency::new(b"GBP").unwrap()));
            for other in [0, number / 2, number, number + 1] {
                let sku = sku(other);
                let found = table.get(item_hash(sku.as_bytes()), sku.as_bytes());
                assert_eq!(found.map(|item| &item.sku), (other <= number).then_some(&sku));
            }
        }
        assert_eq!((table.len(), table.iter().count()), (1000, 1000));
    }

    #[test]
    fn a_place_takes_two_words() {
        assert_eq!(size_of::<Place>(), 16);
    }
}
