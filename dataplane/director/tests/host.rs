//! What the director does as a station and host on its links: ARP, ping, VLANs, routing, fragments.

mod harness;

use std::net::Ipv4Addr;

use fulcrum_director::{Event, Reason, SECOND};
use fulcrum_model::{Protocol, ServiceKey};
use fulcrum_packet::tcp::{ACK, SYN};
use fulcrum_packet::{arp, ethernet, icmp, ipv4};
use harness::*;

const SERVICE: &str = r#"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "10.1.0.77:8000"
forward = "nat"
"#;

/// The server of [`SERVICE`], which nobody introduced.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 77);
const STRANGER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 0x77];

fn arp_of(out: &Out) -> arp::Packet {
    arp::Packet::parse(&out.frame[14..]).expect("an ARP packet")
}

fn answer(from: [u8; 6]) -> Vec<u8> {
    let reply = arp::Packet {
        operation: arp::REPLY,
        sha: from,
        spa: STRANGER,
        tha: LAN,
        tpa: Ipv4Addr::new(10, 1, 0, 1),
    };
    arp_frame(LAN, reply)
}

fn syn(port: u16) -> Vec<u8> {
    tcp_frame(WAN, (CLIENT, port), (VIP, 80), SYN, b"")
}

fn request(spa: Ipv4Addr, tpa: Ipv4Addr) -> Vec<u8> {
    let packet = arp::Packet { operation: arp::REQUEST, sha: PEER, spa, tha: [0; 6], tpa };
    arp_frame(ethernet::BROADCAST, packet)
}

#[test]
fn packets_wait_for_an_unknown_next_hop_and_leave_in_order() {
    for workers in [1, 3] {
        let mut director = Director::new(workers, SERVICE);
        let outs = director.send(0, &syn(101));
        assert_eq!(outs.len(), 1);
        let question = arp_of(&outs[0]);
        assert_eq!((question.operation, question.tpa), (arp::REQUEST, STRANGER));
        assert_eq!((question.spa.octets(), &outs[0].frame[..6]), ([10, 1, 0, 1], &ethernet::BROADCAST[..]));
        for port in 102..120 {
            assert_eq!(director.send(0, &syn(port)), []);
        }
        let outs = director.send(1, &answer(STRANGER_MAC));
        let ports: Vec<_> = outs.iter().map(|out| out.ends().1).collect();
        assert_eq!(ports, (101..120).collect::<Vec<_>>());
        assert!(outs.iter().all(|out| out.frame[..6] == STRANGER_MAC));
        assert_eq!(director.send(0, &syn(120)).len(), 1);
        expect_drops!(director);
    }
}

#[test]
fn a_next_hop_that_does_not_answer_costs_its_packets_by_name() {
    let mut director = Director::new(2, SERVICE);
    director.send(0, &syn(1));
    let questions = director.wait(4 * SECOND);
    assert_eq!(questions.len(), 2, "three questions in all");
    expect_drops!(director, "neighbour-failed": 1);
    // A packet that is merely routed there: its sender is told.
    let outs = director.send(0, &tcp_frame(WAN, (CLIENT, 5), (STRANGER, 22), SYN, b""));
    assert_eq!(outs[0].body()[..2], [icmp::UNREACHABLE, icmp::HOST_UNREACHABLE]);
}

#[test]
fn parked_packets_are_bounded() {
    let mut director = Director::new(1, SERVICE);
    for port in 101..=300 {
        director.send(0, &syn(port));
    }
    expect_drops!(director, "neighbour-queue-full": 72);
}

#[test]
fn pings_under_many_addresses_leave_room_for_services() {
    let mut director = Director::new(1, SERVICE);
    let mut ping = vec![icmp::ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, 0, 1, b'x'];
    icmp::Message::new_checked(&mut ping[..]).unwrap().fill_checksum();
    for n in 0..2000 {
        let stranger = Ipv4Addr::new(10, 0, 0, 10 + (n % 50) as u8);
        director.send(0, &frame(WAN, stranger, VIP, ipv4::ICMP, &ping));
    }
    assert!(director.happened(Event::Parked) > 0);
    assert_eq!(arp_of(&director.send(0, &syn(1))[0]).tpa, STRANGER);
    assert_eq!(director.send(1, &answer(STRANGER_MAC)).len(), 1);
    // Nobody is told about an answer of ours that did not get there, least of all we.
    let outs = director.wait(4 * SECOND);
    assert!(outs.iter().all(|out| out.frame[12..14] == [8, 6]), "only ARP");
}

#[test]
fn nobody_is_believed_who_was_not_asked() {
    let mut director = Director::new(1, SERVICE);
    assert_eq!(director.send(1, &answer(STRANGER_MAC)), []);
    expect_drops!(director, "arp-ignored": 1);
    assert_eq!(arp_of(&director.send(0, &syn(1))[0]).operation, arp::REQUEST);
    director.send(1, &answer(STRANGER_MAC));
    // A second answer at once is a flip-flop; two seconds later it is a move.
    director.send(1, &answer([2; 6]));
    assert_eq!(director.send(0, &syn(2))[0].frame[..6], STRANGER_MAC);
    director.wait(2 * SECOND);
    director.send(1, &answer([2; 6]));
    assert_eq!(director.send(0, &syn(3))[0].frame[..6], [2; 6]);
}

#[test]
fn own_addresses_and_vips_answer_arp_on_their_interface_alone() {
    let mut director = Director::new(2, SERVICE);
    for own in [Ipv4Addr::new(10, 0, 0, 1), VIP] {
        let outs = director.send(0, &request(CLIENT, own));
        let reply = arp_of(&outs[0]);
        assert_eq!((reply.operation, reply.sha, reply.spa, reply.tpa), (arp::REPLY, WAN, own, CLIENT));
        assert_eq!(outs[0].frame[..6], PEER);
        assert_eq!(director.send(1, &request(SERVER_A, own)), []);
    }
    assert_eq!(director.send(0, &request(CLIENT, Ipv4Addr::new(10, 0, 0, 77))), []);
    expect_drops!(director, "arp-not-ours": 3);
    // A probe is answered, and nothing learned.
    let outs = director.send(0, &request(Ipv4Addr::UNSPECIFIED, VIP));
    assert_eq!(arp_of(&outs[0]).spa, VIP);
}

#[test]
fn who_claims_our_address_is_answered_once_in_a_while() {
    let mut director = Director::new(1, SERVICE);
    let claim = request(VIP, VIP);
    let defence = director.send(0, &claim);
    assert_eq!((arp_of(&defence[0]).spa, arp_of(&defence[0]).sha), (VIP, WAN));
    assert_eq!(director.send(0, &claim), []);
    director.wait(11 * SECOND);
    assert_eq!(director.send(0, &claim).len(), 1);
    expect_drops!(director, "arp-conflict": 3);
    assert_eq!(director.claims(), [(VIP.into(), PEER)]);
    director.wait(601 * SECOND);
    director.send(0, &request(Ipv4Addr::new(10, 0, 0, 1), VIP));
    assert_eq!(director.claims(), [(Ipv4Addr::new(10, 0, 0, 1).into(), PEER)], "the other one is long ago");
}

#[test]
fn addresses_that_come_up_are_announced_twice() {
    let mut director = Director::with(1, SERVICE, |config| config.announce = true);
    let outs = director.wait(5 * SECOND);
    let mut announced: Vec<_> = outs.iter().map(|out| (out.port, arp_of(out).spa)).collect();
    announced.sort();
    let [wan, lan] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 1, 0, 1)];
    assert_eq!(announced, [(0, wan), (0, wan), (0, VIP), (0, VIP), (1, lan), (1, lan)]);
    director.change(|state| {
        let address = Ipv4Addr::new(10, 0, 0, 101).into();
        state.services[0].key = ServiceKey::new(Protocol::Tcp, address, 80);
    });
    assert_eq!(director.wait(5 * SECOND).len(), 2);
}

#[test]
fn a_vip_that_is_released_is_silent_until_it_is_taken_again() {
    for workers in [1, 3] {
        let mut director = Director::with(workers, SERVICE, |config| config.announce = true);
        director.wait(5 * SECOND);
        director.send(0, &syn(101));
        assert_eq!(director.send(1, &answer(STRANGER_MAC)).len(), 1);
        let data = tcp_frame(WAN, (CLIENT, 101), (VIP, 80), ACK, b"more");
        assert_eq!(director.send(0, &data).len(), 1);
        assert_eq!(director.send(0, &data).len(), 1, "the short way");

        director.change(|state| state.services[0].withheld = true);
        for frame in [syn(102), data.clone(), data.clone(), tcp_frame(WAN, (CLIENT, 9), (VIP, 22), SYN, b"")]
        {
            assert_eq!(director.send(0, &frame), []);
        }
        assert_eq!(director.send(0, &request(CLIENT, VIP)), []);
        // Whoever has it now is not contradicted.
        let theirs = arp::Packet { operation: arp::REQUEST, sha: PEER, spa: VIP, tha: [0; 6], tpa: VIP };
        assert_eq!(director.send(0, &arp_frame(ethernet::BROADCAST, theirs)), []);
        director.wait(3 * SECOND);
        assert_eq!(director.dropped(Reason::VipReleased), 4);
        assert_eq!(director.dropped(Reason::ArpConflict), 0);

        let before = director.happened(Event::ArpAnnounced);
        director.change(|state| state.services[0].withheld = false);
        let told: Vec<_> = director.wait(3 * SECOND).iter().filter(|out| out.port == 0).map(arp_of).collect();
        assert!(told.iter().all(|arp| (arp.spa, arp.tpa, arp.sha) == (VIP, VIP, WAN)), "{told:?}");
        assert_eq!(director.happened(Event::ArpAnnounced) - before, 2);
        assert_eq!(director.send(0, &request(CLIENT, VIP)).len(), 1);
        assert_eq!(director.send(0, &data).len(), 1, "its session is as it was");
    }
}

#[test]
fn pings_are_answered_and_nothing_else_of_icmp_is() {
    let mut director = Director::new(2, SERVICE);
    let mut ping = vec![icmp::ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, 0, 1, b'x'];
    icmp::Message::new_checked(&mut ping[..]).unwrap().fill_checksum();
    for own in [Ipv4Addr::new(10, 1, 0, 1), VIP] {
        let outs = director.send(0, &frame(WAN, CLIENT, own, ipv4::ICMP, &ping));
        check_sums(&outs[0]);
        assert_eq!((outs[0].ip().src(), outs[0].ip().dst(), outs[0].ip().ttl()), (own, CLIENT, 64));
        assert_eq!((outs[0].body()[0], &outs[0].body()[4..]), (icmp::ECHO_REPLY, &ping[4..]));
    }
    ping[2] ^= 1;
    assert_eq!(director.send(0, &frame(WAN, CLIENT, VIP, ipv4::ICMP, &ping)), []);
    expect_drops!(director, "bad-icmp-checksum": 1);
}

#[test]
fn errors_are_rate_limited() {
    let mut director = Director::new(1, SERVICE);
    let sent =
        (0..200).filter(|_| !director.send(0, &udp_frame(WAN, (CLIENT, 9), (VIP, 9), b"?")).is_empty());
    assert_eq!(sent.count(), 50);
    assert_eq!(director.happened(Event::IcmpLimited), 150);
    expect_drops!(director, "no-udp-service": 200);
}

#[test]
fn foreign_packets_are_routed_unless_that_is_off() {
    let mut director = Director::new(2, SERVICE);
    let packet = tcp_frame(WAN, (CLIENT, 1), (SERVER_A, 22), ACK, b"");
    let outs = director.send(0, &packet);
    assert_eq!((outs[0].port, outs[0].ip().ttl(), outs[0].ends()), (1, 63, (CLIENT, 1, SERVER_A, 22)));
    let dying = with_ip(packet.clone(), |ip| ip[8] = 1);
    let outs = director.send(0, &dying);
    assert_eq!((outs[0].ip().src().octets(), outs[0].body()[0]), ([10, 0, 0, 1], icmp::TIME_EXCEEDED));
    director.change(|state| state.settings.ip_forward = false);
    assert_eq!(director.send(0, &packet), []);
    expect_drops!(director, "ttl-expired": 1, "not-forwarding": 1);
}

#[test]
fn large_packets_are_cut_or_their_sender_told() {
    let mut director = Director::new(1, SERVICE);
    director.change(|state| state.interfaces[1].mtu = 600);
    let large = tcp_frame(WAN, (CLIENT, 1), (SERVER_A, 22), ACK, &[9; 1400]);
    let outs = director.send(0, &large);
    assert_eq!((outs.len(), &outs[0].body()[..2]), (1, &[icmp::UNREACHABLE, 4][..]));
    assert_eq!(outs[0].body()[6..8], 600u16.to_be_bytes());
    let outs = director.send(0, &with_ip(large.clone(), |ip| ip[6] = 0));
    outs.iter().for_each(check_sums);
    let whole: Vec<u8> = outs.iter().flat_map(|out| out.body().to_vec()).collect();
    assert_eq!((outs.len(), whole), (3, large[34..].to_vec()));
    let offsets: Vec<_> = outs.iter().map(|out| out.ip().fragment()).collect();
    assert_eq!(offsets, [0x2000, 0x2000 + 72, 144]);
}

#[test]
fn tagged_frames_belong_to_their_vlan() {
    let vlans = r#"
[[interface]]
name = "servers"
port = "lan"
vlan = 20
addresses = ["192.168.20.1/24"]
[[neighbour]]
address = "192.168.20.7"
mac = "02:00:00:00:20:07"
interface = "servers"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
[[service.server]]
address = "192.168.20.7:8080"
forward = "nat"
"#;
    for workers in [1, 2] {
        let mut director = Director::new(workers, vlans);
        let outs = director.send(0, &syn(1));
        let out = ethernet::Frame::new_checked(&outs[0].frame[..]).unwrap();
        assert_eq!((outs[0].port, out.vlan(), out.dst()), (1, 20, [2, 0, 0, 0, 0x20, 7]));
        check_sums(&outs[0]);
        let server = (Ipv4Addr::new(192, 168, 20, 7), 8080);
        let untagged = tcp_frame(LAN, server, (CLIENT, 1), SYN | ACK, b"");
        let mut tagged = untagged[..12].to_vec();
        tagged.extend_from_slice(&[0x81, 0, 0, 20]);
        tagged.extend_from_slice(&untagged[12..]);
        let outs = director.send(1, &tagged);
        assert_eq!((outs[0].port, outs[0].ends()), (0, (VIP, 80, CLIENT, 1)));
        tagged[15] = 21;
        assert_eq!(director.send(1, &tagged), []);
        expect_drops!(director, "unknown-vlan": 1);
    }
}

#[test]
fn what_no_host_takes_is_dropped_by_name() {
    let mut director = Director::new(2, SERVICE);
    let good = syn(1);
    let drop_of = |director: &mut Director, frame: &[u8], reason| {
        assert_eq!(director.send(0, frame), [], "{reason}");
        assert_eq!(director.dropped(reason), 1, "{reason}: {:?}", director.drops());
    };
    let mut other = good.clone();
    other[5] ^= 1;
    drop_of(&mut director, &other, Reason::OtherStation);
    other[..6].fill(0xff);
    drop_of(&mut director, &other, Reason::L2Multicast);
    let mut bad_sum = good.clone();
    bad_sum[24] ^= 1;
    drop_of(&mut director, &bad_sum, Reason::BadIpChecksum);
    drop_of(&mut director, &good[..30], Reason::BadIpHeader);
    drop_of(&mut director, &good[..13], Reason::Truncated);
    let short = with_ip(good.clone(), |ip| ip[3] = 30);
    drop_of(&mut director, &short, Reason::BadTransportHeader);
    let fragment = with_ip(good.clone(), |ip| ip[6] = 0x20);
    drop_of(&mut director, &fragment, Reason::BadFragment);
    let martian = with_ip(good.clone(), |ip| ip[12..16].copy_from_slice(&VIP.octets()));
    drop_of(&mut director, &martian, Reason::MartianSource);
    let multicast = with_ip(good.clone(), |ip| ip[16] = 224);
    drop_of(&mut director, &multicast, Reason::MartianDestination);
}
