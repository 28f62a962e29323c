use clap::CommandFactory as _;
use fulcrum_api::control::{ControlStatus, Link, ListVipsReply, ServerStanding, Vip, VipPlace, Withdrawal};
use fulcrum_api::dataplane::{
    BondMember, BondStatus, LocalPoolUse, NamedCount, NeighbourStatus, PortStatus, ServerCounters,
    ServiceCounters, Worker,
};
use fulcrum_director::Reason;
use fulcrum_model::file::Config;

use super::*;

const TWO_PORTS: &str = include_str!("../../../../tests/networks/two-ports.toml");
const NETWORK: &str = r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.100"]
ports = "1024-2023"
"#;

const WEB: &str = r#"
[[service]]
address = "10.0.0.9:80"
protocol = "tcp"
local-pool = "inside"
[[service.server]]
address = "10.1.0.7:8080"
forward = "FORWARD"
"#;

fn web(forward: &str) -> String {
    WEB.replace("FORWARD", forward)
}

/// A set-up on which nothing is wrong, with a server that has answered.
struct Setup {
    text: String,
    status: Status,
    counters: Counters,
    half_open: u64,
    neighbour: &'static str,
    vips: ListVipsReply,
}

impl Setup {
    fn good(text: String) -> Setup {
        let port = |name: &str| PortStatus {
            name: name.into(),
            mac: "02:00:00:00:00:01".into(),
            link: true,
            rx_packets: 100_000,
            ..PortStatus::default()
        };
        let dataplane = DataplaneStatus {
            generation: 3,
            acknowledged: 3,
            workers: vec![Worker { sessions: 10, session_limit: 1000, ..Worker::default() }],
            ports: vec![port("wan"), port("lan")],
            ..DataplaneStatus::default()
        };
        let status = Status {
            control: Some(ControlStatus::default()),
            link: Some(Link { connected: true, in_sync: true, ..Link::default() }),
            dataplane: Some(dataplane),
        };
        let counters = Counters { in_packets: 100, out_packets: 90, ..Counters::default() };
        Setup { text, status, counters, half_open: 0, neighbour: "reachable", vips: ListVipsReply::default() }
    }

    fn dataplane(&mut self) -> &mut DataplaneStatus {
        self.status.dataplane.as_mut().unwrap()
    }

    /// What is found, as words.
    fn findings(&self) -> Vec<String> {
        let text = format!("{TWO_PORTS}{NETWORK}{}", self.text);
        let state = Config::parse("t", &text).unwrap_or_else(|errors| panic!("{errors}")).state;
        let services = state.services.iter().map(|service| ServiceCounters {
            key: Some((&service.key).into()),
            counters: None,
            servers: service
                .servers
                .iter()
                .map(|server| ServerCounters {
                    key: Some((&server.key).into()),
                    counters: Some(self.counters),
                    active: self.half_open + 1,
                    ..ServerCounters::default()
                })
                .collect(),
        });
        let counters = CountersChunk { services: services.collect(), total: None };
        let neighbour = NeighbourStatus {
            interface: "lan".into(),
            address: vec![10, 1, 0, 7],
            mac: if self.neighbour == "reachable" { vec![2, 0, 0, 0, 9, 9] } else { Vec::new() },
            state: self.neighbour.into(),
            parked: 2,
        };
        // Of DR the server's port is the service's.
        let session = |server_port| Session {
            r#virtual: vec![10, 0, 0, 9],
            virtual_port: 80,
            server: vec![10, 1, 0, 7],
            server_port,
            ..Session::default()
        };
        let whose = [80, 8080].map(|port| whose(&session(port)).unwrap()).concat();
        let half_open = whose.into_iter().map(|ends| (ends, self.half_open)).collect();
        let facts = match &self.status.dataplane {
            Some(dataplane) => {
                let (status, dataplane) = (self.status.clone(), dataplane.clone());
                Facts::new(status, state, &dataplane, counters, vec![neighbour], &half_open).unwrap()
            }
            None => Facts { status: self.status.clone(), state, ..Facts::default() },
        };
        let facts = Facts { vips: self.vips.clone(), ..facts };
        let words =
            |f: Finding| format!("{:?} {}: {} | {}", f.level, f.about, f.what, f.advice).to_lowercase();
        examine(&facts).into_iter().map(words).collect()
    }

    /// The only finding.
    fn finding(&self) -> String {
        let found = self.findings();
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].clone()
    }
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no `{word}` in `{said}`");
    }
}

#[test]
fn a_good_set_up_is_left_in_peace() {
    for forward in ["nat", "fullnat", "dr"] {
        assert_eq!(Setup::good(web(forward)).findings(), Vec::<String>::new(), "{forward}");
    }
}

#[test]
fn processes_that_do_not_agree() {
    let mut setup = Setup::good(web("nat"));
    setup.dataplane().acknowledged = 2;
    setup.status.control.as_mut().unwrap().config_error = "line 3: no such key".into();
    let found = setup.findings();
    assert_says(&found[0], &["error configuration: the file is not in effect: line 3"]);
    assert_says(&found[1], &["warning data plane: workers still run generation 2 of 3"]);
    setup.status.link = Some(Link { in_sync: false, last_error: "it refused".into(), ..Link::default() });
    assert_says(&setup.findings()[1], &["error data plane: does not hold the desired state: it refused"]);
    setup.status.dataplane = None;
    assert_says(&setup.findings()[1], &["error data plane: not connected", "start fulcrum-dataplane"]);
    let mut advised = Setup::good(web("nat"));
    advised.dataplane().warnings = vec!["host: lcore 1 is slow".into(), "port x is not open".into()];
    assert_eq!(
        advised.findings(),
        ["advice host: lcore 1 is slow | ", "warning data plane: port x is not open | "]
    );
}

#[test]
fn vips_that_are_released_withdrawn_or_not_announced() {
    let mut setup = Setup::good(web("nat"));
    let place =
        |why: &str| VipPlace { interface: "lo".into(), announced: why.is_empty(), why: why.to_owned() };
    let mut vip = Vip { address: vec![10, 0, 0, 9], taken: true, services: 1, ..Vip::default() };
    vip.places = vec![place("")];
    let one = |vip: &Vip| ListVipsReply { vips: vec![vip.clone()], ..ListVipsReply::default() };
    setup.vips = one(&vip);
    assert_eq!(setup.findings(), Vec::<String>::new());

    vip.places = vec![place("gateway 10.0.0.254 does not answer")];
    setup.vips = one(&vip);
    assert_says(&setup.finding(), &["warning vip 10.0.0.9: not on lo", "gateway 10.0.0.254 does not"]);
    setup.vips.withdrawal = Some(Withdrawal { left_ms: 61_000, why: "Upgrade, by uid 0".into() });
    assert_says(
        &setup.finding(),
        &["warning vips: all announcements are withdrawn for 1 min 1 s more: upgrade, by uid 0"],
    );

    vip = Vip { taken: false, by: "uid 0 pid 7 from socket".into(), since_ms: Some(0), ..vip };
    setup.vips = one(&vip);
    assert_says(
        &setup.finding(),
        &["warning vip 10.0.0.9: released", "by uid 0 pid 7", "fulcrum vip take 10.0.0.9"],
    );
    // The backup of a pair has none, and nothing is wrong with that.
    setup.vips.manual = true;
    assert_says(&setup.finding(), &["advice vip 10.0.0.9: released"]);
}

#[test]
fn links_and_ways() {
    let mut setup = Setup::good(web("nat"));
    let member = |device: &str, state: &str| BondMember {
        device: device.into(),
        state: state.into(),
        ..BondMember::default()
    };
    let members = vec![member("eth2", "aggregated"), member("eth3", "no-partner")];
    setup.dataplane().ports[1].bond = Some(BondStatus { mode: "lacp".into(), members });
    assert_says(
        &setup.finding(),
        &["warning port lan, member eth3: nobody answers its lacp", "set up the switch's port"],
    );
    setup.dataplane().ports[1].bond = None;
    setup.dataplane().ports[1].link = false;
    assert_says(&setup.finding(), &["error port lan: no link"]);

    let unresolved = Setup { neighbour: "failed", ..Setup::good(web("nat")) };
    assert_says(
        &unresolved.finding(),
        &["error neighbour 10.1.0.7: does not answer on lan (failed), 2 packets wait", "10.1.0.7:8080"],
    );

    let nowhere = Setup::good(web("nat").replace("10.1.0.7", "10.9.9.9"));
    assert_says(
        &nowhere.finding(),
        &[
            "error server 10.9.9.9:8080: no way leads there (no-route, of tcp 10.0.0.9:80)",
            "fulcrum route add 10.9.9.9",
        ],
    );

    let routed = |gateways: &str| {
        let route = format!("[[route]]\nto = \"10.9.0.0/16\"\nvia = {gateways}\n");
        Setup { neighbour: "failed", ..Setup::good(route + &web("nat").replace("10.1.0.7", "10.9.9.9")) }
    };
    assert_says(
        &routed("\"10.1.0.7\"").finding(),
        &["error neighbour 10.1.0.7: does not answer", "it is the way to 10.9.9.9:8080"],
    );
    assert_says(
        &routed("[\"10.1.0.7\", \"10.1.0.8\"]").finding(),
        &["warning neighbour 10.1.0.7: does not answer", "it is one of the ways to 10.9.9.9:8080"],
    );

    let own = Setup::good(web("nat").replace("10.1.0.7", "10.1.0.1"));
    assert_says(&own.finding(), &["its address is the director's own"]);
}

#[test]
fn servers_that_do_not_answer_through_the_director() {
    let counters = Counters { in_packets: 12, out_packets: 0, ..Counters::default() };
    let around = Setup { counters, half_open: 4, ..Setup::good(web("nat")) };
    assert_says(
        &around.finding(),
        &[
            "error server 10.1.0.7:8080: of tcp 10.0.0.9:80: 12 packets went to it and 0 came back",
            "ip route replace default via 10.1.0.1",
        ],
    );
    let fullnat = Setup { counters, ..Setup::good(web("fullnat")) };
    assert_says(&fullnat.finding(), &["a way back to the local addresses"]);
    // Not any more, after a long good time.
    let counters = Counters { in_packets: 9000, out_packets: 9000, in_pps: 2, ..Counters::default() };
    let lately = Setup { counters, half_open: 3, ..Setup::good(web("nat")) };
    assert_says(&lately.finding(), &["9000 came back", "3 connections half-open"]);
    let deaf = Setup { half_open: 5, ..Setup::good(web("dr")) };
    assert_says(&deaf.finding(), &["warning server", "clients do not hear from it", "arp_ignore=1"]);
    // Of datagrams nobody expects answers.
    let counters = Counters { in_packets: 500, ..Counters::default() };
    let logs = Setup { counters, ..Setup::good(web("nat").replace("tcp", "udp")) };
    assert_eq!(logs.findings(), Vec::<String>::new());
}

#[test]
fn services_that_nobody_serves_and_tables_that_are_full() {
    let empty = Setup::good("[[service]]\naddress = \"10.0.0.9:80\"\nprotocol = \"tcp\"\n".into());
    assert_says(&empty.finding(), &["warning service tcp 10.0.0.9:80: it has no server"]);
    let quiesced = Setup::good(format!("{}weight = 0\n", web("nat")));
    assert_says(&quiesced.finding(), &["the weight of all of its 1 server is 0"]);

    let mut full = Setup::good(web("fullnat"));
    full.dataplane().workers[0].sessions = 960;
    full.dataplane().local_pools = vec![LocalPoolUse {
        service: "tcp 10.0.0.9:80".into(),
        address: "10.1.0.100".into(),
        conflicts: 0,
        sessions: 850,
    }];
    let found = full.findings();
    assert_says(&found[0], &["error worker 0: its session table is 96 % full"]);
    assert_says(
        &found[1],
        &["warning service", "85 % in use (850 sessions, 1 addresses × 1000 ports × 1 servers)"],
    );
}

#[test]
fn tunnels_without_room_and_drops_of_late() {
    let tunnel = Setup::good(web("tun"));
    assert_says(
        &tunnel.finding(),
        &["advice", "packets of 1480 bytes fit into the tunnel", "mss = 1440", "mtu of 1520"],
    );
    assert_eq!(
        Setup::good(web("tun").replace("local-pool", "mss = 1400\nlocal-pool")).findings(),
        Vec::<String>::new()
    );

    let mut drops = Setup::good(web("nat"));
    let count = |name: &str| NamedCount { name: name.into(), count: 5 };
    drops.dataplane().recent_drops =
        vec![count("arp-not-ours"), count("no-session"), count("arp-conflict"), count("new")];
    let found = drops.findings();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_says(&found[0], &["advice drops no-session: 5 in the last minute"]);
    assert_says(&found[1], &["warning drops arp-conflict", "arp_ignore=1"]);
}

#[test]
fn an_address_that_somebody_else_claims() {
    let mut facts = Facts::default();
    let fact = |address: &str, state: &str| NeighbourFact {
        interface: "lan".into(),
        address: address.parse().unwrap(),
        mac: Some(fulcrum_model::Mac([2, 0, 0, 0, 9, 9])),
        state: state.into(),
        parked: 0,
    };
    facts.neighbours = vec![fact("192.168.0.210", "conflict"), fact("192.168.0.221", "reachable")];
    let found = network::claims(&facts);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].level, &*found[0].about), (Level::Error, "address 192.168.0.210"));
    assert_says(&found[0].what, &["02:00:00:00:09:09, which is 192.168.0.221 claims it"]);
}

#[test]
fn a_kernel_that_filters_by_the_way_back() {
    let text = format!("{TWO_PORTS}{NETWORK}").replacen(
        "port = \"wan\"\n",
        "port = \"wan\"\nexception = \"wan0\"\n",
        1,
    );
    let state = Config::parse("t", &text).unwrap_or_else(|errors| panic!("{errors}")).state;
    let host = Host(|path| match path {
        "/proc/sys/net/ipv4/conf/all/rp_filter" => Some("1\n".into()),
        _ => None,
    });
    let found = network::host(&Facts { state: state.clone(), host, ..Facts::default() });
    assert_eq!(found.len(), 1, "{found:?}");
    assert_says(&found[0].about, &["host interface wan0"]);
    assert_says(&found[0].advice, &["net.ipv4.conf.wan0.rp_filter=2"]);
    assert_eq!(network::host(&Facts { state, ..Facts::default() }), []);
}

#[test]
fn what_checks_say() {
    let state = Config::parse("t", &format!("{TWO_PORTS}{NETWORK}{}", web("nat"))).unwrap().state;
    let key = state.services[0].key;
    let server = |address: &str, state: &str, why: &str| ServerStanding {
        key: Some((&ServerKey { address: address.parse().unwrap(), port: 8080 }).into()),
        state: state.into(),
        why: why.into(),
        ..ServerStanding::default()
    };
    let servers = vec![
        server("10.1.0.7", "down", "connection refused"),
        server("10.1.0.8", "unknown", "no route"),
        server("10.1.0.9", "disabled", ""),
        server("10.1.0.10", "up", ""),
    ];
    let standing = ServiceStanding {
        key: Some((&key).into()),
        quorum: 3,
        healthy_weight: 1,
        quorum_lost_ms: Some(1),
        servers,
        ..ServiceStanding::default()
    };
    let mut facts = Facts { state, standings: vec![standing], ..Facts::default() };
    let found: Vec<_> = traffic::health(&facts).into_iter().map(|f| (f.level, f.about, f.what)).collect();
    let expect = |n: usize, level, about: &str, what: &str| {
        assert_eq!((found[n].0, &*found[n].1), (level, about));
        assert!(found[n].2.contains(what), "{:?}", found[n]);
    };
    assert_eq!(found.len(), 4, "{found:?}");
    expect(0, Level::Error, "service tcp 10.0.0.9:80", "a weight of 1 is healthy, 3 is wanted");
    expect(1, Level::Warning, "server 10.1.0.7:8080", "down, of tcp 10.0.0.9:80: connection refused");
    expect(2, Level::Warning, "server 10.1.0.8:8080", "nobody knows whether it serves");
    expect(3, Level::Advice, "server 10.1.0.9:8080", "disabled");
    facts.state.services[0].servers.clear();
    let none = traffic::services(&facts);
    assert_eq!(
        (none.len(), none[0].level, &*none[0].what),
        (1, Level::Error, "none of its 4 servers is in service")
    );
}

/// Whatever is advised can be typed.
#[test]
fn commands_that_are_advised_are_there() {
    let commands = crate::command::Arguments::command();
    for reason in Reason::ALL {
        for word in reason.remedy().advice.split('`').skip(1).step_by(2) {
            let mut words = word.split_whitespace();
            if words.next() != Some("fulcrum") {
                continue;
            }
            let first = words.next().unwrap();
            let noun =
                commands.find_subcommand(first).unwrap_or_else(|| panic!("{reason}: no `fulcrum {first}`"));
            if noun.has_subcommands() {
                let verb = words.next().unwrap();
                assert!(noun.find_subcommand(verb).is_some(), "{reason}: no `fulcrum {first} {verb}`");
            }
        }
    }
}
