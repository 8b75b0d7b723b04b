//! What a command sees of the keyspace while it runs.

use crate::engine::ids::Timestamp;

/// The keys of one request, to be read and changed by its commands one after the other.
#[derive(Debug)]
pub struct Keys<'a> {
    /// The step's time.
    pub(super) now: Timestamp,
    pub(super) marker: std::marker::PhantomData<&'a ()>,
}
