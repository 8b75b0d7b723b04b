//! What the system says of a process on this machine: its CPU time, its memory, its command line.
//!
//! Called before and after each measured window. Reads `/proc` and never signals anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is none with this id.
    #[error(
        "there is no process {process_id} on this machine: {source}; `--server-pid` takes the id of the server's \
         process, which `pgrep -a cartwright` or `pgrep -a redis-server` prints"
    )]
    Missing {
        /// Which.
        process_id: u32,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system's files look as none is known to.
    #[error("{} cannot be understood; run without --server-pid", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
    },
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All pages it has in memory, those of mapped files (a log) among them.
    pub resident: u64,
    /// Of these, what is its own and no file's.
    pub anonymous: u64,
}

/// A process, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    id: u32,
}

impl Process {
    /// The process with this id, which must exist.
    pub fn of(process_id: u32) -> Result<Self, ProcessError> {
        let process = Self { id: process_id };
        process.cpu_time()?;
        Ok(process)
    }

    /// Its id.
    pub const fn id(self) -> u32 {
        self.id
    }

    fn path(self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.id.to_string()).join(file)
    }

    fn read(self, file: &str) -> Result<String, ProcessError> {
        let bytes = std::fs::read(self.path(file)).map_err(|source| ProcessError::Missing {
            process_id: self.id,
            source,
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// CPU time of all its threads since its start, those of the kernel on its behalf among them, to a tick.
    pub fn cpu_time(self) -> Result<Duration, ProcessError> {
        let text = self.read("stat")?;
        ticks_in_stat(&text)
            .map(|ticks| Duration::from_nanos(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second())))
            .ok_or_else(|| ProcessError::Unreadable {
                path: self.path("stat"),
            })
    }

    /// Its memory.
    pub fn memory(self) -> Result<Memory, ProcessError> {
        let text = self.read("status")?;
        let bytes_of = |name: &str| bytes_in_status(&text, name);
        match (bytes_of("VmRSS:"), bytes_of("RssAnon:")) {
            (Some(resident), Some(anonymous)) => Ok(Memory { resident, anonymous }),
            _ => Err(ProcessError::Unreadable {
                path: self.path("status"),
            }),
        }
    }

    /// Its name, at most 15 bytes of it.
    pub fn name(self) -> Result<String, ProcessError> {
        Ok(self.read("comm")?.trim().to_owned())
    }

    /// Its command line, word by word.
    pub fn command_line(self) -> Result<Vec<String>, ProcessError> {
        let text = self.read("cmdline")?;
        Ok(text.split_terminator('\0').map(str::to_owned).collect())
    }
}

/// User and system time of `/proc/PID/stat`: fields 14 and 15. The name before them may hold spaces and parentheses.
fn ticks_in_stat(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn bytes_in_status(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks_in_stat(text), Some(300));
        assert_eq!(ticks_in_stat("42 (short) S 1"), None);
    }

    #[test]
    fn cpu_time_that_is_spent_is_seen() {
        let process = Process::of(std::process::id()).unwrap();
        let before = process.cpu_time().unwrap();
        let mut random = crate::random::Random::new(1);
        // By its own CPU time, however slow the machine: the loop ends because time is spent, not because it passes.
        let mut sum = 0u64;
        while process.cpu_time().unwrap() < before + Duration::from_millis(50) {
            sum = (0..100_000).fold(sum, |sum, _| sum ^ random.bits());
        }
        std::hint::black_box(sum);
        assert!(process.memory().unwrap().resident >= process.memory().unwrap().anonymous);
    }

    #[test]
    fn memory_that_is_taken_is_seen() {
        // Far more than tests beside this one give back meanwhile.
        const TAKEN_BYTES: usize = 256 << 20;
        let process = Process::of(std::process::id()).unwrap();
        let before = process.memory().unwrap();
        let taken = vec![1u8; TAKEN_BYTES];
        let after = process.memory().unwrap();
        std::hint::black_box(&taken);
        assert!(
            after.anonymous > before.anonymous + TAKEN_BYTES as u64 / 2,
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_with_the_remedy() {
        let error = Process::of(u32::MAX - 7).unwrap_err().to_string();
        assert!(error.contains("--server-pid") && error.contains("pgrep"), "{error}");
    }
}
