//! Idempotency keys: what each was used for and what was answered (rule R4).
//!
//! A key belongs to the thing it was used on (the customer of a checkout, the SKU of a stock movement, the order of a
//! confirmation), because that thing's shard can then decide alone whether a request is a retry.

use cartwright_protocol::{CartLine, Customer, Error, Key, Operation, OrderId, OrderState, Receipt, Reply, Sku};

use hashbrown::HashMap;

use crate::engine::kernel::hashing::{Fingerprint, TableHasher};
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::message::ReplyTo;

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

    /// The key of `operation` with its scope, if it has one.
    pub fn of(operation: &Operation, fingerprint: &mut Fingerprint) -> Option<Self> {
        let (scope, key) = match operation {
            Operation::ItemPut(put) => (Scope::Sku(put.sku.clone()), put.key.as_ref()?),
            Operation::StockAdd(add) => (Scope::Sku(add.sku.clone()), add.key.as_ref()?),
            Operation::Checkout(checkout) => (Scope::Customer(checkout.customer.clone()), &checkout.key),
            Operation::OrderConfirm { id, key } | Operation::OrderCancel { id, key } => {
                (Scope::Order(*id), key.as_ref()?)
            }
            _ => return None,
        };
        Some(Self {
            scope,
            key: key.clone(),
            fingerprint: fingerprint_of(operation, fingerprint),
        })
    }
}

/// Everything that makes two requests with one key the same request. The key and the scope are compared apart.
fn fingerprint_of(operation: &Operation, fingerprint: &mut Fingerprint) -> u64 {
    match operation {
        Operation::ItemPut(put) => fingerprint
            .begin(1)
            .integer(put.price.minor_units())
            .bytes(put.currency.as_bytes())
            .bytes(put.name.as_str().as_bytes())
            .integer(put.limit.map_or(0, |limit| limit.units().into()))
            .integer(put.backorder.map_or(0, |backorder| backorder.units().into())),
        Operation::StockAdd(add) => fingerprint
            .begin(2)
            .integer(add.delta as u64)
            .bytes(
                add.location
                    .as_ref()
                    .map_or("main", |location| location.as_str())
                    .as_bytes(),
            )
            .bytes(add.reason.as_str().as_bytes()),
        Operation::Checkout(checkout) => {
            fingerprint.begin(3).integer(checkout.hold_ms.unwrap_or(0).into());
            for CartLine { sku, quantity } in &checkout.lines {
                fingerprint.bytes(sku.as_bytes()).integer(quantity.units().into());
            }
            fingerprint
        }
        Operation::OrderConfirm { .. } => fingerprint.begin(4),
        Operation::OrderCancel { .. } => fingerprint.begin(5),
        _ => unreachable!("only mutations carry a key"),
    }
    .finish()
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
