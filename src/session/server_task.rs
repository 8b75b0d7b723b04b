//! What a session asks of the server around it, beside the engine: of all shards' connections and subscriptions.
//!
//! A command makes a [`PendingTask`]; its [`ServerTask`] leaves the session like a request for the engine, its rendering
//! stays and waits for what the shards find. Queries and results travel between the shards and hold nothing of a
//! connection.

use std::sync::Arc;

use cartwright_protocol::resp::Writer;

use super::clients::ClientFilter;
use super::report::{LatencySample, ShardReport, SlowCommand};

/// What is to be done for a session.
#[derive(Debug)]
pub enum ServerTask {
    /// Every shard is asked; complete with one result of each.
    Everywhere(Arc<ShardQuery>),
    /// Nothing, until this time in Unix milliseconds; complete with no result.
    Rest {
        /// Until when.
        until_ms: u64,
    },
    /// Every shard takes a checkpoint. Complete with one [`ShardResult::Count`]: 1, or 0 where it failed.
    Save,
}

/// What every shard is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardQuery {
    /// Delivers messages to subscribers, in this order; found are the [`ShardResult::Counts`] of receivers of each.
    Publish(Vec<Message>),
    /// The channels that have subscribers and match the pattern: [`ShardResult::Names`].
    Channels {
        /// A pattern; none: all.
        pattern: Option<Box<[u8]>>,
        /// Channels of `SSUBSCRIBE`, and not the others.
        sharded: bool,
    },
    /// How many subscribe to each of these channels: [`ShardResult::Counts`].
    Subscribers {
        /// The channels.
        channels: Vec<Box<[u8]>>,
        /// Channels of `SSUBSCRIBE`, and not the others.
        sharded: bool,
    },
    /// Which patterns are subscribed to: [`ShardResult::Names`].
    Patterns,
    /// The connections that the filter lets through, one line each, in the order of their numbers: [`ShardResult::Lines`].
    Clients(ClientFilter),
    /// Ends the connections that the filter lets through: [`ShardResult::Count`].
    Kill(ClientFilter),
    /// Holds commands back until a time in Unix milliseconds: [`ShardResult::Nothing`].
    Pause {
        /// Until when.
        until_ms: u64,
        /// Only those that write.
        writes_only: bool,
    },
    /// Ends a pause: [`ShardResult::Nothing`].
    Unpause,
    /// The shard's figures: [`ShardResult::Report`].
    Report,
    /// Sets counters back: [`ShardResult::Nothing`].
    ResetStatistics,
    /// The slow commands that are kept: [`ShardResult::Slow`].
    SlowCommands,
    /// Forgets them: [`ShardResult::Nothing`].
    ForgetSlowCommands,
    /// The latest samples of each event, of all or of one: [`ShardResult::Latency`].
    Latency(Option<Box<[u8]>>),
    /// Forgets the samples of these events, or of all: a [`ShardResult::Names`] of those that had some.
    ForgetLatency(Vec<Box<[u8]>>),
    /// Waits until what is in the log now is on disk, whatever the mode, or until a time in Unix milliseconds (0: as
    /// long as it takes): [`ShardResult::Count`], 1 if it is.
    Sync {
        /// Until when.
        until_ms: u64,
    },
}

/// A message to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub channel: Box<[u8]>,
    /// What.
    pub payload: Box<[u8]>,
    /// By `SPUBLISH`: only to who said `SSUBSCRIBE`.
    pub sharded: bool,
}

/// What one shard found.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardResult {
    /// Nothing to tell.
    Nothing,
    /// A number.
    Count(u64),
    /// Numbers, in the order of what was asked for.
    Counts(Vec<u64>),
    /// Names, in no order.
    Names(Vec<Box<[u8]>>),
    /// Lines of text, by the number of the connection that they are about.
    Lines(Vec<(u64, String)>),
    /// A shard's figures.
    Report(Box<ShardReport>),
    /// Slow commands, the latest first.
    Slow(Vec<SlowCommand>),
    /// Events and their samples, the oldest first.
    Latency(Vec<(&'static str, Vec<LatencySample>)>),
}

/// Writes the reply from what the shards found.
pub(super) type Render = Box<dyn FnOnce(&mut Writer<'_>, Vec<ShardResult>)>;

/// See the module.
pub(super) struct PendingTask {
    pub(super) task: ServerTask,
    pub(super) render: Render,
}

impl PendingTask {
    /// Asks every shard.
    pub(super) fn ask(query: ShardQuery, render: impl FnOnce(&mut Writer<'_>, Vec<ShardResult>) + 'static) -> Self {
        Self {
            task: ServerTask::Everywhere(Arc::new(query)),
            render: Box::new(render),
        }
    }

    /// Asks every shard for something that is then simply done.
    pub(super) fn tell(query: ShardQuery) -> Self {
        Self::ask(query, |writer, _| writer.simple("OK"))
    }
}

/// The sum of all counts.
pub(super) fn sum(results: &[ShardResult]) -> u64 {
    results
        .iter()
        .map(|result| match result {
            ShardResult::Count(count) => *count,
            ShardResult::Counts(counts) => counts.iter().sum(),
            _ => 0,
        })
        .sum()
}

/// The sums of all lists of counts, place by place.
pub(super) fn sums(results: &[ShardResult], length: usize) -> Vec<u64> {
    let mut sums = vec![0; length];
    for result in results {
        if let ShardResult::Counts(counts) = result {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
    sums
}

/// All names, each once, in order.
pub(super) fn names(results: Vec<ShardResult>) -> std::collections::BTreeSet<Box<[u8]>> {
    results
        .into_iter()
        .flat_map(|result| match result {
            ShardResult::Names(names) => names,
            _ => Vec::new(),
        })
        .collect()
}
