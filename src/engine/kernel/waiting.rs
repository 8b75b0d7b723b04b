//! Who waits for pending transactions: takes for their units, reads for their outcome.
//!
//! Volatile: nothing here is in the log. Waiting only ever goes from a lower shard to a higher one (a transaction that
//! waits here has prepared only below), so it always ends.

use std::collections::VecDeque;

use cartwright_protocol::Sku;
use hashbrown::HashMap;

use crate::engine::books::entries::locks::Ticket;
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::message::Request;
use crate::engine::kernel::transaction::Visit;

/// Something that waits for units of an item.
#[derive(Debug)]
pub enum Waiting {
    /// A part of a transaction, which holds these keys.
    Visit(Box<Visit>, Option<Ticket>),
    /// An `ITEM.PUT` of an item that is there.
    ItemPut(Request),
    /// A `STOCK.ADD` with a negative delta.
    StockAdd(Request),
}

/// Takes and changes of the item that wait, first come first served per item.
#[derive(Debug, Default)]
pub struct StockQueue {
    queues: HashMap<Sku, VecDeque<Waiting>, TableHasher>,
    count: usize,
    put_back: bool,
}

impl StockQueue {
    /// How many wait, over all items.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Joins the end of the item's queue.
    pub fn push(&mut self, sku: &Sku, waiting: Waiting) {
        self.queues.entry_ref(sku).or_default().push_back(waiting);
        self.count += 1;
    }

    /// Puts back, at the front, what was popped and still has to wait.
    pub fn push_front(&mut self, sku: &Sku, waiting: Waiting) {
        self.queues.entry_ref(sku).or_default().push_front(waiting);
        self.count += 1;
        self.put_back = true;
    }

    /// Whether the last one popped was put back.
    pub const fn was_put_back(&self) -> bool {
        self.put_back
    }

    /// The first in the item's queue.
    pub fn pop(&mut self, sku: &Sku) -> Option<Waiting> {
        self.put_back = false;
        let first = self.queues.get_mut(sku)?.pop_front()?;
        self.count -= 1;
        Some(first)
    }

    /// Whether nobody waits for this item; forgets its queue then.
    pub fn is_over(&mut self, sku: &Sku) -> bool {
        let over = self.queues.get(sku).is_none_or(VecDeque::is_empty);
        if over {
            self.queues.remove(sku);
        }
        over
    }
}

/// Numbers pending transactions in the order in which they reserved here, and knows up to where all are over.
#[derive(Debug, Default)]
pub struct Tickets {
    /// The number of the first entry below.
    first: u64,
    over: VecDeque<bool>,
}

impl Tickets {
    /// A transaction reserved.
    pub fn open(&mut self) -> u64 {
        self.over.push_back(false);
        self.first + self.over.len() as u64 - 1
    }

    /// That transaction is over.
    pub fn close(&mut self, ticket: u64) {
        let index = usize::try_from(ticket - self.first).expect("fewer transactions pend than memory holds");
        assert!(!self.over[index], "a ticket is closed once");
        self.over[index] = true;
        while self.over.front() == Some(&true) {
            self.over.pop_front();
            self.first += 1;
        }
    }

    /// The number that the next transaction gets.
    pub fn next(&self) -> u64 {
        self.first + self.over.len() as u64
    }

    /// Whether every transaction with a smaller number is over.
    pub const fn all_over_before(&self, ticket: u64) -> bool {
        self.first >= ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_those_before_it_and_no_others() {
        let mut tickets = Tickets::default();
        let (one, two) = (tickets.open(), tickets.open());
        let read = tickets.next();
        let three = tickets.open();
        tickets.close(two);
        assert!(!tickets.all_over_before(read));
        tickets.close(one);
        assert!(tickets.all_over_before(read));
        tickets.close(three);
        assert_eq!(tickets.next(), 3);
    }
}
