//! Conversations of IPv6 and between the families, and of fragments of both: exact ends, checksums, counters.

mod harness;

use std::net::IpAddr;

use fulcrum_director::{Event, SECOND};
use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::tcp::{ACK, SYN};
use fulcrum_packet::{icmp, icmpv6, ip, ipv4, ipv6};
use harness::both::*;
use harness::*;

#[test]
fn nat_and_fullnat_in_both_families_and_between_them() {
    let v4 = ("10.0.0.100:80", "10.0.0.100", "10.0.0.2", "10.1.0.11", "inside", "10.1.0.200");
    let v6 = ("[fd00:1::100]:80", "fd00:1::100", CLIENT6.0, "fd00:2::11", "inside6", "fd00:2::200");
    for workers in [1, 3] {
        for (front, back) in [(v4, v4), (v6, v6), (v4, v6), (v6, v4)] {
            let server = if back.3.contains(':') { "[fd00:2::11]:8000" } else { "10.1.0.11:8000" };
            let pool = format!("local-pool = \"{}\"", back.4);
            let fullnat = service(front.0, "tcp", server, "fullnat", &pool);
            let mut director = Director::new(workers, &fullnat);
            for port in 40001..40010 {
                let ends = handshake(&mut director, end(front.2, port), end(front.1, 80));
                assert_eq!((ends[0].0, ends[1]), (addr(back.5), end(back.3, 8000)));
            }
            assert_eq!(director.counts(), [(9, 0, 0)]);
            assert_eq!(director.drops(), vec![]);
            if front == back {
                let nat = service(front.0, "tcp", server, "nat", "");
                let mut director = Director::new(workers, &nat);
                let ends = handshake(&mut director, end(front.2, 40001), end(front.1, 80));
                assert_eq!(ends, [end(front.2, 40001), end(back.3, 8000)]);
            }
        }
    }
}

#[test]
fn tunnels_of_all_four_kinds() {
    for (vip, client, server) in [
        ("[fd00:1::100]:80", CLIENT6.0, "fd00:2::11"),
        ("[fd00:1::100]:80", CLIENT6.0, "10.1.0.11"),
        ("10.0.0.100:80", "10.0.0.2", "fd00:2::11"),
    ] {
        let port = if server.contains(':') { format!("[{server}]:80") } else { format!("{server}:80") };
        let mut director = Director::new(1, &service(vip, "tcp", &port, "tun", ""));
        let vip = vip.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
        let inner = segment(WAN, end(client, 40001), end(vip, 80), SYN, b"");
        let outs = director.send(0, &inner);
        let out = one(outs, &director);
        let bytes = &out.frame[l3(&out.frame)..];
        let outer = ip::Packet::new_checked(bytes).unwrap();
        assert_eq!((outer.dst(), outer.ttl()), (addr(server), 63));
        let header = if server.contains(':') { ipv6::HEADER } else { ipv4::HEADER };
        let (mut expected, at) = (inner[l3(&inner)..].to_vec(), if client.contains(':') { 7 } else { 8 });
        expected[at] = 63;
        let ipv4_sum = if client.contains(':') { 0..0 } else { 10..12 };
        let mut got = bytes[header..].to_vec();
        got[ipv4_sum.clone()].fill(0);
        expected[ipv4_sum].fill(0);
        assert_eq!(got, expected, "the packet inside");
    }
}

#[test]
fn fragments_follow_their_first_one_in_any_order() {
    let data: Vec<u8> = (0..4000u32).map(|i| (i * 7) as u8).collect();
    let v4 = ("10.0.0.100:53", "10.0.0.100", "10.0.0.2", "10.1.0.11", "inside");
    let v6 = ("[fd00:1::100]:53", "fd00:1::100", CLIENT6.0, "fd00:2::11", "inside6");
    for workers in [1, 3] {
        for (front, back) in [(v4, v4), (v6, v6), (v4, v6), (v6, v4)] {
            for forward in ["nat", "fullnat"] {
                if front != back && forward == "nat" {
                    continue;
                }
                let server = if back.3.contains(':') { "[fd00:2::11]:5300" } else { "10.1.0.11:5300" };
                let pool = format!("local-pool = \"{}\"", back.4);
                let mut director = Director::new(workers, &service(front.0, "udp", server, forward, &pool));
                for (round, order) in [[0, 1, 2], [2, 1, 0], [1, 0, 2]].into_iter().enumerate() {
                    let client = end(front.2, 40001 + round as u16);
                    let vip = end(front.1, 53);
                    let body = datagram(client, vip, &data);
                    let pieces = fragments(WAN, client.0, vip.0, &body, 1400);
                    let mut outs = Vec::new();
                    for &which in &order {
                        outs.extend(director.send(0, &pieces[which]));
                    }
                    let (src, dst, got) = reassembled(&outs);
                    let ends = (src, u16::from_be_bytes([got[0], got[1]]));
                    assert_eq!((dst, &got[2..4]), (addr(back.3), &5300u16.to_be_bytes()[..]));
                    let pseudo = pseudo_header_of(src, dst, ipv4::UDP, got.len());
                    assert_eq!(fold(pseudo + sum(&got)), 0xffff);
                    assert_eq!(got[8..], data[..]);
                    // The answer, in pieces too, last one first.
                    let body = datagram(end(back.3, 5300), ends, &data);
                    let mut outs = Vec::new();
                    for piece in fragments(LAN, addr(back.3), ends.0, &body, 1400).iter().rev() {
                        outs.extend(director.send(1, piece));
                    }
                    let (src, dst, got) = reassembled(&outs);
                    assert_eq!((src, dst), (vip.0, client.0));
                    assert_eq!(got, datagram(vip, client, &data));
                }
                assert_eq!(director.drops(), vec![]);
                let [_, in_packets, out_packets, ..] = director.program.counters()[0].traffic.totals();
                assert_eq!((in_packets, out_packets), (3, 3));
            }
        }
    }
}

#[test]
fn fragments_without_a_first_one_go_nowhere() {
    let mut director = Director::new(3, &service("10.0.0.100:53", "udp", "10.1.0.11:53", "nat", ""));
    let (client, vip) = (end("10.0.0.2", 40001), end("10.0.0.100", 53));
    let pieces = fragments(WAN, client.0, vip.0, &datagram(client, vip, &[1; 3000]), 1400);
    assert_eq!(director.send(0, &pieces[1]).len() + director.send(0, &pieces[2]).len(), 0);
    assert_eq!(director.wait(5 * SECOND).len(), 0);
    expect_drops!(director, "fragment-timeout": 2);
}

#[test]
fn an_error_from_the_other_family_is_translated() {
    let service = service("[fd00:1::100]:80", "tcp", "10.1.0.11:8000", "fullnat", "local-pool = \"inside\"");
    let mut director = Director::new(3, &service);
    let (client, vip) = (end(CLIENT6.0, CLIENT6.1), end("fd00:1::100", 80));
    let [local, server] = handshake(&mut director, client, vip);
    // A router behind the director: the segment was too big for its link of 1400 bytes.
    let about = segment(LAN, local, server, ACK, &[0; 100]);
    let mut body = vec![0; icmp::HEADER];
    icmp::emit(&mut body, icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, 1400);
    body.extend_from_slice(&about[l3(&about)..]);
    icmp::Message::new_checked(&mut body[..]).unwrap().fill_checksum();
    let outs = director.send(1, &packet(LAN, server.0, local.0, ipv4::ICMP, &body));
    let out = one(outs, &director);
    let (protocol, from, to, message) = seen(&out);
    assert_eq!((protocol, from.0, to.0), (ipv6::ICMP, vip.0, client.0));
    assert_eq!(message[..2], [icmpv6::PACKET_TOO_BIG, 0]);
    assert_eq!(message[4..8], 1420u32.to_be_bytes());
    let quoted = ipv6::Packet::new_quoted(&message[8..]).unwrap();
    assert_eq!((IpAddr::V6(quoted.src()), IpAddr::V6(quoted.dst())), (client.0, vip.0));
    assert_eq!(message[48..52], [&client.1.to_be_bytes()[..], &80u16.to_be_bytes()].concat());
    assert_eq!(director.happened(Event::ForwardedIcmp), 1);

    // And the client's side reports to the server.
    let about = segment(WAN, vip, client, ACK, &[0; 100]);
    let mut body = vec![0; icmp::HEADER];
    icmp::emit(&mut body, icmpv6::PACKET_TOO_BIG, 0, 1300);
    body.extend_from_slice(&about[l3(&about)..]);
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (client.0, vip.0) else { unreachable!() };
    icmpv6::fill_checksum(&mut body, src, dst);
    let outs = director.send(0, &packet(WAN, client.0, vip.0, ipv6::ICMP, &body));
    let (protocol, from, to, message) = seen(&one(outs, &director));
    assert_eq!((protocol, from.0, to.0), (ipv4::ICMP, local.0, server.0));
    assert_eq!(message[..2], [icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED]);
    assert_eq!(message[4..8], 1280u32.to_be_bytes());
}

/// An ICMP "too big" by a router of the servers' link about a packet that the director sent.
fn too_big(from: &str, about: &Out, mtu: u32, quote: usize) -> Vec<u8> {
    let about = &about.frame[l3(&about.frame)..];
    let director = ip::Packet::new_checked(about).unwrap().src();
    let v6 = director.is_ipv6();
    let (kind, code) = if v6 { (icmpv6::PACKET_TOO_BIG, 0) } else { (icmp::UNREACHABLE, 4) };
    let mut body = vec![0; icmp::HEADER];
    icmp::emit(&mut body, kind, code, mtu);
    body.extend_from_slice(&about[..about.len().min(quote)]);
    match (addr(from), director) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            icmpv6::fill_checksum(&mut body, src, dst);
        }
        _ => icmp::Message::new_checked(&mut body[..]).unwrap().fill_checksum(),
    }
    packet(LAN, addr(from), director, if v6 { ipv6::ICMP } else { ipv4::ICMP }, &body)
}

#[test]
fn the_path_into_a_tunnel_tells_its_mtu() {
    for (vip, client, server) in [
        ("10.0.0.100:80", "10.0.0.2", "10.1.0.11"),
        ("[fd00:1::100]:80", CLIENT6.0, "fd00:2::11"),
        ("[fd00:1::100]:80", CLIENT6.0, "10.1.0.11"),
        ("10.0.0.100:80", "10.0.0.2", "fd00:2::11"),
    ] {
        for (workers, local) in [(1, false), (3, false), (1, true), (3, true)] {
            let port = if server.contains(':') { format!("[{server}]:80") } else { format!("{server}:80") };
            let (own, pool, inside) = match server.contains(':') {
                true => ("fd00:2::1", "inside6", "fd00:2::200"),
                false => ("10.1.0.1", "inside", "10.1.0.200"),
            };
            let (forward, pool, own) = match local {
                true => ("tun\"\ntunnel-source = \"local", format!("local-pool = \"{pool}\""), inside),
                false => ("tun", String::new(), own),
            };
            let mut director = Director::new(workers, &service(vip, "tcp", &port, forward, &pool));
            let vip = vip.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
            let ends = (end(client, 40001), end(vip, 80));
            director.send(0, &segment(WAN, ends.0, ends.1, SYN, b""));
            let outs = director.send(0, &segment(WAN, ends.0, ends.1, ACK, &[7; 1360]));
            let large = one(outs, &director);
            let outer = ip::Packet::new_checked(&large.frame[l3(&large.frame)..]).unwrap().src();
            assert_eq!(outer, addr(own));
            let overhead = if server.contains(':') { ipv6::HEADER } else { ipv4::HEADER } as u32;

            let outs = director.send(1, &too_big(server, &large, 1350, 1000));
            let told = one(outs, &director);
            let (protocol, src, dst, message) = seen(&told);
            let v6 = client.contains(':');
            assert_eq!((src.0, dst.0), (addr(vip), addr(client)));
            let kind =
                if v6 { (ipv6::ICMP, icmpv6::PACKET_TOO_BIG) } else { (ipv4::ICMP, icmp::UNREACHABLE) };
            assert_eq!((protocol, message[0]), kind);
            assert_eq!(message[4..8], (1350 - overhead).to_be_bytes());
            let about = ip::Packet::new_quoted(v6, &message[8..]).unwrap();
            assert_eq!((about.src(), about.dst()), (addr(client), addr(vip)));

            // From now on the director knows by itself, whichever worker's flow it is.
            for port in 40001..40010 {
                let client = end(client, port);
                director.send(0, &segment(WAN, client, ends.1, SYN, b""));
                let outs = director.send(0, &segment(WAN, client, ends.1, ACK, &[7; 1360]));
                let (_, _, _, message) = seen(&one(outs, &director));
                assert_eq!(message[4..8], (1350 - overhead).to_be_bytes());
            }
            expect_drops!(director, "too-big": 9);
        }
    }
}

#[test]
fn a_short_quote_of_a_tunnel_still_tells_the_mtu() {
    let mut director = Director::new(3, &service("10.0.0.100:80", "tcp", "10.1.0.11:80", "tun", ""));
    let ends = (end("10.0.0.2", 40001), end("10.0.0.100", 80));
    let outs = director.send(0, &segment(WAN, ends.0, ends.1, SYN, b""));
    let syn = one(outs, &director);
    assert_eq!(director.send(1, &too_big("10.1.0.11", &syn, 1000, 28)).len(), 0);
    assert_eq!(director.happened(Event::PathMtuLearned), 1);
    let outs = director.send(0, &segment(WAN, ends.0, ends.1, ACK, &[7; 1000]));
    let (_, _, _, message) = seen(&one(outs, &director));
    assert_eq!((message[0], &message[4..8]), (icmp::UNREACHABLE, &980u32.to_be_bytes()[..]));
}

/// An ICMP message to an address in pieces of `size`.
fn icmp_pieces(to: [u8; 6], src: IpAddr, dst: IpAddr, message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let v6 = src.is_ipv6();
    let protocol = if v6 { ipv6::ICMP } else { ipv4::ICMP };
    let mut message = message.to_vec();
    match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            icmpv6::fill_checksum(&mut message, src, dst);
        }
        _ => icmp::Message::new_checked(&mut message[..]).unwrap().fill_checksum(),
    }
    let mut pieces = fragments(to, src, dst, &message, size);
    for piece in &mut pieces {
        let at = l3(piece);
        if v6 {
            piece[at + ipv6::HEADER] = protocol;
        } else {
            piece[at + 9] = protocol;
            ipv4::Packet::new_checked(&mut piece[at..]).unwrap().fill_checksum();
        }
    }
    pieces
}

fn right_sum(src: IpAddr, dst: IpAddr, body: &[u8]) {
    let pseudo = if src.is_ipv6() { pseudo_header_of(src, dst, ipv6::ICMP, body.len()) } else { 0 };
    assert_eq!(fold(pseudo + sum(body)), 0xffff, "checksum of {body:02x?}");
}

#[test]
fn a_large_ping_is_answered_in_the_same_pieces() {
    for (vip, client) in [("10.0.0.100", "10.0.0.2"), ("fd00:1::1", CLIENT6.0)] {
        for order in [[0, 1, 2], [2, 0, 1]] {
            let mut director = Director::new(3, &service("10.0.0.100:53", "udp", "10.1.0.11:53", "nat", ""));
            let v6 = vip.contains(':');
            let (ask, answer) = if v6 { (128, 129) } else { (8, 0) };
            let mut message = vec![ask, 0, 0, 0, 1, 2, 3, 4];
            message.extend((0..3000u32).map(|i| i as u8));
            let pieces = icmp_pieces(WAN, addr(client), addr(vip), &message, 1400);
            let outs: Vec<Out> = order.iter().flat_map(|&which| director.send(0, &pieces[which])).collect();
            let (src, dst, body) = reassembled(&outs);
            assert_eq!((src, dst), (addr(vip), addr(client)));
            right_sum(src, dst, &body);
            assert_eq!((body[0], &body[4..]), (answer, &message[4..]));
            assert_eq!(director.drops(), vec![]);
        }
    }
}

#[test]
fn an_error_in_pieces_is_translated_in_pieces() {
    for (vip, client, server) in
        [("10.0.0.100", "10.0.0.2", "10.1.0.11"), ("fd00:1::100", CLIENT6.0, "fd00:2::11")]
    {
        let bracket =
            |a: &str, port| if a.contains(':') { format!("[{a}]:{port}") } else { format!("{a}:{port}") };
        let mut director =
            Director::new(3, &service(&bracket(vip, 80), "tcp", &bracket(server, 8000), "nat", ""));
        handshake(&mut director, end(client, 40001), end(vip, 80));
        let about = segment(WAN, end(vip, 80), end(client, 40001), ACK, &[9; 300]);
        let mut message = vec![if vip.contains(':') { 1 } else { 3 }, 3, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&about[l3(&about)..]);
        let pieces = icmp_pieces(WAN, addr(client), addr(vip), &message, 104);
        let outs: Vec<Out> = pieces.iter().rev().flat_map(|piece| director.send(0, piece)).collect();
        let (src, dst, body) = reassembled(&outs);
        assert_eq!((src, dst), (addr(client), addr(server)));
        right_sum(src, dst, &body);
        let quoted = ip::Packet::new_quoted(vip.contains(':'), &body[8..]).unwrap();
        assert_eq!((quoted.src(), quoted.dst()), (addr(server), addr(client)));
    }
}
