//! NAT, DR, TUN and FULLNAT: each with one worker, with two, and with every packet on the wrong worker first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::Packet;
use fulcrum_e2e::client::{Tally, ask_udp, download, get, upload};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Family, Namespace};
use fulcrum_e2e::topology::{self, Topology};

use crate::schedule::sessions_end_on_schedule;

/// Requests of each kind before the large transfers.
const REQUESTS: usize = 30;

/// Seconds that FIN_WAIT, TIME_WAIT and UDP sessions live here.
const QUIET: u64 = 30;

/// A way of forwarding, as the lab sees it; in IPv6 with the twins of these addresses.
struct Mode {
    name: &'static str,
    topology: fn(&Lab) -> Topology,
    /// Its services are HTTP at port 80, with the scheduler given here, and UDP at port 5000 with rr.
    vip: &'static str,
    scheduler: &'static str,
    /// How servers are added.
    flags: &'static str,
    servers: [Real; 2],
    /// Where a server listens: HTTP, UDP.
    ports: (u16, u16),
    local_addresses: &'static [&'static str],
    /// Whether answers come back through the director.
    both_ways: bool,
    /// The state in which a finished connection waits, and for how many seconds.
    closed: (&'static str, u64),
}

/// A real server, and how many of [`REQUESTS`] by HTTP it answers.
struct Real {
    name: &'static str,
    address: &'static str,
    weight: u32,
    share: usize,
}

const fn real(name: &'static str, address: &'static str, weight: u32, share: usize) -> Real {
    Real { name, address, weight, share }
}

const NAT: Mode = Mode {
    name: "nat",
    topology: topology::nat,
    vip: "172.16.100.9",
    scheduler: "rr",
    flags: "-m",
    servers: [real("web7", "192.168.20.7", 1, 15), real("web8", "192.168.20.8", 1, 15)],
    ports: (8080, 5001),
    local_addresses: &[],
    both_ways: true,
    closed: ("TIME_WAIT", QUIET),
};

const DR: Mode = Mode {
    name: "dr",
    topology: topology::dr,
    vip: "192.168.0.210",
    scheduler: "wlc",
    flags: "-g",
    servers: [real("web221", "192.168.0.221", 1, 10), real("web222", "192.168.0.222", 2, 20)],
    ports: (80, 5000),
    local_addresses: &[],
    both_ways: false,
    closed: ("FIN_WAIT", QUIET),
};

const TUN: Mode = Mode {
    name: "tun",
    topology: topology::tun,
    vip: "172.25.67.100",
    scheduler: "rr",
    flags: "-i",
    servers: [real("web2", "172.25.67.2", 1, 15), real("web3", "172.25.67.3", 1, 15)],
    ports: (80, 5000),
    local_addresses: &[],
    both_ways: false,
    closed: ("FIN_WAIT", QUIET),
};

const FULLNAT: Mode = Mode {
    name: "fullnat",
    topology: |lab| topology::fullnat(lab, "addresses = [\"192.168.20.210\"]"),
    vip: "172.16.100.9",
    scheduler: "rr",
    flags: "-b",
    servers: [real("web7", "192.168.30.7", 1, 15), real("web8", "192.168.40.8", 1, 15)],
    ports: (8080, 5001),
    local_addresses: &["192.168.20.200", "192.168.20.201"],
    both_ways: true,
    closed: ("TIME_WAIT", QUIET),
};

macro_rules! each_setup {
    ($($name:ident: $mode:ident $family:ident $setup:ident;)*) => {$(
        #[test]
        fn $name() { run(&$mode, Family::$family, &Setup::$setup); }
    )*};
}

each_setup! {
    nat_with_one_worker: NAT V4 ONE;
    nat_with_two_workers: NAT V4 TWO;
    nat_with_every_packet_misdirected: NAT V4 MISDIRECTED;
    dr_with_one_worker: DR V4 ONE;
    dr_with_two_workers: DR V4 TWO;
    dr_with_every_packet_misdirected: DR V4 MISDIRECTED;
    tun_with_one_worker: TUN V4 ONE;
    tun_with_two_workers: TUN V4 TWO;
    tun_with_every_packet_misdirected: TUN V4 MISDIRECTED;
    fullnat_with_one_worker: FULLNAT V4 ONE;
    fullnat_with_two_workers: FULLNAT V4 TWO;
    fullnat_with_every_packet_misdirected: FULLNAT V4 MISDIRECTED;
    nat_of_ipv6: NAT V6 ONE;
    nat_of_ipv6_with_every_packet_misdirected: NAT V6 MISDIRECTED;
    dr_of_ipv6: DR V6 ONE;
    dr_of_ipv6_with_every_packet_misdirected: DR V6 MISDIRECTED;
    tun_of_ipv6: TUN V6 ONE;
    tun_of_ipv6_with_every_packet_misdirected: TUN V6 MISDIRECTED;
    fullnat_of_ipv6: FULLNAT V6 ONE;
    fullnat_of_ipv6_with_every_packet_misdirected: FULLNAT V6 MISDIRECTED;
}

impl Mode {
    /// ipvsadm's lines.
    fn commands(&self) -> String {
        let mut lines = String::new();
        let services = [("-t", 80, self.scheduler, self.ports.0), ("-u", 5000, "rr", self.ports.1)];
        for (protocol, port, scheduler, server_port) in services {
            let service = format!("{protocol} {}:{port}", self.vip);
            lines += &format!("-A {service} -s {scheduler}\n");
            for local in self.local_addresses {
                lines += &format!("-P {service} -z {local}\n");
            }
            for Real { address, weight, .. } in &self.servers {
                let weight = if protocol == "-t" { *weight } else { 1 };
                lines += &format!("-a {service} -r {address}:{server_port} {} -w {weight}\n", self.flags);
            }
        }
        lines
    }

    /// Who answers how often.
    fn shares(&self, share: impl Fn(&Real) -> usize) -> Tally {
        self.servers.iter().map(|server| (server.name.to_owned(), share(server))).collect()
    }
}

fn run(mode: &Mode, family: Family, setup: &Setup) {
    let mut lab = Lab::new(&format!("{}{family:?}{}{}", mode.name, setup.workers(), setup.misdirect as u8));
    let net = (mode.topology)(&lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    director.ipvsadm(&format!("--set 900 {QUIET} {QUIET}"));
    director.fulcrum(&format!("timeout set tcp-time-wait={QUIET}"));
    director.ipvsadm_lines(&family.words(&mode.commands()));
    let http = family.host(mode.vip);
    net.client.sh(&format!("ping -q -c 2 -i 0.2 -W 2 {}", family.address(mode.vip)));

    let lost_before = net.lost() + director.lost();
    let captures = net.capture(&lab);
    let by_http = get(&net.client, &http, REQUESTS);
    let by_udp = ask_udp(&net.client, &format!("{http}:5000"), REQUESTS);
    assert_shared(&by_http, &mode.shares(|server| server.share), setup);
    assert_shared(&by_udp, &mode.shares(|_| REQUESTS / 2), setup);
    check_sessions(mode, family, &director, &by_http, &by_udp);
    check_neighbours(mode, family, &director, &net);

    download(&net.client, &http, lab.directory());
    upload(&net.client, &http, lab.directory(), &net.servers);
    let seen = captures.stop();
    let lost = net.lost() + director.lost() - lost_before;
    check_counters(mode, family, &director, &seen, lost);
    if setup.misdirect {
        let workers = director.status().expect("control answers")["dataplane"]["workers"].clone();
        let sum = |field: &str| -> u64 {
            workers.as_array().expect("a list").iter().filter_map(|worker| worker[field].as_u64()).sum()
        };
        // All but what belongs to no flow: neighbours that ask, and members of multicast groups.
        let (received, handed_over) = (sum("rx_packets"), sum("handed_off"));
        assert!(handed_over + 50 > received, "{handed_over} of {received} packets were handed over");
    }
    check_local_addresses(mode, family, &seen);
    lab.rest();
    director.rest();
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
fn check_sessions(mode: &Mode, family: Family, director: &Director, by_http: &Tally, by_udp: &Tally) {
    let sessions = director.sessions();
    let at = |address, port: u16| format!("{}:{port}", family.host(address));
    for (protocol, state, within, virtual_port, port, answers) in [
        ("TCP", mode.closed.0, mode.closed.1, 80, mode.ports.0, by_http),
        ("UDP", "UDP", QUIET, 5000, mode.ports.1, by_udp),
    ] {
        let mut listed = Tally::new();
        for row in sessions.iter().filter(|row| row.protocol == protocol) {
            assert_eq!(row.state, state, "{row:?}");
            assert!(row.expires <= within, "{row:?}");
            assert_eq!(row.virtual_, at(mode.vip, virtual_port), "{row:?}");
            let server = mode.servers.iter().find(|server| row.destination == at(server.address, port));
            *listed.entry(server.unwrap_or_else(|| panic!("{row:?}")).name.to_owned()).or_default() += 1;
        }
        assert_eq!(&listed, answers, "{protocol} sessions per server");
    }
    let mut inactive = BTreeMap::new();
    for row in director.listing().iter().filter(|row| row.kind == "->") {
        assert_eq!(row.numbers[1], 0, "nothing is active any more: {row:?}");
        *inactive.entry(row.service[..3].to_owned()).or_insert(0) += row.numbers[2];
    }
    let all = REQUESTS as u64;
    assert_eq!(inactive, BTreeMap::from([("TCP".to_owned(), all), ("UDP".to_owned(), all)]));
}

/// Whoever is on a link with the director and gets packets from it is a neighbour, with its MAC address.
fn check_neighbours(mode: &Mode, family: Family, director: &Director, net: &Topology) {
    let listing = director.fulcrum("neighbour list");
    let known = |inside: &Namespace| {
        let mac = inside.sh("cat /sys/class/net/eth0/address");
        let addresses = inside.sh("ip -o addr show dev eth0 scope global | awk '{ print $4 }'");
        let own = addresses.lines().filter_map(|address| address.split('/').next());
        let own: Vec<&str> = own.filter(|ip| ip.contains(':') == (family == Family::V6)).collect();
        let line = listing.lines().find(|line| line.split_whitespace().any(|word| own.contains(&word)));
        line.is_some_and(|line| line.contains(mac.trim()))
    };
    if mode.both_ways {
        assert!(known(&net.client), "{listing}");
    }
    if mode.local_addresses.is_empty() {
        assert!(net.servers.iter().all(|server| known(&server.inside)), "{listing}");
    }
}

/// Counters must agree with what went over the client's wire, packet for packet and byte for byte; of `lost`
/// frames, which a device on the way says that it could not take, the director cannot know.
fn check_counters(mode: &Mode, family: Family, director: &Director, seen: &topology::Seen, lost: u64) {
    let (stats, vip) = (director.stats(), family.address(mode.vip));
    for (protocol, number, port, connections) in
        [("TCP", 6, 80, REQUESTS as u64 + 2), ("UDP", 17, 5000, REQUESTS as u64)]
    {
        let service = stats.iter().find(|row| row.kind == protocol).expect("the service is listed");
        let [conns, in_packets, out_packets, in_bytes, out_bytes] = service.numbers[..] else {
            panic!("five columns: {service:?}")
        };
        assert_eq!(conns, connections, "{service:?}");
        let to = |p: &Packet| p.protocol == number && p.destination == (vip, port);
        // The director's own errors about tunnelled packets count as answers, as in IPVS.
        let is_error = |p: &Packet| {
            number == 6 && matches!((p.protocol, p.payload.first()), (1, Some(3)) | (58, Some(2)))
        };
        let from = |p: &Packet| {
            let answer = mode.both_ways && p.protocol == number && p.source == (vip, port);
            answer || (p.source.0 == vip && is_error(p))
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

/// Where there are local addresses, servers must have seen nothing else, and all of them.
fn check_local_addresses(mode: &Mode, family: Family, seen: &topology::Seen) {
    let local: BTreeSet<IpAddr> =
        mode.local_addresses.iter().map(|address| family.address(address)).collect();
    let to_server =
        |p: &Packet| matches!(p.protocol, 6 | 17) && [mode.ports.0, mode.ports.1].contains(&p.destination.1);
    let packets = seen.servers.iter().flat_map(|frames| frames.packets()).filter(to_server);
    let used: BTreeSet<IpAddr> = packets.map(|packet| packet.source.0).collect();
    assert!(local.is_empty() || used == local, "servers saw {used:?}, local addresses are {local:?}");
}
