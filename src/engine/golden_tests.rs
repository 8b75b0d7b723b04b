//! Every kind of record and part as it is archived: the bytes of each stand in `tests/golden/format-3/` and never change.
//!
//! A kind or version that is added gets a line there; the lines that are there stay (see `docs/upgrades.md`).

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cartwright_protocol::{Amount, Currency, Error, ErrorCode, OrderId, OrderState, Quantity, Slot, Text};

use super::books::shop::packed_order::{OrderHeader, OrderPacker};
use super::books::{Decided, StockPart};
use super::*;

const SHARDS: u16 = 1;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/format-3")
        .join(name)
}

fn line(kind: RecordKind, bytes: &[u8]) -> String {
    let RecordKind { book, kind, version } = kind;
    let mut line = format!("{book}.{kind}.{version} ");
    for byte in bytes {
        write!(line, "{byte:02x}").unwrap();
    }
    line
}

fn parse(line: &str) -> (RecordKind, Vec<u8>) {
    let (kind, hex) = line.split_once(' ').unwrap();
    let kind: Vec<u8> = kind.split('.').map(|number| number.parse().unwrap()).collect();
    let kind = RecordKind {
        book: kind[0],
        kind: kind[1],
        version: kind[2],
    };
    let bytes = (0..hex.len()).step_by(2);
    (
        kind,
        bytes
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect(),
    )
}

fn lines(name: &str) -> Vec<(RecordKind, Vec<u8>)> {
    std::fs::read_to_string(golden(name))
        .unwrap()
        .lines()
        .map(parse)
        .collect()
}

fn key(scope: Scope, reply: KeptReply) -> KeyRecord {
    KeyRecord {
        scope,
        key: "key-1".parse().unwrap(),
        fingerprint: 0x0123_4567_89ab_cdef,
        at: Timestamp(1_800_000_000_001),
        reply,
    }
}

fn order(sequence: u64, hold_ms: Option<u32>) -> PackedOrder {
    let customer = "ann".parse().unwrap();
    let mut packer = OrderPacker::default();
    packer.begin(&OrderHeader {
        id: OrderId::new(Slot::of(b"ann"), sequence),
        customer: &customer,
        key: &"cart-1".parse().unwrap(),
        fingerprint: 77,
        currency: Currency::new(b"GBP").unwrap(),
        total: Amount::new(750).unwrap(),
        created_at: Timestamp(1_800_000_000_002),
        hold_ms,
    });
    packer.line(
        &"anvil".parse().unwrap(),
        Amount::new(250).unwrap(),
        3,
        &Allocations::Main,
    );
    packer.finish()
}

fn stock_lines() -> Vec<StockLine> {
    let split = [("main", 2), ("shelf", 1)].map(|(location, quantity)| Allocation {
        location: location.parse().unwrap(),
        quantity,
    });
    vec![
        StockLine {
            sku: "anvil".parse().unwrap(),
            quantity: 3,
            allocations: Allocations::Main,
        },
        StockLine {
            sku: "rope".parse().unwrap(),
            quantity: 3,
            allocations: Allocations::Split(split.into()),
        },
    ]
}

fn moved() -> OrderChange {
    OrderChange::Moved {
        id: OrderId::new(Slot::of(b"ann"), 9),
        from: OrderState::Held,
        to: OrderState::Placed,
        at: Timestamp(1_800_000_000_003),
        lines: stock_lines(),
    }
}

fn transaction(sequence: u64) -> TransactionId {
    TransactionId {
        incarnation: 3,
        home: ShardId(2),
        sequence,
    }
}

/// An effect: the key `k` is deleted.
fn effects() -> Vec<u8> {
    let mut effects = Vec::new();
    entries::effect::Effect::Delete { key: b"k" }.encode(&mut effects);
    effects
}

/// One record of each kind, and of each form that a kind has.
fn records() -> Vec<Record> {
    let anvil = Scope::Sku("anvil".parse().unwrap());
    let at = Timestamp(1_800_000_000_000);
    vec![
        Record::Started { incarnation: 7 },
        Record::Answered {
            key: key(
                Scope::Customer("ann".parse().unwrap()),
                KeptReply::Error(Error::new(ErrorCode::OutOfStock, "anvil wanted 3, available 1")),
            ),
        },
        Record::KeysForgotten { slot: 12, before: at },
        Record::PreparedTogether {
            transactions: vec![PreparedTransaction {
                transaction: transaction(1),
                stock: vec![StockPart {
                    stock: StockChange::Hold,
                    lines: stock_lines(),
                }],
                effects: effects(),
            }],
        },
        Record::DecidedTogether {
            at,
            transactions: vec![DecidedTransaction {
                transaction: transaction(2),
                named: vec![(ShardId(0), LogPosition(300)), (ShardId(5), LogPosition(1 << 40))],
                changes: vec![
                    Decided {
                        change: OrderChange::Made(order(8, None)),
                        key: None,
                    },
                    Decided {
                        change: moved(),
                        key: Some(key(
                            Scope::Order(OrderId::new(Slot::of(b"ann"), 9)),
                            KeptReply::State(OrderState::Placed),
                        )),
                    },
                ],
                effects: effects(),
            }],
        },
        Record::ResolvedTogether {
            outcomes: vec![(transaction(1), true), (transaction(2), false)],
        },
        ShopRecord::ItemPut {
            sku: "anvil".parse().unwrap(),
            price: Amount::new(250).unwrap(),
            currency: Currency::new(b"GBP").unwrap(),
            name: Text::new("Anvil, dünn".as_bytes()).unwrap(),
            limit: Quantity::new(10),
            backorder: 2,
            key: Some(key(anvil.clone(), KeptReply::Ok)),
        }
        .into(),
        ShopRecord::StockAdded {
            sku: "anvil".parse().unwrap(),
            location: "main".parse().unwrap(),
            delta: -4,
            reason: Text::new(b"shrinkage").unwrap(),
            at,
            key: Some(key(anvil, KeptReply::Integer(96))),
        }
        .into(),
        ShopRecord::OrderChanged {
            change: OrderChange::Made(order(7, Some(60_000))),
            key: None,
        }
        .into(),
        ShopRecord::OrderChanged {
            change: moved(),
            key: None,
        }
        .into(),
        ShopRecord::OrderExtended {
            id: OrderId::new(Slot::of(b"ann"), 7),
            at,
            expires_at: Timestamp(1_800_000_099_000),
            key: None,
        }
        .into(),
        EntriesRecord::Changed { at, effects: effects() }.into(),
    ]
}

fn encoded(records: &[Record]) -> Vec<(RecordKind, Vec<u8>)> {
    let mut packing = Packing::default();
    let encode = |record: &Record| {
        let mut bytes = vec![9, 9];
        (record.encode(&mut packing, &mut bytes), bytes)
    };
    records.iter().map(encode).collect()
}

/// The parts of a small shard's checkpoint, and the hash of what it holds.
fn parts() -> (Vec<(RecordKind, Vec<u8>)>, u64) {
    let map = ShardMap::new(SHARDS);
    let mut shard = Shard::new(ShardId(0), map, EngineLimits::default());
    let mut set = Vec::new();
    entries::effect::Effect::Set {
        key: b"k",
        value: b"v",
        expires_at: Timestamp(0),
    }
    .encode(&mut set);
    let mut history = vec![Record::Started { incarnation: 7 }];
    history.extend(records().into_iter().filter(|record| {
        matches!(
            record,
            Record::Book(BookRecord::Shop(
                ShopRecord::ItemPut { .. }
                    | ShopRecord::OrderChanged {
                        change: OrderChange::Made(_),
                        ..
                    }
            ))
        )
    }));
    // The order takes three of what there is.
    history.insert(
        2,
        ShopRecord::StockAdded {
            sku: "anvil".parse().unwrap(),
            location: "main".parse().unwrap(),
            delta: 100,
            reason: Text::default(),
            at: Timestamp(1),
            key: None,
        }
        .into(),
    );
    history.push(
        EntriesRecord::Changed {
            at: Timestamp(1),
            effects: set,
        }
        .into(),
    );
    history.push(Record::PreparedTogether {
        transactions: vec![PreparedTransaction {
            transaction: transaction(1),
            stock: Vec::new(),
            effects: effects(),
        }],
    });
    for (index, (kind, bytes)) in encoded(&history).into_iter().enumerate() {
        shard.replay(LogPosition(index as u64 + 1), kind, &bytes).unwrap();
    }
    let mut cursor = CheckpointCursor::begin(&shard);
    let (mut parts, mut buffer) = (Vec::new(), Vec::new());
    while let Some(kind) = cursor.next_part(&shard, &mut buffer) {
        parts.push((kind, buffer.clone()));
    }
    (parts, shard.state_hash())
}

#[test]
fn every_record_is_archived_as_ever() {
    let (golden, records) = (lines("records.txt"), records());
    assert_eq!(encoded(&records), golden);
    for (record, (kind, bytes)) in records.iter().zip(&golden) {
        assert_eq!(Record::decode(LogPosition(1), *kind, bytes).unwrap(), *record);
    }
}

#[test]
fn every_part_is_archived_as_ever() {
    let golden = lines("parts.txt");
    let (parts, hash) = parts();
    assert_eq!(parts, golden);
    let mut restore = Restore::new(ShardId(0), ShardMap::new(SHARDS), LogPosition(6));
    for (kind, bytes) in &golden {
        restore.part(*kind, bytes).unwrap();
    }
    assert_eq!(restore.finish(EngineLimits::default()).state_hash(), hash);
}

#[test]
fn no_part_of_a_payload_is_one_nor_is_one_of_another_kind() {
    for (kind, bytes) in encoded(&records()) {
        for cut in 0..bytes.len() {
            assert!(
                Record::decode(LogPosition(1), kind, &bytes[..cut]).is_err(),
                "{kind}: {cut}"
            );
        }
        let later = RecordKind {
            version: kind.version + 1,
            ..kind
        };
        let refused = Record::decode(LogPosition(1), later, &bytes);
        assert!(matches!(refused, Err(RecordError::Unknown { .. })), "{refused:?}");
    }
}

#[test]
#[ignore = "adds the lines of new kinds; those that are there must stay"]
fn make_the_golden_payloads() {
    let write = |name: &str, payloads: &[(RecordKind, Vec<u8>)]| {
        let text: String = payloads.iter().map(|(kind, bytes)| line(*kind, bytes) + "\n").collect();
        std::fs::create_dir_all(golden("")).unwrap();
        std::fs::write(golden(name), text).unwrap();
    };
    write("records.txt", &encoded(&records()));
    write("parts.txt", &parts().0);
}
