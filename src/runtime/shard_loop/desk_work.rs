//! The shard loop's part in what sessions ask of the server: see [`crate::runtime::desk`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use super::{ShardLoop, Stage, connection_of};
use crate::engine::{ReplyTo, ShardId, Timestamp};
use crate::runtime::desk::{self, DeskMail, Ticket};
use crate::runtime::mailbox::Mail;
use crate::runtime::shared::Tally;
use crate::session::report::{Durations, ShardReport};
use crate::session::server_task::{ServerTask, ShardQuery, ShardResult};
use crate::session::settings::Number;

/// How often connections are looked through for silent ones, where `timeout` is set.
const IDLE_LOOK_MS: u64 = 1000;

impl ShardLoop {
    /// Begins what a session asks of the server.
    pub(super) fn begin_task(&mut self, reply_to: ReplyTo, task: ServerTask) {
        match task {
            ServerTask::Everywhere(query) => {
                let ticket = self.desk.ask(reply_to, self.map.shard_count());
                let own = self.id;
                for shard in self.map.shards().filter(|&shard| shard != own) {
                    // A shard without subscribers has nothing to do with a message. Who subscribes is told so only
                    // after this says otherwise.
                    if let ShardQuery::Publish(messages) = &*query
                        && !self.shared.tallies[shard.index()]
                            .has_subscribers
                            .load(Ordering::SeqCst)
                    {
                        self.found(self.id, ticket, ShardResult::Counts(vec![0; messages.len()]));
                    } else {
                        let mail = DeskMail::Query(ticket, Arc::clone(&query));
                        self.mailboxes.post(shard, Mail::Desk(mail));
                    }
                }
                self.answer_query(self.id, ticket, &query);
            }
            ServerTask::Rest { until_ms } => self.desk.rest(until_ms, reply_to),
            ServerTask::Save => {
                self.shared.request_checkpoint(true);
                self.desk.await_checkpoint(reply_to);
            }
        }
    }

    /// Answers what a shard, perhaps this one, asks.
    pub(super) fn answer_query(&mut self, from: ShardId, ticket: Ticket, query: &ShardQuery) {
        let result = match query {
            ShardQuery::Sync { until_ms } => {
                let position = self.partition.log().last();
                self.partition.want_synced(position);
                return self.desk.await_sync(position, *until_ms, from, ticket);
            }
            ShardQuery::Report => ShardResult::Report(Box::new(self.report())),
            ShardQuery::ResetStatistics => {
                self.context.statistics.borrow_mut().reset();
                self.context.commands.set(0);
                self.syncs = Durations::default();
                if self.id == ShardId(0) {
                    self.shared.connections_received.store(0, Ordering::Relaxed);
                }
                ShardResult::Nothing
            }
            other => {
                let asker = (from == self.id).then(|| self.desk.asker(ticket)).flatten();
                let asker = asker.map(connection_of);
                desk::find(other, asker, &mut self.network, &self.context)
                    .expect("everything else is answered from connections")
            }
        };
        self.found(from, ticket, result);
    }

    /// What this shard found for another, or some shard for this one.
    pub(super) fn found(&mut self, to: ShardId, ticket: Ticket, result: ShardResult) {
        if to != self.id {
            let mail = DeskMail::Result(ticket, Box::new(result));
            self.mailboxes.post(to, Mail::Desk(mail));
        } else if let Some((reply_to, results)) = self.desk.take(ticket, result) {
            self.finish_task(reply_to, results);
        }
    }

    fn finish_task(&mut self, reply_to: ReplyTo, results: Vec<ShardResult>) {
        self.in_flight -= 1;
        let id = connection_of(reply_to);
        if let Some(client) = self.network.endpoint(id) {
            client.session.complete_task(reply_to.sequence, results);
            self.network.touch(id);
            self.make_ready(id);
        }
    }

    /// Ends what has been waited for long enough.
    pub(super) fn look_after_desk(&mut self, now: Timestamp) {
        // A stop waits for what is in flight, and so lets everybody go who only waits for time to pass.
        let now = if self.stage == Stage::Serving {
            now
        } else {
            Timestamp(u64::MAX)
        };
        for reply_to in self.desk.rested(now) {
            self.finish_task(reply_to, Vec::new());
        }
        let synced = self.partition.log().synced();
        for (from, ticket, is_synced) in self.desk.synced(now, synced) {
            self.found(from, ticket, ShardResult::Count(u64::from(is_synced)));
        }
        if self.desk.looks_for_checkpoint(now) && !self.shared.is_checkpointing() {
            let failed = |tally: &CachePadded<Tally>| tally.checkpoints.failed.load(Ordering::Relaxed);
            let stands = !self.shared.tallies.iter().any(failed);
            for reply_to in self.desk.checkpointed() {
                self.finish_task(reply_to, vec![ShardResult::Count(u64::from(stands))]);
            }
        }
    }

    /// Lets everybody go on once `CLIENT PAUSE` is over.
    pub(super) fn look_after_pause(&mut self) {
        if self.context.paused.get().is_some() && self.context.pause().is_none() {
            self.context.paused.set(None);
            let all: Vec<_> = self.network.identified().map(|(id, _)| id).collect();
            for id in all {
                self.make_ready(id);
                self.network.touch(id);
            }
        }
    }

    /// Closes connections that have been silent for longer than the setting allows.
    pub(super) fn look_after_silent(&mut self, now: Timestamp) {
        let seconds = self.context.settings.number(Number::IdleSecondsMax).unsigned_abs();
        if seconds == 0 || now < self.next_idle_look {
            return;
        }
        self.next_idle_look = now.plus_ms(IDLE_LOOK_MS);
        let silent: Vec<_> = self
            .network
            .identified()
            .filter(|(_, client)| {
                let session = &client.session;
                let silent_ms = now.unix_ms().saturating_sub(session.latest_ms());
                silent_ms > seconds * 1000 && !session.is_subscriber() && session.unanswered() == 0
            })
            .map(|(id, _)| id)
            .collect();
        for id in silent {
            self.network.abandon(id);
        }
    }

    /// This shard's figures.
    fn report(&mut self) -> ShardReport {
        let mut report = self.context.statistics.borrow().report();
        for client in self.network.endpoints() {
            report.subscribers += u64::from(client.session.is_subscriber());
            report.watchers += u64::from(client.session.is_watcher());
            report.buffered_bytes += client.session.buffered_bytes() as u64;
        }
        let subscriptions = self.context.subscriptions.borrow();
        report.channels = subscriptions.channels(false, None);
        report.patterns = subscriptions.patterns();
        let counts = self.partition.shard().counts();
        (report.items, report.orders, report.orders_held) = (counts.items, counts.orders, counts.held);
        report.keys = counts.entries;
        report.expiring_keys = self.partition.shard().expiring_keys() as u64;
        report.transactions_in_flight = self.partition.shard().transactions_in_flight() as u64;
        report.safe_positions = vec![(self.id.0, self.partition.safe().0)];
        report.syncs = self.syncs.clone();
        report
    }
}
