//! What the headers of a packet say, read once and in order: Ethernet with at most one tag, IP without options or
//! extension headers, whole, TCP, UDP. The checks are those of `receive`; where one fails it is for the whole way to
//! say how.

use std::cmp::Ordering;

use fulcrum_packet::checksum::{fold, pseudo_header, pseudo_header6};
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::session::terms::Terms;
use crate::session::{Direction, NONE, Narrow, SessionId, Sessions};
use crate::snapshot::{InterfaceId, Snapshot};

/// A port, as frames that come in by it are judged.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(crate) struct Gate {
    /// The port's address as the first bytes of a frame are read.
    station: u64,
    /// What sessions have to agree with, of frames without a tag.
    terms: Terms,
    partial_checksums: bool,
}

impl Gate {
    /// The gates of all ports, in an era.
    pub(crate) fn all(snap: &Snapshot, era: u32) -> impl Iterator<Item = Gate> {
        let ports = snap.ports.iter().zip(0u16..);
        let gate = move |(port, number): (&crate::snapshot::Port, u16)| Gate {
            station: station(&port.mac),
            terms: terms(era, snap.by_vlan.get(&(number, 0)).copied()),
            partial_checksums: port.partial_checksums,
        };
        ports.map(gate)
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
    /// What the index names; before that is known, the part of it that is asked for.
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
    /// Of a usual segment.
    const SEGMENT: u8 = Marks::KEYED | Marks::PLAIN | Marks::TCP;

    #[inline(always)]
    pub(super) fn is_keyed(self) -> bool {
        self.0 & Marks::KEYED != 0
    }

    /// Whether it may take the short way, and of a session.
    #[inline(always)]
    pub(super) fn is_plain(self) -> bool {
        self.0 & (Marks::PLAIN | Marks::KEYED) == Marks::PLAIN | Marks::KEYED
    }

    /// Whether it may go by this short way.
    #[inline(always)]
    pub(super) fn is_way(self, v6: bool, out: bool) -> bool {
        let place = if v6 { Marks::V6 } else { 0 } | if out { Marks::OUT } else { 0 };
        self.0 & (Marks::PLAIN | Marks::KEYED | Marks::V6 | Marks::OUT) == Marks::PLAIN | Marks::KEYED | place
    }

    /// By which short way it may go: whether it is of IPv6, and its direction.
    #[inline(always)]
    pub(super) fn way(self) -> Option<(bool, Direction)> {
        const PLAIN: u8 = Marks::PLAIN | Marks::KEYED;
        const OUT: u8 = PLAIN | Marks::OUT;
        // Not a table of jumps: what comes is mostly of one kind.
        match self.0 & (OUT | Marks::V6) {
            PLAIN => Some((false, Direction::In)),
            OUT => Some((false, Direction::Out)),
            way if way & PLAIN == PLAIN => Some((true, self.direction())),
            _ => None,
        }
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
        let Some(gate) = view.gates.get(usize::from(port)) else { return };
        let frame = buf.bytes();
        let Some(head) = frame.first_chunk::<{ L3 + HEADS_V4 }>() else { return };
        if station(head) != gate.station {
            return;
        }
        let good = buf.has_good_header_checksum();
        // IPv4 with twenty bytes of header.
        const KIND: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);
        const V4: u32 = u32::from_ne_bytes([TYPE[0], TYPE[1], 0x45, 0]);
        const TYPE: [u8; 2] = ethernet::IPV4.to_be_bytes();
        if u32::from_ne_bytes(bytes_of(head, 12)) & KIND == V4 {
            self.read_v4(view, gate, L3, &head[L3..], (frame.len(), good));
        } else {
            self.read_other(view, gate, (port, u16_of(head, 12)), frame, good);
        }
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
        if kind == ethernet::IPV6 {
            return self.read_v6(view, gate, ethernet::HEADER, &frame[ethernet::HEADER..]);
        }
        let (ethernet::VLAN, Some((ether, packet))) = (kind, frame.split_first_chunk::<L3>()) else { return };
        let Some(&interface) = view.snap.by_vlan.get(&(port, u16_of(ether, 14) & 0x0fff)) else { return };
        if station(&view.snap.interfaces[usize::from(interface)].mac) != gate.station {
            return;
        }
        let gate = &Gate { terms: terms(view.era, Some(interface)), ..*gate };
        match u16_of(ether, 16) {
            ethernet::IPV4 if packet.first() == Some(&0x45) => {
                self.read_v4(view, gate, L3, packet, (frame.len(), good));
            }
            ethernet::IPV6 => self.read_v6(view, gate, L3, packet),
            _ => {}
        }
    }

    /// Reads a packet that begins at `l3` of a frame of so many bytes, with a header of twenty bytes; `good` when
    /// somebody has summed that.
    #[inline(always)]
    fn read_v4(
        &mut self,
        view: &View<'_>,
        gate: &Gate,
        l3: usize,
        head: &[u8],
        (length, good): (usize, bool),
    ) {
        let (Some(head), Some(most)) = (head.first_chunk(), length.checked_sub(l3)) else { return };
        if !good && !is_right([u64_of(head, 0), u64_of(head, 8)], bytes_of(head, 16)) {
            return;
        }
        // No fragment, with more than one hop to live.
        const PART: [u8; 2] = (ipv4::MF | ipv4::OFFSET).to_be_bytes();
        const KIND: u32 = u32::from_ne_bytes([PART[0], PART[1], 0, 0xff]);
        const TCP: u32 = u32::from_ne_bytes([0, 0, 0, ipv4::TCP]);
        const UDP: u32 = u32::from_ne_bytes([0, 0, 0, ipv4::UDP]);
        const HOPS: u32 = u32::from_ne_bytes([0, 0, 0xfe, 0]);
        let (kind, total) = (u32::from_ne_bytes(bytes_of(head, 6)), u16_of(head, 2));
        if kind & HOPS == 0 {
            return;
        }
        let size = usize::from(total);
        let flags = u16::from_ne_bytes(bytes_of(head, ipv4::HEADER + 12));
        // One comparison with both bounds of the length: shorter ones wrap.
        if kind & KIND == TCP && flags & USUAL.0 == USUAL.1 && size.wrapping_sub(HEADS_V4) <= most - HEADS_V4
        {
            self.note_v4::<{ ipv4::TCP }>(view, gate, l3, head, (total, Marks::SEGMENT));
        } else if size > most || size < ipv4::HEADER {
        } else if kind & KIND == UDP {
            if let Some(marks) = datagram(&head[ipv4::HEADER..], size - ipv4::HEADER) {
                self.note_v4::<{ ipv4::UDP }>(view, gate, l3, head, (total, marks));
            }
        } else if kind & KIND == TCP {
            self.read_segment_v4(view, gate, l3, head, (total, flags));
        }
    }

    #[inline(never)]
    fn read_segment_v4(
        &mut self,
        view: &View<'_>,
        gate: &Gate,
        l3: usize,
        head: &[u8; HEADS_V4],
        (total, flags): (u16, u16),
    ) {
        if let Some(marks) = segment(flags, usize::from(total) - ipv4::HEADER) {
            self.note_v4::<{ ipv4::TCP }>(view, gate, l3, head, (total, marks));
        }
    }

    /// Notes what has been found of a packet.
    #[inline(always)]
    fn note_v4<const PROTOCOL: u8>(
        &mut self,
        view: &View<'_>,
        gate: &Gate,
        l3: usize,
        head: &[u8; HEADS_V4],
        (total, marks): (u16, u8),
    ) {
        if gate.partial_checksums {
            let (src, dst) = (u32_of(head, 12), u32_of(head, 16));
            let pseudo = pseudo_header(src.into(), dst.into(), PROTOCOL, total - ipv4::HEADER as u16);
            if checksum_of(PROTOCOL, &head[ipv4::HEADER..]) == Some(fold(pseudo)) {
                return;
            }
        }
        self.terms = if PROTOCOL == ipv4::TCP { gate.terms.of_tcp() } else { gate.terms.of_udp() };
        self.ends = Narrow::read(bytes_of(head, 12), bytes_of(head, ipv4::HEADER));
        (self.total, self.l3, self.marks) = (total, l3 as u8, Marks(marks));
        self.hash = view.sessions.hash_v4(PROTOCOL, self.ends);
        self.session = view.sessions.prefetch_bucket(self.hash);
    }

    #[inline(always)]
    fn read_v6(&mut self, view: &View<'_>, gate: &Gate, l3: usize, packet: &[u8]) {
        let Some(head) = packet.first_chunk::<HEADS_V6>() else { return };
        let (upper, protocol) = (usize::from(u16_of(head, 4)), head[6]);
        let total = upper + ipv6::HEADER;
        if head[0] >> 4 != 6 || head[7] <= 1 || total > packet.len() || total > usize::from(u16::MAX) {
            return;
        }
        let flags = u16::from_ne_bytes(bytes_of(head, ipv6::HEADER + 12));
        let (marks, terms) = match protocol {
            ipv4::TCP if flags & USUAL.0 == USUAL.1 && upper >= tcp::HEADER => {
                (Some(Marks::SEGMENT), gate.terms.of_tcp())
            }
            ipv4::TCP => (segment(flags, upper), gate.terms.of_tcp()),
            ipv4::UDP => (datagram(&head[ipv6::HEADER..], upper), gate.terms.of_udp()),
            _ => return,
        };
        let Some(marks) = marks else { return };
        let (src, dst) = addresses_v6(head);
        if gate.partial_checksums {
            let pseudo = pseudo_header6(src.into(), dst.into(), protocol, upper as u32);
            if checksum_of(protocol, &head[ipv6::HEADER..]) == Some(fold(pseudo)) {
                return;
            }
        }
        (self.terms, self.ends) = (terms.of_v6(), Narrow::read([0; 8], bytes_of(head, ipv6::HEADER)));
        (self.total, self.l3, self.marks) = (total as u16, l3 as u8, Marks(marks | Marks::V6));
        let (sport, dport) = self.ports();
        self.hash = view.sessions.hash_v6(protocol, (src, sport), (dst, dport));
        self.session = view.sessions.prefetch_bucket(self.hash);
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

/// Whether the checksum of an IPv4 header of twenty bytes is right.
#[inline(always)]
fn is_right(words: [u64; 2], rest: [u8; 4]) -> bool {
    // Its sum then is a multiple of 2^16 - 1, of words of any length in any order of bytes (RFC 1071), and never zero.
    let (sum, carry) = words[0].overflowing_add(words[1]);
    let rest = u64::from(u32::from_ne_bytes(rest)) + u64::from(carry);
    let (sum, carry) = sum.overflowing_add(rest);
    is_multiple(sum + u64::from(carry))
}

/// Whether a number is a multiple of 2^16 - 1: those are what times its inverse stays below what they are made of.
#[inline(always)]
fn is_multiple(number: u64) -> bool {
    const INVERSE: u64 = (0x0001_0001_0001_0001_u64).wrapping_neg();
    const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);
    number.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// Of a usual segment's length and flags, what counts, and what that is: neither options nor what opens or closes.
const USUAL: (u16, u16) =
    (u16::from_ne_bytes([0xf0, OPENS_OR_CLOSES | tcp::ACK]), u16::from_ne_bytes([0x50, tcp::ACK]));

/// Marks of a datagram of so many bytes.
#[inline(always)]
fn datagram(head: &[u8], length: usize) -> Option<u8> {
    let head: &[u8; udp::HEADER] = head.first_chunk()?;
    let unsummed = if u16_of(head, 6) == 0 { Marks::UNSUMMED } else { 0 };
    (length >= udp::HEADER).then_some(Marks::KEYED | Marks::PLAIN | unsummed)
}

const OPENS_OR_CLOSES: u8 = tcp::SYN | tcp::FIN | tcp::RST;

/// Marks of a segment of `length` bytes, with the word of length and flags in its header.
#[inline]
fn segment(kind: u16, length: usize) -> Option<u8> {
    let [offset, flags] = kind.to_ne_bytes();
    let header = usize::from(offset >> 4) * 4;
    let options = match header.cmp(&tcp::HEADER) {
        Ordering::Less => return None,
        Ordering::Equal => 0,
        Ordering::Greater => Marks::OPTIONS,
    };
    let plain = if flags & (OPENS_OR_CLOSES | tcp::ACK) == tcp::ACK { Marks::PLAIN } else { 0 };
    (header <= length).then_some(Marks::KEYED | Marks::TCP | options | plain)
}

/// The checksum of a segment or datagram that begins with `head`.
#[cold]
fn checksum_of(protocol: u8, head: &[u8]) -> Option<u16> {
    let at = if protocol == ipv4::TCP { 16 } else { 6 };
    Some(u16::from_be_bytes(*head.get(at..)?.first_chunk()?))
}

#[inline(always)]
fn u16_of<const N: usize>(head: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

/// As it lies there.
#[inline(always)]
fn u64_of<const N: usize>(head: &[u8; N], at: usize) -> u64 {
    u64::from_ne_bytes(bytes_of(head, at))
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
