//! Which frames a capture is about. Judged by the worker, frame by frame, without allocation.
//!
//! A frame is judged by its own ends and by those of what it carries: the packet in a tunnel, the one that an ICMP
//! error quotes, the stations that ARP talks of.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use fulcrum_director::{Reason, Snapshot, explain};
use fulcrum_packet::{arp, ethernet, gre, gue, icmp, icmpv6, ip, ipv4, ipv6, ports::Ports, udp};
use ipnet::IpNet;

/// Packets in packets that are looked into.
const DEPTH: usize = 3;

/// Where a frame is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It came in.
    In,
    /// It goes out.
    Out,
    /// It was dropped.
    Dropped(Reason),
}

/// What a frame has to be; what is absent may be anything.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Number of the port.
    pub(crate) port: Option<u16>,
    pub(crate) incoming: bool,
    pub(crate) outgoing: bool,
    /// The reasons for drops that are wanted, by number.
    pub(crate) drops: Vec<bool>,
    pub(crate) client: Option<End>,
    pub(crate) server: Option<End>,
    pub(crate) service: Option<Service>,
}

/// An address in a network, and a port, of either end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    pub(crate) network: Option<IpNet>,
    pub(crate) port: Option<u16>,
}

/// A service, by what its packets look like: its own address or mark before its servers' address and port.
#[derive(Debug)]
pub(crate) struct Service {
    /// IP protocol number; 0 = any.
    pub(crate) protocol: u8,
    pub(crate) face: Face,
    /// Servers' addresses and ports, port 0: every port.
    pub(crate) servers: HashSet<(IpAddr, u16)>,
}

/// What clients' packets to a service look like.
#[derive(Debug)]
pub(crate) enum Face {
    /// Address and port, port 0: every port.
    Address(IpAddr, u16),
    /// What these rules give this mark.
    Mark(Arc<Snapshot>, u32),
}

/// What is read of one packet.
#[derive(Clone, Copy, Debug)]
struct Layer {
    protocol: u8,
    ends: [(IpAddr, u16); 2],
    /// Whether ports are there, or may have been in another fragment.
    ports: Numbers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    Known,
    Elsewhere,
    None,
}

impl Filter {
    /// Whether frames are wanted that come or go.
    pub(crate) fn wants_traffic(&self) -> bool {
        self.incoming || self.outgoing
    }

    /// Whether frames are wanted that are dropped.
    pub(crate) fn wants_drops(&self) -> bool {
        self.drops.contains(&true)
    }

    /// Whether a frame is wanted.
    #[inline]
    pub(crate) fn takes(&self, port: u16, place: Place, frame: &[u8]) -> bool {
        let here = match place {
            Place::In => self.incoming,
            Place::Out => self.outgoing,
            Place::Dropped(reason) => self.drops.get(reason as usize).is_some_and(|wanted| *wanted),
        };
        here && self.port.is_none_or(|wanted| wanted == port) && self.takes_ends(frame)
    }

    fn takes_ends(&self, frame: &[u8]) -> bool {
        if self.client.is_none() && self.server.is_none() && self.service.is_none() {
            return true;
        }
        let mut layers = [None; DEPTH];
        read(frame, &mut layers);
        let any = |wanted: &dyn Fn(&Layer) -> bool| layers.iter().flatten().any(wanted);
        self.client.is_none_or(|end| any(&|layer| end.is_of(layer)))
            && self.server.is_none_or(|end| any(&|layer| end.is_of(layer)))
            && self.service.as_ref().is_none_or(|service| any(&|layer| service.is_of(layer)))
    }
}

impl End {
    fn is_of(&self, layer: &Layer) -> bool {
        layer.ends.iter().any(|(address, port)| {
            self.network.is_none_or(|network| network.contains(address))
                && self.port.is_none_or(|wanted| layer.has_port(*port, wanted))
        })
    }
}

impl Service {
    fn is_of(&self, layer: &Layer) -> bool {
        // ICMP and ARP have no ports, but are about somebody who has.
        if layer.ports != Numbers::None && self.protocol != 0 && self.protocol != layer.protocol {
            return false;
        }
        let of_server = |(address, port)| match layer.ports {
            Numbers::Known => self.servers.contains(&(address, port)) || self.servers.contains(&(address, 0)),
            Numbers::Elsewhere => self.servers.iter().any(|(server, _)| *server == address),
            Numbers::None => false,
        };
        let of_face = || match &self.face {
            Face::Address(vip, wanted) => layer.ends.iter().any(|(address, port)| {
                address == vip
                    && (*wanted == 0 || layer.has_port(*port, *wanted) || layer.ports == Numbers::None)
            }),
            Face::Mark(snapshot, mark) => {
                let [from, to] = layer.ends;
                explain::mark(snapshot, layer.protocol, from, to) == *mark
                    || explain::mark(snapshot, layer.protocol, to, from) == *mark
            }
        };
        of_face() || layer.ends.iter().any(|end| of_server(*end))
    }
}

impl Layer {
    fn has_port(&self, port: u16, wanted: u16) -> bool {
        match self.ports {
            Numbers::Known => port == wanted,
            Numbers::Elsewhere => true,
            Numbers::None => false,
        }
    }
}

/// Reads the packets of a frame, the outer one first, as far as they are there.
fn read(frame: &[u8], layers: &mut [Option<Layer>; DEPTH]) {
    let Ok(ethernet) = ethernet::Frame::new_checked(frame) else { return };
    let mut rest = &frame[ethernet.header_len()..];
    if ethernet.ethertype() == ethernet::ARP {
        if let Ok(arp) = arp::Packet::parse(rest) {
            let end = |address: Ipv4Addr| (IpAddr::V4(address), 0);
            layers[0] = Some(Layer { protocol: 0, ends: [end(arp.spa), end(arp.tpa)], ports: Numbers::None });
        }
        return;
    }
    if !matches!(ethernet.ethertype(), ethernet::IPV4 | ethernet::IPV6) {
        return;
    }
    for place in layers {
        let Some((layer, inner)) = read_ip(rest) else { return };
        *place = Some(layer);
        let Some(inner) = inner else { return };
        rest = inner;
    }
}

/// One packet, and what it carries when that is a packet again.
fn read_ip(bytes: &[u8]) -> Option<(Layer, Option<&[u8]>)> {
    let v6 = bytes.first()? >> 4 == 6;
    let ip = ip::Packet::new_quoted(v6, bytes).ok()?;
    let (protocol, offset, later) = match &ip {
        ip::Packet::V4(ip) => (ip.protocol(), ip.header_len(), ip.fragment() & ipv4::OFFSET != 0),
        ip::Packet::V6(ip) => {
            let upper = ip.upper().ok()?;
            (upper.protocol, upper.offset, upper.fragment.is_some_and(|fragment| fragment.offset != 0))
        }
    };
    let body = bytes.get(offset..)?;
    let layer = |ports, (from, to)| Layer { protocol, ends: [(ip.src(), from), (ip.dst(), to)], ports };
    match protocol {
        ipv4::TCP | ipv4::UDP | ipv4::SCTP if later => Some((layer(Numbers::Elsewhere, (0, 0)), None)),
        ipv4::TCP | ipv4::UDP | ipv4::SCTP => match Ports::new_checked(body) {
            Ok(ports) => {
                let inner = if protocol == ipv4::UDP { in_gue(body) } else { None };
                Some((layer(Numbers::Known, (ports.src(), ports.dst())), inner))
            }
            Err(_) => Some((layer(Numbers::None, (0, 0)), None)),
        },
        _ if later => Some((layer(Numbers::None, (0, 0)), None)),
        ipv4::IPIP | ipv6::IPV6 => Some((layer(Numbers::None, (0, 0)), Some(body))),
        gre::PROTOCOL => {
            let inner = gre::Header::parse(body).ok().map(|(_, length)| &body[length..]);
            Some((layer(Numbers::None, (0, 0)), inner))
        }
        ipv4::ICMP if !v6 && body.first().is_some_and(|kind| icmp::is_error(*kind)) => {
            Some((layer(Numbers::None, (0, 0)), body.get(icmp::HEADER..)))
        }
        ipv6::ICMP if v6 && body.first().is_some_and(|kind| icmpv6::is_error(*kind)) => {
            Some((layer(Numbers::None, (0, 0)), body.get(icmp::HEADER..)))
        }
        _ => Some((layer(Numbers::None, (0, 0)), None)),
    }
}

/// What a datagram carries if it is one of GUE. Any other that looks so is at worst shown, too.
fn in_gue(datagram: &[u8]) -> Option<&[u8]> {
    let message = datagram.get(udp::HEADER..)?;
    let (header, length) = gue::Header::parse(message).ok()?;
    if !matches!(header.protocol, ipv4::IPIP | ipv6::IPV6) {
        return None;
    }
    message.get(length..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: [u8; 4] = [10, 0, 0, 2];
    const VIP: [u8; 4] = [10, 0, 0, 9];
    const SERVER: [u8; 4] = [10, 1, 0, 7];

    fn ip(protocol: u8, fragment: u16, src: [u8; 4], dst: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ipv4::HEADER + body.len()];
        let total_len = bytes.len() as u16;
        let (src, dst) = (src.into(), dst.into());
        ipv4::Header { tos: 0, total_len, id: 1, fragment, ttl: 64, protocol, src, dst }.emit(&mut bytes);
        bytes[ipv4::HEADER..].copy_from_slice(body);
        bytes
    }

    fn ports(from: u16, to: u16) -> Vec<u8> {
        let mut body = vec![0; 20];
        body[..2].copy_from_slice(&from.to_be_bytes());
        body[2..4].copy_from_slice(&to.to_be_bytes());
        body
    }

    fn frame(packet: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ethernet::HEADER + packet.len()];
        ethernet::emit(&mut bytes, [2; 6], [4; 6], 0, ethernet::IPV4);
        bytes[ethernet::HEADER..].copy_from_slice(packet);
        bytes
    }

    fn service() -> Filter {
        let servers = HashSet::from([(IpAddr::from(SERVER), 8080)]);
        let service = Service { protocol: ipv4::TCP, face: Face::Address(VIP.into(), 80), servers };
        Filter { incoming: true, outgoing: true, service: Some(service), ..Filter::default() }
    }

    fn takes(filter: &Filter, packet: &[u8]) -> bool {
        filter.takes(0, Place::In, &frame(packet))
    }

    #[test]
    fn a_service_is_known_at_its_address_and_at_its_servers() {
        let filter = service();
        assert!(takes(&filter, &ip(ipv4::TCP, 0, CLIENT, VIP, &ports(40_000, 80))));
        assert!(takes(&filter, &ip(ipv4::TCP, 0, VIP, CLIENT, &ports(80, 40_000))));
        assert!(takes(&filter, &ip(ipv4::TCP, 0, SERVER, CLIENT, &ports(8080, 40_000))));
        assert!(!takes(&filter, &ip(ipv4::TCP, 0, CLIENT, VIP, &ports(40_000, 81))));
        assert!(!takes(&filter, &ip(ipv4::TCP, 0, CLIENT, VIP, &ports(80, 40_000))), "another's port");
        assert!(!takes(&filter, &ip(ipv4::UDP, 0, CLIENT, VIP, &ports(40_000, 80))));
        assert!(!takes(&filter, &ip(ipv4::TCP, 0, CLIENT, SERVER, &ports(40_000, 22))));
    }

    #[test]
    fn what_a_packet_carries_counts_too() {
        let filter = service();
        let inner = ip(ipv4::TCP, 0, CLIENT, VIP, &ports(40_000, 80));
        assert!(takes(&filter, &ip(ipv4::IPIP, 0, [10, 1, 0, 1], SERVER, &inner)));
        let quoting = [&[icmp::UNREACHABLE, 4, 0, 0, 0, 0, 5, 0][..], &inner].concat();
        assert!(takes(&filter, &ip(ipv4::ICMP, 0, [10, 9, 9, 9], CLIENT, &quoting)));
        let ping = [icmp::ECHO_REQUEST, 0, 0, 0, 0, 0, 0, 0];
        assert!(takes(&filter, &ip(ipv4::ICMP, 0, CLIENT, VIP, &ping)), "about the service's address");
        assert!(!takes(&filter, &ip(ipv4::ICMP, 0, CLIENT, [10, 9, 9, 9], &ping)));
        let later = ip(ipv4::TCP, 100, CLIENT, VIP, &[0; 40]);
        assert!(takes(&filter, &later), "its ports are in another fragment");
    }

    #[test]
    fn ends_ports_and_places() {
        let network = Some("10.0.0.0/29".parse().unwrap());
        let client =
            Filter { incoming: true, client: Some(End { network, port: Some(40_000) }), ..Filter::default() };
        let packet = frame(&ip(ipv4::TCP, 0, CLIENT, VIP, &ports(40_000, 80)));
        assert!(client.takes(3, Place::In, &packet));
        assert!(!client.takes(3, Place::Out, &packet));
        assert!(!client.takes(3, Place::Dropped(Reason::NoRoute), &packet));
        let other = frame(&ip(ipv4::TCP, 0, CLIENT, VIP, &ports(40_001, 40_000)));
        assert!(!client.takes(3, Place::In, &other), "the port is that of the other end");
        let mut drops = vec![false; Reason::COUNT];
        drops[Reason::NoRoute as usize] = true;
        let drops = Filter { port: Some(1), drops, ..Filter::default() };
        assert!(drops.takes(1, Place::Dropped(Reason::NoRoute), b"no frame at all"));
        assert!(!drops.takes(1, Place::Dropped(Reason::TooBig), &packet));
        assert!(!drops.takes(0, Place::Dropped(Reason::NoRoute), &packet));
    }

    #[test]
    fn whatever_comes_is_read_without_harm() {
        let whole = frame(&ip(ipv4::IPIP, 0, CLIENT, VIP, &ip(ipv4::TCP, 0, CLIENT, VIP, &ports(1, 80))));
        for length in 0..whole.len() {
            service().takes(0, Place::In, &whole[..length]);
            let mut broken = whole.clone();
            broken[length] ^= 0xff;
            service().takes(0, Place::In, &broken);
        }
    }
}
