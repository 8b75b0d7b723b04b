//! What a transaction over several shards is for: its pieces, by book, and what becomes of it in the end.
//!
//! The kernel's coordinator carries these and looks into none of them.

use std::sync::Arc;

use cartwright_protocol::{Customer, Error, ErrorCode, OrderId, OrderState, Reply};
use smallvec::SmallVec;

use super::entries::collected::Collected;
use super::entries::{Answer, KeyRequest, ShardEffects};
use super::shop::orders::Decided;
use super::shop::piece::StockPiece;
use super::together::TogetherPurpose;
use crate::engine::kernel::ids::LogPosition;
use crate::engine::kernel::request_keys::KeptReply;
use crate::engine::kernel::shard::{EXPIRY_RETRY_MS, Step};
use crate::engine::kernel::transaction::{InFlight, Refusal};

/// What a transaction asks of one shard.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Units of items.
    pub stock: SmallVec<[StockPiece; 1]>,
    /// Keys: those of the request that are on that shard.
    pub entries: Option<Arc<KeyRequest>>,
}

impl Pieces {
    /// Units of items and nothing else.
    pub fn of_stock(piece: StockPiece) -> Self {
        let mut stock = SmallVec::new();
        stock.push(piece);
        Self { stock, entries: None }
    }

    /// Keys and nothing else.
    pub fn of_entries(request: Arc<KeyRequest>) -> Self {
        Self {
            stock: SmallVec::new(),
            entries: Some(request),
        }
    }
}

/// What the shards of a transaction found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What its keys hold.
    pub entries: Option<Box<Collected>>,
}

impl Findings {
    /// Adds another shard's. `draw` gives a random number, for what is drawn over all shards.
    pub fn add(&mut self, other: Self, draw: impl FnOnce() -> u64) {
        match (&mut self.entries, other.entries) {
            (_, None) => {}
            (Some(own), Some(other)) => own.merge(*other, draw()),
            (own, other) => *own = other,
        }
    }
}

/// What a transaction at its home is for.
#[derive(Debug)]
pub enum Purpose {
    /// `CHECKOUT`.
    Checkout {
        /// Who buys.
        customer: Customer,
        /// For how long it is held.
        hold_ms: Option<u32>,
    },
    /// A change of the state of an order, which is locked meanwhile.
    OrderChange {
        /// The order.
        id: OrderId,
        /// Where it is.
        from: OrderState,
        /// Where it goes.
        to: OrderState,
    },
    /// Commands on keys.
    Entries(Arc<KeyRequest>),
    /// Commands of the shop and commands on keys.
    Together(Box<TogetherPurpose>),
}

impl Purpose {
    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        match self {
            Self::Checkout { .. } | Self::OrderChange { .. } | Self::Together(_) => true,
            Self::Entries(request) => request.writes(),
        }
    }
}

/// What a transaction comes to.
#[derive(Debug)]
pub enum Outcome {
    /// The shop's answer, kept with the request's key.
    Kept(KeptReply),
    /// What the commands on keys answer.
    Answer(Answer),
    /// The shop's replies in a transaction over both.
    Together(Vec<Reply>),
    /// A refusal.
    Refused(Error),
}

impl Step<'_> {
    /// All parts are reserved: what is to be done to keys, by shard, where the transaction is about keys.
    pub fn run_transaction(&mut self, sequence: u64) -> Result<ShardEffects, Refusal> {
        let in_flight = self.shard.in_flight.get_mut(&sequence);
        let in_flight = in_flight.expect("a home knows what it coordinates");
        let request = match &in_flight.purpose {
            Purpose::Entries(request) => Some(request.clone()),
            Purpose::Together(together) => together.entries.clone(),
            Purpose::Checkout { .. } | Purpose::OrderChange { .. } => None,
        };
        let Some(request) = request else {
            return Ok(Vec::new());
        };
        let collected = in_flight.findings.entries.take();
        let mut collected = collected.expect("who has keys says what they hold");
        let (answer, effects) = self
            .run_collected(&request, &mut collected)
            .map_err(Refusal::by_limit)?;
        let in_flight = self.shard.in_flight.get_mut(&sequence);
        let in_flight = in_flight.expect("looked up above");
        let reveals = in_flight.shown();
        match &mut in_flight.purpose {
            Purpose::Together(together) => {
                together.is_outdated = answer == Answer::NilArray;
                together.answer = Some(answer);
                if together.is_outdated {
                    return Err(Refusal::by_states(
                        Error::new(ErrorCode::Err, "a watched key has changed"),
                        reveals,
                    ));
                }
            }
            _ => in_flight.answer(Outcome::Answer(answer)),
        }
        Ok(effects)
    }

    /// What a transaction comes to, all of whose parts are reserved: changes of orders, and what is answered.
    pub fn decision_of(&mut self, in_flight: &mut InFlight) -> Result<(Vec<Decided>, Outcome), Refusal> {
        if matches!(in_flight.purpose, Purpose::Together(_)) {
            return self.together_decision(in_flight);
        }
        if let Some(answer) = in_flight.take_answer() {
            return Ok((Vec::new(), answer));
        }
        let (decided, reply) = self.order_decision(in_flight)?;
        Ok((vec![decided], Outcome::Kept(reply)))
    }

    /// A transaction is over: answers everybody who asked for it, and lets go of what its book has locked.
    /// `after` is what the answer has to wait for.
    pub fn finish(&mut self, in_flight: InFlight, outcome: Outcome, after: LogPosition) {
        let InFlight {
            reply_to, key, purpose, ..
        } = in_flight;
        if let Purpose::Together(together) = purpose {
            let reply_to = reply_to.expect("a transaction over both is asked by somebody");
            return self.finish_together(reply_to, *together, outcome, after);
        }
        let (reply, after) = match (outcome, &purpose) {
            (Outcome::Answer(answer), _) => {
                let reply_to = reply_to.expect("commands on keys are asked by somebody");
                return self.answer_keys(reply_to, answer, after);
            }
            (Outcome::Refused(error), Purpose::Entries(_)) => {
                let reply_to = reply_to.expect("commands on keys are asked by somebody");
                return self.answer_keys(reply_to, super::entries::refusal(&error), after);
            }
            (Outcome::Kept(reply), _) => (reply.to_reply(), after),
            (Outcome::Together(_), _) => unreachable!("looked at above"),
            (
                Outcome::Refused(error),
                Purpose::OrderChange {
                    to: OrderState::Expired,
                    ..
                },
            ) => {
                // Those who wait for the order would try again at once, and so for ever.
                self.shard.books.shop.expiry_retry_at = self.shard.now.plus_ms(EXPIRY_RETRY_MS);
                (Reply::Error(error), after)
            }
            (Outcome::Refused(error), _) => self.refuse(key.clone(), error, after),
        };
        self.answer_all(reply_to, key.as_ref(), &reply, after);
        if let Purpose::OrderChange { id, .. } = purpose {
            self.unlock_order(id);
        }
    }
}
