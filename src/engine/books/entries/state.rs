//! The keyspace's part of a shard's decided state: the tables of its slots, and what is counted over them.
//!
//! Changed by effects alone, live and while recovering.

use std::sync::Arc;

use cartwright_protocol::Slot;

use super::effect::{Effect, Shift, effects};
use super::encoding::Strings;
use super::removals::Removals;
use super::table::hash_of;
use super::value::{Entry, Value};
use crate::engine::books::StateTag;
use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::ids::{LogPosition, Timestamp};
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::state::State;

impl State {
    /// Applies a live effect of the record that is about to be appended at `position`.
    #[inline]
    pub fn apply_effect(&mut self, position: LogPosition, slot: Slot, hash: u64, effect: &Effect<'_>) {
        self.books.entries.changed_at = position;
        let state = &mut self.slot_mut(slot).books.entries;
        let shift = effect.apply(&mut state.table, hash, position);
        if shift.after.is_none() {
            state.removed_at = position;
            state.removals.note(hash, position);
        }
        self.count_shift(slot, hash, shift);
    }

    #[inline]
    fn count_shift(&mut self, slot: Slot, hash: u64, Shift { before, after }: Shift) {
        self.counts.books.entries.entries += u64::from(after.is_some());
        self.counts.books.entries.entries -= u64::from(before.is_some());
        if before.unwrap_or_default() == after.unwrap_or_default() {
            return;
        }
        let expiry = |at: Timestamp| (at, slot.index() as u16, hash);
        if let Some(at) = before.filter(|&at| at != Timestamp::default()) {
            self.books.entries.expirations.remove(&expiry(at));
        }
        if let Some(at) = after.filter(|&at| at != Timestamp::default()) {
            self.books.entries.expirations.insert(expiry(at));
        }
    }

    /// Drops every key of this shard whose slot has yet to see the record at `position`.
    pub fn flush_entries(&mut self, position: LogPosition) {
        self.books.entries.changed_at = position;
        let range = self.owner().1.slots_of(self.owner().0);
        for index in range {
            let slot = Slot::new(index as u16).expect("a shard's slots are slots");
            if self.slot(slot).books.entries.table.is_empty() || !self.is_new_to(slot, position) {
                continue;
            }
            let state = &mut self.slot_mut(slot).books.entries;
            let dropped = std::mem::take(&mut state.table);
            state.removed_at = position;
            state.removals.note_all(position);
            self.counts.books.entries.entries -= dropped.len() as u64;
            for entry in dropped.iter().filter(|entry| entry.expiry().is_some()) {
                let expiry = (entry.expires_at, index as u16, hash_of(&entry.key));
                self.books.entries.expirations.remove(&expiry);
            }
        }
    }

    /// Applies the effects of the record at `position`, as far as their slots have yet to see it.
    pub fn apply_effects(&mut self, position: LogPosition, log: &[u8]) {
        for effect in effects(log) {
            if self.is_replaying() && matches!(effect, Effect::HashDelete { .. }) && is_on(Mutation::KeepRemovedFields)
            {
                continue;
            }
            match effect.key() {
                None => self.flush_entries(position),
                Some(key) => {
                    let slot = Slot::of(key);
                    if self.is_new_to(slot, position) {
                        self.apply_effect(position, slot, hash_of(key), &effect);
                    }
                }
            }
        }
    }

    /// Puts a key back that a checkpoint holds, or that another number of shards had; `false` where it is there.
    pub fn restore_entry(&mut self, slot: Slot, mut entry: Entry) -> bool {
        entry.version = LogPosition::ZERO;
        let hash = hash_of(&entry.key);
        if self.slot(slot).books.entries.table.find(hash, &entry.key).is_some() {
            return false;
        }
        let shift = Shift {
            before: None,
            after: Some(entry.expires_at),
        };
        self.slot_mut(slot).books.entries.table.insert_new(hash, entry);
        self.count_shift(slot, hash, shift);
        true
    }

    /// Puts more fields into a hash that was put back before; `false` where there is none.
    pub fn restore_fields(&mut self, slot: Slot, key: &[u8], fields: Strings<'_>) -> bool {
        let entry = self.slot_mut(slot).books.entries.table.find_mut(hash_of(key), key);
        let Some(Value::Hash(hash)) = entry.map(|entry| &mut entry.value) else {
            return false;
        };
        let hash = Arc::make_mut(hash);
        fields.each_pair(|name, value| {
            hash.set(name, value);
        });
        true
    }

    /// Puts more behind a string that was put back before; `false` where there is none.
    pub fn restore_bytes(&mut self, slot: Slot, key: &[u8], bytes: &[u8]) -> bool {
        let entry = self.slot_mut(slot).books.entries.table.find_mut(hash_of(key), key);
        let Some(Value::String(string)) = entry.map(|entry| &mut entry.value) else {
            return false;
        };
        string.to_mut().extend_from_slice(bytes);
        true
    }

    /// Counts the keys of a slot that came as it is; positions of an older log mean nothing in the new one.
    pub(in crate::engine) fn adopt_entries(&mut self, slot: Slot) {
        let state = &mut self.slot_mut(slot).books.entries;
        state.removed_at = LogPosition::ZERO;
        state.removals = Removals::default();
        for entry in std::mem::take(&mut state.table).into_entries() {
            self.restore_entry(slot, entry);
        }
    }
}

/// Hash of a key with all it holds, for the hash of the whole state. The version is no part of it, nor is the encoding.
pub fn entry_hash(fingerprint: &mut Fingerprint, entry: &Entry) -> u64 {
    let kind = match &entry.value {
        Value::Integer(_) | Value::String(_) => 1,
        Value::Hash(_) => 2,
    };
    fingerprint
        .begin(StateTag::ENTRY)
        .bytes(&entry.key)
        .integer(entry.expires_at.unix_ms())
        .integer(kind);
    if let Some(string) = entry.value.as_string() {
        fingerprint.bytes(&string);
    }
    let mut hash = fingerprint.finish();
    if let Value::Hash(fields) = &entry.value {
        for field in fields.iter() {
            let field = fingerprint
                .begin(StateTag::ELEMENT)
                .bytes(&entry.key)
                .bytes(&field.name)
                .bytes(&field.value)
                .finish();
            hash = hash.wrapping_add(field);
        }
    }
    hash
}
