//! What a session asks of the server around it, beside the engine: of all shards' connections and subscriptions.
//!
//! A command makes an [`Errand`]; its [`Task`] leaves the session like a request for the engine, its rendering stays and
//! waits for what the shards find. Inquiries and findings travel between the shards and hold nothing of a connection.

use std::sync::Arc;

use cartwright_protocol::resp::Writer;

use super::clients::ClientFilter;
use super::report::{LatencySample, ShardReport, SlowCommand};

/// What is to be done for a session.
#[derive(Debug)]
pub enum Task {
    /// Every shard is asked; complete with one finding of each.
    Everywhere(Arc<Inquiry>),
    /// Nothing, until this time in Unix milliseconds; complete with no finding.
    Rest {
        /// Until when.
        until_ms: u64,
    },
    /// Every shard takes a checkpoint. Complete with one [`Finding::Count`]: 1, or 0 where it failed.
    Save,
}

/// What every shard is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// Delivers messages to subscribers, in this order; found are the [`Finding::Counts`] of receivers of each.
    Publish(Vec<Message>),
    /// The channels that have subscribers and match the pattern: [`Finding::Names`].
    Channels {
        /// A pattern; none: all.
        pattern: Option<Box<[u8]>>,
        /// Channels of `SSUBSCRIBE`, and not the others.
        sharded: bool,
    },
    /// How many subscribe to each of these channels: [`Finding::Counts`].
    Subscribers {
        /// The channels.
        channels: Vec<Box<[u8]>>,
        /// Channels of `SSUBSCRIBE`, and not the others.
        sharded: bool,
    },
    /// Which patterns are subscribed to: [`Finding::Names`].
    Patterns,
    /// The connections that the filter lets through, one line each, in the order of their numbers: [`Finding::Lines`].
    Clients(ClientFilter),
    /// Ends the connections that the filter lets through: [`Finding::Count`].
    Kill(ClientFilter),
    /// Holds commands back until a time in Unix milliseconds: [`Finding::Nothing`].
    Pause {
        /// Until when.
        until_ms: u64,
        /// Only those that write.
        writes_only: bool,
    },
    /// Ends a pause: [`Finding::Nothing`].
    Unpause,
    /// The shard's figures: [`Finding::Report`].
    Report,
    /// Sets counters back: [`Finding::Nothing`].
    ResetStatistics,
    /// The slow commands that are kept: [`Finding::Slow`].
    SlowCommands,
    /// Forgets them: [`Finding::Nothing`].
    ForgetSlowCommands,
    /// The latest samples of each event, of all or of one: [`Finding::Latency`].
    Latency(Option<Box<[u8]>>),
    /// Forgets the samples of these events, or of all: a [`Finding::Names`] of those that had some.
    ForgetLatency(Vec<Box<[u8]>>),
    /// Waits until what is in the log now is on disk, whatever the mode, or until a time in Unix milliseconds (0: as
    /// long as it takes): [`Finding::Count`], 1 if it is.
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
pub enum Finding {
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
pub(super) type Render = Box<dyn FnOnce(&mut Writer<'_>, Vec<Finding>)>;

/// See the module.
pub(super) struct Errand {
    pub(super) task: Task,
    pub(super) render: Render,
}

impl Errand {
    /// Asks every shard.
    pub(super) fn ask(inquiry: Inquiry, render: impl FnOnce(&mut Writer<'_>, Vec<Finding>) + 'static) -> Self {
        Self {
            task: Task::Everywhere(Arc::new(inquiry)),
            render: Box::new(render),
        }
    }

    /// Asks every shard for something that is then simply done.
    pub(super) fn tell(inquiry: Inquiry) -> Self {
        Self::ask(inquiry, |writer, _| writer.simple("OK"))
    }
}

/// The sum of all counts.
pub(super) fn sum(findings: &[Finding]) -> u64 {
    findings
        .iter()
        .map(|finding| match finding {
            Finding::Count(count) => *count,
            Finding::Counts(counts) => counts.iter().sum(),
            _ => 0,
        })
        .sum()
}

/// The sums of all lists of counts, place by place.
pub(super) fn sums(findings: &[Finding], length: usize) -> Vec<u64> {
    let mut sums = vec![0; length];
    for finding in findings {
        if let Finding::Counts(counts) = finding {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
    sums
}

/// All names, each once, in order.
pub(super) fn names(findings: Vec<Finding>) -> std::collections::BTreeSet<Box<[u8]>> {
    findings
        .into_iter()
        .flat_map(|finding| match finding {
            Finding::Names(names) => names,
            _ => Vec::new(),
        })
        .collect()
}
