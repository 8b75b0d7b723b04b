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

/// Answered with [`ReplyOpcode::Ok`] by the connection itself. The other requests are the shop's commands: see
/// [`crate::Operation::SPECS`].
pub const PING_OPCODE: u8 = 0x01;

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
    use crate::Operation;

    #[test]
    fn requests_and_replies_share_no_number() {
        let requests = Operation::SPECS.iter().map(|spec| spec.opcode);
        let mut requests: Vec<_> = requests.chain([PING_OPCODE]).collect();
        assert!(requests.iter().all(|&opcode| opcode < 0x80));
        requests.sort_unstable();
        assert!(requests.is_sorted_by(|one, next| one < next), "{requests:?}");
        assert!(ReplyOpcode::ALL.iter().all(|&opcode| opcode as u8 >= 0x80));
        assert_eq!(ReplyOpcode::from_number(0), None);
    }
}
