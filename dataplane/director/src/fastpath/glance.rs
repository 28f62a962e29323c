//! What the headers of a packet say, read once and in order: Ethernet with at most one tag, IP without options or
//! extension headers, whole, TCP, UDP. The checks are those of `receive`; where one fails it is for the whole way to
//! say how.

use fulcrum_packet::checksum::{fold, pseudo_header, pseudo_header6};
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::session::terms::Terms;
use crate::session::{Direction, NONE, Narrow, SessionId, Sessions};
use crate::snapshot::{InterfaceId, Snapshot};

/// A port, as frames that come in by it are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// The port's address as the first bytes of a frame are read.
    station: u64,
    /// What sessions have to agree with, of frames without a tag.
    terms: Terms,
    partial_checksums: bool,
}

impl Gate {
    /// The gates of all ports, in an era.
    pub(crate) fn all(snap: &Snapshot, era: u32) -> Vec<Gate> {
        let ports = snap.ports.iter().zip(0u16..);
        let gate = |(port, number): (&crate::snapshot::Port, u16)| Gate {
            station: station(&port.mac),
            terms: terms(era, snap.by_vlan.get(&(number, 0)).copied()),
            partial_checksums: port.partial_checksums,
        };
        ports.map(gate).collect()
    }
}

fn terms(era: u32, interface: Option<InterfaceId>) -> Terms {
    interface.and_then(|interface| Terms::expected(era, interface)).unwrap_or(Terms::NEVER)
}

/// A station's address at the beginning of a frame, to be compared.
#[inline(always)]
fn station<const N: usize>(frame: &[u8; N]) -> u64 {
    const STATION: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    let mut first = [0; 8];
    let length = N.min(8);
    first[..length].copy_from_slice(&frame[..length]);
    u64::from_ne_bytes(first) & STATION
}

/// What a packet shows, and the session that it may be of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance {
    /// Of its key, for the index.
    pub(super) hash: u64,
    /// What a session has to agree with that it is to go the short way of.
    pub(super) terms: Terms,
    /// Ends; of IPv6 only the ports.
    pub(super) ends: Narrow,
    pub(super) session: SessionId,
    /// Length of the IP packet.
    pub(super) total: u16,
    /// Where it begins.
    pub(super) l3: u8,
    pub(super) marks: Marks,
}

/// What a packet is, beside lengths and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks(u8);

impl Marks {
    /// Whether its key is known: of TCP and UDP that is whole.
    const KEYED: u8 = 1 << 0;
    /// Whether it may take the short way: a datagram, or a segment that neither opens nor closes.
    const PLAIN: u8 = 1 << 1;
    /// UDP without a checksum.
    const UNSUMMED: u8 = 1 << 2;
    /// TCP with options.
    const OPTIONS: u8 = 1 << 3;
    const V6: u8 = 1 << 4;
    /// Of the server, by what the index says.
    const OUT: u8 = 1 << 5;
    const TCP: u8 = 1 << 6;
    /// Of no session that the index knew.
    const NEW: u8 = 1 << 7;

    #[inline(always)]
    pub(super) fn is_keyed(self) -> bool {
        self.0 & Marks::KEYED != 0
    }

    /// Whether it has a key, and opens or closes.
    #[inline(always)]
    pub(super) fn is_special(self) -> bool {
        self.0 & (Marks::PLAIN | Marks::KEYED) == Marks::KEYED
    }

    /// Whether it may take the short way, and of a session.
    #[inline(always)]
    pub(super) fn is_plain(self) -> bool {
        self.0 & (Marks::PLAIN | Marks::KEYED) == Marks::PLAIN | Marks::KEYED
    }

    #[inline(always)]
    pub(super) fn is_v6(self) -> bool {
        self.0 & Marks::V6 != 0
    }

    /// UDP without a checksum; in answers, if they are renumbered, also TCP with options.
    #[inline(always)]
    pub(super) fn is_odd(self, renumbered_answer: bool) -> bool {
        let odd = Marks::UNSUMMED | if renumbered_answer { Marks::OPTIONS } else { 0 };
        self.0 & odd != 0
    }

    /// Whether it is a whole packet of TCP or UDP that the index knew no session of.
    pub(super) fn is_new(self) -> bool {
        self.0 & Marks::NEW != 0
    }

    #[inline(always)]
    pub(super) fn is_tcp(self) -> bool {
        self.0 & Marks::TCP != 0
    }

    #[inline(always)]
    pub(super) fn direction(self) -> Direction {
        if self.0 & Marks::OUT == 0 { Direction::In } else { Direction::Out }
    }

    /// Takes in what the index says.
    #[inline(always)]
    pub(super) fn set_candidate(&mut self, direction: Option<Direction>) {
        match direction {
            Some(Direction::In) => {}
            Some(Direction::Out) => self.0 |= Marks::OUT,
            None => self.0 = self.0 & !(Marks::KEYED | Marks::PLAIN) | Marks::NEW,
        }
    }
}

/// Length of the headers of IPv4 and TCP, and of IPv6 and TCP; so long are even small datagrams worth a short way.
const HEADS_V4: usize = ipv4::HEADER + tcp::HEADER;
const HEADS_V6: usize = ipv6::HEADER + tcp::HEADER;

impl Glance {
    /// The interface that it came by, when that is known.
    pub(super) fn interface(&self) -> InterfaceId {
        self.terms.interface(Direction::In).into()
    }

    /// Of a packet that goes the whole way.
    pub(super) const WHOLE_WAY: Glance = Glance {
        hash: 0,
        terms: Terms::NEVER,
        ends: Narrow::NONE,
        session: NONE,
        total: 0,
        l3: 0,
        marks: Marks(0),
    };

    /// Reads a frame, unless it is another kind of packet, or wrong.
    #[inline(always)]
    pub(super) fn read<B: Buf>(&mut self, view: &View<'_>, port: u16, buf: &B) {
        const L3: usize = ethernet::HEADER;
        self.marks = Marks(0);
        let frame = buf.bytes();
        let (Some(gate), Some(head)) =
            (view.gates.get(usize::from(port)), frame.first_chunk::<{ L3 + HEADS_V4 }>())
        else {
            return;
        };
        if station(head) != gate.station {
            return;
        }
        let ip = match u16_of(head, 12) {
            ethernet::IPV4 => Ip { l3: L3, terms: gate.terms, partial_checksums: gate.partial_checksums },
            other => {
                return self.read_other(view, gate, (port, other), frame, buf.has_good_header_checksum());
            }
        };
        self.read_v4(view, ip, &head[L3..], frame.len() - L3, buf.has_good_header_checksum());
    }

    /// Reads what is not IPv4 without a tag.
    #[inline(never)]
    fn read_other(
        &mut self,
        view: &View<'_>,
        gate: &Gate,
        (port, kind): (u16, u16),
        frame: &[u8],
        good: bool,
    ) {
        const L3: usize = ethernet::MAX_HEADER;
        let partial_checksums = gate.partial_checksums;
        if kind == ethernet::IPV6 {
            let ip = Ip { l3: ethernet::HEADER, terms: gate.terms, partial_checksums };
            return self.read_v6(view, ip, &frame[ethernet::HEADER..]);
        }
        let (ethernet::VLAN, Some((ether, packet))) = (kind, frame.split_first_chunk::<L3>()) else { return };
        let Some(&interface) = view.snap.by_vlan.get(&(port, u16_of(ether, 14) & 0x0fff)) else { return };
        if station(&view.snap.interfaces[usize::from(interface)].mac) != gate.station {
            return;
        }
        let ip = Ip { l3: L3, terms: terms(view.era, Some(interface)), partial_checksums };
        match u16_of(ether, 16) {
            ethernet::IPV4 => self.read_v4(view, ip, packet, packet.len(), good),
            ethernet::IPV6 => self.read_v6(view, ip, packet),
            _ => {}
        }
    }

    /// Reads a packet whose beginning is `head`, of `room` bytes with what is behind it.
    #[inline(always)]
    fn read_v4(&mut self, view: &View<'_>, ip: Ip, head: &[u8], room: usize, good: bool) {
        let Some(head) = head.first_chunk::<HEADS_V4>() else { return };
        let (total, protocol) = (u16_of(head, 2), head[9]);
        let word =
            |at: usize| u64::from(u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let sums = word(0) + word(4) + word(8) + word(12) + word(16);
        // A sum of sixteen-bit words that is right is a multiple of 2^16 - 1, in any order of bytes (RFC 1071), and
        // never zero here.
        if head[0] != 0x45 || !(good || sums.is_multiple_of(0xffff)) {
            return;
        }
        // Of the word with identification, flags and offset.
        const PART: u64 = (ipv4::MF | ipv4::OFFSET) as u32 as u64;
        if word(4) & u64::from((PART as u32).to_be()) != 0 || head[8] <= 1 || usize::from(total) > room {
            return;
        }
        let upper = i32::from(total) - ipv4::HEADER as i32;
        let Some((marks, terms, checksum)) = upper_of(protocol, ip.terms, &head[ipv4::HEADER..], upper)
        else {
            return;
        };
        if ip.partial_checksums {
            let (src, dst) = (u32_of(head, 12), u32_of(head, 16));
            if checksum == fold(pseudo_header(src.into(), dst.into(), protocol, upper as u16)) {
                return;
            }
        }
        let ends = Narrow::read(bytes_of(head, 12), bytes_of(head, ipv4::HEADER));
        (self.terms, self.ends) = (terms, ends);
        (self.total, self.l3, self.marks) = (total, ip.l3 as u8, Marks(marks));
        self.hash = view.sessions.hash_v4(protocol, ends);
        view.sessions.prefetch_bucket(self.hash);
    }

    #[inline(always)]
    fn read_v6(&mut self, view: &View<'_>, ip: Ip, packet: &[u8]) {
        let Some(head) = packet.first_chunk::<HEADS_V6>() else { return };
        let (upper, protocol) = (usize::from(u16_of(head, 4)), head[6]);
        let total = upper + ipv6::HEADER;
        if head[0] >> 4 != 6 || head[7] <= 1 || total > packet.len() || total > usize::from(u16::MAX) {
            return;
        }
        let upper_length = upper as i32;
        let Some((marks, terms, checksum)) =
            upper_of(protocol, ip.terms, &head[ipv6::HEADER..], upper_length)
        else {
            return;
        };
        let (src, dst) = addresses_v6(head);
        if ip.partial_checksums
            && checksum == fold(pseudo_header6(src.into(), dst.into(), protocol, upper as u32))
        {
            return;
        }
        (self.terms, self.ends) = (terms.of_v6(), Narrow::read([0; 8], bytes_of(head, ipv6::HEADER)));
        (self.total, self.l3, self.marks) = (total as u16, ip.l3 as u8, Marks(marks | Marks::V6));
        let (sport, dport) = self.ports();
        self.hash = view.sessions.hash_v6(protocol, (src, sport), (dst, dport));
        view.sessions.prefetch_bucket(self.hash);
    }

    #[inline(always)]
    fn ports(&self) -> (u16, u16) {
        let ((_, sport), (_, dport)) = self.ends.ends();
        (sport, dport)
    }

    /// Source and destination of a packet of IPv6, whose addresses are read once more.
    #[inline(always)]
    pub(super) fn ends_v6(&self, frame: &[u8]) -> Option<((u128, u16), (u128, u16))> {
        let head = frame.get(usize::from(self.l3)..)?.first_chunk::<HEADS_V6>()?;
        let ((src, dst), (sport, dport)) = (addresses_v6(head), self.ports());
        Some(((src, sport), (dst, dport)))
    }
}

/// What frames are read by.
pub(super) struct View<'a> {
    pub(super) snap: &'a Snapshot,
    pub(super) gates: &'a [Gate],
    pub(super) sessions: &'a Sessions,
    pub(super) era: u32,
}

/// An IP packet in a frame.
#[derive(Clone, Copy)]
struct Ip {
    /// Where it begins.
    l3: usize,
    /// Of the interface that it came by.
    terms: Terms,
    partial_checksums: bool,
}

/// Marks, terms and checksum of a segment or datagram of `length` bytes that begins with `head`.
#[inline(always)]
fn upper_of(protocol: u8, terms: Terms, head: &[u8], length: i32) -> Option<(u8, Terms, u16)> {
    const OPENS_OR_CLOSES: u8 = tcp::SYN | tcp::FIN | tcp::RST;
    let head: &[u8; tcp::HEADER] = head.first_chunk()?;
    if protocol == ipv4::TCP {
        let mut marks = Marks::KEYED | Marks::TCP;
        if head[13] & (OPENS_OR_CLOSES | tcp::ACK) == tcp::ACK {
            marks |= Marks::PLAIN;
        }
        if head[12] & 0xf0 != 0x50 {
            marks |= options(head[12], length)?;
        } else if length < tcp::HEADER as i32 {
            return None;
        }
        return Some((marks, terms.of_tcp(), u16_of(head, 16)));
    }
    if protocol != ipv4::UDP || length < udp::HEADER as i32 {
        return None;
    }
    let checksum = u16_of(head, 6);
    let unsummed = if checksum == 0 { Marks::UNSUMMED } else { 0 };
    Some((Marks::KEYED | Marks::PLAIN | unsummed, terms.of_udp(), checksum))
}

/// Marks of a segment of `length` bytes whose header is of another length than most.
#[cold]
fn options(offset: u8, length: i32) -> Option<u8> {
    let header = i32::from(offset >> 4) * 4;
    (header > tcp::HEADER as i32 && header <= length).then_some(Marks::OPTIONS)
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
