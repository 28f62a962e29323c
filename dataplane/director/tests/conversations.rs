//! Whole conversations through engines with a simulated clock: exact ends, exact counters.

mod harness;

use std::net::Ipv4Addr;

use fulcrum_director::{Event, Reason, SECOND};
use fulcrum_model::{Forward, Server, ServerKey};
use fulcrum_packet::tcp::{ACK, FIN, RST, SYN};
use fulcrum_packet::{icmp, ipv4};
use harness::*;

fn service(forward: &str, more: &str, server_port: u16) -> String {
    format!(
        r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200-10.1.0.201"]
ports = "5000-5009"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
{more}
[[service.server]]
address = "10.1.0.11:{server_port}"
forward = "{forward}"
[[service.server]]
address = "10.1.0.12:{server_port}"
forward = "{forward}"
"#
    )
}

/// A client's side of a TCP session through the director; gives the frame that reached the server.
fn from_client(director: &mut Director, port: u16, flags: u8) -> Out {
    let mut outs = director.send(0, &tcp_frame(WAN, (CLIENT, port), (VIP, 80), flags, b""));
    assert_eq!(outs.len(), 1, "one frame out for one in; drops: {:?}", director.drops());
    check_sums(&outs[0]);
    outs.remove(0)
}

/// The server's answer to a frame that reached it; gives what the client sees.
fn answer(director: &mut Director, to: &Out, flags: u8) -> Out {
    let (client, client_port, server, server_port) = to.ends();
    let mut outs =
        director.send(1, &tcp_frame(LAN, (server, server_port), (client, client_port), flags, b""));
    assert_eq!(outs.len(), 1, "one frame out for one in; drops: {:?}", director.drops());
    check_sums(&outs[0]);
    outs.remove(0)
}

fn whole_session(director: &mut Director, port: u16) -> Out {
    let syn = from_client(director, port, SYN);
    let seen = answer(director, &syn, SYN | ACK);
    assert_eq!((seen.port, seen.ends()), (0, (VIP, 80, CLIENT, port)));
    from_client(director, port, ACK);
    syn
}

fn close(director: &mut Director, syn: &Out, port: u16) {
    from_client(director, port, FIN | ACK);
    answer(director, syn, FIN | ACK);
    from_client(director, port, ACK);
}

#[test]
fn nat_carries_a_session_there_and_back() {
    for workers in [1, 2, 3] {
        for misdirect in [false, true] {
            let mut director =
                Director::with(workers, &service("nat", "", 8000), |c| c.misdirect = misdirect);
            let first = whole_session(&mut director, 40001);
            let second = whole_session(&mut director, 40002);
            // Newest first, and one sequence of choices over all workers.
            assert_eq!(first.ends(), (CLIENT, 40001, SERVER_B, 8000));
            assert_eq!(second.ends(), (CLIENT, 40002, SERVER_A, 8000));
            assert_eq!(director.counts(), [(1, 0, 0), (1, 0, 0)]);
            close(&mut director, &first, 40001);
            assert_eq!(director.counts(), [(1, 0, 0), (0, 1, 0)]);
            assert_eq!(director.happened(Event::ForwardedNat), 6);
            assert_eq!(director.happened(Event::ForwardedReply), 3);
            expect_drops!(director);
            director.wait(121 * SECOND);
            assert_eq!(director.counts(), [(1, 0, 0), (0, 0, 0)]);
            director.wait(800 * SECOND);
            assert_eq!((director.counts(), director.sessions()), (vec![(0, 0, 0); 2], vec![]));
        }
    }
}

#[test]
fn fullnat_shows_the_server_a_local_address_and_finds_the_way_back() {
    for workers in [1, 2, 3] {
        for misdirect in [false, true] {
            let mut director =
                Director::with(workers, &service("fullnat", "", 8000), |c| c.misdirect = misdirect);
            for port in 40001..40009 {
                let syn = whole_session(&mut director, port);
                let (local, local_port, server, server_port) = syn.ends();
                assert!(local.octets()[..3] == [10, 1, 0] && (200..=201).contains(&local.octets()[3]));
                assert!((5000..=5009).contains(&local_port));
                assert_eq!((server, server_port), (if port % 2 == 1 { SERVER_B } else { SERVER_A }, 8000));
                close(&mut director, &syn, port);
            }
            assert_eq!(director.sessions().len(), 8);
            expect_drops!(director);
            director.wait(121 * SECOND);
            assert_eq!(director.sessions(), vec![]);
        }
    }
}

#[test]
fn one_local_address_and_port_serves_two_servers_and_a_full_pool_refuses() {
    let small = service("fullnat", "", 8000)
        .replace("10.1.0.200-10.1.0.201", "10.1.0.200")
        .replace("5000-5009", "5000-5002");
    let mut director = Director::new(1, &small);
    let mut seen: Vec<_> = (1..=6).map(|port| whole_session(&mut director, port).ends()).collect();
    seen.sort();
    let locals = |server| seen.iter().filter(|ends| ends.2 == server).map(|ends| ends.1).collect::<Vec<_>>();
    assert_eq!((locals(SERVER_A), locals(SERVER_B)), (vec![5000, 5001, 5002], vec![5000, 5001, 5002]));
    assert_eq!(director.send(0, &tcp_frame(WAN, (CLIENT, 7), (VIP, 80), SYN, b"")), []);
    expect_drops!(director, "local-ports-exhausted": 1);
    director.wait(901 * SECOND);
    from_client(&mut director, 8, SYN);
}

#[test]
fn dr_changes_only_the_mac_addresses_and_the_ttl() {
    let mut director = Director::new(2, &service("dr", "", 80));
    let out = from_client(&mut director, 40001, SYN);
    assert_eq!((out.port, out.ends(), out.ip().ttl()), (1, (CLIENT, 40001, VIP, 80), 63));
    assert_eq!((&out.frame[..6], &out.frame[6..12]), (&PEER[..], &LAN[..]));
    from_client(&mut director, 40001, ACK);
    assert_eq!(director.sessions()[0].state, "ESTABLISHED");
    from_client(&mut director, 40001, FIN | ACK);
    assert_eq!(director.sessions()[0].state, "FIN_WAIT");
}

#[test]
fn tun_puts_an_outer_header_before_the_packet_and_tells_its_mtu() {
    let mut director = Director::new(2, &service("tun", "", 80));
    let out = from_client(&mut director, 40001, SYN);
    let outer = out.ip();
    assert_eq!((outer.protocol(), outer.src().octets(), outer.dst()), (ipv4::IPIP, [10, 1, 0, 1], SERVER_B));
    let inner = ipv4::Packet::new_checked(out.body()).unwrap();
    assert_eq!((inner.src(), inner.dst(), inner.ttl(), outer.ttl()), (CLIENT, VIP, 63, 63));
    let large = tcp_frame(WAN, (CLIENT, 40001), (VIP, 80), ACK, &[7; 1441]);
    let outs = director.send(0, &large);
    check_sums(&outs[0]);
    assert_eq!((outs[0].port, outs[0].body()[..2].to_vec()), (0, vec![icmp::UNREACHABLE, 4]));
    assert_eq!(outs[0].body()[6..8], 1480u16.to_be_bytes());
    expect_drops!(director, "too-big": 1);
}

#[test]
fn what_nobody_serves_is_refused_as_a_host_would() {
    let mut director = Director::new(1, &service("nat", "", 8000));
    let refused = |director: &mut Director, flags| {
        let outs = director.send(0, &tcp_frame(WAN, (CLIENT, 9), (VIP, 81), flags, b"ab"));
        outs.iter().for_each(check_sums);
        outs.first().map(|out| (out.body()[13], out.ends()))
    };
    assert_eq!(refused(&mut director, SYN), Some((RST | ACK, (VIP, 81, CLIENT, 9))));
    assert_eq!(refused(&mut director, ACK), Some((RST, (VIP, 81, CLIENT, 9))));
    assert_eq!(refused(&mut director, RST), None);
    expect_drops!(director, "no-service": 2, "stray-reset": 1);
    let outs = director.send(0, &udp_frame(WAN, (CLIENT, 9), (VIP, 53), b"?"));
    assert_eq!(outs[0].body()[..2], [icmp::UNREACHABLE, icmp::PORT_UNREACHABLE]);
    assert_eq!(director.dropped(Reason::NoUdpService), 1);
}

#[test]
fn weight_0_quiesces_and_a_deleted_server_keeps_only_its_answers() {
    let mut director = Director::new(2, &service("nat", "", 8000));
    let first = whole_session(&mut director, 1);
    director.change(|state| state.services[0].servers.iter_mut().for_each(|server| server.weight = 0));
    from_client(&mut director, 1, ACK);
    let outs = director.send(0, &tcp_frame(WAN, (CLIENT, 2), (VIP, 80), SYN, b""));
    assert_eq!(outs[0].body()[..2], [icmp::UNREACHABLE, icmp::PORT_UNREACHABLE]);
    expect_drops!(director, "no-server": 1);
    director.change(|state| state.services[0].servers.retain(|server| server.key.address != SERVER_B));
    assert_eq!(director.send(0, &tcp_frame(WAN, (CLIENT, 1), (VIP, 80), ACK, b"x")), []);
    expect_drops!(director, "no-server": 1, "server-deleted": 1);
    answer(&mut director, &first, ACK);
    // Added again, the server has its sessions back.
    director.change(|state| {
        let key = ServerKey { address: SERVER_B.into(), port: 8000 };
        let server = Server::new(key, Forward::Nat);
        state.services[0].servers.push(server);
    });
    from_client(&mut director, 1, ACK);
    assert_eq!(director.counts(), [(0, 0, 0), (1, 0, 0)]);
}

#[test]
fn persistence_keeps_a_client_on_its_server() {
    for workers in [1, 3] {
        let mut director = Director::new(workers, &service("nat", "persistent = 60", 8000));
        let servers: Vec<_> = (1..=10).map(|port| from_client(&mut director, port, SYN).ends().2).collect();
        assert_eq!(servers, [SERVER_B; 10]);
        assert_eq!(director.counts(), [(0, 0, 0), (10, 0, 1)]);
        let template = director.sessions().into_iter().find(|session| session.template).unwrap();
        assert_eq!(
            (template.state, template.client, template.vip),
            ("NONE", (CLIENT.into(), 0), (VIP.into(), 80))
        );
        director.wait(180 * SECOND);
        assert_eq!(director.counts(), [(0, 0, 0); 2]);
        assert_eq!(from_client(&mut director, 11, SYN).ends().2, SERVER_A, "a new template, the next server");
    }
}

#[test]
fn a_syn_on_a_closed_session_is_scheduled_anew() {
    let mut director = Director::new(1, &service("nat", "", 8000));
    let syn = from_client(&mut director, 1, SYN);
    answer(&mut director, &syn, RST | ACK);
    assert_eq!(director.sessions()[0].state, "CLOSE");
    assert_eq!(from_client(&mut director, 1, SYN).ends().2, SERVER_A);
    assert_eq!(director.sessions().len(), 1);
    assert_eq!(director.happened(Event::SessionReused), 1);
}

#[test]
fn errors_about_a_session_are_translated_in_both_directions_of_nat_and_fullnat() {
    for (forward, workers) in [("nat", 1), ("nat", 3), ("fullnat", 1), ("fullnat", 3)] {
        let mut director = Director::new(workers, &service(forward, "", 8000));
        let syn = whole_session(&mut director, 40001);
        let (local, local_port, server, server_port) = syn.ends();
        // The server's router cannot pass on what the director sent.
        let router = std::net::Ipv4Addr::new(10, 1, 0, 254);
        let outs = director.send(1, &error_frame(LAN, router, local, icmp::UNREACHABLE, 4, &syn.frame));
        check_sums(&outs[0]);
        assert_eq!((outs[0].port, outs[0].ip().src(), outs[0].ip().dst()), (0, VIP, CLIENT));
        let quoted = ipv4::Packet::new_quoted(&outs[0].body()[8..]).unwrap();
        assert_eq!((quoted.src(), quoted.dst(), quoted.checksum_ok()), (CLIENT, VIP, true));
        // The client refuses what the director sent to it.
        let seen = tcp_frame(PEER, (VIP, 80), (CLIENT, 40001), ACK, b"");
        let outs = director.send(0, &error_frame(WAN, CLIENT, VIP, icmp::UNREACHABLE, 3, &seen));
        check_sums(&outs[0]);
        assert_eq!((outs[0].port, outs[0].ip().src(), outs[0].ip().dst()), (1, local, server));
        let inner = Out { port: 1, frame: [&outs[0].frame[..14], &outs[0].body()[8..]].concat() };
        assert_eq!(inner.ends(), (server, server_port, local, local_port));
        expect_drops!(director);
    }
}

#[test]
fn a_full_table_refuses_new_sessions_and_keeps_old_ones() {
    let mut director = Director::with(1, &service("nat", "", 8000), |config| config.sessions = 3);
    (1..=3).for_each(|port| drop(whole_session(&mut director, port)));
    assert_eq!(director.send(0, &tcp_frame(WAN, (CLIENT, 4), (VIP, 80), SYN, b"")), []);
    expect_drops!(director, "sessions-full": 1);
    from_client(&mut director, 2, ACK);
    director.wait(901 * SECOND);
    from_client(&mut director, 4, SYN);
}

#[test]
fn a_partial_checksum_is_completed() {
    use fulcrum_packet::checksum::{fold, pseudo_header};
    let mut director = Director::new(1, &service("nat", "", 8000));
    let mut frame = tcp_frame(WAN, (CLIENT, 1), (VIP, 80), SYN, b"data");
    let partial = fold(pseudo_header(CLIENT, VIP, ipv4::TCP, 24));
    frame[14 + 20 + 16..][..2].copy_from_slice(&partial.to_be_bytes());
    let outs = director.send(0, &frame);
    check_sums(&outs[0]);
    assert_eq!(director.happened(Event::ChecksumCompleted), 1);
}

#[test]
fn sessions_outlive_a_change_to_persistence_whichever_worker_has_them() {
    for forward in ["nat", "fullnat", "dr"] {
        let mut director = Director::new(3, &service(forward, "", 80));
        let opened: Vec<_> = (101..=120).map(|port| from_client(&mut director, port, SYN)).collect();
        director.change(|state| state.services[0].persistent = Some(600));
        for (port, syn) in (101..=120).zip(&opened) {
            let later = from_client(&mut director, port, ACK);
            assert_eq!(later.ends(), syn.ends());
            if forward != "dr" {
                let seen = answer(&mut director, syn, SYN | ACK);
                assert_eq!(seen.ends(), (VIP, 80, CLIENT, port));
            }
        }
        expect_drops!(director);
        assert_eq!(director.sessions().len(), 20);
        from_client(&mut director, 201, SYN);
        assert_eq!(director.send(0, &tcp_frame(WAN, (CLIENT, 202), (VIP, 80), ACK, b"")).len(), 1, "RST");
        expect_drops!(director, "no-session": 1);
        assert_eq!(director.sessions().iter().filter(|session| session.template).count(), 1);
    }
}

#[test]
fn sessions_outlive_ever_wider_persistence() {
    for forward in ["nat", "dr"] {
        let mut director = Director::new(3, &service(forward, "", 80));
        let client = |host: u8| Ipv4Addr::new(198, 51, 100, host);
        let segment = |host, port, flags| tcp_frame(WAN, (client(host), port), (VIP, 80), flags, b"");
        let open = |director: &mut Director, port| {
            for host in 2..12 {
                assert_eq!(director.send(0, &segment(host, port, SYN)).len(), 1);
            }
        };
        open(&mut director, 1001);
        director.change(|state| state.services[0].persistent = Some(600));
        open(&mut director, 1002);
        director.change(|state| state.services[0].prefix = 30);
        open(&mut director, 1003);
        director.change(|state| state.services[0].prefix = 24);
        open(&mut director, 1004);
        for port in 1001..=1004 {
            for host in 2..12 {
                let outs = director.send(0, &segment(host, port, ACK));
                assert_eq!(outs.len(), 1, "{forward}: {host} from {port}, drops: {:?}", director.drops());
                if forward == "nat" {
                    let (_, _, server, _) = outs[0].ends();
                    let back = tcp_frame(LAN, (server, 80), (client(host), port), SYN | ACK, b"");
                    assert_eq!(director.send(1, &back)[0].ends(), (VIP, 80, client(host), port));
                }
            }
        }
        expect_drops!(director);
        assert_eq!(director.sessions().iter().filter(|session| !session.template).count(), 40);
    }
}
