//! What the director does, or would do, with one flow, step by step, and why.
//!
//! A [`Bench`] is programmed with what the running data plane is programmed with, brought to know what that one knows
//! of the flow (neighbours, loads, session, template), and given a packet; what it does is told in words. Every
//! answer is the engine's: nothing here decides about a packet. Does not live here: how facts are asked for.

mod frame;
mod steps;
#[cfg(test)]
mod tests;
mod ways;

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::explain::{self, Way};
use fulcrum_director::snapshot::{Destination, InterfaceId, Service};
use fulcrum_director::{Nanos, Reason, SECOND, Snapshot, Verdict};
use fulcrum_model::{
    AddressRange, Forward, LocalPool, Mac, Neighbour, PortRange, Protocol, Server, ServerKey, ServiceKey,
    State,
};
use serde::Serialize;

use crate::bench::{Bench, BenchConfig, Sent};
use frame::Kind;

/// A port for a client of whom none is known.
const ANY_PORT: u16 = 40_000;
/// The bench's clock starts here: time enough before for what the engine remembers.
const START: Nanos = 1000 * SECOND;
/// A station that is nobody else's.
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0xff, 0xfe];

/// The state of a neighbour that is none: somebody who claims an own address.
pub const CONFLICT: &str = "conflict";

/// Which flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The client's address, and its port when that matters.
    pub client: (IpAddr, Option<u16>),
    /// Where it sends to.
    pub virtual_: (IpAddr, u16),
    /// Name of the interface by which its packets come in; else the one that answers to it would leave by.
    pub interface: Option<String>,
}

/// Why there is nothing to be traced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Ends of two families.
    #[error("{0} and {1} are of two address families")]
    Families(IpAddr, IpAddr),
    /// An interface that is not there.
    #[error("there is no interface {name}; there are: {known}")]
    NoInterface {
        /// What was asked for.
        name: String,
        /// Those of the configuration.
        known: String,
    },
    /// No interface to take packets in by.
    #[error(
        "no way leads to {client} ({reason}), so nobody knows by which interface it sends: name it by --interface"
    )]
    NoWayIn {
        /// The client.
        client: IpAddr,
        /// Why.
        reason: &'static str,
    },
}

/// A neighbour of the running data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourFact {
    /// Name of its interface.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, where known.
    pub mac: Option<Mac>,
    /// How well it is known, in the data plane's words.
    pub state: String,
    /// Packets that wait for it.
    pub parked: u32,
}

/// A session or template of the running data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFact {
    /// Worker.
    pub worker: u32,
    /// State by IPVS's name.
    pub state: String,
    /// Time left in milliseconds.
    pub expires_ms: u64,
    /// Client's end; a network and port 0 of a template.
    pub client: (IpAddr, u16),
    /// Virtual end.
    pub virtual_: (IpAddr, u16),
    /// What a FULLNAT server sees as its client.
    pub local: Option<(IpAddr, u16)>,
    /// Server's end.
    pub server: (IpAddr, u16),
    /// Forwarding method.
    pub forward: Forward,
}

/// Connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFact {
    /// Its service.
    pub service: ServiceKey,
    /// The server.
    pub server: ServerKey,
    /// Connections in an active state.
    pub active: u64,
    /// Others.
    pub inactive: u64,
}

/// What is known of the running data plane.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What it is programmed with.
    pub state: State,
    /// MAC addresses of its ports, by name.
    pub ports: Vec<(String, Mac)>,
    /// Its neighbours.
    pub neighbours: Vec<NeighbourFact>,
    /// Its servers' connections.
    pub loads: Vec<LoadFact>,
    /// Servers that the data plane is not given, with their services and why.
    pub absent: Vec<(ServiceKey, ServerKey, String)>,
    /// VIPs that the director does not have now, and why.
    pub released: Vec<(IpAddr, String)>,
    /// Sessions by local address, with the service's name as `fulcrum status` has it.
    pub pools: Vec<(String, IpAddr, u64)>,
    /// Gateways that do not answer, of routes that have several, with their interfaces' names.
    pub silent: Vec<(String, IpAddr)>,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should.
    Ok,
    /// Worth knowing.
    Note,
    /// Against the flow, now or before long.
    Warning,
    /// The end of the packet's way.
    Stop,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about, one word or two.
    pub about: &'static str,
    /// How it went.
    pub mark: Mark,
    /// What happens, and why.
    pub text: String,
    /// More, a line each.
    pub details: Vec<String>,
}

/// What a trace came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether this is what the running data plane does with a session it has; else what it would do.
    pub session: bool,
    /// The way.
    pub steps: Vec<Step>,
    /// The engine's verdict on the packet: `forward`, `hold`, `reply` or `drop`.
    pub verdict: &'static str,
    /// The name of a drop reason, else of the event that was counted.
    pub reason: &'static str,
    /// The service that takes it.
    pub service: Option<String>,
    /// The server that it goes to.
    pub server: Option<String>,
    /// Whether that server is certain, or one of those that may be chosen.
    pub certain: bool,
}

/// A flow on its way into a bench.
#[derive(Debug)]
pub struct Tracer {
    facts: Facts,
    flow: Flow,
    interface: InterfaceId,
    /// What the data plane is programmed with, compiled.
    snapshot: Arc<Snapshot>,
    mark: u32,
    rules: Vec<usize>,
    service: Option<ServiceKey>,
}

impl Tracer {
    /// Finds out what the flow is for the director, and so which session and template to ask for.
    pub fn new(mut facts: Facts, flow: Flow) -> Result<Tracer, TraceError> {
        if flow.client.0.is_ipv6() != flow.virtual_.0.is_ipv6() {
            return Err(TraceError::Families(flow.client.0, flow.virtual_.0));
        }
        complete(&mut facts);
        let bench = Bench::new(config(), facts.state.clone());
        let snapshot = bench.snapshot().clone();
        silence(&snapshot, &facts.silent);
        let interface = interface(&snapshot, &flow)?;
        let protocol = flow.protocol.number();
        let from = (flow.client.0, flow.client.1.unwrap_or(ANY_PORT));
        let (mark, rules) = explain::mark_by(&snapshot, protocol, from, flow.virtual_, interface);
        let service = explain::service(&snapshot, mark, protocol, flow.virtual_);
        let service = service.and_then(|service| bench.program().service_key(service.id));
        Ok(Tracer { facts, flow, interface, snapshot, mark, rules, service })
    }

    /// The service that takes the flow, if one does.
    pub fn service(&self) -> Option<ServiceKey> {
        self.service
    }

    /// Client and virtual end of the template that would decide, if one could.
    pub fn template(&self) -> Option<[(IpAddr, u16); 2]> {
        let number = self.flow.protocol.number();
        explain::template(self.compiled()?, number, self.from(), self.flow.virtual_)
    }

    fn compiled(&self) -> Option<&Service> {
        explain::service(&self.snapshot, self.mark, self.flow.protocol.number(), self.flow.virtual_)
    }

    fn from(&self) -> (IpAddr, u16) {
        (self.flow.client.0, self.flow.client.1.unwrap_or(ANY_PORT))
    }

    /// Sends a packet of the flow through a bench that knows of this session, or of this template, and tells its way.
    pub fn trace(&self, session: Option<&SessionFact>, template: Option<&SessionFact>) -> Report {
        let run = self.run(session, template);
        steps::report(self, session, template, &run)
    }

    fn run(&self, session: Option<&SessionFact>, template: Option<&SessionFact>) -> Run {
        let known = session.or(template);
        let client_port = session.map_or(self.from().1, |session| session.client.1);
        let mut bench = match known {
            Some(known) => {
                let mut bench = Bench::new(config(), self.narrowed(known, session.is_some()));
                // A template's session is another one than the flow's.
                let port = if session.is_some() { client_port } else { client_port ^ 1 };
                self.send(&mut bench, port, Kind::First);
                bench.replace(self.facts.state.clone());
                bench
            }
            None => Bench::new(config(), self.facts.state.clone()),
        };
        silence(bench.snapshot(), &self.facts.silent);
        let opened = bench.sessions().iter().any(|view| view.template == session.is_none());
        self.load(&bench);
        let kind = if session.is_some() { Kind::Later } else { Kind::First };
        let (verdict, sent) = self.send(&mut bench, client_port, kind);
        Run { recreated: known.is_none() || opened, verdict, sent, bench }
    }

    fn send(&self, bench: &mut Bench, client_port: u16, kind: Kind) -> (Option<Verdict>, Vec<Sent>) {
        let place = &self.snapshot.interfaces[usize::from(self.interface)];
        let frame = frame::build(&self.flow, client_port, kind, place.mac, STRANGER, place.vlan);
        let outcome = bench.receive(place.port, 0, &frame);
        (outcome.verdict, outcome.sent)
    }

    /// The state in which the engine cannot but make the session, or template, that is known.
    fn narrowed(&self, known: &SessionFact, session: bool) -> State {
        let mut state = self.facts.state.clone();
        let Some(service) = state.services.iter_mut().find(|service| Some(service.key) == self.service)
        else {
            return state;
        };
        let key = ServerKey { address: known.server.0, port: known.server.1 };
        let is_it = |server: &&Server| {
            server.key.address == key.address
                && (server.key.port == key.port || server.key.port == 0 || key.port == 0)
        };
        let mut server = match service.servers.iter().find(is_it) {
            Some(server) => server.clone(),
            None => Server::new(key, known.forward),
        };
        (server.weight, server.upper_threshold) = (1, 0);
        // Sessions of the host itself are listed as by DR.
        if server.forward != Forward::Local {
            server.forward = known.forward;
        }
        service.servers = vec![server];
        service.scheduler = "rr".to_owned();
        state.settings.drop_packet = 0;
        if session && let Some((address, port)) = known.local {
            let name = "of the session".to_owned();
            service.local_pool = Some(name.clone());
            service.local_addresses.clear();
            let interface =
                state.interfaces.first().map(|interface| interface.name.clone()).unwrap_or_default();
            state.local_pools.push(LocalPool {
                name,
                interface,
                addresses: vec![AddressRange { first: address, last: address }],
                ports: PortRange { first: port, last: port },
            });
        }
        state
    }

    /// Gives the bench's servers the connections of the running data plane's.
    fn load(&self, bench: &Bench) {
        for service in bench.program().counters() {
            for server in service.servers {
                let fact = |load: &&LoadFact| (load.service, load.server) == (service.key, server.key);
                if let Some(load) = self.facts.loads.iter().find(fact) {
                    server.cells.of(0).active.set(load.active);
                    server.cells.of(0).inactive.set(load.inactive);
                }
            }
        }
        for server in bench.snapshot().destinations.iter().flatten() {
            server.thresholds.begun(&server.counters);
        }
    }

    /// What the running data plane knows of a neighbour.
    fn neighbour(&self, interface: InterfaceId, address: IpAddr) -> Option<&NeighbourFact> {
        let name = &self.snapshot.interfaces[usize::from(interface)].name;
        self.facts.neighbours.iter().find(|fact| fact.interface == *name && fact.address == address)
    }
}

/// What a bench did.
#[derive(Debug)]
struct Run {
    /// Whether it came to have the session or template that it was to have.
    recreated: bool,
    verdict: Option<Verdict>,
    sent: Vec<Sent>,
    bench: Bench,
}

impl Run {
    /// The server that the packet was sent to, with its name.
    fn server(&self) -> Option<(Arc<Destination>, ServerKey)> {
        let id = self.verdict?.server?;
        let (_, key) = self.bench.program().server_key(id)?;
        Some((self.bench.snapshot().destination(id)?.clone(), key))
    }
}

fn config() -> BenchConfig {
    BenchConfig { workers: 1, sessions: 4096, seed: 1, misdirect: false, start: START }
}

/// What is known of the running data plane, as its workers have it, without sessions.
pub fn compile(facts: &Facts) -> Arc<Snapshot> {
    let mut facts = facts.clone();
    complete(&mut facts);
    let snapshot = Bench::new(BenchConfig { sessions: 16, ..config() }, facts.state).snapshot().clone();
    silence(&snapshot, &facts.silent);
    snapshot
}

/// Has gateways known as silent that the running data plane knows as such.
fn silence(snapshot: &Snapshot, silent: &[(String, IpAddr)]) {
    for gateway in &snapshot.next_hops.gateways {
        let name = &snapshot.interfaces[usize::from(gateway.interface)].name;
        if silent.iter().any(|(interface, address)| (interface, *address) == (name, gateway.address)) {
            gateway.set_answers(false);
        }
    }
    snapshot.next_hops.turn();
}

/// Brings a state to what the running data plane makes of it: the MAC addresses of its ports, learned neighbours.
fn complete(facts: &mut Facts) {
    for port in &mut facts.state.ports {
        if let Some((_, mac)) = facts.ports.iter().find(|(name, _)| *name == port.name) {
            port.mac = Some(*mac);
        }
    }
    // Whose word does not count is not to be known here, either.
    let silent = &facts.silent;
    facts.neighbours.retain(|fact| {
        !silent.iter().any(|(interface, address)| (interface, *address) == (&fact.interface, fact.address))
            || fact.mac.is_none()
    });
    learn(&mut facts.state, &facts.neighbours);
}

/// Adds what was learned of neighbours as if it were configured.
fn learn(state: &mut State, neighbours: &[NeighbourFact]) {
    for fact in neighbours {
        let known = |neighbour: &Neighbour| {
            neighbour.interface == fact.interface && neighbour.address == fact.address
        };
        if let Some(mac) = fact.mac.filter(|_| fact.state != CONFLICT && !state.neighbours.iter().any(known))
        {
            let NeighbourFact { interface, address, .. } = fact.clone();
            state.neighbours.push(Neighbour { interface, address, mac });
        }
    }
}

/// The way of the flow's answers.
fn way_back(snapshot: &Snapshot, flow: &Flow) -> Result<Way, Reason> {
    let client = (flow.client.0, flow.client.1.unwrap_or(ANY_PORT));
    explain::way(snapshot, client.0, flow.protocol.number(), [flow.virtual_, client])
}

/// The interface by which the flow comes in.
fn interface(snapshot: &Snapshot, flow: &Flow) -> Result<InterfaceId, TraceError> {
    match &flow.interface {
        Some(name) => {
            let number = snapshot.interfaces.iter().position(|interface| interface.name == *name);
            number.and_then(|number| InterfaceId::try_from(number).ok()).ok_or_else(|| {
                let known: Vec<&str> = snapshot.interfaces.iter().map(|interface| &*interface.name).collect();
                TraceError::NoInterface { name: name.clone(), known: known.join(", ") }
            })
        }
        None => way_back(snapshot, flow)
            .map(|way| way.interface)
            .map_err(|reason| TraceError::NoWayIn { client: flow.client.0, reason: reason.name() }),
    }
}
