//! Mail between shards: one bounded SPSC queue for each ordered pair, filled and emptied in batches.
//!
//! The shard loop posts during a turn and delivers at its end, with one publication a peer and a ring of its doorbell
//! only if it is parked. What a full queue does not take stays here, in order; how much that can be is bounded by the
//! requests that the shards let in (see [`super::shard_loop`]).

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::broadcast::BroadcastMail;
use super::checkpointing::CheckpointMessage;
use crate::engine::{Question, ReplyTo, Response, ShardId, ShardMessage, Upcoming};
use crate::net::{Cause, Doorbell};

/// Pieces of mail that all queues to one shard hold together: 64 Ki of about 100 bytes.
const QUEUED_FOR_ONE_SHARD: usize = 65_536;

/// Pieces of mail one queue holds at least and at most.
const QUEUE_MIN: usize = 256;
const QUEUE_MAX: usize = 4096;

/// Mail that a peer has no room for, above which no new requests are let in.
const WAITING_MAX: usize = 16_384;

/// What shards send each other.
#[derive(Debug)]
pub enum Mail<S = TcpStream> {
    /// A client's request, to its home.
    Request(Question),
    /// A released answer, to the shard of the client's connection.
    Reply(ReplyTo, Response),
    /// From engine to engine.
    Message(ShardMessage),
    /// About a checkpoint; says something about the messages before it.
    Checkpoint(CheckpointMessage),
    /// What sessions ask of all shards, and what those find.
    Broadcast(BroadcastMail),
    /// A connection that was accepted and is now the addressee's.
    Connection(S),
}

impl<S> Mail<S> {
    /// What the engine will be given, if it is for the engine.
    pub const fn upcoming(&self) -> Option<Upcoming<'_>> {
        match self {
            Self::Request(question) => Some(Upcoming::Ask(&question.ask)),
            Self::Message(message) => Some(Upcoming::Message(message)),
            _ => None,
        }
    }
}

struct Outbox {
    queue: Producer<Mail>,
    waiting: VecDeque<Mail>,
}

/// One shard's mail, in and out.
pub struct Mailboxes {
    own: ShardId,
    outboxes: Vec<Option<Outbox>>,
    inboxes: Vec<Option<Consumer<Mail>>>,
    doorbells: Arc<[Doorbell]>,
}

impl Mailboxes {
    /// The mailboxes of all shards, each connected with every other; `doorbells` are theirs.
    pub fn for_all(doorbells: &Arc<[Doorbell]>) -> Vec<Self> {
        let count = doorbells.len();
        let capacity = (QUEUED_FOR_ONE_SHARD / count).clamp(QUEUE_MIN, QUEUE_MAX);
        let mut all: Vec<_> = (0..count)
            .map(|own| Self {
                own: ShardId(own as u16),
                outboxes: (0..count).map(|_| None).collect(),
                inboxes: (0..count).map(|_| None).collect(),
                doorbells: Arc::clone(doorbells),
            })
            .collect();
        for from in 0..count {
            for to in (0..count).filter(|&to| to != from) {
                let (queue, inbox) = RingBuffer::new(capacity);
                all[from].outboxes[to] = Some(Outbox {
                    queue,
                    waiting: VecDeque::new(),
                });
                all[to].inboxes[from] = Some(inbox);
            }
        }
        all
    }

    /// Whose they are.
    pub const fn own(&self) -> ShardId {
        self.own
    }

    /// Puts mail on the way to another shard; it leaves with the next [`Mailboxes::deliver`].
    pub fn post(&mut self, to: ShardId, mail: Mail) {
        let outbox = self.outboxes[to.index()]
            .as_mut()
            .expect("a shard sends no mail to itself");
        outbox.waiting.push_back(mail);
    }

    /// Moves posted mail into the queues, as far as they have room, and rings for it.
    pub fn deliver(&mut self) {
        for (outbox, doorbell) in self.outboxes.iter_mut().zip(&self.doorbells[..]) {
            let Some(outbox) = outbox.as_mut().filter(|outbox| !outbox.waiting.is_empty()) else {
                continue;
            };
            let room = outbox.waiting.len().min(outbox.queue.slots());
            if room > 0
                && let Ok(chunk) = outbox.queue.write_chunk_uninit(room)
            {
                chunk.fill_from_iter(outbox.waiting.drain(..room));
                doorbell.ring(Cause::Mail);
            }
        }
    }

    /// Takes all mail that has come, in the order in which each sender posted it.
    pub fn collect(&mut self, mail: &mut Vec<(ShardId, Mail)>) {
        for (from, inbox) in self.inboxes.iter_mut().enumerate() {
            let Some(inbox) = inbox else { continue };
            let count = inbox.slots();
            if count > 0
                && let Ok(chunk) = inbox.read_chunk(count)
            {
                mail.extend(chunk.into_iter().map(|piece| (ShardId(from as u16), piece)));
            }
        }
    }

    /// Whether mail has come that was not collected.
    pub fn has_mail(&self) -> bool {
        self.inboxes.iter().flatten().any(|inbox| !inbox.is_empty())
    }

    /// Whether some of the posted mail is still here.
    pub fn is_waiting(&self) -> bool {
        self.outboxes.iter().flatten().any(|outbox| !outbox.waiting.is_empty())
    }

    /// Whether so much of the posted mail is still here that no more should be caused.
    pub fn is_clogged(&self) -> bool {
        self.outboxes
            .iter()
            .flatten()
            .any(|outbox| outbox.waiting.len() > WAITING_MAX)
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::Reply;

    use super::*;
    use crate::net::Parked;

    fn reply_to(sequence: u64) -> ReplyTo {
        ReplyTo {
            shard: ShardId(0),
            connection: 0,
            generation: 0,
            sequence,
        }
    }

    fn mailboxes(count: usize) -> (Vec<Mailboxes>, Arc<[Doorbell]>) {
        let doorbells: Arc<[Doorbell]> = (0..count).map(|_| Doorbell::new().unwrap()).collect();
        (Mailboxes::for_all(&doorbells), doorbells)
    }

    #[test]
    fn mail_is_small() {
        assert!(size_of::<Mail>() <= 128, "{} bytes", size_of::<Mail>());
    }

    #[test]
    fn a_full_queue_loses_nothing_and_keeps_the_order() {
        let (mut all, _doorbells) = mailboxes(2);
        let total = QUEUE_MAX as u64 * 2 + 7;
        for sequence in 0..total {
            all[0].post(ShardId(1), Mail::Reply(reply_to(sequence), Response::Shop(Reply::Ok)));
        }
        let mut got = Vec::new();
        while got.len() < total as usize {
            all[0].deliver();
            let mut mail = Vec::new();
            all[1].collect(&mut mail);
            assert!(!mail.is_empty(), "mail got stuck");
            got.extend(mail.into_iter().map(|(from, mail)| match mail {
                Mail::Reply(reply_to, _) => (from, reply_to.sequence),
                other => panic!("{other:?} was never sent"),
            }));
        }
        assert!(!all[0].is_waiting() && !all[1].has_mail());
        assert_eq!(
            got,
            (0..total).map(|sequence| (ShardId(0), sequence)).collect::<Vec<_>>()
        );
    }

    /// Two shards that park as the loop does, and send each other a counter by turns: a lost wake-up stops them.
    #[test]
    fn no_wake_up_is_lost_between_parking_shards() {
        const ROUNDS: u64 = 20_000;
        let (mut all, doorbells) = mailboxes(2);
        let shards = [all.remove(0), all.remove(0)];
        let threads = shards.map(|mut mailboxes| {
            let doorbells = Arc::clone(&doorbells);
            std::thread::spawn(move || {
                let own = mailboxes.own();
                let peer = ShardId(1 - own.0);
                let doorbell = &doorbells[own.index()];
                let mut mail = Vec::new();
                let mut next = u64::from(own.0);
                if own == ShardId(0) {
                    mailboxes.post(peer, Mail::Reply(reply_to(0), Response::Shop(Reply::Ok)));
                    mailboxes.deliver();
                    next = 1;
                }
                let mut parked = 0;
                while next < ROUNDS {
                    mailboxes.collect(&mut mail);
                    if mail.is_empty() {
                        doorbell.announce(Parked::ForMail);
                        if !mailboxes.has_mail() {
                            parked += 1;
                            assert!(
                                rung_within_seconds(doorbell, 5),
                                "a wake-up was lost after {next} rounds"
                            );
                        }
                        doorbell.announce(Parked::Not);
                    }
                    for (_, mail) in mail.drain(..) {
                        let Mail::Reply(got, _) = mail else {
                            panic!("only replies are sent here")
                        };
                        mailboxes.post(peer, Mail::Reply(reply_to(got.sequence + 1), Response::Shop(Reply::Ok)));
                        next = got.sequence + 2;
                    }
                    mailboxes.deliver();
                }
                parked
            })
        });
        let parked: u64 = threads.map(|thread| thread.join().unwrap()).into_iter().sum();
        assert!(parked > 0, "nobody ever parked, so nothing was tested");
    }

    fn rung_within_seconds(doorbell: &Doorbell, seconds: i64) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(doorbell, PollFlags::IN)], Some(&timeout));
        ready == Ok(1) && rustix::io::read(doorbell, &mut [0; 8]).is_ok()
    }
}
