//! A used request key as bytes, in records and checkpoints: what it belongs to, the key, which request, when, and what was
//! answered.
//!
//! Book and kind of what it belongs to (a byte each), that thing and the key (strings), the request's fingerprint (8
//! bytes), when (a number), the kind of the answer (a byte) and the answer; strings and numbers as in
//! [`cartwright_core::codec`]. An answer is nothing (1), a number (2: 8 bytes), a receipt (3: id, state, total, currency,
//! end of the hold), an order's state (4) or a refusal (5: its code, its text as a string).

use cartwright_core::codec::{Reader, put_number, put_string};
use cartwright_protocol::{Amount, Currency, Customer, Error, ErrorCode, Key, OrderId, OrderState, Receipt, Sku};

use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::request_keys::{KeptReply, KeyRecord, Scope};

/// The book that all scopes belong to so far.
const SHOP: u8 = 1;

/// Adds a key.
pub fn put_key(bytes: &mut Vec<u8>, record: &KeyRecord) {
    let KeyRecord {
        scope,
        key,
        fingerprint,
        at,
        reply,
    } = record;
    bytes.push(SHOP);
    match scope {
        Scope::Customer(customer) => {
            bytes.push(1);
            put_string(bytes, customer.as_bytes());
        }
        Scope::Sku(sku) => {
            bytes.push(2);
            put_string(bytes, sku.as_bytes());
        }
        Scope::Order(id) => {
            bytes.push(3);
            put_string(bytes, &id.to_integer().to_le_bytes());
        }
    }
    put_string(bytes, key.as_bytes());
    bytes.extend_from_slice(&fingerprint.to_le_bytes());
    put_number(bytes, at.unix_ms());
    put_reply(bytes, reply);
}

fn put_reply(bytes: &mut Vec<u8>, reply: &KeptReply) {
    match reply {
        KeptReply::Ok => bytes.push(1),
        KeptReply::Integer(integer) => {
            bytes.push(2);
            bytes.extend_from_slice(&integer.to_le_bytes());
        }
        KeptReply::Receipt(receipt) => {
            bytes.push(3);
            put_number(bytes, receipt.id.to_integer());
            bytes.push(receipt.state as u8);
            put_number(bytes, receipt.total.minor_units());
            bytes.extend_from_slice(receipt.currency.as_bytes());
            put_number(bytes, receipt.expires_at_ms);
        }
        KeptReply::State(state) => bytes.extend_from_slice(&[4, *state as u8]),
        KeptReply::Error(error) => {
            bytes.extend_from_slice(&[5, error.code as u8]);
            put_string(bytes, error.message.as_bytes());
        }
    }
}

/// Takes a key; `None` where there is none.
pub fn take_key(reader: &mut Reader<'_>) -> Option<KeyRecord> {
    let (book, kind) = (byte(reader)?, byte(reader)?);
    let thing = reader.string()?;
    let scope = match (book, kind) {
        (SHOP, 1) => Scope::Customer(Customer::new(thing).ok()?),
        (SHOP, 2) => Scope::Sku(Sku::new(thing).ok()?),
        (SHOP, 3) => Scope::Order(OrderId::from_integer(u64::from_le_bytes(thing.try_into().ok()?))?),
        _ => return None,
    };
    Some(KeyRecord {
        scope,
        key: Key::new(reader.string()?).ok()?,
        fingerprint: u64::from_le_bytes(reader.take(8)?.try_into().ok()?),
        at: Timestamp(reader.number()?),
        reply: take_reply(reader)?,
    })
}

fn take_reply(reader: &mut Reader<'_>) -> Option<KeptReply> {
    Some(match byte(reader)? {
        1 => KeptReply::Ok,
        2 => KeptReply::Integer(i64::from_le_bytes(reader.take(8)?.try_into().ok()?)),
        3 => KeptReply::Receipt(Receipt {
            id: OrderId::from_integer(reader.number()?)?,
            state: OrderState::from_number(byte(reader)?)?,
            total: Amount::new(reader.number()?)?,
            currency: Currency::new(reader.take(3)?)?,
            expires_at_ms: reader.number()?,
        }),
        4 => KeptReply::State(OrderState::from_number(byte(reader)?)?),
        5 => {
            let code = ErrorCode::from_number(byte(reader)?)?;
            let message = std::str::from_utf8(reader.string()?).ok()?;
            KeptReply::Error(Error::new(code, message))
        }
        _ => return None,
    })
}

fn byte(reader: &mut Reader<'_>) -> Option<u8> {
    reader.take(1).map(|byte| byte[0])
}

/// Adds a key where there is one.
pub fn put_key_if_any(bytes: &mut Vec<u8>, record: Option<&KeyRecord>) {
    if let Some(record) = record {
        put_key(bytes, record);
    }
}

/// Reads what [`put_key_if_any`] made. The error says what is wrong.
pub fn read_key_if_any(bytes: &[u8]) -> Result<Option<KeyRecord>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader { bytes };
    let key = take_key(&mut reader).filter(|_| reader.bytes.is_empty());
    key.map(Some).ok_or_else(|| "its request key is none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies() -> Vec<KeptReply> {
        let receipt = Receipt {
            id: OrderId::from_integer(1 << 20).unwrap(),
            state: OrderState::Held,
            total: Amount::new(12_345).unwrap(),
            currency: Currency::new(b"GBP").unwrap(),
            expires_at_ms: 1 << 41,
        };
        vec![
            KeptReply::Ok,
            KeptReply::Integer(-7),
            KeptReply::Receipt(receipt),
            KeptReply::State(OrderState::Cancelled),
            KeptReply::Error(Error::new(ErrorCode::Insufficient, "too few")),
        ]
    }

    #[test]
    fn a_key_is_read_back_and_no_part_of_it() {
        let scopes = [
            Scope::Customer("ann".parse().unwrap()),
            Scope::Sku("84660B".parse().unwrap()),
            Scope::Order(OrderId::from_integer(99 << 14).unwrap()),
        ];
        for scope in scopes {
            for reply in replies() {
                let record = KeyRecord {
                    scope: scope.clone(),
                    key: "k-1".parse().unwrap(),
                    fingerprint: u64::MAX - 1,
                    at: Timestamp(1 << 40),
                    reply,
                };
                let mut bytes = Vec::new();
                put_key(&mut bytes, &record);
                assert_eq!(read_key_if_any(&bytes), Ok(Some(record)));
                for cut in 1..bytes.len() {
                    assert!(read_key_if_any(&bytes[..cut]).is_err());
                }
            }
        }
        assert_eq!(read_key_if_any(&[]), Ok(None));
    }
}
