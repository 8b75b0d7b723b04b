//! The shop's commands, each declared once: [`declaration`] says how, the files by group are the declarations.
//!
//! From a declaration come its type, its place in [`crate::Operation`], both codecs, the errors of its arguments, its
//! home, its request key and fingerprint, its row in `COMMAND`, its rows in both READMEs, its test vector, its strategy
//! for property tests and its answer for [`crate::client::Client::ask`]. What it does is the engine's.
//!
//! - [`field`]: what fields are made of; [`answer`]: what commands are answered with
//! - `words`: the words of a RESP command, found by the fields
//! - `items`, `stock`, `carts`, `orders`, `audit`: the declarations
//!
//! To add one, write it into the file of its group and add its name to the list in `operation.rs`; see
//! `docs/adding-a-command.md`.

#[macro_use]
pub mod declaration;

pub mod answer;
mod audit;
mod carts;
pub mod field;
mod items;
mod orders;
mod stock;
mod words;

pub use answer::Answer;
pub use declaration::{Class, Command, FieldSpec, Fingerprint, Home, HomeKind, Spec};

/// The types of all commands.
pub mod commands {
    pub use super::audit::*;
    pub use super::carts::*;
    pub use super::items::*;
    pub use super::orders::*;
    pub use super::stock::*;
}
