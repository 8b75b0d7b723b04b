//! What the engine does between replaying logs and serving: deciding what was in flight, and moving slots.
//!
//! A cross-shard transaction is committed if, and only if, the home's `Decided` record and every `Prepared` record it
//! names are on disk. A position counts only within the incarnation that wrote it: what a torn tail took away may since
//! have been written over by a later start.

use std::collections::BTreeMap;

use cartwright_protocol::AuditReport;

use crate::engine::kernel::ids::{LogPosition, ShardId, ShardMap, TransactionId};
use crate::engine::kernel::limits::EngineLimits;
use crate::engine::kernel::message::{Journal, Output};
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::record::Record;
use crate::engine::kernel::shard::{SETTLEMENT_BYTES, Shard, Step};
use crate::engine::kernel::state::State;

/// What replaying a shard's log leaves for the decision, beside its state.
#[derive(Debug, Default)]
pub struct ReplayNotes {
    /// Where each incarnation began: the position of its `Started` record.
    started: BTreeMap<u32, LogPosition>,
    /// Transactions of this home that are committed in its log, one bit a sequence number, by incarnation.
    committed: BTreeMap<u32, Vec<u64>>,
}

impl ReplayNotes {
    pub(in crate::engine) fn note(&mut self, shard: ShardId, position: LogPosition, record: &Record) {
        match record {
            Record::Started { incarnation } => {
                self.started.insert(*incarnation, position);
            }
            Record::ResolvedTogether { outcomes } => {
                let committed = outcomes.iter().filter(|(_, committed)| *committed);
                committed.for_each(|&(transaction, _)| self.note_committed(shard, transaction));
            }
            _ => {}
        }
    }

    fn note_committed(&mut self, shard: ShardId, transaction: TransactionId) {
        if transaction.home != shard {
            return;
        }
        let bits = self.committed.entry(transaction.incarnation).or_default();
        let (word, bit) = bit_of(transaction.sequence);
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= bit;
    }

    fn is_committed(&self, transaction: TransactionId) -> bool {
        let (word, bit) = bit_of(transaction.sequence);
        let bits = self.committed.get(&transaction.incarnation);
        bits.and_then(|bits| bits.get(word)).is_some_and(|bits| bits & bit != 0)
    }

    /// The last position that `incarnation` can have written, in a log that ends at `end`.
    fn end_of(&self, incarnation: u32, end: LogPosition) -> LogPosition {
        let next = self.started.range(incarnation + 1..).next();
        next.map_or(end, |(_, &started)| LogPosition(started.0 - 1))
    }
}

const fn bit_of(sequence: u64) -> (usize, u64) {
    ((sequence / 64) as usize, 1 << (sequence % 64))
}

/// What recovery decided about transactions that were in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Found whole.
    pub committed: usize,
    /// Found without a part.
    pub aborted: usize,
}

/// The outcome of every transaction that pends on any of `shards`, which are all the shards of one generation.
fn outcomes(shards: &[Shard]) -> BTreeMap<TransactionId, bool> {
    let mut outcomes = BTreeMap::new();
    for shard in shards {
        for &transaction in shard.state.pending.keys() {
            let home = &shards[transaction.home.index()];
            let committed = match home.state.pending.get(&transaction) {
                Some(pending) => pending.named().iter().all(|&(participant, position)| {
                    let participant = &shards[participant.index()];
                    is_on(Mutation::CommitWithoutParts)
                        || position
                            <= participant
                                .replay_notes
                                .end_of(transaction.incarnation, participant.end)
                }),
                None => home.replay_notes.is_committed(transaction),
            };
            outcomes.insert(transaction, committed);
        }
    }
    outcomes
}

fn apply_outcomes(shards: &mut [Shard], mut apply: impl FnMut(&mut Shard, Record)) -> Resolved {
    let outcomes = outcomes(shards);
    for shard in shards {
        shard.state.finish_replay();
        let mut pending: Vec<_> = shard
            .state
            .pending
            .iter()
            .map(|(&id, pending)| (pending.position, id))
            .collect();
        pending.sort_unstable();
        for (_, transaction) in pending {
            let committed = outcomes[&transaction];
            let outcomes = vec![(transaction, committed)];
            apply(shard, Record::ResolvedTogether { outcomes });
        }
    }
    let committed = outcomes.values().filter(|&&committed| committed).count();
    Resolved {
        committed,
        aborted: outcomes.len() - committed,
    }
}

/// Decides, in memory only, what was in flight at the end of a generation of logs that nothing will be added to.
pub fn resolve(shards: &mut [Shard]) -> Resolved {
    apply_outcomes(shards, |shard, record| {
        shard.state.apply(shard.end, record);
    })
}

/// Bytes of log that [`start`] may write for this shard. A log that was nearly full when the server ended may have no
/// room for it, since each start writes; the driver adds a segment first.
pub fn start_bytes(shard: &Shard) -> u64 {
    (shard.state.pending.len() as u64 + 1) * SETTLEMENT_BYTES
}

/// Begins an incarnation on the newest generation: writes its `Started` record and the outcome of what was in flight to
/// every log, each of which has room for [`start_bytes`]. The driver syncs all logs before it lets any shard take a step.
///
/// # Panics
/// Where `journals` does not hold one for each shard.
pub fn start<J: Journal>(shards: &mut [Shard], incarnation: u32, journals: &mut [J]) -> Resolved {
    assert_eq!(shards.len(), journals.len(), "one log a shard");
    let mut output = Output::default();
    for (shard, journal) in shards.iter_mut().zip(journals.iter_mut()) {
        let record = Record::Started { incarnation };
        shard.replay_notes.note(shard.id, shard.end.next(), &record);
        Step::new(shard, journal, &mut output).append(record);
        shard.begin_incarnation(incarnation);
    }
    let resolved = apply_outcomes(shards, |shard, record| {
        let journal = &mut journals[shard.id.index()];
        Step::new(shard, journal, &mut output).append(record);
    });
    for shard in shards {
        shard.replay_notes = ReplayNotes::default();
    }
    resolved
}

/// The same slots on another number of shards, whose logs are empty. Nothing may be in flight (see [`resolve`]).
pub fn repartition(shards: Vec<Shard>, shard_count: u16, limits: EngineLimits) -> Vec<Shard> {
    let map = ShardMap::new(shard_count);
    // A key that has expired must not come back because a clock does.
    let latest = shards.iter().map(|shard| shard.state.latest).max().unwrap_or_default();
    let mut slots = shards.into_iter().flat_map(|shard| {
        assert!(shard.state.pending.is_empty(), "slots move when nothing is in flight");
        shard.state.into_slots()
    });
    map.shards()
        .map(|id| {
            let own = slots.by_ref().take(map.slots_of(id).len()).collect();
            let mut state = State::from_slots(id, map, own);
            state.latest = state.latest.max(latest);
            Shard::with_state(id, map, limits, state)
        })
        .collect()
}

/// Checks the books over all shards, with nothing in flight: what an audit of a running server would report.
pub fn audit(shards: &[Shard]) -> AuditReport {
    crate::engine::kernel::audit::audit_states(shards.iter().map(|shard| (shard.id, &shard.state)))
}
