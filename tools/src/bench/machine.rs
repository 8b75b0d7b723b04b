//! The machine that a figure was measured on, and which of its cores this program uses.
//!
//! Called once for a report, and by each worker for itself.

use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// What makes a figure comparable with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Cores that this process may use.
    #[serde(rename = "cores")]
    pub core_count: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let value = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| Some(line.strip_prefix(name)?.trim_start_matches([' ', '\t', ':']).to_owned()))
        };
        Self {
            processor: value(&processors, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            core_count: allowed_cores().len(),
            memory_bytes: value(&memory, "MemTotal")
                .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                .unwrap_or(0)
                * 1024,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            processor,
            core_count,
            kernel,
            ..
        } = self;
        let cores = if *core_count == 1 { "core" } else { "cores" };
        let gibibytes = self.memory_bytes as f64 / f64::from(1 << 30);
        write!(
            formatter,
            "{processor}, {core_count} {cores}, {gibibytes:.0} GiB, Linux {kernel}"
        )
    }
}

/// Cores in the notation of `taskset`: `0`, `0-3`, `0,2,4-5`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no list of cores; write it as 0, 0-3 or 0,2,4-5");
        let mut cores = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: usize = first.trim().parse().map_err(|_| wrong())?;
            let last: usize = last.trim().parse().map_err(|_| wrong())?;
            if first > last || last >= CpuSet::MAX_CPU {
                return Err(wrong());
            }
            cores.extend(first..=last);
        }
        let allowed = allowed_cores();
        match cores.iter().find(|core| !allowed.contains(core)) {
            Some(core) => Err(format!(
                "core {core} is not one of those that this process may use: {allowed:?}"
            )),
            None => Ok(Self(cores)),
        }
    }
}

impl std::fmt::Display for CoreList {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&texts.join(","))
    }
}

/// The cores that the calling thread may run on, ascending.
pub fn allowed_cores() -> Vec<usize> {
    sched_getaffinity(None).map_or_else(
        |_| vec![0],
        |set| (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
    )
}

/// Lets the calling thread, and the processes and threads that it starts from now on, run only on these cores.
pub fn pin(cores: &[usize]) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        let own = allowed_cores();
        assert_eq!(own[0].to_string().parse(), Ok(CoreList(vec![own[0]])));
        for wrong in ["", "a", "3-1", "0,", "999999", "1023"] {
            let said = CoreList::from_str(wrong).unwrap_err();
            assert!(said.contains("core"), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_pinned_thread_runs_where_it_was_told() {
        let core = allowed_cores()[0];
        let seen = std::thread::spawn(move || {
            pin(&[core]).unwrap();
            allowed_cores()
        });
        assert_eq!(seen.join().unwrap(), [core]);
    }
}
