//! One client's connection as the network sees it: what is under way on its socket, and when it is over.
//!
//! [`super::Network`] owns these. The bytes' meaning is the [`Endpoint`]'s.

use std::os::fd::OwnedFd;

/// What stands behind a connection: bytes in, bytes out. The server's is `session::Session`.
pub trait Endpoint {
    /// Takes bytes from the client.
    fn receive(&mut self, bytes: &[u8]);
    /// Bytes for the client; the network takes them all, and leaves an empty buffer in their place.
    fn output(&mut self) -> &mut Vec<u8>;
    /// `false` while no more bytes should come: some bound is reached.
    fn wants_input(&self) -> bool;
    /// The connection ends once the output is sent.
    fn is_closing(&self) -> bool;
    /// Something is still to come for the client, though it may have stopped sending.
    fn is_busy(&self) -> bool;
}

/// A send buffer that grew beyond this is let go after use, so that one large reply does not cost memory for ever.
const SEND_BUFFER_KEPT_BYTES: usize = 64 << 10;

/// The state of a connection's multishot receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// None under way.
    Idle,
    /// Under way.
    Armed,
    /// Under way, and told to end.
    Ending,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// In use.
    Open,
    /// The socket failed, or all is said: nothing more is sent or taken in.
    Over,
    /// The same, and `shutdown` was called, so that operations under way end.
    Shut,
}

/// A connection over a socket, which is open as long as the connection is.
pub struct Connection<E, S = OwnedFd> {
    socket: S,
    /// The bytes' other end.
    pub endpoint: E,
    /// The receive under way.
    pub receive: Receive,
    /// The client has sent all it will.
    pub input_over: bool,
    /// Whether anything is still sent and taken in.
    pub life: Life,
    /// It is on the list of connections to be looked after.
    pub listed: bool,
    sending: Vec<u8>,
    /// So many of them are sent.
    sent: usize,
    send_under_way: bool,
}

/// What is to be done about a connection next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    None,
    /// Begin to receive.
    Receive,
    /// End the receive under way, for now.
    Pause,
    /// It is over, and operations are under way: make them end.
    Shut,
    /// It is over, and nothing is under way.
    Remove,
}

impl<E: Endpoint, S> Connection<E, S> {
    /// Over a connected socket.
    pub const fn new(socket: S, endpoint: E) -> Self {
        Self {
            socket,
            endpoint,
            receive: Receive::Idle,
            input_over: false,
            life: Life::Open,
            listed: false,
            sending: Vec::new(),
            sent: 0,
            send_under_way: false,
        }
    }

    /// The socket.
    pub const fn socket(&self) -> &S {
        &self.socket
    }

    /// Closes the socket; what stood behind it is left.
    pub fn into_endpoint(self) -> E {
        self.endpoint
    }

    /// Takes the endpoint's output to be sent on the socket, if there is some, and none is under way already. The bytes
    /// stay where they are until [`Connection::sent`].
    pub fn begin_send(&mut self) -> Option<(&S, &[u8])> {
        if self.life != Life::Open || self.send_under_way || self.endpoint.output().is_empty() {
            return None;
        }
        std::mem::swap(&mut self.sending, self.endpoint.output());
        self.send_under_way = true;
        Some((&self.socket, &self.sending))
    }

    /// The send under way has ended, having sent `length` bytes. Gives what a short one left, to be sent next.
    pub fn sent(&mut self, length: usize) -> Option<(&S, &[u8])> {
        assert!(self.send_under_way, "a send ends once");
        self.sent += length;
        if self.sent < self.sending.len() && self.life == Life::Open {
            return Some((&self.socket, &self.sending[self.sent..]));
        }
        self.sent = 0;
        self.sending.clear();
        if self.sending.capacity() > SEND_BUFFER_KEPT_BYTES {
            self.sending = Vec::new();
        }
        self.send_under_way = false;
        None
    }

    /// The socket failed, or all is said.
    pub fn end(&mut self) {
        if self.life == Life::Open {
            self.life = Life::Over;
        }
    }

    /// Whether some output is not yet with the kernel.
    pub fn has_output(&mut self) -> bool {
        self.life == Life::Open && (self.send_under_way || !self.endpoint.output().is_empty())
    }

    /// The next thing to do, after output has been sent or is being sent.
    pub fn next_step(&mut self) -> Step {
        let said = !self.send_under_way && self.endpoint.output().is_empty();
        let ending = self.endpoint.is_closing() || (self.input_over && !self.endpoint.is_busy());
        if ending && said {
            self.end();
        }
        let idle = self.receive == Receive::Idle && !self.send_under_way;
        match self.life {
            Life::Open => {}
            _ if idle => return Step::Remove,
            Life::Over => return Step::Shut,
            Life::Shut => return Step::None,
        }
        let wanted = !ending && !self.input_over && self.endpoint.wants_input();
        match self.receive {
            Receive::Idle if wanted => Step::Receive,
            Receive::Armed if !wanted => Step::Pause,
            _ => Step::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        output: Vec<u8>,
        full: bool,
        closing: bool,
        busy: bool,
    }

    impl Endpoint for Fake {
        fn receive(&mut self, _bytes: &[u8]) {}
        fn output(&mut self) -> &mut Vec<u8> {
            &mut self.output
        }
        fn wants_input(&self) -> bool {
            !self.full
        }
        fn is_closing(&self) -> bool {
            self.closing
        }
        fn is_busy(&self) -> bool {
            self.busy
        }
    }

    fn connection() -> Connection<Fake> {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        Connection::new(one.into(), Fake::default())
    }

    #[test]
    fn a_full_endpoint_pauses_and_resumes_receiving() {
        let mut connection = connection();
        assert_eq!(connection.next_step(), Step::Receive);
        connection.receive = Receive::Armed;
        assert_eq!(connection.next_step(), Step::None);
        connection.endpoint.full = true;
        assert_eq!(connection.next_step(), Step::Pause);
        connection.receive = Receive::Ending;
        assert_eq!(connection.next_step(), Step::None);
        connection.receive = Receive::Idle;
        assert_eq!(connection.next_step(), Step::None);
        connection.endpoint.full = false;
        assert_eq!(connection.next_step(), Step::Receive);
    }

    #[test]
    fn a_client_that_stopped_sending_still_gets_its_replies() {
        let mut connection = connection();
        connection.input_over = true;
        connection.endpoint.busy = true;
        assert_eq!(connection.next_step(), Step::None);
        connection.endpoint.busy = false;
        connection.endpoint.output.extend_from_slice(b"reply");
        assert_eq!(connection.begin_send().map(|(_, bytes)| bytes), Some(&b"reply"[..]));
        assert_eq!(connection.next_step(), Step::None);
        assert!(connection.sent(5).is_none());
        assert_eq!(connection.next_step(), Step::Remove);
    }

    #[test]
    fn a_connection_is_removed_only_when_nothing_is_under_way() {
        let mut connection = connection();
        connection.receive = Receive::Armed;
        connection.endpoint.output.extend_from_slice(b"error");
        connection.endpoint.closing = true;
        assert!(connection.begin_send().is_some());
        assert_eq!(connection.next_step(), Step::Pause);
        connection.receive = Receive::Ending;
        connection.end();
        assert_eq!(connection.next_step(), Step::Shut);
        connection.life = Life::Shut;
        assert_eq!(connection.next_step(), Step::None);
        connection.receive = Receive::Idle;
        assert_eq!(connection.next_step(), Step::None);
        assert!(connection.sent(0).is_none());
        assert_eq!(connection.next_step(), Step::Remove);
    }

    #[test]
    fn a_short_send_goes_on_where_it_stopped() {
        let mut connection = connection();
        connection.endpoint.output.extend_from_slice(b"abcdef");
        assert!(connection.begin_send().is_some());
        assert_eq!(connection.sent(2).map(|(_, bytes)| bytes), Some(&b"cdef"[..]));
        assert!(connection.begin_send().is_none());
        assert!(connection.sent(4).is_none());
    }
}
