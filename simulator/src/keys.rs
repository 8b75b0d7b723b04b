//! The sequential keyspace: what keys hold after the same decisions on a server without shards.
//!
//! Plain maps, written apart from the engine. Every version of every key is kept, so that an answer can be compared
//! with what was true while its request was open. The accounts among the keys must always add up.

use std::collections::{BTreeMap, BTreeSet};

use cartwright::engine::entries::effect::{Effect, effects};
use cartwright::engine::entries::types::{Change, hash, string};
use cartwright_protocol::resp::parse_i64;

use crate::key_wishes::{ACCOUNT, OPENING_BALANCE, condensed, mark_in};
use crate::shop::Source;
use crate::violation::Checked;
use crate::{promise, violation};

/// How many changes the keyspace has seen.
pub type KeyVersion = u64;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A string, condensed.
    String(Vec<u8>),
    /// Fields with values.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// What a key held from a version on.
#[derive(Clone, Debug)]
pub struct Seen {
    /// From then on.
    pub version: KeyVersion,
    /// The record that made it so.
    pub source: Source,
    /// `None`: the key was not there.
    pub held: Option<Held>,
    /// Unix milliseconds; 0: never.
    pub expires_at: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Keys {
    /// How many changes there were.
    pub version: KeyVersion,
    by_name: BTreeMap<Vec<u8>, Vec<Seen>>,
    /// Where each mark was written, and how often.
    marks: BTreeMap<Vec<u8>, (KeyVersion, Source, u32)>,
    /// Marks whose field was removed, and by what.
    retired: BTreeMap<Vec<u8>, Source>,
    has_opened: bool,
}

impl Keys {
    /// Takes what one decision does to keys, all at once.
    pub fn apply<'a>(&mut self, source: Source, logs: impl IntoIterator<Item = &'a [u8]>) -> Checked {
        self.version += 1;
        for log in logs {
            for effect in effects(log) {
                self.apply_one(source, &effect)?;
            }
        }
        self.check_accounts()
    }

    fn apply_one(&mut self, source: Source, effect: &Effect<'_>) -> Checked {
        let key = effect
            .key()
            .ok_or_else(|| violation!("nobody asked to drop all keys"))?;
        let before = self.latest(key).cloned();
        let mut expires_at = before.as_ref().map_or(0, |seen| seen.expires_at);
        let mut held = before.and_then(|seen| seen.held);
        if held.is_none() {
            expires_at = 0;
        }
        match *effect {
            Effect::Set {
                value, expires_at: at, ..
            } => {
                held = Some(Held::String(condensed(value)));
                expires_at = at.unix_ms();
                self.mark(mark_in(value), source);
            }
            Effect::Change {
                change: Change::String(string::Change::Integer(integer)),
                ..
            } => held = Some(Held::String(integer.to_string().into_bytes())),
            Effect::Delete { .. } => {
                promise!(held.is_some(), "{source:?} removes a key that is not there: {effect:?}");
                held = None;
            }
            Effect::Change {
                change: Change::Hash(hash::Change::Set(pairs)),
                ..
            } => {
                let Held::Hash(mut fields) = held.unwrap_or(Held::Hash(BTreeMap::new())) else {
                    return Err(violation!("{source:?} sets fields of a string: {effect:?}"));
                };
                pairs.each_pair(|name, value| {
                    fields.insert(name.to_vec(), value.to_vec());
                    self.mark(name, source);
                });
                held = Some(Held::Hash(fields));
            }
            Effect::Change {
                change: Change::Hash(hash::Change::Delete(names)),
                ..
            } => {
                let Some(Held::Hash(mut fields)) = held else {
                    return Err(violation!(
                        "{source:?} removes fields where there is no hash: {effect:?}"
                    ));
                };
                names.each(|name| {
                    fields.remove(name);
                    self.retired.insert(name.to_vec(), source);
                });
                held = (!fields.is_empty()).then_some(Held::Hash(fields));
            }
            _ => return Err(violation!("{source:?} does what nobody asked for: {effect:?}")),
        }
        let seen = Seen {
            version: self.version,
            source,
            held,
            expires_at,
        };
        self.by_name.entry(key.to_vec()).or_default().push(seen);
        Ok(())
    }

    fn mark(&mut self, mark: &[u8], source: Source) {
        let entry = self.marks.entry(mark.to_vec()).or_insert((self.version, source, 0));
        entry.2 += 1;
    }

    fn latest(&self, key: &[u8]) -> Option<&Seen> {
        self.by_name.get(key)?.last()
    }

    /// What the key held at a version; `None`: nothing was ever written to it by then.
    pub fn at(&self, key: &[u8], version: KeyVersion) -> Option<&Seen> {
        let versions = self.by_name.get(key)?;
        let place = versions.partition_point(|seen| seen.version <= version);
        place.checked_sub(1).map(|place| &versions[place])
    }

    /// Everything that a key has held, for a message.
    pub fn history(&self, key: &[u8]) -> &[Seen] {
        self.by_name.get(key).map_or(&[], Vec::as_slice)
    }

    /// Where this mark was written, and at which version.
    pub fn written(&self, mark: &[u8]) -> Option<(KeyVersion, Source, u32)> {
        self.marks.get(mark).copied()
    }

    /// What removed the field with this mark.
    pub fn retired(&self, mark: &[u8]) -> Option<Source> {
        self.retired.get(mark).copied()
    }

    /// The versions from `sent` on at which any of these keys changed, the first included.
    pub fn versions<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>, sent: KeyVersion) -> BTreeSet<KeyVersion> {
        let mut versions = BTreeSet::from([sent]);
        for key in keys {
            let seen = self.by_name.get(key).into_iter().flatten();
            versions.extend(seen.map(|seen| seen.version).filter(|&version| version > sent));
        }
        versions
    }

    /// Money moves, and never comes or goes.
    fn check_accounts(&mut self) -> Checked {
        let accounts = self.by_name.range(ACCOUNT.to_vec()..);
        let accounts = accounts.take_while(|(key, _)| key.starts_with(ACCOUNT));
        let (mut count, mut sum) = (0, 0);
        for (key, versions) in accounts {
            let held = versions.last().and_then(|seen| seen.held.as_ref());
            let Some(balance) = held.and_then(balance) else {
                return Err(violation!("account {} holds {held:?}", key.escape_ascii()));
            };
            count += 1;
            sum += balance;
        }
        self.has_opened |= count > 0;
        promise!(
            !self.has_opened || sum == count * OPENING_BALANCE,
            "the {count} accounts of {OPENING_BALANCE} each add up to {sum}"
        );
        Ok(())
    }
}

/// The number in an account.
pub fn balance(held: &Held) -> Option<i64> {
    match held {
        Held::String(text) => parse_i64(text),
        Held::Hash(_) => None,
    }
}
