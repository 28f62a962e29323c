//! Tunnels to servers: the headers that are put before a packet.

use std::net::IpAddr;

use fulcrum_packet::{ip, ipv4, ipv6};

use crate::buffer::{Buf, Pool};
use crate::engine::Engine;
use crate::packet::Packet;

impl<P: Pool> Engine<P> {
    /// Puts an outer IP header before a packet (RFC 2003, RFC 2473, RFC 4213), its fields as IPVS sets them.
    pub(super) fn encapsulate(&mut self, packet: &mut Packet<P::Buf>, src: IpAddr, dst: IpAddr) -> bool {
        let inner = packet.ip();
        let (tos, ttl) = (inner.tos(), inner.ttl());
        let (protocol, df) = match &inner {
            ip::Packet::V4(inner) => (ipv4::IPIP, inner.fragment() & ipv4::DF),
            ip::Packet::V6(_) => (ipv6::IPV6, 0),
        };
        // RFC 3168, 9.1.1, full functionality: congestion experienced inside does not show outside.
        let tos = if tos & 3 == 3 { tos & !1 } else { tos };
        let header = outer_header(dst);
        let total = packet.total + header;
        if total > usize::from(u16::MAX) || !packet.buf.grow_front(header) {
            return false;
        }
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let id = if df != 0 { 0 } else { self.next_ip_id() };
                let total_len = total as u16;
                let header = ipv4::Header { tos, total_len, id, fragment: df, ttl, protocol, src, dst };
                header.emit(&mut packet.buf.bytes_mut()[packet.l3..]);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = ipv6::Header {
                    traffic_class: tos,
                    flow_label: 0,
                    payload_len: packet.total as u16,
                    next_header: protocol,
                    hop_limit: ttl,
                    src,
                    dst,
                };
                header.emit(&mut packet.buf.bytes_mut()[packet.l3..]);
            }
            _ => return false,
        }
        true
    }
}

/// Length of the header that leads to a TUN server.
pub(super) fn outer_header(server: IpAddr) -> usize {
    if server.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER }
}
