//! A transaction's piece: its lines of one shard, which that shard checks and reserves in one step.

use cartwright_protocol::{Amount, Currency, Error, ErrorCode, Quantity, Sku, Slot};
use compact_str::format_compact;

use super::Transaction;
use crate::engine::books::shop::inventory::{Allocations, Shortage, StockLine};
use crate::engine::kernel::ids::{LogPosition, ShardId};
use crate::engine::kernel::record::Record;
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::waiting::Waiting;

/// One line of a transaction.
#[derive(Clone, Debug)]
pub struct PieceLine {
    /// The shard of the item.
    pub shard: ShardId,
    /// The slot of the item.
    pub slot: Slot,
    /// The line's place in the cart.
    pub cart_index: u16,
    /// Which item.
    pub sku: Sku,
    /// How many units.
    pub quantity: u32,
    /// The item's price, once its shard has been visited.
    pub price: Amount,
    /// The item's limit for one customer, once its shard has been visited.
    pub limit: Option<Quantity>,
    /// Where the units are: known from the order, or found by the item's shard.
    pub allocations: Allocations,
}

impl PieceLine {
    /// What it does to the item's stock.
    pub(super) fn stock_line(&self) -> StockLine {
        StockLine {
            sku: self.sku.clone(),
            quantity: self.quantity,
            allocations: self.allocations.clone(),
        }
    }
}

/// What a check of a piece found.
#[derive(Debug)]
pub enum Verdict {
    /// Refused by decided state of this item.
    Refused(Error, Sku),
    /// Has to wait for pending transactions on this item.
    Wait(Sku),
}

impl Step<'_> {
    /// Checks a piece and fills in prices and allocations; takes nothing. `front_of` is the item whose queue this
    /// piece has reached the front of.
    pub fn check_piece(
        &self,
        lines: &mut [PieceLine],
        currency: &mut Option<Currency>,
        front_of: Option<&Sku>,
    ) -> Result<(), Verdict> {
        let state = &self.shard.state;
        let mut wait = None;
        for line in lines {
            let Some(item) = state.slot(line.slot).books.shop.item(&line.sku) else {
                let error = Error::new(
                    ErrorCode::NoItem,
                    format_compact!("{} is not in the catalogue", line.sku),
                );
                return Err(Verdict::Refused(error, line.sku.clone()));
            };
            if *currency.get_or_insert(item.currency) != item.currency {
                let other = currency.expect("set above");
                let text = format_compact!("{} is priced in {}, the cart in {other}", line.sku, item.currency);
                return Err(Verdict::Refused(
                    Error::new(ErrorCode::Currency, text),
                    line.sku.clone(),
                ));
            }
            line.price = item.price;
            line.limit = item.limit;
            match item.allocate(line.quantity) {
                Ok(_) if item.has_waiting && front_of != Some(&line.sku) => {
                    wait.get_or_insert_with(|| line.sku.clone());
                }
                Ok(allocations) => line.allocations = allocations,
                Err(Shortage::Pending) => {
                    wait.get_or_insert_with(|| line.sku.clone());
                }
                Err(Shortage::Decided { available }) => {
                    let text = format_compact!("{} wanted {}, available {available}", line.sku, line.quantity);
                    return Err(Verdict::Refused(
                        Error::new(ErrorCode::OutOfStock, text),
                        line.sku.clone(),
                    ));
                }
            }
        }
        wait.map_or(Ok(()), |sku| Err(Verdict::Wait(sku)))
    }

    /// Checks and reserves this shard's piece in one go, or refuses, or waits.
    pub fn prepare(&mut self, mut transaction: Box<Transaction>, front_of: Option<&Sku>) {
        let piece = transaction.piece();
        if transaction.stock.takes() {
            let mut currency = transaction.currency;
            match self.check_piece(&mut transaction.lines[piece.clone()], &mut currency, front_of) {
                Ok(()) => transaction.currency = currency,
                Err(Verdict::Refused(error, sku)) => {
                    let reveals = self.shard.state.slot(sku.slot()).changed_at;
                    return self.refuse_transaction(transaction, error, reveals);
                }
                Err(Verdict::Wait(sku)) => {
                    if front_of == Some(&sku) {
                        return self.shard.stock_queue.push_front(&sku, Waiting::Piece(transaction));
                    }
                    if let Err(error) = self.join_stock_queue(&sku) {
                        return self.refuse_transaction(transaction, error, LogPosition::ZERO);
                    }
                    return self.shard.stock_queue.push(&sku, Waiting::Piece(transaction));
                }
            }
        }
        let lines: Vec<_> = transaction.lines[piece.clone()]
            .iter()
            .map(PieceLine::stock_line)
            .collect();
        if transaction.id.home == self.shard.id {
            self.shard.state.reserve(transaction.stock, &lines);
            transaction.reserved_at_home = Some((piece.clone(), self.shard.tickets.open()));
        } else {
            let record = Record::Prepared {
                transaction: transaction.id,
                stock: transaction.stock,
                lines,
            };
            match self.append_if_room(record) {
                Err(error) => return self.refuse_transaction(transaction, error, LogPosition::ZERO),
                Ok((position, _)) => {
                    transaction.prepared.push((self.shard.id, position));
                    let ticket = self.shard.tickets.open();
                    self.shard.participating.insert(transaction.id, ticket);
                }
            }
        }
        transaction.next = piece.end;
        self.forward(transaction);
    }

    /// The item's queue may be joined; remembers that somebody waits.
    pub fn join_stock_queue(&mut self, sku: &Sku) -> Result<(), Error> {
        if self.shard.stock_queue.count() >= self.shard.limits.waiting_max {
            return Err(self
                .shard
                .busy("requests waiting for stock", self.shard.limits.waiting_max));
        }
        if let Some(item) = self.shard.state.item_mut(sku) {
            item.has_waiting = true;
        }
        Ok(())
    }
}
