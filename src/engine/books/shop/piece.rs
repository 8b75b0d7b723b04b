//! A transaction's units on one shard: the lines of a cart, or of an order that changes, whose items are there.

use cartwright_protocol::{Amount, Currency, Error, ErrorCode, Quantity, Sku, Slot};
use compact_str::format_compact;
use smallvec::SmallVec;

use crate::engine::books::Pieces;
use crate::engine::books::shop::inventory::{Allocations, Shortage, StockChange, StockLine};
use crate::engine::kernel::ids::ShardId;
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::transaction::home::Part;

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
    pub fn stock_line(&self) -> StockLine {
        StockLine {
            sku: self.sku.clone(),
            quantity: self.quantity,
            allocations: self.allocations.clone(),
        }
    }
}

/// The lines of one shard, which checks and reserves them in one step.
#[derive(Debug)]
pub struct StockPiece {
    /// Which of the transaction's commands it belongs to, where there are several.
    pub command: u16,
    /// What it does to the stock of its lines.
    pub stock: StockChange,
    /// The currency of its lines, once their shard has been visited.
    pub currency: Option<Currency>,
    /// The lines.
    pub lines: Vec<PieceLine>,
}

impl StockPiece {
    /// A piece that no shard has visited.
    pub const fn new(stock: StockChange, lines: Vec<PieceLine>) -> Self {
        Self {
            command: 0,
            stock,
            currency: None,
            lines,
        }
    }

    /// What it does to stock.
    pub fn stock_lines(&self) -> Vec<StockLine> {
        self.lines.iter().map(PieceLine::stock_line).collect()
    }
}

/// The parts of a transaction over these lines, ascending by shard.
pub fn parts_of(stock: StockChange, lines: Vec<PieceLine>) -> SmallVec<[Part; 2]> {
    let pieces = pieces_of(stock, lines).into_iter();
    pieces
        .map(|(shard, piece)| Part::new(shard, Pieces::of_stock(piece)))
        .collect()
}

/// These lines by shard, ascending.
pub fn pieces_of(stock: StockChange, mut lines: Vec<PieceLine>) -> Vec<(ShardId, StockPiece)> {
    lines.sort_by_key(|line| line.shard);
    let mut pieces = Vec::with_capacity(2);
    while let Some(shard) = lines.first().map(|line| line.shard) {
        let length = lines.iter().take_while(|line| line.shard == shard).count();
        let rest = lines.split_off(length);
        let piece = StockPiece::new(stock, std::mem::replace(&mut lines, rest));
        pieces.push((shard, piece));
    }
    pieces
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
    pub fn check_piece(&self, piece: &mut StockPiece, front_of: Option<&Sku>) -> Result<(), Verdict> {
        let state = &self.shard.state;
        let mut wait = None;
        // It may have been checked before it waited.
        piece.currency = None;
        for line in &mut piece.lines {
            let Some(item) = state.slot(line.slot).books.shop.item(&line.sku) else {
                let error = Error::new(
                    ErrorCode::NoItem,
                    format_compact!("{} is not in the catalogue", line.sku),
                );
                return Err(Verdict::Refused(error, line.sku.clone()));
            };
            let currency = *piece.currency.get_or_insert(item.currency);
            if currency != item.currency {
                let error = other_currency(&line.sku, item.currency, currency);
                return Err(Verdict::Refused(error, line.sku.clone()));
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

    /// The item's queue may be joined; remembers that somebody waits.
    pub fn join_stock_queue(&mut self, sku: &Sku) -> Result<(), Error> {
        if self.shard.books.shop.stock_queue.count() >= self.shard.limits.waiting_max {
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

/// An item is priced in another currency than those before it in the cart.
pub fn other_currency(sku: &Sku, currency: Currency, of_cart: Currency) -> Error {
    let text = format_compact!("{sku} is priced in {currency}, the cart in {of_cart}");
    Error::new(ErrorCode::Currency, text)
}
