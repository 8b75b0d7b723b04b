//! The command line and its settings: parsed once by `main`, then only read.
//!
//! Every flag can also be given as an environment variable, `CARTWRIGHT_` and its name.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::engine::SHARD_COUNT_MAX;
use crate::log::{SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_FULL_PAYLOAD_MIN, SEGMENT_BYTES_MAX};

const MIB: u64 = 1 << 20;

/// `--checkpoint-mb` unless given.
const CHECKPOINT_MB_DEFAULT: u64 = 64;

/// Largest `--checkpoint-mb`: a tebibyte, beyond any log.
const CHECKPOINT_MB_MAX: u64 = 1 << 20;

/// Smallest and largest `--segment-mb`: room for several of the largest records, and what recovery reads at once.
const SEGMENT_MB_MIN: u64 = 4 * SEGMENT_BYTES_FULL_PAYLOAD_MIN.div_ceil(MIB);
const SEGMENT_MB_MAX: u64 = SEGMENT_BYTES_MAX / MIB;

/// When the log is synced, and so what survives a power cut. A killed process loses nothing in any mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SyncMode {
    /// Before any answer that depends on it leaves.
    #[default]
    Always,
    /// Once a second, in the background: a power cut may take the last second.
    #[value(name = "everysec")]
    EverySecond,
    /// When the server is stopped, and whenever the system pleases.
    No,
}

impl std::fmt::Display for SyncMode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        })
    }
}

/// `cartwright serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeConfig {
    /// Directory of the log and the checkpoints; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "cartwright-data", env = "CARTWRIGHT_DATA")]
    pub data: PathBuf,

    /// Port for both protocols; 0 takes a free one
    #[arg(long, default_value_t = 6379, env = "CARTWRIGHT_PORT")]
    pub port: u16,

    /// Address to listen on; 0.0.0.0 for all of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", env = "CARTWRIGHT_BIND")]
    pub bind: IpAddr,

    /// How many shards, each with a thread of its own [default: one a core]
    #[arg(long, value_name = "N", env = "CARTWRIGHT_SHARDS",
          value_parser = clap::value_parser!(u16).range(1..=SHARD_COUNT_MAX as i64))]
    pub shards: Option<u16>,

    /// When the log is synced to disk
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, env = "CARTWRIGHT_SYNC")]
    pub sync: SyncMode,

    /// Most client connections at a time, over all shards
    #[arg(long, value_name = "N", default_value_t = 10_000, env = "CARTWRIGHT_MAX_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Size of a log segment, in MiB
    #[arg(long, value_name = "MIB", default_value_t = SEGMENT_BYTES_DEFAULT / MIB, env = "CARTWRIGHT_SEGMENT_MB",
          value_parser = clap::value_parser!(u64).range(SEGMENT_MB_MIN..=SEGMENT_MB_MAX))]
    pub segment_mb: u64,

    /// How much log a shard writes before it takes a checkpoint, in MiB; more where the last checkpoint was larger
    #[arg(long, value_name = "MIB", default_value_t = CHECKPOINT_MB_DEFAULT, env = "CARTWRIGHT_CHECKPOINT_MB",
          value_parser = clap::value_parser!(u64).range(1..=CHECKPOINT_MB_MAX))]
    pub checkpoint_mb: u64,

    /// The password that clients have to say; every user of this machine can read it in the list of processes
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "CARTWRIGHT_REQUIREPASS",
        hide_env_values = true,
        conflicts_with = "requirepass_file"
    )]
    pub requirepass: Option<String>,

    /// A file whose first line is the password
    #[arg(long, value_name = "FILE", env = "CARTWRIGHT_REQUIREPASS_FILE")]
    pub requirepass_file: Option<PathBuf>,

    /// Whether without a password only clients of this machine are served
    #[arg(
        long,
        value_enum,
        value_name = "YES_NO",
        default_value_t,
        env = "CARTWRIGHT_PROTECTED_MODE"
    )]
    pub protected_mode: YesNo,

    /// A setting of CONFIG SET to begin with; may be given several times
    #[arg(long, value_name = "NAME=VALUE", env = "CARTWRIGHT_SET", value_delimiter = ';')]
    pub set: Vec<String>,
}

/// A switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    /// On.
    #[default]
    Yes,
    /// Off.
    No,
}

/// Why there is no password though one is wanted.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password from {path}: {error}. Check --requirepass-file")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
    /// An empty password would let everybody in.
    #[error("the password is empty, which would let everybody in. Leave it out to mean that")]
    Empty,
}

impl ServeConfig {
    /// How many shards to run.
    pub fn shard_count(&self) -> u16 {
        self.shards
            .unwrap_or_else(|| (core_count().min(usize::from(SHARD_COUNT_MAX))) as u16)
    }

    /// The password that clients have to say, if one is set.
    pub fn password(&self) -> Result<Option<Vec<u8>>, PasswordError> {
        let password = match (&self.requirepass, &self.requirepass_file) {
            (Some(password), _) => password.clone().into_bytes(),
            (None, Some(path)) => {
                let file = std::fs::read(path).map_err(|error| PasswordError::Unreadable {
                    path: path.clone(),
                    error,
                })?;
                let line = file.split(|&byte| byte == b'\n').next().unwrap_or_default();
                line.strip_suffix(b"\r").unwrap_or(line).to_vec()
            }
            (None, None) => return Ok(None),
        };
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        Ok(Some(password))
    }

    /// Least bytes of a shard's log between two checkpoints.
    pub const fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint_mb * MIB
    }

    /// Bytes of a segment.
    pub const fn segment_bytes(&self) -> u64 {
        self.segment_mb * MIB
    }
}

/// `cartwright verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyConfig {
    /// Directory of the log
    #[arg(long, value_name = "DIR", default_value = "cartwright-data", env = "CARTWRIGHT_DATA")]
    pub data: PathBuf,
}

/// How many cores this process may use.
pub fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Serve {
        #[command(flatten)]
        config: ServeConfig,
    }

    fn parse(arguments: &[&str]) -> Result<ServeConfig, clap::Error> {
        Ok(Serve::try_parse_from([&["serve"], arguments].concat())?.config)
    }

    #[test]
    fn the_defaults_are_safe_and_local() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.sync, config.port), (SyncMode::Always, 6379));
        assert!(config.bind.is_loopback());
        assert_eq!(config.checkpoint_bytes(), 64 << 20);
        assert_eq!(config.segment_bytes(), SEGMENT_BYTES_DEFAULT);
        assert!((1..=SHARD_COUNT_MAX).contains(&config.shard_count()));
    }

    #[test]
    fn settings_outside_their_limits_are_refused() {
        let too_small = (SEGMENT_MB_MIN - 1).to_string();
        for bad in [
            ["--shards", "0"],
            ["--shards", "129"],
            ["--sync", "maybe"],
            ["--max-connections", "0"],
            ["--checkpoint-mb", "0"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        assert!(parse(&["--segment-mb", &too_small]).is_err());
        assert_eq!(parse(&["--sync", "everysec"]).unwrap().sync, SyncMode::EverySecond);
    }
}
