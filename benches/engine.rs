//! What a cart costs in the engine alone: check, record, apply; on one shard, and over two.
//!
//! `cargo bench --bench engine`. No network, no file: the log is a buffer that is thrown away.

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;

use cartwright::engine::{
    EngineLimits, Input, LogPosition, Output, ReplyTo, Request, Response, Shard, ShardId, ShardMap, Timestamp, recovery,
};
use cartwright_protocol::{
    Amount, CartLine, Checkout, Currency, Customer, ItemPut, Operation, Quantity, Reply, Sku, StockAdd, Text,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use support::ForgetfulLog;

const LINES: usize = 10;
const ITEMS: usize = 10_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Cluster {
    map: ShardMap,
    shards: Vec<Shard>,
    logs: Vec<ForgetfulLog>,
    output: Output,
    carts: u64,
    replies: u64,
}

impl Cluster {
    fn new(shard_count: u16) -> Self {
        let map = ShardMap::new(shard_count);
        let mut shards: Vec<_> = map
            .shards()
            .map(|id| Shard::new(id, map, EngineLimits::default()))
            .collect();
        let mut logs: Vec<_> = shards.iter().map(|_| ForgetfulLog::default()).collect();
        recovery::start(&mut shards, 1, &mut logs);
        let mut cluster = Self {
            map,
            shards,
            logs,
            output: Output::default(),
            carts: 0,
            replies: 0,
        };
        for number in 0..ITEMS {
            let put = ItemPut {
                sku: sku(number),
                price: Amount::new(250).expect("a price"),
                currency: Currency::new(b"GBP").expect("a currency"),
                name: Text::default(),
                limit: None,
                backorder: None,
                key: None,
            };
            cluster.call(Operation::ItemPut(Box::new(put)));
            let add = StockAdd {
                sku: sku(number),
                delta: 1_000_000_000,
                location: None,
                reason: Text::default(),
                key: None,
            };
            cluster.call(Operation::StockAdd(Box::new(add)));
        }
        cluster
    }

    fn call(&mut self, operation: Operation) {
        let home = self.map.shard_of(operation.home().expect("an operation with a home"));
        let reply_to = ReplyTo {
            shard: home,
            connection: 0,
            generation: 0,
            sequence: 0,
        };
        let mut inputs = VecDeque::from([(home, Input::Request(Request { reply_to, operation }))]);
        loop {
            while let Some((shard, input)) = inputs.pop_front() {
                let space = Input::LogSpace {
                    bytes: u64::MAX,
                    piece_bytes: u64::MAX,
                    blocked: None,
                };
                let (engine, log) = (&mut self.shards[shard.index()], &mut self.logs[shard.index()]);
                engine.step(Timestamp(1), space, log, &mut self.output);
                engine.step(Timestamp(1), input, log, &mut self.output);
                for (to, message) in self.output.messages.drain(..) {
                    inputs.push_back((to, Input::Message { from: shard, message }));
                }
            }
            let replies = self.output.replies.len() as u64;
            for (_, reply, _) in self.output.replies.drain(..) {
                assert!(
                    !matches!(black_box(reply), Response::Shop(Reply::Error(_))),
                    "every request succeeds"
                );
            }
            self.replies += replies;
            if replies > 0 && self.shards.iter().all(|shard| shard.transactions_in_flight() == 0) {
                return;
            }
            let safe: Vec<_> = self
                .map
                .shards()
                .map(|shard| (shard, LogPosition(self.logs[shard.index()].end)))
                .collect();
            for reader in self.map.shards() {
                inputs.extend(
                    safe.iter()
                        .map(|&(shard, position)| (reader, Input::Safe { shard, position })),
                );
            }
        }
    }

    /// The next cart: ten items of the shop, each on the shard that is wanted for its line.
    fn cart(&mut self, shard_of_line: impl Fn(usize) -> ShardId) -> Operation {
        self.carts += 1;
        let mut next = (self.carts as usize * 7919) % ITEMS;
        let mut lines = Vec::with_capacity(LINES);
        while lines.len() < LINES {
            next = (next + 1) % ITEMS;
            let sku = sku(next);
            if self.map.shard_of(sku.slot()) == shard_of_line(lines.len()) {
                lines.push(CartLine {
                    sku,
                    quantity: Quantity::new(1).expect("a quantity"),
                });
            }
        }
        let customer: Customer = format!("{{home}}{}", self.carts % 1000).parse().expect("a customer");
        let key = format!("key-{}", self.carts).parse().expect("a key");
        Operation::Checkout(Box::new(Checkout {
            customer,
            key,
            hold_ms: None,
            lines,
        }))
    }
}

fn sku(number: usize) -> Sku {
    format!("{number:06}").parse().expect("a SKU")
}

fn home() -> Customer {
    "{home}".parse().expect("a customer")
}

fn carts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ten-line cart");
    group.throughput(Throughput::Elements(1));
    let mut bench = |name: &str, shard_count: u16, shard_of_line: &dyn Fn(ShardId, usize) -> ShardId| {
        let cluster = RefCell::new(Cluster::new(shard_count));
        let here = cluster.borrow().map.shard_of(home().slot());
        group.bench_function(name, |bencher| {
            let cart = || cluster.borrow_mut().cart(|line| shard_of_line(here, line));
            bencher.iter_batched(cart, |cart| cluster.borrow_mut().call(cart), BatchSize::SmallInput);
        });
    };
    bench("on one shard", 1, &|here, _| here);
    bench("on the home of two shards", 2, &|here, _| here);
    bench("over two shards", 2, &|here, line| {
        if line % 2 == 0 { here } else { ShardId(1 - here.0) }
    });
    group.finish();
}

criterion_group!(benches, carts);
criterion_main!(benches);
