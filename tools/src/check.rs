//! Compares what a server says with what it acknowledged: audit, stock, receipts, orders line by line.
//!
//! Called after playing. It only reads. Every difference becomes one line of text for people.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use cartwright_protocol::client::ClientError;
use cartwright_protocol::{AuditReport, Operation, OrderGet, OrderState, OrderView, Receipt, Reply, StockView};

use crate::address::Address;
use crate::pipeline::Pipeline;
use crate::play::Ledger;
use crate::progress::Progress;
use crate::shop::{Shop, ShopOrder};
use crate::stocking::{self, Amount};

/// Requests in flight while orders are read.
const PIPELINE_DEPTH: usize = 32;

/// How many differences of one kind are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// Differences, one line each.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// One more.
    pub fn push(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Several of one kind: the first few by name, the rest as a number.
    pub fn push_kind(&mut self, kind: &str, problems: Vec<String>) {
        let rest = problems.len().saturating_sub(NAMED_MAX);
        self.0.extend(problems.into_iter().take(NAMED_MAX));
        if rest > 0 {
            self.0.push(format!("and {rest} more {kind}"));
        }
    }

    /// Every line.
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// Whether all is as it must be.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a server holds at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of the whole server.
    pub audit: AuditReport,
    /// Of each item of the shop.
    pub levels: Vec<StockView>,
}

/// Why the server could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server answers, but not with what was asked for.
    #[error("the server did not answer {asked}: {answer}")]
    Refused {
        /// The command.
        asked: &'static str,
        /// What it said.
        answer: String,
    },
}

impl Snapshot {
    /// Reads it.
    pub fn take(shop: &Shop, address: &Address) -> Result<Self, ReadError> {
        let levels = stocking::levels(shop, address)?.map_err(|refusals| ReadError::Refused {
            asked: "STOCK.GET",
            answer: refusals
                .into_values()
                .map(|(_, first)| first)
                .collect::<Vec<_>>()
                .join("; "),
        })?;
        Ok(Self {
            audit: audit(address)?,
            levels,
        })
    }
}

/// Asks for an audit.
pub fn audit(address: &Address) -> Result<AuditReport, ReadError> {
    match address.connect()?.call(&Operation::Audit)? {
        Reply::Audit(report) => Ok(report),
        other => Err(ReadError::Refused {
            asked: "AUDIT",
            answer: format!("{other:?}"),
        }),
    }
}

/// Compares two snapshots of a server that nobody else writes to, around stocking and playing.
///
/// By how much the server's orders grew tells how many were made in between; the other acknowledged ones were answered
/// from their keys.
pub fn books(shop: &Shop, ledger: &Ledger, amount: Amount, before: &Snapshot, after: &Snapshot) -> Problems {
    let mut problems = Problems::default();
    if after.audit.violations > 0 {
        problems.push(format!("AUDIT found {} violations", after.audit.violations));
    }
    receipts(shop, ledger, &mut problems);

    let made = ledger.totals(shop);
    let new_order_count = after.audit.orders.checked_sub(before.audit.orders);
    match new_order_count {
        None => problems.push(format!(
            "orders went down from {} to {}",
            before.audit.orders, after.audit.orders
        )),
        Some(new) if new > made.orders => {
            problems.push(format!("{new} orders were made, but only {} acknowledged", made.orders));
        }
        Some(_) => (),
    }
    if before.audit.orders == 0 && (after.audit.orders, after.audit.lines) != (made.orders, made.lines) {
        problems.push(format!(
            "{} orders with {} lines were acknowledged, but the server has {} with {}",
            made.orders, made.lines, after.audit.orders, after.audit.lines
        ));
    }
    levels(shop, ledger, amount, (before, after), new_order_count, &mut problems);
    problems
}

fn receipts(shop: &Shop, ledger: &Ledger, problems: &mut Problems) {
    let mut ids = HashSet::new();
    let mut wrong = Vec::new();
    for (order, receipt) in ledger.made(shop) {
        let Receipt { id, state, total, .. } = receipt;
        let pence = shop.order_totals(order).pence;
        if u128::from(total.minor_units()) != pence || *state != OrderState::Placed {
            let total = total.minor_units();
            wrong.push(format!(
                "order {} came out {state} at {total} pence, not placed at {pence}",
                order.key
            ));
        }
        if !ids.insert(*id) {
            wrong.push(format!("order {} has the id {id} of another", order.key));
        }
    }
    problems.push_kind("receipts that are not right", wrong);
}

fn levels(
    shop: &Shop,
    ledger: &Ledger,
    amount: Amount,
    (before, after): (&Snapshot, &Snapshot),
    new_order_count: Option<u64>,
    problems: &mut Problems,
) {
    let stocked = amount.units(shop);
    let sold = shop.units_sold(ledger.made(shop).map(|(order, _)| order));
    let made_count = ledger.made(shop).count() as u64;
    let mut wrong = Vec::new();
    for (place, item) in shop.items.iter().enumerate() {
        let (was, is) = (before.levels[place], after.levels[place]);
        let (came, went) = (is.on_hand - was.on_hand, is.committed - was.committed);
        let sold = sold[place] as i64;
        let as_expected = is.available == is.on_hand - is.held - is.committed
            && (0..=stocked[place] as i64).contains(&came)
            && match new_order_count {
                Some(new) if new == made_count => went == sold,
                Some(0) => went == 0,
                _ => (0..=sold).contains(&went),
            };
        // The first order of a file goes out once all is stocked: if one was there already, so was the stock.
        let repeated = new_order_count.is_some_and(|new| new < made_count);
        let stocked_once = amount != Amount::Exact || !repeated || came == 0;
        // On a server that had nothing, what was not sold is all that may be left.
        let fresh = before.audit.orders == 0 && was == StockView::default();
        let left_is_right = !fresh || is.available == stocked[place] as i64 - sold;
        if !as_expected || !stocked_once || !left_is_right {
            wrong.push(format!(
                "item {}: {came} units came of {}, {went} were sold of {sold}, and it now has {is:?}",
                item.sku, stocked[place]
            ));
        }
    }
    problems.push_kind("items whose stock is not right", wrong);
}

/// Reads every acknowledged order and compares it line by line.
pub fn orders(shop: &Shop, ledger: &Ledger, address: &Address, progress: &Progress) -> Result<Problems, ClientError> {
    let mut wrong = Vec::new();
    let mut made = ledger.made(shop);
    Pipeline::connect(address, PIPELINE_DEPTH)?.run(
        &AtomicBool::new(false),
        || made.next(),
        |(_, receipt)| Operation::OrderGet(OrderGet { id: receipt.id }),
        |(order, receipt), reply, _| {
            match reply {
                Reply::Order(view) if is_same(shop, order, receipt, &view) => (),
                Reply::Null => wrong.push(format!("order {} was acknowledged and is not there", order.key)),
                Reply::Error(error) => wrong.push(format!("order {} cannot be read: {error}", order.key)),
                other => wrong.push(format!("order {} is not what was acknowledged: {other:?}", order.key)),
            }
            progress.advance();
        },
    )?;
    let mut problems = Problems::default();
    problems.push_kind("orders that are not what was acknowledged", wrong);
    Ok(problems)
}

fn is_same(shop: &Shop, order: &ShopOrder, receipt: &Receipt, view: &OrderView) -> bool {
    let lines = shop.merged_lines(order);
    view.id == receipt.id
        && view.customer == order.customer
        && view.state == receipt.state
        && view.total == receipt.total
        && view.lines.len() == lines.len()
        && view
            .lines
            .iter()
            .zip(lines)
            .all(|(line, (sku, units))| line.sku == *sku && u64::from(line.ordered) == units && line.cancelled == 0)
}
