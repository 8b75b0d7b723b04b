//! The workloads: what each prepares on a server, asks of it, and checks afterwards.

pub mod checkout;
pub mod flash_sale;
pub mod hold;
pub mod items;
pub mod keys;
pub mod load;
pub mod mixed;
pub mod order;

use super::conductor::RunReport;
use super::source::Source;
use super::target::{Kind, Target};

/// Why a workload cannot be run, or its end not be checked.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// No such carts.
    #[error(transparent)]
    Carts(#[from] super::cart_mix::CartError),
    /// The server, over the native protocol.
    #[error(transparent)]
    Client(#[from] cartwright_protocol::client::ClientError),
    /// The server, over RESP.
    #[error(transparent)]
    Redis(#[from] super::redis_client::RedisError),
    /// It answers something else than it should.
    #[error("while {doing} the server answered {answer}")]
    Answer {
        /// What was tried.
        doing: &'static str,
        /// What came.
        answer: String,
    },
    /// Not for this kind of server.
    #[error("{workload} needs {needs}; this is {kind} {version}")]
    Target {
        /// Which.
        workload: &'static str,
        /// What it needs.
        needs: &'static str,
        /// What there is.
        kind: Kind,
        /// Of which version.
        version: String,
    },
}

/// How a run's requests are divided.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// Over so many workers.
    pub worker_count: usize,
    /// Requests at most, of all workers; `None`: as many as there is time for.
    pub request_count: Option<u64>,
    /// Tells this run's keys from any other's.
    pub run: u32,
}

impl Division {
    /// Requests at most of one worker.
    pub fn limit_of(&self, worker: usize) -> u64 {
        let Some(count) = self.request_count else {
            return u64::MAX;
        };
        let (worker, workers) = (worker as u64, self.worker_count as u64);
        count / workers + u64::from(worker < count % workers)
    }
}

/// One workload, with its settings.
pub trait Workload {
    /// One line that says what it does, for the report.
    fn title(&self) -> String;

    /// Names of its classes of requests.
    fn classes(&self) -> &'static [&'static str];

    /// How many requests it makes unless told; `None`: as many as there is time for.
    fn request_count(&self) -> Option<u64> {
        None
    }

    /// Whether it can only be said in RESP.
    fn is_resp_only(&self) -> bool {
        false
    }

    /// Brings the server to where a run can begin. Called once for each run, before it.
    fn prepare(&mut self, target: &Target) -> Result<(), WorkloadError>;

    /// One source a worker.
    fn sources(&mut self, target: &Target, division: &Division) -> Result<Vec<Box<dyn Source>>, WorkloadError>;

    /// Codes of refusals that are part of the game; any other is a failed run.
    fn expected_refusals(&self) -> &'static [&'static str] {
        &["BUSY", "OUTOFSTOCK"]
    }

    /// What is not as it must be after a run; nothing where all is well.
    fn check(&mut self, target: &Target, report: &RunReport) -> Result<Vec<String>, WorkloadError> {
        let _ = (target, report);
        Ok(Vec::new())
    }
}

/// Fails where the server has no shop, as a Redis has none.
fn needs_shop(workload: &'static str, target: &Target) -> Result<(), WorkloadError> {
    if target.kind == Kind::Cartwright {
        return Ok(());
    }
    Err(WorkloadError::Target {
        workload,
        needs: "a Cartwright server",
        kind: target.kind,
        version: target.version.clone(),
    })
}
