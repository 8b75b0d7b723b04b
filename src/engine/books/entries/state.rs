//! The keyspace's part of a shard's decided state: the tables of its slots, and what is counted over them.
//!
//! Changed by effects alone, live and while recovering.

use cartwright_protocol::Slot;

use super::checkpoint::{EntryImage, Restored};
use super::effect::{Effect, Shift, effects};
use super::removals::Removals;
use super::table::hash_of;
use super::types::{Change, hash};
use super::value::Entry;
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
            if self.is_replaying() && removes_fields(&effect) && is_on(Mutation::KeepRemovedFields) {
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

    /// Puts back what an image holds: an entry, or a later piece of one that was put back before; `false` where it is
    /// none of this slot.
    pub fn restore_image(&mut self, slot: Slot, image: EntryImage) -> bool {
        match image.restore() {
            None => false,
            Some(Restored::Entry(entry)) => Slot::of(&entry.key) == slot && self.restore_entry(slot, entry),
            Some(Restored::Piece(key, image)) => {
                let entry = self.slot_mut(slot).books.entries.table.find_mut(hash_of(&key), &key);
                entry.is_some_and(|entry| entry.value.add_piece(&image).is_some())
            }
        }
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

/// Hash of an entry, for the hash of the whole state. The version is no part of it, nor is the encoding.
pub fn entry_hash(fingerprint: &mut Fingerprint, entry: &Entry) -> u64 {
    fingerprint
        .begin(StateTag::ENTRY)
        .bytes(&entry.key)
        .integer(entry.expires_at.unix_ms())
        .integer(entry.value.type_number());
    entry.value.hash_into(fingerprint);
    let hash = fingerprint.finish();
    hash.wrapping_add(entry.value.elements_hash(fingerprint, &entry.key))
}

fn removes_fields(effect: &Effect<'_>) -> bool {
    let Effect::Change { change, .. } = effect else {
        return false;
    };
    matches!(change, Change::Hash(hash::Change::Delete(_)))
}
