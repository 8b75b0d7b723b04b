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
