//! Messages that decode and make no sense: each is refused with words, and nothing of it is kept.

mod support;

use fulcrum_api::control::{self as wire, edit::Edit as Wire};
use fulcrum_api::state::{self, change::Change};
use fulcrum_api::{changes, dataplane};
use fulcrum_model::{Config, State};
use prost::Message as _;
use support::{ControlProcess, DataplaneProcess, Room};
use tonic::{Code, Status};

const FILE: &str = r#"
[[port]]
name = "lan"
device = "eth1"
[[interface]]
name = "lan"
port = "lan"
addresses = ["10.0.9.1/24"]
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.0.9.100-10.0.9.103"]
[[service]]
address = "10.0.0.1:80"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "10.0.9.7:8080"
forward = "fullnat"
"#;

/// A control process with that file, and its state.
async fn running(room: &Room) -> (ControlProcess, State) {
    std::fs::write(room.path("fulcrum.toml"), FILE).unwrap();
    let mut control = room.control().await;
    let state = control.state().await;
    assert_eq!(state, Config::parse("file", FILE).unwrap().state);
    (control, state)
}

async fn edit(control: &mut ControlProcess, edit: Wire) -> Result<(), Status> {
    let edits = vec![wire::Edit { edit: Some(edit) }];
    control.client.edit(wire::EditRequest { edits }).await.map(drop)
}

/// The service of the file as a message.
fn service() -> state::Service {
    (&Config::parse("file", FILE).unwrap().state.services[0]).into()
}

fn key() -> state::ServiceKey {
    service().key.unwrap()
}

/// A server that is fine.
/// A server that drains until the end of time.
fn drained() -> state::Server {
    let drain = state::Drain { until: Some(u64::MAX) };
    let admin = Some(state::Admin { admin: Some(state::admin::Admin::Drain(drain)) });
    state::Server { admin, ..server() }
}

fn server() -> state::Server {
    let mut server = service().servers.remove(0);
    server.key.as_mut().unwrap().port = 8081;
    server
}

fn add(server: state::Server) -> Wire {
    Wire::AddServer(wire::ServiceServer { service: Some(key()), server: Some(server) })
}

fn prefix(length: u32) -> Option<state::Prefix> {
    Some(state::Prefix { address: vec![10, 0, 0, 0], length })
}

#[tokio::test]
async fn each_is_refused_with_words() {
    let room = Room::new();
    let (mut control, before) = running(&room).await;
    let port = |port| state::ServiceKey { port, ..key() };
    let pool = state::LocalPool {
        name: "other".into(),
        interface: "lan".into(),
        addresses: vec![state::AddressRange { first: vec![10, 0, 9, 110], last: vec![10, 0, 9, 111] }],
        first_port: 1024,
        last_port: 65535,
    };
    let route =
        state::Route { to: prefix(8), target: Some(state::route::Target::Blackhole(true)), mtu: None };
    let neighbour =
        state::Neighbour { address: vec![10, 0, 9, 9], mac: vec![2, 0, 0, 0, 0, 9], interface: "lan".into() };
    let setting = |name: &str, value: &str| state::Setting { name: name.to_owned(), value: value.to_owned() };
    let state_timeout = |state: &str, seconds| {
        Wire::SetStateTimeout(wire::SetStateTimeout { service: None, state: state.to_owned(), seconds })
    };
    let tunnel = |kind, port| state::Tunnel { kind, port, ..state::Tunnel::default() };
    let mark_rule = |rule| Wire::AddMark(wire::PlacedMark { rule: Some(rule), at: None });
    let cases: Vec<(Wire, &str)> = vec![
        (Wire::AddService(state::Service::default()), "edits[0].service.key: is missing"),
        (Wire::DeleteService(state::ServiceKey::default()), "edits[0].service."),
        (Wire::DeleteService(port(70_000)), "70000 is more than 65535"),
        (
            Wire::DeleteService(state::ServiceKey { address: vec![0; 5], ..key() }),
            "5 bytes where an address has",
        ),
        (
            Wire::AddService(state::Service { key: Some(port(81)), scheduler: String::new(), ..service() }),
            "scheduler ``",
        ),
        (
            Wire::AddService(state::Service { key: Some(port(81)), persistent: Some(u32::MAX), ..service() }),
            "4294967295",
        ),
        (
            Wire::AddService(state::Service { key: Some(port(81)), persistent: Some(0), ..service() }),
            "persistence of 0",
        ),
        (
            Wire::AddService(state::Service {
                key: Some(port(81)),
                interface: Some("\n\"]".into()),
                ..service()
            }),
            "no interface",
        ),
        (
            Wire::AddService(state::Service {
                key: Some(port(81)),
                local_addresses: vec![vec![10, 0, 9, 120]; 2],
                ..service()
            }),
            "listed twice",
        ),
        (add(state::Server { key: None, ..server() }), "server.key: is missing"),
        (add(state::Server { weight: u32::MAX, ..server() }), "weight 4294967295 is out of range"),
        (add(state::Server { forward: 0, ..server() }), "server.forward: 0"),
        (add(state::Server { forward: -7, ..server() }), "server.forward: -7"),
        (add(state::Server { lower_threshold: 2, upper_threshold: 1, ..server() }), "lower threshold 2"),
        (
            Wire::AddServer(wire::ServiceServer { service: None, server: Some(server()) }),
            "service: is missing",
        ),
        (Wire::AddRoute(state::Route { to: prefix(33), ..route.clone() }), "33 is no prefix length"),
        (Wire::AddRoute(state::Route { to: prefix(4), ..route.clone() }), "host bits"),
        (Wire::AddRoute(state::Route { target: None, ..route.clone() }), "target: is missing"),
        (Wire::AddRoute(state::Route { mtu: Some(0), ..route.clone() }), "mtu 0"),
        (Wire::AddRoute(state::Route { mtu: Some(1 << 20), ..route.clone() }), "mtu: 1048576"),
        (Wire::AddNeighbour(state::Neighbour { mac: vec![0; 6], ..neighbour.clone() }), "one station"),
        (Wire::AddNeighbour(state::Neighbour { mac: vec![0xff; 6], ..neighbour.clone() }), "one station"),
        (Wire::AddNeighbour(state::Neighbour { mac: vec![2], ..neighbour.clone() }), "1 bytes where a MAC"),
        (
            Wire::AddNeighbour(state::Neighbour { interface: "x".repeat(1 << 20), ..neighbour }),
            "no interface",
        ),
        (
            Wire::AddLocalPool(state::LocalPool { name: "a\nb".into(), ..pool.clone() }),
            "cannot name a local pool",
        ),
        (Wire::AddLocalPool(state::LocalPool { addresses: Vec::new(), ..pool.clone() }), "needs an address"),
        (
            Wire::AddLocalPool(state::LocalPool {
                addresses: vec![state::AddressRange {
                    first: vec![10, 0, 9, 111],
                    last: vec![10, 0, 9, 110],
                }],
                ..pool.clone()
            }),
            "10.0.9.110 comes before 10.0.9.111",
        ),
        (Wire::AddLocalPool(state::LocalPool { first_port: 0, ..pool.clone() }), "no range"),
        (Wire::AddLocalPool(state::LocalPool { last_port: 1 << 16, ..pool }), "65536 is more than 65535"),
        (Wire::SetTimeouts(state::Timeouts { tcp: u32::MAX, ..(&before.timeouts).into() }), "4294967295"),
        (
            Wire::SetSettings(state::Settings { settings: vec![setting("conn_reuse_mode", "70000")] }),
            "0 to 3",
        ),
        (Wire::SetSetting(setting("x\ny", "1")), "there is no setting"),
        (Wire::SetSetting(setting("sloppy_tcp", &"1".repeat(1 << 20))), "sloppy_tcp of 1111"),
        (Wire::AddService(state::Service { key: Some(port(81)), prefix: 65, ..service() }), "65 bits"),
        (Wire::AddService(state::Service { key: Some(port(81)), prefix: 1 << 20, ..service() }), "1048576"),
        (Wire::AddService(state::Service { key: Some(port(81)), scheduler_flags: 255, ..service() }), "flag"),
        (Wire::AddService(state::Service { key: Some(port(81)), mss: Some(1), ..service() }), "mss"),
        (
            Wire::AddService(state::Service { key: Some(port(81)), client_address: 9, ..service() }),
            "client_address",
        ),
        (
            Wire::AddService(state::Service {
                key: Some(port(81)),
                persistence_engine: Some("\u{7}".into()),
                ..service()
            }),
            "no persistence engine",
        ),
        (state_timeout("tcp-best", Some(1)), "there is no state `tcp-best`"),
        (state_timeout("udp", Some(0)), "out of range"),
        (state_timeout("udp", Some(u32::MAX)), "4294967295"),
        (Wire::DeleteService(state::ServiceKey { mark: Some(1), family: 77, ..key() }), "family"),
        (add(state::Server { forward: 4, tunnel: Some(tunnel(9, 0)), ..server() }), "tunnel"),
        (add(state::Server { forward: 4, tunnel: Some(tunnel(2, 1 << 17)), ..server() }), "131072"),
        (Wire::AddMark(wire::PlacedMark { rule: None, at: None }), "rule: is missing"),
        (mark_rule(state::MarkRule { protocol: 77, ..Default::default() }), "protocol"),
        (mark_rule(state::MarkRule { source: prefix(99), ..Default::default() }), "99 is no prefix length"),
        (
            mark_rule(state::MarkRule {
                destination_ports: vec![state::PortRange { first: 1, last: 1 << 16 }],
                ..Default::default()
            }),
            "65536",
        ),
    ];
    for (message, words) in cases {
        let text = format!("{message:?}");
        let said = edit(&mut control, message).await.expect_err(&text);
        assert_eq!(said.code(), Code::InvalidArgument, "{said}\n{text:.200}");
        assert!(said.message().contains(words), "{words}:\n{said}\n{text:.200}");
    }
    let empty = wire::EditRequest { edits: vec![wire::Edit { edit: None }] };
    assert_eq!(control.client.edit(empty).await.unwrap_err().message(), "edits[0].edit: is missing");
    assert_eq!(control.state().await, before);
}

#[tokio::test]
async fn whole_states_that_cannot_be_are_refused() {
    let room = Room::new();
    let (mut control, before) = running(&room).await;
    let good = changes(&before);
    let with = |more: Change| [good.clone(), vec![state::Change { change: Some(more) }]].concat();
    let cases = [
        (None, "state: is missing"),
        (Some(vec![state::Change { change: None }]), "change: is missing"),
        (Some(with(Change::DeleteService(state::ServiceKey { port: 81, ..key() }))), "no such service"),
        (
            Some(with(Change::PutService(state::Service { servers: vec![server(), server()], ..service() }))),
            "two servers",
        ),
        (
            Some(with(Change::PutService(state::Service { servers: vec![drained()], ..service() }))),
            "later than the year 9999",
        ),
        (
            Some(with(Change::PutService(state::Service {
                health: Some(state::ServiceHealth { quorum: 1, hysteresis: u32::MAX, ..Default::default() }),
                ..service()
            }))),
            "must be less than the quorum",
        ),
        // Without its network nothing that the service needs is there.
        (Some(good[1..].to_vec()), "no local pool `inside`"),
        (Some(with(Change::Network(state::Network::default()))), "network.timeouts: is missing"),
    ];
    for (changes, words) in cases {
        for dry_run in [true, false] {
            let state = changes.clone().map(|changes| wire::State { changes });
            let said = control.client.apply(wire::ApplyRequest { state, dry_run }).await.unwrap_err();
            assert!(
                said.code() == Code::InvalidArgument && said.message().contains(words),
                "{words}: {said}"
            );
        }
    }
    assert_eq!(control.state().await, before);
}

#[tokio::test]
async fn absurd_questions_are_answered() {
    let room = Room::new();
    let _dataplane = DataplaneProcess::start(&room.dataplane(), "only").await;
    let (mut control, _) = running(&room).await;
    control.in_sync().await;
    let key = Some(state::ServiceKey { address: vec![1; 1000], port: u32::MAX, ..key() });
    let said = control.client.zero_counters(dataplane::ZeroCountersRequest { key }).await.unwrap_err();
    assert_eq!(said.code(), Code::NotFound, "{said}");
    // More than a message may be.
    let edits = vec![wire::Edit { edit: Some(Wire::DeleteLocalPool("x".repeat(257 << 20))) }];
    let said =
        control.client.clone().max_encoding_message_size(usize::MAX).edit(wire::EditRequest { edits }).await;
    assert!(said.is_err());
    control.status().await;
}

/// Valid edits with bytes changed: whatever is taken can be stored and read back after a crash.
#[tokio::test]
async fn what_is_taken_of_mutilated_messages_survives_a_crash() {
    let room = Room::new();
    let (mut control, _) = running(&room).await;
    let mut chance = Chance(0x5eed);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..2000u32 {
        let mut bytes = valid(&mut chance, &control.state().await).encode_to_vec();
        for _ in 0..chance.below(4) {
            let at = chance.below(bytes.len());
            match chance.below(3) {
                0 => bytes[at] = chance.below(256) as u8,
                1 => bytes[at] ^= 1 << chance.below(8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let Ok(message) = wire::Edit::decode(bytes.as_slice()) else { continue };
        let text = format!("{message:?}");
        match control.client.edit(wire::EditRequest { edits: vec![message] }).await {
            Ok(_) => taken += 1,
            Err(said) => {
                let code = said.code();
                assert!(
                    matches!(code, Code::InvalidArgument | Code::NotFound | Code::AlreadyExists),
                    "{said}\n{text}"
                );
                assert!(!said.message().is_empty(), "{text}");
                refused += 1;
            }
        }
        if round % 500 == 499 {
            let before = control.state().await;
            control.end("KILL");
            control = room.control().await;
            assert_eq!(control.state().await, before);
            assert!(!room.path("state.toml.damaged").exists());
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

/// An edit that makes sense in `state`, more or less.
fn valid(chance: &mut Chance, state: &State) -> wire::Edit {
    let any = |chance: &mut Chance| match state.services.is_empty() {
        true => service(),
        false => (&state.services[chance.below(state.services.len())]).into(),
    };
    let small = |chance: &mut Chance| chance.below(40) as u32;
    let edit = match chance.below(19) {
        0 | 1 => Wire::AddService(state::Service {
            key: Some(state::ServiceKey { port: small(chance), ..key() }),
            ..any(chance)
        }),
        2 => Wire::UpdateService(state::Service { persistent: Some(small(chance)), ..any(chance) }),
        3 => Wire::DeleteService(any(chance).key.unwrap()),
        4 | 5 => Wire::AddServer(wire::ServiceServer {
            service: any(chance).key,
            server: Some(state::Server { weight: small(chance), upper_threshold: small(chance), ..server() }),
        }),
        6 => Wire::AddRoute(state::Route {
            to: prefix(8 + small(chance) % 8),
            target: Some(state::route::Target::Via(vec![10, 0, 9, 2 + chance.below(9) as u8])),
            mtu: Some(1400),
        }),
        7 => Wire::AddNeighbour(state::Neighbour {
            address: vec![10, 0, 9, 2 + chance.below(9) as u8],
            mac: vec![2, 0, 0, 0, 0, 9],
            interface: "lan".into(),
        }),
        8 => Wire::AddLocalPool(state::LocalPool {
            name: format!("pool{}", chance.below(9)),
            interface: "lan".into(),
            addresses: vec![state::AddressRange {
                first: vec![10, 0, 9, chance.below(200) as u8],
                last: vec![10, 0, 9, 200],
            }],
            first_port: small(chance),
            last_port: 60_000,
        }),
        9 => Wire::AddLocalAddress(wire::ServiceAddress {
            service: any(chance).key,
            address: vec![10, 0, 9, chance.below(256) as u8],
        }),
        10 => Wire::AddService(state::Service {
            key: Some(state::ServiceKey {
                mark: Some(small(chance)),
                family: if chance.below(2) == 0 { 4 } else { 6 },
                ..Default::default()
            }),
            scheduler: ["rr", "mh", "sh", "wlc"][chance.below(4)].to_owned(),
            prefix: small(chance),
            scheduler_flags: small(chance) % 9,
            persistent: Some(small(chance)),
            ..Default::default()
        }),
        11 => Wire::AddServer(wire::ServiceServer {
            service: any(chance).key,
            server: Some(state::Server {
                forward: 4,
                tunnel: Some(state::Tunnel {
                    kind: chance.below(3) as i32,
                    port: small(chance),
                    checksum: chance.below(3) as i32,
                    source: chance.below(3) as i32,
                }),
                key: Some(state::ServerKey {
                    address: vec![10, 0, 9, small(chance) as u8],
                    port: small(chance),
                }),
                ..server()
            }),
        }),
        12 | 13 => Wire::AddMark(wire::PlacedMark {
            rule: Some(state::MarkRule {
                protocol: [0, 6, 17, 132][chance.below(4)],
                destination: prefix(8 + small(chance)),
                destination_ports: vec![state::PortRange { first: small(chance), last: small(chance) }],
                interface: (chance.below(4) == 0).then(|| "lan".to_owned()),
                mark: small(chance),
                mask: if chance.below(2) == 0 { u32::MAX } else { small(chance) },
                ..Default::default()
            }),
            at: (chance.below(2) == 0).then(|| small(chance) % 4),
        }),
        14 => Wire::SetServiceMss(wire::ServiceMss {
            service: any(chance).key,
            mss: Some(1000 + small(chance)),
        }),
        15 => Wire::SetServiceClientAddress(wire::ServiceClientAddress {
            service: any(chance).key,
            client_address: chance.below(4) as i32,
        }),
        16 => Wire::SetStateTimeout(wire::SetStateTimeout {
            service: (chance.below(2) == 0).then(|| any(chance).key.unwrap()),
            state: ["udp", "tcp-close", "sctp-init"][chance.below(3)].to_owned(),
            seconds: Some(small(chance)),
        }),
        17 => Wire::SetServiceAnnouncement(wire::SetServiceAnnouncement {
            service: any(chance).key,
            announcement: Some(state::Announcement {
                when: chance.below(4) as i32,
                on: (chance.below(2) == 0).then(|| ["lo", "a/b"][chance.below(2)].to_owned()),
                after: small(chance) * 1000,
            }),
        }),
        _ => Wire::SetTimeouts(state::Timeouts { udp: small(chance), ..(&state.timeouts).into() }),
    };
    wire::Edit { edit: Some(edit) }
}

/// Numbers that are the same in every run. // Marsaglia's xorshift
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
