//! Ports by every kind of name: DPDK's virtual devices beside plain interfaces.

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, download, get, upload};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::topology::{self, Topology};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

const SERVICES: &str = "
    -A -t 172.16.100.9:80 -s rr
    -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
    -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m";

/// The drivers of all ports, in order.
fn drivers(director: &Director) -> Vec<String> {
    let status = director.status().expect("control answers");
    let ports = status["dataplane"]["ports"].as_array().expect("a list").clone();
    ports.iter().map(|port| port["driver"].as_str().expect("a name").to_owned()).collect()
}

/// NAT in both families.
fn add_services(director: &Director) {
    for family in FAMILIES {
        director.ipvsadm_lines(&family.words(SERVICES));
    }
}

/// Requests and a download in both families: neighbours ask by broadcast in the one, by multicast in the other.
fn try_services(lab: &Lab, net: &Topology) {
    for family in FAMILIES {
        let host = family.host("172.16.100.9");
        assert_answered(&get(&net.client, &host, 10), 10);
        download(&net.client, &host, lab.directory());
    }
}

/// NAT with the devices named otherwise, where the kernel speaks IPv6 on them itself until they are taken.
fn nat_over(name: &str, wan: &str, lan: &str, driver: &str) {
    let lab = Lab::new(name);
    let net = topology::nat(&lab);
    net.director.speak_ipv6();
    net.director.sh("for device in wan lan; do sysctl -qw net.ipv6.conf.$device.disable_ipv6=0; done");
    let network = net.network.replace("device = \"wan\"", &format!("device = \"{wan}\""));
    let network = network.replace("device = \"lan\"", &format!("device = \"{lan}\""));
    let director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network);
    add_services(&director);
    assert_eq!(drivers(&director), [driver, driver]);
    let captures = net.capture(&lab);
    try_services(&lab, &net);
    captures.stop();
}

#[test]
fn af_packet_by_vdev_string() {
    nat_over("afpacket", "net_af_packet0,iface=wan", "net_af_packet1,iface=lan", "net_af_packet");
}

#[test]
fn af_xdp_by_vdev_string() {
    nat_over("afxdp", "net_af_xdp0,iface=wan", "net_af_xdp1,iface=lan", "net_af_xdp");
}

#[test]
fn a_tap_device_carries_traffic() {
    let lab = Lab::new("tap");
    let net = topology::nat(&lab);
    // The client's end is the tap device that the data plane makes, moved to where the client lives.
    net.client.sh("ip link del eth0");
    let network = net.network.replace("device = \"wan\"", "device = \"net_tap0,iface=tapwan\"");
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &network);
    add_services(&director);
    assert_eq!(drivers(&director)[0], "net_tap");
    net.director.sh(&format!("ip link set tapwan netns {}", net.client.name()));
    net.client.sh("sysctl -qw net.ipv6.conf.tapwan.disable_ipv6=0; ip link set tapwan up");
    net.client.give("tapwan", "172.16.100.50");
    try_services(&lab, &net);
}

#[test]
fn devices_without_a_network_open_too() {
    let lab = Lab::new("vdevs");
    let inside = lab.namespace("director");
    let here = lab.directory().display();
    let devices = [
        "net_null0".to_owned(),
        "net_ring0".to_owned(),
        format!("net_memif0,socket={here}/memif.sock,role=server"),
        format!("net_pcap0,tx_pcap={here}/out.pcap"),
    ];
    let network: String = devices
        .iter()
        .enumerate()
        .map(|(n, device)| {
            format!(
                "[[port]]\nname = \"p{n}\"\ndevice = \"{device}\"\n\
                 [[interface]]\nname = \"p{n}\"\nport = \"p{n}\"\naddresses = [\"10.0.{n}.1/24\"]\n"
            )
        })
        .collect();
    let mut director = Director::start(&inside, lab.directory(), &Setup::ONE, &network);
    assert_eq!(drivers(&director), ["net_null", "net_ring", "net_memif", "net_pcap"]);
    let (dataplane, control) = director.stop();
    assert!(dataplane.success() && control.success(), "data plane: {dataplane}, control: {control}");
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let lab = Lab::new("nodevice");
    let inside = lab.namespace("director");
    let config = lab.directory().join("fulcrum.toml");
    let text = format!(
        "[dataplane]\nsocket = \"{}/dataplane.sock\"\n[[port]]\nname = \"wan\"\ndevice = \"nowhere\"\n",
        lab.directory().display()
    );
    std::fs::write(&config, text).expect("the lab's directory is writable");
    let mut command = inside.command(fulcrum_e2e::process::program("fulcrum-dataplane"));
    command.arg("--config").arg(&config);
    let log = lab.directory().join("dataplane.log");
    let mut process = fulcrum_e2e::process::Process::start(&mut command, log);
    let status = process.wait(std::time::Duration::from_secs(30));
    assert!(!status.success());
    assert!(process.log().contains("wan") && process.log().contains("nowhere"), "{}", process.log());
}

#[test]
fn veth_pairs_as_they_come_carry_whole_files() {
    let lab = Lab::new("offloads");
    let net = topology::nat(&lab);
    // Unfinished checksums and joined segments, as the kernel passes them between namespaces.
    let on = |inside: &fulcrum_e2e::net::Namespace, device: &str| {
        inside.sh(&format!("ethtool -K {device} tx on gso on tso on gro on >/dev/null"));
    };
    on(&net.client, "eth0");
    net.servers.iter().for_each(|server| on(&server.inside, "eth0"));
    on(&net.director, "wan");
    on(&net.director, "lan");
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    director.ipvsadm_lines(SERVICES);
    assert_answered(&get(&net.client, "172.16.100.9", 10), 10);
    download(&net.client, "172.16.100.9", lab.directory());
    upload(&net.client, "172.16.100.9", lab.directory(), &net.servers);
    assert!(director.events("received.checksum-completed") > 0);
}
