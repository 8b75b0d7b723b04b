//! Opcodes: what a frame's body is. Below 0x80 requests, from 0x80 replies; numbers are never reused.

macro_rules! opcodes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number,)*
        }

        impl $name {
            /// Every opcode of this direction.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The opcode with this number.
            #[inline]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The opcode's name in documents and tools.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

opcodes!(
    /// What a client asks.
    RequestOpcode {
        /// Answered with [`ReplyOpcode::Ok`] by the connection itself.
        Ping = 0x01 "PING",
        /// [`crate::Operation::ItemPut`].
        ItemPut = 0x10 "ITEM.PUT",
        /// [`crate::Operation::ItemGet`].
        ItemGet = 0x11 "ITEM.GET",
        /// [`crate::Operation::StockAdd`].
        StockAdd = 0x18 "STOCK.ADD",
        /// [`crate::Operation::StockGet`].
        StockGet = 0x19 "STOCK.GET",
        /// [`crate::Operation::Checkout`].
        Checkout = 0x20 "CHECKOUT",
        /// [`crate::Operation::OrderGet`].
        OrderGet = 0x21 "ORDER.GET",
        /// [`crate::Operation::OrderList`].
        OrderList = 0x22 "ORDER.LIST",
        /// [`crate::Operation::OrderConfirm`].
        OrderConfirm = 0x23 "ORDER.CONFIRM",
        /// [`crate::Operation::OrderCancel`].
        OrderCancel = 0x24 "ORDER.CANCEL",
        /// [`crate::Operation::Audit`].
        Audit = 0x70 "AUDIT",
    }
);

opcodes!(
    /// What a server answers.
    ReplyOpcode {
        /// [`crate::Reply::Ok`].
        Ok = 0x80 "OK",
        /// [`crate::Reply::Null`].
        Null = 0x81 "NULL",
        /// [`crate::Reply::Integer`].
        Integer = 0x82 "INTEGER",
        /// [`crate::Reply::Error`].
        Error = 0x83 "ERROR",
        /// [`crate::Reply::Item`].
        Item = 0x90 "ITEM",
        /// [`crate::Reply::Stock`].
        Stock = 0x98 "STOCK",
        /// [`crate::Reply::Receipt`].
        Receipt = 0xa0 "RECEIPT",
        /// [`crate::Reply::Order`].
        Order = 0xa1 "ORDER",
        /// [`crate::Reply::Orders`].
        Orders = 0xa2 "ORDERS",
        /// [`crate::Reply::State`].
        State = 0xa3 "STATE",
        /// [`crate::Reply::Audit`].
        Audit = 0xf0 "AUDIT",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_share_no_number() {
        assert!(RequestOpcode::ALL.iter().all(|&opcode| (opcode as u8) < 0x80));
        assert!(ReplyOpcode::ALL.iter().all(|&opcode| opcode as u8 >= 0x80));
        for &opcode in RequestOpcode::ALL {
            assert_eq!(RequestOpcode::from_number(opcode as u8), Some(opcode));
        }
        assert_eq!(ReplyOpcode::from_number(0), None);
    }
}
