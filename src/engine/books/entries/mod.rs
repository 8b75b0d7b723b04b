//! The keyspace: Redis's keys and values, beside the shop and apart from it.
//!
//! - [`request`], [`arguments`], [`name`]: what a session asks; [`answer`]: what it is answered; [`bytes`]: both's bytes
//! - [`commands`]: the commands; [`keys`]: what one sees while it runs; [`scan`]: walks over keys
//! - [`types`]: the types of value, a folder each; [`table`], [`value`]: how entries are held; [`state`]: within a
//!   shard's state
//! - [`effect`]: what commands do, as it is logged and applied; `image`, `encoding`: values and strings as bytes
//! - `checkpoint`: keys in a checkpoint
//! - [`run`]: requests to keys of one shard; [`transaction`], [`locks`], [`collected`]: of several

/// The number of keys and values among the books: in the kinds of their records and parts.
pub const BOOK: u8 = 2;

pub mod answer;
pub mod arguments;
pub mod bytes;
pub mod checkpoint;
pub mod collected;
pub mod commands;
pub mod effect;
mod encoding;
mod image;
pub mod keys;
pub mod limits;
pub mod locks;
pub mod name;
pub mod parts;
pub mod records;
mod removals;
pub mod request;
mod run;
pub mod scan;
pub mod slot;
mod state;
pub mod table;
#[cfg(test)]
mod tests;
mod transaction;
pub mod types;
pub mod value;

pub use answer::Answer;
pub use arguments::OwnedArguments;
pub use bytes::ValueBytes;
pub use cartwright_protocol::command::KeyPlaces;
pub use commands::spec::{CommandSpec, Scope};
pub use effect::are_effects;
pub use keys::Keys;
pub use request::{Invocation, KeyRequest, Watched};
pub use run::{Keyspace, refusal, route_of};
pub use state::entry_hash;
pub use table::hash_of as table_hash_of;
pub use transaction::ShardEffects;
pub use value::KeyTable;
