//! What is wrong with this machine, and what to do about it: said before the server starts, or when a ring fails.
//!
//! Reads `/proc`; changes nothing.

use std::io;

/// The first kernel with everything the ring uses: deferred task work (6.1), multishot receive (6.0).
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// Locked memory that the reactor of a server's shard asks for, in bytes.
pub const MEMLOCK_MIN_BYTES: u64 = 512 << 10;

/// What stands in the way of serving.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The kernel has not all that is used.
    #[error(
        "Linux {release} runs here, and {}.{} or newer is needed (io_uring with multishot receive and deferred task \
         work). Update the kernel",
        KERNEL_MIN.0,
        KERNEL_MIN.1
    )]
    KernelTooOld {
        /// As the kernel gives it.
        release: String,
    },
    /// `ulimit -l`.
    #[error(
        "the limit on locked memory is {} KiB, and {} KiB are needed. Raise it: `ulimit -l unlimited`, \
         LimitMEMLOCK=infinity in a systemd unit, or --ulimit memlock=-1 with docker",
        limit_bytes / 1024,
        MEMLOCK_MIN_BYTES / 1024
    )]
    LockedMemory {
        /// The soft limit.
        limit_bytes: u64,
    },
}

/// Checks kernel and limits. What cannot be read is taken to be fine: the ring's own set-up has the last word.
pub fn check_machine() -> Result<(), MachineError> {
    let release = kernel_release();
    if let Some(version) = release.as_deref().and_then(parse_release)
        && version < KERNEL_MIN
    {
        return Err(MachineError::KernelTooOld {
            release: release.unwrap_or_default(),
        });
    }
    match limit("Max locked memory") {
        Some(limit_bytes) if limit_bytes < MEMLOCK_MIN_BYTES => Err(MachineError::LockedMemory { limit_bytes }),
        _ => Ok(()),
    }
}

/// What to do about a ring that could not be set up.
pub fn io_uring_advice(error: &io::Error) -> String {
    let release = kernel_release().unwrap_or_else(|| "unknown".into());
    match error.raw_os_error() {
        Some(libc::ENOSYS) => format!(
            "This kernel ({release}) has no io_uring, or a sandbox such as gVisor hides it. Run on Linux {}.{} or \
             newer, outside such a sandbox",
            KERNEL_MIN.0, KERNEL_MIN.1
        ),
        Some(libc::EPERM | libc::EACCES) => {
            let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            match disabled.trim() {
                "" | "0" => "It is forbidden here, most likely by a container's seccomp profile. Allow the io_uring \
                             system calls: with docker, --security-opt seccomp=unconfined or a profile that lists them"
                    .into(),
                level => format!(
                    "It is forbidden by kernel.io_uring_disabled={level}. Allow it: sysctl kernel.io_uring_disabled=0"
                ),
            }
        }
        Some(libc::EINVAL) => format!(
            "This kernel ({release}) lacks a feature that is used. Run on Linux {}.{} or newer",
            KERNEL_MIN.0, KERNEL_MIN.1
        ),
        Some(libc::ENOMEM) => "Raise the limit on locked memory (ulimit -l) or start with fewer --shards".into(),
        Some(libc::EMFILE | libc::ENFILE) => "Raise the limit on open files (ulimit -n)".into(),
        _ => format!("The kernel is {release}"),
    }
}

fn kernel_release() -> Option<String> {
    Some(
        std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .ok()?
            .trim()
            .to_owned(),
    )
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn limit(name: &str) -> Option<u64> {
    parse_limit(&std::fs::read_to_string("/proc/self/limits").ok()?, name)
}

fn parse_limit(limits: &str, name: &str) -> Option<u64> {
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?;
    if soft == "unlimited" {
        Some(u64::MAX)
    } else {
        soft.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_of_all_houses_are_read() {
        assert_eq!(parse_release("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(parse_release("5.15.0-1051-aws"), Some((5, 15)));
        assert_eq!(parse_release("7.0"), Some((7, 0)));
        assert_eq!(parse_release("strange"), None);
        assert!(parse_release("5.19.0").unwrap() < KERNEL_MIN && parse_release("10.0.1").unwrap() > KERNEL_MIN);
    }

    #[test]
    fn the_soft_limit_is_the_one_that_counts() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n\
                      Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(parse_limit(limits, "Max open files"), Some(1024));
        assert_eq!(parse_limit(limits, "Max locked memory"), Some(u64::MAX));
        assert_eq!(parse_limit(limits, "Max pets"), None);
    }

    #[test]
    fn a_forbidden_ring_is_answered_with_the_remedy() {
        let advice = io_uring_advice(&io::Error::from_raw_os_error(libc::EPERM));
        assert!(
            advice.contains("seccomp") || advice.contains("io_uring_disabled"),
            "{advice}"
        );
    }
}
