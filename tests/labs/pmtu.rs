//! Path MTU discovery: routers on the way take less than the ends would send, and say so to the director.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::{Capture, Packet};
use fulcrum_e2e::client::{download_some, upload_some};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Family, Namespace, link};
use fulcrum_e2e::topology::{self, Topology};

/// What the narrow links take.
const NARROW: usize = 1400;

/// Ways with a VIP each; all of them to web1, on the director's link, and to web3 behind a router.
const WAYS: [(&str, &str, &str); 4] = [
    ("172.16.100.9", "-m", ":8080"),
    ("172.16.100.10", "-g", ""),
    ("172.16.100.11", "-i", ""),
    ("172.16.100.12", "-b", ":8080"),
];

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

fn forget(inside: &Namespace) {
    inside.sh("ip route flush cache; ip -6 route flush cache");
}

/// Whether it is an error about a packet's size, or a tunnel packet with one inside.
fn is_too_big(packet: &Packet) -> bool {
    let packet = packet.inner().unwrap_or(*packet);
    matches!((packet.protocol, packet.payload), (1, [3, 4, ..]) | (58, [2, ..]))
}

/// Carries one megabyte in each way, up from the client or down to it; who sends it has to learn.
fn learns(lab: &Lab, net: &Topology, far: &Namespace, family: Family, ways: &[(&str, &str, &str)], up: bool) {
    let sender = if up { far } else { &net.servers[0].inside };
    for (vip, how, _) in ways {
        forget(sender);
        let name = format!("{}{how}", if up { "up" } else { "down" });
        let capture = Capture::start(sender, "eth0", lab.directory(), &name);
        let host = family.host(vip);
        if up {
            upload_some(far, &host, lab.directory(), &net.servers);
        } else {
            download_some(far, &host, lab.directory());
        }
        let frames = capture.stop();
        frames.check_sums();
        let told = frames.packets().filter(is_too_big).count();
        assert!(told > 0, "{name}: whoever sends must be told by an ICMP error");
        let (vip, ends) = (family.address(vip), |p: &Packet| [p.source.0, p.destination.0]);
        let large = |p: &Packet| p.protocol == 6 && p.total > NARROW && (!up || ends(p).contains(&vip));
        let late = frames.packets().skip_while(|p| !is_too_big(p)).filter(large).count();
        // What was on its way already.
        assert!(late < 100, "{name}: {late} packets are too large although the sender was told");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn client_side(family: Family, setup: &Setup) {
    let lab = Lab::new(&format!("pmtuc{family:?}"));
    let (net, far) = stage(&lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    for (vip, how, port) in WAYS {
        director.ipvsadm(&family.words(&format!("-A -t {vip}:80 -s rr")));
        if how == "-b" {
            director.ipvsadm(&family.words(&format!("-P -t {vip}:80 -z 192.168.20.200")));
        }
        director.ipvsadm(&family.words(&format!("-a -t {vip}:80 -r 192.168.20.7{port} {how}")));
    }
    narrow(&net.client, "172.16.99", "far");
    learns(&lab, &net, &far, family, &WAYS, false);
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
    let ways: Vec<_> = WAYS.into_iter().filter(|(_, how, _)| *how != "-g").collect();
    for (vip, how, port) in &ways {
        director.ipvsadm(&family.words(&format!("-A -t {vip}:80 -s rr")));
        if *how == "-b" {
            director.ipvsadm(&family.words(&format!("-P -t {vip}:80 -z 192.168.20.200")));
        }
        director.ipvsadm(&family.words(&format!("-a -t {vip}:80 -r 192.168.30.9{port} {how}")));
    }
    narrow(router, "192.168.30", "web3");
    learns(&lab, &net, &far, family, &ways, true);
}

#[test]
fn servers_learn_of_a_narrow_link_near_the_client() {
    client_side(Family::V4, &Setup::MISDIRECTED);
}

#[test]
fn clients_learn_of_a_narrow_link_near_the_server() {
    server_side(Family::V4, &Setup::MISDIRECTED);
}
