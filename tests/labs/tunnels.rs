//! Tunnels of every kind: either family in either, and GRE and GUE around it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{ask_udp, download, expected, get, upload};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::{topology, ways};

/// Both services through tunnels to web1 and to web3, which is behind a router.
fn carries(name: &str, inner: Family, outer: Family, setup: &Setup, kinds: &[(&str, u8)]) {
    let lab = Lab::new(&format!("{name}{}", setup.workers()));
    let net = topology::stage(&lab);
    // web3 answers clients as web1 does: through the router.
    net.servers[2].inside.route("default", "192.168.30.254", "");
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    let (host, servers) =
        (inner.host(ways::TUN.vip), ["192.168.20.7", "192.168.30.9"].map(|a| outer.host(a)));
    for (options, protocol) in kinds {
        for (kind, port) in [("-t", 80), ("-u", 5000)] {
            director.ipvsadm(&format!("-A {kind} {host}:{port} -s rr"));
            for server in &servers {
                director.ipvsadm(&format!("-a {kind} {host}:{port} -r {server}:{port} -i {options}"));
            }
        }
        let captures = net.capture(&lab);
        assert_eq!(get(&net.client, &host, 4), expected([("web1", 2), ("web3", 2)]), "{options}");
        let udp = format!("{host}:5000");
        assert_eq!(ask_udp(&net.client, &udp, 4), expected([("web1", 2), ("web3", 2)]), "{options}");
        download(&net.client, &host, lab.directory());
        upload(&net.client, &host, lab.directory(), &net.servers);
        let seen = captures.stop();
        for server in [0, 2] {
            let (director, address) =
                (outer.address("192.168.20.1"), outer.address(["192.168.20.7", "", "192.168.30.9"][server]));
            let tunnelled = |p: &fulcrum_e2e::capture::Packet| {
                p.protocol == *protocol && p.source.0 == director && p.destination.0 == address
            };
            assert!(seen.servers[server].packets().any(|p| tunnelled(&p)), "{options}: web{}", server + 1);
        }
        director.ipvsadm("-C");
    }
}

#[test]
fn ipv4_in_ipv6() {
    carries("4in6", Family::V4, Family::V6, &Setup::MISDIRECTED, &[("", 4)]);
}

#[test]
fn ipv6_in_ipv4() {
    carries("6in4", Family::V6, Family::V4, &Setup::MISDIRECTED, &[("", 41)]);
}

#[test]
fn ipv6_in_ipv6() {
    carries("6in6", Family::V6, Family::V6, &Setup::ONE, &[("", 41)]);
}

/// The other kinds of tunnels, with and without checksums.
const KINDS: [(&str, u8); 4] = [
    ("--tun-type gre", 47),
    ("--tun-type gre --tun-csum", 47),
    ("--tun-type gue --tun-port 6080", 17),
    ("--tun-type gue --tun-port 6080 --tun-csum", 17),
];

#[test]
fn gre_and_gue_carry_ipv4() {
    carries("gre4", Family::V4, Family::V4, &Setup::ONE, &KINDS);
}

#[test]
fn gre_and_gue_carry_ipv6() {
    carries("gre6", Family::V6, Family::V6, &Setup::ONE, &KINDS);
}

#[test]
fn flows_come_from_local_addresses_where_a_server_wants_it() {
    let lab = Lab::new("tunsource");
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::MISDIRECTED, &net.network);
    let vip = ways::TUN.vip;
    director.ipvsadm(&format!("-A -u {vip}:5000 -s rr"));
    let locals = ["192.168.20.210", "192.168.20.211"];
    for local in locals {
        director.ipvsadm(&format!("-P -u {vip}:5000 -z {local}"));
    }
    director.fulcrum(&format!("server add udp {vip}:5000 192.168.20.7 --forward tun --tunnel-source local"));
    let captures = net.capture(&lab);
    assert_eq!(ask_udp(&net.client, &format!("{vip}:5000"), 16), expected([("web1", 16)]));
    let seen = captures.stop();
    let tunnelled = seen.servers[0].packets().filter(|packet| packet.protocol == 4);
    let sources: BTreeSet<IpAddr> = tunnelled.map(|packet| packet.source.0).collect();
    assert_eq!(sources, locals.map(|local| local.parse().unwrap()).into());
    // The workers that carried them say so.
    let workers = director.fulcrum("worker list --json");
    let workers: Vec<serde_json::Value> = serde_json::from_str(&workers).unwrap();
    assert_eq!(workers.len(), Setup::MISDIRECTED.workers());
    assert!(workers.iter().map(|worker| worker["rx_packets"].as_u64().unwrap()).sum::<u64>() >= 16);
    assert!(director.fulcrum("worker show 0").starts_with("worker    0 on lcore "));
}
