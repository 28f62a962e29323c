//! Two routers towards the clients: whose answers take which, and what a cut link does to connections.

use std::collections::BTreeSet;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::{Capture, Frames};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Namespace, link};
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::server::Server;

const NETWORK: &str = r#"
[[port]]
name = "wan1"
device = "wan1"
[[port]]
name = "wan2"
device = "wan2"
[[port]]
name = "lan"
device = "lan"
[[interface]]
name = "wan1"
port = "wan1"
addresses = ["10.8.1.1/24"]
[[interface]]
name = "wan2"
port = "wan2"
addresses = ["10.8.2.1/24"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["192.168.20.1/24"]
[[route]]
to = "0.0.0.0/0"
via = ["10.8.1.254", "10.8.2.254"]
"#;

/// Ports of the client's connections.
const PORTS: std::ops::Range<u16> = 40_000..40_012;

/// Which connections' answers came by.
fn seen(frames: &Frames) -> BTreeSet<u16> {
    let answers = frames.packets().filter(|packet| packet.source.1 == 80);
    answers.map(|packet| packet.destination.1).collect()
}

fn answers(director: &Director) -> Vec<(String, bool)> {
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(&director.fulcrum("route list --json")).expect("a list");
    let gateways = rows.iter().filter(|row| row["weight"] == 1);
    let gateway =
        |row: &serde_json::Value| Some((row["via"].as_str()?.to_owned(), row["answers"].as_bool()?));
    gateways.filter_map(gateway).collect()
}

fn received(router: &Namespace) -> u64 {
    router.sh("cat /sys/class/net/dir/statistics/rx_packets").trim().parse().expect("a number")
}

#[test]
fn connections_of_a_router_whose_link_is_cut_go_on_by_the_other_and_return() {
    let mut lab = Lab::new("nexthops");
    let (client, inside) = (lab.host("client"), lab.namespace("director"));
    let mut far = lab.switch("far");
    far.attach(&client, "eth0");
    client.sh("ip addr add 10.9.0.50/24 dev eth0");
    let routers = [1, 2].map(|n| {
        let router = lab.router(&format!("r{n}"));
        far.attach(&router, "far");
        link(&inside, &format!("wan{n}"), &router, "dir");
        router.sh(&format!(
            "ip addr add 10.9.0.25{n}/24 dev far
             ip addr add 10.8.{n}.254/24 dev dir
             ip route add 172.16.100.0/24 via 10.8.{n}.1"
        ));
        router
    });
    // Requests come by the first one all the time.
    client.sh("ip route add 172.16.100.0/24 via 10.9.0.251");
    let web = lab.host("web7");
    link(&inside, "lan", &web, "eth0");
    web.give("eth0", "192.168.20.7");
    web.route("default", "192.168.20.1", "");
    let mut server = Server::new(web, "web7", lab.directory());
    server.serve_http(&[8080]);
    let director = Director::start(&inside, lab.directory(), &Setup::TWO, NETWORK);
    director.ipvsadm("-A -t 172.16.100.9:80 -s rr");
    director.ipvsadm("-a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m");
    wait_for("both gateways", Duration::from_secs(20), || {
        (answers(&director).iter().filter(|(_, answers)| *answers).count() == 2).then_some(())
    });

    let captures =
        [1, 2].map(|n| Capture::start(&routers[n - 1], "dir", lab.directory(), &format!("router{n}")));
    // Slow enough to be under way all the time: a gateway that was asked in vain for three seconds is asked again after
    // three more.
    let mut downloads: Vec<Process> = PORTS
        .map(|port| {
            let mut curl = client.command("curl");
            curl.args(["-sS", "--fail", "--max-time", "40", "--limit-rate", "100k", "-r", "0-1199999"]);
            curl.args(["-o", "/dev/null", "-w", "%{size_download}\n"]);
            curl.args(["--local-port", &port.to_string(), "http://172.16.100.9/big"]);
            Process::start(&mut curl, lab.directory().join(format!("curl{port}.log")))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));

    let [_, second] = &routers;
    second.sh("ip link set dir down");
    wait_for("the second one silent", Duration::from_secs(10), || {
        (answers(&director) == [("10.8.1.254".to_owned(), true), ("10.8.2.254".to_owned(), false)])
            .then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    // What the kernel takes off with a link.
    second.sh("ip link set dir up; ip route add 172.16.100.0/24 via 10.8.2.1");
    wait_for("the second one again", Duration::from_secs(10), || {
        answers(&director).iter().all(|(_, answers)| *answers).then_some(())
    });
    let before = received(second);
    wait_for("its flows back", Duration::from_secs(5), || (received(second) > before + 20).then_some(()));

    for download in &mut downloads {
        assert!(download.wait(Duration::from_secs(40)).success(), "{}", download.log());
        assert_eq!(download.log().trim(), "1200000");
    }
    let [first, second] = captures.map(|capture| seen(&capture.stop()));
    assert_eq!(first, PORTS.collect(), "each went by the first one, at least for a while");
    assert!((2..PORTS.len() - 1).contains(&second.len()), "the others never left it: {second:?}");
    for port in PORTS {
        let trace = director.fulcrum(&format!("trace 10.9.0.50:{port} 172.16.100.9:80"));
        let gateway = if second.contains(&port) { "10.8.2.254" } else { "10.8.1.254" };
        assert!(trace.contains(&format!("gateway {gateway}, of 2 gateways")), "{port}: {trace}");
    }
    lab.rest();
    director.rest();
}
