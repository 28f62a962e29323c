//! When sessions end: a packet stores a time, the wheel asks when it has come.

use fulcrum_machine::prefetch_at;

use super::{NONE, SessionId, Sessions};
use crate::{Nanos, SECOND};

/// How often an expired template that still controls sessions is looked at again. // IPVS: ip_vs_conn_expire
const CONTROLLING_TIMEOUT: Nanos = 60 * SECOND;
/// How many sessions before its turn to make room what a session leads to is asked for.
const AHEAD: usize = 8;

/// Goes ahead of the sessions that make room, so that their memory is there when it is their turn. Only a hint: where
/// it stands, a session may have gone or changed since.
#[derive(Debug)]
pub(super) struct Scout {
    at: SessionId,
    /// By how many it is ahead.
    lead: usize,
    /// Those that it met last.
    seen: [SessionId; AHEAD],
    turn: usize,
}

impl Default for Scout {
    fn default() -> Scout {
        Scout { at: NONE, lead: 0, seen: [NONE; AHEAD], turn: 0 }
    }
}

impl Sessions {
    /// Whether a session is over at `now`; a template that controls sessions is given another minute instead.
    #[inline]
    pub fn overdue(&mut self, id: SessionId, now: Nanos) -> bool {
        if self.get(id).expires > now {
            return false;
        }
        if self.controls(id) > 0 {
            let session = self.get_mut(id);
            session.set_timeout(CONTROLLING_TIMEOUT);
            session.touch(now);
            return false;
        }
        true
    }

    /// The next session whose time is over, at most `budget` looked at; call until it gives `None`. Nothing asks
    /// for the session again: the caller ends it.
    pub fn next_expired(&mut self, now: Nanos, budget: &mut usize) -> Option<SessionId> {
        self.queue_fresh();
        while *budget > 0 {
            let id = self.wheel.due(now)?;
            *budget -= 1;
            self.prefetch_due(now);
            self.wheel.take_due(&mut self.cold);
            if !self.lines[id as usize].is_live() {
                continue;
            }
            if self.overdue(id, now) {
                return Some(id);
            }
            self.wheel.add(&mut self.cold, id, self.lines[id as usize].expires);
        }
        None
    }

    /// Asks for the memory of sessions that are due soon, first for themselves, then for what they lead to.
    #[inline]
    fn prefetch_due(&self, now: Nanos) {
        let [near, middle, far] = self.wheel.below();
        if let Some(id) = far {
            prefetch_at(&self.lines, id as usize);
            prefetch_at(&self.cold, id as usize);
        }
        if self.wide.is_used()
            && let Some(id) = middle
        {
            self.prefetch_wide(self.get(id));
        }
        if let Some(id) = near
            && self.get(id).expires <= now
        {
            self.prefetch_keys(id);
            for neighbour in self.cold[id as usize].link.neighbours() {
                prefetch_at(&self.cold, neighbour as usize);
            }
        }
    }

    /// Has the wheel ask for new sessions when they end by what their first packets said. One in whose place another
    /// was before has the wheel's place of that one, too: it is asked early, at worst.
    pub(super) fn queue_fresh(&mut self) {
        while let Some(id) = self.fresh.pop() {
            let session = &self.lines[id as usize];
            match self.cold[id as usize].timer {
                _ if !session.is_live() => {}
                NONE => self.wheel.add(&mut self.cold, id, session.expires),
                _ => self.wheel.hasten(&mut self.cold, id, session.expires),
            }
        }
    }

    /// Asks for the memory of sessions that are to make room after `first`, and for what they lead to.
    pub(super) fn prefetch_dispensable(&mut self, first: SessionId) {
        let Scout { at, lead, seen, turn } = &mut self.scout;
        // Until it is far enough ahead, two at a time.
        for _ in 0..if *lead < 2 * AHEAD { 2 } else { 1 } {
            let next =
                self.cold.get(*at as usize).filter(|cold| cold.rank.is_some()).map(|cold| cold.link.next());
            (*at, *lead) = match next {
                Some(next) if next != NONE => (next, *lead + 1),
                _ => (first, 0),
            };
            prefetch_at(&self.lines, *at as usize);
            prefetch_at(&self.cold, *at as usize);
        }
        *lead = lead.saturating_sub(1);
        let id = std::mem::replace(&mut seen[*turn % AHEAD], *at);
        *turn = turn.wrapping_add(1);
        self.prefetch_keys(id);
    }

    /// Asks for the parts of the index that a session is in.
    #[inline]
    fn prefetch_keys(&self, id: SessionId) {
        let Some(session) = self.slot(id) else { return };
        self.index.prefetch_search(self.hash_in(id));
        if session.is_answered() {
            self.index.prefetch_search(self.hash_out(id));
        }
    }

    /// Has the wheel ask for a session when it ends now: its time-out has become shorter.
    pub fn requeue(&mut self, id: SessionId) {
        self.wheel.hasten(&mut self.cold, id, self.lines[id as usize].expires);
    }

    /// When the wheel has to be looked at next.
    pub fn next_deadline(&self) -> Nanos {
        self.wheel.next_tick()
    }
}
