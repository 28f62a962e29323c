//! Which edits end what established sessions remember of their ways.

use super::*;

/// What is edited, and how.
type Edit = (&'static str, fn(&mut State));

const OTHER: &str = "10.0.0.101";

/// A service with a NAT and a TUN server, one by FULLNAT, and everything else that a state may have.
fn rich() -> State {
    let mut near = service(key("10.0.0.100", 80), vec![server("10.1.0.11", 8000), server("10.1.0.12", 8000)]);
    near.servers[1].forward = Forward::Tun;
    let mut far = service(key("10.0.0.100", 443), vec![server("10.1.0.11", 8443)]);
    far.servers[0].forward = Forward::FullNat;
    far.local_pool = Some("pool".to_owned());
    let marked =
        service(ServiceKey::Mark { family: model::Family::V4, mark: 7 }, vec![server("10.1.0.13", 0)]);
    let mut state = State { services: vec![near, far, marked], ..two_arms() };
    state.local_pools.push(pool("pool", "lan", "10.1.0.200", "10.1.0.203"));
    state.routes.push(Route {
        to: "192.0.2.0/24".parse().unwrap(),
        target: RouteTarget::via(ip("10.0.0.254")),
        mtu: None,
    });
    state.neighbours.push(Neighbour {
        address: ip("10.1.0.11"),
        mac: Mac([2, 0, 0, 0, 1, 11]),
        interface: "lan".to_owned(),
    });
    state.marks.push(model::MarkRule::new(7));
    state
}

/// Whether sessions have to look anew after an edit of [`rich`].
fn changes(edit: impl Fn(&mut State)) -> bool {
    let mut bench = Bench::new();
    let mut state = rich();
    let before = bench.apply(&state);
    edit(&mut state);
    let after = bench.apply(&state);
    // What was deleted is forgotten with the next one.
    let settled = bench.apply(&state).paths;
    assert_eq!(bench.apply(&state).paths, settled, "the same state again is no change");
    assert!(after.paths == before.paths || after.paths == after.generation);
    after.paths != before.paths
}

#[test]
fn a_way_is_forgotten_when_anything_on_it_changes() {
    let edits: &[Edit] = &[
        ("address of an interface", |s| s.interfaces[0].addresses.push("10.0.0.77/32".parse().unwrap())),
        ("MTU", |s| s.interfaces[1].mtu = 1400),
        ("segment size of an interface", |s| s.interfaces[1].mss = Some(1200)),
        ("new interface", |s| s.interfaces.push(interface("new", "p1", 5, &[]))),
        ("interface gone", |s| s.interfaces.truncate(1)),
        ("route", |s| s.routes[0].mtu = Some(1300)),
        ("route gone", |s| s.routes.clear()),
        ("neighbour", |s| s.neighbours[0].mac = Mac([2, 0, 0, 0, 1, 12])),
        ("neighbour gone", |s| s.neighbours.clear()),
        ("mark rule", |s| s.marks[0].protocol = Some(Protocol::Udp)),
        ("mark rule gone", |s| s.marks.clear()),
        ("setting", |s| s.settings.sloppy_tcp = true),
        ("time-out", |s| s.timeouts.udp += 1),
        ("time-out of a service", |s| {
            s.services[0].timeouts.insert(model::TimeoutState::Udp, 5);
        }),
        ("segment size of a service", |s| s.services[0].mss = Some(1200)),
        ("client's address", |s| s.services[1].client_address = model::ClientAddress::Toa),
        ("one packet", |s| s.services[2].one_packet = true),
        ("persistence", |s| s.services[0].persistent = Some(300)),
        ("addresses of a pool", |s| s.local_pools[0].addresses[0].last = ip("10.1.0.204")),
        ("ports of a pool", |s| s.local_pools[0].ports.last = 2500),
        ("service without pool", |s| s.services[1].local_pool = None),
        ("new service", |s| s.services.push(service(key(OTHER, 80), vec![]))),
        ("service gone", |s| s.services.truncate(2)),
        ("marked service's mark", |s| {
            s.services[2].key = ServiceKey::Mark { family: model::Family::V4, mark: 8 }
        }),
        ("server gone", |s| s.services[0].servers.truncate(1)),
        ("method of a server", |s| s.services[0].servers[0].forward = Forward::Dr),
        ("tunnel", |s| s.services[0].servers[1].tunnel.kind = model::TunnelKind::Gre),
        ("new NAT server", |s| s.services[0].servers.push(server("10.1.0.14", 8000))),
        ("new TUN server", |s| {
            s.services[0].servers.push(server("10.1.0.14", 8000));
            s.services[0].servers[2].forward = Forward::Tun;
        }),
    ];
    for (name, edit) in edits {
        assert!(changes(edit), "{name}");
    }
}

#[test]
fn a_way_is_remembered_over_what_only_new_connections_meet() {
    let edits: &[Edit] = &[
        ("nothing", |_| ()),
        ("weight", |s| s.services[0].servers[0].weight = 9),
        ("weight 0", |s| s.services[0].servers[0].weight = 0),
        ("thresholds", |s| {
            let server = &mut s.services[0].servers[1];
            (server.upper_threshold, server.lower_threshold) = (10, 5);
        }),
        ("scheduler", |s| s.services[0].scheduler = "wlc".to_owned()),
        ("flags of a scheduler", |s| s.services[0].scheduler_flags = 1),
        ("order of services", |s| s.services.reverse()),
        ("new FULLNAT server", |s| {
            s.services[1].servers.push(server("10.1.0.14", 8443));
            s.services[1].servers[1].forward = Forward::FullNat;
        }),
        ("new DR server", |s| {
            s.services[0].servers.push(server("10.1.0.14", 80));
            s.services[0].servers[2].forward = Forward::Dr;
        }),
    ];
    for (name, edit) in edits {
        assert!(!changes(edit), "{name}");
    }
}

#[test]
fn a_server_that_comes_back_or_takes_an_old_id_changes_ways() {
    let mut bench = Bench::new();
    let with = |address: Option<&str>| {
        let servers = address.map(|address| Server::new(server(address, 80).key, Forward::Dr));
        State { services: vec![service(key(OTHER, 80), servers.into_iter().collect())], ..two_arms() }
    };
    let mut paths = |address| bench.apply(&with(address)).paths;
    let there = paths(Some("10.1.0.11"));
    let gone = paths(None);
    let forgotten = paths(None);
    let another = paths(Some("10.1.0.12"));
    assert!(there < gone && gone < forgotten && forgotten <= another, "{there} {gone} {forgotten} {another}");
    let third = paths(None);
    let back = paths(Some("10.1.0.12"));
    assert!(another < third && third < back);
}
