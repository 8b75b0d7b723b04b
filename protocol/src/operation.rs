//! What a client can ask of the shop: the list of its commands. The same on both protocols; the engine's input.
//!
//! Each command is declared in [`crate::shop`].

use crate::command::Flags;
use crate::native::body::Reader;
use crate::resp::Arguments;
#[allow(clippy::wildcard_imports, reason = "the list below names each of them")]
use crate::shop::commands::*;
use crate::shop::{Command as _, Fingerprint, Home, Spec};
use crate::{Error, Key, Reply, Sku, Slot};

/// Largest quantity of one line, delta or limit.
pub const QUANTITY_MAX: u32 = 1_000_000_000;

/// Most lines in a cart, counted before lines of one SKU are added up.
pub const CART_LINES_MAX: usize = 4096;

/// Longest hold, in milliseconds: seven days.
pub const HOLD_MS_MAX: u32 = 604_800_000;

/// How many orders `ORDER.LIST` gives unless told.
pub const ORDER_LIST_COUNT_DEFAULT: u32 = 100;

/// How many orders `ORDER.LIST` gives at most.
pub const ORDER_LIST_COUNT_MAX: u32 = 1000;

/// Units of an item: 1 to [`QUANTITY_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Quantity(u32);

impl Quantity {
    /// `None` outside 1 to [`QUANTITY_MAX`].
    pub fn new(units: u64) -> Option<Self> {
        (1..=u64::from(QUANTITY_MAX))
            .contains(&units)
            .then_some(Self(units as u32))
    }

    /// The number of units.
    pub const fn units(self) -> u32 {
        self.0
    }
}

/// One line of a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CartLine {
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

/// Writes [`Operation`]: a variant for each command, whose methods are those of its type.
macro_rules! operations {
    ($($variant:ident($payload:ty)),*; $($unit:ident),*) => {
        /// One request of a client: any of the shop's commands.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Operation {
            $(#[allow(missing_docs, reason = "the type says what it is")] $variant($payload),)*
            $(#[allow(missing_docs, reason = "the type says what it is")] $unit,)*
        }

        impl Operation {
            /// All commands, in the order of their opcodes.
            pub const SPECS: &[&Spec] = &[$(&$variant::SPEC,)* $(&$unit::SPEC,)*];

            /// The command's place in [`Self::SPECS`].
            pub const fn number(&self) -> usize {
                #[derive(Clone, Copy)]
                enum Number { $($variant,)* $($unit,)* }
                (match self {
                    $(Self::$variant(_) => Number::$variant,)*
                    $(Self::$unit => Number::$unit,)*
                }) as usize
            }

            /// What is said of the command.
            pub const fn spec(&self) -> &'static Spec {
                Self::SPECS[self.number()]
            }

            /// The thing that it is about; `None`: everything.
            pub fn subject(&self) -> Option<Home<'_>> {
                match self {
                    $(Self::$variant(command) => command.home(),)*
                    $(Self::$unit => None,)*
                }
            }

            /// The request key, if it has one.
            pub fn request_key(&self) -> Option<&Key> {
                match self {
                    $(Self::$variant(command) => command.request_key(),)*
                    $(Self::$unit => None,)*
                }
            }

            /// Adds everything that makes two requests with one key the same request. The key and what it belongs to,
            /// [`Self::subject`], are compared apart.
            pub fn fingerprint(&self, into: &mut impl Fingerprint) {
                match self {
                    $(Self::$variant(command) => command.fingerprint(into),)*
                    $(Self::$unit => $unit {}.fingerprint(into),)*
                }
            }

            /// How long the reply can become, on either protocol, in bytes.
            pub fn reply_bytes_max(&self) -> usize {
                match self {
                    $(Self::$variant(command) => command.reply_bytes_max(),)*
                    $(Self::$unit => $unit {}.reply_bytes_max(),)*
                }
            }

            /// Its name and its fields, as test vectors say them.
            pub fn describe(&self) -> String {
                match self {
                    $(Self::$variant(command) => command.describe(),)*
                    $(Self::$unit => $unit {}.describe(),)*
                }
            }

            /// Appends its fields to a frame's body.
            pub(crate) fn put(&self, body: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(command) => command.put(body),)*
                    $(Self::$unit => $unit {}.put(body),)*
                }
            }

            /// The command with this opcode in a frame's body, or the reply to send at once; `None`: no command has it.
            #[inline]
            pub(crate) fn take(opcode: u8, body: Reader<'_>) -> Option<Result<Self, Reply>> {
                $(if opcode == $variant::SPEC.opcode {
                    return Some($variant::take(body).map(Into::into));
                })*
                $(if opcode == $unit::SPEC.opcode {
                    return Some($unit::take(body).map(Into::into));
                })*
                None
            }

            /// All operations.
            #[cfg(test)]
            pub(crate) fn strategy() -> impl proptest::strategy::Strategy<Value = Self> {
                use proptest::strategy::Strategy;
                proptest::prop_oneof![
                    $($variant::strategy().prop_map(Self::from),)*
                    $($unit::strategy().prop_map(Self::from),)*
                ]
            }
        }

        $(impl From<$variant> for Operation {
            fn from(command: $variant) -> Self {
                Self::$variant(command.into())
            }
        })*

        $(impl From<$unit> for Operation {
            fn from($unit {}: $unit) -> Self {
                Self::$unit
            }
        })*
    };
}

operations! {
    ItemPut(Box<ItemPut>),
    ItemGet(ItemGet),
    StockAdd(Box<StockAdd>),
    StockGet(StockGet),
    Checkout(Box<Checkout>),
    OrderGet(OrderGet),
    OrderList(OrderList),
    OrderConfirm(OrderConfirm),
    OrderCancel(OrderCancel),
    OrderExtend(OrderExtend);
    Audit
}

impl Operation {
    /// The command that these words are.
    ///
    /// # Errors
    /// The reply to send at once: a refusal, or what is clear without asking the shop.
    pub fn of_words(words: &[&str]) -> Result<Self, Reply> {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for word in words {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(word.as_bytes());
            ranges.push((start, bytes.len() as u32));
        }
        let name = words.first().copied().unwrap_or_default();
        let spec = Self::SPECS.iter().find(|spec| spec.name.eq_ignore_ascii_case(name));
        let spec = spec.ok_or_else(|| Error::malformed(format_args!("unknown command '{name}'")))?;
        (spec.parse)(Arguments::new(&bytes, &ranges))
    }

    /// Whether it changes anything.
    pub const fn writes(&self) -> bool {
        self.spec().flags.has(Flags::WRITE)
    }

    /// The slot whose shard coordinates this operation: that of what it is about. `None` for operations over everything.
    pub fn home(&self) -> Option<Slot> {
        self.subject().map(Home::slot)
    }
}
