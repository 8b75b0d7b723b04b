//! The rows of the commands about channels and their subscribers.

use super::{Command, Flags, KeyPositions, container, help, local, task};
use crate::session::connection::Call;
use crate::session::pubsub;

const SUBSCRIBE: Flags = Flags::PUBSUB
    .and(Flags::NOSCRIPT)
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::IN_TURN)
    .and(Flags::NO_MULTI)
    .and(Flags::WHEN_SUBSCRIBED);
const PUBLISH: Flags = Flags::PUBSUB
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::MAY_REPLICATE);
const TOLD: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE);

const fn subscribe(
    name: &'static str,
    arity: i16,
    syntax: &'static str,
    summary: &'static str,
    handler: fn(&mut Call<'_>),
) -> Command {
    local(name, arity, SUBSCRIBE, syntax, summary, handler)
}

/// What a client routes sharded channels by, as if they were keys.
const ONE_CHANNEL: KeyPositions = super::ONE_KEY;
const ALL_CHANNELS: KeyPositions = super::ALL_KEYS;

pub(super) const COMMANDS: &[Command] = &[
    subscribe(
        "subscribe",
        -2,
        "channel [channel ...]",
        "Receives the messages of channels.",
        pubsub::subscribe,
    ),
    subscribe(
        "unsubscribe",
        -1,
        "[channel [channel ...]]",
        "Receives them no more.",
        pubsub::unsubscribe,
    ),
    subscribe(
        "psubscribe",
        -2,
        "pattern [pattern ...]",
        "Receives the messages of channels that match a pattern.",
        pubsub::psubscribe,
    ),
    subscribe(
        "punsubscribe",
        -1,
        "[pattern [pattern ...]]",
        "Receives them no more.",
        pubsub::punsubscribe,
    ),
    subscribe(
        "ssubscribe",
        -2,
        "shardchannel [shardchannel ...]",
        "Receives the messages of SPUBLISH.",
        pubsub::ssubscribe,
    )
    .with_keys(ALL_CHANNELS),
    subscribe(
        "sunsubscribe",
        -1,
        "[shardchannel [shardchannel ...]]",
        "Receives them no more.",
        pubsub::sunsubscribe,
    )
    .with_keys(ALL_CHANNELS),
    task(
        "publish",
        3,
        PUBLISH,
        "channel message",
        "Sends a message to all subscribers of a channel, and tells how many they are.",
        pubsub::publish,
    ),
    task(
        "spublish",
        3,
        PUBLISH,
        "shardchannel message",
        "Sends a message to all who said SSUBSCRIBE.",
        pubsub::publish,
    )
    .with_keys(ONE_CHANNEL),
    container("pubsub", "About channels.", PUBSUB),
];

const PUBSUB: &[Command] = &[
    task(
        "channels",
        -2,
        TOLD,
        "[pattern]",
        "Lists the channels that have subscribers.",
        pubsub::channels,
    ),
    task(
        "numsub",
        -2,
        TOLD,
        "[channel [channel ...]]",
        "Counts the subscribers of channels.",
        pubsub::numsub,
    ),
    task(
        "numpat",
        2,
        TOLD,
        "",
        "Counts the patterns that are subscribed to.",
        pubsub::numpat,
    ),
    task(
        "shardchannels",
        -2,
        TOLD,
        "[pattern]",
        "Lists the channels of SSUBSCRIBE.",
        pubsub::shardchannels,
    ),
    task(
        "shardnumsub",
        -2,
        TOLD,
        "[shardchannel [shardchannel ...]]",
        "Counts the subscribers of SSUBSCRIBE.",
        pubsub::shardnumsub,
    ),
    help(),
];
