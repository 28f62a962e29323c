//! Worker 0's part: who is asked for, who answered, which packets wait.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{Address, Neighbours, REACHABLE, REFRESH, SCAN, TABLE};
use crate::export::NeighbourView;
use crate::snapshot::{FastMap, InterfaceId};
use crate::{Nanos, SECOND};

/// Of learned neighbours, such as only asked for us: whoever does so under many addresses leaves room for those that
/// packets go to.
const TABLE_UNWANTED: usize = TABLE / 2;
/// Parked packets at most: in all, of those that are merely routed or answers of our own (so that a scan of a subnet
/// behind the director leaves room for services), and for one neighbour.
const PARKED: usize = 1024;
const PARKED_ROUTED: usize = 512;
const PARKED_EACH: usize = 128;

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
const DEFEND_INTERVAL: Nanos = 10 * SECOND;
/// Claims of others to own addresses that are remembered, and for how long after the last time.
const CLAIMS: usize = 64;
const CLAIM: Nanos = 600 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for; never answered.
    Incomplete,
    Reachable,
    /// Known, asked again.
    Probing,
    /// Did not answer.
    Failed,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    mac: [u8; 6],
    /// Questions sent since the last answer.
    pub(super) asked: u8,
    /// When something is due: the next question, or the end of a failure.
    pub(super) due: Nanos,
    pub(super) confirmed: Nanos,
    pub(super) used: Nanos,
    /// Whether a packet ever went to it, or may.
    wanted: bool,
    /// Whether others take its flows when it does not answer.
    pub(super) watched: bool,
    parked: usize,
}

impl Entry {
    /// One that a question is due for.
    pub(super) fn to_ask(now: Nanos) -> Entry {
        Entry {
            phase: Phase::Incomplete,
            mac: [0; 6],
            asked: 0,
            due: now,
            confirmed: 0,
            used: now,
            wanted: true,
            watched: false,
            parked: 0,
        }
    }

    /// Whether a question is to be asked, or the asking to be given up.
    fn is_due(&self, now: Nanos) -> bool {
        matches!(self.phase, Phase::Incomplete | Phase::Probing) && now >= self.due
    }

    /// By unicast first where an address was known; after the last question the neighbour is given up.
    fn next_question(&mut self, interface: InterfaceId, address: IpAddr, now: Nanos) -> Task {
        let unicast = self.phase == Phase::Probing && self.asked < UNICAST_PROBES;
        let most = match self.phase {
            // It goes on to be asked by broadcast.
            Phase::Probing if self.watched => UNICAST_PROBES,
            Phase::Probing => UNICAST_PROBES + BROADCAST_PROBES,
            _ => BROADCAST_PROBES,
        };
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

/// What worker 0 knows of next hops.
#[derive(Debug)]
pub(crate) struct Resolver<B> {
    pub(super) entries: FastMap<Address, Entry>,
    parked: VecDeque<Waiting<B>>,
    /// Entries at which something is due, to be worked off.
    due: Vec<Address>,
    /// Entries that are not wanted.
    unwanted: usize,
    /// Before this time there is nothing to evict.
    next_eviction: Nanos,
    /// When each own address was last defended.
    defended: FastMap<IpAddr, Nanos>,
    /// Who else claimed which own address, and when last.
    claims: Vec<(Address, [u8; 6], Nanos)>,
    next_scan: Nanos,
    /// Before this time gateways are not looked at again.
    pub(super) next_watch: Nanos,
}

impl<B> Default for Resolver<B> {
    fn default() -> Resolver<B> {
        Resolver {
            entries: FastMap::with_capacity_and_hasher(2 * TABLE, Default::default()),
            parked: VecDeque::with_capacity(PARKED),
            // A scan may find again what was put there since the last one.
            due: Vec::with_capacity(2 * TABLE),
            unwanted: 0,
            next_eviction: 0,
            defended: FastMap::with_capacity_and_hasher(64, Default::default()),
            claims: Vec::with_capacity(CLAIMS),
            next_scan: 0,
            next_watch: 0,
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
            Entry { asked: 1, due: now + RETRANSMIT, ..Entry::to_ask(now) }
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
        let (before, unwanted) = (self.entries.len(), &mut self.unwanted);
        self.entries.retain(|_, entry| {
            let keep = entry.parked > 0 || entry.phase != Phase::Failed && now < entry.used + REACHABLE;
            *unwanted -= usize::from(!keep && !entry.wanted);
            keep
        });
        self.entries.len() < before
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
            due: 0,
            confirmed: now,
            wanted: false,
            ..Entry::to_ask(now)
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
        self.want(&(interface, address));
        let Some(entry) = self.entries.get_mut(&(interface, address)) else { return false };
        entry.used = now;
        if entry.phase == Phase::Reachable && now >= entry.confirmed + (REACHABLE - REFRESH) {
            (entry.phase, entry.asked, entry.due) = (Phase::Probing, 0, now);
            self.due.push((interface, address));
        }
        true
    }

    /// Packets go to a neighbour, if there is such an entry.
    pub(super) fn want(&mut self, at: &Address) {
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| !entry.wanted) {
            entry.wanted = true;
            self.unwanted -= 1;
        }
    }

    /// One thing of what is due, `None` when there is nothing.
    pub(crate) fn next_task(&mut self, now: Nanos) -> Option<Task> {
        if self.due.is_empty() && now >= self.next_scan {
            self.next_scan = now + SCAN;
            self.scan(now);
        }
        while let Some((interface, address)) = self.due.pop() {
            let entry = self.entries.get_mut(&(interface, address)).filter(|entry| entry.is_due(now));
            if let Some(entry) = entry {
                return Some(entry.next_question(interface, address, now));
            }
        }
        None
    }

    /// When there may be something to do; 0 when there is now.
    pub(crate) fn next_look(&self) -> Nanos {
        if self.due.is_empty() { self.next_scan.min(self.next_watch) } else { 0 }
    }

    /// Finds what is due, and forgets what nobody used for long.
    fn scan(&mut self, now: Nanos) {
        let (due, unwanted) = (&mut self.due, &mut self.unwanted);
        self.entries.retain(|&at, entry| {
            let keep = entry.parked > 0 || now < entry.used + FORGET;
            *unwanted -= usize::from(!keep && !entry.wanted);
            if keep && entry.is_due(now) {
                due.push(at);
            }
            keep
        });
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
        self.claims.clear();
        self.entries.clear();
        self.unwanted = 0;
        self.parked.clear();
        self.due.clear();
    }

    /// Somebody else has claimed an own address.
    pub(crate) fn claimed(&mut self, interface: InterfaceId, address: IpAddr, mac: [u8; 6], now: Nanos) {
        let at = (interface, address);
        self.claims.retain(|claim| now < claim.2 + CLAIM && (claim.0, claim.1) != (at, mac));
        if self.claims.len() < CLAIMS {
            self.claims.push((at, mac, now));
        }
    }

    pub(crate) fn export(&self, out: &mut Vec<NeighbourView>) {
        out.extend(self.claims.iter().map(|&((interface, address), mac, _)| NeighbourView {
            interface,
            address,
            mac: Some(mac),
            state: "conflict",
            parked: 0,
        }));
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

    use super::super::Lookup;
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
