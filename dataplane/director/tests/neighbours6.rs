//! Neighbour discovery and multicast listening: questions answered, asked, announced; what is not believed.

mod harness;

use std::net::Ipv6Addr;

use fulcrum_director::{Event, SECOND};
use fulcrum_packet::ndisc::{self, Advertisement, Solicitation};
use fulcrum_packet::{ethernet, icmpv6, ipv6, mld};
use harness::*;

const NET6: &str = r#"
[[interface]]
name = "wan6"
port = "wan"
vlan = 6
addresses = ["fd00:1::1/64"]
[[service]]
address = "[fd00:1::100]:53"
protocol = "udp"
scheduler = "rr"
[[service.server]]
address = "[fd00:1::11]:53"
forward = "nat"
"#;

const OWN: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100);
const HOST: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x11);
/// What the MAC address of wan makes.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x101);

fn frame6(mac: [u8; 6], src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, next: u8, body: &[u8]) -> Vec<u8> {
    let l3 = ethernet::header_len(6);
    let mut frame = vec![0; l3 + ipv6::HEADER];
    ethernet::emit(&mut frame, mac, PEER, 6, ethernet::IPV6);
    let (traffic_class, flow_label, payload_len) = (0, 0, body.len() as u16);
    ipv6::Header { traffic_class, flow_label, payload_len, next_header: next, hop_limit, src, dst }
        .emit(&mut frame[l3..]);
    frame.extend_from_slice(body);
    frame
}

fn solicitation(src: Ipv6Addr, target: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let dst = ndisc::solicited_node(target);
    let mut body = vec![0; ndisc::LEN_WITH_ADDRESS];
    let source_mac = (!src.is_unspecified()).then_some(PEER);
    let length = Solicitation { target, source_mac }.emit(&mut body, src, dst);
    frame6(ndisc::multicast_mac(dst), src, dst, hop_limit, ipv6::ICMP, &body[..length])
}

fn advertisement(target: Ipv6Addr, mac: [u8; 6], replaces: bool) -> Vec<u8> {
    let mut body = vec![0; ndisc::LEN_WITH_ADDRESS];
    let answer = Advertisement { target, target_mac: Some(mac), router: false, solicited: true, replaces };
    let length = answer.emit(&mut body, target, OWN);
    frame6(WAN, target, OWN, 255, ipv6::ICMP, &body[..length])
}

/// Ethernet destination, ends, and the message of what came out.
fn message(out: &Out) -> ([u8; 6], Ipv6Addr, Ipv6Addr, Vec<u8>) {
    let frame = ethernet::Frame::new_checked(&out.frame[..]).unwrap();
    assert_eq!((frame.vlan(), frame.src()), (6, WAN));
    let ip = ipv6::Packet::new_checked(&out.frame[frame.header_len()..]).unwrap();
    let upper = ip.upper().unwrap();
    let body = &out.frame[frame.header_len() + upper.offset..];
    (frame.dst(), ip.src(), ip.dst(), body.to_vec())
}

fn answer_of(out: &Out) -> ([u8; 6], Ipv6Addr, Advertisement) {
    let (mac, src, dst, body) = message(out);
    (mac, dst, Advertisement::parse(&body, src, dst).unwrap())
}

#[test]
fn questions_for_our_addresses_are_answered_by_whichever_worker_gets_them() {
    for target in [OWN, VIP6, LINK_LOCAL] {
        let mut director = Director::new(3, NET6);
        for _ in 0..3 {
            let outs = director.send(0, &solicitation(HOST, target, 255));
            let (mac, dst, answer) = answer_of(&outs[0]);
            assert_eq!((outs.len(), mac, dst), (1, PEER, HOST));
            assert_eq!((answer.target, answer.target_mac), (target, Some(WAN)));
            assert!(answer.solicited && answer.replaces && answer.router);
        }
        assert_eq!(director.happened(Event::NdReplied), 3);
        assert_eq!(director.drops(), vec![]);
    }
}

#[test]
fn who_looks_for_duplicates_is_told_by_all_nodes() {
    let mut director = Director::new(1, NET6);
    let outs = director.send(0, &solicitation(Ipv6Addr::UNSPECIFIED, VIP6, 255));
    let (mac, dst, answer) = answer_of(&outs[0]);
    assert_eq!((mac, dst), ([0x33, 0x33, 0, 0, 0, 1], ndisc::ALL_NODES));
    assert!(!answer.solicited);
}

#[test]
fn what_comes_from_beyond_the_link_or_is_not_about_us_is_dropped_by_name() {
    let mut director = Director::new(3, NET6);
    director.send(0, &solicitation(HOST, VIP6, 254));
    director.send(0, &solicitation(HOST, SERVER, 255));
    director.send(0, &advertisement(SERVER, PEER, true));
    expect_drops!(director, "bad-nd": 1, "nd-not-ours": 1, "nd-ignored": 1);
}

#[test]
fn an_address_of_ours_is_defended_but_not_in_a_duel() {
    let mut director = Director::new(3, NET6);
    let outs = director.send(0, &advertisement(VIP6, PEER, true));
    let (mac, dst, answer) = answer_of(&outs[0]);
    assert_eq!((mac, dst, answer.target), ([0x33, 0x33, 0, 0, 0, 1], ndisc::ALL_NODES, VIP6));
    assert_eq!(director.send(0, &advertisement(VIP6, PEER, true)).len(), 0);
    assert_eq!(director.send(0, &solicitation(VIP6, OWN, 255)).len(), 0);
    expect_drops!(director, "nd-conflict": 3);
    assert_eq!(director.claims(), [(VIP6.into(), PEER)]);
}

#[test]
fn a_packet_waits_for_its_neighbour() {
    let mut director = Director::new(3, NET6);
    // The client is heard of when it asks; the server is asked for.
    director.send(0, &solicitation(HOST, VIP6, 255));
    let datagram = [0x9c, 0x41, 0, 53, 0, 9, 0, 0, 7];
    let outs = director.send(0, &frame6(WAN, HOST, VIP6, 64, 17, &datagram));
    let (mac, src, dst, body) = message(&outs[0]);
    assert_eq!((outs.len(), mac, dst), (1, [0x33, 0x33, 0xff, 0, 0, 0x11], ndisc::solicited_node(SERVER)));
    assert_eq!(src, OWN, "never a VIP, nor another link's address");
    let question = Solicitation::parse(&body, src, dst).unwrap();
    assert_eq!((question.target, question.source_mac), (SERVER, Some(WAN)));
    let mac = [2, 0, 0, 0, 9, 0x11];
    let outs = director.send(0, &advertisement(SERVER, mac, true));
    let (to, src, dst, _) = message(&outs[0]);
    assert_eq!((outs.len(), to, src, dst), (1, mac, HOST, SERVER));
    // Another address counts when it is said to replace, and not within a second.
    director.wait(2 * SECOND);
    director.send(0, &advertisement(SERVER, [2, 0, 0, 0, 9, 0x12], false));
    let again = |director: &mut Director| {
        message(&director.send(0, &frame6(WAN, HOST, VIP6, 64, 17, &datagram))[0]).0
    };
    assert_eq!(again(&mut director), mac);
    director.send(0, &advertisement(SERVER, [2, 0, 0, 0, 9, 0x12], true));
    assert_eq!(again(&mut director), [2, 0, 0, 0, 9, 0x12]);
}

#[test]
fn addresses_that_come_up_are_announced_and_listened_for() {
    let mut director = Director::with(1, NET6, |config| config.announce = true);
    let outs = director.wait(5 * SECOND);
    let six = |out: &&Out| ethernet::Frame::new_checked(&out.frame[..]).unwrap().vlan() == 6;
    let messages: Vec<_> = outs.iter().filter(six).map(message).collect();
    let announced = |address| {
        let of = |(mac, src, dst, body): &&([u8; 6], Ipv6Addr, Ipv6Addr, Vec<u8>)| {
            body[0] == icmpv6::NEIGHBOUR_ADVERTISEMENT
                && *mac == [0x33, 0x33, 0, 0, 0, 1]
                && Advertisement::parse(body, *src, *dst).is_ok_and(|answer| answer.target == address)
        };
        messages.iter().filter(of).count()
    };
    assert_eq!([OWN, VIP6, LINK_LOCAL].map(announced), [2, 2, 2]);
    let listening = messages.iter().filter(|message| message.3[0] == icmpv6::LISTENER_REPORT_2);
    assert_eq!(listening.clone().count(), 6);
    assert!(listening.clone().all(|(mac, src, dst, _)| {
        (*mac, *src, *dst) == ([0x33, 0x33, 0, 0, 0, 0x16], LINK_LOCAL, mld::ROUTERS)
    }));
}

#[test]
fn a_query_is_answered_with_all_groups() {
    let mut director = Director::new(3, NET6);
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    let mut query = vec![0; 28];
    query[0] = icmpv6::LISTENER_QUERY;
    icmpv6::fill_checksum(&mut query, router, ndisc::ALL_NODES);
    let mac = ndisc::multicast_mac(ndisc::ALL_NODES);
    let outs = director.send(0, &frame6(mac, router, ndisc::ALL_NODES, 1, ipv6::ICMP, &query));
    let (_, src, dst, body) = message(&outs[0]);
    assert_eq!((outs.len(), src, dst), (1, LINK_LOCAL, mld::ROUTERS));
    let mut groups: Vec<_> = body[8..].chunks(20).map(|record| record[4..].to_vec()).collect();
    groups.sort();
    groups.dedup();
    let mut expected: Vec<_> =
        [OWN, VIP6, LINK_LOCAL].map(|address| ndisc::solicited_node(address).octets().to_vec()).into();
    expected.sort();
    assert_eq!(groups, expected);
}
