//! States of every noun: they are valid, read back from a file as they were, and edits build the same ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use fulcrum_model::file::{Config, state_to_toml};
use fulcrum_model::iptables;
use fulcrum_model::validate::{self, SCHEDULERS};
use fulcrum_model::*;
use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

const NETWORK: &str = r#"
[[port]]
name = "p"
device = "net_null0"
[[interface]]
name = "wan"
port = "p"
mtu = 1280
mss = 1220
addresses = ["172.16.100.1/24", "fd00:16::1/64", "fe80::1/64"]
[[interface]]
name = "lan"
port = "p"
vlan = 20
addresses = ["192.168.20.1/24", "fd00:20::1/64", "fe80::1/64"]
[[route]]
to = "::/0"
via = "fd00:16::fe"
[[local-pool]]
name = "both"
interface = "lan"
addresses = ["192.168.20.200-192.168.20.203", "fd00:20::200/120"]
[[local-pool]]
name = "six"
interface = "lan"
addresses = ["fd00:20::100-fd00:20::1ff"]
"#;

fn network() -> State {
    Config::parse("network", NETWORK).unwrap().state
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    proptest::sample::select(Protocol::ALL.to_vec())
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let vip = (family(), 9..12u8).prop_map(|(family, last)| match family {
        Family::V4 => IpAddr::from([172, 16, 100, last]),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x16, 0, 0, 0, 0, 0, last.into()).into(),
    });
    prop_oneof![
        3 => (protocol(), vip, prop_oneof![Just(0), Just(21), any::<u16>()])
            .prop_map(|(protocol, vip, port)| ServiceKey::new(protocol, vip, port)),
        1 => (family(), 1..=u32::MAX).prop_map(|(family, mark)| ServiceKey::Mark { family, mark }),
    ]
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let kind = prop_oneof![
        Just(TunnelKind::Ipip),
        Just(TunnelKind::Gre),
        (1..=u16::MAX).prop_map(|port| TunnelKind::Gue { port }),
    ];
    let checksum =
        proptest::sample::select(vec![TunnelChecksum::None, TunnelChecksum::Csum, TunnelChecksum::Remcsum]);
    let source = proptest::sample::select(vec![TunnelSource::Interface, TunnelSource::Local]);
    (kind, checksum, source).prop_map(|(kind, checksum, source)| Tunnel {
        kind,
        source,
        checksum: match (kind, checksum) {
            (TunnelKind::Ipip, _) | (TunnelKind::Gre, TunnelChecksum::Remcsum) => TunnelChecksum::None,
            (_, checksum) => checksum,
        },
    })
}

/// A server that a service of this key with a pool of both families may have.
fn server(key: ServiceKey) -> impl Strategy<Value = Server> {
    let forward = proptest::sample::select(vec![
        Forward::Nat,
        Forward::FullNat,
        Forward::Dr,
        Forward::Tun,
        Forward::Local,
    ]);
    let numbers = (0..=validate::MAX_WEIGHT, 0..=1u32 << 31, any::<u32>());
    (forward, family(), any::<u16>(), any::<u16>(), tunnel(), numbers).prop_map(
        move |(forward, family, last, port, tunnel, (weight, upper, lower))| {
            let bridges = matches!(forward, Forward::FullNat | Forward::Tun);
            let address = match if bridges { family } else { key.family() } {
                Family::V4 => IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 | u32::from(last))),
                Family::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last).into(),
            };
            let forced = matches!(forward, Forward::Dr | Forward::Tun | Forward::Local);
            let port = key.port().filter(|_| forced).unwrap_or(port);
            let upper_threshold = upper.min(i32::MAX as u32);
            Server {
                tunnel: if forward == Forward::Tun { tunnel } else { Tunnel::default() },
                weight,
                upper_threshold,
                lower_threshold: lower.checked_rem(upper_threshold).unwrap_or(0),
                ..Server::new(ServerKey { address, port }, forward)
            }
        },
    )
}

fn state_timeouts() -> impl Strategy<Value = StateTimeouts> {
    btree_map(proptest::sample::select(TimeoutState::ALL.to_vec()), 1..=validate::MAX_TIMEOUT, 0..4)
}

fn service() -> impl Strategy<Value = Service> {
    key().prop_flat_map(|key| {
        let balance = (proptest::sample::select(SCHEDULERS.to_vec()), 0..8u8, any::<bool>(), any::<bool>());
        let persistence = (of(1..=validate::MAX_TIMEOUT), 1..=key.family().bits());
        let own = of(Just(LocalAddress(Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x300).into())));
        let rest = (of(Just("wan".to_owned())), state_timeouts(), of(validate::MSS), 0..4usize);
        (balance, persistence, own, rest, vec(server(key), 0..5)).prop_map(
            move |((scheduler, flags, ops, sip), (persistent, prefix), own, rest, mut servers)| {
                let (interface, mut timeouts, mss, way) = rest;
                let is = |wanted: Protocol| key.protocol().is_none_or(|protocol| protocol == wanted);
                timeouts.retain(|state, _| is(state.protocol()));
                let client_address = match ClientAddress::ALL[way] {
                    ClientAddress::Toa | ClientAddress::ProxyV1 if !is(Protocol::Tcp) => ClientAddress::None,
                    ClientAddress::ProxyV2 if !is(Protocol::Tcp) && !is(Protocol::Udp) => ClientAddress::None,
                    way => way,
                };
                let mut seen = std::collections::HashSet::new();
                servers.retain(|server| seen.insert(server.key));
                Service {
                    scheduler_flags: flags,
                    one_packet: ops && is(Protocol::Udp),
                    persistent: if key.port() == Some(0) { persistent.or(Some(360)) } else { persistent },
                    prefix,
                    persistence_engine: sip.then(|| "sip".to_owned()),
                    local_pool: Some("both".to_owned()),
                    local_addresses: own.into_iter().collect(),
                    interface,
                    timeouts,
                    mss: mss.filter(|_| is(Protocol::Tcp)),
                    client_address,
                    servers,
                    ..Service::new(key, scheduler)
                }
            },
        )
    })
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    let range = any::<(u16, u16)>().prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) });
    vec(range, 0..4)
}

fn mark() -> impl Strategy<Value = MarkRule> {
    let net = |family| {
        (any::<u128>(), 0..=32u8).prop_map(move |(bits, length)| {
            let address = match family {
                Family::V4 => IpAddr::from(Ipv4Addr::from_bits(bits as u32)),
                Family::V6 => Ipv6Addr::from_bits(bits).into(),
            };
            IpNet::new(address, length).unwrap().trunc()
        })
    };
    family().prop_flat_map(move |family| {
        let what =
            (of(Just(family)), of(protocol()), of(net(family)), of(net(family)), of(Just("lan".to_owned())));
        (what, ports(), ports(), any::<u32>(), prop_oneof![Just(u32::MAX), any::<u32>()]).prop_map(
            |(
                (family, protocol, source, destination, interface),
                source_ports,
                destination_ports,
                mark,
                mask,
            )| {
                MarkRule {
                    family,
                    protocol,
                    source,
                    destination,
                    source_ports: protocol.map_or(Vec::new(), |_| source_ports),
                    destination_ports: protocol.map_or(Vec::new(), |_| destination_ports),
                    interface,
                    mark,
                    mask,
                }
            },
        )
    })
}

fn check_tls() -> impl Strategy<Value = CheckTls> {
    (of("[a-z.]{1,9}"), of(Just("/etc/ca.pem".to_owned())), any::<bool>())
        .prop_map(|(name, ca, verify)| CheckTls { name, ca: ca.filter(|_| verify), verify })
}

fn check_kind() -> impl Strategy<Value = CheckKind> {
    let status = vec((100..=599u16, 100..=599u16), 1..4).prop_map(|ranges| {
        let range = |(a, b): (u16, u16)| StatusRange { first: a.min(b), last: a.max(b) };
        StatusSet(ranges.into_iter().map(range).collect())
    });
    let digest = of(prop_oneof![
        any::<[u8; 16]>().prop_map(BodyDigest::Md5),
        any::<[u8; 32]>().prop_map(BodyDigest::Sha256)
    ]);
    let http = (of(check_tls()), 0..3usize, "/[!-~]{0,9}", of("[!-~]{1,9}"), status, of(".{1,9}"), digest);
    let bytes = || prop_oneof![vec(any::<u8>(), 1..20), ".{1,9}".prop_map(String::into_bytes)];
    let reply = prop_oneof![Just(None), Just(Some(Vec::new())), bytes().prop_map(Some)];
    let record = proptest::sample::select(DnsRecord::WORDS.to_vec());
    let rcode = proptest::sample::select(DnsRcode::WORDS.to_vec());
    let dns = ("[a-z]{1,9}(\\.[a-z]{1,9}){0,3}\\.?", record, rcode, vec(".{1,9}", 0..3));
    prop_oneof![
        Just(CheckKind::Tcp),
        Just(CheckKind::Ping),
        http.prop_map(|(tls, method, path, host, status, body, digest)| {
            let (_, method) = HttpMethod::WORDS[method];
            let read = method != HttpMethod::Head;
            let (body, digest) = (body.filter(|_| read), digest.filter(|_| read));
            CheckKind::Http { tls, method, path, host, status, body, digest }
        }),
        (bytes(), reply).prop_map(|(send, reply)| CheckKind::Udp { send, reply }),
        dns.prop_map(|(query, (_, record), (_, rcode), answer)| CheckKind::Dns {
            query,
            record,
            rcode,
            answer
        }),
        (of("[a-z.]{1,9}"), of(check_tls())).prop_map(|(helo, tls)| CheckKind::Smtp { helo, tls }),
        ("/[^\0]{0,9}", vec("[^\0]{0,9}", 0..3))
            .prop_map(|(program, arguments)| CheckKind::Exec { program, arguments }),
        ("[a-zA-Z0-9./]{0,9}", of(check_tls())).prop_map(|(service, tls)| CheckKind::Grpc { service, tls }),
    ]
}

fn check() -> impl Strategy<Value = Check> {
    let time = || prop_oneof![100..=86_400_000u64, (1..=86_400u64).prop_map(|seconds| seconds * 1000)];
    let times = (time(), 10..=86_400_000u64, time()).prop_map(|times| {
        let (interval, timeout, warm_up) = times;
        [interval, timeout.min(interval), warm_up].map(Duration::from_millis)
    });
    let source = of(any::<u16>().prop_map(|low| Ipv4Addr::from_bits(0x0a01_0000 | u32::from(low)).into()));
    let rows = (validate::CHECK_ROW, validate::CHECK_ROW);
    (check_kind(), times, rows, of(1..=u16::MAX), source, 0..3usize).prop_map(
        |(kind, [interval, timeout, warm_up], (rise, fall), port, source, via)| {
            let program = matches!(kind, CheckKind::Exec { .. });
            let via = if program { Via::Direct } else { Via::WORDS[via].1 };
            Check {
                name: String::new(),
                interval,
                timeout,
                rise,
                fall,
                warm_up,
                port: port.filter(|_| kind.has_port()),
                source: source.filter(|_| via == Via::Direct && !program),
                via,
                kind,
            }
        },
    )
}

fn state() -> impl Strategy<Value = State> {
    let settings = vec((proptest::sample::select(Settings::NAMES.to_vec()), 0..4u32), 0..6);
    (vec(service(), 0..5), vec(mark(), 0..4), vec(check(), 0..4), state_timeouts(), settings).prop_map(
        |(services, marks, checks, timeouts, settings)| {
            let mut state = State { marks, ..network() };
            for (at, check) in checks.into_iter().enumerate() {
                state.checks.push(Check { name: format!("check-{at}"), ..check });
            }
            for service in services {
                if state.service(service.key).is_none() {
                    state.services.push(service);
                }
            }
            timeouts.into_iter().for_each(|(each, seconds)| state.timeouts.set(each, Some(seconds)));
            for (name, value) in settings {
                // Out of range leaves the default.
                let _ = state.settings.set(name, &value.to_string());
            }
            state
        },
    )
}

/// The edits that make `state` out of its network.
fn edits(state: &State) -> Vec<Edit> {
    let mut edits: Vec<Edit> =
        state.marks.iter().rev().map(|rule| Edit::AddMark(rule.clone(), Some(0))).collect();
    for check in &state.checks {
        edits.push(Edit::AddCheck(Check::new(&check.name, CheckKind::Ping)));
        edits.push(Edit::UpdateCheck(check.clone()));
    }
    for service in &state.services {
        let key = service.key;
        let plain = Service {
            mss: None,
            client_address: ClientAddress::None,
            timeouts: StateTimeouts::new(),
            announcement: Announcement::default(),
            ..service.clone()
        };
        edits.push(Edit::AddService(plain));
        edits.push(Edit::SetServiceAnnouncement(key, service.announcement.clone()));
        edits.push(Edit::SetServiceMss(key, service.mss));
        edits.push(Edit::SetServiceClientAddress(key, service.client_address));
        let timeout = |(state, n): (&TimeoutState, &u32)| Edit::SetStateTimeout(Some(key), *state, Some(*n));
        edits.extend(service.timeouts.iter().map(timeout));
        // What ipvsadm -E does not know stays.
        edits.push(Edit::UpdateService(Service {
            local_pool: None,
            local_addresses: Vec::new(),
            interface: None,
            mss: None,
            client_address: ClientAddress::None,
            timeouts: StateTimeouts::new(),
            ..service.clone()
        }));
        edits.extend(service.servers.iter().map(|server| Edit::AddServer(key, server.clone())));
    }
    for each in TimeoutState::ALL {
        edits.push(Edit::SetStateTimeout(None, each, Some(state.timeouts.of(each))));
    }
    for name in Settings::names() {
        let value = state.settings.get(name).unwrap();
        edits.push(Edit::SetSetting { name: name.to_owned(), value });
    }
    edits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn files_and_edits_make_the_same_valid_state(state in state()) {
        prop_assert_eq!(validate::state(&state), vec![]);
        let text = state_to_toml(&state);
        let read = Config::parse("f", &text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&read.state, &state);

        let mut built = network();
        built.apply_all(&edits(&state)).map_err(|(at, e)| TestCaseError::fail(format!("{:?}: {e}", edits(&state)[at])))?;
        prop_assert_eq!(&built, &state);

        while let Some(rule) = built.marks.last().cloned() {
            let (at, left) = (built.marks.len() - 1, built.marks[..built.marks.len() - 1].to_vec());
            built.apply(&Edit::DeleteMark(rule, Some(at))).unwrap();
            prop_assert_eq!(&built.marks, &left);
        }
    }

    #[test]
    fn what_is_taken_is_valid_and_reads_back(state in state(), at in any::<prop::sample::Index>(), with in "[a-z0-9\"=,./:\\[\\]-]{0,2}") {
        let mut text = state_to_toml(&state);
        let (at, old) = *at.get(&text.char_indices().collect::<Vec<_>>());
        text.replace_range(at..at + old.len_utf8(), &with);
        if let Ok(config) = Config::parse("f", &text) {
            prop_assert_eq!(validate::state(&config.state), vec![]);
            prop_assert_eq!(Config::parse("g", &state_to_toml(&config.state)).unwrap().state, config.state);
        }
    }

    #[test]
    fn rules_of_iptables_are_refused_or_valid(line in "(-A PREROUTING )?(-[psdijm] |! |--(dport|sports|set-xmark|set-mark) |tcp |udp |MARK |[0-9.:/,x]{1,12} |lan ){0,9}") {
        for family in [Family::V4, Family::V6] {
            let Ok(import) = iptables::parse(family, &line) else { continue };
            let mut state = network();
            for rule in import.rules {
                let _ = state.apply(&Edit::AddMark(rule, None));
            }
            prop_assert_eq!(validate::state(&state), vec![]);
        }
    }
}

#[test]
fn a_mark_rule_is_deleted_where_it_was_meant() {
    let (one, two) = (MarkRule::new(1), MarkRule::new(2));
    let mut state = State { marks: vec![one.clone(), two.clone(), one.clone()], ..State::default() };
    assert!(state.apply(&Edit::DeleteMark(two.clone(), Some(0))).is_err());
    assert!(state.apply(&Edit::AddMark(two.clone(), Some(4))).is_err());
    state.apply(&Edit::DeleteMark(one.clone(), Some(2))).unwrap();
    assert_eq!(state.marks, [one.clone(), two.clone()]);
    state.apply(&Edit::DeleteMark(one, None)).unwrap();
    state.apply(&Edit::AddMark(MarkRule::new(3), Some(0))).unwrap();
    assert_eq!(state.marks, [MarkRule::new(3), two]);
    state.apply(&Edit::ClearMarks).unwrap();
    assert!(state.marks.is_empty());
}
