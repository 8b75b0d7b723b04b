//! The request keys of one slot: what each was used for and what was answered.
//!
//! A key whose use made a thing that holds it (an order) is found through that thing, so that it is not kept twice.
//! Belongs to [`SlotState`](crate::engine::kernel::slots::SlotState).

use cartwright_protocol::{Key, Reply};
use hashbrown::HashTable;

use crate::engine::books::{KeyHolder, SlotTables};
use crate::engine::kernel::book::HoldsKey;
use crate::engine::kernel::hashing::spread;
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::request_keys::{KeyRecord, Scope};

/// A used key: that of a thing that is here, or a record of its own.
#[derive(Debug)]
enum KeyEntry {
    /// The thing's number, within its book's tables of the slot.
    Held {
        hash: u32,
        holder: u32,
    },
    Record {
        hash: u32,
        record: Box<KeyRecord>,
    },
}

impl KeyEntry {
    const fn hash(&self) -> u64 {
        match self {
            Self::Held { hash, .. } | Self::Record { hash, .. } => spread(*hash),
        }
    }
}

/// A used key, as it is kept.
#[derive(Clone, Copy, Debug)]
pub enum KeptKey<'a> {
    /// It made this.
    Held(&'a KeyHolder),
    /// It was used for something else.
    Record(&'a KeyRecord),
}

impl KeptKey<'_> {
    /// Which request it came with.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Held(holder) => holder.request_fingerprint(),
            Self::Record(record) => record.fingerprint,
        }
    }

    /// When it was used.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Held(holder) => holder.key_used_at(),
            Self::Record(record) => record.at,
        }
    }

    /// What was answered.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Held(holder) => holder.reply(),
            Self::Record(record) => record.reply.to_reply(),
        }
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct RequestKeyTable {
    keys: HashTable<KeyEntry>,
    /// Keys used before are forgotten.
    from: Timestamp,
}

impl RequestKeyTable {
    /// Has the place fetched where a key with this hash is or will be.
    pub fn prefetch(&self, hash: u32) {
        // Never the one; the table's own memory is read on the way.
        self.keys.find(spread(hash), |_| false);
    }

    /// What was answered to this key.
    pub fn get<'a>(&'a self, scope: &Scope, key: &Key, tables: &'a SlotTables) -> Option<KeptKey<'a>> {
        let hash = scope.key_hash(key);
        let entry = self.keys.find(spread(hash), |entry| match entry {
            KeyEntry::Held { hash: other, holder } => *other == hash && tables.key_holder(*holder).holds(scope, key),
            KeyEntry::Record { hash: other, record } => *other == hash && record.key == *key && record.scope == *scope,
        })?;
        Some(kept(entry, tables))
    }

    /// Keeps a key that is not there yet.
    pub fn insert(&mut self, record: KeyRecord) {
        let hash = record.scope.key_hash(&record.key);
        let record = Box::new(record);
        self.keys
            .insert_unique(spread(hash), KeyEntry::Record { hash, record }, KeyEntry::hash);
    }

    /// Keeps the key of a new thing, unless it is forgotten; whether it is kept.
    pub fn insert_held(&mut self, holder: u32, tables: &SlotTables) -> bool {
        let thing = tables.key_holder(holder);
        let is_kept = thing.key_used_at() >= self.from;
        if is_kept {
            let hash = thing.key_hash();
            self.keys
                .insert_unique(spread(hash), KeyEntry::Held { hash, holder }, KeyEntry::hash);
        }
        is_kept
    }

    /// Every key, in no order that may matter.
    pub fn iter<'a>(&'a self, tables: &'a SlotTables) -> impl Iterator<Item = KeptKey<'a>> {
        self.keys.iter().map(|entry| kept(entry, tables))
    }

    /// Those that have records of their own, in no order that may matter.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.iter().filter_map(|entry| match entry {
            KeyEntry::Held { .. } => None,
            KeyEntry::Record { record, .. } => Some(&**record),
        })
    }

    /// How many keys are kept.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys used before are forgotten.
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// Forgets the keys used before `before`; returns how many.
    pub fn forget(&mut self, before: Timestamp, tables: &SlotTables) -> usize {
        self.from = self.from.max(before);
        let held = self.keys.len();
        self.keys.retain(|entry| kept(entry, tables).at() >= before);
        held - self.keys.len()
    }
}

fn kept<'a>(entry: &'a KeyEntry, tables: &'a SlotTables) -> KeptKey<'a> {
    match entry {
        KeyEntry::Held { holder, .. } => KeptKey::Held(tables.key_holder(*holder)),
        KeyEntry::Record { record, .. } => KeptKey::Record(record),
    }
}
