//! A transaction's part on its shard: reserved in one step, logged with all others of the step, and over when its home
//! says so.
//!
//! A part takes its keys first and its units then, here as on every shard: so those who wait for units hold keys, but
//! nobody who waits for keys holds units of the same shard.

use cartwright_protocol::Sku;

use crate::engine::books::entries::locks::Ticket;
use crate::engine::books::shop::piece::Verdict;
use crate::engine::books::{Findings, Pieces, StockPart};
use crate::engine::kernel::ids::{LogPosition, ShardId, TransactionId};
use crate::engine::kernel::limits::RECORD_BYTES_MAX;
use crate::engine::kernel::look_ahead::LOOK_AHEAD_MAX;
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::record::{PreparedTransaction, Record};
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::waiting::Waiting;

use super::Refusal;
use super::outbox::{Batch, Visit, VisitOutcome, Visited, Written};

/// What a transaction has of this shard. Volatile.
#[derive(Debug, Default)]
pub struct Participation {
    /// Its keys.
    pub(in crate::engine) keys: Option<Ticket>,
    /// Its place among the transactions that pend on units.
    pub(in crate::engine) stock_ticket: Option<u64>,
    /// What it has reserved and not logged.
    pub(in crate::engine) reserved: Vec<StockPart>,
    /// Whether it is in the log, and not over.
    pub(in crate::engine) is_logged: bool,
}

impl Participation {
    /// Whether an audit has to wait for its end: reads of keys come and go.
    pub fn may_change(&self) -> bool {
        self.is_logged || self.stock_ticket.is_some()
    }
}

/// How an attempt to reserve a part ends.
#[derive(Debug)]
pub enum Reservation {
    /// It is reserved.
    Reserved(Participation, Findings, LogPosition),
    /// It waits, and goes on by itself.
    Waits,
    /// It would have to wait, and must not.
    Contended(Visit),
    /// It cannot be had.
    Refused(Visit, Refusal),
}

/// Parts that are reserved and go into the log together, with what is said once they have a position.
#[derive(Debug, Default)]
pub struct Preparing {
    transactions: Vec<PreparedTransaction>,
    /// What the homes are told of them, in the same order.
    answers: Vec<Answer>,
    bytes: usize,
}

#[derive(Debug)]
enum Answer {
    Visited(Pieces, LogPosition, Findings),
    Written,
}

impl Preparing {
    /// Log bytes that they take together, at most.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Step<'_> {
    /// Another shard says something about transactions.
    pub fn on_batch(&mut self, from: ShardId, batch: Batch) {
        let Batch {
            outcomes,
            visits,
            visited,
            writes,
            written,
        } = batch;
        self.on_outcomes(&outcomes);
        for (transaction, effects) in writes {
            self.on_write(transaction, effects);
        }
        let mut visits = visits.into_iter();
        while !visits.as_slice().is_empty() {
            let near = visits.as_slice().iter().take(LOOK_AHEAD_MAX);
            self.shard.state.look_ahead_to_visits(near.map(|visit| &visit.pieces));
            for visit in visits.by_ref().take(LOOK_AHEAD_MAX) {
                self.visit(visit, None, None);
            }
        }
        for Written { transaction, written } in written {
            self.on_written(from, transaction, written);
        }
        for one in visited {
            self.on_visited(from, one);
        }
    }

    /// Reserves a part and tells its home, now or once it need not wait any more. `front_of` is the item whose queue it
    /// has reached the front of, `keys` are what it has waited for.
    pub fn visit(&mut self, visit: Visit, front_of: Option<&Sku>, keys: Option<Ticket>) {
        let transaction = visit.transaction;
        let mut pieces = Pieces::default();
        let outcome = match self.reserve(visit, &mut pieces, front_of, keys) {
            Reservation::Waits => return,
            Reservation::Contended(visit) => {
                pieces = visit.pieces;
                VisitOutcome::Contended
            }
            Reservation::Refused(visit, refusal) => {
                pieces = visit.pieces;
                VisitOutcome::Refused(refusal)
            }
            Reservation::Reserved(participation, findings, shows) => {
                let is_here = transaction.home == self.shard.id;
                let logs_now = !is_here && pieces.entries.is_none();
                if logs_now {
                    return self.prepare(transaction, participation, pieces, shows, findings);
                }
                if is_here {
                    let in_flight = self.shard.in_flight.get_mut(&transaction.sequence);
                    in_flight.expect("a home knows what it coordinates").own = Some(participation);
                } else {
                    self.shard.participating.insert(transaction, participation);
                    if is_on(Mutation::ForgetKeyLocks)
                        && let Some(participation) = self.shard.participating.get_mut(&transaction)
                        && let Some(ticket) = participation.keys.take()
                    {
                        self.shard.books.entries.locks.release(ticket);
                    }
                }
                VisitOutcome::Reserved {
                    logged: LogPosition::ZERO,
                    shows,
                    findings,
                }
            }
        };
        self.tell_visited(Visited {
            transaction,
            pieces,
            outcome,
        });
    }

    fn tell_visited(&mut self, visited: Visited) {
        let home = visited.transaction.home;
        if home == self.shard.id {
            self.on_visited(home, visited);
        } else {
            self.shard.outbox.to(home).visited.push(visited);
        }
    }

    /// Checks and reserves a part in one go, or refuses it, or waits. The pieces come back in `pieces` where it is
    /// reserved.
    fn reserve(
        &mut self,
        mut visit: Visit,
        pieces: &mut Pieces,
        front_of: Option<&Sku>,
        keys: Option<Ticket>,
    ) -> Reservation {
        let mut participation = Participation {
            keys,
            ..Participation::default()
        };
        if participation.keys.is_none()
            && let Some(request) = &visit.pieces.entries
        {
            if visit.waits
                && let Err(error) = self.may_wait_for_keys()
            {
                return Reservation::Refused(visit, Refusal::by_limit(error));
            }
            let (taken, is_free) = self.take_keys(request, visit.waits);
            let Some(ticket) = taken else {
                return Reservation::Contended(visit);
            };
            if !is_free {
                self.shard.books.entries.locks.wait(
                    ticket,
                    crate::engine::books::entries::locks::Waiting::Visit(Box::new(visit)),
                );
                return Reservation::Waits;
            }
            participation.keys = Some(ticket);
        }
        for index in 0..visit.pieces.stock.len() {
            let piece = &mut visit.pieces.stock[index];
            if piece.stock.takes() {
                match self.check_piece(piece, front_of) {
                    Ok(()) => {}
                    Err(Verdict::Refused(error, sku)) => {
                        let shows = self.shard.state.slot(sku.slot()).changed_at;
                        self.let_go(&mut participation);
                        let refusal = Refusal::by_state(error, self.shard.id, shows);
                        return Reservation::Refused(visit, refusal);
                    }
                    Err(Verdict::Wait(sku)) => {
                        if !visit.waits {
                            self.let_go(&mut participation);
                            return Reservation::Contended(visit);
                        }
                        return self.wait_for_units(visit, participation, &sku, front_of);
                    }
                }
            }
            let piece = &visit.pieces.stock[index];
            let lines = piece.stock_lines();
            self.shard.state.reserve(piece.stock, &lines);
            participation.reserved.push(StockPart {
                stock: piece.stock,
                lines,
            });
        }
        if !participation.reserved.is_empty() {
            participation.stock_ticket = Some(self.shard.tickets.open());
        }
        let (findings, shows) = match &visit.pieces.entries {
            Some(request) => self.collect(request),
            None => (Findings::default(), LogPosition::ZERO),
        };
        *pieces = visit.pieces;
        Reservation::Reserved(participation, findings, shows)
    }

    /// Joins the item's queue, or stays at its front, holding the keys but no units.
    fn wait_for_units(
        &mut self,
        visit: Visit,
        mut participation: Participation,
        sku: &Sku,
        front_of: Option<&Sku>,
    ) -> Reservation {
        let keys = participation.keys.take();
        self.let_go(&mut participation);
        if front_of == Some(sku) {
            let waiting = Waiting::Visit(Box::new(visit), keys);
            self.shard.books.shop.stock_queue.push_front(sku, waiting);
            return Reservation::Waits;
        }
        if let Err(error) = self.join_stock_queue(sku) {
            participation.keys = keys;
            self.let_go(&mut participation);
            return Reservation::Refused(visit, Refusal::by_limit(error));
        }
        let waiting = Waiting::Visit(Box::new(visit), keys);
        self.shard.books.shop.stock_queue.push(sku, waiting);
        Reservation::Waits
    }

    /// Gives back what is reserved and not logged.
    pub fn let_go(&mut self, participation: &mut Participation) {
        for part in std::mem::take(&mut participation.reserved) {
            self.shard.state.settle(part.stock, &part.lines, false);
            self.stock_moved(&part.lines);
        }
        if let Some(ticket) = participation.stock_ticket.take() {
            self.shard.tickets.close(ticket);
        }
        if let Some(ticket) = participation.keys.take() {
            self.shard.books.entries.locks.release(ticket);
        }
    }

    /// A part that is reserved goes into the log with the others of this step, and its home hears of it then.
    fn prepare(
        &mut self,
        transaction: TransactionId,
        mut participation: Participation,
        pieces: Pieces,
        shows: LogPosition,
        findings: Findings,
    ) {
        let prepared = PreparedTransaction {
            transaction,
            stock: std::mem::take(&mut participation.reserved),
            effects: Vec::new(),
        };
        match self.stage(prepared) {
            Ok(()) => {
                participation.is_logged = true;
                self.shard.participating.insert(transaction, participation);
                self.shard
                    .preparing
                    .answers
                    .push(Answer::Visited(pieces, shows, findings));
            }
            Err((prepared, error)) => {
                participation.reserved = prepared.stock;
                self.let_go(&mut participation);
                self.tell_visited(Visited {
                    transaction,
                    pieces,
                    outcome: VisitOutcome::Refused(Refusal::by_limit(error)),
                });
            }
        }
    }

    /// From the home: what a part that is reserved does to keys here. It goes into the log.
    fn on_write(&mut self, transaction: TransactionId, effects: Vec<u8>) {
        let participation = self.shard.participating.get_mut(&transaction);
        let participation = participation.expect("who has changes here has reserved them here");
        participation.is_logged = true;
        let prepared = PreparedTransaction {
            transaction,
            stock: std::mem::take(&mut participation.reserved),
            effects,
        };
        match self.stage(prepared) {
            Ok(()) => self.shard.preparing.answers.push(Answer::Written),
            Err((prepared, error)) => {
                let participation = self.shard.participating.remove(&transaction);
                let mut participation = participation.expect("looked up above");
                participation.reserved = prepared.stock;
                self.let_go(&mut participation);
                let written = Written {
                    transaction,
                    written: Err(error),
                };
                self.shard.outbox.to(transaction.home).written.push(written);
            }
        }
    }

    /// Puts a part beside those that go into the log together; or says why there is no room.
    fn stage(
        &mut self,
        prepared: PreparedTransaction,
    ) -> Result<(), (PreparedTransaction, cartwright_protocol::Error)> {
        let bytes = prepared.bytes_max();
        if self.shard.preparing.bytes + bytes > RECORD_BYTES_MAX {
            self.log_prepared();
        }
        if let Err(error) = self.shard.check_room(bytes) {
            return Err((prepared, error));
        }
        self.shard.preparing.bytes += bytes;
        self.shard.preparing.transactions.push(prepared);
        Ok(())
    }

    /// Logs the parts that were reserved in this step, as one record, and tells their homes.
    pub fn log_prepared(&mut self) {
        if self.shard.preparing.transactions.is_empty() {
            return;
        }
        let Preparing {
            mut transactions,
            answers,
            ..
        } = std::mem::take(&mut self.shard.preparing);
        let ids: Vec<_> = transactions.iter().map(|prepared| prepared.transaction).collect();
        if is_on(Mutation::PrepareInPart) && transactions.len() > 1 {
            transactions.pop();
        }
        let (logged, _) = self.append(Record::PreparedTogether { transactions });
        for (transaction, answer) in ids.into_iter().zip(answers) {
            let batch = self.shard.outbox.to(transaction.home);
            match answer {
                Answer::Visited(pieces, shows, findings) => batch.visited.push(Visited {
                    transaction,
                    pieces,
                    outcome: VisitOutcome::Reserved {
                        logged,
                        shows,
                        findings,
                    },
                }),
                Answer::Written => batch.written.push(Written {
                    transaction,
                    written: Ok(logged),
                }),
            }
        }
    }

    /// The homes tell that these are over: those that are logged here are resolved by one record.
    fn on_outcomes(&mut self, outcomes: &[(TransactionId, bool)]) {
        let mut over = Vec::with_capacity(outcomes.len());
        let mut logged = Vec::with_capacity(outcomes.len());
        for &(transaction, committed) in outcomes {
            let participation = self.shard.participating.remove(&transaction);
            let participation = participation.expect("what is over was reserved here");
            if participation.is_logged {
                logged.push((transaction, committed));
            } else {
                assert!(!committed, "what is committed was logged");
            }
            over.push(participation);
        }
        let moved = if logged.is_empty() {
            Vec::new()
        } else {
            let record = Record::ResolvedTogether { outcomes: logged };
            self.append(record).1.unwrap_or_default()
        };
        for mut participation in over {
            self.let_go(&mut participation);
        }
        self.stock_moved(&moved);
    }
}
