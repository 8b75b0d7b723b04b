//! What clients do in a run: they connect, ask, hear, and go; and whether what they hear is right.

use std::collections::{BTreeMap, BTreeSet};

use cartwright::engine::{Answer, LogPosition, ShardId};
use cartwright::log::Generation;
use cartwright_protocol::{Operation, Reply};

use super::{LARGE_BYTES, LARGE_NOTES, Simulation};
use crate::client::{Awaited, Client, Heard, Wire};
use crate::key_wishes::{Explained, KeyAttempt, KeyWish, NEWS, Watched};
use crate::keys::KeyVersion;
use crate::violation::Checked;
use crate::{promise, violation};

/// How long clients have others pause, at most, in milliseconds.
const PAUSE_MS_MAX: u64 = 200;

/// Of a thousand things that a client of the keyspace does, how many are about its connection and not about keys.
const REMARKS: u32 = 250;

/// A client, and what is known of its connection.
pub struct Seat {
    /// The client.
    pub client: Client,
    /// Keys that it watches.
    watched: Vec<Watched>,
    /// From these versions on everything that is asked, and what is asked about a key, takes effect.
    floor: KeyVersion,
    key_floors: BTreeMap<String, KeyVersion>,
    /// The latest mark heard from each publisher's connection.
    news: BTreeMap<u64, u64>,
    /// Which connection it is.
    number: u64,
}

/// A `CLIENT PAUSE`.
#[derive(Clone, Copy, Debug)]
struct Pause {
    number: u64,
    /// It is not over before.
    until_ms: u64,
    writes_only: bool,
}

/// A `WAITAOF`: what must be on disk when it is answered.
#[derive(Debug)]
struct Sync {
    generation: Generation,
    ends: Vec<LogPosition>,
}

/// What clients have under way beside requests.
#[derive(Default)]
pub struct Conversation {
    /// Connections that there were.
    connections: u64,
    /// Pauses and syncs that there were.
    numbers: u64,
    pauses: BTreeMap<u64, Pause>,
    pauses_end_ms: u64,
    /// The one that holds.
    paused: Option<Pause>,
    /// Requests that were sent while one held, and which.
    held: BTreeMap<u64, u64>,
    syncs: BTreeMap<u64, Sync>,
    /// `CLIENT UNPAUSE`s on their way: as long as there are some, no pause holds for certain.
    unpausing: u64,
    /// Which connection has sent which mark, by its number, and whether in a transaction.
    publishers: BTreeMap<u64, (u64, bool)>,
    /// Marks that were published before they were there: their writes are to be refused.
    unexplained: BTreeSet<String>,
    /// Attempts whose clients are gone: nobody knows what became of them.
    unknown: BTreeSet<String>,
    /// Requests of the run's own, and their replies.
    own: BTreeMap<u64, Option<Reply>>,
}

impl Conversation {
    /// The clock was set back, or a pause ended: whether one holds is not known any more.
    pub fn forget_pauses(&mut self) {
        self.pauses.clear();
        self.paused = None;
    }

    /// No pause that was set by now holds any longer.
    pub const fn pauses_end_ms(&self) -> u64 {
        self.pauses_end_ms
    }

    /// Nothing is on its way any more.
    pub fn settle(&mut self) {
        self.unpausing = 0;
        self.unexplained.clear();
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// The number in a mark.
fn number_of(mark: &str) -> u64 {
    mark.trim_start_matches('r').parse().unwrap_or(0)
}

impl Seat {
    /// On a new connection.
    pub fn new(wire: Wire) -> Self {
        Self {
            client: Client::new(wire),
            watched: Vec::new(),
            floor: 0,
            key_floors: BTreeMap::new(),
            news: BTreeMap::new(),
            number: 0,
        }
    }
}

impl Simulation {
    /// What the client at a place speaks. The last two are the run's own.
    fn wire_of(&self, index: usize) -> Wire {
        let clients = self.parameters.clients;
        if index == clients || (index < clients && self.key_random.is_none()) {
            return Wire::Native;
        }
        match index % 4 {
            _ if index > clients => Wire::Resp2,
            0 => Wire::Resp3,
            2 => Wire::Resp2,
            _ => Wire::Native,
        }
    }

    /// Every client connects, the run's own as well.
    pub(super) fn connect_all(&mut self) {
        self.seats = Vec::new();
        for index in 0..self.parameters.clients + 2 {
            let seat = Seat::new(self.wire_of(index));
            self.seats.push(seat);
            self.greet(index);
        }
    }

    fn greet(&mut self, index: usize) {
        self.conversation.connections += 1;
        self.seats[index].number = self.conversation.connections;
        let socket = self.seats[index].client.socket.clone();
        self.server().connect(&socket);
    }

    /// A client goes, in the middle of what it does, and comes back.
    pub(super) fn disconnect(&mut self, index: usize) {
        self.trace.event(format_args!("client {index} is gone, and comes back"));
        self.seats[index].client.socket.0.borrow_mut().is_abandoned = true;
        self.reconnect(index);
    }

    fn reconnect(&mut self, index: usize) {
        for sequence in self.seats[index].client.open_sequences() {
            self.checker.abandon(sequence);
            self.conversation.held.remove(&sequence);
            if let Some(attempt) = self.key_attempts.open.remove(&sequence)
                && let Some(mark) = attempt.wish.mark()
            {
                self.conversation.unknown.insert(mark.to_owned());
            }
        }
        self.seats[index] = Seat::new(self.wire_of(index));
        self.greet(index);
    }

    /// A client goes: at once, once it is answered, or by saying so.
    pub(super) fn leave(&mut self) {
        let index = self.random.index(self.parameters.clients);
        let choice = self.random.below(4);
        let client = &mut self.seats[index].client;
        if choice < 2 || client.is_leaving {
            return self.disconnect(index);
        }
        client.is_leaving = true;
        if choice == 2 && client.wire != Wire::Native {
            client.command(&[b"QUIT"], Awaited::Exactly(Answer::Ok));
            self.trace.event(format_args!("client {index} quits"));
        } else {
            client.socket.0.borrow_mut().is_half_closed = true;
            self.trace.event(format_args!("client {index} has sent all it will"));
        }
    }

    /// The server is gone, and whatever was said with it.
    pub(super) fn forget_connections(&mut self) {
        self.checker.forget_open();
        let open = std::mem::take(&mut self.key_attempts.open);
        let marks = open.values().filter_map(|attempt| attempt.wish.mark());
        self.conversation.unknown.extend(marks.map(str::to_owned));
        self.conversation.forget_pauses();
        self.conversation.pauses_end_ms = 0;
        self.conversation.held.clear();
        self.conversation.syncs.clear();
        self.conversation.settle();
        self.seats.clear();
    }

    pub(super) fn send_something(&mut self) {
        let index = self.random.index(self.parameters.clients);
        let client = &self.seats[index].client;
        if client.open() >= self.parameters.pipeline || client.is_leaving {
            return;
        }
        if client.wire != Wire::Native {
            let random = self.key_random.as_mut().expect("who speaks RESP is for the keyspace");
            if random.chance(REMARKS) {
                return self.remark(index);
            }
            return self.wish_for_keys(index);
        }
        let operation = self
            .workload
            .next(&self.parameters, &self.witness.shop, &mut self.random);
        self.send(index, &operation);
    }

    pub(super) fn send(&mut self, index: usize, operation: &Operation) -> u64 {
        self.next_sequence += 1;
        let sequence = self.next_sequence;
        self.trace
            .event(format_args!("client {index} sends {sequence}: {operation:?}"));
        self.checker.send(sequence, operation.clone(), &self.witness.shop);
        self.note_pause(sequence, operation.writes());
        self.seats[index].client.ask(sequence, operation);
        sequence
    }

    fn wish_for_keys(&mut self, index: usize) {
        let mark = self.workload.mark();
        let random = self.key_random.as_mut().expect("only called where there is one");
        let mut wish = KeyWish::draw(mark, &mut self.key_marks, random);
        if let KeyWish::Note { bytes, .. } = &mut wish
            && self.has_large_notes
            && random.chance(LARGE_NOTES)
        {
            *bytes = random.between(LARGE_BYTES, 2 * LARGE_BYTES) as usize;
        }
        self.send_keys(index, wish);
    }

    pub(super) fn send_keys(&mut self, index: usize, wish: KeyWish) {
        self.next_sequence += 1;
        let sequence = self.next_sequence;
        self.trace
            .event(format_args!("client {index} sends {sequence}: {wish:?}"));
        let sent = self.witness.keys.version;
        let seat = &mut self.seats[index];
        let mut watched = Vec::new();
        match &wish {
            KeyWish::Watch { one, other } => {
                for key in [one, other] {
                    // A key that is watched stays as it was first seen.
                    if !seat.watched.iter().any(|watched| watched.key == *key) {
                        seat.watched.push(Watched {
                            key: key.clone(),
                            watch: sequence,
                            sent,
                            answered: None,
                        });
                    }
                }
            }
            KeyWish::Transfer { .. } => watched = std::mem::take(&mut seat.watched),
            _ => {}
        }
        if let Some(mark) = wish.mark() {
            let is_transfer = matches!(wish, KeyWish::Transfer { .. });
            let publisher = (seat.number, is_transfer);
            self.conversation.publishers.insert(number_of(mark), publisher);
        }
        for (words, awaited) in wish.commands(sequence) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            seat.client.command(&words, awaited);
        }
        let writes = wish.writes();
        self.key_attempts
            .open
            .insert(sequence, KeyAttempt { wish, sent, watched });
        self.note_pause(sequence, writes);
    }

    /// Something about the connection itself, or about all of them.
    fn remark(&mut self, index: usize) {
        let random = self.key_random.as_mut().expect("only called where there is one");
        let choice = random.below(12);
        let ms = random.between(1, PAUSE_MS_MAX);
        let writes_only = random.below(2) == 0;
        let client = &mut self.seats[index].client;
        match choice {
            0 | 1 => {
                let number = self.conversation.next_number();
                self.conversation.pauses_end_ms = self.witness.latest.unix_ms() + PAUSE_MS_MAX;
                let pause = Pause {
                    number,
                    until_ms: self.now + ms,
                    writes_only,
                };
                self.conversation.pauses.insert(number, pause);
                let mode: &[u8] = if writes_only { b"WRITE" } else { b"ALL" };
                let ms = ms.to_string();
                client.command(&[b"CLIENT", b"PAUSE", ms.as_bytes(), mode], Awaited::Paused(number));
                self.trace.event(format_args!("client {index} sends {pause:?}"));
            }
            2 => {
                self.conversation.forget_pauses();
                self.conversation.unpausing += 1;
                client.command(&[b"CLIENT", b"UNPAUSE"], Awaited::Unpaused);
                self.trace.event(format_args!("client {index} ends pauses"));
            }
            3 => {
                let number = self.conversation.next_number();
                let count = self.shard_count;
                let ends = (0..count).map(|shard| self.witness.appended(ShardId(shard))).collect();
                let sync = Sync {
                    generation: self.witness.generation(),
                    ends,
                };
                self.conversation.syncs.insert(number, sync);
                client.command(&[b"WAITAOF", b"1", b"0", b"0"], Awaited::Synced(number));
                self.trace.event(format_args!("client {index} waits for the disk"));
            }
            4..=7 if client.wire == Wire::Resp3 => {
                let subscribes = !client.will_be_subscribed;
                client.will_be_subscribed = subscribes;
                let verb: &[u8] = if subscribes { b"SUBSCRIBE" } else { b"UNSUBSCRIBE" };
                client.command(&[verb, NEWS.as_bytes()], Awaited::Subscribed(subscribes));
                self.trace
                    .event(format_args!("client {index} subscribes: {subscribes}"));
            }
            _ => {
                let word = format!("word-{}", self.conversation.next_number());
                client.command(
                    &[b"ECHO", word.as_bytes()],
                    Awaited::Exactly(Answer::bulk(word.as_bytes())),
                );
            }
        }
    }

    /// A request is sent: if a pause holds it back, it may not be answered before that is over.
    fn note_pause(&mut self, sequence: u64, writes: bool) {
        if let Some(pause) = self.conversation.paused
            && (writes || !pause.writes_only)
        {
            self.conversation.held.insert(sequence, pause.number);
        }
    }

    fn check_pause(&mut self, sequence: u64) -> Checked {
        let held = self.conversation.held.remove(&sequence);
        if let (Some(number), Some(pause)) = (held, self.conversation.paused) {
            promise!(
                number != pause.number,
                "request {sequence} is answered at {} though {pause:?} holds it back",
                self.now
            );
        }
        Ok(())
    }

    /// Clients look at what the server has given to the system.
    pub(super) fn hear_all(&mut self) -> Checked {
        if self.conversation.paused.is_some_and(|pause| pause.until_ms <= self.now) {
            self.conversation.paused = None;
        }
        let mut messages = Vec::new();
        for index in 0..self.seats.len() {
            for heard in self.seats[index].client.hear()? {
                self.trace.event(format_args!("client {index} hears {heard:?}"));
                match heard {
                    Heard::Shop(sequence, reply) => self.hear_shop(sequence, reply)?,
                    Heard::Answer(awaited, answer) => self.hear_answer(index, &awaited, &answer)?,
                    Heard::Message(payload) => messages.push((index, payload)),
                }
            }
            if self.seats[index].client.socket.0.borrow().is_closed {
                self.part(index)?;
            }
        }
        // After all answers: a write that was refused is known to be.
        for (index, payload) in messages {
            self.hear_message(index, &payload)?;
        }
        Ok(())
    }

    /// The server has closed a connection.
    fn part(&mut self, index: usize) -> Checked {
        if self.is_stopping {
            return Ok(());
        }
        let client = &self.seats[index].client;
        promise!(client.is_leaving, "the server closes the connection of client {index}");
        promise!(
            client.open() == 0,
            "the server closes a connection on which {} answers are to come: {client:?}",
            client.open()
        );
        self.reconnect(index);
        Ok(())
    }

    fn hear_shop(&mut self, sequence: u64, reply: Reply) -> Checked {
        self.check_pause(sequence)?;
        self.checker.release(sequence, &reply, &self.witness)?;
        if let Some(own) = self.conversation.own.get_mut(&sequence) {
            *own = Some(reply);
        }
        Ok(())
    }

    fn hear_answer(&mut self, index: usize, awaited: &Awaited, answer: &Answer) -> Checked {
        match *awaited {
            Awaited::Attempt(sequence) => self.hear_attempt(index, sequence, answer),
            Awaited::Receivers => {
                promise!(
                    matches!(answer, Answer::Integer(0..)),
                    "a message is answered {answer:?}"
                );
                Ok(())
            }
            Awaited::Paused(number) => {
                promise!(*answer == Answer::Ok, "a pause is answered {answer:?}");
                self.conversation.pauses_end_ms = self.witness.latest.unix_ms() + PAUSE_MS_MAX;
                if let Some(pause) = self.conversation.pauses.remove(&number)
                    && pause.until_ms > self.now
                    && self.conversation.unpausing == 0
                {
                    self.conversation.paused = Some(pause);
                }
                Ok(())
            }
            Awaited::Unpaused => {
                promise!(*answer == Answer::Ok, "the end of pauses is answered {answer:?}");
                self.conversation.forget_pauses();
                self.conversation.unpausing -= 1;
                Ok(())
            }
            Awaited::Synced(number) => self.hear_synced(number, answer),
            Awaited::Hello => {
                promise!(matches!(answer, Answer::Array(_)), "HELLO is answered {answer:?}");
                Ok(())
            }
            Awaited::Exactly(_) | Awaited::Subscribed(_) => {
                Err(violation!("{answer:?} comes where {awaited:?} was to"))
            }
        }
    }

    fn hear_synced(&mut self, number: u64, answer: &Answer) -> Checked {
        let done = Answer::Array(vec![Answer::Integer(1), Answer::Integer(0)]);
        promise!(*answer == done, "a wait for the disk is answered {answer:?}");
        let sync = self.conversation.syncs.remove(&number);
        let Some(sync) = sync.filter(|sync| sync.generation == self.witness.generation()) else {
            return Ok(());
        };
        for (shard, end) in sync.ends.into_iter().enumerate() {
            let durable = self.witness.durable(ShardId(shard as u16));
            promise!(
                durable >= end,
                "R3: WAITAOF is answered while the log of shard {shard} is on disk up to {durable} and not {end}"
            );
        }
        Ok(())
    }

    /// An answer of the keyspace.
    fn hear_attempt(&mut self, index: usize, sequence: u64, answer: &Answer) -> Checked {
        self.check_pause(sequence)?;
        let attempt = self.key_attempts.open.remove(&sequence);
        let mut attempt =
            attempt.ok_or_else(|| violation!("request {sequence} is answered twice, or was never sent: {answer:?}"))?;
        self.checker.answer_count += 1;
        let seat = &mut self.seats[index];
        // What was answered before on this connection, and could not be under way together with this, came before.
        let key_floor = attempt.wish.key().and_then(|key| seat.key_floors.get(key));
        let floor = match attempt.wish.key() {
            Some(_) => key_floor.copied().unwrap_or(0).max(seat.floor),
            None => seat.key_floors.values().copied().fold(seat.floor, u64::max),
        };
        attempt.sent = attempt.sent.max(floor);
        let witness = &self.witness;
        let explained = Explained {
            keys: &witness.keys,
            is_durable: &|source| witness.is_durable(source),
            latest: witness.latest,
        };
        if let Answer::Error(text) = answer {
            self.checker.busy_count += 1;
            promise!(
                text.starts_with("BUSY ") || (text.starts_with("READONLY ") && self.checker.disk_was_full),
                "{:?} is refused with {text}",
                attempt.wish
            );
            if let Some(mark) = attempt.wish.mark() {
                self.key_attempts.refused.insert(mark.to_owned());
                explained.check_refused([&mark.to_owned()])?;
            }
            if matches!(attempt.wish, KeyWish::Watch { .. }) {
                let next = self.key_attempts.open.values_mut().map(|attempt| &mut attempt.watched);
                for watched in next.chain([&mut seat.watched]) {
                    watched.retain(|watched| watched.watch != sequence);
                }
            }
            return Ok(());
        }
        explained.check(&attempt, answer)?;
        if let Some(mark) = attempt.wish.mark() {
            promise!(
                !self.conversation.unexplained.contains(mark),
                "{mark} was published before it was there for all to read"
            );
        }
        match &attempt.wish {
            KeyWish::Watch { .. } => {
                let version = witness.keys.version;
                let next = self.key_attempts.open.values_mut().map(|attempt| &mut attempt.watched);
                for watched in next.chain([&mut seat.watched]).flatten() {
                    if watched.watch == sequence {
                        watched.answered = Some(version);
                    }
                }
            }
            KeyWish::Transfer { mark, .. } if *answer == Answer::Nil => {
                self.key_attempts.refused.insert(mark.clone());
            }
            wish => {
                if let Some((version, ..)) = wish.mark().and_then(|mark| witness.keys.written(mark.as_bytes())) {
                    match wish.key() {
                        Some(key) => _ = seat.key_floors.insert(key.to_owned(), version),
                        None => seat.floor = seat.floor.max(version),
                    }
                }
            }
        }
        Ok(())
    }

    /// A message that was published behind a write: whoever reads now finds the write.
    fn hear_message(&mut self, index: usize, payload: &[u8]) -> Checked {
        let mark = String::from_utf8_lossy(payload).into_owned();
        let number = number_of(&mark);
        let publisher = self.conversation.publishers.get(&number).copied();
        let (publisher, is_transfer) =
            publisher.ok_or_else(|| violation!("client {index} hears {mark:?}, which nobody published"))?;
        let latest = self.seats[index].news.entry(publisher).or_insert(0);
        promise!(
            *latest < number,
            "client {index} hears {mark} after r{latest} of the same connection"
        );
        *latest = number;
        let written = self.witness.keys.written(payload);
        if written.is_some_and(|(_, source, _)| self.witness.is_durable(source)) {
            return Ok(());
        }
        promise!(
            !is_transfer,
            "client {index} hears of {mark}, whose transaction is not there for all to read: {written:?}"
        );
        if !self.key_attempts.refused.contains(&mark) && !self.conversation.unknown.contains(&mark) {
            self.conversation.unexplained.insert(mark);
        }
        Ok(())
    }

    /// The run's own clients: what they ask is answered with nothing else in flight.
    pub(super) const fn own_shop_client(&self) -> usize {
        self.parameters.clients
    }

    pub(super) const fn own_keys_client(&self) -> usize {
        self.parameters.clients + 1
    }

    /// Sends all of this at once, and waits for the answers.
    pub(super) fn ask_at_once(&mut self, operations: Vec<Operation>) -> Checked<Vec<Reply>> {
        let index = self.own_shop_client();
        let sequences: Vec<_> = operations
            .into_iter()
            .map(|operation| self.send(index, &operation))
            .collect();
        self.conversation.own = sequences.iter().map(|&sequence| (sequence, None)).collect();
        self.drain()?;
        self.take_own(&sequences)
    }

    fn take_own(&mut self, sequences: &[u64]) -> Checked<Vec<Reply>> {
        let mut own = std::mem::take(&mut self.conversation.own);
        let replies: Option<Vec<_>> = sequences
            .iter()
            .map(|sequence| own.remove(sequence).flatten())
            .collect();
        replies.ok_or_else(|| violation!("an answer did not reach its client"))
    }

    /// Asks all of this with nothing else in flight, and waits for the answers.
    pub(super) fn ask(&mut self, operations: Vec<Operation>) -> Checked<Vec<Reply>> {
        let was_full = self.disk_is_full;
        self.set_disk_full(false);
        self.drain()?;
        let mut replies = Vec::new();
        for operation in operations {
            // One at a time: limits are small.
            replies.extend(self.ask_at_once(vec![operation])?);
        }
        self.set_disk_full(was_full);
        Ok(replies)
    }

    /// Asks all of this with nothing else in flight, and waits for the answers, which are checked as they come.
    pub(super) fn ask_keys(&mut self, wishes: Vec<KeyWish>) -> Checked {
        let was_full = self.disk_is_full;
        self.set_disk_full(false);
        self.drain()?;
        for wish in wishes {
            self.send_keys(self.own_keys_client(), wish);
            self.drain()?;
        }
        self.set_disk_full(was_full);
        Ok(())
    }
}
