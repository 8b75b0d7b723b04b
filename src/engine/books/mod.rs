//! The books: each a part of a shard's state that decides, applies and explains its own records.

pub mod entries;
pub mod shop;
