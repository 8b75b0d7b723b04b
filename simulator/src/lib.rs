//! The simulator: whole servers, on a simulated disk, network and clock, in one thread, from one seed.
//!
//! The shard's turn with its sessions, the engine, the log, recovery, checkpoints and what they do to files are those
//! that serve production; only what is around them is simulated. Reads top down: [`simulation`] runs a seed, [`server`]
//! and [`start`] drive the real code in a [`world`] of [`network`]s and [`mailbox`]es, over [`files`] on a [`disk`];
//! [`client`]s say what [`workload`] and [`key_wishes`] want and hear what is answered; [`witness`], [`shop`], [`keys`]
//! and [`checker`] say whether what comes of it is right - by answers and by [`frame`]s of the logs -, [`damage`] and
//! [`parameters`] say what goes wrong, [`campaign`] runs many seeds.

pub mod campaign;
pub mod checker;
pub mod client;
pub mod damage;
pub mod disk;
pub mod files;
pub mod frame;
pub mod key_wishes;
pub mod keys;
pub mod mailbox;
pub mod network;
pub mod parameters;
pub mod random;
pub mod reading;
pub mod resp;
pub mod server;
pub mod shop;
pub mod simulation;
pub mod start;
pub mod trace;
pub mod violation;
pub mod witness;
pub mod workload;
pub mod world;

/// As in the server. A start makes and frees tables of thousands of slots.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
