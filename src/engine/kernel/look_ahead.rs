//! Looking ahead: what requests are about to look at is fetched into the cache before the first of them runs.
//!
//! A request follows a chain of places: a slot, a table of the slot, an entry, what the entry points to. Each is a cache
//! miss in a large shop, and none is known before the one before it. So the requests of a batch take these steps
//! together: the memory of all of them is on its way at once. Decides nothing and changes nothing, so it needs no care
//! to be right. Source: "group prefetching", Chen et al., "Improving Hash Join Performance through Prefetching", 2004.

use cartwright_protocol::Slot;
use smallvec::SmallVec;

use crate::engine::books::{Place, look_ahead_to_ask};
use crate::engine::kernel::message::{Ask, ShardMessage};
use crate::engine::kernel::prefetch::prefetch_whole;
use crate::engine::kernel::shard::Shard;
use crate::engine::kernel::slots::SlotState;
use crate::engine::kernel::state::State;

/// Requests that look ahead together: their places fit the nearest caches.
pub const LOOK_AHEAD_MAX: usize = 8;

/// Places that are followed together without memory of their own.
pub const PLACES: usize = 64;

/// What the engine will be given in a moment.
#[derive(Clone, Copy, Debug)]
pub enum Upcoming<'a> {
    /// A client's question.
    Ask(&'a Ask),
    /// A message from another shard.
    Message(&'a ShardMessage),
}

/// Chains of places, each with its slot.
#[derive(Debug)]
pub struct Chains<'a> {
    state: &'a State,
    places: SmallVec<[(&'a SlotState, Place); PLACES]>,
}

impl<'a> Chains<'a> {
    /// None yet.
    pub fn new(state: &'a State) -> Self {
        Self {
            state,
            places: SmallVec::new(),
        }
    }

    /// Adds a place, where its slot is here.
    pub fn add(&mut self, slot: Slot, place: Place) {
        if self.state.owns_slot(slot) {
            let slot = self.state.slot(slot);
            prefetch_whole(slot);
            self.places.push((slot, place));
        }
    }

    /// Slots are on their way: the tables', then the entries' turn.
    pub fn follow(mut self) {
        for (slot, place) in &mut self.places {
            place.prefetch_table(slot);
        }
        for (slot, place) in &self.places {
            place.prefetch_entry(slot);
        }
    }
}

impl Shard {
    /// This comes in a moment, best no more than [`LOOK_AHEAD_MAX`] at a time.
    pub fn look_ahead<'a>(&'a self, upcoming: impl Iterator<Item = Upcoming<'a>>) {
        let mut chains = Chains::new(&self.state);
        for one in upcoming {
            match one {
                Upcoming::Ask(ask) => look_ahead_to_ask(&mut chains, ask),
                Upcoming::Message(_) => {}
            }
        }
        chains.follow();
    }
}
