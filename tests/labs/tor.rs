//! Directors behind a top-of-rack router, each with BIRD beside it, which tells the router of VIPs.

use std::path::PathBuf;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Namespace, Switch, link};
use fulcrum_e2e::process::{Process, wait_for};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// VIP 10.77.0.9, in no subnet: who announces it gets its packets.
pub(crate) const VIP: &str = "10.77.0.9";

/// A director with what stands beside it.
pub(crate) struct Beside {
    pub(crate) inside: Namespace,
    pub(crate) director: Director,
    pub(crate) daemon: Process,
}

/// Where a director keeps its files.
pub(crate) fn room(lab: &Lab, name: &str) -> PathBuf {
    let room = lab.directory().join(name);
    std::fs::create_dir_all(&room).expect("the lab's directory is writable");
    room
}

/// The router, and a client behind it.
pub(crate) fn router(lab: &Lab) -> (Namespace, Namespace) {
    let (tor, client) = (lab.router("tor"), lab.host("client"));
    tor.sh("sysctl -qw net.ipv4.fib_multipath_hash_policy=1");
    link(&client, "eth0", &tor, "clients");
    tor.sh("ip addr add 10.9.0.254/24 dev clients");
    client.sh("ip addr add 10.9.0.50/24 dev eth0; ip route add default via 10.9.0.254");
    (tor, client)
}

/// BIRD on the router, which takes what both directors tell.
pub(crate) fn listening(lab: &Lab, tor: &Namespace) -> Process {
    let neighbours = [1, 2].map(|n| {
        format!(
            "protocol bgp d{n} {{
               local 10.1.{n}.254 as 65000;
               neighbor 10.1.{n}.1 as 65001;
               hold time 4; keepalive time 1; connect retry time 1; connect delay time 1;
               error wait time 1, 2;
               ipv4 {{ import all; export none; }};
             }}\n"
        )
    });
    bird(
        lab,
        tor,
        "tor",
        &format!(
            "router id 10.9.0.254;
             protocol device {{ }}
             protocol kernel {{ ipv4 {{ import none; export all; }}; merge paths on; }}
             {}",
            neighbours.concat()
        ),
    )
}

/// Director N between the router (10.1.N.254) and the servers' segment, where it is 192.168.20.N; BIRD beside it speaks to
/// the router through the exception path. `serving` is the rest of its file.
pub(crate) fn announcing(lab: &Lab, tor: &Namespace, lan: &mut Switch, n: u8, serving: &str) -> Beside {
    let inside = lab.namespace(&format!("director{n}"));
    link(&inside, "wan", tor, &format!("d{n}"));
    tor.sh(&format!("ip addr add 10.1.{n}.254/24 dev d{n}"));
    lan.attach(&inside, "lan");
    let network = format!(
        "announce-interface = \"lo\"
         [[port]]
         name = \"wan\"
         device = \"wan\"
         [[port]]
         name = \"lan\"
         device = \"lan\"
         [[interface]]
         name = \"wan\"
         port = \"wan\"
         addresses = [\"10.1.{n}.1/24\"]
         exception = \"fc-wan\"
         [[interface]]
         name = \"lan\"
         port = \"lan\"
         addresses = [\"192.168.20.{n}/24\"]
         exception = \"fc-lan\"
         [[route]]
         to = \"0.0.0.0/0\"
         via = \"10.1.{n}.254\"
         {serving}"
    );
    let director = Director::start(&inside, &room(lab, &format!("director{n}")), &Setup::ONE, &network);
    inside.sh(&format!("ip addr add 10.1.{n}.1/24 dev fc-wan; ip addr add 192.168.20.{n}/24 dev fc-lan"));
    let daemon = bird(
        lab,
        &inside,
        &format!("bird{n}"),
        &format!(
            "router id 10.1.{n}.1;
             protocol device {{ scan time 1; }}
             protocol direct {{ ipv4; interface \"lo\"; }}
             protocol bgp tor {{
               local 10.1.{n}.1 as 65001;
               neighbor 10.1.{n}.254 as 65000;
               hold time 4; keepalive time 1; connect retry time 1; connect delay time 1;
               error wait time 1, 2;
               ipv4 {{ import none; export where source = RTS_DEVICE; next hop self; }};
             }}"
        ),
    );
    Beside { inside, director, daemon }
}

/// BIRD with a configuration, started in a namespace.
fn bird(lab: &Lab, inside: &Namespace, name: &str, configuration: &str) -> Process {
    let file = |end: &str| lab.directory().join(format!("{name}.{end}"));
    std::fs::write(file("conf"), configuration).expect("the lab's directory is writable");
    let mut command = inside.command("bird");
    command.arg("-f").arg("-c").arg(file("conf")).arg("-s").arg(file("ctl")).arg("-P").arg(file("pid"));
    Process::start(&mut command, file("log"))
}

/// The next hops of the VIP at the router.
pub(crate) fn hops(tor: &Namespace) -> Vec<String> {
    let routes = tor.sh(&format!("ip route show {VIP}"));
    let mut hops: Vec<String> = routes
        .split_whitespace()
        .zip(routes.split_whitespace().skip(1))
        .filter(|(word, _)| *word == "via")
        .map(|(_, hop)| hop.to_owned())
        .collect();
    hops.sort();
    hops
}

pub(crate) fn wait_hops(tor: &Namespace, expected: &[&str]) {
    wait_for(&format!("the router to go by {expected:?}"), SOON, || (hops(tor) == expected).then_some(()));
}

/// Connections that each director has forwarded.
pub(crate) fn connections(director: &Director) -> u64 {
    director.stats().first().map_or(0, |service| service.numbers[0])
}
