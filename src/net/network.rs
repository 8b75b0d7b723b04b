//! All of a shard's network: its ring, its connections, and the log syncs and the timer that share the ring.
//!
//! The shard loop calls [`Network::turn`] once per turn and acts on the [`Events`]; what it changes about a connection
//! it makes known with [`Network::touch`], and all touched ones are looked after together before the next turn's one
//! system call.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use cartwright_ring::{Completion, Doorbell, Ring, RingError, RingOptions, Socket};
use rustix::net::{Shutdown, shutdown};

use super::connection::{Connection, Endpoint, Life, Receive, Step};
use super::token::{ConnectionId, GENERATION_COUNT, Token};

/// A shard's ring.
const RING: RingOptions = RingOptions {
    submissions: 4096,
    completions: 16_384,
    // 8 MiB, twice what a turn takes in at 256 busy connections. When all are out, receives are begun again one turn
    // later.
    buffers: 512,
    starts_disabled: false,
};

/// What a turn brought.
#[derive(Debug)]
pub struct Events<E> {
    /// New connections, to be dealt out.
    pub accepted: Vec<OwnedFd>,
    /// Connections whose endpoints have taken in bytes, or got rid of output; one may be named more than once.
    pub stirred: Vec<ConnectionId>,
    /// Parts of a log sync that have ended, by number, with the error number of those that failed.
    pub synced: Vec<(u32, Result<(), i32>)>,
    /// Connections that are gone, and what stood behind them.
    pub closed: Vec<(ConnectionId, E)>,
    /// Accepting ended with this error number; it is to be begun again after a while.
    pub accept_failed: Option<i32>,
    /// Bytes that the kernel took for clients.
    pub sent_bytes: u64,
    /// The timer ran out.
    pub timer: bool,
    /// Whether anything at all happened.
    pub any: bool,
}

impl<E> Default for Events<E> {
    fn default() -> Self {
        Self {
            accepted: Vec::new(),
            stirred: Vec::new(),
            synced: Vec::new(),
            closed: Vec::new(),
            accept_failed: None,
            sent_bytes: 0,
            timer: false,
            any: false,
        }
    }
}

impl<E> Events<E> {
    fn clear(&mut self) {
        self.accepted.clear();
        self.stirred.clear();
        self.synced.clear();
        self.closed.clear();
        (self.accept_failed, self.timer, self.any) = (None, false, false);
        self.sent_bytes = 0;
    }
}

struct Place<E> {
    generation: u32,
    connection: Option<Box<Connection<E>>>,
}

/// A shard's network.
pub struct Network<E> {
    ring: Ring<Token>,
    places: Vec<Place<E>>,
    free: Vec<u32>,
    open: usize,
    touched: Vec<ConnectionId>,
    completions: Vec<Completion<Token>>,
    listener: Option<TcpListener>,
    accepting: bool,
    timer_running: bool,
}

impl<E: Endpoint> Network<E> {
    /// On the shard's own thread. `doorbell` is rung by the ring while [`Network::notify`] is on.
    pub fn new(doorbell: &Doorbell) -> Result<Self, RingError> {
        let mut ring = Ring::new(&RING)?;
        ring.register_eventfd(doorbell.as_fd())?;
        Ok(Self {
            ring,
            places: Vec::new(),
            free: Vec::new(),
            open: 0,
            touched: Vec::new(),
            completions: Vec::new(),
            listener: None,
            accepting: false,
            timer_running: false,
        })
    }

    /// Begins to accept connections, or does so again after [`Events::accept_failed`].
    pub fn accept(&mut self, listener: Option<TcpListener>) {
        if listener.is_some() {
            self.listener = listener;
        }
        if let (Some(listener), false) = (&self.listener, self.accepting) {
            self.ring.accept(Token::Accept, listener.as_fd());
            self.accepting = true;
        }
    }

    /// Accepts no more connections; those that wait to be accepted are reset.
    pub fn stop_accepting(&mut self) {
        if let (Some(listener), true) = (&self.listener, self.accepting) {
            shut(listener.as_fd());
            self.ring.cancel(Token::Accept);
        }
    }

    /// Takes over a connected socket; `endpoint` makes its other end.
    pub fn adopt(&mut self, socket: OwnedFd, endpoint: impl FnOnce(ConnectionId) -> E) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                generation: 0,
                connection: None,
            });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        let id = ConnectionId {
            index,
            generation: place.generation,
        };
        place.connection = Some(Box::new(Connection::new(socket, endpoint(id))));
        self.open += 1;
        self.touch(id);
        id
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The endpoint of a connection that still exists.
    pub fn endpoint(&mut self, id: ConnectionId) -> Option<&mut E> {
        Some(&mut self.connection(id)?.endpoint)
    }

    /// All connections' endpoints.
    pub fn endpoints(&mut self) -> impl Iterator<Item = &mut E> {
        self.places
            .iter_mut()
            .filter_map(|place| Some(&mut place.connection.as_mut()?.endpoint))
    }

    /// The same, with their names.
    pub fn identified(&mut self) -> impl Iterator<Item = (ConnectionId, &mut E)> {
        self.places.iter_mut().enumerate().filter_map(|(index, place)| {
            let id = ConnectionId {
                index: index as u32,
                generation: place.generation,
            };
            Some((id, &mut place.connection.as_mut()?.endpoint))
        })
    }

    /// Closes a connection, output or not.
    pub fn abandon(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.end();
            self.touch(id);
        }
    }

    /// Something about the endpoint changed: it has output, or wants input again, or is to close.
    pub fn touch(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if !connection.listed {
            connection.listed = true;
            self.touched.push(id);
        }
    }

    /// Closes every connection, output or not.
    pub fn abandon_all(&mut self) {
        for index in 0..self.places.len() as u32 {
            let id = ConnectionId {
                index,
                generation: self.places[index as usize].generation,
            };
            self.abandon(id);
        }
    }

    /// Whether output of some connection is not yet with the kernel.
    pub fn has_output(&mut self) -> bool {
        self.places
            .iter_mut()
            .filter_map(|place| place.connection.as_mut())
            .any(|connection| connection.has_output())
    }

    /// Begins to make a range of a file durable; ends with [`Events::synced`]. The file must stay open until then.
    pub fn sync(&mut self, part: u32, file: BorrowedFd<'_>, offset: u64, length: u32) {
        self.ring.sync(Token::Sync(part), file, offset, length);
    }

    /// Sets the timer, which may be running, to run out after this long.
    pub fn set_timer(&mut self, after: Duration) {
        if self.timer_running {
            self.ring.move_timer(Token::Timer, after);
        } else {
            self.ring.start_timer(Token::Timer, after);
            self.timer_running = true;
        }
    }

    /// Whether the ring rings the doorbell; see [`Ring::notify`].
    pub fn notify(&mut self, on: bool) {
        self.ring.notify(on);
    }

    /// Whether operations wait for the next turn to be submitted.
    pub fn has_submissions(&mut self) -> bool {
        !self.touched.is_empty() || self.ring.has_submissions()
    }

    /// Looks after touched connections, submits everything, and takes what has completed. `force` makes the system
    /// call even when nothing seems due: once after [`Network::notify`] was switched on.
    pub fn turn(&mut self, events: &mut Events<E>, force: bool) -> Result<(), RingError> {
        events.clear();
        self.look_after_touched(events);
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.enter(&mut completions, force)?;
        events.any = !completions.is_empty();
        for completion in completions.drain(..) {
            self.complete(completion, events);
        }
        self.completions = completions;
        Ok(())
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection<E>> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.generation == id.generation {
            place.connection.as_deref_mut()
        } else {
            None
        }
    }

    fn complete(&mut self, completion: Completion<Token>, events: &mut Events<E>) {
        match completion.tag {
            Token::Accept => {
                self.accepting = completion.more;
                match completion.result {
                    // SAFETY: the kernel has just opened the descriptor for us.
                    Ok(socket) => events.accepted.push(unsafe { OwnedFd::from_raw_fd(socket as RawFd) }),
                    Err(error) => events.accept_failed = Some(error),
                }
                if !completion.more && completion.result.is_ok() {
                    self.accept(None);
                }
            }
            Token::Receive(id) => self.received(id, completion, events),
            Token::Send(id) => {
                events.sent_bytes += u64::from(completion.result.unwrap_or(0));
                self.sent(id, completion.result);
                events.stirred.push(id);
            }
            Token::Sync(part) => events.synced.push((part, completion.result.map(drop))),
            Token::Timer => {
                self.timer_running = false;
                events.timer = true;
            }
        }
    }

    fn received(&mut self, id: ConnectionId, completion: Completion<Token>, events: &mut Events<E>) {
        let place = self
            .places
            .get_mut(id.index as usize)
            .filter(|place| place.generation == id.generation);
        let connection = place
            .and_then(|place| place.connection.as_deref_mut())
            .expect("a connection outlives the operations on its socket");
        if !completion.more {
            connection.receive = Receive::Idle;
        }
        match completion.result {
            Ok(0) => connection.input_over = true,
            Ok(_) => {
                let received = completion.received.as_ref();
                let received = received.expect("the kernel names the buffer of received bytes");
                if connection.life == Life::Open {
                    connection.endpoint.receive(self.ring.received(received));
                }
            }
            // Paused, or no buffer was free: it goes on when there is reason to.
            Err(libc::ECANCELED | libc::ENOBUFS) => {}
            Err(_) => connection.end(),
        }
        if let Some(received) = completion.received {
            self.ring.give_back(received);
        }
        events.stirred.push(id);
        self.touch(id);
    }

    fn sent(&mut self, id: ConnectionId, result: Result<u32, i32>) {
        let place = self
            .places
            .get_mut(id.index as usize)
            .filter(|place| place.generation == id.generation);
        let connection = place
            .and_then(|place| place.connection.as_deref_mut())
            .expect("a connection outlives the operations on its socket");
        if result.is_err() {
            connection.end();
        }
        if let Some((socket, rest)) = connection.sent(result.unwrap_or(0) as usize) {
            // SAFETY: the connection keeps these bytes untouched until `Connection::sent`, which this operation's
            // completion calls, and itself until no operation is under way.
            unsafe { self.ring.send(Token::Send(id), Socket::Open(socket.as_fd()), rest) };
        }
        self.touch(id);
    }

    fn look_after_touched(&mut self, events: &mut Events<E>) {
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            let place = &mut self.places[id.index as usize];
            let connection = place.connection.as_deref_mut().expect("a listed connection exists");
            connection.listed = false;
            if let Some((socket, bytes)) = connection.begin_send() {
                // SAFETY: as in `Network::sent`.
                unsafe { self.ring.send(Token::Send(id), Socket::Open(socket.as_fd()), bytes) };
            }
            match connection.next_step() {
                Step::None => {}
                Step::Receive => {
                    connection.receive = Receive::Armed;
                    self.ring
                        .receive(Token::Receive(id), Socket::Open(connection.socket().as_fd()));
                }
                Step::Pause => {
                    connection.receive = Receive::Ending;
                    self.ring.cancel(Token::Receive(id));
                }
                Step::Shut => {
                    connection.life = Life::Shut;
                    shut(connection.socket().as_fd());
                }
                Step::Remove => {
                    let connection = place.connection.take().expect("looked at above");
                    place.generation = (place.generation + 1) % GENERATION_COUNT;
                    self.free.push(id.index);
                    self.open -= 1;
                    events.closed.push((id, connection.into_endpoint()));
                }
            }
        }
        self.touched = touched;
    }
}

impl<E> Drop for Network<E> {
    fn drop(&mut self) {
        // Sends under way read memory of the connections. Closing the ring does not wait for their end, so that memory must
        // stay; it goes with the process, which is about to end.
        if self.open > 0 {
            std::mem::forget(std::mem::take(&mut self.places));
        }
    }
}

fn shut(socket: BorrowedFd<'_>) {
    // A socket whose connection is gone already has nothing to be shut.
    let _ = shutdown(socket, Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    use super::*;
    use crate::net::listener::listen;

    /// Gives every byte back; full while more than `OUTPUT_MAX` bytes wait to be sent.
    #[derive(Default)]
    struct Echo {
        output: Vec<u8>,
        received: usize,
        closing: bool,
    }

    const OUTPUT_MAX: usize = 64 << 10;

    impl Endpoint for Echo {
        fn receive(&mut self, bytes: &[u8]) {
            self.received += bytes.len();
            self.output.extend_from_slice(bytes);
            self.closing |= bytes.ends_with(b"quit");
        }
        fn output(&mut self) -> &mut Vec<u8> {
            &mut self.output
        }
        fn wants_input(&self) -> bool {
            self.output.len() <= OUTPUT_MAX
        }
        fn is_closing(&self) -> bool {
            self.closing
        }
        fn is_busy(&self) -> bool {
            false
        }
    }

    struct Server {
        network: Network<Echo>,
        events: Events<Echo>,
        address: SocketAddr,
    }

    impl Server {
        fn start() -> Self {
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            let mut network = Network::new(&Doorbell::new().unwrap()).unwrap();
            network.accept(Some(listener));
            Self {
                network,
                events: Events::default(),
                address,
            }
        }

        fn turn(&mut self) {
            self.network.turn(&mut self.events, false).unwrap();
            for socket in self.events.accepted.drain(..) {
                self.network.adopt(socket, |_| Echo::default());
            }
        }

        fn turn_until<T>(&mut self, mut reached: impl FnMut(&mut Self) -> Option<T>) -> T {
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            loop {
                self.turn();
                if let Some(value) = reached(self) {
                    return value;
                }
                assert!(std::time::Instant::now() < deadline, "it took too long");
            }
        }

        fn run_beside<T: Send + 'static>(&mut self, client: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
            let address = self.address;
            let thread = std::thread::spawn(move || client(address));
            self.turn_until(|_| thread.is_finished().then_some(()));
            thread.join().unwrap()
        }
    }

    #[test]
    fn bytes_come_back_to_each_of_many_clients() {
        let mut server = Server::start();
        server.run_beside(|address| {
            let mut clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
            for round in 0..20u32 {
                for (number, client) in clients.iter_mut().enumerate() {
                    client.write_all(&[number as u8, round as u8].repeat(500)).unwrap();
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    let mut answer = [0; 1000];
                    client.read_exact(&mut answer).unwrap();
                    assert_eq!(answer.to_vec(), [number as u8, round as u8].repeat(500));
                }
            }
        });
        server.turn_until(|server| (server.network.open() == 0).then_some(()));
    }

    #[test]
    fn a_client_that_reads_nothing_is_bounded_and_costs_only_itself() {
        let mut server = Server::start();
        let mut greedy = TcpStream::connect(server.address).unwrap();
        greedy.set_nonblocking(true).unwrap();
        let mut written = 0;
        let mut silent_turns = 0;
        let chunk = vec![7; 64 << 10];
        server.turn_until(|_| {
            match greedy.write(&chunk) {
                Ok(length) => (written, silent_turns) = (written + length, 0),
                Err(_) => silent_turns += 1,
            }
            (silent_turns > 2000).then_some(())
        });
        // What was taken in is what waits in our bounded buffers and in the sockets', not what the client could write.
        let taken = server.network.endpoints().map(|echo| echo.received).sum::<usize>();
        assert!(taken < written && written < 64 << 20, "{taken} taken of {written}");
        server.run_beside(|address| {
            let mut modest = TcpStream::connect(address).unwrap();
            modest.write_all(b"hello").unwrap();
            modest.read_exact(&mut [0; 5]).unwrap();
        });
        // Nothing was lost on the way: what it wrote comes back once it reads.
        greedy.set_nonblocking(false).unwrap();
        let read = server.run_beside(move |_| {
            greedy.shutdown(std::net::Shutdown::Write).unwrap();
            std::io::copy(&mut greedy, &mut std::io::sink()).unwrap()
        });
        assert_eq!(read, written as u64);
        server.turn_until(|server| (server.network.open() == 0).then_some(()));
    }

    #[test]
    fn a_closing_endpoint_sends_its_last_words() {
        let mut server = Server::start();
        let answer = server.run_beside(|address| {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"quit").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        });
        assert_eq!(answer, "quit");
        server.turn_until(|server| (server.network.open() == 0).then_some(()));
    }

    #[test]
    fn a_file_is_synced_and_a_bad_one_reports_it() {
        let mut server = Server::start();
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let (no_file, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        server.network.sync(3, file.as_fd(), 0, 4096);
        server.network.sync(4, no_file.as_fd(), 0, 4096);
        let mut ends = Vec::new();
        server.turn_until(|server| {
            ends.append(&mut server.events.synced);
            (ends.len() == 2).then_some(())
        });
        ends.sort_unstable();
        assert_eq!(ends, [(3, Ok(())), (4, Err(libc::EINVAL))]);
    }

    #[test]
    fn the_timer_runs_out_when_it_was_last_set_to() {
        let mut server = Server::start();
        let start = std::time::Instant::now();
        server.network.set_timer(Duration::from_mins(1));
        server.turn();
        server.network.set_timer(Duration::from_millis(30));
        server.turn_until(|server| server.events.timer.then_some(()));
        assert!(start.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn a_parked_shard_is_woken_by_a_completion_and_by_a_peer() {
        use crate::net::{Cause, Parked, Rest};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let peer = Arc::clone(&doorbell);
        let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound).io_memory(64 << 10);
        executor
            .spawn(move || async move {
                let rest = Rest::new(&doorbell).unwrap();
                let mut network = Network::<Echo>::new(&doorbell).unwrap();
                let mut events = Events::default();
                network.set_timer(Duration::from_millis(20));
                network.turn(&mut events, false).unwrap();
                while !events.timer {
                    network.notify(true);
                    network.turn(&mut events, true).unwrap();
                    if events.timer {
                        break;
                    }
                    rest.until_rung().await.unwrap();
                    network.notify(false);
                    network.turn(&mut events, true).unwrap();
                }
                doorbell.announce(Parked::ForMail);
                let has_mail = Arc::new(AtomicBool::new(false));
                let sent = Arc::clone(&has_mail);
                let thread = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    // Not what it waits for; were it woken by this, it would find that there is no mail yet.
                    peer.ring(Cause::Watermark);
                    std::thread::sleep(Duration::from_millis(20));
                    sent.store(true, Ordering::SeqCst);
                    peer.ring(Cause::Mail);
                });
                rest.until_rung().await.unwrap();
                assert!(has_mail.load(Ordering::SeqCst), "the watermark woke it");
                thread.join().unwrap();
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
