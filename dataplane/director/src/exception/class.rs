//! What kinds of traffic go up to the host: a scan must not starve a routing daemon.

use fulcrum_packet::ports::Ports;
use fulcrum_packet::{ethernet, icmpv6, ip, ipv4, ipv6, tcp};

use crate::reason::{Event, Reason};

const OSPF: u8 = 89;
const VRRP: u8 = 112;
const IGMP: u8 = 2;
const BGP: u16 = 179;
/// BFD: of one hop, its echoes, of several hops, of members of a bond. // RFC 5881, RFC 5883, RFC 7130
const BFD: u16 = 3784;
const BFD_ECHO: u16 = 3785;
const BFD_MULTIHOP: u16 = 4784;
const BFD_MEMBER: u16 = 6784;
/// TTL of what comes from the link itself. // RFC 5082
const LINK_TTL: u8 = 255;

/// A kind of traffic for the host; those above go up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// BGP, BFD, VRRP, OSPF.
    Routing,
    /// ARP, neighbour discovery, group membership, LLDP, LACP and whatever is not IP.
    Link,
    /// TCP to the ports by which the host is managed.
    Management,
    /// What sessions bring to the host: as a server, or as a client of a VIP.
    Served,
    /// TCP segments that open nothing: answers to connections of the host's.
    Answers,
    /// Everything else.
    Rest,
}

impl Class {
    /// All of them, in the order in which they go up.
    pub const ALL: [Class; 6] =
        [Class::Routing, Class::Link, Class::Management, Class::Served, Class::Answers, Class::Rest];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Routing => "routing",
            Class::Link => "link",
            Class::Management => "management",
            Class::Served => "served",
            Class::Answers => "answers",
            Class::Rest => "rest",
        }
    }

    /// Why a frame of it does not go up when there were too many.
    pub(crate) fn policed(self) -> Reason {
        match self {
            Class::Routing => Reason::ExceptionPolicedRouting,
            Class::Link => Reason::ExceptionPolicedLink,
            Class::Management => Reason::ExceptionPolicedManagement,
            Class::Answers => Reason::ExceptionPolicedAnswers,
            Class::Served | Class::Rest => Reason::ExceptionPolicedRest,
        }
    }

    /// What is counted of a frame of it that goes up.
    pub(crate) fn event(self) -> Event {
        match self {
            Class::Routing => Event::ExceptionRouting,
            Class::Link => Event::ExceptionLink,
            Class::Management => Event::ExceptionManagement,
            Class::Served => Event::ExceptionServed,
            Class::Answers => Event::ExceptionAnswers,
            Class::Rest => Event::ExceptionRest,
        }
    }
}

/// The class of a frame from a port.
pub(crate) fn classify(frame: &[u8], management: &[u16]) -> Class {
    let Ok(ether) = ethernet::Frame::new_checked(frame) else { return Class::Rest };
    if !matches!(ether.ethertype(), ethernet::IPV4 | ethernet::IPV6) {
        return Class::Link;
    }
    let packet = &frame[ether.header_len()..];
    let (protocol, ttl, offset, later) = match ip::Packet::new_checked(packet) {
        Ok(ip::Packet::V4(ip)) => {
            (ip.protocol(), ip.ttl(), ip.header_len(), ip.fragment() & ipv4::OFFSET != 0)
        }
        Ok(ip::Packet::V6(ip)) => match ip.upper() {
            Ok(upper) => {
                let later = upper.fragment.is_some_and(|fragment| fragment.offset != 0);
                (upper.protocol, ip.hop_limit(), upper.offset, later)
            }
            Err(_) => return Class::Rest,
        },
        Err(_) => return Class::Rest,
    };
    let body = packet.get(offset..).unwrap_or_default();
    match protocol {
        _ if later => Class::Rest,
        OSPF => Class::Routing,
        VRRP if ttl == LINK_TTL => Class::Routing,
        IGMP => Class::Link,
        ipv6::ICMP => match body.first() {
            Some(&(icmpv6::LISTENER_QUERY..=icmpv6::REDIRECT | icmpv6::LISTENER_REPORT_2)) => Class::Link,
            _ => Class::Rest,
        },
        ipv4::TCP | ipv4::UDP => of_ports(protocol, ttl, body, management),
        _ => Class::Rest,
    }
}

fn of_ports(protocol: u8, ttl: u8, body: &[u8], management: &[u16]) -> Class {
    let Ok(ports) = Ports::new_checked(body) else { return Class::Rest };
    if protocol == ipv4::UDP {
        return match ports.dst() {
            BFD | BFD_ECHO | BFD_MEMBER if ttl == LINK_TTL => Class::Routing,
            BFD_MULTIHOP => Class::Routing,
            _ => Class::Rest,
        };
    }
    if ports.src() == BGP || ports.dst() == BGP {
        return Class::Routing;
    }
    if management.contains(&ports.dst()) {
        return Class::Management;
    }
    match tcp::Segment::new_checked(body) {
        Ok(segment) if segment.flags() & tcp::ACK != 0 => Class::Answers,
        _ => Class::Rest,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn frame(protocol: u8, ttl: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ethernet::HEADER + ipv4::HEADER];
        ethernet::emit(&mut frame, [2; 6], [4; 6], 0, ethernet::IPV4);
        let header = ipv4::Header {
            tos: 0,
            total_len: (ipv4::HEADER + body.len()) as u16,
            id: 1,
            fragment: 0,
            ttl,
            protocol,
            src: Ipv4Addr::new(10, 0, 0, 2),
            dst: Ipv4Addr::new(10, 0, 0, 1),
        };
        header.emit(&mut frame[ethernet::HEADER..]);
        frame.extend_from_slice(body);
        frame
    }

    fn udp(port: u16, ttl: u8) -> Class {
        let body = [[0xc0, 0], port.to_be_bytes(), [0, 8], [0, 0]].concat();
        classify(&frame(ipv4::UDP, ttl, &body), &[22])
    }

    fn tcp(ports: (u16, u16), flags: u8) -> Class {
        let mut body = vec![0; tcp::HEADER];
        tcp::Header { src_port: ports.0, dst_port: ports.1, seq: 0, ack: 0, flags, window: 0 }
            .emit(&mut body);
        classify(&frame(ipv4::TCP, 64, &body), &[22, 8022])
    }

    #[test]
    fn protocols_that_must_not_starve_are_known() {
        assert_eq!(tcp((40000, 179), tcp::SYN), Class::Routing);
        assert_eq!(tcp((179, 40000), tcp::ACK), Class::Routing);
        assert_eq!((udp(3784, 255), udp(4784, 60)), (Class::Routing, Class::Routing));
        assert_eq!(classify(&frame(VRRP, 255, &[0; 20]), &[]), Class::Routing);
        assert_eq!(classify(&frame(OSPF, 1, &[0; 24]), &[]), Class::Routing);
        assert_eq!((tcp((40000, 8022), tcp::SYN), tcp((40000, 22), tcp::ACK)).0, Class::Management);
        assert_eq!(tcp((443, 40000), tcp::SYN | tcp::ACK), Class::Answers);
        let mut lldp = vec![0; 60];
        ethernet::emit(&mut lldp, [1, 0x80, 0xc2, 0, 0, 0xe], [4; 6], 0, 0x88cc);
        assert_eq!(classify(&lldp, &[]), Class::Link);
    }

    #[test]
    fn who_only_claims_to_be_of_the_link_is_the_rest() {
        assert_eq!((udp(3784, 64), udp(53, 64)), (Class::Rest, Class::Rest));
        assert_eq!(classify(&frame(VRRP, 64, &[0; 20]), &[]), Class::Rest);
        assert_eq!(tcp((40000, 8080), tcp::SYN), Class::Rest);
        for cut in 0..ethernet::HEADER + ipv4::HEADER + 4 {
            let whole = frame(ipv4::TCP, 64, &[0; 20]);
            assert_eq!(classify(&whole[..cut], &[22]), Class::Rest, "{cut} bytes");
        }
    }
}
