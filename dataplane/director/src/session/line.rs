//! A session as packets meet it: one cache line with all that an established packet needs, the addresses too when
//! they are of IPv4. What else belongs to it is in [`Cold`], and beside the arenas in `side`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::narrow::Narrow;
use super::side::{NOWHERE, SideId, Wide};
use super::terms::Terms;
use super::{Broad, Direction, Key, NONE, NewSession, Rank, SessionId, State, TEMPLATE, rank};
use crate::Nanos;
use crate::fastpath::Deltas;
use crate::neighbour::{HopId, NO_HOP};
use crate::snapshot::{DestinationId, Forward, InterfaceId};
use crate::stream::Care;

/// What time-outs are kept in: whole milliseconds.
const MILLISECOND: Nanos = 1_000_000;

const ACTIVE: u8 = 1 << 2;
const NO_OUTPUT: u8 = 1 << 3;
const LIVE: u8 = 1 << 4;
const INDEXED: u8 = 1 << 5;
const STACKED: u8 = 1 << 6;

/// So many packets of a client are many to all who ask.
pub(crate) const MANY: u8 = 16;

/// Places of the addresses and ports.
pub(super) const CLIENT: usize = 0;
pub(super) const VIP: usize = 1;
pub(super) const LOCAL: usize = 2;
pub(super) const SERVER: usize = 3;

/// One session or template.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Session {
    /// Ends of the packets of a direction that come in. Where one is not of IPv4, the addresses of the first are where
    /// all are, and a bit for each that is of IPv6.
    comes: [Narrow; 2],
    /// What it is, and by which ways its packets come.
    terms: Terms,
    flags: u8,
    /// Packets from the client, as far as they are counted. // IPVS: in_pkts
    in_packets: u8,
    /// What its packets need beside new addresses and ports.
    pub(crate) care: Care,
    /// Its server.
    pub destination: DestinationId,
    /// When it ends if nothing comes.
    pub expires: Nanos,
    /// In milliseconds.
    timeout: u32,
    /// Next hops of its packets, by direction.
    hops: [HopId; 2],
    /// What new addresses and ports do to checksums.
    pub(crate) deltas: Deltas,
    /// What the client's sequence numbers are shifted by for the server.
    pub(crate) offset: u32,
}

const _: () = assert!(size_of::<Session>() == 64);

/// The part of a session that packets do not need while nothing changes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Cold {
    /// Neighbours among those of its rank.
    pub(super) link: rank::Link,
    /// Place in its slot of the timing wheel, or none. A free place of the arenas keeps it for the next session.
    pub(super) timer: u32,
    /// The template that controls it, or, of FTP's data, the control connection; or none. Of a free place: the next
    /// free one.
    pub(super) control: SessionId,
    /// How many sessions it controls.
    pub(super) controls: u32,
    /// Its rare part.
    pub(super) rare: SideId,
    /// The number of the server's first byte, once its SYN has shown it.
    pub(super) first_answer: u32,
    /// Its slot of the timing wheel.
    pub(super) slot: u16,
    /// How dispensable it is, when others may take its place.
    pub(super) rank: Option<Rank>,
}

const _: () = assert!(size_of::<Cold>() == 32);

impl Cold {
    pub(super) fn new(control: SessionId) -> Cold {
        Cold {
            link: rank::Link::default(),
            timer: NONE,
            control,
            controls: 0,
            rare: NOWHERE,
            first_answer: 0,
            slot: 0,
            rank: None,
        }
    }
}

/// Addresses and ports of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Client's; of a template, its network and 0.
    pub client: (IpAddr, u16),
    /// VIP and the port that the client asked for.
    pub vip: (IpAddr, u16),
    /// What a FULLNAT server sees; the client's otherwise. A template is found by it: of a call it is one that no
    /// client has.
    pub local: (IpAddr, u16),
    /// Server's.
    pub server: (IpAddr, u16),
}

impl Ends {
    /// Whether the server is spoken to by another family than the client speaks.
    #[inline]
    pub fn translates(&self) -> bool {
        self.local.0.is_ipv6() != self.client.0.is_ipv6()
    }
}

impl Session {
    pub(super) fn new(new: &NewSession, wide: Option<SideId>) -> Session {
        let ends = [new.client, new.vip, new.local, new.server];
        let bits = ends.map(|(address, _)| match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(_) => 0,
        });
        let is_v6 = |at: usize| u32::from(ends[at].0.is_ipv6()) << at;
        let families = is_v6(CLIENT) | is_v6(VIP) | is_v6(LOCAL) | is_v6(SERVER);
        let end = |at: usize| (bits[at], ends[at].1);
        let comes = match wide {
            None => [Narrow::new(end(CLIENT), end(VIP)), Narrow::new(end(SERVER), end(LOCAL))],
            // Of these only the ports are what they seem.
            Some(wide) => [
                Narrow::new((wide, ends[CLIENT].1), (families, ends[VIP].1)),
                Narrow::new((0, ends[SERVER].1), (0, ends[LOCAL].1)),
            ],
        };
        let mut session = Session::of(new.protocol, new.forward, new.state, comes, new.destination);
        if wide.is_some() {
            session.terms.set_wide();
        }
        session
    }

    /// One whose packets come in with these ends, by direction.
    #[inline]
    pub(crate) fn of(
        protocol: u8,
        forward: Forward,
        state: State,
        comes: [Narrow; 2],
        destination: DestinationId,
    ) -> Session {
        let answered = matches!(forward, Forward::Nat | Forward::FullNat);
        Session {
            comes,
            terms: Terms::new(protocol, forward, state),
            flags: LIVE
                | INDEXED
                | if state.is_active() { ACTIVE } else { 0 }
                | if answered { 0 } else { NO_OUTPUT },
            in_packets: 0,
            care: Care::default(),
            destination,
            expires: 0,
            timeout: 0,
            hops: [NO_HOP; 2],
            deltas: Deltas::default(),
            offset: 0,
        }
    }

    /// State.
    #[inline]
    pub fn state(&self) -> State {
        self.terms.state()
    }

    /// Changes the state; [`Sessions::state_changed`](super::Sessions::state_changed) is to be told.
    pub fn set_state(&mut self, state: State) {
        self.terms.set_state(state);
    }

    /// IP protocol number.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.terms.protocol()
    }

    /// What packets have to meet that go the short way.
    #[inline(always)]
    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    /// Forwarding method, fixed when the session was made.
    #[inline]
    pub fn forward(&self) -> Forward {
        self.terms.method()
    }

    /// Whether it counts as an active one of its server.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.has(ACTIVE)
    }

    pub(crate) fn set_active(&mut self, active: bool) {
        self.set(ACTIVE, active);
    }

    /// Whether no packet of the server has been seen (and, by DR and TUN, is expected).
    // IPVS: IP_VS_CONN_F_NOOUTPUT
    #[inline]
    pub fn no_output(&self) -> bool {
        self.has(NO_OUTPUT)
    }

    #[inline]
    pub(crate) fn set_answered(&mut self) {
        self.set(NO_OUTPUT, false);
    }

    /// Whether it is a template.
    #[inline]
    pub fn is_template(&self) -> bool {
        matches!(self.state(), State::Template { .. })
    }

    /// Whether the place in the arena is in use.
    pub(super) fn is_live(&self) -> bool {
        self.has(LIVE)
    }

    pub(super) fn end(&mut self) {
        self.set(LIVE, false);
    }

    /// Whether its keys are in the index (what was retired has none any more).
    pub(super) fn is_indexed(&self) -> bool {
        self.has(INDEXED)
    }

    /// Whether its keys lead to it, and no other session has, or has had, one of them meanwhile: then packets that are
    /// between its ends are its own, whatever has come and gone.
    #[inline(always)]
    pub(crate) fn is_found_alone(&self) -> bool {
        self.flags & (INDEXED | STACKED) == INDEXED
    }

    pub(super) fn set_indexed(&mut self, indexed: bool) {
        self.set(INDEXED, indexed);
    }

    /// Whether its rare part says which sessions have the same reply key.
    pub(super) fn is_stacked(&self) -> bool {
        self.has(STACKED)
    }

    pub(super) fn stack(&mut self) {
        self.set(STACKED, true);
    }

    /// Whether its addresses are not all of IPv4.
    #[inline]
    pub fn is_wide(&self) -> bool {
        self.terms.is_wide()
    }

    /// Where its addresses are when it is wide.
    #[inline]
    pub(super) fn wide(&self) -> Option<SideId> {
        self.is_wide().then(|| self.place_of_wide())
    }

    /// The same of one that is known to be wide.
    #[inline(always)]
    pub(super) fn place_of_wide(&self) -> SideId {
        self.comes[0].ends().0.0
    }

    /// A bit for each address of a wide one that is of IPv6.
    #[inline]
    fn families(&self) -> u32 {
        self.comes[0].ends().1.0
    }

    /// Address and port at one of the places.
    #[inline]
    fn at(&self, place: usize) -> (u32, u16) {
        let comes = self.comes.map(Narrow::ends);
        match place {
            CLIENT => comes[0].0,
            VIP => comes[0].1,
            SERVER => comes[1].0,
            _ => comes[1].1,
        }
    }

    /// Changes a port; its keys must not be in the index.
    pub(super) fn set_port(&mut self, place: usize, port: u16) {
        let end = |at: usize| (self.at(at).0, if at == place { port } else { self.at(at).1 });
        self.comes = [Narrow::new(end(CLIENT), end(VIP)), Narrow::new(end(SERVER), end(LOCAL))];
    }

    /// What every packet sets `expires` to, from its own time.
    #[inline]
    pub fn timeout(&self) -> Nanos {
        Nanos::from(self.timeout) * MILLISECOND
    }

    /// A time-out in whole milliseconds, or the next larger; at most 49 days.
    #[inline]
    pub fn set_timeout(&mut self, timeout: Nanos) {
        self.timeout =
            u32::try_from(timeout.saturating_add(MILLISECOND - 1) / MILLISECOND).unwrap_or(u32::MAX);
    }

    /// Has the client's sequence numbers shifted by this for the server.
    #[inline(always)]
    pub(crate) fn set_offset(&mut self, offset: u32) {
        if !self.is_of_era(0) {
            self.deltas = self.deltas.shifted(self.offset, offset);
        }
        self.offset = offset;
    }

    /// Starts the time-out anew.
    #[inline]
    pub fn touch(&mut self, now: Nanos) {
        self.expires = now + self.timeout();
    }

    /// Counts a packet from the client, to [`MANY`].
    #[inline(always)]
    pub(crate) fn count_in(&mut self) {
        if self.in_packets < MANY {
            self.count_another();
        }
    }

    #[cold]
    fn count_another(&mut self) {
        self.in_packets += 1;
    }

    /// Packets from the client, [`MANY`] or more as that.
    pub(crate) fn in_packets(&self) -> u8 {
        self.in_packets
    }

    /// Port the client asked for.
    #[inline]
    pub fn vip_port(&self) -> u16 {
        self.at(VIP).1
    }

    /// Where its packets in a direction go, when that is remembered.
    #[inline]
    pub(crate) fn hop(&self, direction: Direction) -> HopId {
        self.hops[direction as usize]
    }

    /// Whether packets in a direction are remembered to come by this interface.
    #[inline]
    pub(crate) fn comes_by(&self, direction: Direction, interface: InterfaceId) -> bool {
        InterfaceId::from(self.terms.interface(direction)) == interface
    }

    /// Whether what is remembered of its way is of this era.
    #[inline]
    pub(crate) fn is_of_era(&self, era: u32) -> bool {
        self.terms.era() == era
    }

    /// Remembers what its packets' ways have in common; where they go has to be remembered anew in a new era.
    #[inline(always)]
    pub(crate) fn begin_era(&mut self, era: u32, deltas: Deltas) {
        if !self.is_of_era(era) {
            self.hops = [NO_HOP; 2];
        }
        self.terms.set_era(era);
        self.deltas = if self.offset == 0 { deltas } else { deltas.shifted(0, self.offset) };
    }

    /// Remembers where packets in a direction go that come by this interface; not of one whose number is too large.
    pub(crate) fn set_hop(&mut self, direction: Direction, interface: InterfaceId, hop: HopId) {
        let (interface, hop) = match u8::try_from(interface) {
            Ok(interface) => (interface, hop),
            Err(_) => (0, NO_HOP),
        };
        self.terms.set_interface(direction, interface);
        self.hops[direction as usize] = hop;
    }

    /// The ends of its packets in a direction as they come in, of a session of IPv4.
    #[inline(always)]
    pub(crate) fn comes(&self, direction: Direction) -> Narrow {
        self.comes[direction as usize]
    }

    /// The other side's ends of a session of IPv4: source and destination that its packets get in a direction.
    #[inline(always)]
    pub(crate) fn goes(&self, direction: Direction) -> Narrow {
        match direction {
            Direction::In => self.comes[1].turned(),
            Direction::Out => self.comes[0].turned(),
        }
    }

    /// The address of its server, of a session of IPv4.
    #[inline(always)]
    pub(crate) fn server_v4(&self) -> Ipv4Addr {
        let (_, (server, _)) = self.goes(Direction::In).ends();
        server.into()
    }

    /// The same of IPv6, with the session's wide part: addresses of packets of the other side as they come, to be turned,
    /// and the ports that its packets get.
    #[inline(always)]
    pub(crate) fn goes_v6<'w>(&self, wide: &'w Wide, direction: Direction) -> (&'w Broad, [u8; 4]) {
        let other = match direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        (&wide.comes[other as usize], self.goes(direction).ports())
    }

    /// Whether a packet of IPv4 with these ends goes in a direction of this session, which the index has named: if
    /// the rest of their [`Terms`] agrees.
    #[inline(always)]
    pub fn is_between(&self, direction: Direction, ends: Narrow) -> bool {
        self.comes[direction as usize] == ends
    }

    /// The same of IPv6, with the session's wide part.
    #[inline(always)]
    pub(crate) fn is_between_v6(
        &self,
        wide: &Wide,
        direction: Direction,
        (addresses, ports): (&[u8; 32], [u8; 4]),
    ) -> bool {
        let (from, to) = match direction {
            Direction::In => (CLIENT, VIP),
            Direction::Out => (SERVER, LOCAL),
        };
        let families = (1 << from) | (1 << to);
        wide.comes[direction as usize].is(addresses)
            && self.comes(direction).ports() == ports
            && self.families() & families == families
    }

    /// The ends in the key of packets from the client or from the server, when all are of IPv4.
    #[inline]
    pub(super) fn narrow(&self, direction: Direction) -> Option<Narrow> {
        (!self.is_wide()).then(|| match direction {
            Direction::In if self.is_template() => {
                Narrow::new((self.at(LOCAL).0, self.at(CLIENT).1), self.at(VIP))
            }
            _ => self.comes[direction as usize],
        })
    }

    /// The protocol in the key of packets from the client.
    #[inline]
    pub(super) fn protocol_in(&self) -> u16 {
        u16::from(self.protocol()) | if self.is_template() { TEMPLATE } else { 0 }
    }

    /// Whether packets from the server come back through the director.
    #[inline]
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.forward(), Forward::Nat | Forward::FullNat)
            && !matches!(self.state(), State::Template { .. } | State::OnePacket)
    }

    /// Addresses and ports; `wide` is for sessions that are.
    #[inline]
    pub(super) fn ends(&self, wide: Option<&Wide>) -> Ends {
        let end = |at: usize| {
            let address = match wide {
                None => IpAddr::V4(self.at(at).0.into()),
                Some(wide) if self.families() & (1 << at) == 0 => {
                    IpAddr::V4((wide.at(at).to_bits() as u32).into())
                }
                Some(wide) => IpAddr::V6(wide.at(at)),
            };
            (address, self.at(at).1)
        };
        Ends { client: end(CLIENT), vip: end(VIP), local: end(LOCAL), server: end(SERVER) }
    }

    /// The key of packets from the client.
    #[inline]
    pub(super) fn key_in(&self, ends: &Ends) -> Key {
        let src = if self.is_template() { ends.local.0 } else { ends.client.0 };
        let protocol = self.protocol_in();
        Key { protocol, src, sport: ends.client.1, dst: ends.vip.0, dport: ends.vip.1 }
    }

    /// The key of packets from the server, where they come back through the director.
    #[inline]
    pub(super) fn key_out(&self, ends: &Ends) -> Option<Key> {
        self.is_answered().then_some(Key {
            protocol: u16::from(self.protocol()),
            src: ends.server.0,
            sport: ends.server.1,
            dst: ends.local.0,
            dport: ends.local.1,
        })
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
}

impl Wide {
    /// The address of the session's server, if it is of IPv4.
    #[inline(always)]
    pub(crate) fn server_v4(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = self.server_v6().octets();
        Ipv4Addr::from([a, b, c, d])
    }

    /// The same, if it is of IPv6.
    #[inline(always)]
    pub(crate) fn server_v6(&self) -> Ipv6Addr {
        self.comes[Direction::Out as usize].addresses().0
    }

    /// The address at one of the places.
    #[inline]
    fn at(&self, place: usize) -> Ipv6Addr {
        let comes = self.comes.map(|ends| ends.addresses());
        match place {
            CLIENT => comes[0].0,
            VIP => comes[0].1,
            SERVER => comes[1].0,
            _ => comes[1].1,
        }
    }
}

/// The wide part of a session that needs one.
pub(super) fn wide(new: &NewSession) -> Option<Wide> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let [client, vip, local, server] = [new.client.0, new.vip.0, new.local.0, new.server.0];
    [client, vip, local, server]
        .iter()
        .any(IpAddr::is_ipv6)
        .then(|| Wide { comes: [Broad::new(bits(client), bits(vip)), Broad::new(bits(server), bits(local))] })
}
