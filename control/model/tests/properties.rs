//! What must hold for every state and every input: what is written reads back the same, and no text panics.

use std::net::IpAddr;

use fulcrum_model::file::{Config, state_to_toml};
use fulcrum_model::ipvsadm::{self, Command, Numeric};
use fulcrum_model::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Interfaces, a route, a neighbour and two pools under the services.
const NETWORK: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
[[interface]]
name = "wan"
port = "wan"
addresses = ["172.16.100.1/24"]
[[interface]]
name = "lan"
port = "wan"
vlan = 7
mtu = 9000
addresses = ["192.168.20.1/24", "fd00::1/64"]
[[route]]
to = "0.0.0.0/0"
via = "172.16.100.254"
mtu = 1400
[[neighbour]]
address = "192.168.20.7"
mac = "02:00:00:00:20:07"
interface = "lan"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["192.168.20.200-192.168.20.203", "192.168.20.210"]
ports = "2000-2999"
[[local-pool]]
name = "odd name:1.b@c"
interface = "lan"
addresses = ["192.168.20.203"]
"#;

fn network() -> State {
    Config::parse("network", &NETWORK.replace("odd name", "odd-name")).unwrap().state
}

prop_compose! {
    fn server(service_port: u16)(
        forward in prop_oneof![Just(Forward::Nat), Just(Forward::FullNat), Just(Forward::Dr), Just(Forward::Tun)],
        weight in prop_oneof![0..10u32, 0..=i32::MAX as u32],
        port in any::<u16>(),
        upper_threshold in 0..5u32,
        lower_threshold in 0..5u32,
    ) -> (Forward, u32, u16, u32, u32) {
        let forced = matches!(forward, Forward::Dr | Forward::Tun);
        let port = if forced { service_port } else { port };
        (forward, weight, port, upper_threshold, lower_threshold.min(upper_threshold))
    }
}

fn service() -> impl Strategy<Value = Service> {
    let key = (any::<bool>(), 2..6u8, prop_oneof![Just(0u16), Just(80), any::<u16>()]);
    let more = (
        prop_oneof![Just("rr"), Just("wrr"), Just("lc"), Just("wlc")],
        proptest::option::of(1..100_000u32),
        0..=32u8,
        proptest::option::of(prop_oneof![Just("inside"), Just("odd-name:1.b@c")]),
        vec(200..=210u8, 0..3),
        proptest::option::of(prop_oneof![Just("wan"), Just("lan")]),
    );
    (key, more).prop_flat_map(|((udp, last, port), (scheduler, persistent, bits, pool, own, interface))| {
        let persistent = if port == 0 { persistent.or(Some(360)) } else { persistent };
        let prefix = if persistent.is_some() { bits } else { 32 };
        let mut local_addresses = Vec::new();
        for last in own {
            let address = LocalAddress([192, 168, 20, last].into());
            if !local_addresses.contains(&address) {
                local_addresses.push(address);
            }
        }
        let starved = pool.is_none() && local_addresses.is_empty();
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let key = ServiceKey::new(protocol, [172, 16, 100, last].into(), port);
        let service = Service {
            persistent,
            prefix,
            local_pool: pool.map(str::to_owned),
            local_addresses,
            interface: interface.map(str::to_owned),
            ..Service::new(key, scheduler)
        };
        btree_map(any::<[u8; 2]>(), server(port), 0..6).prop_map(move |servers| {
            let servers = servers.into_iter().map(|([a, b], (forward, weight, port, upper, lower))| Server {
                weight,
                upper_threshold: upper,
                lower_threshold: lower,
                ..Server::new(
                    ServerKey { address: [10, 1, a, b].into(), port },
                    if forward == Forward::FullNat && starved { Forward::Nat } else { forward },
                )
            });
            Service { servers: servers.collect(), ..service.clone() }
        })
    })
}

fn state() -> impl Strategy<Value = State> {
    (vec(service(), 0..6), 1..=2_678_400u32, any::<bool>()).prop_map(|(services, tcp, sloppy)| {
        let mut state = network();
        for service in services {
            if state.service(service.key).is_none() {
                state.services.push(service);
            }
        }
        state.timeouts.tcp = tcp;
        state.settings.sloppy_tcp = sloppy;
        state
    })
}

/// What `-S` keeps beside what the configuration of the tests has.
#[derive(Clone, Debug)]
struct Kind {
    key: Option<ServiceKey>,
    flags: u8,
    one_packet: bool,
    sip: bool,
    tunnel: Tunnel,
}

fn kind() -> impl Strategy<Value = Kind> {
    let key = prop_oneof![
        Just(None),
        (0..3usize, 1..3u16).prop_map(|(protocol, last)| {
            let address = std::net::Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, last);
            Some(ServiceKey::new(Protocol::ALL[protocol], address.into(), 80))
        }),
        (any::<bool>(), 1..=u32::MAX).prop_map(|(six, mark)| {
            Some(ServiceKey::Mark { family: if six { Family::V6 } else { Family::V4 }, mark })
        }),
    ];
    let tunnel = prop_oneof![
        Just(Tunnel::default()),
        any::<bool>().prop_map(|csum| Tunnel {
            kind: TunnelKind::Gre,
            checksum: if csum { TunnelChecksum::Csum } else { TunnelChecksum::None },
            ..Tunnel::default()
        }),
        (1..=u16::MAX, any::<bool>()).prop_map(|(port, remcsum)| Tunnel {
            kind: TunnelKind::Gue { port },
            checksum: if remcsum { TunnelChecksum::Remcsum } else { TunnelChecksum::Csum },
            ..Tunnel::default()
        }),
    ];
    (key, 0..8u8, any::<bool>(), any::<bool>(), tunnel)
        .prop_map(|(key, flags, one_packet, sip, tunnel)| Kind { key, flags, one_packet, sip, tunnel })
}

impl Kind {
    fn put(self, service: &mut Service) {
        if let Some(key) = self.key {
            service.key = key;
            service.prefix = key.family().bits() - u8::from(service.persistent.is_some());
        }
        service.scheduler_flags = self.flags;
        service.one_packet =
            self.one_packet && service.key.protocol().is_none_or(|protocol| protocol == Protocol::Udp);
        service.persistence_engine = self.sip.then(|| "sip".to_owned());
        let port = service.key.port();
        for server in &mut service.servers {
            if service.key.family() == Family::V6 && server.forward != Forward::Tun {
                // Only tunnels and FULLNAT cross families.
                server.forward = Forward::Tun;
            }
            if server.forward == Forward::Tun {
                server.tunnel = self.tunnel;
            }
            if let (Some(port), Forward::Dr | Forward::Tun) = (port, server.forward) {
                server.key.port = port;
            }
        }
    }
}

/// What `-S` keeps of a service: not the order of addition, and no thresholds.
fn saved(state: &State) -> Vec<Service> {
    let mut services = state.services.clone();
    services.sort_by_key(|s| s.key);
    for service in &mut services {
        service.servers.sort_by_key(|s| s.key);
        for server in &mut service.servers {
            (server.upper_threshold, server.lower_threshold) = (0, 0);
        }
    }
    services
}

proptest! {
    #[test]
    fn a_file_that_was_written_reads_back_the_same(state in state()) {
        let text = state_to_toml(&state);
        prop_assert_eq!(Config::parse("f", &text).map_err(|e| TestCaseError::fail(e.to_string()))?.state, state);
    }

    #[test]
    fn what_was_saved_restores_the_same(state in state(), more in vec(kind(), 6)) {
        let mut state = state;
        for (service, kind) in state.services.iter_mut().zip(more) {
            kind.put(service);
        }
        let mut keys = std::collections::HashSet::new();
        state.services.retain(|service| keys.insert(service.key));
        let text = ipvsadm::save(&state.services, true, &Numeric);
        let lines = ipvsadm::restore(&text, &Numeric).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let edits: Vec<Edit> = lines.into_iter().flat_map(ipvsadm::Line::into_edits).collect();
        let mut restored = network();
        restored.apply_all(&edits).map_err(|(at, e)| TestCaseError::fail(format!("{:?}: {e}", edits[at])))?;
        prop_assert_eq!(saved(&restored), saved(&state));
        prop_assert_eq!(ipvsadm::save(&restored.services, true, &Numeric).lines().count(), text.lines().count());
    }

    #[test]
    fn a_refused_transaction_changes_nothing(state in state(), edits in vec(edit(), 0..8)) {
        let mut changed = state.clone();
        match changed.apply_all(&edits) {
            Ok(()) => prop_assert_eq!(fulcrum_model::validate::state(&changed), vec![]),
            Err((at, _)) => {
                prop_assert!(at < edits.len());
                prop_assert_eq!(changed, state);
            }
        }
    }

    #[test]
    fn no_command_line_panics(args in vec(argument(), 0..8)) {
        let args: Vec<String> = args.into_iter().collect();
        if let Ok(Command::Edit(edits)) = ipvsadm::parse(&args) {
            let _ = network().apply_all(&edits);
        }
    }

    #[test]
    fn no_restore_input_panics(text in "(-[AaEeDdCPQ] |-[tursMpwxyz] |[0-9.:]{1,9}|[ #\n'é]){0,60}") {
        let _ = ipvsadm::restore(&text, &Numeric);
    }

    #[test]
    fn no_file_panics(text in prop_oneof![any::<String>(), mangled()]) {
        let _ = Config::parse("f", &text);
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        service().prop_map(Edit::AddService),
        service().prop_map(Edit::UpdateService),
        service().prop_map(|s| Edit::DeleteService(s.key)),
        service().prop_filter_map("no server", |s| Some(Edit::AddServer(s.key, s.servers.first()?.clone()))),
        (service(), 200..=210u8)
            .prop_map(|(s, last)| Edit::AddLocalAddress(s.key, IpAddr::from([192, 168, 20, last]))),
        service().prop_map(|s| Edit::SetServicePool(s.key, s.local_pool)),
        Just(Edit::DeleteLocalPool("inside".into())),
        Just(Edit::DeleteRoute("0.0.0.0/0".parse().unwrap())),
    ]
}

/// Words that are often options.
fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        "-[A-Za-z6=é]{0,4}",
        "--(add-service|tcp-service|set|list|stats|weight|pe|laddr|tun-type|fullnat)(=[0-9.:a]{0,8})?",
        "[0-9.:\\[\\]]{0,20}",
        Just("172.16.100.9:80".to_owned()),
        Just("-t".to_owned()),
        any::<String>(),
    ]
}

/// A good file with one character changed.
fn mangled() -> impl Strategy<Value = String> {
    (any::<prop::sample::Index>(), any::<char>()).prop_map(|(at, with)| {
        let at = at.index(NETWORK.len());
        format!("{}{with}{}", &NETWORK[..at], &NETWORK[at + 1..])
    })
}
