//! Where a worker's requests come from, and where their answers go.
//!
//! One source for each worker thread, so that none shares anything with another.

use serde::Serialize;

use super::answer::Answer;

/// What a request is, for whoever made it up: its class, by which latencies are told apart, and a number of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// An index into the workload's names of classes.
    pub class: u8,
    /// What the source wants to know again with the answer.
    pub about: u32,
}

/// What the answers came to, over a whole run, warm-up and all: this is what the books must agree with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Carts that were accepted.
    pub carts: u64,
    /// Order lines in these.
    pub lines: u64,
    /// Units in these.
    pub units: u64,
    /// Items that were made.
    pub items: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.carts += other.carts;
        self.lines += other.lines;
        self.units += other.units;
        self.items += other.items;
    }
}

/// See above.
pub trait Source: Send {
    /// Appends the next request, with this id on the native protocol. `None`: there is nothing to send now, and once
    /// nothing is in flight there never will be.
    fn next(&mut self, output: &mut Vec<u8>, request_id: u64) -> Option<Tag>;

    /// Hears the answer to a request.
    fn answered(&mut self, tag: Tag, answer: &Answer<'_>);

    /// What the answers came to.
    fn tally(&self) -> Tally {
        Tally::default()
    }
}
