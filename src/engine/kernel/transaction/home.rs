//! A transaction at its home, which coordinates it.

use std::collections::VecDeque;

use cartwright_protocol::Error;
use smallvec::SmallVec;

use crate::engine::books::StockLine;
use crate::engine::books::shop::records::ShopRecord;
use crate::engine::books::{Findings, Outcome, Pieces, Purpose};
use crate::engine::kernel::ids::{LogPosition, ShardId, TransactionId};
use crate::engine::kernel::limits::RECORD_BYTES_MAX;
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::record::{DecidedTransaction, Record};
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::request_keys::KeyUse;
use crate::engine::kernel::shard::Step;

use super::Refusal;
use super::outbox::{Visit, VisitOutcome, Visited};
use super::participant::Participation;

/// A transaction's part on one shard, as its home knows it.
#[derive(Debug)]
pub struct Part {
    /// Where.
    pub shard: ShardId,
    /// What is asked of that shard; empty while it is there.
    pub pieces: Pieces,
    /// How it stands.
    pub state: PartState,
}

impl Part {
    /// A part that nobody has been asked for.
    pub const fn new(shard: ShardId, pieces: Pieces) -> Self {
        Self {
            shard,
            pieces,
            state: PartState::Idle,
        }
    }

    /// Where it is logged; zero where it is not.
    pub const fn logged(&self) -> LogPosition {
        match self.state {
            PartState::Reserved { logged, .. } => logged,
            _ => LogPosition::ZERO,
        }
    }
}

/// How a part stands.
#[derive(Debug)]
pub enum PartState {
    /// Nothing is reserved.
    Idle,
    /// Its shard has been asked.
    Asked,
    /// It is reserved.
    Reserved {
        /// Where it is logged; zero where it is not (yet).
        logged: LogPosition,
        /// What was read there shows the log up to here.
        shows: LogPosition,
    },
    /// It was read, changes nothing, and is let go of.
    Shown(LogPosition),
    /// It could only be had by waiting.
    Contended,
    /// It cannot be had.
    Refused(Refusal),
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
    /// Its parts, ascending by shard.
    pub parts: SmallVec<[Part; 2]>,
    /// What it has reserved on its home.
    pub own: Option<Participation>,
    /// What the shards found.
    pub findings: Findings,
    id: TransactionId,
    /// Parts whose shards have yet to answer.
    missing: usize,
    /// In ascending order: which part is next. `None`: all were asked at once.
    next: Option<usize>,
    /// What is answered, once that is known.
    outcome: Option<Outcome>,
    /// Why a shard could not log its changes.
    unwritten: Option<Error>,
    /// Changes of keys of the home, to be logged with the decision.
    own_effects: Vec<u8>,
}

impl InFlight {
    /// One that has not begun. `parts` ascend by shard.
    pub fn new(reply_to: Option<ReplyTo>, key: Option<KeyUse>, purpose: Purpose, parts: SmallVec<[Part; 2]>) -> Self {
        assert!(parts.is_sorted_by_key(|part| part.shard), "parts ascend by shard");
        Self {
            reply_to,
            key,
            purpose,
            parts,
            own: None,
            findings: Findings::default(),
            id: TransactionId::default(),
            missing: 0,
            next: None,
            outcome: None,
            unwritten: None,
            own_effects: Vec::new(),
        }
    }

    /// What is answered is known before the decision.
    pub fn answer(&mut self, answer: Outcome) {
        self.outcome = Some(answer);
    }

    /// Up to where what was read shows each shard's log.
    pub fn shown(&self) -> Vec<(ShardId, LogPosition)> {
        let shows = |part: &Part| match part.state {
            PartState::Reserved { shows, .. } => Some((part.shard, shows)),
            _ => None,
        };
        self.parts.iter().filter_map(shows).collect()
    }

    /// What the home has reserved, and not logged, for this one of several commands.
    pub fn own_lines(&self, home: ShardId, command: u16) -> Vec<StockLine> {
        let part = self.parts.iter().find(|part| part.shard == home);
        let pieces = part.iter().flat_map(|part| &part.pieces.stock);
        let reserved = self.own.iter().flat_map(|own| &own.reserved);
        let of_command = pieces.zip(reserved).filter(|(piece, _)| piece.command == command);
        of_command.flat_map(|(_, part)| part.lines.iter().cloned()).collect()
    }

    /// What was known of the answer before the decision.
    pub const fn take_answer(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }
}

/// What waits for logs, in the order of decisions.
#[derive(Debug)]
struct Commit {
    transaction: TransactionId,
    needs: Vec<(ShardId, LogPosition)>,
    then: Then,
}

/// What comes of it then.
#[derive(Debug)]
enum Then {
    /// It is committed here and on these shards.
    Commit(SmallVec<[ShardId; 4]>),
    /// It changes nothing, and is answered.
    Answer,
}

/// What waits for logs to be safe: decisions, in order, and apart from them answers that change nothing.
#[derive(Debug, Default)]
pub struct Commits {
    decided: VecDeque<Commit>,
    answers: VecDeque<(TransactionId, Vec<(ShardId, LogPosition)>)>,
    /// Decisions of this step, which go into the log together.
    deciding: Vec<DecidedTransaction>,
    deciding_bytes: usize,
}

impl Commits {
    /// Whether nothing waits.
    pub fn are_none(&self) -> bool {
        self.decided.is_empty() && self.answers.is_empty()
    }

    /// Decisions that are not in the log yet.
    pub fn deciding(&self) -> &[DecidedTransaction] {
        &self.deciding
    }

    /// Log bytes that they take together, at most.
    pub const fn deciding_bytes(&self) -> usize {
        self.deciding_bytes
    }
}

impl Step<'_> {
    /// Takes on a transaction: asks all its shards at once, or, where it `waits`, one after the other.
    pub fn begin_transaction(&mut self, mut in_flight: InFlight, waits: bool) {
        if let Some(key) = &in_flight.key {
            self.shard.keys_in_flight.begin(key);
        }
        let id = self.shard.next_transaction_id();
        in_flight.id = id;
        self.ask_shards(in_flight, waits);
    }

    fn ask_shards(&mut self, mut in_flight: InFlight, waits: bool) {
        let (id, home) = (in_flight.id, self.shard.id);
        if waits {
            in_flight.next = Some(0);
            self.shard.in_flight.insert(id.sequence, in_flight);
            return self.ask_next(id.sequence);
        }
        in_flight.missing = in_flight.parts.len();
        let mut own = None;
        for part in &mut in_flight.parts {
            part.state = PartState::Asked;
            let visit = Visit {
                transaction: id,
                waits: false,
                pieces: std::mem::take(&mut part.pieces),
            };
            if part.shard == home {
                own = Some(visit);
            } else {
                self.shard.outbox.to(part.shard).visits.push(visit);
            }
        }
        if in_flight.parts.is_empty() {
            self.shard.complete.push_back(id.sequence);
        }
        self.shard.in_flight.insert(id.sequence, in_flight);
        if let Some(visit) = own {
            self.visit(visit, None, None);
        }
    }

    /// In ascending order: asks the next shard, or goes on where there is none.
    fn ask_next(&mut self, sequence: u64) {
        let in_flight = self.in_flight(sequence);
        let index = in_flight.next.expect("asked in order");
        let id = in_flight.id;
        let Some(part) = in_flight.parts.get_mut(index) else {
            return self.shard.complete.push_back(sequence);
        };
        part.state = PartState::Asked;
        let to = part.shard;
        let visit = Visit {
            transaction: id,
            waits: true,
            pieces: std::mem::take(&mut part.pieces),
        };
        in_flight.next = Some(index + 1);
        in_flight.missing = 1;
        if to == self.shard.id {
            self.visit(visit, None, None);
        } else {
            self.shard.outbox.to(to).visits.push(visit);
        }
    }

    fn in_flight(&mut self, sequence: u64) -> &mut InFlight {
        let in_flight = self.shard.in_flight.get_mut(&sequence);
        in_flight.expect("a home knows what it coordinates")
    }

    /// A shard answers a visit.
    pub fn on_visited(&mut self, from: ShardId, visited: Visited) {
        let sequence = visited.transaction.sequence;
        let dice = &mut self.shard.books.entries.dice;
        let in_flight = self.shard.in_flight.get_mut(&sequence);
        let in_flight = in_flight.expect("a home knows what it coordinates");
        in_flight.missing -= 1;
        let missing = in_flight.missing;
        let part = in_flight.parts.iter_mut().find(|part| part.shard == from);
        let part = part.expect("only who was asked answers");
        part.pieces = visited.pieces;
        let mut goes_on = in_flight.next.is_some();
        part.state = match visited.outcome {
            VisitOutcome::Reserved {
                logged,
                shows,
                findings,
            } => {
                in_flight.findings.add(findings, || dice.bits());
                PartState::Reserved { logged, shows }
            }
            VisitOutcome::Contended => PartState::Contended,
            VisitOutcome::Refused(refusal) => {
                goes_on = false;
                PartState::Refused(refusal)
            }
        };
        if missing > 0 {
            return;
        }
        if goes_on {
            self.ask_next(sequence);
        } else {
            self.shard.complete.push_back(sequence);
        }
    }

    /// All shards that were asked have answered.
    pub fn complete(&mut self, sequence: u64) {
        let in_flight = self.in_flight(sequence);
        let states = || in_flight.parts.iter().map(|part| &part.state);
        let refusal = states().find_map(|state| match state {
            PartState::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        });
        let is_contended = states().any(|state| matches!(state, PartState::Contended));
        if let Some(refusal) = refusal {
            return self.refuse_transaction(sequence, refusal);
        }
        if is_contended {
            return self.begin_again(sequence);
        }
        match self.run_transaction(sequence) {
            Ok(effects) => self.write_effects(sequence, effects),
            Err(refusal) => self.refuse_transaction(sequence, refusal),
        }
    }

    /// A part could only be had by waiting: everything is let go of, and asked for again in ascending order, as another
    /// transaction.
    fn begin_again(&mut self, sequence: u64) {
        let in_flight = self.shard.in_flight.remove(&sequence);
        let mut in_flight = in_flight.expect("a home knows what it coordinates");
        let keeps_first = is_on(Mutation::KeepFirstReservation);
        self.let_go_of_parts(&mut in_flight, usize::from(keeps_first));
        in_flight.id = self.shard.next_transaction_id();
        in_flight.findings = Findings::default();
        self.ask_shards(in_flight, true);
    }

    /// Has the shards of all parts that are reserved, but for the last so many, give them back.
    fn let_go_of_parts(&mut self, in_flight: &mut InFlight, kept: usize) {
        let mut shards: SmallVec<[ShardId; 4]> = SmallVec::new();
        for part in &mut in_flight.parts {
            let state = std::mem::replace(&mut part.state, PartState::Idle);
            if matches!(state, PartState::Reserved { .. }) && part.shard != self.shard.id {
                shards.push(part.shard);
            }
        }
        let told = shards.len().saturating_sub(kept);
        for &shard in &shards[..told] {
            self.shard.outbox.to(shard).outcomes.push((in_flight.id, false));
        }
        if let Some(mut own) = in_flight.own.take() {
            self.let_go(&mut own);
        }
    }

    /// A no: those that have reserved hear of it; the client hears once the no cannot be taken back.
    fn refuse_transaction(&mut self, sequence: u64, refusal: Refusal) {
        let in_flight = self.shard.in_flight.remove(&sequence);
        let mut in_flight = in_flight.expect("a home knows what it coordinates");
        self.let_go_of_parts(&mut in_flight, usize::from(is_on(Mutation::ForgetAbort)));
        in_flight.outcome = Some(Outcome::Refused(refusal.error));
        let id = in_flight.id;
        self.shard.in_flight.insert(sequence, in_flight);
        if refusal.is_behind_decisions {
            return self.answer_behind_decisions(id);
        }
        self.shard.commits.answers.push_back((id, refusal.reveals));
    }

    /// Answers once all that is decided here by now is over.
    fn answer_behind_decisions(&mut self, transaction: TransactionId) {
        self.log_staged();
        self.shard.commits.decided.push_back(Commit {
            transaction,
            needs: vec![(self.shard.id, self.shard.end)],
            then: Then::Answer,
        });
    }

    /// Refuses once all that is decided here by now is durable: for a refusal that such decisions explain.
    pub fn refuse_behind_decisions(&mut self, reply_to: ReplyTo, key: Option<KeyUse>, purpose: Purpose, error: Error) {
        if let Some(key) = &key {
            self.shard.keys_in_flight.begin(key);
        }
        let mut in_flight = InFlight::new(Some(reply_to), key, purpose, SmallVec::new());
        let id = self.shard.next_transaction_id();
        in_flight.id = id;
        in_flight.outcome = Some(Outcome::Refused(error));
        self.shard.in_flight.insert(id.sequence, in_flight);
        self.answer_behind_decisions(id);
    }

    /// All is reserved and, where the transaction is about keys, run: each shard with changes that are not logged yet
    /// logs them, and those without a part in the change are let go of.
    fn write_effects(&mut self, sequence: u64, mut effects: Vec<(ShardId, Vec<u8>)>) {
        let home = self.shard.id;
        let in_flight = self.shard.in_flight.get_mut(&sequence);
        let in_flight = in_flight.expect("a home knows what it coordinates");
        let id = in_flight.id;
        let mut missing = 0;
        for part in &mut in_flight.parts {
            let at = effects.iter().position(|&(shard, _)| shard == part.shard);
            let own = at.map(|at| effects.swap_remove(at).1);
            let PartState::Reserved { logged, shows } = part.state else {
                unreachable!("a transaction that is complete has all its parts")
            };
            let has_units = !part.pieces.stock.is_empty();
            if part.shard == home {
                in_flight.own_effects = own.unwrap_or_default();
            } else if own.is_some() || (has_units && logged == LogPosition::ZERO) {
                missing += 1;
                let effects = own.unwrap_or_default();
                self.shard.outbox.to(part.shard).writes.push((id, effects));
            } else if logged == LogPosition::ZERO {
                self.shard.outbox.to(part.shard).outcomes.push((id, false));
                part.state = PartState::Shown(shows);
            }
        }
        assert!(effects.is_empty(), "a transaction changes keys that it has locked");
        in_flight.missing = missing;
        if missing == 0 {
            self.decide(sequence);
        }
    }

    /// A shard has logged its part, or could not.
    pub fn on_written(&mut self, from: ShardId, transaction: TransactionId, written: Result<LogPosition, Error>) {
        let sequence = transaction.sequence;
        let in_flight = self.in_flight(sequence);
        in_flight.missing -= 1;
        let part = in_flight.parts.iter_mut().find(|part| part.shard == from);
        let part = part.expect("only who was asked answers");
        match written {
            Ok(position) => {
                if let PartState::Reserved { logged, .. } = &mut part.state {
                    *logged = position;
                }
            }
            Err(error) => {
                // It has let go by itself.
                part.state = PartState::Idle;
                in_flight.unwritten = Some(error);
            }
        }
        if in_flight.missing == 0 {
            self.decide(sequence);
        }
    }

    /// Everything is reserved and logged elsewhere: the home decides.
    fn decide(&mut self, sequence: u64) {
        let in_flight = self.shard.in_flight.remove(&sequence);
        let mut in_flight = in_flight.expect("a home knows what it coordinates");
        if let Some(error) = in_flight.unwritten.take() {
            self.shard.in_flight.insert(sequence, in_flight);
            return self.refuse_written(sequence, error);
        }
        let mut named = Vec::with_capacity(in_flight.parts.len());
        let mut participants = SmallVec::new();
        for part in &in_flight.parts {
            match part.state {
                PartState::Reserved { logged, .. } if logged != LogPosition::ZERO => {
                    named.push((part.shard, logged));
                    participants.push(part.shard);
                }
                PartState::Shown(shows) => named.push((part.shard, shows)),
                PartState::Reserved { shows, .. } => {
                    // The home's own part is in the decision itself, unless it was only read.
                    if part.pieces.entries.is_some() && in_flight.own_effects.is_empty() {
                        named.push((part.shard, shows));
                    }
                }
                _ => unreachable!("a transaction that is decided has all its parts"),
            }
        }
        let decision = match self.decision_of(&mut in_flight) {
            Ok(decision) => decision,
            Err(refusal) => {
                self.shard.in_flight.insert(sequence, in_flight);
                return self.refuse_transaction(sequence, refusal);
            }
        };
        let (changes, outcome) = decision;
        let effects = std::mem::take(&mut in_flight.own_effects);
        let id = in_flight.id;
        if participants.is_empty() && changes.is_empty() && effects.is_empty() {
            // Nobody can change what was read behind its back any more, and nothing waits for the logs but the answer.
            if let Some(mut own) = in_flight.own.take() {
                self.let_go(&mut own);
            }
            in_flight.outcome = Some(outcome);
            self.shard.in_flight.insert(sequence, in_flight);
            return self.shard.commits.answers.push_back((id, named));
        }
        if participants.is_empty() && effects.is_empty() && named.is_empty() && changes.len() == 1 {
            return self.decide_alone(in_flight, changes, outcome);
        }
        let decided = DecidedTransaction {
            transaction: id,
            named,
            changes,
            effects,
        };
        let bytes = decided.bytes_max();
        if self.shard.commits.deciding_bytes + bytes > RECORD_BYTES_MAX {
            self.log_decided();
        }
        if let Err(error) = self.shard.check_room(bytes) {
            self.shard.in_flight.insert(sequence, in_flight);
            return self.refuse_written(sequence, error);
        }
        self.shard.state.give_out_numbers(&decided.changes);
        // What the home has reserved pends with the decision from now on.
        if let Some(own) = &mut in_flight.own {
            own.reserved.clear();
        }
        in_flight.outcome = Some(outcome);
        self.shard.in_flight.insert(sequence, in_flight);
        self.shard.commits.deciding_bytes += bytes;
        self.shard.commits.decided.push_back(Commit {
            transaction: id,
            needs: decided.named.clone(),
            then: Then::Commit(participants),
        });
        self.shard.commits.deciding.push(decided);
    }

    fn refuse_written(&mut self, sequence: u64, error: Error) {
        self.refuse_transaction(sequence, Refusal::by_limit(error));
    }

    /// A transaction all of whose parts turned out to be here is one record of its own.
    fn decide_alone(
        &mut self,
        mut in_flight: InFlight,
        mut changes: Vec<crate::engine::books::shop::orders::Decided>,
        outcome: Outcome,
    ) {
        let sequence = in_flight.id.sequence;
        if let Some(mut own) = in_flight.own.take() {
            self.let_go(&mut own);
        }
        let decided = changes.pop().expect("the caller has looked");
        let record = ShopRecord::OrderChanged {
            change: decided.change,
            key: decided.key,
        };
        match self.append_if_room(record) {
            Ok((position, lines)) => {
                self.stock_moved(lines.as_deref().unwrap_or_default());
                self.finish(in_flight, outcome, position);
            }
            Err(error) => {
                self.shard.in_flight.insert(sequence, in_flight);
                self.refuse_written(sequence, error);
            }
        }
    }

    /// Logs the decisions of this step, as one record.
    pub fn log_decided(&mut self) {
        if self.shard.commits.deciding.is_empty() {
            return;
        }
        let transactions = std::mem::take(&mut self.shard.commits.deciding);
        self.shard.commits.deciding_bytes = 0;
        let count = transactions.len();
        let at = self.shard.now;
        let (position, _) = self.append(Record::DecidedTogether { at, transactions });
        let home = self.shard.id;
        let decided = &mut self.shard.commits.decided;
        let first = decided.len() - count;
        for commit in decided.range_mut(first..) {
            commit.needs.push((home, position));
        }
    }

    fn is_safe(&self, needs: &[(ShardId, LogPosition)]) -> bool {
        needs.iter().all(|&(shard, position)| {
            self.shard.safe[shard.index()] >= position
                || (shard != self.shard.id && is_on(Mutation::CommitWithoutPeers))
        })
    }

    /// Ends what waited for logs that are safe by now; whether there was any.
    pub fn end_what_is_safe(&mut self) -> bool {
        let mut over = Vec::new();
        while let Some(first) = self.shard.commits.decided.front() {
            if !self.is_safe(&first.needs) {
                break;
            }
            over.extend(self.shard.commits.decided.pop_front());
        }
        let mut outcomes = Vec::with_capacity(over.len());
        for commit in &over {
            if let Then::Commit(participants) = &commit.then {
                outcomes.push((commit.transaction, true));
                for &shard in participants {
                    self.shard.outbox.to(shard).outcomes.push((commit.transaction, true));
                }
            }
        }
        let mut moved = Vec::new();
        if !outcomes.is_empty() {
            moved = self.append(Record::ResolvedTogether { outcomes }).1.unwrap_or_default();
        }
        for commit in &over {
            self.finish_in_flight(commit.transaction);
        }
        self.stock_moved(&moved);
        let mut has_answered = false;
        while let Some((id, needs)) = self.shard.commits.answers.front() {
            if !self.is_safe(needs) {
                break;
            }
            let id = *id;
            self.shard.commits.answers.pop_front();
            has_answered = true;
            self.finish_in_flight(id);
        }
        !over.is_empty() || has_answered
    }

    fn finish_in_flight(&mut self, transaction: TransactionId) {
        let in_flight = self.shard.in_flight.remove(&transaction.sequence);
        let mut in_flight = in_flight.expect("a home knows what it coordinates");
        if let Some(mut own) = in_flight.own.take() {
            self.let_go(&mut own);
        }
        let outcome = in_flight.outcome.take().expect("what is over has an outcome");
        self.finish(in_flight, outcome, LogPosition::ZERO);
    }
}
