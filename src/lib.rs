//! Cartwright: a thread-per-core, in-memory, durable engine for stock, carts and orders.
//!
//! `ARCHITECTURE.md` is the map. Dependencies point one way:
//! `protocol` ← [`engine`] ← {[`log`], [`session`]} ← {[`net`], [`runtime`]} ← `main`.

pub mod config;
pub mod engine;
pub mod log;
pub mod net;
pub mod runtime;
pub mod session;
