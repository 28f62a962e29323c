//! What a worker does when nothing comes: ask again at once, nap, or let its ports wake it.
//!
//! A nap ends by the clock, whatever the driver: a packet, a message or an order that comes meanwhile is met within
//! 100 µs, and costs its sender nothing. A nap costs a little, so a worker that is alone and whose ports have interrupts
//! waits for those when nothing has come for a while. Decides only; the worker does it.

use std::time::Duration;

use fulcrum_director::Nanos;
pub use fulcrum_model::file::Idle as Policy;

/// Empty turns before the first nap: traffic that flows is never slowed down.
const PATIENCE: u32 = 200;
/// Naps before the first wait: some 20 ms.
const NAPS: u32 = 300;
/// What the kernel is asked for. It comes back some 10 to 30 µs later than that.
const NAP: Nanos = 50_000;
/// The longest wait: orders of the control thread, and its word to end, raise no interrupt.
const WAIT: Nanos = 5_000_000;
/// Waits are whole milliseconds.
const SHORTEST_WAIT: Nanos = 1_000_000;

/// What to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: the next turn.
    None,
    /// Sleep so long.
    Nap(Duration),
    /// Let frames raise interrupts, then take one more turn, for frames that came before.
    Arm,
    /// Wait for an interrupt, so long at most; afterwards there is no need of interrupts.
    Wait(Duration),
    /// There is no need of interrupts.
    Disarm,
}

/// A worker's patience.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    policy: Policy,
    empty: u32,
    interrupts: bool,
    armed: bool,
}

impl Idle {
    /// To be used by one thread, for a start without interrupts.
    pub fn new(policy: Policy) -> Idle {
        Idle { policy, empty: 0, interrupts: false, armed: false }
    }

    /// Whether it ever rests.
    pub(crate) fn naps(&self) -> bool {
        self.policy == Policy::Adaptive
    }

    /// From now on waits follow naps.
    pub(crate) fn use_interrupts(&mut self) {
        self.interrupts = true;
    }

    /// Prepares the calling thread, whose naps these will be: by default the kernel may add 50 µs to each.
    pub fn settle(&self) {
        if self.naps()
            && let Err(error) = nix::sys::prctl::set_timerslack(1)
        {
            tracing::warn!("the kernel keeps its timer slack, naps take 50 µs more: {error}");
        }
    }

    /// To be called after each turn. `deadline` is when the engine wants to be stepped at the latest.
    #[inline]
    pub fn turn(&mut self, worked: bool, now: Nanos, deadline: impl FnOnce() -> Nanos) -> Rest {
        if worked || self.policy == Policy::Poll {
            self.empty = 0;
            return if std::mem::take(&mut self.armed) { Rest::Disarm } else { Rest::None };
        }
        self.empty = self.empty.saturating_add(1);
        if self.empty <= PATIENCE {
            std::hint::spin_loop();
            return Rest::None;
        }
        self.rest(deadline().saturating_sub(now))
    }

    /// How to rest when the engine can do without for `left`.
    fn rest(&mut self, left: Nanos) -> Rest {
        let long = self.interrupts && self.empty > PATIENCE + NAPS && left >= SHORTEST_WAIT;
        match (std::mem::take(&mut self.armed), long) {
            (true, true) => Rest::Wait(Duration::from_nanos(left.min(WAIT))),
            (true, false) => Rest::Disarm,
            (false, true) => {
                self.armed = true;
                Rest::Arm
            }
            (false, false) if left > 0 => Rest::Nap(Duration::from_nanos(left.min(NAP))),
            (false, false) => Rest::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Nanos = 100_000_000;
    const A_NAP: Rest = Rest::Nap(Duration::from_nanos(NAP));
    const A_WAIT: Rest = Rest::Wait(Duration::from_nanos(WAIT));

    /// What is done in this many turns, none or all of which found work.
    fn rests(idle: &mut Idle, turns: u32, worked: bool) -> Vec<Rest> {
        (0..turns).map(|_| idle.turn(worked, 0, || LATER)).collect()
    }

    fn idle(policy: Policy, interrupts: bool) -> Idle {
        Idle { interrupts, ..Idle::new(policy) }
    }

    #[test]
    fn only_an_adaptive_worker_without_work_sleeps() {
        for interrupts in [false, true] {
            assert!(
                rests(&mut idle(Policy::Poll, interrupts), 10_000, false).iter().all(|r| *r == Rest::None)
            );
            let mut working = idle(Policy::Adaptive, interrupts);
            assert!(rests(&mut working, 10_000, true).iter().all(|r| *r == Rest::None));
        }
        let rests = rests(&mut idle(Policy::Adaptive, false), PATIENCE + 10_000, false);
        assert!(rests[..PATIENCE as usize].iter().all(|rest| *rest == Rest::None));
        assert!(rests[PATIENCE as usize..].iter().all(|rest| *rest == A_NAP));
    }

    #[test]
    fn work_wakes_it_for_a_while() {
        let mut idle = idle(Policy::Adaptive, false);
        assert_eq!(rests(&mut idle, PATIENCE + 1, false).pop(), Some(A_NAP));
        idle.turn(true, 0, || LATER);
        assert!(rests(&mut idle, PATIENCE, false).iter().all(|rest| *rest == Rest::None));
        assert_eq!(rests(&mut idle, 1, false), [A_NAP]);
    }

    #[test]
    fn interrupts_are_waited_for_after_naps_and_one_more_turn_each() {
        let mut idle = idle(Policy::Adaptive, true);
        let before = rests(&mut idle, PATIENCE + NAPS, false);
        assert!(before[PATIENCE as usize..].iter().all(|rest| *rest == A_NAP));
        assert_eq!(rests(&mut idle, 4, false), [Rest::Arm, A_WAIT, Rest::Arm, A_WAIT]);
        // A frame that came while interrupts were off is found by the turn after they were switched on.
        assert_eq!(rests(&mut idle, 1, false), [Rest::Arm]);
        assert_eq!(rests(&mut idle, 2, true), [Rest::Disarm, Rest::None]);
        assert_eq!(rests(&mut idle, 1, false), [Rest::None]);
    }

    #[test]
    fn a_deadline_is_not_slept_over() {
        for interrupts in [false, true] {
            let mut idle = idle(Policy::Adaptive, interrupts);
            assert!((0..10_000).all(|_| idle.turn(false, 1000, || 1000) == Rest::None));
            assert_eq!(idle.turn(false, 1000, || 2000), Rest::Nap(Duration::from_nanos(1000)));
        }
        let mut idle = idle(Policy::Adaptive, true);
        rests(&mut idle, PATIENCE + NAPS, false);
        let near = 2_000_000;
        assert_eq!(idle.turn(false, 0, || near), Rest::Arm);
        assert_eq!(idle.turn(false, 0, || near), Rest::Wait(Duration::from_nanos(near)));
        // One that comes close in between.
        assert_eq!(idle.turn(false, 0, || near), Rest::Arm);
        assert_eq!(idle.turn(false, 0, || NAP), Rest::Disarm);
        assert_eq!(idle.turn(false, 0, || NAP), A_NAP);
    }
}
