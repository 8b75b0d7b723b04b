//! The hash of decided state: a sum over things, so that neither their order nor their shard matters.
//!
//! Equal after a replay, a checkpoint and a move to another number of shards. Each book hashes its own things.

use cartwright_protocol::Slot;

use crate::engine::books::StateTag;
use crate::engine::kernel::book::HoldsKey;
use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::request_key_table::KeptKey;
use crate::engine::kernel::request_keys::{KeptReply, KeyRecord, Scope};
use crate::engine::kernel::slots::SlotState;
use crate::engine::kernel::state::State;

/// Hash of all slots of a shard.
pub fn state_hash(state: &State) -> u64 {
    let mut fingerprint = Fingerprint::default();
    state
        .slots()
        .map(|(number, slot)| slot_hash(&mut fingerprint, number, slot))
        .fold(0, u64::wrapping_add)
}

/// Hash of one slot.
pub fn slot_hash(fingerprint: &mut Fingerprint, number: Slot, slot: &SlotState) -> u64 {
    let keys = slot
        .request_keys
        .iter(&slot.books)
        .map(|key| kept_key_hash(fingerprint, key))
        .fold(0, u64::wrapping_add);
    keys.wrapping_add(slot.books.hash(fingerprint, number))
}

fn kept_key_hash(fingerprint: &mut Fingerprint, kept: KeptKey<'_>) -> u64 {
    match kept {
        KeptKey::Held(holder) => holder.hash_key(fingerprint),
        KeptKey::Record(record) => key_hash(fingerprint, record),
    }
}

fn key_hash(fingerprint: &mut Fingerprint, record: &KeyRecord) -> u64 {
    fingerprint.begin(StateTag::REQUEST_KEY);
    match &record.scope {
        Scope::Customer(customer) => fingerprint.integer(1).bytes(customer.as_bytes()),
        Scope::Sku(sku) => fingerprint.integer(2).bytes(sku.as_bytes()),
        Scope::Order(id) => fingerprint.integer(3).integer(id.to_integer()),
    };
    fingerprint
        .bytes(record.key.as_bytes())
        .integer(record.fingerprint)
        .integer(record.at.unix_ms());
    match &record.reply {
        KeptReply::Ok => fingerprint.integer(1),
        KeptReply::Integer(integer) => fingerprint.integer(2).integer(*integer as u64),
        KeptReply::Receipt(receipt) => fingerprint
            .integer(3)
            .integer(receipt.id.to_integer())
            .integer(receipt.state as u64)
            .integer(receipt.total.minor_units())
            .bytes(receipt.currency.as_bytes())
            .integer(receipt.expires_at_ms),
        KeptReply::State(state) => fingerprint.integer(4).integer(*state as u64),
        KeptReply::Error(error) => fingerprint
            .integer(5)
            .integer(error.code as u64)
            .bytes(error.message.as_bytes()),
    };
    fingerprint.finish()
}
