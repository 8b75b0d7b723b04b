//! What carts are made of, and which: drawn from a seed, ahead of a run.
//!
//! Called by every workload that checks out; [`super::carts`] then encodes them. Where carts are to lie on one shard or
//! on two, it lays them there by their slots, as the server does.

use cartwright_protocol::{CART_LINES_MAX, SLOT_COUNT, Slot};

use crate::generator::draw_row_count;
use crate::random::{Random, Weighted};
use crate::text::grouped;

/// How many carts are drawn ahead; a run goes through them again and again.
pub const CART_COUNT: usize = 1 << 15;

/// Most bytes of carts encoded ahead: long carts are fewer.
const ENCODED_BYTES_MAX: usize = 64 << 20;

/// How often an item is drawn that the cart has already, before the next free one is taken instead.
const DRAWS_MAX: usize = 32;

/// Which items are in carts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// The item of rank r in proportion to r to the power of minus this.
    Zipf(f64),
    /// Every cart has one line of so many hot items (of each shard, where carts are laid on shards); its other lines are
    /// of all alike.
    Hot(usize),
}

impl std::str::FromStr for Popularity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is none of uniform, zipf:THETA (0 to 5), hot:N (at least 1)");
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            Some(("zipf", theta)) => {
                let theta: f64 = theta.parse().map_err(|_| wrong())?;
                (0.0..=5.0)
                    .contains(&theta)
                    .then_some(Self::Zipf(theta))
                    .ok_or_else(wrong)
            }
            Some(("hot", count)) => {
                let count: usize = count.parse().map_err(|_| wrong())?;
                (count > 0).then_some(Self::Hot(count)).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Popularity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => formatter.write_str("uniform"),
            Self::Zipf(theta) => write!(formatter, "Zipf {theta}"),
            Self::Hot(1) => formatter.write_str("one hot item in every cart"),
            Self::Hot(count) => write!(formatter, "one of {count} hot items in every cart"),
        }
    }
}

/// How many lines a cart has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineCount {
    /// Always so many.
    Fixed(usize),
    /// As in a real shop: half of the carts have at most 15, the mean is 27, the most 1,114.
    Real,
}

impl std::str::FromStr for LineCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "real" {
            return Ok(Self::Real);
        }
        match text.parse() {
            Ok(count @ 1..=CART_LINES_MAX) => Ok(Self::Fixed(count)),
            _ => Err(format!("{text:?} is neither 1 to {CART_LINES_MAX} nor real")),
        }
    }
}

impl std::fmt::Display for LineCount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(1) => formatter.write_str("1 line"),
            Self::Fixed(count) => write!(formatter, "{count} lines"),
            Self::Real => formatter.write_str("lines as in a real shop"),
        }
    }
}

/// What the carts of a run are like.
#[derive(Clone, Debug)]
pub struct CartMix {
    /// Lines in a cart.
    pub lines: LineCount,
    /// Which items.
    pub popularity: Popularity,
    /// How many items there are.
    pub item_count: usize,
    /// How many customers.
    pub customer_count: usize,
    /// Most units in a line; at least 1.
    pub quantity_max: u32,
    /// Share of the carts that lie on two shards, 0 to 1; the others lie on one. `None`: as slots fall.
    pub cross_share: Option<f64>,
    /// The server's shards.
    pub shard_count: u16,
    /// For how long orders are held; 0: placed at once.
    pub hold_ms: u32,
    /// The seed.
    pub seed: u64,
}

impl std::fmt::Display for CartMix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let items = grouped(self.item_count as u64);
        write!(formatter, "{}, of {items} items, {}", self.lines, self.popularity)?;
        if let Some(share) = self.cross_share {
            write!(formatter, ", {:.0} % over two shards", share * 100.0)?;
        }
        Ok(())
    }
}

/// Name of an item of the benchmark's.
pub fn sku(number: usize) -> String {
    format!("b{number:06}")
}

/// Name of a customer of the benchmark's.
pub fn customer(number: usize) -> String {
    format!("u{number:06}")
}

/// The shard of a name, as the server spreads slots: in contiguous ranges.
pub fn shard_of(name: &str, shard_count: u16) -> u16 {
    (Slot::of(name.as_bytes()).index() * usize::from(shard_count) / SLOT_COUNT) as u16
}

/// One cart, drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    /// Who buys, by number.
    pub customer: usize,
    /// Items, by number, each at most once, and how many units.
    pub lines: Vec<(usize, u32)>,
}

/// The items or customers of one shard, or all of them.
struct Pool {
    members: Vec<usize>,
    /// Ranks in proportion to popularity; `None`: all alike.
    ranks: Option<Weighted>,
}

impl Pool {
    fn new(members: Vec<usize>, popularity: Popularity) -> Self {
        let ranks = match popularity {
            Popularity::Zipf(theta) if !members.is_empty() => Some(Weighted::new(
                (0..members.len()).map(|rank| (rank as f64 + 1.0).powf(-theta)),
            )),
            _ => None,
        };
        Self { members, ranks }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let place = match &self.ranks {
            Some(ranks) => ranks.draw(random),
            None => random.index(self.members.len()),
        };
        self.members[place]
    }

    /// Adds an item to the cart that it does not have; none where it has all of them.
    fn add_to(&self, cart: &mut Vec<(usize, u32)>, units: u32, random: &mut Random) {
        let has = |cart: &[(usize, u32)], item| cart.iter().any(|&(in_cart, _)| in_cart == item);
        for _ in 0..DRAWS_MAX {
            let item = self.draw(random);
            if !has(cart, item) {
                cart.push((item, units));
                return;
            }
        }
        if let Some(&item) = self.members.iter().find(|&&item| !has(cart, item)) {
            cart.push((item, units));
        }
    }
}

/// Why no such carts can be drawn.
#[derive(Debug, thiserror::Error)]
pub enum CartError {
    /// No item or customer on some shard.
    #[error("with {count} {what} some of the {shard_count} shards have none; give more with {flag}")]
    EmptyShard {
        /// Items or customers.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The server's shards.
        shard_count: u16,
        /// What to give more with.
        flag: &'static str,
    },
    /// Crossing needs two.
    #[error("a share of carts over two shards needs a server with at least two; start it with --shards 2")]
    OneShard,
    /// There are fewer items than hot ones.
    #[error("more hot items than items: give --items at least {hot}")]
    Hot {
        /// How many hot items were asked for.
        hot: usize,
    },
}

impl CartMix {
    /// Carts, as many as fit ahead; the same for the same mix.
    pub fn draw(&self) -> Result<Vec<Cart>, CartError> {
        if let Popularity::Hot(hot) = self.popularity
            && hot > self.item_count
        {
            return Err(CartError::Hot { hot });
        }
        let mut random = Random::new(self.seed);
        let pools = Pools::new(self)?;
        let mut carts = Vec::with_capacity(CART_COUNT);
        let mut bytes = 0;
        while carts.len() < CART_COUNT && bytes < ENCODED_BYTES_MAX {
            let cart = self.draw_one(&pools, &mut random);
            // A line of a script is a key and an argument and part of a text: at most so long.
            bytes += 200 + 50 * cart.lines.len();
            carts.push(cart);
        }
        Ok(carts)
    }

    fn draw_one(&self, pools: &Pools, random: &mut Random) -> Cart {
        let home = random.index(pools.customers.len());
        let customer = pools.customers[home].draw(random);
        let other = match self.cross_share {
            Some(share) if random.unit() < share => {
                (home + 1 + random.index(pools.items.len() - 1)) % pools.items.len()
            }
            _ => home,
        };
        let count = match self.lines {
            LineCount::Fixed(count) => count,
            LineCount::Real => draw_row_count(random),
        };
        let mut lines = Vec::with_capacity(count);
        for place in 0..count {
            let units = 1 + random.index(self.quantity_max as usize) as u32;
            let pool = if place % 2 == 0 { other } else { home };
            match (place, self.popularity) {
                (0, Popularity::Hot(hot)) => {
                    let members = &pools.items[pool].members;
                    lines.push((members[random.index(hot.min(members.len()))], units));
                }
                _ => pools.items[pool].add_to(&mut lines, units, random),
            }
        }
        Cart { customer, lines }
    }
}

/// Items and customers, by shard where that matters; else in one pool.
struct Pools {
    items: Vec<Pool>,
    customers: Vec<Pool>,
}

impl Pools {
    fn new(mix: &CartMix) -> Result<Self, CartError> {
        let shard_count = if mix.cross_share.is_some() {
            mix.shard_count.max(1)
        } else {
            1
        };
        if shard_count == 1 && mix.cross_share.is_some_and(|share| share > 0.0) {
            return Err(CartError::OneShard);
        }
        let split = |count: usize, name: fn(usize) -> String| {
            let mut members = vec![Vec::new(); usize::from(shard_count)];
            for number in 0..count {
                members[usize::from(shard_of(&name(number), shard_count))].push(number);
            }
            members
        };
        let pools = |count, name, popularity, what, flag| {
            let members = split(count, name);
            if members.iter().any(Vec::is_empty) {
                return Err(CartError::EmptyShard {
                    what,
                    count,
                    shard_count,
                    flag,
                });
            }
            Ok(members
                .into_iter()
                .map(|members| Pool::new(members, popularity))
                .collect())
        };
        Ok(Self {
            items: pools(
                mix.item_count,
                sku as fn(usize) -> String,
                mix.popularity,
                "items",
                "--items",
            )?,
            customers: pools(
                mix.customer_count,
                customer as fn(usize) -> String,
                Popularity::Uniform,
                "customers",
                "--customers",
            )?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Ten lines of a thousand items.
    pub fn mix() -> CartMix {
        CartMix {
            lines: LineCount::Fixed(10),
            popularity: Popularity::Uniform,
            item_count: 1_000,
            customer_count: 1_000,
            quantity_max: 3,
            cross_share: None,
            shard_count: 1,
            hold_ms: 0,
            seed: 7,
        }
    }

    fn shards_of(cart: &Cart, shard_count: u16) -> HashSet<u16> {
        let items = cart.lines.iter().map(|&(item, _)| shard_of(&sku(item), shard_count));
        items.chain([shard_of(&customer(cart.customer), shard_count)]).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_carts() {
        assert_eq!(mix().draw().unwrap(), mix().draw().unwrap());
        let other = CartMix { seed: 8, ..mix() };
        assert_ne!(mix().draw().unwrap(), other.draw().unwrap());
    }

    #[test]
    fn a_cart_crosses_to_one_other_shard_exactly_as_often_as_it_was_told() {
        for shard_count in [2, 3] {
            for share in [0.0, 0.3, 1.0] {
                let carts = CartMix {
                    cross_share: Some(share),
                    shard_count,
                    ..mix()
                }
                .draw()
                .unwrap();
                let crossing = carts
                    .iter()
                    .filter(|cart| shards_of(cart, shard_count).len() == 2)
                    .count();
                let local = carts
                    .iter()
                    .filter(|cart| shards_of(cart, shard_count).len() == 1)
                    .count();
                assert_eq!(crossing + local, carts.len());
                let seen = crossing as f64 / carts.len() as f64;
                assert!((seen - share).abs() < 0.02, "{seen} of {share}");
            }
        }
        let alone = CartMix {
            cross_share: Some(0.5),
            ..mix()
        };
        assert!(alone.draw().unwrap_err().to_string().contains("--shards 2"));
    }

    #[test]
    fn shards_are_contiguous_ranges_of_slots_as_even_as_can_be() {
        for shard_count in [1, 2, 3, 7] {
            let mut names: Vec<String> = (0..5_000).map(sku).collect();
            names.sort_by_key(|name| Slot::of(name.as_bytes()).index());
            let shards: Vec<u16> = names.iter().map(|name| shard_of(name, shard_count)).collect();
            assert!(shards.is_sorted(), "higher slots are on higher shards");
            for shard in 0..shard_count {
                let share = shards.iter().filter(|&&of| of == shard).count() * usize::from(shard_count);
                assert!(
                    (4_000..6_000).contains(&share),
                    "shard {shard} of {shard_count} has {share}"
                );
            }
        }
    }

    #[test]
    fn no_cart_has_an_item_twice_and_hot_items_are_in_every_one() {
        for popularity in [Popularity::Zipf(1.2), Popularity::Hot(1)] {
            let carts = CartMix { popularity, ..mix() }.draw().unwrap();
            for cart in &carts {
                let items: HashSet<_> = cart.lines.iter().map(|line| line.0).collect();
                assert_eq!(items.len(), 10);
                assert!(matches!(popularity, Popularity::Zipf(_)) || items.contains(&0));
            }
        }
        let few = CartMix { item_count: 4, ..mix() };
        assert!(few.draw().unwrap().iter().all(|cart| cart.lines.len() == 4));
    }

    #[test]
    fn zipf_draws_low_ranks_more_often() {
        let carts = CartMix {
            lines: LineCount::Fixed(1),
            popularity: Popularity::Zipf(1.0),
            ..mix()
        }
        .draw()
        .unwrap();
        let count = |item| carts.iter().filter(|cart| cart.lines[0].0 == item).count() as f64;
        let ratio = count(0) / count(9);
        assert!(
            (7.0..14.0).contains(&ratio),
            "rank 1 is drawn {ratio} times as often as rank 10"
        );
    }
}
