//! Sessions (IPVS: connections) and persistence templates of one worker.
//!
//! [`Sessions`] owns them: an arena, an index that finds a session from either direction, and a timing wheel.
//! What a packet does to a session's state is in `state`, by [`tcp`] and [`sctp`]; which server it gets, and how
//! packets are rewritten, is decided elsewhere.

mod index;
mod rank;
pub(crate) mod rare;
pub mod sctp;
mod state;
pub mod tcp;
#[cfg(test)]
mod tests;
mod wheel;

use std::net::IpAddr;

use crate::snapshot::{DestinationId, Forward};
use crate::stream::{Care, Edits};
use crate::{Nanos, SECOND};
use index::Index;
pub use rank::Rank;
use rank::Ranks;
use rare::RareParts;
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

/// One session or template.
#[derive(Clone, Debug)]
pub struct Session {
    /// IP protocol number.
    pub protocol: u8,
    /// Forwarding method, fixed when the session was made.
    pub forward: Forward,
    /// State.
    pub state: State,
    /// Whether it counts as an active one of its server.
    pub active: bool,
    /// No packet of the server has been seen (and, by DR and TUN, is expected). // IPVS: IP_VS_CONN_F_NOOUTPUT
    pub no_output: bool,
    /// Client's address; under the netmask for templates.
    pub client: IpAddr,
    /// Client's port.
    pub client_port: u16,
    /// VIP.
    pub vip: IpAddr,
    /// Port the client asked for.
    pub vip_port: u16,
    /// Address that a FULLNAT server sees; the client's otherwise. A template is found by it: of a call it is one
    /// that no client has.
    pub local: IpAddr,
    /// Port that a FULLNAT server sees; the client's otherwise.
    pub local_port: u16,
    /// Server's address.
    pub server: IpAddr,
    /// Server's port.
    pub server_port: u16,
    /// Its server.
    pub destination: DestinationId,
    /// The template that controls it, or, of FTP's data, the control connection; or [`NONE`].
    pub control: SessionId,
    /// Packets from the client, to 255. // IPVS: in_pkts
    pub in_packets: u8,
    /// How many sessions it controls.
    pub controls: u32,
    /// What its packets need beside new addresses and ports.
    pub(crate) care: Care,
    /// When it ends if nothing comes.
    pub expires: Nanos,
    /// What every packet sets `expires` to, from its own time.
    pub timeout: Nanos,
    /// Session with the same reply key that this one hides, or [`NONE`].
    older: SessionId,
    /// Session with the same reply key that hides this one, or [`NONE`].
    newer: SessionId,
    /// Neighbours in the timing wheel, and its slot.
    timer: wheel::Link,
    /// Neighbours among those that may make room for others.
    rank: rank::Link,
    /// Whether the arena slot is in use.
    live: bool,
    /// Whether its keys are in the index (what was retired has none any more).
    indexed: bool,
}

impl Session {
    /// Whether it is a template.
    #[inline]
    pub fn is_template(&self) -> bool {
        matches!(self.state, State::Template { .. })
    }

    /// The key of packets from the client.
    #[inline]
    fn key_in(&self) -> Key {
        let (protocol, src) = match self.is_template() {
            true => (u16::from(self.protocol) | TEMPLATE, self.local),
            false => (u16::from(self.protocol), self.client),
        };
        Key { protocol, src, sport: self.client_port, dst: self.vip, dport: self.vip_port }
    }

    /// The key of packets from the server, where they come back through the director.
    #[inline]
    fn key_out(&self) -> Option<Key> {
        let answered = !matches!(self.state, State::Template { .. } | State::OnePacket);
        let rewritten = matches!(self.forward, Forward::Nat | Forward::FullNat) && answered;
        rewritten.then_some(Key {
            protocol: u16::from(self.protocol),
            src: self.server,
            sport: self.server_port,
            dst: self.local,
            dport: self.local_port,
        })
    }

    /// Starts the time-out anew.
    #[inline]
    pub fn touch(&mut self, now: Nanos) {
        self.expires = now + self.timeout;
    }
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
    arena: Vec<Session>,
    limit: usize,
    free: SessionId,
    live: usize,
    index: Index,
    wheel: Wheel,
    ranks: Ranks,
    rare: RareParts,
    /// How many sessions wait for a client whose port is not known yet.
    expected: usize,
}

impl Sessions {
    /// Room for `limit` sessions and templates; memory is touched as they come.
    pub fn new(limit: usize, seed: u64, now: Nanos) -> Sessions {
        let limit = limit.clamp(1, (NONE >> 1) as usize);
        Sessions {
            arena: Vec::with_capacity(limit),
            limit,
            free: NONE,
            live: 0,
            index: Index::new(limit * 2, seed),
            wheel: Wheel::new(now),
            ranks: Ranks::new(),
            rare: RareParts::new(limit),
            expected: 0,
        }
    }

    /// Memory that `limit` sessions and templates take when all are there, in bytes.
    pub fn bytes(limit: usize) -> usize {
        limit * size_of::<Session>() + Index::bytes(limit * 2) + RareParts::bytes(limit)
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
        self.arena.len() as SessionId
    }

    /// The session in a slot, when it is live.
    pub fn slot(&self, id: SessionId) -> Option<&Session> {
        self.arena.get(id as usize).filter(|session| session.live)
    }

    /// A session known to be live.
    #[inline]
    pub fn get(&self, id: SessionId) -> &Session {
        &self.arena[id as usize]
    }

    /// A session known to be live, to be changed (not its addresses and ports).
    #[inline]
    pub fn get_mut(&mut self, id: SessionId) -> &mut Session {
        &mut self.arena[id as usize]
    }

    /// The session of a packet with this key. The caller judges whether it has expired.
    #[inline]
    pub fn find(&self, key: Key) -> Option<(SessionId, Direction)> {
        let hash = self.index.hash(key);
        let entry = self.index.find(hash, |entry| self.key_of(entry) == Some(key))?;
        Some((entry >> 1, if entry & 1 == 0 { Direction::In } else { Direction::Out }))
    }

    #[inline]
    fn key_of(&self, entry: u32) -> Option<Key> {
        let session = &self.arena[(entry >> 1) as usize];
        if entry & 1 == 0 { Some(session.key_in()) } else { session.key_out() }
    }

    /// Makes a session; `None` when there is no room.
    pub fn insert(&mut self, new: NewSession, now: Nanos) -> Option<SessionId> {
        if self.is_full() {
            return None;
        }
        let session = Session {
            protocol: new.protocol,
            forward: new.forward,
            state: new.state,
            active: false,
            no_output: !matches!(new.forward, Forward::Nat | Forward::FullNat),
            client: new.client.0,
            client_port: new.client.1,
            vip: new.vip.0,
            vip_port: new.vip.1,
            local: new.local.0,
            local_port: new.local.1,
            server: new.server.0,
            server_port: new.server.1,
            destination: new.destination,
            control: new.control,
            in_packets: 0,
            controls: 0,
            care: Care::default(),
            expires: now + NEW_TIMEOUT,
            timeout: NEW_TIMEOUT,
            older: NONE,
            newer: NONE,
            timer: wheel::Link::default(),
            rank: rank::Link::default(),
            live: true,
            indexed: true,
        };
        let id = match self.free {
            NONE => {
                self.arena.push(session);
                (self.arena.len() - 1) as SessionId
            }
            id => {
                self.free = self.arena[id as usize].older;
                self.arena[id as usize] = session;
                id
            }
        };
        self.live += 1;
        let key_in = self.arena[id as usize].key_in();
        self.index.insert(self.index.hash(key_in), id << 1);
        if let Some(key) = self.arena[id as usize].key_out() {
            self.insert_reply(id, key);
        }
        if new.control != NONE {
            self.arena[new.control as usize].controls += 1;
        }
        self.wheel.add(&mut self.arena, id, now + NEW_TIMEOUT);
        self.ranks.place(&mut self.arena, id, Rank::of(new.state));
        Some(id)
    }

    /// Two VIPs with one server and one client port have the same reply key: the newest wins, the older comes
    /// back when it ends.
    fn insert_reply(&mut self, id: SessionId, key: Key) {
        let hash = self.index.hash(key);
        match self.index.find(hash, |entry| self.key_of(entry) == Some(key) && entry & 1 == 1) {
            Some(entry) => {
                let older = entry >> 1;
                self.arena[id as usize].older = older;
                self.arena[older as usize].newer = id;
                self.index.replace(hash, entry, (id << 1) | 1);
            }
            None => self.index.insert(hash, (id << 1) | 1),
        }
    }

    fn remove_reply(&mut self, id: SessionId, key: Key) {
        let session = &mut self.arena[id as usize];
        let older = std::mem::replace(&mut session.older, NONE);
        let newer = std::mem::replace(&mut session.newer, NONE);
        if older != NONE {
            self.arena[older as usize].newer = newer;
        }
        if newer != NONE {
            self.arena[newer as usize].older = older;
            return;
        }
        let hash = self.index.hash(key);
        if older == NONE {
            self.index.remove(hash, (id << 1) | 1);
        } else {
            self.index.replace(hash, (id << 1) | 1, (older << 1) | 1);
        }
    }

    /// Ends a session: every index forgets it, its template has one less. The caller settles the counts.
    pub fn remove(&mut self, id: SessionId) -> Session {
        self.retire(id);
        self.wheel.remove(&mut self.arena, id);
        self.ranks.remove(&mut self.arena, id);
        let Session { control, care, .. } = self.arena[id as usize];
        self.rare.remove(care.rare);
        self.expected -= usize::from(care.is_expected());
        if control != NONE {
            self.arena[control as usize].controls -= 1;
        }
        let session = self.arena[id as usize].clone();
        let slot = &mut self.arena[id as usize];
        slot.live = false;
        slot.older = self.free;
        self.free = id;
        self.live -= 1;
        session
    }

    /// Takes a template's key away, so that nobody finds it any more: it is left to die with its sessions.
    // IPVS: an invalid template is rekeyed to port 65535.
    pub fn retire_template(&mut self, id: SessionId) {
        self.retire(id);
        let session = &mut self.arena[id as usize];
        session.vip_port = u16::MAX;
        session.server_port = u16::MAX;
    }

    /// Takes a session's keys away, so that no packet finds it any more.
    pub(crate) fn retire(&mut self, id: SessionId) {
        if std::mem::replace(&mut self.arena[id as usize].indexed, false) {
            let key = self.arena[id as usize].key_in();
            self.index.remove(self.index.hash(key), id << 1);
            if let Some(key) = self.arena[id as usize].key_out() {
                self.remove_reply(id, key);
            }
        }
    }

    /// Makes a session of a client whose port is not known yet: any packet of it that opens a connection to `vip`
    /// is the session's first ([`Sessions::find_expected`], [`Sessions::meet`]).
    // IPVS: IP_VS_CONN_F_NO_CPORT
    pub(crate) fn expect(&mut self, new: NewSession, now: Nanos) -> Option<SessionId> {
        let id = self.insert(NewSession { client: (new.client.0, 0), ..new }, now)?;
        self.arena[id as usize].care.expect();
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
        let session = &mut self.arena[id as usize];
        session.client_port = port;
        if session.forward == Forward::Nat {
            session.local_port = port;
        }
        session.care.meet();
        session.indexed = true;
        self.expected -= 1;
        let key = session.key_in();
        self.index.insert(self.index.hash(key), id << 1);
        if let Some(key) = self.arena[id as usize].key_out() {
            self.insert_reply(id, key);
        }
    }

    /// What was changed in a session's stream.
    #[inline]
    pub(crate) fn edits(&self, id: SessionId) -> Option<&Edits> {
        self.rare.get(self.get(id).care.rare)
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn edits_mut(&mut self, id: SessionId) -> Option<&mut Edits> {
        self.rare.get_mut(self.get(id).care.rare)
    }

    /// The same, made when there was nothing yet; `None` when there is no room.
    pub(crate) fn make_edits(&mut self, id: SessionId) -> Option<&mut Edits> {
        if self.get(id).care.rare == rare::NONE {
            self.arena[id as usize].care.rare = self.rare.add()?;
        }
        self.edits_mut(id)
    }

    /// Whether a session is over at `now`; a template that controls sessions is given another minute instead.
    #[inline]
    pub fn overdue(&mut self, id: SessionId, now: Nanos) -> bool {
        let session = &mut self.arena[id as usize];
        if session.expires > now {
            return false;
        }
        if session.controls > 0 {
            session.timeout = CONTROLLING_TIMEOUT;
            session.touch(now);
            return false;
        }
        true
    }

    /// The next session whose time is over, at most `budget` looked at; call until it gives `None`.
    pub fn next_expired(&mut self, now: Nanos, budget: &mut usize) -> Option<SessionId> {
        while *budget > 0 {
            let id = self.wheel.due(now)?;
            *budget -= 1;
            self.wheel.remove(&mut self.arena, id);
            let over = self.overdue(id, now);
            let at = if over { now } else { self.arena[id as usize].expires };
            self.wheel.add(&mut self.arena, id, at);
            if over {
                return Some(id);
            }
        }
        None
    }

    /// To be called when the state of a session has changed.
    pub fn state_changed(&mut self, id: SessionId) {
        let rank = Rank::of(self.arena[id as usize].state);
        self.ranks.place(&mut self.arena, id, rank);
    }

    /// How dispensable a session is; `None`: it is not.
    pub fn rank(&self, id: SessionId) -> Option<Rank> {
        let session = &self.arena[id as usize];
        session.rank.rank.filter(|_| session.controls == 0)
    }

    /// The session that makes room for another when there is none.
    pub fn most_dispensable(&self) -> Option<SessionId> {
        self.ranks.first(&self.arena)
    }

    /// Has the wheel ask for a session when it ends now: its time-out has become shorter.
    pub fn requeue(&mut self, id: SessionId) {
        self.wheel.remove(&mut self.arena, id);
        let at = self.arena[id as usize].expires;
        self.wheel.add(&mut self.arena, id, at);
    }

    /// When the wheel has to be looked at next.
    pub fn next_deadline(&self) -> Nanos {
        self.wheel.next_tick()
    }
}
