//! What sessions ask of all shards' connections, under way: queries, and those who wait for time, a sync or a
//! checkpoint.
//!
//! Part of a shard's turn, which carries queries and results as mail. Each shard has one: it keeps what its own
//! connections asked until every shard has answered, and what other shards asked until it can be answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::turn::Connections;
use crate::engine::{LogPosition, ReplyTo, ShardId, Timestamp};
use crate::net::ConnectionId;
use crate::session::server_task::{Message, ShardQuery, ShardResult};
use crate::session::{Pause, SessionContext};

/// How often a checkpoint that a connection waits for is looked after, in milliseconds.
const CHECKPOINT_LOOK_MS: u64 = 10;

/// A query under way, for the shard that began it.
pub type Ticket = u64;

/// What broadcasts say to each other.
#[derive(Debug)]
pub enum BroadcastMail {
    /// To be answered under this ticket.
    Query(Ticket, Arc<ShardQuery>),
    /// The answer.
    Result(Ticket, Box<ShardResult>),
}

/// A query that waits until the log is on disk.
#[derive(Debug)]
struct AwaitedSync {
    /// Never, where it is 0.
    until_ms: u64,
    from: ShardId,
    ticket: Ticket,
}

/// A place among those that wait for the same.
type Turn = u64;

/// See the module.
#[derive(Debug, Default)]
pub struct Broadcast {
    asked: HashMap<Ticket, (ReplyTo, Vec<ShardResult>, usize)>,
    tickets: Ticket,
    turns: Turn,
    /// By the time they wait for.
    rests: BTreeMap<(u64, Turn), ReplyTo>,
    /// Connections that wait for a checkpoint, and since when it may be looked whether it stands.
    saves: Vec<ReplyTo>,
    next_save_look_ms: u64,
    /// By the position they wait for.
    syncs: BTreeMap<(LogPosition, Turn), AwaitedSync>,
    /// Those of them that do not wait for ever, by how long they wait.
    sync_ends: BTreeSet<(u64, LogPosition, Turn)>,
}

impl Broadcast {
    /// Begins a query of so many shards.
    pub fn ask(&mut self, reply_to: ReplyTo, shard_count: u16) -> Ticket {
        self.tickets += 1;
        let shards = usize::from(shard_count);
        self.asked
            .insert(self.tickets, (reply_to, Vec::with_capacity(shards), shards));
        self.tickets
    }

    /// Who began a query.
    pub fn asker(&self, ticket: Ticket) -> Option<ReplyTo> {
        self.asked.get(&ticket).map(|(reply_to, ..)| *reply_to)
    }

    /// Takes what one shard found; whom to give all results to, once they are there.
    pub fn take(&mut self, ticket: Ticket, result: ShardResult) -> Option<(ReplyTo, Vec<ShardResult>)> {
        let (_, results, missing) = self
            .asked
            .get_mut(&ticket)
            .expect("a shard answers what it was asked once");
        results.push(result);
        *missing -= 1;
        if *missing > 0 {
            return None;
        }
        let (reply_to, results, _) = self.asked.remove(&ticket)?;
        Some((reply_to, results))
    }

    /// Has somebody wait until a time.
    pub fn rest(&mut self, until_ms: u64, reply_to: ReplyTo) {
        self.turns += 1;
        self.rests.insert((until_ms, self.turns), reply_to);
    }

    /// Has somebody wait for the checkpoint that was just asked for.
    pub fn await_checkpoint(&mut self, reply_to: ReplyTo) {
        self.saves.push(reply_to);
    }

    /// Has another shard, or this one, wait until this shard's log is on disk up to there.
    pub fn await_sync(&mut self, position: LogPosition, until_ms: u64, from: ShardId, ticket: Ticket) {
        self.turns += 1;
        let sync = AwaitedSync { until_ms, from, ticket };
        self.syncs.insert((position, self.turns), sync);
        if until_ms > 0 {
            self.sync_ends.insert((until_ms, position, self.turns));
        }
    }

    /// Somebody whose rest is over; each once.
    pub fn next_rested(&mut self, now: Timestamp) -> Option<ReplyTo> {
        let first = self.rests.first_entry()?;
        (first.key().0 <= now.unix_ms()).then(|| first.remove())
    }

    /// A query whose sync is done, or who has waited long enough, and whether it is; each once.
    pub fn next_synced(&mut self, now: Timestamp, synced: LogPosition) -> Option<(ShardId, Ticket, bool)> {
        let first = self.syncs.first_entry();
        if let Some(first) = first.filter(|first| first.key().0 <= synced) {
            let (position, turn) = *first.key();
            let AwaitedSync { until_ms, from, ticket } = first.remove();
            self.sync_ends.remove(&(until_ms, position, turn));
            return Some((from, ticket, true));
        }
        let &(until_ms, position, turn) = self.sync_ends.first()?;
        if until_ms > now.unix_ms() {
            return None;
        }
        self.sync_ends.pop_first();
        let sync = self.syncs.remove(&(position, turn))?;
        Some((sync.from, sync.ticket, false))
    }

    /// Who waits for a checkpoint, if it is time to look whether it stands.
    pub fn looks_for_checkpoint(&mut self, now: Timestamp) -> bool {
        let looks = !self.saves.is_empty() && self.next_save_look_ms <= now.unix_ms();
        if looks {
            self.next_save_look_ms = now.plus_ms(CHECKPOINT_LOOK_MS).unix_ms();
        }
        looks
    }

    /// Everybody who waits for a checkpoint, which stands now, or has failed.
    pub fn checkpointed(&mut self) -> Vec<ReplyTo> {
        std::mem::take(&mut self.saves)
    }

    /// When there is something to do though nothing else happens.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let rest = self.rests.first_key_value().map(|(&(until_ms, _), _)| until_ms);
        let save = (!self.saves.is_empty()).then_some(self.next_save_look_ms);
        let sync = self.sync_ends.first().map(|&(until_ms, ..)| until_ms);
        [rest, save, sync].into_iter().flatten().min().map(Timestamp)
    }
}

/// A connection as a subscription's address.
pub fn address_of(id: ConnectionId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

fn connection_at(address: u64) -> ConnectionId {
    ConnectionId {
        index: address as u32,
        generation: (address >> 32) as u32,
    }
}

/// Gives messages to this shard's subscribers; how many got each.
pub fn deliver(messages: &[Message], connections: &mut impl Connections, context: &SessionContext) -> Vec<u64> {
    let mut delivered = 0;
    let mut cut_off = Vec::new();
    let counts = messages
        .iter()
        .map(|message| {
            let mut count = 0;
            context
                .subscriptions
                .borrow()
                .each_receiver(message, |address, pattern| {
                    let id = connection_at(address);
                    let Some(client) = connections.client(id) else { return };
                    count += 1;
                    if client.session.deliver(message, pattern) {
                        connections.touch(id);
                    } else {
                        cut_off.push(id);
                    }
                });
            delivered += count;
            count
        })
        .collect();
    cut_off.sort_unstable_by_key(|id| id.index);
    cut_off.dedup();
    for id in &cut_off {
        tracing::warn!("a subscriber does not read; it is cut off, as client-output-buffer-limit says");
        connections.abandon(*id);
    }
    let mut statistics = context.statistics.borrow_mut();
    statistics.messages_delivered += delivered;
    statistics.subscribers_cut_off += cut_off.len() as u64;
    counts
}

/// Answers what needs nothing but this shard's connections; `asker` is the connection that asked, if it is one of them.
/// `None` for what the turn itself answers.
pub fn find(
    query: &ShardQuery,
    asker: Option<ConnectionId>,
    connections: &mut impl Connections,
    context: &SessionContext,
) -> Option<ShardResult> {
    Some(match query {
        ShardQuery::Publish(messages) => ShardResult::Counts(deliver(messages, connections, context)),
        ShardQuery::Channels { pattern, sharded } => {
            ShardResult::Names(context.subscriptions.borrow().channels(*sharded, pattern.as_deref()))
        }
        ShardQuery::Subscribers { channels, sharded } => {
            let subscriptions = context.subscriptions.borrow();
            let counts = channels
                .iter()
                .map(|channel| subscriptions.subscriber_count(*sharded, channel) as u64);
            ShardResult::Counts(counts.collect())
        }
        ShardQuery::Patterns => ShardResult::Names(context.subscriptions.borrow().patterns()),
        ShardQuery::Clients(filter) => ShardResult::Lines(
            connections
                .identified()
                .filter(|(_, client)| client.session.is_meant_by(filter))
                .map(|(_, client)| (client.session.id(), client.session.describe()))
                .collect(),
        ),
        ShardQuery::Kill(filter) => {
            let meant: Vec<_> = connections
                .identified()
                .filter(|(_, client)| client.session.is_meant_by(filter))
                .map(|(id, _)| id)
                .collect();
            for &id in &meant {
                if asker == Some(id) {
                    // It is to get its answer first.
                    connections.client(id).expect("it was found above").session.close();
                } else {
                    connections.abandon(id);
                }
            }
            ShardResult::Count(meant.len() as u64)
        }
        ShardQuery::Pause { until_ms, writes_only } => {
            let mut pause = Pause {
                until_ms: *until_ms,
                writes_only: *writes_only,
            };
            if let Some(other) = context.pause() {
                // As in Redis: the longer of the two, and the more that is held back.
                pause.until_ms = pause.until_ms.max(other.until_ms);
                pause.writes_only &= other.writes_only;
            }
            context.paused.set(Some(pause));
            ShardResult::Nothing
        }
        ShardQuery::Unpause => {
            // Over now, and found to be by whoever looks after the end of pauses.
            if let Some(pause) = context.pause() {
                context.paused.set(Some(Pause { until_ms: 0, ..pause }));
            }
            ShardResult::Nothing
        }
        ShardQuery::SlowCommands => {
            let mut slow = context.statistics.borrow().slow_commands();
            for command in &mut slow {
                command.number = command.number * u64::from(context.shard_count) + u64::from(context.shard);
            }
            ShardResult::Slow(slow)
        }
        ShardQuery::ForgetSlowCommands => {
            context.statistics.borrow_mut().forget_slow_commands();
            ShardResult::Nothing
        }
        ShardQuery::Latency(event) => ShardResult::Latency(context.statistics.borrow().latency(event.as_deref())),
        ShardQuery::ForgetLatency(events) => ShardResult::Names(context.statistics.borrow_mut().forget_latency(events)),
        ShardQuery::Report | ShardQuery::ResetStatistics | ShardQuery::Sync { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn reply_to(sequence: u64) -> ReplyTo {
        ReplyTo {
            shard: ShardId(0),
            connection: 0,
            generation: 0,
            sequence,
        }
    }

    #[test]
    fn a_query_is_answered_when_every_shard_has_answered() {
        let mut broadcast = Broadcast::default();
        let first = broadcast.ask(reply_to(1), 3);
        let second = broadcast.ask(reply_to(2), 2);
        assert_eq!(broadcast.asker(first), Some(reply_to(1)));
        for (ticket, count) in [(first, 1), (second, 10), (first, 2)] {
            assert!(broadcast.take(ticket, ShardResult::Count(count)).is_none());
        }
        let (to, results) = broadcast.take(first, ShardResult::Count(3)).expect("the last of three");
        assert_eq!((to, results.len()), (reply_to(1), 3));
        assert_eq!(broadcast.asker(first), None);
        assert!(broadcast.take(second, ShardResult::Nothing).is_some());
    }

    #[test]
    fn who_rests_is_let_go_in_time_and_not_before() {
        let mut broadcast = Broadcast::default();
        broadcast.rest(50, reply_to(1));
        broadcast.rest(20, reply_to(2));
        assert_eq!(broadcast.next_timer(), Some(Timestamp(20)));
        assert_eq!(broadcast.next_rested(Timestamp(19)), None);
        assert_eq!(broadcast.next_rested(Timestamp(20)), Some(reply_to(2)));
        assert_eq!(broadcast.next_rested(Timestamp(20)), None);
        assert_eq!(broadcast.next_rested(Timestamp(60)), Some(reply_to(1)));
        assert_eq!(broadcast.next_timer(), None);
    }

    #[test]
    fn a_sync_is_told_when_it_is_done_or_given_up() {
        let mut broadcast = Broadcast::default();
        broadcast.await_sync(LogPosition(5), 0, ShardId(1), 7);
        broadcast.await_sync(LogPosition(9), 30, ShardId(1), 8);
        assert_eq!(broadcast.next_synced(Timestamp(10), LogPosition(4)), None);
        let synced = broadcast.next_synced(Timestamp(10), LogPosition(5));
        assert_eq!(synced, Some((ShardId(1), 7, true)));
        assert_eq!(broadcast.next_synced(Timestamp(10), LogPosition(5)), None);
        assert_eq!(broadcast.next_timer(), Some(Timestamp(30)));
        let given_up = broadcast.next_synced(Timestamp(30), LogPosition(8));
        assert_eq!(given_up, Some((ShardId(1), 8, false)));
        assert_eq!(broadcast.next_synced(Timestamp(40), LogPosition(9)), None);
        assert_eq!(broadcast.next_timer(), None);
    }

    #[test]
    fn a_connection_is_found_by_its_address() {
        let id = ConnectionId {
            index: 7,
            generation: 3,
        };
        assert_eq!(connection_at(address_of(id)), id);
    }
}
