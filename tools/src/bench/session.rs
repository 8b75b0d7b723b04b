//! One invocation of `cart bench` on one server: probes it, prepares and runs a workload as often as told, and holds
//! the server's books to what the load generator saw.
//!
//! Called by the command and by the comparison.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cartwright_protocol::client::ClientError;
use cartwright_protocol::{AuditReport, Operation, Reply};

use super::arguments::LoadArguments;
use super::checkpoints::keep_saving;
use super::conductor::{LiveLine, RunError, RunPlan, RunReport, run};
use super::machine::{self, Machine};
use super::source::Source;
use super::target::{Kind, Target, TargetError};
use super::worker::{DRAIN_TIMEOUT, Plan};
use super::workload::{Division, Workload, WorkloadError};

/// How long an audit may take; it walks over everything there is.
const AUDIT_TIMEOUT: Duration = Duration::from_mins(5);

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A run.
    #[error("the run broke off: {0}")]
    Run(#[from] RunError),
    /// The books.
    #[error("cannot audit the server: {0}")]
    Audit(#[from] ClientError),
    /// The cores.
    #[error("cannot run on the cores that --cpu names: {0}")]
    Pin(std::io::Error),
    /// The server's end.
    #[error("{address} does not resolve: {source}")]
    Resolve {
        /// Where.
        address: crate::address::Address,
        /// What the system said.
        source: std::io::Error,
    },
    /// By a signal.
    #[error("stopped by a signal; nothing was measured to its end")]
    Interrupted,
}

/// One run and what its books said.
pub struct Run {
    /// What was measured.
    pub report: RunReport,
    /// How many checkpoints it began meanwhile, where it was asked for them.
    pub checkpoints: Option<u64>,
    /// The server's books afterwards; only of this server.
    pub audit: Option<AuditReport>,
    /// What is not as it must be.
    pub problems: Vec<String>,
}

/// All runs of one workload on one server.
pub struct Session {
    /// What was run.
    pub title: String,
    /// Names of the classes.
    pub classes: &'static [&'static str],
    /// On what.
    pub target: Target,
    /// From where.
    pub machine: Machine,
    /// How hard.
    pub load: LoadArguments,
    /// In order.
    pub runs: Vec<Run>,
}

impl Session {
    /// Whether every run's books balance and every check held.
    pub fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.problems.is_empty())
    }

    /// The run whose rate is the median; of two in the middle, the slower.
    pub fn median(&self) -> &Run {
        let mut places: Vec<usize> = (0..self.runs.len()).collect();
        let rate = |place: usize| self.runs[place].report.per_second();
        places.sort_by(|&left, &right| rate(left).total_cmp(&rate(right)));
        &self.runs[places[(places.len() - 1) / 2]]
    }

    /// Microseconds of the server's CPU time for one answer: the median over the runs.
    pub fn median_server_us(&self) -> Option<f64> {
        let each = |run: &Run| run.report.server_us_per_request();
        let mut all: Vec<f64> = self.runs.iter().filter_map(each).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len().checked_sub(1)? / 2).copied()
    }
}

/// A number that hardly any run before can have had; it is in the keys, so that none is a retry.
fn run_number() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    RandomState::new().hash_one((now.unwrap_or_default(), std::process::id())) as u32
}

fn audit(target: &Target) -> Result<Option<AuditReport>, SessionError> {
    if target.kind != Kind::Cartwright {
        return Ok(None);
    }
    let mut client = target.address.connect()?;
    client.set_timeout(Some(AUDIT_TIMEOUT))?;
    match client.call(&Operation::Audit)? {
        Reply::Audit(report) => Ok(Some(report)),
        other => Err(SessionError::Workload(WorkloadError::Answer {
            doing: "auditing",
            answer: format!("{other:?}"),
        })),
    }
}

/// Compares the books with what the generator saw.
fn book_problems(before: Option<&AuditReport>, after: Option<&AuditReport>, report: &RunReport) -> Vec<String> {
    let mut problems = Vec::new();
    let (Some(before), Some(after)) = (before, after) else {
        return problems;
    };
    if after.violations > 0 {
        problems.push(format!(
            "AUDIT finds {} violations: the books do not balance",
            after.violations
        ));
    }
    let made = (after.orders - before.orders, after.lines - before.lines);
    let seen = (report.tally.carts, report.tally.lines);
    if report.unanswered == 0 && made != seen {
        problems.push(format!(
            "the books grew by {} orders with {} lines, but {} with {} were acknowledged (does another client work on \
             this server?)",
            made.0, made.1, seen.0, seen.1
        ));
    }
    problems
}

/// What is wrong with the answers themselves.
fn answer_problems(expected: &[&str], report: &RunReport) -> Vec<String> {
    let mut problems = Vec::new();
    for (code, (count, first)) in &report.refusals {
        if !expected.contains(&code.as_str()) {
            problems.push(format!("{count} requests were refused with {code}; the first: {first}"));
        }
    }
    if report.unanswered > 0 {
        problems.push(format!(
            "{} requests got no answer within {} s of the end",
            report.unanswered,
            DRAIN_TIMEOUT.as_secs()
        ));
    }
    if report.answered() == 0 {
        problems.push("not one request was answered in the measured window".to_owned());
    }
    problems
}

/// Does one run.
pub fn run_once(
    target: &Target,
    workload: &mut dyn Workload,
    load: &LoadArguments,
    stop: &AtomicBool,
    line: LiveLine<'_>,
) -> Result<Run, SessionError> {
    let cores = load.cpu.clone().unwrap_or_default().0;
    if !cores.is_empty() {
        machine::pin(&cores).map_err(SessionError::Pin)?;
    }
    workload.prepare(target)?;
    let before = audit(target)?;
    let thread_count = load.thread_count();
    let request_count = load.requests.or_else(|| workload.request_count());
    let division = Division {
        worker_count: thread_count,
        request_count,
        run: run_number(),
    };
    let sources = workload.sources(target, &division)?;
    let address = target.address.resolve().map_err(|source| SessionError::Resolve {
        address: target.address.clone(),
        source,
    })?;
    let depth = usize::from(load.pipeline);
    let plan = RunPlan {
        plan: Plan {
            address,
            wire: target.wire,
            connection_count: usize::from(load.connections),
            depth: target.in_flight_max.map_or(depth, |most| depth.min(most)),
            core: None,
            rate: load.rate,
            begin_ns: 0,
            end_ns: 0,
            class_count: workload.classes().len(),
        },
        thread_count,
        cores,
        warm_up: if request_count.is_some() {
            Duration::ZERO
        } else {
            load.warmup
        },
        duration: request_count.is_none().then_some(load.duration),
        server: target.process,
        shard_count: target.shard_count,
    };
    let (report, checkpoints) = if load.bgsave {
        run_saving(target, &plan, sources, stop, line)?
    } else {
        (run(&plan, sources, stop, line)?, None)
    };
    if stop.load(Ordering::Relaxed) {
        return Err(SessionError::Interrupted);
    }
    let mut problems = workload.check(target, &report)?;
    let after = audit(target)?;
    problems.extend(book_problems(before.as_ref(), after.as_ref(), &report));
    problems.extend(answer_problems(workload.expected_refusals(), &report));
    Ok(Run {
        report,
        checkpoints,
        audit: after,
        problems,
    })
}

/// A run during which the server takes checkpoints; gives how many it began.
fn run_saving(
    target: &Target,
    plan: &RunPlan,
    sources: Vec<Box<dyn Source>>,
    stop: &AtomicBool,
    line: LiveLine<'_>,
) -> Result<(RunReport, Option<u64>), SessionError> {
    let over = AtomicBool::new(false);
    let (report, count) = std::thread::scope(|scope| {
        let saving = scope.spawn(|| keep_saving(&target.address, &over));
        let report = run(plan, sources, stop, line);
        over.store(true, Ordering::Relaxed);
        (report, saving.join().expect("asking for checkpoints does not panic"))
    });
    let count = count.map_err(WorkloadError::from)?;
    Ok((report?, Some(count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::source::Tally;

    fn report(carts: u64) -> RunReport {
        RunReport {
            window: Duration::from_secs(1),
            classes: Vec::new(),
            refusals: std::collections::BTreeMap::new(),
            unanswered: 0,
            tally: Tally {
                carts,
                lines: 10 * carts,
                units: 20 * carts,
                items: 0,
            },
            series: Vec::new(),
            server_cpu: None,
            window_answers: 0,
            memory: None,
            client_share: 0.0,
            late_max: Duration::ZERO,
            is_open_loop: false,
            generator_limited: false,
            interrupted: false,
        }
    }

    fn books(orders: u64, violations: u64) -> AuditReport {
        AuditReport {
            items: 1,
            orders,
            lines: 10 * orders,
            violations,
            state_hash: 0,
            paused_ms: 0,
        }
    }

    #[test]
    fn books_that_do_not_balance_or_do_not_agree_with_the_answers_fail_a_run() {
        assert!(book_problems(Some(&books(5, 0)), Some(&books(8, 0)), &report(3)).is_empty());
        assert_eq!(
            book_problems(Some(&books(5, 0)), Some(&books(8, 1)), &report(3)).len(),
            1
        );
        assert_eq!(
            book_problems(Some(&books(5, 0)), Some(&books(9, 0)), &report(3)).len(),
            1
        );
        assert_eq!(
            book_problems(Some(&books(5, 0)), Some(&books(7, 0)), &report(3)).len(),
            1
        );
        // What was not answered may have happened or not.
        let unsure = RunReport {
            unanswered: 1,
            ..report(3)
        };
        assert!(book_problems(Some(&books(5, 0)), Some(&books(9, 0)), &unsure).is_empty());
    }

    #[test]
    fn only_refusals_that_belong_to_the_workload_are_no_failure() {
        let mut refused = report(3);
        refused.classes.push(crate::bench::worker::ClassCount::default());
        refused.classes[0].latency.record(1_000).unwrap();
        assert!(answer_problems(&["BUSY"], &refused).is_empty());
        refused.refusals.insert("BUSY".to_owned(), (2, "later".to_owned()));
        assert!(answer_problems(&["BUSY"], &refused).is_empty());
        assert_eq!(answer_problems(&[], &refused).len(), 1);
        refused.unanswered = 1;
        assert_eq!(answer_problems(&["BUSY"], &refused).len(), 1);
        assert_eq!(answer_problems(&["BUSY"], &report(3)).len(), 1, "nothing was answered");
    }
}
