//! What every command's row says of it, whichever part runs it.
//!
//! Read by the declarations of the shop's commands, by the engine's rows of commands on keys, and by the sessions' table.

mod flags;

pub use flags::Flags;
