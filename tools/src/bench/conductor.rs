//! One run: starts the workers, watches them and the server's process from outside, and adds up what they saw.
//!
//! Called for every run of every workload. It knows no workload and prints only the live line.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::connection::ConnectionError;
use super::live::{Live, latency_histogram};
use super::process::{Memory, Process, ProcessError};
use super::source::{Source, Tally};
use super::worker::{ClassCount, Lines, Plan, Refusals, WorkerReport, connect, work};

/// How often the end of a window is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How many points the series of a run has at most.
const SERIES_POINTS: u32 = 100;

/// Shortest distance between two points of a series.
const SERIES_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How often the live line changes.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Share of a core from which a thread counts as busy all the time.
const BUSY_SHARE: f64 = 0.95;

/// A server of which every shard is less busy than this is not what limits a run.
const SERVER_BUSY_SHARE: f64 = 0.9;

/// Share of the requests that a generator which keeps its rate may send late.
const LATE_SHARE_MAX: f64 = 0.01;

/// What a run is to be.
pub struct RunPlan {
    /// The workers' part; connections, rate and cores are divided over them.
    pub plan: Plan,
    /// How many threads.
    pub thread_count: usize,
    /// The threads' cores, one each; none: not pinned.
    pub cores: Vec<usize>,
    /// Before the window.
    pub warm_up: Duration,
    /// The window; `None`: until the sources end.
    pub duration: Option<Duration>,
    /// The server's process, if it is on this machine.
    pub server: Option<Process>,
    /// The server's shards: cores that it can keep busy.
    pub shard_count: u16,
}

/// A point of the series over time.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Since the window's begin.
    pub at: Duration,
    /// Requests answered a second, since the point before.
    pub per_second: f64,
    /// Nanoseconds.
    pub p50_ns: u64,
    /// Nanoseconds.
    pub p99_ns: u64,
    /// Nanoseconds.
    pub p999_ns: u64,
}

/// What a run came to.
pub struct RunReport {
    /// The measured window.
    pub window: Duration,
    /// By class.
    pub classes: Vec<ClassCount>,
    /// Of the whole run, warm-up and all.
    pub refusals: Refusals,
    /// Of the whole run.
    pub unanswered: u64,
    /// Of the whole run.
    pub tally: Tally,
    /// Over time.
    pub series: Vec<Point>,
    /// CPU time of the server's process in the window.
    pub server_cpu: Option<Duration>,
    /// How many answers came within the window, while `server_cpu` was spent.
    pub window_answers: u64,
    /// Memory of the server's process before and after the whole run.
    pub memory: Option<(Memory, Memory)>,
    /// The busiest worker's share of a core.
    pub client_share: f64,
    /// See [`WorkerReport::late_max`].
    pub late_max: Duration,
    /// The run was paced by a rate.
    pub is_open_loop: bool,
    /// The generator, not the server, was what limited the run.
    pub generator_limited: bool,
    /// Someone stopped it.
    pub interrupted: bool,
}

impl RunReport {
    /// Latencies of all classes.
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        for class in &self.classes {
            all.add(&class.latency)
                .expect("all latency histograms have the same range");
        }
        all
    }

    /// Requests answered in the window.
    pub fn answered(&self) -> u64 {
        self.classes.iter().map(|class| class.latency.len()).sum()
    }

    /// Of these, refused.
    pub fn refused(&self) -> u64 {
        self.classes.iter().map(|class| class.refused).sum()
    }

    /// Requests answered a second. In the open loop that is what came within the window, not what fell due in it: a
    /// server that falls behind answers less than is due.
    pub fn per_second(&self) -> f64 {
        let count = if self.is_open_loop {
            self.window_answers
        } else {
            self.answered()
        };
        count as f64 / self.window.as_secs_f64()
    }

    /// What the server keeps of the run for good, and how many of it.
    pub const fn kept(&self) -> Option<(&'static str, u64)> {
        match self.tally {
            Tally { lines: 1.., .. } => Some(("order lines", self.tally.lines)),
            Tally { items: 1.., .. } => Some(("items", self.tally.items)),
            _ => None,
        }
    }

    /// Microseconds of the server's CPU time for one answer.
    pub fn server_us_per_request(&self) -> Option<f64> {
        let cpu = self.server_cpu?;
        (self.window_answers > 0).then(|| cpu.as_secs_f64() * 1e6 / self.window_answers as f64)
    }

    /// Cores' worth of the server's CPU time.
    pub fn server_share(&self) -> Option<f64> {
        Some(self.server_cpu?.as_secs_f64() / self.window.as_secs_f64())
    }
}

/// Why a run has no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The server's process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Says how a run goes, once a second.
pub type LiveLine<'a> = &'a mut dyn FnMut(&Point, u64);

/// Does it.
pub fn run(
    run: &RunPlan,
    sources: Vec<Box<dyn Source>>,
    stop: &AtomicBool,
    line: LiveLine<'_>,
) -> Result<RunReport, RunError> {
    assert_eq!(sources.len(), run.thread_count, "each worker has its own source");
    let plans: Vec<Plan> = (0..run.thread_count).map(|worker| run.part(worker)).collect();
    let lines: Vec<Lines> = plans.iter().map(connect).collect::<Result<_, _>>()?;
    let lives: Vec<Arc<Live>> = plans.iter().map(|_| Arc::default()).collect();
    let memory_before = run.server.map(Process::memory).transpose()?;
    let start = Barrier::new(run.thread_count + 1);
    let epoch = Instant::now();
    let (reports, watched) = std::thread::scope(|scope| {
        let threads: Vec<_> = plans
            .iter()
            .zip(lines)
            .zip(sources)
            .zip(&lives)
            .map(|(((plan, lines), source), live)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    work(plan, lines, source, live, epoch, stop)
                })
            })
            .collect();
        start.wait();
        let watched = Watch::new(run, &lives, epoch, stop)
            .watch(&|| threads.iter().all(std::thread::ScopedJoinHandle::is_finished), line);
        let reports: Vec<WorkerReport> = threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker does not panic"))
            .collect();
        (reports, watched)
    });
    let memory_after = run.server.map(Process::memory).transpose();
    let mut report = add_up(run, reports, watched?)?;
    report.memory = memory_before.zip(memory_after?);
    report.interrupted = stop.load(Ordering::Relaxed);
    Ok(report)
}

impl RunPlan {
    fn part(&self, worker: usize) -> Plan {
        let share = |total: usize| (total * (worker + 1)) / self.thread_count - (total * worker) / self.thread_count;
        let begin_ns = self.warm_up.as_nanos() as u64;
        let connection_count = share(self.plan.connection_count).max(1);
        Plan {
            connection_count,
            core: self.cores.get(worker % self.cores.len().max(1)).copied(),
            rate: self.plan.rate.map(|rate| rate / self.thread_count as f64),
            begin_ns,
            end_ns: self
                .duration
                .map_or(u64::MAX, |duration| begin_ns + duration.as_nanos() as u64),
            ..self.plan.clone()
        }
    }
}

fn add_up(run: &RunPlan, reports: Vec<WorkerReport>, watched: Watched) -> Result<RunReport, RunError> {
    let mut total = RunReport {
        window: Duration::ZERO,
        classes: vec![ClassCount::default(); run.plan.class_count],
        refusals: Refusals::new(),
        unanswered: 0,
        tally: Tally::default(),
        series: watched.series,
        server_cpu: watched.server_cpu,
        window_answers: watched.answers,
        memory: None,
        client_share: 0.0,
        late_max: Duration::ZERO,
        is_open_loop: run.plan.rate.is_some(),
        generator_limited: false,
        interrupted: false,
    };
    let mut late_share = 0.0;
    for report in reports {
        report.ended?;
        total.window = total.window.max(report.window);
        for (sum, class) in total.classes.iter_mut().zip(&report.classes) {
            sum.add(class);
        }
        for (code, (count, text)) in report.refusals {
            total.refusals.entry(code).or_insert((0, text)).0 += count;
        }
        total.unanswered += report.unanswered;
        total.tally += report.source.tally();
        let share = report.cpu.as_secs_f64() / report.window.as_secs_f64().max(1e-9);
        total.client_share = total.client_share.max(share);
        total.late_max = total.late_max.max(report.late_max);
        late_share = f64::max(late_share, report.late_share);
    }
    // Workers count what falls between the window's two ends, however late they look at the clock.
    total.window = run.duration.unwrap_or(total.window);
    let server_is_idle = total
        .server_share()
        .is_none_or(|share| share < SERVER_BUSY_SHARE * f64::from(run.shard_count));
    total.generator_limited =
        is_generator_limited(run.plan.rate.is_some(), total.client_share, late_share, server_is_idle);
    Ok(total)
}

/// In the closed loop a thread that is busy all the time while the server is not; in the open loop, where threads spin
/// between requests, one that does not send them in time.
fn is_generator_limited(is_open_loop: bool, client_share: f64, late_share: f64, server_is_idle: bool) -> bool {
    server_is_idle
        && if is_open_loop {
            late_share > LATE_SHARE_MAX
        } else {
            client_share >= BUSY_SHARE
        }
}

struct Watched {
    series: Vec<Point>,
    server_cpu: Option<Duration>,
    answers: u64,
}

/// Looks at the workers and the server from outside.
struct Watch<'a> {
    run: &'a RunPlan,
    lives: &'a [Arc<Live>],
    epoch: Instant,
    stop: &'a AtomicBool,
    begin: Option<Instant>,
    began_with: (Option<Duration>, u64),
    point_at: Instant,
    point_answers: u64,
    line_at: Instant,
    line_answers: u64,
    line_latency: Histogram<u64>,
    series: Vec<Point>,
}

impl<'a> Watch<'a> {
    fn new(run: &'a RunPlan, lives: &'a [Arc<Live>], epoch: Instant, stop: &'a AtomicBool) -> Self {
        Self {
            run,
            lives,
            epoch,
            stop,
            begin: None,
            began_with: (None, 0),
            point_at: epoch,
            point_answers: 0,
            line_at: epoch,
            line_answers: 0,
            line_latency: latency_histogram(),
            series: Vec::new(),
        }
    }

    fn answered(&self) -> u64 {
        self.lives.iter().map(|live| live.answered()).sum()
    }

    fn server_cpu(&self) -> Result<Option<Duration>, ProcessError> {
        self.run.server.map(Process::cpu_time).transpose()
    }

    fn watch(mut self, finished: &dyn Fn() -> bool, line: LiveLine<'_>) -> Result<Watched, ProcessError> {
        let interval = self
            .run
            .duration
            .map_or(SERIES_INTERVAL_MIN, |duration| duration / SERIES_POINTS)
            .max(SERIES_INTERVAL_MIN);
        let end = self
            .run
            .duration
            .map(|duration| self.epoch + self.run.warm_up + duration);
        loop {
            let now = Instant::now();
            let is_finished = finished();
            if self.begin.is_none() && now >= self.epoch + self.run.warm_up {
                self.begin = Some(now);
                self.began_with = (self.server_cpu()?, self.answered());
                // What was answered while warming up is in no point.
                self.take_latency();
                (self.point_at, self.point_answers) = (now, self.answered());
            }
            let is_over = is_finished || self.stop.load(Ordering::Relaxed) || end.is_some_and(|end| now >= end);
            if self.begin.is_some() && (is_over || now >= self.point_at + interval) {
                self.point(now);
            }
            if now >= self.line_at + LINE_INTERVAL {
                self.line(now, line);
            }
            if is_over {
                let answers = self.answered() - self.began_with.1;
                let cpu = self.server_cpu()?.zip(self.began_with.0);
                return Ok(Watched {
                    series: self.series,
                    server_cpu: cpu.map(|(after, before)| after.saturating_sub(before)),
                    answers,
                });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn take_latency(&mut self) -> Histogram<u64> {
        let mut latency = latency_histogram();
        for live in self.lives {
            live.take(&mut latency);
        }
        self.line_latency
            .add(&latency)
            .expect("all latency histograms have the same range");
        latency
    }

    fn point(&mut self, now: Instant) {
        let latency = self.take_latency();
        let answered = self.answered();
        let elapsed = now - self.point_at;
        if elapsed >= SERIES_INTERVAL_MIN / 2 {
            let begin = self.begin.unwrap_or(self.epoch);
            self.series
                .push(point(&latency, now - begin, answered - self.point_answers, elapsed));
        }
        (self.point_at, self.point_answers) = (now, answered);
    }

    fn line(&mut self, now: Instant, line: LiveLine<'_>) {
        self.take_latency_for_line();
        let answered = self.answered();
        let refused = self.lives.iter().map(|live| live.refused()).sum();
        let elapsed = now - self.line_at;
        line(
            &point(
                &self.line_latency,
                now - self.epoch,
                answered - self.line_answers,
                elapsed,
            ),
            refused,
        );
        (self.line_at, self.line_answers) = (now, answered);
        self.line_latency.reset();
    }

    /// While warming up there are no points to take latencies for the line.
    fn take_latency_for_line(&mut self) {
        if self.begin.is_none() {
            self.take_latency();
        }
    }
}

fn point(latency: &Histogram<u64>, at: Duration, answers: u64, elapsed: Duration) -> Point {
    let at_quantile = |quantile| {
        if latency.is_empty() {
            0
        } else {
            latency.value_at_quantile(quantile)
        }
    };
    Point {
        at,
        per_second: answers as f64 / elapsed.as_secs_f64().max(1e-9),
        p50_ns: at_quantile(0.5),
        p99_ns: at_quantile(0.99),
        p999_ns: at_quantile(0.999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_limit_only_where_the_server_is_not() {
        assert!(is_generator_limited(false, 0.99, 0.0, true));
        assert!(!is_generator_limited(false, 0.99, 0.0, false));
        assert!(!is_generator_limited(false, 0.5, 0.0, true));
        assert!(is_generator_limited(true, 0.5, 0.1, true));
        assert!(!is_generator_limited(true, 1.0, 0.0, true), "it spins");
    }
}
