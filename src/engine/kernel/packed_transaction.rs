//! Transactions as bytes, in records and in the checkpoint's part of what pends.
//!
//! A transaction is its incarnation, its home and its number (numbers). One that is prepared: the transaction, and its
//! pieces. One that is decided: the transaction, how many records of other logs it names and for each its shard and
//! position, and its pieces. One that
//! is over: the transaction, and a byte that is 1 where it is committed. One that pends: the transaction, where its record
//! is, a byte that is 1 on its home and there what it names, and its pieces. What pieces
//! are is the books' to say (see [`crate::engine::books::put_pieces`]); numbers are as in [`cartwright_core::codec`].

use cartwright_core::codec::{Reader, put_number};

use crate::engine::books::{put_pieces, take_pieces};
use crate::engine::kernel::ids::{LogPosition, ShardId, TransactionId};
use crate::engine::kernel::record::{DecidedTransaction, PreparedTransaction};
use crate::engine::kernel::state::{Decision, Pending};

const CUT: &str = "a transaction is cut short";

/// Adds which transaction it is.
pub fn put_id(bytes: &mut Vec<u8>, id: TransactionId) {
    put_number(bytes, id.incarnation.into());
    put_number(bytes, id.home.0.into());
    put_number(bytes, id.sequence);
}

/// Takes which transaction it is.
pub fn take_id(reader: &mut Reader<'_>) -> Result<TransactionId, String> {
    let mut id = || {
        Some(TransactionId {
            incarnation: u32::try_from(reader.number()?).ok()?,
            home: ShardId(u16::try_from(reader.number()?).ok()?),
            sequence: reader.number()?,
        })
    };
    Ok(id().ok_or(CUT)?)
}

/// Adds positions in other logs.
pub fn put_named(bytes: &mut Vec<u8>, named: &[(ShardId, LogPosition)]) {
    put_number(bytes, named.len() as u64);
    for &(shard, position) in named {
        put_number(bytes, shard.0.into());
        put_number(bytes, position.0);
    }
}

/// Takes positions in other logs.
pub fn take_named(reader: &mut Reader<'_>) -> Result<Vec<(ShardId, LogPosition)>, String> {
    let mut named = Vec::new();
    for _ in 0..reader.number().ok_or(CUT)? {
        let shard = reader.number().and_then(|shard| u16::try_from(shard).ok());
        let position = reader.number().ok_or(CUT)?;
        named.push((ShardId(shard.ok_or(CUT)?), LogPosition(position)));
    }
    Ok(named)
}

/// Adds transactions that are prepared; `scratch` is memory to do it in.
pub fn put_prepared(bytes: &mut Vec<u8>, scratch: &mut Vec<u8>, transactions: &[PreparedTransaction]) {
    for prepared in transactions {
        put_id(bytes, prepared.transaction);
        put_pieces(bytes, scratch, &prepared.stock, &[], &prepared.effects);
    }
}

/// Reads transactions that are prepared. The error says what is wrong with them.
pub fn read_prepared(bytes: &[u8]) -> Result<Vec<PreparedTransaction>, String> {
    read_all(bytes, |reader| {
        let transaction = take_id(reader)?;
        let pieces = take_pieces(reader)?;
        if !pieces.changes.is_empty() {
            return Err("a part of a transaction decides something".to_owned());
        }
        Ok(PreparedTransaction {
            transaction,
            stock: pieces.stock,
            effects: pieces.effects,
        })
    })
}

/// Adds transactions that are decided; `scratch` is memory to do it in.
pub fn put_decided(bytes: &mut Vec<u8>, scratch: &mut Vec<u8>, transactions: &[DecidedTransaction]) {
    for decided in transactions {
        put_id(bytes, decided.transaction);
        put_named(bytes, &decided.named);
        put_pieces(bytes, scratch, &[], &decided.changes, &decided.effects);
    }
}

/// Reads transactions that are decided. The error says what is wrong with them.
pub fn read_decided(bytes: &[u8]) -> Result<Vec<DecidedTransaction>, String> {
    read_all(bytes, |reader| {
        let transaction = take_id(reader)?;
        let named = take_named(reader)?;
        let pieces = take_pieces(reader)?;
        if !pieces.stock.is_empty() {
            return Err("a decision reserves units beside those of its orders".to_owned());
        }
        Ok(DecidedTransaction {
            transaction,
            named,
            changes: pieces.changes,
            effects: pieces.effects,
        })
    })
}

/// Adds a transaction that pends; `scratch` is memory to do it in.
pub fn put_pending(bytes: &mut Vec<u8>, scratch: &mut Vec<u8>, id: TransactionId, pending: &Pending) {
    put_id(bytes, id);
    put_number(bytes, pending.position.0);
    bytes.push(pending.decision.is_some().into());
    let mut changes = &[][..];
    if let Some(decision) = &pending.decision {
        put_named(bytes, &decision.named);
        changes = &decision.changes;
    }
    put_pieces(bytes, scratch, &pending.stock, changes, &pending.effects);
}

/// Reads transactions that pend. The error says what is wrong with them.
pub fn read_pending(bytes: &[u8]) -> Result<Vec<(TransactionId, Pending)>, String> {
    read_all(bytes, |reader| {
        let id = take_id(reader)?;
        let position = LogPosition(reader.number().ok_or(CUT)?);
        let named = match reader.take(1) {
            Some([0]) => None,
            Some([1]) => Some(take_named(reader)?),
            _ => return Err(CUT.to_owned()),
        };
        let pieces = take_pieces(reader)?;
        if named.is_none() && !pieces.changes.is_empty() {
            return Err("a part of a transaction decides something".to_owned());
        }
        let changes = pieces.changes;
        let pending = Pending {
            position,
            stock: pieces.stock,
            effects: pieces.effects,
            decision: named.map(|named| Decision { named, changes }),
        };
        Ok((id, pending))
    })
}

/// Adds transactions that are over.
pub fn put_outcomes(bytes: &mut Vec<u8>, outcomes: &[(TransactionId, bool)]) {
    for &(transaction, committed) in outcomes {
        put_id(bytes, transaction);
        bytes.push(committed.into());
    }
}

/// Reads transactions that are over. The error says what is wrong with them.
pub fn read_outcomes(bytes: &[u8]) -> Result<Vec<(TransactionId, bool)>, String> {
    read_all(bytes, |reader| {
        let transaction = take_id(reader)?;
        match reader.take(1) {
            Some([committed @ (0 | 1)]) => Ok((transaction, *committed == 1)),
            _ => Err("a transaction has no outcome".to_owned()),
        }
    })
}

fn read_all<T>(bytes: &[u8], mut take: impl FnMut(&mut Reader<'_>) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut reader = Reader { bytes };
    let mut all = Vec::new();
    while !reader.bytes.is_empty() {
        all.push(take(&mut reader)?);
    }
    Ok(all)
}
