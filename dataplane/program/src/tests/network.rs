//! Interfaces, own addresses, routes, neighbours.

use fulcrum_director::snapshot::{Hop, InterfaceId};

use super::*;

const WAN: InterfaceId = 0;
const LAN: InterfaceId = 1;

fn arp(snapshot: &Snapshot, address: &str) -> Option<InterfaceId> {
    snapshot.locals[&ip(address)].arp
}

fn route(to: &str, target: RouteTarget) -> Route {
    Route { to: to.parse().unwrap(), target, mtu: None }
}

fn via(to: &str, gateway: &str) -> Route {
    route(to, RouteTarget::via(gateway.parse().unwrap()))
}

#[test]
fn interfaces_are_ports_and_vlans() {
    let mut state = two_arms();
    state.interfaces.push(interface("lan20", "p1", 20, &["10.20.0.1/24"]));
    state.interfaces[2].mtu = 1400;
    let snapshot = compiled(&state);
    let by_id: Vec<_> =
        snapshot.interfaces.iter().map(|i| (i.name.as_str(), i.port, i.vlan, i.mtu, i.mac[5])).collect();
    assert_eq!(by_id, [("wan", 0, 0, 1500, 0), ("lan", 1, 0, 1500, 1), ("lan20", 1, 20, 1400, 1)]);
    let by_vlan = [((0, 0), 0), ((1, 0), 1), ((1, 20), 2)];
    assert_eq!(snapshot.by_vlan, by_vlan.into_iter().collect());
    assert_eq!(snapshot.interfaces[0].addresses, [(ip("10.0.0.1"), 24), (ip("10.0.0.100"), 32)]);
    assert_eq!(snapshot.ports[1].name, "p1");
    assert!(snapshot.ports[1].partial_checksums && !snapshot.ports[0].partial_checksums);
}

#[test]
fn an_interface_keeps_its_id_and_nobody_else_gets_it() {
    let mut bench = Bench::new();
    let both = two_arms();
    bench.apply(&both);

    let mut only_lan = both.clone();
    only_lan.interfaces.remove(0);
    only_lan.interfaces.push(interface("dmz", "p0", 5, &["10.5.0.1/24"]));
    let snapshot = bench.apply(&only_lan);
    assert_eq!(snapshot.by_vlan, [((1, 0), LAN), ((0, 5), 2)].into_iter().collect());
    assert_eq!(snapshot.interfaces[0].addresses, []);
    assert!(!snapshot.locals.contains_key(&ip("10.0.0.1")));
    assert!(snapshot.routes.iter().all(|r| r.hop != Hop::Link(WAN)));

    let snapshot = bench.apply(&both);
    assert_eq!(snapshot.by_vlan, [((0, 0), WAN), ((1, 0), LAN)].into_iter().collect());

    // The same name on another VLAN is another link.
    let mut moved = both;
    moved.interfaces[1].vlan = 7;
    let snapshot = bench.apply(&moved);
    assert_eq!(snapshot.by_vlan, [((0, 0), WAN), ((1, 7), 3)].into_iter().collect());
}

#[test]
fn a_vip_is_answered_where_it_is_listed_else_in_its_subnet_else_where_the_service_says() {
    let mut state = two_arms();
    // Listed on wan, although lan is named.
    state.services.push(service(key("10.0.0.100", 80), vec![]));
    state.services[0].interface = Some("lan".to_owned());
    // In lan's subnet, although wan is named.
    state.services.push(service(key("10.1.0.200", 80), vec![]));
    state.services[1].interface = Some("wan".to_owned());
    // Nowhere near; the second of two services says where.
    state.services.push(service(key("192.0.2.1", 80), vec![]));
    state.services.push(service(key("192.0.2.1", 443), vec![]));
    state.services[3].interface = Some("lan".to_owned());
    // Nowhere near and nobody says.
    state.services.push(service(key("192.0.2.2", 80), vec![]));
    let snapshot = compiled(&state);
    assert_eq!(arp(&snapshot, "10.0.0.100"), Some(WAN));
    assert_eq!(arp(&snapshot, "10.1.0.200"), Some(LAN));
    assert_eq!(arp(&snapshot, "192.0.2.1"), Some(LAN));
    assert_eq!(arp(&snapshot, "192.0.2.2"), None);
    assert_eq!(arp(&snapshot, "10.0.0.1"), Some(WAN));
    assert!(snapshot.locals.values().all(|local| local.pool.is_none()));
    assert_eq!(snapshot.locals.len(), 6);
}

#[test]
fn the_smallest_subnet_that_holds_an_address_counts() {
    let mut state = two_arms();
    state.interfaces.push(interface("wide", "p0", 9, &["10.1.128.1/8"]));
    state.services.push(service(key("10.1.0.77", 80), vec![]));
    state.services.push(service(key("10.77.0.1", 80), vec![]));
    let snapshot = compiled(&state);
    assert_eq!(arp(&snapshot, "10.1.0.77"), Some(LAN));
    assert_eq!(arp(&snapshot, "10.77.0.1"), Some(2));
}

#[test]
fn local_addresses_are_those_of_pools_and_of_services() {
    let mut state = two_arms();
    state.local_pools.push(pool("inside", "lan", "10.1.0.200", "10.1.0.203"));
    let mut with_pool = service(key("10.0.0.100", 80), vec![]);
    with_pool.local_pool = Some("inside".to_owned());
    with_pool.local_addresses = vec![model::LocalAddress("10.0.0.50".parse().unwrap())];
    let mut without = service(key("10.0.0.100", 81), vec![]);
    without.local_addresses =
        ["10.0.0.51", "192.0.2.9"].map(|a| model::LocalAddress(a.parse().unwrap())).into();
    state.services = vec![with_pool, without];
    let snapshot = compiled(&state);

    for pooled in ["10.1.0.200", "10.1.0.203", "10.0.0.50"] {
        assert_eq!(arp(&snapshot, pooled), Some(LAN), "{pooled}");
    }
    // A service without a pool: the interface whose subnet holds the address, if there is one.
    assert_eq!(arp(&snapshot, "10.0.0.51"), Some(WAN));
    assert_eq!(arp(&snapshot, "192.0.2.9"), None);
    let pooled = snapshot.locals.values().filter(|local| local.pool.is_some()).count();
    assert_eq!(pooled, 4 + 1 + 2);

    let ranges = &found(&snapshot, key("10.0.0.100", 80)).local_addresses;
    let ends: Vec<_> = ranges.iter().map(|r| (r.address, r.first, r.last)).collect();
    assert_eq!(ends[0], (ip("10.1.0.200"), 2000, 2999));
    assert_eq!(ends[3], (ip("10.1.0.203"), 2000, 2999));
    assert_eq!(ends[4], (ip("10.0.0.50"), 1024, 65535));
    assert_eq!(found(&snapshot, key("10.0.0.100", 81)).local_addresses.len(), 2);
}

#[test]
fn a_pool_without_end_is_cut_with_a_warning() {
    let mut state = two_arms();
    state.local_pools.push(pool("huge", "lan", "10.128.0.0", "10.255.255.255"));
    let mut bench = Bench::new();
    let snapshot = bench.apply(&state);
    assert_eq!(snapshot.locals.values().filter(|local| local.pool.is_some()).count(), 1 << 16);
    assert_eq!(bench.warnings, ["local pool `huge`: only its first 65536 addresses are used"]);
}

#[test]
fn a_local_address_taken_away_stays_while_it_has_sessions() {
    let mut bench = Bench::new();
    let mut with = two_arms();
    with.local_pools.push(pool("inside", "lan", "10.1.0.200", "10.1.0.201"));
    let cells = bench.apply(&with).locals[&ip("10.1.0.200")].pool.clone().unwrap();
    cells.of(1).sessions.add(1);

    let without = two_arms();
    let removed = bench.compile(&without);
    let has = |snapshot: &Snapshot, address: &str| snapshot.locals.contains_key(&ip(address));
    assert!(has(&removed, "10.1.0.201"), "a worker may still make a session with it");
    bench.program.acknowledged(bench.generation);
    let later = bench.apply(&without);
    assert!(!has(&later, "10.1.0.201"));
    assert_eq!(arp(&later, "10.1.0.200"), Some(LAN));

    // It comes back with the same counters, and goes once its session has ended.
    let back = bench.apply(&with);
    assert!(Arc::ptr_eq(back.locals[&ip("10.1.0.200")].pool.as_ref().unwrap(), &cells));
    bench.apply(&without);
    cells.of(1).sessions.sub_one();
    assert!(!has(&bench.apply(&without), "10.1.0.200"));
}

#[test]
fn routes_are_sorted_and_know_their_source() {
    let mut state = two_arms();
    state.interfaces[0].addresses.insert(0, "203.0.113.5/32".parse().unwrap());
    state.interfaces[0].addresses.push("172.16.0.9/16".parse().unwrap());
    state.routes = vec![
        via("0.0.0.0/0", "10.0.0.254"),
        via("172.17.0.0/16", "172.16.0.1"),
        route("10.9.0.0/24", RouteTarget::Unreachable),
        route("10.8.0.0/16", RouteTarget::Blackhole),
        route("198.51.100.0/24", RouteTarget::Interface("wan".to_owned())),
        route("172.16.5.0/25", RouteTarget::Interface("wan".to_owned())),
    ];
    state.routes[1].mtu = Some(1300);
    let snapshot = compiled(&state);
    let lines: Vec<String> = snapshot
        .routes
        .iter()
        .map(|r| format!("{}/{} {:?} mtu {} from {}", r.prefix, r.length, r.hop, r.mtu, r.source))
        .collect();
    assert_eq!(
        lines,
        [
            "172.16.5.0/25 Link(0) mtu 0 from 172.16.0.9",
            "10.0.0.0/24 Link(0) mtu 0 from 10.0.0.1",
            "10.1.0.0/24 Link(1) mtu 0 from 10.1.0.1",
            "10.9.0.0/24 Unreachable mtu 0 from 0.0.0.0",
            "198.51.100.0/24 Link(0) mtu 0 from 203.0.113.5",
            "172.16.0.0/16 Link(0) mtu 0 from 172.16.0.9",
            "172.17.0.0/16 Via(0, 172.16.0.1) mtu 1300 from 172.16.0.9",
            "10.8.0.0/16 Blackhole mtu 0 from 0.0.0.0",
            "0.0.0.0/0 Via(0, 10.0.0.254) mtu 0 from 10.0.0.1",
        ]
    );
}

#[test]
fn one_subnet_is_one_route_whatever_its_addresses() {
    let mut state = two_arms();
    state.interfaces[1].addresses.push("10.1.0.2/24".parse().unwrap());
    state.routes = vec![via("10.1.0.0/24", "10.0.0.254")];
    let snapshot = compiled(&state);
    let to_lan: Vec<_> = snapshot.routes.iter().filter(|r| r.prefix == ip("10.1.0.0")).collect();
    // The connected one comes first and counts.
    assert_eq!(to_lan[0].hop, Hop::Link(LAN));
    assert_eq!(to_lan[0].source, ip("10.1.0.1"));
    assert_eq!(to_lan.len(), 2);
}

#[test]
fn static_neighbours_are_on_their_interface() {
    let mut state = two_arms();
    state.neighbours = vec![Neighbour {
        address: "10.1.0.11".parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 2, 11]),
        interface: "lan".to_owned(),
    }];
    let snapshot = compiled(&state);
    let neighbour = snapshot.neighbours[0];
    assert_eq!(
        (neighbour.interface, neighbour.address, neighbour.mac),
        (LAN, ip("10.1.0.11"), [2, 0, 0, 0, 2, 11])
    );
}

#[test]
fn what_cannot_be_used_is_left_out_with_a_warning() {
    let mut state = two_arms();
    state.ports.push(model::Port {
        name: "p9".to_owned(),
        device: "eth9".to_owned(),
        bond: None,
        mac: None,
        steering: Default::default(),
    });
    state.interfaces.push(interface("far", "p9", 0, &["10.9.0.1/24"]));
    state.routes =
        vec![via("0.0.0.0/0", "10.9.0.254"), route("10.7.0.0/16", RouteTarget::Interface("far".to_owned()))];
    state.neighbours =
        vec![Neighbour { address: ip("10.9.0.2"), mac: Mac([2; 6]), interface: "far".to_owned() }];
    state.marks = vec![model::MarkRule { interface: Some("far".to_owned()), ..model::MarkRule::new(10) }];
    state.services = vec![service(key("10.0.0.100", 80), vec![server("10.1.0.11", 80)])];
    state.services[0].scheduler = "fancy".to_owned();

    let mut bench = Bench::new();
    let snapshot = bench.apply(&state);
    assert_eq!(snapshot.interfaces.len(), 2);
    assert_eq!(snapshot.routes.len(), 2);
    assert_eq!(snapshot.neighbours.len(), 0);
    assert_eq!(snapshot.marks.len(), 0);
    assert_eq!(found(&snapshot, key("10.0.0.100", 80)).scheduler.name(), "wlc");
    for (warning, about) in bench.warnings.iter().zip([
        "port `p9` is not open",
        "interface `far`: port `p9` is not open",
        "route to 0.0.0.0/0: gateway 10.9.0.254 is on no interface's subnet",
        "route to 10.7.0.0/16: there is no interface `far`",
        "neighbour 10.9.0.2: there is no interface `far`",
        "service TCP 10.0.0.100:80: there is no scheduler `fancy`",
        "mark 10: there is no interface `far`",
    ]) {
        assert!(
            warning.to_lowercase().starts_with(&about.to_lowercase()),
            "`{warning}` is not about {about}"
        );
    }
    assert_eq!(bench.warnings.len(), 7, "{:#?}", bench.warnings);
}

#[test]
fn ipv6_is_compiled_like_ipv4() {
    let mut state = two_arms();
    state.interfaces[1].addresses.push("2001:db8:1::1/64".parse().unwrap());
    state.routes = vec![via("::/0", "2001:db8:1::fe")];
    state.services = vec![service(key("2001:db8::100", 80), vec![server("2001:db8:1::5", 80)])];
    let snapshot = compiled(&state);
    // What neighbours talk to comes from the MAC address.
    let own = &snapshot.interfaces[usize::from(LAN)].addresses;
    assert_eq!(own[1..], [(ip("2001:db8:1::1"), 64), (ip("fe80::ff:fe00:1"), 64)]);
    assert_eq!(snapshot.locals[&ip("fe80::ff:fe00:1")].arp, Some(LAN));
    let default = snapshot.routes.iter().find(|route| route.length == 0).unwrap();
    assert_eq!((default.hop, default.source), (Hop::Via(LAN, ip("2001:db8:1::fe")), ip("2001:db8:1::1")));
    let service = found(&snapshot, key("2001:db8::100", 80));
    assert_eq!(service.destinations[0].address, ip("2001:db8:1::5"));
}

fn several(to: &str, gateways: &[(&str, u16)]) -> Route {
    let hop = |&(via, weight): &(&str, u16)| model::NextHop { via: ip(via), weight };
    route(to, RouteTarget::Via(gateways.iter().map(hop).collect()))
}

#[test]
fn what_is_known_of_gateways_outlives_edits() {
    let mut bench = Bench::new();
    let mut state = two_arms();
    state.routes = vec![
        several("0.0.0.0/0", &[("10.0.0.251", 1), ("10.0.0.252", 3)]),
        several("172.16.0.0/12", &[("10.1.0.251", 1), ("10.0.0.252", 1)]),
        several("192.0.2.0/24", &[("10.0.0.251", 7)]),
    ];
    let first = bench.apply(&state);
    let hop = |snapshot: &Snapshot, prefix: &str| {
        snapshot.routes.iter().find(|route| route.prefix == ip(prefix)).unwrap().hop
    };
    assert_eq!(hop(&first, "172.16.0.0"), Hop::Several { first: 2, count: 2 });
    assert_eq!(hop(&first, "0.0.0.0"), Hop::Several { first: 0, count: 2 });
    assert_eq!(hop(&first, "192.0.2.0"), Hop::Via(WAN, ip("10.0.0.251")), "one is one");
    let list: Vec<_> = first
        .next_hops
        .list
        .iter()
        .map(|hop| (hop.gateway.interface, hop.gateway.address, hop.source, hop.weight))
        .collect();
    let (wan, lan) = (ip("10.0.0.1"), ip("10.1.0.1"));
    assert_eq!(
        list,
        [
            (WAN, ip("10.0.0.251"), wan, 1),
            (WAN, ip("10.0.0.252"), wan, 3),
            (LAN, ip("10.1.0.251"), lan, 1),
            (WAN, ip("10.0.0.252"), wan, 1),
        ]
    );
    assert_eq!(first.next_hops.gateways.len(), 3, "each once");

    // Worker 0 finds that one is silent: it is so in both routes, and in the next configuration.
    let silent = |snapshot: &Snapshot| {
        let silent = snapshot.next_hops.list.iter().filter(|hop| !hop.gateway.answers());
        silent.map(|hop| hop.gateway.address).collect::<Vec<_>>()
    };
    first.next_hops.list[1].gateway.set_answers(false);
    first.next_hops.turn();
    assert_eq!(silent(&first), [ip("10.0.0.252"); 2]);
    let second = bench.apply(&state);
    assert_eq!((silent(&second), second.next_hops.turns()), (vec![ip("10.0.0.252"); 2], 1));
    assert_eq!(second.paths, first.paths);

    let RouteTarget::Via(hops) = &mut state.routes[0].target else { panic!() };
    hops[1].weight = 2;
    let third = bench.apply(&state);
    assert_ne!(third.paths, second.paths, "flows may go elsewhere");
    assert_eq!(silent(&third).len(), 2);

    // Whoever comes back is asked anew.
    state.routes.truncate(1);
    state.routes[0].target = RouteTarget::via(ip("10.0.0.251"));
    assert_eq!(bench.apply(&state).next_hops.gateways.len(), 0);
    state.routes[0] = several("0.0.0.0/0", &[("10.0.0.251", 1), ("10.0.0.252", 1)]);
    assert!(silent(&bench.apply(&state)).is_empty());
}
