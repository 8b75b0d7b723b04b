//! Any bytes, in any pieces.

use cartwright_protocol::Operation;
use cartwright_protocol::native::{
    ClientHello, HelloStatus, PROTOCOL_VERSION, SERVER_HELLO_BYTES, SHARD_ANY, ServerHello, decode_frame, decode_reply,
    encode_ping, encode_request,
};
use cartwright_protocol::{ErrorCode, ItemGet, Reply, Sku};
use proptest::prelude::*;

use super::{command, context_with, count, session, settle};
use crate::engine::Ask;
use crate::session::{Request, Session, SessionLimits};

/// What a client reads that sends `stream` in pieces of these lengths, again and again.
fn in_pieces(stream: &[u8], pieces: &[usize], limits: SessionLimits) -> (Vec<u8>, bool) {
    let mut session = Session::new(7, context_with(limits));
    let (mut read, mut start) = (Vec::new(), 0);
    let mut pieces = pieces.iter().cycle();
    while start < stream.len() {
        let end = (start + pieces.next().expect("cycles")).min(stream.len());
        session.receive(&stream[start..end]);
        start = end;
        read.extend_from_slice(&settle(&mut session));
    }
    (read, session.is_closing())
}

/// The frames in what a native client read, by request id: they come in no order. Without the hello, which tells limits.
fn frames((read, closing): (Vec<u8>, bool)) -> (Vec<Vec<u8>>, bool) {
    let mut rest = &read[..];
    if let Ok(Some(_)) = ServerHello::decode(rest) {
        rest = &rest[SERVER_HELLO_BYTES..];
    }
    let mut frames = Vec::new();
    while let Some((_, length)) = decode_frame(rest).expect("a session writes frames") {
        frames.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "a session writes whole frames");
    frames.sort_by_key(|frame| frame[8..16].to_vec());
    (frames, closing)
}

fn resp_request() -> impl Strategy<Value = Vec<u8>> {
    let words = |words: Vec<String>| command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let cart = proptest::collection::vec(("[a-z0-9]{1,12}", 1u32..300), 1..20).prop_map(move |lines| {
        let mut all: Vec<String> = ["CHECKOUT", "ann", "KEY", "k", "LINES"].map(str::to_owned).to_vec();
        all.push(lines.len().to_string());
        all.extend(lines.into_iter().flat_map(|(sku, units)| [sku, units.to_string()]));
        words(all)
    });
    let simple = prop_oneof![
        Just("PING\r\n"),
        Just("HELLO 3\r\n"),
        Just("ITEM.GET a\r\n"),
        Just("STOCK.ADD a 5\r\n"),
        Just("ORDER.LIST ann\r\n"),
        Just("COMMAND COUNT\n"),
        Just("nosuch 'a b' c\r\n"),
        Just("ITEM.GET\r\n"),
        Just("\r\n"),
        Just("AUDIT\r\n"),
        Just("GET a\r\n"),
        Just("MSET a 1 b 2\r\n"),
        Just("WATCH a b\r\n"),
        Just("MULTI\r\n"),
        Just("EXEC\r\n"),
        Just("EXEC\r\n"),
        Just("DISCARD\r\n"),
        Just("UNWATCH\r\n"),
        Just("PUBLISH a b\r\n"),
        Just("CLIENT REPLY SKIP\r\n"),
        Just("CLIENT GETNAME\r\n"),
        Just("RESET\r\n"),
    ]
    .prop_map(|text| text.as_bytes().to_vec());
    let odd = prop_oneof![
        Just(b"QUIT\r\n".to_vec()),
        Just(b"*1\r\n$9999999999\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..50),
    ];
    prop_oneof![6 => cart, 12 => simple, 1 => odd]
}

fn native_stream() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![
        8 => "[a-z0-9]{1,30}".prop_map(|sku| Some(Operation::ItemGet(ItemGet { sku: Sku::new(sku.as_bytes()).unwrap() }))),
        2 => Just(Some(Operation::Audit)),
        1 => Just(None),
    ];
    (
        proptest::collection::vec(request, 0..12),
        proptest::collection::vec(any::<u8>(), 0..30),
    )
        .prop_map(|(requests, tail)| {
            let mut stream = ClientHello {
                version: PROTOCOL_VERSION,
                shard: SHARD_ANY,
            }
            .encode()
            .to_vec();
            for (id, request) in requests.iter().enumerate() {
                match request {
                    Some(operation) => encode_request(&mut stream, id as u64 + 1, operation),
                    None => encode_ping(&mut stream, id as u64 + 1),
                }
            }
            stream.extend_from_slice(&tail);
            stream
        })
}

proptest! {
    #[test]
    fn any_split_of_a_resp_stream_reads_the_same(
        requests in proptest::collection::vec(resp_request(), 0..15),
        pieces in proptest::collection::vec(1usize..80, 1..20),
    ) {
        let stream = requests.concat();
        let whole = in_pieces(&stream, &[usize::MAX / 2], SessionLimits::DEFAULT);
        prop_assert_eq!(&in_pieces(&stream, &pieces, SessionLimits::DEFAULT), &whole);
        prop_assert_eq!(&in_pieces(&stream, &[1], SessionLimits::DEFAULT), &whole);
        let tight = SessionLimits { in_flight_max: 2, output_bytes_max: 700, ..SessionLimits::DEFAULT };
        prop_assert_eq!(&in_pieces(&stream, &pieces, tight), &whole);
    }

    #[test]
    fn garbage_costs_at_most_one_reply_beyond_its_lines(
        bytes in proptest::collection::vec(any::<u8>(), 0..800),
        pieces in proptest::collection::vec(1usize..200, 1..5),
    ) {
        let (read, _) = in_pieces(&bytes, &pieces, SessionLimits::DEFAULT);
        let lines = count(&bytes, b'\n');
        let replies = count(&read, b'\n');
        prop_assert!(bytes.first() == Some(&0xca) || replies <= lines + 1, "{} replies to {} lines", replies, lines);
    }

    #[test]
    fn any_split_of_a_native_stream_reads_the_same(
        stream in native_stream(),
        pieces in proptest::collection::vec(1usize..80, 1..20),
        flipped in any::<Option<(prop::sample::Index, u8)>>(),
    ) {
        let mut stream = stream;
        if let Some((at, bits)) = flipped {
            // The first byte alone says which protocol this is.
            let at = 1 + at.index(stream.len() - 1);
            stream[at] ^= bits;
        }
        let whole = frames(in_pieces(&stream, &[usize::MAX / 2], SessionLimits::DEFAULT));
        prop_assert_eq!(&frames(in_pieces(&stream, &pieces, SessionLimits::DEFAULT)), &whole);
        let tight = SessionLimits { in_flight_max: 1, ..SessionLimits::DEFAULT };
        prop_assert_eq!(&frames(in_pieces(&stream, &[3], tight)), &whole);
    }

    #[test]
    fn garbage_after_the_magic_byte_costs_one_frame(
        tail in proptest::collection::vec(any::<u8>(), 3..300),
        piece in 1usize..50,
    ) {
        let (read, closing) = in_pieces(&[&[0xca], &tail[..]].concat(), &[piece], SessionLimits::DEFAULT);
        prop_assert!(closing);
        let (frame, length) = decode_frame(&read).unwrap().expect("one frame");
        prop_assert_eq!(length, read.len());
        prop_assert!(matches!(decode_reply(&frame), Ok(Reply::Error(error)) if error.code == ErrorCode::Err));
    }
}

#[test]
fn a_client_of_another_version_is_told_which_one_to_speak() {
    let hello = ClientHello {
        version: 9,
        shard: SHARD_ANY,
    }
    .encode();
    let (read, closing) = in_pieces(&hello, &[16], SessionLimits::DEFAULT);
    let server = ServerHello::decode(&read).unwrap().unwrap();
    assert_eq!(
        (server.status, server.version, closing),
        (HelloStatus::Version, PROTOCOL_VERSION, true)
    );
}

#[test]
fn a_bad_body_costs_one_request_and_the_connection_goes_on() {
    let mut stream = ClientHello {
        version: PROTOCOL_VERSION,
        shard: SHARD_ANY,
    }
    .encode()
    .to_vec();
    cartwright_protocol::native::frame::encode_frame(&mut stream, 0x20, 5, |body| body.extend_from_slice(b"\x03an"));
    cartwright_protocol::native::frame::encode_frame(&mut stream, 0x7f, 6, |_| ());
    encode_ping(&mut stream, 7);
    let (read, closing) = in_pieces(&stream, &[1000], SessionLimits::DEFAULT);
    assert!(!closing);
    let mut rest = &read[SERVER_HELLO_BYTES..];
    for (id, expected) in [
        (5, "ERR the body ends within customer"),
        (6, "ERR opcode 0x7f is not known"),
        (7, ""),
    ] {
        let (frame, length) = decode_frame(rest).unwrap().unwrap();
        assert_eq!(frame.request_id, id);
        match decode_reply(&frame).unwrap() {
            Reply::Error(error) => assert_eq!(error.to_string(), expected),
            reply => assert_eq!((reply, expected), (Reply::Ok, "")),
        }
        rest = &rest[length..];
    }
}

#[test]
fn a_large_cart_a_byte_at_a_time_costs_no_more_than_its_length() {
    let mut words: Vec<String> = ["CHECKOUT", "ann", "KEY", "k", "LINES", "4096"]
        .map(str::to_owned)
        .to_vec();
    words.extend((0..4096).flat_map(|line| [format!("sku-{line:036}"), "1".to_owned()]));
    let stream = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let mut session = session();
    for byte in &stream {
        session.receive(std::slice::from_ref(byte));
    }
    let Some((_, Request::Engine(Ask::Shop(Operation::Checkout(checkout))))) = session.next_request() else {
        panic!("a checkout")
    };
    assert_eq!(checkout.lines.len(), 4096);
}
