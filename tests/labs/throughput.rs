//! iperf3 through every way of forwarding: streams in both directions, and datagrams at a steady rate.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Family, Namespace};
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::topology;
use serde_json::Value;

/// VIPs with the way to their one server, its place, and where iperf3 listens there.
const WAYS: [(&str, &str, &str, usize, &str); 4] = [
    ("172.16.100.9", "-m", "192.168.20.7", 0, "192.168.20.7"),
    ("172.16.100.10", "-g", "192.168.20.7", 0, "172.16.100.10"),
    ("172.16.100.11", "-i", "192.168.20.7", 0, "172.16.100.11"),
    ("172.16.100.12", "-b", "192.168.30.9", 2, "192.168.30.9"),
];

/// Measures once, with a server of its own (which would refuse whoever comes between two tests), and gives the report's
/// end. The server listens at one address: at any, its datagrams would not come from a VIP on loopback.
fn measure(lab: &Lab, client: &Namespace, server: &Namespace, listens: IpAddr, options: &str) -> Value {
    let mut command = server.command("iperf3");
    command.args(["-s", "-1", "-B", &listens.to_string()]);
    let mut process = Process::start(&mut command, lab.directory().join("iperf.log"));
    let listening = format!("ss -Hltn 'src {}'", SocketAddr::new(listens, 5201));
    wait_for("iperf3", Duration::from_secs(30), || (!server.sh(&listening).trim().is_empty()).then_some(()));
    let text = client.sh(&format!("timeout 20 iperf3 -J -t 1 {options}"));
    process.wait(Duration::from_secs(30));
    let report: Value = serde_json::from_str(&text).expect("iperf3 prints JSON");
    assert!(report["error"].is_null(), "{options}: {}", report["error"]);
    report["end"].clone()
}

fn iperf(family: Family) {
    let lab = Lab::new(&format!("iperf{family:?}"));
    let net = topology::stage(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &net.network);
    for (vip, flag, server, place, listens) in WAYS {
        for protocol in ["-t", "-u"] {
            let local = if flag == "-b" {
                format!("-P {protocol} {vip}:5201 -z 192.168.20.200")
            } else {
                String::new()
            };
            director.ipvsadm_lines(&family.words(&format!(
                "-A {protocol} {vip}:5201 -s rr\n{local}\n-a {protocol} {vip}:5201 -r {server}:5201 {flag}"
            )));
        }
        let measure = |options: &str| {
            let (server, listens) = (&net.servers[place].inside, family.address(listens));
            let options = format!("-c {} {options}", family.address(vip));
            measure(&lab, &net.client, server, listens, &options)
        };
        for options in ["-P 4", "-R"] {
            // A busy machine may have other things to do for a second.
            let received = (0..3).map(|_| {
                let bytes = measure(options)["sum_received"]["bytes"].as_f64().expect("a number");
                println!("{vip} {flag} {options}: {:.0} Mbit/s", bytes * 8e-6);
                bytes
            });
            assert!(received.into_iter().any(|bytes| bytes > 1e6), "{flag} {options}");
        }
        for options in ["-u -b 4M -l 1200", "-u -b 4M -l 1200 -R"] {
            // A busy machine may lose some, and for a moment many.
            let least_lost = (0..3).map(|_| {
                let end = measure(options);
                let number = |name: &str| end["sum"][name].as_f64().expect("a number");
                let (lost, packets) = (number("lost_packets"), number("packets"));
                println!("{vip} {flag} {options}: {lost} of {packets} datagrams lost");
                assert!(packets > 200.0, "{flag} {options}: {end}");
                number("lost_percent")
            });
            assert!(least_lost.into_iter().any(|percent| percent < 5.0), "{flag} {options}");
        }
    }
}

#[test]
fn iperf_measures_every_way() {
    iperf(Family::V4);
}

#[test]
fn iperf_measures_every_way_of_ipv6() {
    iperf(Family::V6);
}
