//! In which order requests run and replies leave.

use cartwright_protocol::native::{
    ClientHello, PROTOCOL_VERSION, SERVER_HELLO_BYTES, SHARD_ANY, decode_frame, encode_request,
};
use cartwright_protocol::{ItemGet, Operation, Reply, Sku};

use super::{answer, exchange, session};
use crate::session::{Request, Session};

fn requests(session: &mut Session) -> Vec<(u64, Request)> {
    std::iter::from_fn(|| session.next_request()).collect()
}

fn stock_adds(count: i64) -> Vec<u8> {
    (1..=count)
        .flat_map(|delta| format!("STOCK.ADD sku {delta}\r\n").into_bytes())
        .collect()
}

#[test]
fn replies_leave_in_the_order_of_the_requests() {
    let mut session = session();
    session.receive(
        &[
            &stock_adds(3)[..],
            b"PING\r\n",
            b"STOCK.ADD sku 4\r\n",
            b"ECHO last\r\n",
        ]
        .concat(),
    );
    let mut handed_out = requests(&mut session);
    assert_eq!(handed_out.len(), 4);
    handed_out.reverse();
    for (sequence, operation) in handed_out {
        assert!(session.output().is_empty(), "nothing may overtake the first");
        session.complete(sequence, answer(&operation));
    }
    assert_eq!(session.output(), b":1\r\n:2\r\n:3\r\n+PONG\r\n:4\r\n$4\r\nlast\r\n");
    assert_eq!(session.unanswered(), 0);
}

#[test]
fn a_command_of_another_class_waits_for_all_before_it() {
    let mut session = session();
    session
        .receive(b"STOCK.ADD a 1\r\nITEM.PUT b 1 GBP\r\nSTOCK.GET a\r\nITEM.GET a\r\nCHECKOUT c KEY k LINES 1 a 1\r\n");
    session.receive(b"CHECKOUT c KEY l LINES 1 a 1\r\nORDER.LIST c\r\nAUDIT\r\nAUDIT\r\nSTOCK.ADD a 1\r\n");
    let mut runs = Vec::new();
    while session.unanswered() > 0 {
        let run = requests(&mut session);
        runs.push(run.len());
        for (index, (sequence, operation)) in run.iter().enumerate() {
            assert_eq!(session.in_flight(), run.len() - index);
            assert!(
                session.next_request().is_none(),
                "the next class waits for the last of this one"
            );
            session.complete(*sequence, answer(operation));
        }
    }
    assert_eq!(runs, [2, 2, 2, 1, 1, 1, 1]);
}

#[test]
fn commands_on_keys_are_in_flight_together_unless_one_touches_several() {
    // `a` and `b` are in different slots; `{a}x` is in that of `a`.
    let input = b"SET a 1\r\nGET b\r\nINCR a\r\nMSET a 1 {a}x 2\r\nMGET a b\r\nMGET b a\r\nMSET a 1 b 2\r\nGET a\r\n\
                  PUBLISH c 1\r\nPUBLISH c 2\r\nGET a\r\nSTOCK.GET a\r\nDBSIZE\r\n\
                  SCAN 0\r\nSCAN 0\r\nGET a\r\n";
    let mut session = session();
    session.receive(input);
    let mut runs = Vec::new();
    while session.unanswered() > 0 {
        let run = requests(&mut session);
        runs.push(run.len());
        for (sequence, request) in run {
            match request {
                Request::Engine(_) => session.complete(sequence, Reply::Ok),
                Request::Server(_) => session.complete_task(sequence, Vec::new()),
            }
        }
    }
    assert_eq!(runs, [4, 2, 1, 1, 2, 1, 1, 3, 1]);
}

#[test]
fn native_requests_are_handed_out_at_once_and_answered_as_they_complete() {
    let mut session = session();
    let mut bytes = ClientHello {
        version: PROTOCOL_VERSION,
        shard: SHARD_ANY,
    }
    .encode()
    .to_vec();
    let get = Operation::ItemGet(ItemGet {
        sku: Sku::new(b"22423").unwrap(),
    });
    for (id, operation) in [(10, &get), (11, &Operation::Audit), (10, &get)] {
        encode_request(&mut bytes, id, operation);
    }
    session.receive(&bytes);
    session.output().drain(..SERVER_HELLO_BYTES);
    let handed_out = requests(&mut session);
    assert_eq!(handed_out.len(), 3);
    for (which, id) in [(1, 11), (2, 10), (0, 10)] {
        session.complete(handed_out[which].0, Reply::Ok);
        let (frame, length) = decode_frame(session.output()).unwrap().expect("answered at once");
        assert_eq!(frame.request_id, id);
        session.output().drain(..length);
    }
}

#[test]
#[should_panic(expected = "completes each request it was given once")]
fn a_second_completion_is_never_another_requests_reply() {
    let mut session = session();
    session.receive(&stock_adds(2));
    let handed_out = requests(&mut session);
    session.complete(handed_out[0].0, Reply::Ok);
    session.complete(handed_out[0].0, Reply::Ok);
}

#[test]
fn quit_answers_everything_before_it_and_nothing_after() {
    let mut session = session();
    session.receive(b"STOCK.ADD a 1\r\nQUIT\r\nPING\r\n");
    assert!(!session.is_closing() && !session.wants_input());
    assert_eq!(exchange(&mut session, b"PING\r\n"), ":1\r\n+OK\r\n");
    assert!(session.is_closing());
}

#[test]
fn a_protocol_error_answers_everything_before_it_and_closes() {
    let mut session = session();
    session.receive(b"STOCK.ADD a 1\r\n*1\r\nfoo\r\nPING\r\n");
    assert!(!session.is_closing());
    assert_eq!(
        exchange(&mut session, b"PING\r\n"),
        ":1\r\n-ERR Protocol error: expected '$', got 'f'\r\n"
    );
    assert!(session.is_closing());
}

#[test]
fn a_reply_has_the_version_its_request_was_sent_in() {
    let mut session = session();
    session.receive(b"ITEM.GET none\r\nHELLO 3\r\nITEM.GET none\r\nRESET\r\nITEM.GET none\r\n");
    let run = requests(&mut session);
    assert_eq!(run.len(), 3);
    for (sequence, operation) in run.iter().rev() {
        session.complete(*sequence, answer(operation));
    }
    let output = String::from_utf8_lossy(session.output()).into_owned();
    assert!(output.starts_with("$-1\r\n%7\r\n"), "{output}");
    assert!(output.ends_with("*0\r\n_\r\n+RESET\r\n$-1\r\n"), "{output}");
}
