//! The types of value, each a folder of its own: what a value is (`mod.rs`), what its commands change of it
//! (`changes.rs`), and how it is written down whole or in pieces (`image.rs`).
//!
//! [`value_type`] says what a type has to do; [`value`] lists the types, and asks the one that an entry is of. Whatever
//! holds, logs, applies, shows or restores entries asks there: no match over types stands outside this folder but in a
//! type's own commands. `docs/adding-a-value-type.md` goes through it step by step.

pub mod hash;
#[cfg(test)]
mod pile;
pub mod string;
pub mod value;
pub mod value_type;

pub use value::{Change, Pieces, Value};
pub use value_type::{TypeChange, ValueType};
