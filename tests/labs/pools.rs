//! FULLNAT when local ports run out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::Capture;
use fulcrum_e2e::client::{expected, tally};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::{Process, program, wait_for};
use fulcrum_e2e::topology::{self, Topology};

use crate::schedule::sessions_end_on_schedule;

const SERVICE: &str = "
[[service]]
address = \"172.16.100.9:80\"
protocol = \"tcp\"
scheduler = \"rr\"
local-pool = \"inside\"
";

/// Opens connections to the service until one is not answered; they stay open while the process runs.
fn fill(lab: &Lab, net: &Topology, name: &str) -> Process {
    let mut command = net.client.command(program("fulcrum-lab"));
    command.args(["fill", "172.16.100.9:80", "10", "1500"]);
    let process = Process::start(&mut command, lab.directory().join(name));
    process.wait_said("open", Duration::from_secs(20));
    process
}

#[test]
fn a_full_pool_refuses_and_serves_another_server_from_the_same_ports() {
    let mut lab = Lab::new("pool");
    let pool = "addresses = [\"192.168.20.200\"]\nports = \"20000-20003\"";
    let net = topology::fullnat(&lab, pool);
    let network = format!("{}{SERVICE}", net.network);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &network);
    let capture = Capture::start(net.other(), "eth0", lab.directory(), "router");

    director.ipvsadm("-a -t 172.16.100.9:80 -r 192.168.30.7:8080 -b");
    let first = fill(&lab, &net, "first.log");
    assert_eq!(tally(&first.log()), expected([("web7", 4), ("refused", 1), ("open", 1)]));
    assert!(director.drops("local-ports-exhausted") > 0);

    // The same four ports of the same address, towards another server.
    director.ipvsadm("-e -t 172.16.100.9:80 -r 192.168.30.7:8080 -b -w 0");
    director.ipvsadm("-a -t 172.16.100.9:80 -r 192.168.40.8:8080 -b");
    let second = fill(&lab, &net, "second.log");
    assert_eq!(tally(&second.log()), expected([("web8", 4), ("refused", 1), ("open", 1)]));

    let frames = capture.stop();
    frames.check_sums();
    let ports_towards = |server: IpAddr| -> BTreeSet<(IpAddr, u16)> {
        frames.packets().filter(|p| p.destination == (server, 8080)).map(|p| p.source).collect()
    };
    let local = IpAddr::from([192, 168, 20, 200]);
    let all: BTreeSet<_> = (20000..=20003).map(|port| (local, port)).collect();
    assert_eq!(ports_towards(IpAddr::from([192, 168, 30, 7])), all);
    assert_eq!(ports_towards(IpAddr::from([192, 168, 40, 8])), all);

    // Closed by the client first: TIME_WAIT, and then every port is free again.
    assert_eq!(director.sessions().len(), 8);
    drop((first, second));
    wait_for("closed connections", Duration::from_secs(30), || {
        director.sessions().iter().all(|row| row.state == "TIME_WAIT").then_some(())
    });
    lab.rest();
    director.rest();
    sessions_end_on_schedule(&director, 120);
    let third = fill(&lab, &net, "third.log");
    assert_eq!(tally(&third.log()), expected([("web8", 4), ("refused", 1), ("open", 1)]));
}
