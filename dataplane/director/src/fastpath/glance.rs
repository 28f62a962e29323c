//! What the headers of a packet say, read once and in order: Ethernet with at most one tag, IP without options or
//! extension headers, whole, TCP, UDP. The checks are those of `receive`; where one fails it is for the whole way to
//! say how.

use fulcrum_packet::checksum::{fold, pseudo_header, pseudo_header6};
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::counters::{DestinationCells, Traffic};
use crate::session::{Direction, NONE, Narrow, Session, SessionId, Sessions};
use crate::snapshot::{DestinationId, InterfaceId, NO_DESTINATION, Snapshot};

/// A port, as frames that come in by it are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// The port's address as the first six bytes of a frame are read, in the upper bits.
    station: u64,
    /// Of frames without a tag.
    interface: Option<InterfaceId>,
    partial_checksums: bool,
}

impl Gate {
    /// The gates of all ports.
    pub(crate) fn all(snap: &Snapshot) -> Vec<Gate> {
        let ports = snap.ports.iter().zip(0u16..);
        let gate = |(port, number): (&crate::snapshot::Port, u16)| Gate {
            station: station(&port.mac),
            interface: snap.by_vlan.get(&(number, 0)).copied(),
            partial_checksums: port.partial_checksums,
        };
        ports.map(gate).collect()
    }
}

/// The upper six bytes.
const STATION: u64 = !0xffff;

#[inline(always)]
fn station(mac: &[u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = *mac;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0])
}

/// What a packet shows, and the session that it may be of, with what that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance<'a> {
    /// Of its key, for the index.
    pub(super) hash: u64,
    /// Ends; of IPv6 only the ports.
    pub(super) ends: Narrow,
    pub(super) session: SessionId,
    pub(super) interface: InterfaceId,
    /// Length of the IP packet.
    pub(super) total: u16,
    /// Where it begins.
    pub(super) l3: u8,
    pub(super) protocol: u8,
    pub(super) v6: bool,
    /// Whether its key is known: of TCP and UDP that is whole.
    pub(super) keyed: bool,
    /// Whether it may take the short way: a datagram, or a segment that neither opens nor closes.
    pub(super) plain: bool,
    /// Whether it is UDP without a checksum.
    pub(super) unsummed: bool,
    /// Whether it is TCP with options.
    pub(super) options: bool,
    pub(super) direction: Direction,
    /// The session's, when it was looked at.
    pub(super) destination: DestinationId,
    pub(super) server: Option<&'a DestinationCells>,
    pub(super) service: Option<&'a Traffic>,
}

/// Length of the headers of IPv4 and TCP, and of IPv6 and TCP; so long are even small datagrams worth a short way.
const HEADS_V4: usize = ipv4::HEADER + tcp::HEADER;
const HEADS_V6: usize = ipv6::HEADER + tcp::HEADER;

impl Glance<'_> {
    /// Whether it is a whole packet of TCP or UDP that the index knew no session of.
    pub(super) fn is_new(&self) -> bool {
        self.total != 0 && !self.keyed
    }

    /// Of a packet that goes the whole way.
    pub(crate) const WHOLE_WAY: Glance<'static> = Glance {
        hash: 0,
        ends: Narrow::NONE,
        session: NONE,
        interface: 0,
        total: 0,
        l3: 0,
        protocol: 0,
        v6: false,
        keyed: false,
        plain: false,
        unsummed: false,
        options: false,
        direction: Direction::In,
        destination: NO_DESTINATION,
        server: None,
        service: None,
    };

    /// Reads a frame, unless it is another kind of packet, or wrong.
    #[inline(always)]
    pub(super) fn read<B: Buf>(
        &mut self,
        snap: &Snapshot,
        gates: &[Gate],
        sessions: &Sessions,
        port: u16,
        buf: &B,
    ) {
        let frame = buf.bytes();
        let (Some(gate), Some(ether)) =
            (gates.get(usize::from(port)), frame.first_chunk::<{ ethernet::HEADER }>())
        else {
            return;
        };
        let dst = ether.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first)) & STATION;
        if dst != gate.station {
            return;
        }
        let good = buf.has_good_header_checksum();
        match (u16_of(ether, 12), gate.interface) {
            (ethernet::IPV4, Some(interface)) => {
                self.interface = interface;
                self.read_v4::<{ ethernet::HEADER }>(gate, sessions, &frame[ethernet::HEADER..], good);
            }
            (ethernet::IPV6, Some(interface)) => {
                self.interface = interface;
                self.read_v6::<{ ethernet::HEADER }>(gate, sessions, &frame[ethernet::HEADER..]);
            }
            (ethernet::VLAN, _) => self.read_tagged(snap, gate, sessions, port, frame, good),
            _ => {}
        }
    }

    #[inline(never)]
    fn read_tagged(
        &mut self,
        snap: &Snapshot,
        gate: &Gate,
        sessions: &Sessions,
        port: u16,
        frame: &[u8],
        good: bool,
    ) {
        const L3: usize = ethernet::MAX_HEADER;
        let Some((ether, packet)) = frame.split_first_chunk::<L3>() else { return };
        let Some(&interface) = snap.by_vlan.get(&(port, u16_of(ether, 14) & 0x0fff)) else { return };
        if station(&snap.interfaces[usize::from(interface)].mac) != gate.station {
            return;
        }
        self.interface = interface;
        match u16_of(ether, 16) {
            ethernet::IPV4 => self.read_v4::<L3>(gate, sessions, packet, good),
            ethernet::IPV6 => self.read_v6::<L3>(gate, sessions, packet),
            _ => {}
        }
    }

    #[inline(always)]
    fn read_v4<const L3: usize>(&mut self, gate: &Gate, sessions: &Sessions, packet: &[u8], good: bool) {
        let Some(head) = packet.first_chunk::<HEADS_V4>() else { return };
        let (total, protocol) = (usize::from(u16_of(head, 2)), head[9]);
        let whole = u16_of(head, 6) & (ipv4::MF | ipv4::OFFSET) == 0;
        let word =
            |at: usize| u64::from(u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let sums = word(0) + word(4) + word(8) + word(12) + word(16);
        // A sum of sixteen-bit words that is right is a multiple of 2^16 - 1, in any order of bytes (RFC 1071), and
        // never zero here.
        let good = good || sums.is_multiple_of(0xffff);
        if head[0] != 0x45 || !whole || head[8] <= 1 || !good || total > packet.len() {
            return;
        }
        let Some(upper) = total.checked_sub(ipv4::HEADER) else { return };
        let Some(checksum) = self.read_upper(protocol, &head[ipv4::HEADER..], upper) else { return };
        self.ends = Narrow::read(bytes_of(head, 12), bytes_of(head, ipv4::HEADER));
        if gate.partial_checksums {
            let (src, dst) = (u32_of(head, 12), u32_of(head, 16));
            if checksum == fold(pseudo_header(src.into(), dst.into(), protocol, upper as u16)) {
                return;
            }
        }
        (self.protocol, self.total, self.l3) = (protocol, total as u16, L3 as u8);
        self.keyed = true;
        self.hash = sessions.hash_v4(protocol, self.ends);
        sessions.prefetch_bucket(self.hash);
    }

    #[inline(always)]
    fn read_v6<const L3: usize>(&mut self, gate: &Gate, sessions: &Sessions, packet: &[u8]) {
        let Some(head) = packet.first_chunk::<HEADS_V6>() else { return };
        let (upper, protocol) = (usize::from(u16_of(head, 4)), head[6]);
        let total = upper + ipv6::HEADER;
        if head[0] >> 4 != 6 || head[7] <= 1 || total > packet.len() || total > usize::from(u16::MAX) {
            return;
        }
        let Some(checksum) = self.read_upper(protocol, &head[ipv6::HEADER..], upper) else { return };
        let (src, dst) = addresses_v6(head);
        if gate.partial_checksums
            && checksum == fold(pseudo_header6(src.into(), dst.into(), protocol, upper as u32))
        {
            return;
        }
        (self.protocol, self.total, self.l3) = (protocol, total as u16, L3 as u8);
        (self.keyed, self.v6) = (true, true);
        self.ends = Narrow::read([0; 8], bytes_of(head, ipv6::HEADER));
        let (sport, dport) = self.ports();
        self.hash = sessions.hash_v6(protocol, (src, sport), (dst, dport));
        sessions.prefetch_bucket(self.hash);
    }

    /// Ports of a segment or datagram of `length` bytes, and what else it may be told by; gives its checksum.
    #[inline(always)]
    fn read_upper(&mut self, protocol: u8, head: &[u8], length: usize) -> Option<u16> {
        let head: &[u8; tcp::HEADER] = head.first_chunk()?;
        match protocol {
            ipv4::TCP => {
                let header = usize::from(head[12] >> 4) * 4;
                self.plain = head[13] & (tcp::SYN | tcp::FIN | tcp::RST | tcp::ACK) == tcp::ACK;
                self.options = header > tcp::HEADER;
                (header >= tcp::HEADER && header <= length).then_some(u16_of(head, 16))
            }
            ipv4::UDP => {
                let checksum = u16_of(head, 6);
                (self.plain, self.unsummed) = (true, checksum == 0);
                (length >= udp::HEADER).then_some(checksum)
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn ports(&self) -> (u16, u16) {
        let ((_, sport), (_, dport)) = self.ends.ends();
        (sport, dport)
    }

    /// Whether a packet of IPv6 goes in `direction` of a session; its addresses are read once more.
    #[inline(always)]
    pub(super) fn is_of_v6(
        &self,
        sessions: &Sessions,
        session: &Session,
        direction: Direction,
        frame: &[u8],
    ) -> bool {
        let packet = frame.get(usize::from(self.l3)..).and_then(|packet| packet.first_chunk::<HEADS_V6>());
        packet.is_some_and(|head| {
            let (src, dst) = addresses_v6(head);
            let (sport, dport) = self.ports();
            sessions.is_of_v6(session, direction, self.protocol, (src, sport), (dst, dport))
        })
    }
}

#[inline(always)]
fn u16_of<const N: usize>(head: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

#[inline(always)]
fn bytes_of<const N: usize, const M: usize>(head: &[u8; N], at: usize) -> [u8; M] {
    let mut bytes = [0; M];
    bytes.copy_from_slice(&head[at..at + M]);
    bytes
}

#[inline(always)]
fn u32_of<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

/// Source and destination of an IPv6 header.
#[inline(always)]
fn addresses_v6(head: &[u8; HEADS_V6]) -> (u128, u128) {
    let mut addresses = [[0; 16]; 2];
    addresses[0].copy_from_slice(&head[8..24]);
    addresses[1].copy_from_slice(&head[24..40]);
    (u128::from_be_bytes(addresses[0]), u128::from_be_bytes(addresses[1]))
}
