//! What a command is like: Redis's words for it, and a few of our own that clients never see.
//!
//! Part of every row of the command table; a set in one integer, since every command's dispatch asks for some of them.

/// A set of properties of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal, $name:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*

            /// Flag and word, in the order in which Redis prints them; our own have no word.
            const NAMES: &[(Self, &str)] = &[$((Self::$constant, $name),)*];
        }
    };
}

flags! {
    /// It may change something.
    WRITE = 0, "write";
    /// It changes nothing.
    READONLY = 1, "readonly";
    /// Memory may grow by it.
    DENYOOM = 2, "denyoom";
    /// It is for administrators.
    ADMIN = 3, "admin";
    /// It is about channels.
    PUBSUB = 4, "pubsub";
    /// Scripts may not call it.
    NOSCRIPT = 5, "noscript";
    /// Its answer differs from time to time.
    RANDOM = 6, "";
    /// It may wait.
    BLOCKING = 7, "blocking";
    /// It is answered while data is loaded.
    LOADING = 8, "loading";
    /// It is answered from old data.
    STALE = 9, "stale";
    /// It takes constant time, or nearly.
    FAST = 10, "fast";
    /// It needs no password.
    NO_AUTH = 11, "no_auth";
    /// It may have an effect elsewhere though it writes nothing.
    MAY_REPLICATE = 12, "may_replicate";
    /// It may not stand in a transaction.
    NO_MULTI = 13, "no_multi";
    /// Its arguments alone say which of them are keys.
    MOVABLE_KEYS = 14, "movablekeys";
    /// It is answered while a script runs.
    ALLOW_BUSY = 15, "allow_busy";
    /// What it changes may be as long as a value that is there, however short its arguments.
    CARRIES = 22, "";
    /// All that it changes is that something is not there any more: a full table takes it.
    REMOVES_ONLY = 23, "";
    /// Runs when everything before it on its connection is answered, since it changes what the connection gets from then
    /// on.
    IN_TURN = 24, "";
    /// RESP2 takes it from a connection that is subscribed.
    WHEN_SUBSCRIBED = 25, "";
    /// Acts on the transaction that is being queued, and so is not queued itself.
    NOT_QUEUED = 26, "";
    /// Is answered, or not, whatever `CLIENT REPLY` said before.
    NEVER_MUTE = 27, "";
}

impl Flags {
    /// No property.
    pub const NONE: Self = Self(0);

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Redis's words for them.
    pub fn words(self) -> Vec<&'static str> {
        let told = Self::NAMES
            .iter()
            .filter(|(flag, word)| !word.is_empty() && self.has(*flag));
        told.map(|(_, word)| *word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_redis_are_told() {
        let flags = Flags::WRITE.and(Flags::FAST).and(Flags::IN_TURN);
        assert_eq!(flags.words(), ["write", "fast"]);
        assert!(flags.has(Flags::IN_TURN) && !flags.has(Flags::WRITE.and(Flags::READONLY)));
    }
}
