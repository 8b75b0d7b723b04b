//! What a worker shows while it works, for whoever watches: counts at every moment, latencies now and then.
//!
//! Written by one worker, read by the conductor. Neither ever waits long for the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_mins(10);

/// Shortest latency that is told from shorter ones.
const LATENCY_MIN: Duration = Duration::from_nanos(100);

/// Latencies in nanoseconds, to three digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN.as_nanos() as u64, LATENCY_MAX.as_nanos() as u64, 3)
        .expect("three digits up to ten minutes are allowed")
}

/// See above.
#[derive(Debug)]
pub struct Live {
    answered: AtomicU64,
    refused: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            latency: Mutex::new(latency_histogram()),
        }
    }
}

impl Live {
    /// Shows the counts since the worker's start.
    pub fn show(&self, answered: u64, refused: u64) {
        self.answered.store(answered, Ordering::Relaxed);
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Adds what was recorded lately.
    pub fn add(&self, latency: &Histogram<u64>) {
        self.latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(latency)
            .expect("all latency histograms have the same range");
    }

    /// Requests answered since the worker's start.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Of these, refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Moves what was added since the last call to `into`.
    pub fn take(&self, into: &mut Histogram<u64>) {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        into.add(&*latency).expect("all latency histograms have the same range");
        latency.reset();
    }
}
