//! A request to the keyspace: commands with their own copy of their arguments, and which keys they are about.
//!
//! Made by a session from the command table; the engine neither parses names nor counts arguments.

use cartwright_protocol::Slot;
use cartwright_protocol::command::KeyPlaces;
use cartwright_protocol::resp::Arguments;
use smallvec::SmallVec;

use super::arguments::OwnedArguments;
use super::bytes::ValueBytes;
use super::commands::spec::{CommandSpec, Scope};
use super::effect::{EFFECT_OVERHEAD_BYTES, EFFECTS_BYTES_MAX};
use super::scan::slot_of_cursor;
use crate::engine::kernel::ids::LogPosition;

/// One command with its arguments.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// What to run.
    pub command: &'static CommandSpec,
    /// On what.
    pub arguments: OwnedArguments,
    /// Which of the arguments are keys.
    pub keys: KeyPlaces,
}

impl Invocation {
    const fn is_carrier(&self) -> bool {
        self.command.carries()
    }

    /// At least as many bytes of effects as the arguments can come to, found without looking at each.
    fn effect_bytes_bound(&self) -> usize {
        2 * self.arguments.bytes() + (self.arguments.get().len() + 1) * EFFECT_OVERHEAD_BYTES
    }
}

/// A key as `WATCH` saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Which.
    pub key: ValueBytes,
    /// What `WATCH` answered for it.
    pub version: LogPosition,
}

/// What is run at once: one command, or a whole `MULTI` … `EXEC`. All of it or, where it is refused, nothing; a command
/// that fails within a transaction does not undo the others, as in Redis.
#[derive(Debug)]
pub struct KeyRequest {
    /// What to run, in order.
    pub invocations: SmallVec<[Invocation; 1]>,
    /// The slots of the invocations' keys, in their order.
    pub(super) slots: SmallVec<[Slot; 2]>,
    /// Keys that must be as they were seen.
    pub watched: Vec<Watched>,
    /// Whether the answer is a list of answers.
    pub is_transaction: bool,
    /// Whether what it changes may take more log than one record usually does.
    may_be_large: bool,
}

impl KeyRequest {
    /// A single command.
    pub fn command(command: &'static CommandSpec, arguments: Arguments<'_>, keys: KeyPlaces) -> Box<Self> {
        let mut slots = SmallVec::new();
        for index in keys.indices() {
            slots.push(Slot::of(arguments.get(index).unwrap_or_default()));
        }
        let invocation = Invocation {
            command,
            arguments: OwnedArguments::new(arguments),
            keys,
        };
        let may_be_large = invocation.is_carrier() || invocation.effect_bytes_bound() > EFFECTS_BYTES_MAX;
        let mut invocations = SmallVec::new();
        invocations.push(invocation);
        Box::new(Self {
            invocations,
            slots,
            watched: Vec::new(),
            is_transaction: false,
            may_be_large,
        })
    }

    /// What `EXEC` runs.
    pub fn transaction(invocations: impl IntoIterator<Item = Invocation>, watched: Vec<Watched>) -> Box<Self> {
        let invocations: SmallVec<[Invocation; 1]> = invocations.into_iter().collect();
        let mut slots = SmallVec::new();
        for invocation in &invocations {
            let arguments = invocation.arguments.get();
            for index in invocation.keys.indices() {
                slots.push(Slot::of(arguments.get(index).unwrap_or_default()));
            }
        }
        let bound: usize = invocations.iter().map(Invocation::effect_bytes_bound).sum();
        let may_be_large = bound > EFFECTS_BYTES_MAX || invocations.iter().any(Invocation::is_carrier);
        Box::new(Self {
            invocations,
            slots,
            watched,
            is_transaction: true,
            may_be_large,
        })
    }

    /// Whether what it changes may take more than [`EFFECTS_BYTES_MAX`]: `false` of nearly all.
    #[inline]
    pub(in crate::engine) const fn may_be_large(&self) -> bool {
        self.may_be_large
    }

    /// The slot whose shard runs it. `None`: any shard may.
    pub fn home(&self) -> Option<Slot> {
        if let Some(&slot) = self.slots.first() {
            return Some(slot);
        }
        let first = self.invocations.first()?;
        if first.command.scope == Scope::Cursor {
            return slot_of_cursor(first.arguments.get());
        }
        self.watched.first().map(|watched| Slot::of(&watched.key))
    }

    /// Whether any of it may change anything.
    pub fn writes(&self) -> bool {
        self.invocations.iter().any(|invocation| invocation.command.writes())
    }

    /// Whether it is about keys of one slot and no others: requests to one slot are run in the order in which a
    /// connection sends them, however many are in flight.
    pub fn is_in_one_slot(&self) -> bool {
        let first = self.home();
        self.slots.iter().all(|&slot| Some(slot) == first)
            && self.watched.iter().all(|watched| Some(Slot::of(&watched.key)) == first)
            && self
                .invocations
                .iter()
                .all(|invocation| invocation.command.scope == Scope::Keys)
    }

    /// Whether it takes the shard of these slots as a whole, since it looks at keys there that no argument names.
    pub fn takes_shard(&self, is_here: impl Fn(Slot) -> bool) -> bool {
        self.is_everywhere() || self.cursor_slots().any(is_here)
    }

    /// Whether it is a walk over keys and nothing else: it changes nothing, and shows each key as it was at some time
    /// between being asked and being answered.
    pub(super) fn only_walks(&self) -> bool {
        self.watched.is_empty()
            && self
                .invocations
                .iter()
                .all(|invocation| invocation.command.scope == Scope::Cursor)
    }

    /// The slots that the cursors of its scans stand in.
    pub(super) fn cursor_slots(&self) -> impl Iterator<Item = Slot> {
        let scans = self
            .invocations
            .iter()
            .filter(|invocation| invocation.command.scope == Scope::Cursor);
        scans.filter_map(|invocation| slot_of_cursor(invocation.arguments.get()))
    }

    /// Whether all shards have a part in it.
    pub fn is_everywhere(&self) -> bool {
        self.invocations
            .iter()
            .any(|invocation| invocation.command.scope.is_everywhere())
    }

    /// The keys it is about with their slots, one by one: those of the invocations, then those watched.
    pub(in crate::engine) fn keys(&self) -> impl Iterator<Item = (&[u8], Slot)> {
        let keys = self.invocations.iter().flat_map(|invocation| {
            let arguments = invocation.arguments.get();
            let keys = invocation.keys.indices();
            keys.map(move |index| arguments.get(index).unwrap_or_default())
        });
        let watched = self
            .watched
            .iter()
            .map(|watched| (&*watched.key, Slot::of(&watched.key)));
        keys.zip(self.slots.iter().copied()).chain(watched)
    }

    /// Bytes of everything it carries.
    pub fn bytes(&self) -> usize {
        self.invocations
            .iter()
            .map(|invocation| invocation.arguments.bytes() + size_of::<Invocation>())
            .sum()
    }
}
