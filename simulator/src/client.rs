//! A client: what it sends over its connection, and what it makes of the bytes that come back.
//!
//! Speaks the native protocol or RESP, and pipelines. On RESP every reply is the answer to the oldest command that is
//! not answered, or something is wrong; what an answer has to say is the simulation's to check.

use std::collections::{BTreeSet, VecDeque};

use cartwright::engine::Answer;
use cartwright_protocol::native::{
    ClientHello, HelloStatus, PROTOCOL_VERSION, SERVER_HELLO_BYTES, SHARD_ANY, ServerHello, decode_frame, decode_reply,
    encode_request,
};
use cartwright_protocol::{Operation, Reply};

use crate::network::Socket;
use crate::resp::{Value, encode_command, parse};
use crate::violation::Checked;
use crate::{promise, violation};

/// What a command's answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Awaited {
    /// This, to the letter.
    Exactly(Answer),
    /// `HELLO`'s.
    Hello,
    /// That of an attempt to the keyspace.
    Attempt(u64),
    /// A number of receivers, or the end of an attempt to publish.
    Receivers,
    /// The confirmation that a channel is subscribed to, or no longer.
    Subscribed(bool),
    /// That of a `CLIENT PAUSE`, by number.
    Paused(u64),
    /// That of a `CLIENT UNPAUSE`.
    Unpaused,
    /// That of a `WAITAOF`, by number.
    Synced(u64),
}

/// Something that a client has heard.
#[derive(Debug)]
pub enum Heard {
    /// The reply to a request to the shop.
    Shop(u64, Reply),
    /// The answer to a command.
    Answer(Awaited, Answer),
    /// A message.
    Message(Vec<u8>),
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The native protocol.
    Native,
    /// RESP2.
    Resp2,
    /// RESP3: may subscribe, and goes on asking.
    Resp3,
}

/// One client, on one connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the connection"
)]
pub struct Client {
    /// Its connection.
    pub socket: Socket,
    /// What it speaks.
    pub wire: Wire,
    /// It has asked for its connection's end, and sends nothing more.
    pub is_leaving: bool,
    heard: Vec<u8>,
    /// Native: it was greeted.
    is_greeted: bool,
    /// Native: requests that are not answered.
    asked: BTreeSet<u64>,
    /// RESP: answers that are to come, in this order.
    awaited: VecDeque<Awaited>,
    /// Whether it may be sent messages.
    is_subscribed: bool,
    /// Whether it will be, once all is answered.
    pub will_be_subscribed: bool,
}

impl Client {
    /// On a new connection: the first thing that it says is on the way.
    pub fn new(wire: Wire) -> Self {
        let mut client = Self {
            socket: Socket::default(),
            wire,
            is_leaving: false,
            heard: Vec::new(),
            is_greeted: false,
            asked: BTreeSet::new(),
            awaited: VecDeque::new(),
            is_subscribed: false,
            will_be_subscribed: false,
        };
        match wire {
            Wire::Native => {
                let hello = ClientHello {
                    version: PROTOCOL_VERSION,
                    shard: SHARD_ANY,
                };
                client.send(&hello.encode());
            }
            Wire::Resp2 => {}
            Wire::Resp3 => client.command(&[b"HELLO", b"3"], Awaited::Hello),
        }
        client
    }

    fn send(&self, bytes: &[u8]) {
        self.socket.0.borrow_mut().to_server.extend(bytes);
    }

    /// Sends a request to the shop.
    pub fn ask(&mut self, sequence: u64, operation: &Operation) {
        let mut bytes = Vec::new();
        encode_request(&mut bytes, sequence, operation);
        self.send(&bytes);
        self.asked.insert(sequence);
    }

    /// Sends a command.
    pub fn command(&mut self, words: &[&[u8]], awaited: Awaited) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, words);
        self.send(&bytes);
        self.awaited.push_back(awaited);
    }

    /// How many answers are to come.
    pub fn open(&self) -> usize {
        self.asked.len() + self.awaited.len()
    }

    /// The requests and attempts among them.
    pub fn open_sequences(&self) -> impl Iterator<Item = u64> + '_ {
        let attempts = self.awaited.iter().filter_map(|awaited| match awaited {
            Awaited::Attempt(sequence) => Some(*sequence),
            _ => None,
        });
        self.asked.iter().copied().chain(attempts)
    }

    /// Takes in what the server has given to the system since.
    pub fn hear(&mut self) -> Checked<Vec<Heard>> {
        let came = std::mem::take(&mut self.socket.0.borrow_mut().to_client);
        if came.is_empty() {
            return Ok(Vec::new());
        }
        self.heard.extend_from_slice(&came);
        let mut all = Vec::new();
        let mut consumed = 0;
        while let Some((heard, length)) = match self.wire {
            Wire::Native => self.next_reply(consumed)?,
            Wire::Resp2 | Wire::Resp3 => self.next_answer(consumed)?,
        } {
            consumed += length;
            all.extend(heard);
        }
        self.heard.drain(..consumed);
        Ok(all)
    }

    fn next_reply(&mut self, from: usize) -> Checked<Option<(Option<Heard>, usize)>> {
        let bytes = &self.heard[from..];
        if !self.is_greeted {
            let hello = ServerHello::decode(bytes).map_err(|error| violation!("a hello is none: {error}"))?;
            let Some(hello) = hello else { return Ok(None) };
            promise!(hello.status == HelloStatus::Welcome, "a client is refused: {hello:?}");
            self.is_greeted = true;
            return Ok(Some((None, SERVER_HELLO_BYTES)));
        }
        let frame = decode_frame(bytes).map_err(|error| violation!("a frame is none: {error}"))?;
        let Some((frame, length)) = frame else { return Ok(None) };
        let sequence = frame.request_id;
        let reply = decode_reply(&frame).map_err(|error| violation!("a reply is none: {error}"))?;
        promise!(
            self.asked.remove(&sequence),
            "a client is answered {reply:?} to {sequence}, which is not open on its connection"
        );
        Ok(Some((Some(Heard::Shop(sequence, reply)), length)))
    }

    fn next_answer(&mut self, from: usize) -> Checked<Option<(Option<Heard>, usize)>> {
        let Some((value, length)) = parse(&self.heard[from..])? else {
            return Ok(None);
        };
        let heard = match value {
            Value::Push(parts) => self.take_push(&parts)?,
            Value::Answer(answer) => {
                let awaited = self.awaited.pop_front();
                let awaited = awaited.ok_or_else(|| violation!("a client that awaits nothing hears {answer:?}"))?;
                if let Awaited::Exactly(wanted) = &awaited {
                    promise!(
                        *wanted == answer,
                        "replies come in another order than commands were sent: not {wanted:?} but {answer:?}, before \
                         {:?}",
                        self.awaited
                    );
                    None
                } else {
                    Some(Heard::Answer(awaited, answer))
                }
            }
        };
        Ok(Some((heard, length)))
    }

    /// A confirmation, which is an answer in its place, or a message.
    fn take_push(&mut self, parts: &[Answer]) -> Checked<Option<Heard>> {
        let text = |part: &Answer| match part {
            Answer::Bulk(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        };
        let kind = parts.first().map(text).unwrap_or_default();
        if kind == b"message" {
            promise!(
                self.is_subscribed,
                "a message comes to who has not been told that it subscribes: {parts:?}"
            );
            return Ok(Some(Heard::Message(parts.get(2).map(text).unwrap_or_default())));
        }
        let subscribes = kind == b"subscribe";
        let awaited = self.awaited.pop_front();
        promise!(
            awaited == Some(Awaited::Subscribed(subscribes)),
            "{parts:?} comes where {awaited:?} was to come"
        );
        self.is_subscribed = subscribes;
        Ok(None)
    }
}
