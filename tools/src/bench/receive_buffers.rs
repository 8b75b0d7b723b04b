//! Buffers that the kernel fills with received bytes, shared by all connections of a ring: a provided-buffer ring.
//!
//! Owned by [`super::ring`]. A buffer is the kernel's from [`ReceiveBuffers::give_back`] until a completion names it.

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

use super::ring::RingError;

/// Bytes of one buffer.
const BUFFER_BYTES: usize = 16 << 10;

/// How many there are; a power of two, as the kernel wants it. When all are out, receives end and are begun again.
pub const BUFFER_COUNT: u16 = 128;

/// Their number in the ring, which has no others.
pub const BUFFER_GROUP: u16 = 0;

/// A buffer with bytes; not to be copied, since it is given back once.
#[derive(Debug)]
pub struct Received {
    pub(super) buffer: u16,
    pub(super) length: u32,
}

/// See above. Must outlive the operations of the ring it is registered with.
pub struct ReceiveBuffers {
    /// [`BUFFER_COUNT`] entries that say where free buffers are, shared with the kernel.
    entries: MmapMut,
    bytes: MmapMut,
    tail: u16,
}

impl ReceiveBuffers {
    /// Maps the memory and hands all of it to the kernel.
    pub fn register(uring: &IoUring) -> Result<Self, RingError> {
        let map = |bytes| MmapMut::map_anon(bytes).map_err(RingError::Memory);
        let mut buffers = Self {
            entries: map(usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>())?,
            bytes: map(usize::from(BUFFER_COUNT) * BUFFER_BYTES)?,
            tail: 0,
        };
        let address = buffers.entries.as_mut_ptr() as u64;
        // SAFETY: the entries are mapped, aligned to a page and BUFFER_COUNT long, and stay so while the kernel receives.
        unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(address, BUFFER_COUNT, BUFFER_GROUP, 0)
        }
        .map_err(RingError::Setup)?;
        (0..BUFFER_COUNT).for_each(|buffer| buffers.give_back(Received { buffer, length: 0 }));
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes of a buffer that a completion named.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        &self.bytes[usize::from(received.buffer) * BUFFER_BYTES..][..received.length as usize]
    }

    /// Makes it free again; the kernel learns of it with the next [`ReceiveBuffers::publish`].
    #[expect(clippy::cast_ptr_alignment, reason = "mappings begin at a page")]
    #[expect(clippy::needless_pass_by_value, reason = "a buffer is given back once")]
    pub fn give_back(&mut self, received: Received) {
        let offset = usize::from(received.buffer) * BUFFER_BYTES;
        let address = self.bytes[offset..][..BUFFER_BYTES].as_ptr() as u64;
        // SAFETY: the mapping is aligned to a page and holds BUFFER_COUNT entries, for which zeroes are valid; the
        // kernel reads none from the tail on.
        let entry = unsafe {
            let first = self.entries.as_mut_ptr().cast::<BufRingEntry>();
            &mut *first.add(usize::from(self.tail % BUFFER_COUNT))
        };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(received.buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all that was given back.
    pub fn publish(&mut self) {
        // SAFETY: the tail is a field of the first entry, two bytes and aligned to two; the kernel only reads it, and it
        // is written only here.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
