//! `cart bench`: measures a Cartwright server, or a Redis that does the same work, with one load generator.
//!
//! A run is made of [`source`]s that make requests up, a [`worker`] on each thread that keeps them in flight, and a
//! [`conductor`] that reads clocks and processes from outside. Nothing here knows the server's inside.

pub mod answer;
pub mod arguments;
pub mod cart_mix;
pub mod carts;
pub mod checkpoints;
pub mod command;
pub mod compare;
pub mod conductor;
pub mod connection;
pub mod json;
pub mod live;
pub mod machine;
pub mod page;
pub mod process;
pub mod redis_client;
pub mod redis_process;
pub mod report;
pub mod session;
pub mod sockets;
pub mod source;
pub mod target;
pub mod worker;
pub mod workload;
