//! What a shard counts about its sessions and itself, and hands over when it is asked.
//!
//! The sessions of a shard share one [`Statistics`], the runtime adds what only it knows; a [`ShardReport`] is a copy at
//! one moment. `INFO`, `SLOWLOG` and `LATENCY` are made of these. No clock is read here: times come with what is noted.

use std::collections::{BTreeMap, VecDeque};

use compact_str::CompactString;

use super::commands::{self, Command};
use super::settings::{Number, Settings};

/// Bytes of a slow command's first argument that are kept: what needs no memory of its own.
const SHOWN_ARGUMENT_BYTES_MAX: usize = 24;

/// Samples kept of an event; as in Redis.
const SAMPLES_MAX: usize = 160;

/// Codes of refusals that are told apart; the rest is counted together.
const CODES_MAX: usize = 128;

/// A power of two of microseconds for each place: 2^35 µs are nine hours.
const BUCKETS: usize = 36;

/// How long something took, in powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    buckets: Vec<u64>,
}

impl Durations {
    /// Notes one.
    pub fn note(&mut self, microseconds: u64) {
        let bucket = (64 - microseconds.leading_zeros() as usize).min(BUCKETS - 1);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += other;
        }
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// No more than this share of them took longer: an upper bound, at most twice the truth, in microseconds.
    pub fn percentile_us(&self, percent: f64) -> u64 {
        let wanted = (self.count() as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return (1u64 << bucket) - 1;
            }
        }
        0
    }

    /// Upper bounds in microseconds, and how many took no longer than each; only where there are some.
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        self.buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(move |(bucket, count)| {
                seen += count;
                (1u64 << bucket, seen)
            })
    }
}

/// Calls of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandStatistics {
    /// Calls that were answered, refused or not.
    pub calls: u64,
    /// Time from being handed over to being answered, in microseconds, waiting for the disk included.
    pub microseconds: u64,
    /// Calls refused before they were tried.
    pub rejected: u64,
    /// Calls answered with an error.
    pub failed: u64,
    /// How long they took.
    pub durations: Durations,
}

impl CommandStatistics {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.microseconds += other.microseconds;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.durations.add(&other.durations);
    }
}

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// Counts up on each shard.
    pub number: u64,
    /// When it was answered, in Unix seconds.
    pub at_seconds: u64,
    /// How long it took, in microseconds.
    pub microseconds: u64,
    /// Its name, and its first argument, cut.
    pub words: Vec<Box<[u8]>>,
    /// How many more arguments it had.
    pub more_arguments: usize,
    /// The client's address.
    pub peer: CompactString,
    /// The connection's name.
    pub name: CompactString,
}

/// An event that took long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySample {
    /// When, in Unix seconds.
    pub at_seconds: u64,
    /// How long, in milliseconds.
    pub ms: u64,
}

/// What is remembered of a command until it is answered, in case it is slow.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) command: &'static Command,
    pub(super) at_us: u64,
    pub(super) first_argument: CompactString,
    pub(super) argument_count: u32,
}

/// Everything about its sessions that a shard counts.
#[derive(Debug, Default)]
pub struct Statistics {
    /// By [`commands::number`].
    commands: Vec<CommandStatistics>,
    errors: BTreeMap<CompactString, u64>,
    slow: VecDeque<SlowCommand>,
    slow_ever: u64,
    events: BTreeMap<&'static str, VecDeque<LatencySample>>,
    /// Bytes that came from clients.
    pub received_bytes: u64,
    /// Bytes that went to clients.
    pub sent_bytes: u64,
    /// Messages that subscribers got.
    pub messages_delivered: u64,
    /// Subscribers cut off since they did not read.
    pub subscribers_cut_off: u64,
    /// Connections refused because of protected mode or a missing password.
    pub unauthorized: u64,
}

impl Statistics {
    fn of(&mut self, command: &'static Command) -> &mut CommandStatistics {
        let number = commands::number(command);
        if self.commands.len() <= number {
            self.commands.resize(number + 1, CommandStatistics::default());
        }
        &mut self.commands[number]
    }

    /// A command was refused before it was tried.
    pub(super) fn reject(&mut self, command: &'static Command) {
        self.of(command).rejected += 1;
    }

    /// An error was answered; `text` begins with its code.
    pub(super) fn error(&mut self, text: &str) {
        let code = text.split(' ').next().unwrap_or_default();
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else {
            let code = if self.errors.len() < CODES_MAX { code } else { "OTHER" };
            *self.errors.entry(code.into()).or_default() += 1;
        }
    }

    /// A command was answered.
    pub(super) fn answered(
        &mut self,
        started: &Started,
        now_us: u64,
        failed: bool,
        settings: &Settings,
        who: impl FnOnce() -> (CompactString, CompactString),
    ) {
        let microseconds = now_us.saturating_sub(started.at_us);
        let statistics = self.of(started.command);
        statistics.calls += 1;
        statistics.microseconds += microseconds;
        statistics.failed += u64::from(failed);
        statistics.durations.note(microseconds);
        let threshold = settings.number(Number::SlowerThanUs);
        if u64::try_from(threshold).is_ok_and(|threshold| microseconds >= threshold) {
            self.note_slow(started, now_us, microseconds, settings, who);
        }
        if settings.number(Number::LatencyThresholdMs) > 0 {
            self.event("command", now_us, microseconds, settings);
        }
    }

    fn note_slow(
        &mut self,
        started: &Started,
        now_us: u64,
        microseconds: u64,
        settings: &Settings,
        who: impl FnOnce() -> (CompactString, CompactString),
    ) {
        let mut words = vec![started.command.name.as_bytes().into()];
        if started.argument_count > 1 {
            words.push(started.first_argument.as_bytes().into());
        }
        let (peer, name) = who();
        self.slow.push_front(SlowCommand {
            number: self.slow_ever,
            at_seconds: now_us / 1_000_000,
            microseconds,
            more_arguments: (started.argument_count as usize).saturating_sub(words.len()),
            words,
            peer,
            name,
        });
        self.slow_ever += 1;
        self.slow.truncate(settings.size(Number::SlowlogLengthMax));
    }

    /// Something took so long; it is kept if that is long enough.
    pub fn event(&mut self, event: &'static str, now_us: u64, microseconds: u64, settings: &Settings) {
        let threshold_ms = settings.number(Number::LatencyThresholdMs);
        let ms = microseconds / 1000;
        if threshold_ms == 0 || ms < threshold_ms as u64 {
            return;
        }
        let samples = self.events.entry(event).or_default();
        let at_seconds = now_us / 1_000_000;
        match samples.back_mut() {
            // One a second, the longest; as Redis has it.
            Some(last) if last.at_seconds == at_seconds => last.ms = last.ms.max(ms),
            _ => samples.push_back(LatencySample { at_seconds, ms }),
        }
        if samples.len() > SAMPLES_MAX {
            samples.pop_front();
        }
    }

    /// Sets every counter back; slow commands and events have commands of their own for that.
    pub fn reset(&mut self) {
        *self = Self {
            slow: std::mem::take(&mut self.slow),
            slow_ever: self.slow_ever,
            events: std::mem::take(&mut self.events),
            ..Self::default()
        };
    }

    /// The slow commands, the latest first.
    pub fn slow_commands(&self) -> Vec<SlowCommand> {
        self.slow.iter().cloned().collect()
    }

    /// Forgets them.
    pub fn forget_slow_commands(&mut self) {
        self.slow.clear();
    }

    /// The samples of one event, or of all.
    pub fn latency(&self, event: Option<&[u8]>) -> Vec<(&'static str, Vec<LatencySample>)> {
        let wanted = |name: &str| event.is_none_or(|event| event.eq_ignore_ascii_case(name.as_bytes()));
        let events = self.events.iter().filter(|(name, _)| wanted(name));
        events
            .map(|(name, samples)| (*name, samples.iter().copied().collect()))
            .collect()
    }

    /// Forgets these events, or all where none is named; the names of those that were there.
    pub fn forget_latency(&mut self, events: &[Box<[u8]>]) -> Vec<Box<[u8]>> {
        let mut forgotten = Vec::new();
        self.events.retain(|name, _| {
            let goes = events.is_empty() || events.iter().any(|event| event.eq_ignore_ascii_case(name.as_bytes()));
            if goes {
                forgotten.push(name.as_bytes().into());
            }
            !goes
        });
        forgotten
    }

    /// A copy of the counters, to be completed by the runtime.
    pub fn report(&self) -> ShardReport {
        ShardReport {
            commands: self.commands.clone(),
            errors: self.errors.clone(),
            received_bytes: self.received_bytes,
            sent_bytes: self.sent_bytes,
            messages_delivered: self.messages_delivered,
            subscribers_cut_off: self.subscribers_cut_off,
            unauthorized: self.unauthorized,
            ..ShardReport::default()
        }
    }
}

/// A shard's figures, or those of all shards added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardReport {
    /// By [`commands::number`].
    pub commands: Vec<CommandStatistics>,
    /// Answered errors by code.
    pub errors: BTreeMap<CompactString, u64>,
    /// See [`Statistics`].
    pub received_bytes: u64,
    /// See [`Statistics`].
    pub sent_bytes: u64,
    /// See [`Statistics`].
    pub messages_delivered: u64,
    /// See [`Statistics`].
    pub subscribers_cut_off: u64,
    /// See [`Statistics`].
    pub unauthorized: u64,
    /// Connections that subscribe to something.
    pub subscribers: u64,
    /// Connections that watch keys.
    pub watchers: u64,
    /// Bytes that wait in connections' buffers, either way.
    pub buffered_bytes: u64,
    /// Channels that somebody on the shard subscribes to.
    pub channels: Vec<Box<[u8]>>,
    /// Patterns, likewise.
    pub patterns: Vec<Box<[u8]>>,
    /// How far each shard's log is safe, by its number: one entry in a shard's own report.
    pub safe_positions: Vec<(u16, u64)>,
    /// Transactions over several shards that are in flight.
    pub transactions_in_flight: u64,
    /// Orders that are held.
    pub orders_held: u64,
    /// Orders in all.
    pub orders: u64,
    /// Items in all.
    pub items: u64,
    /// Keys in all.
    pub keys: u64,
    /// Keys that expire.
    pub expiring_keys: u64,
    /// Syncs of the log, and how long they took.
    pub syncs: Durations,
}

impl ShardReport {
    /// Adds another shard's figures.
    pub fn add(&mut self, mut other: Self) {
        if self.commands.len() < other.commands.len() {
            self.commands.resize(other.commands.len(), CommandStatistics::default());
        }
        for (own, other) in self.commands.iter_mut().zip(&other.commands) {
            own.add(other);
        }
        for (code, count) in std::mem::take(&mut other.errors) {
            *self.errors.entry(code).or_default() += count;
        }
        self.syncs.add(&other.syncs);
        self.safe_positions.append(&mut other.safe_positions);
        self.safe_positions.sort_unstable();
        self.channels.append(&mut other.channels);
        self.patterns.append(&mut other.patterns);
        for (own, other) in [
            (&mut self.received_bytes, other.received_bytes),
            (&mut self.sent_bytes, other.sent_bytes),
            (&mut self.messages_delivered, other.messages_delivered),
            (&mut self.subscribers_cut_off, other.subscribers_cut_off),
            (&mut self.unauthorized, other.unauthorized),
            (&mut self.subscribers, other.subscribers),
            (&mut self.watchers, other.watchers),
            (&mut self.buffered_bytes, other.buffered_bytes),
            (&mut self.transactions_in_flight, other.transactions_in_flight),
            (&mut self.orders_held, other.orders_held),
            (&mut self.orders, other.orders),
            (&mut self.items, other.items),
            (&mut self.keys, other.keys),
            (&mut self.expiring_keys, other.expiring_keys),
        ] {
            *own += other;
        }
    }
}

/// As much of a first argument as is kept for [`SlowCommand`].
pub(super) fn kept_argument(argument: Option<&[u8]>) -> CompactString {
    let argument = argument.unwrap_or_default();
    CompactString::from_utf8_lossy(&argument[..argument.len().min(SHOWN_ARGUMENT_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_never_below_the_truth_nor_above_its_double() {
        let mut durations = Durations::default();
        assert_eq!(durations.percentile_us(99.0), 0);
        for us in 1..=1000 {
            durations.note(us);
        }
        for (percent, truth) in [(50.0, 500), (99.0, 990), (100.0, 1000)] {
            let told = durations.percentile_us(percent);
            assert!((truth..truth * 2).contains(&told), "{percent}: {told}");
        }
        durations.note(u64::MAX);
        assert_eq!(durations.count(), 1001);
        assert_eq!(durations.cumulated().last().unwrap().1, 1001);
    }

    #[test]
    fn only_what_is_slow_enough_is_kept_and_not_too_much_of_it() {
        let settings = Settings::default();
        settings.set_number(Number::SlowerThanUs, 1000);
        settings.set_number(Number::SlowlogLengthMax, 2);
        settings.set_number(Number::LatencyThresholdMs, 5);
        let mut statistics = Statistics::default();
        let command = commands::find(b"ping").unwrap();
        for took in [999, 1000, 7000, 6000] {
            let started = Started {
                command,
                at_us: 0,
                first_argument: "x".into(),
                argument_count: 4,
            };
            statistics.answered(&started, took, false, &settings, || ("peer".into(), "name".into()));
        }
        let slow = statistics.slow_commands();
        assert_eq!(
            slow.iter().map(|slow| slow.microseconds).collect::<Vec<_>>(),
            [6000, 7000]
        );
        assert_eq!((slow[0].number, slow[0].more_arguments), (2, 2));
        let events = statistics.latency(None);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].1, [LatencySample { at_seconds: 0, ms: 7 }]);
        statistics.reset();
        assert_eq!(statistics.slow_commands().len(), 2);
        assert_eq!(statistics.report().commands.len(), 0);
    }

    #[test]
    fn codes_of_errors_do_not_grow_without_bound() {
        let mut statistics = Statistics::default();
        for number in 0..1000 {
            statistics.error(&format!("E{number} text"));
        }
        let errors = statistics.report().errors;
        assert_eq!(errors.len(), CODES_MAX + 1);
        assert_eq!(errors.values().sum::<u64>(), 1000);
    }
}
