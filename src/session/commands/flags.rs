//! What a command is like: Redis's words for it, and a few of our own that clients never see.
//!
//! Part of the command table; a set in one integer, since every command's dispatch asks for some of them.

/// A set of properties of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct Flags(u32);

macro_rules! flags {
    ($($constant:ident = $bit:literal, $name:literal;)*) => {
        impl Flags {
            $(pub(in crate::session) const $constant: Self = Self(1 << $bit);)*

            /// Flag and word, in the order in which Redis prints them; our own have no word.
            const NAMES: &[(Self, &str)] = &[$((Self::$constant, $name),)*];
        }
    };
}

flags! {
    WRITE = 0, "write";
    READONLY = 1, "readonly";
    DENYOOM = 2, "denyoom";
    ADMIN = 3, "admin";
    PUBSUB = 4, "pubsub";
    NOSCRIPT = 5, "noscript";
    RANDOM = 6, "";
    BLOCKING = 7, "blocking";
    LOADING = 8, "loading";
    STALE = 9, "stale";
    FAST = 10, "fast";
    NO_AUTH = 11, "no_auth";
    MAY_REPLICATE = 12, "may_replicate";
    NO_MULTI = 13, "no_multi";
    MOVABLE_KEYS = 14, "movablekeys";
    ALLOW_BUSY = 15, "allow_busy";
    // Runs when everything before it on its connection is answered, since it changes what the connection gets from then
    // on.
    IN_TURN = 24, "";
    // RESP2 takes it from a connection that is subscribed.
    WHEN_SUBSCRIBED = 25, "";
    // Acts on the transaction that is being queued, and so is not queued itself.
    NOT_QUEUED = 26, "";
    // Is answered, or not, whatever `CLIENT REPLY` said before.
    NEVER_MUTE = 27, "";
}

impl Flags {
    /// No property.
    pub(in crate::session) const NONE: Self = Self(0);

    /// Those of both.
    pub(in crate::session) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[inline]
    pub(in crate::session) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Redis's words for them.
    pub(in crate::session) fn words(self) -> Vec<&'static str> {
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
