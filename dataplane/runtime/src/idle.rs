//! What a worker does when nothing comes: ask again at once, or nap.
//!
//! A nap ends by the clock, whatever the driver: a packet, a message or an order that comes meanwhile is met within
//! 100 µs, and costs its sender nothing.

use std::thread;
use std::time::Duration;

use fulcrum_director::Nanos;
pub use fulcrum_model::file::Idle as Policy;

/// Empty turns before the first nap: traffic that flows is never slowed down.
const PATIENCE: u32 = 200;
/// What the kernel is asked for. It comes back some 10 to 30 µs later than that.
const NAP: Nanos = 50_000;

/// A worker's patience.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    policy: Policy,
    empty: u32,
}

impl Idle {
    /// To be used by one thread.
    pub fn new(policy: Policy) -> Idle {
        Idle { policy, empty: 0 }
    }

    /// Prepares the calling thread, whose naps these will be: by default the kernel may add 50 µs to each.
    pub fn settle(&self) {
        if self.policy == Policy::Adaptive
            && let Err(error) = nix::sys::prctl::set_timerslack(1)
        {
            tracing::warn!("the kernel keeps its timer slack, naps take 50 µs more: {error}");
        }
    }

    /// To be called after each turn; says whether it slept. `deadline` is when the engine wants to be stepped at the
    /// latest.
    #[inline]
    pub fn turn(&mut self, worked: bool, now: Nanos, deadline: impl FnOnce() -> Nanos) -> bool {
        if worked || self.policy == Policy::Poll {
            self.empty = 0;
            return false;
        }
        self.empty = self.empty.saturating_add(1);
        if self.empty <= PATIENCE {
            std::hint::spin_loop();
            return false;
        }
        let nap = NAP.min(deadline().saturating_sub(now));
        if nap > 0 {
            thread::sleep(Duration::from_nanos(nap));
        }
        nap > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Nanos = 1_000_000;

    fn naps(policy: Policy, turns: u32, worked: bool) -> usize {
        let mut idle = Idle::new(policy);
        (0..turns).filter(|_| idle.turn(worked, 0, || LATER)).count()
    }

    #[test]
    fn only_an_adaptive_worker_without_work_sleeps() {
        assert_eq!(naps(Policy::Poll, 10_000, false), 0);
        assert_eq!(naps(Policy::Adaptive, 10_000, true), 0);
        assert_eq!(naps(Policy::Adaptive, PATIENCE + 40, false), 40);
    }

    #[test]
    fn work_wakes_it_for_a_while() {
        let mut idle = Idle::new(Policy::Adaptive);
        assert!((0..=PATIENCE).map(|_| idle.turn(false, 0, || LATER)).last().unwrap());
        idle.turn(true, 0, || LATER);
        assert!((0..PATIENCE).all(|_| !idle.turn(false, 0, || LATER)));
        assert!(idle.turn(false, 0, || LATER));
    }

    #[test]
    fn a_deadline_that_has_come_is_not_slept_over() {
        let mut idle = Idle::new(Policy::Adaptive);
        assert!((0..10_000).all(|_| !idle.turn(false, 1000, || 1000)));
    }
}
