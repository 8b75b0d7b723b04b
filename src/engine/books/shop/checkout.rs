//! The parts of a step about checkouts: a cart becomes an order.

use cartwright_protocol::{
    AMOUNT_MAX, Amount, CART_LINES_MAX, CartLine, Checkout, Currency, Customer, Error, ErrorCode, OrderId,
    QUANTITY_MAX, Reply, Sku,
};
use compact_str::format_compact;
use hashbrown::HashMap;

use crate::engine::books::Purpose;
use crate::engine::books::shop::inventory::{Allocations, StockChange};
use crate::engine::books::shop::orders::OrderChange;
use crate::engine::books::shop::packed_order::{OrderHeader, PackedOrder};
use crate::engine::books::shop::piece::{PieceLine, StockPiece, Verdict, parts_of};
use crate::engine::books::shop::records::ShopRecord;
use crate::engine::books::shop::slot::ORDER_SEQUENCE_MAX;
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::LogPosition;
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::request_keys::KeyUse;
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::state::Pending;
use crate::engine::kernel::transaction::InFlight;

/// Up to here lines of one SKU are found by comparing all with all.
const MERGE_BY_COMPARISON_MAX: usize = 16;

impl Step<'_> {
    /// `CHECKOUT`. A cart whose items and customer all live here is one record.
    pub fn checkout(&mut self, reply_to: ReplyTo, checkout: Checkout, key: KeyUse) {
        let Checkout {
            customer,
            hold_ms,
            lines,
            ..
        } = checkout;
        let bounds = self.check_checkout_bounds(lines.len());
        let mut lines = match bounds.and_then(|()| self.piece_lines(lines)) {
            Ok(lines) => lines,
            Err(error) => return self.answer(reply_to, Reply::Error(error), LogPosition::ZERO),
        };
        let stock = if hold_ms.is_some() {
            StockChange::Hold
        } else {
            StockChange::Commit
        };
        let is_here = lines.iter().all(|line| line.shard == self.shard.id);
        if is_here {
            let mut piece = StockPiece::new(stock, std::mem::take(&mut lines));
            let checked = self.check_piece(&mut piece, None);
            let currency = piece.currency;
            lines = piece.lines;
            match checked {
                Ok(()) => {
                    if let Err(error) = self.check_limits(&customer, &lines) {
                        let purpose = Purpose::Checkout { customer, hold_ms };
                        return self.refuse_behind_decisions(reply_to, Some(key), purpose, error);
                    }
                    let currency = currency.expect("a cart has a line, and a line a currency");
                    let (reply, after) = self.checkout_here(&customer, hold_ms, currency, lines, &key);
                    return self.answer(reply_to, reply, after);
                }
                Err(Verdict::Refused(error, sku)) => {
                    let reveals = self.shard.state.slot(sku.slot()).changed_at;
                    let (reply, after) = self.refuse(Some(key), error, reveals);
                    return self.answer(reply_to, reply, after);
                }
                Err(Verdict::Wait(_)) => {}
            }
        }
        let purpose = Purpose::Checkout { customer, hold_ms };
        let parts = parts_of(stock, lines);
        self.begin_transaction(InFlight::new(Some(reply_to), Some(key), purpose, parts), is_here);
    }

    /// Whether a cart of so many lines is taken on at all.
    pub fn check_checkout_bounds(&self, line_count: usize) -> Result<(), Error> {
        let limits = &self.shard.limits;
        if line_count == 0 {
            return Err(Error::malformed("a cart has at least one line"));
        }
        if line_count > CART_LINES_MAX {
            let text = format_compact!("the cart has {line_count} lines, the limit is {CART_LINES_MAX}");
            return Err(Error::new(ErrorCode::TooBig, text));
        }
        if self.shard.state.counts.books.shop.orders >= limits.books.shop.orders_max {
            return Err(self.shard.busy("orders", limits.books.shop.orders_max as usize));
        }
        if self.shard.state.counts.request_keys >= limits.request_keys_max {
            return Err(self.shard.busy("keys", limits.request_keys_max as usize));
        }
        if self.shard.in_flight.len() >= limits.transactions_max {
            return Err(self.shard.busy("transactions in flight", limits.transactions_max));
        }
        Ok(())
    }

    /// One line a SKU, in the order of the cart; prices and allocations are the item shards' to fill in.
    pub fn piece_lines(&self, cart: Vec<CartLine>) -> Result<Vec<PieceLine>, Error> {
        let mut lines: Vec<PieceLine> = Vec::with_capacity(cart.len());
        let mut by_sku: HashMap<Sku, usize, TableHasher> = HashMap::default();
        let compare_all = cart.len() <= MERGE_BY_COMPARISON_MAX;
        for CartLine { sku, quantity } in cart {
            let slot = sku.slot();
            let same = if compare_all {
                // Most lines differ by their slots already.
                lines.iter().position(|line| line.slot == slot && line.sku == sku)
            } else {
                let next = lines.len();
                let index = *by_sku.entry_ref(&sku).or_insert(next);
                (index < next).then_some(index)
            };
            if let Some(index) = same {
                let sum = lines[index].quantity + quantity.units();
                if sum > QUANTITY_MAX {
                    return Err(Error::malformed(format_args!(
                        "the lines of {sku} add up to over {QUANTITY_MAX}"
                    )));
                }
                lines[index].quantity = sum;
            } else {
                lines.push(PieceLine {
                    shard: self.shard.map.shard_of(slot),
                    slot,
                    cart_index: lines.len() as u16,
                    sku,
                    quantity: quantity.units(),
                    price: Amount::default(),
                    limit: None,
                    allocations: Allocations::Main,
                });
            }
        }
        Ok(lines)
    }

    fn checkout_here(
        &mut self,
        customer: &Customer,
        hold_ms: Option<u32>,
        currency: Currency,
        lines: Vec<PieceLine>,
        key: &KeyUse,
    ) -> (Reply, LogPosition) {
        let made = self
            .make_order(customer, hold_ms, currency, lines, key)
            .and_then(|order| {
                let answer = Reply::Receipt(order.receipt());
                let record = ShopRecord::OrderChanged {
                    change: OrderChange::Made(order),
                    key: None,
                };
                self.append_if_room(record).map(|(position, _)| (answer, position))
            });
        made.unwrap_or_else(|error| (Reply::Error(error), LogPosition::ZERO))
    }

    /// Whether the customer may have these units beside those of their open orders, counting orders that are decided
    /// here and not yet durable: of two carts at once the second sees the first.
    pub fn check_limits(&self, customer: &Customer, lines: &[PieceLine]) -> Result<(), Error> {
        for line in lines {
            let Some(limit) = line.limit else { continue };
            let state = &self.shard.state;
            let slot = state.slot(customer.slot());
            let settled = slot.books.shop.orders_of(customer, None);
            let deciding = self
                .shard
                .commits
                .deciding()
                .iter()
                .flat_map(|decided| &decided.changes);
            let deciding = deciding.filter_map(|decided| decided.change.order_made());
            let decided = state.pending.values().flat_map(Pending::orders_made).chain(deciding);
            let orders = settled.chain(decided.filter(|order| order.customer_bytes() == customer.as_bytes()));
            let open: u64 = orders.map(|order| u64::from(order.open_units(&line.sku))).sum();
            if open + u64::from(line.quantity) > u64::from(limit.units()) {
                let (sku, wanted, limit) = (&line.sku, line.quantity, limit.units());
                let text = format_compact!("{sku} wanted {wanted}, limit {limit} a customer, {open} in open orders");
                return Err(Error::new(ErrorCode::Limit, text));
            }
        }
        Ok(())
    }

    /// The order that these reserved or checked lines make. Gives it the next id of its slot; the record makes it so.
    pub fn make_order(
        &mut self,
        customer: &Customer,
        hold_ms: Option<u32>,
        currency: Currency,
        mut lines: Vec<PieceLine>,
        key: &KeyUse,
    ) -> Result<PackedOrder, Error> {
        if !lines.is_sorted_by_key(|line| line.cart_index) {
            lines.sort_unstable_by_key(|line| line.cart_index);
        }
        let total = lines
            .iter()
            .try_fold(Amount::default(), |sum, line| sum.plus_line(line.price, line.quantity));
        let total = total.ok_or_else(|| {
            Error::new(
                ErrorCode::TooBig,
                format_compact!("the cart's total is over {AMOUNT_MAX} minor units"),
            )
        })?;
        let slot = customer.slot();
        let sequence = self.shard.state.slot(slot).books.shop.order_sequence + 1;
        if sequence > ORDER_SEQUENCE_MAX {
            return Err(self.shard.busy("orders in one slot", ORDER_SEQUENCE_MAX as usize));
        }
        let packer = &mut self.shard.books.shop.order_packer;
        packer.begin(&OrderHeader {
            id: OrderId::new(slot, sequence),
            customer,
            key: &key.key,
            fingerprint: key.fingerprint,
            currency,
            total,
            created_at: self.shard.now,
            hold_ms,
        });
        for line in &lines {
            packer.line(&line.sku, line.price, line.quantity, &line.allocations);
        }
        Ok(packer.finish())
    }
}
