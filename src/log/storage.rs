//! File operations of the log that fail with what was tried on what; directories made and named durably.
//!
//! Everything in this folder that touches a file uses it. Knows no file's name but the suffix of those not yet complete.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::Files;

/// What the name of a file not yet complete ends in.
pub(super) const TEMPORARY_SUFFIX: &str = ".new";

/// A file operation that failed.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The disk, a quota or a file size limit allows no more. Nothing was lost; can be tried again later.
    #[error("cannot {action} {}: {source}; free or add disk space", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else. After a failed sync or write what is on disk is unknown: the process must end.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StorageError {
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether the disk has no more room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// Adds to an I/O error what was tried on what.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::new(action, path, source))
    }
}

/// Makes names in `directory` durable.
pub(super) fn sync_directory(files: &impl Files, directory: &Path) -> Result<(), StorageError> {
    files.sync_directory(directory).context("sync", directory)
}

/// Makes a directory and its name durable; it may exist.
pub(super) fn make_directory(files: &impl Files, directory: &Path) -> Result<(), StorageError> {
    match files.create_directory(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StorageError::new("create", directory, error));
        }
        _ => {}
    }
    match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(files, Path::new(".")),
        Some(parent) => sync_directory(files, parent),
        None => Ok(()),
    }
}
