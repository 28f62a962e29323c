//! 802.1Q: one device, two VLANs, raw tagged frames at its far end.

use std::collections::BTreeSet;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::{Capture, Packet};
use fulcrum_e2e::client::{ask_udp, download, expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::topology;

#[test]
fn one_arm_serves_clients_of_one_vlan_from_servers_of_another() {
    let lab = Lab::new("vlan");
    let (net, _trunk) = topology::trunk(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    director.ipvsadm_lines(
        "-A -t 172.16.100.9:80 -s rr
         -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
         -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m
         -A -u 172.16.100.9:5000 -s rr
         -a -u 172.16.100.9:5000 -r 192.168.20.7:5001 -m
         -a -u 172.16.100.9:5000 -r 192.168.20.8:5001 -m",
    );
    let capture = Capture::start(net.other(), "trunk", lab.directory(), "trunk");
    net.client.sh("ping -q -c 2 -i 0.2 -W 2 172.16.100.9");
    assert_eq!(get(&net.client, "172.16.100.9", 10), expected([("web7", 5), ("web8", 5)]));
    assert_eq!(ask_udp(&net.client, "172.16.100.9:5000", 10), expected([("web7", 5), ("web8", 5)]));
    download(&net.client, "172.16.100.9", lab.directory());
    let frames = capture.stop();
    frames.check_sums();
    let vlans = |fits: &dyn Fn(&Packet) -> bool| -> BTreeSet<u16> {
        frames.packets().filter(|p| fits(p)).map(|p| p.vlan).collect()
    };
    let vip = std::net::Ipv4Addr::new(172, 16, 100, 9);
    assert_eq!(vlans(&|p| p.source.0 == vip || p.destination.0 == vip), BTreeSet::from([100]));
    assert_eq!(vlans(&|p| p.source.1 == 8080 || p.destination.1 == 8080), BTreeSet::from([200]));
}

#[test]
fn frames_of_no_or_an_unknown_vlan_are_dropped_by_name() {
    let lab = Lab::new("vlandrop");
    let (net, _trunk) = topology::trunk(&lab);
    let director = Director::start(&net.director, lab.directory(), &Setup::ONE, &net.network);
    let before = director.drops("unknown-vlan");
    // Untagged ARP requests for the director's address: nobody may answer.
    let far = net.other();
    far.sh("ip addr add 172.16.100.77/24 dev trunk");
    let answered = far.try_sh("ping -q -c 3 -i 0.2 -W 1 172.16.100.1").status.success();
    assert!(!answered, "an untagged frame was answered on a port that has VLANs only");
    std::thread::sleep(Duration::from_millis(500));
    assert!(director.drops("unknown-vlan") > before);
}
