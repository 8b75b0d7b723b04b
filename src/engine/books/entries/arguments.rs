//! A command's arguments as a request carries them, and which of them are keys.
//!
//! Made by a session, or by a test; read by the command, and by whatever asks which keys a request is about.

use cartwright_protocol::resp::Arguments;
use smallvec::SmallVec;

/// A command's arguments with their bytes: one piece of memory, none for short commands.
#[derive(Clone)]
pub struct OwnedArguments {
    bytes: SmallVec<[u8; 96]>,
    ranges: SmallVec<[(u32, u32); 4]>,
}

impl OwnedArguments {
    /// A copy.
    pub fn new(arguments: Arguments<'_>) -> Self {
        let mut bytes = SmallVec::with_capacity(arguments.iter().map(<[u8]>::len).sum());
        let mut ranges = SmallVec::with_capacity(arguments.len());
        for argument in arguments.iter() {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(argument);
            ranges.push((start, bytes.len() as u32));
        }
        Self { bytes, ranges }
    }

    /// Of these, for instance in a test.
    pub fn of(arguments: &[&[u8]]) -> Self {
        let mut bytes = SmallVec::new();
        let mut ranges = SmallVec::new();
        for argument in arguments {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(argument);
            ranges.push((start, bytes.len() as u32));
        }
        Self { bytes, ranges }
    }

    /// To be read.
    #[inline]
    pub fn get(&self) -> Arguments<'_> {
        Arguments::new(&self.bytes, &self.ranges)
    }

    /// Bytes of all arguments together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl std::fmt::Debug for OwnedArguments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(formatter)
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
}
