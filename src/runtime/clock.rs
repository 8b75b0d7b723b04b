//! The server's clock: Unix milliseconds that never go back.
//!
//! Anchored once at start and then driven by the monotonic clock, so that a jump of the system's clock moves nothing.
//! All shards share the anchor, and so agree on the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Timestamp;

/// A clock; copies of it agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    /// Starts at the system's time, or at `latest`, the largest time in the recovered log, if that is later.
    pub fn start(latest: Timestamp) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::anchored(Instant::now(), Timestamp(unix.as_millis() as u64).max(latest))
    }

    const fn anchored(started: Instant, started_at: Timestamp) -> Self {
        Self { started, started_at }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The time now, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.started_at.unix_ms() * 1000 + self.started.elapsed().as_micros() as u64
    }

    /// How long the server has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn at(&self, instant: Instant) -> Timestamp {
        self.started_at
            .plus_ms(instant.saturating_duration_since(self.started).as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_starts_below_the_log() {
        let far_ahead = Timestamp(10_000_000_000_000);
        assert!(Clock::start(far_ahead).now() >= far_ahead);
        let now = Clock::start(Timestamp::default()).now();
        assert!(now.unix_ms() > 1_600_000_000_000 && now < far_ahead);
    }

    #[test]
    fn a_clock_moves_with_the_monotonic_one() {
        let clock = Clock::start(Timestamp::default());
        let later = clock.started + Duration::from_millis(1500);
        assert_eq!(clock.at(later), clock.started_at.plus_ms(1500));
        assert_eq!(
            clock.at(clock.started.checked_sub(Duration::from_secs(1)).unwrap()),
            clock.started_at
        );
    }
}
