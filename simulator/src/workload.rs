//! What clients ask for: carts, holds, confirmations, retries, restocks, reads; drawn request by request.
//!
//! Every change carries a mark of its request (its key, its reason, its name), so that a record can be led back to who
//! asked for it. Sees the shop as an outsider would, by the ids of orders.

use cartwright_protocol::{
    Amount, CartLine, Checkout, Currency, Customer, ItemGet, ItemPut, Key, Location, Operation, OrderGet, OrderId,
    OrderList, Quantity, Sku, StockAdd, StockGet, Text,
};

use crate::parameters::Parameters;
use crate::random::Random;
use crate::shop::{Shop, order_changes};

/// Requests with a key that may be sent again, at most.
const RETRIES_KEPT: usize = 64;

/// The clients' wishes. See the module's text.
#[derive(Debug)]
pub struct Workload {
    skus: Vec<Sku>,
    customers: Vec<Customer>,
    locations: Vec<Location>,
    next_mark: u64,
    with_keys: Vec<Operation>,
}

fn currency(random: &mut Random) -> Currency {
    let code: &[u8] = if random.below(40) == 0 { b"EUR" } else { b"GBP" };
    Currency::new(code).expect("three capital letters")
}

fn quantity(units: u64) -> Quantity {
    Quantity::new(units).expect("a small quantity")
}

/// One cart, as a client would send it.
pub fn cart(customer: &Customer, key: &str, hold_ms: Option<u32>, lines: Vec<CartLine>) -> Operation {
    Operation::Checkout(Box::new(Checkout {
        customer: customer.clone(),
        key: key.parse().expect("a mark is a key"),
        hold_ms,
        lines,
    }))
}

impl Workload {
    /// As large as the parameters say.
    pub fn new(parameters: &Parameters) -> Self {
        let named = |stem: &str, count: usize| (0..count).map(|number| format!("{stem}-{number}")).collect::<Vec<_>>();
        let parse = |name: &String| name.parse().expect("a short name");
        let mut locations = vec![Location::main()];
        // One sorts before `main`, the other behind it.
        let others = ["leeds", "york"].into_iter().take(parameters.locations - 1);
        locations.extend(others.map(|name| name.parse().expect("a short name")));
        Self {
            skus: named("sku", parameters.items).iter().map(parse).collect(),
            customers: named("customer", parameters.customers)
                .iter()
                .map(|name| name.parse().expect("a short name"))
                .collect(),
            locations,
            next_mark: 0,
            with_keys: Vec::new(),
        }
    }

    /// Every SKU that is ever named.
    pub fn skus(&self) -> &[Sku] {
        &self.skus
    }

    /// Every location that is ever named.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// Every customer.
    pub fn customers(&self) -> &[Customer] {
        &self.customers
    }

    /// A mark that was never used.
    pub fn mark(&mut self) -> String {
        self.next_mark += 1;
        format!("r{}", self.next_mark)
    }

    /// The catalogue and some stock: what a run begins with.
    pub fn opening(&mut self, random: &mut Random) -> Vec<Operation> {
        let mut opening = Vec::new();
        for sku in self.skus.clone() {
            opening.push(self.item_put(sku.clone(), random));
            for location in self.locations.clone() {
                let units = random.between(1, 60) as i64;
                opening.push(self.stock_add(sku.clone(), location, units, random));
            }
        }
        opening
    }

    fn sku(&self, parameters: &Parameters, random: &mut Random) -> Sku {
        if random.chance(parameters.hot_item) {
            self.skus[0].clone()
        } else {
            random.pick(&self.skus).clone()
        }
    }

    fn key(&mut self, per_mille: u32, random: &mut Random) -> Option<Key> {
        let mark = self.mark();
        random.chance(per_mille).then(|| mark.parse().expect("a mark is a key"))
    }

    fn item_put(&mut self, sku: Sku, random: &mut Random) -> Operation {
        let name = self.mark();
        let backorder = (random.below(3) == 0).then(|| quantity(random.between(1, 20)));
        Operation::ItemPut(Box::new(ItemPut {
            sku,
            price: Amount::new(random.between(1, 5000)).expect("a small price"),
            currency: currency(random),
            name: Text::new(name.as_bytes()).expect("a mark is a text"),
            limit: (random.below(6) == 0).then(|| quantity(random.between(1, 30))),
            backorder,
            key: self.key(300, random),
        }))
    }

    /// The same item without a limit for one customer.
    pub fn unlimited(&mut self, item: cartwright_protocol::ItemView) -> Operation {
        let name = self.mark();
        Operation::ItemPut(Box::new(ItemPut {
            sku: item.sku,
            price: item.price,
            currency: item.currency,
            name: Text::new(name.as_bytes()).expect("a mark is a text"),
            limit: None,
            backorder: Quantity::new(item.backorder.into()),
            key: None,
        }))
    }

    fn stock_add(&mut self, sku: Sku, location: Location, delta: i64, random: &mut Random) -> Operation {
        let reason = self.mark();
        let location = (!location.is_main() || random.below(2) == 0).then_some(location);
        Operation::StockAdd(Box::new(StockAdd {
            sku,
            delta,
            location,
            reason: Text::new(reason.as_bytes()).expect("a mark is a text"),
            key: self.key(300, random),
        }))
    }

    fn checkout(&mut self, holds: bool, parameters: &Parameters, random: &mut Random) -> Operation {
        let count = random.between(1, parameters.cart_lines_max);
        let mut lines: Vec<_> = (0..count)
            .map(|_| CartLine {
                sku: self.sku(parameters, random),
                quantity: quantity(random.between(1, parameters.line_units_max)),
            })
            .collect();
        if random.below(60) == 0 {
            lines[0].sku = "no-such-sku".parse().expect("a short name");
        }
        random.shuffle(&mut lines);
        let hold_ms = holds.then(|| random.between(1, parameters.hold_ms_max) as u32);
        let (customer, key) = (random.pick(&self.customers).clone(), self.mark());
        cart(&customer, &key, hold_ms, lines)
    }

    fn order(shop: &Shop, random: &mut Random) -> Option<OrderId> {
        let recent = random.between(1, 12).min(shop.orders.len() as u64);
        let index = recent.checked_sub(1)? as usize;
        // Ids of several slots: the largest are not the latest, but every order has its turn.
        if random.below(2) == 0 {
            shop.orders.keys().nth(random.index(shop.orders.len())).copied()
        } else {
            shop.orders.keys().rev().nth(index).copied()
        }
    }

    fn read(&self, parameters: &Parameters, shop: &Shop, random: &mut Random) -> Operation {
        match random.below(8) {
            0 => Operation::ItemGet(ItemGet {
                sku: self.sku(parameters, random),
            }),
            1 | 2 => match Self::order(shop, random) {
                Some(id) => Operation::OrderGet(OrderGet { id }),
                None => Operation::OrderGet(OrderGet {
                    id: OrderId::new(self.customers[0].slot(), 1),
                }),
            },
            3 => Operation::OrderList(OrderList {
                customer: random.pick(&self.customers).clone(),
                before: Self::order(shop, random).filter(|_| random.below(2) == 0),
                count: random.between(1, 20) as u32,
            }),
            _ => Operation::StockGet(StockGet {
                sku: self.sku(parameters, random),
                location: (random.below(3) == 0).then(|| random.pick(&self.locations).clone()),
            }),
        }
    }

    fn fresh(&mut self, parameters: &Parameters, shop: &Shop, random: &mut Random) -> Operation {
        let mix = parameters.mix;
        let weights = [
            mix.checkout,
            mix.hold,
            mix.confirm,
            mix.cancel,
            mix.restock,
            mix.shrink,
            mix.item_put,
            mix.read,
            mix.audit,
        ];
        let mut drawn = random.below(weights.iter().sum());
        let choice = weights.iter().position(|&weight| {
            let here = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            here
        });
        match choice.expect("the weights add up") {
            0 => self.checkout(false, parameters, random),
            1 => self.checkout(true, parameters, random),
            change @ (2 | 3) => {
                let Some(id) = Self::order(shop, random) else {
                    return self.checkout(true, parameters, random);
                };
                order_changes::draw(change == 2, id, &self.mark(), random)
            }
            add @ (4 | 5) => {
                let units = random.between(1, 10) as i64;
                let (sku, location) = (self.sku(parameters, random), random.pick(&self.locations).clone());
                self.stock_add(sku, location, if add == 4 { units } else { -units }, random)
            }
            6 => {
                let sku = self.sku(parameters, random);
                self.item_put(sku, random)
            }
            7 => self.read(parameters, shop, random),
            _ => Operation::Audit,
        }
    }

    /// The next request of some client.
    pub fn next(&mut self, parameters: &Parameters, shop: &Shop, random: &mut Random) -> Operation {
        if !self.with_keys.is_empty() && random.chance(parameters.retry) {
            let again = random.pick(&self.with_keys).clone();
            return if random.below(5) == 0 {
                Self::other_body(again)
            } else {
                again
            };
        }
        let fresh = self.fresh(parameters, shop, random);
        if crate::checker::key_of(&fresh).is_some() {
            if self.with_keys.len() == RETRIES_KEPT {
                let oldest = random.index(RETRIES_KEPT);
                self.with_keys.swap_remove(oldest);
            }
            self.with_keys.push(fresh.clone());
        }
        fresh
    }

    /// The same key with another request.
    fn other_body(operation: Operation) -> Operation {
        match operation {
            Operation::Checkout(mut checkout) => {
                checkout.lines[0].quantity = quantity(u64::from(checkout.lines[0].quantity.units()) + 1);
                Operation::Checkout(checkout)
            }
            Operation::StockAdd(mut add) => {
                add.delta += if add.delta > 0 { 1 } else { -1 };
                Operation::StockAdd(add)
            }
            other => order_changes::with_other_body(other),
        }
    }
}
