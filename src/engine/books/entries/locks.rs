//! Who has which keys, and who waits for them.
//!
//! Volatile. A request takes all its keys of this shard in one step, in the order of arrival, each key's queue first
//! come first served: so requests of one shard never wait for each other in a circle. Over several shards requests go
//! up in ascending order, and wait only where they are; whoever holds keys here waits on higher shards alone, if at
//! all. A request that looks at everything takes the shard as a whole: it waits for all before it, and all behind it
//! wait for it. One that only looks on takes nothing: it waits for all before it, too, but nobody waits for it; so it
//! waits for no more than there was when it came, and costs the others nothing.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use super::bytes::ValueBytes;
use super::request::KeyRequest;
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::transaction::Visit;

/// A place in the queues of one shard: later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What goes on once its keys are free.
#[derive(Debug)]
pub enum Waiting {
    /// A request all of whose keys are on this shard.
    Request(ReplyTo, Box<KeyRequest>),
    /// A part of a transaction over several shards.
    Visit(Box<Visit>),
}

impl Waiting {
    fn changes(&self) -> bool {
        matches!(self, Self::Request(_, request) if request.writes())
    }
}

#[derive(Debug)]
struct Holder {
    keys: Vec<ValueBytes>,
    is_whole: bool,
    /// How many others must be over first.
    blocked: usize,
    waiting: Option<Waiting>,
    /// Those that wait for this one because it takes the whole shard.
    behind: Vec<Ticket>,
}

/// The locks of one shard.
#[derive(Debug, Default)]
pub struct Locks {
    /// Who takes a key, the holder first.
    queues: HashMap<ValueBytes, VecDeque<Ticket>, TableHasher>,
    holders: BTreeMap<Ticket, Holder>,
    wholes: VecDeque<Ticket>,
    /// Those that take nothing, and the first ticket that they need not wait for.
    onlookers: VecDeque<(Ticket, Waiting)>,
    ready: VecDeque<Ticket>,
    next: u64,
    waiting_count: usize,
    waiting_changes: usize,
}

impl Locks {
    /// Whether nobody has or wants anything.
    pub fn are_unused(&self) -> bool {
        self.holders.is_empty()
    }

    /// Whether nobody has or wants any of these keys.
    pub fn are_free<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
        self.wholes.is_empty() && keys.all(|key| !self.queues.contains_key(key))
    }

    /// How many wait.
    pub const fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    /// How many requests of this shard alone wait that may change anything.
    pub const fn waiting_changes(&self) -> usize {
        self.waiting_changes
    }

    /// Queues up for these keys, or for the whole shard; whether they are free already.
    pub fn take(&mut self, mut keys: Vec<ValueBytes>, is_whole: bool) -> (Ticket, bool) {
        keys.sort_unstable();
        keys.dedup();
        let ticket = Ticket(self.next);
        self.next += 1;
        let mut blocked = 0;
        if is_whole {
            blocked = self.holders.len();
            keys.clear();
            self.wholes.push_back(ticket);
        } else if let Some(last) = self.wholes.back() {
            let last = self.holders.get_mut(last).expect("who takes the shard holds it");
            last.behind.push(ticket);
            blocked = 1;
        }
        for key in &keys {
            let queue = self.queues.entry_ref(key).or_default();
            blocked += usize::from(!queue.is_empty());
            queue.push_back(ticket);
        }
        let holder = Holder {
            keys,
            is_whole,
            blocked,
            waiting: None,
            behind: Vec::new(),
        };
        self.holders.insert(ticket, holder);
        (ticket, blocked == 0)
    }

    /// Has this go on once what `ticket` queued up for is free.
    pub fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.waiting_count += 1;
        self.waiting_changes += usize::from(waiting.changes());
        let holder = self.holders.get_mut(&ticket).expect("who waits has queued up");
        assert!(holder.blocked > 0, "what is free is not waited for");
        holder.waiting = Some(waiting);
    }

    /// Has this go on once all that have or want anything by now are over. There are some.
    pub fn look_on(&mut self, waiting: Waiting) {
        assert!(!self.holders.is_empty(), "who need not wait does not");
        self.waiting_count += 1;
        self.waiting_changes += usize::from(waiting.changes());
        self.onlookers.push_back((Ticket(self.next), waiting));
    }

    /// Lets go; those that this makes free become ready.
    pub fn release(&mut self, ticket: Ticket) {
        let holder = self.holders.remove(&ticket).expect("a lock is let go of once");
        assert_eq!(holder.blocked, 0, "only who holds lets go");
        for key in &holder.keys {
            let queue = self.queues.get_mut(key).expect("a held key has a queue");
            assert_eq!(queue.pop_front(), Some(ticket), "who holds is first");
            match queue.front() {
                Some(&next) => self.unblock(next),
                None => {
                    self.queues.remove(key);
                }
            }
        }
        if holder.is_whole {
            self.wholes.retain(|&whole| whole != ticket);
            for behind in holder.behind {
                self.unblock(behind);
            }
        }
        for index in 0..self.wholes.len() {
            let whole = self.wholes[index];
            if whole > ticket {
                self.unblock(whole);
            }
        }
    }

    fn unblock(&mut self, ticket: Ticket) {
        let holder = self.holders.get_mut(&ticket).expect("who is in a queue holds a place");
        holder.blocked -= 1;
        if holder.blocked == 0 {
            self.ready.push_back(ticket);
        }
    }

    /// Whether anybody may go on.
    pub fn are_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next that may go on. With a ticket, it holds what it waited for.
    pub fn next_ready(&mut self) -> Option<(Option<Ticket>, Waiting)> {
        let (ticket, waiting) = if let Some(ticket) = self.ready.pop_front() {
            let holder = self.holders.get_mut(&ticket).expect("who is ready holds its keys");
            let waiting = holder.waiting.take().expect("who was blocked waits");
            (Some(ticket), waiting)
        } else {
            let holders = &self.holders;
            let are_over =
                |&mut (behind, _): &mut (Ticket, _)| holders.keys().next().is_none_or(|&first| first >= behind);
            let (_, waiting) = self.onlookers.pop_front_if(are_over)?;
            (None, waiting)
        };
        self.waiting_count -= 1;
        self.waiting_changes -= usize::from(waiting.changes());
        Some((ticket, waiting))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn waiting() -> Waiting {
        let request = KeyRequest::transaction([], Vec::new());
        let reply_to = ReplyTo {
            shard: crate::engine::ShardId(0),
            connection: 0,
            generation: 0,
            sequence: 0,
        };
        Waiting::Request(reply_to, request)
    }

    proptest! {
        /// Whoever comes takes some keys or everything, or only looks on; whoever holds lets go in any order.
        #[test]
        fn nobody_shares_a_key_nobody_overtakes_and_all_get_their_turn(
            arrivals in prop::collection::vec((any::<u8>(), 0..12u8), 1..60),
            choices in prop::collection::vec(any::<usize>(), 200),
        ) {
            let mut locks = Locks::default();
            let mut holding: Vec<(Ticket, u8)> = Vec::new();
            let mut waits: BTreeMap<Ticket, u8> = BTreeMap::new();
            let mut onlookers: VecDeque<BTreeSet<Ticket>> = VecDeque::new();
            let mut choices = choices.into_iter().cycle();
            // A whole shard is all bits, who only looks on another that is no key.
            let mut arrivals = arrivals.into_iter().map(|(keys, kind)| match kind {
                0 => u8::MAX,
                1 => 0x40,
                _ => keys & 0x3f,
            });
            loop {
                let arrives = choices.next().unwrap() % 2 == 0;
                match (arrives.then(|| arrivals.next()).flatten(), holding.is_empty()) {
                    (Some(0x40), true) => {}
                    (Some(0x40), false) => {
                        locks.look_on(waiting());
                        onlookers.push_back(holding.iter().map(|&(ticket, _)| ticket).chain(waits.keys().copied()).collect());
                    }
                    (Some(keys), _) => {
                        let names = (0..6).filter(|bit| keys & 1 << bit != 0).map(|bit| ValueBytes::new(&[bit])).collect();
                        let (ticket, is_free) = locks.take(names, keys == u8::MAX);
                        let collides = |other: u8| keys & other != 0 || keys == u8::MAX || other == u8::MAX;
                        let must_wait = holding.iter().map(|&(_, other)| other).chain(waits.values().copied()).any(collides);
                        prop_assert_eq!(is_free, !must_wait);
                        if is_free {
                            holding.push((ticket, keys));
                        } else {
                            locks.wait(ticket, waiting());
                            waits.insert(ticket, keys);
                        }
                    }
                    (None, false) => {
                        let (ticket, _) = holding.swap_remove(choices.next().unwrap() % holding.len());
                        locks.release(ticket);
                        for before in &mut onlookers {
                            before.remove(&ticket);
                        }
                        while let Some((ticket, _)) = locks.next_ready() {
                            let Some(ticket) = ticket else {
                                prop_assert_eq!(onlookers.pop_front(), Some(BTreeSet::new()));
                                continue;
                            };
                            let keys = waits.remove(&ticket).unwrap();
                            let collides = |other: u8| keys & other != 0 || keys == u8::MAX || other == u8::MAX;
                            prop_assert!(!holding.iter().any(|&(_, other)| collides(other)));
                            prop_assert!(!waits.range(..ticket).any(|(_, &other)| collides(other)));
                            holding.push((ticket, keys));
                        }
                        prop_assert!(onlookers.front().is_none_or(|before| !before.is_empty()), "nobody waits longer");
                    }
                    (None, true) => {
                        if arrivals.next().is_none() {
                            break;
                        }
                    }
                }
            }
            prop_assert!(waits.is_empty() && onlookers.is_empty());
            prop_assert!(locks.are_unused() && locks.queues.is_empty() && locks.waiting_count() == 0);
        }
    }
}
