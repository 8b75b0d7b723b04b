//! The pool of buffers that the kernel fills with received bytes: a provided-buffer ring.
//!
//! Owned by [`super::Ring`]. One pool serves all connections of a thread, so an idle connection costs no buffer. A
//! buffer is the kernel's from [`ReceiveBuffers::give_back`] until a completion names it, and ours from then on. Memory
//! that the kernel reads or writes at the same time is reached through raw pointers alone, never through a reference.

use std::ptr::{NonNull, slice_from_raw_parts};
use std::sync::atomic::{AtomicU16, Ordering};

use memmap2::MmapMut;

use super::error::RingError;

/// Bytes of one buffer: a pipelined batch of requests, or a part of a large one.
const BUFFER_BYTES: usize = 16 << 10;

/// From one buffer to the next: not a power of two, or the starts of all, which is where short requests are, would
/// share a few places of the processor's caches.
const BUFFER_STRIDE: usize = BUFFER_BYTES + 5 * 64;

/// The pool's number in its ring, of which it is the only one.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// One entry of the ring of free buffers, as the kernel has it (`struct io_uring_buf`).
#[repr(C)]
struct Entry {
    address: u64,
    length: u32,
    buffer: u16,
    /// Of the first entry: how many entries were ever written. The kernel reads it; of the others it is unused.
    tail: AtomicU16,
}

const _: () = assert!(size_of::<Entry>() == 16 && align_of::<Entry>() == 8);

/// A buffer with received bytes. It is given back once: there is no copy of it.
#[derive(Debug)]
pub struct Received {
    buffer: u16,
    length: u32,
}

impl Received {
    /// As a completion names it.
    pub(crate) const fn new(buffer: u16, length: u32) -> Self {
        Self { buffer, length }
    }
}

/// The pool. Its memory must stay for as long as the ring it is registered with receives.
#[derive(Debug)]
pub struct ReceiveBuffers {
    /// `count` entries that say where free buffers are, in `entries_map`.
    entries: NonNull<Entry>,
    /// The buffers, in `bytes_map`.
    bytes: NonNull<u8>,
    /// A power of two.
    count: u16,
    tail: u16,
    // Keep the memory; never looked into.
    _entries_map: MmapMut,
    _bytes_map: MmapMut,
}

// SAFETY: the pointers are to memory that this value owns, and nothing depends on the thread.
unsafe impl Send for ReceiveBuffers {}

impl ReceiveBuffers {
    /// Maps memory for `count` buffers, a power of two, all of them free.
    pub(crate) fn map(count: u16) -> Result<Self, RingError> {
        assert!(count.is_power_of_two(), "the kernel takes a power of two of buffers");
        let map = |bytes| MmapMut::map_anon(bytes).map_err(RingError::Memory);
        let mut entries_map = map(usize::from(count) * size_of::<Entry>())?;
        let mut bytes_map = map(usize::from(count) * BUFFER_STRIDE)?;
        let pointer = |map: &mut MmapMut| NonNull::new(map.as_mut_ptr()).expect("a mapping is somewhere");
        let mut buffers = Self {
            entries: pointer(&mut entries_map).cast(),
            bytes: pointer(&mut bytes_map),
            count,
            tail: 0,
            _entries_map: entries_map,
            _bytes_map: bytes_map,
        };
        for buffer in 0..count {
            buffers.give_back(Received::new(buffer, 0));
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Hands the pool to the kernel behind `uring`.
    pub(crate) fn register(&self, uring: &io_uring::IoUring) -> Result<(), RingError> {
        let address = self.entries.as_ptr().expose_provenance() as u64;
        // SAFETY: the entries are mapped, aligned to a page and `count` long; `Ring` keeps them until nothing is received
        // any more.
        let registered = unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(address, self.count, BUFFER_GROUP, 0)
        };
        registered.map_err(RingError::of_setup)
    }

    /// The bytes of a buffer that a completion named.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        let length = received.length as usize;
        assert!(
            length <= BUFFER_BYTES && received.buffer < self.count,
            "the kernel fills only buffers that it was given, and to {BUFFER_BYTES} bytes at most"
        );
        // SAFETY: within the mapping by the assertion. The kernel wrote the bytes before it named the buffer, and writes
        // there again only once it is given back, for which this value must be borrowed mutably.
        unsafe {
            let start = self.bytes.as_ptr().add(usize::from(received.buffer) * BUFFER_STRIDE);
            &*slice_from_raw_parts(start, length)
        }
    }

    /// Makes a buffer free again; the kernel learns of it with the next [`ReceiveBuffers::publish`].
    #[expect(clippy::needless_pass_by_value, reason = "a buffer is given back once")]
    pub fn give_back(&mut self, received: Received) {
        assert!(
            received.buffer < self.count,
            "the kernel names only buffers that it was given"
        );
        // SAFETY: the buffer is within the mapping of the bytes, the entry within that of the entries, which is aligned
        // to a page. The kernel reads no entry from the tail on, and of the first one's, the tail, which is left alone.
        unsafe {
            let buffer = self.bytes.as_ptr().add(usize::from(received.buffer) * BUFFER_STRIDE);
            let entry = self.entries.as_ptr().add(usize::from(self.tail % self.count));
            // The kernel is to write there: the address is given away with the right to do so.
            (&raw mut (*entry).address).write(buffer.expose_provenance() as u64);
            (&raw mut (*entry).length).write(BUFFER_BYTES as u32);
            (&raw mut (*entry).buffer).write(received.buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all buffers given back so far.
    pub fn publish(&mut self) {
        // SAFETY: the tail is a field of the first entry, in mapped memory and aligned; whoever else looks at it, which
        // is the kernel, reads it as an atomic.
        let tail = unsafe { &(*self.entries.as_ptr()).tail };
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other side, as the kernel plays it.
    struct Kernel {
        entries: *mut Entry,
        count: u16,
        head: u16,
    }

    impl Kernel {
        fn of(buffers: &ReceiveBuffers) -> Self {
            Self {
                entries: buffers.entries.as_ptr(),
                count: buffers.count,
                head: 0,
            }
        }

        /// Fills the buffer that has been free longest; `None` where none is.
        fn fill(&mut self, text: &[u8]) -> Option<Received> {
            // SAFETY: the pool is alive, and not looked at while this runs.
            unsafe {
                if (*self.entries).tail.load(Ordering::Acquire) == self.head {
                    return None;
                }
                let entry = self.entries.add(usize::from(self.head % self.count));
                let (address, length) = (
                    (&raw const (*entry).address).read(),
                    (&raw const (*entry).length).read(),
                );
                assert!(text.len() <= length as usize);
                let to = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
                to.copy_from_nonoverlapping(text.as_ptr(), text.len());
                self.head = self.head.wrapping_add(1);
                Some(Received::new((&raw const (*entry).buffer).read(), text.len() as u32))
            }
        }
    }

    // Run by Miri as well: `cargo +nightly miri test -p cartwright-ring buffers`.
    #[test]
    fn each_buffer_is_filled_read_and_filled_again() {
        let mut buffers = ReceiveBuffers::map(4).unwrap();
        let mut kernel = Kernel::of(&buffers);
        let mut held = Vec::new();
        for round in 0..40u8 {
            while let Some(received) = kernel.fill(&[round, held.len() as u8]) {
                held.push(received);
            }
            assert_eq!(held.len(), 4, "all are out");
            for (number, received) in held.iter().enumerate() {
                assert_eq!(buffers.bytes(received), [round, number as u8]);
            }
            for received in held.drain(..) {
                buffers.give_back(received);
            }
            assert!(
                kernel.fill(&[]).is_none(),
                "what is given back is shown by `publish` alone"
            );
            buffers.publish();
        }
    }

    #[test]
    fn the_number_of_buffers_ever_given_back_may_wrap() {
        let mut buffers = ReceiveBuffers::map(2).unwrap();
        let mut kernel = Kernel::of(&buffers);
        for round in 0..u32::from(u16::MAX) + 5 {
            let received = kernel.fill(&round.to_le_bytes()).expect("one is free");
            assert_eq!(buffers.bytes(&received), round.to_le_bytes());
            buffers.give_back(received);
            buffers.publish();
        }
    }
}
