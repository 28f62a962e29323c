//! A hashed timing wheel with lazy re-arm: packets only store a time, the wheel asks when it comes by.
//!
//! A slot is a pile of chunks of one cache line; a session knows its place in it, so that it can leave at any time:
//! the topmost takes its place. Nothing is queued further ahead than the wheel's span of two minutes; what lives
//! longer is asked once a turn. Time-outs that shrink are queued again.

use fulcrum_machine::{prefetch_at, vec_on_huge_pages};

use super::line::Cold;
use super::{NONE, SessionId};
use crate::Nanos;

/// Length of a tick: 2²⁸ ns ≈ 0.27 s.
const TICK_SHIFT: u32 = 28;
/// Slots: 512 ticks ≈ 137 s, more than most states of most protocols last.
const SLOTS: u64 = 512;
/// Sessions of a chunk.
const WIDTH: usize = 15;

#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Chunk {
    /// The chunk below, or [`NONE`]; of a free chunk the next free one.
    below: u32,
    sessions: [SessionId; WIDTH],
}

/// The topmost chunk of a slot, the only one that may have room.
#[derive(Clone, Copy, Debug)]
struct Pile {
    top: u32,
    /// How many are in it; never 0 when there is one.
    count: u32,
}

#[derive(Debug)]
pub(super) struct Wheel {
    piles: Box<[Pile]>,
    chunks: Vec<Chunk>,
    free: u32,
    /// First tick not yet worked off.
    tick: u64,
}

impl Wheel {
    /// For at most `limit` sessions.
    pub(super) fn new(limit: usize, now: Nanos) -> Wheel {
        Wheel {
            piles: vec![Pile { top: NONE, count: 0 }; SLOTS as usize].into_boxed_slice(),
            chunks: vec_on_huge_pages(Wheel::chunks(limit)),
            free: NONE,
            tick: now >> TICK_SHIFT,
        }
    }

    /// Only a slot's topmost chunk is not full.
    fn chunks(limit: usize) -> usize {
        limit / WIDTH + SLOTS as usize
    }

    /// Memory for `limit` sessions, in bytes.
    pub(super) fn bytes(limit: usize) -> usize {
        Wheel::chunks(limit) * size_of::<Chunk>()
    }

    /// Queues a session that is not queued for `at`, or for the wheel's end when that is later.
    pub(super) fn add(&mut self, cold: &mut [Cold], id: SessionId, at: Nanos) {
        let slot = (self.tick_of(at) % SLOTS) as usize;
        let Pile { mut top, mut count } = self.piles[slot];
        if top == NONE || count as usize == WIDTH {
            (top, count) = (self.new_chunk(top), 0);
        }
        self.chunks[top as usize].sessions[count as usize] = id;
        self.piles[slot] = Pile { top, count: count + 1 };
        let queued = &mut cold[id as usize];
        (queued.timer, queued.slot) = ((top << 4) | count, slot as u16);
    }

    /// The tick after `at`, by when it is over, as far as the wheel goes.
    #[inline]
    fn tick_of(&self, at: Nanos) -> u64 {
        ((at >> TICK_SHIFT) + 1).clamp(self.tick, self.tick + SLOTS - 1)
    }

    fn new_chunk(&mut self, below: u32) -> u32 {
        match self.free {
            NONE => {
                self.chunks.push(Chunk { below, sessions: [NONE; WIDTH] });
                (self.chunks.len() - 1) as u32
            }
            free => {
                let chunk = &mut self.chunks[free as usize];
                self.free = std::mem::replace(&mut chunk.below, below);
                free
            }
        }
    }

    /// Takes a session out, if it is in.
    fn remove(&mut self, cold: &mut [Cold], id: SessionId) {
        let leaver = &mut cold[id as usize];
        let (at, slot) = (std::mem::replace(&mut leaver.timer, NONE), leaver.slot);
        if at == NONE {
            return;
        }
        let topmost = self.take_topmost(slot.into());
        if topmost != id {
            self.chunks[(at >> 4) as usize].sessions[(at & 15) as usize] = topmost;
            cold[topmost as usize].timer = at;
        }
    }

    /// Takes the topmost session from a slot that has one.
    #[inline]
    fn take_topmost(&mut self, slot: usize) -> SessionId {
        let pile = &mut self.piles[slot];
        pile.count -= 1;
        let top = &mut self.chunks[pile.top as usize];
        let topmost = top.sessions[pile.count as usize];
        if pile.count == 0 {
            let emptied = pile.top;
            *pile = Pile { top: top.below, count: WIDTH as u32 };
            top.below = self.free;
            self.free = emptied;
            // The one after the next.
            if let Some(next) = self.chunks.get(self.piles[slot].top as usize) {
                prefetch_at(&self.chunks, next.below as usize);
            }
        }
        topmost
    }

    /// Queues a session for `at` when it is queued for later.
    pub(super) fn hasten(&mut self, cold: &mut [Cold], id: SessionId, at: Nanos) {
        let Cold { timer, slot, .. } = cold[id as usize];
        let queued = self.tick + u64::from(slot).wrapping_sub(self.tick) % SLOTS;
        if timer != NONE && queued > self.tick_of(at) {
            self.remove(cold, id);
            self.add(cold, id, at);
        }
    }

    /// Takes a session out that is to be asked at `now`; whose place is to be forgotten. Moves on over ticks that are
    /// worked off.
    #[inline]
    pub(super) fn take_due(&mut self, now: Nanos) -> Option<SessionId> {
        let current = now >> TICK_SHIFT;
        if current >= self.tick + SLOTS {
            // A long sleep: one turn meets every slot.
            self.tick = current - (SLOTS - 1);
        }
        while self.tick <= current {
            let slot = (self.tick % SLOTS) as usize;
            if self.piles[slot].top != NONE {
                return Some(self.take_topmost(slot));
            }
            self.tick += 1;
        }
        None
    }

    pub(super) fn next_tick(&self) -> Nanos {
        self.tick << TICK_SHIFT
    }
}
