//! Which arguments of a command are keys.
//!
//! Part of the command table; read by `COMMAND`, `COMMAND GETKEYS` and by whatever sends a command to its shards.

use cartwright_protocol::resp::{Arguments, parse_u64};

use crate::engine::KeyPlaces;

/// Where a command's keys stand. Arguments count from its name, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum KeyPositions {
    /// Nowhere.
    None,
    /// From `first` to `last` (negative: from the end, −1 being the last) in steps of `step`.
    Range {
        /// The first key.
        first: i16,
        /// The last one.
        last: i16,
        /// 1, or more where something stands between the keys.
        step: i16,
    },
    /// The argument at `count_at` says how many keys follow it.
    #[allow(dead_code, reason = "scripts and set operations have such keys")]
    Counted {
        /// Where the count stands.
        count_at: u16,
    },
}

const fn range(first: i16, last: i16, step: i16) -> KeyPositions {
    KeyPositions::Range { first, last, step }
}

/// The first argument.
pub(in crate::session) const ONE_KEY: KeyPositions = range(1, 1, 1);

/// All arguments.
pub(in crate::session) const ALL_KEYS: KeyPositions = range(1, -1, 1);

/// The first two arguments.
pub(in crate::session) const TWO_KEYS: KeyPositions = range(1, 2, 1);

/// Every other argument, each followed by a value.
pub(in crate::session) const KEYS_AND_VALUES: KeyPositions = range(1, -1, 2);

/// The argument behind a container's subcommand.
pub(in crate::session) const KEY_OF_SUBCOMMAND: KeyPositions = range(2, 2, 1);

/// All arguments but the first, which is no key.
pub(in crate::session) const KEYS_FROM_SECOND: KeyPositions = range(2, -1, 1);

impl KeyPositions {
    /// First, last and step as `COMMAND` tells them; zeros where they cannot be told that way.
    pub(in crate::session) const fn told(self) -> (i64, i64, i64) {
        match self {
            Self::Range { first, last, step } => (first as i64, last as i64, step as i64),
            Self::None | Self::Counted { .. } => (0, 0, 0),
        }
    }

    /// The places of the keys in these arguments, of which there may be none. `None` where a count is none.
    #[inline]
    pub(in crate::session) fn of(self, arguments: Arguments<'_>) -> Option<KeyPlaces> {
        match self {
            Self::None => Some(KeyPlaces::NONE),
            Self::Range { first, last, step } => Some(KeyPlaces::of_row(first, last, step, arguments.len())),
            Self::Counted { count_at } => {
                let first = usize::from(count_at) + 1;
                let count = usize::try_from(parse_u64(arguments.get(first - 1)?)?).ok()?;
                let is_possible = count > 0 && count <= arguments.len() - first;
                is_possible.then_some(KeyPlaces {
                    first: first as u32,
                    count: count as u32,
                    step: 1,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::OwnedArguments;

    fn places(positions: KeyPositions, line: &str) -> Option<Vec<usize>> {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        let arguments = OwnedArguments::of(&words);
        positions.of(arguments.get()).map(|places| places.indices().collect())
    }

    #[test]
    fn keys_stand_where_the_table_says() {
        assert_eq!(places(KeyPositions::None, "ping a b"), Some(vec![]));
        assert_eq!(places(ONE_KEY, "get a"), Some(vec![1]));
        assert_eq!(places(ONE_KEY, "get"), Some(vec![]));
        assert_eq!(places(TWO_KEYS, "rename a b"), Some(vec![1, 2]));
        assert_eq!(places(ALL_KEYS, "del a b c"), Some(vec![1, 2, 3]));
        assert_eq!(places(KEYS_AND_VALUES, "mset a 1 b 2"), Some(vec![1, 3]));
        assert_eq!(places(KEYS_FROM_SECOND, "bitop and a b"), Some(vec![2, 3]));
        assert_eq!(places(KEY_OF_SUBCOMMAND, "object freq a"), Some(vec![2]));
        let counted = KeyPositions::Counted { count_at: 1 };
        assert_eq!(places(counted, "eval 2 a b c"), Some(vec![2, 3]));
        for bad in ["eval 0 a", "eval x a", "eval 3 a b", "eval"] {
            assert_eq!(places(counted, bad), None, "{bad}");
        }
    }
}
