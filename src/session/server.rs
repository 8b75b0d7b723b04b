//! The commands about the server: `INFO`, `CONFIG GET`, `BGSAVE` and `LASTSAVE`.
//!
//! Called through the command table. They know no more than the session's context.

use std::fmt::Write as _;

use super::connection::Call;
use super::context::{CARTWRIGHT_VERSION, REDIS_VERSION, SessionContext};
use super::glob::matches;

/// A section of `INFO`: its title, and what writes its lines.
type Section = (&'static str, fn(&SessionContext, &mut String));

const SECTIONS: &[Section] = &[
    ("Server", |context, text| {
        let uptime = context.facts.counters().uptime_seconds;
        line(text, "redis_version", REDIS_VERSION);
        line(text, "cartwright_version", CARTWRIGHT_VERSION);
        line(text, "redis_mode", "standalone");
        line(text, "os", std::env::consts::OS);
        line(text, "arch_bits", usize::BITS);
        line(text, "multiplexing_api", "io_uring");
        line(text, "process_id", context.process_id);
        line(text, "run_id", &context.run_id);
        line(text, "tcp_port", context.port);
        line(
            text,
            "server_time_usec",
            context.facts.counters().unix_time_ms.saturating_mul(1000),
        );
        line(text, "uptime_in_seconds", uptime);
        line(text, "uptime_in_days", uptime / (24 * 60 * 60));
    }),
    ("Clients", |context, text| {
        line(text, "connected_clients", context.facts.counters().connected_clients);
        line(text, "blocked_clients", 0);
    }),
    ("Memory", |context, text| {
        line(text, "used_memory", context.facts.counters().used_memory_bytes);
        line(text, "maxmemory", 0);
        line(text, "maxmemory_policy", "noeviction");
    }),
    ("Persistence", |context, text| {
        let counters = context.facts.counters().persistence;
        line(text, "loading", 0);
        line(text, "async_loading", 0);
        line(text, "rdb_changes_since_last_save", counters.changes);
        line(text, "rdb_bgsave_in_progress", u8::from(counters.is_saving));
        line(text, "rdb_last_save_time", counters.saved_at_ms / 1000);
        line(
            text,
            "rdb_last_bgsave_status",
            if counters.has_failed { "err" } else { "ok" },
        );
        line(text, "rdb_last_bgsave_time_sec", counters.took_ms.div_ceil(1000));
        line(text, "aof_enabled", 1);
        line(text, "aof_rewrite_in_progress", 0);
    }),
    ("Stats", |context, text| {
        let counters = context.facts.counters();
        line(text, "total_connections_received", counters.connections_received);
        line(text, "total_commands_processed", counters.commands_processed);
    }),
    ("Replication", |_, text| {
        line(text, "role", "master");
        line(text, "connected_slaves", 0);
    }),
    ("Cluster", |_, text| line(text, "cluster_enabled", 0)),
    ("Keyspace", |_, _| ()),
    ("Cartwright", |context, text| {
        line(text, "shards", context.shard_count);
        line(text, "shard_of_connection", context.shard);
        line(text, "in_flight_max", context.limits.in_flight_max);
        let counters = context.facts.counters().persistence;
        line(text, "checkpoint_last_ms", counters.took_ms);
        line(text, "checkpoint_pause_usec_max", counters.pause_us_max);
    }),
];

fn line(text: &mut String, field: &str, value: impl std::fmt::Display) {
    write!(text, "{field}:{value}\r\n").expect("appending to a string cannot fail");
}

pub(super) fn info(call: &mut Call<'_>) {
    let wanted = call.arguments.from(1);
    let everything = wanted.is_empty()
        || wanted.iter().any(|name| {
            [&b"all"[..], b"default", b"everything"]
                .iter()
                .any(|word| name.eq_ignore_ascii_case(word))
        });
    let mut text = String::new();
    for (title, write) in SECTIONS {
        if everything || wanted.iter().any(|name| name.eq_ignore_ascii_case(title.as_bytes())) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            write!(text, "# {title}\r\n").expect("appending to a string cannot fail");
            write(call.context, &mut text);
        }
    }
    call.writer().verbatim(&text);
}

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

pub(super) fn lastsave(call: &mut Call<'_>) {
    let saved_at_ms = call.context.facts.counters().persistence.saved_at_ms;
    call.writer().count(saved_at_ms / 1000);
}

/// A setting's name, and what gives its value.
type Setting = (&'static str, fn(&SessionContext) -> String);

/// The settings of Redis that clients ask for, as they are here.
const SETTINGS: &[Setting] = &[
    ("appendfsync", |_| "always".to_owned()),
    ("appendonly", |_| "yes".to_owned()),
    ("cluster-enabled", |_| "no".to_owned()),
    ("databases", |_| "1".to_owned()),
    ("io-threads", |context| context.shard_count.to_string()),
    ("maxmemory", |_| "0".to_owned()),
    ("maxmemory-policy", |_| "noeviction".to_owned()),
    ("port", |context| context.port.to_string()),
    ("proto-max-bulk-len", |context| {
        context.limits.resp.bulk_bytes_max.to_string()
    }),
    ("client-query-buffer-limit", |context| {
        context.limits.resp.command_bytes_max.to_string()
    }),
    ("requirepass", |_| String::new()),
    ("save", |_| String::new()),
    ("timeout", |_| "0".to_owned()),
];

pub(super) fn config_get(call: &mut Call<'_>) {
    let patterns = call.arguments.from(2);
    let context = call.context;
    let found: Vec<_> = SETTINGS
        .iter()
        .filter(|(name, _)| patterns.iter().any(|pattern| matches(pattern, name.as_bytes())))
        .collect();
    let mut writer = call.writer();
    writer.map(found.len());
    for (name, value) in found {
        writer.text(name);
        writer.text(&value(context));
    }
}
