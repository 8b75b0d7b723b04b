//! One worker's sockets on one ring: bytes into and out of its connections, nothing known of what they say.
//!
//! Made by [`super::worker`] before the clock starts, driven on the worker's own thread from then on. A connection goes
//! by its place among the sockets. Each has one receive under way all the time, and one send at most.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use cartwright_ring::{Completion, Received, Ring, RingError, RingOptions, Socket, Tag};

/// How long the kernel is waited for at the end, until it has let go of all memory.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Buffers to receive into: 2 MiB.
const BUFFER_COUNT: u16 = 128;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Kind {
    Receive,
    /// A send that waits for nothing: it ends as soon as it is submitted, and completes only if it fell short.
    SendPromptly,
    /// One that waits for room in the socket's buffer.
    SendRest,
}

/// What an operation is, and on which connection.
#[derive(Clone, Copy, Debug)]
struct Operation {
    kind: Kind,
    place: usize,
}

const KIND_BITS: u32 = 2;

impl Tag for Operation {
    fn to_bits(self) -> u64 {
        (self.place as u64) << KIND_BITS | self.kind as u64
    }

    fn from_bits(bits: u64) -> Self {
        Self {
            kind: match bits & ((1 << KIND_BITS) - 1) {
                0 => Kind::Receive,
                1 => Kind::SendPromptly,
                _ => Kind::SendRest,
            },
            place: (bits >> KIND_BITS) as usize,
        }
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
pub struct Sockets {
    ring: Ring<Operation>,
    // Freed only once the kernel has ended all operations, see `drop`.
    sending: ManuallyDrop<Vec<Sending>>,
    /// Connections whose receive is to be begun.
    unarmed: Vec<usize>,
    /// Connections with a prompt send that may not have been submitted.
    prompt: Vec<usize>,
    completions: Vec<Completion<Operation>>,
}

impl Sockets {
    /// Sets up a ring over connected, blocking sockets. Any thread may; it works from [`Sockets::enable`] on.
    pub fn new(sockets: &[BorrowedFd<'_>]) -> Result<Self, RingError> {
        // A receive and a send for each, and the last cancel: neither queue is ever full. The kernel would keep what
        // does not fit among the completions to itself, and a send that fell short would seem to be done.
        let submissions = (2 * sockets.len() + 1).next_power_of_two() as u32;
        let ring = Ring::new(&RingOptions {
            submissions,
            completions: (submissions + u32::from(BUFFER_COUNT)).next_power_of_two(),
            buffers: BUFFER_COUNT,
            starts_disabled: true,
        })?;
        // The ring holds the files from here on: a place names the same socket for as long as there are operations.
        ring.register_sockets(sockets)?;
        Ok(Self {
            ring,
            sending: ManuallyDrop::new(sockets.iter().map(|_| Sending::default()).collect()),
            unarmed: (0..sockets.len()).collect(),
            prompt: Vec::new(),
            completions: Vec::new(),
        })
    }

    /// Makes it the calling thread's, which alone may use it from now on.
    pub fn enable(&self) -> Result<(), RingError> {
        self.ring.enable()
    }

    /// Sends all of `output`, which is empty afterwards; nothing where the last send has not ended. With the next
    /// [`Sockets::wait`].
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
        self.ring.received(received)
    }

    /// Hands them back.
    pub fn give_back(&mut self, received: Received) {
        self.ring.give_back(received);
    }

    /// Submits everything, and waits until something happens that is not the end of what was just sent. Gives that as
    /// well, and may give nothing.
    pub fn wait(&mut self, timeout: Duration, outcomes: &mut Vec<(usize, Outcome)>) -> Result<(), RingError> {
        while let Some(place) = self.unarmed.pop() {
            let operation = Operation {
                kind: Kind::Receive,
                place,
            };
            self.ring.receive(operation, Socket::Registered(place as u32));
        }
        if timeout.is_zero() {
            self.ring.enter(&mut self.completions, true)?;
        } else {
            self.ring.wait(&mut self.completions, timeout)?;
        }
        self.reap(outcomes);
        Ok(())
    }

    fn push_send(&mut self, place: usize, kind: Kind) {
        let sending = &self.sending[place];
        let rest = &sending.bytes[sending.sent..];
        let (operation, socket) = (Operation { kind, place }, Socket::Registered(place as u32));
        // SAFETY: the bytes are neither changed nor freed until the send has ended: `reap` and `end_send` give them free
        // then, and `drop` waits for it.
        unsafe {
            match kind {
                Kind::SendPromptly => self.ring.send_promptly(operation, socket, rest),
                _ => self.ring.send(operation, socket, rest),
            }
        }
    }

    fn reap(&mut self, outcomes: &mut Vec<(usize, Outcome)>) {
        let mut completions = std::mem::take(&mut self.completions);
        for Completion { tag, .. } in &completions {
            if tag.kind == Kind::SendPromptly {
                self.sending[tag.place].is_slow = true;
            }
        }
        // What was submitted and has not completed as short is sent. It comes first: connections may send again.
        if !self.ring.has_submissions() {
            for place in self.prompt.drain(..) {
                let sending = &mut self.sending[place];
                if !sending.is_slow {
                    sending.bytes.clear();
                    outcomes.push((place, Outcome::Sent));
                }
            }
        }
        for completion in completions.drain(..) {
            let Operation { kind, place } = completion.tag;
            let outcome = match kind {
                Kind::Receive => self.end_receive(place, completion),
                Kind::SendPromptly | Kind::SendRest => self.end_send(place, completion.result),
            };
            outcomes.extend(outcome.map(|outcome| (place, outcome)));
        }
        self.completions = completions;
    }

    fn end_receive(&mut self, place: usize, completion: Completion<Operation>) -> Option<Outcome> {
        let outcome = match (completion.result, completion.received) {
            (Ok(1..), Some(received)) => Some(Outcome::Received(received)),
            // No buffer was free; now that completions were taken, there will be.
            (Err(libc::ENOBUFS), _) => None,
            (Err(error), _) => return Some(failed("receiving", error)),
            (Ok(_), _) => return Some(Outcome::Over),
        };
        if !completion.more {
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
            return None;
        }
        sending.bytes.clear();
        (sending.sent, sending.is_slow) = (0, false);
        Some(Outcome::Sent)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if self.ring.end(END_TIMEOUT) {
            // SAFETY: dropped once, here, and not used afterwards; no send is under way.
            unsafe { ManuallyDrop::drop(&mut self.sending) };
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
    use std::os::fd::AsFd;
    use std::time::Instant;

    use super::*;

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(20);

    /// More than sockets buffer between them.
    const MUCH: usize = 32 << 20;

    struct Wired {
        sockets: Sockets,
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
        let descriptors: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        let sockets = Sockets::new(&descriptors).unwrap();
        sockets.enable().unwrap();
        Wired {
            sockets,
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
                self.sockets.wait(LONG, &mut outcomes).unwrap();
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
                        got[place].extend_from_slice(wired.sockets.received(&received));
                        wired.sockets.give_back(received);
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
        wired.sockets.send(0, &mut output);
        assert!(output.is_empty());
        output.extend_from_slice(b"after");
        wired.sockets.send(0, &mut output);
        assert_eq!(output, b"after", "one send is under way");
        assert!(matches!(wired.wait()[..], [(0, Outcome::Sent)]));
        wired.sockets.send(0, &mut output);
        assert!(output.is_empty());
        wired.sockets.wait(Duration::ZERO, &mut Vec::new()).unwrap();
        assert!(reader.join().unwrap() == [&pattern(0, MUCH)[..], b"after"].concat());
    }

    #[test]
    fn one_call_sends_and_waits_for_the_answer() {
        let mut wired = wire(2);
        for place in 0..2 {
            wired.sockets.send(place, &mut b"ping".to_vec());
        }
        let mut peer = wired.peer(1);
        let answering = std::thread::spawn(move || {
            peer.read_exact(&mut [0; 4]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            peer.write_all(b"pong").unwrap();
            peer
        });
        let mut outcomes = Vec::new();
        wired.sockets.wait(LONG, &mut outcomes).unwrap();
        assert!(
            matches!(
                &outcomes[..],
                [(0, Outcome::Sent), (1, Outcome::Sent), (1, Outcome::Received(received))]
                    if wired.sockets.received(received) == b"pong"
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
        wired.sockets.wait(Duration::from_millis(30), &mut outcomes).unwrap();
        assert!(outcomes.is_empty() && begin.elapsed() >= Duration::from_millis(30));
        assert!(begin.elapsed() < LONG / 2);
    }

    #[test]
    fn the_end_of_a_connection_is_told_from_its_failure() {
        let mut wired = wire(2);
        drop(wired.peer(0));
        assert!(matches!(wired.wait()[..], [(0, Outcome::Over)]));
        // A socket that is closed with bytes unread resets the connection.
        wired.sockets.send(1, &mut b"unread".to_vec());
        let mut outcomes = Vec::new();
        wired.sockets.wait(Duration::from_millis(10), &mut outcomes).unwrap();
        drop(wired.peer(1));
        match &wired.wait()[..] {
            [(1, Outcome::Failed { source, .. })] => assert_eq!(source.kind(), io::ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn they_end_though_nobody_reads_or_writes() {
        let mut wired = wire(3);
        wired.sockets.send(1, &mut pattern(0, MUCH));
        wired.sockets.wait(Duration::from_millis(10), &mut Vec::new()).unwrap();
        assert_eq!(wired.sockets.ring.under_way(), 4, "three receives and a send");
        assert!(wired.sockets.ring.end(END_TIMEOUT) && wired.sockets.ring.under_way() == 0);
    }
}
