//! What servers start themselves, on its way through the director: masqueraded by rules.

mod harness;

use std::net::Ipv4Addr;

use fulcrum_director::rss::{Part, toeplitz};
use fulcrum_director::{Event, SECOND, SessionView};
use fulcrum_model::{Snat, SnatProtocol};
use fulcrum_packet::tcp::{ACK, FIN, SYN};
use fulcrum_packet::{ethernet, icmp, icmpv6, ipv4, ipv6};
use harness::*;

const POOL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
/// A host somewhere behind the gateway of wan.
const WEB: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const DNS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

const RULES: &str = r#"
[[local-pool]]
name = "outside"
interface = "wan"
addresses = ["10.0.0.200"]
ports = "5000-5999"
[[snat]]
name = "inside"
source = "10.1.0.0/24"
destination = "10.0.0.0/24"
exempt = true
[[snat]]
name = "servers"
source = "10.1.0.0/24"
pool = "outside"
"#;

/// What came out, alone, with right checksums.
fn only(outs: Vec<Out>) -> Out {
    let [out] = <[Out; 1]>::try_from(outs).unwrap_or_else(|outs| panic!("one frame, not {outs:02x?}"));
    check_sums(&out);
    out
}

fn tcp_out(director: &mut Director, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> Out {
    only(director.send(1, &tcp_frame(LAN, from, to, flags, b"")))
}

fn tcp_back(director: &mut Director, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> Out {
    only(director.send(0, &tcp_frame(WAN, from, to, flags, b"")))
}

fn echo(to: [u8; 6], src: Ipv4Addr, dst: Ipv4Addr, kind: u8, identifier: u16, data: &[u8]) -> Vec<u8> {
    let mut body = vec![0; icmp::HEADER];
    icmp::emit(&mut body, kind, 0, u32::from(identifier) << 16 | 1);
    body.extend_from_slice(data);
    icmp::Message::new_checked(&mut body[..]).unwrap().fill_checksum();
    frame(to, src, dst, ipv4::ICMP, &body)
}

fn identifier(out: &Out) -> u16 {
    (icmp::Message::new_checked(out.body()).unwrap().rest() >> 16) as u16
}

fn view(director: &Director) -> SessionView {
    let sessions = director.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions[0]
}

/// What is counted for the rule `servers`: connections, packets and bytes of servers, of hosts, and sessions.
fn counted(director: &Director) -> (u64, u64, u64, u64) {
    let rule = director.program.snat_rules().find(|rule| rule.name == "servers").unwrap();
    let cells = &rule.counts.counters;
    (
        cells.sum(|c| &c.traffic.connections),
        cells.sum(|c| &c.traffic.in_packets),
        cells.sum(|c| &c.traffic.out_packets),
        cells.sum(|c| &c.active) + cells.sum(|c| &c.inactive),
    )
}

#[test]
fn a_server_talks_tcp_under_an_address_of_the_pool() {
    for workers in [1, 2, 3] {
        for misdirect in [false, true] {
            let mut director = Director::with(workers, RULES, |config| config.misdirect = misdirect);
            let (server, web) = ((SERVER_A, 40_000), (WEB, 443));
            let out = tcp_out(&mut director, server, web, SYN);
            assert_eq!(out.port, 0);
            let (src, port, dst, dport) = out.ends();
            assert_eq!((src, dst, dport), (POOL, WEB, 443));
            assert!((5000..6000).contains(&port));
            let seen = (POOL, port);
            let back = tcp_back(&mut director, web, seen, SYN | ACK);
            assert_eq!((back.port, back.ends()), (1, (WEB, 443, SERVER_A, 40_000)));
            for _ in 0..5 {
                assert_eq!(tcp_out(&mut director, server, web, ACK).ends(), (POOL, port, WEB, 443));
                assert_eq!(tcp_back(&mut director, web, seen, ACK).ends(), (WEB, 443, SERVER_A, 40_000));
            }
            assert_eq!(view(&director).state, "ESTABLISHED");
            assert_eq!(view(&director).local, Some((POOL.into(), port)));
            assert_eq!(counted(&director), (1, 6, 6, 1));
            tcp_out(&mut director, server, web, FIN | ACK);
            tcp_back(&mut director, web, seen, FIN | ACK);
            assert_eq!(view(&director).state, "TIME_WAIT");
            director.wait(200 * SECOND);
            assert_eq!((director.sessions().len(), counted(&director).3), (0, 0));
            expect_drops!(director);
        }
    }
}

#[test]
fn established_packets_take_the_short_way() {
    let mut director = Director::new(1, RULES);
    let (server, web) = ((SERVER_A, 40_000), (WEB, 443));
    let (_, port, ..) = tcp_out(&mut director, server, web, SYN).ends();
    tcp_back(&mut director, web, (POOL, port), SYN | ACK);
    tcp_out(&mut director, server, web, ACK);
    tcp_back(&mut director, web, (POOL, port), ACK);
    let before = director.counters[0].short_way.get();
    tcp_out(&mut director, server, web, ACK);
    tcp_back(&mut director, web, (POOL, port), ACK);
    assert_eq!(director.counters[0].short_way.get() - before, 2);
}

#[test]
fn a_server_asks_by_udp_and_gets_its_answers() {
    for workers in [1, 3] {
        let mut director = Director::with(workers, RULES, |config| config.misdirect = true);
        for port in 40_000..40_050 {
            let out = only(director.send(1, &udp_frame(LAN, (SERVER_A, port), (DNS, 53), b"name?")));
            let (src, local, dst, dport) = out.ends();
            assert_eq!((src, dst, dport), (POOL, DNS, 53));
            let back = only(director.send(0, &udp_frame(WAN, (DNS, 53), (POOL, local), b"address")));
            assert_eq!((back.port, back.ends()), (1, (DNS, 53, SERVER_A, port)));
        }
        assert_eq!(director.sessions().len(), 50);
        expect_drops!(director);
    }
}

#[test]
fn flows_are_where_devices_spread_them() {
    let mut director = Director::new(3, RULES);
    let rss = director.steer_by(Part::Both);
    let queue = |src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)| {
        let ports = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
        let input = [&src.0.octets()[..], &dst.0.octets(), &ports].concat();
        usize::from(rss.worker(toeplitz(&rss.config().key, &input)))
    };
    for port in 40_000..40_050 {
        let (server, web) = ((SERVER_A, port), (WEB, 443));
        let outs = director.send_by(queue(server, web), 1, &tcp_frame(LAN, server, web, SYN, b""));
        let (_, local, ..) = only(outs).ends();
        let answer = tcp_frame(WAN, web, (POOL, local), SYN | ACK, b"");
        let outs = director.send_by(queue(web, (POOL, local)), 0, &answer);
        assert_eq!(only(outs).ends(), (WEB, 443, SERVER_A, port));
    }
    let handed: u64 = director.counters.iter().map(|counters| counters.handed_off.get()).sum();
    assert_eq!(handed, 0);
    expect_drops!(director);
}

#[test]
fn a_server_pings() {
    for workers in [1, 2, 3] {
        let mut director = Director::with(workers, RULES, |config| config.misdirect = true);
        let mut seen = Vec::new();
        for (server, id) in [(SERVER_A, 7), (SERVER_B, 7), (SERVER_A, 8)] {
            let out = only(director.send(1, &echo(LAN, server, WEB, icmp::ECHO_REQUEST, id, b"abcd")));
            assert_eq!((out.port, out.ip().src(), out.ip().dst()), (0, POOL, WEB));
            assert_eq!(out.ip().ttl(), 63);
            seen.push(identifier(&out));
            let reply = echo(WAN, WEB, POOL, icmp::ECHO_REPLY, identifier(&out), b"abcd");
            let back = only(director.send(0, &reply));
            assert_eq!((back.port, back.ip().src(), back.ip().dst()), (1, WEB, server));
            assert_eq!(identifier(&back), id);
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3, "every flow has an identifier of its own");
        // The same flow keeps it.
        let again = only(director.send(1, &echo(LAN, SERVER_A, WEB, icmp::ECHO_REQUEST, 7, b"")));
        assert!(seen.contains(&identifier(&again)));
        assert_eq!(director.sessions().len(), 3);
        expect_drops!(director);
        // One that nobody asked for.
        let stray = echo(WAN, DNS, POOL, icmp::ECHO_REPLY, 7, b"");
        assert_eq!(director.send(0, &stray), []);
        expect_drops!(director, "icmp-ignored": 1);
        director.wait(31 * SECOND);
        assert_eq!(director.sessions().len(), 0);
    }
}

/// Cuts the IPv4 packet of a frame in two.
fn cut(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    let head = ethernet::HEADER + ipv4::HEADER;
    let piece = |body: &[u8], field: u16| {
        let mut piece = frame[..head].to_vec();
        piece.extend_from_slice(body);
        with_ip(piece, |ip| {
            ip[2..4].copy_from_slice(&((ipv4::HEADER + body.len()) as u16).to_be_bytes());
            ip[6..8].copy_from_slice(&field.to_be_bytes());
        })
    };
    [piece(&frame[head..head + at], ipv4::MF), piece(&frame[head + at..], (at / 8) as u16)]
}

#[test]
fn fragments_follow_whichever_comes_first() {
    for workers in [1, 3] {
        for turned in [false, true] {
            let mut director = Director::with(workers, RULES, |config| config.misdirect = true);
            let datagram = udp_frame(LAN, (SERVER_A, 40_000), (DNS, 53), &[7; 64]);
            let ping = echo(LAN, SERVER_A, WEB, icmp::ECHO_REQUEST, 7, &[7; 64]);
            let ping = with_ip(ping, |ip| ip[4] = 9);
            for whole in [datagram, ping] {
                let mut pieces = cut(&whole, 24);
                if turned {
                    pieces.reverse();
                }
                let mut outs = director.send(1, &pieces[0]);
                outs.extend(director.send(1, &pieces[1]));
                assert_eq!(outs.len(), 2, "{:?}", director.drops());
                assert!(outs.iter().all(|out| out.port == 0 && out.ip().src() == POOL));
            }
            let local = director.sessions().iter().find(|view| view.protocol == 1).unwrap().local.unwrap().1;
            let mut pieces = cut(&echo(WAN, WEB, POOL, icmp::ECHO_REPLY, local, &[7; 64]), 24);
            if turned {
                pieces.reverse();
            }
            let mut outs = director.send(0, &pieces[0]);
            outs.extend(director.send(0, &pieces[1]));
            assert_eq!(outs.len(), 2, "{:?}", director.drops());
            assert!(outs.iter().all(|out| out.port == 1 && out.ip().dst() == SERVER_A));
            expect_drops!(director);
        }
    }
}

#[test]
fn errors_about_what_a_server_sent_come_back_to_it() {
    for workers in [1, 3] {
        let mut director = Director::with(workers, RULES, |config| config.misdirect = true);
        let request = udp_frame(LAN, (SERVER_A, 40_000), (DNS, 53), b"name?");
        let sent = only(director.send(1, &request));
        let error = error_frame(WAN, ROUTER, POOL, icmp::UNREACHABLE, icmp::HOST_UNREACHABLE, &sent.frame);
        let out = only(director.send(0, &error));
        // The router is who it is: a traceroute of a server shows it.
        assert_eq!((out.port, out.ip().src(), out.ip().dst()), (1, ROUTER, SERVER_A));
        let quoted = &out.body()[icmp::HEADER..];
        assert_eq!(quoted[12..20], [10, 1, 0, 11, 198, 51, 100, 53]);
        assert_eq!(quoted[20..24], [0x9c, 0x40, 0, 53]);

        let sent = only(director.send(1, &echo(LAN, SERVER_A, WEB, icmp::ECHO_REQUEST, 7, b"abcd")));
        let error = error_frame(WAN, ROUTER, POOL, icmp::TIME_EXCEEDED, 0, &sent.frame);
        let out = only(director.send(0, &error));
        assert_eq!((out.ip().src(), out.ip().dst()), (ROUTER, SERVER_A));
        let quoted = &out.body()[icmp::HEADER..];
        assert_eq!((&quoted[12..16], &quoted[24..26]), (&[10, 1, 0, 11][..], &[0, 7][..]));

        // And the other way: a server does not want what came back.
        let (_, local, ..) = only(director.send(1, &request)).ends();
        let answer = only(director.send(0, &udp_frame(WAN, (DNS, 53), (POOL, local), b"address")));
        let refusal =
            error_frame(LAN, SERVER_A, DNS, icmp::UNREACHABLE, icmp::PORT_UNREACHABLE, &answer.frame);
        let out = only(director.send(1, &refusal));
        assert_eq!((out.port, out.ip().src(), out.ip().dst()), (0, POOL, DNS));
        assert_eq!(out.body()[icmp::HEADER + 16..icmp::HEADER + 20], POOL.octets());
        expect_drops!(director);
    }
}

#[test]
fn ports_are_used_again_towards_other_hosts_and_run_out_towards_one() {
    let few = RULES.replace("5000-5999", "5000-5003");
    for workers in [1, 2] {
        let mut director = Director::new(workers, &few);
        let established = |director: &mut Director, port: u16, web: (Ipv4Addr, u16)| {
            let outs = director.send(1, &tcp_frame(LAN, (SERVER_A, port), web, SYN, b""));
            let [out] = &outs[..] else { return false };
            let (_, local, ..) = out.ends();
            tcp_back(director, web, (POOL, local), SYN | ACK);
            tcp_out(director, (SERVER_A, port), web, ACK);
            true
        };
        for web in [(WEB, 443), (DNS, 443), (WEB, 80)] {
            let begun = (0..40).filter(|port| established(&mut director, 40_000 + port, web)).count();
            assert_eq!(begun, 4, "each port serves each host once");
        }
        assert_eq!(director.sessions().len(), 12);
        expect_drops!(director, "local-ports-exhausted": 108);
        let rule = director.program.snat_rules().find(|rule| rule.name == "servers").unwrap();
        assert_eq!(rule.refused.sum(|refused| refused), 108);
    }
}

#[test]
fn what_no_rule_is_for_goes_on_as_it_is() {
    let mut director = Director::new(1, RULES);
    // Exempt: a client on wan.
    let out = tcp_out(&mut director, (SERVER_A, 40_000), (CLIENT, 22), SYN);
    assert_eq!(out.ends(), (SERVER_A, 40_000, CLIENT, 22));
    // An answer to what was routed in.
    let out = tcp_out(&mut director, (SERVER_A, 22), (WEB, 40_000), SYN | ACK);
    assert_eq!(out.ends(), (SERVER_A, 22, WEB, 40_000));
    let out = only(director.send(1, &echo(LAN, SERVER_A, WEB, icmp::ECHO_REPLY, 7, b"")));
    assert_eq!((out.ip().src(), identifier(&out)), (SERVER_A, 7));
    assert_eq!((director.sessions().len(), director.happened(Event::ForwardedRoute)), (0, 3));
    // GRE has no ports.
    assert_eq!(director.send(1, &frame(LAN, SERVER_A, WEB, 47, &[0; 8])), []);
    expect_drops!(director, "snat-protocol": 1);

    let https = |state: &mut fulcrum_model::State| {
        let protocol = SnatProtocol::WORDS[0].1;
        let range = fulcrum_model::PortRange { first: 443, last: 443 };
        let rule = state.snat[1].clone();
        let only = Snat { protocol: Some(protocol), destination_ports: vec![range], ..rule };
        state.snat[1] = only;
        state.settings.ip_forward = false;
    };
    director.change(https);
    assert_eq!(tcp_out(&mut director, (SERVER_A, 40_000), (WEB, 443), SYN).ip().src(), POOL);
    assert_eq!(director.send(1, &tcp_frame(LAN, (SERVER_A, 40_000), (WEB, 80), SYN, b"")), []);
    expect_drops!(director, "not-forwarding": 1, "snat-protocol": 1);
}

#[test]
fn answers_of_services_are_no_flows_of_servers() {
    let service = "[[service]]\naddress = \"10.0.0.100:53\"\nprotocol = \"udp\"\nscheduler = \"rr\"\n\
                   [[service.server]]\naddress = \"10.1.0.11:53\"\nforward = \"nat\"\n";
    for workers in [1, 3] {
        let mut director = Director::new(workers, &format!("{RULES}{service}"));
        let client = (WEB, 40_000);
        let out = only(director.send(0, &udp_frame(WAN, client, (VIP, 53), b"name?")));
        assert_eq!(out.ends(), (WEB, 40_000, SERVER_A, 53));
        let back = only(director.send(1, &udp_frame(LAN, (SERVER_A, 53), client, b"address")));
        assert_eq!(back.ends(), (VIP, 53, WEB, 40_000));
        // One that comes when the session is over does not begin another.
        director.wait(400 * SECOND);
        let late = only(director.send(1, &udp_frame(LAN, (SERVER_A, 53), client, b"address")));
        assert_eq!((late.ip().src(), director.sessions().len()), (SERVER_A, 0));
        // From another port it is the server's own.
        let own = only(director.send(1, &udp_frame(LAN, (SERVER_A, 5353), (DNS, 53), b"name?")));
        assert_eq!(own.ip().src(), POOL);
        expect_drops!(director);
    }
}

#[test]
fn sessions_outlive_their_rule_and_new_flows_do_not_begin() {
    for workers in [1, 3] {
        let mut director = Director::with(workers, RULES, |config| config.misdirect = true);
        let (server, web) = ((SERVER_A, 40_000), (WEB, 443));
        let (_, port, ..) = tcp_out(&mut director, server, web, SYN).ends();
        tcp_back(&mut director, web, (POOL, port), SYN | ACK);
        director.change(|state| {
            state.snat.clear();
            state.local_pools.clear();
        });
        assert_eq!(tcp_out(&mut director, server, web, ACK).ends(), (POOL, port, WEB, 443));
        assert_eq!(tcp_back(&mut director, web, (POOL, port), ACK).ends(), (WEB, 443, SERVER_A, 40_000));
        assert_eq!(tcp_out(&mut director, (SERVER_A, 40_001), web, SYN).ip().src(), SERVER_A);
        director.wait(1000 * SECOND);
        assert_eq!(director.sessions().len(), 0);
        director.change(|_| {});
        director.change(|_| {});
        assert_eq!(tcp_out(&mut director, server, web, ACK).ip().src(), SERVER_A);
        expect_drops!(director);
    }
}

#[test]
fn ipv6_is_masqueraded_too() {
    let rules = r#"
[[interface]]
name = "wan6"
port = "wan"
vlan = 6
addresses = ["2001:db8:a::1/64"]
[[interface]]
name = "lan6"
port = "lan"
vlan = 6
addresses = ["fd00:1::1/64"]
[[neighbour]]
address = "2001:db8:a::9"
mac = "02:00:00:00:09:09"
interface = "wan6"
[[neighbour]]
address = "fd00:1::7"
mac = "02:00:00:00:09:09"
interface = "lan6"
[[local-pool]]
name = "outside6"
interface = "wan6"
addresses = ["2001:db8:a::200"]
[[snat]]
name = "servers"
source = "fd00:1::/64"
pool = "outside6"
"#;
    use std::net::Ipv6Addr;
    let (server, web): (Ipv6Addr, Ipv6Addr) =
        ("fd00:1::7".parse().unwrap(), "2001:db8:a::9".parse().unwrap());
    let pool: Ipv6Addr = "2001:db8:a::200".parse().unwrap();
    let mut director = Director::new(2, rules);
    let echo6 = |to: [u8; 6], src: Ipv6Addr, dst: Ipv6Addr, kind: u8, id: u16| {
        let mut body = vec![0; icmp::HEADER];
        icmp::emit(&mut body, kind, 0, u32::from(id) << 16 | 1);
        icmpv6::fill_checksum(&mut body, src, dst);
        segments::ip_frame(to, src.into(), dst.into(), ipv6::ICMP, &body)
    };
    let out = only(director.send(1, &echo6(LAN, server, web, 128, 7)));
    let at = ethernet::HEADER + 4;
    let bytes =
        |out: &Out, from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&out.frame[from..from + 16]).unwrap());
    assert_eq!((out.port, bytes(&out, at + 8), bytes(&out, at + 24)), (0, pool, web));
    let id = u16::from_be_bytes([out.frame[at + 44], out.frame[at + 45]]);
    let back = only(director.send(0, &echo6(WAN, web, pool, 129, id)));
    assert_eq!((back.port, bytes(&back, at + 8), bytes(&back, at + 24)), (1, web, server));
    assert_eq!(back.frame[at + 44..at + 46], [0, 7]);
    expect_drops!(director);
}
