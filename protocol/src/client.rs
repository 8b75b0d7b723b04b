//! A small blocking client of the native protocol: one request at a time, or pipelined.
//!
//! Used by the tools and the black-box tests. One connection, no retries, no threads of its own:
//! [`Client::split`] gives a half that sends and a half that receives, for two threads.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::native::{
    BodyError, CLIENT_HELLO_BYTES, ClientHello, FrameError, HelloError, HelloStatus, PROTOCOL_VERSION,
    REQUEST_ID_CONNECTION, SHARD_ANY, ServerHello, decode_frame, decode_reply, encode_ping, encode_request,
};
use crate::shop::{Answer as _, Command};
use crate::{Error, Operation, Reply};

/// How much is read from the socket at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// How long [`Client::connect`] waits for the connection and for the server's hello.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call did not get its reply. A refusal by the shop is a [`Reply::Error`], not one of these.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or the name is not known.
    #[error("cannot connect to {address}: {source}; is the server running?")]
    Connect {
        /// What was tried.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The socket failed.
    #[error("{doing} failed: {source}; connect again, and repeat what has an idempotency key")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing came, or nothing could be sent, within the timeout. The connection is still good: receive again.
    #[error("{doing} took longer than the timeout; the request may have taken effect, receive again or retry its key")]
    TimedOut {
        /// What was tried.
        doing: &'static str,
    },
    /// The server closed the connection.
    #[error("the server closed the connection; connect again, and repeat what has an idempotency key")]
    Closed,
    /// What answers there is not a Cartwright server.
    #[error("no Cartwright server answers there: {0}")]
    Hello(#[from] HelloError),
    /// The server did not let this client in.
    #[error(
        "the server refused the connection: {status:?} (it speaks version {version}, this client {PROTOCOL_VERSION})"
    )]
    Refused {
        /// Why.
        status: HelloStatus,
        /// The server's version.
        version: u8,
    },
    /// The server says something about the connection itself, and closes it.
    #[error("the server closes the connection: {0}")]
    Connection(Error),
    /// The stream is damaged.
    #[error("the server's stream is damaged: {0}")]
    Frame(#[from] FrameError),
    /// Client and server do not agree on a reply's layout.
    #[error("a reply cannot be understood: {0}")]
    Body(#[from] BodyError),
    /// The reply is none that answers the command.
    #[error("{command} was answered with {reply:?}, which is no answer to it; is the client older than the server?")]
    Answer {
        /// What was asked.
        command: &'static str,
        /// What came.
        reply: Box<Reply>,
    },
}

fn io_error(doing: &'static str, source: std::io::Error) -> ClientError {
    match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::TimedOut { doing },
        _ => ClientError::Io { doing, source },
    }
}

/// The half of a connection that sends.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of `buffer` a flush that timed out had already written.
    written: usize,
    next_id: u64,
}

impl Sender {
    /// Buffers `operation` and gives its request id. Nothing leaves before [`Sender::flush`].
    pub fn send(&mut self, operation: &Operation) -> u64 {
        let id = self.take_id();
        encode_request(&mut self.buffer, id, operation);
        id
    }

    /// Buffers a ping and gives its request id; the answer is [`Reply::Ok`].
    pub fn send_ping(&mut self) -> u64 {
        let id = self.take_id();
        encode_ping(&mut self.buffer, id);
        id
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// How many bytes wait for [`Sender::flush`].
    pub const fn buffered_bytes(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Sends what is buffered. Blocks while the server does not read, which it stops doing while too many replies are
    /// unread: a single thread must receive before it has sent that many. After a timeout, flush again to go on.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        while self.written < self.buffer.len() {
            match self.stream.write(&self.buffer[self.written..]) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(io_error("sending", error)),
            }
        }
        self.buffer.clear();
        self.written = 0;
        Ok(())
    }

    /// Tells the server that nothing more will come; replies to what was sent still arrive.
    pub fn finish(mut self) -> Result<(), ClientError> {
        self.flush()?;
        self.stream
            .shutdown(std::net::Shutdown::Write)
            .map_err(|error| io_error("closing", error))
    }
}

/// The half of a connection that receives.
#[derive(Debug)]
pub struct Receiver {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where in `buffer` the next frame begins.
    start: usize,
    /// Where in `buffer` the received bytes end; behind it is room to read into.
    end: usize,
}

impl Receiver {
    /// The next reply and the id of its request; waits for it. Replies come in any order. After a timeout, nothing is
    /// lost: receive again.
    pub fn receive(&mut self) -> Result<(u64, Reply), ClientError> {
        loop {
            if let Some(received) = self.received()? {
                return Ok(received);
            }
            self.fill()?;
        }
    }

    /// A reply that has already arrived, without asking the socket.
    pub fn received(&mut self) -> Result<Option<(u64, Reply)>, ClientError> {
        let Some((frame, consumed)) = decode_frame(&self.buffer[self.start..self.end])? else {
            return Ok(None);
        };
        let (id, reply) = (frame.request_id, decode_reply(&frame)?);
        self.start += consumed;
        match reply {
            Reply::Error(error) if id == REQUEST_ID_CONNECTION => Err(ClientError::Connection(error)),
            reply => Ok(Some((id, reply))),
        }
    }

    /// How long [`Receiver::receive`] waits; `None`: for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.stream
            .set_read_timeout(timeout)
            .map_err(|error| io_error("setting the timeout", error))
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start >= READ_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() < self.end + READ_BYTES {
            self.buffer.resize(self.end + READ_BYTES, 0);
        }
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(io_error("receiving", error)),
            }
        }
    }

    fn receive_hello(&mut self) -> Result<ServerHello, ClientError> {
        loop {
            if let Some(hello) = ServerHello::decode(&self.buffer[self.start..self.end])? {
                self.start += crate::native::SERVER_HELLO_BYTES;
                return Ok(hello);
            }
            self.fill()?;
        }
    }
}

/// A connection to a server.
///
/// ```no_run
/// use cartwright_protocol::{ItemGet, Sku, client::Client};
///
/// let mut client = Client::connect("127.0.0.1:6379")?;
/// let reply = client.call(&ItemGet { sku: Sku::new(b"22423")? }.into())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    receiver: Receiver,
    server: ServerHello,
    /// Replies to pipelined requests that [`Client::call`] met while it waited for its own.
    early: VecDeque<(u64, Reply)>,
}

impl Client {
    /// Connects, within [`CONNECT_TIMEOUT`], and exchanges hellos.
    pub fn connect(address: impl ToSocketAddrs + std::fmt::Debug) -> Result<Self, ClientError> {
        Self::connect_within(address, CONNECT_TIMEOUT)
    }

    /// Connects to the first of the address's socket addresses that answers, each within `timeout`.
    pub fn connect_within(
        address: impl ToSocketAddrs + std::fmt::Debug,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect {
            address: format!("{address:?}"),
            source,
        };
        let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
        for candidate in address.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&candidate, timeout) {
                Ok(stream) => return Self::greet(stream, timeout),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    fn greet(stream: TcpStream, timeout: Duration) -> Result<Self, ClientError> {
        let setup = |error| io_error("setting up the connection", error);
        stream.set_nodelay(true).map_err(setup)?;
        stream.set_read_timeout(Some(timeout)).map_err(setup)?;
        let hello: [u8; CLIENT_HELLO_BYTES] = ClientHello {
            version: PROTOCOL_VERSION,
            shard: SHARD_ANY,
        }
        .encode();
        let receiving = stream.try_clone().map_err(setup)?;
        let mut sender = Sender {
            stream,
            buffer: hello.to_vec(),
            written: 0,
            next_id: 0,
        };
        let mut receiver = Receiver {
            stream: receiving,
            buffer: Vec::new(),
            start: 0,
            end: 0,
        };
        sender.flush()?;
        let server = receiver.receive_hello()?;
        if server.status != HelloStatus::Welcome {
            return Err(ClientError::Refused {
                status: server.status,
                version: server.version,
            });
        }
        receiver.set_timeout(None)?;
        Ok(Self {
            sender,
            receiver,
            server,
            early: VecDeque::new(),
        })
    }

    /// What the server said first: its shards and limits.
    pub const fn server(&self) -> &ServerHello {
        &self.server
    }

    /// The server's address.
    pub fn peer_address(&self) -> Result<SocketAddr, ClientError> {
        self.sender
            .stream
            .peer_addr()
            .map_err(|error| io_error("asking for the address", error))
    }

    /// How long a receive and a flush wait; `None`, as at first: for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.sender
            .stream
            .set_write_timeout(timeout)
            .map_err(|error| io_error("setting the timeout", error))?;
        self.receiver.set_timeout(timeout)
    }

    /// Sends `operation` and waits for its reply. Replies to requests pipelined before are kept for
    /// [`Client::receive`].
    pub fn call(&mut self, operation: &Operation) -> Result<Reply, ClientError> {
        let id = self.send(operation);
        self.wait_for(id)
    }

    /// Sends `command` and waits for its answer, in the type that its declaration says. The inner error is the shop's
    /// refusal.
    ///
    /// ```no_run
    /// use cartwright_protocol::{ItemGet, Sku, client::Client};
    ///
    /// let mut client = Client::connect("127.0.0.1:6379")?;
    /// if let Some(item) = client.ask(ItemGet { sku: Sku::new(b"22423")? })?? {
    ///     println!("{} costs {}", item.sku, item.price.minor_units());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask<C: Command>(&mut self, command: C) -> Result<Result<C::Answer, Error>, ClientError> {
        match self.call(&command.into())? {
            Reply::Error(error) => Ok(Err(error)),
            reply => match C::Answer::from_reply(reply) {
                Ok(answer) => Ok(Ok(answer)),
                Err(reply) => Err(ClientError::Answer {
                    command: C::SPEC.name,
                    reply: Box::new(reply),
                }),
            },
        }
    }

    /// Asks whether the server's connection lives, and waits for the answer.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        let id = self.sender.send_ping();
        self.wait_for(id).map(drop)
    }

    fn wait_for(&mut self, id: u64) -> Result<Reply, ClientError> {
        self.flush()?;
        loop {
            let (received, reply) = self.receiver.receive()?;
            if received == id {
                return Ok(reply);
            }
            self.early.push_back((received, reply));
        }
    }

    /// Buffers `operation` and gives its request id. Nothing leaves before [`Client::flush`].
    pub fn send(&mut self, operation: &Operation) -> u64 {
        self.sender.send(operation)
    }

    /// Sends what is buffered; see [`Sender::flush`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.sender.flush()
    }

    /// The next reply and the id of its request; see [`Receiver::receive`].
    pub fn receive(&mut self) -> Result<(u64, Reply), ClientError> {
        match self.early.pop_front() {
            Some(received) => Ok(received),
            None => self.receiver.receive(),
        }
    }

    /// One half to send with and one to receive with, for two threads. Replies that [`Client::call`] kept are lost:
    /// split before pipelining.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}
