//! Ports of several devices: DPDK's bonding driver over interfaces whose cables are pulled.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, get, same_as_big, tally};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Namespace, link};
use fulcrum_e2e::process::wait_for;
use fulcrum_e2e::topology;
use serde_json::Value;

const SERVICE: &str = "
    -A -t 172.16.100.9:80 -s rr
    -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
    -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m";

/// How long a bond may take to agree on something: LACP waits two seconds before it aggregates.
const AGREED: Duration = Duration::from_secs(20);

/// The members' states, in order.
fn states(director: &Director, port: &str) -> Vec<String> {
    let port: Value = serde_json::from_str(&director.fulcrum(&format!("port show {port} --json"))).unwrap();
    let members = port["bond"]["members"].as_array().expect("a bond").clone();
    members.iter().map(|member| member["state"].as_str().expect("a word").to_owned()).collect()
}

fn wait_states(director: &Director, port: &str, wanted: [&str; 2]) {
    let mut seen = Vec::new();
    let start = std::time::Instant::now();
    while seen != wanted {
        assert!(start.elapsed() < AGREED, "{port}: {seen:?}, not {wanted:?}");
        seen = states(director, port);
    }
}

/// What interfaces are like, as far as a bond changes it.
fn looks(inside: &Namespace, devices: [&str; 2]) -> Vec<String> {
    let look = |device: &str| {
        let read = |file: &str| inside.sh(&format!("cat /sys/class/net/{device}/{file}"));
        format!("{} {} {}", read("address").trim(), read("mtu").trim(), read("flags").trim())
    };
    devices.map(look).into()
}

#[test]
fn an_active_backup_bond_goes_on_by_the_other_cable() {
    let lab = Lab::new("backup");
    let net = topology::nat(&lab);
    // The client and the director's two cables are on one switch, which knows nothing of a bond.
    net.director.sh("ip link del wan");
    let mut wan = lab.switch("wan");
    wan.attach(&net.director, "up0");
    wan.attach(&net.director, "up1");
    wan.attach(&net.client, "eth0");
    net.client.give("eth0", "172.16.100.50");
    net.director.sh("ip link set up1 mtu 1600");
    let bond = "bond = { mode = \"active-backup\", members = [\"up0\", \"up1\"], primary = \"up0\" }";
    let network = net.network.replace("device = \"wan\"", bond);
    // The host has an address by the bond, too.
    let network = network.replace("port = \"wan\"", "port = \"wan\"\nexception = \"fc-wan\"");
    let network = format!("metrics = \"127.0.0.1:9559\"\n{network}");
    let before = looks(&net.director, ["up0", "up1"]);
    let mut director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network);
    director.ipvsadm_lines(SERVICE);
    wait_states(&director, "wan", ["active", "backup"]);
    net.director.sh("ip addr add 172.16.100.99/24 dev fc-wan");
    let try_all = || {
        assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
        net.client.sh("ping -qc 2 -i 0.2 -W 5 172.16.100.99");
    };
    try_all();
    let announced = || director.events("sent.arp-gratuitous");
    let count = announced();

    let copy = lab.directory().join("copy");
    let mut download = net.client.command("curl");
    let file = copy.display().to_string();
    download.args(["-sS", "--fail", "--limit-rate", "4M", "--max-time", "60", "-o", &file]);
    let mut download = download.arg("http://172.16.100.9/big").spawn().expect("curl can be run");
    wait_for("the beginning of a download", Duration::from_secs(10), || {
        std::fs::metadata(&copy).ok().filter(|file| file.len() > 0)
    });
    wan.set_port(1, false);
    wait_states(&director, "wan", ["down", "active"]);
    let metrics = net.director.sh("curl -sf --max-time 5 http://127.0.0.1:9559/metrics");
    for (member, up) in [("up0", 0), ("up1", 1)] {
        let series = format!("fulcrum_port_member_up{{port=\"wan\",member=\"{member}\"}} {up}");
        assert!(metrics.lines().any(|line| line == series), "{metrics}");
    }
    wait_for("gratuitous ARP by the other member", Duration::from_secs(10), || {
        (announced() > count).then_some(())
    });
    try_all();
    wan.set_port(1, true);
    wait_states(&director, "wan", ["active", "backup"]);
    try_all();
    assert!(download.wait().expect("curl ends").success(), "a connection that lasts survives both changes");
    same_as_big(&copy, lab.directory());

    // All cables: the port is down, and up again with the first one.
    let status =
        |director: &Director| director.status().expect("control answers")["dataplane"]["ports"][0].clone();
    wan.set_port(1, false);
    wan.set_port(2, false);
    wait_states(&director, "wan", ["down", "down"]);
    assert_eq!(status(&director)["link"], false);
    wan.set_port(2, true);
    wait_states(&director, "wan", ["down", "active"]);
    assert_eq!(status(&director)["link"], true);
    try_all();
    wan.set_port(1, true);
    wait_states(&director, "wan", ["active", "backup"]);

    // Killed in the middle, with MAC addresses and an MTU that are not the interfaces' own.
    director.dataplane().kill();
    director.start_dataplane();
    director.wait_programmed(Duration::from_secs(30));
    wait_states(&director, "wan", ["active", "backup"]);
    assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
    let (dataplane, control) = director.stop();
    assert!(dataplane.success() && control.success(), "data plane: {dataplane}, control: {control}");
    assert_eq!(looks(&net.director, ["up0", "up1"]), before);
}

#[test]
fn an_lacp_bond_aggregates_with_its_partner() {
    let lab = Lab::new("lacp");
    let net = topology::nat(&lab);
    // client ── peer ══ director: the peer is another data plane, which routes.
    let (peer, peer_lab) = (lab.namespace("peer"), lab.directory().join("peer"));
    std::fs::create_dir(&peer_lab).expect("the lab's directory is writable");
    net.director.sh("ip link del wan");
    link(&peer, "down0", &net.director, "up0");
    link(&peer, "down1", &net.director, "up1");
    link(&net.client, "eth0", &peer, "clients");
    net.client.sh("ip addr add 10.5.0.50/24 dev eth0; ip route add default via 10.5.0.1");
    let bond = |members: &str| format!("bond = {{ mode = \"lacp\", members = [{members}] }}");
    let far = format!(
        "[[port]]\nname = \"down\"\n{}\n[[port]]\nname = \"clients\"\ndevice = \"clients\"\n\
         [[interface]]\nname = \"down\"\nport = \"down\"\naddresses = [\"172.16.100.254/24\"]\n\
         [[interface]]\nname = \"clients\"\nport = \"clients\"\naddresses = [\"10.5.0.1/24\"]\n",
        bond("\"down0\", \"down1\"")
    );
    let network = format!(
        "{}[[route]]\nto = \"10.5.0.0/24\"\nvia = \"172.16.100.254\"\n",
        net.network.replace("device = \"wan\"", &bond("\"up0\", \"up1\""))
    );
    let before = looks(&net.director, ["up0", "up1"]);
    let partner = Director::start(&peer, &peer_lab, &Setup::ONE, &far);
    let mut director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network);
    director.ipvsadm_lines(SERVICE);
    for (side, port) in [(&director, "wan"), (&partner, "down")] {
        wait_states(side, port, ["aggregated", "aggregated"]);
    }
    // Connections are spread over both members, in both directions; by themselves clients might use even ports only.
    let answers = net.client.sh("for port in $(seq 40001 40020); do
            curl -s --max-time 5 --local-port $port http://172.16.100.9/ || echo -
         done");
    assert_answered(&tally(&answers), 20);
    let sent = |director: &Director, port: &str| {
        let port: Value =
            serde_json::from_str(&director.fulcrum(&format!("port show {port} --json"))).unwrap();
        let packets = |member: &Value| member["tx_packets"].as_u64().expect("a number");
        port["bond"]["members"].as_array().expect("a bond").iter().map(packets).collect::<Vec<_>>()
    };
    for sent in [sent(&director, "wan"), sent(&partner, "down")] {
        assert!(sent.iter().all(|packets| *packets > 40), "{sent:?}");
    }

    net.director.sh("ip link set up0 down");
    for (side, port) in [(&director, "wan"), (&partner, "down")] {
        wait_states(side, port, ["down", "aggregated"]);
    }
    assert_answered(&get(&net.client, "172.16.100.9", 10), 10);
    net.director.sh("ip link set up0 up");
    for (side, port) in [(&director, "wan"), (&partner, "down")] {
        wait_states(side, port, ["aggregated", "aggregated"]);
    }
    assert_answered(&get(&net.client, "172.16.100.9", 10), 10);
    let (dataplane, control) = director.stop();
    assert!(dataplane.success() && control.success(), "data plane: {dataplane}, control: {control}");
    assert_eq!(looks(&net.director, ["up0", "up1"]), before);
}
