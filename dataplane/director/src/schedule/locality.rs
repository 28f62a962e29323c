//! Locality: an address asked for stays with its server (lblc), or with a few (lblcr), until that has more than it
//! can bear while another has little to do; then the least loaded one takes or joins it.
//!
//! The address is the one asked for: for caches behind a mark, where a service has many.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::cache::{Cache, Change, Entry, MOST};
use super::least::{least_loaded, lighter};
use super::{Request, Scheduler, active, overhead};
use crate::snapshot::Destination;
use crate::{Nanos, SECOND};

/// How often IPVS looks for addresses that nobody asked for: it forgets them then. // IPVS: 30 checks, one a minute
const FORGET: Nanos = 30 * 60 * SECOND;

#[derive(Debug)]
struct Locality {
    /// Whether an address may have several servers.
    several: bool,
    cache: Arc<Cache>,
    /// What the cache calls the destinations.
    marks: Box<[u32]>,
    /// Servers that were deleted and may still be remembered, the latest last.
    gone: Vec<Arc<Destination>>,
}

pub(super) fn lblc(_: u8, destinations: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    make(false, Arc::new(Cache::new(1)), destinations, Vec::new())
}

pub(super) fn lblcr(_: u8, destinations: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    make(true, Arc::new(Cache::new(MOST)), destinations, Vec::new())
}

fn make(
    several: bool,
    cache: Arc<Cache>,
    destinations: &[Arc<Destination>],
    gone: Vec<Arc<Destination>>,
) -> Box<dyn Scheduler> {
    Box::new(Locality { several, cache, marks: destinations.iter().map(|d| mark(d)).collect(), gone })
}

/// A server is remembered by its address and port: one that is deleted and comes back has its clients again, and
/// nobody inherits them.
fn mark(destination: &Destination) -> u32 {
    foldhash::fast::FixedState::default().hash_one((destination.address, destination.port)) as u32
}

/// Whether a server has more active connections than its weight while another has not even half of its own.
fn crowded(server: &Destination, destinations: &[Arc<Destination>]) -> bool {
    active(server) > server.weight.into() && destinations.iter().any(|d| active(d) * 2 < d.weight.into())
}

fn measure(destination: &Destination) -> (u64, u64) {
    (overhead(destination), destination.weight.into())
}

/// Whether an entry that was used at `used` was found idle at the last look for such.
fn forgotten(used: u32, now: Nanos, expiration: Nanos) -> bool {
    Nanos::from(used) * SECOND + expiration <= now / FORGET * FORGET
}

impl Locality {
    fn index(&self, mark: u32) -> Option<usize> {
        self.marks.iter().position(|&known| known == mark)
    }

    /// The server of an address, as long as it can bear it. IPVS does not ask for its threshold here.
    fn only(&self, entry: &Entry, destinations: &[Arc<Destination>]) -> Option<usize> {
        let index = self.index(*entry.servers().first()?)?;
        let server = &destinations[index];
        (server.weight > 0 && !crowded(server, destinations)).then_some(index)
    }

    /// The least loaded of an address's servers.
    fn least(&self, entry: &Entry, destinations: &[Arc<Destination>]) -> Option<usize> {
        let members = entry.servers().iter().filter_map(|&mark| self.index(mark));
        let mut least: Option<usize> = None;
        for index in members.filter(|&index| super::eligible(&destinations[index])) {
            if least.is_none_or(|l| lighter(measure(&destinations[index]), measure(&destinations[l]))) {
                least = Some(index);
            }
        }
        least
    }

    /// The most loaded of an address's servers; one that was deleted counts by the sessions that it still has.
    fn most(&self, entry: &Entry, destinations: &[Arc<Destination>]) -> Option<u32> {
        let mut most: Option<(u32, &Destination)> = None;
        for &mark in entry.servers() {
            let gone = || self.gone.iter().find(|d| self::mark(d) == mark);
            let Some(server) = self.index(mark).map(|index| &destinations[index]).or_else(gone) else {
                return Some(mark);
            };
            if server.weight > 0 && most.is_none_or(|(_, most)| lighter(measure(most), measure(server))) {
                most = Some((mark, server));
            }
        }
        most.map(|(mark, _)| mark)
    }
}

impl Scheduler for Locality {
    fn name(&self) -> &'static str {
        if self.several { "lblcr" } else { "lblc" }
    }

    fn choose(&self, destinations: &[Arc<Destination>], request: &Request) -> Option<usize> {
        let &Request { vip, now, .. } = request;
        let seconds = (now / SECOND) as u32;
        let expiration = if self.several { request.lblcr_expiration } else { request.lblc_expiration };
        let entry = self.cache.look(vip, seconds).filter(|e| !forgotten(e.used, now, expiration));

        let known = match &entry {
            Some(entry) if self.several => {
                let least = self.least(entry, destinations);
                let settled = Nanos::from(seconds.saturating_sub(entry.changed)) * SECOND > expiration;
                if entry.servers().len() > 1
                    && settled
                    && let Some(most) = self.most(entry, destinations)
                {
                    self.cache.change(vip, seconds, Change::Erase(most));
                }
                least.filter(|&index| !crowded(&destinations[index], destinations))
            }
            Some(entry) => self.only(entry, destinations),
            None => None,
        };
        if known.is_some() {
            return known;
        }
        let index = least_loaded(destinations)?;
        let mark = *self.marks.get(index)?;
        let joins = self.several && entry.is_some();
        self.cache.change(vip, seconds, if joins { Change::Add(mark) } else { Change::Set(mark) });
        Some(index)
    }

    fn carry_over(&self, _: u8, old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        let here: HashSet<u32> = new.iter().map(|d| mark(d)).collect();
        let known = self.gone.iter().chain(old);
        let mut gone: Vec<_> = known.filter(|d| !here.contains(&mark(d))).cloned().collect();
        gone.drain(..gone.len().saturating_sub(MOST));
        make(self.several, Arc::clone(&self.cache), new, gone)
    }
}
