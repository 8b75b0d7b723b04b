//! Archived structs as bytes, and back: how the records and parts of every book are encoded.
//!
//! One struct for each book, kind and version; what is of no fixed size in it is bytes. An archive is little-endian and
//! unaligned, with 32-bit offsets, and checked before it is trusted.

use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Portable, Serialize};

/// Encodes into `buffer`, replacing what it holds.
pub fn encode(value: &impl for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Error>>, buffer: &mut Vec<u8>) {
    let mut taken = std::mem::take(buffer);
    taken.clear();
    *buffer = rkyv::api::high::to_bytes_in(value, taken).expect("encoding into growing memory does not fail");
}

/// Encodes without copying `first`, bytes that the archive begins with: what follows them is put into `buffer`,
/// replacing what it holds. `false`: everything is in there, `first` included.
pub fn encode_behind<'f>(
    value: &impl for<'a> Serialize<HighSerializer<Behind<'f>, ArenaHandle<'a>, Error>>,
    first: &'f [u8],
    buffer: &mut Vec<u8>,
) -> bool {
    let mut taken = std::mem::take(buffer);
    taken.clear();
    let behind = Behind {
        first,
        is_skipped: false,
        rest: taken,
    };
    let behind = rkyv::api::high::to_bytes_in(value, behind).expect("encoding into growing memory does not fail");
    *buffer = behind.rest;
    behind.is_skipped
}

/// Checks and reads a payload. The error says what is wrong with it.
pub fn read<T>(payload: &[u8]) -> Result<&T, String>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, Error>>,
{
    rkyv::access::<T, Error>(payload).map_err(|error| error.to_string())
}

/// Takes an archive but for the bytes that it begins with.
#[derive(Debug)]
pub struct Behind<'a> {
    first: &'a [u8],
    is_skipped: bool,
    rest: Vec<u8>,
}

impl rkyv::ser::Positional for Behind<'_> {
    fn pos(&self) -> usize {
        self.rest.len() + if self.is_skipped { self.first.len() } else { 0 }
    }
}

impl<E> rkyv::ser::Writer<E> for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        if !self.is_skipped && self.rest.is_empty() && std::ptr::eq(bytes, self.first) {
            self.is_skipped = true;
        } else {
            self.rest.extend_from_slice(bytes);
        }
        Ok(())
    }
}
