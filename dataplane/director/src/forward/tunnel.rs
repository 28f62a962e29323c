//! Tunnels to servers: the headers that are put before a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, gre, gue, ip, ipv4, ipv6, udp};

use crate::buffer::{Buf, Pool};
use crate::engine::Engine;
use crate::hash::folded_multiply;
use crate::output::next_ip_id;
use crate::packet::Packet;
use crate::snapshot::{Destination, Tunnel, TunnelChecksum, TunnelKind};

/// Where the source ports of GUE are taken from: the kernel's range for connections of its own.
const SOURCE_PORTS: std::ops::Range<u64> = 32_768..61_000;

/// Length of what a tunnel to a server puts before a packet. Remote checksum offload adds nothing: it is for packets
/// whose checksum is not computed yet, and ours are.
pub(crate) fn overhead(tunnel: Tunnel, server: IpAddr) -> usize {
    let outer = if server.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER };
    outer + middle(tunnel)
}

fn middle(tunnel: Tunnel) -> usize {
    match tunnel.kind {
        TunnelKind::Ipip => 0,
        TunnelKind::Gre => gre_header(tunnel, 0).header_len(),
        TunnelKind::Gue(_) => udp::HEADER + gue::HEADER,
    }
}

fn gre_header(tunnel: Tunnel, ethertype: u16) -> gre::Header {
    gre::Header { ethertype, checksum: tunnel.checksum != TunnelChecksum::None }
}

/// What an outer IP header takes from the packet in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside {
    tos: u8,
    ttl: u8,
    df: u16,
    protocol: u8,
}

/// The type of service outside: congestion that was experienced inside does not show (RFC 3168, 9.1.1, full
/// functionality).
#[inline]
fn tos_outside(tos: u8) -> u8 {
    // The lower of two bits only counts without the higher one.
    tos & !(tos >> 1 & 1)
}

impl<P: Pool> Engine<P> {
    /// Puts the headers of a tunnel before a packet, their fields as IPVS sets them: the packet now is the outer
    /// one. False, and nothing done, without room. `may_cut`: routers of the path may cut it even when the inner
    /// packet must not be.
    pub(super) fn encapsulate(
        &mut self,
        packet: &mut Packet<P::Buf>,
        tunnel: Tunnel,
        (src, dst): (IpAddr, IpAddr),
        may_cut: bool,
    ) -> bool {
        let inner = packet.ip();
        let (tos, ttl) = (inner.tos(), inner.ttl());
        let (inner_protocol, ethertype, df) = match &inner {
            ip::Packet::V4(_) if may_cut => (ipv4::IPIP, ethernet::IPV4, 0),
            ip::Packet::V4(inner) => (ipv4::IPIP, ethernet::IPV4, inner.fragment() & ipv4::DF),
            ip::Packet::V6(_) => (ipv6::IPV6, ethernet::IPV6, 0),
        };
        let tos = tos_outside(tos);
        let header = overhead(tunnel, dst);
        let total = packet.total + header;
        let source_port = self.tunnel_source_port(packet);
        if total > usize::from(u16::MAX) || !packet.buf.grow_front(header) {
            return false;
        }
        let bytes = &mut packet.buf.bytes_mut()[packet.l3..];
        let outer = header - middle(tunnel);
        let protocol = match tunnel.kind {
            TunnelKind::Ipip => inner_protocol,
            TunnelKind::Gre => {
                gre_header(tunnel, ethertype).emit(&mut bytes[outer..]);
                gre::PROTOCOL
            }
            TunnelKind::Gue(port) => {
                let datagram = &mut bytes[outer..];
                let length = datagram.len() as u16;
                udp::Header { src_port: source_port, dst_port: port, length }.emit(datagram);
                gue::Header { protocol: inner_protocol }.emit(&mut datagram[udp::HEADER..]);
                if tunnel.checksum != TunnelChecksum::None {
                    fill_udp_checksum(datagram, src, dst);
                }
                ipv4::UDP
            }
        };
        let (outside, total_len) = (Outside { tos, ttl, df, protocol }, bytes.len() as u16);
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                outside.emit_v4(bytes, total_len, (src, dst), &mut self.ip_id);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => outside.emit_v6(bytes, total_len, (src, dst)),
            _ => unreachable!("a way's source has the family of its destination"),
        }
        let l4 = packet.l3 + outer;
        (packet.src, packet.dst, packet.protocol) = (src, dst, protocol);
        (packet.l4, packet.total, packet.fragment) = (l4, total, None);
        true
    }

    /// The outer source address of a flow: one of those that its server's tunnel has been given, else `own`.
    #[inline]
    pub(super) fn tunnel_source(
        &self,
        packet: &Packet<P::Buf>,
        server: Option<&Arc<Destination>>,
        own: IpAddr,
    ) -> IpAddr {
        match server.map(|server| &*server.tunnel_sources) {
            None | Some([]) => own,
            // The lower half of the hash: GUE's source port is made of the upper one.
            Some(sources) => {
                let hash = self.flow_hash(packet) & u64::from(u32::MAX);
                sources[((hash * sources.len() as u64) >> 32) as usize]
            }
        }
    }

    /// The source port that all packets of a flow have in a tunnel: routers and network cards spread by it.
    fn tunnel_source_port(&self, packet: &Packet<P::Buf>) -> u16 {
        let span = SOURCE_PORTS.end - SOURCE_PORTS.start;
        (SOURCE_PORTS.start + (((self.flow_hash(packet) >> 32) * span) >> 32)) as u16
    }

    fn flow_hash(&self, packet: &Packet<P::Buf>) -> u64 {
        let word = |address: IpAddr| match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64 ^ address.to_bits() as u64,
        };
        let ports = u64::from(packet.sport) << 24 | u64::from(packet.dport) << 8 | u64::from(packet.protocol);
        let addresses = folded_multiply(word(packet.src) ^ self.config.seed, word(packet.dst) | 1 << 63);
        folded_multiply(folded_multiply(addresses ^ ports, 0x9e37_79b9_7f4a_7c15), 0xf39c_c060_5ced_c835)
    }
}

impl Outside {
    /// What a tunnel without more takes from a packet of IPv4, as [`Engine::encapsulate`] does.
    #[inline(always)]
    pub(crate) fn of_v4(inner: &[u8; ipv4::HEADER], may_cut: bool) -> Outside {
        let df = if may_cut { 0 } else { u16::from_be_bytes([inner[6], inner[7]]) & ipv4::DF };
        Outside { tos: tos_outside(inner[1]), ttl: inner[8], df, protocol: ipv4::IPIP }
    }

    /// The same of IPv6, of whose header the beginning is enough.
    #[inline(always)]
    pub(crate) fn of_v6(inner: &[u8; ipv4::HEADER]) -> Outside {
        let tos = tos_outside((inner[0] << 4) | (inner[1] >> 4));
        Outside { tos, ttl: inner[7], df: 0, protocol: ipv6::IPV6 }
    }

    /// Writes it as a header of IPv4, of a packet of so many bytes.
    #[inline(always)]
    pub(crate) fn emit_v4(
        self,
        bytes: &mut [u8],
        total_len: u16,
        (src, dst): (Ipv4Addr, Ipv4Addr),
        ip_id: &mut u16,
    ) {
        let Outside { tos, ttl, df, protocol } = self;
        let id = if df != 0 { 0 } else { next_ip_id(ip_id) };
        ipv4::Header { tos, total_len, id, fragment: df, ttl, protocol, src, dst }.emit(bytes);
    }

    /// The same of IPv6.
    #[inline(always)]
    pub(crate) fn emit_v6(self, bytes: &mut [u8], total_len: u16, (src, dst): (Ipv6Addr, Ipv6Addr)) {
        let Outside { tos: traffic_class, ttl: hop_limit, protocol: next_header, .. } = self;
        let payload_len = total_len - ipv6::HEADER as u16;
        ipv6::Header { traffic_class, flow_label: 0, payload_len, next_header, hop_limit, src, dst }
            .emit(bytes);
    }
}

fn fill_udp_checksum(datagram: &mut [u8], src: IpAddr, dst: IpAddr) {
    let pseudo = pseudo_header_of(src, dst, ipv4::UDP, datagram.len());
    let whole = !fold(pseudo + sum(datagram));
    if let Ok(mut header) = udp::Datagram::new_checked(datagram) {
        header.set_checksum(if whole == 0 { 0xffff } else { whole });
    }
}
