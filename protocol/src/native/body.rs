//! The fields bodies are made of: little-endian integers, names under a length byte, texts under two.
//!
//! Called by the request and reply codecs. Never copies and never allocates.

/// What is wrong inside a frame whose checksum is right. The connection can go on: it costs only this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is shorter than its fields.
    #[error("the body ends within {0}")]
    Truncated(&'static str),
    /// The body is longer than its fields.
    #[error("{0} bytes follow the body's last field")]
    Trailing(usize),
    /// Not an opcode of this direction in this version.
    #[error("opcode 0x{0:02x} is not known")]
    Opcode(u8),
    /// Version 1 has no flags.
    #[error("flags 0x{0:04x} are not known")]
    Flags(u16),
    /// A field holds what it never may.
    #[error("{0} holds a value that it cannot have")]
    Value(&'static str),
}

impl From<BodyError> for crate::Reply {
    fn from(error: BodyError) -> Self {
        Self::Error(crate::Error::malformed(error))
    }
}

/// Reads a body from front to back; `field` names what is being read, for the error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], BodyError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BodyError::Truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], BodyError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(BodyError::Truncated(field))?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, BodyError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, BodyError> {
        self.array(field).map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, BodyError> {
        self.array(field).map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, BodyError> {
        self.array(field).map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, BodyError> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// A length byte and as many bytes.
    #[inline]
    pub(crate) fn name(&mut self, field: &'static str) -> Result<&'a [u8], BodyError> {
        let length = self.u8(field)?;
        self.bytes(usize::from(length), field)
    }

    /// A name whose length may be 0, which says that there is none.
    #[inline]
    pub(crate) fn optional_name(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, BodyError> {
        self.name(field).map(|name| (!name.is_empty()).then_some(name))
    }

    /// Two length bytes and as many bytes.
    #[inline]
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a [u8], BodyError> {
        let length = self.u16(field)?;
        self.bytes(usize::from(length), field)
    }

    /// How many bytes are left.
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) const fn finish(self) -> Result<(), BodyError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(BodyError::Trailing(self.rest.len()))
        }
    }
}

pub(crate) fn put_name(output: &mut Vec<u8>, name: &str) {
    output.push(u8::try_from(name.len()).expect("names have at most 40 bytes"));
    output.extend_from_slice(name.as_bytes());
}

pub(crate) fn put_optional_name(output: &mut Vec<u8>, name: Option<&str>) {
    put_name(output, name.unwrap_or(""));
}

/// A text, cut at the last character that fits where it is longer than two length bytes can say.
pub(crate) fn put_text(output: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    output.extend_from_slice(&(text.len() as u16).to_le_bytes());
    output.extend_from_slice(text.as_bytes());
}
