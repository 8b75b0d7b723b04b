//! What a shop needs around the server: replaying its orders, a made-up shop, a demonstration, and a server process to
//! try it on. Speaks only the native protocol; knows nothing of the server's inside.

pub mod address;
pub mod bench;
pub mod check;
pub mod demo;
pub mod generator;
pub mod order_file;
pub mod pipeline;
pub mod play;
pub mod progress;
pub mod random;
pub mod replay;
pub mod server_process;
pub mod shop;
pub mod signals;
pub mod stocking;
pub mod text;
