//! Properties of the keyspace.
