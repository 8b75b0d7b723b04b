//! Which arguments of a command are keys.
//!
//! Part of the command table; read by `COMMAND`, `COMMAND GETKEYS` and by whatever sends a command to its shards.

use cartwright_protocol::resp::{Arguments, parse_u64};

/// Where a command's keys stand. Arguments count from its name, which is 0.
#[derive(Clone, Copy)]
pub(in crate::session) enum KeyPositions {
    /// Nowhere.
    None,
    /// From `first` to `last` (negative: from the end, −1 being the last) in steps of `step`.
    Range {
        /// The first key.
        first: u8,
        /// The last one.
        last: i8,
        /// 1, or more where something stands between the keys.
        step: u8,
    },
    /// The argument at `count_at` says how many keys follow it.
    Counted {
        /// Where the count stands.
        count_at: u8,
    },
    /// Wherever the function says; `None` where the arguments make no sense.
    #[allow(dead_code, reason = "no command of today has keys behind an option")]
    Found(fn(Arguments<'_>) -> Option<Vec<usize>>),
}

/// The first argument.
pub(in crate::session) const ONE_KEY: KeyPositions = KeyPositions::Range {
    first: 1,
    last: 1,
    step: 1,
};

/// All arguments.
pub(in crate::session) const ALL_KEYS: KeyPositions = KeyPositions::Range {
    first: 1,
    last: -1,
    step: 1,
};

/// The first two arguments.
pub(in crate::session) const TWO_KEYS: KeyPositions = KeyPositions::Range {
    first: 1,
    last: 2,
    step: 1,
};

/// Every other argument, each followed by a value.
pub(in crate::session) const KEYS_AND_VALUES: KeyPositions = KeyPositions::Range {
    first: 1,
    last: -1,
    step: 2,
};

impl KeyPositions {
    /// First, last and step as `COMMAND` tells them; zeros where they cannot be told that way.
    pub(in crate::session) const fn told(self) -> (i64, i64, i64) {
        match self {
            Self::Range { first, last, step } => (first as i64, last as i64, step as i64),
            Self::None | Self::Counted { .. } | Self::Found(_) => (0, 0, 0),
        }
    }

    /// The places of the keys in these arguments, of which there may be none. `None` where a count is none.
    pub(in crate::session) fn of(self, arguments: Arguments<'_>) -> Option<Places> {
        let length = arguments.len();
        let places = |next: usize, end: usize, step: usize| Places::Range { next, end, step };
        Some(match self {
            Self::None => places(0, 0, 1),
            Self::Range { first, last, step } => {
                let end = if last < 0 {
                    (length + 1).saturating_sub(usize::from(last.unsigned_abs()))
                } else {
                    (usize::from(last.unsigned_abs()) + 1).min(length)
                };
                places(usize::from(first), end, usize::from(step))
            }
            Self::Counted { count_at } => {
                let first = usize::from(count_at) + 1;
                let count = usize::try_from(parse_u64(arguments.get(first - 1)?)?).ok()?;
                if count == 0 || count > length - first {
                    return None;
                }
                places(first, first + count, 1)
            }
            Self::Found(find) => Places::Listed(find(arguments)?.into_iter()),
        })
    }
}

/// Iterates over the places of keys.
#[derive(Clone)]
pub(in crate::session) enum Places {
    Range { next: usize, end: usize, step: usize },
    Listed(std::vec::IntoIter<usize>),
}

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        match self {
            Self::Range { next, end, step } => (*next < *end).then(|| {
                let place = *next;
                *next += *step;
                place
            }),
            Self::Listed(places) => places.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::resp::{ParserLimits, RequestParser};

    use super::*;

    fn places(positions: KeyPositions, line: &str) -> Option<Vec<usize>> {
        let bytes = format!("{line}\r\n").into_bytes();
        let mut parser = RequestParser::new(ParserLimits::REDIS);
        parser.parse(&bytes).unwrap().expect("a whole line");
        positions.of(parser.arguments(&bytes)).map(Iterator::collect)
    }

    #[test]
    fn keys_stand_where_the_table_says() {
        assert_eq!(places(KeyPositions::None, "ping a b"), Some(vec![]));
        assert_eq!(places(ONE_KEY, "get a"), Some(vec![1]));
        assert_eq!(places(ONE_KEY, "get"), Some(vec![]));
        assert_eq!(places(TWO_KEYS, "rename a b"), Some(vec![1, 2]));
        assert_eq!(places(ALL_KEYS, "del a b c"), Some(vec![1, 2, 3]));
        assert_eq!(places(KEYS_AND_VALUES, "mset a 1 b 2"), Some(vec![1, 3]));
        let counted = KeyPositions::Counted { count_at: 1 };
        assert_eq!(places(counted, "eval 2 a b c"), Some(vec![2, 3]));
        for bad in ["eval 0 a", "eval x a", "eval 3 a b", "eval"] {
            assert_eq!(places(counted, bad), None, "{bad}");
        }
        assert_eq!(places(KeyPositions::Found(|_| Some(vec![2])), "a b c"), Some(vec![2]));
    }
}
