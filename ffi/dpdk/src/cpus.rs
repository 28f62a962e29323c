//! Lists of processors as Linux writes them: `1`, `1-3`, `1,3`.

use std::collections::BTreeSet;
use std::fs;

/// A text that is not a list of processors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of processors such as 1 or 1-3 or 1,3")]
pub struct BadCpuList(pub String);

/// Reads a list; the result is in ascending order, each processor once.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, BadCpuList> {
    let bad = || BadCpuList(text.trim().to_owned());
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        // No machine has more; without a bound, a slip of the finger would fill the memory.
        if first > last || last >= 4096 {
            return Err(bad());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus.into_iter().collect())
}

/// The processors that this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            parse_cpu_list(list).ok()
        })
        .unwrap_or_else(|| vec![0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_sorted() {
        assert_eq!(parse_cpu_list("1"), Ok(vec![1]));
        assert_eq!(parse_cpu_list("1-3"), Ok(vec![1, 2, 3]));
        assert_eq!(parse_cpu_list(" 3,1, 5-6 "), Ok(vec![1, 3, 5, 6]));
        assert_eq!(parse_cpu_list("2,2"), Ok(vec![2]));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "a", "1-", "3-1", "1,,2", "0-99999999", "-1"] {
            assert!(parse_cpu_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed_cpus().is_empty());
    }
}
