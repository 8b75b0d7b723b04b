//! The one two-phase commit: transactions over several shards, whatever books they are about.
//!
//! A transaction's *home* coordinates it. It has a *part* on each shard whose items or keys it names. The home first
//! asks all shards at once, and nobody waits: a part whose units can be taken from decided stock, and whose keys are
//! free, is reserved there and then. If every part is reserved, the home decides: one round trip. If a part could only
//! be had by waiting, the transaction lets go of everything and begins again, alone, in ascending order of shards: there
//! it waits where it has to, and holds lower shards only, so nobody ever waits in a circle. A refusal is explained by
//! decided state alone.
//!
//! **Everything is said in batches.** What a shard has to tell another one in a turn is one message ([`Batch`]); what a
//! batch makes a shard log is one record of each kind: `Prepared` for the parts reserved, `Decided` for the transactions
//! decided, `Resolved` for the outcomes.
//!
//! **A transaction is committed if, and only if, its home's `Decided` and every record it names are on disk.** Effects
//! are applied everywhere once that is so. What a transaction over keys has read counts as named: a crash that takes
//! back something that it has read takes back the transaction.
//!
//! - `home`: the coordinator; [`participant`]: a part on its shard; [`outbox`]: what is to be said

pub mod home;
pub mod outbox;
pub mod participant;

pub use home::{Commits, InFlight};
pub use outbox::{Batch, Outbox, Visit};
pub use participant::{Participation, Preparing};

use cartwright_protocol::Error;

use crate::engine::kernel::ids::{LogPosition, ShardId};

/// Why a transaction is refused, and what that reveals.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// For the client.
    pub error: Error,
    /// Whose state explains it, and up to where that shows each log: the refusal leaves once they are safe.
    pub reveals: Vec<(ShardId, LogPosition)>,
    /// Whether it is explained by transactions of its home, too, which are decided and not over: it leaves after them.
    pub is_behind_decisions: bool,
}

impl Refusal {
    /// By state of one shard that its log shows up to here.
    pub fn by_state(error: Error, shard: ShardId, position: LogPosition) -> Self {
        Self {
            error,
            reveals: vec![(shard, position)],
            is_behind_decisions: false,
        }
    }

    /// By state of several shards that their logs show up to here.
    pub const fn by_states(error: Error, reveals: Vec<(ShardId, LogPosition)>) -> Self {
        Self {
            error,
            reveals,
            is_behind_decisions: false,
        }
    }

    /// By no state at all: a limit, or no room.
    pub const fn by_limit(error: Error) -> Self {
        Self {
            error,
            reveals: Vec::new(),
            is_behind_decisions: false,
        }
    }

    /// By what is decided at its home by now, over or not.
    pub const fn by_decisions(error: Error) -> Self {
        Self {
            error,
            reveals: Vec::new(),
            is_behind_decisions: true,
        }
    }
}
