//! Lists of strings as effects and images hold them.

use cartwright_protocol::resp::Arguments;

pub(super) use cartwright_core::codec::{Reader, put_number, put_string};

/// Bytes of the length of a string, at most.
pub const LENGTH_BYTES_MAX: usize = 5;

/// A list of strings, wherever they stand.
#[derive(Clone, Copy, Debug)]
pub enum Strings<'a> {
    /// Arguments of a command.
    Arguments(Arguments<'a>),
    /// Some of them, or others.
    Slices(&'a [&'a [u8]]),
    /// One after the other with their lengths, so many.
    Encoded(usize, &'a [u8]),
}

impl<'a> Strings<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Arguments(arguments) => arguments.len(),
            Self::Slices(slices) => slices.len(),
            Self::Encoded(count, _) => *count,
        }
    }

    /// Calls `visit` for each.
    pub fn each(self, mut visit: impl FnMut(&'a [u8])) {
        match self {
            Self::Arguments(arguments) => arguments.iter().for_each(visit),
            Self::Slices(slices) => slices.iter().for_each(|slice| visit(slice)),
            Self::Encoded(count, bytes) => {
                let mut reader = Reader { bytes };
                for _ in 0..count {
                    visit(reader.string().expect("looked through when it was decoded"));
                }
            }
        }
    }

    /// Calls `visit` for each two that follow one another.
    pub fn each_pair(self, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
        let mut first = None;
        self.each(|string| match first.take() {
            None => first = Some(string),
            Some(first) => visit(first, string),
        });
    }
}

/// Adds a list of strings.
pub(super) fn put_strings(bytes: &mut Vec<u8>, strings: Strings<'_>) {
    put_number(bytes, strings.len() as u64);
    strings.each(|string| put_string(bytes, string));
}

/// Takes a list of strings.
pub(super) fn take_strings<'a>(reader: &mut Reader<'a>) -> Option<Strings<'a>> {
    let count = usize::try_from(reader.number()?).ok()?;
    let before = reader.bytes;
    for _ in 0..count {
        reader.string()?;
    }
    Some(Strings::Encoded(count, &before[..before.len() - reader.bytes.len()]))
}
