//! What the hash of a state tells things of different kinds apart by: all of them, so that none is given twice.

/// The kinds of things in a state's hash, of the kernel and of every book. The hash's value is compared over versions:
/// none may ever change.
#[derive(Debug)]
pub struct StateTag;

impl StateTag {
    /// The shop: an item.
    pub const ITEM: u8 = 1;
    /// The shop: an order.
    pub const ORDER: u8 = 2;
    /// The kernel: a request key that has a record of its own.
    pub const REQUEST_KEY: u8 = 3;
    /// The shop: how far the orders of a slot go.
    pub const ORDER_SEQUENCE: u8 = 4;
    /// The shop: the request key that an order holds. Its number is that of [`Self::ENTRY`] as well: what follows it is
    /// eight bytes and a string in the one, a string and sixteen bytes or more in the other.
    pub const ORDER_KEY: u8 = 5;
    /// Keys and values: a key with its value.
    pub const ENTRY: u8 = 5;
    /// Keys and values: an element of a value.
    pub const ELEMENT: u8 = 6;
}
