//! New addresses and ports for a packet, and the checksums that follow from them.

use std::net::IpAddr;

use fulcrum_packet::checksum::{Delta, fold, pseudo_header_of, sum};
use fulcrum_packet::ports::Ports;
use fulcrum_packet::{ipv4, sctp, tcp, udp};

use crate::buffer::Buf;
use crate::packet::{Packet, checked, is_ipsec};

/// New addresses and ports of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewrite {
    pub(super) src: Option<(IpAddr, u16)>,
    pub(super) dst: Option<(IpAddr, u16)>,
}

/// Gives a packet new addresses and, when its protocol has them, ports, and mends its checksums.
pub(super) fn rewrite<B: Buf>(packet: &mut Packet<B>, to: Rewrite) {
    let mut delta = Delta::default();
    {
        let mut ip = packet.ip_mut();
        if let Some((address, _)) = to.src {
            delta = delta.and(ip.set_src(address));
        }
        if let Some((address, _)) = to.dst {
            delta = delta.and(ip.set_dst(address));
        }
    }
    packet.src = to.src.map_or(packet.src, |(address, _)| address);
    packet.dst = to.dst.map_or(packet.dst, |(address, _)| address);
    if packet.is_later_fragment() || is_ipsec(packet.protocol) {
        return;
    }
    let mut ports = checked(Ports::new_checked(packet.payload_mut()));
    let before = (ports.src(), ports.dst());
    if let Some((_, port)) = to.src {
        delta = delta.and(ports.set_src(port));
    }
    if let Some((_, port)) = to.dst {
        delta = delta.and(ports.set_dst(port));
    }
    let same_ports = before == (ports.src(), ports.dst());
    match packet.protocol {
        ipv4::TCP => {
            let mut segment = checked(tcp::Segment::new_checked(packet.payload_mut()));
            let mended = delta.apply(segment.checksum());
            segment.set_checksum(mended);
        }
        // The CRC does not cover addresses. As in the kernel, one that was wrong is right after a change.
        ipv4::SCTP if same_ports => {}
        ipv4::SCTP => checked(sctp::Packet::new_checked(packet.payload_mut())).fill_checksum(),
        _ => mend_udp(packet, delta),
    }
}

fn mend_udp<B: Buf>(packet: &mut Packet<B>, delta: Delta) {
    let datagram = checked(udp::Datagram::new_checked(packet.payload()));
    let old = datagram.checksum();
    let mended = if old == 0 && packet.fragment.is_some() {
        // What a checksum covers is not all here.
        return;
    } else if old == 0 {
        // IPVS gives a datagram without a checksum a real one.
        let (src, dst) = (packet.src, packet.dst);
        let body = packet.payload();
        !fold(pseudo_header_of(src, dst, ipv4::UDP, body.len()) + sum(body))
    } else {
        delta.apply(old)
    };
    let mended = if mended == 0 { 0xffff } else { mended };
    checked(udp::Datagram::new_checked(packet.payload_mut())).set_checksum(mended);
}
