//! What lists show, put together from the desired state and what the data plane counted.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fulcrum_api::dataplane as wire;
use fulcrum_api::listing;
use fulcrum_model::ipvsadm::list::{ListedLocalAddress, ListedLocalAddresses, ListedService};
use fulcrum_model::{Forward, LocalPool, Service, ServiceKey, State};

use crate::{Client, Failure};

/// Addresses of one pool that are listed at most.
const POOL_LIMIT: usize = 4096;

/// All services, with those servers that the data plane is given, and their counters; with zeros, and the reason, when there is no data plane.
pub(super) async fn services(client: &mut Client) -> Result<(Vec<ListedService>, Option<String>), Failure> {
    let state = client.effective().await?;
    let (counted, missing) = match client.counters().await {
        Ok(counted) => (counted.services, None),
        Err(Failure::NoDataplane(why)) => (Vec::new(), Some(why)),
        Err(failure) => return Err(failure),
    };
    let mut services = listing::services(state.services, counted)?;
    let masqueraded: HashSet<ServiceKey> =
        state.overrides.iter().filter(|over| over.full_nat).map(|over| over.service).collect();
    for listed in services.iter_mut().filter(|listed| masqueraded.contains(&listed.service.key)) {
        // Who made it knows it by IPVS's word.
        for server in listed.servers.iter_mut().filter(|listed| listed.server.forward == Forward::FullNat) {
            server.server.forward = Forward::Nat;
        }
    }
    Ok((services, missing))
}

/// Local addresses of a service or of all that have some: those of the named pool, then the service's own.
pub(super) async fn local_addresses(
    client: &mut Client,
    service: Option<ServiceKey>,
) -> Result<Vec<ListedLocalAddresses>, Failure> {
    let state = client.state().await?;
    let status = client.status().await?;
    let mut used: HashMap<(String, String), wire::LocalPoolUse> = HashMap::new();
    for each in status.dataplane.unwrap_or_default().local_pools {
        used.insert((each.service.clone(), each.address.clone()), each);
    }
    let listed = |service: &Service| {
        let count = |address: IpAddr| {
            let found = used.get(&(service.key.to_string(), address.to_string()));
            ListedLocalAddress {
                address,
                conflicts: found.map_or(0, |f| f.conflicts),
                connections: found.map_or(0, |f| f.sessions),
            }
        };
        ListedLocalAddresses {
            service: service.key,
            addresses: addresses_of(&state, service).into_iter().map(count).collect(),
        }
    };
    let wanted = |s: &&Service| match service {
        Some(key) => s.key == key,
        None => s.local_pool.is_some() || !s.local_addresses.is_empty(),
    };
    Ok(state.services.iter().filter(wanted).map(listed).collect())
}

fn addresses_of(state: &State, service: &Service) -> Vec<IpAddr> {
    let pool = state.local_pools.iter().find(|pool| Some(&pool.name) == service.local_pool.as_ref());
    let mut addresses: Vec<IpAddr> = pool.into_iter().flat_map(pool_addresses).take(POOL_LIMIT).collect();
    for own in &service.local_addresses {
        if !addresses.contains(&own.0) {
            addresses.push(own.0);
        }
    }
    addresses
}

fn pool_addresses(pool: &LocalPool) -> impl Iterator<Item = IpAddr> {
    pool.addresses.iter().flat_map(fulcrum_model::AddressRange::iter)
}
