//! A parked shard's sleep, within its executor.

use std::os::fd::{AsFd, FromRawFd, IntoRawFd};

use cartwright_ring::{Doorbell, RingError};
use glommio::io::BufferedFile;

/// The bed beside the door: waits for the doorbell within a glommio executor.
pub struct Rest {
    eventfd: BufferedFile,
}

impl Rest {
    /// For the shard that owns `doorbell`, within its executor.
    pub fn new(doorbell: &Doorbell) -> Result<Self, RingError> {
        let descriptor = doorbell.as_fd().try_clone_to_owned().map_err(RingError::EventFd)?;
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
