//! Any state survives the wire, any two states the difference between them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use fulcrum_api::{apply_changes, changes, difference, fingerprint, state::Change};
use fulcrum_model::*;
use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use prost::Message as _;

fn v4() -> impl Strategy<Value = Ipv4Addr> + Clone {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![v4().prop_map(IpAddr::V4), any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))]
}

fn net() -> impl Strategy<Value = IpNet> {
    (ip(), 0u8..=32).prop_map(|(address, length)| IpNet::new(address, length).unwrap())
}

fn name() -> impl Strategy<Value = String> + Clone {
    "[a-z]{1,4}"
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    (0usize..3).prop_map(|at| Protocol::ALL[at])
}

/// Few keys, so that two states share some.
fn service_key() -> impl Strategy<Value = ServiceKey> {
    let address =
        prop_oneof![Just(IpAddr::from([10, 0, 0, 1])), Just(IpAddr::from(Ipv6Addr::LOCALHOST.segments()))];
    prop_oneof![
        (protocol(), address, 79u16..82).prop_map(|(p, address, port)| ServiceKey::new(p, address, port)),
        (family(), 0u32..3).prop_map(|(family, mark)| ServiceKey::Mark { family, mark }),
    ]
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let kind = prop_oneof![
        Just(TunnelKind::Ipip),
        Just(TunnelKind::Gre),
        any::<u16>().prop_map(|port| TunnelKind::Gue { port }),
    ];
    let checksum =
        prop_oneof![Just(TunnelChecksum::None), Just(TunnelChecksum::Csum), Just(TunnelChecksum::Remcsum)];
    let source = prop_oneof![Just(TunnelSource::Interface), Just(TunnelSource::Local)];
    (kind, checksum, source).prop_map(|(kind, checksum, source)| Tunnel { kind, checksum, source })
}

fn state_timeouts() -> impl Strategy<Value = StateTimeouts> {
    btree_map((0..TimeoutState::ALL.len()).prop_map(|at| TimeoutState::ALL[at]), any::<u32>(), 0..3)
}

fn admin() -> impl Strategy<Value = Admin> {
    let drain = of(any::<u64>()).prop_map(|until| Admin::Drain { until });
    prop_oneof![Just(Admin::Enabled), Just(Admin::Disabled), drain]
}

fn on_failure() -> impl Strategy<Value = OnFailure> {
    prop_oneof![Just(OnFailure::Remove), Just(OnFailure::Quiesce)]
}

fn server_health() -> impl Strategy<Value = ServerHealth> {
    (of(vec(name(), 0..3)), of(on_failure()), of(ip()), of(any::<u16>()))
        .prop_map(|(checks, on_failure, address, port)| ServerHealth { checks, on_failure, address, port })
}

fn health() -> impl Strategy<Value = ServiceHealth> {
    (vec(name(), 0..3), vec(check(), 0..2), on_failure(), any::<[u32; 3]>(), of(server())).prop_map(
        |(checks, own_checks, on_failure, [quorum, hysteresis, slow_start], sorry)| ServiceHealth {
            checks,
            own_checks,
            on_failure,
            quorum,
            hysteresis,
            sorry_server: sorry.map(Box::new),
            slow_start,
        },
    )
}

fn server() -> impl Strategy<Value = Server> {
    let forward =
        prop_oneof![Just(Forward::Nat), Just(Forward::FullNat), Just(Forward::Dr), Just(Forward::Tun)];
    (ip(), any::<u16>(), forward, tunnel(), any::<[u32; 3]>(), admin(), server_health()).prop_map(
        |(address, port, forward, tunnel, [weight, upper_threshold, lower_threshold], admin, health)| {
            Server {
                key: ServerKey { address, port },
                forward,
                tunnel,
                weight,
                upper_threshold,
                lower_threshold,
                admin,
                health,
            }
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let balance =
        (service_key(), name(), any::<u8>(), any::<bool>(), of(any::<u32>()), any::<u8>(), of(name()));
    let local = (of(name()), vec(ip(), 0..3), of(name()));
    let more = (state_timeouts(), of(any::<u16>()), 0usize..4, health(), vec(server(), 0..3));
    let vip = (0usize..3, of(name()), any::<u32>(), any::<bool>());
    (balance, local, more, vip).prop_map(|(balance, local, more, (when, on, after, withheld))| {
        let (key, scheduler, scheduler_flags, one_packet, persistent, prefix, persistence_engine) = balance;
        let (local_pool, locals, interface) = local;
        let (timeouts, mss, client_address, health, servers) = more;
        Service {
            key,
            scheduler,
            scheduler_flags,
            one_packet,
            persistent,
            prefix,
            persistence_engine,
            local_pool,
            local_addresses: locals.into_iter().map(LocalAddress).collect(),
            interface,
            timeouts,
            mss,
            client_address: ClientAddress::ALL[client_address],
            health,
            announcement: Announcement { when: Announce::ALL[when], on, after },
            withheld,
            servers,
        }
    })
}

fn port_range() -> impl Strategy<Value = PortRange> {
    any::<(u16, u16)>().prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
}

fn mark() -> impl Strategy<Value = MarkRule> {
    let what = (of(family()), of(protocol()), of(net()), of(net()), of(name()));
    (what, vec(port_range(), 0..3), vec(port_range(), 0..3), any::<[u32; 2]>()).prop_map(
        |(
            (family, protocol, source, destination, interface),
            source_ports,
            destination_ports,
            [mark, mask],
        )| {
            MarkRule {
                family,
                protocol,
                source,
                destination,
                source_ports,
                destination_ports,
                interface,
                mark,
                mask,
            }
        },
    )
}

fn snat() -> impl Strategy<Value = Snat> {
    let what = (net(), of(net()), of(0..SnatProtocol::WORDS.len()), vec(port_range(), 0..3));
    (name(), what, of(name())).prop_map(|(name, (source, destination, protocol, destination_ports), pool)| {
        Snat {
            name,
            source,
            destination,
            protocol: protocol.map(|at| SnatProtocol::WORDS[at].1),
            destination_ports,
            pool,
        }
    })
}

/// Some whose values come from rules.
fn overrides(rules: &[Snat]) -> Vec<Override> {
    let over = |(at, rule): (usize, &Snat)| Override {
        full_nat: at % 2 == 0,
        local_pool: rule.pool.clone(),
        interface: rule.destination.map(|_| rule.name.clone()),
        mss: rule.destination_ports.first().map(|ports| ports.first),
        client_address: rule.protocol.map(|_| ClientAddress::ALL[at % 4]),
        ..Override::new(ServiceKey::new(Protocol::Tcp, rule.source.addr(), 80))
    };
    rules.iter().enumerate().map(over).collect()
}

fn check_tls() -> impl Strategy<Value = CheckTls> {
    (of(name()), of(name()), any::<bool>()).prop_map(|(name, ca, verify)| CheckTls { name, ca, verify })
}

fn check_kind() -> impl Strategy<Value = CheckKind> {
    let status = vec(any::<(u16, u16)>().prop_map(|(first, last)| StatusRange { first, last }), 1..3);
    let digest = prop_oneof![
        any::<[u8; 16]>().prop_map(BodyDigest::Md5),
        any::<[u8; 32]>().prop_map(BodyDigest::Sha256)
    ];
    let http = (of(check_tls()), 0usize..3, name(), of(name()), status, of(name()), of(digest));
    let dns = (name(), 0usize..DnsRecord::WORDS.len(), 0usize..DnsRcode::WORDS.len(), vec(name(), 0..3));
    prop_oneof![
        Just(CheckKind::Tcp),
        Just(CheckKind::Ping),
        http.prop_map(|(tls, method, path, host, status, body, digest)| CheckKind::Http {
            tls,
            method: HttpMethod::WORDS[method].1,
            path,
            host,
            status: StatusSet(status),
            body,
            digest,
        }),
        (vec(any::<u8>(), 0..9), of(vec(any::<u8>(), 0..9)))
            .prop_map(|(send, reply)| CheckKind::Udp { send, reply }),
        dns.prop_map(|(query, record, rcode, answer)| CheckKind::Dns {
            query,
            record: DnsRecord::WORDS[record].1,
            rcode: DnsRcode::WORDS[rcode].1,
            answer,
        }),
        (of(name()), of(check_tls())).prop_map(|(helo, tls)| CheckKind::Smtp { helo, tls }),
        (name(), vec(name(), 0..3)).prop_map(|(program, arguments)| CheckKind::Exec { program, arguments }),
        (name(), of(check_tls())).prop_map(|(service, tls)| CheckKind::Grpc { service, tls }),
    ]
}

fn check() -> impl Strategy<Value = Check> {
    let numbers = (any::<[u32; 3]>(), any::<[u32; 2]>(), of(any::<u16>()));
    (name(), check_kind(), numbers, of(ip()), 0usize..3).prop_map(
        |(name, kind, ([interval, timeout, warm_up], [rise, fall], port), source, via)| Check {
            name,
            kind,
            interval: Duration::from_millis(interval.into()),
            timeout: Duration::from_millis(timeout.into()),
            rise,
            fall,
            warm_up: Duration::from_millis(warm_up.into()),
            port,
            source,
            via: Via::WORDS[via].1,
        },
    )
}

/// Any settings that are in range.
fn settings() -> impl Strategy<Value = Settings> {
    vec((0..Settings::NAMES.len(), 0u32..5), 0..6).prop_map(|changes| {
        let mut settings = Settings::default();
        for (at, value) in changes {
            let _ = settings.set(Settings::NAMES[at], &value.to_string());
        }
        settings
    })
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    vec(service(), 0..8).prop_map(|mut list| {
        let mut seen = HashSet::new();
        list.retain(|service| seen.insert(service.key));
        list
    })
}

fn bond() -> impl Strategy<Value = Bond> {
    let mode = prop_oneof![
        of(name()).prop_map(|primary| BondMode::ActiveBackup { primary }),
        (0..BondHash::WORDS.len()).prop_map(|hash| BondMode::Lacp { hash: BondHash::WORDS[hash].1 }),
    ];
    (mode, vec(name(), 0..3)).prop_map(|(mode, members)| Bond { mode, members })
}

fn network() -> impl Strategy<Value = State> {
    let ports = vec(
        (name(), name(), of(bond()), of(mac()), 0..PortSteering::WORDS.len()).prop_map(
            |(name, device, bond, mac, steering)| Port {
                name,
                device,
                bond,
                mac,
                steering: PortSteering::WORDS[steering].1,
            },
        ),
        0..3,
    );
    let interfaces = vec(
        (name(), name(), 0u16..4095, any::<u16>(), vec(net(), 0..3), of(any::<u16>())).prop_map(
            |(name, port, vlan, mtu, addresses, mss)| Interface {
                exception: mss.map(|mss| format!("fc-{mss}")),
                name,
                port,
                vlan,
                mtu,
                addresses,
                mss,
            },
        ),
        0..3,
    );
    let target = prop_oneof![
        ip().prop_map(RouteTarget::via),
        vec((ip(), 1u16..=256), 1..4).prop_map(|hops| RouteTarget::Via(
            hops.into_iter().map(|(via, weight)| NextHop { via, weight }).collect()
        )),
        name().prop_map(RouteTarget::Interface),
        Just(RouteTarget::Unreachable),
        Just(RouteTarget::Blackhole),
    ];
    let routes =
        vec((net(), target, of(any::<u16>())).prop_map(|(to, target, mtu)| Route { to, target, mtu }), 0..3);
    let neighbours = vec(
        (ip(), mac(), name()).prop_map(|(address, mac, interface)| Neighbour { address, mac, interface }),
        0..3,
    );
    let range = prop_oneof![
        (v4(), v4()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<[u128; 2]>().prop_map(|[a, b]| (Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into())),
    ];
    let range = range.prop_map(|(a, b)| AddressRange { first: a.min(b), last: a.max(b) });
    let pools = vec(
        (name(), name(), vec(range, 0..3), 1u16.., 1u16..).prop_map(|(name, interface, addresses, a, b)| {
            LocalPool { name, interface, addresses, ports: PortRange { first: a.min(b), last: a.max(b) } }
        }),
        0..3,
    );
    let timeouts = (any::<[u32; 3]>(), state_timeouts()).prop_map(|([tcp, tcp_fin, udp], states)| Timeouts {
        tcp,
        tcp_fin,
        udp,
        states,
    });
    let rules = (vec(mark(), 0..3), vec(snat(), 0..3), vec(check(), 0..3));
    (ports, interfaces, routes, neighbours, pools, rules, timeouts, settings()).prop_map(
        |(ports, interfaces, routes, neighbours, local_pools, (marks, snat, checks), timeouts, settings)| {
            State {
                exception: Exception {
                    rest: timeouts.udp % 1000,
                    management_ports: vec![(timeouts.tcp % 1000) as u16],
                    ..Exception::default()
                },
                ports,
                interfaces,
                routes,
                neighbours,
                local_pools,
                marks,
                overrides: overrides(&snat),
                snat,
                checks,
                services: Vec::new(),
                timeouts,
                settings,
            }
        },
    )
}

fn state() -> impl Strategy<Value = State> {
    (network(), services()).prop_map(|(network, services)| State { services, ..network })
}

/// What the other end reads.
fn sent(list: Vec<Change>) -> Vec<Change> {
    list.iter().map(|change| Change::decode(change.encode_to_vec().as_slice()).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_whole_state_survives_the_wire(wanted in state(), before in state()) {
        let mut held = State::default();
        apply_changes(&mut held, sent(changes(&wanted))).unwrap();
        prop_assert_eq!(&held, &wanted);
        prop_assert_eq!(fingerprint(&held), fingerprint(&wanted));
        prop_assert_eq!(fingerprint(&before) == fingerprint(&wanted), before == wanted);
    }

    #[test]
    fn a_difference_leads_from_old_to_new(old in state(), new in state(), shuffled in services().prop_shuffle()) {
        let new = State { services: shuffled, ..new };
        let mut held = old.clone();
        apply_changes(&mut held, sent(difference(&old, &new))).unwrap();
        prop_assert_eq!(&held, &new);
        prop_assert!(difference(&new, &new).is_empty());
    }

    #[test]
    fn an_order_alone_is_a_difference(list in services(), at in any::<prop::sample::Index>()) {
        prop_assume!(list.len() > 1);
        let old = State { services: list, ..State::default() };
        let mut new = old.clone();
        let last = new.services.pop().unwrap();
        new.services.insert(at.index(new.services.len()), last);
        let mut held = old.clone();
        apply_changes(&mut held, difference(&old, &new)).unwrap();
        prop_assert_eq!(&held, &new);
        prop_assert_ne!(fingerprint(&old), fingerprint(&new));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(change) = Change::decode(bytes.as_slice()) {
            let _ = apply_changes(&mut State::default(), [change]);
        }
    }
}

#[test]
fn a_change_in_place_is_one_message() {
    let service = |port| Service::new(ServiceKey::new(Protocol::Tcp, Ipv4Addr::LOCALHOST.into(), port), "rr");
    let old = State { services: vec![service(1), service(2), service(3)], ..State::default() };
    let mut new = old.clone();
    new.services[1].scheduler = "wlc".into();
    assert_eq!(difference(&old, &new).len(), 1);
    new.services.remove(0);
    assert_eq!(difference(&old, &new).len(), 2);
}

#[test]
fn deleting_a_service_that_is_not_there_is_an_error() {
    let key = ServiceKey::new(Protocol::Udp, Ipv4Addr::LOCALHOST.into(), 53);
    let change = Change { change: Some(fulcrum_api::state::change::Change::DeleteService((&key).into())) };
    assert!(apply_changes(&mut State::default(), [change]).is_err());
    assert!(apply_changes(&mut State::default(), [Change::default()]).is_err());
}
