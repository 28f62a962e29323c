//! Next hops: what each worker knows of them, and worker 0's resolver that asks.
//!
//! Every worker has a table of its own to read from ([`Neighbours`]); the resolver decides what is in it and
//! tells all workers. A finished packet whose next hop is unknown waits with the resolver, so that packets go
//! out in the order in which they came, whichever worker rewrote them. ARP itself is in `host::arp`.

use std::collections::VecDeque;
use std::net::IpAddr;

use fulcrum_packet::ethernet;

use crate::export::NeighbourView;
use crate::output::Way;
use crate::snapshot::{FastMap, InterfaceId, Snapshot};
use crate::{Nanos, SECOND};

/// Learned neighbours at most, per table: enough for ten thousand servers on one link. Of these, such as only asked
/// for us, so that whoever does so under many addresses leaves room for those that packets go to.
const TABLE: usize = 16_384;
const TABLE_UNWANTED: usize = TABLE / 2;
/// Parked packets at most: in all, of those that are merely routed or answers of our own (so that a scan of a subnet behind the director
/// leaves room for services), and for one neighbour.
const PARKED: usize = 1024;
const PARKED_ROUTED: usize = 512;
const PARKED_EACH: usize = 128;

/// How long an answer counts. // RFC 4861 (and Linux for ARP): ReachableTime 30 s
const REACHABLE: Nanos = 30 * SECOND;
/// How long before its end a used entry is asked for again, and how often a worker says that it uses one.
const REFRESH: Nanos = 10 * SECOND;
/// An entry that nobody used for this long is forgotten.
const FORGET: Nanos = 120 * SECOND;
/// Time between questions. // RFC 4861: RetransTimer
const RETRANSMIT: Nanos = SECOND;
/// Unicast questions to a known address, then broadcast questions. // RFC 4861: MAX_UNICAST_SOLICIT, MAX_MULTICAST_SOLICIT
const UNICAST_PROBES: u8 = 3;
const BROADCAST_PROBES: u8 = 3;
/// How long an address that did not answer is not asked again.
const FAILED: Nanos = 3 * SECOND;
/// A reachable entry's MAC address does not change twice in this time. // Linux: locktime
const LOCK: Nanos = SECOND;
/// An address is defended at most this often. // RFC 5227: DEFEND_INTERVAL
pub(crate) const DEFEND_INTERVAL: Nanos = 10 * SECOND;
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

    /// Puts the Ethernet header of an IP packet at the beginning of a frame, which has room for it.
    #[inline(always)]
    pub(crate) fn emit(&self, frame: &mut [u8], ethertype: u16) {
        const PLAIN: usize = ethernet::HEADER - 2;
        const TAGGED: usize = ethernet::MAX_HEADER - 2;
        let Some(header) = frame.first_chunk_mut::<{ ethernet::MAX_HEADER }>() else { return };
        header[..PLAIN].copy_from_slice(&self.header[..PLAIN]);
        if usize::from(self.header_len) == ethernet::HEADER {
            header[PLAIN..ethernet::HEADER].copy_from_slice(&ethertype.to_be_bytes());
        } else {
            header[PLAIN..TAGGED].copy_from_slice(&self.header[PLAIN..TAGGED]);
            header[TAGGED..].copy_from_slice(&ethertype.to_be_bytes());
        }
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
            return Some(known.hop);
        }
        if self.hops.len() >= usize::from(NO_HOP) {
            return None;
        }
        let interface = &snap.interfaces[usize::from(way.interface)];
        let mut hop = Hop {
            fresh_until: known.fresh_until(),
            port: interface.port,
            mtu: way.mtu,
            source: way.source,
            header_len: ethernet::header_len(interface.vlan) as u8,
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

    fn is_fixed(&self, at: &Address) -> bool {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asked for; never answered.
    Incomplete,
    Reachable,
    /// Known, asked again.
    Probing,
    /// Did not answer.
    Failed,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    mac: [u8; 6],
    /// Questions sent since the last answer.
    asked: u8,
    /// When something is due: the next question, or the end of a failure.
    due: Nanos,
    confirmed: Nanos,
    used: Nanos,
    /// Whether a packet ever went to it.
    wanted: bool,
    parked: usize,
}

impl Entry {
    /// Whether a question is to be asked, or the asking to be given up.
    fn is_due(&self, now: Nanos) -> bool {
        matches!(self.phase, Phase::Incomplete | Phase::Probing) && now >= self.due
    }

    /// By unicast first where an address was known; after the last question the neighbour is given up.
    fn next_question(&mut self, interface: InterfaceId, address: IpAddr, now: Nanos) -> Task {
        let unicast = self.phase == Phase::Probing && self.asked < UNICAST_PROBES;
        let most = BROADCAST_PROBES + if self.phase == Phase::Probing { UNICAST_PROBES } else { 0 };
        if self.asked >= most {
            (self.phase, self.due) = (Phase::Failed, now + FAILED);
            return Task::GiveUp { interface, address };
        }
        self.asked += 1;
        self.due = now + RETRANSMIT;
        Task::Ask { interface, address, unicast: unicast.then_some(self.mac) }
    }
}

/// A packet that waits for its next hop.
#[derive(Debug)]
pub(crate) struct Waiting<B> {
    at: Address,
    pub(crate) port: u16,
    pub(crate) routed: bool,
    pub(crate) buf: B,
}

/// What the resolver wants done; the engine does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Ask for the address: everybody, or the MAC address it had.
    Ask { interface: InterfaceId, address: IpAddr, unicast: Option<[u8; 6]> },
    /// It does not answer: forget it, let its packets go.
    GiveUp { interface: InterfaceId, address: IpAddr },
}

/// Why a packet cannot be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    QueueFull,
    TableFull,
    Failed,
}

/// Worker 0's part: who is asked for, who answered, which packets wait.
#[derive(Debug)]
pub(crate) struct Resolver<B> {
    entries: FastMap<Address, Entry>,
    parked: VecDeque<Waiting<B>>,
    /// Entries at which something was due in the last scan, to be worked off.
    due: Vec<Address>,
    /// Entries that are not wanted.
    unwanted: usize,
    /// Before this time there is nothing to evict.
    next_eviction: Nanos,
    /// When each own address was last defended.
    defended: FastMap<IpAddr, Nanos>,
    next_scan: Nanos,
}

impl<B> Default for Resolver<B> {
    fn default() -> Resolver<B> {
        Resolver {
            entries: FastMap::with_capacity_and_hasher(2 * TABLE, Default::default()),
            parked: VecDeque::with_capacity(PARKED),
            due: Vec::with_capacity(TABLE),
            unwanted: 0,
            next_eviction: 0,
            defended: FastMap::with_capacity_and_hasher(64, Default::default()),
            next_scan: 0,
        }
    }
}

impl<B> Resolver<B> {
    /// Parks a packet; `Ok(true)` when its next hop has to be asked for at once.
    pub(crate) fn park(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        port: u16,
        routed: bool,
        buf: B,
        now: Nanos,
    ) -> Result<bool, (Refused, B)> {
        let at = (interface, address);
        if self.parked.len() >= if routed { PARKED_ROUTED } else { PARKED } {
            return Err((Refused::QueueFull, buf));
        }
        if !self.entries.contains_key(&at) && self.entries.len() >= TABLE && !self.evict(now) {
            return Err((Refused::TableFull, buf));
        }
        let mut ask = false;
        let entry = self.entries.entry(at).or_insert_with(|| {
            ask = true;
            let due = now + RETRANSMIT;
            Entry {
                phase: Phase::Incomplete,
                mac: [0; 6],
                asked: 1,
                due,
                confirmed: 0,
                used: now,
                wanted: true,
                parked: 0,
            }
        });
        entry.used = now;
        match entry.phase {
            Phase::Failed if now < entry.due => return Err((Refused::Failed, buf)),
            Phase::Failed => {
                (entry.phase, entry.asked, entry.due) = (Phase::Incomplete, 1, now + RETRANSMIT);
                ask = true;
            }
            _ if entry.parked >= PARKED_EACH => return Err((Refused::QueueFull, buf)),
            _ => {}
        }
        entry.parked += 1;
        self.parked.push_back(Waiting { at, port, routed, buf });
        Ok(ask)
    }

    /// The MAC address of a neighbour that a worker does not know although it is known here.
    pub(crate) fn known(&self, interface: InterfaceId, address: IpAddr) -> Option<[u8; 6]> {
        let entry = self.entries.get(&(interface, address))?;
        matches!(entry.phase, Phase::Reachable | Phase::Probing).then_some(entry.mac)
    }

    /// Makes room by forgetting what is not in use; looks at all entries, so not at every packet of a flood.
    fn evict(&mut self, now: Nanos) -> bool {
        if now < self.next_eviction {
            return false;
        }
        self.next_eviction = now + SCAN;
        let before = self.entries.len();
        self.keep(|entry| entry.parked > 0 || entry.phase != Phase::Failed && now < entry.used + REACHABLE);
        self.entries.len() < before
    }

    fn keep(&mut self, which: impl Fn(&Entry) -> bool) {
        let unwanted = &mut self.unwanted;
        self.entries.retain(|_, entry| {
            let keep = which(entry);
            *unwanted -= usize::from(!keep && !entry.wanted);
            keep
        });
    }

    /// Takes in that `address` says it has `mac`. `asks_us`: it asked for one of our addresses, which makes an
    /// entry; anything else only updates one (RFC 826; no entry from unsolicited replies). True when it counts.
    pub(crate) fn heard(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: [u8; 6],
        asks_us: bool,
        neighbours: &Neighbours,
        now: Nanos,
    ) -> bool {
        let at = (interface, address);
        if neighbours.is_fixed(&at) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(&at) {
            if entry.phase == Phase::Reachable && entry.mac != mac && now < entry.confirmed + LOCK {
                return false;
            }
            (entry.phase, entry.mac, entry.asked, entry.confirmed) = (Phase::Reachable, mac, 0, now);
            return true;
        }
        let full =
            |resolver: &Resolver<B>| resolver.entries.len() >= TABLE || resolver.unwanted >= TABLE_UNWANTED;
        if !asks_us || (full(self) && (!self.evict(now) || full(self))) {
            return false;
        }
        let entry = Entry {
            phase: Phase::Reachable,
            mac,
            asked: 0,
            due: 0,
            confirmed: now,
            used: now,
            wanted: false,
            parked: 0,
        };
        self.unwanted += 1;
        self.entries.insert(at, entry);
        true
    }

    /// The next packet that waits for a neighbour, in the order of their coming.
    pub(crate) fn release(&mut self, interface: InterfaceId, address: IpAddr) -> Option<Waiting<B>> {
        let at = (interface, address);
        let entry = self.entries.get_mut(&at).filter(|entry| entry.parked > 0)?;
        let place = self.parked.iter().position(|waiting| waiting.at == at)?;
        entry.parked -= 1;
        self.parked.remove(place)
    }

    /// A worker uses a neighbour whose entry nears its end; false when there is no such entry any more.
    pub(crate) fn used(&mut self, interface: InterfaceId, address: IpAddr, now: Nanos) -> bool {
        let Some(entry) = self.entries.get_mut(&(interface, address)) else { return false };
        entry.used = now;
        if !entry.wanted {
            entry.wanted = true;
            self.unwanted -= 1;
        }
        if entry.phase == Phase::Reachable && now >= entry.confirmed + (REACHABLE - REFRESH) {
            (entry.phase, entry.asked, entry.due) = (Phase::Probing, 0, now);
            self.next_scan = now;
        }
        true
    }

    /// What is due; to be called until it gives `None`.
    pub(crate) fn next_task(&mut self, now: Nanos) -> Option<Task> {
        if now < self.next_scan {
            return None;
        }
        if self.due.is_empty() {
            self.keep(|entry| entry.parked > 0 || now < entry.used + FORGET);
            self.due.extend(self.entries.iter().filter(|(_, entry)| entry.is_due(now)).map(|(&at, _)| at));
        }
        while let Some((interface, address)) = self.due.pop() {
            let entry = self.entries.get_mut(&(interface, address)).filter(|entry| entry.is_due(now));
            if let Some(entry) = entry {
                return Some(entry.next_question(interface, address, now));
            }
        }
        self.next_scan = now + SCAN;
        None
    }

    /// Whether an own address that somebody else claims is to be defended now.
    pub(crate) fn defends(&mut self, address: IpAddr, now: Nanos) -> bool {
        if self.defended.len() >= 64 {
            self.defended.retain(|_, &mut at| now < at + DEFEND_INTERVAL);
        }
        match self.defended.get(&address) {
            Some(&at) if now < at + DEFEND_INTERVAL => false,
            None if self.defended.len() >= 64 => false,
            _ => {
                self.defended.insert(address, now);
                true
            }
        }
    }

    /// Forgets neighbours and parked packets: the interfaces are others now.
    pub(crate) fn forget(&mut self) {
        self.entries.clear();
        self.unwanted = 0;
        self.parked.clear();
        self.due.clear();
    }

    pub(crate) fn export(&self, out: &mut Vec<NeighbourView>) {
        out.extend(self.entries.iter().map(|(&(interface, address), entry)| {
            let (state, mac) = match entry.phase {
                Phase::Incomplete => ("incomplete", None),
                Phase::Reachable => ("reachable", Some(entry.mac)),
                Phase::Probing => ("probing", Some(entry.mac)),
                Phase::Failed => ("failed", None),
            };
            NeighbourView { interface, address, mac, state, parked: entry.parked as u32 }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 11));
    const MAC: [u8; 6] = [2, 0, 0, 0, 2, 11];

    #[test]
    fn three_questions_then_failure_then_silence() {
        let mut resolver = Resolver::default();
        assert_eq!(resolver.park(0, HOST, 0, false, 'a', 0), Ok(true));
        let ask = Some(Task::Ask { interface: 0, address: HOST, unicast: None });
        assert_eq!(resolver.next_task(SECOND / 2), None);
        assert_eq!(resolver.next_task(SECOND), ask);
        assert_eq!(resolver.next_task(2 * SECOND), ask);
        assert_eq!(resolver.next_task(3 * SECOND), Some(Task::GiveUp { interface: 0, address: HOST }));
        assert_eq!(resolver.release(0, HOST).unwrap().buf, 'a');
        assert_eq!(resolver.park(0, HOST, 0, false, 'b', 4 * SECOND), Err((Refused::Failed, 'b')));
        assert_eq!(resolver.park(0, HOST, 0, false, 'b', 7 * SECOND), Ok(true));
    }

    #[test]
    fn an_answer_counts_only_when_asked_for() {
        let (mut resolver, neighbours) = (Resolver::<char>::default(), Neighbours::default());
        assert!(!resolver.heard(0, HOST, MAC, false, &neighbours, 0));
        resolver.park(0, HOST, 0, false, 'a', 0).unwrap();
        assert!(resolver.heard(0, HOST, MAC, false, &neighbours, 1));
        assert!(!resolver.heard(0, HOST, [2; 6], false, &neighbours, SECOND / 2), "flip-flop");
        assert!(resolver.heard(0, HOST, [2; 6], false, &neighbours, 2 * SECOND));
        assert_eq!(resolver.known(0, HOST), Some([2; 6]));
    }

    #[test]
    fn parked_packets_are_bounded_and_keep_their_order() {
        let mut resolver = Resolver::default();
        for i in 0..PARKED_EACH {
            resolver.park(0, HOST, 0, false, i, 0).unwrap();
        }
        assert!(matches!(resolver.park(0, HOST, 0, false, 999, 0), Err((Refused::QueueFull, 999))));
        let order: Vec<_> = std::iter::from_fn(|| resolver.release(0, HOST)).map(|w| w.buf).collect();
        assert!(order.is_sorted() && order.len() == PARKED_EACH);
    }

    #[test]
    fn a_scan_leaves_room_for_services() {
        let mut resolver = Resolver::default();
        let scan = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a02_0000 + n));
        let parked = (0..5000).filter(|&n| resolver.park(0, scan(n), 0, true, n, 0).is_ok()).count();
        assert_eq!((parked, resolver.park(0, HOST, 0, false, 0, 0)), (PARKED_ROUTED, Ok(true)));
        let asked = std::iter::from_fn(|| resolver.next_task(SECOND)).count();
        assert_eq!(asked, PARKED_ROUTED + 1);
    }

    #[test]
    fn a_flood_of_questions_leaves_room_for_neighbours_that_packets_go_to() {
        let (mut resolver, mut neighbours) = (Resolver::<char>::default(), Neighbours::default());
        let asker = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(0x0a02_0000 + n as u32));
        let mut heard = 0;
        for round in 0..10 {
            let now = round * (REACHABLE + SECOND);
            for n in 0..2 * TABLE {
                let address = asker(round as usize * 2 * TABLE + n);
                if resolver.heard(0, address, MAC, true, &neighbours, now) {
                    neighbours.learn(0, address, Some(MAC), now);
                    heard += 1;
                }
            }
        }
        let now = 9 * (REACHABLE + SECOND);
        assert_eq!(heard, 10 * TABLE_UNWANTED);
        assert_eq!(resolver.park(0, HOST, 0, false, 'a', now), Ok(true));
        assert!(resolver.heard(0, HOST, MAC, false, &neighbours, now));
        neighbours.learn(0, HOST, Some(MAC), now);
        assert_eq!(neighbours.lookup(0, HOST, now), Lookup::Known { mac: MAC, ask: false });
        // One that packets go to makes room among those that only asked.
        assert!(!resolver.heard(0, asker(1 << 20), MAC, true, &neighbours, now));
        assert!(resolver.used(0, asker(9 * 2 * TABLE), now));
        assert!(resolver.heard(0, asker(1 << 20), MAC, true, &neighbours, now));
    }

    #[test]
    fn a_used_neighbour_is_asked_by_unicast_before_it_is_too_old() {
        let (mut resolver, mut neighbours) = (Resolver::<char>::default(), Neighbours::default());
        resolver.heard(0, HOST, MAC, true, &neighbours, 0);
        neighbours.learn(0, HOST, Some(MAC), 0);
        assert_eq!(neighbours.lookup(0, HOST, 19 * SECOND), Lookup::Known { mac: MAC, ask: false });
        assert_eq!(neighbours.lookup(0, HOST, 21 * SECOND), Lookup::Known { mac: MAC, ask: true });
        assert_eq!(neighbours.lookup(0, HOST, 22 * SECOND), Lookup::Known { mac: MAC, ask: false });
        assert!(resolver.used(0, HOST, 21 * SECOND));
        let ask = Task::Ask { interface: 0, address: HOST, unicast: Some(MAC) };
        assert_eq!(resolver.next_task(21 * SECOND), Some(ask));
    }
}
