//! What servers see of a director that takes the place of one that has ended: they still have its connections.

use std::collections::BTreeMap;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::capture::Capture;
use fulcrum_e2e::client::tally;
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::Family;
use fulcrum_e2e::topology;

/// FULLNAT in a family.
fn service(family: Family) -> String {
    let (address, server) = (family.host("172.16.100.9"), family.host("192.168.30.7"));
    format!(
        "[[service]]
address = \"{address}:80\"
protocol = \"tcp\"
scheduler = \"rr\"
local-pool = \"inside\"
[[service.server]]
address = \"{server}:8080\"
forward = \"fullnat\"
"
    )
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

const REQUESTS: usize = 30;

/// Not many more ports than requests, so that most are used again at once. The server closes, and remembers for a minute.
#[test]
fn servers_take_connections_from_ports_that_a_killed_data_plane_has_used() {
    let lab = Lab::new("continuity");
    let pool = "addresses = [\"192.168.20.200\", \"fd00:20::200\"]\nports = \"20000-20039\"";
    let net = topology::fullnat(&lab, pool);
    let network = net.network.clone() + &FAMILIES.map(service).concat();
    let mut director = Director::start(&net.director, lab.directory(), &Setup::TWO, &network);
    let ask = |round: usize| {
        let capture = Capture::start(&net.client, "eth0", lab.directory(), &format!("client{round}"));
        for family in FAMILIES {
            let url = format!("http://{}/", family.host("172.16.100.9"));
            let curl = format!("curl -s -H 'Connection: close' --max-time 5 {url} || echo -");
            let answers = tally(&net.client.sh(&format!("for i in $(seq {REQUESTS}); do {curl}; done")));
            assert_eq!(answers.get("web7"), Some(&REQUESTS), "{family:?}, round {round}: {answers:?}");
        }
        let frames = capture.stop();
        let mut syns = BTreeMap::<_, usize>::new();
        for syn in frames.packets().filter(|packet| packet.is_syn()) {
            *syns.entry(syn.source).or_default() += 1;
        }
        assert!(syns.len() >= 2 * REQUESTS, "{syns:?}");
        syns.retain(|_, count| *count > 1);
        syns
    };
    ask(0);
    // A busy machine loses a SYN now and then; a server that does not take them refuses half of them, each time.
    let mut again = Vec::new();
    let at_once = (1..=3).any(|round| {
        let before = director.life();
        director.dataplane().kill();
        director.start_dataplane();
        director.wait_programmed_anew(before, Duration::from_secs(30));
        again.push(ask(round));
        again.last().is_some_and(BTreeMap::is_empty)
    });
    assert!(at_once, "SYNs that were sent again, each time: {again:?}");
}
