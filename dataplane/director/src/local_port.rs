//! Local addresses and ports of FULLNAT: which one a new session gets.

use std::net::IpAddr;

use crate::buffer::Pool;
use crate::engine::Engine;
use crate::reason::{Event, Reason};
use crate::session::{Direction, Key, Narrow, Rank, SessionId};
use crate::snapshot::{DestinationId, LocalRange, Service, Snapshot};

/// Local ports tried for one session at most; the search goes on there with the next session.
const LOCAL_PORT_TRIES: u32 = 512;

/// Where the search for a local port towards a server goes on: through the addresses, a port further each round.
#[derive(Clone, Copy, Debug, Default)]
struct LocalCursor {
    /// Which of a range's ports that are this worker's.
    nth: u32,
    /// Of which range; may be none any more after a change.
    range: u32,
    /// How many ports of the longest range are this worker's.
    depth: u32,
    /// For which configuration, server and number of workers that was counted.
    counted: (u32, DestinationId, u32),
}

impl LocalCursor {
    /// Whether no session has asked for a port towards its server.
    fn is_new(&self) -> bool {
        self.counted.2 == 0
    }

    #[inline]
    fn range(&self, ranges: usize) -> usize {
        if (self.range as usize) < ranges { self.range as usize } else { 0 }
    }

    #[inline]
    fn advance(&mut self, ranges: usize) {
        self.range = self.range(ranges) as u32 + 1;
        if self.range as usize == ranges {
            self.range = 0;
            self.nth = if self.nth + 1 < self.depth { self.nth + 1 } else { 0 };
        }
    }
}

/// Cursors by destination id; ids that are far apart may share one.
#[derive(Debug)]
pub(crate) struct LocalCursors(Box<[LocalCursor]>);

impl LocalCursors {
    const COUNT: usize = 1 << 16;

    #[inline]
    fn of(&mut self, destination: DestinationId) -> &mut LocalCursor {
        &mut self.0[destination as usize % LocalCursors::COUNT]
    }
}

impl Default for LocalCursors {
    fn default() -> LocalCursors {
        LocalCursors(vec![LocalCursor::default(); LocalCursors::COUNT].into())
    }
}

/// Which ports of a range are a worker's, where that is not for the devices' hash to say: every so many-th.
#[derive(Clone, Copy)]
struct Share {
    worker: u32,
    workers: u32,
}

impl Share {
    /// The first of them, and how many there are.
    #[inline]
    fn of(self, range: &LocalRange) -> (u32, u32) {
        let Share { worker, workers } = self;
        let (first, last) = (u32::from(range.first), u32::from(range.last));
        if workers == 1 {
            return (first, (last + 1).saturating_sub(first));
        }
        let start = first + (worker + workers - first % workers) % workers;
        (start, (last + workers).saturating_sub(start) / workers)
    }
}

impl<P: Pool> Engine<P> {
    /// A local address and port that is free towards a server. "Free" means that no session has the reply key;
    /// a cursor per server goes round addresses and ports, so that a port rests as long as possible. Each worker
    /// takes only ports of its own, by residue or by the devices' hash: a reply names its owner.
    // Where no port is free, the most dispensable session gives its own up: of those that are met, the one that took
    // its port first. The server accepts the port again, since its new user's numbers are higher.
    pub(crate) fn take_local_port(
        &mut self,
        snap: &Snapshot,
        protocol: u8,
        ranges: &[LocalRange],
        destination: DestinationId,
        server: (IpAddr, u16),
    ) -> Result<(IpAddr, u16), Reason> {
        if ranges.is_empty() {
            return Err(Reason::NoLocalAddress);
        }
        let me = self.config.worker;
        let by_hash = self.steer.rss().and_then(|rss| rss.search(protocol, server));
        let share = match by_hash {
            Some(_) => Share { worker: 0, workers: 1 },
            None => self.share(),
        };
        let workers = share.workers;
        // By hash a port in so many is this worker's.
        let tries = LOCAL_PORT_TRIES * by_hash.map_or(1, |_| u32::from(self.steer.workers()));
        let mut cursor = *self.local_cursors.of(destination);
        let counted = (snap.generation as u32, destination, workers);
        if cursor.counted != counted {
            let depth = ranges.iter().map(|range| share.of(range).1).max().unwrap_or(0);
            let nth =
                if cursor.is_new() { self.config.numbers.place(destination, depth) } else { cursor.nth };
            cursor = LocalCursor { nth, depth, counted, ..cursor };
        }
        let mut hashed = None;
        let mut dispensable: Option<(Rank, SessionId, LocalCursor, (IpAddr, u16))> = None;
        for _ in 0..cursor.depth.saturating_mul(ranges.len() as u32).min(tries) {
            let (range, nth) = (&ranges[cursor.range(ranges.len())], cursor.nth);
            cursor.advance(ranges.len());
            let (start, size) = share.of(range);
            if nth >= size {
                continue;
            }
            let port = (start + nth * workers) as u16;
            if let Some(search) = by_hash {
                if hashed.is_none_or(|(of, _)| of != range.address) {
                    hashed = Some((range.address, search.address(range.address)));
                }
                if hashed.is_some_and(|(_, address)| search.owner(address, port) != me) {
                    continue;
                }
            }
            let key = Key {
                protocol: u16::from(protocol),
                src: server.0,
                sport: server.1,
                dst: range.address,
                dport: port,
            };
            if let Some((taken, direction)) = self.sessions.find(key) {
                if let Some(cells) = snap.local_cells(range.address, usize::from(me)) {
                    cells.conflicts.add(1);
                }
                if direction == Direction::Out
                    && let Some(rank) = self.sessions.rank(taken)
                    && dispensable.is_none_or(|(least, ..)| rank < least)
                {
                    dispensable = Some((rank, taken, cursor, (range.address, port)));
                }
                continue;
            }
            if by_hash.is_none() {
                // Most likely what the next session to this server asks for.
                let range = &ranges[cursor.range(ranges.len())];
                let port = share.of(range).0 + cursor.nth * workers;
                self.sessions.prefetch_key(Key { dst: range.address, dport: port as u16, ..key });
            }
            *self.local_cursors.of(destination) = cursor;
            return Ok((range.address, port));
        }
        let taken = dispensable.map(|(_, taken, behind, local)| {
            self.counters.event(Event::LocalPortReclaimed);
            self.end_session(snap, taken);
            cursor = behind;
            local
        });
        *self.local_cursors.of(destination) = cursor;
        taken.ok_or(Reason::LocalPortsExhausted)
    }

    /// The same for a server of IPv4 that has been connected to before, when the next port is free and names its owner by
    /// residue: with the hash of the reply key, which no session has.
    #[inline]
    pub(crate) fn next_local_port(
        &mut self,
        snap: &Snapshot,
        protocol: u8,
        service: &Service,
        destination: DestinationId,
        server: (u32, u16),
    ) -> Option<((u32, u16), u64)> {
        if self.steer.rss().is_some() {
            return None;
        }
        let (share, ranges) = (self.share(), &service.local_addresses[..service.local_v4]);
        let cursor = self.local_cursors.of(destination);
        let at = |cursor: &LocalCursor| {
            let range = ranges.get(cursor.range(ranges.len()))?;
            let (start, size) = share.of(range);
            let (IpAddr::V4(address), true) = (range.address, cursor.nth < size) else { return None };
            Some((address.to_bits(), (start + cursor.nth * share.workers) as u16))
        };
        if cursor.counted != (snap.generation as u32, destination, share.workers) {
            return None;
        }
        let local = at(cursor)?;
        let hash = self.sessions.hash_v4(protocol, Narrow::new(server, local));
        if !self.sessions.is_absent(hash) {
            return None;
        }
        cursor.advance(ranges.len());
        // Most likely what the next session to this server asks for.
        if let Some(next) = at(cursor) {
            self.sessions.prefetch_bucket(self.sessions.hash_v4(protocol, Narrow::new(server, next)));
        }
        Some((local, hash))
    }

    fn share(&self) -> Share {
        Share { worker: self.config.worker.into(), workers: self.steer.workers().into() }
    }
}
