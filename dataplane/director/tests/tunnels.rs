//! Tunnels: every kind in and around both families, its checksum, its size, its source port.

mod harness;

use std::collections::BTreeSet;
use std::net::IpAddr;

use fulcrum_model::TunnelSource;
use fulcrum_packet::checksum::{checksum, fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, gre, gue, icmp, icmpv6, ip, ipv4, ipv6, udp};
use harness::both::{SIX, addr};
use harness::*;

const CLIENTS: [&str; 2] = ["10.0.0.2", "fd00:1::2"];
const VIPS: [&str; 2] = ["10.0.0.100", "fd00:1::100"];
const SERVERS: [&str; 2] = ["10.1.0.11", "fd00:2::11"];
const OWN: [&str; 2] = ["10.1.0.1", "fd00:2::1"];

/// Lines of the file, and what they put between the IP headers: bytes, checksum.
const KINDS: [(&str, usize, bool); 6] = [
    ("", 0, false),
    ("tunnel = \"gre\"", 4, false),
    ("tunnel = \"gre\"\ntunnel-checksum = \"csum\"", 8, true),
    ("tunnel = \"gue\"\ntunnel-port = 6080", 12, false),
    ("tunnel = \"gue\"\ntunnel-port = 6080\ntunnel-checksum = \"csum\"", 12, true),
    ("tunnel = \"gue\"\ntunnel-port = 6080\ntunnel-checksum = \"remcsum\"", 12, true),
];

fn director(workers: u16, inner: usize, outer: usize, kind: &str, more: &str) -> Director {
    let with_port =
        |text: &str| if text.contains(':') { format!("[{text}]:53") } else { format!("{text}:53") };
    let text = format!(
        "{SIX}\n[[service]]\naddress = \"{}\"\nprotocol = \"udp\"\nscheduler = \"rr\"\n\
         [[service.server]]\naddress = \"{}\"\nforward = \"tun\"\n{kind}\n{more}",
        with_port(VIPS[inner]),
        with_port(SERVERS[outer]),
    );
    Director::new(workers, &text)
}

/// A datagram from a client to a VIP, without Ethernet header.
fn datagram(family: usize, port: u16, length: usize, fragment: u16) -> Vec<u8> {
    let (src, dst) = (addr(CLIENTS[family]), addr(VIPS[family]));
    let length = length - if family == 0 { ipv4::HEADER } else { ipv6::HEADER };
    let mut body = vec![0xa5; length];
    udp::Header { src_port: port, dst_port: 53, length: length as u16 }.emit(&mut body);
    let whole = !fold(pseudo_header_of(src, dst, ipv4::UDP, length) + sum(&body));
    udp::Datagram::new_checked(&mut body[..]).unwrap().set_checksum(whole);
    let mut packet;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet = vec![0; ipv4::HEADER];
            let total_len = (ipv4::HEADER + length) as u16;
            let (tos, ttl, protocol) = (0x2b, 64, ipv4::UDP);
            ipv4::Header { tos, total_len, id: 7, fragment, ttl, protocol, src, dst }.emit(&mut packet);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet = vec![0; ipv6::HEADER];
            let (traffic_class, payload_len, hop_limit) = (0x2b, length as u16, 64);
            ipv6::Header {
                traffic_class,
                flow_label: 5,
                payload_len,
                next_header: ipv4::UDP,
                hop_limit,
                src,
                dst,
            }
            .emit(&mut packet);
        }
        _ => unreachable!("one family"),
    }
    packet.extend(body);
    packet
}

fn send(director: &mut Director, packet: &[u8]) -> Vec<Out> {
    let (vlan, ethertype) = if packet[0] >> 4 == 6 { (6, ethernet::IPV6) } else { (0, ethernet::IPV4) };
    let mut frame = vec![0; ethernet::header_len(vlan)];
    ethernet::emit(&mut frame, WAN, PEER, vlan, ethertype);
    frame.extend_from_slice(packet);
    director.send(0, &frame)
}

fn packet_of(out: &Out) -> &[u8] {
    &out.frame[ethernet::Frame::new_checked(&out.frame[..]).unwrap().header_len()..]
}

/// The packet one hop further.
fn a_hop_further(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    ip::Packet::new_checked(&mut packet[..]).unwrap().decrement_ttl();
    packet
}

/// Takes the packet inside out of a tunnel, after all headers have been judged; and GUE's source port.
fn unwrapped(packet: &[u8], inner: usize, outer: usize, middle: usize, summed: bool) -> (&[u8], u16) {
    let (protocol, header) = match ip::Packet::new_checked(packet).unwrap() {
        ip::Packet::V4(ip) => {
            assert!(ip.checksum_ok());
            // What is inside decides whether it may be cut.
            assert_eq!(ip.dont_fragment(), inner == 0);
            assert_eq!(ip.id() == 0, inner == 0);
            (ip.protocol(), ipv4::HEADER)
        }
        ip::Packet::V6(ip) => (ip.next_header(), ipv6::HEADER),
    };
    let ip = ip::Packet::new_checked(packet).unwrap();
    // Congestion experienced (3) does not show outside.
    assert_eq!((ip.src(), ip.dst(), ip.ttl(), ip.tos()), (addr(OWN[outer]), addr(SERVERS[outer]), 63, 0x2a));
    let rest = &packet[header..];
    let inner_protocol = [ipv4::IPIP, ipv6::IPV6][inner];
    let (at, port) = match protocol {
        gre::PROTOCOL => {
            let (header, length) = gre::Header::parse(rest).unwrap();
            assert_eq!(header.ethertype, [ethernet::IPV4, ethernet::IPV6][inner]);
            assert_eq!(header.checksum, summed);
            assert!(!summed || checksum(rest) == 0);
            (length, 0)
        }
        ipv4::UDP => {
            let datagram = udp::Datagram::new_checked(rest).unwrap();
            assert_eq!(usize::from(datagram.length()), rest.len());
            assert_eq!(datagram.checksum() != 0, summed);
            let pseudo = pseudo_header_of(addr(OWN[outer]), addr(SERVERS[outer]), ipv4::UDP, rest.len());
            assert!(!summed || fold(pseudo + sum(rest)) == 0xffff);
            assert_eq!(rest[2..4], 6080u16.to_be_bytes());
            let (header, length) = gue::Header::parse(&rest[udp::HEADER..]).unwrap();
            assert_eq!(header.protocol, inner_protocol);
            (udp::HEADER + length, u16::from_be_bytes([rest[0], rest[1]]))
        }
        other => {
            assert_eq!(other, inner_protocol);
            (0, 0)
        }
    };
    assert_eq!(at, middle);
    (&rest[at..], port)
}

#[test]
fn every_kind_in_and_around_both_families() {
    for (kind, middle, summed) in KINDS {
        for (inner, outer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for length in [60, 61, 400] {
                let mut director = director(3, inner, outer, kind, "");
                let packet = datagram(inner, 5001, length, ipv4::DF);
                let outs = send(&mut director, &packet);
                assert_eq!((outs.len(), director.drops()), (1, vec![]), "{kind} {inner} in {outer}");
                let (inside, _) = unwrapped(packet_of(&outs[0]), inner, outer, middle, summed);
                assert_eq!(inside, a_hop_further(&packet), "{kind} {inner} in {outer}");
            }
        }
    }
}

#[test]
fn a_client_is_told_what_a_tunnel_leaves() {
    for (kind, middle, summed) in KINDS {
        for (inner, outer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut director = director(1, inner, outer, kind, "");
            let room = 1500 - [ipv4::HEADER, ipv6::HEADER][outer] - middle;
            let outs = send(&mut director, &datagram(inner, 5001, room, ipv4::DF));
            let (inside, _) = unwrapped(packet_of(&outs[0]), inner, outer, middle, summed);
            assert_eq!((outs[0].port, inside.len()), (1, room));
            let outs = send(&mut director, &datagram(inner, 5001, room + 1, ipv4::DF));
            let error = packet_of(&outs[0]);
            let (at, expected) = match inner {
                0 => (ipv4::HEADER, (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED)),
                _ => (ipv6::HEADER, (icmpv6::PACKET_TOO_BIG, 0)),
            };
            let error = icmp::Message::new_checked(&error[at..]).unwrap();
            assert_eq!((outs[0].port, error.kind(), error.code()), (0, expected.0, expected.1));
            assert_eq!(error.rest() as usize, room, "{kind} {inner} in {outer}");
            expect_drops!(director, "too-big": 1);
        }
    }
}

/// What a receiver makes of the fragments of one datagram: its upper layer.
fn reassembled(outs: &[Out]) -> Vec<u8> {
    let mut body = Vec::new();
    for (n, out) in outs.iter().enumerate() {
        let packet = packet_of(out);
        assert!(packet.len() <= 1500 && (packet.len() > 1450 || n + 1 == outs.len()));
        let (at, offset, more) = match ip::Packet::new_checked(packet).unwrap() {
            ip::Packet::V4(ip) => {
                let field = ip.fragment();
                (ipv4::HEADER, usize::from(field & ipv4::OFFSET) * 8, field & ipv4::MF != 0)
            }
            ip::Packet::V6(ip) => {
                let upper = ip.upper().unwrap();
                let fragment = upper.fragment.expect("a fragment header");
                (upper.offset, fragment.offset, fragment.more)
            }
        };
        assert_eq!((offset, more), (body.len(), n + 1 < outs.len()));
        body.extend_from_slice(&packet[at..]);
    }
    body
}

#[test]
fn what_may_be_cut_is_cut_outside() {
    for (kind, middle, _) in KINDS {
        for outer in [0, 1] {
            let mut director = director(1, 0, outer, kind, "");
            let packet = datagram(0, 5001, 1500, 0);
            let outs = send(&mut director, &packet);
            assert_eq!((outs.len(), director.drops()), (2, vec![]), "{kind} 0 in {outer}");
            assert_eq!(reassembled(&outs)[middle..], a_hop_further(&packet), "{kind} 0 in {outer}");
        }
    }
}

#[test]
fn without_path_mtu_discovery_everything_of_ipv4_may_be_cut() {
    for (outer, more) in [(0, "[ipvs]\npmtu_disc = 0"), (1, "[ipvs]\npmtu_disc = 0")] {
        let mut director = director(1, 0, outer, KINDS[3].0, more);
        let packet = datagram(0, 5001, 1500, ipv4::DF);
        let outs = send(&mut director, &packet);
        assert_eq!((outs.len(), director.drops()), (2, vec![]));
        assert_eq!(reassembled(&outs)[12..], a_hop_further(&packet));
    }
}

#[test]
fn flows_have_source_ports_of_their_own() {
    for inner in [0, 1] {
        let mut director = director(3, inner, 0, KINDS[3].0, "");
        let mut ports = BTreeSet::new();
        for client in 5000..5100 {
            let mut port_of = |length| {
                let outs = send(&mut director, &datagram(inner, client, length, ipv4::DF));
                unwrapped(packet_of(&outs[0]), inner, 0, 12, false).1
            };
            let port = port_of(100);
            assert_eq!(port, port_of(200), "a flow keeps its port");
            assert!((32_768..=60_999).contains(&port));
            ports.insert(port);
        }
        assert!(ports.len() > 90, "{} ports for 100 flows", ports.len());
    }
}

/// What a packet of a tunnel would be with another outer source, and identification.
fn from_elsewhere(packet: &[u8], source: IpAddr, id: [u8; 2], outer: usize, udp_summed: bool) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let (at, header) = [(12, ipv4::HEADER), (8, ipv6::HEADER)][outer];
    match source {
        IpAddr::V4(source) => {
            packet[4..6].copy_from_slice(&id);
            packet[at..at + 4].copy_from_slice(&source.octets());
            ipv4::Packet::new_checked(&mut packet[..]).unwrap().fill_checksum();
        }
        IpAddr::V6(source) => packet[at..at + 16].copy_from_slice(&source.octets()),
    }
    if udp_summed {
        let datagram = &mut packet[header..];
        udp::Datagram::new_checked(&mut datagram[..]).unwrap().set_checksum(0);
        let pseudo = pseudo_header_of(source, addr(SERVERS[outer]), ipv4::UDP, datagram.len());
        let whole = !fold(pseudo + sum(datagram));
        udp::Datagram::new_checked(datagram).unwrap().set_checksum(whole);
    }
    packet
}

#[test]
fn flows_have_outer_sources_of_their_own_where_the_server_wants_it() {
    const LOCALS: &str = r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200-10.1.0.207", "fd00:2::200-fd00:2::207"]
"#;
    for (kind, _, summed) in KINDS {
        let udp_summed = summed && kind.contains("gue");
        for (inner, outer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut plain = director(3, inner, outer, kind, LOCALS);
            let mut spread = director(3, inner, outer, kind, LOCALS);
            spread.change(|state| {
                state.services[0].local_pool = Some("inside".to_owned());
                state.services[0].servers[0].tunnel.source = TunnelSource::Local;
            });
            let mut sources = BTreeSet::new();
            for client in 5000..5064 {
                let packet = datagram(inner, client, 100, ipv4::DF);
                let (plain, one, again) =
                    (send(&mut plain, &packet), send(&mut spread, &packet), send(&mut spread, &packet));
                let (one, again) = (packet_of(&one[0]), packet_of(&again[0]));
                let source = ip::Packet::new_checked(one).unwrap().src();
                let its = ip::Packet::new_checked(again).unwrap().src();
                assert_eq!(source, its, "a flow keeps its source");
                let expected =
                    from_elsewhere(packet_of(&plain[0]), source, [one[4], one[5]], outer, udp_summed);
                assert_eq!(one, expected, "{kind} {inner} in {outer}");
                sources.insert(source);
            }
            let expected = (0..8).map(|n| addr(&format!("{}{n}", ["10.1.0.20", "fd00:2::20"][outer])));
            assert_eq!(sources, expected.collect(), "64 flows on all 8 addresses");
            assert_eq!((plain.drops(), spread.drops()), (vec![], vec![]));
        }
    }
}
