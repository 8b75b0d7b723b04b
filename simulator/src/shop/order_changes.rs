//! Changes of orders that are there: which are asked for, what they do, and which answers they explain.
//!
//! A new one stands here and nowhere else in the simulator: the workload draws it here, the model applies its record
//! here, and the checker asks here.

use cartwright::engine::{KeptReply, OrderChange, Timestamp};
use cartwright_protocol::{
    ErrorCode, Key, Operation, OrderCancel, OrderConfirm, OrderExtend, OrderId, OrderState, Reply,
};

use super::{Order, Shop, Source, Version, Versioned};
use crate::random::Random;
use crate::violation::Checked;
use crate::{promise, violation};

/// A request to change this order, some with this mark for a key; `keeps` leads to more orders that stay.
pub fn draw(keeps: bool, id: OrderId, mark: &str, random: &mut Random) -> Operation {
    let key: Option<Key> = random.chance(400).then(|| mark.parse().expect("a mark is a key"));
    if keeps && random.below(3) == 0 {
        let ms = *random.pick(&[1, 50, 500, 604_800_000]);
        OrderExtend { id, ms, key }.into()
    } else if keeps {
        OrderConfirm { id, key }.into()
    } else {
        OrderCancel { id, key }.into()
    }
}

/// The same key with another request.
pub fn with_other_body(operation: Operation) -> Operation {
    match operation {
        Operation::OrderConfirm(OrderConfirm { id, key }) => OrderCancel { id, key }.into(),
        Operation::OrderCancel(OrderCancel { id, key }) => OrderConfirm { id, key }.into(),
        Operation::OrderExtend(OrderExtend { id, ms, key }) => OrderExtend {
            id,
            ms: if ms == 1 { 2 } else { ms - 1 },
            key,
        }
        .into(),
        other => other,
    }
}

/// The order that a request is to bring into a state, and the state.
fn target(operation: &Operation) -> Option<(OrderId, OrderState)> {
    match operation {
        Operation::OrderConfirm(OrderConfirm { id, .. }) => Some((*id, OrderState::Placed)),
        Operation::OrderCancel(OrderCancel { id, .. }) => Some((*id, OrderState::Cancelled)),
        _ => None,
    }
}

/// Whether a refusal was right at some moment from `sent` on.
pub fn is_explained(operation: &Operation, code: ErrorCode, sent: Version, shop: &Shop) -> bool {
    let (id, to) = match (target(operation), operation) {
        (Some((id, to)), _) => (id, Some(to)),
        (None, Operation::OrderExtend(OrderExtend { id, .. })) => (*id, None),
        _ => return false,
    };
    let mut orders = shop.order_since(id, sent);
    match code {
        ErrorCode::NoOrder => orders.any(|order| order.is_none()),
        ErrorCode::State => orders.flatten().any(|order| match to {
            Some(to) => !order.value.can_become(to),
            None => order.value.state != OrderState::Held,
        }),
        _ => false,
    }
}

/// Whether an answer was true at some moment from `sent` on; `holds` says whether what made it so counts.
pub fn is_true(
    operation: &Operation,
    reply: &Reply,
    sent: Version,
    shop: &Shop,
    holds: &dyn Fn(Source) -> bool,
) -> bool {
    match (target(operation), reply) {
        (Some((id, to)), Reply::State(state)) => {
            let mut orders = shop.order_since(id, sent).flatten();
            *state == to && orders.any(|order| order.value.state == to && holds(order.source))
        }
        (None, Reply::Integer(expires_at)) => {
            let Operation::OrderExtend(OrderExtend { id, ms, .. }) = operation else {
                return false;
            };
            let mut orders = shop.order_since(*id, sent).flatten();
            orders.any(|order| {
                let is_due = order.value.updated_at.plus_ms(u64::from(*ms));
                let expires_at = Timestamp(expires_at.cast_unsigned());
                order.value.expires_at == Some(expires_at) && expires_at == is_due && holds(order.source)
            })
        }
        _ => false,
    }
}

/// Whether the answer that is kept with a request's key is one that the request explains.
pub fn is_kept(operation: &Operation, kept: &KeptReply, sent: Version, shop: &Shop) -> bool {
    is_true(operation, &kept.to_reply(), sent, shop, &|_| true)
}

/// The order with another end: it was held, and its time was not over.
fn extended(id: OrderId, mut order: Order, at: Timestamp, expires_at: Timestamp) -> Checked<Order> {
    promise!(
        order.state == OrderState::Held && order.expires_at.is_some_and(|before| before > at),
        "order {id} is {} until {:?}, and extended at {at:?}",
        order.state,
        order.expires_at
    );
    promise!(
        expires_at > at,
        "order {id} is extended to {expires_at:?}, which is over at {at:?}"
    );
    order.expires_at = Some(expires_at);
    order.updated_at = at;
    Ok(order)
}

impl Order {
    /// Change of (`held`, `committed`) per unit, of entering `to`; `None` where that is impossible.
    fn effect(&self, to: OrderState) -> Option<(i64, i64)> {
        match (self.state, to) {
            (OrderState::Held, OrderState::Placed) => Some((-1, 1)),
            (OrderState::Held, OrderState::Cancelled | OrderState::Expired) => Some((-1, 0)),
            (OrderState::Placed, OrderState::Cancelled) => Some((0, -1)),
            _ => None,
        }
    }

    /// Whether a request may move it to `to`.
    pub fn can_become(&self, to: OrderState) -> bool {
        self.state == to || self.effect(to).is_some()
    }
}

impl Shop {
    /// Takes a change of an order that is there.
    pub(super) fn change_existing(&mut self, source: Source, change: &OrderChange, latest: Timestamp) -> Checked {
        let id = change.id();
        let order = self.order(id);
        let order = order
            .ok_or_else(|| violation!("order {id} changes, but was never made"))?
            .clone();
        promise!(change.at() <= latest, "order {id} changed in the future");
        let order = match change {
            &OrderChange::Moved { from, to, at, .. } => self.moved(source, id, order, (from, to), at)?,
            OrderChange::Made(_) => return Err(violation!("order {id} is made once, and then changed")),
        };
        let version = self.version;
        let versions = self.orders.get_mut(&id).expect("looked up above");
        versions.push(Versioned {
            version,
            source,
            value: order,
        });
        Ok(())
    }

    /// Takes another end of a held order.
    pub(super) fn extend(
        &mut self,
        source: Source,
        id: OrderId,
        (at, expires_at): (Timestamp, Timestamp),
        latest: Timestamp,
    ) -> Checked {
        let order = self.order(id);
        let order = order
            .ok_or_else(|| violation!("order {id} is extended, but was never made"))?
            .clone();
        promise!(at <= latest, "order {id} was extended in the future");
        let value = extended(id, order, at, expires_at)?;
        let version = self.version;
        let versions = self.orders.get_mut(&id).expect("looked up above");
        versions.push(Versioned { version, source, value });
        Ok(())
    }

    /// The order in another state; its units move with it.
    fn moved(
        &mut self,
        source: Source,
        id: OrderId,
        mut order: Order,
        (from, to): (OrderState, OrderState),
        at: Timestamp,
    ) -> Checked<Order> {
        promise!(
            order.state == from,
            "order {id} moves from {from} to {to}, but is {}",
            order.state
        );
        let units = order.effect(to);
        let units = units.ok_or_else(|| violation!("order {id} cannot go from {from} to {to}"))?;
        promise!(
            to != OrderState::Expired || order.expires_at.is_some_and(|expires_at| expires_at <= at),
            "order {id} expired at {at:?}, before its time {:?}",
            order.expires_at
        );
        for line in &order.lines {
            self.move_units(source, line, units)?;
        }
        order.state = to;
        order.updated_at = at;
        order.expires_at = None;
        if matches!(to, OrderState::Cancelled | OrderState::Expired) {
            for line in &mut order.lines {
                line.cancelled = line.ordered;
            }
        }
        Ok(order)
    }
}
