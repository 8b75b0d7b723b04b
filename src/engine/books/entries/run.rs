//! The parts of a step about keys: a request is run at once where all its keys are here and free; else it waits for
//! them, or takes its way over the shards (see [`super::transaction`]).

use std::collections::VecDeque;

use cartwright_core::prng::{Random, SplitMix64};
use cartwright_protocol::command::KeyPlaces;
use cartwright_protocol::{Error, ErrorCode, Slot};
use hashbrown::HashSet;

use super::answer::Answer;
use super::bytes::ValueBytes;
use super::effect::{EFFECT_OVERHEAD_BYTES, EFFECTS_BYTES_MAX, Effect, LARGE_EFFECTS_BYTES_MAX};
use super::image::image_bytes_max;
use super::keys::{EffectLogs, Keys, Store};
use super::locks::{Locks, Waiting};
use super::name::Name;
use super::records::EntriesRecord;
use super::request::{Invocation, KeyRequest};
use super::slot::Expiry;
use crate::engine::books::BookRecord;
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::{LogPosition, ShardId, Timestamp};
use crate::engine::kernel::message::Ask;
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::shard::{EXPIRY_RETRY_MS, Shard, Step};

/// How many expired keys one tick removes, and how many bytes of names.
const EXPIRATIONS_PER_TICK_MAX: usize = 256;

/// How many it looks at for that.
const LOOKED_AT_PER_TICK_MAX: usize = 4096;
const EXPIRED_BYTES_PER_TICK_MAX: usize = 1 << 20;

/// Memory for effects that is kept from one record to the next.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// What a shard knows of requests to keys that are not over. Volatile.
#[derive(Debug)]
pub struct Keyspace {
    /// Who has which keys.
    pub locks: Locks,
    /// Changes that wait for the end of an audit, and reads behind them.
    paused: VecDeque<(ReplyTo, Box<KeyRequest>)>,
    /// Hashes of the keys that these change.
    paused_keys: HashSet<u64, TableHasher>,
    /// Active expiry found no room: it is not tried before.
    pub expiry_retry_at: Timestamp,
    /// What is drawn.
    pub dice: Random<SplitMix64>,
    buffer: Vec<u8>,
}

impl Keyspace {
    /// Whether a change of one of these keys waits for the end of an audit: who sent both sees the change.
    fn is_behind_paused(&self, request: &KeyRequest) -> bool {
        !self.paused_keys.is_empty()
            && request
                .keys()
                .any(|(key, _)| self.paused_keys.contains(&Name::of(key).hash))
    }

    /// Nothing in flight.
    pub fn new(seed: u64) -> Self {
        Self {
            locks: Locks::default(),
            paused: VecDeque::new(),
            paused_keys: HashSet::default(),
            expiry_retry_at: Timestamp::default(),
            dice: Random::new(seed),
            buffer: Vec::new(),
        }
    }
}

impl Shard {
    /// How many keys expire some day.
    pub fn expiring_keys(&self) -> usize {
        self.state.books.entries.expirations.len()
    }

    /// How much log in one piece a request whose home is this shard may take, with all that has to stay free beside it;
    /// 0 for what the log usually has room for, which nearly every request is. What its commands carry from value to
    /// value is as long as it is now, and what the request itself may add.
    pub fn log_piece_wanted(&self, ask: &Ask) -> u64 {
        match ask {
            Ask::Keys(request) if request.may_be_large() => self.key_log_piece_wanted(request),
            Ask::Keys(_) | Ask::Shop(_) | Ask::Together(_) => 0,
        }
    }

    fn key_log_piece_wanted(&self, request: &KeyRequest) -> u64 {
        let arguments = request.effect_bytes_max();
        // What is over the limit is refused.
        if arguments > LARGE_EFFECTS_BYTES_MAX || !self.runs_here(request) {
            return 0;
        }
        let added = if request.is_transaction { arguments } else { 0 };
        let carriers = request
            .invocations
            .iter()
            .filter(|invocation| invocation.command.carries());
        let carried: usize = carriers
            .map(|invocation| self.longest_image(invocation) + added + EFFECT_OVERHEAD_BYTES)
            .sum();
        let bytes = arguments + carried;
        if bytes <= EFFECTS_BYTES_MAX || (bytes > LARGE_EFFECTS_BYTES_MAX && !request.is_transaction) {
            return 0;
        }
        bytes.min(LARGE_EFFECTS_BYTES_MAX) as u64 + self.bytes_around()
    }

    /// Bytes of the longest image among those of an invocation's keys.
    fn longest_image(&self, invocation: &Invocation) -> usize {
        let arguments = invocation.arguments.get();
        let keys = invocation.keys.indices().filter_map(|index| arguments.get(index));
        let images = keys.map(|key| {
            let name = Name::of(key);
            let entry = self.state.slot(name.slot).books.entries.table.find(name.hash, key);
            entry.map_or(0, |entry| image_bytes_max(&entry.value))
        });
        images.max().unwrap_or(0)
    }

    fn is_here(&self, slot: Slot) -> bool {
        self.map.shard_of(slot) == self.id
    }

    /// Whether no other shard has a part in the request.
    fn runs_here(&self, request: &KeyRequest) -> bool {
        if self.map.shard_count() == 1 {
            return true;
        }
        request.slots.iter().all(|&slot| self.is_here(slot))
            && request
                .watched
                .iter()
                .all(|watched| self.is_here(Slot::of(&watched.key)))
            && request.cursor_slots().all(|slot| self.is_here(slot))
            && !request.is_everywhere()
    }
}

impl KeyRequest {
    /// Bytes of effects that the arguments can come to: each argument once, and each key once more, where an expired
    /// one is removed first.
    fn effect_bytes_max(&self) -> usize {
        let mut bytes = 0;
        for invocation in self.invocations.iter().filter(|invocation| invocation.command.writes()) {
            let arguments = invocation.arguments.get();
            let keys = invocation.keys.indices().filter_map(|index| arguments.get(index));
            bytes += invocation.arguments.bytes()
                + keys.map(<[u8]>::len).sum::<usize>()
                + (arguments.len() + 1) * EFFECT_OVERHEAD_BYTES;
        }
        bytes
    }
}

impl<'a> Keys<'a> {
    /// Runs the request's commands.
    pub(super) fn run(&mut self, request: &'a KeyRequest) -> Answer {
        let watched = &request.watched;
        if watched
            .iter()
            .any(|watched| self.version(Name::of(&watched.key)) != watched.version)
        {
            return Answer::NilArray;
        }
        let mut slots = &request.slots[..];
        let mut run = |keys: &mut Self, index: usize| {
            let invocation = &request.invocations[index];
            (keys.slots, slots) = slots.split_at(invocation.keys.count as usize);
            keys.places = invocation.keys;
            keys.writes = invocation.command.writes();
            keys.index = index;
            (invocation.command.run)(keys, invocation.arguments.get())
        };
        if !request.is_transaction && request.invocations.len() == 1 {
            return run(self, 0);
        }
        Answer::Array((0..request.invocations.len()).map(|index| run(self, index)).collect())
    }
}

impl Step<'_> {
    /// A request to the keyspace whose home is this shard.
    pub fn on_keys(&mut self, reply_to: ReplyTo, request: Box<KeyRequest>) {
        if self.shard.auditing.is_paused() && (request.writes() || self.shard.books.entries.is_behind_paused(&request))
        {
            return self.pause_keys(reply_to, request);
        }
        if !self.shard.runs_here(&request) {
            return self.begin_key_transaction(reply_to, request);
        }
        let locks = &self.shard.books.entries.locks;
        let takes_shard = || request.takes_shard(|slot| self.shard.is_here(slot));
        if locks.are_unused() || (!takes_shard() && locks.are_free(request.keys().map(|(key, _)| key))) {
            return self.run_keys(reply_to, &request);
        }
        if let Err(error) = self.may_wait_for_keys() {
            return self.answer_keys(reply_to, refusal(&error), LogPosition::ZERO);
        }
        let takes_shard = takes_shard();
        let locks = &mut self.shard.books.entries.locks;
        if request.only_walks() {
            return locks.look_on(Waiting::Request(reply_to, request));
        }
        let keys = request.keys().map(|(key, _)| ValueBytes::new(key)).collect();
        let (ticket, is_free) = locks.take(keys, takes_shard);
        if is_free {
            self.run_keys(reply_to, &request);
            self.shard.books.entries.locks.release(ticket);
        } else {
            locks.wait(ticket, Waiting::Request(reply_to, request));
        }
    }

    /// Whether one more may queue up for keys.
    pub fn may_wait_for_keys(&self) -> Result<(), Error> {
        let limit = self.shard.limits.waiting_max;
        if self.shard.books.entries.locks.waiting_count() < limit {
            return Ok(());
        }
        Err(self.shard.busy("requests waiting for keys", limit))
    }

    fn pause_keys(&mut self, reply_to: ReplyTo, request: Box<KeyRequest>) {
        let limit = self.shard.limits.waiting_max;
        if self.shard.books.entries.paused.len() >= limit {
            let error = self.shard.busy("changes waiting for an audit", limit);
            return self.answer_keys(reply_to, refusal(&error), LogPosition::ZERO);
        }
        let entries = &mut self.shard.books.entries;
        if request.writes() {
            let hashes = request.keys().map(|(key, _)| Name::of(key).hash);
            entries.paused_keys.extend(hashes);
        }
        entries.paused.push_back((reply_to, request));
    }

    /// An audit is over: what waited for its end goes on.
    pub(in crate::engine) fn resume_keys(&mut self) {
        self.shard.books.entries.paused_keys.clear();
        for (reply_to, request) in std::mem::take(&mut self.shard.books.entries.paused) {
            self.on_keys(reply_to, request);
        }
    }

    pub fn answer_keys(&mut self, reply_to: ReplyTo, answer: Answer, after: LogPosition) {
        self.output.replies.push((reply_to, answer.into(), after));
    }

    /// Bytes of effects that the request may make beside those its arguments come to; or why it is refused. Where other
    /// shards have a part in it, none of them can have more log made ready.
    pub fn spare_bytes(&self, request: &KeyRequest, runs_here: bool) -> Result<usize, Error> {
        if !request.writes() {
            return Ok(0);
        }
        let limits = &self.shard.limits.books.entries;
        if self.shard.state.counts.books.entries.entries >= limits.entries_max {
            // What makes keys fewer is taken all the same.
            if !request
                .invocations
                .iter()
                .all(|invocation| invocation.command.removes_only())
            {
                return Err(self.shard.busy("keys", limits.entries_max as usize));
            }
        }
        let (needed, room) = (request.effect_bytes_max(), self.shard.room_bytes() as usize);
        let (room, limit, what) = if runs_here {
            let piece = LARGE_EFFECTS_BYTES_MAX.min(self.shard.piece_bytes() as usize);
            let room = EFFECTS_BYTES_MAX.min(room).max(piece);
            (room, LARGE_EFFECTS_BYTES_MAX, "the change")
        } else {
            let room = EFFECTS_BYTES_MAX.min(room);
            (room, EFFECTS_BYTES_MAX, "the change of keys on several shards")
        };
        if needed > limit {
            let text = compact_str::format_compact!(
                "{what} may take {needed} bytes of log, the limit is {limit}; send it in several"
            );
            return Err(Error::new(ErrorCode::Err, text));
        }
        let spare = room.checked_sub(needed);
        spare.ok_or_else(|| self.shard.no_room())
    }

    /// Runs a request all of whose keys are here and free: one step, at most one record.
    fn run_keys(&mut self, reply_to: ReplyTo, request: &KeyRequest) {
        let spare_bytes = match self.spare_bytes(request, true) {
            Ok(bytes) => bytes,
            Err(error) => return self.answer_keys(reply_to, refusal(&error), LogPosition::ZERO),
        };
        self.log_staged();
        // What had to wait here may find that others have used up what was made ready for it.
        if request.may_be_large() && self.shard.key_log_piece_wanted(request) > self.shard.log_piece_bytes {
            let answer = refusal(&self.shard.no_room());
            return self.answer_keys(reply_to, answer, LogPosition::ZERO);
        }
        let shard = &mut *self.shard;
        let buffer = std::mem::take(&mut shard.books.entries.buffer);
        let mut keys = Keys {
            store: Store::Here(&mut shard.state),
            map: shard.map,
            now: shard.now,
            position: shard.end.next(),
            logs: EffectLogs::into_one(shard.id.0, buffer),
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
        let (mut after, logs) = (keys.reveals, keys.logs);
        let (_, effects) = logs.into_logs().next().expect("this shard has a log of effects");
        self.shard.books.entries.buffer = if effects.is_empty() {
            effects
        } else {
            let at = self.shard.now;
            let record = BookRecord::Entries(EntriesRecord::Changed { at, effects });
            after = self.append_applied(&record);
            let BookRecord::Entries(EntriesRecord::Changed { effects, .. }) = record else {
                unreachable!("made above")
            };
            if effects.capacity() > BUFFER_BYTES_KEPT {
                Vec::new()
            } else {
                effects
            }
        };
        self.answer_keys(reply_to, answer, after);
    }

    /// Those whose keys have become free go on; whether there was any.
    pub(in crate::engine) fn settle_keys(&mut self) -> bool {
        let mut has_moved = false;
        while let Some((ticket, waiting)) = self.shard.books.entries.locks.next_ready() {
            has_moved = true;
            match waiting {
                Waiting::Request(reply_to, request) => {
                    self.run_keys(reply_to, &request);
                    if let Some(ticket) = ticket {
                        self.shard.books.entries.locks.release(ticket);
                    }
                }
                Waiting::Visit(visit) => self.visit(*visit, None, ticket),
            }
        }
        has_moved
    }

    /// Removes keys whose time is over, some at a time, in a record of their own: replaying looks at no clock.
    pub(in crate::engine) fn expire_keys(&mut self) {
        let now = self.shard.now;
        if self.shard.books.entries.expiry_retry_at > now {
            return;
        }
        self.log_staged();
        let shard = &mut *self.shard;
        let mut effects = std::mem::take(&mut shard.books.entries.buffer);
        effects.clear();
        let locks = &shard.books.entries.locks;
        let entry_of = |&(at, slot, hash): &Expiry| {
            let slot = Slot::new(slot).expect("a shard's slots are slots");
            let entries = &shard.state.slot(slot).books.entries.table;
            let entry = entries.find_by_hash(hash, |entry| entry.expires_at == at);
            (slot, hash, entry.expect("what expires is there"))
        };
        // Those that a transaction has are left to it, and keep no other waiting.
        let due = shard
            .state
            .books
            .entries
            .expirations
            .iter()
            .take_while(|&&(at, ..)| at <= now)
            .take(LOOKED_AT_PER_TICK_MAX)
            .map(entry_of)
            .filter(|(.., entry)| locks.are_unused() || locks.are_free(std::iter::once(&entry.key[..])))
            .take(EXPIRATIONS_PER_TICK_MAX);
        let room = shard.room_bytes();
        let mut is_full = false;
        let mut expired: Vec<(Slot, u64, ValueBytes)> = Vec::new();
        for (slot, hash, entry) in due {
            let bytes = effects.len() + entry.key.len() + EFFECT_OVERHEAD_BYTES;
            if bytes as u64 > room || bytes > EFFECTS_BYTES_MAX {
                is_full = true;
                break;
            }
            Effect::Delete { key: &entry.key }.encode(&mut effects);
            expired.push((slot, hash, entry.key.clone()));
            if effects.len() > EXPIRED_BYTES_PER_TICK_MAX {
                break;
            }
        }
        if is_full || expired.is_empty() {
            shard.books.entries.expiry_retry_at = now.plus_ms(if is_full { EXPIRY_RETRY_MS } else { 1 });
        }
        if !expired.is_empty() {
            let position = shard.end.next();
            for (slot, hash, key) in &expired {
                let effect = Effect::Delete { key };
                shard.state.apply_effect(position, *slot, *hash, &effect);
            }
            let record = BookRecord::Entries(EntriesRecord::Changed { at: now, effects });
            self.append_applied(&record);
            let BookRecord::Entries(EntriesRecord::Changed { effects: used, .. }) = record else {
                unreachable!("made above")
            };
            effects = used;
        }
        self.shard.books.entries.buffer = effects;
    }
}

/// A refusal in the words of the shop's errors: code first.
pub fn refusal(error: &Error) -> Answer {
    Answer::Error(compact_str::format_compact!("{error}"))
}

/// The shards that have a part in the request, ascending.
pub fn route_of(shard: &Shard, request: &KeyRequest) -> Vec<ShardId> {
    if request.is_everywhere() {
        return shard.map.shards().collect();
    }
    let slots = request.keys().map(|(_, slot)| slot).chain(request.cursor_slots());
    let mut route: Vec<_> = slots.map(|slot| shard.map.shard_of(slot)).collect();
    route.sort_unstable();
    route.dedup();
    route
}
