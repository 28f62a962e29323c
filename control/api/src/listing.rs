//! What lists show, put together from a state and what the data plane counted: the model's rows from messages.

use std::collections::HashMap;
use std::net::SocketAddr;

use fulcrum_model::ipvsadm::list::{Counters, ListedServer, ListedService};
use fulcrum_model::ipvsadm::sessions::ListedSession;
use fulcrum_model::{Protocol, Server, ServerKey, Service, ServiceKey};

use crate::BadMessage;
use crate::convert::{address, port};
use crate::dataplane as wire;

/// Services with their counters; zeros of those that the data plane does not have.
pub fn services(
    services: impl IntoIterator<Item = Service>,
    counted: Vec<wire::ServiceCounters>,
) -> Result<Vec<ListedService>, BadMessage> {
    let mut by_key = HashMap::with_capacity(counted.len());
    for service in counted {
        if let Some(key) = service.key.clone() {
            by_key.insert(ServiceKey::try_from(key)?, service);
        }
    }
    services.into_iter().map(|service| listed(&by_key, service)).collect()
}

fn listed(
    counted: &HashMap<ServiceKey, wire::ServiceCounters>,
    service: Service,
) -> Result<ListedService, BadMessage> {
    let Some(found) = counted.get(&service.key) else { return Ok(ListedService::idle(service)) };
    let mut by_key = HashMap::with_capacity(found.servers.len());
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

/// Counters as they are listed; zeros when there are none.
pub fn counters(from: Option<&wire::Counters>) -> Counters {
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
pub fn session(session: wire::Session) -> Result<ListedSession, BadMessage> {
    let end = |field: &str, bytes: &[u8], number| {
        Ok::<_, BadMessage>(SocketAddr::new(address(field, bytes)?, port(field, number)?))
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
