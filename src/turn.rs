//! Turns: as many labs at once as the machine has room for, each with processors of its own.

use std::fs;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Says how many labs may run at once; one for every two processors otherwise.
const LABS: &str = "FULCRUM_LABS";

/// The places of the machine.
struct Places {
    /// Their processors.
    processors: Vec<Vec<usize>>,
    /// Indices of those that nobody has.
    free: Mutex<Vec<usize>>,
    one_is_free: Condvar,
}

impl Places {
    // Whoever panicked in its turn has cleaned up all the same.
    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that a lab has until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    place: usize,
}

impl Turn {
    /// Waits for a place. This thread, and what it starts from now on, keeps to the place's processors.
    pub(crate) fn wait() -> Turn {
        let places = places();
        let mut free = places.free();
        let place = loop {
            match free.pop() {
                Some(place) => break place,
                None => free = places.one_is_free.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let turn = Turn { place };
        keep_to(&places.processors[place]);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        places().free().push(self.place);
        places().one_is_free.notify_one();
    }
}

fn places() -> &'static Places {
    static PLACES: OnceLock<Places> = OnceLock::new();
    PLACES.get_or_init(|| {
        let all = processors();
        let wanted = std::env::var(LABS).ok().map(|text| match text.parse() {
            Ok(labs @ 1..) => labs,
            _ => panic!("{LABS} is the number of labs that run at once, not `{text}`"),
        });
        let labs = wanted.unwrap_or((all.len() / 2).max(1));
        Places {
            processors: (0..labs).map(|place| all[share(place, labs, all.len())].to_vec()).collect(),
            free: Mutex::new((0..labs).collect()),
            one_is_free: Condvar::new(),
        }
    })
}

/// Which of `all` processors belong to a place: at least two, where there are two; with more labs than processors for
/// that, some are shared.
fn share(place: usize, labs: usize, all: usize) -> Range<usize> {
    let start = (place * all / labs).min(all.saturating_sub(2));
    start..((place + 1) * all / labs).max(start + 2).min(all)
}

/// The processors that this thread may use, in order; never none.
pub(crate) fn processors() -> Vec<usize> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let processors = list.map(|list| read_list(list.trim())).unwrap_or_default();
    if processors.is_empty() { vec![0] } else { processors }
}

/// Reads a list as the kernel writes it: `0-2,5`.
fn read_list(list: &str) -> Vec<usize> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

fn keep_to(processors: &[usize]) {
    let list: Vec<String> = processors.iter().map(usize::to_string).collect();
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    let thread = thread.file_name().expect("it names this thread");
    let mut taskset = Command::new("taskset");
    taskset.args(["-c", "-p", &list.join(",")]).arg(thread).stdin(Stdio::null());
    let output = taskset.output().expect("taskset can be run");
    assert!(output.status.success(), "{taskset:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::{read_list, share};

    #[test]
    fn processors_are_read_and_shared_out() {
        assert_eq!(read_list("0-2,5"), [0, 1, 2, 5]);
        let shares = |labs, all| (0..labs).map(|place| share(place, labs, all)).collect::<Vec<_>>();
        assert_eq!(share(0, 1, 3), 0..3);
        assert_eq!(shares(2, 4), [0..2, 2..4]);
        assert_eq!(shares(2, 5), [0..2, 2..5]);
        assert_eq!(shares(3, 4), [0..2, 1..3, 2..4]);
        assert_eq!(shares(2, 1), [0..1, 0..1]);
    }
}
