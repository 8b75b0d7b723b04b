//! `cart bench compare`: this server and a Redis in turn, on the same core, under the same load.
//!
//! Every run starts a fresh server on a fresh directory and ends it by its process id, so that none finds another's
//! work in memory or on disk. The runs alternate, so that a machine that is slower for a while is slower for both.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::answer::Wire;
use super::arguments::{CompareArguments, CompareSync, CompareWorkload, LoadArguments, Peer};
use super::command::LiveLinePrinter;
use super::conductor::RunReport;
use super::machine::{self, CoreList, Machine, allowed_cores};
use super::redis_process::{REDIS_NAMES, RedisProcess, RedisProcessError, VALKEY_NAMES, find};
use super::report::{live_line, nanoseconds, rate};
use super::session::{Session, SessionError, run_once};
use super::target::{Kind, Target};
use super::workload::Workload;
use super::workload::checkout::CheckoutWorkload;
use super::workload::keys::{KeyPattern, KeyWorkload};
use crate::server_process::{ServerOptions, ServerProcess, ServerProcessError, SyncMode, sibling};

/// How often each is run unless told.
const RUN_COUNT_DEFAULT: u16 = 3;

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// No Redis.
    #[error(transparent)]
    Redis(#[from] RedisProcessError),
    /// No server of ours.
    #[error("{0}; say where the server is with --server PATH")]
    Server(#[from] ServerProcessError),
    /// A run.
    #[error("{contender}: {source}")]
    Session {
        /// Whose.
        contender: String,
        /// Why.
        source: SessionError,
    },
    /// No room.
    #[error("cannot make a temporary directory: {0}; set TMPDIR to a directory with room")]
    Directory(std::io::Error),
    /// The cores.
    #[error("cannot run on the cores that --server-cpu names: {0}")]
    Pin(std::io::Error),
    /// This program's own place.
    #[error("cannot tell where this program is: {0}; say where the server is with --server PATH")]
    Sibling(std::io::Error),
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Own(Wire),
    Peer,
}

impl Display for Contender {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(wire) => write!(formatter, "Cartwright over {wire}"),
            Self::Peer => formatter.write_str("the Redis"),
        }
    }
}

/// What each contender's runs came to.
pub struct Comparison {
    /// One for each contender and durability; in the order in which they ran.
    pub sessions: Vec<Session>,
    server_cores: CoreList,
    is_shared: bool,
}

impl Comparison {
    /// Whether every run's books balance and every check held.
    pub fn is_clean(&self) -> bool {
        self.sessions.iter().all(Session::is_clean)
    }
}

struct Setting<'a> {
    arguments: &'a CompareArguments,
    own: PathBuf,
    peer: PathBuf,
    server_cores: CoreList,
    load: LoadArguments,
    machine: Machine,
    stop: &'a AtomicBool,
}

/// Runs everything.
pub fn compare(arguments: &CompareArguments, stop: &AtomicBool) -> Result<Comparison, CompareError> {
    let peer = match (&arguments.redis_server, arguments.with) {
        (Some(path), _) => path.clone(),
        (None, Peer::Redis) => find(REDIS_NAMES)?,
        (None, Peer::Valkey) => find(VALKEY_NAMES)?,
    };
    let own = match &arguments.server {
        Some(path) => path.clone(),
        None => sibling("cartwright").map_err(CompareError::Sibling)?,
    };
    let allowed = allowed_cores();
    let server_cores = arguments
        .server_cpu
        .clone()
        .unwrap_or_else(|| CoreList(vec![allowed[0]]));
    let client_core = allowed.iter().rev().find(|core| !server_cores.0.contains(core));
    let mut load = arguments.load.clone();
    if load.cpu.is_none() {
        load.cpu = Some(CoreList(vec![*client_core.unwrap_or(&allowed[0])]));
    }
    let client_cores = load.cpu.clone().unwrap_or_default();
    let setting = Setting {
        arguments,
        own,
        peer,
        server_cores,
        load,
        // Before anything is pinned: the cores that this process may use are the machine's.
        machine: Machine::this(),
        stop,
    };
    let is_shared = client_cores.0.iter().any(|core| setting.server_cores.0.contains(core));
    if is_shared {
        eprintln!(
            "NOTE: server and load share a core: the rates say little, the CPU time of each request is the figure"
        );
    }
    let syncs: &[SyncMode] = match arguments.sync {
        CompareSync::Always => &[SyncMode::Always],
        CompareSync::No => &[SyncMode::No],
        CompareSync::Both => &[SyncMode::Always, SyncMode::No],
    };
    let contenders: &[Contender] = match arguments.workload {
        CompareWorkload::Checkout => &[
            Contender::Peer,
            Contender::Own(Wire::Resp),
            Contender::Own(Wire::Native),
        ],
        CompareWorkload::GetSet => &[Contender::Peer, Contender::Own(Wire::Resp)],
    };
    let mut sessions: Vec<Session> = Vec::new();
    let run_count = arguments.load.runs.unwrap_or(RUN_COUNT_DEFAULT);
    for &sync in syncs {
        let first = sessions.len();
        for run in 0..run_count {
            for (place, &contender) in contenders.iter().enumerate() {
                let session = sessions.get_mut(first + place);
                if let Some(session) = setting.run(contender, sync, run, session)? {
                    sessions.push(session);
                }
            }
        }
    }
    Ok(Comparison {
        sessions,
        server_cores: setting.server_cores,
        is_shared,
    })
}

/// A server that ends when this is dropped.
enum Running {
    Own(ServerProcess),
    Peer(RedisProcess),
}

impl Setting<'_> {
    /// Does one run, and adds it to `session`, or gives a new one.
    fn run(
        &self,
        contender: Contender,
        sync: SyncMode,
        run: u16,
        session: Option<&mut Session>,
    ) -> Result<Option<Session>, CompareError> {
        let directory = tempfile::Builder::new()
            .prefix("cart-bench-")
            .tempdir()
            .map_err(CompareError::Directory)?;
        let running = self.start(contender, sync, directory.path())?;
        let failed = |source| CompareError::Session {
            contender: contender.to_string(),
            source,
        };
        let (address, process_id) = match &running {
            Running::Own(server) => (server.address(), server.id()),
            Running::Peer(server) => (server.address().clone(), server.id()),
        };
        let wire = match contender {
            Contender::Own(wire) => wire,
            Contender::Peer => Wire::Resp,
        };
        let target = Target::probe(&address, Some(wire), Some(process_id)).map_err(|error| failed(error.into()))?;
        let mut workload = self.workload();
        let name = format!("{} over {}, {}", target.kind, target.wire, target.durability);
        let mut line = LiveLinePrinter::new(self.arguments.output.quiet);
        let done = run_once(
            &target,
            workload.as_mut(),
            &self.load,
            self.stop,
            &mut |point, refused| {
                line.show(&format!("{name}, run {}: {}", run + 1, live_line(point, refused)));
            },
        )
        .map_err(|source| CompareError::Session {
            contender: name.clone(),
            source,
        })?;
        line.clear();
        if let Running::Own(server) = running {
            server.kill()?;
        }
        if let Some(session) = session {
            session.runs.push(done);
            return Ok(None);
        }
        Ok(Some(Session {
            title: workload.title(),
            classes: workload.classes(),
            target,
            machine: self.machine.clone(),
            load: self.load.clone(),
            runs: vec![done],
        }))
    }

    /// Starts a server that, with all its threads, runs on the server's cores: it inherits them.
    fn start(&self, contender: Contender, sync: SyncMode, directory: &Path) -> Result<Running, CompareError> {
        machine::pin(&self.server_cores.0).map_err(CompareError::Pin)?;
        let started = match contender {
            Contender::Peer => RedisProcess::start(&self.peer, directory, sync)
                .map(Running::Peer)
                .map_err(CompareError::from),
            Contender::Own(_) => {
                let options = ServerOptions::new(&self.own, directory.join("data"))
                    .shards(self.server_cores.0.len() as u16)
                    .syncing(sync);
                ServerProcess::start(&options)
                    .map(Running::Own)
                    .map_err(CompareError::from)
            }
        };
        let client_cores = self.load.cpu.clone().unwrap_or_default().0;
        machine::pin(&client_cores).map_err(CompareError::Pin)?;
        started
    }

    fn workload(&self) -> Box<dyn Workload> {
        let arguments = self.arguments;
        match arguments.workload {
            CompareWorkload::Checkout => Box::new(CheckoutWorkload::new(arguments.carts.mix(self.load.seed, 0))),
            CompareWorkload::GetSet => {
                let pattern = KeyPattern::GetSet {
                    get_share: arguments.keys.gets,
                    value_bytes: arguments.keys.value_bytes as usize,
                };
                Box::new(KeyWorkload::new(pattern, arguments.keys.keys, self.load.seed))
            }
        }
    }
}

/// Rates and ratios.
impl Display for Comparison {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Some(first) = self.sessions.first() else {
            return Ok(());
        };
        writeln!(formatter, "{}", first.title)?;
        writeln!(formatter, "machine      {}", first.machine)?;
        writeln!(
            formatter,
            "load         {} connections, {} requests in flight on each, on core {}; servers on core {}{}",
            first.load.connections,
            first.load.pipeline,
            first.load.cpu.clone().unwrap_or_default(),
            self.server_cores,
            if self.is_shared { ": the same" } else { "" }
        )?;
        writeln!(
            formatter,
            "\n{:<44} {:>10}  {:<21} {:>9} {:>9} {:>11}",
            "median run", "a second", "from - to", "p50", "p99", "server CPU"
        )?;
        for session in &self.sessions {
            write_row(formatter, session)?;
        }
        writeln!(formatter)?;
        for session in self
            .sessions
            .iter()
            .filter(|session| session.target.kind == Kind::Cartwright)
        {
            if let Some(peer) = self.peer_of(session) {
                write_ratio(formatter, session, peer)?;
            }
        }
        for session in &self.sessions {
            for run in &session.runs {
                for problem in &run.problems {
                    writeln!(formatter, "FAILED       {}: {problem}", name(session))?;
                }
                if run.report.generator_limited {
                    writeln!(
                        formatter,
                        "NOTE         {}: the load generator was the limit; only the CPU time compares",
                        name(session)
                    )?;
                }
            }
        }
        Ok(())
    }
}

impl Comparison {
    /// The other side with the same durability.
    fn peer_of(&self, session: &Session) -> Option<&Session> {
        let when = |session: &Session| session.target.durability.rsplit(' ').next().map(str::to_owned);
        self.sessions
            .iter()
            .find(|other| other.target.kind != Kind::Cartwright && when(other) == when(session))
    }
}

fn name(session: &Session) -> String {
    let target = &session.target;
    format!(
        "{} {} over {}, {}",
        target.kind, target.version, target.wire, target.durability
    )
}

fn write_row(formatter: &mut Formatter<'_>, session: &Session) -> fmt::Result {
    let rates: Vec<f64> = session.runs.iter().map(|run| run.report.per_second()).collect();
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    let median = &session.median().report;
    let latency = median.latency();
    writeln!(
        formatter,
        "{:<44} {:>10}  {:<21} {:>9} {:>9} {:>11}",
        name(session),
        rate(median.per_second()),
        format!("{} - {}", rate(least), rate(most)),
        nanoseconds(latency.value_at_quantile(0.5)),
        nanoseconds(latency.value_at_quantile(0.99)),
        session
            .median_server_us()
            .map_or_else(String::new, |each| format!("{each:.2} µs"))
    )
}

fn write_ratio(formatter: &mut Formatter<'_>, own: &Session, peer: &Session) -> fmt::Result {
    let (own_run, peer_run) = (&own.median().report, &peer.median().report);
    let p50 = |report: &RunReport| report.latency().value_at_quantile(0.5) as f64;
    write!(
        formatter,
        "{} over {} ({}) against {} ({}): {:.2} times the rate, {:.2} times the median latency",
        own.target.kind,
        own.target.wire,
        own.target.durability,
        peer.target.kind,
        peer.target.durability,
        own_run.per_second() / peer_run.per_second(),
        p50(own_run) / p50(peer_run)
    )?;
    if let (Some(own), Some(peer)) = (own.median_server_us(), peer.median_server_us()) {
        write!(formatter, ", {:.2} times the server CPU a request", own / peer)?;
    }
    writeln!(formatter)
}
