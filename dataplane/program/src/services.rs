//! Services and servers: who keeps which id, which objects the next snapshot shares with the one before.
//!
//! A destination outlives its deletion while sessions name it, and is the same again, id and counters, when it
//! comes back. A service's id lives as long as it or one of its destinations; its counters start anew when it
//! comes back.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::Cells;
use fulcrum_director::cells::{CellTable, Slab};
use fulcrum_director::counters::{DestinationCells, Traffic};
use fulcrum_director::schedule::{self, Scheduler};
use fulcrum_director::snapshot::{
    self, ClientAddress, Destination, DestinationId, FTP, FastMap, Forward, LocalRange, Persistence, Profile,
    Service, ServiceId, ServiceSlot, Steering, Timeouts, TunnelChecksum, TunnelKind,
};
use fulcrum_director::threshold::Thresholds;
use fulcrum_model::{self as model, Family, PortRange, Protocol, ServerKey, ServiceKey, State, TimeoutState};
use fulcrum_packet::ip::unspecified;

use crate::ids::Ids;
use crate::locals::{Pools, local_range};
use crate::steering::{NatServer, steer};
use crate::{ServerCounters, ServiceCounters, seconds};

/// By protocol number, VIP and port.
type ByAddress<T> = FastMap<(u8, IpAddr, u16), T>;
/// By family (IPv6: true) and mark.
type ByMark<T> = FastMap<(bool, u32), T>;

/// What a snapshot has of services.
#[derive(Debug, Default)]
pub(crate) struct Compilation {
    pub(crate) services: ByAddress<Arc<Service>>,
    pub(crate) mark_services: ByMark<Arc<Service>>,
    /// How flows of deleted services that are still remembered are steered.
    pub(crate) deleted: ByAddress<Steering>,
    pub(crate) deleted_marks: ByMark<Steering>,
    /// How services with sessions were steered before.
    pub(crate) former: Vec<Steering>,
    /// How answers of NAT servers are steered.
    pub(crate) servers: FastMap<NatServer, Steering>,
}

/// The services of a state by key.
type InState<'a> = HashMap<ServiceKey, &'a model::Service>;

/// Everything that outlives a snapshot.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) workers: usize,
    services: HashMap<ServiceKey, KnownService>,
    service_ids: Ids,
    service_slots: Ids,
    service_cells: Slab<Traffic>,
    destinations: HashMap<(ServiceKey, ServerKey), KnownDestination>,
    destination_ids: Ids,
    destination_cells: Slab<DestinationCells>,
    /// The services of the last state, in its order.
    order: Vec<ServiceKey>,
    pub(crate) acknowledged: u64,
    /// Whether devices spread by both ends of flows.
    pub(crate) by_flow: bool,
}

#[derive(Debug)]
struct KnownService {
    id: ServiceId,
    /// Its traffic since it was made, or made again.
    counters: Cells<Traffic>,
    /// Where that is.
    slot: ServiceSlot,
    /// What its sessions' packets need; the same object while that does not change.
    profile: Arc<Profile>,
    /// Where tunnels to its servers come from, where that is by flow.
    tunnel_sources: TunnelSources,
    /// What it was compiled to last; `None` when it is new, or deleted.
    now: Option<Compiled>,
    /// How its flows were steered in the last snapshot.
    steering: Steering,
    /// How they were before that, as long as it has sessions.
    former: Vec<Steering>,
}

#[derive(Debug)]
struct Compiled {
    /// What it was compiled from.
    model: model::Service,
    service: Arc<Service>,
}

#[derive(Debug)]
struct KnownDestination {
    destination: Arc<Destination>,
    /// Whether answers from it are recognised by its address: sessions keep NAT when it is edited to something else.
    nat: bool,
    /// The first generation without it, when it is deleted.
    gone: Option<u64>,
}

impl KnownDestination {
    fn references(&self) -> u64 {
        let cells = self.destination.counters.iter();
        cells.fold(0u64, |sum, cell| sum.wrapping_add(cell.references()))
    }
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Registry {
        Registry {
            workers,
            services: HashMap::new(),
            service_ids: Ids::default(),
            service_slots: Ids::default(),
            service_cells: Slab::new(workers),
            destinations: HashMap::new(),
            destination_ids: Ids::default(),
            destination_cells: Slab::new(workers),
            order: Vec::new(),
            acknowledged: 0,
            by_flow: false,
        }
    }

    pub(crate) fn acknowledged(&mut self, generation: u64) {
        self.acknowledged = self.acknowledged.max(generation);
        self.service_ids.acknowledged(self.acknowledged);
        self.service_slots.acknowledged(self.acknowledged);
        self.destination_ids.acknowledged(self.acknowledged);
    }

    /// What the next snapshot has of services.
    pub(crate) fn compile(
        &mut self,
        state: &State,
        pools: &Pools,
        generation: u64,
        warnings: &mut Vec<String>,
    ) -> Compilation {
        self.order = state.services.iter().map(|service| service.key).collect();
        let in_state: InState = state.services.iter().map(|service| (service.key, service)).collect();

        let of = |service| self.destinations_of(service, &state.timeouts, pools);
        let destinations: Vec<_> = state.services.iter().map(of).collect();
        self.delete(&in_state, generation);
        let servers = self.steer(&in_state);

        let mut former: Vec<Steering> =
            self.services.values().flat_map(|known| known.former.iter().copied()).collect();
        former.sort();
        former.dedup();
        let mut compilation = Compilation { servers, former, ..Compilation::default() };
        for (key, known) in self.services.iter().filter(|(key, _)| !in_state.contains_key(key)) {
            match *key {
                ServiceKey::Address { protocol, address, port } => {
                    compilation.deleted.insert((protocol.number(), address, port), known.steering);
                }
                ServiceKey::Mark { family, mark } => {
                    compilation.deleted_marks.insert((family == Family::V6, mark), known.steering);
                }
            }
        }
        for (service, destinations) in state.services.iter().zip(destinations) {
            let compiled = self.service(service, destinations, pools, warnings);
            match service.key {
                ServiceKey::Address { protocol, address, port } => {
                    compilation.services.insert((protocol.number(), address, port), compiled);
                }
                ServiceKey::Mark { family, mark } => {
                    compilation.mark_services.insert((family == Family::V6, mark), compiled);
                }
            }
        }
        compilation
    }

    /// The destinations of a service, newest first; those that have not changed are the objects of before.
    fn destinations_of(
        &mut self,
        service: &model::Service,
        global: &model::Timeouts,
        pools: &Pools,
    ) -> Vec<Arc<Destination>> {
        let Registry { services, service_ids, service_slots, service_cells, .. } = self;
        let Registry { destinations, destination_ids, destination_cells, .. } = self;
        let known = services.entry(service.key).or_insert_with(|| KnownService {
            id: service_ids.take(),
            counters: Cells::new(0),
            slot: 0,
            profile: Arc::default(),
            tunnel_sources: TunnelSources::default(),
            now: None,
            steering: Steering::AddressPort,
            former: Vec::new(),
        });
        let profile = profile(service, global);
        if *known.profile != profile {
            known.profile = Arc::new(profile);
        }
        known.tunnel_sources.follow(service, pools);
        if known.now.is_none() {
            known.slot = service_slots.take();
            known.counters = service_cells.begin(known.slot);
        }
        let mut list = Vec::with_capacity(service.servers.len());
        for server in service.servers.iter().rev() {
            let key = (service.key, server.key);
            let before = destinations.get(&key);
            let id = before.map_or_else(|| destination_ids.take(), |d| d.destination.id);
            let counters = match before {
                Some(before) => before.destination.counters.clone(),
                None => destination_cells.begin(id),
            };
            let (upper, lower) = (server.upper_threshold, server.lower_threshold);
            let now = Destination {
                id,
                service: known.id,
                protocol: number(service.key.protocol()),
                address: server.key.address,
                port: server.key.port,
                forward: forward(server.forward),
                tunnel: tunnel(server.tunnel),
                tunnel_sources: known.tunnel_sources.of(server),
                weight: server.weight,
                last_weight: last_weight(server.weight, before.map(|d| &*d.destination)),
                thresholds: before.map_or_else(
                    || Thresholds::new(upper, lower),
                    |d| d.destination.thresholds.edited(upper, lower),
                ),
                available: true,
                counters,
                service_counters: known.counters.clone(),
                service_slot: known.slot,
                profile: known.profile.clone(),
            };
            let destination = match before {
                Some(before) if same(&before.destination, &now) => before.destination.clone(),
                _ => Arc::new(now),
            };
            let nat =
                server.forward == model::Forward::Nat || before.is_some_and(|b| b.nat && b.references() > 0);
            destinations.insert(key, KnownDestination { destination: destination.clone(), nat, gone: None });
            list.push(destination);
        }
        list
    }

    /// Marks what the state does not have any more, and forgets what nobody can name any more.
    fn delete(&mut self, in_state: &InState, generation: u64) {
        let mut named: HashSet<ServiceKey> = HashSet::new();
        let present: HashSet<(ServiceKey, ServerKey)> = in_state
            .iter()
            .flat_map(|(key, service)| service.servers.iter().map(|s| (*key, s.key)))
            .collect();
        let acknowledged = self.acknowledged;
        let destination_ids = &mut self.destination_ids;
        self.destinations.retain(|key, known| {
            if !present.contains(key) {
                match known.gone {
                    None => {
                        known.gone = Some(generation);
                        known.destination = Arc::new(deleted(&known.destination));
                    }
                    // No worker can make a session for it any more, and there is none.
                    Some(since) if since <= acknowledged && known.references() == 0 => {
                        destination_ids.give_back(known.destination.id, generation);
                        return false;
                    }
                    Some(_) => {}
                }
            }
            named.insert(key.0);
            true
        });
        let (service_ids, service_slots) = (&mut self.service_ids, &mut self.service_slots);
        self.services.retain(|key, known| {
            if in_state.contains_key(key) {
                return true;
            }
            if known.now.take().is_some() {
                service_slots.give_back(known.slot, generation);
            }
            let keep = named.contains(key);
            if !keep {
                service_ids.give_back(known.id, generation);
            }
            keep
        });
    }

    /// Decides every service's steering, deleted ones with sessions included.
    fn steer(&mut self, in_state: &InState) -> FastMap<NatServer, Steering> {
        let mut in_use: HashMap<ServiceKey, bool> = HashMap::new();
        for ((service, _), known) in &self.destinations {
            *in_use.entry(*service).or_default() |= known.references() > 0;
        }
        let keys: Vec<ServiceKey> = self.services.keys().copied().collect();
        let prefixes: Vec<Option<u8>> = keys
            .iter()
            .map(|key| {
                let configured = in_state.get(key).and_then(|service| steered_by(service));
                match self.services[key].steering {
                    // Sessions stay with the workers that have them: steering goes back to narrow when they are gone.
                    Steering::Address(before) if in_use.get(key) == Some(&true) => {
                        Some(before.min(configured.unwrap_or(u8::MAX)))
                    }
                    _ => configured,
                }
            })
            .collect();
        let index: HashMap<ServiceKey, usize> = keys.iter().copied().zip(0..).collect();
        let nat = self.destinations.iter().filter(|(_, known)| known.nat);
        let servers: Vec<(usize, NatServer)> = nat
            .flat_map(|((service, _), known)| {
                let index = index[service];
                nat_servers(service, &known.destination).map(move |server| (index, server))
            })
            .collect();
        let (services, servers) = steer(&prefixes, &servers, self.by_flow);
        for (key, steering) in keys.iter().zip(services) {
            let Some(known) = self.services.get_mut(key) else { continue };
            let before = std::mem::replace(&mut known.steering, steering);
            if in_use.get(key) != Some(&true) {
                known.former.clear();
            } else if before != steering
                && (before != Steering::AddressPort || steering == Steering::Flow)
                && !known.former.contains(&before)
            {
                known.former.push(before);
            }
        }
        servers
    }

    /// A service; the object of before when nothing about it has changed.
    fn service(
        &mut self,
        service: &model::Service,
        destinations: Vec<Arc<Destination>>,
        pools: &Pools,
        warnings: &mut Vec<String>,
    ) -> Arc<Service> {
        let known = self.services.get_mut(&service.key).expect("destinations_of made the entry");
        let before = known.now.as_ref();
        let local_addresses = local_addresses(service, pools, before);
        if let Some(Compiled { model, service: before }) = before
            && *model == *service
            && before.steering == known.steering
            && Arc::ptr_eq(&before.profile, &known.profile)
            && Arc::ptr_eq(&before.local_addresses, &local_addresses)
            && before.destinations.len() == destinations.len()
            && before.destinations.iter().zip(&destinations).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return before.clone();
        }
        let scheduler = scheduler(service, before, &destinations, warnings);
        let compiled = Arc::new(Service {
            id: known.id,
            protocol: number(service.key.protocol()),
            address: service.key.address().unwrap_or(unspecified(service.key.family() == Family::V6)),
            port: service.key.port().unwrap_or(0),
            mark: service.key.mark(),
            persistence: persistence(service),
            scheduler,
            destinations,
            local_v4: local_addresses.iter().filter(|range| range.address.is_ipv4()).count(),
            local_addresses,
            profile: known.profile.clone(),
            steering: known.steering,
            counters: known.counters.clone(),
        });
        known.now = Some(Compiled { model: service.clone(), service: compiled.clone() });
        compiled
    }

    /// Destinations by id.
    pub(crate) fn destinations(&self) -> Vec<Option<Arc<Destination>>> {
        let mut list = vec![None; self.destination_ids.end()];
        for known in self.destinations.values() {
            list[known.destination.id as usize] = Some(known.destination.clone());
        }
        list
    }

    /// What is counted of destinations and of services.
    pub(crate) fn cells(&self) -> (CellTable<DestinationCells>, CellTable<Traffic>) {
        (self.destination_cells.table(), self.service_cells.table())
    }

    pub(crate) fn counters(&self) -> Vec<ServiceCounters> {
        let of = |key: &ServiceKey| {
            let known = self.services.get(key)?;
            let servers = known.now.as_ref()?.model.servers.iter().filter_map(|server| {
                let known = self.destinations.get(&(*key, server.key))?;
                Some(ServerCounters { key: server.key, cells: known.destination.counters.clone() })
            });
            Some(ServiceCounters { key: *key, traffic: known.counters.clone(), servers: servers.collect() })
        };
        self.order.iter().filter_map(of).collect()
    }

    pub(crate) fn service_key(&self, id: ServiceId) -> Option<ServiceKey> {
        self.services.iter().find(|(_, known)| known.id == id).map(|(key, _)| *key)
    }

    pub(crate) fn server_key(&self, id: DestinationId) -> Option<(ServiceKey, ServerKey)> {
        self.destinations.iter().find(|(_, known)| known.destination.id == id).map(|(key, _)| *key)
    }
}

fn number(protocol: Option<Protocol>) -> u8 {
    protocol.map_or(0, Protocol::number)
}

/// What answers of a NAT server come from, for its service. A mark's service takes every protocol; what comes to
/// other ports than the service's keeps them, and FTP's data goes by ports of its own.
fn nat_servers(service: &ServiceKey, server: &Destination) -> impl Iterator<Item = NatServer> + use<> {
    let every_port = service.port() == Some(0) || service.port() == Some(FTP);
    let (address, port) = (server.address, if every_port { 0 } else { server.port });
    let protocols = match service.protocol() {
        Some(protocol) => vec![protocol],
        None => Protocol::ALL.to_vec(),
    };
    protocols.into_iter().map(move |protocol| (protocol.number(), address, port))
}

/// How much of a client's address decides which worker a service's flows belong to; `None` when its port counts
/// too. FTP's data connections have other ports than their control connection.
fn steered_by(service: &model::Service) -> Option<u8> {
    let ftp = service.key.port() == Some(FTP) && service.key.protocol() == Some(Protocol::Tcp);
    let whole = ftp.then(|| service.key.family().bits());
    service.persistent.map(|_| service.prefix).or(whole)
}

fn tunnel(tunnel: model::Tunnel) -> snapshot::Tunnel {
    let kind = match tunnel.kind {
        model::TunnelKind::Ipip => TunnelKind::Ipip,
        model::TunnelKind::Gre => TunnelKind::Gre,
        model::TunnelKind::Gue { port } => TunnelKind::Gue(port),
    };
    let checksum = match tunnel.checksum {
        model::TunnelChecksum::None => TunnelChecksum::None,
        model::TunnelChecksum::Csum => TunnelChecksum::Plain,
        model::TunnelChecksum::Remcsum => TunnelChecksum::Remote,
    };
    snapshot::Tunnel { kind, checksum }
}

/// What a service asks for its sessions' packets, with the director's time-outs where it has none of its own.
fn profile(service: &model::Service, global: &model::Timeouts) -> Profile {
    let of = |state: TimeoutState| {
        seconds(service.timeouts.get(&state).copied().unwrap_or_else(|| global.of(state)))
    };
    Profile {
        timeouts: Timeouts {
            tcp: std::array::from_fn(|state| of(TimeoutState::ALL[state])),
            udp: of(TimeoutState::Udp),
            sctp: std::array::from_fn(|state| of(TimeoutState::ALL[TimeoutState::SctpNone as usize + state])),
        },
        mss: service.mss.unwrap_or(0),
        client_address: match service.client_address {
            model::ClientAddress::None => ClientAddress::None,
            model::ClientAddress::Toa => ClientAddress::Toa,
            model::ClientAddress::ProxyV1 => ClientAddress::ProxyV1,
            model::ClientAddress::ProxyV2 => ClientAddress::ProxyV2,
        },
        one_packet: service.one_packet,
    }
}

fn forward(forward: model::Forward) -> Forward {
    match forward {
        model::Forward::Nat => Forward::Nat,
        model::Forward::FullNat => Forward::FullNat,
        model::Forward::Dr => Forward::Dr,
        model::Forward::Tun => Forward::Tun,
    }
}

fn persistence(service: &model::Service) -> Option<Persistence> {
    let (prefix, sip) = (service.prefix, service.persistence_engine.is_some());
    service.persistent.map(|timeout| Persistence { timeout: seconds(timeout), prefix, sip })
}

/// Whether a destination is what it was; which id and counters it has follows from its key.
fn same(before: &Destination, now: &Destination) -> bool {
    (before.available, before.forward, before.tunnel, before.weight)
        == (now.available, now.forward, now.tunnel, now.weight)
        && before.thresholds.limits() == now.thresholds.limits()
        && (Arc::ptr_eq(&before.tunnel_sources, &now.tunnel_sources)
            || before.tunnel_sources == now.tunnel_sources)
        && Arc::ptr_eq(&before.profile, &now.profile)
        && before.service_slot == now.service_slot
}

/// The last weight that was not 0; a server that comes back begins anew. // IPVS: __ip_vs_update_dest
fn last_weight(weight: u32, before: Option<&Destination>) -> u32 {
    match before {
        Some(before) if weight == 0 && before.available => before.last_weight,
        _ => weight,
    }
}

/// A destination as sessions see it after its deletion.
fn deleted(before: &Destination) -> Destination {
    Destination {
        id: before.id,
        service: before.service,
        protocol: before.protocol,
        address: before.address,
        port: before.port,
        forward: before.forward,
        tunnel: before.tunnel,
        tunnel_sources: before.tunnel_sources.clone(),
        weight: before.weight,
        last_weight: before.last_weight,
        thresholds: before.thresholds.clone(),
        available: false,
        counters: before.counters.clone(),
        service_counters: before.service_counters.clone(),
        service_slot: before.service_slot,
        profile: before.profile.clone(),
    }
}

/// The outer source addresses of a service's tunnels by flow, of IPv4 and of IPv6.
#[derive(Debug, Default)]
struct TunnelSources([Arc<[IpAddr]>; 2]);

impl TunnelSources {
    /// Takes over what a service has now; nothing where none of its servers wants it.
    fn follow(&mut self, service: &model::Service, pools: &Pools) {
        let wanted = service.servers.iter().any(by_flow);
        let ranges = if wanted { local_ranges(service, pools) } else { Vec::new() };
        for (sources, v6) in self.0.iter_mut().zip([false, true]) {
            let of_family = ranges.iter().map(|range| range.address).filter(|own| own.is_ipv6() == v6);
            let now: Vec<IpAddr> = of_family.collect();
            if **sources != *now {
                *sources = now.into();
            }
        }
    }

    /// Those for a server.
    fn of(&self, server: &model::Server) -> Arc<[IpAddr]> {
        if by_flow(server) {
            self.0[usize::from(server.key.address.is_ipv6())].clone()
        } else {
            Arc::default()
        }
    }
}

/// Whether flows to a server have outer source addresses of their own.
fn by_flow(server: &model::Server) -> bool {
    server.forward == model::Forward::Tun && server.tunnel.source == model::TunnelSource::Local
}

/// The local addresses of a service: those of its named pool, then its own; of each family so, IPv4 first.
fn local_addresses(service: &model::Service, pools: &Pools, before: Option<&Compiled>) -> Arc<[LocalRange]> {
    let ranges = local_ranges(service, pools);
    match before {
        Some(before) if *before.service.local_addresses == *ranges => before.service.local_addresses.clone(),
        _ => ranges.into(),
    }
}

fn local_ranges(service: &model::Service, pools: &Pools) -> Vec<LocalRange> {
    let mut ranges = Vec::new();
    if let Some(pool) = service.local_pool.as_deref().and_then(|name| pools.get(name)) {
        ranges.extend_from_slice(pool);
    }
    ranges.extend(service.local_addresses.iter().map(|own| local_range(own.0, PortRange::default())));
    ranges.sort_by_key(|range| range.address.is_ipv6());
    ranges
}

fn scheduler(
    service: &model::Service,
    before: Option<&Compiled>,
    destinations: &[Arc<Destination>],
    warnings: &mut Vec<String>,
) -> Box<dyn Scheduler> {
    let flags = service.scheduler_flags;
    let mut name = service.scheduler.as_str();
    if !schedule::NAMES.contains(&name) {
        warnings.push(format!("service {}: there is no scheduler `{name}`, wlc is used", service.key));
        name = "wlc";
    }
    let scheduler = match before.map(|before| &before.service) {
        None => schedule::build_fresh(name, flags, destinations),
        Some(before) if before.scheduler.name() == name => {
            Some(before.scheduler.carry_over(flags, &before.destinations, destinations))
        }
        Some(_) => schedule::build(name, flags, destinations),
    };
    scheduler.expect("every name of NAMES builds")
}
