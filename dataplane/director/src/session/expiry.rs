//! When sessions end: a packet stores a time, the wheel asks when it has come.

use fulcrum_machine::prefetch_at;

use super::keys::Hashes;
use super::{NONE, SessionId, Sessions};
use crate::{Nanos, SECOND};

/// How often an expired template that still controls sessions is looked at again. // IPVS: ip_vs_conn_expire
const CONTROLLING_TIMEOUT: Nanos = 60 * SECOND;
/// How many sessions before its turn to make room what a session leads to is asked for.
const AHEAD: usize = 8;

/// How many sessions that are due are looked at together.
const BATCH: usize = 32;

/// A session that the wheel has given; its hashes count when its time is over.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    id: SessionId,
    hashes: Hashes,
}

/// Sessions that are due, in work.
#[derive(Debug, Default)]
pub(super) struct Batch {
    list: [Due; BATCH],
    next: usize,
    count: usize,
}

impl Batch {
    #[inline]
    fn next(&mut self) -> Option<&Due> {
        let due = self.list[..self.count].get(self.next)?;
        self.next += 1;
        Some(due)
    }

    /// The one that [`Batch::next`] has given last.
    #[inline]
    fn last(&self) -> Option<Due> {
        self.list.get(self.next.wrapping_sub(1)).copied()
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

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

    /// The next session whose time is over, at most `budget` looked at; call until it gives `None`, and meanwhile only
    /// end what it gives ([`Sessions::remove_due`]). Nothing asks for the session again.
    #[inline]
    pub fn next_expired(&mut self, now: Nanos, budget: &mut usize) -> Option<SessionId> {
        loop {
            let Some(&Due { id, .. }) = self.batch.next() else {
                self.gather_due(now, budget);
                if self.batch.is_empty() {
                    return None;
                }
                continue;
            };
            if !self.lines[id as usize].is_live() {
                continue;
            }
            if self.overdue(id, now) {
                return Some(id);
            }
            self.wheel.add(&mut self.cold, id, self.lines[id as usize].expires);
        }
    }

    /// Takes the next sessions from the wheel and asks for the memory of all of them, first for themselves, then for
    /// what they lead to.
    fn gather_due(&mut self, now: Nanos, budget: &mut usize) {
        self.queue_fresh();
        let Sessions { wheel, batch, lines, cold, .. } = self;
        *batch = Batch { next: 0, count: 0, ..*batch };
        for due in batch.list.iter_mut().take(*budget) {
            let Some(id) = wheel.take_due(now) else { break };
            due.id = id;
            prefetch_at(lines, id as usize);
            prefetch_at(cold, id as usize);
            batch.count += 1;
        }
        *budget -= batch.count;
        for at in 0..self.batch.count {
            let id = self.batch.list[at].id;
            let cold = &mut self.cold[id as usize];
            cold.timer = NONE;
            let link = cold.link;
            let session = &self.lines[id as usize];
            if !session.is_live() || session.expires > now {
                continue;
            }
            let hashes = self.hashes(id);
            self.prefetch_hashes(hashes);
            for neighbour in link.neighbours() {
                prefetch_at(&self.cold, neighbour as usize);
            }
            self.batch.list[at].hashes = hashes;
        }
    }

    /// [`Sessions::remove`] of the session that [`Sessions::next_expired`] has given last.
    #[inline]
    pub fn remove_due(&mut self, id: SessionId) {
        match self.batch.last() {
            Some(due) if due.id == id => self.remove_by(id, due.hashes),
            _ => self.remove(id),
        }
    }

    /// Has the wheel ask for new sessions when they end by what their first packets said.
    pub(super) fn queue_fresh(&mut self) {
        while let Some(id) = self.fresh.pop() {
            if self.lines[id as usize].is_live() {
                self.queue(id);
            }
        }
    }

    /// Has the wheel ask for a new session when it ends. One in whose place another was before has the wheel's place of
    /// that one, too: it is asked early, at worst.
    #[inline]
    pub(super) fn queue(&mut self, id: SessionId) {
        let ends = self.lines[id as usize].expires;
        match self.cold[id as usize].timer {
            NONE => self.wheel.add(&mut self.cold, id, ends),
            _ => self.wheel.hasten(&mut self.cold, id, ends),
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
        if self.slot(id).is_some() {
            self.prefetch_hashes(self.hashes(id));
        }
    }

    #[inline]
    fn prefetch_hashes(&self, hashes: Hashes) {
        self.index.prefetch(hashes.request);
        if let Some(reply) = hashes.reply {
            self.index.prefetch(reply);
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
