//! The shop: catalogue, stock, carts and orders.

/// The shop's number among the books: in the kinds of its records and parts.
pub const BOOK: u8 = 1;

pub mod audit;
pub mod catalogue;
pub mod checkout;
pub mod decision;
pub mod inventory;
pub mod item_table;
pub mod limits;
pub mod order_changes;
pub mod order_key;
pub mod order_positions;
pub mod order_states;
pub mod orders;
pub mod packed_item;
pub mod packed_lines;
pub mod packed_order;
pub mod parts;
pub mod piece;
pub mod records;
pub mod slot;
pub mod state;
pub mod volatile;
mod waiters;
