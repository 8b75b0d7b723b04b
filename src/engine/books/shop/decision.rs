//! What a transaction over units comes to at its home, once all its parts are reserved: the order it makes or changes.

use cartwright_protocol::{Currency, Customer};

use crate::engine::books::Purpose;
use crate::engine::books::shop::orders::{Decided, OrderChange};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::books::shop::piece::{PieceLine, other_currency};
use crate::engine::kernel::ids::{LogPosition, ShardId};
use crate::engine::kernel::request_keys::{KeptReply, KeyUse};
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::transaction::{InFlight, Refusal};

impl Step<'_> {
    /// The change that a transaction amounts to, its key, and what is answered. Uses up the lines of its parts.
    pub fn order_decision(&mut self, in_flight: &mut InFlight) -> Result<(Decided, KeptReply), Refusal> {
        match &in_flight.purpose {
            Purpose::Checkout { customer, hold_ms } => {
                let (customer, hold_ms) = (customer.clone(), *hold_ms);
                let key = in_flight.key.clone().expect("a checkout has a key");
                let order = self.order_of(in_flight, 0, &customer, hold_ms, &key)?;
                let reply = KeptReply::Receipt(order.receipt());
                let change = OrderChange::Made(order);
                Ok((Decided { change, key: None }, reply))
            }
            &Purpose::OrderChange { id, from, to } => {
                let (at, reply) = (self.shard.now, KeptReply::State(to));
                let lines = in_flight.own_lines(self.shard.id, 0);
                let change = OrderChange::Moved {
                    id,
                    from,
                    to,
                    at,
                    lines,
                };
                let key = in_flight.key.clone().map(|key| key.answered(at, reply.clone()));
                Ok((Decided { change, key }, reply))
            }
            Purpose::Entries(_) | Purpose::Together(_) => unreachable!("those decide elsewhere"),
        }
    }

    /// The order that a cart, reserved on all its shards, makes: this one of several commands.
    pub fn order_of(
        &mut self,
        in_flight: &mut InFlight,
        command: u16,
        customer: &Customer,
        hold_ms: Option<u32>,
        key: &KeyUse,
    ) -> Result<PackedOrder, Refusal> {
        let (lines, currency) = self.cart_of(in_flight, command)?;
        self.check_limits(customer, &lines).map_err(Refusal::by_decisions)?;
        let order = self.make_order(customer, hold_ms, currency, lines, key);
        order.map_err(Refusal::by_limit)
    }

    /// The lines of all parts of a cart, and their currency.
    fn cart_of(&self, in_flight: &mut InFlight, command: u16) -> Result<(Vec<PieceLine>, Currency), Refusal> {
        let mut lines: Vec<PieceLine> = Vec::new();
        let mut currency = None;
        let mut shown: Vec<(ShardId, LogPosition)> = Vec::new();
        for part in &mut in_flight.parts {
            let logged = part.logged();
            let mut pieces = part.pieces.stock.iter_mut();
            let Some(piece) = pieces.find(|piece| piece.command == command) else {
                continue;
            };
            let first = piece.lines.first().expect("a part has a line");
            let shows = if part.shard == self.shard.id {
                self.shard.state.slot(first.slot).changed_at
            } else {
                logged
            };
            shown.push((part.shard, shows));
            let of_piece = piece.currency.expect("a reserved cart has a currency");
            let of_cart = *currency.get_or_insert(of_piece);
            if of_piece != of_cart {
                let error = other_currency(&first.sku, of_piece, of_cart);
                return Err(Refusal::by_states(error, shown));
            }
            if lines.is_empty() {
                lines = std::mem::take(&mut piece.lines);
            } else {
                lines.append(&mut piece.lines);
            }
        }
        Ok((lines, currency.expect("a cart has a line, and a line a currency")))
    }
}
