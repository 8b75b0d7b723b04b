//! What commands are for.
//!
//! Part of every row of the command table; read by `COMMAND`, by `ACL`'s categories and by the README's list.

/// What a command is for, in Redis's division; the order is that of the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The shop.
    Shop,
    /// Keys of any type.
    Keys,
    /// Strings.
    Strings,
    /// Bits of strings.
    Bits,
    /// Hashes.
    Hashes,
    /// Transactions.
    Transactions,
    /// Channels.
    PubSub,
    /// The connection.
    Connection,
    /// The server.
    Server,
}

impl Group {
    /// As `COMMAND DOCS` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Keys => "generic",
            Self::Strings => "string",
            Self::Bits => "bitmap",
            Self::Hashes => "hash",
            Self::Transactions => "transactions",
            Self::PubSub => "pubsub",
            Self::Connection => "connection",
            Self::Server => "server",
        }
    }

    /// The category of `ACL` that all its commands are in.
    pub const fn category(self) -> Option<&'static str> {
        match self {
            Self::Shop => Some("@shop"),
            Self::Keys => Some("@keyspace"),
            Self::Strings => Some("@string"),
            Self::Bits => Some("@bitmap"),
            Self::Hashes => Some("@hash"),
            Self::Transactions => Some("@transaction"),
            Self::PubSub => Some("@pubsub"),
            Self::Connection => Some("@connection"),
            Self::Server => None,
        }
    }
}
