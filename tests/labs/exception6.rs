//! The exception path in IPv6: the director's host behind its only port, found and finding by neighbour discovery.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Family, Namespace};
use fulcrum_e2e::process::wait_for;
use fulcrum_e2e::topology;

use crate::exception::{network, web};

const SOON: Duration = Duration::from_secs(5);

const SERVICE: &str = "
    -A -t 172.16.100.9:80 -s rr
    -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
    -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m";

/// Whether an address of a device was found to be another station's, as soon as that is known.
fn is_taken(of: &Namespace, device: &str, address: &str) -> bool {
    wait_for("an address that is tentative no more", SOON, || {
        let shown = of.sh(&format!("ip -6 addr show dev {device}"));
        let line = shown.lines().find(|line| line.contains(&format!("inet6 {address}/")))?.to_owned();
        match (line.contains("dadfailed"), line.contains("tentative")) {
            (true, _) => Some(true),
            (_, false) => Some(false),
            _ => None,
        }
    })
}

#[test]
fn a_host_stays_reachable_by_ipv6_and_keeps_its_neighbours() {
    let lab = Lab::new("host6");
    let net = topology::nat(&lab);
    let (host, client) = (&net.director, &net.client);
    host.speak_ipv6();
    host.give("wan", "172.16.100.1");
    host.sh("ip -6 route add default via fd00:100::50 dev wan
        ip route add default via 172.16.100.50 dev wan");
    let ways = || {
        let addresses = host.sh("ip -6 -br addr show scope global | awk '{print $1, $3}' | sed 's/@[^ ]*//'");
        addresses + &host.sh("ip -6 route show | grep -v 'proto kernel' | sort")
    };
    let before = ways();
    let mut director = Director::start(host, lab.directory(), &Setup::MISDIRECTED, &network(&net, ""));
    director.ipvsadm_lines(&Family::V6.words(SERVICE));
    let during = ways();
    assert_eq!(during, before.replace("wan", "fc-wan"), "ways");

    // By an address that the director has, too, and one that it has not; each finds the other anew.
    let _web = web(&lab, host, &["[::]:22"], "host");
    let forget = || {
        client.sh("ip -6 neigh flush dev eth0");
        host.sh("ip -6 neigh flush dev fc-wan");
    };
    host.sh("sysctl -qw net.ipv6.conf.fc-wan.accept_dad=1 net.ipv6.conf.fc-wan.dad_transmits=1
        ip addr add fd00:100::33/64 dev fc-wan");
    assert!(!is_taken(host, "fc-wan", "fd00:100::33"));
    let answers = |address: &str| {
        let asked = client.try_sh(&format!("curl -s --max-time 1 http://[{address}]:22/"));
        asked.stdout == b"host\n"
    };
    for address in ["fd00:100::1", "fd00:100::33"] {
        wait_for(&format!("the host at {address}"), SOON, || answers(address).then_some(()));
        forget();
        assert_eq!(get(client, &format!("[{address}]:22"), 5), expected([("host", 5)]), "{address}");
        // In one piece and in three.
        client.sh(&format!("for size in 56 3000; do ping -q -c 2 -i 0.2 -W 2 -s $size {address}; done"));
        forget();
        host.sh(&format!(
            "for size in 56 3000; do ping -q -c 2 -i 0.2 -W 2 -s $size -I {address} fd00:100::50; done"
        ));
    }
    forget();
    assert_eq!(get(client, "[fd00:100::9]", 4), expected([("web7", 2), ("web8", 2)]));
    assert_eq!(get(host, "[fd00:100::9]", 4), expected([("web7", 2), ("web8", 2)]), "from the host");

    // Who wants an address that somebody has is told so, whoever that is.
    host.sh("ip addr add fd00:100::50/64 dev fc-wan");
    assert!(is_taken(host, "fc-wan", "fd00:100::50"), "the client's");
    host.sh("ip addr del fd00:100::50/64 dev fc-wan");
    client.sh("sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=1");
    for (address, whose) in [("fd00:100::33", "host"), ("fd00:100::9", "director"), ("fd00:100::1", "both")] {
        client.sh(&format!("ip addr add {address}/64 dev eth0"));
        assert!(is_taken(client, "eth0", address), "the {whose}'s");
        client.sh(&format!("ip addr del {address}/64 dev eth0"));
    }
    assert_eq!(get(client, "[fd00:100::9]", 4), expected([("web7", 2), ("web8", 2)]));

    // By the addresses of the link, which the director has on the same MAC address: routing daemons talk by these.
    let of_link = |of: &Namespace, device: &str| {
        let shown = of.sh(&format!("ip -6 -br addr show dev {device} scope link"));
        let address = shown.split_whitespace().find_map(|word| word.strip_suffix("/64"));
        address.expect("it has one").to_owned()
    };
    let (its, mine) = (of_link(host, "fc-wan"), of_link(client, "eth0"));
    forget();
    assert_eq!(get(client, &format!("[{its}%25eth0]:22"), 2), expected([("host", 2)]));
    forget();
    host.sh(&format!("ping -q -c 2 -i 0.2 -W 2 {mine}%fc-wan"));

    host.sh("ip addr del fd00:100::33/64 dev fc-wan");
    wait_for("no answer of it any more", SOON, || (!answers("fd00:100::33")).then_some(()));
    let life = director.life();
    director.dataplane().kill();
    director.start_dataplane();
    director.wait_programmed_anew(life, Duration::from_secs(30));
    assert_eq!(ways(), during);
    wait_for("the host again", SOON, || answers("fd00:100::1").then_some(()));
    director.stop();
    assert_eq!(ways(), before);
    client.sh("ping -q -c 2 -i 0.2 -W 2 fd00:100::1");
}
