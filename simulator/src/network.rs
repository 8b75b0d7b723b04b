//! A simulated network: sockets, and a shard's connections over them.
//!
//! A [`Link`] is what lies between a client and its shard; both ends hold it. [`Network`] does for a shard what the
//! server's network does over a ring, with the server's own [`Connection`]s: how much of what was sent has come, and
//! how much of its output a client has taken, is drawn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use cartwright::net::ConnectionId;
use cartwright::net::connection::{Connection, Endpoint, Life, Receive, Step};
use cartwright::runtime::client::Client;
use cartwright::runtime::turn::{Connections, Event};

use crate::random::Random;

/// Bytes that come at once, at most; of more, more come.
const CHUNK_BYTES_MAX: usize = 200;

/// What lies between a client and its shard.
#[derive(Debug, Default)]
pub struct Link {
    /// On their way to the server.
    pub to_server: VecDeque<u8>,
    /// Given to the system by the server, and not looked at by the client.
    pub to_client: Vec<u8>,
    /// The client has sent all it will.
    pub is_half_closed: bool,
    /// The client is gone.
    pub is_abandoned: bool,
    /// The server has closed it.
    pub is_closed: bool,
}

/// One end of a link.
#[derive(Clone, Debug, Default)]
pub struct Socket(pub Rc<RefCell<Link>>);

/// The server's end: closed when it is dropped.
#[derive(Debug)]
pub struct ServerEnd(pub Socket);

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.0.0.borrow_mut().is_closed = true;
    }
}

/// What decides how fast bytes are.
pub struct Weather<'a> {
    /// Chance.
    pub random: &'a mut Random,
    /// Everything that was sent comes at once, and everything is taken.
    pub hurries: bool,
    /// Per mille of the looks at which some of what was sent has come.
    pub comes: u32,
    /// Per mille of the looks at which some of the output is taken.
    pub taken: u32,
}

impl Weather<'_> {
    fn some(&mut self, per_mille: u32, bytes: usize) -> Option<usize> {
        if self.hurries {
            return Some(bytes);
        }
        if !self.random.chance(per_mille) {
            return None;
        }
        Some(match self.random.below(3) {
            0 => bytes,
            1 => 1 + self.random.index(bytes),
            _ => bytes.div_ceil(4).max(1 + self.random.index(bytes.min(CHUNK_BYTES_MAX))),
        })
    }
}

type Live = Connection<Client, ServerEnd>;

struct Place {
    generation: u32,
    connection: Option<Live>,
    /// Bytes of the send under way.
    sending: Option<usize>,
}

/// A shard's connections.
#[derive(Default)]
pub struct Network {
    places: Vec<Place>,
    free: Vec<u32>,
    open: usize,
    touched: Vec<ConnectionId>,
    /// What came since the last turn.
    pub events: VecDeque<Event<ServerEnd>>,
}

impl Network {
    /// Takes over a socket.
    pub fn adopt(&mut self, socket: ServerEnd, client: impl FnOnce(ConnectionId) -> Client) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                generation: 0,
                connection: None,
                sending: None,
            });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        let id = ConnectionId {
            index,
            generation: place.generation,
        };
        place.connection = Some(Connection::new(socket, client(id)));
        self.open += 1;
        self.touch(id);
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Live> {
        let place = self.places.get_mut(id.index as usize)?;
        place.connection.as_mut().filter(|_| place.generation == id.generation)
    }

    /// Whether nothing is on its way, either way.
    pub fn is_quiet(&mut self) -> bool {
        let is_quiet = |connection: &mut Live| {
            connection.socket().0.0.borrow().to_server.is_empty()
                && !connection.has_output()
                && connection.endpoint.session.unanswered() == 0
        };
        self.events.is_empty()
            && self.touched.is_empty()
            && self
                .places
                .iter_mut()
                .filter_map(|place| place.connection.as_mut())
                .all(is_quiet)
    }

    /// Gives output to the system, and begins or ends what each touched connection needs.
    pub fn look_after_touched(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let place = &mut self.places[id.index as usize];
            let connection = place.connection.as_mut().expect("a listed connection exists");
            connection.listed = false;
            let link = Rc::clone(&connection.socket().0.0);
            if let Some((_, bytes)) = connection.begin_send() {
                link.borrow_mut().to_client.extend_from_slice(bytes);
                place.sending = Some(bytes.len());
            }
            match connection.next_step() {
                Step::None => {}
                Step::Receive => connection.receive = Receive::Armed,
                Step::Pause => connection.receive = Receive::Ending,
                Step::Shut => connection.life = Life::Shut,
                Step::Remove => {
                    let connection = place.connection.take().expect("looked at above");
                    place.generation += 1;
                    self.free.push(id.index);
                    self.open -= 1;
                    let client = connection.into_endpoint();
                    self.events.push_back(Event::Closed(id, Box::new(client)));
                }
            }
        }
    }

    /// What the system has done meanwhile: bytes have come, and bytes were taken.
    pub fn complete(&mut self, weather: &mut Weather<'_>) {
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            let Some(connection) = &mut place.connection else {
                continue;
            };
            let id = ConnectionId {
                index: index as u32,
                generation: place.generation,
            };
            let received = receive(connection, weather);
            let sent = send(connection, &mut place.sending, weather);
            if received || sent {
                self.events.push_back(Event::Stirred(id));
                self.touch(id);
            }
        }
    }
}

/// Ends a receive, or has some bytes come; whether anything happened.
fn receive(connection: &mut Live, weather: &mut Weather<'_>) -> bool {
    if connection.receive == Receive::Idle {
        return false;
    }
    if connection.receive == Receive::Ending || connection.life == Life::Shut {
        connection.receive = Receive::Idle;
        return true;
    }
    let link = Rc::clone(&connection.socket().0.0);
    let mut link = link.borrow_mut();
    if link.is_abandoned {
        connection.receive = Receive::Idle;
        connection.end();
        return true;
    }
    if link.to_server.is_empty() {
        if !link.is_half_closed {
            return false;
        }
        connection.receive = Receive::Idle;
        connection.input_over = true;
        return true;
    }
    let Some(length) = weather.some(weather.comes, link.to_server.len()) else {
        return false;
    };
    let bytes: Vec<u8> = link.to_server.drain(..length).collect();
    drop(link);
    if connection.life == Life::Open {
        connection.endpoint.receive(&bytes);
    }
    true
}

/// Has the client take some of a send under way; whether anything happened.
fn send(connection: &mut Live, sending: &mut Option<usize>, weather: &mut Weather<'_>) -> bool {
    let Some(bytes) = *sending else { return false };
    let is_abandoned = connection.socket().0.0.borrow().is_abandoned;
    let taken = if is_abandoned || connection.life == Life::Shut {
        connection.end();
        Some(0)
    } else {
        weather.some(weather.taken, bytes)
    };
    let Some(taken) = taken else { return false };
    *sending = connection.sent(taken).map(|(_, rest)| rest.len());
    true
}

impl Connections for Network {
    fn client(&mut self, id: ConnectionId) -> Option<&mut Client> {
        Some(&mut self.connection(id)?.endpoint)
    }

    fn identified(&mut self) -> impl Iterator<Item = (ConnectionId, &mut Client)> {
        self.places.iter_mut().enumerate().filter_map(|(index, place)| {
            let id = ConnectionId {
                index: index as u32,
                generation: place.generation,
            };
            Some((id, &mut place.connection.as_mut()?.endpoint))
        })
    }

    fn touch(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if !connection.listed {
            connection.listed = true;
            self.touched.push(id);
        }
    }

    fn abandon(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.end();
            self.touch(id);
        }
    }

    fn abandon_all(&mut self) {
        for index in 0..self.places.len() {
            let id = ConnectionId {
                index: index as u32,
                generation: self.places[index].generation,
            };
            self.abandon(id);
        }
    }

    fn open(&self) -> usize {
        self.open
    }

    fn has_output(&mut self) -> bool {
        self.places
            .iter_mut()
            .filter_map(|place| place.connection.as_mut())
            .any(Connection::has_output)
    }

    fn has_submissions(&mut self) -> bool {
        !self.touched.is_empty()
    }
}
