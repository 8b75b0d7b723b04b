//! The shop in a checkpoint: a slot's items with the slot's own part, its orders in parts of their own.

use cartwright_core::codec::{Reader, put_number};
use cartwright_protocol::Slot as SlotNumber;
use rkyv::with::InlineAsBox;

use crate::engine::books::shop::packed_item::{put_item, take_item};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::books::shop::slot::Slot;
use crate::engine::kernel::archive::{encode, read};
use crate::engine::kernel::ids::{LogPosition, RecordKind};
use crate::engine::kernel::restore::Restore;
use crate::engine::kernel::state::State;

/// How many orders one part holds at most: what bounds the pause of a slot in which one customer has very many.
const ORDERS_PER_PART: u64 = 256;

const fn kind(kind: u8, version: u8) -> RecordKind {
    RecordKind {
        book: super::BOOK,
        kind,
        version,
    }
}

/// Within a slot's own part: how far its orders go (a number), and its items (see
/// [`crate::engine::books::shop::packed_item`]).
pub const SLOT_1: RecordKind = kind(65, 1);
const ORDERS_1: RecordKind = kind(66, 1);

/// Some orders of a slot: those up to a sequence number and above that of the part before.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Orders1<'a> {
    slot: u16,
    /// The part shows the log up to here.
    position: u64,
    /// The largest sequence number that belongs to this part.
    sequence_last: u64,
    /// The orders, each with its length before: see [`crate::engine::books::shop::packed_order`].
    #[rkyv(with = InlineAsBox)]
    orders: &'a [u8],
}

/// Adds what a slot's own part tells of the shop.
pub fn put_shop(bytes: &mut Vec<u8>, slot: &Slot) {
    put_number(bytes, slot.order_sequence);
    slot.items().for_each(|item| put_item(bytes, item));
}

/// Restores what a slot's own part tells of the shop. The error says what is wrong with it.
pub fn restore_shop(state: &mut State, slot: SlotNumber, content: &[u8]) -> Result<(), String> {
    let mut reader = Reader { bytes: content };
    let order_sequence = reader.number().ok_or("how far a slot's orders go is cut short")?;
    restore_items(state, slot, order_sequence, reader.bytes)
}

/// Restores a slot's items as they are packed. The error says what is wrong with them.
pub fn restore_items(state: &mut State, slot: SlotNumber, order_sequence: u64, packed: &[u8]) -> Result<(), String> {
    let mut reader = Reader { bytes: packed };
    let mut items = Vec::new();
    while !reader.bytes.is_empty() {
        let item = take_item(&mut reader).filter(|item| item.sku.slot() == slot);
        items.push(item.ok_or_else(|| format!("slot {} has an item that is none", slot.index()))?);
    }
    state.restore_items(slot, order_sequence, items.into_iter());
    Ok(())
}

/// Encodes the next orders behind number `after` into `buffer`; `None` when there are none. `packed` is memory to do it
/// in.
pub fn next_orders(
    after: &mut u64,
    slot: u16,
    position: LogPosition,
    shop: &Slot,
    packed: &mut Vec<u8>,
    buffer: &mut Vec<u8>,
) -> Option<RecordKind> {
    if *after >= shop.order_sequence {
        return None;
    }
    let last = (*after + ORDERS_PER_PART).min(shop.order_sequence);
    packed.clear();
    shop.orders_between(*after, last)
        .for_each(|order| order.put_unlinked(packed));
    *after = last;
    let part = Orders1 {
        slot,
        position: position.0,
        sequence_last: last,
        orders: packed,
    };
    encode(&part, buffer);
    Some(ORDERS_1)
}

/// Restores a part of this kind; `None` where there is no such kind. The error says what is wrong with it.
pub fn restore_orders(restore: &mut Restore, kind: RecordKind, bytes: &[u8]) -> Option<Result<(), String>> {
    (kind == ORDERS_1).then(|| {
        let part: &ArchivedOrders1<'_> = read(bytes)?;
        let (slot, last) = (part.slot.to_native(), part.sequence_last.to_native());
        restore_packed_orders(
            restore,
            slot,
            LogPosition(part.position.to_native()),
            last,
            &part.orders,
        )
    })
}

/// Restores orders as they are packed. They are found by their numbers, so these must be those that the parts before
/// leave.
pub fn restore_packed_orders(
    restore: &mut Restore,
    index: u16,
    position: LogPosition,
    sequence_last: u64,
    packed: &[u8],
) -> Result<(), String> {
    let slot = restore.own_slot(index)?;
    let parts = restore.positions.books.shop.parts_of(index);
    let after = parts.last().map_or(0, |&(last, _)| last);
    if sequence_last <= after || sequence_last - after > ORDERS_PER_PART {
        return Err(format!(
            "orders up to {sequence_last} of slot {index} follow those up to {after}"
        ));
    }
    let (mut orders, mut last) = (Vec::new(), after);
    let mut reader = Reader { bytes: packed };
    while !reader.bytes.is_empty() {
        let bytes = reader.string().ok_or("an order is cut short")?;
        let order = PackedOrder::from_bytes(bytes);
        order.check()?;
        let id = order.id();
        if id.slot() != slot || id.sequence() <= last || id.sequence() > sequence_last {
            return Err(format!("order {id} is none of those of slot {index} behind {last}"));
        }
        last = id.sequence();
        orders.push(order);
    }
    parts.push((sequence_last, position));
    restore.state.restore_orders(slot, orders);
    Ok(())
}
