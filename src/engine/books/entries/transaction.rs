//! Requests to keys of several shards: what the coordinator asks of this book.
//!
//! Each shard takes its keys and says what they hold ([`Collected`]); at the home the request is run on all of that, and
//! what it does goes to the shards as effects, to be logged there.

use std::sync::Arc;

use cartwright_protocol::command::KeyPlaces;
use cartwright_protocol::{Error, Slot};
use smallvec::SmallVec;

use super::answer::Answer;
use super::bytes::ValueBytes;
use super::collected::Collected;
use super::keys::{EffectLogs, Keys, Store};
use super::locks::Ticket;
use super::request::KeyRequest;
use super::run::{refusal, route_of};
use crate::engine::books::{Findings, Pieces, Purpose};
use crate::engine::kernel::ids::{LogPosition, ShardId};
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::transaction::InFlight;
use crate::engine::kernel::transaction::home::Part;

/// What a request does to keys, by shard.
pub type ShardEffects = Vec<(ShardId, Vec<u8>)>;

impl Step<'_> {
    /// Takes on a request with keys on other shards.
    pub(super) fn begin_key_transaction(&mut self, reply_to: ReplyTo, request: Box<KeyRequest>) {
        let limit = self.shard.limits.transactions_max;
        if self.shard.in_flight.len() >= limit {
            let error = self.shard.busy("transactions in flight", limit);
            return self.answer_keys(reply_to, refusal(&error), LogPosition::ZERO);
        }
        if let Err(error) = self.spare_bytes(&request, false) {
            return self.answer_keys(reply_to, refusal(&error), LogPosition::ZERO);
        }
        // What takes shards as a whole is never free in a shop that is open.
        let waits = request.takes_shard(|_| true);
        let request: Arc<KeyRequest> = Arc::from(request);
        let route = route_of(self.shard, &request);
        let parts: SmallVec<[Part; 2]> = route
            .into_iter()
            .map(|shard| Part::new(shard, Pieces::of_entries(request.clone())))
            .collect();
        let purpose = Purpose::Entries(request);
        self.begin_transaction(InFlight::new(Some(reply_to), None, purpose, parts), waits);
    }

    /// Takes the request's keys of this shard, or queues up for them where it may wait; whether they are free already.
    /// `None`: they are not, and it may not wait.
    pub fn take_keys(&mut self, request: &KeyRequest, waits: bool) -> (Option<Ticket>, bool) {
        let (map, id) = (self.shard.map, self.shard.id);
        let here = |slot: Slot| map.shard_of(slot) == id;
        let own = || request.keys().filter(|&(_, slot)| here(slot)).map(|(key, _)| key);
        let takes_shard = request.takes_shard(here);
        let locks = &mut self.shard.books.entries.locks;
        let is_free = locks.are_unused() || (!takes_shard && locks.are_free(own()));
        if !is_free && !waits {
            return (None, false);
        }
        let (ticket, is_free) = locks.take(own().map(ValueBytes::new).collect(), takes_shard);
        (Some(ticket), is_free)
    }

    /// What the request's keys of this shard hold, and up to where that shows the log.
    pub fn collect(&mut self, request: &KeyRequest) -> (Findings, LogPosition) {
        let draw = self.shard.books.entries.dice.bits();
        let mut collected = Box::new(Collected::default());
        let shows = collected.add(&self.shard.state, request, self.shard.now, draw);
        let entries = Some(collected);
        (Findings { entries }, shows)
    }

    /// Runs a request on what its keys hold: its answer, and what it does, by shard.
    pub fn run_collected(
        &mut self,
        request: &KeyRequest,
        collected: &mut Collected,
    ) -> Result<(Answer, ShardEffects), Error> {
        let spare_bytes = self.spare_bytes(request, false)?;
        let shard = &mut *self.shard;
        let mut keys = Keys {
            store: Store::Collected(collected),
            map: shard.map,
            now: shard.now,
            position: LogPosition::ZERO,
            logs: EffectLogs::default(),
            reveals: LogPosition::ZERO,
            spare_bytes,
            string_bytes_max: shard.limits.books.entries.string_bytes_max,
            writes: false,
            places: KeyPlaces::NONE,
            slots: &[],
            index: 0,
            dice: &mut shard.books.entries.dice,
        };
        let answer = keys.run(request);
        let logs = keys.logs.into_logs().filter(|(_, log)| !log.is_empty());
        let effects = logs.map(|(shard, log)| (ShardId(shard), log)).collect();
        Ok((answer, effects))
    }
}
