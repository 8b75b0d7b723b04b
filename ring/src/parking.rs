//! The flag by which a thread that is about to sleep and those who have something for it find each other.
//!
//! The sleeper says what it is about to wait for, looks once more at everything that could be waiting for it, and only
//! then sleeps; whoever adds something after that look sees the flag. [`super::Doorbell`] puts an eventfd behind it.
//! `tests/parking.rs` runs this very file through every order of events, with loom's atomics in place of the real ones.

use crate::sync::{AtomicU8, Ordering, fence};

/// What a thread waits for.
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

/// What happened that may concern a parked thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something for this very thread.
    Mail,
    /// A watermark moved.
    Watermark,
}

/// The flag.
#[derive(Debug)]
pub struct Parking(AtomicU8);

impl Parking {
    /// Of a thread that is not parked.
    pub fn new() -> Self {
        Self(AtomicU8::new(Parked::Not as u8))
    }

    /// To be called after making visible what is to be found: whether the thread is to be woken, by the caller and
    /// nobody else.
    pub fn must_wake(&self, cause: Cause) -> bool {
        // Orders what was made visible before the look at the flag; pairs with the fence in `announce`.
        fence(Ordering::SeqCst);
        let parked = self.0.load(Ordering::Relaxed);
        let waits = match cause {
            Cause::Mail => parked != Parked::Not as u8,
            Cause::Watermark => parked == Parked::ForMailAndWatermarks as u8,
        };
        // Of several who come at once, one wakes.
        waits && self.0.swap(Parked::Not as u8, Ordering::AcqRel) != Parked::Not as u8
    }

    /// The thread says what it is about to wait for. It must look for that once more before it sleeps.
    pub fn announce(&self, parked: Parked) {
        self.0.store(parked as u8, Ordering::Relaxed);
        // Orders the flag before the last look; pairs with the fence in `must_wake`.
        fence(Ordering::SeqCst);
    }
}

impl Default for Parking {
    fn default() -> Self {
        Self::new()
    }
}
