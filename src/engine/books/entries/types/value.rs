//! The list of the types of value, and a value of any of them.
//!
//! Closed enums over the list: a call goes to the type that a value is of by a `match`, never through a pointer.

use std::sync::Arc;

use super::super::encoding::Reader;
use super::hash::Hash;
#[cfg(test)]
use super::pile::{self, Pile};
use super::string::StringValue;
use super::value_type::{TypeChange, ValueType};
use super::{hash, string};
use crate::engine::kernel::hashing::Fingerprint;

/// A type that entries can be of.
pub trait Held: ValueType {
    /// The value, where it is of this type.
    fn of(value: &Value) -> Option<&Self>;
}

/// Makes [`Value`], [`Change`] and [`Pieces`] from the list: a type's folder, its name here, what of it an entry holds, and
/// what of that a command sees.
macro_rules! value_types {
    ($($(#[doc = $doc:literal])* $([$cfg:meta])? $folder:ident: $name:ident($held:ty) as $seen:ty,)+) => {
        /// A value.
        #[derive(Clone, Debug)]
        pub enum Value {
            $($(#[doc = $doc])* $(#[cfg($cfg)])? $name($held),)+
        }

        /// What a command changes of a value, or makes where there is none.
        #[derive(Clone, Copy, Debug)]
        pub enum Change<'a> {
            $($(#[doc = $doc])* $(#[cfg($cfg)])? $name($folder::Change<'a>),)+
        }

        /// A large value on its way into a checkpoint.
        #[derive(Debug)]
        pub enum Pieces {
            $($(#[doc = $doc])* $(#[cfg($cfg)])? $name(<$held as ValueType>::Pieces),)+
        }

        $(
            $(#[cfg($cfg)])?
            impl From<$held> for Value {
                #[inline]
                fn from(held: $held) -> Self {
                    Self::$name(held)
                }
            }

            $(#[cfg($cfg)])?
            impl<'a> From<$folder::Change<'a>> for Change<'a> {
                fn from(change: $folder::Change<'a>) -> Self {
                    Self::$name(change)
                }
            }

            $(#[cfg($cfg)])?
            impl Held for $seen {
                #[inline]
                fn of(value: &Value) -> Option<&Self> {
                    match value {
                        Value::$name(held) => Some(held),
                        #[allow(unreachable_patterns, reason = "a list of one type")]
                        _ => None,
                    }
                }
            }
        )+

        /// What effects with a change begin with, of each type.
        pub const CHANGE_KINDS: &[&[u8]] = &[$($(#[cfg($cfg)])? $folder::Change::KINDS),+];

        const _: () = {
            assert!(are_apart(CHANGE_KINDS), "a kind of effect is used twice");
            assert!(are_apart(&[$($(#[cfg($cfg)])? <$held>::IMAGE_KINDS),+]), "a kind of image is used twice");
            assert!(are_apart(&[$($(#[cfg($cfg)])? &[<$held>::NUMBER as u8]),+]), "a type's number is used twice");
        };

        impl Value {
            /// Redis's word for its type.
            pub const fn type_name(&self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(_) => <$held>::NAME,)+
                }
            }

            /// What stands for its type in the hash of the state.
            pub const fn type_number(&self) -> u64 {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(_) => <$held>::NUMBER,)+
                }
            }

            /// What Redis 7.2 would answer to `OBJECT ENCODING`.
            pub fn encoding(&self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.encoding(),)+
                }
            }

            /// Memory beside the entry itself, in bytes.
            pub fn heap_bytes(&self) -> usize {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.heap_bytes(),)+
                }
            }

            /// What Redis would answer to `OBJECT REFCOUNT`.
            pub fn references(&self) -> i64 {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.references(),)+
                }
            }

            /// Has the memory fetched that a command will look at first.
            pub fn prefetch(&self) {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.prefetch(),)+
                }
            }

            /// Whether its key goes with it: nothing is left of what it consisted of.
            pub fn is_gone(&self) -> bool {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.is_gone(),)+
                }
            }

            /// Applies a change.
            ///
            /// # Panics
            /// Where it is one of another type: it was not made for this value.
            #[inline]
            pub fn apply(&mut self, change: Change<'_>) {
                match (self, change) {
                    $($(#[cfg($cfg)])? (Self::$name(held), Change::$name(change)) => held.apply(change),)+
                    #[allow(unreachable_patterns, reason = "a list of one type")]
                    (value, change) => panic!("a record does {change:?} to a {}", value.type_name()),
                }
            }

            /// Adds the image of the whole value, its kind first.
            pub fn put_image(&self, image: &mut Vec<u8>) {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.put_image(image),)+
                }
            }

            /// How long that is, at most; found without a look at each element.
            pub fn image_bytes_max(&self) -> usize {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.image_bytes_max(),)+
                }
            }

            /// The value of an image, if it is one.
            pub fn read_image(image: &[u8]) -> Option<Self> {
                let (&kind, body) = image.split_first()?;
                $(
                    $(#[cfg($cfg)])?
                    if <$held>::IMAGE_KINDS.contains(&kind) {
                        return <$held>::read_image(kind, body).map(Self::$name);
                    }
                )+
                None
            }

            /// The same value, encoded as it would be if commands had made it.
            #[must_use]
            pub fn encoded_anew(self) -> Self {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => Self::$name(held.encoded_anew()),)+
                }
            }

            /// The value in pieces, where it is too large for one.
            pub fn pieces(&self) -> Option<Pieces> {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.pieces().map(Pieces::$name),)+
                }
            }

            /// Adds a later piece, read back; `None` where it is none that can follow.
            pub fn add_piece(&mut self, image: &[u8]) -> Option<()> {
                let (&kind, body) = image.split_first()?;
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.add_piece(kind, body),)+
                }
            }

            /// Adds to its entry's part in the hash of the state what its elements do not say.
            pub fn hash_into(&self, entry: &mut Fingerprint) {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.hash_into(entry),)+
                }
            }

            /// The sum of its elements' hashes.
            pub fn elements_hash(&self, fingerprint: &mut Fingerprint, key: &[u8]) -> u64 {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(held) => held.elements_hash(fingerprint, key),)+
                }
            }
        }

        impl<'a> Change<'a> {
            /// What an effect with it begins with.
            #[inline]
            pub fn kind(&self) -> u8 {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(change) => change.kind(),)+
                }
            }

            /// Adds what stands behind the key in an effect.
            #[inline]
            pub fn put(&self, log: &mut Vec<u8>) {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(change) => change.put(log),)+
                }
            }

            /// Reads what stands there back; `None` where it is none of this kind.
            pub fn take(kind: u8, reader: &mut Reader<'a>) -> Option<Self> {
                $(
                    $(#[cfg($cfg)])?
                    if $folder::Change::KINDS.contains(&kind) {
                        return $folder::Change::take(kind, reader).map(Self::$name);
                    }
                )+
                None
            }

            /// What it makes of a key that is not there; `None`: it needs one that is.
            #[inline]
            pub fn make(self) -> Option<Value> {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(change) => <$held>::made_by(change).map(Value::$name),)+
                }
            }
        }

        impl Pieces {
            /// The image of the next piece; `None` at the end. The key that goes with it has so many bytes.
            pub fn next(&mut self, key_bytes: usize) -> Option<Vec<u8>> {
                match self {
                    $($(#[cfg($cfg)])? Self::$name(pieces) => <$held>::next_piece(pieces, key_bytes),)+
                }
            }
        }
    };
}

value_types! {
    /// Bytes.
    string: String(StringValue) as StringValue,
    /// Fields with values; never empty.
    hash: Hash(Arc<Hash>) as Hash,
    /// What no command makes: for tests of all that holds entries.
    [test] pile: Pile(Arc<Pile>) as Pile,
}

/// Whether no number stands twice in these lists.
pub const fn are_apart(lists: &[&[u8]]) -> bool {
    let mut is_used = [false; 256];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            let number = lists[list][at] as usize;
            if is_used[number] {
                return false;
            }
            is_used[number] = true;
            at += 1;
        }
        list += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_three_words() {
        assert_eq!(size_of::<Value>(), 24);
    }

    #[test]
    fn a_number_that_two_types_use_is_found() {
        assert!(are_apart(&[&[1, 2], &[3], &[0, 255]]));
        assert!(!are_apart(&[&[1, 2], &[3], &[4, 2]]));
        assert!(!are_apart(&[&[1, 1]]));
    }

    #[test]
    #[should_panic = "to a string"]
    fn a_change_of_another_type_is_none_of_the_value() {
        let fields = super::super::super::encoding::Strings::Slices(&[b"f", b"v"]);
        Value::from(StringValue::new(b"text")).apply(hash::Change::Set(fields).into());
    }
}
