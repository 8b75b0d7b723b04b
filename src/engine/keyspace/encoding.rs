//! Strings and numbers as effects and images hold them: lengths in seven bits a byte, then the bytes.

use cartwright_protocol::resp::Arguments;

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
    pub(super) fn len(&self) -> usize {
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

pub(super) fn put_number(log: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        log.push(number as u8 | 0x80);
        number >>= 7;
    }
    log.push(number as u8);
}

pub(super) fn put_string(log: &mut Vec<u8>, string: &[u8]) {
    put_number(log, string.len() as u64);
    log.extend_from_slice(string);
}

/// Reads back what was put; `None` where there is something else.
pub(super) struct Reader<'a> {
    /// What is left.
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    pub(super) fn strings(&mut self) -> Option<Strings<'a>> {
        let count = usize::try_from(self.number()?).ok()?;
        let before = self.bytes;
        for _ in 0..count {
            self.string()?;
        }
        Some(Strings::Encoded(count, &before[..before.len() - self.bytes.len()]))
    }
}
