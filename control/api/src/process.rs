//! What this process takes of the machine, from /proc/self: what cannot be read is 0, or absent.

use std::fs;

use crate::dataplane::ProcessUse;

/// Ticks of a second in /proc/PID/stat: Linux's USER_HZ, the same on every machine.
const TICKS: f64 = 100.0;

/// What it takes now.
pub fn usage() -> ProcessUse {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let cpu_seconds = ticks(&read("stat")).unwrap_or(0) as f64 / TICKS;
    let status = read("status");
    ProcessUse {
        cpu_seconds,
        resident_bytes: number(&status, "VmRSS:").unwrap_or(0) * 1024,
        threads: number(&status, "Threads:").unwrap_or(0),
        // The one that is open to count them does not count.
        open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64),
        max_files: number(&read("limits"), "Max open files"),
    }
}

/// The first number of the line that begins so.
fn number(text: &str, begin: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(begin))?.split_whitespace().next()?.parse().ok()
}

/// utime and stime, proc_pid_stat(5): the 14th and 15th field, counted from behind the name.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_program_is_called() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 4 0 99";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("nonsense"), None);
        assert_eq!(number("A: 1\nVmRSS:\t  42 kB\n", "VmRSS:"), Some(42));
    }

    #[test]
    fn this_process_takes_something() {
        let before = usage();
        let _held: Vec<_> = (0..3).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = usage();
        assert!(after.resident_bytes > 0 && after.threads > 0 && after.max_files > after.open_files);
        assert!(after.open_files >= Some(3) && before.cpu_seconds <= after.cpu_seconds);
    }
}
