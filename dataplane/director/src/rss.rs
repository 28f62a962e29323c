//! Owners of flows as network devices choose queues: by receive side scaling (RSS), the Toeplitz hash of addresses
//! and ports.
//!
//! Where a port spreads by this very hash, a packet arrives with its owner. Nothing depends on it: the owner is
//! computed here, by the same key, for every packet, and a device that does otherwise costs a way to another worker.
//! The hash is linear: what an address or a port contributes does not depend on the rest, so that of a local port
//! two look-ups are left.

use std::net::IpAddr;

use fulcrum_packet::ipv4::{TCP, UDP};

use crate::session::Key;

/// Bytes of a key that count: a window of 32 bits behind each bit of two IPv6 addresses and two ports.
pub const KEY: usize = 40;
/// Bytes that are hashed at most: two IPv6 addresses, two ports.
const INPUT: usize = 36;
/// Entries of the table that leads from hashes to workers at most: as many as larger devices have.
pub const MAX_TABLE: usize = 512;

/// The hash of `input`, bit by bit, as its definition has it. // Microsoft: RSS hashing functions
pub fn toeplitz(key: &[u8; KEY], input: &[u8]) -> u32 {
    let bits = input.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    bits.enumerate().filter(|&(_, set)| set).fold(0, |hash, (place, _)| hash ^ window(key, place))
}

/// The 32 bits of a key from bit `place` on; behind its end are zeros.
fn window(key: &[u8; KEY], place: usize) -> u32 {
    let byte = |n: usize| u64::from(key.get(place / 8 + n).copied().unwrap_or(0));
    let wide = (0..5).fold(0, |wide, n| wide << 8 | byte(n));
    (wide >> (8 - place % 8)) as u32
}

/// What the hash is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Addresses and ports of both ends.
    Both,
    /// One end: the source's on a port towards clients, the destination's on one towards servers.
    End,
}

/// The kinds of packets of which ports are hashed too; others are spread by addresses alone, if at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// TCP over IPv4.
    pub tcp4: bool,
    /// UDP over IPv4.
    pub udp4: bool,
    /// TCP over IPv6.
    pub tcp6: bool,
    /// UDP over IPv6.
    pub udp6: bool,
}

impl Kinds {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Kinds::default()
    }

    /// Those of either.
    #[must_use]
    pub fn or(self, other: Kinds) -> Kinds {
        Kinds {
            tcp4: self.tcp4 || other.tcp4,
            udp4: self.udp4 || other.udp4,
            tcp6: self.tcp6 || other.tcp6,
            udp6: self.udp6 || other.udp6,
        }
    }

    /// Whether packets of a protocol and family are among them.
    #[inline]
    pub fn has(self, protocol: u16, v6: bool) -> bool {
        match (protocol, v6) {
            (p, false) if p == u16::from(TCP) => self.tcp4,
            (p, false) if p == u16::from(UDP) => self.udp4,
            (p, true) if p == u16::from(TCP) => self.tcp6,
            (p, true) if p == u16::from(UDP) => self.udp6,
            _ => false,
        }
    }
}

/// What the ports of a data plane do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssConfig {
    /// Key of the hash.
    pub key: [u8; KEY],
    /// Entries of the table: a power of two, at least one for each worker, at most [`MAX_TABLE`].
    pub table: usize,
    /// Workers, who take the table's entries in turn.
    pub workers: u16,
    /// Which packets.
    pub kinds: Kinds,
    /// What requests are spread by; `None`: nothing that could be computed from both directions.
    pub requests: Option<Part>,
    /// What answers to local addresses of FULLNAT are spread by.
    pub answers: Option<Part>,
}

/// Finds owners; the same in all workers.
#[derive(Debug)]
pub struct Rss {
    config: RssConfig,
    /// What a byte at a place contributes. Tables have no more entries than 16 bits tell apart.
    contributions: Box<[[u16; 256]; INPUT]>,
    /// Workers by the lowest bits of a hash.
    table: Box<[u16]>,
}

impl Rss {
    /// Owners under `config`. Its table is made a power of two, not larger than devices have, and not so small that a
    /// worker had no local ports.
    pub fn new(config: RssConfig) -> Rss {
        let table = config.table.clamp(1, MAX_TABLE);
        let table = if table.is_power_of_two() { table } else { table.next_power_of_two() / 2 };
        let table = table.max(usize::from(config.workers).next_power_of_two());
        let mut contributions = Box::new([[0; 256]; INPUT]);
        for (place, of_byte) in contributions.iter_mut().enumerate() {
            for (byte, contribution) in of_byte.iter_mut().enumerate() {
                *contribution = (0..8)
                    .filter(|bit| byte >> (7 - bit) & 1 == 1)
                    .fold(0, |hash, bit| hash ^ window(&config.key, 8 * place + bit) as u16);
            }
        }
        let config = RssConfig { table, workers: config.workers.max(1), ..config };
        let table = (0..table).map(|entry| (entry % usize::from(config.workers)) as u16).collect();
        Rss { config, contributions, table }
    }

    /// What it goes by.
    pub fn config(&self) -> &RssConfig {
        &self.config
    }

    /// The worker of a hash, by its lowest bits.
    pub fn worker(&self, hash: u32) -> u16 {
        self.owner(hash as u16)
    }

    /// The owner of a request, when requests are spread by both ends.
    #[inline]
    pub(crate) fn owner_of_flow(&self, key: &Key) -> Option<u16> {
        let covered = self.config.requests == Some(Part::Both) && self.covers(key);
        covered.then(|| self.owner(self.hash(Part::Both, key)))
    }

    /// The owner of all flows of a client's end, when requests are spread by that.
    #[inline]
    pub(crate) fn owner_of_client(&self, protocol: u16, address: IpAddr, port: u16) -> Option<u16> {
        let covered =
            self.config.requests == Some(Part::End) && self.config.kinds.has(protocol, address.is_ipv6());
        covered.then(|| self.owner(self.end(address, port)))
    }

    /// The owner of a packet to a local address.
    #[inline]
    pub(crate) fn owner_of_answer(&self, key: &Key) -> Option<u16> {
        let part = self.config.answers.filter(|_| self.covers(key))?;
        Some(self.owner(self.hash(part, key)))
    }

    /// A search for local ports whose answers from `server` come to one worker; `None` when answers of this kind are
    /// not spread by the hash.
    pub(crate) fn search(&self, protocol: u8, server: (IpAddr, u16)) -> Option<Search<'_>> {
        let v6 = server.0.is_ipv6();
        let part = self.config.answers.filter(|_| self.config.kinds.has(protocol.into(), v6))?;
        let server = match part {
            Part::Both => self.address(0, server.0) ^ self.port(2 * length(v6), server.1),
            Part::End => 0,
        };
        Some(Search { rss: self, part, v6, server })
    }

    #[inline]
    fn covers(&self, key: &Key) -> bool {
        self.config.kinds.has(key.protocol, key.src.is_ipv6())
    }

    #[inline]
    fn owner(&self, hash: u16) -> u16 {
        self.table[usize::from(hash) & (self.table.len() - 1)]
    }

    #[inline]
    fn hash(&self, part: Part, key: &Key) -> u16 {
        if part == Part::End {
            return self.end(key.dst, key.dport);
        }
        let length = length(key.src.is_ipv6());
        self.address(0, key.src)
            ^ self.address(length, key.dst)
            ^ self.port(2 * length, key.sport)
            ^ self.port(2 * length + 2, key.dport)
    }

    #[inline]
    fn end(&self, address: IpAddr, port: u16) -> u16 {
        self.address(0, address) ^ self.port(length(address.is_ipv6()), port)
    }

    #[inline]
    fn address(&self, place: usize, address: IpAddr) -> u16 {
        match address {
            IpAddr::V4(address) => self.bytes(place, &address.octets()),
            IpAddr::V6(address) => self.bytes(place, &address.octets()),
        }
    }

    #[inline]
    fn port(&self, place: usize, port: u16) -> u16 {
        self.bytes(place, &port.to_be_bytes())
    }

    #[inline]
    fn bytes(&self, place: usize, bytes: &[u8]) -> u16 {
        let tables = self.contributions[place..].iter();
        tables.zip(bytes).fold(0, |hash, (table, &byte)| hash ^ table[usize::from(byte)])
    }
}

fn length(v6: bool) -> usize {
    if v6 { 16 } else { 4 }
}

/// A search for local ports of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    rss: &'a Rss,
    part: Part,
    v6: bool,
    /// What the server contributes.
    server: u16,
}

impl Search<'_> {
    /// What a local address and the server contribute; for [`Search::owner`].
    pub(crate) fn address(self, local: IpAddr) -> u16 {
        let place = if self.part == Part::Both { length(self.v6) } else { 0 };
        self.server ^ self.rss.address(place, local)
    }

    /// The worker that the answers to a port of a local address come to.
    #[inline]
    pub(crate) fn owner(self, address: u16, port: u16) -> u16 {
        let place = match self.part {
            Part::Both => 2 * length(self.v6) + 2,
            Part::End => length(self.v6),
        };
        self.rss.owner(address ^ self.rss.port(place, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the sums of the published verification suite. // Microsoft: Verifying the RSS hash calculation
    const MICROSOFT: [u8; KEY] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
        ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            "fe80::200:f8ff:fe21:67cf",
            38024,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];
    const ALL: Kinds = Kinds { tcp4: true, udp4: true, tcp6: true, udp6: true };

    fn octets(address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(address) => address.octets().into(),
            IpAddr::V6(address) => address.octets().into(),
        }
    }

    fn vectors() -> impl Iterator<Item = (Key, u32, u32)> {
        VECTORS.into_iter().map(|(src, sport, dst, dport, addresses, ports)| {
            let key = Key { protocol: 6, src: src.parse().unwrap(), sport, dst: dst.parse().unwrap(), dport };
            (key, addresses, ports)
        })
    }

    fn rss(workers: u16, requests: Option<Part>, answers: Option<Part>) -> Rss {
        Rss::new(RssConfig { key: MICROSOFT, table: 128, workers, kinds: ALL, requests, answers })
    }

    #[test]
    fn the_hash_is_the_published_one() {
        for (key, addresses, ports) in vectors() {
            let mut input = [octets(key.src), octets(key.dst)].concat();
            assert_eq!(toeplitz(&MICROSOFT, &input), addresses, "{key:?}");
            input.extend([key.sport.to_be_bytes(), key.dport.to_be_bytes()].concat());
            assert_eq!(toeplitz(&MICROSOFT, &input), ports, "{key:?}");
        }
    }

    #[test]
    fn owners_are_those_of_the_published_hashes() {
        for workers in [1, 2, 3, 8] {
            let rss = rss(workers, Some(Part::Both), Some(Part::Both));
            for (key, _, hash) in vectors() {
                let owner = (hash % 128) as u16 % workers;
                assert_eq!(rss.owner_of_flow(&key), Some(owner));
                assert_eq!(rss.owner_of_answer(&key), Some(owner));
                assert_eq!(rss.worker(hash), owner);
                let search = rss.search(6, (key.src, key.sport)).unwrap();
                assert_eq!(search.owner(search.address(key.dst), key.dport), owner);
                assert_eq!(rss.owner_of_client(6, key.src, key.sport), None, "not spread by that");
            }
        }
    }

    #[test]
    fn one_end_is_hashed_alone() {
        let rss = rss(5, Some(Part::End), Some(Part::End));
        for (key, ..) in vectors() {
            let of = |address, port: u16| {
                let input = [octets(address), port.to_be_bytes().into()].concat();
                Some((toeplitz(&MICROSOFT, &input) % 128) as u16 % 5)
            };
            assert_eq!(rss.owner_of_client(6, key.src, key.sport), of(key.src, key.sport));
            assert_eq!(rss.owner_of_answer(&key), of(key.dst, key.dport));
            assert_eq!(rss.owner_of_flow(&key), None);
            let search = rss.search(17, (key.src, key.sport)).unwrap();
            assert_eq!(Some(search.owner(search.address(key.dst), key.dport)), of(key.dst, key.dport));
        }
    }

    #[test]
    fn what_devices_do_not_hash_by_ports_is_left_alone() {
        let kinds = Kinds { tcp4: true, udp6: true, ..Kinds::default() };
        let part = Some(Part::Both);
        let rss = Rss::new(RssConfig {
            key: MICROSOFT,
            table: 128,
            workers: 3,
            kinds,
            requests: part,
            answers: part,
        });
        let of = |protocol, v6| kinds.has(protocol, v6);
        assert_eq!([of(6, false), of(17, false), of(6, true), of(17, true)], [true, false, false, true]);
        assert!(!of(132, false) && !of(50, true));
        for (key, ..) in vectors() {
            let v6 = key.src.is_ipv6();
            for protocol in [6, 17, 132] {
                let key = Key { protocol, ..key };
                assert_eq!(rss.owner_of_flow(&key).is_some(), of(protocol, v6));
                assert_eq!(rss.search(protocol as u8, (key.src, 1)).is_some(), of(protocol, v6));
            }
        }
    }

    #[test]
    fn every_worker_has_its_share_of_local_ports() {
        for (workers, table) in [(1, 512), (2, 64), (3, 128), (8, 128), (8, 2), (7, 100)] {
            let rss = Rss::new(RssConfig {
                key: MICROSOFT,
                table,
                workers,
                kinds: ALL,
                requests: None,
                answers: Some(Part::Both),
            });
            let search = rss.search(6, (IpAddr::from([10, 1, 0, 11]), 80)).unwrap();
            let address = search.address(IpAddr::from([10, 1, 0, 200]));
            let mut counts = vec![0u32; usize::from(workers)];
            (1024..=u16::MAX).for_each(|port| counts[usize::from(search.owner(address, port))] += 1);
            let even = 64512 / u32::from(workers);
            let fair = |count: &u32| *count > even * 7 / 10 && *count < even * 14 / 10;
            assert!(counts.iter().all(fair), "{workers} {table} {counts:?}");
        }
    }
}
