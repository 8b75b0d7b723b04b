//! A Redis or Valkey of one's own, on a free port: found, started, and never left behind.
//!
//! Used by the comparison and its tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::redis_client::RedisClient;
use crate::address::Address;
use crate::server_process::{ServerProcessError, SyncMode, free_port};

/// How long it may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often that is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Its messages, in its directory.
const LOG_FILE: &str = "redis.log";

/// How many bytes of its last messages are shown.
const SHOWN_BYTES_MAX: usize = 2_000;

/// Programs to look for, the first first.
pub const REDIS_NAMES: &[&str] = &["redis-server", "valkey-server"];

/// See [`REDIS_NAMES`].
pub const VALKEY_NAMES: &[&str] = &["valkey-server"];

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum RedisProcessError {
    /// None is installed.
    #[error(
        "no {} in PATH; install one (`apt install {}`), or say where it is with --redis-server PATH",
        names.join(" or "),
        names[0]
    )]
    NotFound {
        /// What was looked for.
        names: &'static [&'static str],
    },
    /// The program cannot be run.
    #[error("cannot run {}: {source}; give the program's own path with --redis-server", binary.display())]
    Spawn {
        /// The program.
        binary: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No port is free.
    #[error(transparent)]
    Port(#[from] ServerProcessError),
    /// It ended instead of serving.
    #[error("{} ended at its start ({status}). It said:\n{output}", binary.display())]
    Ended {
        /// The program.
        binary: PathBuf,
        /// How.
        status: ExitStatus,
        /// Its last messages.
        output: String,
    },
    /// It does not answer.
    #[error("{} did not answer within {} s. It said:\n{output}", binary.display(), START_TIMEOUT.as_secs())]
    Silent {
        /// The program.
        binary: PathBuf,
        /// Its last messages.
        output: String,
    },
}

/// The first of these programs in PATH.
pub fn find(names: &'static [&'static str]) -> Result<PathBuf, RedisProcessError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(&std::env::split_paths(&path).collect::<Vec<_>>(), names)
}

fn find_in(directories: &[PathBuf], names: &'static [&'static str]) -> Result<PathBuf, RedisProcessError> {
    names
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
        .find(|candidate| candidate.is_file())
        .ok_or(RedisProcessError::NotFound { names })
}

/// A running one. Killed when dropped: its data is a temporary directory's.
#[derive(Debug)]
pub struct RedisProcess {
    child: Child,
    address: Address,
}

impl RedisProcess {
    /// Starts it with an append-only file in `directory`, and waits until it answers.
    ///
    /// No snapshots and no rewriting of the file: both would be a second process's work in the middle of a run.
    pub fn start(binary: &Path, directory: &Path, sync: SyncMode) -> Result<Self, RedisProcessError> {
        Self::start_with(binary, directory, sync, &[])
    }

    /// The same, with options of its own: `--databases 1`.
    pub fn start_with(
        binary: &Path,
        directory: &Path,
        sync: SyncMode,
        options: &[&str],
    ) -> Result<Self, RedisProcessError> {
        let address = Address::local(free_port()?);
        let child = Command::new(binary)
            .args(["--port", &address.port.to_string(), "--bind", &address.host])
            .arg("--dir")
            .arg(directory)
            .args(["--logfile", LOG_FILE, "--daemonize", "no", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", sync.as_str()])
            .args(["--auto-aof-rewrite-percentage", "0"])
            .args(options)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| RedisProcessError::Spawn {
                binary: binary.to_owned(),
                source,
            })?;
        let mut server = Self { child, address };
        server.wait_until_it_answers(binary, directory)?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self, binary: &Path, directory: &Path) -> Result<(), RedisProcessError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(RedisProcessError::Ended {
                    binary: binary.to_owned(),
                    status,
                    output: last_messages(directory),
                });
            }
            let answer = RedisClient::connect(&self.address).and_then(|mut client| client.call(&["PING"]));
            if answer.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(RedisProcessError::Silent {
                    binary: binary.to_owned(),
                    output: last_messages(directory),
                });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Where it listens.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

fn last_messages(directory: &Path) -> String {
    let bytes = std::fs::read(directory.join(LOG_FILE)).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN_BYTES_MAX)..]).into_owned()
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        // Both fail only where the process has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_redis_is_installed_the_error_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let error = find_in(&[empty.path().to_owned()], REDIS_NAMES)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("apt install redis-server") && error.contains("--redis-server"),
            "{error}"
        );
    }
}
