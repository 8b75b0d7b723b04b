//! Which replies are the same.
//!
//! Equal to the byte, but where Redis itself promises less: what has no order is put into one, what goes with the clock
//! or with chance is compared by its shape.

use super::wire::{Reply, Words};

/// How far apart, in milliseconds, two servers' clocks may be read for the same command.
const CLOCK_SLACK_MS: i64 = 120_000;

/// Whether the replies to this command are the same.
pub fn same(words: &Words, ours: &Reply, theirs: &Reply) -> bool {
    if ours == theirs {
        return true;
    }
    let name = words[0].to_ascii_lowercase();
    match (name.as_slice(), ours, theirs) {
        (b"ttl" | b"expiretime", Reply::Line(b':', ours), Reply::Line(b':', theirs)) => {
            near(ours, theirs, CLOCK_SLACK_MS / 1_000)
        }
        (b"pttl" | b"pexpiretime", Reply::Line(b':', ours), Reply::Line(b':', theirs)) => {
            near(ours, theirs, CLOCK_SLACK_MS)
        }
        // What is measured, counted or chosen by each server for itself.
        (b"lastsave", Reply::Line(b':', _), Reply::Line(b':', _))
        | (b"randomkey" | b"dump", Reply::Bulk(..), Reply::Bulk(..)) => true,
        (b"memory", Reply::Line(b':', _), Reply::Line(b':', _)) => is_sub(words, &["usage"]),
        (b"object", Reply::Line(b':', _), Reply::Line(b':', _)) => is_sub(words, &["idletime", "refcount"]),
        (b"slowlog", Reply::Line(b':', _), Reply::Line(b':', _)) => is_sub(words, &["len"]),
        (b"command", Reply::Line(b':', _), Reply::Line(b':', _)) => is_sub(words, &["count"]),
        (b"client", Reply::Line(b':', _), Reply::Line(b':', _)) => is_sub(words, &["id"]),
        // What describes each server.
        (_, Reply::List(one, _), Reply::List(other, _)) if is_sub(words, &["help"]) => one == other,
        (b"info", Reply::Bulk(one, _), Reply::Bulk(other, _)) => one == other,
        (b"client", Reply::Bulk(one, _), Reply::Bulk(other, _)) => one == other && is_sub(words, &["info", "list"]),
        (b"latency", Reply::Bulk(one, _), Reply::Bulk(other, _)) => one == other && is_sub(words, &["doctor"]),
        (b"command", Reply::List(one, _), Reply::List(other, _)) => {
            one == other && (words.len() == 1 || is_sub(words, &["list", "docs", "info"]))
        }
        (b"slowlog", Reply::List(one, _), Reply::List(other, _)) => one == other && is_sub(words, &["get"]),
        (b"latency", Reply::List(one, _), Reply::List(other, _)) => one == other && is_sub(words, &["histogram"]),
        // Each server has a checkpoint under way, or has not.
        (b"bgsave" | b"save", _, _) => is_about_checkpoint(ours) && is_about_checkpoint(theirs),
        (b"time", Reply::List(b'*', ours), Reply::List(b'*', theirs)) => ours.len() == theirs.len(),
        (b"hrandfield", _, _) => shape(ours) == shape(theirs),
        (b"pubsub", Reply::List(..), Reply::List(..)) if is_sub(words, &["channels", "shardchannels"]) => {
            sorted(ours, 1) == sorted(theirs, 1)
        }
        (b"keys" | b"hkeys" | b"hvals", _, _) => sorted(ours, 1) == sorted(theirs, 1),
        (b"config" | b"hgetall", _, _) => sorted(ours, 2) == sorted(theirs, 2),
        (b"scan" | b"hscan", Reply::List(b'*', ours), Reply::List(b'*', theirs)) => {
            let by = if name == b"hscan" { 2 } else { 1 };
            // A cursor that is not the first means what its own server gave it for, and how much comes for a small
            // count is each server's choice.
            if words.get(by).map(Vec::as_slice) != Some(b"0") || !words.iter().any(|word| word == b"10000") {
                return true;
            }
            // A walk ends with each shard: what came so far is then among what there is.
            match (&ours[1], &theirs[1]) {
                (Reply::List(b'*', some), Reply::List(b'*', all)) if ours[0] != theirs[0] => {
                    some.iter().all(|name| all.contains(name))
                }
                (ours, theirs) => sorted(ours, by) == sorted(theirs, by),
            }
        }
        _ => false,
    }
}

/// Whether the command is one of these subcommands.
fn is_sub(words: &Words, names: &[&str]) -> bool {
    let is = |word: &Vec<u8>| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
    words.get(1).is_some_and(is)
}

fn is_about_checkpoint(reply: &Reply) -> bool {
    match reply {
        Reply::Line(b'+', text) => text == b"OK" || text.starts_with(b"Background saving"),
        Reply::Line(b'-', text) => text == b"ERR Background save already in progress",
        _ => false,
    }
}

fn near(ours: &[u8], theirs: &[u8], slack: i64) -> bool {
    let number = |text: &[u8]| -> i64 {
        let text = std::str::from_utf8(text).expect("an integer is digits");
        text.parse().expect("an integer is digits")
    };
    let (ours, theirs) = (number(ours), number(theirs));
    ours > 0 && theirs > 0 && ours.abs_diff(theirs) <= slack as u64
}

/// A list with its groups of so many in order.
fn sorted(reply: &Reply, by: usize) -> Reply {
    let Reply::List(kind, items) = reply else {
        return reply.clone();
    };
    let mut groups: Vec<_> = items.chunks(by).collect();
    groups.sort();
    Reply::List(*kind, groups.concat())
}

/// A reply without its texts.
fn shape(reply: &Reply) -> Reply {
    match reply {
        Reply::Bulk(kind, _) => Reply::Bulk(*kind, Vec::new()),
        Reply::List(kind, items) => Reply::List(*kind, items.iter().map(shape).collect()),
        other => other.clone(),
    }
}
