//! Checkouts, one after the other: the benchmark's main workload.
//!
//! Each worker starts at another place of the carts that were drawn, and has keys of its own.

use std::sync::Arc;

use super::items::{load_script, prepare_items};
use super::{Division, Workload, WorkloadError};
use crate::bench::answer::{Answer, Wire};
use crate::bench::cart_mix::CartMix;
use crate::bench::carts::{Carts, Dialect};
use crate::bench::source::{Source, Tag, Tally};
use crate::bench::target::{Kind, Target};

/// The cart on a Redis: the usual script.
pub const CART_SCRIPT: &str = include_str!("../cart.lua");

/// Bits of a key's number that count a worker's requests; the worker's number is above.
const REQUEST_BITS: u32 = 40;

/// See above.
#[derive(Debug)]
pub struct Checkouts {
    carts: Arc<Carts>,
    next_cart: usize,
    next_number: u64,
    left: u64,
    tally: Tally,
}

impl Checkouts {
    /// The part of worker number `worker` of `worker_count`; `limit` requests at most.
    pub fn new(carts: Arc<Carts>, worker: usize, worker_count: usize, limit: u64) -> Self {
        Self {
            next_cart: carts.count() * worker / worker_count,
            next_number: (worker as u64) << REQUEST_BITS,
            carts,
            left: limit,
            tally: Tally::default(),
        }
    }

    /// Appends the next checkout, and gives its cart; `None` after the last.
    pub fn checkout(&mut self, output: &mut Vec<u8>, request_id: u64) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let cart = self.next_cart;
        self.carts.append(output, cart, self.next_number, request_id);
        self.next_number += 1;
        self.next_cart += 1;
        if self.next_cart == self.carts.count() {
            self.next_cart = 0;
        }
        Some(cart as u32)
    }

    /// Counts an accepted cart.
    pub fn accepted(&mut self, cart: u32) {
        let cart = cart as usize;
        self.tally += Tally {
            carts: 1,
            lines: u64::from(self.carts.line_count(cart)),
            units: self.carts.units(cart),
            items: 0,
        };
    }
}

impl Source for Checkouts {
    fn next(&mut self, output: &mut Vec<u8>, request_id: u64) -> Option<Tag> {
        let about = self.checkout(output, request_id)?;
        Some(Tag { class: 0, about })
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) {
        if matches!(answer, Answer::Done(_)) {
            self.accepted(tag.about);
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

/// How a checkout is said to this server.
pub fn dialect(target: &Target) -> Result<Dialect, WorkloadError> {
    Ok(match (target.kind, target.wire) {
        (Kind::Cartwright, Wire::Native) => Dialect::Native,
        (Kind::Cartwright, Wire::Resp) => Dialect::Resp,
        (Kind::Redis | Kind::Valkey, _) => Dialect::Script(load_script(target, CART_SCRIPT)?),
    })
}

/// The workload.
#[derive(Debug)]
pub struct CheckoutWorkload {
    mix: CartMix,
}

impl CheckoutWorkload {
    /// Carts of this mix; its shards are those of the server.
    pub const fn new(mix: CartMix) -> Self {
        Self { mix }
    }
}

impl Workload for CheckoutWorkload {
    fn title(&self) -> String {
        format!("checkout: {}", self.mix)
    }

    fn classes(&self) -> &'static [&'static str] {
        &["checkout"]
    }

    fn prepare(&mut self, target: &Target) -> Result<(), WorkloadError> {
        self.mix.shard_count = target.shard_count;
        prepare_items(target, self.mix.item_count)
    }

    fn sources(&mut self, target: &Target, division: &Division) -> Result<Vec<Box<dyn Source>>, WorkloadError> {
        let carts = Carts::encode(&self.mix.draw()?, self.mix.hold_ms, &dialect(target)?, division.run);
        let carts = Arc::new(carts);
        let source = |worker| -> Box<dyn Source> {
            Box::new(Checkouts::new(
                Arc::clone(&carts),
                worker,
                division.worker_count,
                division.limit_of(worker),
            ))
        };
        Ok((0..division.worker_count).map(source).collect())
    }
}
