//! A shop's day: people browse, look at stock, check out, and now and then cancel.

use std::collections::VecDeque;
use std::sync::Arc;

use cartwright_protocol::Sku;

use super::checkout::{Checkouts, dialect};
use super::items::{item_sku, prepare_items};
use super::order::{Ask, put_ask};
use super::{Division, Workload, WorkloadError, needs_shop};
use crate::bench::answer::{Answer, Wire};
use crate::bench::cart_mix::CartMix;
use crate::bench::carts::Carts;
use crate::bench::source::{Source, Tag, Tally};
use crate::bench::target::Target;
use crate::random::{Random, Weighted};

const BROWSE: u8 = 0;
const STOCK: u8 = 1;
const CHECKOUT: u8 = 2;
const CANCEL: u8 = 3;

/// Of 100 requests, how many of each class: about ten looks for each purchase, and one purchase in fifteen regretted.
const SHARES: [f64; 4] = [60.0, 24.0, 15.0, 1.0];

/// How many requests' classes and items are drawn ahead; a prime, so that they meet the carts ever differently.
const DRAW_COUNT: usize = 65_537;

/// How many orders are remembered for cancelling.
const RECENT_MAX: usize = 4_096;

struct Day {
    checkouts: Checkouts,
    wire: Wire,
    items: Arc<Vec<Sku>>,
    draws: Arc<Vec<(u8, u32)>>,
    next_draw: usize,
    left: u64,
    recent: VecDeque<u64>,
}

impl Source for Day {
    fn next(&mut self, output: &mut Vec<u8>, request_id: u64) -> Option<Tag> {
        self.left = self.left.checked_sub(1)?;
        let (class, item) = self.draws[self.next_draw];
        self.next_draw = (self.next_draw + 1) % self.draws.len();
        let sku = &self.items[item as usize];
        let ask = match class {
            CHECKOUT => {
                let about = self.checkouts.checkout(output, request_id)?;
                return Some(Tag { class, about });
            }
            STOCK => Ask::Stock(sku),
            CANCEL => match self.recent.pop_front() {
                Some(id) => Ask::Cancel(id),
                None => Ask::Item(sku),
            },
            _ => Ask::Item(sku),
        };
        put_ask(output, self.wire, request_id, ask);
        let class = match ask {
            Ask::Item(_) => BROWSE,
            _ => class,
        };
        Some(Tag { class, about: 0 })
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) {
        if let (CHECKOUT, Answer::Done(id)) = (tag.class, answer) {
            self.checkouts.accepted(tag.about);
            if self.recent.len() < RECENT_MAX {
                self.recent.push_back(*id);
            }
        }
    }

    fn tally(&self) -> Tally {
        self.checkouts.tally()
    }
}

/// The workload.
#[derive(Debug)]
pub struct MixedWorkload {
    mix: CartMix,
}

impl MixedWorkload {
    /// Carts of this mix, and looks at the same items.
    pub const fn new(mix: CartMix) -> Self {
        Self { mix }
    }
}

impl Workload for MixedWorkload {
    fn title(&self) -> String {
        format!(
            "mixed: 60 % browse, 24 % stock, 15 % checkout, 1 % cancel; {}",
            self.mix
        )
    }

    fn classes(&self) -> &'static [&'static str] {
        &["browse", "stock", "checkout", "cancel"]
    }

    fn prepare(&mut self, target: &Target) -> Result<(), WorkloadError> {
        needs_shop("mixed", target)?;
        self.mix.shard_count = target.shard_count;
        prepare_items(target, self.mix.item_count)
    }

    fn sources(&mut self, target: &Target, division: &Division) -> Result<Vec<Box<dyn Source>>, WorkloadError> {
        let drawn = self.mix.draw()?;
        let shares = Weighted::new(SHARES);
        let mut random = Random::new(self.mix.seed);
        let draws = (0..DRAW_COUNT).map(|_| {
            // People look at what people buy.
            let cart = random.pick(&drawn).lines.clone();
            (shares.draw(&mut random) as u8, random.pick(&cart).0 as u32)
        });
        let draws: Arc<Vec<(u8, u32)>> = Arc::new(draws.collect());
        let items = Arc::new((0..self.mix.item_count).map(item_sku).collect::<Vec<_>>());
        let carts = Arc::new(Carts::encode(&drawn, 0, &dialect(target)?, division.run));
        let source = |worker| -> Box<dyn Source> {
            Box::new(Day {
                checkouts: Checkouts::new(Arc::clone(&carts), worker, division.worker_count, u64::MAX),
                wire: target.wire,
                items: Arc::clone(&items),
                draws: Arc::clone(&draws),
                next_draw: DRAW_COUNT * worker / division.worker_count,
                left: division.limit_of(worker),
                recent: VecDeque::new(),
            })
        };
        Ok((0..division.worker_count).map(source).collect())
    }
}
