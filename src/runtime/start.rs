//! Starting and running the server: checks, recovery, one thread a shard, and the wait for their end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::checkpoint_maker::CheckpointMaker;
use super::checkpointing::{CheckpointPast, Checkpointing};
use super::clock::Clock;
use super::cores::allowed_cores;
use super::exit::ExitCode;
use super::mailbox::Mailboxes;
use super::partition::Partition;
use super::recovery::{FoundCheckpoints, Recovered, RecoveryError, RecoveryTotals, identities, recover, total_counts};
use super::segment_maker::SegmentMaker;
use super::shard_loop::{ShardLoop, ShardParts};
use super::shared::{Facts, Shared};
use super::stop::stop_on_signals;
use crate::config::{PasswordError, ServeConfig, SyncMode, YesNo, core_count};
use crate::engine::recovery::{Resolved, repartition, resolve, start, start_bytes};
use crate::engine::{Counts, EngineLimits, LogPosition, RecordError, Shard, ShardId, ShardMap, Timestamp};
use crate::log::{
    CheckpointDirectory, DataDirectory, DataError, GenerationEntry, LogError, LogStart, LogWriter, ManifestFault,
    MappedSegment, RecoveredLog, SegmentFactory, StorageError, open_log,
};
use crate::net::diagnosis::{MachineError, check_machine};
use crate::net::open_files::raise_open_files_limit;
use crate::net::{ListenError, RingError, listen};
use crate::session::settings::{Number, SettingError};
use crate::session::{FixedSettings, SessionContext, Settings};

/// Memory of each executor's reactor for file I/O, which shards do not do through it.
const EXECUTOR_IO_BYTES: usize = 64 << 10;

/// Files that the server has open beside connections: a few, and some for each shard.
const FILES_KEPT: u64 = 64;
const FILES_KEPT_PER_SHARD: u64 = 24;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine does not allow it.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Logs and checkpoints cannot be read, or are damaged.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A new log cannot be read, or is damaged.
    #[error(transparent)]
    Log(#[from] LogError<RecordError>),
    /// A log cannot be written.
    #[error("cannot prepare the log: {0}")]
    Storage(#[from] StorageError),
    /// The ring's doorbells cannot be made.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A setting on the command line is none, or not like that.
    #[error("{0}; `cartwright serve --help` names the flags, and the README the settings")]
    Setting(#[from] SettingError),
    /// The password cannot be had.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A thread cannot be had.
    #[error("cannot start a thread: {0}. Check limits on processes (ulimit -u) and memory")]
    Thread(std::io::Error),
    /// An executor cannot be had.
    #[error("cannot start the executor of shard {shard}: {error}")]
    Executor {
        /// Whose.
        shard: ShardId,
        /// What glommio says.
        error: String,
    },
}

impl StartError {
    /// The code that the process ends with.
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Machine(_) | Self::Ring(_) | Self::Thread(_) | Self::Executor { .. } => ExitCode::Machine,
            Self::Listen(_) => ExitCode::Address,
            Self::Setting(_) | Self::Password(_) => ExitCode::Usage,
            Self::Data(
                DataError::Manifest {
                    fault: ManifestFault::Damaged,
                    ..
                }
                | DataError::ManifestMissing(_)
                | DataError::UnlistedGeneration(_),
            ) => ExitCode::Damage,
            Self::Data(_) => ExitCode::DataDirectory,
            Self::Log(LogError::Storage(_))
            | Self::Recovery(RecoveryError::Log(LogError::Storage(_)) | RecoveryError::Storage(_))
            | Self::Storage(_) => ExitCode::Storage,
            Self::Log(_) | Self::Recovery(_) => ExitCode::Damage,
        }
    }
}

/// Serves until a signal ends it.
pub fn serve(config: &ServeConfig) -> Result<(), StartError> {
    let started = Instant::now();
    ExitCode::install_panic_hook();
    let settings = settings(config)?;
    check_machine()?;
    let shard_count = config.shard_count();
    let cores = core_count();
    if usize::from(shard_count) > cores {
        tracing::warn!("{shard_count} shards share {cores} cores; one shard a core is fastest");
    }
    // Both before the recovery, which can take long: what is in the way is said at once.
    let mut data = DataDirectory::open(&config.data)?;
    let listener = listen(SocketAddr::new(config.bind, config.port))?;
    let Ready {
        partitions,
        factories,
        pasts,
        latest,
        counts,
        totals,
        resolved,
        was_new,
    } = prepare(&mut data, config)?;

    let address = listener.local_addr().map_err(StartError::Thread)?;
    let shared = Arc::new(Shared::new(shard_count, Clock::start(latest))?);
    stop_on_signals(Arc::clone(&shared)).map_err(StartError::Thread)?;
    let maker = SegmentMaker::start(Arc::clone(&shared.doorbells)).map_err(StartError::Thread)?;
    let have_checkpoints = pasts.iter().map(|past| past.checkpoint_bytes > 0).collect();
    let directories = factories
        .iter()
        .map(|factory| CheckpointDirectory::new(&data, factory.identity()))
        .collect();
    let mut checkpoint_maker =
        CheckpointMaker::start(data, directories, have_checkpoints, Arc::clone(&shared)).map_err(StartError::Thread)?;
    let connections_max = connections_max(config);
    let map = ShardMap::new(shard_count);
    let mut listener = Some(listener);
    let parts = Mailboxes::for_all(&shared.doorbells)
        .into_iter()
        .zip(partitions)
        .zip(factories)
        .zip(pasts)
        .map(|(((mailboxes, partition), factory), past)| ShardParts {
            checkpointing: Checkpointing::new(&partition, map, config.checkpoint_bytes(), past),
            checkpoints: checkpoint_maker.orders_of(mailboxes.own()),
            partition,
            segments: maker.orders_of(mailboxes.own(), factory),
            mailboxes,
            shared: Arc::clone(&shared),
            listener: listener.take(),
            connections_max,
        });
    let threads = spawn_shards(parts, shard_count, address.port(), &settings, &fixed_settings(config))?;

    let found = if was_new {
        "a new data directory".into()
    } else {
        describe(counts, totals, resolved)
    };
    tracing::info!(
        "serving on {address}: {shard_count} {}, data in {}, sync {}; {found}, ready in {} ms",
        if shard_count == 1 { "shard" } else { "shards" },
        config.data.display(),
        config.sync,
        started.elapsed().as_millis(),
    );
    for (shard, thread) in threads {
        thread.join().map_err(|error| StartError::Executor {
            shard,
            error: error.to_string(),
        })?;
    }
    maker.finish();
    checkpoint_maker.finish();
    tracing::info!("stopped; everything acknowledged is on disk");
    Ok(())
}

/// Shards and logs, ready to serve.
struct Ready {
    partitions: Vec<Partition<MappedSegment>>,
    factories: Vec<SegmentFactory>,
    pasts: Vec<CheckpointPast>,
    latest: Timestamp,
    counts: Counts,
    totals: RecoveryTotals,
    resolved: Resolved,
    was_new: bool,
}

/// Recovers, and begins an incarnation: after this everything recovered is on disk, decided, and owned by its shard.
fn prepare(data: &mut DataDirectory, config: &ServeConfig) -> Result<Ready, StartError> {
    let (shard_count, segment_bytes) = (config.shard_count(), config.segment_bytes());
    let limits = EngineLimits::default();
    let Recovered {
        mut shards,
        newest,
        mut logs,
        mut checkpoints,
        totals,
    } = recover(data, limits, segment_bytes)?;
    if let Some(newest) = newest {
        tidy_checkpoints(data, newest, &checkpoints)?;
    }
    let mut resolved = totals.resolved;
    let goes_on = newest.is_some_and(|newest| newest.shard_count == shard_count);
    if !goes_on {
        let decided = resolve(&mut shards);
        resolved.committed += decided.committed;
        resolved.aborted += decided.aborted;
        shards = repartition(shards, shard_count, limits);
        for log in logs.drain(..) {
            log.close()?;
        }
    }
    let incarnation = data.begin_incarnation(shard_count, segment_bytes)?;
    assert_eq!(
        incarnation.is_new_generation, !goes_on,
        "the manifest and the recovery agree on the generation"
    );
    if !goes_on {
        let generation = GenerationEntry {
            number: incarnation.generation,
            shard_count,
        };
        for identity in identities(generation) {
            let mut none = |_: LogPosition, _: &[u8]| Ok(());
            logs.push(open_log(data, identity, segment_bytes, LogStart::BEGINNING, &mut none)?);
        }
        checkpoints = vec![FoundCheckpoints::default(); shard_count.into()];
    }
    let pasts = logs
        .iter()
        .zip(&checkpoints)
        .map(|(log, found)| {
            let past = CheckpointPast {
                begins: found.used.map_or(LogPosition::ZERO, |used| used.begins),
                checkpoint_bytes: found.used.map_or(0, |used| used.bytes),
                log_bytes: log.replayed_bytes(),
                is_unchanged: !found.is_changed,
                is_wanted: data.manifest().generations.len() > 1,
            };
            (log.end(), past)
        })
        .collect::<Vec<_>>();
    let (mut writers, factories) = open_writers(logs)?;
    for ((shard, writer), factory) in shards.iter().zip(&mut writers).zip(&factories) {
        if writer.room_bytes() < start_bytes(shard)
            && let Some(number) = writer.wants_segment()
        {
            writer.offer_segment(factory.create(number)?);
        }
    }
    let decided = start(&mut shards, incarnation.number, &mut writers);
    resolved.committed += decided.committed;
    resolved.aborted += decided.aborted;
    in_parallel(&mut writers, LogWriter::sync_blocking)?;
    let pasts = pasts
        .into_iter()
        .zip(&writers)
        .map(|((end, past), writer)| CheckpointPast {
            // More than this start's own record: it has decided something.
            is_unchanged: past.is_unchanged && writer.last() == end.next(),
            ..past
        })
        .collect();
    let latest = shards.iter().map(Shard::latest).max().unwrap_or_default();
    let counts = total_counts(&shards);
    let partitions = shards
        .into_iter()
        .zip(writers)
        .map(|(shard, log)| Partition::new(shard, log, config.sync))
        .collect();
    let was_new = newest.is_none();
    Ok(Ready {
        partitions,
        factories,
        pasts,
        latest,
        counts,
        totals,
        resolved,
        was_new,
    })
}

/// Puts damaged checkpoints out of the way, so that none of them counts as one to fall back to, and removes unfinished
/// ones.
fn tidy_checkpoints(
    data: &DataDirectory,
    generation: GenerationEntry,
    found: &[FoundCheckpoints],
) -> Result<(), StorageError> {
    for (identity, found) in identities(generation).zip(found) {
        let directory = CheckpointDirectory::new(data, identity);
        directory.remove_unfinished()?;
        for &begins in &found.damaged {
            directory.set_aside(begins)?;
        }
    }
    Ok(())
}

fn open_writers(logs: Vec<RecoveredLog>) -> Result<(Vec<LogWriter<MappedSegment>>, Vec<SegmentFactory>), StartError> {
    let opened: Result<Vec<_>, _> = logs.into_iter().map(RecoveredLog::into_writer).collect();
    Ok(opened?.into_iter().unzip())
}

fn in_parallel<T: Send, E: Send>(items: &mut [T], work: impl Fn(&mut T) -> Result<(), E> + Sync) -> Result<(), E> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter_mut().map(|item| scope.spawn(move || work(item))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a panic ends the process"))
    })
}

/// The settings that can change, as the command line wants them at first.
fn settings(config: &ServeConfig) -> Result<Arc<Settings>, StartError> {
    let settings = Settings::default();
    settings.set_number(Number::ConnectionsMax, i64::from(config.max_connections));
    settings.set_number(Number::ProtectedMode, i64::from(config.protected_mode == YesNo::Yes));
    for setting in &config.set {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        settings.apply(&Settings::check(name.as_bytes(), value.as_bytes())?);
    }
    if let Some(password) = config.password()? {
        settings.set_password(&password)?;
    }
    Ok(Arc::new(settings))
}

fn fixed_settings(config: &ServeConfig) -> FixedSettings {
    FixedSettings {
        appendfsync: match config.sync {
            SyncMode::Always => "always",
            SyncMode::EverySecond => "everysec",
            SyncMode::No => "no",
        },
        bind: config.bind.to_string(),
        directory: config.data.display().to_string(),
    }
}

/// `--max-connections`, or as many as the limit on open files leaves.
fn connections_max(config: &ServeConfig) -> usize {
    let kept = FILES_KEPT + FILES_KEPT_PER_SHARD * u64::from(config.shard_count());
    let allowed = raise_open_files_limit().saturating_sub(kept).max(1);
    if u64::from(config.max_connections) > allowed {
        tracing::warn!(
            "at most {allowed} connections, not {}: the limit on open files is too low. Raise it: ulimit -n {}",
            config.max_connections,
            u64::from(config.max_connections) + kept
        );
    }
    u64::from(config.max_connections).min(allowed) as usize
}

type ShardThread = (ShardId, ExecutorJoinHandle<()>);

/// Starts the shards' threads, and returns once all of them serve.
fn spawn_shards(
    parts: impl Iterator<Item = ShardParts>,
    shard_count: u16,
    port: u16,
    settings: &Arc<Settings>,
    fixed: &FixedSettings,
) -> Result<Vec<ShardThread>, StartError> {
    let cores = allowed_cores();
    let run_id = run_id();
    let (ready, is_ready) = channel();
    let mut threads = Vec::new();
    for parts in parts {
        let shard = parts.mailboxes.own();
        let facts = SessionFacts {
            shard_count,
            port,
            run_id: run_id.clone(),
            settings: Arc::clone(settings),
            fixed: fixed.clone(),
        };
        let ready: Sender<()> = ready.clone();
        let thread = LocalExecutorBuilder::new(Placement::Fixed(cores[shard.index() % cores.len()]))
            .name("shard")
            .io_memory(EXECUTOR_IO_BYTES)
            .spawn(move || async move {
                let context = facts.context(shard, &parts.shared);
                match ShardLoop::new(parts, ShardMap::new(shard_count), context) {
                    Ok(shard_loop) => {
                        // Nobody waits for it any more only if another shard has failed.
                        let _ = ready.send(());
                        drop(ready);
                        shard_loop.run().await;
                    }
                    Err(error) => ExitCode::Machine.die(error),
                }
            })
            .map_err(|error| StartError::Executor {
                shard,
                error: error.to_string(),
            })?;
        threads.push((shard, thread));
    }
    drop(ready);
    // Fewer than all only if an executor could not be made: its thread says why.
    if is_ready.iter().take(usize::from(shard_count)).count() < usize::from(shard_count) {
        for (shard, thread) in threads.drain(..) {
            if let Err(error) = thread.join() {
                return Err(StartError::Executor {
                    shard,
                    error: error.to_string(),
                });
            }
        }
    }
    Ok(threads)
}

struct SessionFacts {
    shard_count: u16,
    port: u16,
    run_id: String,
    settings: Arc<Settings>,
    fixed: FixedSettings,
}

impl SessionFacts {
    fn context(self, shard: ShardId, shared: &Arc<Shared>) -> SessionContext {
        let facts = Box::new(Facts(Arc::clone(shared)));
        SessionContext {
            settings: self.settings,
            fixed: self.fixed,
            ..SessionContext::new(shard.0, self.shard_count, self.port, self.run_id, facts)
        }
    }
}

/// 40 hexadecimal digits that tell this start from any other.
fn run_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new();
    let [first, second, third] = [0, 1, 2].map(|part| random.hash_one((std::process::id(), part)));
    let digits = format!("{first:016x}{second:016x}{third:016x}");
    digits[..40].to_owned()
}

fn describe(counts: Counts, totals: RecoveryTotals, resolved: Resolved) -> String {
    let torn = if totals.torn_bytes > 0 {
        format!(", {} bytes of unfinished records cut off", totals.torn_bytes)
    } else {
        String::new()
    };
    let in_flight = if resolved == Resolved::default() {
        String::new()
    } else {
        format!(
            ", {} carts in flight completed and {} undone",
            resolved.committed, resolved.aborted
        )
    };
    let checkpoints = match totals.checkpoints {
        0 => String::new(),
        1 => format!("a checkpoint of {} MiB and ", totals.checkpoint_bytes >> 20),
        count => format!("{count} checkpoints of {} MiB and ", totals.checkpoint_bytes >> 20),
    };
    format!(
        "recovered {} items, {} orders ({} held) and {} keys from {checkpoints}{} records in {} MiB of log{torn}{in_flight}",
        counts.items,
        counts.orders,
        counts.held,
        counts.entries,
        totals.records,
        totals.bytes >> 20,
    )
}
