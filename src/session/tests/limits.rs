//! What a connection may take up: requests, input, output.

use crate::engine::Answer;

use super::{answer, command, context_with, count, settle};
use crate::session::server_task::Message;
use crate::session::settings::Number;
use crate::session::{Request, Session, SessionLimits};

fn with(limits: SessionLimits) -> Session {
    Session::new(1, context_with(limits))
}

fn handed_out(session: &mut Session) -> Vec<(u64, Request)> {
    std::iter::from_fn(|| session.next_request()).collect()
}

#[test]
fn input_behind_the_in_flight_limit_is_not_parsed_until_replies_go_out() {
    let mut session = with(SessionLimits {
        in_flight_max: 8,
        ..SessionLimits::DEFAULT
    });
    session.receive(&b"STOCK.ADD a 1\r\n".repeat(20));
    assert_eq!(session.unanswered(), 8);
    assert!(!session.wants_input());
    let run = handed_out(&mut session);
    assert_eq!(run.len(), 8);
    session.complete(run[1].0, answer(&run[1].1));
    assert!(
        handed_out(&mut session).is_empty(),
        "its reply has not gone out: the first is awaited"
    );
    session.complete(run[0].0, answer(&run[0].1));
    assert_eq!(handed_out(&mut session).len(), 2);
    for (sequence, operation) in &run[2..] {
        session.complete(*sequence, answer(operation));
    }
    assert_eq!(session.in_flight(), 2);
    assert_eq!(handed_out(&mut session).len(), 6);
}

#[test]
fn every_request_behind_a_limit_is_answered_in_the_end() {
    let mut session = with(SessionLimits {
        in_flight_max: 3,
        ..SessionLimits::DEFAULT
    });
    session.receive(&b"STOCK.ADD a 1\r\nPING\r\nSTOCK.GET a\r\n".repeat(100));
    let replies = settle(&mut session);
    assert_eq!(count(&replies, b'+'), 100);
    assert!(session.wants_input() && session.unanswered() == 0);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut session = with(SessionLimits {
        output_bytes_max: 10_000,
        ..SessionLimits::DEFAULT
    });
    let echo = command(&["ECHO", &"x".repeat(1000)]);
    session.receive(&echo.repeat(50));
    assert!(session.next_request().is_none() && !session.wants_input());
    assert!(
        (10_000..12_000).contains(&session.output().len()),
        "{}",
        session.output().len()
    );
    let mut received = 0;
    while !session.output().is_empty() {
        received += session.output().len();
        session.output().clear();
        assert!(session.next_request().is_none());
    }
    assert_eq!(received, 50 * 1009);
    assert!(session.wants_input());
}

#[test]
fn replies_that_wait_behind_an_awaited_one_count_as_output() {
    let mut session = with(SessionLimits {
        output_bytes_max: 10_000,
        ..SessionLimits::DEFAULT
    });
    session.receive(b"STOCK.ADD a 1\r\n");
    session.receive(&command(&["ECHO", &"x".repeat(1000)]).repeat(50));
    assert!(session.unanswered() < 12, "{}", session.unanswered());
    assert_eq!(settle(&mut session).len(), 4 + 50 * 1009);
}

#[test]
fn requests_with_large_replies_are_handed_out_as_there_is_room() {
    let mut session = with(SessionLimits {
        output_bytes_max: 4 << 20,
        ..SessionLimits::DEFAULT
    });
    session.receive(&format!("ORDER.GET {}\r\n", super::order_id()).into_bytes().repeat(100));
    let run = handed_out(&mut session);
    assert!((2..8).contains(&run.len()), "{}", run.len());
    for (sequence, operation) in run {
        session.complete(sequence, answer(&operation));
    }
    settle(&mut session);
    assert_eq!(session.unanswered(), 0);
    assert!(session.wants_input());
}

#[test]
fn large_values_are_written_out_only_as_the_client_reads() {
    let mut session = with(SessionLimits {
        output_bytes_max: 100_000,
        ..SessionLimits::DEFAULT
    });
    session.receive(&b"GET a\r\n".repeat(100));
    let run = handed_out(&mut session);
    assert_eq!(run.len(), 100, "how large a value is, only the engine knows");
    let value = Answer::bulk(&vec![b'x'; 50_000]);
    for (sequence, _) in run {
        session.complete(sequence, value.clone());
    }
    let mut received = 0;
    while !session.output().is_empty() {
        assert!(session.output().len() < 160_000, "{}", session.output().len());
        received += session.output().len();
        session.output().clear();
        assert!(session.next_request().is_none());
    }
    assert_eq!(received, 100 * 50_010);
    assert_eq!(session.unanswered(), 0);
}

#[test]
fn large_requests_count_by_their_bytes() {
    let mut session = with(SessionLimits {
        in_flight_bytes_max: 1000,
        ..SessionLimits::DEFAULT
    });
    session.receive(&command(&["STOCK.ADD", "a", "1", "REASON", &"x".repeat(400)]).repeat(10));
    assert_eq!(session.unanswered(), 3);
    settle(&mut session);
    assert_eq!(session.unanswered(), 0);
}

#[test]
fn a_command_over_the_buffer_limit_costs_one_reply_and_the_connection() {
    let context = context_with(SessionLimits::DEFAULT);
    context.settings.set_number(Number::ArgumentBytesMax, 1 << 20);
    context.settings.set_number(Number::CommandBytesMax, 5 << 20);
    let mut session = Session::new(1, context);
    session.receive(b"*99\r\n");
    for _ in 0..10 {
        session.receive(&[b"$1000000\r\n", "x".repeat(1_000_000).as_bytes(), b"\r\n"].concat());
    }
    assert_eq!(
        settle(&mut session),
        b"-ERR Protocol error: command exceeds the query buffer limit of 5242880 bytes\r\n"
    );
    assert!(session.is_closing());
}

#[test]
fn what_a_large_request_took_is_given_back_while_it_is_in_flight() {
    let mut session = with(SessionLimits::DEFAULT);
    let mut stream = command(&["SET", "key", &"x".repeat(8 << 20)]);
    stream.extend(command(&["SET", "key", "short"]).repeat(10));
    for piece in stream.chunks(64 << 10) {
        session.receive(piece);
    }
    assert_eq!(handed_out(&mut session).len(), 1, "those behind it wait for its bytes");
    assert!(session.buffered_bytes() < 1 << 20, "{} bytes", session.buffered_bytes());
}

#[test]
fn a_long_reply_is_written_as_there_is_room_and_messages_come_behind_it() {
    const OUTPUT_BYTES_MAX: usize = 100_000;
    let mut session = with(SessionLimits {
        output_bytes_max: OUTPUT_BYTES_MAX,
        ..SessionLimits::DEFAULT
    });
    let long: Vec<u8> = (0..1_000_000).map(|at| (at * 7 / 5) as u8).collect();
    session.receive(b"HELLO 3\r\n");
    session.output().clear();
    session.receive(&[command(&["GET", "key"]), command(&["GET", "other"]), command(&["PING"])].concat());
    for (sequence, _) in handed_out(&mut session).iter().rev() {
        session.complete(*sequence, Answer::bulk(if *sequence == 0 { &long } else { b"short" }));
    }
    let (mut received, mut rounds) = (Vec::new(), 0);
    while !session.output().is_empty() {
        assert!(session.output().len() <= OUTPUT_BYTES_MAX + 100);
        rounds += 1;
        if rounds == 3 {
            let message = Message {
                channel: b"channel"[..].into(),
                payload: b"payload"[..].into(),
                sharded: false,
            };
            assert!(session.deliver(&message, None));
        }
        received.append(session.output());
        session.next_request();
    }
    assert!(rounds >= 10);
    let wanted = [&b"$1000000\r\n"[..], &long, b"\r\n"].concat();
    assert!(received.starts_with(&wanted), "nothing stands within it");
    let rest = String::from_utf8_lossy(&received[wanted.len()..]).into_owned();
    assert!(
        rest.starts_with("$5\r\nshort\r\n+PONG\r\n") && rest.contains("payload"),
        "{rest:?}"
    );
    assert_eq!(session.unanswered(), 0);
}

/// A subscriber whose output is full of the beginning of a long reply, with another reply awaited behind it.
fn amid_a_long_reply(output_bytes_max: usize) -> (Session, Message) {
    let mut session = with(SessionLimits {
        output_bytes_max,
        ..SessionLimits::DEFAULT
    });
    session.receive(b"HELLO 3\r\nSUBSCRIBE channel\r\n");
    session.output().clear();
    session.receive(&[command(&["GET", "long"]), command(&["GET", "short"])].concat());
    let run = handed_out(&mut session);
    session.complete(run[0].0, Answer::bulk(&vec![b'x'; 3 * output_bytes_max / 2]));
    let message = Message {
        channel: b"channel"[..].into(),
        payload: vec![b'm'; 1000].into(),
        sharded: false,
    };
    (session, message)
}

#[test]
fn a_message_behind_a_long_reply_comes_before_all_that_is_said_later() {
    let (mut session, message) = amid_a_long_reply(100_000);
    assert!(session.deliver(&message, None));
    // It is being sent, and the other answer comes before the next turn.
    session.output().clear();
    session.complete(1, Answer::bulk(b"short"));
    session.receive(b"UNSUBSCRIBE channel\r\n");
    assert!(session.next_request().is_none());
    let said = String::from_utf8_lossy(session.output()).into_owned();
    let (message, farewell) = (said.find("mmm").unwrap(), said.find("unsubscribe").unwrap());
    assert!(message < farewell, "{}", &said[message.min(farewell)..]);
}

#[test]
fn a_long_reply_does_not_count_as_messages_that_nobody_reads() {
    let (mut session, message) = amid_a_long_reply(100_000);
    session.context.settings.set_number(Number::PubSubSoftBytesMax, 50_000);
    session.context.settings.set_number(Number::PubSubBytesMax, 50_000);
    for _ in 0..40 {
        assert!(session.deliver(&message, None), "the client reads as fast as it can");
    }
    let is_cut_off = (0..40).any(|_| !session.deliver(&message, None));
    assert!(is_cut_off, "messages are bounded");
}

#[test]
fn announcing_a_large_request_claims_no_memory() {
    let mut session = with(SessionLimits::DEFAULT);
    session.receive(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$33554432\r\nx");
    assert!(session.wants_input() && session.buffered_bytes() < 1 << 10);
    for _ in 0..100 {
        session.receive(&[b'x'; 10_000]);
    }
    assert!(session.buffered_bytes() < 4 << 20, "it grows with what comes");
}
