//! The exception path: what goes up to the host, how much of it, and what becomes of what the host sends.

mod harness;

use std::net::Ipv4Addr;

use fulcrum_director::exception::Class;
use fulcrum_director::{Event, SECOND};
use fulcrum_packet::tcp::{ACK, RST, SYN};
use fulcrum_packet::{arp, ethernet, icmp, ipv4};
use fulcrum_program::Probe;
use harness::*;

/// The host's own, and one that the director has on wan too.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const BOTH: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const WAN_INTERFACE: u16 = 0;
const GROUP_OSPF: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 5);

const SERVICE: &str = r#"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "10.1.0.11:8000"
forward = "nat"
"#;

fn director(workers: u16, more: &str) -> Director {
    Director::hosted(workers, &format!("{SERVICE}{more}"), &["10.0.0.5", "10.0.0.1"], |_| {})
}

/// What went up since the last time: class and frame.
fn up(director: &mut Director) -> Vec<(Class, Vec<u8>)> {
    director
        .up
        .drain(..)
        .map(|(interface, class, frame)| {
            assert_eq!(interface, WAN_INTERFACE);
            (class, frame)
        })
        .collect()
}

fn classes(director: &mut Director) -> Vec<Class> {
    up(director).into_iter().map(|(class, _)| class).collect()
}

fn ask(spa: Ipv4Addr, tpa: Ipv4Addr, sha: [u8; 6]) -> Vec<u8> {
    arp_frame(ethernet::BROADCAST, arp::Packet { operation: arp::REQUEST, sha, spa, tha: [0; 6], tpa })
}

/// An Ethernet frame of the host.
fn of_host(mut frame: Vec<u8>, to: [u8; 6]) -> Vec<u8> {
    ethernet::set_addresses(&mut frame, to, WAN);
    frame
}

fn to_group(mac: [u8; 6], dst: Ipv4Addr, protocol: u8) -> Vec<u8> {
    frame(mac, CLIENT, dst, protocol, &[0; 24])
}

#[test]
fn packets_to_the_host_go_up_as_they_came_and_sessions_stay_where_they_are() {
    for workers in [1, 3] {
        let mut director = director(workers, "");
        for (host, class, packet) in [
            (HOST, Class::Management, tcp_frame(WAN, (CLIENT, 4000), (HOST, 22), SYN, b"")),
            (HOST, Class::Routing, tcp_frame(WAN, (CLIENT, 4000), (HOST, 179), SYN, b"")),
            (HOST, Class::Rest, tcp_frame(WAN, (CLIENT, 4000), (HOST, 8080), SYN, b"")),
            (BOTH, Class::Management, tcp_frame(WAN, (CLIENT, 4000), (BOTH, 22), SYN, b"")),
            (BOTH, Class::Answers, tcp_frame(WAN, (CLIENT, 443), (BOTH, 4000), SYN | ACK, b"")),
            (BOTH, Class::Rest, udp_frame(WAN, (CLIENT, 53), (BOTH, 4000), b"answer")),
        ] {
            for worker in 0..workers {
                assert_eq!(director.send_by(worker.into(), 0, &packet), [], "to {host}");
                assert_eq!(up(&mut director), [(class, packet.clone())], "to {host}");
            }
        }
        let outs = director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (VIP, 80), SYN, b""));
        assert_eq!((outs.len(), outs[0].port), (1, 1), "a service's packet goes to its server");
        assert_eq!(up(&mut director), []);
        expect_drops!(director);
    }
}

#[test]
fn what_the_host_does_not_have_is_refused_as_ever() {
    let mut director = director(1, "");
    let outs = director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (VIP, 81), SYN, b""));
    assert_eq!(outs[0].body()[13], RST | ACK);
    // Once the host has the VIP too, its other ports are the host's.
    director.host_has(&["10.0.0.5", "lo 10.0.0.100"]);
    assert_eq!(director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (VIP, 81), SYN, b"")), []);
    assert_eq!(classes(&mut director), [Class::Rest]);
    assert_eq!(director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (VIP, 80), SYN, b""))[0].port, 1);
    expect_drops!(director, "no-service": 1);
}

#[test]
fn who_comes_by_a_link_without_a_twin_reaches_the_host_all_the_same() {
    let mut director = director(1, "");
    let packet = tcp_frame(LAN, (SERVER_B, 4000), (HOST, 22), SYN, b"");
    assert_eq!(director.send(1, &packet), []);
    let came = up(&mut director);
    assert_eq!((came[0].0, &came[0].1[..6], &came[0].1[6..]), (Class::Management, &WAN[..], &packet[6..]));
}

#[test]
fn answers_by_arp_reach_both_and_questions_whom_they_are_for() {
    let mut director = director(3, "");
    assert_eq!(director.send(0, &ask(CLIENT, HOST, PEER)), []);
    assert_eq!(classes(&mut director), [Class::Link]);
    assert_eq!(director.send(0, &ask(CLIENT, VIP, PEER)).len(), 1, "the director answers for a VIP");
    assert_eq!(director.send(0, &ask(CLIENT, BOTH, PEER)).len(), 1, "and for what both have");
    assert_eq!(up(&mut director), []);
    let stranger = Ipv4Addr::new(10, 0, 0, 77);
    assert_eq!(director.send(0, &ask(CLIENT, stranger, PEER)), []);
    expect_drops!(director, "arp-not-ours": 1);

    // The director waits for the answer, and Linux may.
    let server = Ipv4Addr::new(10, 0, 0, 78);
    director.send(1, &tcp_frame(LAN, (SERVER_A, 1), (server, 9), SYN, b""));
    let answer = arp::Packet { operation: arp::REPLY, sha: PEER, spa: server, tha: WAN, tpa: BOTH };
    let outs = director.send(0, &arp_frame(WAN, answer));
    assert_eq!(outs.len(), 1, "what waited for the neighbour goes out");
    assert_eq!(classes(&mut director), [Class::Link]);
    assert_eq!(director.happened(Event::NeighbourLearned), 1);
}

#[test]
fn groups_and_what_is_not_ip_go_up() {
    let mut director = director(1, "");
    director.send(0, &to_group([1, 0, 0x5e, 0, 0, 5], GROUP_OSPF, 89));
    let vrrp = to_group([1, 0, 0x5e, 0, 0, 18], Ipv4Addr::new(224, 0, 0, 18), 112);
    director.send(0, &with_ip(vrrp.clone(), |ip| ip[8] = 255));
    director.send(0, &vrrp);
    let mut lldp = vec![0; 60];
    ethernet::emit(&mut lldp, [1, 0x80, 0xc2, 0, 0, 0xe], PEER, 0, 0x88cc);
    director.send(0, &lldp);
    assert_eq!(classes(&mut director), [Class::Routing, Class::Routing, Class::Rest, Class::Link]);
    // By the link without a twin all of that is dropped as ever.
    for frame in [lldp, to_group([1, 0, 0x5e, 0, 0, 5], GROUP_OSPF, 89)] {
        assert_eq!(director.send(1, &frame), []);
    }
    expect_drops!(director, "unknown-ethertype": 1, "l2-multicast": 1);
}

#[test]
fn a_flood_takes_nothing_from_routing_daemons() {
    let mut director = director(1, "[exception]\nrest = 1000\n");
    for port in 0..5000 {
        director.send(0, &udp_frame(WAN, (CLIENT, port), (HOST, 9), b"flood"));
    }
    assert_eq!(up(&mut director).len(), 100, "a tenth of a second's");
    director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (HOST, 179), ACK, b"keepalive"));
    let bfd = udp_frame(WAN, (CLIENT, 49152), (HOST, 3784), &[0; 24]);
    director.send(0, &with_ip(bfd, |ip| ip[8] = 255));
    director.send(0, &tcp_frame(WAN, (CLIENT, 4000), (HOST, 22), ACK, b"ls"));
    assert_eq!(classes(&mut director), [Class::Routing, Class::Routing, Class::Management]);
    expect_drops!(director, "exception-policed-rest": 4900);
    let counted = |port: u16, class| {
        let of = director.counters[0].exception(port).of(class);
        (of.up.get(), of.policed.get())
    };
    assert_eq!((counted(0, Class::Rest), counted(0, Class::Routing)), ((100, 4900), (2, 0)));
    assert_eq!((counted(0, Class::Management), counted(1, Class::Rest)), ((1, 0), (0, 0)));
    director.wait(SECOND / 2);
    director.send(0, &udp_frame(WAN, (CLIENT, 1), (HOST, 9), b"later"));
    assert_eq!(classes(&mut director), [Class::Rest]);
}

#[test]
fn a_rate_is_that_of_all_workers_together() {
    let mut director = director(4, "[exception]\nrest = 1000\n");
    let flood = |director: &mut Director| {
        for port in 0..4000 {
            director.send_by(usize::from(port) % 4, 0, &udp_frame(WAN, (CLIENT, port), (HOST, 9), b"flood"));
        }
        up(director).len()
    };
    assert_eq!(flood(&mut director), 100, "a tenth of a second's");
    director.wait(SECOND / 20);
    // Another configuration with the same rates changes nothing of it.
    director.change(|state| state.exception.management_ports.push(8022));
    assert_eq!(flood(&mut director), 50);
}

#[test]
fn icmp_is_answered_for_the_directors_addresses_and_given_up_for_the_hosts() {
    let mut director = director(1, "");
    let ping = |kind, to| {
        let mut body = vec![0; 16];
        icmp::emit(&mut body, kind, 0, 7);
        icmp::Message::new_checked(&mut body[..]).unwrap().fill_checksum();
        frame(WAN, CLIENT, to, ipv4::ICMP, &body)
    };
    assert_eq!(director.send(0, &ping(icmp::ECHO_REQUEST, BOTH)).len(), 1);
    assert_eq!(director.send(0, &ping(icmp::ECHO_REQUEST, HOST)), []);
    assert_eq!(director.send(0, &ping(icmp::ECHO_REPLY, BOTH)), [], "an answer to the host's own");
    let about = tcp_frame(WAN, (BOTH, 4000), (CLIENT, 80), SYN, b"");
    assert_eq!(director.send(0, &error_frame(WAN, CLIENT, BOTH, icmp::UNREACHABLE, 3, &about)), []);
    assert_eq!(classes(&mut director), [Class::Rest; 3]);
    expect_drops!(director);
}

#[test]
fn an_answer_to_the_host_in_pieces_goes_up_in_pieces() {
    for (workers, backwards) in [(1, false), (3, false), (3, true)] {
        let mut director = director(workers, "");
        let mut body = vec![7; 1608];
        icmp::emit(&mut body, icmp::ECHO_REPLY, 0, 7);
        icmp::Message::new_checked(&mut body[..]).unwrap().fill_checksum();
        let (src, dst) = (CLIENT.into(), BOTH.into());
        let pieces = both::fragments(WAN, src, dst, &body, 800).into_iter();
        let mut pieces: Vec<_> = pieces.map(|piece| with_ip(piece, |ip| ip[9] = ipv4::ICMP)).collect();
        if backwards {
            pieces.reverse();
        }
        pieces.iter().for_each(|piece| assert_eq!(director.send(0, piece), []));
        let mut sent: Vec<_> = up(&mut director).into_iter().map(|(_, frame)| frame).collect();
        sent.sort();
        pieces.sort();
        assert_eq!(sent, pieces, "{workers} workers");
        expect_drops!(director);
    }
}

#[test]
fn what_the_host_sends_goes_out_as_it_is() {
    let mut director = director(3, "");
    for packet in [
        tcp_frame(PEER, (HOST, 4000), (CLIENT, 443), SYN, b""),
        ask(HOST, CLIENT, WAN),
        // Whether somebody has the address is not ours to say, even if we have.
        ask(Ipv4Addr::UNSPECIFIED, VIP, WAN),
        to_group([1, 0, 0x5e, 0, 0, 5], GROUP_OSPF, 89),
    ] {
        let packet = of_host(packet.clone(), packet[..6].try_into().unwrap());
        assert_eq!(director.send_from_host(WAN_INTERFACE, &packet), [Out { port: 0, frame: packet }]);
    }
    assert_eq!(director.happened(Event::ExceptionSent), 4);
    for short in 0..14 {
        assert_eq!(director.send_from_host(WAN_INTERFACE, &vec![0; short]), []);
    }
    assert_eq!(director.send_from_host(1, &ask(HOST, CLIENT, WAN)), [], "lan has no twin");
    expect_drops!(director, "truncated": 14, "exception-down": 1);
}

#[test]
fn the_tag_of_a_vlan_is_taken_off_on_the_way_up_and_put_on_on_the_way_out() {
    let vlan = "[[interface]]\nname = \"peering\"\nport = \"wan\"\nvlan = 30\nexception = \"fc-30\"\n\
                addresses = [\"10.30.0.1/24\"]\n";
    let mut director = director(1, vlan);
    let mut tagged = to_group([1, 0, 0x5e, 0, 0, 5], GROUP_OSPF, 89);
    let plain = tagged.clone();
    tagged.splice(12..12, [0x81, 0, 0, 30]);
    director.send(0, &tagged);
    assert_eq!(director.up.drain(..).collect::<Vec<_>>(), [(2, Class::Routing, plain.clone())]);
    assert_eq!(director.send_from_host(2, &plain), [Out { port: 0, frame: tagged }]);
}

#[test]
fn the_host_is_a_client_like_any_other() {
    for workers in [1, 3] {
        let mut director = director(workers, "");
        // It asks where the VIP is, and we tell.
        assert_eq!(director.send_from_host(WAN_INTERFACE, &ask(HOST, VIP, WAN)), []);
        let told = up(&mut director);
        let answer = arp::Packet::parse(&told[0].1[14..]).unwrap();
        assert_eq!((answer.operation, answer.sha, answer.spa, answer.tpa), (arp::REPLY, WAN, VIP, HOST));

        for client in [HOST, BOTH] {
            let outs = director.send_from_host(
                WAN_INTERFACE,
                &of_host(tcp_frame(WAN, (client, 4000), (VIP, 80), SYN, b""), WAN),
            );
            assert_eq!(outs[0].ends(), (client, 4000, SERVER_A, 8000));
            assert_eq!(outs[0].port, 1);
            let outs = director.send(1, &tcp_frame(LAN, (SERVER_A, 8000), (client, 4000), SYN | ACK, b""));
            assert_eq!(outs, []);
            let came = up(&mut director);
            assert_eq!(
                (came.len(), came[0].0, &came[0].1[..12]),
                (1, Class::Served, &[WAN, WAN].concat()[..])
            );
            let answer = Out { port: 0, frame: came[0].1.clone() };
            assert_eq!(answer.ends(), (VIP, 80, client, 4000));
            check_sums(&answer);
        }
        expect_drops!(director);
    }
}

const LOCAL: &str = r#"
[[service]]
address = "10.0.0.101:80"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "127.0.0.1:80"
forward = "local"
[[service]]
address = "10.0.0.100:82"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "10.0.0.5:8082"
forward = "nat"
"#;

#[test]
fn the_host_is_a_server_too() {
    for workers in [1, 3] {
        let mut director = director(workers, LOCAL);
        let local = Ipv4Addr::new(10, 0, 0, 101);
        let syn = tcp_frame(WAN, (CLIENT, 4000), (local, 80), SYN, b"");
        // Nobody on the host listens on an address that it has not got.
        assert_eq!(director.send(0, &syn)[0].body()[13], RST | ACK);
        expect_drops!(director, "local-server": 1);
        director.host_has(&["10.0.0.5", "10.0.0.1", "lo 10.0.0.101"]);
        for _ in 0..3 {
            assert_eq!(director.send(0, &syn), []);
        }
        let came = up(&mut director);
        assert_eq!((came.len(), came[0].0, &came[0].1[14..]), (3, Class::Served, &syn[14..]));
        assert_eq!(director.happened(Event::ForwardedLocal), 3);
        // Its answer is the VIP's already.
        let answer = of_host(tcp_frame(PEER, (local, 80), (CLIENT, 4000), SYN | ACK, b""), PEER);
        assert_eq!(director.send_from_host(WAN_INTERFACE, &answer), [Out { port: 0, frame: answer }]);
        assert_eq!(director.sessions().len(), 1);

        // By NAT to another address and port of the host.
        director.send(0, &tcp_frame(WAN, (CLIENT, 4001), (VIP, 82), SYN, b""));
        let came = Out { port: 0, frame: up(&mut director)[0].1.clone() };
        assert_eq!(came.ends(), (CLIENT, 4001, HOST, 8082));
        check_sums(&came);
        let answer = of_host(tcp_frame(PEER, (HOST, 8082), (CLIENT, 4001), SYN | ACK, b""), PEER);
        let outs = director.send_from_host(WAN_INTERFACE, &answer);
        assert_eq!(outs[0].ends(), (VIP, 82, CLIENT, 4001));
        check_sums(&outs[0]);
        // What is no session's goes out as it is.
        let other = of_host(tcp_frame(PEER, (HOST, 8082), (CLIENT, 4002), SYN | ACK, b""), PEER);
        assert_eq!(director.send_from_host(WAN_INTERFACE, &other), [Out { port: 0, frame: other }]);
    }
}

#[test]
fn without_a_twin_nothing_is_the_hosts() {
    let mut director = Director::new(1, SERVICE);
    for frame in [ask(CLIENT, HOST, PEER), tcp_frame(WAN, (CLIENT, 1), (BOTH, 22), SYN, b"")] {
        director.send(0, &frame);
    }
    assert!(director.up.is_empty());
    expect_drops!(director, "no-service": 1, "arp-not-ours": 1);
}

const METHODS: &str = r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
[[service]]
address = "10.0.0.102:80"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:80"
forward = "dr"
[[service.server]]
address = "10.1.0.12:8000"
forward = "fullnat"
[[service.server]]
address = "10.1.0.12:80"
forward = "tun"
"#;

/// A way of probes from a port to the `nth` server of the service of [`METHODS`].
fn probe(director: &Director, nth: usize, port: u16, from_local_address: bool) -> Probe {
    let service = &director.state.services[1];
    let (key, server) = (service.key, service.servers[nth].clone());
    Probe { port, service: key, server, from_local_address }
}

#[test]
fn a_probe_reaches_its_server_by_its_method_in_its_service_or_out_of_it() {
    for workers in [1, 3] {
        let mut director = director(workers, METHODS);
        let vip = Ipv4Addr::new(10, 0, 0, 102);
        let local = Ipv4Addr::new(10, 1, 0, 200);
        let probes = [(0, 50_000, false), (1, 50_001, false), (2, 50_002, false), (0, 50_003, true)];
        let probes = probes.map(|(nth, port, local)| probe(&director, nth, port, local));
        director.program.probes(probes.to_vec());
        director.change(|_| {});
        // Round robin would alternate; and then there are no servers at all.
        for round in 0..3 {
            if round == 2 {
                director.change(|state| state.services[1].servers.clear());
            }
            for _ in 0..3 {
                let syn = |port| of_host(tcp_frame(WAN, (HOST, port), (vip, 80), SYN, b""), WAN);
                let dr = director.send_from_host(WAN_INTERFACE, &syn(50_000));
                assert_eq!((dr.len(), dr[0].ends()), (1, (HOST, 50_000, vip, 80)), "round {round}");
                let fullnat = director.send_from_host(WAN_INTERFACE, &syn(50_001));
                let (src, port, dst, dport) = fullnat[0].ends();
                assert_eq!((src, dst, dport), (local, SERVER_B, 8000));
                let tun = director.send_from_host(WAN_INTERFACE, &syn(50_002));
                assert_eq!((tun[0].ip().protocol(), tun[0].ip().dst()), (4, SERVER_B));
                let (src, _, dst, dport) = director.send_from_host(WAN_INTERFACE, &syn(50_003))[0].ends();
                assert_eq!((src, dst, dport), (local, SERVER_A, 80));
                // A DR server answers by itself, from the VIP.
                director.up.clear();
                let answer = tcp_frame(LAN, (vip, 80), (HOST, 50_000), SYN | ACK, b"");
                assert_eq!(director.send(1, &answer), []);
                assert_eq!(classes(&mut director), [Class::Answers]);
                // Other answers come back to the host's socket, and the rest of the connection goes the same way.
                director.up.clear();
                let answer = tcp_frame(LAN, (SERVER_B, 8000), (local, port), SYN | ACK, b"");
                assert_eq!(director.send(1, &answer), []);
                let came = Out { port: 0, frame: up(&mut director)[0].1.clone() };
                assert_eq!(came.ends(), (vip, 80, HOST, 50_001));
                let ack = of_host(tcp_frame(WAN, (HOST, 50_001), (vip, 80), ACK, b"GET"), WAN);
                assert_eq!(
                    director.send_from_host(WAN_INTERFACE, &ack)[0].ends(),
                    (local, port, SERVER_B, 8000)
                );
            }
        }
        // Whoever sends from such a port, but is not the host, is a client.
        let outs = director.send(0, &tcp_frame(WAN, (CLIENT, 50_000), (vip, 80), SYN, b""));
        assert!(outs.is_empty() || outs[0].port == 0, "no server is left: {outs:?}");
        let [connections, ..] = director.program.counters()[1].traffic.totals();
        assert_eq!(connections, 0, "probes are no connections of clients");
        director.program.probes(Vec::new());
        director.change(|_| {});
        director.wait(1000 * SECOND);
        director.change(|_| {});
        assert_eq!(director.sessions().len(), 0);
    }
}
