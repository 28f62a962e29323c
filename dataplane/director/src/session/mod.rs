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

mod index;
mod line;
mod rank;
pub mod sctp;
mod side;
mod state;
pub mod tcp;
#[cfg(test)]
mod tests;
mod wheel;

use std::net::IpAddr;

use fulcrum_machine::{prefetch_at, vec_on_huge_pages};

use crate::snapshot::{DestinationId, Forward};
use crate::stream::Edits;
use crate::{Nanos, SECOND};
use index::Index;
use line::Cold;
pub use line::{Ends, Session};
pub use rank::Rank;
use rank::Ranks;
use side::{NOWHERE, Rare, Side, Wide};
pub use state::{State, View};
use wheel::Wheel;

/// Index of a session in its worker's arena.
pub type SessionId = u32;

/// No session.
pub const NONE: SessionId = u32::MAX;

/// Life of a session before its first packet has set its state. // IPVS: ip_vs_conn_new, 3 s
const NEW_TIMEOUT: Nanos = 3 * SECOND;
/// How often an expired template that still controls sessions is looked at again. // IPVS: ip_vs_conn_expire
const CONTROLLING_TIMEOUT: Nanos = 60 * SECOND;
/// New sessions that the wheel hears of together.
const FRESH: usize = 64;
/// How many sessions before its turn what a session leads to is asked for; the session itself twice as many.
const AHEAD: usize = 8;

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

    /// The session of a packet with this key. The caller judges whether it has expired.
    #[inline]
    pub fn find(&self, key: Key) -> Option<(SessionId, Direction)> {
        let hash = self.index.hash(key);
        self.index.find(hash, |entry| self.key_of(entry) == Some(key)).map(meant)
    }

    #[inline]
    fn key_of(&self, entry: u32) -> Option<Key> {
        let (id, direction) = meant(entry);
        let (session, ends) = (self.get(id), self.ends(id));
        match direction {
            Direction::In => Some(session.key_in(&ends)),
            Direction::Out => session.key_out(&ends),
        }
    }

    /// The hash of a packet's key, of IPv4: ends as [`std::net::Ipv4Addr::to_bits`] has them, with ports.
    #[inline]
    pub fn hash_v4(&self, protocol: u8, src: (u32, u16), dst: (u32, u16)) -> u64 {
        self.index.hash_v4(protocol.into(), src, dst)
    }

    /// The hash of a packet's key, of IPv6.
    #[inline]
    pub fn hash_v6(&self, protocol: u8, src: (u128, u16), dst: (u128, u16)) -> u64 {
        self.index.hash_v6(protocol.into(), src, dst)
    }

    /// Asks for the part of the index that a hash leads to.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks for the part of the index that a key leads to.
    #[inline]
    pub(crate) fn prefetch_key(&self, key: Key) {
        self.index.prefetch(self.index.hash(key));
    }

    /// The session that the index names first for a hash, not looked at: most likely, but not surely the one.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<(SessionId, Direction)> {
        self.index.find(hash, |_| true).map(meant)
    }

    /// Asks for what packets need of a session.
    #[inline]
    pub fn prefetch(&self, id: SessionId) {
        prefetch_at(&self.lines, id as usize);
    }

    /// Asks for the addresses of a session when they are not in its line, which is looked at.
    #[inline]
    pub fn prefetch_wide(&self, session: &Session) {
        if let Some(wide) = session.wide() {
            self.wide.prefetch(wide);
        }
    }

    /// Whether a packet of IPv6 with these ends goes in `direction` of a session that the index has named; for those
    /// of IPv4 see [`Session::is_of_v4`].
    #[inline]
    pub fn is_of_v6(
        &self,
        session: &Session,
        direction: Direction,
        protocol: u8,
        src: (u128, u16),
        dst: (u128, u16),
    ) -> bool {
        let wide = session.wide().and_then(|wide| self.wide.get(wide));
        wide.is_some_and(|wide| session.is_of_v6(wide, direction, protocol, src, dst))
    }

    /// The other side's ends of a session of IPv6: source and destination that its packets get in a direction.
    #[inline]
    pub(crate) fn other_ends_v6(
        &self,
        session: &Session,
        direction: Direction,
    ) -> Option<((u128, u16), (u128, u16))> {
        let wide = session.wide().and_then(|wide| self.wide.get(wide))?;
        Some(session.other_ends_v6(wide, direction))
    }

    /// A number that changes whenever the index does: as long as it stays, keys lead to the same sessions.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.index.epoch()
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
        let id = self.occupy(session, Cold::new(new.control));
        self.add_keys(id);
        if new.control != NONE {
            self.cold[new.control as usize].controls += 1;
        }
        if self.fresh.len() == FRESH {
            self.queue_fresh();
        }
        self.fresh.push(id);
        self.ranks.place(&mut self.cold, id, Rank::of(new.state));
        Some(id)
    }

    /// A place in the arenas: the one that became free last, which caches may still have.
    fn occupy(&mut self, session: Session, cold: Cold) -> SessionId {
        self.live += 1;
        let id = self.free;
        if id == NONE {
            self.lines.push(session);
            self.cold.push(cold);
            return (self.lines.len() - 1) as SessionId;
        }
        self.lines[id as usize] = session;
        self.free = std::mem::replace(&mut self.cold[id as usize], cold).control;
        // For the next session.
        prefetch_at(&self.lines, self.free as usize);
        prefetch_at(&self.cold, self.free as usize);
        id
    }

    fn add_keys(&mut self, id: SessionId) {
        self.index.insert(self.hash_in(id), id << 1);
        if self.get(id).is_answered() {
            self.insert_reply(id);
        }
    }

    #[inline]
    fn hash_in(&self, id: SessionId) -> u64 {
        let session = self.get(id);
        match session.narrow(Direction::In) {
            Some((src, dst)) => self.index.hash_v4(session.protocol_in(), src, dst),
            None => self.index.hash(session.key_in(&self.ends(id))),
        }
    }

    /// Of one that is answered.
    #[inline]
    fn hash_out(&self, id: SessionId) -> u64 {
        let session = self.get(id);
        match session.narrow(Direction::Out) {
            Some((src, dst)) => self.index.hash_v4(session.protocol.into(), src, dst),
            None => session.key_out(&self.ends(id)).map_or(0, |key| self.index.hash(key)),
        }
    }

    /// Two VIPs with one server and one client port have the same reply key: the newest wins, the older comes
    /// back when it ends.
    fn insert_reply(&mut self, id: SessionId) {
        let hash = self.hash_out(id);
        let key = || self.key_of((id << 1) | 1);
        match self.index.find(hash, |entry| entry & 1 == 1 && self.key_of(entry) == key()) {
            Some(entry) => {
                let older = entry >> 1;
                self.stack(id).older = older;
                self.stack(older).newer = id;
                self.index.replace(hash, entry, (id << 1) | 1);
            }
            None => self.index.insert(hash, (id << 1) | 1),
        }
    }

    fn remove_reply(&mut self, id: SessionId) {
        let (mut older, mut newer) = (NONE, NONE);
        if self.get(id).is_stacked() {
            let links = self.stack(id);
            older = std::mem::replace(&mut links.older, NONE);
            newer = std::mem::replace(&mut links.newer, NONE);
        }
        if older != NONE {
            self.stack(older).newer = newer;
        }
        if newer != NONE {
            self.stack(newer).older = older;
            return;
        }
        let hash = self.hash_out(id);
        if older == NONE {
            self.index.remove(hash, (id << 1) | 1);
        } else {
            self.index.replace(hash, (id << 1) | 1, (older << 1) | 1);
        }
    }

    /// Where a session has its neighbours among those with the same reply key.
    fn stack(&mut self, id: SessionId) -> &mut Rare {
        self.lines[id as usize].stack();
        match self.make_rare(id) {
            Some(rare) => rare,
            None => unreachable!("there are as many rare parts as sessions"),
        }
    }

    fn make_rare(&mut self, id: SessionId) -> Option<&mut Rare> {
        let place = &mut self.cold[id as usize].rare;
        if *place == NOWHERE {
            *place = self.rare.add(Rare::default())?;
        }
        self.rare.get_mut(*place)
    }

    /// Ends a session: every index forgets it, its template has one less. The caller settles the counts.
    pub fn remove(&mut self, id: SessionId) -> Session {
        self.retire(id);
        self.wheel.remove(&mut self.cold, id);
        self.ranks.remove(&mut self.cold, id);
        let slot = &mut self.lines[id as usize];
        let session = *slot;
        slot.end();
        let Cold { control, rare, .. } = self.cold[id as usize];
        self.rare.remove(rare);
        if let Some(wide) = session.wide() {
            self.wide.remove(wide);
        }
        self.expected -= usize::from(session.care.is_expected());
        if control != NONE {
            self.cold[control as usize].controls -= 1;
        }
        self.cold[id as usize].control = self.free;
        self.free = id;
        self.live -= 1;
        session
    }

    /// Takes a template's key away, so that nobody finds it any more: it is left to die with its sessions.
    // IPVS: an invalid template is rekeyed to port 65535.
    pub fn retire_template(&mut self, id: SessionId) {
        self.retire(id);
        let session = self.get_mut(id);
        session.ports[line::VIP] = u16::MAX;
        session.ports[line::SERVER] = u16::MAX;
    }

    /// Takes a session's keys away, so that no packet finds it any more.
    pub(crate) fn retire(&mut self, id: SessionId) {
        if !self.get(id).is_indexed() {
            return;
        }
        self.get_mut(id).set_indexed(false);
        self.index.remove(self.hash_in(id), id << 1);
        if self.get(id).is_answered() {
            self.remove_reply(id);
        }
    }

    /// Makes a session of a client whose port is not known yet: any packet of it that opens a connection to `vip`
    /// is the session's first ([`Sessions::find_expected`], [`Sessions::meet`]).
    // IPVS: IP_VS_CONN_F_NO_CPORT
    pub(crate) fn expect(&mut self, new: NewSession, now: Nanos) -> Option<SessionId> {
        let id = self.insert(NewSession { client: (new.client.0, 0), ..new }, now)?;
        self.get_mut(id).care.expect();
        self.expected += 1;
        Some(id)
    }

    /// The session that waits for this packet's client.
    #[inline]
    pub(crate) fn find_expected(&self, key: Key) -> Option<SessionId> {
        if self.expected == 0 {
            return None;
        }
        let (id, direction) = self.find(Key { sport: 0, ..key })?;
        (direction == Direction::In && self.get(id).care.is_expected()).then_some(id)
    }

    /// Gives a session that waited for its client the client's port.
    pub(crate) fn meet(&mut self, id: SessionId, port: u16) {
        self.retire(id);
        let session = self.get_mut(id);
        session.ports[line::CLIENT] = port;
        if session.forward() == Forward::Nat {
            session.ports[line::LOCAL] = port;
        }
        session.care.meet();
        session.set_indexed(true);
        self.expected -= 1;
        self.add_keys(id);
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
        if let Some(id) = self.wheel.after(2 * AHEAD) {
            prefetch_at(&self.lines, id as usize);
            prefetch_at(&self.cold, id as usize);
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
    fn queue_fresh(&mut self) {
        while let Some(id) = self.fresh.pop() {
            // One that is over already, and has a successor in its place, is here twice.
            if self.lines[id as usize].is_live() && self.cold[id as usize].timer == NONE {
                self.wheel.add(&mut self.cold, id, self.lines[id as usize].expires);
            }
        }
    }

    /// To be called when the state of a session has changed.
    pub fn state_changed(&mut self, id: SessionId) {
        let rank = Rank::of(self.get(id).state);
        self.ranks.place(&mut self.cold, id, rank);
    }

    /// How dispensable a session is; `None`: it is not.
    pub fn rank(&self, id: SessionId) -> Option<Rank> {
        let Cold { rank, controls, .. } = self.cold[id as usize];
        rank.filter(|_| controls == 0)
    }

    /// The session that makes room for another when there is none.
    pub fn most_dispensable(&self) -> Option<SessionId> {
        self.ranks.first(&self.cold)
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

/// What an entry of the index means.
#[inline]
fn meant(entry: u32) -> (SessionId, Direction) {
    (entry >> 1, if entry & 1 == 0 { Direction::In } else { Direction::Out })
}
