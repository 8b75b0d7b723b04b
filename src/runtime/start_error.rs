//! Why a server does not start, and the exit code that says so.
//!
//! Made by everything that a start does, and by [`super::verify()`], which reads what a start would.

use super::exit::ExitCode;
use super::recovery::{RecoveryError, ReplayFault};
use crate::config::PasswordError;
use crate::engine::ShardId;
use crate::log::{DataError, LogError, ManifestFault, StorageError};
use crate::net::diagnosis::MachineError;
use crate::net::{ListenError, RingError};
use crate::session::settings::SettingError;

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
    Log(#[from] LogError<ReplayFault>),
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
            Self::Log(LogError::Refused { .. }) | Self::Recovery(RecoveryError::Log(LogError::Refused { .. })) => {
                ExitCode::Inapplicable
            }
            Self::Log(_) | Self::Recovery(_) => ExitCode::Damage,
        }
    }
}
