//! Virtual reassembly: fragments go on as they came, each to where its datagram's first fragment goes.
//!
//! Only the first fragment shows ports. All fragments of a datagram are therefore taken first to one worker, a
//! function of [`Key`], who asks this table: [`Fragments::first`] remembers what the first one said and gives back
//! the ones that came before it, [`Fragments::later`] gives a later one its first one's word, or keeps it until
//! that comes. With that word each goes on to the owner of its flow. What waited in vain is to be fetched with
//! [`Fragments::discarded`] and counted.
//!
//! Everything is bounded and made at the start: datagrams, waiting fragments, what one source may have of either
//! (an eighth), fragments of a datagram ([`MAX_PIECES`]) and time ([`LIFETIME`]). A datagram is forgotten when all
//! of it has been seen. A full table forgets its oldest datagram: honest ones take milliseconds.

pub(crate) mod follow;
mod held;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::hash::folded_multiply;
use crate::{Nanos, SECOND};
use held::{Held, List};

/// How long fragments wait for each other. Honest ones are microseconds apart, a lost one never comes.
pub const LIFETIME: Nanos = 2 * SECOND;
/// Fragments of a datagram at most: 64 KiB in fragments of 1280 bytes take 54.
pub const MAX_PIECES: usize = 64;
/// What a first fragment carries at least, unless it is the whole: ports, and what hides from them otherwise (RFC 1858).
const MIN_FIRST: u32 = 8;
/// The end of the largest datagram.
const MAX_END: u32 = 65_535;
/// What one source may have of datagrams and of waiting fragments, as a part of all.
const SHARE: usize = 8;
/// No datagram.
const NONE: u32 = u32::MAX;

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Identification.
    pub id: u32,
    /// IPv4: protocol. IPv6, where later fragments may name another: 0.
    pub protocol: u8,
}

impl Key {
    /// A hash of it, for the choice of the worker too.
    pub fn hash(&self, seed: u64) -> u64 {
        let word = |address: IpAddr| match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                folded_multiply(bits as u64 ^ seed, (bits >> 64) as u64 | 1)
            }
        };
        let rest = (u64::from(self.id) << 8) | u64::from(self.protocol);
        let addresses = folded_multiply(word(self.src) ^ seed, word(self.dst) ^ 0x9e37_79b9_7f4a_7c15);
        folded_multiply(addresses ^ rest, seed ^ 0xf39c_c060_5ced_c835)
    }
}

/// Which bytes of its datagram a fragment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset of its first byte; a multiple of 8.
    pub start: u32,
    /// Offset behind its last byte.
    pub end: u32,
    /// Whether more follow.
    pub more: bool,
}

/// Why a fragment does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It carries nothing, is cut at no multiple of 8, or ends beyond the largest datagram.
    Malformed,
    /// A first fragment too short to show what it is about.
    Tiny,
    /// This fragment has been seen.
    Duplicate,
    /// It carries bytes that another fragment carried, or disagrees about the datagram's end.
    Overlap,
    /// Its datagram has too many fragments.
    TooManyPieces,
    /// Its source has its share of the table.
    SourceLimit,
    /// No room to wait.
    NoRoom,
    /// It waited in vain.
    TimedOut,
}

/// What is to be done with a later fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Later<I, B> {
    /// Goes where the first one went, who said this.
    Ready(I, B),
    /// Waits for the first one.
    Held,
    /// Goes nowhere.
    Refused(Refusal, B),
}

/// The most that a table keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Datagrams.
    pub datagrams: usize,
    /// Waiting fragments.
    pub held: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { datagrams: 4096, held: 512 }
    }
}

/// A datagram of which fragments were seen.
#[derive(Clone, Copy, Debug)]
struct Datagram<I> {
    key: Key,
    expires: Nanos,
    /// What the first fragment said.
    info: Option<I>,
    /// What was seen: begin and end.
    pieces: [(u16, u16); MAX_PIECES],
    count: u8,
    /// Its length, once the last fragment has told it.
    end: Option<u32>,
    /// Bytes seen, none twice.
    seen: u32,
    /// The highest end of what was seen.
    reach: u32,
    /// Fragments overlapped: none of it goes on any more.
    spoilt: bool,
    /// Fragments that came before the first.
    waiting: List,
    /// The next of the same bucket; of free ones, the next free one.
    chain: u32,
    older: u32,
    newer: u32,
}

/// What a source has of the table; sources may share a place.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    datagrams: u32,
    held: u32,
}

/// The table of one worker; `I` is what a first fragment says, `B` a buffer.
#[derive(Debug)]
pub struct Fragments<I, B> {
    datagrams: Box<[Option<Datagram<I>>]>,
    free: Vec<u32>,
    buckets: Box<[u32]>,
    oldest: u32,
    newest: u32,
    held: Held<B>,
    shares: Box<[Share]>,
    most: Share,
    seed: u64,
}

impl<I: Copy, B> Fragments<I, B> {
    /// An empty table.
    pub fn new(limits: Limits, seed: u64) -> Fragments<I, B> {
        let count = limits.datagrams.clamp(SHARE, (NONE >> 1) as usize);
        let held = limits.held.max(SHARE);
        let buckets = (count * 2).next_power_of_two();
        Fragments {
            datagrams: (0..count).map(|_| None).collect(),
            free: (0..count as u32).rev().collect(),
            buckets: vec![NONE; buckets].into(),
            oldest: NONE,
            newest: NONE,
            held: Held::new(held),
            shares: vec![Share::default(); buckets].into(),
            most: Share { datagrams: (count / SHARE) as u32, held: (held / SHARE) as u32 },
            seed,
        }
    }

    /// A first fragment, which said `info`. Those that waited for it are added to `ready` (at most
    /// [`MAX_PIECES`]), in the datagram's order.
    pub fn first(
        &mut self,
        key: &Key,
        piece: Piece,
        info: I,
        now: Nanos,
        ready: &mut Vec<B>,
    ) -> Result<(), Refusal> {
        if piece.more && piece.end < MIN_FIRST {
            return Err(Refusal::Tiny);
        }
        let id = self.admit(key, piece, now)?;
        let share = self.share_of(key.src);
        let Some(datagram) = &mut self.datagrams[id as usize] else { return Ok(()) };
        datagram.info = Some(info);
        while let Some(buf) = self.held.take(&mut datagram.waiting) {
            self.shares[share].held -= 1;
            ready.push(buf);
        }
        self.forget_when_whole(id);
        Ok(())
    }

    /// A later fragment.
    pub fn later(&mut self, key: &Key, piece: Piece, buf: B, now: Nanos) -> Later<I, B> {
        let share = self.share_of(key.src);
        let info = self.find(key, now).and_then(|id| self.datagrams[id as usize].as_ref()?.info);
        if info.is_none() {
            if self.shares[share].held >= self.most.held {
                return Later::Refused(Refusal::SourceLimit, buf);
            }
            if self.held.is_full() {
                return Later::Refused(Refusal::NoRoom, buf);
            }
        }
        let id = match self.admit(key, piece, now) {
            Ok(id) => id,
            Err(refusal) => return Later::Refused(refusal, buf),
        };
        if let Some(info) = info {
            self.forget_when_whole(id);
            return Later::Ready(info, buf);
        }
        if let Some(datagram) = &mut self.datagrams[id as usize] {
            self.held.put(&mut datagram.waiting, piece.start, buf);
            self.shares[share].held += 1;
        }
        Later::Held
    }

    /// The next fragment that waited in vain: its time is over, its datagram was spoilt or had to make room. Looks
    /// at no more than `budget` datagrams; call until it gives `None`.
    pub fn discarded(&mut self, now: Nanos, budget: &mut usize) -> Option<(B, Refusal)> {
        loop {
            if let Some(discarded) = self.held.discarded() {
                return Some(discarded);
            }
            let oldest = self.oldest;
            if *budget == 0 || oldest == NONE || self.datagram(oldest).expires > now {
                return None;
            }
            *budget -= 1;
            self.forget(oldest, Refusal::TimedOut);
        }
    }

    /// When the next one will have waited in vain, unless its datagram is spoilt or makes room before.
    pub fn next_end(&self) -> Nanos {
        if self.oldest == NONE { Nanos::MAX } else { self.datagram(self.oldest).expires }
    }

    /// How many datagrams are kept.
    pub fn len(&self) -> usize {
        self.datagrams.len() - self.free.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a fragment into its datagram, or says why not.
    fn admit(&mut self, key: &Key, piece: Piece, now: Nanos) -> Result<u32, Refusal> {
        let Piece { start, end, more } = piece;
        if start >= end || end > MAX_END || !start.is_multiple_of(8) || more && !end.is_multiple_of(8) {
            return Err(Refusal::Malformed);
        }
        let id = match self.find(key, now) {
            Some(id) => id,
            None => self.open(key, now)?,
        };
        let datagram = self.datagram(id);
        if datagram.spoilt {
            return Err(Refusal::Overlap);
        }
        let place = (start as u16, end as u16);
        let pieces = &datagram.pieces[..usize::from(datagram.count)];
        let contradicts = match datagram.end {
            Some(last) if more => end >= last,
            Some(last) => end != last,
            None => !more && end <= datagram.reach,
        };
        if !contradicts && pieces.contains(&place) {
            return Err(Refusal::Duplicate);
        }
        if contradicts || pieces.iter().any(|&(from, to)| place.0 < to && from < place.1) {
            self.spoil(id);
            return Err(Refusal::Overlap);
        }
        if pieces.len() == MAX_PIECES {
            self.spoil(id);
            return Err(Refusal::TooManyPieces);
        }
        if let Some(datagram) = &mut self.datagrams[id as usize] {
            datagram.pieces[usize::from(datagram.count)] = place;
            datagram.count += 1;
            datagram.seen += end - start;
            datagram.reach = datagram.reach.max(end);
            if !more {
                datagram.end = Some(end);
            }
        }
        Ok(id)
    }

    /// The datagram of a key; one whose time is over is forgotten here.
    fn find(&mut self, key: &Key, now: Nanos) -> Option<u32> {
        let mut id = self.buckets[self.bucket(key)];
        while id != NONE {
            let datagram = self.datagram(id);
            if datagram.key == *key {
                if datagram.expires > now {
                    return Some(id);
                }
                self.forget(id, Refusal::TimedOut);
                return None;
            }
            id = datagram.chain;
        }
        None
    }

    fn open(&mut self, key: &Key, now: Nanos) -> Result<u32, Refusal> {
        let share = self.share_of(key.src);
        if self.shares[share].datagrams >= self.most.datagrams {
            return Err(Refusal::SourceLimit);
        }
        if self.free.is_empty() {
            self.forget(self.oldest, Refusal::NoRoom);
        }
        let id = self.free.pop().ok_or(Refusal::NoRoom)?;
        self.shares[share].datagrams += 1;
        let bucket = self.bucket(key);
        self.datagrams[id as usize] = Some(Datagram {
            key: *key,
            expires: now + LIFETIME,
            info: None,
            pieces: [(0, 0); MAX_PIECES],
            count: 0,
            end: None,
            seen: 0,
            reach: 0,
            spoilt: false,
            waiting: List::default(),
            chain: std::mem::replace(&mut self.buckets[bucket], id),
            older: self.newest,
            newer: NONE,
        });
        match self.newest {
            NONE => self.oldest = id,
            newest => self.datagram_mut(newest).newer = id,
        }
        self.newest = id;
        Ok(id)
    }

    /// Of an IPv6 datagram whose fragments overlap, nothing goes on until its time is over (RFC 5722); an IPv4
    /// datagram is forgotten, as in the kernel.
    fn spoil(&mut self, id: u32) {
        if self.datagram(id).key.src.is_ipv4() {
            return self.forget(id, Refusal::Overlap);
        }
        self.drop_waiting(id, Refusal::Overlap);
        let datagram = self.datagram_mut(id);
        datagram.spoilt = true;
        datagram.info = None;
    }

    fn forget_when_whole(&mut self, id: u32) {
        let datagram = self.datagram(id);
        if datagram.info.is_some() && datagram.end == Some(datagram.seen) {
            self.forget(id, Refusal::TimedOut);
        }
    }

    /// Takes a datagram out of the table; what waits is discarded for this reason.
    fn forget(&mut self, id: u32, why: Refusal) {
        self.drop_waiting(id, why);
        let Some(datagram) = self.datagrams[id as usize].take() else { return };
        let share = self.share_of(datagram.key.src);
        self.shares[share].datagrams -= 1;
        match datagram.older {
            NONE => self.oldest = datagram.newer,
            older => self.datagram_mut(older).newer = datagram.newer,
        }
        match datagram.newer {
            NONE => self.newest = datagram.older,
            newer => self.datagram_mut(newer).older = datagram.older,
        }
        let bucket = self.bucket(&datagram.key);
        if self.buckets[bucket] == id {
            self.buckets[bucket] = datagram.chain;
        } else {
            let mut before = self.buckets[bucket];
            while self.datagram(before).chain != id {
                before = self.datagram(before).chain;
            }
            self.datagram_mut(before).chain = datagram.chain;
        }
        self.free.push(id);
    }

    fn drop_waiting(&mut self, id: u32, why: Refusal) {
        let share = self.share_of(self.datagram(id).key.src);
        let mut waiting = std::mem::take(&mut self.datagram_mut(id).waiting);
        self.shares[share].held -= self.held.discard(&mut waiting, why);
    }

    fn bucket(&self, key: &Key) -> usize {
        key.hash(self.seed) as usize & (self.buckets.len() - 1)
    }

    fn share_of(&self, src: IpAddr) -> usize {
        let of_source = Key { src, dst: src, id: 0, protocol: 0 };
        of_source.hash(!self.seed) as usize & (self.shares.len() - 1)
    }

    fn datagram(&self, id: u32) -> &Datagram<I> {
        match &self.datagrams[id as usize] {
            Some(datagram) => datagram,
            None => unreachable!("lists and buckets only name datagrams that are there"),
        }
    }

    fn datagram_mut(&mut self, id: u32) -> &mut Datagram<I> {
        match &mut self.datagrams[id as usize] {
            Some(datagram) => datagram,
            None => unreachable!("lists and buckets only name datagrams that are there"),
        }
    }
}
