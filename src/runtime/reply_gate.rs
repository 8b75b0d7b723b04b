//! Answers that wait for their shard's log to be safe (rule R3).
//!
//! Part of [`super::partition`]. First in, first out; an answer that reveals nothing unsafe does not pass through.

use std::collections::VecDeque;

use crate::engine::{LogPosition, ReplyTo, Response};

/// The gate of one shard. Holds at most one answer for each request that was let in.
#[derive(Debug, Default)]
pub struct ReplyGate {
    waiting: VecDeque<(LogPosition, ReplyTo, Response)>,
}

impl ReplyGate {
    /// An answer that may leave once the log is safe up to `after`.
    pub fn hold(&mut self, after: LogPosition, reply_to: ReplyTo, reply: Response) {
        self.waiting.push_back((after, reply_to, reply));
    }

    /// Lets out what a log that is safe up to `safe` allows.
    pub fn open(&mut self, safe: LogPosition, released: &mut Vec<(ReplyTo, Response)>) {
        while let Some((_, reply_to, reply)) = self.waiting.pop_front_if(|(after, ..)| *after <= safe) {
            released.push((reply_to, reply));
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::Reply;

    use super::*;
    use crate::engine::ShardId;

    #[test]
    fn no_answer_leaves_before_its_position_is_safe() {
        let reply_to = |sequence| ReplyTo {
            shard: ShardId(0),
            connection: 0,
            generation: 0,
            sequence,
        };
        let mut gate = ReplyGate::default();
        for position in 1..=3 {
            gate.hold(LogPosition(position), reply_to(position), Reply::Ok.into());
        }
        let mut released = Vec::new();
        gate.open(LogPosition(0), &mut released);
        assert!(released.is_empty());
        gate.open(LogPosition(2), &mut released);
        assert_eq!(released.iter().map(|(to, _)| to.sequence).collect::<Vec<_>>(), [1, 2]);
        gate.open(LogPosition(3), &mut released);
        assert!(gate.is_empty() && released.len() == 3);
    }
}
