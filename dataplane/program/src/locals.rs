//! The director's own addresses: of interfaces, VIPs, local addresses of FULLNAT; and who answers ARP for each.
//!
//! A local address that is taken away stays one while sessions use it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::PerWorker;
use fulcrum_director::counters::LocalCells;
use fulcrum_director::snapshot::{FastMap, InterfaceId, Local, LocalRange, Locals};
use fulcrum_model::{AddressRange, PortRange, State};

use crate::network::Network;

/// Addresses of one pool that are used at most: more is a slip of the pen.
const POOL_LIMIT: usize = 1 << 16;

/// The addresses of every pool by its name, those of IPv4 first.
pub(crate) type Pools = HashMap<String, Arc<[LocalRange]>>;

/// The addresses and ports of every pool, one range an address; the same objects as `before` where they are the same.
pub(crate) fn pools(state: &State, before: &Pools, warnings: &mut Vec<String>) -> Pools {
    let mut pools = Pools::new();
    for pool in &state.local_pools {
        let addresses = pool.addresses.iter().flat_map(AddressRange::iter);
        let ranges = addresses.take(POOL_LIMIT + 1).map(|address| local_range(address, pool.ports));
        let mut ranges: Vec<LocalRange> = ranges.collect();
        if ranges.len() > POOL_LIMIT {
            ranges.truncate(POOL_LIMIT);
            let name = &pool.name;
            warnings.push(format!("local pool `{name}`: only its first {POOL_LIMIT} addresses are used"));
        }
        ranges.sort_by_key(|range| range.address.is_ipv6());
        let ranges = match before.get(&pool.name) {
            Some(before) if **before == *ranges => before.clone(),
            _ => ranges.into(),
        };
        pools.insert(pool.name.clone(), ranges);
    }
    pools
}

/// One local address with these ports.
pub(crate) fn local_range(address: IpAddr, ports: PortRange) -> LocalRange {
    LocalRange { address, first: ports.first.max(1), last: ports.last }
}

/// The local addresses of FULLNAT that are, or have sessions.
#[derive(Debug, Default)]
pub(crate) struct LocalAddresses(HashMap<IpAddr, Known>);

#[derive(Debug)]
struct Known {
    arp: Option<InterfaceId>,
    cells: Arc<PerWorker<LocalCells>>,
    /// The first generation without it, when it was taken away.
    gone: Option<u64>,
}

impl LocalAddresses {
    /// All own addresses under `state`.
    pub(crate) fn compile(
        &mut self,
        state: &State,
        network: &Network,
        pools: &Pools,
        workers: usize,
        (generation, acknowledged): (u64, u64),
    ) -> Locals {
        let wanted = wanted(state, network, pools);
        self.0.retain(|address, known| {
            if wanted.contains_key(address) {
                return true;
            }
            let since = *known.gone.get_or_insert(generation);
            since > acknowledged || known.cells.sum(|cells| &cells.sessions) != 0
        });
        for (address, arp) in wanted {
            let cells = || Arc::new(PerWorker::new(workers));
            let known = self.0.entry(address).or_insert_with(|| Known { arp, cells: cells(), gone: None });
            (known.arp, known.gone) = (arp, None);
        }

        let mut locals = own(state, network);
        for (address, known) in &self.0 {
            let local = locals.entry(*address).or_insert(Local { arp: known.arp, ..Local::default() });
            local.pool = Some(known.cells.clone());
        }
        locals.into()
    }
}

/// Addresses of interfaces and VIPs.
fn own(state: &State, network: &Network) -> FastMap<IpAddr, Local> {
    let mut locals: FastMap<IpAddr, Local> = FastMap::default();
    for id in network.in_order(state) {
        for (address, _) in &network.of(id).addresses {
            locals.entry(*address).or_insert(Local { arp: Some(id), ..Local::default() });
        }
    }
    for service in &state.services {
        let Some(vip) = service.key.address() else { continue };
        if service.withheld {
            // Even if an interface was given the address, too.
            locals.insert(vip, Local { withheld: true, ..Local::default() });
            continue;
        }
        let holding = || Local { arp: network.holding(vip), ..Local::default() };
        let local = locals.entry(vip).or_insert_with(holding);
        // Several services share a VIP, and only one of them may say where it is.
        let named = service.interface.as_ref().and_then(|name| network.ids.get(name));
        local.arp = local.arp.or(named.copied());
    }
    locals
}

/// The local addresses of pools and of services, each with the interface that answers ARP for it.
fn wanted(state: &State, network: &Network, pools: &Pools) -> HashMap<IpAddr, Option<InterfaceId>> {
    let mut wanted = HashMap::new();
    for pool in &state.local_pools {
        let arp = network.ids.get(&pool.interface).copied();
        for range in pools[pool.name.as_str()].iter() {
            wanted.entry(range.address).or_insert(arp);
        }
    }
    for service in &state.services {
        let pool = service.local_pool.as_ref();
        let pool = pool.and_then(|name| state.local_pools.iter().find(|p| p.name == *name));
        let near = pool.and_then(|p| network.ids.get(&p.interface)).copied();
        for own in &service.local_addresses {
            wanted.entry(own.0).or_insert_with(|| near.or_else(|| network.holding(own.0)));
        }
    }
    wanted
}
