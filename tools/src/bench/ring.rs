//! One worker's `io_uring`: bytes into and out of its connections' sockets, nothing known of what they say.
//!
//! Made by [`super::worker`] before the clock starts, driven on the worker's own thread from then on. A connection goes
//! by its place among the sockets. Each has one receive under way all the time, and one send at most.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::receive_buffers::{BUFFER_COUNT, BUFFER_GROUP, ReceiveBuffers, Received};

/// How long the kernel is waited for at the end, until it has let go of all memory.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a ring could not be made or driven.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused to make one.
    #[error(
        "cannot set up io_uring, on which the load generator works: {0}; it needs Linux 6.1 or newer, \
         kernel.io_uring_disabled=0, and a container whose seccomp profile allows it"
    )]
    Setup(io::Error),
    /// No memory for buffers.
    #[error("cannot map memory for receive buffers: {0}; free some, or give fewer --threads")]
    Memory(io::Error),
    /// A running ring failed.
    #[error("io_uring_enter failed: {0}; the kernel is out of memory, or this is a defect to be reported")]
    Enter(io::Error),
}

/// What became of an operation.
#[derive(Debug)]
pub enum Outcome {
    /// Bytes came; they are to be given back.
    Received(Received),
    /// All that was to be sent is; more may be.
    Sent,
    /// The other end sends no more.
    Over,
    /// The socket failed.
    Failed {
        /// At what.
        doing: &'static str,
        /// How.
        source: io::Error,
    },
}

/// What an operation is: in the low bits of its user data, below the connection's place.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Kind {
    Receive,
    /// A send that waits for nothing: it ends as soon as it is submitted, and completes only if it fell short.
    SendPromptly,
    /// One that waits for room in the socket's buffer.
    SendRest,
    Cancel,
}

const KIND_BITS: u32 = 2;

impl Kind {
    const fn at(self, place: usize) -> u64 {
        (place as u64) << KIND_BITS | self as u64
    }

    const fn of(user_data: u64) -> (Self, usize) {
        let kind = match user_data & ((1 << KIND_BITS) - 1) {
            0 => Self::Receive,
            1 => Self::SendPromptly,
            2 => Self::SendRest,
            _ => Self::Cancel,
        };
        (kind, (user_data >> KIND_BITS) as usize)
    }
}

/// Bytes that the kernel sends. They stay where they are until it has.
#[derive(Default)]
struct Sending {
    bytes: Vec<u8>,
    sent: usize,
    /// The first attempt fell short.
    is_slow: bool,
}

/// See above.
pub struct Ring {
    uring: IoUring,
    // Freed only once the kernel has ended all operations, see `drop`.
    buffers: ManuallyDrop<ReceiveBuffers>,
    sending: ManuallyDrop<Vec<Sending>>,
    /// Connections whose receive is to be begun.
    unarmed: Vec<usize>,
    /// Connections with a prompt send that may not have been submitted.
    prompt: Vec<usize>,
    /// Operations that the kernel has not ended, but for prompt sends.
    under_way: usize,
    completions: Vec<cqueue::Entry>,
}

impl Ring {
    /// Sets up a ring over connected, blocking sockets. Any thread may; it works from [`Ring::enable`] on.
    pub fn new(sockets: &[RawFd]) -> Result<Self, RingError> {
        // A receive and a send for each, and the last cancel: neither queue is ever full. The kernel would keep what
        // does not fit among the completions to itself, and a send that fell short would seem to be done.
        let entries = (2 * sockets.len() + 1).next_power_of_two() as u32;
        let uring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize((entries + u32::from(BUFFER_COUNT)).next_power_of_two())
            .build(entries)
            .map_err(RingError::Setup)?;
        // The ring holds the files from here on: a place names the same socket for as long as there are operations.
        uring.submitter().register_files(sockets).map_err(RingError::Setup)?;
        let buffers = ReceiveBuffers::register(&uring)?;
        Ok(Self {
            uring,
            buffers: ManuallyDrop::new(buffers),
            sending: ManuallyDrop::new(sockets.iter().map(|_| Sending::default()).collect()),
            unarmed: (0..sockets.len()).collect(),
            prompt: Vec::new(),
            under_way: 0,
            completions: Vec::new(),
        })
    }

    /// Makes it the calling thread's, which alone may use it from now on.
    pub fn enable(&self) -> Result<(), RingError> {
        self.uring.submitter().register_enable_rings().map_err(RingError::Setup)
    }

    /// Sends all of `output`, which is empty afterwards; nothing where the last send has not ended. With the next
    /// [`Ring::wait`].
    pub fn send(&mut self, place: usize, output: &mut Vec<u8>) {
        let sending = &mut self.sending[place];
        if sending.bytes.is_empty() && !output.is_empty() {
            std::mem::swap(&mut sending.bytes, output);
            self.prompt.push(place);
            self.push_send(place, Kind::SendPromptly);
        }
    }

    /// The bytes received.
    pub fn received(&self, received: &Received) -> &[u8] {
        self.buffers.bytes(received)
    }

    /// Hands them back.
    pub fn give_back(&mut self, received: Received) {
        self.buffers.give_back(received);
    }

    /// Submits everything, and waits until something happens that is not the end of what was just sent. Gives that as
    /// well, and may give nothing.
    pub fn wait(&mut self, timeout: Duration, outcomes: &mut Vec<(usize, Outcome)>) -> Result<(), RingError> {
        while let Some(place) = self.unarmed.pop() {
            let entry = opcode::RecvMulti::new(Fixed(place as u32), BUFFER_GROUP).build();
            self.push(&entry, Kind::Receive, place);
            self.under_way += 1;
        }
        self.enter(timeout)?;
        self.reap(outcomes);
        Ok(())
    }

    fn push_send(&mut self, place: usize, kind: Kind) {
        let sending = &self.sending[place];
        let rest = &sending.bytes[sending.sent..];
        // With `MSG_WAITALL`, less than all is no success.
        let (flags, silent) = match kind {
            Kind::SendPromptly => (libc::MSG_DONTWAIT, squeue::Flags::SKIP_SUCCESS),
            _ => (0, squeue::Flags::empty()),
        };
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fixed(place as u32), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL | flags)
            .build()
            .flags(silent);
        self.push(&entry, kind, place);
    }

    fn push(&mut self, entry: &squeue::Entry, kind: Kind, place: usize) {
        let entry = entry.clone().user_data(kind.at(place));
        // SAFETY: the only pointers are those of sends, to bytes that are neither changed nor freed until the send has
        // ended: `reap` and `end_send` give them free then, and `drop` waits for it.
        unsafe { self.uring.submission().push(&entry) }.expect("the queue has room for all that can be under way");
    }

    fn enter(&mut self, timeout: Duration) -> Result<(), RingError> {
        self.buffers.publish();
        let entered = if timeout.is_zero() {
            self.uring.submit()
        } else {
            let timeout = Timespec::from(timeout);
            let arguments = SubmitArgs::new().timespec(&timeout);
            self.uring.submitter().submit_with_args(1, &arguments)
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Nothing happened in time; or what was not submitted now is with the next call.
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(RingError::Enter(error)),
            },
        }
    }

    fn reap(&mut self, outcomes: &mut Vec<(usize, Outcome)>) {
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.uring.completion());
        for entry in &completions {
            if let (Kind::SendPromptly, place) = Kind::of(entry.user_data()) {
                self.sending[place].is_slow = true;
            }
        }
        // What was submitted and has not completed as short is sent. It comes first: connections may send again.
        if self.uring.submission().is_empty() {
            for place in self.prompt.drain(..) {
                let sending = &mut self.sending[place];
                if !sending.is_slow {
                    sending.bytes.clear();
                    outcomes.push((place, Outcome::Sent));
                }
            }
        }
        for entry in completions.drain(..) {
            let (kind, place) = Kind::of(entry.user_data());
            let result = u32::try_from(entry.result()).map_err(|_| -entry.result());
            self.count_down(&entry);
            let outcome = match kind {
                Kind::Receive => self.end_receive(place, result, &entry),
                Kind::SendPromptly | Kind::SendRest => self.end_send(place, result),
                Kind::Cancel => None,
            };
            outcomes.extend(outcome.map(|outcome| (place, outcome)));
        }
        self.completions = completions;
    }

    fn count_down(&mut self, entry: &cqueue::Entry) {
        let is_counted = Kind::of(entry.user_data()).0 != Kind::SendPromptly;
        self.under_way -= usize::from(is_counted && !cqueue::more(entry.flags()));
    }

    fn end_receive(&mut self, place: usize, result: Result<u32, i32>, entry: &cqueue::Entry) -> Option<Outcome> {
        let outcome = match (result, cqueue::buffer_select(entry.flags())) {
            (Ok(length @ 1..), Some(buffer)) => Some(Outcome::Received(Received { buffer, length })),
            // No buffer was free; now that completions were taken, there will be.
            (Err(libc::ENOBUFS), _) => None,
            (Err(error), _) => return Some(failed("receiving", error)),
            (Ok(_), _) => return Some(Outcome::Over),
        };
        if !cqueue::more(entry.flags()) {
            self.unarmed.push(place);
        }
        outcome
    }

    fn end_send(&mut self, place: usize, result: Result<u32, i32>) -> Option<Outcome> {
        let sending = &mut self.sending[place];
        match result {
            Ok(count) => sending.sent += count as usize,
            Err(libc::EAGAIN) => {}
            Err(error) => return Some(failed("sending", error)),
        }
        if sending.sent < sending.bytes.len() {
            self.push_send(place, Kind::SendRest);
            self.under_way += 1;
            return None;
        }
        sending.bytes.clear();
        (sending.sent, sending.is_slow) = (0, false);
        Some(Outcome::Sent)
    }

    /// Ends all operations; gives whether the kernel says that they have ended.
    fn end(&mut self) -> bool {
        if self.under_way > 0 {
            let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
            self.push(&entry, Kind::Cancel, 0);
            self.under_way += 1;
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while self.under_way > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.enter(left).is_err() {
                return false;
            }
            let mut completions = std::mem::take(&mut self.completions);
            completions.extend(self.uring.completion());
            completions.drain(..).for_each(|entry| self.count_down(&entry));
            self.completions = completions;
        }
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing a ring does not wait for its operations: memory that they may still write to or read is left alone.
        if self.end() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe {
                ManuallyDrop::drop(&mut self.sending);
                ManuallyDrop::drop(&mut self.buffers);
            }
        }
    }
}

fn failed(doing: &'static str, error: i32) -> Outcome {
    Outcome::Failed {
        doing,
        source: io::Error::from_raw_os_error(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(20);

    /// More than sockets buffer between them.
    const MUCH: usize = 32 << 20;

    struct Wired {
        ring: Ring,
        peers: Vec<Option<TcpStream>>,
        _streams: Vec<TcpStream>,
    }

    fn wire(count: usize) -> Wired {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (streams, peers): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let stream = TcpStream::connect(address).unwrap();
                (stream, Some(listener.accept().unwrap().0))
            })
            .unzip();
        let sockets: Vec<RawFd> = streams.iter().map(AsRawFd::as_raw_fd).collect();
        let ring = Ring::new(&sockets).unwrap();
        ring.enable().unwrap();
        Wired {
            ring,
            peers,
            _streams: streams,
        }
    }

    impl Wired {
        fn peer(&mut self, place: usize) -> TcpStream {
            self.peers[place].take().unwrap()
        }

        /// Waits until something happens.
        fn wait(&mut self) -> Vec<(usize, Outcome)> {
            let mut outcomes = Vec::new();
            let deadline = Instant::now() + LONG;
            while outcomes.is_empty() {
                assert!(Instant::now() < deadline, "nothing happened");
                self.ring.wait(LONG, &mut outcomes).unwrap();
            }
            outcomes
        }
    }

    fn pattern(seed: usize, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + at / 251 + seed) as u8).collect()
    }

    #[test]
    fn bytes_that_find_no_free_buffer_come_all_the_same() {
        const COUNT: usize = 50;
        const EACH: usize = 1 << 20;
        let mut wired = wire(COUNT);
        let writers: Vec<_> = (0..COUNT)
            .map(|place| {
                let mut peer = wired.peer(place);
                std::thread::spawn(move || peer.write_all(&pattern(place, EACH)).unwrap())
            })
            .collect();
        // The sockets' own buffers fill up, with more than all of the ring's hold.
        std::thread::sleep(Duration::from_millis(100));
        let mut got = vec![Vec::new(); COUNT];
        while got.iter().any(|bytes| bytes.len() < EACH) {
            for (place, outcome) in wired.wait() {
                match outcome {
                    Outcome::Received(received) => {
                        got[place].extend_from_slice(wired.ring.received(&received));
                        wired.ring.give_back(received);
                    }
                    Outcome::Over => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
        for (place, bytes) in got.iter().enumerate() {
            assert!(*bytes == pattern(place, EACH), "connection {place}");
        }
    }

    #[test]
    fn what_a_slow_reader_has_no_room_for_is_sent_later_and_in_order() {
        let mut wired = wire(1);
        let mut peer = wired.peer(0);
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let mut bytes = vec![0; MUCH + 5];
            peer.read_exact(&mut bytes).unwrap();
            bytes
        });
        let mut output = pattern(0, MUCH);
        wired.ring.send(0, &mut output);
        assert!(output.is_empty());
        output.extend_from_slice(b"after");
        wired.ring.send(0, &mut output);
        assert_eq!(output, b"after", "one send is under way");
        assert!(matches!(wired.wait()[..], [(0, Outcome::Sent)]));
        wired.ring.send(0, &mut output);
        assert!(output.is_empty());
        wired.ring.wait(Duration::ZERO, &mut Vec::new()).unwrap();
        assert!(reader.join().unwrap() == [&pattern(0, MUCH)[..], b"after"].concat());
    }

    #[test]
    fn one_call_sends_and_waits_for_the_answer() {
        let mut wired = wire(2);
        for place in 0..2 {
            wired.ring.send(place, &mut b"ping".to_vec());
        }
        let mut peer = wired.peer(1);
        let answering = std::thread::spawn(move || {
            peer.read_exact(&mut [0; 4]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            peer.write_all(b"pong").unwrap();
            peer
        });
        let mut outcomes = Vec::new();
        wired.ring.wait(LONG, &mut outcomes).unwrap();
        assert!(
            matches!(
                &outcomes[..],
                [(0, Outcome::Sent), (1, Outcome::Sent), (1, Outcome::Received(received))]
                    if wired.ring.received(received) == b"pong"
            ),
            "{outcomes:?}"
        );
        answering.join().unwrap();
    }

    #[test]
    fn a_wait_for_nothing_ends_in_time() {
        let mut wired = wire(1);
        let mut outcomes = Vec::new();
        let begin = Instant::now();
        wired.ring.wait(Duration::from_millis(30), &mut outcomes).unwrap();
        assert!(outcomes.is_empty() && begin.elapsed() >= Duration::from_millis(30));
        assert!(begin.elapsed() < LONG / 2);
    }

    #[test]
    fn the_end_of_a_connection_is_told_from_its_failure() {
        let mut wired = wire(2);
        drop(wired.peer(0));
        assert!(matches!(wired.wait()[..], [(0, Outcome::Over)]));
        // A socket that is closed with bytes unread resets the connection.
        wired.ring.send(1, &mut b"unread".to_vec());
        let mut outcomes = Vec::new();
        wired.ring.wait(Duration::from_millis(10), &mut outcomes).unwrap();
        drop(wired.peer(1));
        match &wired.wait()[..] {
            [(1, Outcome::Failed { source, .. })] => assert_eq!(source.kind(), io::ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_ring_ends_though_nobody_reads_or_writes() {
        let mut wired = wire(3);
        wired.ring.send(1, &mut pattern(0, MUCH));
        wired.ring.wait(Duration::from_millis(10), &mut Vec::new()).unwrap();
        assert_eq!(wired.ring.under_way, 4, "three receives and a send");
        assert!(wired.ring.end() && wired.ring.under_way == 0);
    }
}
