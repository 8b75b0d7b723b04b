//! What the comparison with a real Redis is made of; used by `redis_differential.rs` alone.
//!
//! - `forms`: every command that is compared, with the shapes of its arguments
//! - `draw`: commands from a seed
//! - `wire`: a connection that keeps every reply as it came
//! - `compare`: which replies are the same; what has no order or goes with the clock is told by command
//! - `differences`: the one table of what is allowed to differ

pub mod compare;
pub mod differences;
pub mod draw;
pub mod forms;
pub mod wire;
