//! `SLOWLOG` and `LATENCY`: what took long.
//!
//! Called through the command table; every shard keeps its own, and is asked. A command's time counts from its being
//! read to its being answered, so that of a write includes the sync of the log, which is most of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cartwright_protocol::resp::{Writer, parse_i64};

use super::commands;
use super::connection::Call;
use super::report::{LatencySample, SlowCommand};
use super::server_task::{PendingTask, ShardQuery, ShardResult};

/// Commands that `SLOWLOG GET` gives unless told; as in Redis.
const GIVEN_DEFAULT: usize = 10;

fn slow_commands(results: Vec<ShardResult>) -> Vec<SlowCommand> {
    let mut slow: Vec<_> = results
        .into_iter()
        .flat_map(|result| match result {
            ShardResult::Slow(slow) => slow,
            _ => Vec::new(),
        })
        .collect();
    slow.sort_by_key(|slow| std::cmp::Reverse((slow.at_seconds, slow.number)));
    slow
}

pub(super) fn slowlog_get(call: &mut Call<'_>) -> Option<PendingTask> {
    if call.arguments.len() > 3 {
        call.unknown_form();
        return None;
    }
    let count = match call.arguments.get(2).map(parse_i64) {
        None => GIVEN_DEFAULT,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count @ 0..)) => count as usize,
        Some(_) => {
            call.error("ERR count should be greater than or equal to -1");
            return None;
        }
    };
    Some(PendingTask::ask(ShardQuery::SlowCommands, move |writer, results| {
        let slow = slow_commands(results);
        let given = &slow[..slow.len().min(count)];
        writer.array(given.len());
        for slow in given {
            writer.array(6);
            writer.count(slow.number);
            writer.count(slow.at_seconds);
            writer.count(slow.microseconds);
            writer.array(slow.words.len() + usize::from(slow.more_arguments > 0));
            for word in &slow.words {
                writer.bulk(word);
            }
            if slow.more_arguments > 0 {
                writer.text(&format!("... ({} more arguments)", slow.more_arguments));
            }
            writer.text(&slow.peer);
            writer.text(&slow.name);
        }
    }))
}

pub(super) fn slowlog_len(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::ask(ShardQuery::SlowCommands, |writer, results| {
        writer.count(slow_commands(results).len() as u64);
    }))
}

pub(super) fn slowlog_reset(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::tell(ShardQuery::ForgetSlowCommands))
}

/// The samples of all shards by event, one a second: the longest.
fn samples(results: Vec<ShardResult>) -> BTreeMap<&'static str, BTreeMap<u64, u64>> {
    let mut events: BTreeMap<_, BTreeMap<u64, u64>> = BTreeMap::new();
    for result in results {
        let ShardResult::Latency(found) = result else { continue };
        for (event, samples) in found {
            let of_event = events.entry(event).or_default();
            for LatencySample { at_seconds, ms } in samples {
                let longest = of_event.entry(at_seconds).or_default();
                *longest = ms.max(*longest);
            }
        }
    }
    events
}

fn longest(samples: &BTreeMap<u64, u64>) -> u64 {
    samples.values().copied().max().unwrap_or(0)
}

pub(super) fn latency_latest(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::ask(ShardQuery::Latency(None), |writer, results| {
        let events = samples(results);
        writer.array(events.len());
        for (event, samples) in &events {
            let (at_seconds, ms) = samples.last_key_value().expect("an event has a sample");
            writer.array(4);
            writer.text(event);
            for number in [*at_seconds, *ms, longest(samples)] {
                writer.count(number);
            }
        }
    }))
}

pub(super) fn latency_history(call: &mut Call<'_>) -> Option<PendingTask> {
    let event = Some(call.argument(2).into());
    Some(PendingTask::ask(ShardQuery::Latency(event), |writer, results| {
        let samples: Vec<_> = samples(results).into_values().flatten().collect();
        writer.array(samples.len());
        for (at_seconds, ms) in samples {
            writer.array(2);
            writer.count(at_seconds);
            writer.count(ms);
        }
    }))
}

pub(super) fn latency_reset(call: &mut Call<'_>) -> Option<PendingTask> {
    let events = call.arguments.from(2).iter().map(Into::into).collect();
    Some(PendingTask::ask(
        ShardQuery::ForgetLatency(events),
        |writer, results| {
            writer.count(super::server_task::names(results).len() as u64);
        },
    ))
}

pub(super) fn latency_doctor(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::ask(ShardQuery::Latency(None), |writer, results| {
        let events = samples(results);
        let mut text = String::new();
        if events.is_empty() {
            text.push_str(
                "Nothing took longer than latency-monitor-threshold, or it is 0: CONFIG SET latency-monitor-threshold \
                 <milliseconds> has longer events noted.\n",
            );
        }
        for (event, samples) in &events {
            let total: u64 = samples.values().sum();
            let advice = match *event {
                "log-sync" => "the disk is slow or shared; see INFO cartwright and iostat",
                "turn" => "a shard was busy, or did not get its core; see the number of shards and of cores",
                _ => "see SLOWLOG GET; a write waits for the sync of the log",
            };
            writeln!(
                text,
                "{event}: {} samples, {} ms on average, {} ms at most: {advice}.",
                samples.len(),
                total / samples.len() as u64,
                longest(samples),
            )
            .expect("appending to a string cannot fail");
        }
        writer.verbatim(&text);
    }))
}

pub(super) fn latency_histogram(call: &mut Call<'_>) -> Option<PendingTask> {
    let wanted: Vec<Box<[u8]>> = call.arguments.from(2).iter().map(Into::into).collect();
    Some(PendingTask::ask(ShardQuery::Report, move |writer, results| {
        write_histograms(writer, &wanted, &super::info::total(results));
    }))
}

fn write_histograms(writer: &mut Writer<'_>, wanted: &[Box<[u8]>], report: &super::report::ShardReport) {
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let found: Vec<_> = commands::all()
        .zip(&report.commands)
        .filter(|(command, statistics)| statistics.calls > 0 && is_wanted(command.name))
        .collect();
    writer.map(found.len());
    for (command, statistics) in found {
        writer.text(command.name);
        writer.map(2);
        writer.text("calls");
        writer.count(statistics.calls);
        writer.text("histogram_usec");
        let buckets: Vec<_> = statistics.durations.cumulated().collect();
        writer.map(buckets.len());
        for (bound_us, count) in buckets {
            writer.count(bound_us);
            writer.count(count);
        }
    }
}
