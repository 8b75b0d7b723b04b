//! Which arguments of a command are keys.
//!
//! Part of every row of the command table; read by `COMMAND`, `COMMAND GETKEYS` and by whatever sends a command to its shards.

use crate::resp::{Arguments, parse_u64};

/// Where a command's keys stand. Arguments count from its name, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPositions {
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
    Counted {
        /// Where the count stands.
        count_at: u16,
    },
}

const fn range(first: i16, last: i16, step: i16) -> KeyPositions {
    KeyPositions::Range { first, last, step }
}

/// The first argument.
pub const ONE_KEY: KeyPositions = range(1, 1, 1);

/// All arguments.
pub const ALL_KEYS: KeyPositions = range(1, -1, 1);

/// The first two arguments.
pub const TWO_KEYS: KeyPositions = range(1, 2, 1);

/// Every other argument, each followed by a value.
pub const KEYS_AND_VALUES: KeyPositions = range(1, -1, 2);

/// The argument behind a container's subcommand.
pub const KEY_OF_SUBCOMMAND: KeyPositions = range(2, 2, 1);

/// All arguments but the first, which is no key.
pub const KEYS_FROM_SECOND: KeyPositions = range(2, -1, 1);

impl KeyPositions {
    /// First, last and step as `COMMAND` tells them; zeros where they cannot be told that way.
    pub const fn told(self) -> (i64, i64, i64) {
        match self {
            Self::Range { first, last, step } => (first as i64, last as i64, step as i64),
            Self::None | Self::Counted { .. } => (0, 0, 0),
        }
    }

    /// The places of the keys in these arguments, of which there may be none. `None` where a count is none.
    #[inline]
    pub fn of(self, arguments: Arguments<'_>) -> Option<KeyPlaces> {
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

/// Which arguments are keys: every `step`th from `first`, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPlaces {
    /// Index of the first; the command's name is 0.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// From one to the next.
    pub step: u32,
}

impl KeyPlaces {
    /// None.
    pub const NONE: Self = Self {
        first: 0,
        count: 0,
        step: 1,
    };

    /// As a row of Redis's command table says: `last` counts from the end where it is negative.
    pub fn of_row(first: i16, last: i16, step: i16, argument_count: usize) -> Self {
        let count = argument_count as i64;
        let last = if last < 0 {
            count + i64::from(last)
        } else {
            i64::from(last)
        };
        let (first, step) = (i64::from(first), i64::from(step.max(1)));
        if first <= 0 || last < first || first >= count {
            return Self::NONE;
        }
        Self {
            first: first as u32,
            count: ((last.min(count - 1) - first) / step + 1) as u32,
            step: step as u32,
        }
    }

    /// The arguments' indices.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |key| (self.first + key * self.step) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(positions: KeyPositions, line: &str) -> Option<Vec<usize>> {
        let (mut ranges, mut start) = (Vec::new(), 0);
        for word in line.split(' ') {
            ranges.push((start, start + word.len() as u32));
            start += word.len() as u32 + 1;
        }
        let arguments = Arguments::new(line.as_bytes(), &ranges);
        positions.of(arguments).map(|places| places.indices().collect())
    }

    #[test]
    fn places_of_keys_are_those_of_the_row() {
        let places = |first, last, step, count| {
            KeyPlaces::of_row(first, last, step, count)
                .indices()
                .collect::<Vec<_>>()
        };
        assert_eq!(places(1, 1, 1, 3), [1]);
        assert_eq!(places(1, -1, 1, 4), [1, 2, 3]);
        assert_eq!(places(1, -1, 2, 5), [1, 3]);
        assert_eq!(places(2, -1, 1, 5), [2, 3, 4]);
        assert_eq!(places(1, 2, 1, 3), [1, 2]);
        assert!(places(0, 0, 0, 2).is_empty());
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
