//! `SUBSCRIBE`, `PUBLISH` and their like.
//!
//! Called through the command table. Subscribing changes the connection and its shard's table at once; a message goes to
//! every shard as a query, and reaches the subscribers of each in the order in which its publisher sent it.

use cartwright_protocol::resp::Writer;
use hashbrown::HashSet;

use super::connection::{Call, Connection};
use super::server_task::{Message, PendingTask, ShardQuery, ShardResult, names, sum, sums};
use super::settings::Number;
use super::subscriptions::Kind;

/// The words that confirm a subscription and its end.
const fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Channel => ("subscribe", "unsubscribe"),
        Kind::Pattern => ("psubscribe", "punsubscribe"),
        Kind::Sharded => ("ssubscribe", "sunsubscribe"),
    }
}

/// The count that a confirmation tells: sharded subscriptions are counted apart.
fn told_count(connection: &Connection, kind: Kind) -> u64 {
    let count = |kind| connection.subscribed(kind).len() as u64;
    match kind {
        Kind::Sharded => count(Kind::Sharded),
        Kind::Channel | Kind::Pattern => count(Kind::Channel) + count(Kind::Pattern),
    }
}

fn confirm(call: &mut Call<'_>, word: &str, name: Option<&[u8]>, kind: Kind) {
    let count = told_count(call.connection, kind);
    let mut writer = call.writer();
    writer.push(3);
    writer.text(word);
    match name {
        Some(name) => writer.bulk(name),
        None => writer.null(),
    }
    writer.count(count);
}

fn subscribe_to(call: &mut Call<'_>, kind: Kind) {
    let most = call.context.settings.size(Number::SubscriptionsMax);
    let names = call.arguments.from(1);
    let is_new = |name: &&[u8]| !call.connection.subscribed(kind).contains(*name);
    let new: HashSet<&[u8], ahash::RandomState> = names.iter().filter(is_new).collect();
    if call.connection.subscription_count() + new.len() > most {
        return call.error(format_args!(
            "ERR a connection has at most {most} subscriptions; CONFIG SET subscriptions-max raises it"
        ));
    }
    for name in names.iter() {
        call.connection.subscribe(kind, name, call.context);
        confirm(call, words(kind).0, Some(name), kind);
    }
}

fn unsubscribe_from(call: &mut Call<'_>, kind: Kind) {
    let named = call.arguments.from(1);
    let word = words(kind).1;
    if !named.is_empty() {
        for name in named.iter() {
            call.connection.unsubscribe(kind, name, call.context);
            confirm(call, word, Some(name), kind);
        }
        return;
    }
    let all: Vec<_> = call.connection.subscribed(kind).iter().cloned().collect();
    if all.is_empty() {
        return confirm(call, word, None, kind);
    }
    for name in all {
        call.connection.unsubscribe(kind, &name, call.context);
        confirm(call, word, Some(&name), kind);
    }
}

pub(super) fn subscribe(call: &mut Call<'_>) {
    subscribe_to(call, Kind::Channel);
}

pub(super) fn unsubscribe(call: &mut Call<'_>) {
    unsubscribe_from(call, Kind::Channel);
}

pub(super) fn psubscribe(call: &mut Call<'_>) {
    subscribe_to(call, Kind::Pattern);
}

pub(super) fn punsubscribe(call: &mut Call<'_>) {
    unsubscribe_from(call, Kind::Pattern);
}

pub(super) fn ssubscribe(call: &mut Call<'_>) {
    subscribe_to(call, Kind::Sharded);
}

pub(super) fn sunsubscribe(call: &mut Call<'_>) {
    unsubscribe_from(call, Kind::Sharded);
}

/// The message in the arguments of `PUBLISH` or `SPUBLISH`.
pub(super) fn message(call: &Call<'_>) -> Message {
    Message {
        channel: call.argument(1).into(),
        payload: call.argument(2).into(),
        sharded: call.command.name == "spublish",
    }
}

pub(super) fn publish(call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::ask(
        ShardQuery::Publish(vec![message(call)]),
        |writer, results| writer.count(sum(&results)),
    ))
}

fn write_names(writer: &mut Writer<'_>, results: Vec<ShardResult>) {
    let names = names(results);
    writer.array(names.len());
    for name in names {
        writer.bulk(&name);
    }
}

fn channels_of(call: &mut Call<'_>, sharded: bool) -> Option<PendingTask> {
    if call.arguments.len() > 3 {
        call.wrong_arity();
        return None;
    }
    let pattern = call.arguments.get(2).map(Into::into);
    Some(PendingTask::ask(ShardQuery::Channels { pattern, sharded }, write_names))
}

pub(super) fn channels(call: &mut Call<'_>) -> Option<PendingTask> {
    channels_of(call, false)
}

pub(super) fn shardchannels(call: &mut Call<'_>) -> Option<PendingTask> {
    channels_of(call, true)
}

fn subscribers_of(call: &Call<'_>, sharded: bool) -> PendingTask {
    let channels: Vec<Box<[u8]>> = call.arguments.from(2).iter().map(Into::into).collect();
    let asked = channels.clone();
    PendingTask::ask(ShardQuery::Subscribers { channels, sharded }, move |writer, results| {
        // Flat in both versions, as in Redis.
        writer.array(asked.len() * 2);
        for (channel, count) in asked.iter().zip(sums(&results, asked.len())) {
            writer.bulk(channel);
            writer.count(count);
        }
    })
}

pub(super) fn numsub(call: &mut Call<'_>) -> Option<PendingTask> {
    Some(subscribers_of(call, false))
}

pub(super) fn shardnumsub(call: &mut Call<'_>) -> Option<PendingTask> {
    Some(subscribers_of(call, true))
}

pub(super) fn numpat(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::ask(ShardQuery::Patterns, |writer, results| {
        writer.count(names(results).len() as u64);
    }))
}

/// Writes a message as its subscriber sees it; the pattern by which it came, if by one.
pub(super) fn write_message(writer: &mut Writer<'_>, message: &Message, pattern: Option<&[u8]>) {
    if let Some(pattern) = pattern {
        writer.push(4);
        writer.text("pmessage");
        writer.bulk(pattern);
    } else {
        writer.push(3);
        writer.text(if message.sharded { "smessage" } else { "message" });
    }
    writer.bulk(&message.channel);
    writer.bulk(&message.payload);
}
