//! Carts that are held first, and then confirmed, cancelled, or left to expire.
//!
//! What follows a hold is sent as soon as its receipt is there. After the run everything held must have come to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkout::{Checkouts, dialect};
use super::items::{held_units, prepare_items};
use super::order::{Ask, put_ask};
use super::{Division, Workload, WorkloadError, needs_shop};
use crate::bench::answer::{Answer, Wire};
use crate::bench::cart_mix::CartMix;
use crate::bench::carts::Carts;
use crate::bench::conductor::RunReport;
use crate::bench::source::{Source, Tag, Tally};
use crate::bench::target::Target;
use crate::random::Random;

const CHECKOUT: u8 = 0;
const CONFIRM: u8 = 1;
const CANCEL: u8 = 2;

/// How long after its time a hold may be seen to end at most.
const EXPIRY_TIMEOUT: Duration = Duration::from_mins(1);

/// How often that is looked at.
const EXPIRY_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What becomes of holds: shares of them, of which the sum is at most 1; the rest expires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcomes {
    /// Confirmed.
    pub confirm: f64,
    /// Cancelled.
    pub cancel: f64,
}

struct Holds {
    checkouts: Checkouts,
    wire: Wire,
    outcomes: Outcomes,
    random: Random,
    /// Orders, and what is to become of them.
    following: VecDeque<(u64, u8)>,
}

impl Source for Holds {
    fn next(&mut self, output: &mut Vec<u8>, request_id: u64) -> Option<Tag> {
        let Some((id, class)) = self.following.pop_front() else {
            let about = self.checkouts.checkout(output, request_id)?;
            return Some(Tag { class: CHECKOUT, about });
        };
        let ask = if class == CONFIRM {
            Ask::Confirm(id)
        } else {
            Ask::Cancel(id)
        };
        put_ask(output, self.wire, request_id, ask);
        Some(Tag { class, about: 0 })
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) {
        let (CHECKOUT, Answer::Done(id)) = (tag.class, answer) else {
            return;
        };
        self.checkouts.accepted(tag.about);
        let drawn = self.random.unit();
        if drawn < self.outcomes.confirm {
            self.following.push_back((*id, CONFIRM));
        } else if drawn < self.outcomes.confirm + self.outcomes.cancel {
            self.following.push_back((*id, CANCEL));
        }
    }

    fn tally(&self) -> Tally {
        self.checkouts.tally()
    }
}

/// The workload.
#[derive(Debug)]
pub struct HoldWorkload {
    mix: CartMix,
    outcomes: Outcomes,
}

impl HoldWorkload {
    /// Carts of this mix, which says for how long they are held.
    pub fn new(mix: CartMix, outcomes: Outcomes) -> Self {
        assert!(mix.hold_ms > 0, "a hold has a length");
        Self { mix, outcomes }
    }
}

impl Workload for HoldWorkload {
    fn title(&self) -> String {
        format!(
            "hold: {}, held for {} ms; {:.0} % confirmed, {:.0} % cancelled, the rest expire",
            self.mix,
            self.mix.hold_ms,
            self.outcomes.confirm * 100.0,
            self.outcomes.cancel * 100.0
        )
    }

    fn classes(&self) -> &'static [&'static str] {
        &["checkout", "confirm", "cancel"]
    }

    /// What expired before its confirmation came is refused with STATE.
    fn expected_refusals(&self) -> &'static [&'static str] {
        &["BUSY", "OUTOFSTOCK", "STATE"]
    }

    fn prepare(&mut self, target: &Target) -> Result<(), WorkloadError> {
        needs_shop("hold", target)?;
        self.mix.shard_count = target.shard_count;
        prepare_items(target, self.mix.item_count)
    }

    fn sources(&mut self, target: &Target, division: &Division) -> Result<Vec<Box<dyn Source>>, WorkloadError> {
        let carts = Carts::encode(&self.mix.draw()?, self.mix.hold_ms, &dialect(target)?, division.run);
        let carts = Arc::new(carts);
        let source = |worker| -> Box<dyn Source> {
            let limit = division.limit_of(worker);
            Box::new(Holds {
                checkouts: Checkouts::new(Arc::clone(&carts), worker, division.worker_count, limit),
                wire: target.wire,
                outcomes: self.outcomes,
                random: Random::new(self.mix.seed.wrapping_add(worker as u64)),
                following: VecDeque::new(),
            })
        };
        Ok((0..division.worker_count).map(source).collect())
    }

    fn check(&mut self, target: &Target, _report: &RunReport) -> Result<Vec<String>, WorkloadError> {
        let deadline = Instant::now() + Duration::from_millis(u64::from(self.mix.hold_ms)) + EXPIRY_TIMEOUT;
        loop {
            let held = held_units(target, self.mix.item_count)?;
            if held == 0 {
                return Ok(Vec::new());
            }
            if Instant::now() > deadline {
                return Ok(vec![format!(
                    "{held} units are still held {} s after the last hold should have ended",
                    EXPIRY_TIMEOUT.as_secs()
                )]);
            }
            std::thread::sleep(EXPIRY_POLL_INTERVAL);
        }
    }
}
