//! Waking a parked thread: by its ring, by a peer's message, by a peer's watermark, by a helper thread.
//!
//! All of them raise one eventfd. A peer raises it only when [`Parking`] says that the thread is parked, so that between
//! two busy threads no system call is made.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use crossbeam_utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use super::error::RingError;
use super::parking::{Cause, Parked, Parking};

/// A thread's doorbell, shared with all who may ring it.
#[derive(Debug)]
pub struct Doorbell {
    eventfd: File,
    /// Alone in its cache line: peers look at it with every delivery.
    parking: CachePadded<Parking>,
}

impl Doorbell {
    /// A new one, whose thread is not parked.
    pub fn new() -> Result<Self, RingError> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| RingError::EventFd(error.into()))?;
        Ok(Self {
            eventfd: eventfd.into(),
            parking: CachePadded::default(),
        })
    }

    /// To be called after making visible what is to be found. Rings if the thread is parked and waits for such.
    pub fn ring(&self, cause: Cause) {
        if self.parking.must_wake(cause) {
            self.ring_always();
        }
    }

    /// Rings, parked or not: for signals, once in a server's life.
    pub fn ring_always(&self) {
        // Fails only where 2^64 - 2 rings are unanswered.
        let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
    }

    /// The thread says what it is about to wait for. It must look for that once more before it parks.
    pub fn announce(&self, parked: Parked) {
        self.parking.announce(parked);
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
