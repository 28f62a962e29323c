//! Which session a packet is of: by its key, from either end, at once or in the steps that a burst takes.

use fulcrum_machine::prefetch_unseen;

use super::index::{Elsewhere, Index};
use super::line::{self, Session};
use super::narrow::Narrow;
use super::side::{Rare, Wide};
use super::terms::Terms;
use super::{Broad, Direction, Key, NONE, NewSession, SessionId, Sessions};
use crate::Nanos;
use crate::snapshot::Forward;

/// Hashes of a session's keys.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashes {
    /// Of its client's packets.
    pub(super) request: u64,
    /// Of its server's, where they come back through the director.
    pub(super) reply: Option<u64>,
}

impl Sessions {
    /// The session of a packet with this key. The caller judges whether it has expired.
    #[inline]
    pub fn find(&self, key: Key) -> Option<(SessionId, Direction)> {
        if let Some(ends) = key.narrow() {
            return self.find_v4(key.protocol, ends);
        }
        let hash = self.index.hash(key);
        self.index.find(hash, |entry| self.key_of(entry) == Some(key)).map(meant)
    }

    /// The same, when both ends are of IPv4.
    #[inline]
    pub(crate) fn find_v4(&self, protocol: u16, ends: Narrow) -> Option<(SessionId, Direction)> {
        let hash = self.index.hash_v4(protocol, ends);
        self.index.find(hash, |entry| self.has_key_v4(entry, protocol, ends)).map(meant)
    }

    #[inline]
    fn has_key_v4(&self, entry: u32, protocol: u16, ends: Narrow) -> bool {
        let (id, direction) = meant(entry);
        let session = self.get(id);
        match session.narrow(direction) {
            Some(own) if own != ends => false,
            Some(_) if direction == Direction::In => session.protocol_in() == protocol,
            Some(_) => session.is_answered() && u16::from(session.protocol()) == protocol,
            // Ends of one side only may be of IPv4.
            None => {
                self.key_of(entry).is_some_and(|key| (key.protocol, key.narrow()) == (protocol, Some(ends)))
            }
        }
    }

    fn key_of(&self, entry: u32) -> Option<Key> {
        let (id, direction) = meant(entry);
        let (session, ends) = (self.get(id), self.ends(id));
        match direction {
            Direction::In => Some(session.key_in(&ends)),
            Direction::Out => session.key_out(&ends),
        }
    }

    /// The hash of a packet's key, of IPv4.
    #[inline(always)]
    pub fn hash_v4(&self, protocol: u8, ends: Narrow) -> u64 {
        self.index.hash_v4(protocol.into(), ends)
    }

    /// The hash of a packet's key, of IPv6.
    #[inline(always)]
    pub(crate) fn hash_v6(&self, protocol: u8, addresses: &[u8; 32], ports: [u8; 4]) -> u64 {
        let addresses = &Broad::read(addresses);
        self.index.hash_v6(protocol.into(), addresses, ports)
    }

    /// The number of the part of the index that a hash leads to.
    #[inline(always)]
    pub fn bucket(&self, hash: u64) -> u32 {
        self.index.home(hash) as u32
    }

    /// Asks for it.
    #[inline(always)]
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
        self.index.first(hash).map(meant)
    }

    /// The same, in the part that [`Sessions::bucket`] gave, if it is the first that comes into question there.
    #[inline(always)]
    pub(crate) fn likely_in(&self, bucket: u32, hash: u64) -> Option<(SessionId, Direction)> {
        self.index.likely_at(bucket as usize, hash).map(meant)
    }

    /// The same of what need not be the first there; no session in any other number's part. What is not there, but may be
    /// in another part, which is asked for, is for [`Sessions::candidate`] to find.
    #[inline]
    pub(crate) fn candidate_in(
        &self,
        bucket: u32,
        hash: u64,
    ) -> Result<Option<(SessionId, Direction)>, Elsewhere> {
        self.index.first_at(bucket as usize, hash).map(|found| found.map(meant))
    }

    /// Whether the index names no session for a hash.
    #[inline]
    pub(crate) fn is_absent(&self, hash: u64) -> bool {
        self.index.is_absent(hash)
    }

    /// To be called before a burst's candidates are looked for.
    #[inline]
    pub(crate) fn begin_burst(&mut self) {
        self.index.begin();
    }

    /// Whether there is a candidate now for a hash that had none when the burst began.
    #[inline]
    pub(crate) fn has_come(&self, hash: u64) -> bool {
        self.index.may_have_come(hash) && !self.is_absent(hash)
    }

    /// Asks for what packets need of a session that the index has named.
    #[inline(always)]
    pub fn prefetch(&self, id: SessionId) {
        prefetch_unseen(&self.lines, id as usize);
    }

    /// Whether some sessions' addresses are not in their lines.
    #[inline]
    pub(crate) fn has_wide(&self) -> bool {
        self.wide.is_used()
    }

    /// Asks for the addresses of a session when they are not in its line, which is looked at.
    #[inline]
    pub fn prefetch_wide(&self, session: &Session) {
        if let Some(wide) = session.wide() {
            self.wide.prefetch(wide);
        }
    }

    /// A number that changes whenever the index does: as long as it stays, keys lead to the same sessions.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.index.epoch()
    }

    pub(super) fn add_keys(&mut self, id: SessionId) {
        self.add_keys_by(id, self.hashes(id).request, None);
    }

    /// The same, by hashes that are known: of its client's packets, and of its server's when nobody has their key.
    #[inline]
    pub(super) fn add_keys_by(&mut self, id: SessionId, request: u64, free: Option<u64>) {
        self.index.insert(request, id << 1);
        if let Some(reply) = free {
            self.index.insert(reply, (id << 1) | 1);
        } else if let Some(reply) = self.hashes(id).reply {
            self.insert_reply(id, reply);
        }
    }

    /// The hashes of its keys.
    #[inline]
    pub(super) fn hashes(&self, id: SessionId) -> Hashes {
        let session = self.get(id);
        let is_answered = session.is_answered();
        if session.is_wide() || session.is_template() {
            let reply = is_answered.then(|| self.hash_of_wide(id, Direction::Out));
            return Hashes { request: self.hash_of_wide(id, Direction::In), reply };
        }
        let hash = |direction| self.index.hash_v4(session.protocol().into(), session.comes(direction));
        Hashes { request: hash(Direction::In), reply: is_answered.then(|| hash(Direction::Out)) }
    }

    #[cold]
    fn hash_of_wide(&self, id: SessionId, direction: Direction) -> u64 {
        let key = self.key_of((id << 1) | direction as u32);
        key.map_or(0, |key| self.index.hash(key))
    }

    /// Two VIPs with one server and one client port have the same reply key: the newest wins, the older comes
    /// back when it ends.
    fn insert_reply(&mut self, id: SessionId, hash: u64) {
        let session = self.get(id);
        let found = match session.narrow(Direction::Out) {
            Some(ends) => {
                let protocol = session.protocol().into();
                self.index.find(hash, |entry| entry & 1 == 1 && self.has_key_v4(entry, protocol, ends))
            }
            None => {
                let key = self.key_of((id << 1) | 1);
                self.index.find(hash, |entry| entry & 1 == 1 && self.key_of(entry) == key)
            }
        };
        match found {
            Some(entry) => {
                let older = entry >> 1;
                self.stack(id).older = older;
                self.stack(older).newer = id;
                self.index.replace(hash, entry, (id << 1) | 1);
            }
            None => self.index.insert(hash, (id << 1) | 1),
        }
    }

    #[cold]
    fn leave_stack(&mut self, id: SessionId, hash: u64) {
        let links = self.stack(id);
        let older = std::mem::replace(&mut links.older, NONE);
        let newer = std::mem::replace(&mut links.newer, NONE);
        if older != NONE {
            self.stack(older).newer = newer;
        }
        if newer != NONE {
            self.stack(newer).older = older;
            return;
        }
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

    /// Takes a template's key away, so that nobody finds it any more: it is left to die with its sessions.
    // IPVS: an invalid template is rekeyed to port 65535.
    pub fn retire_template(&mut self, id: SessionId) {
        self.retire(id);
        let session = self.get_mut(id);
        session.set_port(line::VIP, u16::MAX);
        session.set_port(line::SERVER, u16::MAX);
    }

    /// Takes a session's keys away, so that no packet finds it any more.
    #[inline]
    pub(crate) fn retire(&mut self, id: SessionId) {
        self.retire_by(id, self.hashes(id));
    }

    /// The same, by its hashes.
    #[inline]
    pub(super) fn retire_by(&mut self, id: SessionId, hashes: Hashes) {
        let session = &mut self.lines[id as usize];
        if !session.is_indexed() {
            return;
        }
        session.set_indexed(false);
        let is_stacked = session.is_stacked();
        self.index.remove(hashes.request, id << 1);
        match hashes.reply {
            Some(reply) if is_stacked => self.leave_stack(id, reply),
            Some(reply) => self.index.remove(reply, (id << 1) | 1),
            None => {}
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

    /// Whether any session waits for its client.
    #[inline]
    pub(crate) fn expects(&self) -> bool {
        self.expected > 0
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
        session.set_port(line::CLIENT, port);
        if session.forward() == Forward::Nat {
            session.set_port(line::LOCAL, port);
        }
        session.care.meet();
        session.set_indexed(true);
        self.expected -= 1;
        self.add_keys(id);
    }
}

/// Sessions at hand for the packets of a burst: none comes or goes meanwhile.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    lines: &'a mut [Session],
    wide: &'a [Wide],
    index: &'a Index,
}

impl Sessions {
    /// All of them.
    #[inline]
    pub(crate) fn lines(&mut self) -> Lines<'_> {
        Lines { lines: &mut self.lines, wide: self.wide.all(), index: &self.index }
    }
}

impl<'a> Lines<'a> {
    /// The same, for a while.
    #[inline(always)]
    pub(crate) fn lend(&mut self) -> Lines<'_> {
        Lines { lines: self.lines, wide: self.wide, index: self.index }
    }

    /// A session known to be live.
    #[inline]
    pub(crate) fn get(&self, id: SessionId) -> &Session {
        &self.lines[id as usize]
    }

    /// What has a place in the arena.
    #[inline(always)]
    pub(crate) fn line_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.lines.get_mut(id as usize)
    }

    /// As [`Sessions::candidate`].
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<(SessionId, Direction)> {
        self.index.first(hash).map(meant)
    }

    /// A session known to be live, to be changed, and its addresses that are not in its line; `None` unless its terms
    /// are right, which say that there are such.
    #[inline(always)]
    pub(crate) fn get_wide(
        &mut self,
        id: SessionId,
        is_right: impl FnOnce(Terms) -> bool,
    ) -> Option<(&mut Session, &'a Wide)> {
        let session = &mut self.lines[id as usize];
        let wide = is_right(session.terms()).then(|| self.wide.get(session.place_of_wide() as usize))??;
        Some((session, wide))
    }

    /// A session known to be live, to be changed, and its addresses when they are not in its line.
    #[inline(always)]
    pub(crate) fn get_with_wide(&mut self, id: SessionId) -> (&mut Session, Option<&'a Wide>) {
        let session = &mut self.lines[id as usize];
        let wide = session.wide().and_then(|wide| self.wide.get(wide as usize));
        (session, wide)
    }
}

/// What an entry of the index means.
#[inline]
fn meant(entry: u32) -> (SessionId, Direction) {
    (entry >> 1, if entry & 1 == 0 { Direction::In } else { Direction::Out })
}
