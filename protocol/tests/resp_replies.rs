//! What the reply writer writes, the reply parser reads: in both versions, however the bytes are cut.

use cartwright_protocol::resp::{Aggregate, ReplyParser, RespVersion, Scalar, Value, Writer};
use proptest::prelude::*;

/// A value as a session says it.
#[derive(Clone, Debug)]
enum Said {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Verbatim(String),
    Null,
    NullArray,
    Boolean(bool),
    Double(f64),
    Array(Vec<Said>),
    Map(Vec<(Said, Said)>),
    Set(Vec<Said>),
    Push(Vec<Said>),
}

fn said() -> impl Strategy<Value = Said> {
    let one = prop_oneof![
        "[ -~]{0,12}".prop_map(Said::Simple),
        "[A-Z]{1,5} [ -~]{0,12}".prop_map(Said::Error),
        any::<i64>().prop_map(Said::Integer),
        proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..30).prop_map(Said::Bulk),
        "[ -~\r\n]{0,12}".prop_map(Said::Verbatim),
        Just(Said::Null),
        Just(Said::NullArray),
        any::<bool>().prop_map(Said::Boolean),
        any::<f64>().prop_map(Said::Double),
    ];
    one.prop_recursive(4, 40, 5, |inner| {
        let some = proptest::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            some.clone().prop_map(Said::Array),
            some.clone().prop_map(Said::Set),
            some.prop_map(Said::Push),
            proptest::collection::vec((inner.clone(), inner), 0..3).prop_map(Said::Map),
        ]
    })
}

fn write(writer: &mut Writer<'_>, said: &Said) {
    let all = |writer: &mut Writer<'_>, items: &[Said]| items.iter().for_each(|item| write(writer, item));
    match said {
        Said::Simple(text) => writer.simple(text),
        Said::Error(text) => writer.error(text),
        Said::Integer(integer) => writer.integer(*integer),
        Said::Bulk(bytes) => writer.bulk(bytes),
        Said::Verbatim(text) => writer.verbatim(text),
        Said::Null => writer.null(),
        Said::NullArray => writer.null_array(),
        Said::Boolean(value) => writer.boolean(*value),
        Said::Double(value) => writer.double(*value),
        Said::Array(items) => {
            writer.array(items.len());
            all(writer, items);
        }
        Said::Set(items) => {
            writer.set(items.len());
            all(writer, items);
        }
        Said::Push(items) => {
            writer.push(items.len());
            all(writer, items);
        }
        Said::Map(pairs) => {
            writer.map(pairs.len());
            for (key, value) in pairs {
                write(writer, key);
                write(writer, value);
            }
        }
    }
}

/// Whether `read` is `said`, as the version has it.
fn is_said(version: RespVersion, read: &Value<'_>, said: &Said) -> bool {
    let is_two = version == RespVersion::Two;
    let are_said = |read: &[Value<'_>], said: &[&Said]| {
        read.len() == said.len() && read.iter().zip(said).all(|(read, said)| is_said(version, read, said))
    };
    let kind = |three: Aggregate| if is_two { Aggregate::Array } else { three };
    match (read, said) {
        (Value::One(scalar), said) => match (*scalar, said) {
            (Scalar::Simple(text), Said::Simple(said)) | (Scalar::Error(text), Said::Error(said)) => {
                text == said.as_bytes()
            }
            (Scalar::Verbatim(text), Said::Verbatim(said)) => !is_two && text == said.as_bytes(),
            (Scalar::Bulk(text), Said::Verbatim(said)) => is_two && text == said.as_bytes(),
            (Scalar::Integer(integer), Said::Integer(said)) => integer == *said,
            (Scalar::Integer(integer), Said::Boolean(said)) => is_two && integer == i64::from(*said),
            (Scalar::Boolean(value), Said::Boolean(said)) => !is_two && value == *said,
            (Scalar::Bulk(bytes), Said::Bulk(said)) => bytes == said,
            (Scalar::NullBulk, Said::Null) | (Scalar::NullArray, Said::NullArray) => is_two,
            (Scalar::Null, Said::Null | Said::NullArray) => !is_two,
            (Scalar::Double(text), Said::Double(said)) => !is_two && is_double(text, *said),
            (Scalar::Bulk(text), Said::Double(said)) => is_two && is_double(text, *said),
            _ => false,
        },
        (Value::Many(read_kind, read), Said::Array(items)) => {
            *read_kind == Aggregate::Array && are_said(read, &items.iter().collect::<Vec<_>>())
        }
        (Value::Many(read_kind, read), Said::Set(items)) => {
            *read_kind == kind(Aggregate::Set) && are_said(read, &items.iter().collect::<Vec<_>>())
        }
        (Value::Many(read_kind, read), Said::Push(items)) => {
            *read_kind == kind(Aggregate::Push) && are_said(read, &items.iter().collect::<Vec<_>>())
        }
        (Value::Many(read_kind, read), Said::Map(pairs)) => {
            let flat: Vec<_> = pairs.iter().flat_map(|(key, value)| [key, value]).collect();
            *read_kind == kind(Aggregate::Map) && are_said(read, &flat)
        }
        (Value::Many(..), _) => false,
    }
}

fn is_double(text: &[u8], said: f64) -> bool {
    let read: f64 = std::str::from_utf8(text).unwrap().parse().unwrap();
    read.to_bits() == said.to_bits() || (read.is_nan() && said.is_nan())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        replies in proptest::collection::vec(said(), 1..5), is_two: bool, piece in 1usize..40,
    ) {
        let version = if is_two { RespVersion::Two } else { RespVersion::Three };
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for reply in &replies {
            write(&mut Writer::new(&mut bytes, version), reply);
            ends.push(bytes.len());
        }
        let mut parser = ReplyParser::new(1 << 20);
        let (mut start, mut end, mut read) = (0, 0, 0);
        while end < bytes.len() {
            end = (end + piece).min(bytes.len());
            while let Some(reply) = parser.parse(&bytes[start..end]).unwrap() {
                start += reply.len();
                prop_assert_eq!(start, ends[read], "a reply ends where its last value does");
                let value = reply.value();
                prop_assert!(is_said(version, &value, &replies[read]), "{:?} is not {:?}", value, replies[read]);
                read += 1;
            }
            prop_assert!(read == replies.len() || end < ends[read], "a whole reply is given at once");
        }
        prop_assert_eq!((read, start), (replies.len(), bytes.len()));
    }

    #[test]
    fn any_bytes_are_a_reply_an_error_or_a_wait(
        bytes in proptest::collection::vec(
            prop_oneof![4 => proptest::sample::select(&b"\r\n*$%>~|=!,(#_+-:0123t"[..]), 1 => any::<u8>()], 0..60,
        ),
    ) {
        let mut parser = ReplyParser::new(100);
        if let Ok(Some(reply)) = parser.parse(&bytes) {
            prop_assert!(reply.len() <= bytes.len());
            let tokens = reply.tokens().count();
            prop_assert!((1..=reply.len()).contains(&tokens));
            let _ = reply.value();
        }
    }
}
