//! A flash sale: one item, a few units, many more buyers; then the check that exactly so many were sold.

use std::sync::Arc;

use super::checkout::{Checkouts, dialect};
use super::items::{available, item_sku, prepare_item};
use super::{Division, Workload, WorkloadError};
use crate::bench::cart_mix::{CART_COUNT, Cart};
use crate::bench::carts::Carts;
use crate::bench::conductor::RunReport;
use crate::bench::source::Source;
use crate::bench::target::Target;
use crate::text::grouped;

/// Numbers of sold items begin here, far above those of other workloads; each run's item is new.
const ITEM_FIRST: usize = 1_000_000_000;

/// The workload.
#[derive(Debug)]
pub struct FlashSale {
    unit_count: u64,
    buyer_count: u64,
    item: usize,
}

impl FlashSale {
    /// So many units, and so many buyers who want one each.
    pub const fn new(unit_count: u64, buyer_count: u64) -> Self {
        Self {
            unit_count,
            buyer_count,
            item: ITEM_FIRST,
        }
    }
}

/// What is wrong with the sale's outcome.
fn sale_problems(unit_count: u64, asked: u64, sold: u64, left: i64, unanswered: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let expected = unit_count.min(asked);
    if sold > unit_count {
        problems.push(format!("{sold} of {unit_count} units were sold: oversold"));
    } else if unanswered == 0 && sold != expected {
        problems.push(format!(
            "{sold} units were sold; with {asked} buyers for {unit_count} it must be {expected}"
        ));
    }
    if unanswered == 0 && i128::from(left) + i128::from(sold) != i128::from(unit_count) {
        problems.push(format!("{left} units are left of {unit_count} though {sold} were sold"));
    }
    problems
}

impl Workload for FlashSale {
    fn title(&self) -> String {
        format!(
            "flash sale: {} units of one item, {} buyers",
            grouped(self.unit_count),
            grouped(self.buyer_count)
        )
    }

    fn classes(&self) -> &'static [&'static str] {
        &["checkout"]
    }

    fn request_count(&self) -> Option<u64> {
        Some(self.buyer_count)
    }

    fn prepare(&mut self, _target: &Target) -> Result<(), WorkloadError> {
        Ok(())
    }

    fn sources(&mut self, target: &Target, division: &Division) -> Result<Vec<Box<dyn Source>>, WorkloadError> {
        self.item = ITEM_FIRST + division.run as usize;
        // --requests is another number of buyers.
        self.buyer_count = division.request_count.unwrap_or(self.buyer_count);
        prepare_item(target, self.item, self.unit_count)?;
        let cart = |customer| Cart {
            customer,
            lines: vec![(self.item, 1)],
        };
        let carts: Vec<Cart> = (0..CART_COUNT).map(cart).collect();
        let carts = Arc::new(Carts::encode(&carts, 0, &dialect(target)?, division.run));
        let source = |worker| -> Box<dyn Source> {
            Box::new(Checkouts::new(
                Arc::clone(&carts),
                worker,
                division.worker_count,
                division.limit_of(worker),
            ))
        };
        Ok((0..division.worker_count).map(source).collect())
    }

    fn check(&mut self, target: &Target, report: &RunReport) -> Result<Vec<String>, WorkloadError> {
        let left = available(target, &item_sku(self.item))?;
        let sold = report.tally.units;
        Ok(sale_problems(
            self.unit_count,
            self.buyer_count,
            sold,
            left,
            report.unanswered,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_of_one_more_or_one_less_is_a_failure() {
        assert!(sale_problems(100, 500, 100, 0, 0).is_empty());
        assert!(sale_problems(100, 60, 60, 40, 0).is_empty());
        assert_eq!(sale_problems(100, 500, 101, -1, 0).len(), 1);
        assert_eq!(sale_problems(100, 500, 99, 1, 0).len(), 1);
        assert_eq!(sale_problems(100, 500, 100, 1, 0).len(), 1);
        // Whoever got no answer may have bought.
        assert!(sale_problems(100, 500, 99, 0, 1).is_empty());
        assert_eq!(sale_problems(100, 500, 101, 0, 1).len(), 1);
    }
}
