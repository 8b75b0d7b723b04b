//! The shop: catalogue, stock, carts and orders.

pub mod catalogue;
pub mod checkout;
pub mod inventory;
pub mod item_table;
pub mod order_changes;
pub mod orders;
pub mod packed_item;
pub mod packed_order;
