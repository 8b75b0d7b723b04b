//! The commands about the server as a whole: time, checkpoints, durability, the end.
//!
//! Called through the command table.

use cartwright_protocol::resp::parse_i64;

use super::connection::{Call, parse_timeout_ms};
use super::server_task::{PendingTask, ServerTask, ShardQuery, ShardResult, sum};

/// Longest `DEBUG SLEEP`, in seconds: a day.
const SLEEP_SECONDS_MAX: f64 = 86_400.0;

pub(super) fn bgsave(call: &mut Call<'_>) {
    let or_later = match call.arguments.get(1) {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"SCHEDULE") => true,
        Some(_) => return call.syntax_error(),
    };
    if call.context.facts.request_checkpoint(or_later) {
        call.writer().simple("Background saving started");
    } else if or_later {
        call.writer().simple("Background saving scheduled");
    } else {
        call.error("ERR Background save already in progress");
    }
}

/// Answers when all shards have a checkpoint; only this connection waits.
pub(super) fn save(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask {
        task: ServerTask::Save,
        render: Box::new(|writer, results| {
            if sum(&results) == 1 {
                writer.simple("OK");
            } else {
                writer.error("ERR a checkpoint could not be written; the server's own log says why");
            }
        }),
    })
}

pub(super) fn lastsave(call: &mut Call<'_>) {
    let saved_at_ms = call.context.facts.counters().persistence.saved_at_ms;
    call.writer().count(saved_at_ms / 1000);
}

pub(super) fn time(call: &mut Call<'_>) {
    let now_us = call.context.now_us();
    let mut writer = call.writer();
    writer.array(2);
    writer.text(&(now_us / 1_000_000).to_string());
    writer.text(&(now_us % 1_000_000).to_string());
}

/// The end of the server is the end of the connection: there is no answer. What was acknowledged is in the log, with or
/// without a last checkpoint, so every option comes to the same.
pub(super) fn shutdown(call: &mut Call<'_>) {
    let says = |option: &[u8]| {
        let mut words = call.arguments.from(1).iter();
        words.any(|word| word.eq_ignore_ascii_case(option))
    };
    let options = [&b"NOSAVE"[..], b"SAVE", b"NOW", b"FORCE", b"ABORT"];
    let are_known = call.arguments.from(1).iter().all(|word| {
        let is = |option: &&[u8]| word.eq_ignore_ascii_case(option);
        options.iter().any(is)
    });
    let aborts = says(b"ABORT");
    if !are_known || (says(b"SAVE") && says(b"NOSAVE")) || (aborts && options[..4].iter().any(|option| says(option))) {
        return call.syntax_error();
    }
    if aborts {
        return call.error("ERR No shutdown in progress.");
    }
    call.connection.closing = true;
    call.context.facts.stop();
}

/// Answers after that time. Other connections are served meanwhile: they are what a test with a pause wants to see.
pub(super) fn debug_sleep(call: &mut Call<'_>) -> Option<PendingTask> {
    let seconds = std::str::from_utf8(call.argument(2))
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    let Some(seconds) = seconds.filter(|seconds| (0.0..=SLEEP_SECONDS_MAX).contains(seconds)) else {
        call.error(format_args!(
            "ERR seconds must be a number from 0 to {SLEEP_SECONDS_MAX}"
        ));
        return None;
    };
    let until_ms = call.context.now_ms() + (seconds * 1000.0).ceil() as u64;
    Some(PendingTask {
        task: ServerTask::Rest { until_ms },
        render: Box::new(|writer, _| writer.simple("OK")),
    })
}

/// There are no replicas, and none can come: the number of those that have something is known at once.
pub(super) fn wait(call: &mut Call<'_>) {
    if parse_i64(call.argument(1)).is_none() {
        return call.not_an_integer();
    }
    match parse_timeout_ms(call.argument(2)) {
        Ok(_) => call.writer().integer(0),
        Err(error) => call.error(error),
    }
}

/// Answers once what this connection wrote is on this server's disk, whatever the sync mode.
pub(super) fn waitaof(call: &mut Call<'_>) -> Option<PendingTask> {
    let numbers = [1, 2, 3].map(|index| parse_i64(call.argument(index)));
    let [Some(local), Some(replicas), Some(timeout_ms)] = numbers else {
        call.not_an_integer();
        return None;
    };
    if !(0..=1).contains(&local) {
        call.error("ERR value is out of range, value must between 0 and 1");
        return None;
    }
    if replicas < 0 || timeout_ms < 0 {
        call.error(if replicas < 0 {
            "ERR value is out of range, must be positive"
        } else {
            "ERR timeout is negative"
        });
        return None;
    }
    let until_ms = match timeout_ms {
        0 => 0,
        timeout_ms => call.context.now_ms() + timeout_ms as u64,
    };
    let shards = u64::from(call.context.shard_count);
    Some(PendingTask::ask(
        ShardQuery::Sync { until_ms },
        move |writer, results: Vec<ShardResult>| {
            writer.array(2);
            writer.integer(i64::from(sum(&results) == shards));
            writer.integer(0);
        },
    ))
}

pub(super) fn role(call: &mut Call<'_>) {
    let mut writer = call.writer();
    writer.array(3);
    writer.text("master");
    writer.integer(0);
    writer.array(0);
}
