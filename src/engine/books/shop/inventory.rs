//! Items and their stock: the counters of rule R1 and the escrow that keeps them true under concurrent carts.
//!
//! A cross-shard transaction *reserves* when it prepares (its takes leave `available`, its gives are not yet in) and
//! *settles* when its outcome is durable. What a single shard decides alone is reserved and settled in one go.

use cartwright_protocol::{Amount, Currency, ItemView, Location, Quantity, Sku, StockView, Text};

use crate::engine::kernel::mutation::{Mutation, is_on};

/// Most locations one item has stock at.
pub const LOCATIONS_MAX: usize = 1024;

/// Largest `on_hand` of one location, in units; keeps every sum far from overflow.
pub const ON_HAND_MAX: i64 = 1_000_000_000_000_000;

/// What a piece of a transaction does to the counters of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum StockChange {
    /// available → held.
    Hold,
    /// available → committed.
    Commit,
    /// held → committed.
    Confirm,
    /// held → available.
    ReleaseHeld,
    /// committed → available.
    ReleaseCommitted,
}

impl StockChange {
    /// Whether it needs units to be available: only these can be refused or have to wait.
    pub const fn takes(self) -> bool {
        matches!(self, Self::Hold | Self::Commit)
    }

    const fn gives(self) -> bool {
        matches!(self, Self::ReleaseHeld | Self::ReleaseCommitted)
    }

    /// Change of (`held`, `committed`) per unit.
    const fn effect(self) -> (i64, i64) {
        match self {
            Self::Hold => (1, 0),
            Self::Commit => (0, 1),
            Self::Confirm => (-1, 1),
            Self::ReleaseHeld => (-1, 0),
            Self::ReleaseCommitted => (0, -1),
        }
    }
}

/// Stock of one item at one location, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// In the building.
    pub on_hand: i64,
    /// Held by orders not yet confirmed.
    pub held: i64,
    /// Sold, not yet shipped.
    pub committed: i64,
    /// Taken by pending transactions.
    pending_take: i64,
    /// To be given back by pending transactions.
    pending_give: i64,
}

impl Level {
    /// What decided state leaves for sale.
    pub const fn available(&self) -> i64 {
        self.on_hand - self.held - self.committed
    }

    /// What can be taken now: pending takes are out, pending gives are not in.
    fn available_now(&self) -> i64 {
        let given = if is_on(Mutation::GiveBeforeDurable) {
            self.pending_give
        } else {
            0
        };
        self.available() - self.pending_take + given
    }

    /// What could be taken at most, were every pending take to abort and every pending give to commit.
    const fn available_at_best(&self) -> i64 {
        self.available() + self.pending_give
    }

    fn reserve(&mut self, change: StockChange, units: i64) {
        if change.takes() {
            self.pending_take += units;
        } else if change.gives() {
            self.pending_give += units;
        }
    }

    fn unreserve(&mut self, change: StockChange, units: i64) {
        self.reserve(change, -units);
        assert!(
            self.pending_take >= 0 && self.pending_give >= 0,
            "what is settled was reserved: {self:?}"
        );
    }

    fn apply(&mut self, change: StockChange, units: i64) {
        let (held, committed) = change.effect();
        self.held += held * units;
        self.committed += committed * units;
        assert!(
            self.held >= 0 && self.committed >= 0,
            "no counter below zero: {change:?} of {units} made {self:?}"
        );
    }
}

/// Where the units of a line come from.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Allocations {
    /// All from `main`: nearly every line.
    Main,
    /// From these locations; the quantities add up to the line's.
    Split(Box<[Allocation]>),
}

/// Units of a line at one location.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Allocation {
    /// Where.
    pub location: Location,
    /// How many units.
    pub quantity: u32,
}

/// A line of a piece: what a transaction does to one item.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StockLine {
    /// Which item.
    pub sku: Sku,
    /// How many units.
    pub quantity: u32,
    /// At which locations.
    pub allocations: Allocations,
}

impl StockLine {
    /// Log bytes that it takes, at most.
    pub fn bytes_max(&self) -> usize {
        let parts = match &self.allocations {
            Allocations::Main => 0,
            Allocations::Split(parts) => parts.iter().map(|part| part.location.as_str().len() + 32).sum(),
        };
        self.sku.as_bytes().len() + 48 + parts
    }
}

/// What a part does to the stock of its shard's items: reserved, then logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockPart {
    /// What it does to the stock of its lines.
    pub stock: StockChange,
    /// The lines.
    pub lines: Vec<StockLine>,
}

impl StockPart {
    /// Log bytes that it takes, at most.
    pub fn bytes_max(&self) -> usize {
        32 + self.lines.iter().map(StockLine::bytes_max).sum::<usize>()
    }
}

/// Why units can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Only because of pending transactions: their outcome must be awaited.
    Pending,
    /// By decided state; so many are available.
    Decided {
        /// What decided state leaves for sale over all locations.
        available: i64,
    },
}

/// One catalogue entry with its stock. About 200 bytes and its name.
#[derive(Debug)]
pub struct Item {
    /// The item's code.
    pub sku: Sku,
    /// Price of one unit.
    pub price: Amount,
    /// The price's currency.
    pub currency: Currency,
    /// Whether requests wait for this item's pending transactions (volatile; see `waiting.rs`).
    pub has_waiting: bool,
    /// Most units one customer may have in open orders.
    pub limit: Option<Quantity>,
    /// How far below zero `available` of `main` may go.
    pub backorder: u32,
    /// How many pending transactions touch this item.
    pub pending_count: u32,
    /// What people call it.
    pub name: Text,
    /// Stock at `main`.
    main: Level,
    /// Stock elsewhere, in the order of the names. Boxed: most shops have one location.
    #[expect(
        clippy::box_collection,
        reason = "one word instead of three in every item of a one-location shop"
    )]
    elsewhere: Option<Box<Vec<(Location, Level)>>>,
}

impl Item {
    /// A new entry without stock.
    pub fn new(sku: Sku, price: Amount, currency: Currency) -> Self {
        Self {
            sku,
            price,
            currency,
            has_waiting: false,
            limit: None,
            backorder: 0,
            pending_count: 0,
            name: Text::default(),
            main: Level::default(),
            elsewhere: None,
        }
    }

    /// The catalogue entry as clients see it.
    pub fn view(&self) -> ItemView {
        ItemView {
            sku: self.sku.clone(),
            price: self.price,
            currency: self.currency,
            name: self.name.clone(),
            limit: self.limit.map_or(0, Quantity::units),
            backorder: self.backorder,
        }
    }

    /// Decided stock at one location, or over all.
    pub fn stock(&self, location: Option<&Location>) -> StockView {
        let mut view = StockView::default();
        for (at, level) in self.levels() {
            if location.is_none_or(|wanted| wanted.as_str() == at) {
                view.on_hand += level.on_hand;
                view.held += level.held;
                view.committed += level.committed;
                view.available += level.available();
            }
        }
        view
    }

    /// Every location with its level: `main` first, then by name.
    pub fn levels(&self) -> impl Iterator<Item = (&str, &Level)> {
        let elsewhere = self.elsewhere.iter().flat_map(|levels| levels.iter());
        std::iter::once((Location::MAIN, &self.main)).chain(elsewhere.map(|(at, level)| (at.as_str(), level)))
    }

    /// The level at `location`, if it has ever had stock.
    pub fn level(&self, location: &Location) -> Option<&Level> {
        self.levels()
            .find(|(at, _)| *at == location.as_str())
            .map(|(_, level)| level)
    }

    /// How many locations other than `main` there are.
    pub fn elsewhere_count(&self) -> usize {
        self.elsewhere.as_ref().map_or(0, |levels| levels.len())
    }

    fn level_mut(&mut self, location: &Location) -> &mut Level {
        if location.is_main() {
            return &mut self.main;
        }
        let levels = self.elsewhere.get_or_insert_default();
        let index = match levels.binary_search_by(|(at, _)| at.cmp(location)) {
            Ok(index) => index,
            Err(index) => {
                levels.insert(index, (location.clone(), Level::default()));
                index
            }
        };
        &mut levels[index].1
    }

    /// Where `quantity` units would come from: `main` first, then the others by name, then the backorder allowance of
    /// `main`. Changes nothing.
    pub fn allocate(&self, quantity: u32) -> Result<Allocations, Shortage> {
        let wanted = i64::from(quantity);
        if self.main.available_now() >= wanted {
            return Ok(Allocations::Main);
        }
        let room = |available: fn(&Level) -> i64| {
            let elsewhere = self
                .levels()
                .skip(1)
                .map(|(_, level)| available(level).max(0))
                .sum::<i64>();
            (available(&self.main) + i64::from(self.backorder)).max(0) + elsewhere
        };
        if room(Level::available_now) < wanted {
            return Err(
                if room(Level::available_at_best) < wanted || is_on(Mutation::RefuseInsteadOfWait) {
                    Shortage::Decided {
                        available: self.stock(None).available,
                    }
                } else {
                    Shortage::Pending
                },
            );
        }
        let mut left = wanted;
        let mut parts = Vec::new();
        for (at, level) in self.levels() {
            let units = left.min(level.available_now().max(0));
            if units > 0 {
                let location = at.parse().expect("a level's location is a location");
                parts.push(Allocation {
                    location,
                    quantity: units as u32,
                });
                left -= units;
            }
        }
        if left > 0 {
            match parts.first_mut() {
                Some(first) if first.location.is_main() => first.quantity += left as u32,
                _ => parts.insert(
                    0,
                    Allocation {
                        location: Location::main(),
                        quantity: left as u32,
                    },
                ),
            }
        }
        let all_main = parts.len() == 1 && parts[0].location.is_main();
        Ok(if all_main {
            Allocations::Main
        } else {
            Allocations::Split(parts.into_boxed_slice())
        })
    }

    fn each_level(&mut self, quantity: u32, allocations: &Allocations, mut change: impl FnMut(&mut Level, i64)) {
        match allocations {
            Allocations::Main => change(&mut self.main, i64::from(quantity)),
            Allocations::Split(parts) => {
                for part in parts {
                    change(self.level_mut(&part.location), i64::from(part.quantity));
                }
            }
        }
    }

    fn check(&self) {
        let short = self.levels().skip(1).any(|(_, level)| level.available_now() < 0);
        let oversold = self.main.available_now() + i64::from(self.backorder) < 0;
        assert!(!short && !oversold, "no oversell (R1): {self:?}");
    }

    /// A transaction prepared: its takes leave `available`, its gives stay out until it settles.
    pub fn reserve(&mut self, change: StockChange, quantity: u32, allocations: &Allocations) {
        self.each_level(quantity, allocations, |level, units| level.reserve(change, units));
        self.pending_count += 1;
        self.check();
    }

    /// A transaction that reserved is over: its change becomes decided, or never was.
    pub fn settle(&mut self, change: StockChange, quantity: u32, allocations: &Allocations, committed: bool) {
        self.each_level(quantity, allocations, |level, units| {
            level.unreserve(change, units);
            if committed {
                level.apply(change, units);
            }
        });
        assert!(self.pending_count > 0, "what is settled was reserved");
        self.pending_count -= 1;
        self.check();
    }

    /// A change that this shard decides alone.
    pub fn apply(&mut self, change: StockChange, quantity: u32, allocations: &Allocations) {
        self.each_level(quantity, allocations, |level, units| level.apply(change, units));
        self.check();
    }

    /// Whether `delta` can be added at `location` now. A refusal is explained by decided state.
    pub fn check_add(&self, location: &Location, delta: i64) -> Result<(), Shortage> {
        let level = self.level(location).copied().unwrap_or_default();
        if delta >= 0 || (level.on_hand + delta >= 0 && level.available_now() + delta >= 0) {
            return Ok(());
        }
        if level.on_hand + delta >= 0 && level.available_at_best() + delta >= 0 {
            return Err(Shortage::Pending);
        }
        Err(Shortage::Decided {
            available: level.available(),
        })
    }

    /// Adds `delta` to `on_hand` at `location`.
    pub fn add(&mut self, location: &Location, delta: i64) {
        let level = self.level_mut(location);
        level.on_hand += delta;
        assert!(
            (0..=ON_HAND_MAX).contains(&level.on_hand),
            "on_hand stays within its bounds: {level:?}"
        );
        self.check();
    }

    /// Puts a level back as a checkpoint holds it.
    pub fn restore_level(&mut self, location: &Location, on_hand: i64, held: i64, committed: i64) {
        *self.level_mut(location) = Level {
            on_hand,
            held,
            committed,
            ..Level::default()
        };
    }

    /// The smallest backorder allowance that what is taken already needs.
    pub fn backorder_used(&self) -> i64 {
        (-self.main.available_now()).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(main: i64, elsewhere: &[(&str, i64)]) -> Item {
        let mut item = Item::new(
            "sku".parse().unwrap(),
            Amount::new(100).unwrap(),
            Currency::new(b"GBP").unwrap(),
        );
        item.add(&Location::main(), main);
        for (at, on_hand) in elsewhere {
            item.add(&at.parse().unwrap(), *on_hand);
        }
        item
    }

    fn split(parts: &[(&str, u32)]) -> Allocations {
        let part = |&(at, quantity): &(&str, u32)| Allocation {
            location: at.parse().unwrap(),
            quantity,
        };
        Allocations::Split(parts.iter().map(part).collect())
    }

    #[test]
    fn main_is_drawn_first_then_the_others_by_name() {
        let item = item(3, &[("york", 2), ("leeds", 2)]);
        assert_eq!(item.allocate(3), Ok(Allocations::Main));
        assert_eq!(item.allocate(6), Ok(split(&[("main", 3), ("leeds", 2), ("york", 1)])));
        assert_eq!(item.allocate(8), Err(Shortage::Decided { available: 7 }));
    }

    #[test]
    fn a_backorder_allowance_is_used_last_and_at_main() {
        let mut item = item(1, &[("leeds", 1)]);
        item.backorder = 2;
        let allocations = item.allocate(4).unwrap();
        assert_eq!(allocations, split(&[("main", 3), ("leeds", 1)]));
        item.apply(StockChange::Commit, 4, &allocations);
        assert_eq!(item.stock(None).available, -2);
        assert_eq!(item.backorder_used(), 2);
        assert_eq!(item.allocate(1), Err(Shortage::Decided { available: -2 }));
    }

    #[test]
    fn units_of_a_pending_take_are_waited_for_not_refused() {
        let mut item = item(5, &[]);
        item.reserve(StockChange::Commit, 4, &Allocations::Main);
        assert_eq!(item.stock(None).available, 5, "a read shows decided counters");
        assert_eq!(item.allocate(2), Err(Shortage::Pending));
        assert_eq!(item.allocate(6), Err(Shortage::Decided { available: 5 }));
        item.settle(StockChange::Commit, 4, &Allocations::Main, true);
        assert_eq!(item.allocate(2), Err(Shortage::Decided { available: 1 }));
    }

    #[test]
    fn units_given_back_by_a_pending_cancel_are_waited_for_not_taken() {
        let mut item = item(5, &[]);
        item.apply(StockChange::Commit, 5, &Allocations::Main);
        item.reserve(StockChange::ReleaseCommitted, 5, &Allocations::Main);
        assert_eq!(item.allocate(5), Err(Shortage::Pending));
        item.settle(StockChange::ReleaseCommitted, 5, &Allocations::Main, true);
        assert_eq!(item.allocate(5), Ok(Allocations::Main));
    }

    #[test]
    fn shrinkage_never_takes_what_is_sold() {
        let mut item = item(5, &[]);
        item.apply(StockChange::Commit, 3, &Allocations::Main);
        assert_eq!(item.check_add(&Location::main(), -2), Ok(()));
        assert_eq!(
            item.check_add(&Location::main(), -3),
            Err(Shortage::Decided { available: 2 })
        );
        item.reserve(StockChange::Commit, 2, &Allocations::Main);
        assert_eq!(item.check_add(&Location::main(), -1), Err(Shortage::Pending));
    }
}
