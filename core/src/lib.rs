//! What every other crate stands on, and what there must be one of: packed numbers, glob patterns, random numbers, and
//! the words that the engine and the log have in common.
//!
//! - [`codec`]: numbers and strings as logs, checkpoints and packed orders hold them
//! - [`glob`]: Redis's patterns
//! - [`ids`], [`journal`]: shards, positions and kinds of records, and what records are appended to
//! - [`mutation`]: faults on purpose, which a simulation must notice
//! - [`prng`]: streams of numbers that follow from a seed
//!
//! Depends on no other crate of Cartwright; does no I/O, reads no clock, draws nothing from the system.

pub mod codec;
pub mod glob;
pub mod ids;
pub mod journal;
#[doc(hidden)]
pub mod mutation;
pub mod prng;
