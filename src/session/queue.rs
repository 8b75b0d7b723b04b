//! Requests of one connection between being parsed and being answered: how many, how large, and which may run at once.
//!
//! Called by both front ends. It never touches bytes.
//!
//! A RESP connection's commands take effect as if executed one after the other. Commands of one [`Class`] may still be
//! in the engine together: reads do not see each other, and the others of a class commute but for which of them is
//! refused, or reach the engine's one place for their item or order in the order they were sent. A command of another
//! class waits until everything before it is answered. Checkouts are the exception that a client must know: pipelined
//! ones compete for the last units like those of two connections.

use std::collections::VecDeque;

use cartwright_protocol::Operation;
use cartwright_protocol::shop::Class as ShopClass;
use cartwright_protocol::shop::answer::SMALL_REPLY_BYTES;

use super::context::SessionLimits;
use super::server_task::{ServerTask, ShardQuery};
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{Ask, KeyRequest};

/// What a session asks for.
#[derive(Debug)]
pub enum Request {
    /// Of the engine; completed with [`super::Session::complete`].
    Engine(Ask),
    /// Of the server around it; completed with [`super::Session::complete_task`].
    Server(ServerTask),
}

impl Request {
    /// The shop's operation.
    ///
    /// # Panics
    /// Where something else is asked for.
    pub fn into_operation(self) -> Operation {
        match self {
            Self::Engine(Ask::Shop(operation)) => operation,
            other => panic!("{other:?} is nothing that the shop does"),
        }
    }

    const fn writes(&self) -> bool {
        match self {
            Self::Engine(Ask::Shop(operation)) => operation.writes(),
            Self::Engine(Ask::Keys(_) | Ask::Together(_)) | Self::Server(_) => true,
        }
    }
}

/// Commands that may be in flight together on one RESP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Of the shop, all of one class.
    Shop(ShopClass),
    /// Commands on keys of one slot each: the slot's shard runs those on one key in the order they were sent.
    Key,
    /// Commands on keys of several slots that only read.
    ReadKeys,
    /// `PUBLISH`: messages leave for every shard in the order they were sent.
    Publish,
    /// Everything else: alone.
    Alone,
}

impl Class {
    fn of(request: &Request) -> Self {
        match request {
            Request::Engine(Ask::Shop(operation)) => match operation.spec().class {
                ShopClass::Alone => Self::Alone,
                class => Self::Shop(class),
            },
            Request::Engine(Ask::Keys(request)) if request.is_in_one_slot() => Self::Key,
            Request::Engine(Ask::Keys(request)) if !request.writes() => Self::ReadKeys,
            Request::Server(ServerTask::Everywhere(query)) if matches!(**query, ShardQuery::Publish(_)) => {
                Self::Publish
            }
            Request::Engine(Ask::Keys(_) | Ask::Together(_)) | Request::Server(_) => Self::Alone,
        }
    }
}

/// How much is set aside for the reply to a request to the keyspace. It can be longer: how long, only the engine knows.
fn key_reply_bytes(request: &KeyRequest) -> usize {
    SMALL_REPLY_BYTES * request.invocations.len()
}

/// What one request takes up until it is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    /// Its bytes on the wire.
    pub(super) request_bytes: usize,
    /// What its reply may need.
    pub(super) reply_bytes: usize,
}

struct Ready {
    sequence: u64,
    class: Class,
    reply_bytes: usize,
    request: Request,
}

/// See the module.
pub(super) struct Queue {
    /// Parsed, not yet given to the engine.
    ready: VecDeque<Ready>,
    /// With the engine.
    in_flight: usize,
    /// The class of those with the engine.
    class: Class,
    /// Not yet answered, or answered and waiting for an earlier answer.
    unanswered: usize,
    request_bytes: usize,
    /// What the replies of those handed out, and of those waiting, may need.
    reply_bytes: usize,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            in_flight: 0,
            class: Class::Alone,
            unanswered: 0,
            request_bytes: 0,
            reply_bytes: 0,
        }
    }

    /// Whether nothing more should be parsed for now.
    pub(super) const fn is_full(&self, limits: &SessionLimits, output_bytes: usize) -> bool {
        self.unanswered >= limits.in_flight_max
            || self.request_bytes >= limits.in_flight_bytes_max
            || output_bytes + self.reply_bytes >= limits.output_bytes_max
    }

    /// Takes a request in; the weight to give back to [`Queue::release`].
    pub(super) fn push(&mut self, sequence: u64, request_bytes: usize, request: Request) -> Weight {
        let weight = Weight {
            request_bytes,
            reply_bytes: match &request {
                Request::Engine(Ask::Shop(operation)) => operation.reply_bytes_max(),
                Request::Engine(Ask::Keys(request)) => key_reply_bytes(request),
                Request::Engine(Ask::Together(together)) => {
                    let replies = together.operations.iter().map(Operation::reply_bytes_max);
                    replies.sum::<usize>() + together.entries.as_deref().map_or(0, key_reply_bytes)
                }
                Request::Server(_) => SMALL_REPLY_BYTES,
            },
        };
        self.unanswered += 1;
        self.request_bytes += request_bytes;
        let class = Class::of(&request);
        self.ready.push_back(Ready {
            sequence,
            class,
            reply_bytes: weight.reply_bytes,
            request,
        });
        weight
    }

    /// Takes in what a request that was just answered wants besides; it goes before all others and adds no weight.
    pub(super) fn push_again(&mut self, sequence: u64, request: Request) {
        self.ready.push_front(Ready {
            sequence,
            class: Class::Alone,
            reply_bytes: 0,
            request,
        });
    }

    /// Whether the next request for the engine changes something.
    pub(super) fn next_writes(&self) -> bool {
        self.ready.front().is_some_and(|ready| ready.request.writes())
    }

    /// Takes in a reply that has to wait for earlier ones.
    pub(super) const fn push_answered(&mut self, reply_bytes: usize) -> Weight {
        self.unanswered += 1;
        self.reply_bytes += reply_bytes;
        Weight {
            request_bytes: 0,
            reply_bytes,
        }
    }

    /// The next request for the engine, or `None` while it must wait: for commands of another class (where `ordered`),
    /// or for room for its reply.
    pub(super) fn next(
        &mut self,
        ordered: bool,
        limits: &SessionLimits,
        output_bytes: usize,
    ) -> Option<(u64, Request)> {
        let front = self.ready.front()?;
        if self.in_flight == 0 {
            // Everything before it is answered and written, so it may go as soon as the client reads.
            if output_bytes >= limits.output_bytes_max {
                return None;
            }
        } else {
            let is_in_order = front.class == self.class && front.class != Class::Alone;
            let is_hasty = front.class == Class::Publish && is_on(Mutation::PublishAtOnce);
            if ordered && !is_in_order && !is_hasty {
                return None;
            }
            if output_bytes + self.reply_bytes + front.reply_bytes > limits.output_bytes_max {
                return None;
            }
        }
        let front = self.ready.pop_front().expect("the queue has a front");
        self.class = front.class;
        self.in_flight += 1;
        self.reply_bytes += front.reply_bytes;
        Some((front.sequence, front.request))
    }

    /// The engine has answered one.
    pub(super) fn answered(&mut self) {
        self.in_flight = self
            .in_flight
            .checked_sub(1)
            .expect("only what was handed out is completed");
    }

    /// An answer has been written to the output.
    pub(super) fn release(&mut self, weight: Weight) {
        self.unanswered -= 1;
        self.request_bytes -= weight.request_bytes;
        self.reply_bytes -= weight.reply_bytes;
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) const fn unanswered(&self) -> usize {
        self.unanswered
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::resp::{RespVersion, Writer};
    use cartwright_protocol::{
        AMOUNT_MAX, Amount, CART_LINES_MAX, Currency, Customer, LineView, NAME_LENGTH_MAX, ORDER_LIST_COUNT_MAX,
        OrderGet, OrderId, OrderList, OrderState, OrderSummary, OrderView, Reply, Sku,
    };

    use super::*;

    #[test]
    fn no_reply_is_longer_than_what_was_set_aside_for_it() {
        let id = OrderId::from_integer((1 << 63) - 1).expect("the largest id");
        let (total, currency) = (
            Amount::new(AMOUNT_MAX).expect("the largest"),
            Currency::new(b"GBP").expect("letters"),
        );
        let name = [b'x'; NAME_LENGTH_MAX];
        let (customer, sku) = (Customer::new(&name).expect("a name"), Sku::new(&name).expect("a name"));
        let most = u32::MAX;
        let line = LineView {
            sku,
            price: total,
            ordered: most,
            cancelled: most,
            shipped: most,
            returned: most,
        };
        let order = OrderView {
            id,
            customer: customer.clone(),
            state: OrderState::Cancelled,
            currency,
            total,
            created_at_ms: u64::MAX,
            updated_at_ms: u64::MAX,
            expires_at_ms: u64::MAX,
            lines: vec![line; CART_LINES_MAX],
        };
        let summary = OrderSummary {
            id,
            state: OrderState::Cancelled,
            total,
            currency,
            created_at_ms: u64::MAX,
        };
        let count = ORDER_LIST_COUNT_MAX;
        for (operation, reply) in [
            (Operation::OrderGet(OrderGet { id }), Reply::Order(Box::new(order))),
            (
                Operation::OrderList(OrderList {
                    customer,
                    before: None,
                    count,
                }),
                Reply::Orders(vec![summary; count as usize]),
            ),
        ] {
            let mut native = Vec::new();
            cartwright_protocol::native::encode_reply(&mut native, 1, &reply);
            let mut resp = Vec::new();
            super::super::render::write_reply(&mut Writer::new(&mut resp, RespVersion::Two), &reply);
            let longest = native.len().max(resp.len());
            assert!(
                longest <= operation.reply_bytes_max(),
                "{longest} > {}",
                operation.reply_bytes_max()
            );
        }
    }
}
