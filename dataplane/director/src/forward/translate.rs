//! Packets that change their address family between client and server (RFC 7915), by FULLNAT.
//!
//! Extension headers and IPv4 options end here, as in every translator. A fragment stays one.

use std::net::IpAddr;

use fulcrum_packet::checksum::Delta;
use fulcrum_packet::ports::Ports;
use fulcrum_packet::{icmp, icmpv6, ipv4, ipv6, tcp, udp};

use crate::buffer::Buf;
use crate::packet::{Fragment, Packet};

/// A translated IPv4 packet up to this length may be cut: its sender cannot be told of an MTU below IPv6's
/// smallest. // RFC 7915, 5.1
const MAY_BE_CUT: usize = ipv6::MIN_MTU as usize - (ipv6::HEADER - ipv4::HEADER);

/// The length that a packet may have to fit `mtu` after its translation to the other family.
pub(super) fn room<B: Buf>(packet: &Packet<B>, mtu: usize) -> usize {
    let translated = header_len(!packet.is_v6(), packet.fragment.is_some());
    (mtu + packet.l4 - packet.l3).saturating_sub(translated)
}

fn header_len(v6: bool, fragment: bool) -> usize {
    match (v6, fragment) {
        (false, _) => ipv4::HEADER,
        (true, false) => ipv6::HEADER,
        (true, true) => ipv6::HEADER + ipv6::FRAGMENT_HEADER,
    }
}

/// Replaces a packet's IP header by one of the other family between these ends and mends the transport checksum.
/// `id` identifies an IPv4 packet that is no fragment. False, and nothing done, without the headroom.
pub(super) fn translate<B: Buf>(packet: &mut Packet<B>, src: IpAddr, dst: IpAddr, id: u16) -> bool {
    let (tos, ttl) = (packet.ip().tos(), packet.ip().ttl());
    let old = packet.l4 - packet.l3;
    let new = header_len(dst.is_ipv6(), packet.fragment.is_some());
    let total = packet.total - old + new;
    if new > old {
        if !packet.buf.grow_front(new - old) {
            return false;
        }
    } else {
        packet.buf.shrink_front(old - new);
    }
    let change = change_of_ends((packet.src, packet.dst), (src, dst));
    (packet.src, packet.dst, packet.total) = (src, dst, total);
    packet.l4 = packet.l3 + new;
    let (l3, protocol, fragment) = (packet.l3, packet.protocol, packet.fragment);
    write_header(&mut packet.buf.bytes_mut()[l3..], src, dst, protocol, total, tos, ttl, fragment, id);
    if fragment.is_none_or(|fragment| fragment.offset == 0) {
        mend_transport(protocol, packet.payload_mut(), change);
    }
    true
}

#[allow(clippy::too_many_arguments, reason = "the fields of a header")]
fn write_header(
    bytes: &mut [u8],
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    total: usize,
    tos: u8,
    ttl: u8,
    fragment: Option<Fragment>,
    id: u16,
) {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (id, fragment) = match fragment {
                Some(Fragment { id, offset, more }) => {
                    (id as u16, (offset / 8) as u16 & ipv4::OFFSET | if more { ipv4::MF } else { 0 })
                }
                None if total <= MAY_BE_CUT => (id, 0),
                None => (0, ipv4::DF),
            };
            ipv4::Header { tos, total_len: total as u16, id, fragment, ttl, protocol, src, dst }.emit(bytes);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let next_header = if fragment.is_some() { ipv6::FRAGMENT } else { protocol };
            let payload_len = (total - ipv6::HEADER) as u16;
            let (traffic_class, flow_label, hop_limit) = (tos, 0, ttl);
            ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst }
                .emit(bytes);
            if let Some(Fragment { id, offset, more }) = fragment {
                bytes[ipv6::HEADER..][..ipv6::FRAGMENT_HEADER]
                    .copy_from_slice(&ipv6::fragment_header(protocol, offset, more, id));
            }
        }
        _ => unreachable!("both ends of a packet are of one family"),
    }
}

/// The change of a pseudo-header whose addresses become others; its length and protocol stay.
fn change_of_ends(old: (IpAddr, IpAddr), new: (IpAddr, IpAddr)) -> Delta {
    let mut delta = Delta::default();
    for (address, added) in [(old.0, false), (old.1, false), (new.0, true), (new.1, true)] {
        let mut word = |word: u32| delta = if added { delta.double(0, word) } else { delta.double(word, 0) };
        match address {
            IpAddr::V4(address) => word(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                (0..4).for_each(|i| word((bits >> (96 - 32 * i)) as u32));
            }
        }
    }
    delta
}

/// Mends the checksum of a transport header, when it is there; that of a UDP datagram without one stays 0.
fn mend_transport(protocol: u8, body: &mut [u8], change: Delta) {
    match protocol {
        ipv4::TCP => {
            if let Ok(mut segment) = tcp::Segment::new_checked(body) {
                let mended = change.apply(segment.checksum());
                segment.set_checksum(mended);
            }
        }
        ipv4::UDP => {
            if let Ok(mut datagram) = udp::Datagram::new_checked(body)
                && datagram.checksum() != 0
            {
                let mended = change.apply(datagram.checksum());
                datagram.set_checksum(if mended == 0 { 0xffff } else { mended });
            }
        }
        _ => {}
    }
}

/// Type, code and rest of an ICMP error in the other family; `None` for one that has no counterpart. // RFC 7915, 4.2, 5.2
pub(crate) fn translated_error(v6: bool, kind: u8, code: u8, rest: u32) -> Option<(u8, u8, u32)> {
    use icmpv6 as six;
    const GROWTH: u32 = (ipv6::HEADER - ipv4::HEADER) as u32;
    let min = u32::from(ipv6::MIN_MTU);
    let translated = match (v6, kind, code) {
        (false, icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE) => {
            (six::PARAMETER_PROBLEM, six::UNKNOWN_NEXT_HEADER, 6)
        }
        (false, icmp::UNREACHABLE, icmp::PORT_UNREACHABLE) => (six::UNREACHABLE, six::PORT_UNREACHABLE, 0),
        (false, icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED) => {
            (six::PACKET_TOO_BIG, 0, ((rest & 0xffff) + GROWTH).max(min))
        }
        (false, icmp::UNREACHABLE, 9 | 10 | 13 | 15) => (six::UNREACHABLE, six::PROHIBITED, 0),
        (false, icmp::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (six::UNREACHABLE, six::NO_ROUTE, 0),
        (false, icmp::TIME_EXCEEDED, _) => (six::TIME_EXCEEDED, code, 0),
        (true, six::UNREACHABLE, six::PROHIBITED) => (icmp::UNREACHABLE, 10, 0),
        (true, six::UNREACHABLE, six::PORT_UNREACHABLE) => (icmp::UNREACHABLE, icmp::PORT_UNREACHABLE, 0),
        (true, six::UNREACHABLE, _) => (icmp::UNREACHABLE, icmp::HOST_UNREACHABLE, 0),
        (true, six::PACKET_TOO_BIG, _) => {
            let mtu = rest.clamp(min, 0xffff) - GROWTH;
            (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, mtu)
        }
        (true, six::TIME_EXCEEDED, _) => (icmp::TIME_EXCEEDED, code, 0),
        (true, six::PARAMETER_PROBLEM, six::UNKNOWN_NEXT_HEADER) => {
            (icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0)
        }
        _ => return None,
    };
    Some(translated)
}

/// An IPv4 ICMP error is no longer than this. // RFC 1812, 4.3.2.3
const MAX_ERROR4: usize = 576;

/// An ICMP error about a session whose ends are of different families, in the other family: written to a frame
/// that `alloc` gives, its IP header at `packet.l3`. `None` when there is no counterpart or no frame.
pub(crate) fn translate_error<B: Buf>(
    packet: &Packet<B>,
    ends: (IpAddr, IpAddr),
    quoted_src: (IpAddr, u16),
    quoted_dst: (IpAddr, u16),
    id: u16,
    alloc: impl FnOnce(usize) -> Option<B>,
) -> Option<Packet<B>> {
    let error = icmp::Message::new_checked(packet.payload()).ok()?;
    let (kind, code, rest) = translated_error(packet.is_v6(), error.kind(), error.code(), error.rest())?;
    let quoted = error.payload();
    let (inner_len, inner_total, tos, ttl, protocol) = if packet.is_v6() {
        let ip = ipv6::Packet::new_quoted(quoted).ok()?;
        let upper = ip.upper().ok()?;
        let total = ip.total_len().checked_sub(upper.offset)? + ipv4::HEADER;
        (upper.offset, total, ip.traffic_class(), ip.hop_limit(), upper.protocol)
    } else {
        let ip = ipv4::Packet::new_quoted(quoted).ok()?;
        let total = usize::from(ip.total_len()).checked_sub(ip.header_len())? + ipv6::HEADER;
        (ip.header_len(), total, ip.tos(), ip.ttl(), ip.protocol())
    };
    let v6 = !packet.is_v6();
    let header = header_len(v6, false);
    let most = if v6 { usize::from(ipv6::MIN_MTU) } else { MAX_ERROR4 };
    let rest_of_quote = quoted.get(inner_len..)?;
    let kept = &rest_of_quote[..rest_of_quote.len().min(most - 2 * header - icmp::HEADER)];
    let total = 2 * header + icmp::HEADER + kept.len();
    let l4 = packet.l3 + header;

    let mut buf = alloc(packet.l3 + total)?;
    let outer = packet.ip();
    let icmp_protocol = if v6 { ipv6::ICMP } else { ipv4::ICMP };
    let frame = buf.bytes_mut();
    let (src, dst) = ends;
    write_header(&mut frame[packet.l3..], src, dst, icmp_protocol, total, outer.tos(), outer.ttl(), None, id);
    let message = &mut frame[l4..];
    icmp::emit(message, kind, code, rest);
    let inner = &mut message[icmp::HEADER..];
    write_header(inner, quoted_src.0, quoted_dst.0, protocol, inner_total, tos, ttl, None, 0);
    inner[header..].copy_from_slice(kept);
    let mut ports = Ports::new_checked(&mut inner[header..]).ok()?;
    ports.set_src(quoted_src.1);
    ports.set_dst(quoted_dst.1);
    crate::icmp::fill_icmp_checksum(message, src, dst);

    let mut translated = Packet::parse(buf, packet.l3).ok()?;
    (translated.port, translated.interface) = (packet.port, packet.interface);
    Some(translated)
}
