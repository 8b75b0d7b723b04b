//! Guarantees of the whole server: each test starts the real program on a free port and in a fresh directory.
//!
//! A module is one subject. What the tests share is the package `cartwright-test-support`.

mod bounds;
mod checkpoint_files;
mod checkpoints;
mod connections;
mod crash;
mod damage;
mod data_directory;
mod disk_full;
mod files;
mod fuzz;
mod golden;
mod inapplicable;
mod large_values;
mod lifecycle;
mod log_on_disk;
mod pubsub;
mod readme;
mod replay;
mod stopping;
mod transactions;
mod wire;
