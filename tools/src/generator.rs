//! Makes up a shop of the shape of a real one, from a seed.
//!
//! The shape was measured on the sales of the UCI *Online Retail* set (Daqing Chen, 2015, DOI 10.24432/C5BW33):
//! 19,959 orders, 530,103 rows, 3,921 items, 4,338 customers. What is kept, and how well it fits:
//!
//! * **Popularity of items.** The share of rows of the item at rank quantile `u` (0 best, 1 worst) is in proportion to
//!   `exp(−(4.4 u^0.34 + 3.3 u⁴))`: flatter at the top than Zipf's law and with a faster-falling tail. The best 1, 10
//!   and 50 % of the items have 9.7, 46 and 92 % of the rows; measured: 9.4, 45 and 92 %.
//! * **Rows in an order.** Measured quantiles, log-linear between them: median 15, mean 27, largest 1,114.
//! * **Units in a row.** The fifteen commonest pack sizes by their share, the rest by quantiles up to 4,800. Two orders
//!   of over 70,000 units are left out: they are 3 % of all units, and no shop would count on the third.
//! * **Prices.** Quantiles, £0.19 to £1,714.17, rounded to the shop's usual last digits.
//! * **Customers.** 7.1 % of the orders are guests'; the others' orders per customer follow the measured quantiles
//!   (median 2, mean 4.3, most 209), shuffled over the whole time.
//! * One row in fifty repeats an item of the same order, as in the real file.
//!
//! Not kept: seasons, that guests' carts are larger, that cheap items go in larger packs, and what is bought together.
//! Called by the demo. Never reads a clock or the machine: the same options give the same shop.

use std::collections::HashSet;

use cartwright_protocol::{Amount, Customer, Key, Quantity, Sku, Text};

use crate::random::{Random, Weighted};
use crate::shop::{GUEST, ItemIndex, Shop, ShopItem, ShopLine, ShopOrder};

/// How many items the real shop sells.
pub const ITEM_COUNT_DEFAULT: usize = 3_921;

/// Most items a generated shop has: what five digits can number.
pub const ITEM_COUNT_MAX: usize = 90_000;

/// The first invoice number.
const INVOICE_FIRST: usize = 536_365;

/// Share of the orders without a customer.
const GUEST_SHARE: f64 = 0.0715;

/// Share of the rows that repeat an item of the same order.
const REPEAT_SHARE: f64 = 0.02;

/// Quantiles: a share of the values, and the value that this share does not pass.
type Quantiles = &'static [(f64, f64)];

const ORDER_ROWS: Quantiles = &[
    (0.0, 1.0),
    (0.08, 1.0),
    (0.1, 2.0),
    (0.15, 3.0),
    (0.2, 5.0),
    (0.25, 6.0),
    (0.3, 8.0),
    (0.4, 11.0),
    (0.5, 15.0),
    (0.6, 19.0),
    (0.7, 25.0),
    (0.75, 29.0),
    (0.8, 34.0),
    (0.85, 42.0),
    (0.9, 54.0),
    (0.95, 79.0),
    (0.975, 130.0),
    (0.99, 220.0),
    (0.995, 344.0),
    (0.999, 593.0),
    (0.9995, 651.0),
    (1.0, 1114.0),
];

/// Units in a row, and how many of 10,000 rows have so many.
const PACKS: &[(u64, f64)] = &[
    (1, 2789.0),
    (2, 1541.0),
    (12, 1152.0),
    (6, 770.0),
    (4, 725.0),
    (3, 699.0),
    (24, 453.0),
    (10, 420.0),
    (8, 247.0),
    (5, 221.0),
    (48, 114.0),
    (25, 97.0),
    (20, 94.0),
    (16, 80.0),
    (36, 72.0),
];

/// How many of 10,000 rows have another number of units.
const OTHER_PACKS_WEIGHT: f64 = 526.0;

const OTHER_PACKS: Quantiles = &[
    (0.0, 7.0),
    (0.1, 7.0),
    (0.15, 9.0),
    (0.25, 14.0),
    (0.3, 18.0),
    (0.4, 30.0),
    (0.5, 40.0),
    (0.6, 64.0),
    (0.7, 96.0),
    (0.8, 100.0),
    (0.9, 150.0),
    (0.95, 240.0),
    (0.975, 388.0),
    (0.99, 600.0),
    (0.995, 888.0),
    (0.999, 1930.0),
    (1.0, 4800.0),
];

const PRICE_PENCE: Quantiles = &[
    (0.0, 19.0),
    (0.05, 39.0),
    (0.1, 42.0),
    (0.15, 79.0),
    (0.2, 83.0),
    (0.25, 125.0),
    (0.4, 165.0),
    (0.5, 246.0),
    (0.6, 295.0),
    (0.7, 413.0),
    (0.75, 495.0),
    (0.8, 579.0),
    (0.85, 746.0),
    (0.9, 832.0),
    (0.95, 1248.0),
    (0.975, 1663.0),
    (0.99, 2496.0),
    (0.995, 3995.0),
    (0.999, 14_500.0),
    (1.0, 171_417.0),
];

const CUSTOMER_ORDERS: Quantiles = &[
    (0.0, 1.0),
    (0.34, 1.0),
    (0.4, 2.0),
    (0.53, 2.0),
    (0.6, 3.0),
    (0.7, 4.0),
    (0.75, 5.0),
    (0.8, 6.0),
    (0.85, 7.0),
    (0.9, 9.0),
    (0.95, 13.0),
    (0.975, 19.0),
    (0.99, 30.0),
    (0.995, 44.0),
    (0.999, 93.0),
    (1.0, 209.0),
];

const COLOURS: &[&str] = &[
    "RED",
    "WHITE",
    "BLUE",
    "PINK",
    "GREEN",
    "IVORY",
    "BLACK",
    "VINTAGE",
    "REGENCY",
    "RETROSPOT",
];
const STYLES: &[&str] = &[
    "HANGING",
    "ENAMEL",
    "WOODEN",
    "GLASS",
    "PAISLEY",
    "SPOTTY",
    "FELTCRAFT",
    "METAL",
    "ZINC",
    "KNITTED",
];
const THINGS: &[&str] = &[
    "HEART",
    "LUNCH BAG",
    "CAKESTAND",
    "BUNTING",
    "LANTERN",
    "JAM JAR",
    "MUG",
    "T-LIGHT HOLDER",
    "CUSHION",
    "TEA TOWEL",
    "CLOCK",
    "BIRD HOUSE",
    "DOORMAT",
    "COAT RACK",
    "CAKE TIN",
    "HOT WATER BOTTLE",
    "NAPKINS",
    "PARASOL",
    "TEAPOT",
    "TRAY",
];

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct GeneratorOptions {
    /// The same seed gives the same shop.
    pub seed: u64,
    /// How many orders, at least 1.
    pub order_count: usize,
    /// How many items, 1 to [`ITEM_COUNT_MAX`]. Those that no order has are left out.
    pub item_count: usize,
}

/// The value at share `at` of a distribution, log-linear between its quantiles.
fn quantile(quantiles: Quantiles, at: f64) -> f64 {
    let upper = quantiles
        .partition_point(|&(share, _)| share <= at)
        .clamp(1, quantiles.len() - 1);
    let ((low_share, low), (high_share, high)) = (quantiles[upper - 1], quantiles[upper]);
    let between = ((at - low_share) / (high_share - low_share)).clamp(0.0, 1.0);
    low * (high / low).powf(between)
}

/// A whole number of at least 1 from a distribution of whole numbers.
fn draw(quantiles: Quantiles, random: &mut Random) -> u64 {
    (quantile(quantiles, random.unit()).round() as u64).max(1)
}

/// How many rows an order has, drawn as in the real shop.
pub fn draw_row_count(random: &mut Random) -> usize {
    draw(ORDER_ROWS, random) as usize
}

/// Makes up a shop.
pub fn generate(options: &GeneratorOptions) -> Shop {
    assert!(
        options.order_count > 0 && (1..=ITEM_COUNT_MAX).contains(&options.item_count),
        "a shop has orders, and 1 to {ITEM_COUNT_MAX} items"
    );
    let mut random = Random::new(options.seed);
    let items = make_items(options.item_count, &mut random);
    let customers = make_customers(options.order_count, &mut random);
    let rows = RowSource::new(options.item_count, &mut random);
    let orders = customers
        .into_iter()
        .enumerate()
        .map(|(place, customer)| ShopOrder {
            key: Key::new((INVOICE_FIRST + place).to_string().as_bytes()).expect("a number is a key"),
            customer,
            lines: rows.order(&mut random),
        })
        .collect();
    without_unsold(Shop { items, orders })
}

fn make_items(count: usize, random: &mut Random) -> Vec<ShopItem> {
    let mut numbers: Vec<usize> = (0..ITEM_COUNT_MAX).collect();
    random.shuffle(&mut numbers);
    numbers[..count]
        .iter()
        .map(|number| {
            let suffix = if random.unit() < 0.3 {
                *random.pick(&["A", "B", "C", "D"])
            } else {
                ""
            };
            let name = [COLOURS, STYLES, THINGS].map(|words| *random.pick(words)).join(" ");
            ShopItem {
                sku: Sku::new(format!("{}{suffix}", 10_000 + number).as_bytes())
                    .expect("digits and a letter are a SKU"),
                name: Text::new(name.as_bytes()).expect("three words are a text"),
                price: Amount::new(usual_price(draw(PRICE_PENCE, random))).expect("a price in the table is an amount"),
            }
        })
        .collect()
}

/// The nearest price that ends in a 5, or in a 9 where that is nearer.
const fn usual_price(pence: u64) -> u64 {
    pence - pence % 10
        + match pence % 10 {
            0..=6 => 5,
            _ => 9,
        }
}

/// Who made each order, in time.
fn make_customers(order_count: usize, random: &mut Random) -> Vec<Customer> {
    let mut customers = Vec::with_capacity(order_count);
    let guest_count = (order_count as f64 * GUEST_SHARE).round() as usize;
    let guest = Customer::new(GUEST.as_bytes()).expect("the guest's name is a customer");
    customers.resize(guest_count.min(order_count), guest);
    let mut number = 12_346;
    while customers.len() < order_count {
        let order_count_left = order_count - customers.len();
        let customer = Customer::new(number.to_string().as_bytes()).expect("a number is a customer");
        let count = (draw(CUSTOMER_ORDERS, random) as usize).min(order_count_left);
        customers.extend(std::iter::repeat_n(customer, count));
        number += 1;
    }
    random.shuffle(&mut customers);
    customers
}

struct RowSource {
    popularity: Weighted,
    /// Which item has which rank, so that neither code nor price tells the popularity.
    item_of_rank: Vec<ItemIndex>,
    packs: Weighted,
}

impl RowSource {
    fn new(item_count: usize, random: &mut Random) -> Self {
        let mut item_of_rank: Vec<ItemIndex> = (0..item_count as ItemIndex).collect();
        random.shuffle(&mut item_of_rank);
        Self {
            popularity: Weighted::new((0..item_count).map(|rank| {
                let at = (rank as f64 + 0.5) / item_count as f64;
                (-(4.4 * at.powf(0.34) + 3.3 * at.powi(4))).exp()
            })),
            item_of_rank,
            packs: Weighted::new(PACKS.iter().map(|&(_, weight)| weight).chain([OTHER_PACKS_WEIGHT])),
        }
    }

    fn order(&self, random: &mut Random) -> Vec<ShopLine> {
        let row_count = draw_row_count(random);
        let mut lines: Vec<ShopLine> = Vec::with_capacity(row_count);
        let mut seen = HashSet::with_capacity(row_count);
        for _ in 0..row_count {
            let repeats = seen.len() == self.item_of_rank.len() || (!lines.is_empty() && random.unit() < REPEAT_SHARE);
            let item = if repeats {
                random.pick(&lines).item
            } else {
                self.unseen(&mut seen, random)
            };
            lines.push(ShopLine {
                item,
                quantity: Quantity::new(self.units(random)).expect("a pack is 1 to 4,800 units"),
            });
        }
        lines
    }

    /// An item not yet in the order; some item must be left.
    fn unseen(&self, seen: &mut HashSet<usize>, random: &mut Random) -> ItemIndex {
        let mut rank = self.popularity.draw(random);
        // A cart of most of a small shop would be drawn for ever: after some misses, take the next that is free.
        let mut misses = 0;
        while !seen.insert(rank) {
            misses += 1;
            rank = if misses < 64 {
                self.popularity.draw(random)
            } else {
                (rank + 1) % self.item_of_rank.len()
            };
        }
        self.item_of_rank[rank]
    }

    fn units(&self, random: &mut Random) -> u64 {
        let pack = self.packs.draw(random);
        PACKS
            .get(pack)
            .map_or_else(|| draw(OTHER_PACKS, random), |&(units, _)| units)
    }
}

/// Leaves out items that no order has.
fn without_unsold(shop: Shop) -> Shop {
    let sold = shop.units_sold(&shop.orders);
    let mut place = Vec::with_capacity(sold.len());
    let mut items = Vec::new();
    for (item, units) in shop.items.into_iter().zip(sold) {
        place.push(items.len() as ItemIndex);
        if units > 0 {
            items.push(item);
        }
    }
    let mut orders = shop.orders;
    for line in orders.iter_mut().flat_map(|order| &mut order.lines) {
        line.item = place[line.item as usize];
    }
    Shop { items, orders }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cartwright_protocol::CART_LINES_MAX;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn options(seed: u64) -> GeneratorOptions {
        GeneratorOptions {
            seed,
            order_count: 8_000,
            item_count: ITEM_COUNT_DEFAULT,
        }
    }

    fn near(what: &str, found: f64, measured: f64, tolerance: f64) {
        assert!(
            (found / measured - 1.0).abs() <= tolerance,
            "{what}: {found}, while the real shop has {measured}"
        );
    }

    fn median(mut values: Vec<u64>) -> f64 {
        values.sort_unstable();
        values[values.len() / 2] as f64
    }

    #[test]
    fn carts_have_the_size_of_real_ones() {
        for seed in 0..3 {
            let shop = generate(&options(seed));
            let sizes: Vec<u64> = shop.orders.iter().map(|order| order.lines.len() as u64).collect();
            let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
            near("mean rows", mean, 26.6, 0.08);
            let largest = *sizes.iter().max().unwrap();
            assert!((500..=1_114).contains(&largest), "{largest}");
            near(
                "share of single rows",
                sizes.iter().filter(|&&size| size == 1).count() as f64 / 8_000.0,
                0.081,
                0.3,
            );
            near("median rows", median(sizes), 15.0, 0.1);
            let totals = shop.totals();
            near(
                "rows that repeat an item",
                (totals.rows - totals.lines) as f64 / totals.rows as f64,
                0.0198,
                0.15,
            );
        }
    }

    #[test]
    fn items_are_as_popular_as_real_ones() {
        for seed in 0..3 {
            let shop = generate(&options(seed));
            let mut rows = vec![0u64; shop.items.len()];
            shop.orders
                .iter()
                .flat_map(|order| &order.lines)
                .for_each(|line| rows[line.item as usize] += 1);
            rows.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
            let total: u64 = rows.iter().sum();
            let share = |part: f64| {
                let best = (ITEM_COUNT_DEFAULT as f64 * part) as usize;
                rows[..best].iter().sum::<u64>() as f64 / total as f64
            };
            near("share of the best 1 %", share(0.01), 0.094, 0.15);
            near("share of the best 10 %", share(0.1), 0.446, 0.08);
            near("share of the best half", share(0.5), 0.92, 0.03);
            assert!(shop.items.len() > 3_600, "{} items sold", shop.items.len());
        }
    }

    #[test]
    fn quantities_and_prices_are_plausible() {
        let shop = generate(&options(7));
        let totals = shop.totals();
        near("units in a row", totals.units as f64 / totals.rows as f64, 10.2, 0.1);
        let lines = || shop.orders.iter().flat_map(|order| &order.lines);
        let single = lines().filter(|line| line.quantity.units() == 1).count();
        near("share of single units", single as f64 / totals.rows as f64, 0.279, 0.03);
        let prices: Vec<u64> = shop.items.iter().map(|item| item.price.minor_units()).collect();
        assert!(prices.iter().all(|pence| (19..=180_000).contains(pence)));
        near("median price", median(prices), 246.0, 0.15);
    }

    #[test]
    fn customers_come_back_and_some_are_guests() {
        let shop = generate(&options(9));
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for order in &shop.orders {
            *counts.entry(order.customer.as_str()).or_default() += 1;
        }
        let guests = counts.remove(GUEST).unwrap();
        near("guests", guests as f64 / 8_000.0, 0.0715, 0.01);
        near(
            "orders a customer",
            (8_000 - guests) as f64 / counts.len() as f64,
            4.27,
            0.12,
        );
        let once = counts.values().filter(|&&count| count == 1).count() as f64 / counts.len() as f64;
        near("customers who came once", once, 0.344, 0.12);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_options_give_a_playable_shop_and_the_same_one_again(
            seed: u64, order_count in 1usize..60, item_count in 1usize..200,
        ) {
            let options = GeneratorOptions { seed, order_count, item_count };
            let shop = generate(&options);
            prop_assert_eq!(shop.orders.len(), order_count);
            prop_assert!(shop.units_sold(&shop.orders).iter().all(|&units| units > 0));
            prop_assert!(shop.orders.iter().all(|order| (1..=CART_LINES_MAX).contains(&order.lines.len())));
            let keys: HashSet<_> = shop.orders.iter().map(|order| &order.key).collect();
            prop_assert_eq!(keys.len(), order_count);
            let skus: HashSet<_> = shop.items.iter().map(|item| &item.sku).collect();
            prop_assert_eq!(skus.len(), shop.items.len());
            prop_assert_eq!(generate(&options), shop);
        }
    }
}
