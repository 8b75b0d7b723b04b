//! The pool of buffers that the kernel fills with received bytes: a provided-buffer ring.
//!
//! Owned by [`super::ring`]. One pool per shard serves all its connections, so an idle connection costs no buffer. A
//! buffer is the kernel's from [`ReceiveBuffers::give_back`] until a completion names it, and ours from then on.

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

use super::ring::RingError;

/// Bytes of one buffer: a pipelined batch of requests, or a part of a large one.
const BUFFER_BYTES: usize = 16 << 10;

/// From one buffer to the next: not a power of two, or the starts of all, which is where short requests are, would
/// share a few places of the processor's caches.
const BUFFER_STRIDE: usize = BUFFER_BYTES + 5 * 64;

/// How many buffers a shard has: 8 MiB, twice what a turn takes in at 256 busy connections. A power of two, as the
/// kernel wants it. When all are out, receives end with ENOBUFS and are begun again one turn later.
const BUFFER_COUNT: u16 = 512;

/// The pool's number in its ring, of which it is the only one.
pub const BUFFER_GROUP: u16 = 0;

/// A buffer that holds received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(pub u16);

/// The pool. Must outlive the ring it is registered with.
#[derive(Debug)]
pub struct ReceiveBuffers {
    /// [`BUFFER_COUNT`] entries that say where free buffers are, shared with the kernel; page-aligned.
    entries: MmapMut,
    bytes: MmapMut,
    tail: u16,
}

impl ReceiveBuffers {
    /// Maps the memory and hands all buffers to the kernel behind `ring`.
    pub fn register(ring: &io_uring::IoUring) -> Result<Self, RingError> {
        let map = |bytes| MmapMut::map_anon(bytes).map_err(RingError::Memory);
        let entries = map(usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>())?;
        let bytes = map(usize::from(BUFFER_COUNT) * BUFFER_STRIDE)?;
        let mut buffers = Self {
            entries,
            bytes,
            tail: 0,
        };
        // SAFETY: the entries are mapped, page-aligned and BUFFER_COUNT long; `Ring` drops its io_uring, and with it
        // the registration, before this pool.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_mut_ptr() as u64,
                BUFFER_COUNT,
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(RingError::of_setup)?;
        for buffer in 0..BUFFER_COUNT {
            buffers.give_back(BufferId(buffer));
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The first `length` bytes of a buffer that a completion named.
    pub fn received(&self, buffer: BufferId, length: usize) -> &[u8] {
        assert!(
            length <= BUFFER_BYTES,
            "the kernel fills a buffer to {BUFFER_BYTES} bytes at most"
        );
        let start = usize::from(buffer.0) * BUFFER_STRIDE;
        &self.bytes[start..start + length]
    }

    /// Makes `buffer` free again; the kernel learns of it with the next [`ReceiveBuffers::publish`].
    #[expect(clippy::cast_ptr_alignment, reason = "mappings begin at a page")]
    pub fn give_back(&mut self, buffer: BufferId) {
        assert!(
            buffer.0 < BUFFER_COUNT,
            "the kernel names only buffers that it was given"
        );
        // SAFETY: the pointer is to the start of the mapping, which is aligned to a page and holds BUFFER_COUNT
        // entries; zeroes are a valid entry; the kernel does not read entries from the tail on.
        let entry = unsafe {
            let first = self.entries.as_mut_ptr().cast::<BufRingEntry>();
            &mut *first.add(usize::from(self.tail % BUFFER_COUNT))
        };
        entry.set_addr(self.bytes.as_ptr() as u64 + u64::from(buffer.0) * BUFFER_STRIDE as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer.0);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all buffers given back so far.
    pub fn publish(&mut self) {
        // SAFETY: the mapping begins with the ring's first entry, whose reserved field is the tail, two bytes and
        // aligned to two; the kernel only reads it, and we write it only here.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
