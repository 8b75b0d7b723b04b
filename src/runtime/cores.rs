//! Which cores this process may use, so that each shard's thread can be pinned to one.

use rustix::thread::{CpuSet, sched_getaffinity};

/// The cores that the system lets this process run on, ascending; core 0 where it does not say.
pub fn allowed_cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_setaffinity;

    use super::*;

    #[test]
    fn only_the_cores_that_a_thread_may_use_are_named() {
        let all = allowed_cores();
        let last = *all.last().unwrap();
        let mut one = CpuSet::new();
        one.set(last);
        // Of this thread alone.
        sched_setaffinity(None, &one).unwrap();
        assert_eq!(allowed_cores(), [last]);
    }
}
