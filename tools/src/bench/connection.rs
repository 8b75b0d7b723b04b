//! One connection of a worker: requests in flight on a socket, each remembered until its answer.
//!
//! Driven by [`super::worker`], which moves the bytes over its ring. It never connects again.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use cartwright_protocol::native::{
    ClientHello, HelloError, HelloStatus, PROTOCOL_VERSION, SERVER_HELLO_BYTES, SHARD_ANY, ServerHello,
};
use cartwright_ring::RingError;

use super::answer::{Answer, AnswerError, AnswerReader, Wire};
use super::source::Tag;

/// How long a connection may take to come about, and a server to say hello.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody listens there.
    #[error("cannot connect to {address}: {source}; is the server running, and on this port?")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// What moves the bytes failed.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The socket failed.
    #[error("{doing} failed: {source}; look at the server's own messages")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server went away.
    #[error("the server closed a connection with {in_flight} requests unanswered; look at its own messages")]
    Closed {
        /// How many.
        in_flight: usize,
    },
    /// It speaks no native protocol.
    #[error("no Cartwright server answers there: {0}; for a Redis give --protocol resp")]
    Hello(#[from] HelloError),
    /// It takes no more connections, or none of this version.
    #[error("the server refused a connection: {0:?}; for Full, give fewer --connections")]
    Refused(HelloStatus),
    /// What it says cannot be understood.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// It answers a request that was not sent.
    #[error("the server answered request {0}, which is not in flight")]
    Unasked(u64),
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// What its source calls it.
    pub tag: Tag,
    /// From when its latency counts, in nanoseconds of the run.
    pub since_ns: u64,
}

/// See above.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    answers: AnswerReader,
    /// To be sent.
    output: Vec<u8>,
    /// The begin of an answer.
    input: Vec<u8>,
    /// Native requests by their id less one; RESP requests by their turn.
    slots: Vec<Option<Pending>>,
    free: Vec<u32>,
    turns: VecDeque<u32>,
}

impl Connection {
    /// Connects; `depth` requests at most are in flight.
    pub fn open(address: SocketAddr, wire: Wire, depth: usize) -> Result<Self, ConnectionError> {
        let io = |doing| move |source| ConnectionError::Io { doing, source };
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
            .map_err(|source| ConnectionError::Connect { address, source })?;
        stream.set_nodelay(true).map_err(io("setting up a connection"))?;
        let mut connection = Self {
            stream,
            answers: AnswerReader::new(wire),
            output: Vec::new(),
            input: Vec::new(),
            slots: vec![None; depth],
            free: (0..depth as u32).rev().collect(),
            turns: VecDeque::with_capacity(depth),
        };
        if wire == Wire::Native {
            connection.greet()?;
        }
        Ok(connection)
    }

    fn greet(&mut self) -> Result<(), ConnectionError> {
        let io = |source| ConnectionError::Io {
            doing: "exchanging hellos",
            source,
        };
        let hello = ClientHello {
            version: PROTOCOL_VERSION,
            shard: SHARD_ANY,
        };
        self.stream.set_read_timeout(Some(CONNECT_TIMEOUT)).map_err(io)?;
        self.stream.write_all(&hello.encode()).map_err(io)?;
        let mut bytes = [0; SERVER_HELLO_BYTES];
        let mut length = 0;
        loop {
            match ServerHello::decode(&bytes[..length])? {
                Some(hello) if hello.status == HelloStatus::Welcome => return Ok(()),
                Some(hello) => return Err(ConnectionError::Refused(hello.status)),
                None => {}
            }
            match self.stream.read(&mut bytes[length..]).map_err(io)? {
                0 => return Err(ConnectionError::Closed { in_flight: 0 }),
                count => length += count,
            }
        }
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether another request may be in flight.
    pub const fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// How many requests have no answer.
    pub const fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Requests without an answer.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.slots.iter().flatten()
    }

    /// Requests to be sent.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Buffers the request that `make` appends, if it does and there is room.
    pub fn push(&mut self, since_ns: u64, make: impl FnOnce(&mut Vec<u8>, u64) -> Option<Tag>) -> bool {
        let Some(&slot) = self.free.last() else { return false };
        let Some(tag) = make(&mut self.output, u64::from(slot) + 1) else {
            return false;
        };
        self.free.pop();
        self.slots[slot as usize] = Some(Pending { tag, since_ns });
        if self.answers.wire() == Wire::Resp {
            self.turns.push_back(slot);
        }
        true
    }

    /// Takes bytes in, and gives every answer that is whole to `hear`, with the request it is for.
    pub fn receive(&mut self, bytes: &[u8], hear: impl FnMut(&Pending, &Answer<'_>)) -> Result<(), ConnectionError> {
        if self.input.is_empty() {
            let taken = self.take_answers(bytes, hear)?;
            self.input.extend_from_slice(&bytes[taken..]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let taken = self.take_answers(&input, hear)?;
            input.drain(..taken);
            self.input = input;
        }
        Ok(())
    }

    /// Gives how many bytes the answers took.
    fn take_answers(
        &mut self,
        bytes: &[u8],
        mut hear: impl FnMut(&Pending, &Answer<'_>),
    ) -> Result<usize, ConnectionError> {
        let mut taken = 0;
        while let Some(answered) = self.answers.read(&bytes[taken..])? {
            let unasked = ConnectionError::Unasked(answered.request_id);
            let slot = match self.answers.wire() {
                Wire::Native => (answered.request_id - 1) as usize,
                Wire::Resp => match self.turns.pop_front() {
                    Some(slot) => slot as usize,
                    None => return Err(unasked),
                },
            };
            let Some(pending) = self.slots.get_mut(slot).and_then(Option::take) else {
                return Err(unasked);
            };
            self.free.push(slot as u32);
            hear(&pending, &answered.answer);
            taken += answered.bytes;
        }
        Ok(taken)
    }

    /// The other end sends no more.
    pub const fn closed(&self) -> ConnectionError {
        ConnectionError::Closed {
            in_flight: self.in_flight(),
        }
    }

    /// The socket failed.
    pub fn lost(&self, doing: &'static str, source: std::io::Error) -> ConnectionError {
        match source.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.closed(),
            _ => ConnectionError::Io { doing, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_are_heard_in_turn_however_the_bytes_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bytes = b":0\r\n$4\r\n\r\n\r\n\r\n-BUSY later\r\n:3\r\n";
        for length in 1..=bytes.len() {
            let mut connection = Connection::open(listener.local_addr().unwrap(), Wire::Resp, 4).unwrap();
            for number in 0..4 {
                let tag = Tag {
                    class: number,
                    ..Tag::default()
                };
                assert!(connection.push(u64::from(number), |_, _| Some(tag)));
            }
            assert!(!connection.has_room());
            let mut heard = Vec::new();
            for piece in bytes.chunks(length) {
                connection
                    .receive(piece, |pending, answer| {
                        let refused = matches!(answer, Answer::Refused { code: "BUSY", .. });
                        heard.push((pending.tag.class, pending.since_ns, refused));
                    })
                    .unwrap();
            }
            assert_eq!(heard, [(0, 0, false), (1, 1, false), (2, 2, true), (3, 3, false)]);
            assert_eq!(connection.in_flight(), 0);
            assert!(matches!(
                connection.receive(b"+OK\r\n", |_, _| ()),
                Err(ConnectionError::Unasked(_))
            ));
        }
    }
}
