//! A hashed timing wheel with lazy re-arm: packets only store a time, the wheel asks when it comes by.
//!
//! Nothing is queued further ahead than the wheel's span of half a minute; what lives longer is asked once a turn.
//! Time-outs that shrink are queued again.

use super::{NONE, Session, SessionId};
use crate::Nanos;

/// Length of a tick: 2²⁸ ns ≈ 0.27 s.
const TICK_SHIFT: u32 = 28;
/// Slots: 128 ticks ≈ 34 s.
const SLOTS: u64 = 128;

/// A session's place in the wheel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    next: SessionId,
    previous: SessionId,
    slot: u8,
}

impl Default for Link {
    fn default() -> Link {
        Link { next: NONE, previous: NONE, slot: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Wheel {
    heads: [SessionId; SLOTS as usize],
    /// First tick not yet worked off.
    tick: u64,
}

impl Wheel {
    pub(super) fn new(now: Nanos) -> Wheel {
        Wheel { heads: [NONE; SLOTS as usize], tick: now >> TICK_SHIFT }
    }

    /// Queues a session for `at`, or for the wheel's end when that is later.
    pub(super) fn add(&mut self, arena: &mut [Session], id: SessionId, at: Nanos) {
        // The tick after `at`: by then it is over.
        let tick = ((at >> TICK_SHIFT) + 1).clamp(self.tick, self.tick + SLOTS - 1);
        let slot = (tick % SLOTS) as usize;
        let next = self.heads[slot];
        arena[id as usize].timer = Link { next, previous: NONE, slot: slot as u8 };
        if next != NONE {
            arena[next as usize].timer.previous = id;
        }
        self.heads[slot] = id;
    }

    pub(super) fn remove(&mut self, arena: &mut [Session], id: SessionId) {
        let Link { next, previous, slot } = arena[id as usize].timer;
        if next != NONE {
            arena[next as usize].timer.previous = previous;
        }
        if previous != NONE {
            arena[previous as usize].timer.next = next;
        } else {
            self.heads[usize::from(slot)] = next;
        }
    }

    /// A session to be asked at `now`; it stays queued. Moves on over ticks that are worked off.
    pub(super) fn due(&mut self, now: Nanos) -> Option<SessionId> {
        let current = now >> TICK_SHIFT;
        if current >= self.tick + SLOTS {
            // A long sleep: one turn meets every slot.
            self.tick = current - (SLOTS - 1);
        }
        while self.tick <= current {
            let head = self.heads[(self.tick % SLOTS) as usize];
            if head != NONE {
                return Some(head);
            }
            self.tick += 1;
        }
        None
    }

    pub(super) fn next_tick(&self) -> Nanos {
        self.tick << TICK_SHIFT
    }
}
