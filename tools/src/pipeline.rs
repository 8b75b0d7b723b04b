//! One connection that keeps several requests in flight, and hands each reply back with what it was about.
//!
//! Used by stocking, playing and checking. It repeats what the server was too busy for; it never connects again.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cartwright_protocol::client::{Client, ClientError, Receiver, Sender};
use cartwright_protocol::{ErrorCode, Operation, Reply};

use crate::address::Address;

/// A server that answers nothing for so long is taken for lost.
pub const REPLY_TIMEOUT: Duration = Duration::from_mins(1);

/// How often a request is repeated that the server was too busy for, before that is its answer.
pub const BUSY_TRIES_MAX: u32 = 1_000;

/// How long to leave a busy server alone.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// See above.
#[derive(Debug)]
pub struct Pipeline {
    sender: Sender,
    receiver: Receiver,
    depth: usize,
    busy_count: u64,
}

struct Job<T> {
    about: T,
    tries: u32,
    /// The first send, so that the latency of a request that was repeated is what its client waited.
    sent: Instant,
}

impl Pipeline {
    /// Connects; `depth` requests at most are in flight, and no more than the server works on at once.
    pub fn connect(address: &Address, depth: usize) -> Result<Self, ClientError> {
        let mut client = address.connect()?;
        client.set_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self::new(client, depth))
    }

    fn new(client: Client, depth: usize) -> Self {
        let depth = depth.clamp(1, (client.server().in_flight_max as usize).max(1));
        let (sender, receiver) = client.split();
        Self {
            sender,
            receiver,
            depth,
            busy_count: 0,
        }
    }

    /// How many times the server was too busy for a request.
    pub const fn busy_count(&self) -> u64 {
        self.busy_count
    }

    /// Sends the request for everything that `next` gives, in that order, and gives each reply to `answered` with how
    /// long it took. Once `stop` is true, nothing more is sent, and what is in flight is waited for.
    ///
    /// On an error, what was in flight stays unanswered: it may or may not have happened.
    pub fn run<T>(
        &mut self,
        stop: &AtomicBool,
        mut next: impl FnMut() -> Option<T>,
        request: impl Fn(&T) -> Operation,
        mut answered: impl FnMut(T, Reply, Duration),
    ) -> Result<(), ClientError> {
        let mut in_flight: HashMap<u64, Job<T>> = HashMap::with_capacity(self.depth);
        let mut again: VecDeque<Job<T>> = VecDeque::new();
        loop {
            if !again.is_empty() {
                std::thread::sleep(BUSY_PAUSE);
            }
            while in_flight.len() < self.depth {
                let fresh = |about| Job {
                    about,
                    tries: 0,
                    sent: Instant::now(),
                };
                let job = match again.pop_front() {
                    Some(job) => job,
                    None if stop.load(Ordering::Relaxed) => break,
                    None => match next() {
                        Some(about) => fresh(about),
                        None => break,
                    },
                };
                in_flight.insert(self.sender.send(&request(&job.about)), job);
            }
            if in_flight.is_empty() {
                return Ok(());
            }
            self.sender.flush()?;
            let mut received = Some(self.receiver.receive()?);
            while let Some((id, reply)) = received {
                if let Some(mut job) = in_flight.remove(&id) {
                    job.tries += 1;
                    if is_busy(&reply) && job.tries < BUSY_TRIES_MAX {
                        self.busy_count += 1;
                        again.push_back(job);
                    } else {
                        answered(job.about, reply, job.sent.elapsed());
                    }
                }
                received = self.receiver.received()?;
            }
        }
    }
}

fn is_busy(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(error) if error.code == ErrorCode::Busy)
}
