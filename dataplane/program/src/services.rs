//! Services and servers: who keeps which id, which objects the next snapshot shares with the one before.
//!
//! A destination outlives its deletion while sessions name it, and is the same again, id and counters, when it
//! comes back. A service's id lives as long as it or one of its destinations; its counts start anew when it
//! comes back (`traffic`).

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::Cells;
use fulcrum_director::cells::{CellTable, Slab};
use fulcrum_director::counters::DestinationCells;
use fulcrum_director::snapshot::{
    Destination, DestinationId, FastMap, FastSet, Profile, Service, ServiceId, SnatRule, Steering,
};
use fulcrum_director::threshold::Thresholds;
use fulcrum_model::{self as model, Family, ServerKey, ServiceKey, State};
use fulcrum_packet::ip::unspecified;

use crate::ids::Ids;
use crate::locals::Pools;
use crate::probes::Probe;
use crate::snat::KnownRule;
use crate::steering::NatServers;
use crate::terms::{self, TunnelSources};
use crate::traffic::{ServiceTraffic, Totals, minus, plus, totals};
use crate::{ServerCounters, ServiceCounters};

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
    pub(crate) nat: NatServers,
    pub(crate) snat: Arc<[SnatRule]>,
    /// Whether ways to servers are what they were in the last snapshot: none came or went, and of those that stayed
    /// at most weights and thresholds are others.
    pub(crate) same_ways: bool,
}

/// The services of a state by key.
pub(crate) type InState<'a> = FastMap<ServiceKey, &'a model::Service>;

/// A server of a service.
pub(crate) type Place = (ServiceKey, ServerKey);

/// Everything that outlives a snapshot.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) workers: usize,
    pub(crate) services: FastMap<ServiceKey, KnownService>,
    service_ids: Ids,
    pub(crate) destinations: FastMap<Place, KnownDestination>,
    pub(crate) destination_ids: Ids,
    pub(crate) destination_cells: Slab<DestinationCells>,
    /// Destinations by id, those of rules that masquerade among them.
    pub(crate) by_id: Vec<Option<Arc<Destination>>>,
    /// Those that are deleted and remembered.
    pub(crate) gone: Vec<Place>,
    pub(crate) nat: NatServers,
    /// Whether steering has to be decided again: a service, or a NAT server, came, went or is another.
    pub(crate) steer_anew: bool,
    /// Whether ways to servers are what they were in the last snapshot.
    pub(crate) same_ways: bool,
    /// The services of the last state, in its order.
    order: Vec<ServiceKey>,
    pub(crate) acknowledged: u64,
    /// Whether devices spread by both ends of flows.
    pub(crate) by_flow: bool,
    /// Probes through the data plane, and whom they are for.
    pub(crate) probes: Vec<Probe>,
    pub(crate) probed: FastSet<Place>,
    pub(crate) rules: Vec<KnownRule>,
    pub(crate) compiled_rules: Arc<[SnatRule]>,
}

#[derive(Debug)]
pub(crate) struct KnownService {
    pub(crate) id: ServiceId,
    /// The generation in which it was made, or made again.
    since: u64,
    /// What it has carried since, less what the servers that are known have ever.
    base: Totals,
    /// What its sessions' packets need; the same object while that does not change.
    pub(crate) profile: Arc<Profile>,
    /// Where tunnels to its servers come from, where that is by flow.
    pub(crate) tunnel_sources: TunnelSources,
    /// What it was compiled to last; `None` when it is new, or deleted.
    pub(crate) now: Option<Compiled>,
    /// How its flows were steered in the last snapshot.
    pub(crate) steering: Steering,
    /// How they were before that, as long as it has sessions.
    pub(crate) former: Vec<Steering>,
    /// Whether a server of it was NAT once and is known as such because of its sessions.
    once_nat: bool,
}

#[derive(Debug)]
pub(crate) struct Compiled {
    /// What it was compiled from.
    model: model::Service,
    service: Arc<Service>,
}

#[derive(Debug)]
pub(crate) struct KnownDestination {
    pub(crate) destination: Arc<Destination>,
    /// Whether answers from it are recognised by its address: sessions keep NAT when it is edited to something else.
    pub(crate) nat: bool,
    /// The first generation without it, when it is deleted.
    pub(crate) gone: Option<u64>,
}

impl KnownDestination {
    pub(crate) fn references(&self) -> u64 {
        let cells = self.destination.counters.iter();
        cells.fold(0u64, |sum, cell| sum.wrapping_add(cell.references()))
    }
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Registry {
        Registry {
            workers,
            services: FastMap::default(),
            service_ids: Ids::default(),
            destinations: FastMap::default(),
            destination_ids: Ids::default(),
            destination_cells: Slab::new(workers),
            by_id: Vec::new(),
            gone: Vec::new(),
            nat: NatServers::default(),
            steer_anew: true,
            same_ways: true,
            order: Vec::new(),
            acknowledged: 0,
            by_flow: false,
            probes: Vec::new(),
            probed: FastSet::default(),
            rules: Vec::new(),
            compiled_rules: Arc::default(),
        }
    }

    /// Devices spread by both ends of flows.
    pub(crate) fn steer_by_flow(&mut self) {
        (self.by_flow, self.steer_anew) = (true, true);
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
        self.order = state.services.iter().map(|service| service.key).collect();
        let in_state: InState = state.services.iter().map(|service| (service.key, service)).collect();

        self.same_ways = true;
        let snat = self.snat(state, pools, generation);
        // Of services that are alike, which no valid state has, the last counts.
        let counts = |service: &&model::Service| std::ptr::eq(in_state[&service.key], *service);
        let services: Vec<&model::Service> = state.services.iter().filter(counts).collect();
        let remembered = self.remembered();
        let of =
            |service: &&_| self.destinations_of(service, &state.timeouts, pools, &remembered, generation);
        let destinations: Vec<_> = services.iter().map(of).collect();
        self.keep_probed(generation);
        self.delete(&in_state, generation);
        self.steer(&in_state);

        let mut former: Vec<Steering> =
            self.services.values().flat_map(|known| known.former.iter().copied()).collect();
        former.sort();
        former.dedup();
        let (nat, same_ways) = (self.nat.clone(), self.same_ways);
        let mut compilation = Compilation { nat, snat, same_ways, former, ..Compilation::default() };
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
        for (service, destinations) in services.into_iter().zip(destinations) {
            let compiled = self.service(service, destinations, pools, warnings);
            match service.key {
                // Nobody finds it, while its sessions stay with their workers.
                ServiceKey::Address { protocol, address, port } if service.withheld => {
                    compilation.deleted.insert((protocol.number(), address, port), compiled.steering);
                }
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

    /// The destinations of a service, newest first; those that have not changed are the objects of before. `None` when
    /// all are.
    fn destinations_of(
        &mut self,
        service: &model::Service,
        global: &model::Timeouts,
        pools: &Pools,
        remembered: &FastMap<ServiceKey, Vec<Cells<DestinationCells>>>,
        generation: u64,
    ) -> Option<Vec<Arc<Destination>>> {
        let Registry {
            services, service_ids, destinations, destination_ids, destination_cells, by_id, ..
        } = self;
        let known = services.entry(service.key).or_insert_with(|| KnownService {
            id: service_ids.take(),
            since: 0,
            base: Totals::default(),
            profile: Arc::default(),
            tunnel_sources: TunnelSources::default(),
            now: None,
            steering: Steering::AddressPort,
            former: Vec::new(),
            once_nat: false,
        });
        let profile = terms::profile(service, global);
        let mut same = *known.profile == profile;
        if !same {
            known.profile = Arc::new(profile);
        }
        same &= !known.tunnel_sources.follow(service, pools);
        match &known.now {
            Some(now) if same && now.model == *service && !known.once_nat => return None,
            Some(now) => self.steer_anew |= terms::steered_by(&now.model) != terms::steered_by(service),
            None => {
                self.steer_anew = true;
                let carried = remembered.get(&service.key).into_iter().flatten().map(totals);
                (known.since, known.base) = (generation, carried.fold(Totals::default(), minus));
            }
        }
        known.once_nat = false;
        let mut list = Vec::with_capacity(service.servers.len());
        for server in service.servers.iter().rev() {
            let place = (service.key, server.key);
            let before = destinations.get(&place);
            let id = before.map_or_else(|| destination_ids.take(), |d| d.destination.id);
            let counters = match before {
                Some(before) => before.destination.counters.clone(),
                None => destination_cells.begin(id),
            };
            let (upper, lower) = (server.upper_threshold, server.lower_threshold);
            let now = Destination {
                id,
                service: known.id,
                protocol: terms::number(service.key.protocol()),
                address: server.key.address,
                port: server.key.port,
                forward: terms::forward(server.forward),
                tunnel: terms::tunnel(server.tunnel),
                tunnel_sources: known.tunnel_sources.of(server),
                weight: server.weight,
                last_weight: terms::last_weight(server.weight, before.map(|d| &*d.destination)),
                thresholds: before.map_or_else(
                    || Thresholds::new(upper, lower),
                    |d| d.destination.thresholds.edited(upper, lower),
                ),
                available: true,
                counters,
                profile: known.profile.clone(),
                local: server.forward == model::Forward::Local,
            };
            let way = |of: &Destination| (of.available, of.forward, of.tunnel);
            self.same_ways &= before.is_some_and(|before| way(&before.destination) == way(&now));
            let destination = match before {
                Some(before) if terms::same(&before.destination, &now) => before.destination.clone(),
                _ => Arc::new(now),
            };
            let is_nat = server.forward == model::Forward::Nat;
            let nat = is_nat || before.is_some_and(|b| b.nat && b.references() > 0);
            known.once_nat |= nat && !is_nat;
            self.steer_anew |= nat != before.is_some_and(|before| before.nat);
            put(by_id, &destination);
            destinations
                .insert(place, KnownDestination { destination: destination.clone(), nat, gone: None });
            list.push(destination);
        }
        if let Some(now) = &known.now {
            let stay: FastSet<ServerKey> = service.servers.iter().map(|server| server.key).collect();
            let went = now.model.servers.iter().map(|server| server.key).filter(|key| !stay.contains(key));
            let went: Vec<Place> = went.map(|key| (service.key, key)).collect();
            self.take_away(went, generation);
        }
        Some(list)
    }

    /// Marks servers that a state has no more.
    fn take_away(&mut self, went: impl IntoIterator<Item = Place>, generation: u64) {
        for place in went {
            let Some(known) = self.destinations.get_mut(&place) else { continue };
            known.gone = Some(generation);
            known.destination = Arc::new(terms::deleted(&known.destination));
            put(&mut self.by_id, &known.destination);
            self.gone.push(place);
            self.same_ways = false;
        }
    }

    /// Marks what the state does not have any more, and forgets what nobody can name any more.
    fn delete(&mut self, in_state: &InState, generation: u64) {
        let mut went = Vec::new();
        for (key, known) in self.services.iter_mut().filter(|(key, _)| !in_state.contains_key(key)) {
            if let Some(now) = known.now.take() {
                went.extend(now.model.servers.iter().map(|server| (*key, server.key)));
                self.steer_anew = true;
            }
        }
        self.take_away(went, generation);

        let Registry { services, destinations, destination_ids, by_id, gone, acknowledged, probed, .. } =
            self;
        let (steer_anew, same_ways) = (&mut self.steer_anew, &mut self.same_ways);
        gone.retain(|place| {
            let Some(KnownDestination { gone: Some(since), .. }) = destinations.get(place) else {
                return false;
            };
            let known = &destinations[place];
            // As long as a worker may make a session for it, or has one.
            if since > acknowledged || known.references() != 0 || probed.contains(place) {
                return true;
            }
            let id = known.destination.id;
            if let Some(service) = services.get_mut(&place.0) {
                service.base = plus(service.base, totals(&known.destination.counters));
            }
            *steer_anew |= known.nat;
            *same_ways = false;
            destination_ids.give_back(id, generation);
            by_id[id as usize] = None;
            destinations.remove(place);
            false
        });

        let named: FastSet<ServiceKey> = gone.iter().map(|(service, _)| *service).collect();
        let service_ids = &mut self.service_ids;
        self.services.retain(|key, known| {
            let keep = known.now.is_some() || in_state.contains_key(key) || named.contains(key);
            if !keep {
                service_ids.give_back(known.id, generation);
                *steer_anew = true;
            }
            keep
        });
    }

    /// A service; the object of before when nothing about it has changed.
    fn service(
        &mut self,
        service: &model::Service,
        destinations: Option<Vec<Arc<Destination>>>,
        pools: &Pools,
        warnings: &mut Vec<String>,
    ) -> Arc<Service> {
        let known = self.services.get_mut(&service.key).expect("destinations_of made the entry");
        let before = known.now.as_ref().map(|now| &*now.service);
        let local_addresses = terms::local_addresses(service, pools, before);
        let same = destinations.is_none();
        let destinations = destinations.or_else(|| Some(before?.destinations.clone())).unwrap_or_default();
        if let Some(Compiled { model, service: before }) = &known.now
            && (same || *model == *service)
            && before.steering == known.steering
            && Arc::ptr_eq(&before.profile, &known.profile)
            && Arc::ptr_eq(&before.local_addresses, &local_addresses)
            && (same
                || before.destinations.len() == destinations.len()
                    && before.destinations.iter().zip(&destinations).all(|(a, b)| Arc::ptr_eq(a, b)))
        {
            return before.clone();
        }
        let scheduler = terms::scheduler(service, before, &destinations, warnings);
        let compiled = Arc::new(Service {
            id: known.id,
            protocol: terms::number(service.key.protocol()),
            address: service.key.address().unwrap_or(unspecified(service.key.family() == Family::V6)),
            port: service.key.port().unwrap_or(0),
            mark: service.key.mark(),
            persistence: terms::persistence(service),
            scheduler,
            destinations,
            local_v4: local_addresses.iter().filter(|range| range.address.is_ipv4()).count(),
            local_addresses,
            profile: known.profile.clone(),
            steering: known.steering,
        });
        known.now = Some(Compiled { model: service.clone(), service: compiled.clone() });
        compiled
    }

    /// Destinations by id.
    pub(crate) fn destinations(&self) -> Vec<Option<Arc<Destination>>> {
        self.by_id.clone()
    }

    /// What is counted of destinations.
    pub(crate) fn cells(&self) -> CellTable<DestinationCells> {
        self.destination_cells.table()
    }

    /// What is counted of deleted servers that are remembered, by their services.
    fn remembered(&self) -> FastMap<ServiceKey, Vec<Cells<DestinationCells>>> {
        let mut remembered: FastMap<ServiceKey, Vec<_>> = FastMap::default();
        for place in &self.gone {
            if let Some(KnownDestination { destination, gone: Some(_), .. }) = self.destinations.get(place) {
                remembered.entry(place.0).or_default().push(destination.counters.clone());
            }
        }
        remembered
    }

    pub(crate) fn counters(&self) -> Vec<ServiceCounters> {
        let mut remembered = self.remembered();
        let of = |key: &ServiceKey| {
            let &KnownService { since, base, ref now, .. } = self.services.get(key)?;
            let servers = now.as_ref()?.model.servers.iter().filter_map(|server| {
                let known = self.destinations.get(&(*key, server.key))?;
                Some(ServerCounters { key: server.key, cells: known.destination.counters.clone() })
            });
            let servers: Vec<ServerCounters> = servers.collect();
            let mut cells = remembered.remove(key).unwrap_or_default();
            cells.extend(servers.iter().map(|server| server.cells.clone()));
            let traffic = ServiceTraffic { since, base, servers: cells };
            Some(ServiceCounters { key: *key, traffic, servers })
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

/// Puts a destination in the place of its id.
pub(crate) fn put(by_id: &mut Vec<Option<Arc<Destination>>>, destination: &Arc<Destination>) {
    let place = destination.id as usize;
    if by_id.len() <= place {
        by_id.resize(place + 1, None);
    }
    by_id[place] = Some(destination.clone());
}
