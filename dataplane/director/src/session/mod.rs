//! Sessions (IPVS: connections) and persistence templates of one worker.
//!
//! [`Sessions`] owns them: arenas, an index that finds a session from either direction, and a timing wheel.
//! What a packet does to a session's state is in `state`, by [`tcp`] and [`sctp`]; which server it gets, and how
//! packets are rewritten, is decided elsewhere.
//!
//! The table has the size that it is made with. One that grew would either hold up its packets while it is made
//! anew, or be two tables at once for a while, both looked into by every packet; and memory that is there at the
//! start is there in a flood. Address space is cheap: arenas take memory as sessions come, only the index is
//! touched as a whole.

mod broad;
mod expiry;
mod index;
mod keys;
mod line;
mod narrow;
mod rank;
pub mod sctp;
mod side;
mod state;
pub mod tcp;
pub(crate) mod terms;
#[cfg(test)]
mod tests;
mod wheel;

use std::net::IpAddr;

use fulcrum_machine::{prefetch_at, vec_on_huge_pages};

use crate::snapshot::{DestinationId, Forward};
use crate::stream::Edits;
use crate::{Nanos, SECOND};
pub(crate) use broad::Broad;
use expiry::{Batch, Scout};
pub(crate) use index::Elsewhere;
use index::Index;
use keys::Hashes;
pub(crate) use keys::Lines;
use line::Cold;
pub use line::{Ends, Session};
pub use narrow::Narrow;
pub use rank::Rank;
use rank::Ranks;
pub(crate) use side::Wide;
use side::{NOWHERE, Rare, Side};
pub use state::{State, View};
use wheel::Wheel;

/// Index of a session in its worker's arena.
pub type SessionId = u32;

/// No session.
pub const NONE: SessionId = u32::MAX;

/// Life of a session before its first packet has set its state. // IPVS: ip_vs_conn_new, 3 s
const NEW_TIMEOUT: Nanos = 3 * SECOND;
/// New sessions that the wheel hears of together.
const FRESH: usize = 64;

/// What a packet shows of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// IP protocol number; [`TEMPLATE`] is added for templates.
    pub protocol: u16,
    /// Source address.
    pub src: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
}

/// Marks the key of a template, so that it never meets a packet's.
pub const TEMPLATE: u16 = 0x100;

impl Key {
    /// Its ends, when they are of IPv4.
    #[inline]
    pub(crate) fn narrow(&self) -> Option<Narrow> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                Some(Narrow::new((src.to_bits(), self.sport), (dst.to_bits(), self.dport)))
            }
            _ => None,
        }
    }

    /// The key of a packet in the other direction.
    pub fn inverted(self) -> Key {
        Key { protocol: self.protocol, src: self.dst, sport: self.dport, dst: self.src, dport: self.sport }
    }
}

/// From where to where a packet of a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    In,
    /// From the server to the client.
    Out,
}

/// What a session is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewSession {
    /// IP protocol number.
    pub protocol: u8,
    /// Forwarding method.
    pub forward: Forward,
    /// State to begin with.
    pub state: State,
    /// Client's address and port.
    pub client: (IpAddr, u16),
    /// VIP and port.
    pub vip: (IpAddr, u16),
    /// Local address and port; the client's unless FULLNAT.
    pub local: (IpAddr, u16),
    /// Server's address and port.
    pub server: (IpAddr, u16),
    /// Its server.
    pub destination: DestinationId,
    /// The template that controls it, or [`NONE`].
    pub control: SessionId,
}

/// The sessions of one worker.
#[derive(Debug)]
pub struct Sessions {
    lines: Vec<Session>,
    cold: Vec<Cold>,
    wide: Side<Wide>,
    rare: Side<Rare>,
    limit: usize,
    free: SessionId,
    live: usize,
    index: Index,
    wheel: Wheel,
    ranks: Ranks,
    scout: Scout,
    batch: Batch,
    /// Sessions that the wheel does not know yet: what they are queued for is known when their first packet is done.
    fresh: Vec<SessionId>,
    /// How many sessions wait for a client whose port is not known yet.
    expected: usize,
}

impl Sessions {
    /// Room for `limit` sessions and templates; memory is touched as they come.
    pub fn new(limit: usize, seed: u64, now: Nanos) -> Sessions {
        let limit = limit.clamp(1, (NONE >> 1) as usize);
        Sessions {
            lines: vec_on_huge_pages(limit),
            cold: vec_on_huge_pages(limit),
            wide: Side::new(limit),
            rare: Side::new(limit),
            limit,
            free: NONE,
            live: 0,
            index: Index::new(limit * 2, seed),
            wheel: Wheel::new(limit, now),
            ranks: Ranks::new(),
            scout: Scout::default(),
            batch: Batch::default(),
            fresh: Vec::with_capacity(FRESH),
            expected: 0,
        }
    }

    /// Memory that `limit` sessions of IPv4 take when all are there, with index, keys and timers, in bytes; each of
    /// IPv6 takes [`Sessions::wide_bytes`] more.
    pub fn bytes(limit: usize) -> usize {
        limit * (size_of::<Session>() + size_of::<Cold>()) + Index::bytes(limit * 2) + Wheel::bytes(limit)
    }

    /// What an address of IPv6 adds to a session, in bytes.
    pub const fn wide_bytes() -> usize {
        Side::<Wide>::bytes()
    }

    /// How many are live.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many more there is room for.
    pub fn room(&self) -> usize {
        self.limit - self.live
    }

    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.live >= self.limit
    }

    /// How many arena slots have ever been used: ids are below.
    pub fn high_water(&self) -> SessionId {
        self.lines.len() as SessionId
    }

    /// The session in a slot, when it is live.
    pub fn slot(&self, id: SessionId) -> Option<&Session> {
        self.lines.get(id as usize).filter(|session| session.is_live())
    }

    /// A session known to be live.
    #[inline]
    pub fn get(&self, id: SessionId) -> &Session {
        &self.lines[id as usize]
    }

    /// A session known to be live, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: SessionId) -> &mut Session {
        &mut self.lines[id as usize]
    }

    /// Its addresses and ports.
    #[inline]
    pub fn ends(&self, id: SessionId) -> Ends {
        let session = self.get(id);
        session.ends(session.wide().and_then(|wide| self.wide.get(wide)))
    }

    /// Its server's address, when it is spoken to by the client's family.
    #[inline]
    pub(crate) fn untranslated_server(&self, id: SessionId) -> Option<IpAddr> {
        let session = self.get(id);
        if !session.is_wide() {
            return Some(IpAddr::V4(session.server_v4()));
        }
        let ends = self.ends(id);
        (!ends.translates()).then_some(ends.server.0)
    }

    /// The template that controls it, or, of FTP's data, the control connection; or [`NONE`].
    #[inline]
    pub fn control(&self, id: SessionId) -> SessionId {
        self.cold[id as usize].control
    }

    /// How many sessions it controls.
    #[inline]
    pub fn controls(&self, id: SessionId) -> u32 {
        self.cold[id as usize].controls
    }

    /// The number of the server's first byte, once its SYN has shown it.
    #[inline]
    pub(crate) fn first_answer(&self, id: SessionId) -> u32 {
        self.cold[id as usize].first_answer
    }

    #[inline]
    pub(crate) fn set_first_answer(&mut self, id: SessionId, number: u32) {
        self.cold[id as usize].first_answer = number;
    }

    /// Makes a session; `None` when there is no room.
    pub fn insert(&mut self, new: NewSession, now: Nanos) -> Option<SessionId> {
        if self.is_full() {
            return None;
        }
        let wide = match line::wide(&new) {
            None => None,
            Some(wide) => Some(self.wide.add(wide)?),
        };
        let mut session = Session::new(&new, wide);
        session.set_timeout(NEW_TIMEOUT);
        session.touch(now);
        let id = self.begin(session, new.control);
        if self.fresh.len() == FRESH {
            self.queue_fresh();
        }
        self.fresh.push(id);
        self.add_keys(id);
        if new.control != NONE {
            self.cold[new.control as usize].controls += 1;
        }
        Some(id)
    }

    /// Makes a session of one that nobody controls and whose ends are of IPv4; `None` when there is no room. `hash` is
    /// that of its clients' packets, `reply` that of its server's if it is sure that no session has their key.
    #[inline(always)]
    pub(crate) fn insert_v4(&mut self, session: Session, hash: u64, reply: Option<u64>) -> Option<SessionId> {
        if self.is_full() {
            return None;
        }
        let id = self.begin(session, NONE);
        self.queue(id);
        self.add_keys_by(id, hash, reply);
        Some(id)
    }

    #[inline(always)]
    fn begin(&mut self, session: Session, control: SessionId) -> SessionId {
        let id = self.occupy(session, Cold::new(control));
        self.ranks.place(&mut self.cold, id, Rank::of(session.state()));
        id
    }

    /// A place in the arenas: the one that became free last, which caches may still have.
    #[inline(always)]
    fn occupy(&mut self, session: Session, cold: Cold) -> SessionId {
        self.live += 1;
        let id = self.free;
        if id == NONE {
            self.lines.push(session);
            self.cold.push(cold);
            return (self.lines.len() - 1) as SessionId;
        }
        self.lines[id as usize] = session;
        let before = &mut self.cold[id as usize];
        self.free = before.control;
        *before = Cold { timer: before.timer, slot: before.slot, ..cold };
        // For the next session.
        prefetch_at(&self.lines, self.free as usize);
        prefetch_at(&self.cold, self.free as usize);
        id
    }

    fn make_rare(&mut self, id: SessionId) -> Option<&mut Rare> {
        let place = &mut self.cold[id as usize].rare;
        if *place == NOWHERE {
            *place = self.rare.add(Rare::default())?;
        }
        self.rare.get_mut(*place)
    }

    /// Ends a session: every index forgets it, its template has one less. The caller settles the counts.
    #[inline]
    pub fn remove(&mut self, id: SessionId) {
        self.remove_by(id, self.hashes(id));
    }

    #[inline]
    fn remove_by(&mut self, id: SessionId, hashes: Hashes) {
        self.retire_by(id, hashes);
        self.ranks.remove(&mut self.cold, id);
        let session = &mut self.lines[id as usize];
        session.end();
        if let Some(wide) = session.wide() {
            self.wide.remove(wide);
        }
        self.expected -= usize::from(session.care.is_expected());
        let cold = &mut self.cold[id as usize];
        self.rare.remove(cold.rare);
        let control = std::mem::replace(&mut cold.control, self.free);
        if control != NONE {
            self.cold[control as usize].controls -= 1;
        }
        self.free = id;
        self.live -= 1;
    }

    /// What was changed in a session's stream.
    #[inline]
    pub(crate) fn edits(&self, id: SessionId) -> Option<&Edits> {
        self.rare.get(self.cold[id as usize].rare).map(|rare| &rare.edits)
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn edits_mut(&mut self, id: SessionId) -> Option<&mut Edits> {
        self.rare.get_mut(self.cold[id as usize].rare).map(|rare| &mut rare.edits)
    }

    /// The same, made when there was nothing yet; `None` when there is no room.
    pub(crate) fn make_edits(&mut self, id: SessionId) -> Option<&mut Edits> {
        self.make_rare(id).map(|rare| &mut rare.edits)
    }

    /// To be called when the state of a session has changed.
    pub fn state_changed(&mut self, id: SessionId) {
        let rank = Rank::of(self.get(id).state());
        self.ranks.place(&mut self.cold, id, rank);
    }

    /// How dispensable a session is; `None`: it is not.
    pub fn rank(&self, id: SessionId) -> Option<Rank> {
        let Cold { rank, controls, .. } = self.cold[id as usize];
        rank.filter(|_| controls == 0)
    }

    /// The session that makes room for another when there is none.
    pub fn most_dispensable(&mut self) -> Option<SessionId> {
        let first = self.ranks.first(&self.cold)?;
        self.prefetch_dispensable(first);
        Some(first)
    }
}
