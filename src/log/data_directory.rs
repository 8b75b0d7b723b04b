//! The data directory: who may use it, what it holds, and how a start begins.
//!
//! Opened once at start, before anything else, and kept while the process uses it: the lock goes with it. Knows where
//! logs are, but never reads a record.
//!
//! ```text
//! DIR/LOCK       locked while a process uses the directory; holds the server's process id
//! DIR/MANIFEST   see [`super::Manifest`]
//! DIR/log/generation-00001/shard-000   see [`super::LogDirectory`]
//! ```

use std::fs::TryLockError;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{FileHandle, Files, Lock, Open, PathKind, SystemFiles};
use super::log_directory::{LogDirectory, generation_path, is_unused, logs_path};
use super::manifest::{GenerationEntry, Manifest, ManifestFault};
use super::segment::{Generation, LogIdentity, SegmentNumber};
use super::segment_factory::SegmentFactory;
use super::storage::{Context, StorageError, TEMPORARY_SUFFIX, make_directory, sync_directory};
use cartwright_core::ids::{SHARD_COUNT_MAX, ShardId};
use cartwright_core::mutation::{Mutation, is_on};

const LOCK: &str = "LOCK";
const MANIFEST: &str = "MANIFEST";

/// A manifest is far smaller; a file larger than this is none.
const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// The path, or a part of it, is a file.
    #[error("{} is not a directory; name one with --data, or a path where one can be created", .0.display())]
    NotADirectory(PathBuf),
    /// The system refuses access.
    #[error("no permission to {action} {}; run as its owner, or give this user read and write access", path.display())]
    NoPermission {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Another user's data: files made now could not be used by that user afterwards.
    #[error("{} belongs to user {owner}, and this process runs as user {user}; run as user {owner}, or change the owner of the whole directory", path.display())]
    WrongOwner {
        /// The manifest.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Locked.
    #[error("{} is in use by another process{}; stop it first, or use another directory", path.display(), holder(*.process_id))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What the lock file names: the server that uses it, unless it only is being verified.
        process_id: Option<u32>,
    },
    /// Nothing to read.
    #[error("{} holds no data of this server; check the path", .0.display())]
    Empty(PathBuf),
    /// Logs, but nothing that says which.
    #[error("{} holds logs but no MANIFEST; put that file back from a copy, as without it the logs cannot be told from leftovers", .0.display())]
    ManifestMissing(PathBuf),
    /// The manifest cannot be used.
    #[error("cannot use {}: {fault}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        fault: ManifestFault,
    },
    /// A log with records that the manifest does not know.
    #[error("{} holds records, but MANIFEST does not list it: the manifest is older than the logs; put back the newer one, or move the generation away", .0.display())]
    UnlistedGeneration(PathBuf),
    /// Any other failure.
    #[error(transparent)]
    Storage(StorageError),
}

fn holder(process_id: Option<u32>) -> String {
    process_id.map_or_else(String::new, |process_id| format!(" (LOCK names process {process_id})"))
}

impl From<StorageError> for DataError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io { action, path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::NoPermission { action, path }
            }
            StorageError::Io { path, source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
                Self::NotADirectory(path)
            }
            error => Self::Storage(error),
        }
    }
}

/// One start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// Counts up by one with each start.
    pub number: u32,
    /// The generation that new records go to.
    pub generation: Generation,
    /// Whether this start began the generation, so its logs are empty.
    pub is_new_generation: bool,
}

/// A data directory, locked.
#[derive(Debug)]
pub struct DataDirectory<F: Files = SystemFiles> {
    files: F,
    path: PathBuf,
    manifest: Manifest,
    lock: F::File,
    is_writable: bool,
}

impl DataDirectory {
    /// Opens a directory to serve from it, and locks all others out. Creates it if it is not there.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_in(SystemFiles, path)
    }

    /// Opens a directory to read it, along with other readers but never while a server runs on it. Changes nothing.
    pub fn open_read_only(path: &Path) -> Result<Self, DataError> {
        Self::open_read_only_in(SystemFiles, path)
    }
}

impl<F: Files> DataDirectory<F> {
    /// As [`DataDirectory::open`], on any file system.
    pub fn open_in(files: F, path: &Path) -> Result<Self, DataError> {
        create_with_parents(&files, path).map_err(|error| match error {
            // Whichever directory above it is none: it is this one that was asked for.
            DataError::NotADirectory(_) => DataError::NotADirectory(path.to_owned()),
            error => error,
        })?;
        require_directory(&files, path)?;
        let lock_path = path.join(LOCK);
        let mut lock = files.open(&lock_path, Open::Create).context("open", &lock_path)?;
        locked(path, &mut lock, Lock::Exclusive)?;
        lock.set_size(0).context("write", &lock_path)?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes())
            .context("write", &lock_path)?;

        let manifest = if let Some(manifest) = read_manifest(&files, path)? {
            manifest
        } else {
            // Written before any log is made, so that logs without a manifest always mean that one was lost.
            let manifest = Manifest::default();
            write_manifest(&files, path, &manifest)?;
            manifest
        };
        refuse_unlisted_generations(&files, path, &manifest)?;
        remove_dropped_generations(&files, path, &manifest)?;
        Ok(Self {
            files,
            path: path.to_owned(),
            manifest,
            lock,
            is_writable: true,
        })
    }

    /// As [`DataDirectory::open_read_only`], on any file system.
    pub fn open_read_only_in(files: F, path: &Path) -> Result<Self, DataError> {
        require_directory(&files, path)?;
        let lock_path = path.join(LOCK);
        let mut lock = match files.open(&lock_path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DataError::Empty(path.to_owned())),
            lock => lock.context("open", &lock_path)?,
        };
        locked(path, &mut lock, Lock::Shared)?;
        let manifest = read_manifest(&files, path)?.ok_or_else(|| DataError::Empty(path.to_owned()))?;
        refuse_unlisted_generations(&files, path, &manifest)?;
        Ok(Self {
            files,
            path: path.to_owned(),
            manifest,
            lock,
            is_writable: false,
        })
    }

    /// The file system that it is in.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the log `identity`, whether it is there or not.
    pub fn log(&self, identity: LogIdentity) -> LogDirectory<F> {
        LogDirectory::new(self.files.clone(), &self.path, identity)
    }

    /// Whether it was opened to serve from it.
    pub fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Counts this start, durably. With the number of shards of the newest generation, new records go on in it; with
    /// another (1 to [`SHARD_COUNT_MAX`]), a new generation begins, and the first segment of each of its logs, of
    /// `segment_bytes`, is made here. Every record of the older generations must be on disk before: see
    /// [`super::RecoveredLog::close`].
    ///
    /// Only on a directory opened by [`Self::open`].
    pub fn begin_incarnation(&mut self, shard_count: u16, segment_bytes: u64) -> Result<Incarnation, DataError> {
        assert!(self.is_writable, "a directory opened to be read is never written");
        assert!(
            (1..=SHARD_COUNT_MAX).contains(&shard_count),
            "a server has 1 to {SHARD_COUNT_MAX} shards"
        );
        let mut manifest = self.manifest.clone();
        manifest.incarnation = manifest
            .incarnation
            .checked_add(1)
            .expect("nobody starts a server 2^32 times");
        let newest = manifest.generations.last().copied();
        let is_new_generation = newest.is_none_or(|newest| newest.shard_count != shard_count);
        if is_new_generation {
            let entry = GenerationEntry {
                number: manifest.next_generation(),
                shard_count,
            };
            self.create_generation(entry, segment_bytes)?;
            manifest.generations.push(entry);
        }
        write_manifest(&self.files, &self.path, &manifest)?;
        self.manifest = manifest;
        let newest = self
            .manifest
            .generations
            .last()
            .expect("one was added if there was none");
        Ok(Incarnation {
            number: self.manifest.incarnation,
            generation: newest.number,
            is_new_generation,
        })
    }

    /// Removes all generations but the newest; returns how many those were. Every shard of the newest must have a whole
    /// checkpoint: without the others it cannot be recovered from its logs alone.
    ///
    /// Only on a directory opened by [`Self::open`]. A crash in between, or an error, leaves files that the next start, or
    /// another call, removes.
    pub fn drop_older_generations(&mut self) -> Result<usize, DataError> {
        assert!(self.is_writable, "a directory opened to be read is never written");
        let mut manifest = self.manifest.clone();
        let older = manifest.generations.len().saturating_sub(1);
        if older > 0 {
            manifest.generations.drain(..older);
            // First, so that no generation is ever listed that is only partly there.
            write_manifest(&self.files, &self.path, &manifest)?;
            self.manifest = manifest;
        }
        remove_dropped_generations(&self.files, &self.path, &self.manifest)?;
        Ok(older)
    }

    /// Makes the logs of a generation before the manifest lists it: a listed log always has its first segment.
    fn create_generation(&self, entry: GenerationEntry, segment_bytes: u64) -> Result<(), DataError> {
        let GenerationEntry {
            number: generation,
            shard_count,
        } = entry;
        let generation_directory = generation_path(&self.path, generation);
        make_directory(&self.files, &logs_path(&self.path))?;
        if exists(&self.files, &generation_directory) {
            // Left by a start that failed before it was listed; that it holds no record was checked when opening.
            self.files
                .remove_directory(&generation_directory)
                .context("remove the unused generation", &generation_directory)?;
        }
        make_directory(&self.files, &generation_directory)?;
        let shards = (0..shard_count).map(ShardId).collect();
        let create = |shard| self.create_log(generation, shard, shard_count, segment_bytes);
        let made: Result<(), _> = self.files.in_parallel(shards, create).into_iter().collect();
        Ok(made?)
    }

    fn create_log(
        &self,
        generation: Generation,
        shard: ShardId,
        shard_count: u16,
        segment_bytes: u64,
    ) -> Result<(), StorageError> {
        let directory = self.log(LogIdentity {
            generation,
            shard,
            shard_count,
        });
        directory.create()?;
        SegmentFactory::new(directory, segment_bytes)
            .create(SegmentNumber::FIRST)
            .map(drop)
    }
}

impl<F: Files> Drop for DataDirectory<F> {
    fn drop(&mut self) {
        if self.is_writable {
            // Only tidies: what counts is the lock itself.
            let _ = self.lock.set_size(0);
        }
        // Closing the file would do, but for a child process that was forked and has yet to run its program: until then
        // it has the file open, too.
        let _ = self.lock.unlock();
    }
}

fn exists(files: &impl Files, path: &Path) -> bool {
    files.kind(path).is_ok()
}

/// Makes a directory, and those above it, as far as they are not there; durably.
fn create_with_parents(files: &impl Files, path: &Path) -> Result<(), DataError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if exists(files, path) {
        // Whoever made it may have ended before its name was on disk. In a directory that this process may not open, or
        // that cannot be written (a mount point in a read-only system), somebody else made it.
        return match sync_directory(files, parent) {
            Err(StorageError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::ReadOnlyFilesystem
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            synced => Ok(synced?),
        };
    }
    create_with_parents(files, parent)?;
    Ok(make_directory(files, path)?)
}

fn require_directory(files: &impl Files, path: &Path) -> Result<(), DataError> {
    let kind = match files.kind(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DataError::Empty(path.to_owned())),
        kind => kind.context("look at", path)?,
    };
    if kind != PathKind::Directory {
        return Err(DataError::NotADirectory(path.to_owned()));
    }
    // Also tells at once whether its files may be reached at all.
    files.list(path).context("list", path)?;
    Ok(())
}

fn locked(path: &Path, lock: &mut impl FileHandle, how: Lock) -> Result<(), DataError> {
    match lock.try_lock(how) {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let process_id = lock
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            Err(DataError::InUse {
                path: path.to_owned(),
                process_id,
            })
        }
        Err(TryLockError::Error(error)) => Err(StorageError::new("lock", &path.join(LOCK), error).into()),
    }
}

/// `None` if the directory holds nothing yet.
fn read_manifest(files: &impl Files, path: &Path) -> Result<Option<Manifest>, DataError> {
    let manifest_path = path.join(MANIFEST);
    let file = match files.open(&manifest_path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if exists(files, &logs_path(path)) {
                Err(DataError::ManifestMissing(path.to_owned()))
            } else {
                Ok(None)
            };
        }
        file => file.context("open", &manifest_path)?,
    };
    let owner = file.owner().context("look at", &manifest_path)?;
    // Where it cannot be told, the check is left out.
    if let Some(user) = files.user()
        && owner != user
    {
        return Err(DataError::WrongOwner {
            path: manifest_path,
            owner,
            user,
        });
    }
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES_MAX)
        .read_to_end(&mut bytes)
        .context("read", &manifest_path)?;
    Manifest::decode(&bytes).map(Some).map_err(|fault| DataError::Manifest {
        path: manifest_path,
        fault,
    })
}

/// Replaces the manifest: after a crash there is the old one or the new one.
fn write_manifest(files: &impl Files, path: &Path, manifest: &Manifest) -> Result<(), DataError> {
    let manifest_path = path.join(MANIFEST);
    let temporary = path.join(format!("{MANIFEST}{TEMPORARY_SUFFIX}"));
    let mut file = files.open(&temporary, Open::Replace).context("create", &temporary)?;
    file.write_all(&manifest.encode()).context("write", &temporary)?;
    file.sync().context("sync", &temporary)?;
    files
        .rename(&temporary, &manifest_path)
        .context("replace", &manifest_path)?;
    if !is_on(Mutation::SkipManifestSync) {
        sync_directory(files, path)?;
    }
    Ok(())
}

/// An unlisted generation without a record is left from a start that failed; one with records means that the manifest is
/// not theirs.
fn refuse_unlisted_generations(files: &impl Files, path: &Path, manifest: &Manifest) -> Result<(), DataError> {
    let logs = logs_path(path);
    let generations = match files.list(&logs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        generations => generations.context("list", &logs)?,
    };
    let listed: Vec<_> = manifest
        .generations
        .iter()
        .map(|generation| generation_path(path, generation.number))
        .collect();
    for generation in generations {
        if listed.contains(&generation) || !is_directory(files, &generation) || is_dropped(&generation, manifest) {
            continue;
        }
        for shard in files.list(&generation).context("list", &generation)? {
            if is_directory(files, &shard) && !is_unused(files, &shard)? {
                return Err(DataError::UnlistedGeneration(generation));
            }
        }
    }
    Ok(())
}

fn is_directory(files: &impl Files, path: &Path) -> bool {
    matches!(files.kind(path), Ok(PathKind::Directory))
}

/// Whether this is the directory of a generation that checkpoints of a later one have made superfluous.
fn is_dropped(directory: &Path, manifest: &Manifest) -> bool {
    let number = directory
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix("generation-")?.parse().ok());
    let first = manifest.generations.first().map(|first| first.number.0);
    matches!((number, first), (Some(number), Some(first)) if (1..first).contains(&number))
}

/// Removes what is left of generations that the manifest no longer lists.
fn remove_dropped_generations(files: &impl Files, path: &Path, manifest: &Manifest) -> Result<(), StorageError> {
    let logs = logs_path(path);
    let generations = match files.list(&logs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        generations => generations.context("list", &logs)?,
    };
    for generation in generations {
        if is_dropped(&generation, manifest) {
            files
                .remove_directory(&generation)
                .context("remove the superfluous generation", &generation)?;
            sync_directory(files, &logs)?;
        }
    }
    Ok(())
}
