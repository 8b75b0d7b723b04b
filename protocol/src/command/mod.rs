//! What every command's row says of it, whichever part runs it.
//!
//! Read by the declarations of the shop's commands, by the engine's rows of commands on keys, and by the sessions' table.

mod flags;
mod group;
mod key_positions;

pub use flags::Flags;
pub use group::Group;
pub use key_positions::{
    ALL_KEYS, KEY_OF_SUBCOMMAND, KEYS_AND_VALUES, KEYS_FROM_SECOND, KeyPlaces, KeyPositions, ONE_KEY, TWO_KEYS,
};
