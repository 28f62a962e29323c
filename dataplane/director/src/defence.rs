//! Defences against floods, by IPVS's names: drop_packet (some new connections are dropped), drop_entry (some
//! sessions that nobody misses are), secure_tcp (a session is only established when both ends have answered).
//!
//! Each is off (0), on (3), or on while memory is short (1, 2). What is short here is the room for sessions: fewer
//! free places of the worker than `amemthresh`. Looked at once a second. // IPVS: update_defense_level

use std::sync::atomic::Ordering::Relaxed;

use crate::buffer::Pool;
use crate::engine::{Context, Engine};
use crate::reason::Event;
use crate::session::sctp::State as Sctp;
use crate::session::tcp::State as Tcp;
use crate::session::{Session, SessionId, State};
use crate::snapshot::{Settings, Snapshot};
use crate::{Nanos, SECOND};

/// The part of the session table that drop_entry looks at in a second. // IPVS: ip_vs_random_dropentry
const PART: u32 = 32;
/// Sessions looked at per step.
const BUDGET: u32 = 256;
/// An established session may be dropped when it has been quiet for so long.
const QUIET: Nanos = 60 * SECOND;
/// And has had no more packets than these.
const FEW: usize = 8;

/// The defences of a worker.
#[derive(Debug, Default)]
pub(crate) struct Defence {
    /// When memory is looked at next.
    next: Nanos,
    /// Every so many-th new connection is dropped; 0 = none.
    drop_rate: u64,
    /// Whether TCP states follow the table for floods.
    pub(crate) secure_tcp: bool,
    /// Where drop_entry goes on, and how many sessions are left to look at.
    sweep: (SessionId, u32),
    /// Of sessions that had 1, 2… packets, one in as many is dropped: how many are spared until then.
    spared: [u8; FEW + 1],
}

impl Defence {
    fn measure(&mut self, settings: &Settings, free: usize) -> bool {
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        let short = free < settings.amemthresh;
        let on = |mode: u8| mode == 3 || mode != 0 && short;
        self.secure_tcp = on(settings.secure_tcp);
        self.drop_rate = match settings.drop_packet {
            3 => settings.am_droprate.into(),
            0 => 0,
            _ if short => (settings.amemthresh / (settings.amemthresh - free)).into(),
            _ => 0,
        };
        on(settings.drop_entry)
    }

    /// When there is something to do; 0 when there is now.
    pub(crate) fn next(&self) -> Nanos {
        if self.sweep.1 > 0 { 0 } else { self.next }
    }

    /// Whether a session that controls no other is one that nobody misses.
    fn expendable(&mut self, snap: &Snapshot, session: &Session, now: Nanos) -> bool {
        let drawn = |defence: &mut Defence| defence.draw(session, now);
        match session.state() {
            State::Tcp(Tcp::SynRecv | Tcp::SynAck) | State::Sctp(Sctp::Init1 | Sctp::Init) => true,
            State::Tcp(Tcp::Established) | State::Sctp(Sctp::Established) | State::Udp => drawn(self),
            // A template of single packets is never assured.
            State::Template { assured: false } => {
                snap.destination(session.destination).is_none_or(|server| !server.profile.one_packet)
            }
            _ => false,
        }
    }

    /// Whether a session with few packets is drawn, of those that are quiet. // IPVS: todrop_entry
    fn draw(&mut self, session: &Session, now: Nanos) -> bool {
        let packets = usize::from(session.in_packets());
        let quiet = now.saturating_sub(session.expires.saturating_sub(session.timeout())) >= QUIET;
        if !quiet || !(1..=FEW).contains(&packets) {
            return false;
        }
        match self.spared[packets].checked_sub(1) {
            Some(left) if left > 0 => self.spared[packets] = left,
            _ => {
                self.spared[packets] = packets as u8;
                return true;
            }
        }
        false
    }
}

impl<P: Pool> Engine<P> {
    /// What there is to do from step to step.
    pub(crate) fn defend(&mut self, ctx: &mut Context<'_, P>) {
        if ctx.now >= self.defence.next {
            self.defence.next = ctx.now + SECOND;
            let drops = self.defence.measure(&ctx.snap.settings, self.sessions.room());
            let places = self.sessions.high_water();
            self.defence.sweep = match places {
                1.. if drops => {
                    ((self.chance.draw() % u64::from(places)) as SessionId, places.div_ceil(PART))
                }
                _ => (0, 0),
            };
        }
        let (mut at, left) = self.defence.sweep;
        let now = left.min(BUDGET);
        for _ in 0..now {
            let all = self.sessions.high_water();
            let session = self.sessions.slot(at).filter(|_| self.sessions.controls(at) == 0);
            if session.is_some_and(|session| self.defence.expendable(ctx.snap, session, ctx.now)) {
                self.counters.event(Event::SessionDropped);
                self.end_session(ctx.snap, at);
            }
            at = (at + 1) % all;
        }
        self.defence.sweep = (at, left - now);
    }

    /// Whether a connection is one of those that drop_packet drops: the first, and then every so many-th of all
    /// workers. // IPVS: ip_vs_todrop
    pub(crate) fn is_dropped_by_defence(&self, snap: &Snapshot) -> bool {
        self.defence.drop_rate != 0
            && snap.offered.fetch_add(1, Relaxed).is_multiple_of(self.defence.drop_rate)
    }
}
