//! NAT, DR, TUN and FULLNAT: each with one worker, with two, and with every packet on the wrong worker first.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::Packet;
use fulcrum_e2e::client::{Tally, ask_udp, download, expected, get, upload};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::topology::{self, Topology};

use crate::schedule::sessions_end_on_schedule;

/// Requests of each kind before the large transfers.
const REQUESTS: usize = 30;

/// Seconds that FIN_WAIT and UDP sessions live here.
const QUIET: u64 = 30;

/// A way of forwarding, as the lab sees it.
struct Mode {
    name: &'static str,
    topology: fn(&Lab) -> Topology,
    vip: Ipv4Addr,
    /// ipvsadm's lines; the service of HTTP is at port 80, that of UDP at port 5000.
    commands: &'static str,
    /// Who answers how many of [`REQUESTS`], by HTTP (UDP is shared evenly).
    shares: [(&'static str, usize); 2],
    /// Where a server listens, by name: HTTP, UDP.
    ports: (u16, u16),
    addresses: [(&'static str, &'static str); 2],
    /// Whether answers come back through the director.
    both_ways: bool,
    /// The state in which a finished connection waits, and for how many seconds.
    closed: (&'static str, u64),
}

const NAT: Mode = Mode {
    name: "nat",
    topology: topology::nat,
    vip: Ipv4Addr::new(172, 16, 100, 9),
    commands: "
        -A -t 172.16.100.9:80 -s rr
        -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
        -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m
        -A -u 172.16.100.9:5000 -s rr
        -a -u 172.16.100.9:5000 -r 192.168.20.7:5001 -m
        -a -u 172.16.100.9:5000 -r 192.168.20.8:5001 -m",
    shares: [("web7", 15), ("web8", 15)],
    ports: (8080, 5001),
    addresses: [("web7", "192.168.20.7"), ("web8", "192.168.20.8")],
    both_ways: true,
    closed: ("TIME_WAIT", 120),
};

const DR: Mode = Mode {
    name: "dr",
    topology: topology::dr,
    vip: Ipv4Addr::new(192, 168, 0, 210),
    commands: "
        -A -t 192.168.0.210:80 -s wlc
        -a -t 192.168.0.210:80 -r 192.168.0.221 -g -w 1
        -a -t 192.168.0.210:80 -r 192.168.0.222 -g -w 2
        -A -u 192.168.0.210:5000 -s rr
        -a -u 192.168.0.210:5000 -r 192.168.0.221 -g
        -a -u 192.168.0.210:5000 -r 192.168.0.222 -g",
    shares: [("web221", 10), ("web222", 20)],
    ports: (80, 5000),
    addresses: [("web221", "192.168.0.221"), ("web222", "192.168.0.222")],
    both_ways: false,
    closed: ("FIN_WAIT", QUIET),
};

const TUN: Mode = Mode {
    name: "tun",
    topology: topology::tun,
    vip: Ipv4Addr::new(172, 25, 67, 100),
    commands: "
        -A -t 172.25.67.100:80 -s rr
        -a -t 172.25.67.100:80 -r 172.25.67.2 -i
        -a -t 172.25.67.100:80 -r 172.25.67.3 -i
        -A -u 172.25.67.100:5000 -s rr
        -a -u 172.25.67.100:5000 -r 172.25.67.2 -i
        -a -u 172.25.67.100:5000 -r 172.25.67.3 -i",
    shares: [("web2", 15), ("web3", 15)],
    ports: (80, 5000),
    addresses: [("web2", "172.25.67.2"), ("web3", "172.25.67.3")],
    both_ways: false,
    closed: ("FIN_WAIT", QUIET),
};

const FULLNAT: Mode = Mode {
    name: "fullnat",
    topology: fullnat_pool_of_two,
    vip: Ipv4Addr::new(172, 16, 100, 9),
    commands: "
        -A -t 172.16.100.9:80 -s rr
        -P -t 172.16.100.9:80 -z 192.168.20.200
        -P -t 172.16.100.9:80 -z 192.168.20.201
        -a -t 172.16.100.9:80 -r 192.168.30.7:8080 -b
        -a -t 172.16.100.9:80 -r 192.168.40.8:8080 -b
        -A -u 172.16.100.9:5000 -s rr
        -P -u 172.16.100.9:5000 -z 192.168.20.200
        -P -u 172.16.100.9:5000 -z 192.168.20.201
        -a -u 172.16.100.9:5000 -r 192.168.30.7:5001 -b
        -a -u 172.16.100.9:5000 -r 192.168.40.8:5001 -b",
    shares: [("web7", 15), ("web8", 15)],
    ports: (8080, 5001),
    addresses: [("web7", "192.168.30.7"), ("web8", "192.168.40.8")],
    both_ways: true,
    closed: ("TIME_WAIT", 120),
};

fn fullnat_pool_of_two(lab: &Lab) -> Topology {
    topology::fullnat(lab, "addresses = [\"192.168.20.210\"]")
}

macro_rules! each_setup {
    ($($mode:ident: $one:ident, $two:ident, $misdirected:ident;)*) => {$(
        #[test]
        fn $one() { run(&$mode, "1", &Setup::ONE); }
        #[test]
        fn $two() { run(&$mode, "2", &Setup::TWO); }
        #[test]
        fn $misdirected() { run(&$mode, "m", &Setup::MISDIRECTED); }
    )*};
}

each_setup! {
    NAT: nat_with_one_worker, nat_with_two_workers, nat_with_every_packet_misdirected;
    DR: dr_with_one_worker, dr_with_two_workers, dr_with_every_packet_misdirected;
    TUN: tun_with_one_worker, tun_with_two_workers, tun_with_every_packet_misdirected;
    FULLNAT: fullnat_with_one_worker, fullnat_with_two_workers, fullnat_with_every_packet_misdirected;
}

fn run(mode: &Mode, suffix: &str, setup: &Setup) {
    let mut lab = Lab::new(&format!("{}{suffix}", mode.name));
    let net = (mode.topology)(&lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    director.ipvsadm(&format!("--set 900 {QUIET} {QUIET}"));
    director.ipvsadm_lines(mode.commands);
    let (http, udp) = (mode.vip.to_string(), format!("{}:5000", mode.vip));
    net.client.sh(&format!("ping -q -c 2 -i 0.2 -W 2 {http}"));

    let lost_before = net.lost() + director.lost();
    let captures = net.capture(&lab);
    let by_http = get(&net.client, &http, REQUESTS);
    let by_udp = ask_udp(&net.client, &udp, REQUESTS);
    assert_shared(&by_http, &expected(mode.shares), setup);
    let even = mode.shares.map(|(name, _)| (name, REQUESTS / 2));
    assert_shared(&by_udp, &expected(even), setup);
    check_sessions(mode, &director, &by_http, &by_udp);

    download(&net.client, &http, lab.directory());
    upload(&net.client, &http, lab.directory(), &net.servers);
    let seen = captures.stop();
    check_counters(mode, &director, &seen, net.lost() + director.lost() - lost_before);
    if setup.misdirect {
        let workers = director.status().expect("control answers")["dataplane"]["workers"].clone();
        let sum = |field: &str| -> u64 {
            workers.as_array().expect("a list").iter().filter_map(|worker| worker[field].as_u64()).sum()
        };
        // All but ARP, which belongs to no flow.
        let (received, handed_over) = (sum("rx_packets"), sum("handed_off"));
        assert!(handed_over + 50 > received, "{handed_over} of {received} packets were handed over");
    }
    if mode.name == "fullnat" {
        check_local_addresses(&seen);
    }
    lab.rest();
    sessions_end_on_schedule(&director, mode.closed.1);
}

/// Panics unless each server answered as often as it should: exactly, or within one per worker with several.
fn assert_shared(got: &Tally, wanted: &Tally, setup: &Setup) {
    let slack = if setup.workers() == 1 { 0 } else { setup.workers() };
    let fits =
        |(name, count): (&String, &usize)| got.get(name).copied().unwrap_or(0).abs_diff(*count) <= slack;
    assert!(wanted.iter().all(fits) && got.len() == wanted.len(), "answered: {got:?}, should be {wanted:?}");
    assert_eq!(got.values().sum::<usize>(), wanted.values().sum::<usize>());
}

/// The listing must show every connection at the server that answered it, in the state that fits.
fn check_sessions(mode: &Mode, director: &Director, by_http: &Tally, by_udp: &Tally) {
    let sessions = director.sessions();
    for (protocol, state, within, virtual_port, port, answers) in [
        ("TCP", mode.closed.0, mode.closed.1, 80, mode.ports.0, by_http),
        ("UDP", "UDP", QUIET, 5000, mode.ports.1, by_udp),
    ] {
        let mut listed = Tally::new();
        for row in sessions.iter().filter(|row| row.protocol == protocol) {
            assert_eq!(row.state, state, "{row:?}");
            assert!(row.expires <= within, "{row:?}");
            assert_eq!(row.virtual_, format!("{}:{virtual_port}", mode.vip), "{row:?}");
            let server = mode.addresses.iter().find(|(_, ip)| row.destination == format!("{ip}:{port}"));
            *listed.entry(server.unwrap_or_else(|| panic!("{row:?}")).0.to_owned()).or_default() += 1;
        }
        assert_eq!(&listed, answers, "{protocol} sessions per server");
    }
    let inactive: BTreeMap<&str, u64> = director
        .listing()
        .iter()
        .filter(|row| row.kind == "->")
        .map(|row| {
            assert_eq!(row.numbers[1], 0, "nothing is active any more: {row:?}");
            (if row.service.starts_with("TCP") { "TCP" } else { "UDP" }, row.numbers[2])
        })
        .fold(BTreeMap::new(), |mut sum, (protocol, n)| {
            *sum.entry(protocol).or_default() += n;
            sum
        });
    assert_eq!(inactive, BTreeMap::from([("TCP", REQUESTS as u64), ("UDP", REQUESTS as u64)]));
}

/// Counters must agree with what went over the client's wire, packet for packet and byte for byte; of `lost`
/// frames, which a device on the way says that it could not take, the director cannot know.
fn check_counters(mode: &Mode, director: &Director, seen: &topology::Seen, lost: u64) {
    let stats = director.stats();
    for (protocol, number, port, connections) in
        [("TCP", 6, 80, REQUESTS as u64 + 2), ("UDP", 17, 5000, REQUESTS as u64)]
    {
        let service = stats.iter().find(|row| row.kind == protocol).expect("the service is listed");
        let [conns, in_packets, out_packets, in_bytes, out_bytes] = service.numbers[..] else {
            panic!("five columns: {service:?}")
        };
        assert_eq!(conns, connections, "{service:?}");
        let to = |p: &Packet| p.protocol == number && p.destination == (mode.vip, port);
        // The director's own errors about tunnelled packets count as answers, as in IPVS.
        let is_error = |p: &Packet| number == 6 && p.protocol == 1 && p.payload[0] == 3;
        let from = |p: &Packet| {
            let answer = mode.both_ways && p.protocol == number && p.source == (mode.vip, port);
            answer || (p.source.0 == mode.vip && is_error(p))
        };
        let (wire_in, wire_out) = (seen.client.count(to), seen.client.count(from));
        if seen.client.lost == 0 && lost == 0 {
            assert_eq!((in_packets, in_bytes), wire_in, "{service:?}");
            assert_eq!((out_packets, out_bytes), wire_out, "{service:?}");
        } else if seen.client.lost == 0 {
            println!("{lost} frames were lost on the way");
            assert!(in_packets <= wire_in.0 && wire_in.0 - in_packets <= lost, "{service:?}, {wire_in:?}");
            assert!(
                out_packets >= wire_out.0 && out_packets - wire_out.0 <= lost,
                "{service:?}, {wire_out:?}"
            );
        }
        let servers = stats.iter().filter(|row| row.kind == "->" && row.service == service.service);
        let sum =
            servers.fold(vec![0; 5], |sum, row| sum.iter().zip(&row.numbers).map(|(a, b)| a + b).collect());
        assert_eq!(sum, service.numbers, "servers add up to their service");
    }
}

/// Servers must have seen local addresses only, and both of them.
fn check_local_addresses(seen: &topology::Seen) {
    let (first, second) = (Ipv4Addr::new(192, 168, 20, 200), Ipv4Addr::new(192, 168, 20, 201));
    let mut used = BTreeMap::new();
    for packet in seen.servers.iter().flat_map(|frames| frames.packets()) {
        let to_server = matches!(packet.destination.1, 8080 | 5001);
        if to_server {
            assert!([first, second].contains(&packet.source.0), "{packet:?}");
            *used.entry(packet.source.0).or_insert(0) += 1;
        }
    }
    assert_eq!(used.len(), 2, "both local addresses are used: {used:?}");
}
