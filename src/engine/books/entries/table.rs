//! A table of bytes that grows page by page, can be walked in pieces while it changes, and is copied cheaply.
//!
//! Up to [`PAGE_ENTRIES_MAX`] entries are one page; above, pages are split in two as they fill (extendible hashing), so
//! that no insertion moves more than one page. Entries have an order, which is that of their hash and never changes:
//! a walk that goes on from where it stopped meets everything that was there all the time. Pages are shared by a copy
//! until one of both changes: a copy of a large table costs a reference a page.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::engine::kernel::hashing::table_hash;
use crate::engine::kernel::prefetch::prefetch_whole;

/// Entries of one page: what an insertion moves at most, and a change of a copied table copies.
pub const PAGE_ENTRIES_MAX: usize = 512;

/// Hashes that agree in so many bits are not told apart by splitting. A place of a walk has at least so many.
pub const DEPTH_MAX: u32 = 34;

/// A page that holds less than this part of its room gives it back.
const ROOM_PER_ENTRY_MAX: usize = 8;

/// Something with a key, that can stand in a table.
pub trait Keyed: Clone {
    /// What it is found by.
    fn key(&self) -> &[u8];
}

/// The hash of a key in any table of this process.
#[inline]
pub fn hash_of(key: &[u8]) -> u64 {
    table_hash(key)
}

/// Where in the order of a table an entry with this key stands, as its uppermost `bits`: see [`PagedTable::walk`].
pub fn place_of(key: &[u8], bits: u32) -> u64 {
    order_of(hash_of(key)) >> (64 - bits)
}

/// Where an entry stands in the order of a table. The uppermost bits of a hash tell entries of one page apart in
/// `hashbrown`, so pages are chosen by those below.
const fn order_of(hash: u64) -> u64 {
    hash.rotate_left(7)
}

#[derive(Clone, Debug)]
enum Pages<T> {
    One(HashTable<T>),
    Many(Box<Directory<T>>),
}

#[derive(Clone, Debug)]
struct Directory<T> {
    /// So many bits of the order choose from `places`.
    depth: u32,
    places: Vec<u32>,
    pages: Vec<Page<T>>,
}

#[derive(Clone, Debug)]
struct Page<T> {
    /// So many bits of the order are the same for all entries.
    depth: u32,
    table: Arc<HashTable<T>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct PagedTable<T> {
    pages: Pages<T>,
    count: usize,
}

impl<T> Default for PagedTable<T> {
    fn default() -> Self {
        Self {
            pages: Pages::One(HashTable::new()),
            count: 0,
        }
    }
}

fn rehash<T: Keyed>(entry: &T) -> u64 {
    hash_of(entry.key())
}

impl<T> Directory<T> {
    fn place(&self, hash: u64) -> usize {
        self.places[(order_of(hash) >> (64 - self.depth)) as usize] as usize
    }
}

impl<T: Keyed> PagedTable<T> {
    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entry with this key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&T> {
        let page = match &self.pages {
            Pages::One(page) => page,
            Pages::Many(directory) => &directory.pages[directory.place(hash)].table,
        };
        page.find(hash, |entry| entry.key() == key)
    }

    /// The entry with this key, to be changed.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut T> {
        self.page_mut(hash).find_mut(hash, |entry| entry.key() == key)
    }

    /// The first entry with this hash that `is_it`.
    pub fn find_by_hash(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let page = match &self.pages {
            Pages::One(page) => page,
            Pages::Many(directory) => &directory.pages[directory.place(hash)].table,
        };
        page.find(hash, is_it)
    }

    /// Has the places fetched where entries with this hash may be.
    pub fn prefetch(&self, hash: u64) {
        self.find_by_hash(hash, |entry| {
            prefetch_whole(entry);
            false
        });
    }

    fn page_mut(&mut self, hash: u64) -> &mut HashTable<T> {
        match &mut self.pages {
            Pages::One(page) => page,
            Pages::Many(directory) => {
                let place = directory.place(hash);
                Arc::make_mut(&mut directory.pages[place].table)
            }
        }
    }

    /// Adds an entry whose key is not there.
    pub fn insert_new(&mut self, hash: u64, entry: T) -> &mut T {
        self.make_room(hash);
        self.count += 1;
        self.page_mut(hash).insert_unique(hash, entry, rehash).into_mut()
    }

    /// Takes the entry with this key out.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<T> {
        let page = self.page_mut(hash);
        let found = page.find_entry(hash, |entry| entry.key() == key).ok()?;
        let (entry, _) = found.remove();
        if page.capacity() > ROOM_PER_ENTRY_MAX * page.len().max(8) {
            page.shrink_to(page.len() * 2, rehash);
        }
        self.count -= 1;
        if self.count == 0 {
            *self = Self::default();
        }
        Some(entry)
    }

    /// Every entry, in no order that may matter.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many) = match &self.pages {
            Pages::One(page) => (Some(page), &[][..]),
            Pages::Many(directory) => (None, &directory.pages[..]),
        };
        one.into_iter()
            .chain(many.iter().map(|page| &*page.table))
            .flat_map(HashTable::iter)
    }

    /// The first entry in the order from a place on, if there is one behind it.
    pub fn first_from(&self, from: u64, bits: u32) -> Option<&T> {
        let (mut first, mut next) = (None, Some(from));
        while let (None, Some(at)) = (first, next) {
            next = self.walk(at, bits, 1, |entry| {
                first.get_or_insert(entry);
            });
        }
        first
    }

    /// Takes some entries out, a page at most; `None` once there are none. The table is of no other use afterwards.
    pub fn take_page(&mut self) -> Option<Vec<T>> {
        let table = match &mut self.pages {
            Pages::One(page) => std::mem::take(page),
            Pages::Many(directory) => {
                let page = directory.pages.pop()?;
                Arc::try_unwrap(page.table).unwrap_or_else(|shared| (*shared).clone())
            }
        };
        let is_one = matches!(self.pages, Pages::One(_));
        (!is_one || !table.is_empty()).then(|| table.into_iter().collect())
    }

    /// Its entries, in no order that may matter.
    pub fn into_entries(self) -> Vec<T> {
        match self.pages {
            Pages::One(page) => page.into_iter().collect(),
            Pages::Many(directory) => {
                let pages = directory.pages.into_iter();
                pages
                    .flat_map(|page| Arc::try_unwrap(page.table).unwrap_or_else(|shared| (*shared).clone()))
                    .collect()
            }
        }
    }

    fn make_room(&mut self, hash: u64) {
        if let Pages::One(page) = &mut self.pages {
            if page.len() < PAGE_ENTRIES_MAX {
                return;
            }
            let table = Arc::new(std::mem::take(page));
            self.pages = Pages::Many(Box::new(Directory {
                depth: 1,
                places: vec![0, 0],
                pages: vec![Page { depth: 0, table }],
            }));
        }
        let Pages::Many(directory) = &mut self.pages else {
            unreachable!("made so above")
        };
        loop {
            let place = directory.place(hash);
            let page = &directory.pages[place];
            if page.table.len() < PAGE_ENTRIES_MAX || page.depth >= DEPTH_MAX {
                return;
            }
            directory.split(place);
        }
    }

    /// Walks entries in their order from `from` on, until `count` were met; where to go on, or `None` at the end.
    /// Places are the uppermost `bits` of the order; entries of one place are met together.
    pub fn walk<'a>(&'a self, from: u64, bits: u32, count: usize, mut meet: impl FnMut(&'a T)) -> Option<u64> {
        assert!((DEPTH_MAX..64).contains(&bits), "no page is deeper than a place");
        let end = 1u64 << bits;
        let (mut at, mut met) = (from, 0);
        while at < end {
            let (page, next_page) = match &self.pages {
                Pages::One(page) => (page, end),
                Pages::Many(directory) => {
                    let order = at << (64 - bits);
                    let page = &directory.pages[directory.places[(order >> (64 - directory.depth)) as usize] as usize];
                    let rest = bits - page.depth;
                    (&*page.table, ((at >> rest) + 1) << rest)
                }
            };
            let place = |entry: &T| order_of(rehash(entry)) >> (64 - bits);
            let mut here: Vec<_> = page
                .iter()
                .map(|entry| (place(entry), entry))
                .filter(|&(place, _)| place >= at)
                .collect();
            here.sort_unstable_by_key(|&(place, _)| place);
            let mut last = None;
            for (place, entry) in here {
                if met >= count && last != Some(place) {
                    return Some(place);
                }
                last = Some(place);
                met += 1;
                meet(entry);
            }
            at = next_page;
            if met >= count && at < end {
                return Some(at);
            }
        }
        None
    }
}

impl<T: Keyed> Directory<T> {
    fn split(&mut self, place: usize) {
        if self.pages[place].depth == self.depth {
            self.places = self.places.iter().flat_map(|&place| [place, place]).collect();
            self.depth += 1;
        }
        let page = &mut self.pages[place];
        page.depth += 1;
        let depth = page.depth;
        let bit = |hash: u64| order_of(hash) >> (64 - depth) & 1 == 1;
        let mut low = HashTable::with_capacity(PAGE_ENTRIES_MAX / 2);
        let mut high = HashTable::with_capacity(PAGE_ENTRIES_MAX / 2);
        let mut deal = |entry: T| {
            let hash = rehash(&entry);
            let page = if bit(hash) { &mut high } else { &mut low };
            page.insert_unique(hash, entry, rehash);
        };
        match Arc::try_unwrap(std::mem::take(&mut page.table)) {
            Ok(table) => table.into_iter().for_each(&mut deal),
            Err(shared) => shared.iter().cloned().for_each(&mut deal),
        }
        page.table = Arc::new(low);
        let new = self.pages.len() as u32;
        self.pages.push(Page {
            depth,
            table: Arc::new(high),
        });
        for (index, at) in self.places.iter_mut().enumerate() {
            if *at as usize == place && index >> (self.depth - depth) & 1 == 1 {
                *at = new;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Word(Vec<u8>);

    impl Keyed for Word {
        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    fn word(number: u32) -> Word {
        Word(number.to_string().into_bytes())
    }

    fn insert(table: &mut PagedTable<Word>, number: u32) {
        let word = word(number);
        let hash = hash_of(&word.0);
        if table.find(hash, &word.0).is_none() {
            table.insert_new(hash, word);
        }
    }

    fn remove(table: &mut PagedTable<Word>, number: u32) -> bool {
        let word = word(number);
        table.remove(hash_of(&word.0), &word.0).is_some()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_table_holds_what_a_set_holds(changes in prop::collection::vec((any::<bool>(), 0..3000u32), 1..6000)) {
            let (mut table, mut set) = (PagedTable::default(), BTreeSet::new());
            for (adds, number) in changes {
                if adds {
                    insert(&mut table, number);
                    set.insert(number);
                } else {
                    prop_assert_eq!(remove(&mut table, number), set.remove(&number));
                }
            }
            prop_assert_eq!(table.len(), set.len());
            let held: BTreeSet<u32> = table.iter().map(|word| String::from_utf8_lossy(&word.0).parse().unwrap()).collect();
            prop_assert_eq!(held, set);
        }

        #[test]
        fn a_walk_meets_all_that_stays_while_the_table_changes(
            stays in 1..3000u32,
            changes in prop::collection::vec((any::<bool>(), 3000..9000u32), 0..6000),
            bits in prop::sample::select(vec![34u32, 48]),
            count in 1..200usize,
        ) {
            let mut table = PagedTable::default();
            (0..stays).for_each(|number| insert(&mut table, number));
            let (mut changes, mut met, mut from) = (changes.into_iter(), BTreeSet::new(), 0);
            loop {
                let next = table.walk(from, bits, count, |word| {
                    met.insert(word.0.clone());
                });
                for (adds, number) in changes.by_ref().take(100) {
                    if adds { insert(&mut table, number) } else { remove(&mut table, number); }
                }
                match next {
                    Some(next) => {
                        prop_assert!(next > from);
                        from = next;
                    }
                    None => break,
                }
            }
            for number in 0..stays {
                prop_assert!(met.contains(&word(number).0), "{} was there all the time", number);
            }
        }

        #[test]
        fn a_copy_does_not_change(numbers in prop::collection::btree_set(0..5000u32, 1..3000), removed in prop::collection::vec(0..5000u32, 1..1000)) {
            let mut table = PagedTable::default();
            for &number in &numbers {
                insert(&mut table, number);
            }
            let copy = table.clone();
            for number in removed {
                if !remove(&mut table, number) {
                    insert(&mut table, number);
                }
            }
            prop_assert_eq!(copy.iter().count(), numbers.len());
            for number in &numbers {
                let word = word(*number);
                prop_assert!(copy.find(hash_of(&word.0), &word.0).is_some());
            }
        }
    }

    #[test]
    fn one_walk_stops_near_its_count() {
        let mut table = PagedTable::default();
        (0..20_000).for_each(|number| insert(&mut table, number));
        let mut met = 0;
        assert!(table.walk(0, 48, 10, |_| met += 1).is_some());
        assert!((10..=12).contains(&met), "{met}");
    }
}
