//! The server that an address hashes to: dh (the address asked for), sh (the client's), mh (the client's, in a
//! table that changes little when servers come and go).
//!
//! The same client finds the same server on every director with the same servers in the same order, be it one of
//! these or IPVS: tables and hashes are IPVS's.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Request, Scheduler, eligible, maglev};
use crate::snapshot::Destination;

/// A server that may not take connections is replaced by another (flag-1: sh-fallback, mh-fallback).
const FALLBACK: u8 = 1;
/// The client's port is hashed too (flag-2: sh-port, mh-port).
const PORT: u8 = 2;

/// Buckets of dh and sh. // IPVS: IP_VS_DH_TAB_SIZE, IP_VS_SH_TAB_SIZE
const BUCKETS: usize = 256;

#[derive(Clone, Debug)]
struct Hashed {
    kind: Kind,
    flags: u8,
    /// Indices of destinations by bucket; empty without destinations.
    table: Arc<[u32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Destination,
    Source,
    Maglev,
}

pub(super) fn dh(flags: u8, destinations: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    make(Kind::Destination, flags, destinations)
}

pub(super) fn sh(flags: u8, destinations: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    make(Kind::Source, flags, destinations)
}

pub(super) fn mh(flags: u8, destinations: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    make(Kind::Maglev, flags, destinations)
}

fn make(kind: Kind, flags: u8, destinations: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    let table = match kind {
        // Every server in turn, whatever its weight.
        Kind::Destination => buckets(destinations, |_| 1),
        // A server has as many buckets as its weight, but one when that is 0.
        Kind::Source => buckets(destinations, |d| d.weight.max(1)),
        Kind::Maglev => maglev::table(destinations),
    };
    Box::new(Hashed { kind, flags, table })
}

/// Gives the buckets to the servers in turn, `share` at a time.
fn buckets(destinations: &[Arc<Destination>], share: impl Fn(&Destination) -> u32) -> Arc<[u32]> {
    let round = || (0u32..).zip(destinations).map(|(index, d)| (index, share(d)));
    if destinations.is_empty() {
        return Arc::default();
    }
    let turns = std::iter::repeat_with(round).flatten();
    turns.flat_map(|(index, share)| std::iter::repeat_n(index, share as usize)).take(BUCKETS).collect()
}

/// An address as the hashes take it: IPv6's four words one over the other.
pub(super) fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
        }
    }
}

impl Hashed {
    /// The bucket of a key.
    fn bucket(&self, key: u32, offset: u32) -> usize {
        match self.kind {
            Kind::Destination => golden(key),
            Kind::Source => (golden(key) + offset as usize) % BUCKETS,
            Kind::Maglev => maglev::slot(key.wrapping_add(offset), self.table.len()),
        }
    }

    /// Where a fallback goes on looking, bucket by bucket.
    fn others(&self, key: u32) -> impl Iterator<Item = usize> {
        let size = self.table.len();
        let first = self.bucket(key, 0);
        // What is hashed again is the key moved on by the bucket's number: IPVS does so too.
        (0..size).map(move |step| self.bucket(key, ((first + step) % size) as u32))
    }
}

/// The top byte of a multiplication by the golden ratio. // IPVS: hash_32(key, 8)
fn golden(key: u32) -> usize {
    (key.wrapping_mul(0x61c8_8647) >> 24) as usize
}

impl Scheduler for Hashed {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Destination => "dh",
            Kind::Source => "sh",
            Kind::Maglev => "mh",
        }
    }

    fn choose(&self, destinations: &[Arc<Destination>], request: &Request) -> Option<usize> {
        let has = |flag| self.kind != Kind::Destination && self.flags & flag != 0;
        let address = if self.kind == Kind::Destination { request.vip } else { request.client };
        let port = if has(PORT) { request.client_port.into() } else { 0 };
        let key = folded(address).wrapping_add(port);
        let server = |bucket: usize| Some(*self.table.get(bucket)? as usize);
        let may = |&index: &usize| destinations.get(index).is_some_and(|d| eligible(d));
        if self.table.is_empty() {
            return None;
        }
        let first = server(self.bucket(key, 0)).filter(may);
        if first.is_some() || !has(FALLBACK) {
            return first;
        }
        self.others(key).filter_map(server).find(may)
    }

    fn carry_over(
        &self,
        flags: u8,
        old: &[Arc<Destination>],
        new: &[Arc<Destination>],
    ) -> Box<dyn Scheduler> {
        // A Maglev table is worth keeping: most edits leave it as it is.
        if self.kind == Kind::Maglev && maglev::same_table(old, new) {
            return Box::new(Hashed { flags, ..self.clone() });
        }
        make(self.kind, flags, new)
    }
}
