//! What the headers of a packet say, read once and in order: Ethernet with at most one tag, IP without options or
//! extension headers, whole, TCP, UDP. The checks are those of `receive`; where one fails it is for the whole way to
//! say how.

use fulcrum_packet::checksum::{fold, pseudo_header, pseudo_header6};
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp, udp};

use crate::session::terms::Terms;
use crate::session::{Broad, Direction, Elsewhere, NONE, Narrow, SessionId, Sessions};
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

/// Whether a frame has a tag.
#[inline(always)]
pub(super) fn is_tagged(frame: &[u8]) -> bool {
    frame.first_chunk::<{ ethernet::HEADER }>().is_some_and(|ether| u16_of(ether, 12) == ethernet::VLAN)
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
    alike: Alike,
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

/// What packets have in common that go one short way after another: marks, and the interface that they came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alike(u16);

impl Alike {
    #[inline(always)]
    fn new(marks: u8, interface: u8) -> Alike {
        Alike(u16::from_le_bytes([marks, interface]))
    }

    #[inline(always)]
    pub(super) fn marks(self) -> Marks {
        Marks(self.0.to_le_bytes()[0])
    }

    #[inline(always)]
    fn interface(self) -> u8 {
        self.0.to_le_bytes()[1]
    }

    /// What their sessions have to agree with.
    #[inline(always)]
    pub(super) fn terms(self, era: u32) -> Terms {
        let terms = Terms::expected(era, self.interface());
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
        self.alike
    }

    #[inline(always)]
    pub(super) fn marks(&self) -> Marks {
        self.alike.marks()
    }

    /// The interface that it came by.
    pub(super) fn interface(&self) -> InterfaceId {
        self.alike.interface().into()
    }

    /// Where the IP packet begins.
    #[inline(always)]
    pub(super) fn l3(&self) -> usize {
        self.alike.l3()
    }

    /// Of a packet that goes the whole way.
    pub(super) const WHOLE_WAY: Glance =
        Glance { hash: 0, ends: Narrow::NONE, session: NONE, total: 0, alike: Alike(0) };

    /// Takes in what most find in the index; gives back what is to be searched for.
    #[inline(always)]
    pub(super) fn search(&mut self, sessions: &Sessions) -> Result<(), &mut Glance> {
        match sessions.likely_in(self.session, self.hash) {
            None => Err(self),
            found => {
                self.suppose(found, sessions);
                Ok(())
            }
        }
    }

    /// Takes in what the index says of what was not found at once; an error when it has to be asked for more.
    #[inline(never)]
    pub(super) fn search_on(&mut self, sessions: &Sessions) -> Result<(), Elsewhere> {
        let found = sessions.candidate_in(self.session, self.hash)?;
        self.suppose(found, sessions);
        Ok(())
    }

    /// Takes in what the index says.
    #[inline(always)]
    pub(super) fn suppose(&mut self, candidate: Option<(SessionId, Direction)>, sessions: &Sessions) {
        match candidate {
            Some((id, direction)) => {
                self.session = id;
                self.alike.0 |= direction as u16;
                sessions.prefetch(id);
            }
            None if self.session == NONE => self.alike = Alike(0),
            None => {
                let marks = self.marks().0 & !(Marks::KEYED | Marks::PLAIN) | Marks::NEW;
                self.alike = Alike::new(marks, self.alike.interface());
            }
        }
    }

    /// Reads a frame without a tag, of a family, that needs no closer look; `None` of others, and of what is wrong.
    #[inline(always)]
    pub(super) fn read_usual<const V6: bool>(
        &mut self,
        sessions: &Sessions,
        gate: &Gate,
        frame: &[u8],
    ) -> Option<()> {
        const L3: usize = ethernet::HEADER;
        let kind = if V6 { ethernet::IPV6 } else { ethernet::IPV4 };
        let head = frame.first_chunk::<{ L3 + HEADS_V4 }>()?;
        if station(head) != gate.usual || u16_of(head, 12) != kind {
            return None;
        }
        self.read_packet::<V6, false>(sessions, gate, &frame[L3..], 0)
    }

    /// Reads what needs a closer look, unless it is another kind of packet, or wrong.
    #[inline(never)]
    pub(super) fn read_closely(&mut self, view: &View<'_>, gate: &Gate, port: u16, frame: &[u8]) {
        self.session = NONE;
        // What it gives says no more than the glance itself.
        let _ = self.read_other(view, gate, port, frame);
    }

    fn read_other(&mut self, view: &View<'_>, gate: &Gate, port: u16, frame: &[u8]) -> Option<()> {
        const L3: usize = ethernet::HEADER;
        let (ether, packet) = frame.split_first_chunk::<L3>()?;
        if station(ether) != gate.station {
            return None;
        }
        match u16_of(ether, 12) {
            ethernet::VLAN if gate.partial_checksums => self.read_tagged::<true>(view, gate, port, frame),
            ethernet::VLAN => self.read_tagged::<false>(view, gate, port, frame),
            _ if !gate.has_interface => None,
            ethernet::IPV4 => self.read_packet::<false, true>(view.sessions, gate, packet, 0),
            ethernet::IPV6 => self.read_packet::<true, true>(view.sessions, gate, packet, 0),
            _ => None,
        }
    }

    /// Reads a frame with a tag, for a port's station.
    #[inline(never)]
    fn read_tagged<const CLOSE: bool>(
        &mut self,
        view: &View<'_>,
        gate: &Gate,
        port: u16,
        frame: &[u8],
    ) -> Option<()> {
        const L3: usize = ethernet::MAX_HEADER;
        let (ether, packet) = frame.split_first_chunk::<L3>()?;
        let interface = view.snap.by_vlan.get(port, u16_of(ether, 14) & 0x0fff)?;
        let number = u8::try_from(interface).ok()?;
        if station(&view.snap.interfaces[usize::from(interface)].mac) != gate.station {
            return None;
        }
        match u16_of(ether, 16) {
            ethernet::IPV4 => self.read_packet::<false, CLOSE>(view.sessions, gate, packet, Marks::TAGGED)?,
            ethernet::IPV6 => self.read_packet::<true, CLOSE>(view.sessions, gate, packet, Marks::TAGGED)?,
            _ => return None,
        }
        self.alike = Alike::new(self.marks().0, number);
        Some(())
    }

    /// Reads a packet without options or extension headers; `close` when the gate asks for more.
    #[inline(always)]
    fn read_packet<const V6: bool, const CLOSE: bool>(
        &mut self,
        sessions: &Sessions,
        gate: &Gate,
        packet: &[u8],
        tagged: u8,
    ) -> Option<()> {
        if V6 {
            self.read_v6::<CLOSE>(sessions, gate, packet, tagged)
        } else {
            self.read_v4::<CLOSE>(sessions, gate, packet, tagged)
        }
    }

    /// The same of IPv4, with a header of twenty bytes.
    #[inline(always)]
    fn read_v4<const CLOSE: bool>(
        &mut self,
        sessions: &Sessions,
        gate: &Gate,
        packet: &[u8],
        tagged: u8,
    ) -> Option<()> {
        let head = packet.first_chunk::<HEADS_V4>()?;
        if head[0] != 0x45 || !is_right([u64_of(head, 0), u64_of(head, 8)], bytes_of(head, 16)) {
            return None;
        }
        let (kind, total) = (Kind::read(bytes_of(head, 6)), u16_of(head, 2));
        // Bytes of headers and behind; one comparison with both bounds of a length is enough where shorter ones wrap.
        let (size, more) = (usize::from(total), packet.len() - HEADS_V4);
        let is_whole = || size.saturating_sub(HEADS_V4) <= more;
        if kind.is_of(ipv4::TCP) {
            let flags = u16::from_ne_bytes(bytes_of(head, ipv4::HEADER + 12));
            let marks = if flags & USUAL.0 == USUAL.1 && size.wrapping_sub(HEADS_V4) <= more {
                Marks::SEGMENT
            } else if is_whole() {
                segment(flags, size.checked_sub(ipv4::HEADER)?)?
            } else {
                return None;
            };
            self.note_v4::<CLOSE, { ipv4::TCP }>(sessions, gate, head, (total, marks | tagged))
        } else if kind.is_of(ipv4::UDP) && is_whole() {
            let marks = datagram(&head[ipv4::HEADER..], size.checked_sub(ipv4::HEADER)?)?;
            self.note_v4::<CLOSE, { ipv4::UDP }>(sessions, gate, head, (total, marks | tagged))
        } else {
            None
        }
    }

    /// Notes what has been found of a packet.
    #[inline(always)]
    fn note_v4<const CLOSE: bool, const PROTOCOL: u8>(
        &mut self,
        sessions: &Sessions,
        gate: &Gate,
        head: &[u8; HEADS_V4],
        (total, marks): (u16, u8),
    ) -> Option<()> {
        if CLOSE && gate.partial_checksums {
            let (src, dst) = (u32_of(head, 12), u32_of(head, 16));
            let pseudo = pseudo_header(src.into(), dst.into(), PROTOCOL, total - ipv4::HEADER as u16);
            if checksum_of(PROTOCOL, &head[ipv4::HEADER..]) == Some(fold(pseudo)) {
                return None;
            }
        }
        self.ends = Narrow::read(bytes_of(head, 12), bytes_of(head, ipv4::HEADER));
        (self.total, self.alike) = (total, Alike::new(marks, gate.interface));
        self.hash = sessions.hash_v4(PROTOCOL, self.ends);
        self.session = sessions.bucket(self.hash);
        sessions.prefetch_bucket(self.hash);
        Some(())
    }

    /// The same of IPv6.
    #[inline(always)]
    fn read_v6<const CLOSE: bool>(
        &mut self,
        sessions: &Sessions,
        gate: &Gate,
        packet: &[u8],
        tagged: u8,
    ) -> Option<()> {
        let head = packet.first_chunk::<HEADS_V6>()?;
        let (upper, protocol) = (u16_of(head, 4), head[6]);
        let size = usize::from(upper);
        let total = upper.checked_add(ipv6::HEADER as u16)?;
        if head[0] & 0xf0 != 0x60 || head[7] <= 1 {
            return None;
        }
        let flags = u16::from_ne_bytes(bytes_of(head, ipv6::HEADER + 12));
        // One comparison with both bounds of the length: shorter ones wrap.
        let marks = if protocol == ipv4::TCP
            && flags & USUAL.0 == USUAL.1
            && size.wrapping_sub(tcp::HEADER) <= packet.len() - HEADS_V6
        {
            Marks::SEGMENT
        } else {
            match protocol {
                _ if size > packet.len() - ipv6::HEADER => None,
                ipv4::TCP => segment(flags, size),
                ipv4::UDP => datagram(&head[ipv6::HEADER..], size),
                _ => None,
            }?
        };
        if CLOSE && gate.partial_checksums {
            let (src, dst) = Broad::read(addresses_v6(head)).addresses();
            let pseudo = pseudo_header6(src, dst, protocol, upper.into());
            if checksum_of(protocol, &head[ipv6::HEADER..]) == Some(fold(pseudo)) {
                return None;
            }
        }
        self.ends = Narrow::read([0; 8], bytes_of(head, ipv6::HEADER));
        (self.total, self.alike) = (total, Alike::new(marks | Marks::V6 | tagged, gate.interface));
        self.hash = sessions.hash_v6(protocol, addresses_v6(head), self.ends.ports());
        self.session = sessions.bucket(self.hash);
        sessions.prefetch_bucket(self.hash);
        Some(())
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
    let (sum, first) = words[0].overflowing_add(words[1]);
    let (sum, second) = sum.overflowing_add(u32::from_ne_bytes(rest).into());
    let (sum, third) = sum.overflowing_add(first.into());
    is_multiple(sum + u64::from(second | third))
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
