//! The keyspace: Redis's keys and values, beside the shop and apart from it.
//!
//! - [`request`]: what a session asks; [`answer`]: what it is answered; [`bytes`]: both's bytes
//! - [`keys`]: what a command sees while it runs

pub mod answer;
pub mod bytes;
pub mod keys;
pub mod request;
pub mod run;
pub mod scan;

pub use answer::Answer;
pub use bytes::ValueBytes;
pub use keys::Keys;
pub use request::{Invocation, KeyCommand, KeyPlaces, KeyRequest, OwnedArguments, Scope, Watched};
pub use run::KeyMessage;
