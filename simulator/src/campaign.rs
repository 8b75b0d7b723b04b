//! Many seeds over all cores, and the list of those that failed.
//!
//! Every tenth seed runs twice, and must come out the same to the last bit.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::simulation::{Outcome, run};
use crate::violation;

/// One seed in so many is run twice.
const TWICE_EVERY: u64 = 10;

/// How often a campaign says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Failures after which a campaign has seen enough.
pub const FAILURES_MAX: usize = 20;

/// Which seeds, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed; the others follow it.
    pub first: u64,
    /// How many at most.
    pub seeds: u64,
    /// How long at most.
    pub time: Duration,
    /// After how many failures it ends.
    pub failures_max: usize,
    /// Whether it says how far it is.
    pub is_told: bool,
}

/// What a campaign found.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds run.
    pub seeds: u64,
    /// Over all of them.
    pub events: u64,
    /// Answers checked.
    pub answers: u64,
    /// Of these, refusals for want of room.
    pub busy: u64,
    /// Changes decided.
    pub changes: u64,
    /// Crashes survived.
    pub crashes: u64,
    /// Checkpoints that came to stand.
    pub checkpoints: u64,
    /// The seeds that failed, the shortest first.
    pub failures: Vec<Outcome>,
}

/// Runs a seed, and, where it is its turn, runs it again.
pub fn run_checked(seed: u64) -> Outcome {
    let mut outcome = run(seed, false);
    if seed.is_multiple_of(TWICE_EVERY) && outcome.violation.is_none() {
        let again = run(seed, false);
        if again.trace_hash != outcome.trace_hash {
            outcome.violation = Some(violation!(
                "R5: the seed ran twice and came out differently: {:x} and {:x}",
                outcome.trace_hash,
                again.trace_hash
            ));
        }
    }
    outcome
}

impl Campaign {
    /// Runs it. `prepare` is called once on each of its threads.
    pub fn run(&self, prepare: impl Fn() + Sync) -> Report {
        let next = AtomicU64::new(self.first);
        let is_over = AtomicBool::new(false);
        let report = Mutex::new(Report::default());
        let began = Instant::now();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    prepare();
                    while !is_over.load(Ordering::Relaxed) && began.elapsed() < self.time {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed - self.first >= self.seeds {
                            break;
                        }
                        let outcome = run_checked(seed);
                        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                        report.add(outcome);
                        is_over.fetch_or(report.failures.len() >= self.failures_max, Ordering::Relaxed);
                    }
                });
            }
            if self.is_told {
                scope.spawn(|| {
                    let mut said = began;
                    let count = || report.lock().unwrap_or_else(PoisonError::into_inner).seeds;
                    while !is_over.load(Ordering::Relaxed) && began.elapsed() < self.time && count() < self.seeds {
                        std::thread::sleep(Duration::from_millis(100));
                        if said.elapsed() >= PROGRESS_EVERY {
                            said = Instant::now();
                            let report = report.lock().unwrap_or_else(PoisonError::into_inner);
                            eprintln!("{}", report.line(began.elapsed()));
                        }
                    }
                });
            }
        });
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.failures.sort_by_key(|outcome| outcome.events);
        report
    }
}

impl Report {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.answers += outcome.answers;
        self.busy += outcome.busy;
        self.changes += outcome.changes;
        self.crashes += outcome.crashes;
        self.checkpoints += outcome.checkpoints;
        if outcome.violation.is_some() {
            self.failures.push(outcome);
        }
    }

    /// How far it is, in one line.
    pub fn line(&self, elapsed: Duration) -> String {
        format!(
            "{} seeds in {:.0} s ({:.0} a minute), {} answers checked ({} busy), {} changes, {} crashes, {} checkpoints, {} failures",
            self.seeds,
            elapsed.as_secs_f64(),
            self.seeds as f64 * 60.0 / elapsed.as_secs_f64().max(0.001),
            self.answers,
            self.busy,
            self.changes,
            self.crashes,
            self.checkpoints,
            self.failures.len()
        )
    }

    /// Adds the failures to a file, which stays sorted: the seed with the fewest events comes first.
    pub fn keep_failures(&self, path: &Path, commit: &str) -> std::io::Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = match std::fs::read_to_string(path) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let line = |outcome: &Outcome| {
            let text = outcome.violation.as_ref().map_or("", |violation| violation.0.as_str());
            let text = text.replace('\n', " ");
            format!(
                "{} events, seed {}, commit {commit}: {text}",
                outcome.events, outcome.seed
            )
        };
        lines.extend(self.failures.iter().map(line));
        lines.sort_by_key(|line| line.split(' ').next().and_then(|events| events.parse::<u64>().ok()));
        lines.dedup();
        let mut file = std::fs::File::create(path)?;
        for line in lines {
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}
