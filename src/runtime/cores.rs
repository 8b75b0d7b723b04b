//! Which cores this process may use, so that each shard's thread can be pinned to one.

/// The cores that the system lets this process run on, ascending; core 0 where that cannot be read.
pub fn allowed_cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    match list.and_then(|list| parse_list(list.trim())) {
        Some(cores) if !cores.is_empty() => cores,
        _ => vec![0],
    }
}

fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0-3,8,10-11"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list("none"), None);
        assert!(!allowed_cores().is_empty());
    }
}
