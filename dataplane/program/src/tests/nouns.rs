//! What services and servers ask for beside addresses: marks, profiles, tunnels, steering.

use fulcrum_director::SECOND;
use fulcrum_director::snapshot::{ClientAddress, Destination, Steering, Tunnel, TunnelChecksum, TunnelKind};
use fulcrum_model::{Family, MarkRule, TimeoutState};

use super::*;

fn mark(family: Family, mark: u32) -> ServiceKey {
    ServiceKey::Mark { family, mark }
}

fn address(key: ServiceKey) -> (u8, IpAddr, u16) {
    let ServiceKey::Address { protocol, address, port } = key else { panic!("by address only") };
    (protocol.number(), address, port)
}

fn of(protocol: Protocol, vip: &str, port: u16) -> ServiceKey {
    ServiceKey::new(protocol, ip(vip), port)
}

#[test]
fn rules_that_mark_packets_keep_their_order_and_name_interfaces_by_number() {
    let mut state = two_arms();
    state.marks = vec![
        MarkRule {
            family: Some(Family::V6),
            protocol: Some(Protocol::Sctp),
            source: Some("2001:db8::7/32".parse().unwrap()),
            interface: Some("lan".to_owned()),
            ..MarkRule::new(7)
        },
        MarkRule {
            destination: Some("10.0.0.100/32".parse().unwrap()),
            source_ports: vec![PortRange { first: 1, last: 2 }],
            destination_ports: vec![PortRange { first: 80, last: 80 }, PortRange { first: 8000, last: 8009 }],
            mask: 0xf0,
            ..MarkRule::new(0x10)
        },
    ];
    let snapshot = compiled(&state);
    let [first, second] = &snapshot.marks[..] else { panic!("{:?}", snapshot.marks) };
    assert_eq!((first.v6, first.protocol, first.interface), (Some(true), Some(132), Some(1)));
    assert_eq!(first.source, Some((ip("2001:db8::"), 32)));
    assert_eq!((first.mark, first.mask), (7, u32::MAX));
    assert_eq!(second.destination, Some((ip("10.0.0.100"), 32)));
    assert_eq!(second.source_ports, [(1, 2)]);
    assert_eq!(second.destination_ports, [(80, 80), (8000, 8009)]);
    assert_eq!((second.v6, second.interface, second.mark, second.mask), (None, None, 0x10, 0xf0));

    // A rule about an interface that is not there fits nothing, rather than everything.
    state.marks[0].interface = Some("dmz".to_owned());
    let mut bench = Bench::new();
    assert_eq!(bench.apply(&state).marks.len(), 1);
    assert_eq!(bench.warnings, ["mark 7: there is no interface `dmz`"]);
}

#[test]
fn services_by_mark_are_found_by_family_and_mark() {
    let mut state = two_arms();
    state.services = vec![
        service(mark(Family::V4, 1), vec![server("10.1.0.11", 0)]),
        service(mark(Family::V6, 1), vec![server("2001:db8:1::b", 0)]),
    ];
    let mut bench = Bench::new();
    let snapshot = bench.apply(&state);
    assert!(snapshot.services.is_empty() && !snapshot.without_services());
    let v4 = &snapshot.mark_services[&(false, 1)];
    let v6 = &snapshot.mark_services[&(true, 1)];
    assert_eq!((v4.protocol, v4.port, v4.mark, v4.address), (0, 0, Some(1), ip("0.0.0.0")));
    assert_eq!((v6.mark, v6.address), (Some(1), ip("::")));
    assert_ne!(v4.id, v6.id);
    assert_eq!(v6.destinations[0].address, ip("2001:db8:1::b"));
    assert_eq!(bench.program.service_key(v6.id), Some(mark(Family::V6, 1)));
    assert!(!snapshot.locals.contains_key(&ip("0.0.0.0")), "a mark is no address of ours");
}

#[test]
fn time_outs_of_a_service_stand_before_the_directors() {
    let mut state = two_arms();
    let mut own = service(key("10.0.0.100", 80), vec![server("10.1.0.11", 80)]);
    own.timeouts.insert(TimeoutState::TcpSynRecv, 7);
    state.services = vec![own, service(key("10.0.0.100", 81), vec![])];
    state.timeouts.set(TimeoutState::TcpSynRecv, Some(30));
    state.timeouts.set(TimeoutState::TcpEstablished, Some(1000));
    state.timeouts.set(TimeoutState::Udp, Some(5));
    let mut bench = Bench::new();
    let snapshot = bench.apply(&state);
    let of = |port, state: TimeoutState| {
        found(&snapshot, key("10.0.0.100", port)).profile.timeouts.tcp[state as usize] / SECOND
    };
    assert_eq!((of(80, TimeoutState::TcpSynRecv), of(81, TimeoutState::TcpSynRecv)), (7, 30));
    assert_eq!((of(80, TimeoutState::TcpEstablished), of(81, TimeoutState::TcpClose)), (1000, 10));
    assert_eq!(found(&snapshot, key("10.0.0.100", 81)).profile.timeouts.udp, 5 * SECOND);
    let with_server = found(&snapshot, key("10.0.0.100", 80));
    assert!(Arc::ptr_eq(&with_server.profile, &with_server.destinations[0].profile));

    // Another time-out is another profile, for the service and for its servers; the rest is shared with before.
    state.timeouts.set(TimeoutState::TcpClose, Some(11));
    let later = bench.apply(&state);
    let changed = found(&later, key("10.0.0.100", 80));
    assert!(Arc::ptr_eq(&changed.profile, &changed.destinations[0].profile));
    assert_eq!(changed.profile.timeouts.tcp[TimeoutState::TcpClose as usize], 11 * SECOND);
    assert_eq!(changed.id, with_server.id);
    let same = bench.apply(&state);
    assert!(Arc::ptr_eq(found(&same, key("10.0.0.100", 80)), changed));
}

#[test]
fn what_sessions_need_is_in_the_profile() {
    let mut state = two_arms();
    let mut tcp = service(key("10.0.0.100", 80), vec![]);
    tcp.mss = Some(1400);
    tcp.client_address = model::ClientAddress::ProxyV2;
    let mut udp = service(of(Protocol::Udp, "10.0.0.100", 53), vec![]);
    udp.one_packet = true;
    state.services = vec![tcp, udp];
    state.interfaces[1].mss = Some(1200);
    let snapshot = compiled(&state);
    let profile = |key| &snapshot.services[&address(key)].profile;
    let tcp = profile(key("10.0.0.100", 80));
    assert_eq!((tcp.mss, tcp.client_address, tcp.one_packet), (1400, ClientAddress::ProxyV2, false));
    let udp = profile(of(Protocol::Udp, "10.0.0.100", 53));
    assert_eq!((udp.mss, udp.client_address, udp.one_packet), (0, ClientAddress::None, true));
    assert_eq!(snapshot.interfaces.iter().map(|i| i.mss).collect::<Vec<_>>(), [0, 1200]);
}

#[test]
fn servers_have_their_tunnels_and_an_edited_one_is_another_object() {
    let mut state = two_arms();
    let tunnel = |kind, checksum| model::Tunnel { kind, checksum, ..Default::default() };
    let kinds = [
        (model::TunnelKind::Ipip, model::TunnelChecksum::None),
        (model::TunnelKind::Gre, model::TunnelChecksum::Csum),
        (model::TunnelKind::Gue { port: 6080 }, model::TunnelChecksum::Remcsum),
    ];
    let servers = kinds.iter().zip(11..).map(|((kind, checksum), host)| Server {
        forward: Forward::Tun,
        tunnel: tunnel(*kind, *checksum),
        ..server(&format!("10.1.0.{host}"), 80)
    });
    state.services = vec![service(key("10.0.0.100", 80), servers.collect())];
    let mut bench = Bench::new();
    let before = bench.apply(&state);
    let of = |snapshot: &Snapshot| -> Vec<Tunnel> {
        let list = &found(snapshot, key("10.0.0.100", 80)).destinations;
        list.iter().rev().map(|destination| destination.tunnel).collect()
    };
    let expected = [
        (TunnelKind::Ipip, TunnelChecksum::None),
        (TunnelKind::Gre, TunnelChecksum::Plain),
        (TunnelKind::Gue(6080), TunnelChecksum::Remote),
    ];
    assert_eq!(of(&before), expected.map(|(kind, checksum)| Tunnel { kind, checksum }));

    state.services[0].servers[2].tunnel.checksum = model::TunnelChecksum::Csum;
    let after = bench.apply(&state);
    assert_eq!(of(&after)[2].checksum, TunnelChecksum::Plain);
    let ids = |snapshot: &Snapshot| -> Vec<u32> {
        found(snapshot, key("10.0.0.100", 80)).destinations.iter().map(|d| d.id).collect()
    };
    assert_eq!(ids(&before), ids(&after));
}

#[test]
fn tunnels_by_flow_come_from_local_addresses_of_the_servers_family() {
    let mut state = two_arms();
    let tun = |address, source| Server {
        forward: Forward::Tun,
        tunnel: model::Tunnel { source, ..Default::default() },
        ..server(address, 80)
    };
    state.services = vec![model::Service {
        local_addresses: ["10.1.0.201", "fd00::201", "10.1.0.202"]
            .map(|own| model::LocalAddress(own.parse().unwrap()))
            .into(),
        ..service(
            key("10.0.0.100", 80),
            vec![
                tun("10.1.0.11", model::TunnelSource::Local),
                tun("fd00::12", model::TunnelSource::Local),
                tun("10.1.0.13", model::TunnelSource::Interface),
            ],
        )
    }];
    let mut bench = Bench::new();
    let of = |snapshot: &Snapshot| -> Vec<Vec<String>> {
        let list = &found(snapshot, key("10.0.0.100", 80)).destinations;
        let texts = |d: &Arc<Destination>| d.tunnel_sources.iter().map(ToString::to_string).collect();
        list.iter().rev().map(texts).collect()
    };
    let before = bench.apply(&state);
    assert_eq!(of(&before), [vec!["10.1.0.201", "10.1.0.202"], vec!["fd00::201"], vec![]]);
    let objects = |snapshot: &Snapshot| found(snapshot, key("10.0.0.100", 80)).destinations.clone();
    let again = bench.apply(&state);
    assert!(objects(&before).iter().zip(objects(&again)).all(|(a, b)| Arc::ptr_eq(a, &b)));
    state.services[0].local_addresses.pop();
    assert_eq!(of(&bench.apply(&state))[0], ["10.1.0.201"]);
}

#[test]
fn settings_are_the_engines_under_the_same_names() {
    let mut state = two_arms();
    for (name, value) in [
        ("amemthresh", "77"),
        ("am_droprate", "3"),
        ("cache_bypass", "1"),
        ("conn_reuse_mode", "2"),
        ("drop_entry", "1"),
        ("drop_packet", "2"),
        ("expire_nodest_conn", "1"),
        ("lblc_expiration", "60"),
        ("pmtu_disc", "0"),
        ("secure_tcp", "3"),
        ("sloppy_sctp", "1"),
    ] {
        state.settings.set(name, value).unwrap();
    }
    let is = compiled(&state).settings;
    assert_eq!((is.amemthresh, is.am_droprate, is.conn_reuse_mode), (77, 3, 2));
    assert_eq!((is.drop_entry, is.drop_packet, is.secure_tcp), (1, 2, 3));
    assert!(is.cache_bypass && is.expire_nodest_conn && is.sloppy_sctp);
    assert!(!is.pmtu_disc && !is.sloppy_tcp && !is.schedule_icmp && !is.nat_icmp_send);
    assert_eq!((is.lblc_expiration, is.lblcr_expiration), (60 * SECOND, 86400 * SECOND));
}

#[test]
fn ftp_and_calls_keep_a_client_on_one_worker() {
    let mut state = two_arms();
    let mut calls = service(of(Protocol::Udp, "10.0.0.100", 5060), vec![]);
    calls.persistent = Some(60);
    calls.persistence_engine = Some("sip".to_owned());
    let mut six = service(key("2001:db8::100", 21), vec![server("2001:db8:1::b", 21)]);
    six.persistent = Some(60);
    six.prefix = 64;
    state.services = vec![
        service(key("10.0.0.100", 21), vec![server("10.1.0.11", 21)]),
        service(of(Protocol::Udp, "10.0.0.100", 21), vec![]),
        calls,
        six,
    ];
    let snapshot = compiled(&state);
    let steering = |key| snapshot.services[&address(key)].steering;
    assert!(snapshot.ftp_services);
    assert_eq!(steering(key("10.0.0.100", 21)), Steering::Address(32));
    assert_eq!(steering(key("2001:db8::100", 21)), Steering::Address(64));
    assert_eq!(steering(of(Protocol::Udp, "10.0.0.100", 21)), Steering::AddressPort);
    assert_eq!(steering(of(Protocol::Udp, "10.0.0.100", 5060)), Steering::Address(32));
    // FTP's data comes from any port of the server.
    assert_eq!(snapshot.servers[&(6, ip("10.1.0.11"), 0)], Steering::Address(32));
}

#[test]
fn a_mark_shares_its_servers_with_every_protocol_and_port() {
    let mut state = two_arms();
    let mut marked = service(mark(Family::V4, 1), vec![server("10.1.0.11", 0)]);
    marked.persistent = Some(60);
    marked.prefix = 24;
    state.services = vec![
        marked,
        service(key("10.0.0.100", 80), vec![server("10.1.0.11", 8000), server("10.1.0.12", 8000)]),
        service(of(Protocol::Udp, "10.0.0.100", 53), vec![server("10.1.0.11", 53)]),
        service(of(Protocol::Sctp, "10.0.0.100", 53), vec![server("10.1.0.12", 53)]),
        service(key("10.0.0.100", 81), vec![server("10.1.0.12", 8000)]),
    ];
    let snapshot = compiled(&state);
    let wide = Steering::Address(24);
    let steering = |key| snapshot.services[&address(key)].steering;
    assert_eq!(snapshot.mark_services[&(false, 1)].steering, wide);
    assert_eq!(steering(key("10.0.0.100", 80)), wide);
    assert_eq!(steering(of(Protocol::Udp, "10.0.0.100", 53)), wide);
    assert_eq!(steering(key("10.0.0.100", 81)), wide, "over the server that both TCP services have");
    assert_eq!(steering(of(Protocol::Sctp, "10.0.0.100", 53)), Steering::AddressPort);
    for (protocol, host, port) in
        [(6, "10.1.0.11", 0), (17, "10.1.0.11", 0), (132, "10.1.0.11", 0), (6, "10.1.0.12", 8000)]
    {
        assert_eq!(snapshot.servers[&(protocol, ip(host), port)], wide, "{protocol} {host}:{port}");
    }
}

#[test]
fn a_deleted_mark_keeps_its_steering_while_it_has_sessions() {
    let mut state = two_arms();
    let mut marked = service(mark(Family::V4, 1), vec![server("10.1.0.11", 0)]);
    marked.persistent = Some(60);
    state.services = vec![marked];
    let mut bench = Bench::new();
    let snapshot = bench.apply(&state);
    let cells = &snapshot.mark_services[&(false, 1)].destinations[0].counters;
    cells.of(0).active.add(1);
    state.services.clear();
    let without = bench.apply(&state);
    assert!(without.mark_services.is_empty());
    assert_eq!(without.deleted_mark_services[&(false, 1)], Steering::Address(32));
    cells.of(0).active.sub_one();
    bench.apply(&state);
    assert!(bench.apply(&state).deleted_mark_services.is_empty());
}
