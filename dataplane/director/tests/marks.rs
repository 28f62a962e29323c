//! Services by mark: which packets they take, one template for all of a mark, workers that agree.

mod harness;

use std::net::Ipv4Addr;

use fulcrum_packet::tcp::{ACK, SYN};
use harness::*;

/// http and https of one VIP under mark 10, as the guides have it.
const WEB: &str = r#"
[[mark]]
mark = 10
protocol = "tcp"
destination = "10.0.0.100/32"
destination-ports = "80,443"
[[service]]
mark = 10
scheduler = "rr"
persistent = 300
[[service.server]]
address = "10.1.0.11:0"
forward = "nat"
[[service.server]]
address = "10.1.0.12:0"
forward = "nat"
"#;

/// The VIP is the director's as another service's.
const VIP_SERVICE: &str = r#"
[[service]]
address = "10.0.0.100:25"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "10.1.0.11:25"
forward = "nat"
"#;

fn syn(director: &mut Director, client: Ipv4Addr, vip: Ipv4Addr, port: u16, from: u16) -> Vec<Out> {
    director.send(0, &tcp_frame(WAN, (client, from), (vip, port), SYN, b""))
}

#[test]
fn one_server_for_both_ports_of_a_client() {
    for workers in [1, 3] {
        let mut director = Director::new(workers, &format!("{WEB}{VIP_SERVICE}"));
        let mut servers = Vec::new();
        for host in 0..20 {
            let client = Ipv4Addr::new(198, 51, 100, host);
            let http = syn(&mut director, client, VIP, 80, 40001);
            let https = syn(&mut director, client, VIP, 443, 50002 + u16::from(host));
            let (_, _, server, port) = http[0].ends();
            assert_eq!((https[0].ends().2, port, https[0].ends().3), (server, 80, 443));
            check_sums(&http[0]);
            // The answer of either port comes back as the VIP's.
            let answer = tcp_frame(LAN, (server, 443), (client, 50002 + u16::from(host)), SYN | ACK, b"");
            assert_eq!(director.send(1, &answer)[0].ends(), (VIP, 443, client, 50002 + u16::from(host)));
            servers.push(server);
        }
        assert!(servers.contains(&SERVER_A) && servers.contains(&SERVER_B));
        let templates: Vec<_> = director.sessions().into_iter().filter(|session| session.template).collect();
        assert_eq!(templates.len(), 20);
        assert!(templates.iter().all(|template| template.vip == (Ipv4Addr::new(0, 0, 0, 10).into(), 0)));
        assert_eq!(director.drops(), vec![]);
    }
}

#[test]
fn what_no_rule_marks_is_not_the_services() {
    let mut director = Director::new(3, &format!("{WEB}{VIP_SERVICE}"));
    syn(&mut director, CLIENT, VIP, 8080, 40001);
    expect_drops!(director, "no-service": 1);
    assert_eq!(syn(&mut director, CLIENT, VIP, 25, 40002)[0].ends().2, SERVER_A);
    assert_eq!(director.sessions().iter().filter(|session| session.template).count(), 0);
}

#[test]
fn a_mark_goes_before_the_address_and_takes_what_is_not_ours() {
    let mut director = Director::new(
        3,
        r#"
[[mark]]
mark = 1
destination = "203.0.113.0/24"
[[mark]]
mark = 2
mask = 2
source = "10.0.0.2/32"
[[service]]
mark = 3
scheduler = "rr"
[[service.server]]
address = "10.1.0.11:0"
forward = "dr"
[[service]]
mark = 1
scheduler = "rr"
[[service.server]]
address = "10.1.0.12:0"
forward = "dr"
"#,
    );
    let foreign = Ipv4Addr::new(203, 0, 113, 5);
    // Both rules fit: the second adds its bit.
    let out = syn(&mut director, CLIENT, foreign, 80, 40001);
    assert_eq!((out[0].port, out[0].ends().2), (1, foreign));
    assert_eq!(director.sessions()[0].server.0, SERVER_A);
    syn(&mut director, Ipv4Addr::new(10, 0, 0, 254), foreign, 80, 40001);
    assert!(director.sessions().iter().any(|session| session.server.0 == SERVER_B));
    assert_eq!(director.drops(), vec![]);
}

/// A cache for the web whose only server is out.
const CACHE: &str = r#"
[[mark]]
mark = 1
destination = "198.51.100.0/24"
[[service]]
mark = 1
scheduler = "lblc"
[[service.server]]
address = "10.1.0.12:0"
forward = "dr"
weight = 0
"#;

#[test]
fn past_all_servers_when_none_is_there() {
    let web = Ipv4Addr::new(198, 51, 100, 7);
    let frame = |from, flags| tcp_frame(LAN, (SERVER_A, from), (web, 80), flags, b"");
    let mut director = Director::new(3, CACHE);
    director.send(1, &frame(40001, SYN));
    expect_drops!(director, "no-server": 1);
    director.change(|state| state.settings.cache_bypass = true);
    let out = director.send(1, &frame(40001, SYN));
    assert_eq!((out[0].port, out[0].ends()), (0, (SERVER_A, 40001, web, 80)));
    assert_eq!(out[0].ip().ttl(), 63);
    // It stays on its way when the server comes back; new ones go there.
    director.change(|state| state.services[0].servers[0].weight = 1);
    assert_eq!(director.send(1, &frame(40001, ACK))[0].port, 0);
    assert_eq!(director.send(1, &frame(40002, SYN))[0].port, 1);
    assert_eq!(director.sessions().len(), 2);
    expect_drops!(director, "no-server": 1);
}

#[test]
fn deleted_and_made_again_it_keeps_its_sessions() {
    let mut director = Director::new(3, &format!("{WEB}{VIP_SERVICE}"));
    let server = syn(&mut director, CLIENT, VIP, 80, 40001)[0].ends().2;
    let mut service = None;
    director.change(|state| service = Some(state.services.remove(0)));
    let ack = tcp_frame(WAN, (CLIENT, 40001), (VIP, 80), ACK, b"");
    assert_eq!(director.send(0, &ack).len(), 0);
    expect_drops!(director, "server-deleted": 1);
    director.change(|state| state.services.insert(0, service.take().unwrap()));
    assert_eq!(director.send(0, &ack)[0].ends().2, server);
}
