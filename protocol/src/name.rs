//! The identifiers of the shop: SKUs, customers, locations, idempotency keys, and free text.
//!
//! Built by the protocol parsers, which check them once; everything behind trusts the type. Never allocates for the
//! identifiers real shops use (24 bytes and fewer).

use compact_str::CompactString;

use crate::slot::Slot;

/// Longest identifier, in bytes of UTF-8.
pub const NAME_LENGTH_MAX: usize = 40;

/// Longest free text (`NAME`, `REASON`), in bytes of UTF-8.
pub const TEXT_LENGTH_MAX: usize = 1024;

/// Why some bytes are no identifier or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An identifier has at least one byte.
    #[error("is empty")]
    Empty,
    /// Over [`NAME_LENGTH_MAX`] or [`TEXT_LENGTH_MAX`].
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// Identifiers and texts are UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// Control characters (Unicode category Cc) are refused: they break logs, terminals and line protocols.
    #[error("contains a control character")]
    Control,
}

#[inline]
fn checked(bytes: &[u8], length_max: usize) -> Result<CompactString, NameError> {
    if bytes.len() > length_max {
        return Err(NameError::TooLong(length_max));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
    // Without an early end, so that the loop has no branch to mispredict; almost every name is printable ASCII.
    let is_printable_ascii = bytes
        .iter()
        .fold(true, |all, byte| all & (byte.wrapping_sub(0x20) < 0x5f));
    if !is_printable_ascii && text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(CompactString::from(text))
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to [`NAME_LENGTH_MAX`] bytes of UTF-8 without control characters; case counts.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
        pub struct $name(CompactString);

        impl $name {
            /// Checks and copies `bytes`.
            #[inline]
            pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
                if bytes.is_empty() {
                    return Err(NameError::Empty);
                }
                checked(bytes, NAME_LENGTH_MAX).map(Self)
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier's bytes.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }

            /// The slot this identifier hashes to.
            pub fn slot(&self) -> Slot {
                Slot::of(self.as_bytes())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text.as_bytes())
            }
        }
    };
}

identifier!(
    /// The shop's code of an item.
    Sku
);
identifier!(
    /// Who buys.
    Customer
);
identifier!(
    /// Where stock lies.
    Location
);
identifier!(
    /// A client's idempotency key: a retry with the same key gets the first answer.
    Key
);

impl Location {
    /// The name of the location that commands use when none is given.
    pub const MAIN: &'static str = "main";

    /// The location `main`.
    pub fn main() -> Self {
        Self(CompactString::const_new(Self::MAIN))
    }

    /// Whether this is the location `main`.
    pub fn is_main(&self) -> bool {
        self.0 == Self::MAIN
    }
}

/// Free text: 0 to [`TEXT_LENGTH_MAX`] bytes of UTF-8 without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Text(CompactString);

impl Text {
    /// Checks and copies `bytes`.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        checked(bytes, TEXT_LENGTH_MAX).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_bounded_utf8_without_control_characters() {
        assert!(Sku::new(b"BANK CHARGES").is_ok());
        assert!(Sku::new("Räder".as_bytes()).is_ok());
        assert!(Sku::new(&[b'x'; NAME_LENGTH_MAX]).is_ok());
        assert_eq!(Sku::new(b""), Err(NameError::Empty));
        assert_eq!(Sku::new(&[b'x'; 41]), Err(NameError::TooLong(40)));
        assert_eq!(Sku::new(b"a\nb"), Err(NameError::Control));
        assert_eq!(Sku::new(b"a\x7f"), Err(NameError::Control));
        assert_eq!(Sku::new("a\u{85}".as_bytes()), Err(NameError::Control));
        assert_eq!(Sku::new(b"\xff\xfe"), Err(NameError::NotUtf8));
    }

    proptest::proptest! {
        #[test]
        fn only_control_characters_and_broken_utf8_are_refused(
            bytes in proptest::collection::vec(proptest::prop_oneof![8 => 0x1fu8..0x80, 1 => 0u8..=255], 1..40),
        ) {
            let expected = match std::str::from_utf8(&bytes) {
                Err(_) => Some(NameError::NotUtf8),
                Ok(text) => text.chars().any(char::is_control).then_some(NameError::Control),
            };
            proptest::prop_assert_eq!(Sku::new(&bytes).err(), expected);
        }
    }

    #[test]
    fn case_counts() {
        assert_ne!(Sku::new(b"84660B").unwrap(), Sku::new(b"84660b").unwrap());
    }
}
