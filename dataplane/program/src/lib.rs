//! Desired state compiled to the engine's snapshot: the one place where the two vocabularies meet.
//!
//! Lives here: what a state's names and addresses resolve to (`network`, `locals`), identities that survive edits
//! and deletions, and which objects successive snapshots share (`services`), which worker owns a flow (`steering`).
//! Does not live here: what makes a state valid (fulcrum-model); who applies it and how workers get it
//! (fulcrum-runtime, fulcrum-replay). A state that is not valid still compiles: what cannot be used is left out
//! with a warning.

#![forbid(unsafe_code)]

mod arrivals;
mod ids;
mod locals;
mod network;
mod paths;
mod probes;
mod services;
mod snat;
mod steering;
mod terms;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use fulcrum_director::exception::Limits;
use fulcrum_director::snapshot::{
    self, DestinationId, FTP, FastMap, Gateway, InterfaceId, Links, ServiceId, Snapshot, SnatRule,
};
use fulcrum_director::{Cells, Nanos, SECOND, counters};
use fulcrum_model::{ServerKey, ServiceKey, State};

use fulcrum_packet::ipv4::TCP;

use crate::locals::{LocalAddresses, Pools};
use crate::network::{Gateways, Network, Slots};
pub use crate::probes::Probe;
use crate::services::{Compilation, Registry};
pub use crate::traffic::{ServiceTraffic, Totals, totals};

/// What is known of an open port that no configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Name of the port, to which interfaces refer.
    pub name: String,
    /// MAC address that it sends from.
    pub mac: [u8; 6],
    /// Whether its frames may come in with TCP/UDP checksums that only cover the pseudo-header.
    pub partial_checksums: bool,
}

/// Compiles successive states into snapshots that share what has not changed.
#[derive(Debug)]
pub struct Program {
    ports: Vec<snapshot::Port>,
    slots: Slots,
    gateways: Gateways,
    /// Which ports have a link; successive snapshots share it.
    links: Arc<Links>,
    pools: Pools,
    locals: LocalAddresses,
    /// Names of interfaces that have a twin in Linux, and the twin's.
    twins: HashMap<String, String>,
    /// Addresses of the host, with the twin that has them, if one does.
    hosts: BTreeMap<IpAddr, Option<String>>,
    /// Ports whose addresses the next snapshot announces again.
    again: HashSet<u16>,
    registry: Registry,
    offered: Arc<AtomicU64>,
    /// The last snapshot, for what the next one leaves as it is.
    last: Arc<Snapshot>,
}

/// Where the counters of a service are.
#[derive(Clone, Debug)]
pub struct ServiceCounters {
    /// The service.
    pub key: ServiceKey,
    /// Its traffic.
    pub traffic: ServiceTraffic,
    /// Its servers in order of addition.
    pub servers: Vec<ServerCounters>,
}

/// Where the counters of a server are.
#[derive(Clone, Debug)]
pub struct ServerCounters {
    /// The server.
    pub key: ServerKey,
    /// Its traffic and sessions; the same when the server is deleted and comes back while it has sessions.
    pub cells: Cells<counters::DestinationCells>,
}

impl Program {
    /// For a data plane of `workers` workers with these ports, whose order is the order of port numbers.
    pub fn new(workers: usize, ports: Vec<PortFacts>) -> Program {
        let port = |facts: PortFacts| snapshot::Port {
            name: facts.name,
            mac: facts.mac,
            partial_checksums: facts.partial_checksums,
        };
        Program {
            links: Arc::new(Links::new(ports.len())),
            ports: ports.into_iter().map(port).collect(),
            slots: Slots::default(),
            gateways: Gateways::default(),
            pools: Pools::default(),
            locals: LocalAddresses::default(),
            twins: HashMap::new(),
            hosts: BTreeMap::new(),
            again: HashSet::new(),
            registry: Registry::new(workers),
            offered: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Has services steered by both ends of flows where their answers allow it: devices spread requests like that.
    /// To be told before the first state.
    pub fn steer_by_flow(&mut self) {
        self.registry.steer_by_flow();
    }

    /// Says which interfaces have a twin in Linux, by their names, and what that is called. To be told before the first
    /// state.
    pub fn twins(&mut self, twins: HashMap<String, String>) {
        self.twins = twins;
    }

    /// Says which addresses the host has, with the name of the twin that has them, `None` where another of its
    /// interfaces does; whether these are others than before, which the next snapshot is to know.
    pub fn hosts(&mut self, hosts: BTreeMap<IpAddr, Option<String>>) -> bool {
        let others = self.hosts != hosts;
        self.hosts = hosts;
        others
    }

    /// Where it is to be said which ports have a link, by number.
    pub fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// The gateways of routes that have several, as they are known to workers.
    pub fn gateways(&self) -> &[Gateway] {
        &self.last.next_hops.gateways
    }

    /// Has the next snapshot announce the addresses on a port once more: they are reached by another way from now on.
    pub fn announce_again(&mut self, port: u16) {
        self.again.insert(port);
    }

    /// Says which probes of the host are for which servers; all of them. The next snapshot is to know.
    pub fn probes(&mut self, probes: Vec<Probe>) {
        self.registry.probe(probes);
    }

    /// The addresses of the host by the interface that leads to them.
    fn ways_up(&self, network: &Network) -> Arc<FastMap<IpAddr, InterfaceId>> {
        let twins = || self.twins.iter().filter_map(|(name, twin)| Some((*network.ids.get(name)?, twin)));
        let open = |id: &InterfaceId| network.of(*id).exception;
        let first = twins().map(|(id, _)| id).filter(open).min();
        let of = |name: &Option<String>| {
            let holder = twins().find(|(_, twin)| name.as_ref() == Some(twin)).map(|(id, _)| id);
            holder.filter(open).or(first)
        };
        let ways: FastMap<_, _> =
            self.hosts.iter().filter_map(|(address, name)| Some((*address, of(name)?))).collect();
        if ways == *self.last.hosts { self.last.hosts.clone() } else { Arc::new(ways) }
    }

    /// The snapshot for `state`, to be told apart by `generation` (growing from call to call), and what of the
    /// state it could not use.
    pub fn compile(&mut self, state: &State, generation: u64) -> (Arc<Snapshot>, Vec<String>) {
        let mut warnings = Vec::new();
        let network = network::compile(
            state,
            &self.ports,
            &mut self.slots,
            &mut self.gateways,
            &self.twins,
            &mut warnings,
        );
        self.pools = locals::pools(state, &self.pools, &mut warnings);
        let compilation = self.registry.compile(state, &self.pools, generation, &mut warnings);
        let Compilation { services, mark_services, deleted, deleted_marks, former, nat, snat, same_ways } =
            compilation;
        let generations = (generation, self.registry.acknowledged);
        let locals = self.locals.compile(state, &network, &self.pools, self.registry.workers, generations);
        let again = std::mem::take(&mut self.again);
        let again = |interface| again.contains(&network.of(interface).port);
        let arrivals = arrivals::arrivals(&self.last.arrivals, &locals, generation, again);
        let destinations = self.registry.destinations();
        let tunnels = match same_ways {
            true => self.last.tunnels.clone(),
            false => {
                Arc::new(destinations.iter().flatten().filter_map(|server| tunnel_end(server)).collect())
            }
        };
        let mut snapshot = Snapshot {
            generation,
            paths: generation,
            ports: self.ports.clone(),
            by_vlan: network.by_vlan(),
            locals,
            arrivals,
            marks: network.marks(state, &mut warnings),
            any_port_services: services.keys().any(|(_, _, port)| *port == 0),
            ftp_services: services.keys().any(|(protocol, _, port)| (*protocol, *port) == (TCP, FTP)),
            services,
            mark_services,
            snat,
            deleted_services: deleted,
            deleted_mark_services: deleted_marks,
            former_steerings: former,
            tunnels,
            destinations,
            destination_cells: self.registry.cells(),
            servers: nat.steering,
            server_addresses: nat.addresses,
            hosts: self.ways_up(&network),
            probes: Arc::new(self.registry.probes()),
            exception: limits(&state.exception).after(&self.last.exception),
            settings: settings(&state.settings),
            offered: Arc::clone(&self.offered),
            interfaces: network.interfaces,
            routes: network.routes,
            next_hops: network.next_hops,
            links: Arc::clone(&self.links),
            neighbours: match *network.neighbours == *self.last.neighbours {
                true => self.last.neighbours.clone(),
                false => network.neighbours.into(),
            },
        };
        if paths::unchanged(&self.last, &snapshot) {
            snapshot.paths = self.last.paths;
        }
        self.last = Arc::new(snapshot);
        (self.last.clone(), warnings)
    }

    /// Tells that every worker runs the snapshot of `generation` or a later one, and that what workers counted
    /// before they took it can be seen here: destinations that they cannot name any more may be forgotten.
    pub fn acknowledged(&mut self, generation: u64) {
        self.registry.acknowledged(generation);
    }

    /// The counters of the services of the last state, in its order.
    pub fn counters(&self) -> Vec<ServiceCounters> {
        self.registry.counters()
    }

    /// The rules that masquerade, with what counts for each, in the order of the last state.
    pub fn snat_rules(&self) -> impl Iterator<Item = &SnatRule> {
        self.registry.snat_rules()
    }

    /// The service that verdicts call `id`; also a deleted one whose sessions live.
    pub fn service_key(&self, id: ServiceId) -> Option<ServiceKey> {
        self.registry.service_key(id)
    }

    /// The server that verdicts and sessions call `id`; also a deleted one whose sessions live.
    pub fn server_key(&self, id: DestinationId) -> Option<(ServiceKey, ServerKey)> {
        self.registry.server_key(id)
    }
}

/// Where packets in tunnels to a server go: its address, and the UDP port of GUE or 0. Sessions keep TUN when their
/// server is edited to something else, but then their errors are few and soon over.
fn tunnel_end(server: &snapshot::Destination) -> Option<(IpAddr, u16)> {
    let port = match server.tunnel.kind {
        snapshot::TunnelKind::Gue(port) => port,
        _ => 0,
    };
    (server.forward == snapshot::Forward::Tun).then_some((server.address, port))
}

fn limits(exception: &fulcrum_model::Exception) -> Limits {
    let fulcrum_model::Exception { routing, link, management, answers, rest, ref management_ports } =
        *exception;
    let management_ports = management_ports.clone();
    Limits { routing, link, management, answers, rest, management_ports, buckets: Arc::default() }
}

fn seconds(n: u32) -> Nanos {
    Nanos::from(n) * SECOND
}

fn settings(settings: &fulcrum_model::Settings) -> snapshot::Settings {
    let mode = |mode: u32| u8::try_from(mode).unwrap_or(u8::MAX);
    snapshot::Settings {
        amemthresh: settings.amemthresh,
        am_droprate: settings.am_droprate.max(1),
        cache_bypass: settings.cache_bypass,
        conn_reuse_mode: mode(settings.conn_reuse_mode),
        drop_entry: mode(settings.drop_entry),
        drop_packet: mode(settings.drop_packet),
        expire_nodest_conn: settings.expire_nodest_conn,
        expire_quiescent_template: settings.expire_quiescent_template,
        lblc_expiration: seconds(settings.lblc_expiration),
        lblcr_expiration: seconds(settings.lblcr_expiration),
        nat_icmp_send: settings.nat_icmp_send,
        pmtu_disc: settings.pmtu_disc,
        schedule_icmp: settings.schedule_icmp,
        secure_tcp: mode(settings.secure_tcp),
        sloppy_sctp: settings.sloppy_sctp,
        sloppy_tcp: settings.sloppy_tcp,
        ip_forward: settings.ip_forward,
    }
}
