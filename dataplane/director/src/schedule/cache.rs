//! Which servers an address went to: the memory of lblc and lblcr, shared by all workers.
//!
//! A table of fixed size, in buckets of a few entries; an address is looked for in one bucket only, and in a full
//! one takes the place of what has rested longest. Nobody waits: a reader copies an entry and looks at the
//! bucket's version before and after; a writer claims the bucket by making its version odd, and who finds it
//! claimed does without the memory for this one connection.
//!
//! An entry is touched once per new connection. Its memory is the system's zero pages until it is used.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence};

use crate::hash::folded_multiply;

/// Buckets, a power of two; times [`WAYS`], as many entries as IPVS keeps.
const BUCKETS: usize = 2048;
/// Entries of a bucket.
const WAYS: usize = 8;
/// Servers that an entry holds at most.
pub(super) const MOST: usize = 28;
/// How often a copy is tried while others write.
const TRIES: usize = 64;

/// Words of an entry before its servers: tag (0 = empty), when it was used, when its servers changed, their number.
const TAG: usize = 0;
const USED: usize = 1;
const CHANGED: usize = 2;
const LENGTH: usize = 3;
const SERVERS: usize = 4;

/// Addresses and the servers they went to; servers are whatever number the scheduler knows them by.
#[derive(Debug)]
pub(super) struct Cache {
    /// Servers of an entry at most.
    most: usize,
    /// Version of each bucket; odd while it is written.
    versions: Box<[AtomicU32]>,
    words: Box<[AtomicU32]>,
}

/// A copy of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// When it was used last, in seconds.
    pub(super) used: u32,
    /// When a server came or went, in seconds.
    pub(super) changed: u32,
    length: usize,
    servers: [u32; MOST],
}

impl Entry {
    /// The servers, newest first.
    pub(super) fn servers(&self) -> &[u32] {
        &self.servers[..self.length]
    }

    /// Puts a server in front; of `most` already there the oldest goes.
    fn push(&mut self, server: u32, most: usize) {
        self.length = (self.length + 1).min(most);
        self.servers.copy_within(..self.length - 1, 1);
        self.servers[0] = server;
    }

    fn erase(&mut self, server: u32) {
        if let Some(place) = self.servers().iter().position(|&s| s == server) {
            self.servers.copy_within(place + 1..self.length, place);
            self.length -= 1;
        }
    }
}

/// What to do with an address's servers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// This one is the only one.
    Set(u32),
    /// This one too.
    Add(u32),
    /// This one no more.
    Erase(u32),
}

/// Where an address belongs.
#[derive(Clone, Copy)]
struct Place {
    bucket: usize,
    tag: u32,
}

impl Cache {
    /// An empty one; entries hold `most` servers.
    pub(super) fn new(most: usize) -> Cache {
        let most = most.min(MOST);
        Cache {
            most,
            versions: bytemuck::zeroed_slice_box(BUCKETS),
            words: bytemuck::zeroed_slice_box(BUCKETS * WAYS * (SERVERS + most)),
        }
    }

    /// What is remembered of an address, which is used now; `None` also when others write at the moment.
    pub(super) fn look(&self, address: IpAddr, now: u32) -> Option<Entry> {
        let place = place(address);
        let version = &self.versions[place.bucket];
        for _ in 0..TRIES {
            let before = version.load(Acquire);
            if before.is_multiple_of(2) {
                let found = self.find(place).map(|at| (at, self.read(at)));
                fence(Acquire);
                if version.load(Relaxed) == before {
                    let (at, entry) = found?;
                    // May meet a successor's entry: then that one is used now.
                    if entry.used != now {
                        self.words[at + USED].store(now, Relaxed);
                    }
                    return Some(entry);
                }
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Changes what is remembered of an address; not when others write at the moment.
    pub(super) fn change(&self, address: IpAddr, now: u32, change: Change) {
        let place = place(address);
        let version = &self.versions[place.bucket];
        let before = version.load(Relaxed);
        if !before.is_multiple_of(2)
            || version.compare_exchange(before, before + 1, Acquire, Relaxed).is_err()
        {
            return;
        }
        fence(Release);
        let (at, mut entry) = match self.find(place) {
            Some(at) => (at, self.read(at)),
            None => {
                (self.free(place.bucket), Entry { used: now, changed: now, length: 0, servers: [0; MOST] })
            }
        };
        let had = |server| entry.servers().contains(&server);
        match change {
            Change::Set(server) if entry.servers() != [server] => {
                (entry.length, entry.changed) = (0, now);
                entry.push(server, self.most);
            }
            Change::Add(server) if !had(server) => {
                entry.changed = now;
                entry.push(server, self.most);
            }
            Change::Erase(server) if had(server) => {
                entry.changed = now;
                entry.erase(server);
            }
            _ => {}
        }
        entry.used = now;
        self.write(at, place.tag, &entry);
        version.store(before.wrapping_add(2), Release);
    }

    fn entries(&self, bucket: usize) -> impl Iterator<Item = usize> {
        let width = SERVERS + self.most;
        (0..WAYS).map(move |way| (bucket * WAYS + way) * width)
    }

    /// Where an address's entry begins.
    fn find(&self, place: Place) -> Option<usize> {
        self.entries(place.bucket).find(|at| self.words[at + TAG].load(Relaxed) == place.tag)
    }

    /// An empty entry of a bucket, or the one used longest ago.
    fn free(&self, bucket: usize) -> usize {
        let rested = |at: &usize| match self.words[at + TAG].load(Relaxed) {
            0 => 0,
            _ => self.words[at + USED].load(Relaxed).max(1),
        };
        self.entries(bucket).min_by_key(rested).unwrap_or(0)
    }

    fn read(&self, at: usize) -> Entry {
        let word = |offset: usize| self.words[at + offset].load(Relaxed);
        // A torn copy, which is thrown away, may have any length.
        let length = (word(LENGTH) as usize).min(self.most);
        let mut servers = [0; MOST];
        for (i, server) in servers[..length].iter_mut().enumerate() {
            *server = word(SERVERS + i);
        }
        Entry { used: word(USED), changed: word(CHANGED), length, servers }
    }

    fn write(&self, at: usize, tag: u32, entry: &Entry) {
        let set = |offset: usize, value: u32| self.words[at + offset].store(value, Relaxed);
        set(TAG, tag);
        set(USED, entry.used);
        set(CHANGED, entry.changed);
        set(LENGTH, entry.length as u32);
        for (i, server) in entry.servers().iter().enumerate() {
            set(SERVERS + i, *server);
        }
    }
}

/// Two addresses of one bucket and tag share an entry: one in 2⁴³ pairs.
fn place(address: IpAddr) -> Place {
    let bits = match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let hash =
        folded_multiply(bits as u64 ^ 0x2d35_8dcc_aa6c_78a5, (bits >> 64) as u64 ^ 0x8bb8_4b93_962e_acc9);
    let hash = folded_multiply(hash, 0x4b33_a62e_d433_d4a3);
    Place { bucket: hash as usize % BUCKETS, tag: ((hash >> 32) as u32).max(1) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn servers_come_and_go() {
        let cache = Cache::new(3);
        assert!(cache.look(address(1), 5).is_none());
        cache.change(address(1), 5, Change::Add(7));
        for server in [8, 7, 9] {
            cache.change(address(1), 6, Change::Add(server));
        }
        assert_eq!(cache.look(address(1), 7).unwrap().servers(), [9, 8, 7]);
        cache.change(address(1), 7, Change::Add(10));
        assert_eq!(cache.look(address(1), 8).unwrap().servers(), [10, 9, 8]);
        cache.change(address(1), 9, Change::Erase(9));
        let entry = cache.look(address(1), 9).unwrap();
        assert_eq!((entry.servers(), entry.changed), (&[10, 8][..], 9));
        cache.change(address(1), 10, Change::Erase(9));
        cache.change(address(1), 10, Change::Set(8));
        let entry = cache.look(address(1), 11).unwrap();
        assert_eq!((entry.servers(), entry.changed, entry.used), (&[8][..], 10, 10));
        assert_eq!(cache.look(address(1), 12).unwrap().used, 11);
        assert!(cache.look(address(2), 12).is_none());
    }

    #[test]
    fn what_rested_longest_makes_room() {
        let cache = Cache::new(1);
        let bucket = place(address(1)).bucket;
        let mates: Vec<IpAddr> = (1..).map(address).filter(|&a| place(a).bucket == bucket).take(9).collect();
        for (now, mate) in (1..).zip(&mates[..8]) {
            cache.change(*mate, now, Change::Set(now));
        }
        assert_eq!(cache.look(mates[0], 20).unwrap().servers(), [1]);
        cache.change(mates[8], 21, Change::Set(99));
        let kept: Vec<bool> = mates.iter().map(|&mate| cache.look(mate, 22).is_some()).collect();
        assert_eq!(kept, [true, false, true, true, true, true, true, true, true]);
    }

    #[test]
    fn addresses_spread_over_the_table() {
        let cache = Cache::new(1);
        for n in 0..8000 {
            cache.change(address(0xc612_0000 + n), 1, Change::Set(n));
        }
        let kept = (0..8000).filter(|n| cache.look(address(0xc612_0000 + n), 2).is_some());
        // Half full: of random addresses some one in fifty finds its bucket full.
        let kept = kept.count();
        assert!(kept > 7700, "{kept}");
        let wide = |n: u128| IpAddr::V6((n << 64).into());
        assert_ne!(place(wide(1)).tag, place(wide(2)).tag);
    }

    #[test]
    fn readers_never_see_half_a_change() {
        let cache = Cache::new(MOST);
        std::thread::scope(|scope| {
            for base in [10, 20, 30] {
                let cache = &cache;
                scope.spawn(move || {
                    for round in 0..20_000u32 {
                        // A set is always base, base+1…, newest first, of one writer.
                        cache.change(address(1), round, Change::Set(base));
                        cache.change(address(1), round, Change::Add(base + 1));
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..60_000 {
                    let Some(entry) = cache.look(address(1), 1) else { continue };
                    let known = entry.servers().iter().all(|s| (10..32).contains(s) && s % 10 < 2);
                    assert!(known && !entry.servers().is_empty(), "{entry:?}");
                    let mut sorted = entry.servers().to_vec();
                    sorted.sort_unstable();
                    sorted.dedup();
                    assert_eq!(sorted.len(), entry.servers().len(), "{entry:?}");
                }
            });
        });
    }
}
