//! The way from one shard to another: a queue of bounded length, and what waits at the sender for room in it.
//!
//! Used by the simulated server. Keeps the rules of the runtime's mailboxes: nothing is lost, nothing overtakes.

use std::collections::VecDeque;

/// What one shard sends another.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: VecDeque<T>,
    waiting: VecDeque<T>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Mailbox<T> {
    /// The sender posts; it leaves with the next [`Mailbox::deliver`].
    pub fn post(&mut self, mail: T) {
        self.waiting.push_back(mail);
    }

    /// Moves what waits into the queue, as far as there is room; whether anything moved.
    pub fn deliver(&mut self, capacity: usize) -> bool {
        let room = capacity.saturating_sub(self.queue.len()).min(self.waiting.len());
        self.queue.extend(self.waiting.drain(..room));
        room > 0
    }

    /// The receiver takes the oldest that has come.
    pub fn take(&mut self) -> Option<T> {
        self.queue.pop_front()
    }

    /// Whether the receiver has something to take.
    pub fn has_come(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the sender has something left for which there was no room.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nothing is on the way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty()
    }

    /// How much waits at the sender.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
