//! One thread of the load generator: its connections on one ring, its requests from one source.
//!
//! Started by the conductor. In the closed loop it keeps every connection full; in the open loop it sends each request
//! once it is due and counts its latency from that moment, whether or not it could be sent then.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::answer::{Answer, Wire};
use super::connection::{Connection, ConnectionError};
use super::live::{Live, latency_histogram};
use super::machine::pin;
use super::sockets::{Outcome, Sockets};
use super::source::Source;

/// How long to wait for the last answers.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a wait for answers lasts at most, so that a stop is noticed.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// A request that is due sooner is waited for without sleeping: a sleep may take that much longer than it should.
const SPIN_MAX: Duration = Duration::from_micros(100);

/// What is sent so much later than due, though a connection had room, is late by the generator's own fault.
const LATE_MAX: Duration = Duration::from_millis(1);

/// How often latencies are shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(50);

/// How many texts of different codes are kept; servers have fewer codes.
const REFUSAL_CODES_MAX: usize = 32;

/// Refusals by code: how many, and the first one's text.
pub type Refusals = BTreeMap<String, (u64, String)>;

/// What one worker is to do. All times are nanoseconds from `epoch`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub wire: Wire,
    /// Over how many connections.
    pub connection_count: usize,
    /// With how many requests in flight on each.
    pub depth: usize,
    /// The core to run on; `None`: any.
    pub core: Option<usize>,
    /// Requests a second that fall due here; `None`: the closed loop.
    pub rate: Option<f64>,
    /// When the measured window begins.
    pub begin_ns: u64,
    /// When it ends; `u64::MAX`: when the source does.
    pub end_ns: u64,
    /// How many classes of requests there are.
    pub class_count: usize,
}

/// What one class of requests came to in the measured window.
#[derive(Clone, Debug)]
pub struct ClassCount {
    /// Nanoseconds.
    pub latency: Histogram<u64>,
    /// Refused; in `latency` as well.
    pub refused: u64,
}

impl Default for ClassCount {
    fn default() -> Self {
        Self {
            latency: latency_histogram(),
            refused: 0,
        }
    }
}

impl ClassCount {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.latency
            .add(&other.latency)
            .expect("all latency histograms have the same range");
        self.refused += other.refused;
    }
}

/// What one worker did.
pub struct WorkerReport {
    /// By class.
    pub classes: Vec<ClassCount>,
    /// Of the whole run.
    pub refusals: Refusals,
    /// Requests that were due or sent and got no answer in time. They are in the latencies with their age at the end.
    pub unanswered: u64,
    /// CPU time of the thread within the window, and how long the window was for it.
    pub cpu: Duration,
    /// See `cpu`.
    pub window: Duration,
    /// In the open loop: how much later than due a request was sent at most, though a connection had room.
    pub late_max: Duration,
    /// In the open loop: share of the requests that were late by more than a millisecond in this way.
    pub late_share: f64,
    /// The source, with its tally.
    pub source: Box<dyn Source>,
    /// What ended it early.
    pub ended: Result<(), ConnectionError>,
}

/// Open connections, and what moves their bytes, where each goes by its place.
pub struct Lines {
    sockets: Sockets,
    connections: Vec<Connection>,
}

/// Opens the connections; both steps are apart so that the clock starts once all are open.
pub fn connect(plan: &Plan) -> Result<Lines, ConnectionError> {
    let connections: Vec<Connection> = (0..plan.connection_count)
        .map(|_| Connection::open(plan.address, plan.wire, plan.depth))
        .collect::<Result<_, _>>()?;
    let descriptors: Vec<BorrowedFd<'_>> = connections.iter().map(Connection::socket).collect();
    let sockets = Sockets::new(&descriptors)?;
    Ok(Lines { sockets, connections })
}

/// Works until the window is over and everything is answered.
pub fn work(
    plan: &Plan,
    lines: Lines,
    source: Box<dyn Source>,
    live: &Arc<Live>,
    epoch: Instant,
    stop: &AtomicBool,
) -> WorkerReport {
    if let Some(core) = plan.core {
        // The list of cores was checked against those allowed; one that has gone meanwhile is no reason to stop.
        let _ = pin(&[core]);
    }
    let mut worker = Worker {
        plan,
        sockets: lines.sockets,
        connections: lines.connections,
        live,
        epoch,
        stop,
        now_ns: 0,
        due_count: 0,
        round: 0,
        exhausted: false,
        cpu: CpuWindow::default(),
        is_backlogged: false,
        late_max_ns: 0,
        late_count: 0,
        scores: Scores {
            source,
            classes: vec![ClassCount::default(); plan.class_count],
            lately: latency_histogram(),
            refusals: Refusals::new(),
            answered: 0,
            refused: 0,
            begin_ns: plan.begin_ns,
            end_ns: plan.end_ns,
            is_open_loop: plan.rate.is_some(),
        },
    };
    let ended = worker.run();
    worker.report(ended)
}

/// CPU time of the calling thread.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[derive(Default)]
struct CpuWindow {
    begin: Option<(Duration, u64)>,
    end: Option<(Duration, u64)>,
}

/// What hears answers; apart from the connections, which are borrowed while they give them.
struct Scores {
    source: Box<dyn Source>,
    classes: Vec<ClassCount>,
    /// Since the last show.
    lately: Histogram<u64>,
    refusals: Refusals,
    answered: u64,
    refused: u64,
    begin_ns: u64,
    end_ns: u64,
    is_open_loop: bool,
}

impl Scores {
    /// A request belongs to the window in which it was due, or, in the closed loop, answered.
    const fn is_measured(&self, since_ns: u64, now_ns: u64) -> bool {
        let at = if self.is_open_loop { since_ns } else { now_ns };
        at >= self.begin_ns && at < self.end_ns
    }

    fn hear(&mut self, tag: super::source::Tag, since_ns: u64, now_ns: u64, answer: &Answer<'_>) {
        let took_ns = now_ns.saturating_sub(since_ns);
        let refused = matches!(answer, Answer::Refused { .. });
        self.answered += 1;
        self.lately.saturating_record(took_ns);
        if self.is_measured(since_ns, now_ns) {
            let class = &mut self.classes[usize::from(tag.class)];
            class.latency.saturating_record(took_ns);
            class.refused += u64::from(refused);
        }
        if let Answer::Refused { code, text } = answer {
            self.refuse(code, text);
        }
        self.source.answered(tag, answer);
    }

    #[cold]
    fn refuse(&mut self, code: &str, text: &str) {
        self.refused += 1;
        if let Some((count, _)) = self.refusals.get_mut(code) {
            *count += 1;
        } else if self.refusals.len() < REFUSAL_CODES_MAX {
            self.refusals.insert(code.to_owned(), (1, text.to_owned()));
        }
    }
}

struct Worker<'a> {
    plan: &'a Plan,
    sockets: Sockets,
    connections: Vec<Connection>,
    live: &'a Arc<Live>,
    epoch: Instant,
    stop: &'a AtomicBool,
    now_ns: u64,
    /// In the open loop: how many requests were taken from the schedule.
    due_count: u64,
    /// Which connection is next in the open loop.
    round: usize,
    /// The source had nothing more at the last question.
    exhausted: bool,
    cpu: CpuWindow,
    /// Requests are overdue because no connection has had room: that they are late is the server's doing.
    is_backlogged: bool,
    late_max_ns: u64,
    late_count: u64,
    scores: Scores,
}

impl Worker<'_> {
    fn run(&mut self) -> Result<(), ConnectionError> {
        self.sockets.enable()?;
        let mut outcomes = Vec::new();
        let mut shown_ns = 0;
        let mut drain_until_ns = u64::MAX;
        self.tick();
        self.send_everywhere();
        loop {
            let timeout = self.wait_time();
            self.sockets.wait(timeout, &mut outcomes)?;
            for (place, outcome) in outcomes.drain(..) {
                self.hear(place, outcome)?;
            }
            self.tick();
            if self.plan.rate.is_some() || self.exhausted {
                self.send_everywhere();
            }
            self.live.show(self.scores.answered, self.scores.refused);
            if self.now_ns >= shown_ns + SHOW_INTERVAL.as_nanos() as u64 {
                shown_ns = self.now_ns;
                self.show();
            }
            if self.is_over() {
                if self.connections.iter().all(|connection| connection.in_flight() == 0) {
                    return Ok(());
                }
                drain_until_ns = drain_until_ns.min(self.now_ns + DRAIN_TIMEOUT.as_nanos() as u64);
                if self.now_ns > drain_until_ns {
                    return Ok(());
                }
            }
        }
    }

    /// Looks at the clock, and notices the ends of the window.
    fn tick(&mut self) {
        self.now_ns = self.epoch.elapsed().as_nanos() as u64;
        if self.cpu.begin.is_none() && self.now_ns >= self.plan.begin_ns {
            self.cpu.begin = Some((thread_cpu_time(), self.now_ns));
        }
        // A window without an end of its own lasts until the last answer.
        let may_end = self.plan.end_ns != u64::MAX && self.cpu.end.is_none();
        if self.cpu.begin.is_some() && may_end && self.is_over() {
            self.cpu.end = Some((thread_cpu_time(), self.now_ns));
        }
    }

    /// No new request is made any more.
    fn is_over(&self) -> bool {
        match self.plan.rate {
            _ if self.stop.load(Ordering::Relaxed) => true,
            // What was due before the end is sent, however late.
            Some(_) => self.exhausted || (self.now_ns >= self.plan.end_ns && self.due_ns() >= self.plan.end_ns),
            None => self.exhausted || self.now_ns >= self.plan.end_ns,
        }
    }

    /// When the next request of the open loop is due.
    fn due_ns(&self) -> u64 {
        let rate = self.plan.rate.unwrap_or(f64::INFINITY);
        (self.due_count as f64 * 1e9 / rate) as u64
    }

    fn wait_time(&self) -> Duration {
        if self.plan.rate.is_none() || self.is_over() || !self.connections.iter().any(Connection::has_room) {
            return WAIT_MAX;
        }
        let wait = Duration::from_nanos(self.due_ns().saturating_sub(self.now_ns));
        wait.saturating_sub(SPIN_MAX).min(WAIT_MAX)
    }

    fn hear(&mut self, place: usize, outcome: Outcome) -> Result<(), ConnectionError> {
        let connection = &mut self.connections[place];
        match outcome {
            Outcome::Received(received) => {
                let now_ns = self.epoch.elapsed().as_nanos() as u64;
                self.now_ns = now_ns;
                let scores = &mut self.scores;
                connection.receive(self.sockets.received(&received), |pending, answer| {
                    scores.hear(pending.tag, pending.since_ns, now_ns, answer);
                })?;
                self.sockets.give_back(received);
                if self.plan.rate.is_none() {
                    self.refill(place);
                }
            }
            // What has gathered meanwhile.
            Outcome::Sent => self.sockets.send(place, connection.output()),
            Outcome::Over => return Err(connection.closed()),
            Outcome::Failed { doing, source } => return Err(connection.lost(doing, source)),
        }
        Ok(())
    }

    /// Fills a connection, and sends. (Closed loop.)
    fn refill(&mut self, place: usize) {
        if self.now_ns >= self.plan.end_ns || self.stop.load(Ordering::Relaxed) {
            return;
        }
        let (connection, source) = (&mut self.connections[place], &mut self.scores.source);
        self.exhausted = false;
        while connection.has_room() {
            if !connection.push(self.now_ns, |output, id| source.next(output, id)) {
                self.exhausted = true;
                break;
            }
        }
        self.sockets.send(place, connection.output());
    }

    fn send_everywhere(&mut self) {
        if self.plan.rate.is_some() {
            self.send_due();
        } else {
            (0..self.connections.len()).for_each(|place| self.refill(place));
        }
    }

    /// Sends what is due, over the connections in turn. (Open loop.)
    fn send_due(&mut self) {
        let count = self.connections.len();
        let mut without_room = 0;
        while without_room < count && !self.stop.load(Ordering::Relaxed) {
            let due_ns = self.due_ns();
            if due_ns > self.now_ns || due_ns >= self.plan.end_ns {
                self.is_backlogged = false;
                break;
            }
            let connection = &mut self.connections[self.round];
            self.round = (self.round + 1) % count;
            if !connection.has_room() {
                without_room += 1;
                continue;
            }
            let source = &mut self.scores.source;
            if !connection.push(due_ns, |output, id| source.next(output, id)) {
                self.exhausted = true;
                break;
            }
            self.exhausted = false;
            without_room = 0;
            if !self.is_backlogged {
                let late_ns = self.now_ns - due_ns;
                self.late_max_ns = self.late_max_ns.max(late_ns);
                self.late_count += u64::from(late_ns > LATE_MAX.as_nanos() as u64);
            }
            self.due_count += 1;
        }
        self.is_backlogged |= without_room == count;
        for (place, connection) in self.connections.iter_mut().enumerate() {
            self.sockets.send(place, connection.output());
        }
    }

    fn show(&mut self) {
        self.live.add(&self.scores.lately);
        self.scores.lately.reset();
    }

    fn report(mut self, ended: Result<(), ConnectionError>) -> WorkerReport {
        self.tick();
        self.live.show(self.scores.answered, self.scores.refused);
        self.show();
        let now_ns = self.now_ns;
        let mut unanswered = 0;
        let mut abandon = |scores: &mut Scores, class: u8, since_ns: u64| {
            unanswered += 1;
            if scores.is_measured(since_ns, now_ns) {
                let latency = &mut scores.classes[usize::from(class)].latency;
                latency.saturating_record(now_ns.saturating_sub(since_ns));
            }
        };
        for connection in &self.connections {
            for pending in connection.pending() {
                abandon(&mut self.scores, pending.tag.class, pending.since_ns);
            }
        }
        // In the open loop also what was due and never found room; unless someone stopped the run.
        if self.plan.rate.is_some() && !self.exhausted && !self.stop.load(Ordering::Relaxed) {
            while self.due_ns() < self.plan.end_ns.min(now_ns) {
                let due_ns = self.due_ns();
                abandon(&mut self.scores, 0, due_ns);
                self.due_count += 1;
            }
        }
        let now = (thread_cpu_time(), self.now_ns);
        let begin = self.cpu.begin.unwrap_or(now);
        let end = self.cpu.end.unwrap_or(now);
        WorkerReport {
            classes: self.scores.classes,
            refusals: self.scores.refusals,
            unanswered,
            cpu: end.0.saturating_sub(begin.0),
            window: Duration::from_nanos(end.1 - begin.1),
            late_max: Duration::from_nanos(self.late_max_ns),
            late_share: self.late_count as f64 / self.due_count.max(1) as f64,
            source: self.scores.source,
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_two_workers_are_those_of_all_their_answers_and_no_average() {
        let mut fast = ClassCount::default();
        fast.latency.record_n(1_000_000, 9_900).unwrap();
        let mut slow = ClassCount {
            refused: 7,
            ..ClassCount::default()
        };
        slow.latency.record_n(500_000_000, 100).unwrap();
        fast.add(&slow);
        let at = |quantile| (fast.latency.value_at_quantile(quantile) as f64 / 1e6).round();
        assert_eq!((fast.latency.len(), fast.refused), (10_000, 7));
        assert_eq!((at(0.5), at(0.98), at(0.995)), (1.0, 1.0, 500.0));
    }
}
