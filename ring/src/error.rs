//! Why there is no ring, or no longer one.

use std::io;

use super::diagnosis;

/// Why a ring could not be made or driven.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused to make one.
    #[error("cannot set up io_uring: {error}. {}", diagnosis::io_uring_advice(error))]
    Setup {
        /// The kernel's answer.
        error: io::Error,
    },
    /// No memory for buffers.
    #[error(
        "cannot map memory for receive buffers: {0}. Free some memory, or start with fewer threads (--shards of a \
         server, --threads of a bench)"
    )]
    Memory(io::Error),
    /// The eventfd that wakes the thread could not be made.
    #[error("cannot make an eventfd: {0}. Raise the limit on open files (ulimit -n)")]
    EventFd(io::Error),
    /// A running ring failed, which only happens when the kernel is out of memory or there is a defect here.
    #[error("io_uring_enter failed: {0}. This is not expected of a running ring; please report it")]
    Enter(io::Error),
}

impl RingError {
    /// A refusal at set-up.
    pub(crate) fn of_setup(error: io::Error) -> Self {
        Self::Setup { error }
    }
}
