//! Every operation and every reply, through the native protocol and back; and the test vectors, both ways.

use std::fmt::Write as _;

use crate::native::{
    BodyError, ClientHello, Frame, HelloStatus, PING_OPCODE, PROTOCOL_VERSION, ReplyOpcode, SHARD_ANY, ServerHello,
    decode_frame, decode_reply, decode_request, encode_ping, encode_reply, encode_request,
};
use crate::shop::field::Field;
use crate::*;
use proptest::prelude::*;

fn order_id() -> impl Strategy<Value = OrderId> {
    <OrderId as Field>::strategy()
}

fn named<T: Field<Value = T> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    T::strategy()
}

fn text() -> impl Strategy<Value = Text> {
    <Text as Field>::strategy()
}

fn amount() -> impl Strategy<Value = Amount> {
    <Amount as Field>::strategy()
}

fn currency() -> impl Strategy<Value = Currency> {
    <Currency as Field>::strategy()
}

fn state() -> impl Strategy<Value = OrderState> {
    proptest::sample::select(OrderState::ALL.to_vec())
}

fn order_view() -> impl Strategy<Value = OrderView> {
    let line =
        (named(), amount(), any::<[u32; 4]>()).prop_map(|(sku, price, [ordered, cancelled, shipped, returned])| {
            LineView {
                sku,
                price,
                ordered,
                cancelled,
                shipped,
                returned,
            }
        });
    (
        order_id(),
        named(),
        state(),
        currency(),
        amount(),
        any::<[u64; 3]>(),
        proptest::collection::vec(line, 0..20),
    )
        .prop_map(
            |(id, customer, state, currency, total, [created_at_ms, updated_at_ms, expires_at_ms], lines)| OrderView {
                id,
                customer,
                state,
                currency,
                total,
                created_at_ms,
                updated_at_ms,
                expires_at_ms,
                lines,
            },
        )
}

fn reply() -> impl Strategy<Value = Reply> {
    let summary = (order_id(), state(), amount(), currency(), any::<u64>()).prop_map(
        |(id, state, total, currency, created_at_ms)| OrderSummary {
            id,
            state,
            total,
            currency,
            created_at_ms,
        },
    );
    prop_oneof![
        Just(Reply::Ok),
        Just(Reply::Null),
        any::<i64>().prop_map(Reply::Integer),
        (named(), amount(), currency(), text(), any::<u32>(), any::<u32>()).prop_map(
            |(sku, price, currency, name, limit, backorder)| {
                Reply::Item(Box::new(ItemView {
                    sku,
                    price,
                    currency,
                    name,
                    limit,
                    backorder,
                }))
            }
        ),
        any::<[i64; 4]>().prop_map(|[on_hand, held, committed, available]| {
            Reply::Stock(StockView {
                on_hand,
                held,
                committed,
                available,
            })
        }),
        (order_id(), state(), amount(), currency(), any::<u64>()).prop_map(
            |(id, state, total, currency, expires_at_ms)| {
                Reply::Receipt(Receipt {
                    id,
                    state,
                    total,
                    currency,
                    expires_at_ms,
                })
            }
        ),
        order_view().prop_map(|order| Reply::Order(Box::new(order))),
        proptest::collection::vec(summary, 0..50).prop_map(Reply::Orders),
        state().prop_map(Reply::State),
        any::<[u64; 6]>().prop_map(|[items, orders, lines, violations, state_hash, paused_ms]| {
            Reply::Audit(AuditReport {
                items,
                orders,
                lines,
                violations,
                state_hash,
                paused_ms,
            })
        }),
        (proptest::sample::select(ErrorCode::ALL.to_vec()), "[ -~ü]{0,200}")
            .prop_map(|(code, message)| Reply::Error(Error::new(code, message))),
    ]
}

fn opcode() -> impl Strategy<Value = u8> {
    let requests = Operation::SPECS.iter().map(|spec| spec.opcode);
    let known: Vec<u8> = requests
        .chain([PING_OPCODE])
        .chain(ReplyOpcode::ALL.iter().map(|&opcode| opcode as u8))
        .collect();
    prop_oneof![9 => proptest::sample::select(known), 1 => any::<u8>()]
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    let (frame, consumed) = decode_frame(bytes).expect("a frame").expect("a whole frame");
    assert_eq!(consumed, bytes.len());
    frame
}

proptest! {
    #[test]
    fn every_operation_arrives_as_it_was_sent(operation in Operation::strategy(), id in any::<u64>()) {
        let mut bytes = Vec::new();
        encode_request(&mut bytes, id, &operation);
        let frame = whole(&bytes);
        prop_assert_eq!(frame.request_id, id);
        prop_assert_eq!(decode_request(&frame), Ok(operation));
    }

    #[test]
    fn every_reply_arrives_as_it_was_sent(reply in reply(), id in any::<u64>()) {
        let mut bytes = Vec::new();
        encode_reply(&mut bytes, id, &reply);
        let frame = whole(&bytes);
        prop_assert_eq!(frame.request_id, id);
        prop_assert_eq!(decode_reply(&frame), Ok(reply));
    }

    #[test]
    fn a_body_cut_short_or_grown_is_refused(operation in Operation::strategy(), reply in reply(), cut in any::<prop::sample::Index>()) {
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        encode_request(&mut request, 1, &operation);
        encode_reply(&mut answer, 1, &reply);
        for (bytes, is_request) in [(&request, true), (&answer, false)] {
            let frame = whole(bytes);
            let refused = |body: &[u8]| {
                let frame = Frame { body, ..frame };
                if is_request { decode_request(&frame).is_err() } else { decode_reply(&frame).is_err() }
            };
            if !frame.body.is_empty() {
                prop_assert!(refused(&frame.body[..cut.index(frame.body.len())]));
            }
            prop_assert!(refused(&[frame.body, b"\0"].concat()));
        }
    }

    #[test]
    fn any_body_is_decoded_or_refused(opcode in opcode(), flags in prop_oneof![4 => Just(0), 1 => any::<u16>()], body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let frame = Frame { opcode, flags, request_id: 1, body: &body };
        // What is understood says the same when it is written again.
        if let Ok(operation) = decode_request(&frame) {
            let mut bytes = Vec::new();
            encode_request(&mut bytes, 1, &operation);
            prop_assert_eq!(decode_request(&whole(&bytes)), Ok(operation));
        }
        if let Ok(reply) = decode_reply(&frame) {
            let mut bytes = Vec::new();
            encode_reply(&mut bytes, 1, &reply);
            prop_assert_eq!(decode_reply(&whole(&bytes)), Ok(reply));
        }
    }
}

#[test]
fn the_largest_order_and_the_largest_cart_fit_a_frame() {
    let sku: Sku = "x".repeat(NAME_LENGTH_MAX).parse().unwrap();
    let line = CartLine {
        sku: sku.clone(),
        quantity: Quantity::new(u64::from(QUANTITY_MAX)).unwrap(),
    };
    let cart = |lines| {
        Operation::Checkout(Box::new(Checkout {
            customer: "ann".parse().unwrap(),
            key: "k".parse().unwrap(),
            hold_ms: None,
            lines: vec![line.clone(); lines],
        }))
    };
    let mut bytes = Vec::new();
    encode_request(&mut bytes, 1, &cart(CART_LINES_MAX));
    assert_eq!(decode_request(&whole(&bytes)), Ok(cart(CART_LINES_MAX)));
    for lines in [CART_LINES_MAX + 1, 100_000] {
        bytes.clear();
        encode_request(&mut bytes, 1, &cart(lines));
        let Err(Reply::Error(error)) = decode_request(&whole(&bytes)) else {
            panic!("{lines} lines are too many")
        };
        assert_eq!(error.code, ErrorCode::TooBig);
    }
    let line = LineView {
        sku,
        price: Amount::new(AMOUNT_MAX).unwrap(),
        ordered: 1,
        cancelled: 0,
        shipped: 0,
        returned: 0,
    };
    let order = Reply::Order(Box::new(OrderView {
        id: OrderId::from_integer((1 << 63) - 1).unwrap(),
        customer: "c".repeat(NAME_LENGTH_MAX).parse().unwrap(),
        state: OrderState::Held,
        currency: Currency::new(b"GBP").unwrap(),
        total: Amount::new(AMOUNT_MAX).unwrap(),
        created_at_ms: u64::MAX,
        updated_at_ms: u64::MAX,
        expires_at_ms: u64::MAX,
        lines: vec![line; CART_LINES_MAX],
    }));
    bytes.clear();
    encode_reply(&mut bytes, 1, &order);
    assert_eq!(decode_reply(&whole(&bytes)), Ok(order));
}

#[test]
fn a_count_of_lines_reserves_nothing_that_is_not_there() {
    let mut body = vec![0; 8];
    body[2] = 1;
    body.extend_from_slice(b"\x01c\x01");
    body.extend_from_slice(&[0; 8]);
    body.extend_from_slice(b"GBP");
    body.extend_from_slice(&[0; 24]);
    body.extend_from_slice(&u32::MAX.to_le_bytes());
    let frame = Frame {
        opcode: 0xa1,
        flags: 0,
        request_id: 1,
        body: &body,
    };
    assert_eq!(decode_reply(&frame), Err(BodyError::Value("lines")));
}

/// What a vector means, and its bytes.
struct Vector {
    meaning: String,
    bytes: Vec<u8>,
}

fn request(vectors: &mut Vec<Vector>, id: u64, operation: &Operation) {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, id, operation);
    assert_eq!(decode_request(&whole(&bytes)).as_ref(), Ok(operation));
    vectors.push(Vector {
        meaning: format!("request {id} {}", operation.describe()),
        bytes,
    });
}

fn answered(vectors: &mut Vec<Vector>, id: u64, meaning: &str, reply: &Reply) {
    let mut bytes = Vec::new();
    encode_reply(&mut bytes, id, reply);
    assert_eq!(decode_reply(&whole(&bytes)).as_ref(), Ok(reply));
    vectors.push(Vector {
        meaning: format!("reply {id} {meaning}"),
        bytes,
    });
}

fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    let client = ClientHello {
        version: PROTOCOL_VERSION,
        shard: SHARD_ANY,
    };
    all.push(Vector {
        meaning: "client-hello version=1 shard=any".to_owned(),
        bytes: client.encode().to_vec(),
    });
    let server = ServerHello {
        version: PROTOCOL_VERSION,
        status: HelloStatus::Welcome,
        shard_count: 8,
        shard: 3,
        body_bytes_max: 1_048_576,
        in_flight_max: 1024,
        connection_id: 77,
    };
    let meaning = "server-hello version=1 status=welcome shards=8 shard=3 body_bytes_max=1048576 in_flight_max=1024 connection=77";
    all.push(Vector {
        meaning: meaning.to_owned(),
        bytes: server.encode().to_vec(),
    });
    let mut ping = Vec::new();
    encode_ping(&mut ping, 1);
    assert_eq!(decode_request(&whole(&ping)), Err(Reply::Ok));
    all.push(Vector {
        meaning: "request 1 PING".to_owned(),
        bytes: ping,
    });

    for (number, spec) in Operation::SPECS.iter().enumerate() {
        let example = Operation::of_words(spec.example).expect("an example is one");
        // The last one shows that ids may be of any size.
        let is_last = number + 1 == Operation::SPECS.len();
        request(&mut all, if is_last { u64::MAX } else { number as u64 + 2 }, &example);
    }

    let sku = || "22423".parse::<Sku>().unwrap();
    let (gbp, price, total) = (
        Currency::new(b"GBP").unwrap(),
        Amount::new(1295).unwrap(),
        Amount::new(3885).unwrap(),
    );
    let id = OrderId::from_integer(16_385).unwrap();
    let text = |text: &str| Text::new(text.as_bytes()).unwrap();

    answered(&mut all, 1, "OK", &Reply::Ok);
    answered(&mut all, 2, "NULL", &Reply::Null);
    answered(&mut all, 3, "INTEGER integer=-1", &Reply::Integer(-1));
    let item = ItemView {
        sku: sku(),
        price,
        currency: gbp,
        name: text(""),
        limit: 0,
        backorder: 7,
    };
    answered(
        &mut all,
        4,
        "ITEM sku=22423 price=1295 currency=GBP name= limit=0 backorder=7",
        &Reply::Item(Box::new(item)),
    );
    let stock = StockView {
        on_hand: 10,
        held: 2,
        committed: 9,
        available: -1,
    };
    answered(
        &mut all,
        5,
        "STOCK on_hand=10 held=2 committed=9 available=-1",
        &Reply::Stock(stock),
    );
    let receipt = Receipt {
        id,
        state: OrderState::Held,
        total,
        currency: gbp,
        expires_at_ms: 1_700_000_060_000,
    };
    let meaning = "RECEIPT id=16385 state=held total=3885 currency=GBP expires_at=1700000060000";
    answered(&mut all, 6, meaning, &Reply::Receipt(receipt));
    let line = LineView {
        sku: sku(),
        price,
        ordered: 3,
        cancelled: 1,
        shipped: 0,
        returned: 0,
    };
    let order = OrderView {
        id,
        customer: "ann".parse().unwrap(),
        state: OrderState::Placed,
        currency: gbp,
        total,
        created_at_ms: 1_700_000_000_000,
        updated_at_ms: 1_700_000_000_001,
        expires_at_ms: 0,
        lines: vec![line],
    };
    let meaning = "ORDER id=16385 customer=ann state=placed total=3885 currency=GBP created_at=1700000000000 \
                   updated_at=1700000000001 expires_at=0 lines=22423:1295:3:1:0:0";
    answered(&mut all, 7, meaning, &Reply::Order(Box::new(order)));
    let summary = OrderSummary {
        id,
        state: OrderState::Expired,
        total,
        currency: gbp,
        created_at_ms: 1_700_000_000_000,
    };
    answered(
        &mut all,
        8,
        "ORDERS orders=16385:expired:3885:GBP:1700000000000",
        &Reply::Orders(vec![summary]),
    );
    answered(
        &mut all,
        9,
        "STATE state=cancelled",
        &Reply::State(OrderState::Cancelled),
    );
    let audit = AuditReport {
        items: 1,
        orders: 2,
        lines: 3,
        violations: 0,
        state_hash: 0xfedc_ba98_7654_3210,
        paused_ms: 4,
    };
    let meaning = "AUDIT items=1 orders=2 lines=3 violations=0 state_hash=fedcba9876543210 paused_ms=4";
    answered(&mut all, 10, meaning, &Reply::Audit(audit));
    let error = Error::new(ErrorCode::OutOfStock, "22423 wanted 5, available 3");
    answered(
        &mut all,
        11,
        "ERROR code=2 message=22423 wanted 5, available 3",
        &Reply::Error(error),
    );
    all
}

/// Each vector in the file is a line with its meaning and a line with its bytes. Set `BLESS` to write the file anew.
#[test]
fn the_vectors_mean_what_they_say_in_both_directions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/native-1.txt");
    let mut expected = String::from(
        "# Frames of the native protocol, version 1: a line with the meaning, a line with the bytes in hexadecimal.\n",
    );
    for vector in vectors() {
        let hex = vector.bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        });
        writeln!(expected, "\n{}\n{hex}", vector.meaning).expect("a string takes all");
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &expected).expect("a writable checkout");
    }
    let file = std::fs::read_to_string(path).expect("the vectors");
    assert!(
        file == expected,
        "{path} differs from the code; it should be:\n{expected}"
    );
}
