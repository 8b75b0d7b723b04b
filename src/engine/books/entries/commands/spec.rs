//! A row of the table of commands on keys: everything that is known of one, with the function that runs it.
//!
//! Written once for each command, in the file of its type; read by requests, and by the sessions' table, which takes
//! over [`super::LISTS`].

use cartwright_protocol::command::{Flags, Group, KeyPositions};
use cartwright_protocol::resp::Arguments;

use crate::engine::books::entries::answer::Answer;
use crate::engine::books::entries::keys::Keys;

/// One command on keys.
pub struct CommandSpec {
    /// Lower-case, as Redis prints it; a subcommand's behind its container's and a bar.
    pub name: &'static str,
    /// Count of arguments, the name (and the container's) included; negative: at least that many.
    pub arity: i16,
    /// What it is like.
    pub flags: Flags,
    /// Which arguments are keys.
    pub keys: KeyPositions,
    /// What it is for.
    pub group: Group,
    /// The arguments, as documentation writes them.
    pub syntax: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What it needs beside the keys among its arguments.
    pub scope: Scope,
    /// Runs it. All arguments are there, the name (and a container's subcommand) included; their number is right.
    pub run: fn(&mut Keys<'_>, Arguments<'_>) -> Answer,
}

impl CommandSpec {
    /// Whether it may change anything.
    #[inline]
    pub const fn writes(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }

    /// Whether what it changes may be as long as a value that is there, however short its arguments.
    #[inline]
    pub const fn carries(&self) -> bool {
        self.flags.has(Flags::CARRIES)
    }

    /// Whether all that it changes is that something is not there any more: a full table takes it.
    pub const fn removes_only(&self) -> bool {
        self.flags.has(Flags::REMOVES_ONLY)
    }
}

impl std::fmt::Debug for CommandSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// What a command looks at beside the keys among its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    Keys,
    /// How many keys there are.
    Count,
    /// The names of all keys that match the pattern in its first argument.
    Names,
    /// Any one key.
    Any,
    /// All keys, to drop them.
    All,
    /// One slot, named by the cursor in its first argument (`SCAN`).
    Cursor,
}

impl Scope {
    /// Whether all shards have a part in it.
    pub const fn is_everywhere(self) -> bool {
        !matches!(self, Self::Keys | Self::Cursor)
    }
}
