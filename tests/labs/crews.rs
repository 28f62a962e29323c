//! More workers than queues, and than processors: every way of forwarding at once.

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{ask_udp, assert_answered, download, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::topology::{self, Topology};
use fulcrum_e2e::ways;

/// Enough that no worker of eight stays without one.
const REQUESTS: usize = 12;

fn serves(lab: &Lab, net: &Topology, setup: &Setup, network: &str, queues: [u64; 2]) {
    let director = Director::start(&net.director, lab.directory(), setup, network);
    for way in ways::ALL {
        director.ipvsadm_lines(way.commands);
        assert_answered(&get(&net.client, way.vip, REQUESTS), REQUESTS);
        assert_answered(&ask_udp(&net.client, &format!("{}:5000", way.vip), REQUESTS), REQUESTS);
    }
    download(&net.client, ways::FULLNAT.vip, lab.directory());
    let status = director.status().expect("control answers");
    let dataplane = &status["dataplane"];
    let numbers = |list: &str, field: &str| -> Vec<u64> {
        let list = dataplane[list].as_array().expect("a list");
        list.iter().map(|one| one[field].as_u64().expect("a number")).collect()
    };
    assert_eq!(numbers("ports", "rx_queues"), queues);
    let (sessions, handed_off) = (numbers("workers", "sessions"), numbers("workers", "handed_off"));
    assert_eq!(sessions.len(), setup.workers());
    assert!(sessions.iter().all(|&count| count > 0), "every worker has its share: {sessions:?}");
    assert!(handed_off.iter().sum::<u64>() > 0, "{handed_off:?}");
    assert_eq!(director.drops("handoff-full"), 0);
}

#[test]
fn three_workers_on_ports_of_one_queue() {
    let lab = Lab::new("three");
    let net = topology::stage(&lab);
    serves(&lab, &net, &Setup::THREE, &net.network, [1, 1]);
}

#[test]
fn eight_workers_on_a_port_of_one_queue_and_a_port_of_eight() {
    let lab = Lab::new("eight");
    let net = topology::stage(&lab);
    let lan = "net_af_packet1,iface=lan,qpairs=8,blocksz=32768,framesz=2048,framecnt=512";
    let network = net.network.replace("device = \"lan\"", &format!("device = \"{lan}\""));
    serves(&lab, &net, &Setup::EIGHT, &network, [1, 8]);
}
