//! Services and servers: who keeps which id, which objects the next snapshot shares with the one before.
//!
//! A destination outlives its deletion while sessions name it, and is the same again, id and counters, when it
//! comes back. A service's id lives as long as it or one of its destinations; its counters start anew when it
//! comes back.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use fulcrum_director::PerWorker;
use fulcrum_director::counters::Traffic;
use fulcrum_director::schedule::{self, Scheduler};
use fulcrum_director::snapshot::{
    Destination, DestinationId, FastMap, Forward, LocalRange, Persistence, Service, ServiceId, Steering,
};
use fulcrum_model::{self as model, PortRange, ServerKey, ServiceKey, State};

use crate::ids::Ids;
use crate::locals::{Pools, local_range};
use crate::steering::{NatServer, steer};
use crate::{ServerCounters, ServiceCounters, seconds};

/// Where a snapshot has a service: protocol number, VIP and port.
type Place = (u8, Ipv4Addr, u16);

/// Services of a snapshot.
pub(crate) type Services = FastMap<Place, Arc<Service>>;

/// What a snapshot has of services.
#[derive(Debug, Default)]
pub(crate) struct Compilation {
    pub(crate) services: Services,
    /// How flows of deleted services that are still remembered are steered.
    pub(crate) deleted: FastMap<Place, Steering>,
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
    destinations: HashMap<(ServiceKey, ServerKey), KnownDestination>,
    destination_ids: Ids,
    /// The services of the last state, in its order.
    order: Vec<ServiceKey>,
    pub(crate) acknowledged: u64,
}

#[derive(Debug)]
struct KnownService {
    id: ServiceId,
    /// Its traffic since it was made, or made again.
    counters: Arc<PerWorker<Traffic>>,
    /// What it was compiled to last; `None` when it is new, or deleted.
    now: Option<Compiled>,
    /// How its flows were steered in the last snapshot.
    steering: Steering,
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
            destinations: HashMap::new(),
            destination_ids: Ids::default(),
            order: Vec::new(),
            acknowledged: 0,
        }
    }

    pub(crate) fn acknowledged(&mut self, generation: u64) {
        self.acknowledged = self.acknowledged.max(generation);
        self.service_ids.acknowledged(self.acknowledged);
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
        let usable: Vec<(&model::Service, Place)> = state
            .services
            .iter()
            .filter_map(|service| usable(service, warnings).map(|place| (service, place)))
            .collect();
        self.order = usable.iter().map(|(service, _)| service.key).collect();
        let in_state: InState = usable.iter().map(|(service, _)| (service.key, *service)).collect();

        let destinations: Vec<_> = usable.iter().map(|(service, _)| self.destinations_of(service)).collect();
        self.delete(&in_state, generation);
        let servers = self.steer(&in_state);

        let mut services = Services::default();
        let gone = self.services.iter().filter(|(key, _)| !in_state.contains_key(key));
        let deleted = gone.filter_map(|(key, known)| Some((place(key)?, known.steering))).collect();
        for ((service, place), destinations) in usable.into_iter().zip(destinations) {
            let compiled = self.service(service, place, destinations, pools, warnings);
            services.insert(place, compiled);
        }
        Compilation { services, deleted, servers }
    }

    /// The destinations of a service, newest first; those that have not changed are the objects of before.
    fn destinations_of(&mut self, service: &model::Service) -> Vec<Arc<Destination>> {
        let Registry { workers, services, service_ids, destinations, destination_ids, .. } = self;
        let known = services.entry(service.key).or_insert_with(|| KnownService {
            id: service_ids.take(),
            counters: Arc::new(PerWorker::new(0)),
            now: None,
            steering: Steering::AddressPort,
        });
        if known.now.is_none() {
            known.counters = Arc::new(PerWorker::new(*workers));
        }
        let mut list = Vec::with_capacity(service.servers.len());
        for server in service.servers.iter().rev() {
            let IpAddr::V4(address) = server.key.address else { continue };
            let key = (service.key, server.key);
            let before = destinations.get(&key);
            let id = before.map_or_else(|| destination_ids.take(), |d| d.destination.id);
            let counters = match before {
                Some(before) => before.destination.counters.clone(),
                None => Arc::new(PerWorker::new(*workers)),
            };
            let now = Destination {
                id,
                service: known.id,
                protocol: service.key.protocol().map_or(0, model::Protocol::number),
                address,
                port: server.key.port,
                forward: forward(server.forward),
                weight: server.weight,
                available: true,
                counters,
                service_counters: known.counters.clone(),
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
        let service_ids = &mut self.service_ids;
        self.services.retain(|key, known| {
            if in_state.contains_key(key) {
                return true;
            }
            known.now = None;
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
        let masks: Vec<Option<u32>> = keys
            .iter()
            .map(|key| {
                let configured = in_state.get(key).and_then(|s| persistence(s)).map(|p| p.netmask);
                match self.services[key].steering {
                    // Sessions stay with the workers that have them: steering goes back to narrow when they are gone.
                    Steering::Address(before) if in_use.get(key) == Some(&true) => {
                        Some(before & configured.unwrap_or(u32::MAX))
                    }
                    _ => configured,
                }
            })
            .collect();
        let index: HashMap<ServiceKey, usize> = keys.iter().copied().zip(0..).collect();
        let nat = self.destinations.iter().filter(|(_, known)| known.nat);
        let servers: Vec<(usize, NatServer)> = nat
            .map(|((service, _), known)| {
                let d = &known.destination;
                (index[service], (d.protocol, d.address, d.port))
            })
            .collect();
        let (services, servers) = steer(&masks, &servers);
        for (key, steering) in keys.iter().zip(services) {
            if let Some(known) = self.services.get_mut(key) {
                known.steering = steering;
            }
        }
        servers
    }

    /// A service; the object of before when nothing about it has changed.
    fn service(
        &mut self,
        service: &model::Service,
        (protocol, address, port): Place,
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
            && Arc::ptr_eq(&before.local_addresses, &local_addresses)
            && before.destinations.len() == destinations.len()
            && before.destinations.iter().zip(&destinations).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return before.clone();
        }
        let scheduler = scheduler(service, before, &destinations, warnings);
        let compiled = Arc::new(Service {
            id: known.id,
            protocol,
            address,
            port,
            persistence: persistence(service),
            scheduler,
            destinations,
            local_addresses,
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

/// Where a service is found, if it is one that workers can serve.
fn place(key: &ServiceKey) -> Option<Place> {
    match *key {
        ServiceKey::Address {
            protocol: protocol @ (model::Protocol::Tcp | model::Protocol::Udp),
            address: IpAddr::V4(address),
            port,
        } => Some((protocol.number(), address, port)),
        _ => None,
    }
}

/// Where a service is found, if it is one that workers can serve; its IPv6 servers are left out.
fn usable(service: &model::Service, warnings: &mut Vec<String>) -> Option<Place> {
    let key = service.key;
    let place = place(&key);
    if place.is_none() {
        warnings.push(format!("service {key}: IPv6, SCTP or by mark, not used yet"));
        return None;
    }
    for server in service.servers.iter().filter(|s| s.key.address.is_ipv6()) {
        warnings.push(format!("service {key}: server {} is IPv6, not used yet", server.key));
    }
    for own in service.local_addresses.iter().filter(|a| a.0.is_ipv6()) {
        warnings.push(format!("service {key}: local address {} is IPv6, not used yet", own.0));
    }
    place
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
    let netmask = u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(service.prefix))).unwrap_or(0);
    service.persistent.map(|timeout| Persistence { timeout: seconds(timeout), netmask })
}

/// Whether a destination is what it was; which id and counters it has follows from its key.
fn same(before: &Destination, now: &Destination) -> bool {
    (before.available, before.forward, before.weight) == (now.available, now.forward, now.weight)
        && Arc::ptr_eq(&before.service_counters, &now.service_counters)
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
        weight: before.weight,
        available: false,
        counters: before.counters.clone(),
        service_counters: before.service_counters.clone(),
    }
}

/// The local addresses of a service: those of its named pool, then its own.
fn local_addresses(service: &model::Service, pools: &Pools, before: Option<&Compiled>) -> Arc<[LocalRange]> {
    let mut ranges = Vec::new();
    if let Some(pool) = service.local_pool.as_deref().and_then(|name| pools.get(name)) {
        ranges.extend_from_slice(pool);
    }
    for own in &service.local_addresses {
        if let IpAddr::V4(address) = own.0 {
            ranges.push(local_range(address, PortRange::default()));
        }
    }
    match before {
        Some(before) if *before.service.local_addresses == *ranges => before.service.local_addresses.clone(),
        _ => ranges.into(),
    }
}

fn scheduler(
    service: &model::Service,
    before: Option<&Compiled>,
    destinations: &[Arc<Destination>],
    warnings: &mut Vec<String>,
) -> Box<dyn Scheduler> {
    let mut name = service.scheduler.as_str();
    if !schedule::NAMES.contains(&name) {
        warnings.push(format!("service {}: there is no scheduler `{name}`, wlc is used", service.key));
        name = "wlc";
    }
    let scheduler = match before.map(|before| &before.service) {
        None => schedule::build_fresh(name, 0, destinations),
        Some(before) if before.scheduler.name() == name => {
            Some(before.scheduler.carry_over(0, &before.destinations, destinations))
        }
        Some(_) => schedule::build(name, 0, destinations),
    };
    scheduler.expect("every name of NAMES builds")
}
