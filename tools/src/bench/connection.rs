//! One connection of a worker: requests in flight on a non-blocking socket, each remembered until its answer.
//!
//! Driven by [`super::worker`]. It writes everything that has gathered with one call and reads all that is there with
//! one. It never connects again.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use cartwright_protocol::native::{
    ClientHello, HelloError, HelloStatus, PROTOCOL_VERSION, SERVER_HELLO_BYTES, SHARD_ANY, ServerHello,
};

use super::answer::{Answer, AnswerError, Wire, read_answer};
use super::source::Tag;

/// How long a connection may take to come about, and a server to say hello.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is read from the socket at once, in bytes.
const READ_BYTES: usize = 128 * 1024;

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
    wire: Wire,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    start: usize,
    end: usize,
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
            wire,
            output: Vec::new(),
            written: 0,
            input: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            slots: vec![None; depth],
            free: (0..depth as u32).rev().collect(),
            turns: VecDeque::with_capacity(depth),
        };
        if wire == Wire::Native {
            connection.greet()?;
        }
        connection
            .stream
            .set_nonblocking(true)
            .map_err(io("setting up a connection"))?;
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
    pub fn descriptor(&self) -> BorrowedFd<'_> {
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

    /// Whether bytes wait to be written.
    pub const fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    /// Buffers the request that `make` appends, if it does and there is room.
    pub fn push(&mut self, since_ns: u64, make: impl FnOnce(&mut Vec<u8>, u64) -> Option<Tag>) -> bool {
        let Some(&slot) = self.free.last() else { return false };
        let Some(tag) = make(&mut self.output, u64::from(slot) + 1) else {
            return false;
        };
        self.free.pop();
        self.slots[slot as usize] = Some(Pending { tag, since_ns });
        if self.wire == Wire::Resp {
            self.turns.push_back(slot);
        }
        true
    }

    /// Writes as much as the socket takes.
    pub fn flush(&mut self) -> Result<(), ConnectionError> {
        while self.has_output() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(self.closed()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.lost("sending", source)),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what is there, at most a buffer full; gives whether anything was.
    pub fn fill(&mut self) -> Result<bool, ConnectionError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() {
            self.input.resize(self.end + READ_BYTES, 0);
        }
        loop {
            match self.stream.read(&mut self.input[self.end..]) {
                Ok(0) => return Err(self.closed()),
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.lost("receiving", source)),
            }
        }
    }

    /// Gives every answer that was read to `hear`, with the request it is for.
    pub fn take_answers(&mut self, mut hear: impl FnMut(&Pending, &Answer<'_>)) -> Result<(), ConnectionError> {
        while let Some(answered) = read_answer(self.wire, &self.input[self.start..self.end])? {
            let unasked = ConnectionError::Unasked(answered.request_id);
            let slot = match self.wire {
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
            self.start += answered.bytes;
        }
        Ok(())
    }

    fn closed(&self) -> ConnectionError {
        ConnectionError::Closed {
            in_flight: self.in_flight(),
        }
    }

    fn lost(&self, doing: &'static str, source: std::io::Error) -> ConnectionError {
        match source.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.closed(),
            _ => ConnectionError::Io { doing, source },
        }
    }
}
