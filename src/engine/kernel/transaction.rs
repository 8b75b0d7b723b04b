//! The ordered two-phase commit: a transaction's way up the shards and back.
//!
//! A transaction visits its item shards in ascending order; each checks and reserves its piece in one step. Then its
//! home, which has taken the order or key before and waits for nothing, decides. Effects are applied everywhere once
//! all records are safe. The home's own items are reserved in memory when their turn comes, and logged with the
//! decision: there is one record a shard.

mod piece;

use std::ops::Range;

use cartwright_protocol::{Currency, Error, Reply};

use crate::engine::books::shop::inventory::{StockChange, StockLine};
use crate::engine::books::shop::orders::OrderChange;
use crate::engine::kernel::ids::{LogPosition, ShardId, TransactionId};
use crate::engine::kernel::message::{ReplyTo, ShardMessage};
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::record::Record;
use crate::engine::kernel::request_keys::{KeptReply, KeyRecord, KeyUse};
use crate::engine::kernel::shard::{EXPIRY_RETRY_MS, Step};

pub use piece::{PieceLine, Verdict};

/// Why a transaction turns back, and what that reveals.
#[derive(Debug)]
pub struct Refusal {
    /// For the client.
    pub error: Error,
    /// The shard whose state explains it.
    pub shard: ShardId,
    /// The refusal may leave once that shard is safe up to here.
    pub reveals: LogPosition,
}

/// A transaction on its way.
#[derive(Debug)]
pub struct Transaction {
    /// Which.
    pub id: TransactionId,
    /// What it does to the stock of its lines.
    pub stock: StockChange,
    /// Its lines, ascending by shard: those of one shard are its piece.
    pub lines: Vec<PieceLine>,
    /// The first line that is not reserved yet.
    next: usize,
    /// Lines reserved at the home, in memory, and their ticket.
    reserved_at_home: Option<(Range<usize>, u64)>,
    /// Where the other participants' `Prepared` records are.
    prepared: Vec<(ShardId, LogPosition)>,
    /// The currency of the lines so far.
    pub currency: Option<Currency>,
    refusal: Option<Box<Refusal>>,
}

impl Transaction {
    /// A transaction at its start.
    pub fn new(id: TransactionId, stock: StockChange, mut lines: Vec<PieceLine>) -> Self {
        lines.sort_by_key(|line| line.shard);
        Self {
            id,
            stock,
            lines,
            next: 0,
            reserved_at_home: None,
            prepared: Vec::new(),
            currency: None,
            refusal: None,
        }
    }

    /// The lines of the shard that is to prepare next.
    fn piece(&self) -> Range<usize> {
        let shard = self.lines[self.next].shard;
        let length = self.lines[self.next..]
            .iter()
            .take_while(|line| line.shard == shard)
            .count();
        self.next..self.next + length
    }

    fn is_at_its_end(&self) -> bool {
        self.refusal.is_some() || self.next == self.lines.len()
    }
}

/// What a transaction at its home is for.
#[derive(Debug)]
pub enum Purpose {
    /// `CHECKOUT`.
    Checkout {
        /// Who buys.
        customer: cartwright_protocol::Customer,
        /// For how long it is held.
        hold_ms: Option<u32>,
    },
    /// A change of the state of an order, which is locked meanwhile.
    OrderChange {
        /// The order.
        id: cartwright_protocol::OrderId,
        /// Where it is.
        from: cartwright_protocol::OrderState,
        /// Where it goes.
        to: cartwright_protocol::OrderState,
    },
}

/// A transaction that this shard coordinates.
#[derive(Debug)]
pub struct InFlight {
    /// Who asked; nobody for an expiry.
    pub reply_to: Option<ReplyTo>,
    /// The key it came with.
    pub key: Option<KeyUse>,
    /// What it is for.
    pub purpose: Purpose,
}

impl InFlight {
    /// Whether it ends a held order whose time is over.
    const fn is_expiry(&self) -> bool {
        matches!(
            self.purpose,
            Purpose::OrderChange {
                to: cartwright_protocol::OrderState::Expired,
                ..
            }
        )
    }
}

/// What the home does once the records of others are safe.
#[derive(Debug)]
pub struct Awaiting {
    needs: Vec<(ShardId, LogPosition)>,
    transaction: TransactionId,
    then: Then,
}

#[derive(Debug)]
enum Then {
    Commit {
        participants: Vec<ShardId>,
        reply: KeptReply,
        ticket: Option<u64>,
    },
    Refuse(Error),
}

impl Step<'_> {
    /// Takes on a transaction for which all is known but the items' part.
    pub fn begin_transaction(&mut self, in_flight: InFlight, stock: StockChange, lines: Vec<PieceLine>) {
        let id = self.shard.next_transaction_id();
        if let Some(key) = &in_flight.key {
            self.shard.keys_in_flight.begin(key);
        }
        self.shard.in_flight.insert(id.sequence, in_flight);
        self.forward(Box::new(Transaction::new(id, stock, lines)));
    }

    /// Sends the transaction to where it goes next, which may be here.
    pub fn forward(&mut self, transaction: Box<Transaction>) {
        let to = if transaction.is_at_its_end() {
            transaction.id.home
        } else {
            transaction.lines[transaction.next].shard
        };
        if to == self.shard.id {
            self.on_transaction(transaction);
        } else {
            self.output.messages.push((to, ShardMessage::Transaction(transaction)));
        }
    }

    /// A transaction arrived.
    pub fn on_transaction(&mut self, mut transaction: Box<Transaction>) {
        if !transaction.is_at_its_end() {
            self.prepare(transaction, None);
        } else if let Some(refusal) = transaction.refusal.take() {
            self.turn_back(*transaction, *refusal);
        } else {
            self.decide(transaction);
        }
    }

    fn refuse_transaction(&mut self, mut transaction: Box<Transaction>, error: Error, reveals: LogPosition) {
        transaction.refusal = Some(Box::new(Refusal {
            error,
            shard: self.shard.id,
            reveals,
        }));
        self.forward(transaction);
    }

    /// All pieces are reserved: the home decides. A transaction whose items all turned out to be here is one record.
    fn decide(&mut self, mut transaction: Box<Transaction>) {
        // What the home reserved in memory is reserved again by the record's own application.
        let reserved = self.take_back_reservation(&mut transaction);
        let prepared = transaction.prepared.clone();
        let here = reserved.as_ref().map_or_else(Vec::new, |(_, lines)| lines.clone());
        let decided = self
            .decided_change(&mut transaction, here)
            .and_then(|(change, key, reply)| {
                let record = if prepared.is_empty() {
                    Record::OrderChanged { change, key }
                } else {
                    Record::Decided {
                        transaction: transaction.id,
                        prepared: prepared.clone(),
                        change,
                        key,
                    }
                };
                self.append_if_room(record)
                    .map(|(position, lines)| (position, lines, reply))
            });
        match decided {
            Err(error) => {
                self.give_up_reservation(reserved);
                let refusal = Refusal {
                    error,
                    shard: self.shard.id,
                    reveals: LogPosition::ZERO,
                };
                self.turn_back(*transaction, refusal);
            }
            Ok((position, _, reply)) if prepared.is_empty() => {
                self.give_up_reservation(reserved);
                self.finish(transaction.id, &reply, position);
            }
            Ok((position, _, reply)) => {
                let participants = prepared.iter().map(|&(shard, _)| shard).collect();
                let mut needs = prepared;
                needs.push((self.shard.id, position));
                let then = Then::Commit {
                    participants,
                    reply,
                    ticket: reserved.map(|(ticket, _)| ticket),
                };
                self.shard.awaiting.push_back(Awaiting {
                    needs,
                    transaction: transaction.id,
                    then,
                });
                self.resolve_awaiting();
            }
        }
    }

    /// The change that a transaction amounts to, its key, and what is answered. Uses up the transaction's lines;
    /// `here` are those reserved at the home.
    fn decided_change(
        &mut self,
        transaction: &mut Transaction,
        here: Vec<StockLine>,
    ) -> Result<(OrderChange, Option<KeyRecord>, KeptReply), Error> {
        let sequence = transaction.id.sequence;
        // Taken out for a moment, since making an order needs the whole shard.
        let in_flight = self.shard.in_flight.remove(&sequence);
        let in_flight = in_flight.expect("a home knows what it coordinates");
        let decided = self.change_of(&in_flight, transaction, here);
        self.shard.in_flight.insert(sequence, in_flight);
        decided
    }

    fn change_of(
        &mut self,
        in_flight: &InFlight,
        transaction: &mut Transaction,
        here: Vec<StockLine>,
    ) -> Result<(OrderChange, Option<KeyRecord>, KeptReply), Error> {
        match &in_flight.purpose {
            Purpose::Checkout { customer, hold_ms } => {
                self.check_limits(customer, &transaction.lines)?;
                let lines = std::mem::take(&mut transaction.lines);
                let currency = transaction.currency.expect("a prepared cart has a currency");
                let key = in_flight.key.as_ref().expect("a checkout has a key");
                let order = self.make_order(customer, *hold_ms, currency, lines, key)?;
                let receipt = order.receipt();
                Ok((OrderChange::Made(order), None, KeptReply::Receipt(receipt)))
            }
            &Purpose::OrderChange { id, from, to } => {
                let (at, reply) = (self.shard.now, KeptReply::State(to));
                let change = OrderChange::Moved {
                    id,
                    from,
                    to,
                    at,
                    lines: here,
                };
                let key = in_flight.key.clone().map(|key| key.answered(at, reply.clone()));
                Ok((change, key, reply))
            }
        }
    }

    /// Refuses once all that is decided here by now is durable: for a refusal that such decisions explain.
    pub fn refuse_behind_decisions(&mut self, reply_to: ReplyTo, key: Option<KeyUse>, purpose: Purpose, error: Error) {
        let transaction = self.shard.next_transaction_id();
        if let Some(key) = &key {
            self.shard.keys_in_flight.begin(key);
        }
        let in_flight = InFlight {
            reply_to: Some(reply_to),
            key,
            purpose,
        };
        self.shard.in_flight.insert(transaction.sequence, in_flight);
        let needs = vec![(self.shard.id, self.shard.end)];
        self.shard.awaiting.push_back(Awaiting {
            needs,
            transaction,
            then: Then::Refuse(error),
        });
        self.resolve_awaiting();
    }

    /// Gives back what the home holds in memory for this transaction; its ticket stays open.
    fn take_back_reservation(&mut self, transaction: &mut Transaction) -> Option<(u64, Vec<StockLine>)> {
        let (piece, ticket) = transaction.reserved_at_home.take()?;
        let lines: Vec<_> = transaction.lines[piece].iter().map(PieceLine::stock_line).collect();
        self.shard.state.settle(transaction.stock, &lines, false);
        Some((ticket, lines))
    }

    fn give_up_reservation(&mut self, reserved: Option<(u64, Vec<StockLine>)>) {
        if let Some((ticket, lines)) = reserved {
            self.shard.tickets.close(ticket);
            self.stock_moved(&lines);
        }
    }

    /// A no turns back: only those that prepared hear of it; the client hears once the no cannot be taken back.
    fn turn_back(&mut self, mut transaction: Transaction, refusal: Refusal) {
        let reserved = self.take_back_reservation(&mut transaction);
        self.give_up_reservation(reserved);
        let forgotten = usize::from(is_on(Mutation::ForgetAbort));
        let told = transaction.prepared.len().saturating_sub(forgotten);
        for &(shard, _) in &transaction.prepared[..told] {
            let message = ShardMessage::Resolved {
                transaction: transaction.id,
                committed: false,
            };
            self.output.messages.push((shard, message));
        }
        let needs = vec![(refusal.shard, refusal.reveals)];
        let then = Then::Refuse(refusal.error);
        self.shard.awaiting.push_back(Awaiting {
            needs,
            transaction: transaction.id,
            then,
        });
        self.resolve_awaiting();
    }

    /// Ends, in order, what waited for records that are safe by now.
    pub fn resolve_awaiting(&mut self) {
        // A commit can start other work here, which can come back to this place: the outermost call does it all.
        if std::mem::replace(&mut self.shard.resolving, true) {
            return;
        }
        while let Some(first) = self.shard.awaiting.front() {
            if first
                .needs
                .iter()
                .filter(|(shard, _)| *shard == self.shard.id || !is_on(Mutation::CommitWithoutPeers))
                .any(|&(shard, position)| self.shard.safe[shard.index()] < position)
            {
                break;
            }
            let Awaiting { transaction, then, .. } = self.shard.awaiting.pop_front().expect("looked at above");
            match then {
                Then::Commit {
                    participants,
                    reply,
                    ticket,
                } => {
                    let lines = self.append(Record::Committed { transaction }).1.unwrap_or_default();
                    if let Some(ticket) = ticket {
                        self.shard.tickets.close(ticket);
                    }
                    for shard in participants {
                        let message = ShardMessage::Resolved {
                            transaction,
                            committed: true,
                        };
                        self.output.messages.push((shard, message));
                    }
                    self.finish(transaction, &reply, LogPosition::ZERO);
                    self.stock_moved(&lines);
                }
                Then::Refuse(error) => {
                    let in_flight = self.shard.in_flight.remove(&transaction.sequence);
                    let in_flight = in_flight.expect("a home knows what it coordinates");
                    if in_flight.is_expiry() {
                        // Those who wait for the order would try again at once, and so for ever.
                        self.shard.expiry_retry_at = self.shard.now.plus_ms(EXPIRY_RETRY_MS);
                    }
                    let key = in_flight.key.clone();
                    let (reply, after) = self.refuse(in_flight.key, error, LogPosition::ZERO);
                    self.end(in_flight.reply_to, key.as_ref(), &reply, after, &in_flight.purpose);
                }
            }
        }
        self.shard.resolving = false;
    }

    /// The home tells that a transaction prepared here is over.
    pub fn on_resolved(&mut self, transaction: TransactionId, committed: bool) {
        let record = if committed {
            Record::Committed { transaction }
        } else {
            Record::Aborted { transaction }
        };
        let lines = self.append(record).1.unwrap_or_default();
        let ticket = self
            .shard
            .participating
            .remove(&transaction)
            .expect("what is resolved was prepared here");
        self.shard.tickets.close(ticket);
        self.stock_moved(&lines);
    }

    /// A transaction succeeded: answers everybody who asked for it, and lets go of its order.
    fn finish(&mut self, transaction: TransactionId, reply: &KeptReply, after: LogPosition) {
        let in_flight = self
            .shard
            .in_flight
            .remove(&transaction.sequence)
            .expect("a home knows what it coordinates");
        self.end(
            in_flight.reply_to,
            in_flight.key.as_ref(),
            &reply.to_reply(),
            after,
            &in_flight.purpose,
        );
    }

    fn end(
        &mut self,
        reply_to: Option<ReplyTo>,
        key: Option<&KeyUse>,
        reply: &Reply,
        after: LogPosition,
        purpose: &Purpose,
    ) {
        self.answer_all(reply_to, key, reply, after);
        if let Purpose::OrderChange { id, .. } = *purpose {
            self.unlock_order(id);
        }
    }
}
