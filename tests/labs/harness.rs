//! The lab itself, without a director: what tests rely on is tested first.

use std::collections::BTreeSet;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{ask_in_pieces_again, ask_udp, download, expected, get, upload};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::process::{Process, program};
use fulcrum_e2e::topology;

#[test]
fn a_router_in_the_directors_place_carries_whole_files_with_right_sums() {
    let lab = Lab::new("router");
    let net = topology::nat(&lab);
    net.director.speak_ipv6();
    net.director.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        for device in wan lan; do sysctl -qw net.ipv6.conf.$device.disable_ipv6=0; done");
    net.director.give("wan", "172.16.100.1");
    net.director.give("lan", "192.168.20.1");
    net.client.route("192.168.20.0/24", "172.16.100.1", "");
    let captures = net.capture(&lab);
    for family in [Family::V4, Family::V6] {
        let (web7, web8) = (family.host("192.168.20.7"), family.host("192.168.20.8"));
        assert_eq!(get(&net.client, &format!("{web7}:8080"), 5), expected([("web7", 5)]));
        assert_eq!(ask_udp(&net.client, &format!("{web8}:5001"), 5), expected([("web8", 5)]));
        for order in ["kernel", "forward", "backward", "shuffled"] {
            let answers = ask_in_pieces_again(&net.client, &format!("{web8}:5001"), 8000, 2, order);
            assert_eq!(answers, expected([("web8", 2)]), "{order}");
        }
        download(&net.client, &format!("{web7}:8080"), lab.directory());
        upload(&net.client, &format!("{web8}:8080"), lab.directory(), &net.servers);
    }
    let seen = captures.stop();
    let connections: BTreeSet<_> = seen.client.packets().filter(|p| p.is_syn()).map(|p| p.source).collect();
    assert_eq!(connections.len(), 14);
    assert!(seen.servers[0].iter().all(|frame| frame.len() <= 1514), "frames are of a wire's size");
}

#[test]
fn tagged_frames_carry_real_traffic() {
    let lab = Lab::new("helpers");
    let (net, _trunk) = topology::trunk(&lab);
    // The other end of the trunk in the director's place: tags come off again, then it routes.
    net.director.sh("ip link add v100 type veth peer name v100p
         ip link add v200 type veth peer name v200p
         ip link set v100 up; ip link set v100p up; ip link set v200 up; ip link set v200p up
         for d in v100 v100p v200 v200p; do ethtool -K $d tx off gso off tso off gro off >/dev/null; done
         sysctl -qw net.ipv4.ip_forward=1
         ip addr add 172.16.100.1/24 dev v100
         ip addr add 192.168.20.1/24 dev v200");
    let mut command = net.director.command(program("fulcrum-lab"));
    command.args(["trunk", "eth0", "100:v100p", "200:v200p"]);
    let _near = Process::start(&mut command, lab.directory().join("near.log"));
    net.client.sh("ip route add 192.168.20.0/24 via 172.16.100.1");
    net.client.sh("ping -c 1 -W 5 192.168.20.7");
    assert_eq!(get(&net.client, "192.168.20.7:8080", 3), expected([("web7", 3)]));
    download(&net.client, "192.168.20.8:8080", lab.directory());
}
