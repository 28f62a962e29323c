//! The end of a lab: everything ends when its time is up.

use std::time::{Duration, Instant};

use fulcrum_e2e::director::Director;

/// Sessions must end when their time is up and not much before; then nothing of them may remain, no count and no
/// local port. The last of them has begun to wait within the last 15 seconds, for `longest` seconds.
pub(crate) fn sessions_end_on_schedule(director: &Director, longest: u64) {
    let start = Instant::now();
    let last = director.sessions().iter().map(|row| row.expires).max().unwrap_or(0);
    assert!((longest.saturating_sub(15)..=longest).contains(&last), "the last session ends in {last} s");
    let until = |seconds: u64| {
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(start.elapsed()));
    };
    until(last.saturating_sub(3));
    assert!(!director.sessions().is_empty(), "sessions ended more than 3 s early");
    until(last + 3);
    assert_eq!(director.sessions(), vec![], "sessions that outlive their time");
    assert!(director.listing().iter().all(|row| row.numbers.iter().skip(1).all(|n| *n == 0)));
    let status = director.status().expect("control answers");
    for worker in status["dataplane"]["workers"].as_array().expect("a list") {
        assert_eq!(worker["sessions"], 0, "{worker}");
    }
    for pool in status["dataplane"]["local_pools"].as_array().into_iter().flatten() {
        assert_eq!(pool["sessions"], 0, "{pool}");
    }
}
