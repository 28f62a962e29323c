//! The model's words for services and servers, in the engine's.

use std::net::IpAddr;
use std::sync::Arc;

use fulcrum_director::schedule::{self, Scheduler};
use fulcrum_director::snapshot::{
    self, ClientAddress, Destination, FTP, Forward, LocalRange, Persistence, Profile, Service, Timeouts,
    TunnelChecksum, TunnelKind,
};
use fulcrum_model::{self as model, PortRange, Protocol, ServiceKey, TimeoutState};

use crate::locals::{Pools, local_range};
use crate::seconds;
use crate::steering::NatServer;

pub(crate) fn number(protocol: Option<Protocol>) -> u8 {
    protocol.map_or(0, Protocol::number)
}

/// What answers of a NAT server come from, for its service. A mark's service takes every protocol; what comes to
/// other ports than the service's keeps them, and FTP's data goes by ports of its own.
pub(crate) fn nat_servers(
    service: &ServiceKey,
    server: &Destination,
) -> impl Iterator<Item = NatServer> + use<> {
    let every_port = service.port() == Some(0) || service.port() == Some(FTP);
    let (address, port) = (server.address, if every_port { 0 } else { server.port });
    let only = service.protocol();
    let protocols =
        Protocol::ALL.into_iter().filter(move |protocol| only.is_none_or(|only| only == *protocol));
    protocols.map(move |protocol| (protocol.number(), address, port))
}

/// How much of a client's address decides which worker a service's flows belong to; `None` when its port counts
/// too. FTP's data connections have other ports than their control connection.
pub(crate) fn steered_by(service: &model::Service) -> Option<u8> {
    let ftp = service.key.port() == Some(FTP) && service.key.protocol() == Some(Protocol::Tcp);
    let whole = ftp.then(|| service.key.family().bits());
    service.persistent.map(|_| service.prefix).or(whole)
}

pub(crate) fn tunnel(tunnel: model::Tunnel) -> snapshot::Tunnel {
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

/// The time-outs of a service's sessions: the director's where it has none of its own.
pub(crate) fn timeouts(service: Option<&model::Service>, global: &model::Timeouts) -> Timeouts {
    let own = |state| service.and_then(|service| service.timeouts.get(&state).copied());
    let of = |state: TimeoutState| seconds(own(state).unwrap_or_else(|| global.of(state)));
    Timeouts {
        tcp: std::array::from_fn(|state| of(TimeoutState::ALL[state])),
        udp: of(TimeoutState::Udp),
        sctp: std::array::from_fn(|state| of(TimeoutState::ALL[TimeoutState::SctpNone as usize + state])),
    }
}

/// What a service asks for its sessions' packets, with the director's time-outs where it has none of its own.
pub(crate) fn profile(service: &model::Service, global: &model::Timeouts) -> Profile {
    Profile {
        timeouts: timeouts(Some(service), global),
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

pub(crate) fn forward(forward: model::Forward) -> Forward {
    match forward {
        model::Forward::Nat => Forward::Nat,
        model::Forward::FullNat => Forward::FullNat,
        model::Forward::Dr | model::Forward::Local => Forward::Dr,
        model::Forward::Tun => Forward::Tun,
    }
}

pub(crate) fn persistence(service: &model::Service) -> Option<Persistence> {
    let (prefix, sip) = (service.prefix, service.persistence_engine.is_some());
    service.persistent.map(|timeout| Persistence { timeout: seconds(timeout), prefix, sip })
}

/// Whether a destination is what it was; which id and counters it has follows from its key.
pub(crate) fn same(before: &Destination, now: &Destination) -> bool {
    (before.available, before.forward, before.tunnel, before.weight)
        == (now.available, now.forward, now.tunnel, now.weight)
        && before.thresholds.limits() == now.thresholds.limits()
        && (Arc::ptr_eq(&before.tunnel_sources, &now.tunnel_sources)
            || before.tunnel_sources == now.tunnel_sources)
        && Arc::ptr_eq(&before.profile, &now.profile)
}

/// The last weight that was not 0; a server that comes back begins anew. // IPVS: __ip_vs_update_dest
pub(crate) fn last_weight(weight: u32, before: Option<&Destination>) -> u32 {
    match before {
        Some(before) if weight == 0 && before.available => before.last_weight,
        _ => weight,
    }
}

/// A destination as sessions see it after its deletion.
pub(crate) fn deleted(before: &Destination) -> Destination {
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
        profile: before.profile.clone(),
        local: before.local,
    }
}

/// The outer source addresses of a service's tunnels by flow, of IPv4 and of IPv6.
#[derive(Debug, Default)]
pub(crate) struct TunnelSources([Arc<[IpAddr]>; 2]);

impl TunnelSources {
    /// Takes over what a service has now, nothing where none of its servers wants it; whether that is something else.
    pub(crate) fn follow(&mut self, service: &model::Service, pools: &Pools) -> bool {
        let wanted = service.servers.iter().any(by_flow);
        let ranges = if wanted { local_ranges(service, pools) } else { Vec::new() };
        let mut changed = false;
        for (sources, v6) in self.0.iter_mut().zip([false, true]) {
            let of_family = ranges.iter().map(|range| range.address).filter(|own| own.is_ipv6() == v6);
            let now: Vec<IpAddr> = of_family.collect();
            if **sources != *now {
                *sources = now.into();
                changed = true;
            }
        }
        changed
    }

    /// Those for a server.
    pub(crate) fn of(&self, server: &model::Server) -> Arc<[IpAddr]> {
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
pub(crate) fn local_addresses(
    service: &model::Service,
    pools: &Pools,
    before: Option<&Service>,
) -> Arc<[LocalRange]> {
    // Thousands of services may share a pool.
    if let Some(pool) = named(service, pools)
        && service.local_addresses.is_empty()
    {
        return pool.clone();
    }
    let ranges = local_ranges(service, pools);
    match before {
        Some(before) if *before.local_addresses == *ranges => before.local_addresses.clone(),
        _ => ranges.into(),
    }
}

/// The named pool of a service.
fn named<'a>(service: &model::Service, pools: &'a Pools) -> Option<&'a Arc<[LocalRange]>> {
    pools.get(service.local_pool.as_deref()?)
}

fn local_ranges(service: &model::Service, pools: &Pools) -> Vec<LocalRange> {
    let mut ranges = Vec::new();
    if let Some(pool) = named(service, pools) {
        ranges.extend_from_slice(pool);
    }
    ranges.extend(service.local_addresses.iter().map(|own| local_range(own.0, PortRange::default())));
    ranges.sort_by_key(|range| range.address.is_ipv6());
    ranges
}

pub(crate) fn scheduler(
    service: &model::Service,
    before: Option<&Service>,
    destinations: &[Arc<Destination>],
    warnings: &mut Vec<String>,
) -> Box<dyn Scheduler> {
    let flags = service.scheduler_flags;
    let mut name = service.scheduler.as_str();
    if !schedule::NAMES.contains(&name) {
        warnings.push(format!("service {}: there is no scheduler `{name}`, wlc is used", service.key));
        name = "wlc";
    }
    let scheduler = match before {
        None => schedule::build_fresh(name, flags, destinations),
        Some(before) if before.scheduler.name() == name => {
            Some(before.scheduler.carry_over(flags, &before.destinations, destinations))
        }
        Some(_) => schedule::build(name, flags, destinations),
    };
    scheduler.expect("every name of NAMES builds")
}
