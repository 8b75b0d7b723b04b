//! What the kernel asks of a book. The list of books is [`crate::engine::books`]; the kernel names nothing else of them.

use cartwright_protocol::{Key, Reply};

use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::request_keys::Scope;

/// A thing of a book that holds the request key that made it.
pub trait HoldsKey {
    /// Whether it holds this key in this scope.
    fn holds(&self, scope: &Scope, key: &Key) -> bool;

    /// What [`Scope::key_hash`] says of its key.
    fn key_hash(&self) -> u32;

    /// Which request made it.
    fn request_fingerprint(&self) -> u64;

    /// When it was made.
    fn key_used_at(&self) -> Timestamp;

    /// What was answered.
    fn reply(&self) -> Reply;

    /// The key's part in the hash of the whole state.
    fn hash_key(&self, fingerprint: &mut Fingerprint) -> u64;
}
