//! States made by hand, and what they compile to.

mod identity;
mod increments;
mod network;
mod nouns;
mod paths;

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::Snapshot;
use fulcrum_director::snapshot::{Destination, Service};
use fulcrum_model as model;
use fulcrum_model::{
    AddressRange, Forward, Interface, LocalPool, Mac, Neighbour, PortRange, Protocol, Route, RouteTarget,
    Server, ServerKey, ServiceKey, State,
};

use crate::{PortFacts, Program};

const WORKERS: usize = 2;

fn ports() -> Vec<PortFacts> {
    let port = |name: &str, last| PortFacts {
        name: name.to_owned(),
        mac: [2, 0, 0, 0, 0, last],
        partial_checksums: last == 1,
    };
    vec![port("p0", 0), port("p1", 1)]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn interface(name: &str, port: &str, vlan: u16, addresses: &[&str]) -> Interface {
    Interface {
        name: name.to_owned(),
        port: port.to_owned(),
        vlan,
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        mss: None,
        exception: None,
    }
}

/// Two interfaces: `wan` 10.0.0.1/24 with VIP 10.0.0.100 on port p0, `lan` 10.1.0.1/24 on port p1.
fn two_arms() -> State {
    State {
        ports: ["p0", "p1"]
            .map(|name| model::Port {
                name: name.to_owned(),
                device: format!("dev-{name}"),
                bond: None,
                mac: None,
                steering: Default::default(),
            })
            .into(),
        interfaces: vec![
            interface("wan", "p0", 0, &["10.0.0.1/24", "10.0.0.100/32"]),
            interface("lan", "p1", 0, &["10.1.0.1/24"]),
        ],
        ..State::default()
    }
}

fn key(address: &str, port: u16) -> ServiceKey {
    ServiceKey::new(Protocol::Tcp, ip(address), port)
}

fn server(address: &str, port: u16) -> Server {
    Server::new(ServerKey { address: ip(address), port }, Forward::Nat)
}

fn service(key: ServiceKey, servers: Vec<Server>) -> model::Service {
    model::Service { servers, ..model::Service::new(key, "rr") }
}

fn pool(name: &str, interface: &str, first: &str, last: &str) -> LocalPool {
    LocalPool {
        name: name.to_owned(),
        interface: interface.to_owned(),
        addresses: vec![AddressRange { first: ip(first), last: ip(last) }],
        ports: PortRange { first: 2000, last: 2999 },
    }
}

/// A program and the generations it has compiled.
struct Bench {
    program: Program,
    generation: u64,
    warnings: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        Bench { program: Program::new(WORKERS, ports()), generation: 0, warnings: Vec::new() }
    }

    /// Compiles `state`; workers do not have it yet.
    fn compile(&mut self, state: &State) -> Arc<Snapshot> {
        self.generation += 1;
        let (snapshot, warnings) = self.program.compile(state, self.generation);
        assert_eq!(snapshot.generation, self.generation);
        self.warnings = warnings;
        snapshot
    }

    /// Compiles `state`, and all workers take it.
    fn apply(&mut self, state: &State) -> Arc<Snapshot> {
        let snapshot = self.compile(state);
        self.program.acknowledged(self.generation);
        snapshot
    }
}

/// The one snapshot of `state`, without warnings.
fn compiled(state: &State) -> Arc<Snapshot> {
    let mut bench = Bench::new();
    let snapshot = bench.apply(state);
    assert_eq!(bench.warnings, Vec::<String>::new());
    snapshot
}

fn found(snapshot: &Snapshot, key: ServiceKey) -> &Arc<Service> {
    let ServiceKey::Address { protocol, address, port } = key else { panic!("by address only") };
    &snapshot.services[&(protocol.number(), address, port)]
}

fn destination(snapshot: &Snapshot, id: u32) -> &Destination {
    snapshot.destination(id).unwrap()
}
