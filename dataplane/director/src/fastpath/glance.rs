//! What the headers of a packet say, read once and in order: Ethernet with at most one tag, IP without options or
//! extension headers, whole, TCP, UDP. The checks are those of `receive`; where one fails it is for the whole way to
//! say how.

use fulcrum_packet::checksum::{fold, pseudo_header, pseudo_header6, sum};
use fulcrum_packet::{ethernet, ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::session::{Direction, NONE, SessionId, Sessions};
use crate::snapshot::{InterfaceId, Snapshot};

/// A port, as frames that come in by it are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    mac: [u8; 6],
    /// Of frames without a tag.
    interface: Option<InterfaceId>,
    partial_checksums: bool,
}

impl Gate {
    /// The gates of all ports.
    pub(crate) fn all(snap: &Snapshot) -> Vec<Gate> {
        let ports = snap.ports.iter().zip(0u16..);
        let gate = |(port, number): (&crate::snapshot::Port, u16)| Gate {
            mac: port.mac,
            interface: snap.by_vlan.get(&(number, 0)).copied(),
            partial_checksums: port.partial_checksums,
        };
        ports.map(gate).collect()
    }
}

/// What a packet shows, and the session that it may be of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    /// Of its key, for the index.
    pub(super) hash: u64,
    /// Addresses of IPv4.
    pub(super) src: u32,
    pub(super) dst: u32,
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) interface: InterfaceId,
    /// Length of the IP packet.
    pub(super) total: u16,
    /// Where it begins.
    pub(super) l3: u8,
    pub(super) protocol: u8,
    pub(super) v6: bool,
    /// Whether it may take the short way: a datagram, or a segment that neither opens nor closes.
    pub(super) plain: bool,
    /// Whether it is UDP without a checksum.
    pub(super) unsummed: bool,
    /// Whether it is TCP with options.
    pub(super) options: bool,
    pub(super) direction: Direction,
    pub(super) session: SessionId,
}

impl Glance {
    /// Of a packet that goes the whole way.
    pub(crate) const WHOLE_WAY: Glance = Glance {
        hash: 0,
        src: 0,
        dst: 0,
        sport: 0,
        dport: 0,
        interface: 0,
        total: 0,
        l3: 0,
        protocol: 0,
        v6: false,
        plain: false,
        unsummed: false,
        options: false,
        direction: Direction::In,
        session: NONE,
    };
}

/// Reads a frame; `None` when it is another kind of packet, or wrong.
#[inline(always)]
pub(super) fn read<B: Buf>(
    snap: &Snapshot,
    gates: &[Gate],
    sessions: &Sessions,
    port: u16,
    buf: &B,
) -> Option<Glance> {
    let frame = buf.bytes();
    let gate = gates.get(usize::from(port))?;
    let ether: &[u8; ethernet::MAX_HEADER] = frame.first_chunk()?;
    if ether[..6] != gate.mac {
        return None;
    }
    let u16_at = |at: usize| u16::from_be_bytes([ether[at], ether[at + 1]]);
    let (interface, ethertype, l3) = match u16_at(12) {
        ethernet::VLAN => {
            let interface = *snap.by_vlan.get(&(port, u16_at(14) & 0x0fff))?;
            if snap.interfaces[usize::from(interface)].mac != gate.mac {
                return None;
            }
            (interface, u16_at(16), 18)
        }
        ethertype => (gate.interface?, ethertype, 14),
    };
    let packet = frame.get(usize::from(l3)..)?;
    let mut glance = match ethertype {
        ethernet::IPV4 => read4(sessions, gate, packet, buf.has_good_header_checksum())?,
        ethernet::IPV6 => read6(sessions, gate, packet)?,
        _ => return None,
    };
    (glance.interface, glance.l3) = (interface, l3);
    Some(glance)
}

#[inline(always)]
fn read4(sessions: &Sessions, gate: &Gate, packet: &[u8], sum_is_good: bool) -> Option<Glance> {
    let ip: &[u8; ipv4::HEADER] = packet.first_chunk()?;
    let u16_at = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    let u32_at = |at: usize| u32::from_be_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
    let (total, ttl, protocol) = (u16_at(2), ip[8], ip[9]);
    let whole = u16_at(6) & (ipv4::MF | ipv4::OFFSET) == 0;
    let sum_is_good = sum_is_good || fold(sum(ip)) == 0xffff;
    if ip[0] != 0x45 || !whole || ttl <= 1 || !sum_is_good {
        return None;
    }
    let body = packet.get(ipv4::HEADER..usize::from(total))?;
    let (src, dst) = (u32_at(12), u32_at(16));
    let upper = read_upper(protocol, body)?;
    if gate.partial_checksums
        && upper.checksum == fold(pseudo_header(src.into(), dst.into(), protocol, body.len() as u16))
    {
        return None;
    }
    let Upper { sport, dport, plain, options, .. } = upper;
    let unsummed = protocol == ipv4::UDP && upper.checksum == 0;
    let hash = sessions.hash_v4(protocol, (src, sport), (dst, dport));
    Some(Glance {
        hash,
        src,
        dst,
        sport,
        dport,
        total,
        protocol,
        unsummed,
        options,
        plain,
        ..Glance::WHOLE_WAY
    })
}

#[inline(always)]
fn read6(sessions: &Sessions, gate: &Gate, packet: &[u8]) -> Option<Glance> {
    let ip: &[u8; ipv6::HEADER] = packet.first_chunk()?;
    let (protocol, hop_limit) = (ip[6], ip[7]);
    if ip[0] >> 4 != 6 || hop_limit <= 1 {
        return None;
    }
    let total = u16::from_be_bytes([ip[4], ip[5]]).checked_add(ipv6::HEADER as u16)?;
    let body = packet.get(ipv6::HEADER..usize::from(total))?;
    let (src, dst) = addresses6(ip);
    let upper = read_upper(protocol, body)?;
    if gate.partial_checksums
        && upper.checksum == fold(pseudo_header6(src.into(), dst.into(), protocol, body.len() as u32))
    {
        return None;
    }
    let Upper { sport, dport, plain, options, .. } = upper;
    let unsummed = protocol == ipv4::UDP && upper.checksum == 0;
    let hash = sessions.hash_v6(protocol, (src, sport), (dst, dport));
    Some(Glance {
        hash,
        sport,
        dport,
        total,
        protocol,
        unsummed,
        options,
        plain,
        v6: true,
        ..Glance::WHOLE_WAY
    })
}

/// Source and destination of an IPv6 header.
#[inline(always)]
pub(super) fn addresses6(ip: &[u8; ipv6::HEADER]) -> (u128, u128) {
    let mut address = [[0; 16]; 2];
    address[0].copy_from_slice(&ip[8..24]);
    address[1].copy_from_slice(&ip[24..40]);
    (u128::from_be_bytes(address[0]), u128::from_be_bytes(address[1]))
}

struct Upper {
    sport: u16,
    dport: u16,
    checksum: u16,
    plain: bool,
    options: bool,
}

/// Ports and checksum of a segment or datagram.
#[inline(always)]
fn read_upper(protocol: u8, body: &[u8]) -> Option<Upper> {
    let u16_at = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match protocol {
        ipv4::TCP if body.len() >= tcp::HEADER => {
            let header = usize::from(body[12] >> 4) * 4;
            let plain = body[13] & (tcp::SYN | tcp::FIN | tcp::RST | tcp::ACK) == tcp::ACK;
            let whole = header >= tcp::HEADER && header <= body.len();
            let options = header > tcp::HEADER;
            whole.then(|| Upper { sport: u16_at(0), dport: u16_at(2), checksum: u16_at(16), plain, options })
        }
        ipv4::UDP if body.len() >= udp::HEADER => Some(Upper {
            sport: u16_at(0),
            dport: u16_at(2),
            checksum: u16_at(6),
            plain: true,
            options: false,
        }),
        _ => None,
    }
}
