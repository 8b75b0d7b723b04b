//! The session's guarantees.
