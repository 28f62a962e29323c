//! When sessions end: a packet stores a time, the wheel asks when it has come.

use fulcrum_machine::prefetch_at;

use super::{NONE, SessionId, Sessions};
use crate::{Nanos, SECOND};

/// How often an expired template that still controls sessions is looked at again. // IPVS: ip_vs_conn_expire
const CONTROLLING_TIMEOUT: Nanos = 60 * SECOND;
/// How many sessions before its turn what a session leads to is asked for; its addresses, when they are wide, and the
/// session itself as many before that.
const AHEAD: usize = 8;

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
            self.wheel.remove(&mut self.cold, id);
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
        if let Some(id) = self.wheel.after(3 * AHEAD) {
            prefetch_at(&self.lines, id as usize);
            prefetch_at(&self.cold, id as usize);
        }
        if self.wide.is_used()
            && let Some(id) = self.wheel.after(2 * AHEAD)
        {
            self.prefetch_wide(self.get(id));
        }
        let Some(id) = self.wheel.after(AHEAD) else { return };
        let session = self.get(id);
        if session.expires <= now {
            self.index.prefetch(self.hash_in(id));
            if session.is_answered() {
                self.index.prefetch(self.hash_out(id));
            }
            for neighbour in self.cold[id as usize].link.neighbours() {
                prefetch_at(&self.cold, neighbour as usize);
            }
        }
    }

    /// Has the wheel ask for new sessions when they end by what their first packets said.
    pub(super) fn queue_fresh(&mut self) {
        while let Some(id) = self.fresh.pop() {
            // One that is over already, and has a successor in its place, is here twice.
            if self.lines[id as usize].is_live() && self.cold[id as usize].timer == NONE {
                self.wheel.add(&mut self.cold, id, self.lines[id as usize].expires);
            }
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
