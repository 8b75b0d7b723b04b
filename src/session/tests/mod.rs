//! The session's guarantees, by what they are about: order, the commands' words, any bytes at all, real sockets.

mod any_bytes;
mod limits;
mod order;
mod over_tcp;
mod subscribing;
mod words;

use std::io::Write as _;
use std::rc::Rc;

use cartwright_protocol::native::ReplyOpcode;
use cartwright_protocol::{
    Amount, AuditReport, Currency, Error, ErrorCode, ItemGet, ItemView, LineView, Operation, OrderGet, OrderId,
    OrderList, OrderState, OrderSummary, OrderView, Receipt, Reply, Sku, Slot, StockView, Text,
};

use crate::engine::{Answer, Ask, KeyRequest, LogPosition, Response, Together, TogetherAnswer};

use super::server_task::{ServerTask, ShardQuery, ShardResult};
use super::settings::Number;
use super::{Request, ServerCounters, Session, SessionContext, SessionLimits};

fn context_with(limits: SessionLimits) -> Rc<SessionContext> {
    let facts = Box::new(ServerCounters {
        uptime_seconds: 90,
        connected_clients: 3,
        ..ServerCounters::default()
    });
    let context = SessionContext::new(1, 2, 6379, "0".repeat(40), facts);
    context.turn_us.set(1_700_000_000_123_456);
    // Half a gigabyte for a command is more than a test has to try.
    context.settings.set_number(Number::ArgumentBytesMax, 32 << 20);
    context.settings.set_number(Number::CommandBytesMax, 64 << 20);
    Rc::new(SessionContext { limits, ..context })
}

fn session() -> Session {
    Session::new(7, context_with(SessionLimits::DEFAULT))
}

fn order_id() -> OrderId {
    OrderId::new(Slot::of(b"ann"), 3)
}

fn pounds() -> Currency {
    Currency::new(b"GBP").unwrap()
}

/// A reply of the right kind, made of the operation alone, so that a mixed-up reply shows.
fn answer(request: &Request) -> Reply {
    let Request::Engine(Ask::Shop(operation)) = request else {
        panic!("only the shop is asked here")
    };
    answer_of_shop(operation)
}

fn answer_of_shop(operation: &Operation) -> Reply {
    let total = Amount::new(1250).unwrap();
    match operation {
        Operation::ItemPut(_) => Reply::Ok,
        Operation::ItemGet(ItemGet { sku }) if sku.as_str() == "none" => Reply::Null,
        Operation::ItemGet(ItemGet { sku }) => Reply::Item(Box::new(ItemView {
            sku: sku.clone(),
            price: Amount::new(250).unwrap(),
            currency: pounds(),
            name: Text::new(b"a thing").unwrap(),
            limit: 3,
            backorder: 0,
        })),
        Operation::StockAdd(add) => Reply::Integer(add.delta),
        Operation::StockGet(_) => Reply::Stock(StockView {
            on_hand: 10,
            held: 2,
            committed: 9,
            available: -1,
        }),
        Operation::Checkout(checkout) if checkout.lines[0].quantity.units() > 100 => {
            Reply::Error(Error::new(ErrorCode::OutOfStock, "22423 wanted 101, available 3"))
        }
        Operation::Checkout(checkout) => Reply::Receipt(Receipt {
            id: order_id(),
            state: if checkout.hold_ms.is_some() {
                OrderState::Held
            } else {
                OrderState::Placed
            },
            total,
            currency: pounds(),
            expires_at_ms: u64::from(checkout.hold_ms.unwrap_or(0)),
        }),
        Operation::OrderGet(OrderGet { id }) => Reply::Order(Box::new(OrderView {
            id: *id,
            customer: "ann".parse().unwrap(),
            state: OrderState::Placed,
            currency: pounds(),
            total,
            created_at_ms: 11,
            updated_at_ms: 12,
            expires_at_ms: 0,
            lines: vec![LineView {
                sku: Sku::new(b"22423").unwrap(),
                price: Amount::new(250).unwrap(),
                ordered: 5,
                cancelled: 1,
                shipped: 2,
                returned: 0,
            }],
        })),
        Operation::OrderList(OrderList { count, .. }) => {
            let summary = OrderSummary {
                id: order_id(),
                state: OrderState::Expired,
                total,
                currency: pounds(),
                created_at_ms: u64::from(*count),
            };
            Reply::Orders(vec![summary])
        }
        Operation::Audit => Reply::Audit(AuditReport {
            items: 1,
            state_hash: 0xab,
            ..AuditReport::default()
        }),
        // The others answer with a reply of their kind.
        other => match other.spec().replies {
            [ReplyOpcode::State] if other.spec().name == "ORDER.CONFIRM" => Reply::State(OrderState::Placed),
            [ReplyOpcode::State] => Reply::State(OrderState::Cancelled),
            [ReplyOpcode::Integer] => Reply::Integer(1_700_000_000_000),
            replies => panic!("no reply for {} in {replies:?}", other.spec().name),
        },
    }
}

/// Hands out and answers whatever can be, in the order it comes, and gives what the client would read.
fn settle(session: &mut Session) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        sent.append(session.output());
        match session.next_request() {
            Some((sequence, Request::Server(task))) => {
                let results = found(session, &task);
                session.complete_task(sequence, results);
            }
            Some((sequence, Request::Engine(Ask::Keys(request)))) => session.complete(sequence, key_answer(&request)),
            Some((sequence, Request::Engine(Ask::Together(together)))) => {
                session.complete(sequence, together_answer(&together));
            }
            Some((sequence, request)) => session.complete(sequence, answer(&request)),
            // Taking the output may have made room for more.
            None if session.output().is_empty() => return sent,
            None => (),
        }
    }
}

/// What a transaction over shop and keyspace answers that takes place.
fn together_answer(together: &Together) -> Response {
    let answers = together.entries.as_ref().map_or(0, |request| request.invocations.len());
    Response::Together(Box::new(TogetherAnswer {
        replies: together.operations.iter().map(answer_of_shop).collect(),
        answers: vec![Answer::Ok; answers],
    }))
}

/// What a keyspace answers in which every command succeeds and nothing that is watched changes.
fn key_answer(request: &KeyRequest) -> Answer {
    let count = request.invocations.len();
    let first = request.invocations.first();
    match first {
        _ if request.is_transaction => Answer::Array(vec![Answer::Ok; count]),
        Some(invocation) if invocation.command.name == "watch" => {
            Answer::Versions(vec![LogPosition(1); invocation.arguments.get().len() - 1].into())
        }
        _ => Answer::Ok,
    }
}

/// What a shard finds whose only connection this is, and another that has none.
fn found(session: &mut Session, task: &ServerTask) -> Vec<ShardResult> {
    let ServerTask::Everywhere(query) = task else {
        return Vec::new();
    };
    match &**query {
        ShardQuery::Clients(filter) => {
            let lines = session.is_meant_by(filter).then(|| (session.id(), session.describe()));
            vec![
                ShardResult::Lines(Vec::new()),
                ShardResult::Lines(lines.into_iter().collect()),
            ]
        }
        ShardQuery::Publish(messages) => {
            let context = Rc::clone(&session.context);
            let counts = messages.iter().map(|message| {
                let mut count = 0;
                context.subscriptions.borrow().each_receiver(message, |_, pattern| {
                    assert!(session.deliver(message, pattern));
                    count += 1;
                });
                count
            });
            vec![
                ShardResult::Counts(counts.collect()),
                ShardResult::Counts(vec![0; messages.len()]),
            ]
        }
        ShardQuery::Report => vec![ShardResult::Report(Box::new(
            session.context.statistics.borrow().report(),
        ))],
        _ => vec![ShardResult::Nothing; 2],
    }
}

/// What a client that sends `bytes` reads.
fn exchange(session: &mut Session, bytes: &[u8]) -> String {
    session.receive(bytes);
    String::from_utf8(settle(session)).expect("the tests ask for text")
}

/// The words as a multibulk command.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write!(bytes, "*{}\r\n", words.len()).expect("a vector takes all");
    for word in words {
        write!(bytes, "${}\r\n{word}\r\n", word.len()).expect("a vector takes all");
    }
    bytes
}

/// How often `byte` occurs.
fn count(bytes: &[u8], byte: u8) -> usize {
    bytes.split(|&other| other == byte).count() - 1
}
