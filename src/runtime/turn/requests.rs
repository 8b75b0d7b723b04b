//! A turn's part in requests: taken from sessions, brought to their shards, and answered.

use super::{Connections, REQUESTS_IN_FLIGHT_MAX, Stage, Turn, World, connection_of};
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{Ask, LOOK_AHEAD_MAX, Question, ReplyTo, Response, ShardId, ShardMap, Upcoming};
use crate::net::ConnectionId;
use crate::runtime::mailbox::Mail;
use crate::session::Request;

/// Requests taken from one connection in a turn, so that a long pipeline does not keep others waiting.
const REQUESTS_PER_TURN_MAX: usize = 256;

impl<W: World> Turn<'_, W> {
    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        if let Some(client) = self.world.connections().client(id)
            && !client.ready
        {
            client.ready = true;
            self.core.ready.push_back(id);
        }
    }

    pub(super) fn may_take_requests(&self) -> bool {
        self.core.stage == Stage::Serving
            && self.core.in_flight < REQUESTS_IN_FLIGHT_MAX
            && !self.world.is_mail_clogged()
            && self.core.partition.accepts_requests()
    }

    /// Takes what sessions ask for now, one connection after the other.
    pub(super) fn take_requests(&mut self) {
        if !self.may_take_requests() {
            return self.write_on();
        }
        for _ in 0..self.core.ready.len() {
            let Some(id) = self.core.ready.pop_front() else { break };
            for taken in 0.. {
                let may_take = self.may_take_requests() && taken < REQUESTS_PER_TURN_MAX;
                let Some(client) = self.world.connections().client(id) else {
                    break;
                };
                if !may_take {
                    client.session.write_on();
                    self.core.ready.push_back(id);
                    break;
                }
                let Some((sequence, request)) = client.session.next_request() else {
                    client.ready = false;
                    break;
                };
                let reply_to = ReplyTo {
                    shard: self.core.id,
                    connection: id.index,
                    generation: id.generation,
                    sequence,
                };
                self.core.in_flight += 1;
                match request {
                    Request::Engine(ask) => self.route(Question { reply_to, ask }),
                    Request::Server(task) => {
                        self.ask_engine();
                        self.begin_task(reply_to, task);
                    }
                }
            }
            self.world.connections().touch(id);
        }
        self.ask_engine();
    }

    /// Who takes a long reply is not kept waiting for it by those whose requests wait.
    fn write_on(&mut self) {
        for &id in &self.core.ready {
            let connections = self.world.connections();
            if let Some(client) = connections.client(id)
                && client.session.write_on()
            {
                connections.touch(id);
            }
        }
    }

    fn route(&mut self, question: Question) {
        let home = home_of(self.core.map, &question.ask);
        if home == self.core.id {
            self.core.questions.push(question);
            if self.core.questions.len() == LOOK_AHEAD_MAX {
                self.ask_engine();
            }
        } else {
            self.world.post(home, Mail::Request(question));
        }
    }

    /// Questions are gathered, so that their memory is fetched together.
    fn ask_engine(&mut self) {
        let core = &mut *self.core;
        let upcoming = core.questions.iter().map(|question| Upcoming::Ask(&question.ask));
        core.partition.shard().look_ahead(upcoming);
        for question in core.questions.drain(..) {
            core.partition.request(self.now, question);
        }
    }

    /// Hands an answer to the connection that asked, if it is still there.
    pub(super) fn answer(&mut self, reply_to: ReplyTo, reply: Response) {
        self.core.in_flight -= 1;
        let mut id = connection_of(reply_to);
        if is_on(Mutation::AnswerByPlace) {
            let mut all = self.world.connections().identified().map(|(other, _)| other);
            id = all.find(|other| other.index == id.index).unwrap_or(id);
        }
        if let Some(client) = self.world.connections().client(id) {
            client.session.complete(reply_to.sequence, reply);
            self.world.connections().touch(id);
            self.make_ready(id);
        }
    }
}

/// The shard that a request is dispatched to.
fn home_of(map: ShardMap, ask: &Ask) -> ShardId {
    ask.home().map_or(ShardId(0), |slot| map.shard_of(slot))
}
