//! Plays a shop's orders: each one checkout, in the order of the file, over several connections.
//!
//! Called by replay and by the demo. What was acknowledged is kept in a [`Ledger`], so that playing again after a
//! crash sends only what has no answer, with the same keys.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cartwright_protocol::client::ClientError;
use cartwright_protocol::{Error, Receipt, Reply};
use hdrhistogram::Histogram;

use crate::address::Address;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::shop::{Shop, ShopOrder, Totals};

/// Longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_mins(10);

/// How the server answered a checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Made.
    Made(Receipt),
    /// Not made.
    Refused(Error),
}

/// What is known of each order of a shop.
#[derive(Debug)]
pub struct Ledger {
    outcomes: Vec<Option<Outcome>>,
    /// Microseconds from sending to the reply.
    latency: Histogram<u64>,
    busy_count: u64,
    elapsed: Duration,
}

impl Ledger {
    /// Nothing is known yet.
    pub fn new(shop: &Shop) -> Self {
        Self {
            outcomes: vec![None; shop.orders.len()],
            latency: latency_histogram(),
            busy_count: 0,
            elapsed: Duration::ZERO,
        }
    }

    /// Every order that was made, with what the server said.
    pub fn made<'a>(&'a self, shop: &'a Shop) -> impl Iterator<Item = (&'a ShopOrder, &'a Receipt)> {
        shop.orders
            .iter()
            .zip(&self.outcomes)
            .filter_map(|(order, outcome)| match outcome {
                Some(Outcome::Made(receipt)) => Some((order, receipt)),
                _ => None,
            })
    }

    /// Every order that was refused, and why.
    pub fn refused<'a>(&'a self, shop: &'a Shop) -> impl Iterator<Item = (&'a ShopOrder, &'a Error)> {
        shop.orders
            .iter()
            .zip(&self.outcomes)
            .filter_map(|(order, outcome)| match outcome {
                Some(Outcome::Refused(error)) => Some((order, error)),
                _ => None,
            })
    }

    /// How many orders have no answer.
    pub fn unanswered_count(&self) -> u64 {
        self.outcomes.iter().filter(|outcome| outcome.is_none()).count() as u64
    }

    /// The sums over the orders that were made.
    pub fn totals(&self, shop: &Shop) -> Totals {
        let mut totals = Totals::default();
        for (order, _) in self.made(shop) {
            totals += shop.order_totals(order);
        }
        totals
    }

    /// Latencies in microseconds, of everything answered.
    pub const fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// How many times the server was too busy.
    pub const fn busy_count(&self) -> u64 {
        self.busy_count
    }

    /// For how long orders were played.
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3).expect("three digits up to ten minutes are allowed")
}

/// Over which connections to play.
#[derive(Clone, Debug)]
pub struct PlayOptions {
    /// Where the server listens.
    pub address: Address,
    /// How many connections.
    pub connection_count: usize,
    /// How many requests are in flight on each.
    pub pipeline_depth: usize,
}

/// What one connection saw.
struct Part {
    outcomes: Vec<(usize, Outcome)>,
    latency: Histogram<u64>,
    busy_count: u64,
    ended: Result<(), ClientError>,
}

/// Plays every order that has no answer yet, until all have one, `stop` is true, or the server is gone: then the
/// connection's error is returned, and what it did not answer stays open in the ledger.
pub fn play(
    shop: &Shop,
    ledger: &mut Ledger,
    options: &PlayOptions,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<(), ClientError> {
    let open: Vec<usize> = (0..shop.orders.len())
        .filter(|&place| ledger.outcomes[place].is_none())
        .collect();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let parts: Vec<Part> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.connection_count.max(1))
            .map(|_| scope.spawn(|| play_part(shop, &open, &next, options, progress, stop)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a playing thread does not panic"))
            .collect()
    });
    ledger.elapsed += began.elapsed();
    let mut ended = Ok(());
    for part in parts {
        for (place, outcome) in part.outcomes {
            ledger.outcomes[place] = Some(outcome);
        }
        ledger
            .latency
            .add(part.latency)
            .expect("all histograms have the same range");
        ledger.busy_count += part.busy_count;
        ended = ended.and(part.ended);
    }
    ended
}

fn play_part(
    shop: &Shop,
    open: &[usize],
    next: &AtomicUsize,
    options: &PlayOptions,
    progress: &Progress,
    stop: &AtomicBool,
) -> Part {
    let mut part = Part {
        outcomes: Vec::new(),
        latency: latency_histogram(),
        busy_count: 0,
        ended: Ok(()),
    };
    let mut pipeline = match Pipeline::connect(&options.address, options.pipeline_depth) {
        Ok(pipeline) => pipeline,
        Err(error) => {
            part.ended = Err(error);
            return part;
        }
    };
    let (outcomes, latency) = (&mut part.outcomes, &mut part.latency);
    part.ended = pipeline.run(
        stop,
        || open.get(next.fetch_add(1, Ordering::Relaxed)).copied(),
        |&place| shop.checkout(&shop.orders[place]),
        |place, reply, took| {
            latency.saturating_record(took.as_micros() as u64);
            outcomes.push((place, outcome(reply)));
            progress.advance();
        },
    );
    part.busy_count = pipeline.busy_count();
    part
}

fn outcome(reply: Reply) -> Outcome {
    match reply {
        Reply::Receipt(receipt) => Outcome::Made(receipt),
        Reply::Error(error) => Outcome::Refused(error),
        other => Outcome::Refused(Error::malformed(format!("a checkout was answered with {other:?}"))),
    }
}
