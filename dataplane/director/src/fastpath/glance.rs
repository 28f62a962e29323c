//! What the headers of a packet say, read once and in order: Ethernet with at most one tag, IP without options or
//! extension headers, whole, TCP, UDP. The checks are those of `receive`; where one fails it is for the whole way to
//! say how.

use fulcrum_packet::checksum::{fold, pseudo_header, pseudo_header6};
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::session::terms::Terms;
use crate::session::{Broad, Direction, NONE, Narrow, SessionId, Sessions};
use crate::snapshot::{InterfaceId, Snapshot};

/// A port, as frames that come in by it are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// Its address at the beginning of a frame, where frames without a tag are read at once; else what no frame shows.
    usual: u64,
    /// Its address at the beginning of a frame.
    station: u64,
    /// The interface of frames without a tag, if they are for one.
    interface: u8,
    has_interface: bool,
    partial_checksums: bool,
}

impl Gate {
    /// Of no port.
    pub(super) const CLOSED: Gate =
        Gate { usual: !0, station: !0, interface: 0, has_interface: false, partial_checksums: false };

    /// The gates of all ports.
    pub(crate) fn all(snap: &Snapshot) -> impl Iterator<Item = Gate> {
        let ports = snap.ports.iter().zip(0u16..);
        let gate = |(port, number): (&crate::snapshot::Port, u16)| {
            let interface = snap.by_vlan.get(number, 0).and_then(|interface| u8::try_from(interface).ok());
            let (station, partial_checksums) = (station(&port.mac), port.partial_checksums);
            let (has_interface, interface) = (interface.is_some(), interface.unwrap_or_default());
            let usual = if has_interface && !partial_checksums { station } else { Gate::CLOSED.usual };
            Gate { usual, station, interface, has_interface, partial_checksums }
        };
        ports.map(gate)
    }
}

/// A station's address at the beginning of a frame, to be compared; its lowest bits are zero.
#[inline(always)]
fn station<const N: usize>(frame: &[u8; N]) -> u64 {
    let mut first = [0; 8];
    let length = N.min(8);
    first[..length].copy_from_slice(&frame[..length]);
    u64::from_le_bytes(first) << 16
}

/// What a packet shows, and the session that it may be of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance {
    /// Of its key, for the index.
    pub(super) hash: u64,
    /// Ends; of IPv6 only the ports.
    pub(super) ends: Narrow,
    /// What the index names; before that is known, the part of it that is asked for, or none.
    pub(super) session: SessionId,
    /// Length of the IP packet.
    pub(super) total: u16,
    pub(super) marks: Marks,
    /// The interface that it came by.
    interface: u8,
}

/// What a packet is, beside lengths and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks(u8);

impl Marks {
    /// Of the server, by what the index says, as the number of its direction.
    const OUT: u8 = 1 << 0;
    /// Whether it may take the short way: a datagram, or a segment that neither opens nor closes.
    const PLAIN: u8 = 1 << 1;
    /// UDP without a checksum.
    const UNSUMMED: u8 = 1 << 2;
    /// Of a frame with a tag.
    const TAGGED: u8 = 1 << 3;
    const V6: u8 = 1 << 4;
    /// Whether its key is known: of TCP and UDP that is whole.
    const KEYED: u8 = 1 << 5;
    const TCP: u8 = 1 << 6;
    /// Of no session that the index knew.
    const NEW: u8 = 1 << 7;
    /// Of a usual segment.
    const SEGMENT: u8 = Marks::KEYED | Marks::PLAIN | Marks::TCP;

    /// Whether it may take the short way, and of a session.
    #[inline(always)]
    pub(super) fn is_plain(self) -> bool {
        self.0 & (Marks::PLAIN | Marks::KEYED) == Marks::PLAIN | Marks::KEYED
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

    #[inline(always)]
    pub(super) fn is_tagged(self) -> bool {
        self.0 & Marks::TAGGED != 0
    }

    /// UDP without a checksum.
    #[inline(always)]
    pub(super) fn is_unsummed(self) -> bool {
        self.0 & Marks::UNSUMMED != 0
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
}

const _: () = assert!(Direction::In as u8 == 0 && Direction::Out as u8 == Marks::OUT);

/// What packets have in common that go one short way after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alike(u16);

impl Alike {
    #[inline(always)]
    pub(super) fn marks(self) -> Marks {
        Marks(self.0.to_le_bytes()[0])
    }

    /// What their sessions have to agree with.
    #[inline(always)]
    pub(super) fn terms(self, era: u32) -> Terms {
        let [_, interface] = self.0.to_le_bytes();
        let terms = Terms::expected(era, interface);
        let terms = if self.marks().is_tcp() { terms.of_tcp() } else { terms.of_udp() };
        if self.marks().is_v6() { terms.of_v6() } else { terms }
    }

    /// Where the IP packets begin.
    #[inline(always)]
    pub(super) fn l3(self) -> usize {
        if self.marks().is_tagged() { ethernet::MAX_HEADER } else { ethernet::HEADER }
    }
}

/// Length of the headers of IPv4 and TCP, and of IPv6 and TCP; so long are even small datagrams worth a short way.
const HEADS_V4: usize = ipv4::HEADER + tcp::HEADER;
const HEADS_V6: usize = ipv6::HEADER + tcp::HEADER;

impl Glance {
    /// What it has in common with others that go the same short way.
    #[inline(always)]
    pub(super) fn alike(&self) -> Alike {
        Alike(u16::from_le_bytes([self.marks.0, self.interface]))
    }

    /// The interface that it came by.
    pub(super) fn interface(&self) -> InterfaceId {
        self.interface.into()
    }

    /// Where the IP packet begins.
    #[inline(always)]
    pub(super) fn l3(&self) -> usize {
        self.alike().l3()
    }

    /// Of a packet that goes the whole way.
    pub(super) const WHOLE_WAY: Glance =
        Glance { hash: 0, ends: Narrow::NONE, session: NONE, total: 0, marks: Marks(0), interface: 0 };

    /// Takes in what the index says.
    #[inline(always)]
    pub(super) fn suppose(&mut self, candidate: Option<(SessionId, Direction)>, sessions: &Sessions) {
        match candidate {
            Some((id, direction)) => {
                sessions.prefetch(id);
                self.session = id;
                self.marks.0 |= direction as u8;
            }
            None if self.session == NONE => self.marks = Marks(0),
            None => self.marks.0 = self.marks.0 & !(Marks::KEYED | Marks::PLAIN) | Marks::NEW,
        }
    }

    /// Reads a frame, unless it is another kind of packet, or wrong.
    #[inline(always)]
    pub(super) fn read<B: Buf>(&mut self, view: &View<'_>, gate: &Gate, port: u16, buf: &B) {
        const L3: usize = ethernet::HEADER;
        self.session = NONE;
        let frame = buf.bytes();
        let Some(head) = frame.first_chunk::<{ L3 + HEADS_V4 }>() else { return };
        if station(head) == gate.usual && u16_of(head, 12) == ethernet::IPV4 && head[L3] == 0x45 {
            self.read_v4::<false>(view, gate, &head[L3..], frame.len() - L3);
        } else {
            self.read_rest(view, gate, port, frame);
        }
    }

    /// Reads what is not IPv4 without a tag, or needs a closer look: here what is IPv6 and needs none.
    // Not where IPv4 is read: one more comparison there is one more for each of its packets.
    #[inline(never)]
    fn read_rest(&mut self, view: &View<'_>, gate: &Gate, port: u16, frame: &[u8]) {
        const L3: usize = ethernet::HEADER;
        match frame.first_chunk::<{ L3 + HEADS_V6 }>() {
            Some(head) if station(head) == gate.usual && u16_of(head, 12) == ethernet::IPV6 => {
                self.read_v6::<false>(view, gate, &frame[L3..], 0);
            }
            _ => self.read_other(view, gate, port, frame),
        }
    }

    /// Reads what needs a closer look.
    #[inline(never)]
    fn read_other(&mut self, view: &View<'_>, gate: &Gate, port: u16, frame: &[u8]) {
        const L3: usize = ethernet::HEADER;
        let Some((ether, packet)) = frame.split_first_chunk::<L3>() else { return };
        if station(ether) != gate.station {
            return;
        }
        if u16_of(ether, 12) == ethernet::VLAN {
            return match gate.partial_checksums {
                false => self.read_tagged::<false>(view, gate, port, frame),
                true => self.read_tagged::<true>(view, gate, port, frame),
            };
        }
        if !gate.has_interface {
            return;
        }
        match u16_of(ether, 12) {
            ethernet::IPV4 if packet.first() == Some(&0x45) => {
                self.read_v4::<true>(view, gate, packet, packet.len());
            }
            ethernet::IPV6 => self.read_v6::<true>(view, gate, packet, 0),
            _ => {}
        }
    }

    /// Reads a frame with a tag, for a port's station.
    #[inline(never)]
    fn read_tagged<const CLOSE: bool>(&mut self, view: &View<'_>, gate: &Gate, port: u16, frame: &[u8]) {
        const L3: usize = ethernet::MAX_HEADER;
        let Some((ether, packet)) = frame.split_first_chunk::<L3>() else { return };
        let Some(interface) = view.snap.by_vlan.get(port, u16_of(ether, 14) & 0x0fff) else { return };
        let Ok(number) = u8::try_from(interface) else { return };
        if station(&view.snap.interfaces[usize::from(interface)].mac) != gate.station {
            return;
        }
        match u16_of(ether, 16) {
            ethernet::IPV4 if packet.first() == Some(&0x45) => {
                self.read_v4::<CLOSE>(view, gate, packet, packet.len());
                self.marks.0 |= Marks::TAGGED;
            }
            ethernet::IPV6 => self.read_v6::<CLOSE>(view, gate, packet, Marks::TAGGED),
            _ => {}
        }
        self.interface = number;
    }

    /// Reads a packet with a header of twenty bytes, of at most so many bytes; `close` when the gate asks for more.
    #[inline(always)]
    fn read_v4<const CLOSE: bool>(&mut self, view: &View<'_>, gate: &Gate, head: &[u8], most: usize) {
        let Some(head) = head.first_chunk() else { return };
        if !is_right([u64_of(head, 0), u64_of(head, 8)], bytes_of(head, 16)) {
            return;
        }
        let (kind, total) = (Kind::read(bytes_of(head, 6)), u16_of(head, 2));
        let size = usize::from(total);
        let flags = u16::from_ne_bytes(bytes_of(head, ipv4::HEADER + 12));
        // One comparison with both bounds of the length: shorter ones wrap.
        if kind.is_of(ipv4::TCP)
            && flags & USUAL.0 == USUAL.1
            && size.wrapping_sub(HEADS_V4) <= most - HEADS_V4
        {
            self.note_v4::<CLOSE, { ipv4::TCP }>(view, gate, head, (total, Marks::SEGMENT));
        } else if size > most || size < ipv4::HEADER {
        } else if kind.is_of(ipv4::UDP) {
            if let Some(marks) = datagram(&head[ipv4::HEADER..], size - ipv4::HEADER) {
                self.note_v4::<CLOSE, { ipv4::UDP }>(view, gate, head, (total, marks));
            }
        } else if kind.is_of(ipv4::TCP) {
            self.read_segment_v4::<CLOSE>(view, gate, head, total);
        }
    }

    #[inline(never)]
    fn read_segment_v4<const CLOSE: bool>(
        &mut self,
        view: &View<'_>,
        gate: &Gate,
        head: &[u8; HEADS_V4],
        total: u16,
    ) {
        let flags = u16::from_ne_bytes(bytes_of(head, ipv4::HEADER + 12));
        if let Some(marks) = segment(flags, usize::from(total) - ipv4::HEADER) {
            self.note_v4::<CLOSE, { ipv4::TCP }>(view, gate, head, (total, marks));
        }
    }

    /// Notes what has been found of a packet.
    #[inline(always)]
    fn note_v4<const CLOSE: bool, const PROTOCOL: u8>(
        &mut self,
        view: &View<'_>,
        gate: &Gate,
        head: &[u8; HEADS_V4],
        (total, marks): (u16, u8),
    ) {
        if CLOSE && gate.partial_checksums {
            let (src, dst) = (u32_of(head, 12), u32_of(head, 16));
            let pseudo = pseudo_header(src.into(), dst.into(), PROTOCOL, total - ipv4::HEADER as u16);
            if checksum_of(PROTOCOL, &head[ipv4::HEADER..]) == Some(fold(pseudo)) {
                return;
            }
        }
        self.ends = Narrow::read(bytes_of(head, 12), bytes_of(head, ipv4::HEADER));
        (self.total, self.marks, self.interface) = (total, Marks(marks), gate.interface);
        self.hash = view.sessions.hash_v4(PROTOCOL, self.ends);
        self.session = view.sessions.prefetch_bucket(self.hash);
    }

    /// Reads a packet of IPv6; `close` when the gate asks for more.
    #[inline(always)]
    fn read_v6<const CLOSE: bool>(&mut self, view: &View<'_>, gate: &Gate, packet: &[u8], tagged: u8) {
        let Some(head) = packet.first_chunk::<HEADS_V6>() else { return };
        let (upper, protocol) = (u16_of(head, 4), head[6]);
        let size = usize::from(upper);
        let Some(total) = upper.checked_add(ipv6::HEADER as u16) else { return };
        if head[0] & 0xf0 != 0x60 || head[7] <= 1 {
            return;
        }
        let flags = u16::from_ne_bytes(bytes_of(head, ipv6::HEADER + 12));
        // One comparison with both bounds of the length: shorter ones wrap.
        let marks = if protocol == ipv4::TCP
            && flags & USUAL.0 == USUAL.1
            && size.wrapping_sub(tcp::HEADER) <= packet.len() - HEADS_V6
        {
            Marks::SEGMENT
        } else {
            let marks = match protocol {
                _ if size > packet.len() - ipv6::HEADER => None,
                ipv4::TCP => segment(flags, size),
                ipv4::UDP => datagram(&head[ipv6::HEADER..], size),
                _ => None,
            };
            let Some(marks) = marks else { return };
            marks
        };
        if CLOSE && gate.partial_checksums {
            let (src, dst) = Broad::read(addresses_v6(head)).addresses();
            let pseudo = pseudo_header6(src, dst, protocol, upper.into());
            if checksum_of(protocol, &head[ipv6::HEADER..]) == Some(fold(pseudo)) {
                return;
            }
        }
        self.ends = Narrow::read([0; 8], bytes_of(head, ipv6::HEADER));
        (self.total, self.marks) = (total, Marks(marks | Marks::V6 | tagged));
        self.interface = gate.interface;
        self.hash = view.sessions.hash_v6(protocol, addresses_v6(head), self.ends.ports());
        self.session = view.sessions.prefetch_bucket(self.hash);
    }

    /// Addresses of a packet of IPv6, in their place.
    #[inline(always)]
    pub(super) fn addresses_v6<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8; 32]> {
        Some(addresses_v6(frame.get(self.l3()..)?.first_chunk()?))
    }
}

/// What frames are read by.
pub(super) struct View<'a> {
    pub(super) snap: &'a Snapshot,
    pub(super) sessions: &'a Sessions,
}

/// Fragment, hops to live and protocol of an IPv4 header, as far as they count.
#[derive(Clone, Copy)]
struct Kind(u32);

impl Kind {
    #[inline(always)]
    fn read(bytes: [u8; 4]) -> Kind {
        const PART: [u8; 2] = (ipv4::MF | ipv4::OFFSET).to_be_bytes();
        const COUNT: u32 = u32::from_le_bytes([0xff, 0xff, PART[0], PART[1]]);
        Kind(u32::from_le_bytes(bytes).rotate_left(16) & COUNT)
    }

    /// Whether that is a whole packet of a protocol, with more than one hop to live: all of it in one comparison.
    #[inline(always)]
    fn is_of(self, protocol: u8) -> bool {
        const LEAST: u8 = 2;
        let least = u32::from_le_bytes([LEAST, protocol, 0, 0]);
        self.0.wrapping_sub(least) <= u32::from(u8::MAX - LEAST)
    }
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
    let plain = if flags & (OPENS_OR_CLOSES | tcp::ACK) == tcp::ACK { Marks::PLAIN } else { 0 };
    (tcp::HEADER..=length).contains(&header).then_some(Marks::KEYED | Marks::TCP | plain)
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
fn addresses_v6(head: &[u8; HEADS_V6]) -> &[u8; 32] {
    let (_, both) = head.split_at(8);
    both.first_chunk().unwrap_or(&[0; 32])
}
