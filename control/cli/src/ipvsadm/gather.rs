//! What lists show, put together from the desired state and what the data plane counted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use fulcrum_api::convert::{self, BadMessage};
use fulcrum_api::dataplane as wire;
use fulcrum_model::ipvsadm::list::{
    Counters, ListedLocalAddress, ListedLocalAddresses, ListedServer, ListedService,
};
use fulcrum_model::ipvsadm::sessions::ListedSession;
use fulcrum_model::{LocalPool, Protocol, Server, ServerKey, Service, ServiceKey, State};

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
    let mut by_key = HashMap::new();
    for service in counted {
        if let Some(key) = service.key.clone() {
            by_key.insert(ServiceKey::try_from(key)?, service);
        }
    }
    let all: Result<Vec<_>, BadMessage> = state.services.into_iter().map(|s| listed(&by_key, s)).collect();
    Ok((all?, missing))
}

fn listed(
    counted: &HashMap<ServiceKey, wire::ServiceCounters>,
    service: Service,
) -> Result<ListedService, BadMessage> {
    let Some(found) = counted.get(&service.key) else { return Ok(ListedService::idle(service)) };
    let mut by_key = HashMap::new();
    for server in &found.servers {
        if let Some(key) = server.key.clone() {
            by_key.insert(ServerKey::try_from(key)?, server);
        }
    }
    let server = |server: &Server| {
        let found = by_key.get(&server.key);
        ListedServer {
            server: server.clone(),
            counters: found.map_or_else(Counters::default, |f| counters(f.counters.as_ref())),
            active: found.map_or(0, |f| f.active),
            inactive: found.map_or(0, |f| f.inactive),
            persistent: found.map_or(0, |f| f.persistent),
        }
    };
    let servers = service.servers.iter().map(server).collect();
    Ok(ListedService { counters: counters(found.counters.as_ref()), servers, service })
}

fn counters(from: Option<&wire::Counters>) -> Counters {
    from.map_or_else(Counters::default, |c| Counters {
        connections: c.connections,
        in_packets: c.in_packets,
        out_packets: c.out_packets,
        in_bytes: c.in_bytes,
        out_bytes: c.out_bytes,
        cps: c.cps,
        in_pps: c.in_pps,
        out_pps: c.out_pps,
        in_bps: c.in_bps,
        out_bps: c.out_bps,
    })
}

/// A session as it is listed.
pub(super) fn session(session: wire::Session) -> Result<ListedSession, BadMessage> {
    let end = |field: &str, bytes: &[u8], port| {
        Ok(SocketAddr::new(convert::address(field, bytes)?, convert::port(field, port)?))
    };
    let protocol = match session.protocol {
        0 => None,
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        other => return Err(BadMessage::new("protocol", format!("{other} is none of TCP, UDP, SCTP"))),
    };
    Ok(ListedSession {
        protocol,
        expires: session.expires_ms / 1000,
        client: end("client", &session.client, session.client_port)?,
        service: end("virtual", &session.r#virtual, session.virtual_port)?,
        server: end("server", &session.server, session.server_port)?,
        local: match session.local.is_empty() {
            true => None,
            false => Some(end("local", &session.local, session.local_port)?),
        },
        state: session.state,
        persistence: None,
    })
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
