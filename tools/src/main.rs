//! cart
fn main() {}
