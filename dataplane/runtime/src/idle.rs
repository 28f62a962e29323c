//! What a worker does when nothing comes: ask again at once, or sleep longer and longer.

use std::thread;
use std::time::Duration;

use fulcrum_director::Nanos;
use fulcrum_model::file::Idle as Policy;

/// Empty turns before the first sleep: traffic that flows is never slowed down.
const PATIENCE: u32 = 200;
const FIRST: Nanos = 20_000;
const LONGEST: Nanos = 500_000;

/// A worker's patience.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    policy: Policy,
    empty: u32,
    next: Nanos,
}

impl Idle {
    pub(crate) fn new(policy: Policy) -> Idle {
        Idle { policy, empty: 0, next: FIRST }
    }

    /// To be called after each turn. `deadline` is when the engine wants to be stepped at the latest.
    #[inline]
    pub(crate) fn turn(&mut self, worked: bool, now: Nanos, deadline: impl FnOnce() -> Nanos) {
        if worked || self.policy == Policy::Poll {
            self.empty = 0;
            self.next = FIRST;
            return;
        }
        self.empty = self.empty.saturating_add(1);
        if self.empty <= PATIENCE {
            std::hint::spin_loop();
            return;
        }
        let nap = self.next.min(deadline().saturating_sub(now));
        self.next = (self.next * 2).min(LONGEST);
        if nap > 0 {
            thread::sleep(Duration::from_nanos(nap));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn naps(policy: Policy, turns: u32, worked: bool) -> Duration {
        let mut idle = Idle::new(policy);
        let start = Instant::now();
        for _ in 0..turns {
            idle.turn(worked, 0, || LONGEST);
        }
        start.elapsed()
    }

    #[test]
    fn only_an_adaptive_worker_without_work_sleeps() {
        assert!(naps(Policy::Poll, 100_000, false) < Duration::from_millis(100));
        assert!(naps(Policy::Adaptive, 100_000, true) < Duration::from_millis(100));
        assert!(naps(Policy::Adaptive, PATIENCE + 40, false) >= Duration::from_micros(35 * 500));
    }

    #[test]
    fn a_deadline_that_has_come_is_not_slept_over() {
        let mut idle = Idle::new(Policy::Adaptive);
        let start = Instant::now();
        for _ in 0..10_000 {
            idle.turn(false, 1000, || 1000);
        }
        assert!(start.elapsed() < Duration::from_millis(100));
    }
}
