//! Keys of several shards in one place: what a transaction over shards is run on.
//!
//! Filled shard by shard, each taking a lock on what it adds; then read and changed at the transaction's home. Values
//! are shared with the tables they come from.

use cartwright_core::glob::Pattern;
use cartwright_protocol::resp::Arguments;
use hashbrown::HashMap;

use super::bytes::ValueBytes;
use super::commands::spec::Scope;
use super::keys::any_of;
use super::name::Name;
use super::request::KeyRequest;
use super::scan::{Scan, Scanned, cursor_at, slot_of_cursor};
use super::table::hash_of;
use super::value::{Entry, KeyTable};
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::{LogPosition, Timestamp};
use crate::engine::kernel::state::State;

/// What all shards together say to a command that looks at more than its keys.
#[derive(Debug)]
struct Survey {
    /// Which of the request's commands.
    index: usize,
    names: Vec<ValueBytes>,
    any: Option<ValueBytes>,
    /// The number of keys that `any` was drawn from.
    drawn_from: u64,
    /// What a scan of the slot of its cursor gave.
    scanned: Option<Scanned>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Collected {
    /// The keys that are there.
    pub table: KeyTable,
    /// Those that were asked for and were there.
    found: u64,
    /// Those that were asked for, there or not, and what `WATCH` compares where they are not.
    asked: HashMap<ValueBytes, LogPosition, TableHasher>,
    surveys: Vec<Survey>,
    /// Keys of all shards that took part in a survey.
    counted: u64,
    flushed: bool,
}

impl Collected {
    /// Adds this shard's part; what it reveals.
    pub fn add(&mut self, state: &State, request: &KeyRequest, now: Timestamp, draw: u64) -> LogPosition {
        let (shard, map) = state.owner();
        let mut reveals = LogPosition::ZERO;
        for (key, slot) in request.keys().filter(|&(_, slot)| map.shard_of(slot) == shard) {
            let name = Name::in_slot(key, slot);
            let slot = &state.slot(slot).books.entries;
            let entry = slot.table.find(name.hash, key);
            reveals = reveals.max(entry.map_or(slot.removed_at, |entry| entry.version));
            let asked = self
                .asked
                .insert(ValueBytes::new(key), slot.removals.version(name.hash));
            if asked.is_some() {
                continue;
            }
            if let Some(entry) = entry {
                self.found += 1;
                self.table.insert_new(name.hash, entry.clone());
            }
        }
        if request.is_everywhere() {
            self.counted += state.counts.books.entries.entries;
            // What is not there is known as well.
            reveals = reveals.max(state.books.entries.changed_at);
        }
        for (index, invocation) in request.invocations.iter().enumerate() {
            let arguments = invocation.arguments.get();
            let shows = self.survey(state, index, invocation.command.scope, arguments, now, draw);
            reveals = reveals.max(shows);
        }
        reveals
    }

    /// Adds what another shard has found. `draw` is a random number.
    pub fn merge(&mut self, other: Self, draw: u64) {
        for entry in other.table.into_entries() {
            self.table.insert_new(hash_of(&entry.key), entry);
        }
        self.found += other.found;
        self.asked.extend(other.asked);
        self.counted += other.counted;
        for other in other.surveys {
            let Some(own) = self.surveys.iter_mut().find(|survey| survey.index == other.index) else {
                self.surveys.push(other);
                continue;
            };
            own.names.extend(other.names);
            own.scanned = own.scanned.take().or(other.scanned);
            own.drawn_from += other.drawn_from;
            // Each shard's comes through with the probability of its share.
            if other.any.is_some() && draw.rotate_left(32) % own.drawn_from < other.drawn_from {
                own.any = other.any;
            }
        }
    }

    fn survey(
        &mut self,
        state: &State,
        index: usize,
        scope: Scope,
        arguments: Arguments<'_>,
        now: Timestamp,
        draw: u64,
    ) -> LogPosition {
        if !matches!(scope, Scope::Names | Scope::Any | Scope::Cursor) {
            return LogPosition::ZERO;
        }
        let place = self.surveys.iter().position(|survey| survey.index == index);
        let place = place.unwrap_or_else(|| {
            self.surveys.push(Survey {
                index,
                names: Vec::new(),
                any: None,
                drawn_from: 0,
                scanned: None,
            });
            self.surveys.len() - 1
        });
        let survey = &mut self.surveys[place];
        if scope == Scope::Cursor {
            let (shard, map) = state.owner();
            if slot_of_cursor(arguments).is_some_and(|slot| map.shard_of(slot) == shard)
                && let Ok(scan) = Scan::of_keys(arguments)
            {
                let scanned = scan.keys(state, now);
                let reveals = scanned.reveals;
                survey.scanned = Some(scanned);
                return reveals;
            }
        } else if scope == Scope::Names {
            let pattern = Pattern::new(arguments.get(1).unwrap_or_default());
            let entries = state.slots().flat_map(|(_, slot)| slot.books.entries.table.iter());
            let wanted = entries.filter(|entry| pattern.matches_key(&entry.key) && entry.is_alive(now));
            survey.names.extend(wanted.map(|entry| entry.key.clone()));
        } else if let Some(name) = any_of(state, draw, now) {
            survey.drawn_from += state.counts.books.entries.entries;
            // Each shard's comes through with the probability of its share.
            if draw.rotate_left(32) % survey.drawn_from < state.counts.books.entries.entries {
                survey.any = Some(name);
            }
        }
        LogPosition::ZERO
    }

    /// What the scan of the command with this index found, and what the commands before it made of its part.
    pub fn scanned(&self, index: usize, scan: &Scan<'_>, now: Timestamp) -> Option<Scanned> {
        let survey = self.surveys.iter().find(|survey| survey.index == index)?;
        let mut scanned = survey.scanned.clone()?;
        scanned
            .names
            .retain(|name| !self.flushed && !self.asked.contains_key(name));
        let end = scanned.cursor;
        let own = self.table.iter().filter(|entry| {
            let place = cursor_at(&entry.key);
            place >= scan.cursor && (place < end || end == 0) && scan.wants_entry(entry, now)
        });
        scanned.names.extend(own.map(|entry| entry.key.clone()));
        Some(scanned)
    }

    /// What `WATCH` compares.
    pub fn version(&self, name: Name<'_>, now: Timestamp) -> LogPosition {
        let entry = self.table.find(name.hash, name.bytes);
        if let Some(entry) = entry.filter(|entry| entry.is_alive(now)) {
            return entry.version;
        }
        self.asked.get(name.bytes).copied().unwrap_or_default()
    }

    /// How many keys there are on all shards.
    pub fn count(&self) -> u64 {
        let others = if self.flushed { 0 } else { self.counted - self.found };
        others + self.table.len() as u64
    }

    /// The keys that a survey found and that are not among those asked for.
    fn others(&self, index: usize) -> impl Iterator<Item = &ValueBytes> {
        let survey = self.surveys.iter().find(|survey| survey.index == index);
        let names = survey.filter(|_| !self.flushed).map_or(&[][..], |survey| &survey.names);
        names.iter().filter(|name| !self.asked.contains_key(*name))
    }

    /// The names of the keys that are there and that `is_wanted`, for the command with this index.
    pub fn names(&self, index: usize, now: Timestamp, mut is_wanted: impl FnMut(&[u8]) -> bool) -> Vec<ValueBytes> {
        let own = self.table.iter().filter(|entry| entry.is_alive(now));
        let own = own.map(|entry: &Entry| &entry.key);
        self.others(index)
            .chain(own)
            .filter(|name| is_wanted(name))
            .cloned()
            .collect()
    }

    /// Any key that is there, for the command with this index.
    pub fn any(&self, index: usize, draw: u64, now: Timestamp) -> Option<ValueBytes> {
        let survey = self.surveys.iter().find(|survey| survey.index == index);
        let drawn = survey.filter(|_| !self.flushed).and_then(|survey| survey.any.clone());
        let is_there =
            |name: &ValueBytes| !self.asked.contains_key(name) || self.table.find(hash_of(name), name).is_some();
        drawn.filter(is_there).or_else(|| {
            let alive: Vec<_> = self.table.iter().filter(|entry| entry.is_alive(now)).collect();
            let index = draw as usize % alive.len().max(1);
            alive.get(index).map(|entry| entry.key.clone())
        })
    }

    /// No key is there any more.
    pub fn flush(&mut self) {
        self.flushed = true;
        self.table = KeyTable::default();
    }
}
