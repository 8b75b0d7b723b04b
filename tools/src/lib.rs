//! What a shop needs around the server: replaying its orders, a made-up shop, a demonstration, and a server process to
//! try it on. Speaks only the native protocol; knows nothing of the server's inside.

pub mod generator;
pub mod order_file;
pub mod random;
pub mod shop;
