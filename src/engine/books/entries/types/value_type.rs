//! What a type of value has to do, to be held, changed, logged, shown and restored.
//!
//! Implemented once in each type's folder, and called through [`super::value`]. Names no type.

use std::fmt::Debug;
use std::sync::Arc;

use super::super::encoding::Reader;
use crate::engine::kernel::hashing::Fingerprint;

/// How long a piece of a checkpoint gets, but for an element that is longer by itself.
pub const PIECE_BYTES: usize = 64 << 10;

/// A change that commands make to values of one type, as it is logged, sent to other shards and applied.
///
/// It says all that is to be known by itself: applying it draws nothing and looks at no clock.
pub trait TypeChange<'a>: Copy + Debug {
    /// What each of its forms begins with in an effect. On disk: a number is never changed, nor used again.
    const KINDS: &'static [u8];

    /// That of this one.
    fn kind(&self) -> u8;

    /// Adds what stands behind the key in an effect.
    fn put(&self, log: &mut Vec<u8>);

    /// Reads what stands there back; `None` where it is none of this kind.
    fn take(kind: u8, reader: &mut Reader<'a>) -> Option<Self>;
}

/// A type of value.
///
/// Its clones are cheap, and see no later change: copies of tables, transactions over shards and checkpoints hold them.
/// A type whose values need memory of their own is held by an `Arc`, which copies what is shared before it is changed.
pub trait ValueType: Clone + Debug {
    /// Redis's word for it, as `TYPE` answers.
    const NAME: &'static str;

    /// What stands for it in the hash of the state. Stable for ever.
    const NUMBER: u64;

    /// What its images begin with, an encoding each. On disk: a number is never changed, nor used again.
    const IMAGE_KINDS: &'static [u8];

    /// What its commands change.
    type Change<'a>: TypeChange<'a>;

    /// A large value on its way into a checkpoint.
    type Pieces: Debug;

    /// What Redis 7.2 would answer to `OBJECT ENCODING`.
    fn encoding(&self) -> &'static str;

    /// Memory beside the entry itself, in bytes.
    fn heap_bytes(&self) -> usize;

    /// What Redis would answer to `OBJECT REFCOUNT`.
    fn references(&self) -> i64 {
        1
    }

    /// Has the memory fetched that a command will look at first.
    fn prefetch(&self) {}

    /// Whether its key goes with it: nothing is left of what it consisted of.
    fn is_gone(&self) -> bool;

    /// What a change makes of a key that is not there; `None`: it needs one that is.
    fn made_by(change: Self::Change<'_>) -> Option<Self>;

    /// Applies a change.
    fn apply(&mut self, change: Self::Change<'_>);

    /// Adds the image of the whole value, its kind first.
    fn put_image(&self, image: &mut Vec<u8>);

    /// How long that is, at most; found without a look at each element.
    fn image_bytes_max(&self) -> usize;

    /// The value of an image of this kind; `None` where it is none.
    fn read_image(kind: u8, body: &[u8]) -> Option<Self>;

    /// The same value, encoded as it would be if commands had made it: what `RESTORE` does.
    #[must_use]
    fn encoded_anew(self) -> Self;

    /// The value in pieces, where it is too large for one.
    fn pieces(&self) -> Option<Self::Pieces>;

    /// The image of the next piece, not much longer than [`PIECE_BYTES`], or than `key_bytes` where that is more, since
    /// the key is repeated with each piece; `None` at the end. The first is an image by itself.
    fn next_piece(pieces: &mut Self::Pieces, key_bytes: usize) -> Option<Vec<u8>>;

    /// Adds a later piece, read back; `None` where it is none that can follow.
    fn add_piece(&mut self, kind: u8, body: &[u8]) -> Option<()>;

    /// Adds to its entry's part in the hash of the state what its elements do not say. The encoding is no part of it.
    fn hash_into(&self, entry: &mut Fingerprint);

    /// The sum of its elements' hashes, each made with the key, so that their order does not matter.
    fn elements_hash(&self, _fingerprint: &mut Fingerprint, _key: &[u8]) -> u64 {
        0
    }
}

impl<T: ValueType> ValueType for Arc<T> {
    const NAME: &'static str = T::NAME;
    const NUMBER: u64 = T::NUMBER;
    const IMAGE_KINDS: &'static [u8] = T::IMAGE_KINDS;

    type Change<'a> = T::Change<'a>;
    type Pieces = T::Pieces;

    fn encoding(&self) -> &'static str {
        T::encoding(self)
    }

    fn heap_bytes(&self) -> usize {
        T::heap_bytes(self)
    }

    fn references(&self) -> i64 {
        T::references(self)
    }

    fn prefetch(&self) {
        T::prefetch(self);
    }

    fn is_gone(&self) -> bool {
        T::is_gone(self)
    }

    fn made_by(change: Self::Change<'_>) -> Option<Self> {
        T::made_by(change).map(Self::new)
    }

    fn apply(&mut self, change: Self::Change<'_>) {
        Self::make_mut(self).apply(change);
    }

    fn put_image(&self, image: &mut Vec<u8>) {
        T::put_image(self, image);
    }

    fn image_bytes_max(&self) -> usize {
        T::image_bytes_max(self)
    }

    fn read_image(kind: u8, body: &[u8]) -> Option<Self> {
        T::read_image(kind, body).map(Self::new)
    }

    fn encoded_anew(self) -> Self {
        Self::new(Self::unwrap_or_clone(self).encoded_anew())
    }

    fn pieces(&self) -> Option<Self::Pieces> {
        T::pieces(self)
    }

    fn next_piece(pieces: &mut Self::Pieces, key_bytes: usize) -> Option<Vec<u8>> {
        T::next_piece(pieces, key_bytes)
    }

    fn add_piece(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        Self::make_mut(self).add_piece(kind, body)
    }

    fn hash_into(&self, entry: &mut Fingerprint) {
        T::hash_into(self, entry);
    }

    fn elements_hash(&self, fingerprint: &mut Fingerprint, key: &[u8]) -> u64 {
        T::elements_hash(self, fingerprint, key)
    }
}
