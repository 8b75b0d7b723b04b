//! What a completion belongs to: the 64 bits that travel through the kernel with each operation.
//!
//! Made and read by [`super::network`]'s ring. A connection's generation is part of it, so that a late completion for a
//! closed connection is told from one for its successor in the same place.

use cartwright_ring::Tag;

/// A connection of one shard: its place, and which of the connections that were ever there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Index among the shard's connections.
    pub index: u32,
    /// Counts up with each use of the place; wraps at [`GENERATION_COUNT`].
    pub generation: u32,
}

/// How many generations are told apart: the bits that a token has left.
pub const GENERATION_COUNT: u32 = 1 << GENERATION_BITS;

const INDEX_BITS: u32 = 32;
const GENERATION_BITS: u32 = 24;

/// An operation under way in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The listener's multishot accept.
    Accept,
    /// A connection's multishot receive.
    Receive(ConnectionId),
    /// A connection's one send.
    Send(ConnectionId),
    /// Part of a log sync, by its number within the group.
    Sync(u32),
    /// The one timer.
    Timer,
}

impl Tag for Token {
    fn to_bits(self) -> u64 {
        let (kind, id) = match self {
            Self::Accept => (0, NOBODY),
            Self::Receive(id) => (1, id),
            Self::Send(id) => (2, id),
            Self::Sync(part) => (
                3,
                ConnectionId {
                    index: part,
                    generation: 0,
                },
            ),
            Self::Timer => (4, NOBODY),
        };
        debug_assert!(
            id.generation < GENERATION_COUNT,
            "a generation is below {GENERATION_COUNT}"
        );
        kind << (INDEX_BITS + GENERATION_BITS) | u64::from(id.generation) << INDEX_BITS | u64::from(id.index)
    }

    fn from_bits(bits: u64) -> Self {
        let index = bits as u32;
        let id = ConnectionId {
            index,
            generation: (bits >> INDEX_BITS) as u32 & (GENERATION_COUNT - 1),
        };
        match bits >> (INDEX_BITS + GENERATION_BITS) {
            0 => Self::Accept,
            1 => Self::Receive(id),
            2 => Self::Send(id),
            3 => Self::Sync(index),
            4 => Self::Timer,
            kind => unreachable!("the ring hands back only user data that it was given, and {kind} is no kind"),
        }
    }
}

const NOBODY: ConnectionId = ConnectionId {
    index: 0,
    generation: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_way_through_the_kernel() {
        let id = ConnectionId {
            index: u32::MAX,
            generation: GENERATION_COUNT - 1,
        };
        let tokens = [
            Token::Accept,
            Token::Receive(id),
            Token::Send(id),
            Token::Sync(u32::MAX),
            Token::Timer,
        ];
        for token in tokens {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
