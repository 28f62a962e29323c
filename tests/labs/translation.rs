//! FULLNAT between families: IPv6 clients of IPv4 servers, and the other way round.

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{ask_udp, download, expected, get, upload};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::{topology, ways};

/// The FULLNAT services of the stage with addresses of `outside`, and servers and local addresses of `inside`.
fn serves(name: &str, outside: Family, inside: Family, setup: &Setup) {
    let lab = Lab::new(&format!("{name}{}", setup.workers()));
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    for line in ways::FULLNAT.commands.lines().filter(|line| !line.trim().is_empty()) {
        let (service, server) = line.split_at(line.find(" -r ").or(line.find(" -z ")).unwrap_or(line.len()));
        director.ipvsadm(&format!("{} {}", outside.words(service), inside.words(server)));
    }
    let captures = net.capture(&lab);
    let host = outside.host(ways::FULLNAT.vip);
    assert_eq!(get(&net.client, &host, 6), expected([("web2", 3), ("web3", 3)]));
    assert_eq!(ask_udp(&net.client, &format!("{host}:5000"), 6), expected([("web2", 3), ("web3", 3)]));
    download(&net.client, &host, lab.directory());
    upload(&net.client, &host, lab.directory(), &net.servers);
    let seen = captures.stop();
    let of = |family: Family| move |ip: std::net::IpAddr| ip.is_ipv4() == (family == Family::V4);
    let (vip, outside, inside) = (outside.address(ways::FULLNAT.vip), of(outside), of(inside));
    assert!(seen.client.packets().any(|p| p.destination == (vip, 80) && outside(p.source.0)));
    let requests = seen.servers.iter().flat_map(|frames| frames.packets());
    let mut requests = requests.filter(|p| [8080, 5001].contains(&p.destination.1)).peekable();
    assert!(
        requests.peek().is_some() && requests.all(|p| inside(p.source.0)),
        "servers see their own family"
    );
}

#[test]
fn clients_of_ipv6_reach_servers_of_ipv4() {
    serves("nat64", Family::V6, Family::V4, &Setup::ONE);
}

#[test]
fn clients_of_ipv6_reach_servers_of_ipv4_over_workers() {
    serves("nat64", Family::V6, Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn clients_of_ipv4_reach_servers_of_ipv6() {
    serves("nat46", Family::V4, Family::V6, &Setup::ONE);
}

#[test]
fn clients_of_ipv4_reach_servers_of_ipv6_over_workers() {
    serves("nat46", Family::V4, Family::V6, &Setup::MISDIRECTED);
}
