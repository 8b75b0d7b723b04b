//! What a command sees of the keyspace while it runs.
//!
//! Made for one request by [`super::run`] (keys of this shard, in place) or [`super::transaction`] (keys of several
//! shards, collected). A command reads, and changes keys by effects, which are applied at once, so that it and those
//! after it in a transaction see them, and are logged as one record after the last.

use cartwright_core::prng::{Random, SplitMix64};
use cartwright_protocol::Slot;
use cartwright_protocol::command::KeyPlaces;
use cartwright_protocol::resp::Arguments;
use compact_str::format_compact;
use smallvec::SmallVec;

use super::answer::Answer;
use super::bytes::ValueBytes;
use super::collected::Collected;
use super::effect::{EFFECT_OVERHEAD_BYTES, Effect};
use super::image::{image_bytes_max, put_image};
use super::name::Name;
use super::scan::{Scan, Scanned};
use super::types::value::Held;
use super::types::{Change, Value};
use super::value::Entry;
use crate::engine::kernel::ids::{LogPosition, ShardMap, Timestamp};
use crate::engine::kernel::state::State;

/// Where the keys are.
#[derive(Debug)]
pub(super) enum Store<'a> {
    /// All on this shard.
    Here(&'a mut State),
    /// Collected from several shards.
    Collected(&'a mut Collected),
}

impl Store<'_> {
    /// The entry, and what an answer about it has to wait for.
    #[inline]
    fn look_up(&self, name: Name<'_>) -> (Option<&Entry>, LogPosition) {
        match self {
            Self::Here(state) => {
                let slot = &state.slot(name.slot).books.entries;
                let entry = slot.table.find(name.hash, name.bytes);
                (entry, entry.map_or(slot.removed_at, |entry| entry.version))
            }
            // Each shard has said what its part reveals.
            Self::Collected(collected) => (collected.table.find(name.hash, name.bytes), LogPosition::ZERO),
        }
    }
}

/// Effects, in order, apart by the shard that they go to.
#[derive(Debug, Default)]
pub(super) struct EffectLogs {
    logs: SmallVec<[(u16, Vec<u8>); 1]>,
}

impl EffectLogs {
    /// All for one shard, into memory that was used before.
    pub fn into_one(shard: u16, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let mut logs = SmallVec::new();
        logs.push((shard, buffer));
        Self { logs }
    }

    fn log(&mut self, shard: u16) -> &mut Vec<u8> {
        let index = self.logs.iter().position(|&(other, _)| other == shard);
        let index = index.unwrap_or_else(|| {
            self.logs.push((shard, Vec::new()));
            self.logs.len() - 1
        });
        &mut self.logs[index].1
    }

    /// By shard.
    pub fn into_logs(self) -> impl Iterator<Item = (u16, Vec<u8>)> {
        self.logs.into_iter()
    }
}

/// The keys of one request, to be read and changed by its commands one after the other.
#[derive(Debug)]
pub struct Keys<'a> {
    pub(super) store: Store<'a>,
    pub(super) map: ShardMap,
    /// The step's time.
    pub now: Timestamp,
    /// Where the record of this request's changes will be.
    pub(super) position: LogPosition,
    pub(super) logs: EffectLogs,
    /// What the answer has to wait for: the latest change of anything that was read.
    pub(super) reveals: LogPosition,
    /// Bytes of effects that are left beside those that arguments alone come to.
    pub(super) spare_bytes: usize,
    /// Longest string that may be made.
    pub(super) string_bytes_max: usize,
    /// Whether the running command may change anything.
    pub(super) writes: bool,
    /// The running command's keys: their places, and their slots.
    pub(super) places: KeyPlaces,
    pub(super) slots: &'a [Slot],
    /// Which of the request's commands is running.
    pub(super) index: usize,
    /// For `RANDOMKEY` and its like: any number, another one each time.
    pub(super) dice: &'a mut Random<SplitMix64>,
}

impl<'a> Keys<'a> {
    /// The key in the argument with this index.
    #[inline]
    pub fn name<'n>(&self, arguments: Arguments<'n>, index: usize) -> Name<'n> {
        let bytes = arguments.get(index).unwrap_or_default();
        let place = (index as u32).wrapping_sub(self.places.first) / self.places.step;
        match self.slots.get(place as usize) {
            Some(&slot) => Name::in_slot(bytes, slot),
            None => Name::of(bytes),
        }
    }

    /// Every key among the arguments.
    pub fn names<'n>(&self, arguments: Arguments<'n>) -> impl Iterator<Item = Name<'n>> + use<'a, 'n> {
        let slots = self.slots;
        self.places
            .indices()
            .zip(slots)
            .map(move |(index, &slot)| Name::in_slot(arguments.get(index).unwrap_or_default(), slot))
    }

    /// What the key holds. For a command that may change it, a key that has expired is removed first.
    #[inline]
    pub fn find(&mut self, name: Name<'_>) -> Option<&Entry> {
        if self.writes && self.may_be_overdue() {
            self.remove_overdue(name);
        }
        let Self {
            store, reveals, now, ..
        } = self;
        let (entry, shows) = store.look_up(name);
        *reveals = (*reveals).max(shows);
        entry.filter(|entry| entry.is_alive(*now))
    }

    /// Whether any key here can have expired and still be in a table.
    fn may_be_overdue(&self) -> bool {
        match &self.store {
            Store::Here(state) => state
                .books
                .entries
                .expirations
                .first()
                .is_some_and(|&(at, ..)| at <= self.now),
            Store::Collected(_) => true,
        }
    }

    fn remove_overdue(&mut self, name: Name<'_>) {
        let (entry, _) = self.store.look_up(name);
        if entry.is_some_and(|entry| !entry.is_alive(self.now)) {
            self.write(name, &Effect::Delete { key: name.bytes });
        }
    }

    /// What `WATCH` compares: changes whenever the key does.
    pub fn version(&mut self, name: Name<'_>) -> LogPosition {
        match &self.store {
            Store::Here(state) => {
                let slot = &state.slot(name.slot).books.entries;
                let entry = slot.table.find(name.hash, name.bytes);
                let (version, shows) = match entry.filter(|entry| entry.is_alive(self.now)) {
                    Some(entry) => (entry.version, entry.version),
                    None => (slot.removals.version(name.hash), slot.removed_at),
                };
                self.reveals = self.reveals.max(shows);
                version
            }
            Store::Collected(collected) => collected.version(name, self.now),
        }
    }

    /// The value that the key holds, which must be of this type.
    #[inline]
    pub fn value<T: Held>(&mut self, name: Name<'_>) -> Result<Option<&T>, Answer> {
        match self.find(name) {
            None => Ok(None),
            Some(entry) => T::of(&entry.value).map(Some).ok_or_else(Answer::wrong_type),
        }
    }

    /// Changes a key. What the effect takes must come from the command's arguments, or have been found to
    /// [fit](Self::fits).
    #[inline]
    pub fn write(&mut self, name: Name<'_>, effect: &Effect<'_>) {
        assert!(self.writes, "only commands that say so change keys");
        match &mut self.store {
            Store::Here(state) => {
                effect.encode(&mut self.logs.logs[0].1);
                state.apply_effect(self.position, name.slot, name.hash, effect);
            }
            Store::Collected(collected) => {
                effect.encode(self.logs.log(self.map.shard_of(name.slot).0));
                effect.apply(&mut collected.table, name.hash, self.position);
            }
        }
    }

    /// Changes the value of a key, or makes one.
    #[inline]
    pub fn change<'c>(&mut self, name: Name<'c>, change: impl Into<Change<'c>>) {
        let effect = Effect::Change {
            key: name.bytes,
            change: change.into(),
        };
        self.write(name, &effect);
    }

    /// Removes the key; whether it was there.
    pub fn delete(&mut self, name: Name<'_>) -> bool {
        let is_there = self.find(name).is_some();
        if is_there {
            self.write(name, &Effect::Delete { key: name.bytes });
        }
        is_there
    }

    /// Whether an effect that takes so many bytes more than the arguments it comes from can be logged.
    pub fn fits(&mut self, bytes: usize) -> Result<(), Answer> {
        let bytes = bytes + EFFECT_OVERHEAD_BYTES;
        if bytes > self.spare_bytes {
            return Err(Answer::Error(format_compact!(
                "ERR the change takes {bytes} bytes of log in one piece, and {} are left of the limit",
                self.spare_bytes
            )));
        }
        self.spare_bytes -= bytes;
        Ok(())
    }

    /// Has the key hold this value, as a whole. Of its image, so many bytes come from the command's arguments.
    pub fn put(
        &mut self,
        name: Name<'_>,
        value: &Value,
        expires_at: Timestamp,
        argument_bytes: usize,
    ) -> Result<(), Answer> {
        let mut image = Vec::with_capacity(image_bytes_max(value));
        put_image(&mut image, value);
        self.fits(image.len().saturating_sub(argument_bytes))?;
        let effect = Effect::Restore {
            key: name.bytes,
            image: &image,
            expires_at,
        };
        self.write(name, &effect);
        Ok(())
    }

    /// A copy of the entry: the value itself is shared.
    pub fn copy_of(&mut self, name: Name<'_>) -> Option<Entry> {
        self.find(name).cloned()
    }

    /// How many keys there are.
    pub fn count(&mut self) -> u64 {
        match &self.store {
            Store::Here(state) => {
                self.reveals = self.reveals.max(state.books.entries.changed_at);
                state.counts.books.entries.entries
            }
            Store::Collected(collected) => collected.count(),
        }
    }

    /// The names of the keys that are there and that `is_wanted`. What they reveal is waited for.
    pub fn matching(&mut self, mut is_wanted: impl FnMut(&[u8]) -> bool) -> Vec<ValueBytes> {
        match &self.store {
            Store::Here(state) => {
                self.reveals = self.reveals.max(state.books.entries.changed_at);
                let entries = state.slots().flat_map(|(_, slot)| slot.books.entries.table.iter());
                entries
                    .filter(|entry| is_wanted(&entry.key) && entry.is_alive(self.now))
                    .map(|entry| entry.key.clone())
                    .collect()
            }
            Store::Collected(collected) => collected.names(self.index, self.now, is_wanted),
        }
    }

    /// Any key that is there.
    pub fn any(&mut self) -> Option<ValueBytes> {
        let draw = self.dice.bits();
        match &self.store {
            Store::Here(state) => {
                self.reveals = self.reveals.max(state.books.entries.changed_at);
                any_of(state, draw, self.now)
            }
            Store::Collected(collected) => collected.any(self.index, draw, self.now),
        }
    }

    /// Drops all keys.
    pub fn flush(&mut self) {
        match &mut self.store {
            Store::Here(state) => {
                if state.counts.books.entries.entries > 0 {
                    Effect::Flush.encode(&mut self.logs.logs[0].1);
                    state.flush_entries(self.position);
                }
            }
            Store::Collected(collected) => {
                for shard in self.map.shards() {
                    Effect::Flush.encode(self.logs.log(shard.0));
                }
                collected.flush();
            }
        }
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.dice.bits()
    }

    /// The keys that a scan finds from its cursor on.
    pub fn scan(&mut self, scan: &Scan<'_>) -> Option<Scanned> {
        match &self.store {
            Store::Here(state) => {
                let (shard, map) = state.owner();
                if map.shard_of(scan.slot()) != shard {
                    return None;
                }
                let scanned = scan.keys(state, self.now);
                self.reveals = self.reveals.max(scanned.reveals);
                Some(scanned)
            }
            Store::Collected(collected) => collected.scanned(self.index, scan, self.now),
        }
    }
}

/// Any key of a shard that is there: slots are tried from a place that `draw` says on.
pub(super) fn any_of(state: &State, draw: u64, now: Timestamp) -> Option<ValueBytes> {
    let (shard, map) = state.owner();
    let range = map.slots_of(shard);
    let start = draw as usize % range.len();
    for step in 0..range.len() {
        let index = range.start + (start + step) % range.len();
        let slot = Slot::new(index as u16).expect("a shard's slots are slots");
        let entries = &state.slot(slot).books.entries.table;
        if entries.is_empty() {
            continue;
        }
        // From a place within the slot on, and from its beginning where there is none alive behind it.
        let from = (draw >> 20) & ((1 << super::types::hash::PLACE_BITS) - 1);
        for from in [from, 0] {
            let mut found = None;
            let mut next = Some(from);
            while let (None, Some(at)) = (&found, next) {
                next = entries.walk(at, super::types::hash::PLACE_BITS, 1, |entry| {
                    if found.is_none() && entry.is_alive(now) {
                        found = Some(entry.key.clone());
                    }
                });
            }
            if found.is_some() {
                return found;
            }
        }
    }
    None
}
