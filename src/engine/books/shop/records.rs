//! The shop's records: what each says, and the structs that they are archived as.
//!
//! One struct for each kind and version, never changed once a version is released (see `docs/upgrades.md`). What the wire
//! has types for is plain numbers and bytes in them.

use cartwright_protocol::{Amount, Currency, Location, OrderId, OrderState, Quantity, Sku, Text};
use rkyv::with::InlineAsBox;

use crate::engine::books::shop::orders::OrderChange;
use crate::engine::books::shop::packed_lines::{put_lines, read_lines};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::archive::{encode, read};
use crate::engine::kernel::ids::{RecordKind, Timestamp};
use crate::engine::kernel::packed_key::{put_key_if_any, read_key_if_any};
use crate::engine::kernel::request_keys::KeyRecord;

/// A record of the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShopRecord {
    /// `ITEM.PUT`.
    ItemPut {
        /// The item's code.
        sku: Sku,
        /// Price of one unit.
        price: Amount,
        /// The price's currency.
        currency: Currency,
        /// What people call it.
        name: Text,
        /// Most units one customer may have in open orders.
        limit: Option<Quantity>,
        /// How far below zero `available` may go.
        backorder: u32,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
    /// `STOCK.ADD`.
    StockAdded {
        /// The item's code.
        sku: Sku,
        /// Where.
        location: Location,
        /// Units; negative for shrinkage.
        delta: i64,
        /// Why.
        reason: Text,
        /// When.
        at: Timestamp,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
    /// A change of an order all of whose items are on this shard.
    OrderChanged {
        /// What.
        change: OrderChange,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
    /// `ORDER.EXTEND`: a held order expires at another time; its units stay where they are.
    OrderExtended {
        /// The order.
        id: OrderId,
        /// When this was decided.
        at: Timestamp,
        /// When it expires.
        expires_at: Timestamp,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
}

const fn kind(kind: u8, version: u8) -> RecordKind {
    RecordKind {
        book: super::BOOK,
        kind,
        version,
    }
}

const ITEM_PUT_1: RecordKind = kind(1, 1);
const STOCK_ADDED_1: RecordKind = kind(2, 1);
const ORDER_MADE_1: RecordKind = kind(3, 1);
const ORDER_MOVED_1: RecordKind = kind(4, 1);
const ORDER_EXTENDED_1: RecordKind = kind(5, 1);

#[derive(rkyv::Archive, rkyv::Serialize)]
struct ItemPut1<'a> {
    #[rkyv(with = InlineAsBox)]
    sku: &'a [u8],
    price: u64,
    currency: [u8; 3],
    #[rkyv(with = InlineAsBox)]
    name: &'a [u8],
    /// 0: none.
    limit: u32,
    backorder: u32,
    #[rkyv(with = InlineAsBox)]
    key: &'a [u8],
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct StockAdded1<'a> {
    #[rkyv(with = InlineAsBox)]
    sku: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    location: &'a [u8],
    delta: i64,
    #[rkyv(with = InlineAsBox)]
    reason: &'a [u8],
    at: u64,
    #[rkyv(with = InlineAsBox)]
    key: &'a [u8],
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct OrderMade1<'a> {
    #[rkyv(with = InlineAsBox)]
    order: &'a [u8],
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct OrderMoved1<'a> {
    id: u64,
    from: u8,
    to: u8,
    at: u64,
    #[rkyv(with = InlineAsBox)]
    lines: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    key: &'a [u8],
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct OrderExtended1<'a> {
    id: u64,
    at: u64,
    expires_at: u64,
    #[rkyv(with = InlineAsBox)]
    key: &'a [u8],
}

impl ShopRecord {
    /// Encodes into `buffer`, replacing what it holds; `scratch` is memory to do it in. Gives the payload's kind.
    ///
    /// # Panics
    /// Where an order that is made comes with a key of its own: it holds its key.
    pub fn encode(&self, scratch: &mut Vec<u8>, buffer: &mut Vec<u8>) -> RecordKind {
        scratch.clear();
        match self {
            Self::ItemPut {
                sku,
                price,
                currency,
                name,
                limit,
                backorder,
                key,
            } => {
                put_key_if_any(scratch, key.as_ref());
                let record = ItemPut1 {
                    sku: sku.as_bytes(),
                    price: price.minor_units(),
                    currency: *currency.as_bytes(),
                    name: name.as_str().as_bytes(),
                    limit: limit.map_or(0, Quantity::units),
                    backorder: *backorder,
                    key: scratch,
                };
                encode(&record, buffer);
                ITEM_PUT_1
            }
            Self::StockAdded {
                sku,
                location,
                delta,
                reason,
                at,
                key,
            } => {
                put_key_if_any(scratch, key.as_ref());
                let record = StockAdded1 {
                    sku: sku.as_bytes(),
                    location: location.as_bytes(),
                    delta: *delta,
                    reason: reason.as_str().as_bytes(),
                    at: at.unix_ms(),
                    key: scratch,
                };
                encode(&record, buffer);
                STOCK_ADDED_1
            }
            Self::OrderChanged {
                change: OrderChange::Made(order),
                key,
            } => {
                assert!(key.is_none(), "an order holds the key that made it");
                encode(&OrderMade1 { order: order.bytes() }, buffer);
                ORDER_MADE_1
            }
            Self::OrderChanged {
                change:
                    OrderChange::Moved {
                        id,
                        from,
                        to,
                        at,
                        lines,
                    },
                key,
            } => {
                put_lines(scratch, lines);
                let (packed, rest) = (scratch.len(), scratch);
                put_key_if_any(rest, key.as_ref());
                let (lines, key) = rest.split_at(packed);
                let record = OrderMoved1 {
                    id: id.to_integer(),
                    from: *from as u8,
                    to: *to as u8,
                    at: at.unix_ms(),
                    lines,
                    key,
                };
                encode(&record, buffer);
                ORDER_MOVED_1
            }
            Self::OrderExtended {
                id,
                at,
                expires_at,
                key,
            } => {
                put_key_if_any(scratch, key.as_ref());
                let record = OrderExtended1 {
                    id: id.to_integer(),
                    at: at.unix_ms(),
                    expires_at: expires_at.unix_ms(),
                    key: scratch,
                };
                encode(&record, buffer);
                ORDER_EXTENDED_1
            }
        }
    }

    /// Checks and decodes a payload of this kind; `None` where there is no such kind. The error says what is wrong.
    pub fn decode(kind: RecordKind, payload: &[u8]) -> Option<Result<Self, String>> {
        Some(match kind {
            ITEM_PUT_1 => read(payload).and_then(item_put),
            STOCK_ADDED_1 => read(payload).and_then(stock_added),
            ORDER_MADE_1 => read(payload).and_then(order_made),
            ORDER_MOVED_1 => read(payload).and_then(order_moved),
            ORDER_EXTENDED_1 => read(payload).and_then(order_extended),
            _ => return None,
        })
    }
}

fn item_put(record: &ArchivedItemPut1<'_>) -> Result<ShopRecord, String> {
    let limit = u64::from(record.limit.to_native());
    let limit = match limit {
        0 => None,
        units => Some(Quantity::new(units).ok_or("its limit is out of bounds")?),
    };
    Ok(ShopRecord::ItemPut {
        sku: Sku::new(&record.sku).map_err(|_| "its SKU is none")?,
        price: Amount::new(record.price.to_native()).ok_or("its price is out of bounds")?,
        currency: Currency::new(&record.currency).ok_or("its currency is none")?,
        name: Text::new(&record.name).map_err(|_| "its name is none")?,
        limit,
        backorder: record.backorder.to_native(),
        key: read_key_if_any(&record.key)?,
    })
}

fn stock_added(record: &ArchivedStockAdded1<'_>) -> Result<ShopRecord, String> {
    Ok(ShopRecord::StockAdded {
        sku: Sku::new(&record.sku).map_err(|_| "its SKU is none")?,
        location: Location::new(&record.location).map_err(|_| "its location is none")?,
        delta: record.delta.to_native(),
        reason: Text::new(&record.reason).map_err(|_| "its reason is none")?,
        at: Timestamp(record.at.to_native()),
        key: read_key_if_any(&record.key)?,
    })
}

fn order_made(record: &ArchivedOrderMade1<'_>) -> Result<ShopRecord, String> {
    let order = PackedOrder::from_bytes(&record.order);
    order.check()?;
    Ok(ShopRecord::OrderChanged {
        change: OrderChange::Made(order),
        key: None,
    })
}

fn order_moved(record: &ArchivedOrderMoved1<'_>) -> Result<ShopRecord, String> {
    let change = moved(
        (record.id.to_native(), record.from, record.to, record.at.to_native()),
        &record.lines,
    )?;
    Ok(ShopRecord::OrderChanged {
        change,
        key: read_key_if_any(&record.key)?,
    })
}

fn order_extended(record: &ArchivedOrderExtended1<'_>) -> Result<ShopRecord, String> {
    Ok(ShopRecord::OrderExtended {
        id: OrderId::from_integer(record.id.to_native()).ok_or("an order's id is none")?,
        at: Timestamp(record.at.to_native()),
        expires_at: Timestamp(record.expires_at.to_native()),
        key: read_key_if_any(&record.key)?,
    })
}

/// The change of an order's state that these are: id, states and time as numbers, and lines as they are packed.
pub fn moved((id, from, to, at): (u64, u8, u8, u64), lines: &[u8]) -> Result<OrderChange, String> {
    let state = |number| OrderState::from_number(number).ok_or("an order's state is none");
    Ok(OrderChange::Moved {
        id: OrderId::from_integer(id).ok_or("an order's id is none")?,
        from: state(from)?,
        to: state(to)?,
        at: Timestamp(at),
        lines: read_lines(lines).ok_or("an order's lines are none")?,
    })
}
