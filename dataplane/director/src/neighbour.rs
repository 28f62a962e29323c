//! Next hops: what each worker knows of them, and worker 0's resolver that asks.
//!
//! Every worker has a table of its own to read from ([`Neighbours`]); the resolver decides what is in it and
//! tells all workers. A finished packet whose next hop is unknown waits with the resolver, so that packets go
//! out in the order in which they came, whichever worker rewrote them. ARP itself is in `host::arp`.

mod resolver;
mod watch;

use std::net::IpAddr;

use fulcrum_packet::ethernet;

use crate::export::NeighbourView;
use crate::output::Way;
use crate::snapshot::{FastMap, InterfaceId, Snapshot};
use crate::{Nanos, SECOND};
pub(crate) use resolver::{Refused, Resolver, Task};

/// Learned neighbours at most, per table: enough for ten thousand servers on one link.
const TABLE: usize = 16_384;

/// How long an answer counts. // RFC 4861 (and Linux for ARP): ReachableTime 30 s
const REACHABLE: Nanos = 30 * SECOND;
/// How long before its end a used entry is asked for again, and how often a worker says that it uses one.
const REFRESH: Nanos = 10 * SECOND;
/// Time between two looks at all entries.
const SCAN: Nanos = SECOND / 20;

type Address = (InterfaceId, IpAddr);

#[derive(Clone, Copy, Debug)]
struct Known {
    mac: [u8; 6],
    fixed: bool,
    /// When the resolver last said so, or this worker last asked it to look again.
    confirmed: Nanos,
    /// The same for sessions that remember where their packets go.
    hop: HopId,
}

impl Known {
    /// Until when packets may be sent there without asking.
    fn fresh_until(&self) -> Nanos {
        if self.fixed { Nanos::MAX } else { self.confirmed + (REACHABLE - REFRESH) }
    }
}

/// Number of a [`Hop`] in its worker's table.
pub(crate) type HopId = u16;

/// No hop.
pub(crate) const NO_HOP: HopId = HopId::MAX;

/// A neighbour as a session remembers it: all that is needed to send there. Numbers are given once; those of
/// neighbours that are gone stay unused until all are forgotten ([`Neighbours::forget_hops`]).
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Hop {
    /// Before this time it may be used; 0 when its address is not known any more.
    pub(crate) fresh_until: Nanos,
    /// Number of the port.
    pub(crate) port: u16,
    /// Largest IP packet by any way over it, in bytes.
    pub(crate) mtu: u16,
    /// The same of frames whose Ethernet header has no tag; 0 when theirs have one.
    pub(crate) plain_mtu: u16,
    /// Own address that tunnels begin with.
    pub(crate) source: IpAddr,
    /// Length of the Ethernet header.
    pub(crate) header_len: u8,
    /// The Ethernet header but for its type.
    pub(crate) header: [u8; ethernet::MAX_HEADER],
}

impl Hop {
    /// Whether its neighbour is known.
    pub(crate) fn is_open(&self) -> bool {
        self.fresh_until > 0
    }

    /// Puts an Ethernet header without a tag there, but for its type.
    #[inline(always)]
    pub(crate) fn emit_plain(&self, ether: &mut [u8; ethernet::HEADER]) {
        const PLAIN: usize = ethernet::HEADER - 2;
        ether[..PLAIN].copy_from_slice(&self.header[..PLAIN]);
    }

    /// Puts the Ethernet header at the beginning of a frame, but for its type, which is where it was: before the
    /// packet.
    #[inline(always)]
    pub(crate) fn emit(&self, frame: &mut [u8]) {
        const PLAIN: usize = ethernet::HEADER - 2;
        let Some((header, more)) = frame.split_first_chunk_mut::<PLAIN>() else { return };
        header.copy_from_slice(&self.header[..PLAIN]);
        if usize::from(self.header_len) != ethernet::HEADER {
            self.emit_tag(more);
        }
    }

    #[cold]
    fn emit_tag(&self, frame: &mut [u8]) {
        const PLAIN: usize = ethernet::HEADER - 2;
        const TAGGED: usize = ethernet::MAX_HEADER - 2;
        let Some(tag) = frame.first_chunk_mut::<{ TAGGED - PLAIN }>() else { return };
        tag.copy_from_slice(&self.header[PLAIN..TAGGED]);
    }
}

/// What one worker knows.
#[derive(Debug)]
pub(crate) struct Neighbours {
    known: FastMap<Address, Known>,
    hops: Vec<Hop>,
    /// Before this time a full table is not swept again.
    next_sweep: Nanos,
}

/// What a look-up gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The MAC address; `ask`: the resolver should be told that it is in use.
    Known {
        mac: [u8; 6],
        ask: bool,
    },
    Unknown,
}

impl Default for Neighbours {
    fn default() -> Neighbours {
        Neighbours {
            known: FastMap::with_capacity_and_hasher(2 * TABLE, Default::default()),
            hops: Vec::with_capacity(usize::from(NO_HOP)),
            next_sweep: 0,
        }
    }
}

impl Neighbours {
    #[inline]
    pub(crate) fn lookup(&mut self, interface: InterfaceId, address: IpAddr, now: Nanos) -> Lookup {
        match self.known.get_mut(&(interface, address)) {
            Some(known) => {
                let ask = !known.fixed && now >= known.confirmed + (REACHABLE - REFRESH);
                if ask {
                    // Not with every packet: once in the refresh time is enough.
                    known.confirmed = now - (REACHABLE - 2 * REFRESH);
                    if let Some(hop) = self.hops.get_mut(usize::from(known.hop)) {
                        hop.fresh_until = known.fresh_until();
                    }
                }
                Lookup::Known { mac: known.mac, ask }
            }
            None => Lookup::Unknown,
        }
    }

    /// The hop to a known neighbour, for ways of this MTU; `None` when it is not known, or when all numbers are used
    /// up and have to be given anew.
    pub(crate) fn hop(&mut self, snap: &Snapshot, way: &Way) -> Option<HopId> {
        let known = self.known.get_mut(&(way.interface, way.next_hop))?;
        if let Some(hop) = self.hops.get_mut(usize::from(known.hop)) {
            hop.mtu = hop.mtu.min(way.mtu);
            hop.plain_mtu = hop.plain_mtu.min(way.mtu);
            return Some(known.hop);
        }
        if self.hops.len() >= usize::from(NO_HOP) {
            return None;
        }
        let interface = &snap.interfaces[usize::from(way.interface)];
        let header_len = ethernet::header_len(interface.vlan);
        let mut hop = Hop {
            fresh_until: known.fresh_until(),
            port: interface.port,
            mtu: way.mtu,
            plain_mtu: if header_len == ethernet::HEADER { way.mtu } else { 0 },
            source: way.source,
            header_len: header_len as u8,
            header: [0; ethernet::MAX_HEADER],
        };
        ethernet::emit(&mut hop.header, known.mac, interface.mac, interface.vlan, 0);
        known.hop = self.hops.len() as HopId;
        self.hops.push(hop);
        Some(known.hop)
    }

    /// The hops that have been given numbers.
    #[inline]
    pub(crate) fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Whether there is no number left for another hop.
    pub(crate) fn out_of_hops(&self) -> bool {
        self.hops.len() >= usize::from(NO_HOP)
    }

    /// Takes all numbers back; the caller sees to it that no session uses one any more.
    pub(crate) fn forget_hops(&mut self) {
        self.hops.clear();
        self.known.values_mut().for_each(|known| known.hop = NO_HOP);
    }

    /// The resolver's word.
    pub(crate) fn learn(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: Option<[u8; 6]>,
        now: Nanos,
    ) {
        let at = (interface, address);
        match (self.known.get_mut(&at), mac) {
            (Some(Known { fixed: true, .. }), _) => {}
            (Some(known), Some(mac)) => {
                (known.mac, known.confirmed) = (mac, now);
                if let Some(hop) = self.hops.get_mut(usize::from(known.hop)) {
                    hop.header[..mac.len()].copy_from_slice(&mac);
                    hop.fresh_until = known.fresh_until();
                }
            }
            (None, Some(mac)) => {
                if self.known.len() < 2 * TABLE || self.sweep(now) {
                    self.known.insert(at, Known { mac, fixed: false, confirmed: now, hop: NO_HOP });
                }
            }
            (_, None) => {
                if let Some(known) = self.known.remove(&at) {
                    close(&mut self.hops, known.hop);
                }
            }
        }
    }

    /// Makes room by forgetting what was not in use of late; the resolver does not tell what it forgets.
    fn sweep(&mut self, now: Nanos) -> bool {
        if now < self.next_sweep {
            return false;
        }
        self.next_sweep = now + SCAN;
        let hops = &mut self.hops;
        self.known.retain(|_, known| {
            let keep = known.fixed || now < known.confirmed + REACHABLE;
            if !keep {
                close(hops, known.hop);
            }
            keep
        });
        self.known.len() < 2 * TABLE
    }

    /// Takes over the static neighbours of a configuration; learned ones stay unless interfaces have changed. All
    /// hops are forgotten.
    pub(crate) fn install_static(&mut self, snap: &Snapshot, keep_learned: bool) {
        self.forget_hops();
        self.known.retain(|_, known| !known.fixed && keep_learned);
        for neighbour in snap.neighbours.iter() {
            let known = Known { mac: neighbour.mac, fixed: true, confirmed: 0, hop: NO_HOP };
            self.known.insert((neighbour.interface, neighbour.address), known);
        }
    }

    pub(super) fn is_fixed(&self, at: &Address) -> bool {
        self.known.get(at).is_some_and(|known| known.fixed)
    }

    pub(crate) fn export_static(&self, out: &mut Vec<NeighbourView>) {
        let fixed = self.known.iter().filter(|(_, known)| known.fixed);
        out.extend(fixed.map(|(&(interface, address), known)| NeighbourView {
            interface,
            address,
            mac: Some(known.mac),
            state: "static",
            parked: 0,
        }));
    }
}

/// A hop whose neighbour is gone.
fn close(hops: &mut [Hop], hop: HopId) {
    if let Some(hop) = hops.get_mut(usize::from(hop)) {
        hop.fresh_until = 0;
    }
}
