//! Starting and running the server: checks, one thread a shard, and the wait for their end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::checkpoint_keeper::CheckpointKeeper;
use super::checkpoint_maker::CheckpointMaker;
use super::checkpointing::Checkpointing;
use super::clock::Clock;
use super::cores::allowed_cores;
use super::exit::ExitCode;
use super::mailbox::Mailboxes;
use super::prepare::{Prepared, Shape, prepare};
use super::recovery::{RecoveryTotals, with_progress};
use super::segment_maker::SegmentMaker;
use super::shard_loop::{ShardLoop, ShardParts};
use super::shared::{Facts, Shared};
use super::start_error::StartError;
use super::stop::stop_on_signals;
use super::turn::CoreParts;
use crate::config::{ServeConfig, SyncMode, YesNo, core_count};
use crate::engine::recovery::Resolved;
use crate::engine::{Counts, EngineLimits, ShardId, ShardMap};
use crate::log::{DataDirectory, SegmentFactory};
use crate::net::diagnosis::check_machine;
use crate::net::listen;
use crate::net::open_files::raise_open_files_limit;
use crate::session::settings::Number;
use crate::session::{FixedSettings, SessionContext, Settings};

/// Memory of each executor's reactor for file I/O, which shards do not do through it.
const EXECUTOR_IO_BYTES: usize = 64 << 10;

/// Files that the server has open beside connections: a few, and some for each shard.
const FILES_KEPT: u64 = 64;
const FILES_KEPT_PER_SHARD: u64 = 24;

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
    let Prepared {
        partitions,
        factories,
        pasts,
        latest,
        counts,
        totals,
        resolved,
        was_new,
    } = with_progress(|progress| {
        let shape = Shape {
            shard_count,
            segment_bytes: config.segment_bytes(),
            limits: EngineLimits::default(),
            sync: config.sync,
        };
        prepare(&mut data, &shape, progress)
    })?;

    let address = listener.local_addr().map_err(StartError::Thread)?;
    let shared = Arc::new(Shared::new(shard_count, Clock::start(latest))?);
    stop_on_signals(Arc::clone(&shared)).map_err(StartError::Thread)?;
    let maker = SegmentMaker::start(Arc::clone(&shared.doorbells)).map_err(StartError::Thread)?;
    let keeper = CheckpointKeeper::new(data, factories.iter().map(SegmentFactory::identity), &pasts);
    let mut checkpoint_maker = CheckpointMaker::start(keeper, Arc::clone(&shared)).map_err(StartError::Thread)?;
    let connections_max = connections_max(config);
    let map = ShardMap::new(shard_count);
    let mut listener = Some(listener);
    let parts = Mailboxes::for_all(&shared.doorbells)
        .into_iter()
        .zip(partitions)
        .zip(factories)
        .zip(pasts)
        .map(|(((mailboxes, partition), factory), past)| ShardParts {
            core: CoreParts {
                checkpointing: Checkpointing::new(&partition, map, config.checkpoint_bytes(), past),
                partition,
                board: Arc::clone(&shared.board),
                connections_max,
            },
            checkpoints: checkpoint_maker.orders_of(mailboxes.own()),
            segments: maker.orders_of(mailboxes.own(), factory),
            mailboxes,
            shared: Arc::clone(&shared),
            listener: listener.take(),
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
    let draw = || getrandom::u64().expect("the system gives random numbers to whoever asks");
    let digits = format!("{:016x}{:016x}{:016x}", draw(), draw(), draw());
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
        counts.books.shop.items,
        counts.books.shop.orders,
        counts.books.shop.held,
        counts.books.entries.entries,
        totals.records,
        totals.bytes >> 20,
    )
}
