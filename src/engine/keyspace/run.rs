//! The parts of a step about keys: a request is run at once here, or takes its way over the shards.

use super::answer::Answer;
use super::keys::Keys;
use super::request::KeyRequest;
use crate::engine::ids::{LogPosition, ShardId};
use crate::engine::message::ReplyTo;
use crate::engine::shard::Step;

/// What shards say to each other about keys.
#[derive(Debug)]
pub enum KeyMessage {}

impl Step<'_> {
    /// A request to the keyspace whose home is this shard.
    pub fn on_keys(&mut self, reply_to: ReplyTo, request: Box<KeyRequest>) {
        let mut keys = Keys {
            now: self.shard.now,
            marker: std::marker::PhantomData,
        };
        let mut answers: Vec<_> = request
            .invocations
            .iter()
            .map(|invocation| (invocation.command.run)(&mut keys, invocation.arguments.get()))
            .collect();
        let answer = match answers.pop() {
            Some(answer) if !request.is_transaction => answer,
            last => {
                answers.extend(last);
                Answer::Array(answers)
            }
        };
        self.output.replies.push((reply_to, answer.into(), LogPosition::ZERO));
    }

    /// Another shard says something about keys.
    pub fn on_key_message(&mut self, _from: ShardId, message: KeyMessage) {
        match message {}
    }
}
