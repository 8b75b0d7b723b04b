//! Idempotency keys: what each was used for and what was answered (rule R4).
//!
//! A key belongs to the thing it was used on (the customer of a checkout, the SKU of a stock movement, the order of a
//! confirmation), because that thing's shard can then decide alone whether a request is a retry.

use cartwright_protocol::shop::Home;
use cartwright_protocol::{Customer, Error, Key, Operation, OrderId, OrderState, Receipt, Reply, Sku};

use hashbrown::HashMap;

use crate::engine::kernel::hashing::{Fingerprint, TableHasher, table_hash};
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::reply_to::ReplyTo;

/// How long a key is remembered at least.
pub const KEY_RETENTION_MS: u64 = 25 * 60 * 60 * 1000;

/// What a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Scope {
    /// The customer of a checkout.
    Customer(Customer),
    /// The item of a catalogue or stock change.
    Sku(Sku),
    /// The order of a confirmation or cancellation.
    Order(OrderId),
}

impl Scope {
    /// The slot of the thing.
    pub fn slot(&self) -> cartwright_protocol::Slot {
        match self {
            Self::Customer(customer) => customer.slot(),
            Self::Sku(sku) => sku.slot(),
            Self::Order(id) => id.slot(),
        }
    }

    /// Half of a seeded hash under which a key in this scope is found in its slot.
    pub fn key_hash(&self, key: &Key) -> u32 {
        match self {
            Self::Customer(customer) => customer_key_hash(customer.as_bytes(), key.as_bytes()),
            Self::Sku(sku) => table_hash(&(1u8, sku.as_bytes(), key.as_bytes())) as u32,
            Self::Order(id) => table_hash(&(2u8, id, key.as_bytes())) as u32,
        }
    }
}

/// The same for a key of a customer.
pub fn customer_key_hash(customer: &[u8], key: &[u8]) -> u32 {
    table_hash(&(customer, key)) as u32
}

/// A key in its scope, and which request it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// What the key belongs to.
    pub scope: Scope,
    /// The client's key.
    pub key: Key,
    /// Tells this request from another with the same key.
    pub fingerprint: u64,
}

/// An answer that is kept with its key.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum KeptReply {
    /// Done.
    Ok,
    /// A number.
    Integer(i64),
    /// What a checkout made.
    Receipt(Receipt),
    /// An order's new state.
    State(OrderState),
    /// A refusal: nothing was changed, and a retry does not change anything either.
    Error(Error),
}

impl KeptReply {
    /// The answer as the first client saw it.
    pub fn to_reply(&self) -> Reply {
        match self {
            Self::Ok => Reply::Ok,
            Self::Integer(integer) => Reply::Integer(*integer),
            Self::Receipt(receipt) => Reply::Receipt(receipt.clone()),
            Self::State(state) => Reply::State(*state),
            Self::Error(error) => Reply::Error(error.clone()),
        }
    }
}

/// A used key, as it is kept and logged.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct KeyRecord {
    /// What the key belongs to.
    pub scope: Scope,
    /// The client's key.
    pub key: Key,
    /// Which request it came with.
    pub fingerprint: u64,
    /// When it was used.
    pub at: Timestamp,
    /// What was answered.
    pub reply: KeptReply,
}

impl KeyRecord {
    /// Log bytes that it takes, at most.
    pub fn bytes_max(&self) -> usize {
        let text = match &self.reply {
            KeptReply::Error(error) => error.message.len(),
            _ => 0,
        };
        text + 384
    }
}

impl KeyUse {
    /// The record of this use.
    pub fn answered(self, at: Timestamp, reply: KeptReply) -> KeyRecord {
        KeyRecord {
            scope: self.scope,
            key: self.key,
            fingerprint: self.fingerprint,
            at,
            reply,
        }
    }

    /// The key of `operation` with its scope, if it has one. The operation's declaration says what belongs to the
    /// fingerprint.
    pub fn of(operation: &Operation, fingerprint: &mut Fingerprint) -> Option<Self> {
        let key = operation.request_key()?.clone();
        let scope = match operation.subject().expect("only what is about one thing has a key") {
            Home::Sku(sku) => Scope::Sku(sku.clone()),
            Home::Customer(customer) => Scope::Customer(customer.clone()),
            Home::Order(id) => Scope::Order(*id),
        };
        operation.fingerprint(fingerprint);
        Some(Self {
            scope,
            key,
            fingerprint: fingerprint.finish(),
        })
    }
}

impl cartwright_protocol::shop::Fingerprint for Fingerprint {
    fn begin(&mut self, kind: u8) {
        Self::begin(self, kind);
    }

    fn integer(&mut self, value: u64) {
        Self::integer(self, value);
    }

    fn bytes(&mut self, value: &[u8]) {
        Self::bytes(self, value);
    }
}

/// Keys whose request is being worked on: a retry joins it and gets its answer, another request waits for the same
/// moment and is told of the conflict. Volatile.
#[derive(Debug, Default)]
pub struct KeysInFlight {
    keys: HashMap<(Scope, Key), KeyInFlight, TableHasher>,
}

#[derive(Debug)]
struct KeyInFlight {
    fingerprint: u64,
    joined: Vec<(ReplyTo, bool)>,
}

/// Most requests that wait for another with the same key.
pub const JOINED_MAX: usize = 1024;

impl KeysInFlight {
    /// Work on a keyed request begins.
    pub fn begin(&mut self, key: &KeyUse) {
        let in_flight = KeyInFlight {
            fingerprint: key.fingerprint,
            joined: Vec::new(),
        };
        let before = self.keys.insert((key.scope.clone(), key.key.clone()), in_flight);
        assert!(before.is_none(), "a key is in flight once");
    }

    /// Whether a request with this key is in flight.
    pub fn has(&self, key: &KeyUse) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(&(key.scope.clone(), key.key.clone()))
    }

    /// Joins the request in flight with this key. `None`: there is none. `Some(false)`: too many wait already.
    pub fn join(&mut self, key: &KeyUse, reply_to: ReplyTo) -> Option<bool> {
        if self.keys.is_empty() {
            return None;
        }
        let in_flight = self.keys.get_mut(&(key.scope.clone(), key.key.clone()))?;
        let room = in_flight.joined.len() < JOINED_MAX;
        if room {
            in_flight
                .joined
                .push((reply_to, in_flight.fingerprint == key.fingerprint));
        }
        Some(room)
    }

    /// Work on a keyed request is over; returns who joined, and whether theirs was the same request.
    pub fn end(&mut self, key: &KeyUse) -> Vec<(ReplyTo, bool)> {
        if self.keys.is_empty() {
            return Vec::new();
        }
        self.keys
            .remove(&(key.scope.clone(), key.key.clone()))
            .map_or_else(Vec::new, |in_flight| in_flight.joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint_of(words: &str) -> u64 {
        let words: Vec<_> = words.split(' ').collect();
        let operation = Operation::of_words(&words).expect("a command");
        let key = KeyUse::of(&operation, &mut Fingerprint::default());
        key.expect("it has a key").fingerprint
    }

    /// Kept keys are on disk: a retry after an upgrade has to be known again.
    #[test]
    fn the_fingerprints_of_commands_never_change() {
        for (words, expected) in [
            (
                "ITEM.PUT 22423 1295 GBP NAME Räder LIMIT 3 KEY k",
                14_809_877_527_943_527_788,
            ),
            ("ITEM.PUT 22423 1295 GBP BACKORDER 7 KEY k", 9_078_904_651_695_144_174),
            (
                "STOCK.ADD 22423 -5 LOCATION leeds REASON lost KEY k",
                6_746_492_605_904_534_565,
            ),
            ("STOCK.ADD 22423 5 KEY k", 12_398_712_323_731_462_750),
            (
                "CHECKOUT ann KEY k HOLD 60000 LINES 2 a 3 b 1",
                1_455_986_324_459_568_609,
            ),
            ("CHECKOUT ann KEY k LINES 1 a 3", 15_843_666_410_436_595_989),
            ("ORDER.CONFIRM 16385 KEY k", 8_336_770_163_655_280_242),
            ("ORDER.CANCEL 16385 KEY k", 10_564_940_656_230_153_954),
        ] {
            assert_eq!(fingerprint_of(words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_key_says_nothing_of_the_request_and_all_else_does() {
        let cart = fingerprint_of("CHECKOUT ann KEY k LINES 1 a 3");
        assert_eq!(cart, fingerprint_of("CHECKOUT ann KEY other LINES 1 a 3"));
        assert_ne!(cart, fingerprint_of("CHECKOUT ann KEY k LINES 1 a 4"));
        let to_main = fingerprint_of("STOCK.ADD a 5 LOCATION main KEY k");
        assert_eq!(to_main, fingerprint_of("STOCK.ADD a 5 KEY k"));
    }

    #[test]
    fn every_command_with_a_key_has_a_fingerprint_of_its_own() {
        let mut kinds = Vec::new();
        for spec in Operation::SPECS {
            let has_key = spec.fields.iter().any(|field| field.name == "key");
            assert_eq!(has_key, spec.fingerprint > 0, "{}", spec.name);
            kinds.extend((spec.fingerprint > 0).then_some(spec.fingerprint));
        }
        kinds.sort_unstable();
        assert!(kinds.is_sorted_by(|one, next| one < next), "{kinds:?}");
    }
}
