//! Path MTU discovery: routers on the way take less than the ends would send, and say so to the director.

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::{Capture, Packet};
use fulcrum_e2e::client::{download_some, upload_some};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Family, Namespace, link};
use fulcrum_e2e::topology::{self, Topology};

/// What the narrow links take.
const NARROW: usize = 1400;

/// A way with a VIP of its own.
struct Way {
    vip: &'static str,
    flag: &'static str,
    port: &'static str,
    /// The server that sends, by place and address: none learns of a link twice.
    near: (usize, &'static str),
}

const WAYS: [Way; 4] = [
    Way { vip: "172.16.100.9", flag: "-m", port: ":8080", near: (0, "192.168.20.7") },
    Way { vip: "172.16.100.10", flag: "-g", port: "", near: (0, "192.168.20.7") },
    Way { vip: "172.16.100.11", flag: "-i", port: "", near: (1, "192.168.20.8") },
    Way { vip: "172.16.100.12", flag: "-b", port: ":8080", near: (1, "192.168.20.8") },
];

impl Way {
    /// Sets the service up, with one server.
    fn add(&self, director: &Director, family: Family, server: &str) {
        let Way { vip, flag, port, .. } = self;
        let local = if *flag == "-b" { format!("-P -t {vip}:80 -z 192.168.20.200\n") } else { String::new() };
        director.ipvsadm_lines(
            &family.words(&format!("-A -t {vip}:80 -s rr\n{local}-a -t {vip}:80 -r {server}{port} {flag}")),
        );
    }
}

/// The stage with a client that is one router further away: `far`, 172.16.99.50.
fn stage(lab: &Lab) -> (Topology, Namespace) {
    let mut net = topology::stage(lab);
    let far = lab.host("far");
    net.client.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    link(&net.client, "far", &far, "eth0");
    net.client.give("far", "172.16.99.254");
    far.give("eth0", "172.16.99.50");
    far.route("default", "172.16.99.254", "");
    net.other().route("172.16.99.0/24", "172.16.100.50", "");
    net.network += &topology::route("172.16.99", "172.16.100.50");
    (net, far)
}

/// From now on a router sends no more than [`NARROW`] bytes to a subnet behind one of its devices.
fn narrow(router: &Namespace, subnet: &str, device: &str) {
    let to6 = Family::V6.address(&format!("{subnet}.0"));
    router.sh(&format!(
        "ip route replace {subnet}.0/24 dev {device} mtu lock {NARROW}
         ip -6 route del {to6}/64 dev {device} || true
         ip -6 route add {to6}/64 dev {device} mtu lock {NARROW}"
    ));
}

/// Whether it is an error about a packet's size, or a tunnel packet with one inside.
fn is_too_big(packet: &Packet) -> bool {
    let packet = packet.inner().unwrap_or(*packet);
    matches!((packet.protocol, packet.payload), (1, [3, 4, ..]) | (58, [2, ..]))
}

/// Carries one megabyte in a way, up from the client or down to it; who sends it has to learn.
fn learns(lab: &Lab, net: &Topology, far: &Namespace, family: Family, way: &Way, up: bool) {
    let sender = if up { far } else { &net.servers[way.near.0].inside };
    let name = format!("{}{}", if up { "up" } else { "down" }, way.flag);
    let capture = Capture::start(sender, "eth0", lab.directory(), &name);
    let host = family.host(way.vip);
    if up {
        upload_some(far, &host, lab.directory(), &net.servers);
    } else {
        download_some(far, &host, lab.directory());
    }
    let frames = capture.stop();
    frames.check_sums();
    let large = |p: &Packet| p.protocol == 6 && p.total > NARROW;
    assert!(frames.packets().any(|p| large(&p)), "{name}: nothing was too large");
    assert!(frames.packets().any(|p| is_too_big(&p)), "{name}: whoever sends must be told by an ICMP error");
    let late = frames.packets().skip_while(|p| !is_too_big(p)).filter(large).count();
    // What was on its way already.
    assert!(late < 100, "{name}: {late} packets are too large although the sender was told");
}

fn client_side(family: Family, setup: &Setup) {
    let lab = Lab::new(&format!("pmtuc{family:?}"));
    let (net, far) = stage(&lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    narrow(&net.client, "172.16.99", "far");
    for way in &WAYS {
        way.add(&director, family, way.near.1);
        learns(&lab, &net, &far, family, way, false);
    }
}

fn server_side(family: Family, setup: &Setup) {
    let lab = Lab::new(&format!("pmtus{family:?}"));
    let (net, far) = stage(&lab);
    // NAT: what web3 sends, and what the router says to clients, goes by the director.
    let (router, web3) = (net.other(), &net.servers[2]);
    web3.inside.route("default", "192.168.30.254", "");
    router.route("default", "192.168.20.1", "table 100");
    let (from, to) = (family.address("192.168.30.9"), family.address("172.16.99.50"));
    let ip = if family == Family::V4 { "ip" } else { "ip -6" };
    router.sh(&format!(
        "{ip} rule add from {from} lookup 100
         {ip} rule add iif lo to {to} lookup 100"
    ));
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    narrow(router, "192.168.30", "web3");
    // DR servers are never behind a router.
    for way in WAYS.iter().filter(|way| way.flag != "-g") {
        way.add(&director, family, "192.168.30.9");
        learns(&lab, &net, &far, family, way, true);
    }
}

#[test]
fn servers_learn_of_a_narrow_link_near_the_client() {
    client_side(Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn clients_learn_of_a_narrow_link_near_the_server() {
    server_side(Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn servers_learn_of_a_narrow_link_near_the_client_of_ipv6() {
    client_side(Family::V6, &Setup::MISDIRECTED);
}

#[test]
fn clients_of_ipv6_learn_of_a_narrow_link_near_the_server() {
    server_side(Family::V6, &Setup::MISDIRECTED);
}
