//! Waking a parked shard: by its ring, by a peer's message, by a peer's watermark, by a helper thread.
//!
//! All of them raise one eventfd. A peer raises it only when the shard's flag says that it is parked, so that between
//! two busy shards no system call is made. The shard sets the flag, then looks once more at everything that could be
//! waiting for it, and only then parks: whoever adds something after that look sees the flag.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering, fence};

use crossbeam_utils::CachePadded;
use glommio::io::BufferedFile;

use super::ring::RingError;

/// What a shard waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Parked {
    /// It does not wait: it will look at everything before it does.
    Not = 0,
    /// For mail. Peers' watermarks mean nothing to it now.
    ForMail = 1,
    /// For mail and for peers' watermarks.
    ForMailAndWatermarks = 2,
}

/// What happened that may concern a parked shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something for this very shard.
    Mail,
    /// A watermark moved.
    Watermark,
}

/// A shard's doorbell, shared with all who may ring it.
#[derive(Debug)]
pub struct Doorbell {
    eventfd: File,
    /// Alone in its cache line: peers look at it with every delivery.
    parked: CachePadded<AtomicU8>,
}

impl Doorbell {
    /// A new one, whose shard is not parked.
    pub fn new() -> Result<Self, RingError> {
        // SAFETY: takes no pointers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(RingError::EventFd(std::io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is new and nobody else's.
        let eventfd = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        Ok(Self {
            eventfd,
            parked: CachePadded::new(AtomicU8::new(Parked::Not as u8)),
        })
    }

    /// To be called after making visible what is to be found. Rings if the shard is parked and waits for such.
    pub fn ring(&self, cause: Cause) {
        // Orders what was made visible before the look at the flag; pairs with the fence in `announce`.
        fence(Ordering::SeqCst);
        let parked = self.parked.load(Ordering::Relaxed);
        let waits = match cause {
            Cause::Mail => parked != Parked::Not as u8,
            Cause::Watermark => parked == Parked::ForMailAndWatermarks as u8,
        };
        // Of several who come at once, one makes the call.
        if waits && self.parked.swap(Parked::Not as u8, Ordering::AcqRel) != Parked::Not as u8 {
            self.ring_always();
        }
    }

    /// Rings, parked or not: for signals, once in a server's life.
    pub fn ring_always(&self) {
        // Fails only where 2^64 - 2 rings are unanswered.
        let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
    }

    /// The shard says what it is about to wait for. It must look for that once more before it parks.
    pub fn announce(&self, parked: Parked) {
        self.parked.store(parked as u8, Ordering::Relaxed);
        // Orders the flag before the last look; pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// The bed beside the door: waits for the doorbell within a glommio executor.
pub struct Rest {
    eventfd: BufferedFile,
}

impl Rest {
    /// For the shard that owns `doorbell`, within its executor.
    pub fn new(doorbell: &Doorbell) -> Result<Self, RingError> {
        let descriptor = doorbell
            .eventfd
            .as_fd()
            .try_clone_to_owned()
            .map_err(RingError::EventFd)?;
        // SAFETY: the descriptor is ours, and ownership passes to the file.
        let eventfd = unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) };
        Ok(Self { eventfd })
    }

    /// Returns when the doorbell has been rung since the last time; at once if it has been already.
    pub async fn until_rung(&self) -> Result<(), RingError> {
        match self.eventfd.read_at(0, size_of::<u64>()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(RingError::Enter(error.into())),
        }
    }
}
