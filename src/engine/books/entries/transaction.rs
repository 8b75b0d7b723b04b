//! A request to keys of several shards: the way up, the way down, and the end.
//!
//! As with the shop's carts the home decides last, and effects are applied once they are durable everywhere. Up: in
//! ascending order each shard locks its keys, waiting for them where they are taken, and adds what they hold. At the
//! home the request is run on what was collected. Then each shard with changes logs them as `KeysPrepared`; once all
//! have said where, the home logs `KeysDecided`; once all of that is safe, all log `Committed`, apply and unlock.
//!
//! A transaction is committed if, and only if, the home's record and all that it names are on disk: the changes of the
//! other shards, and as far as a shard was only read, what was read there. So a crash that takes back something that a
//! transaction read takes back the transaction.

use cartwright_protocol::Slot;
use cartwright_protocol::command::KeyPlaces;

use super::answer::Answer;
use super::bytes::ValueBytes;
use super::collected::Collected;
use super::keys::{EffectLogs, Keys, Store};
use super::locks::{Ticket, Waiting};
use super::request::KeyRequest;
use super::run::{refusal, route_of};
use crate::engine::kernel::ids::{LogPosition, ShardId, TransactionId};
use crate::engine::kernel::message::{ReplyTo, ShardMessage};
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::record::Record;
use crate::engine::kernel::shard::Step;

/// A request on its way over the shards.
#[derive(Debug)]
pub struct KeyTransaction {
    id: TransactionId,
    request: Box<KeyRequest>,
    /// The shards it visits, ascending.
    route: Vec<ShardId>,
    /// How many of them have been visited.
    visited: usize,
    collected: Collected,
    /// What was read shows each shard's log up to here.
    shows: Vec<(ShardId, LogPosition)>,
    refusal: Option<Answer>,
}

/// What shards say to each other about keys.
#[derive(Debug)]
pub enum KeyMessage {
    /// Up: lock and add your keys. Back at its home: all is collected, or refused.
    Visit(Box<KeyTransaction>),
    /// From the home: log these changes.
    Write {
        /// Which transaction.
        transaction: TransactionId,
        /// What it does to keys of the addressee.
        effects: Vec<u8>,
    },
    /// To the home: they are logged there, or why not.
    Written {
        /// Which transaction.
        transaction: TransactionId,
        /// Where in the sender's log.
        written: Result<LogPosition, Answer>,
    },
    /// From the home: let go of the keys; nothing was logged.
    Release(TransactionId),
    /// From the home: what was logged is over.
    Resolved {
        /// Which transaction.
        transaction: TransactionId,
        /// Whether it is durable everywhere, or never was.
        committed: bool,
    },
}

/// A transaction at its home.
#[derive(Debug)]
pub struct InFlight {
    reply_to: ReplyTo,
    /// Whether it may change anything.
    pub(super) writes: bool,
    /// The home's own lock, once it has one.
    ticket: Option<Ticket>,
    /// Once it was run.
    ran: Option<Ran>,
}

#[derive(Debug)]
struct Ran {
    answer: Answer,
    effects: Vec<u8>,
    /// Where the records of others are; of those that were only read, what was seen of their logs.
    prepared: Vec<(ShardId, LogPosition)>,
    /// Those that have logged changes.
    written: Vec<ShardId>,
    /// Those that have yet to say.
    missing: usize,
    refusal: Option<Answer>,
}

/// A transaction of another home.
#[derive(Debug)]
pub struct Participation {
    /// Its keys; `None` once it has let go of them.
    ticket: Option<Ticket>,
    /// Its changes are logged here, and it is not over.
    pub(super) is_prepared: bool,
}

/// A transaction of this home that waits for logs to be safe.
#[derive(Debug)]
pub struct Awaiting {
    transaction: TransactionId,
    needs: Vec<(ShardId, LogPosition)>,
    answer: Answer,
    /// Those that have changes logged; `None`: there are none at all.
    written: Option<Vec<ShardId>>,
}

impl Step<'_> {
    /// Takes on a request with keys on other shards.
    pub(super) fn begin_key_transaction(&mut self, reply_to: ReplyTo, request: Box<KeyRequest>) {
        let limit = self.shard.limits.transactions_max;
        if self.shard.keyspace.in_flight.len() >= limit {
            let error = self.shard.busy("transactions in flight", limit);
            return self.answer_keys(reply_to, refusal(&error), LogPosition::ZERO);
        }
        if let Err(answer) = self.spare_bytes(&request, false) {
            return self.answer_keys(reply_to, answer, LogPosition::ZERO);
        }
        let id = self.shard.next_transaction_id();
        let in_flight = InFlight {
            reply_to,
            writes: request.writes(),
            ticket: None,
            ran: None,
        };
        self.shard.keyspace.in_flight.insert(id.sequence, in_flight);
        let transaction = Box::new(KeyTransaction {
            id,
            route: route_of(self.shard, &request),
            request,
            visited: 0,
            collected: Collected::default(),
            shows: Vec::new(),
            refusal: None,
        });
        self.forward_keys(transaction);
    }

    fn tell_keys(&mut self, to: ShardId, message: KeyMessage) {
        assert_ne!(to, self.shard.id, "a shard does not write to itself");
        self.output.messages.push((to, ShardMessage::Keys(Box::new(message))));
    }

    fn forward_keys(&mut self, transaction: Box<KeyTransaction>) {
        let is_at_its_end = transaction.refusal.is_some() || transaction.visited == transaction.route.len();
        let to = if is_at_its_end {
            transaction.id.home
        } else {
            transaction.route[transaction.visited]
        };
        if to == self.shard.id {
            self.visit(transaction);
        } else {
            self.tell_keys(to, KeyMessage::Visit(transaction));
        }
    }

    /// Another shard says something about keys.
    pub(in crate::engine) fn on_key_message(&mut self, from: ShardId, message: KeyMessage) {
        match message {
            KeyMessage::Visit(transaction) => self.visit(transaction),
            KeyMessage::Write { transaction, effects } => self.prepare_keys(from, transaction, effects),
            KeyMessage::Written { transaction, written } => self.note_written(from, transaction, written),
            KeyMessage::Release(transaction) => {
                let participation = self.end_participation(transaction);
                assert!(!participation.is_prepared, "what is logged is resolved");
                self.let_go(&participation);
            }
            KeyMessage::Resolved { transaction, committed } => {
                let record = if committed {
                    Record::Committed { transaction }
                } else {
                    Record::Aborted { transaction }
                };
                self.append(record);
                let participation = self.end_participation(transaction);
                self.let_go(&participation);
            }
        }
    }

    fn let_go(&mut self, participation: &Participation) {
        if let Some(ticket) = participation.ticket {
            self.shard.keyspace.locks.release(ticket);
        }
    }

    fn end_participation(&mut self, transaction: TransactionId) -> Participation {
        let participation = self.shard.keyspace.participating.remove(&transaction);
        participation.expect("a shard that is told has a part")
    }

    fn visit(&mut self, mut transaction: Box<KeyTransaction>) {
        if transaction.refusal.is_some() || transaction.visited == transaction.route.len() {
            return self.run_transaction(*transaction);
        }
        if let Err(answer) = self.may_wait_for_keys() {
            transaction.refusal = Some(answer);
            return self.forward_keys(transaction);
        }
        let (map, id) = (self.shard.map, self.shard.id);
        let here = |slot: Slot| map.shard_of(slot) == id;
        let own = transaction.request.keys().filter(|&(_, slot)| here(slot));
        let keys: Vec<_> = own.map(|(key, _)| ValueBytes::new(key)).collect();
        let takes_shard = transaction.request.takes_shard(here);
        let locks = &mut self.shard.keyspace.locks;
        let (ticket, is_free) = locks.take(keys, takes_shard);
        if is_free {
            self.collect(transaction, ticket);
        } else {
            locks.wait(ticket, Waiting::Visit(transaction));
        }
    }

    /// The transaction has the keys of this shard: it adds what they hold, and goes on.
    pub(super) fn collect(&mut self, mut transaction: Box<KeyTransaction>, ticket: Ticket) {
        let shard = &mut *self.shard;
        let draw = shard.keyspace.dice.bits();
        let shows = transaction
            .collected
            .add(&shard.state, &transaction.request, shard.now, draw);
        transaction.shows.push((shard.id, shows));
        if transaction.id.home == shard.id {
            let in_flight = shard.keyspace.in_flight.get_mut(&transaction.id.sequence);
            in_flight.expect("a home knows what it coordinates").ticket = Some(ticket);
        } else {
            let mut participation = Participation {
                ticket: Some(ticket),
                is_prepared: false,
            };
            if is_on(Mutation::ForgetKeyLocks)
                && let Some(ticket) = participation.ticket.take()
            {
                shard.keyspace.locks.release(ticket);
            }
            shard.keyspace.participating.insert(transaction.id, participation);
        }
        transaction.visited += 1;
        self.forward_keys(transaction);
    }

    /// All is collected: the home runs the request, and has each shard log what it does there.
    fn run_transaction(&mut self, mut transaction: KeyTransaction) {
        let home = self.shard.id;
        let visited = transaction.route[..transaction.visited].to_vec();
        let spare_bytes = self.spare_bytes(&transaction.request, false);
        let refusal = transaction.refusal.take();
        if let Some(answer) = refusal.or_else(|| spare_bytes.as_ref().err().cloned()) {
            for &shard in visited.iter().filter(|&&shard| shard != home) {
                self.tell_keys(shard, KeyMessage::Release(transaction.id));
            }
            return self.end_key_transaction(transaction.id, answer);
        }
        let shard = &mut *self.shard;
        let mut keys = Keys {
            store: Store::Collected(&mut transaction.collected),
            map: shard.map,
            now: shard.now,
            position: LogPosition::ZERO,
            logs: EffectLogs::default(),
            reveals: LogPosition::ZERO,
            spare_bytes: spare_bytes.expect("looked at above"),
            string_bytes_max: shard.limits.books.entries.string_bytes_max,
            writes: false,
            places: KeyPlaces::NONE,
            slots: &[],
            index: 0,
            dice: &mut shard.keyspace.dice,
        };
        let answer = keys.run(&transaction.request);
        let mut logs: Vec<_> = keys.logs.into_logs().filter(|(_, log)| !log.is_empty()).collect();
        let is_read_only = logs.is_empty();
        let mut effects = Vec::new();
        let (mut prepared, mut missing) = (Vec::new(), 0);
        for (shard, shows) in transaction.shows {
            let log = logs
                .iter()
                .position(|&(to, _)| to == shard.0)
                .map(|at| logs.swap_remove(at).1);
            match log {
                Some(log) if shard == home => effects = log,
                Some(log) => {
                    missing += 1;
                    let message = KeyMessage::Write {
                        transaction: transaction.id,
                        effects: log,
                    };
                    self.tell_keys(shard, message);
                }
                None => {
                    prepared.push((shard, shows));
                    if shard != home {
                        self.tell_keys(shard, KeyMessage::Release(transaction.id));
                    }
                }
            }
        }
        assert!(logs.is_empty(), "a transaction changes keys that it has locked");
        if is_read_only {
            self.shard.keyspace.awaiting.push_back(Awaiting {
                transaction: transaction.id,
                needs: prepared,
                answer,
                written: None,
            });
            // Nobody can change what was read behind its back any more, and nothing waits for the logs but the answer.
            self.release_home(transaction.id);
            return self.resolve_awaiting_keys();
        }
        let in_flight = self.in_flight_keys(transaction.id);
        in_flight.ran = Some(Ran {
            answer,
            effects,
            prepared,
            written: Vec::new(),
            missing,
            refusal: None,
        });
        if missing == 0 {
            self.decide_keys(transaction.id);
        }
    }

    fn in_flight_keys(&mut self, transaction: TransactionId) -> &mut InFlight {
        let in_flight = self.shard.keyspace.in_flight.get_mut(&transaction.sequence);
        in_flight.expect("a home knows what it coordinates")
    }

    fn release_home(&mut self, transaction: TransactionId) {
        if let Some(ticket) = self.in_flight_keys(transaction).ticket.take() {
            self.shard.keyspace.locks.release(ticket);
        }
    }

    /// Logs the changes of a transaction to keys that it has locked here.
    fn prepare_keys(&mut self, home: ShardId, transaction: TransactionId, effects: Vec<u8>) {
        let participation = self.shard.keyspace.participating.get_mut(&transaction);
        let participation = participation.expect("who has changes here has locked keys here");
        participation.is_prepared = true;
        let written = match self.append_if_room(Record::KeysPrepared { transaction, effects }) {
            Ok((position, _)) => Ok(position),
            Err(error) => {
                let participation = self.end_participation(transaction);
                self.let_go(&participation);
                Err(refusal(&error))
            }
        };
        self.tell_keys(home, KeyMessage::Written { transaction, written });
    }

    fn note_written(&mut self, from: ShardId, transaction: TransactionId, written: Result<LogPosition, Answer>) {
        let ran = self.in_flight_keys(transaction).ran.as_mut();
        let ran = ran.expect("only who was asked to write says so");
        ran.missing -= 1;
        match written {
            Ok(position) => {
                ran.prepared.push((from, position));
                ran.written.push(from);
            }
            Err(answer) => ran.refusal = Some(answer),
        }
        if ran.missing == 0 {
            self.decide_keys(transaction);
        }
    }

    /// All others have logged their part, or refused: the home decides.
    fn decide_keys(&mut self, transaction: TransactionId) {
        let ran = self.in_flight_keys(transaction).ran.take();
        let Ran {
            answer,
            effects,
            prepared,
            written,
            refusal: refused,
            ..
        } = ran.expect("what is decided was run");
        let decided = if let Some(answer) = refused {
            Err(answer)
        } else {
            let record = Record::KeysDecided {
                transaction,
                prepared: prepared.clone(),
                at: self.shard.now,
                effects,
            };
            self.append_if_room(record).map_err(|error| refusal(&error))
        };
        match decided {
            Err(answer) => {
                for shard in written {
                    let message = KeyMessage::Resolved {
                        transaction,
                        committed: false,
                    };
                    self.tell_keys(shard, message);
                }
                self.end_key_transaction(transaction, answer);
            }
            Ok((position, _)) => {
                let mut needs = prepared;
                needs.push((self.shard.id, position));
                self.shard.keyspace.awaiting.push_back(Awaiting {
                    transaction,
                    needs,
                    answer,
                    written: Some(written),
                });
                self.resolve_awaiting_keys();
            }
        }
    }

    /// Ends, in order, what waited for logs that are safe by now.
    pub(in crate::engine) fn resolve_awaiting_keys(&mut self) {
        while let Some(first) = self.shard.keyspace.awaiting.front() {
            let safe = &self.shard.safe;
            let is_safe = |&(shard, position): &(ShardId, LogPosition)| {
                safe[shard.index()] >= position || (is_on(Mutation::CommitWithoutPeers) && shard != self.shard.id)
            };
            if !first.needs.iter().all(is_safe) {
                break;
            }
            let first = self.shard.keyspace.awaiting.pop_front().expect("looked at above");
            let transaction = first.transaction;
            if let Some(written) = first.written {
                self.append(Record::Committed { transaction });
                for shard in written {
                    let message = KeyMessage::Resolved {
                        transaction,
                        committed: true,
                    };
                    self.tell_keys(shard, message);
                }
            }
            self.end_key_transaction(transaction, first.answer);
        }
    }

    /// The transaction is over at its home.
    fn end_key_transaction(&mut self, transaction: TransactionId, answer: Answer) {
        self.release_home(transaction);
        let in_flight = self.shard.keyspace.in_flight.remove(&transaction.sequence);
        let reply_to = in_flight.expect("a home knows what it coordinates").reply_to;
        self.answer_keys(reply_to, answer, LogPosition::ZERO);
    }
}
