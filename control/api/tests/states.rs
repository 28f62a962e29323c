//! Any state survives the wire, any two states the difference between them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fulcrum_api::{apply_changes, changes, difference, fingerprint, state::Change};
use fulcrum_model::*;
use ipnet::IpNet;
use proptest::collection::vec;
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

/// Few keys, so that two states share some.
fn service_key() -> impl Strategy<Value = ServiceKey> {
    (any::<bool>(), 0u8..4, 79u16..82).prop_map(|(tcp, host, port)| ServiceKey {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        address: Ipv4Addr::new(10, 0, 0, host).into(),
        port,
    })
}

fn server() -> impl Strategy<Value = Server> {
    let forward =
        prop_oneof![Just(Forward::Nat), Just(Forward::FullNat), Just(Forward::Dr), Just(Forward::Tun)];
    (ip(), any::<u16>(), forward, any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(address, port, forward, weight, upper_threshold, lower_threshold)| Server {
            key: ServerKey { address, port },
            forward,
            weight,
            upper_threshold,
            lower_threshold,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    (
        service_key(),
        name(),
        of(any::<u32>()),
        v4(),
        of(name()),
        vec(ip(), 0..3),
        of(name()),
        vec(server(), 0..3),
    )
        .prop_map(|(key, scheduler, persistent, netmask, local_pool, locals, interface, servers)| {
            Service {
                key,
                scheduler,
                persistent,
                netmask,
                local_pool,
                local_addresses: locals.into_iter().map(LocalAddress).collect(),
                interface,
                servers,
            }
        })
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    vec(service(), 0..8).prop_map(|mut list| {
        let mut seen = HashSet::new();
        list.retain(|service| seen.insert(service.key));
        list
    })
}

fn network() -> impl Strategy<Value = State> {
    let ports =
        vec((name(), name(), of(mac())).prop_map(|(name, device, mac)| Port { name, device, mac }), 0..3);
    let interfaces = vec(
        (name(), name(), 0u16..4095, any::<u16>(), vec(net(), 0..3))
            .prop_map(|(name, port, vlan, mtu, addresses)| Interface { name, port, vlan, mtu, addresses }),
        0..3,
    );
    let target = prop_oneof![
        ip().prop_map(RouteTarget::Via),
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
    let range = (v4(), v4()).prop_map(|(a, b)| AddressRange { first: a.min(b), last: a.max(b) });
    let pools = vec(
        (name(), name(), vec(range, 0..3), 1u16.., 1u16..).prop_map(|(name, interface, addresses, a, b)| {
            LocalPool { name, interface, addresses, ports: PortRange { first: a.min(b), last: a.max(b) } }
        }),
        0..3,
    );
    let timeouts = any::<(u32, u32, u32)>().prop_map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp });
    let settings = any::<(bool, u8, bool, bool, bool, bool)>().prop_map(|(a, b, c, d, e, f)| Settings {
        expire_nodest_conn: a,
        conn_reuse_mode: b,
        expire_quiescent_template: c,
        sloppy_tcp: d,
        nat_icmp_send: e,
        ip_forward: f,
    });
    (ports, interfaces, routes, neighbours, pools, timeouts, settings).prop_map(
        |(ports, interfaces, routes, neighbours, local_pools, timeouts, settings)| State {
            ports,
            interfaces,
            routes,
            neighbours,
            local_pools,
            services: Vec::new(),
            timeouts,
            settings,
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
    let service = |port| Service {
        key: ServiceKey { protocol: Protocol::Tcp, address: Ipv4Addr::LOCALHOST.into(), port },
        scheduler: "rr".into(),
        persistent: None,
        netmask: Ipv4Addr::BROADCAST,
        local_pool: None,
        local_addresses: Vec::new(),
        interface: None,
        servers: Vec::new(),
    };
    let old = State { services: vec![service(1), service(2), service(3)], ..State::default() };
    let mut new = old.clone();
    new.services[1].scheduler = "wlc".into();
    assert_eq!(difference(&old, &new).len(), 1);
    new.services.remove(0);
    assert_eq!(difference(&old, &new).len(), 2);
}

#[test]
fn deleting_a_service_that_is_not_there_is_an_error() {
    let key = ServiceKey { protocol: Protocol::Udp, address: Ipv4Addr::LOCALHOST.into(), port: 53 };
    let change = Change { change: Some(fulcrum_api::state::change::Change::DeleteService((&key).into())) };
    assert!(apply_changes(&mut State::default(), [change]).is_err());
    assert!(apply_changes(&mut State::default(), [Change::default()]).is_err());
}
