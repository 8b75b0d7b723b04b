//! `INFO`: what the server tells about itself, in Redis's sections and one of its own.
//!
//! Called through the command table. Every shard is asked for its figures; the text is made of their sum.

use std::fmt::Write as _;

use super::commands;
use super::connection::Call;
use super::context::{CARTWRIGHT_VERSION, REDIS_VERSION, ServerCounters, SessionContext};
use super::report::ShardReport;
use super::server_task::{PendingTask, ShardQuery, ShardResult};
use super::settings::Number;

/// Everything that a section is made of.
struct Figures {
    counters: ServerCounters,
    report: ShardReport,
    shard: u16,
    shard_count: u16,
    port: u16,
    process_id: u32,
    run_id: String,
    connections_max: i64,
    in_flight_max: usize,
    sync: &'static str,
}

impl Figures {
    fn of(context: &SessionContext) -> Self {
        Self {
            counters: context.facts.counters(),
            report: ShardReport::default(),
            shard: context.shard,
            shard_count: context.shard_count,
            port: context.port,
            process_id: context.process_id,
            run_id: context.run_id.clone(),
            connections_max: context.settings.number(Number::ConnectionsMax),
            in_flight_max: context.limits.in_flight_max,
            sync: context.fixed.appendfsync,
        }
    }
}

/// The figures of all shards.
pub(super) fn total(results: Vec<ShardResult>) -> ShardReport {
    let mut total = ShardReport::default();
    for result in results {
        if let ShardResult::Report(report) = result {
            total.add(*report);
        }
    }
    total
}

/// A section: its title, whether it is among those told by default, and what writes its lines.
struct Section {
    title: &'static str,
    by_default: bool,
    write: fn(&Figures, &mut String),
}

const fn section(title: &'static str, by_default: bool, write: fn(&Figures, &mut String)) -> Section {
    Section {
        title,
        by_default,
        write,
    }
}

static SECTIONS: &[Section] = &[
    section("Server", true, server),
    section("Clients", true, clients),
    section("Memory", true, memory),
    section("Persistence", true, persistence),
    section("Stats", true, stats),
    section("Replication", true, replication),
    section("CPU", true, cpu),
    section("Modules", true, |_, _| ()),
    section("Commandstats", false, commandstats),
    section("Errorstats", true, errorstats),
    section("Latencystats", false, latencystats),
    section("Cluster", true, |_, text| line(text, "cluster_enabled", 0)),
    section("Keyspace", true, keyspace),
    section("Cartwright", true, cartwright),
];

fn line(text: &mut String, field: &str, value: impl std::fmt::Display) {
    write!(text, "{field}:{value}\r\n").expect("appending to a string cannot fail");
}

pub(super) fn info(call: &mut Call<'_>) -> Option<PendingTask> {
    let wanted = call.arguments.from(1);
    let is_named = |name: &str| wanted.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let everything = is_named("all") || is_named("everything");
    let defaults = wanted.is_empty() || is_named("default");
    let sections: Vec<_> = SECTIONS
        .iter()
        .filter(|section| everything || (defaults && section.by_default) || is_named(section.title))
        .collect();
    let mut figures = Figures::of(call.context);
    Some(PendingTask::ask(ShardQuery::Report, move |writer, results| {
        figures.report = total(results);
        let mut text = String::new();
        for section in sections {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            write!(text, "# {}\r\n", section.title).expect("appending to a string cannot fail");
            (section.write)(&figures, &mut text);
        }
        writer.verbatim(&text);
    }))
}

fn server(figures: &Figures, text: &mut String) {
    let uptime = figures.counters.uptime_seconds;
    line(text, "redis_version", REDIS_VERSION);
    line(text, "cartwright_version", CARTWRIGHT_VERSION);
    line(text, "redis_mode", "standalone");
    line(text, "os", std::env::consts::OS);
    line(text, "arch_bits", usize::BITS);
    line(text, "multiplexing_api", "io_uring");
    line(text, "process_id", figures.process_id);
    line(text, "run_id", &figures.run_id);
    line(text, "tcp_port", figures.port);
    line(
        text,
        "server_time_usec",
        figures.counters.unix_time_ms.saturating_mul(1000),
    );
    line(text, "uptime_in_seconds", uptime);
    line(text, "uptime_in_days", uptime / (24 * 60 * 60));
}

fn clients(figures: &Figures, text: &mut String) {
    line(text, "connected_clients", figures.counters.connected_clients);
    line(text, "maxclients", figures.connections_max);
    line(text, "blocked_clients", 0);
    line(text, "pubsub_clients", figures.report.subscribers);
    line(text, "watching_clients", figures.report.watchers);
    line(text, "client_buffer_bytes", figures.report.buffered_bytes);
}

fn memory(figures: &Figures, text: &mut String) {
    let bytes = figures.counters.used_memory_bytes;
    line(text, "used_memory", bytes);
    line(
        text,
        "used_memory_human",
        format_args!("{:.2}M", bytes as f64 / 1_048_576.0),
    );
    line(text, "used_memory_rss", bytes);
    line(text, "maxmemory", 0);
    line(text, "maxmemory_policy", "noeviction");
    line(text, "mem_clients_normal", figures.report.buffered_bytes);
}

fn persistence(figures: &Figures, text: &mut String) {
    let counters = figures.counters.persistence;
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
    line(text, "aof_last_write_status", "ok");
}

fn stats(figures: &Figures, text: &mut String) {
    let (counters, report) = (&figures.counters, &figures.report);
    let errors: u64 = report.errors.values().sum();
    line(text, "total_connections_received", counters.connections_received);
    line(text, "total_commands_processed", counters.commands_processed);
    line(text, "total_net_input_bytes", report.received_bytes);
    line(text, "total_net_output_bytes", report.sent_bytes);
    line(text, "rejected_connections", report.unauthorized);
    line(text, "evicted_keys", 0);
    line(text, "pubsub_channels", distinct(&report.channels));
    line(text, "pubsub_patterns", distinct(&report.patterns));
    line(
        text,
        "client_output_buffer_limit_disconnections",
        report.subscribers_cut_off,
    );
    line(text, "total_error_replies", errors);
}

fn distinct(names: &[Box<[u8]>]) -> usize {
    names.iter().collect::<std::collections::BTreeSet<_>>().len()
}

fn replication(_: &Figures, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_repl_offset", 0);
}

fn cpu(figures: &Figures, text: &mut String) {
    line(
        text,
        "used_cpu_sys",
        format_args!("{:.6}", figures.counters.cpu_system_us as f64 / 1e6),
    );
    line(
        text,
        "used_cpu_user",
        format_args!("{:.6}", figures.counters.cpu_user_us as f64 / 1e6),
    );
}

fn commandstats(figures: &Figures, text: &mut String) {
    for (command, statistics) in commands::all().zip(&figures.report.commands) {
        if statistics.calls + statistics.rejected > 0 {
            let per_call = statistics.microseconds as f64 / statistics.calls.max(1) as f64;
            line(
                text,
                &format!("cmdstat_{}", command.name),
                format_args!(
                    "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                    statistics.calls, statistics.microseconds, statistics.rejected, statistics.failed
                ),
            );
        }
    }
}

fn errorstats(figures: &Figures, text: &mut String) {
    for (code, count) in &figures.report.errors {
        line(text, &format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latencystats(figures: &Figures, text: &mut String) {
    for (command, statistics) in commands::all().zip(&figures.report.commands) {
        if statistics.calls > 0 {
            let percentile = |percent| statistics.durations.percentile_us(percent);
            line(
                text,
                &format!("latency_percentiles_usec_{}", command.name),
                format_args!(
                    "p50={},p99={},p99.9={}",
                    percentile(50.0),
                    percentile(99.0),
                    percentile(99.9)
                ),
            );
        }
    }
}

fn keyspace(figures: &Figures, text: &mut String) {
    let report = &figures.report;
    if report.keys > 0 {
        line(
            text,
            "db0",
            format_args!("keys={},expires={},avg_ttl=0", report.keys, report.expiring_keys),
        );
    }
}

fn cartwright(figures: &Figures, text: &mut String) {
    let report = &figures.report;
    line(text, "shards", figures.shard_count);
    line(text, "shard_of_connection", figures.shard);
    line(text, "in_flight_max", figures.in_flight_max);
    line(text, "sync", figures.sync);
    let persistence = figures.counters.persistence;
    line(text, "checkpoint_last_ms", persistence.took_ms);
    line(text, "checkpoint_pause_usec_max", persistence.pause_us_max);
    line(text, "checkpoint_pause_cpu_usec_max", persistence.pause_cpu_us_max);
    line(text, "items", report.items);
    line(text, "orders", report.orders);
    line(text, "orders_held", report.orders_held);
    line(text, "transactions_in_flight", report.transactions_in_flight);
    let shop = commands::all().zip(&report.commands).filter(|(command, _)| {
        command.group == Some(commands::Group::Shop) && command.flags.has(commands::Flags::WRITE)
    });
    for (command, statistics) in shop {
        let name = command.name.replace('.', "_");
        line(
            text,
            &format!("transactions_{name}"),
            statistics.calls - statistics.failed,
        );
    }
    for (code, count) in &report.errors {
        line(text, &format!("rejected_{code}"), count);
    }
    for (shard, position) in &report.safe_positions {
        line(text, &format!("safe_position_shard_{shard}"), position);
    }
    line(text, "log_syncs", report.syncs.count());
    for (name, percent) in [("50", 50.0), ("99", 99.0), ("99_9", 99.9)] {
        line(
            text,
            &format!("log_sync_usec_p{name}"),
            report.syncs.percentile_us(percent),
        );
    }
    line(text, "pubsub_messages_delivered", report.messages_delivered);
    line(text, "pubsub_subscribers_cut_off", report.subscribers_cut_off);
}
