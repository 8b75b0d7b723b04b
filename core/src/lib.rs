//! What every other crate stands on, and what there must be one of: packed numbers, glob patterns, random numbers.
//!
//! - [`codec`]: numbers and strings as logs, checkpoints and packed orders hold them
//! - [`glob`]: Redis's patterns
//! - [`prng`]: streams of numbers that follow from a seed
//!
//! Depends on no other crate; does no I/O, reads no clock, draws nothing from the system.

pub mod codec;
pub mod glob;
pub mod prng;
