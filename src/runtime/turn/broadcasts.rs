//! A turn's part in what sessions ask of all shards: see [`crate::runtime::broadcast`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Connections, Stage, Turn, World, connection_of};
use crate::engine::{ReplyTo, ShardId, Timestamp};
use crate::runtime::broadcast::{self, BroadcastMail, Ticket};
use crate::runtime::mailbox::Mail;
use crate::session::report::{Durations, ShardReport};
use crate::session::server_task::{ServerTask, ShardQuery, ShardResult};
use crate::session::settings::Number;

/// How often connections are looked through for silent ones, where `timeout` is set.
const IDLE_LOOK_MS: u64 = 1000;

impl<W: World> Turn<'_, W> {
    /// Begins what a session asks of the server.
    pub(super) fn begin_task(&mut self, reply_to: ReplyTo, task: ServerTask) {
        match task {
            ServerTask::Everywhere(query) => {
                let ticket = self.core.broadcast.ask(reply_to, self.core.map.shard_count());
                let own = self.core.id;
                for shard in self.core.map.shards().filter(|&shard| shard != own) {
                    // A shard without subscribers has nothing to do with a message. Who subscribes is told so only
                    // after this says otherwise.
                    if let ShardQuery::Publish(messages) = &*query
                        && !self.core.board.tallies[shard.index()]
                            .has_subscribers
                            .load(Ordering::SeqCst)
                    {
                        self.found(self.core.id, ticket, ShardResult::Counts(vec![0; messages.len()]));
                    } else {
                        let mail = BroadcastMail::Query(ticket, Arc::clone(&query));
                        self.world.post(shard, Mail::Broadcast(mail));
                    }
                }
                self.answer_query(self.core.id, ticket, &query);
            }
            ServerTask::Rest { until_ms } => self.core.broadcast.rest(until_ms, reply_to),
            ServerTask::Save => {
                self.core.board.request_checkpoint(true);
                self.ring_all();
                self.core.broadcast.await_checkpoint(reply_to);
            }
        }
    }

    /// Answers what a shard, perhaps this one, asks.
    pub(super) fn answer_query(&mut self, from: ShardId, ticket: Ticket, query: &ShardQuery) {
        let result = match query {
            ShardQuery::Sync { until_ms } => {
                let position = self.core.partition.log().last();
                self.core.partition.want_synced(position);
                return self.core.broadcast.await_sync(position, *until_ms, from, ticket);
            }
            ShardQuery::Report => ShardResult::Report(Box::new(self.report())),
            ShardQuery::ResetStatistics => {
                self.core.context.statistics.borrow_mut().reset();
                self.core.context.commands.set(0);
                self.core.syncs = Durations::default();
                if self.core.id == ShardId(0) {
                    self.core.board.connections_received.store(0, Ordering::Relaxed);
                }
                ShardResult::Nothing
            }
            other => {
                let asker = (from == self.core.id)
                    .then(|| self.core.broadcast.asker(ticket))
                    .flatten();
                let asker = asker.map(connection_of);
                broadcast::find(other, asker, self.world.connections(), &self.core.context)
                    .expect("everything else is answered from connections")
            }
        };
        self.found(from, ticket, result);
    }

    /// What this shard found for another, or some shard for this one.
    pub(super) fn found(&mut self, to: ShardId, ticket: Ticket, result: ShardResult) {
        if to != self.core.id {
            let mail = BroadcastMail::Result(ticket, Box::new(result));
            self.world.post(to, Mail::Broadcast(mail));
        } else if let Some((reply_to, results)) = self.core.broadcast.take(ticket, result) {
            self.finish_task(reply_to, results);
        }
    }

    fn finish_task(&mut self, reply_to: ReplyTo, results: Vec<ShardResult>) {
        self.core.in_flight -= 1;
        let id = connection_of(reply_to);
        if let Some(client) = self.world.connections().client(id) {
            client.session.complete_task(reply_to.sequence, results);
            self.world.connections().touch(id);
            self.make_ready(id);
        }
    }

    /// Ends what has been waited for long enough.
    pub(super) fn look_after_broadcast(&mut self) {
        // A stop waits for what is in flight, and so lets everybody go who only waits for time to pass.
        let now = if self.core.stage == Stage::Serving {
            self.now
        } else {
            Timestamp(u64::MAX)
        };
        while let Some(reply_to) = self.core.broadcast.next_rested(now) {
            self.finish_task(reply_to, Vec::new());
        }
        let synced = self.core.partition.log().synced();
        while let Some((from, ticket, is_synced)) = self.core.broadcast.next_synced(now, synced) {
            self.found(from, ticket, ShardResult::Count(u64::from(is_synced)));
        }
        if self.core.broadcast.looks_for_checkpoint(now) && !self.core.board.is_checkpointing() {
            let stands = !self.core.board.has_failed_checkpoint();
            for reply_to in self.core.broadcast.checkpointed() {
                self.finish_task(reply_to, vec![ShardResult::Count(u64::from(stands))]);
            }
        }
    }

    /// Lets everybody go on once `CLIENT PAUSE` is over.
    pub(super) fn look_after_pause(&mut self) {
        if self.core.context.paused.get().is_some() && self.core.context.pause().is_none() {
            self.core.context.paused.set(None);
            let all: Vec<_> = self.world.connections().identified().map(|(id, _)| id).collect();
            for id in all {
                self.make_ready(id);
                self.world.connections().touch(id);
            }
        }
    }

    /// Closes connections that have been silent for longer than the setting allows.
    pub(super) fn look_after_silent(&mut self) {
        let seconds = self.core.context.settings.number(Number::IdleSecondsMax).unsigned_abs();
        let now = self.now;
        if seconds == 0 || now < self.core.next_idle_look {
            return;
        }
        self.core.next_idle_look = now.plus_ms(IDLE_LOOK_MS);
        let silent: Vec<_> = self
            .world
            .connections()
            .identified()
            .filter(|(_, client)| {
                let session = &client.session;
                let silent_ms = now.unix_ms().saturating_sub(session.latest_ms());
                silent_ms > seconds * 1000 && !session.is_subscriber() && session.unanswered() == 0
            })
            .map(|(id, _)| id)
            .collect();
        for id in silent {
            self.world.connections().abandon(id);
        }
    }

    /// This shard's figures.
    fn report(&mut self) -> ShardReport {
        let mut report = self.core.context.statistics.borrow().report();
        for (_, client) in self.world.connections().identified() {
            report.subscribers += u64::from(client.session.is_subscriber());
            report.watchers += u64::from(client.session.is_watcher());
            report.buffered_bytes += client.session.buffered_bytes() as u64;
        }
        let subscriptions = self.core.context.subscriptions.borrow();
        report.channels = subscriptions.channels(false, None);
        report.patterns = subscriptions.patterns();
        let counts = self.core.partition.shard().counts().books;
        (report.items, report.orders, report.orders_held) = (counts.shop.items, counts.shop.orders, counts.shop.held);
        report.keys = counts.entries.entries;
        report.expiring_keys = self.core.partition.shard().expiring_keys() as u64;
        report.transactions_in_flight = self.core.partition.shard().transactions_in_flight() as u64;
        report.safe_positions = vec![(self.core.id.0, self.core.partition.safe().0)];
        report.syncs = self.core.syncs.clone();
        report
    }
}
