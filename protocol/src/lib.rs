//! The wire of Cartwright: the shop's vocabulary, native frames, RESP, and a small blocking client.
//!
//! The vocabulary ([`Operation`] in, [`Reply`] out) is the same on both protocols and inside the server. Nothing here
//! does I/O but the client's own socket. `README.md` beside this crate specifies every byte.

pub mod argument;
pub mod client;
pub mod command;
pub mod error;
pub mod money;
pub mod name;
pub mod native;
pub mod operation;
pub mod order_id;
#[cfg(test)]
mod readme_tests;
pub mod reply;
pub mod resp;
pub mod shop;
pub mod slot;

pub use error::{Error, ErrorCode};
pub use money::{AMOUNT_MAX, Amount, Currency};
pub use name::{Customer, Key, Location, NAME_LENGTH_MAX, NameError, Sku, TEXT_LENGTH_MAX, Text};
pub use operation::{
    CART_LINES_MAX, CartLine, HOLD_MS_MAX, ORDER_LIST_COUNT_DEFAULT, ORDER_LIST_COUNT_MAX, Operation, QUANTITY_MAX,
    Quantity,
};
pub use order_id::OrderId;
pub use reply::{AuditReport, ItemView, LineView, OrderState, OrderSummary, OrderView, Receipt, Reply, StockView};
pub use shop::commands::*;
pub use slot::{SLOT_COUNT, Slot};
