//! The shop: catalogue, stock, carts and orders.

pub mod audit;
pub mod catalogue;
pub mod checkout;
pub mod decision;
pub mod inventory;
pub mod item_table;
pub mod limits;
pub mod order_changes;
pub mod order_key;
pub mod orders;
pub mod packed_item;
pub mod packed_order;
pub mod piece;
pub mod slot;
pub mod state;
