//! Rules for services and servers.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{
    MAX_TIMEOUT, MAX_WEIGHT, PERSISTENCE_ENGINES, Problem, SCHEDULERS, add, health, known_interface,
    link_local, listed, mss, one, own_address, pool_holds, switches, unicast, vip,
};
use crate::state::{
    ClientAddress, Family, Forward, LocalPool, Protocol, Server, Service, ServiceKey, State, Tunnel,
    TunnelChecksum, TunnelKind, TunnelSource,
};

/// The largest threshold of a server, as in IPVS.
const MAX_THRESHOLD: u32 = i32::MAX as u32;

/// The key of the file that names a service.
pub(super) const fn name_key(key: &ServiceKey) -> &'static str {
    match key {
        ServiceKey::Address { .. } => "address",
        ServiceKey::Mark { .. } => "mark",
    }
}

/// Who has an address.
pub(crate) struct Holders<'a> {
    state: &'a State,
    how: How,
}

/// How that is found out.
enum How {
    /// Nobody has those that matter, that is known.
    Nobody,
    /// The state is looked through each time.
    Search,
    /// It was looked through once: VIPs, local addresses.
    Index(HashMap<IpAddr, ServiceKey>, HashMap<IpAddr, ServiceKey>),
}

impl Holders<'_> {
    /// For judging something whose addresses no service of the state has.
    pub(crate) const fn nobody(state: &State) -> Holders<'_> {
        Holders { state, how: How::Nobody }
    }

    /// For judging one thing.
    pub(crate) const fn search(state: &State) -> Holders<'_> {
        Holders { state, how: How::Search }
    }

    /// For judging a whole state.
    pub(super) fn index(state: &State) -> Holders<'_> {
        let (mut vips, mut locals) = (HashMap::new(), HashMap::new());
        for service in &state.services {
            service.key.address().map(|vip| vips.entry(vip).or_insert(service.key));
            for own in &service.local_addresses {
                locals.entry(own.0).or_insert(service.key);
            }
        }
        Holders { state, how: How::Index(vips, locals) }
    }

    /// The first service with this VIP.
    fn of_vip(&self, address: IpAddr) -> Option<ServiceKey> {
        match &self.how {
            How::Nobody => None,
            How::Index(vips, _) => vips.get(&address).copied(),
            How::Search => {
                self.state.services.iter().map(|s| s.key).find(|key| key.address() == Some(address))
            }
        }
    }

    /// The first service with this local address of its own.
    fn of_local(&self, address: IpAddr) -> Option<ServiceKey> {
        let has = |s: &&Service| s.local_addresses.iter().any(|own| own.0 == address);
        match &self.how {
            How::Nobody => None,
            How::Index(_, locals) => locals.get(&address).copied(),
            How::Search => self.state.services.iter().find(has).map(|service| service.key),
        }
    }
}

/// Rules for a service in a state, its servers aside.
pub fn service(state: &State, service: &Service) -> Vec<Problem> {
    service_among(&Holders::search(state), service)
}

/// The same, where it is known who has addresses.
pub(crate) fn service_among(holders: &Holders<'_>, service: &Service) -> Vec<Problem> {
    let state = holders.state;
    let mut found = Vec::new();
    match service.key {
        ServiceKey::Address { address, .. } => vip(&mut found, holders, address),
        ServiceKey::Mark { mark: 0, .. } => {
            add(&mut found, "mark", "mark 0 is that of packets without a mark; 1 to 4294967295");
        }
        ServiceKey::Mark { .. } => {}
    }
    balance(&mut found, service);
    persistence(&mut found, service);
    sessions(&mut found, service);
    health::service(&mut found, service);
    vip::announcement(&mut found, service);
    if let Some(pool) = &service.local_pool
        && !state.local_pools.iter().any(|p| p.name == *pool)
    {
        let known = listed(state.local_pools.iter().map(|p| p.name.as_str()));
        add(&mut found, "local-pool", format!("there is no local pool `{pool}`; {known}"));
    }
    if let Some(name) = &service.interface {
        known_interface(&mut found, state, name);
    }
    for (item, address) in service.local_addresses.iter().enumerate() {
        for problem in local_address_among(holders, address.0) {
            found.push(Problem { key: "local-addresses", item: Some(item), ..problem });
        }
        if service.local_addresses[..item].contains(address) {
            let message = format!("local address {} is listed twice", address.0);
            found.push(Problem { key: "local-addresses", item: Some(item), message });
        }
        if Some(address.0) == service.key.address() {
            let vip = address.0;
            let message = format!("local address {vip} is the service's own VIP; give an address of its own");
            found.push(Problem { key: "local-addresses", item: Some(item), message });
        }
    }
    found
}

fn vip(found: &mut Vec<Problem>, holders: &Holders<'_>, vip: IpAddr) {
    let nobodys = match vip {
        IpAddr::V4(a) => a.is_unspecified() || a.is_multicast() || a.is_broadcast(),
        IpAddr::V6(_) => !unicast(vip),
    };
    if nobodys {
        let message = format!("{vip} cannot be a virtual address; give one that clients can connect to");
        add(found, "address", message);
    }
    if let Some(pool) = holders.state.local_pools.iter().find(|p| pool_holds(p, vip)) {
        let message = format!("{vip} belongs to local pool `{}`; a VIP cannot be a local address", pool.name);
        add(found, "address", message);
    }
    if let Some(other) = holders.of_local(vip) {
        let message = format!("{vip} is a local address of service {other}; a VIP cannot be one");
        add(found, "address", message);
    }
}

fn balance(found: &mut Vec<Problem>, service: &Service) {
    if !SCHEDULERS.contains(&service.scheduler.as_str()) {
        let known = SCHEDULERS.join(", ");
        add(found, "scheduler", format!("there is no scheduler `{}`; known: {known}", service.scheduler));
    }
    if service.scheduler_flags > 0b111 {
        let flags = service.scheduler_flags;
        add(found, "scheduler-flags", format!("scheduler flags {flags:#b} do not exist; flag-1 to flag-3"));
    }
    if service.one_packet && service.key.protocol().is_some_and(|protocol| protocol != Protocol::Udp) {
        add(found, "one-packet", "one-packet scheduling is for UDP services only; leave it away");
    }
}

fn persistence(found: &mut Vec<Problem>, service: &Service) {
    match service.persistent {
        Some(seconds) if !(1..=MAX_TIMEOUT).contains(&seconds) => {
            let message =
                format!("persistence of {seconds} s is out of range; 1 to {MAX_TIMEOUT}, 0 for off");
            add(found, "persistent", message);
        }
        None if service.key.port() == Some(0) => {
            let message = "port 0 (every port) needs a persistent service; give a port or `persistent`";
            add(found, "address", message);
        }
        _ => {}
    }
    let (least, most) = match service.key.family() {
        Family::V4 => (0, 32),
        Family::V6 => (1, 128), // IPVS takes no /0 of IPv6
    };
    if !(least..=most).contains(&service.prefix) {
        let message =
            format!("netmask of {} bits is out of range; {least} to {most} for this family", service.prefix);
        add(found, "netmask", message);
    }
    if let Some(engine) = &service.persistence_engine
        && !PERSISTENCE_ENGINES.contains(&engine.as_str())
    {
        let known = PERSISTENCE_ENGINES.join(", ");
        add(
            found,
            "persistence-engine",
            format!("there is no persistence engine `{engine}`; known: {known}"),
        );
    }
}

/// What sessions of the service are treated with.
fn sessions(found: &mut Vec<Problem>, service: &Service) {
    let protocol = service.key.protocol();
    switches::states(found, &service.timeouts, Some("timeouts"));
    let foreign = service.timeouts.keys().find(|state| protocol.is_some_and(|p| p != state.protocol()));
    if let (Some(state), Some(protocol)) = (foreign, protocol) {
        add(found, "timeouts", format!("a {protocol} service has no state {state}; leave it away"));
    }
    if let Some(value) = service.mss {
        mss(found, value);
        if protocol.is_some_and(|protocol| protocol != Protocol::Tcp) {
            add(found, "mss", "only TCP has segments; leave mss away");
        }
    }
    let tells = match service.client_address {
        ClientAddress::None => return,
        ClientAddress::Toa | ClientAddress::ProxyV1 => &[Protocol::Tcp][..],
        ClientAddress::ProxyV2 => &[Protocol::Tcp, Protocol::Udp],
    };
    if let Some(protocol) = protocol
        && !tells.contains(&protocol)
    {
        let way = service.client_address;
        let message =
            format!("client-address {way} is not for {protocol}; proxy-v2 does TCP and UDP, the others TCP");
        add(found, "client-address", message);
    }
}

/// Rules for a local address of a service's own in a state.
pub fn local_address(state: &State, address: IpAddr) -> Vec<Problem> {
    local_address_among(&Holders::search(state), address)
}

/// The same, where it is known who has addresses.
pub(crate) fn local_address_among(holders: &Holders<'_>, address: IpAddr) -> Vec<Problem> {
    let key = "local-addresses";
    if !unicast(address) || link_local(address) {
        one(key, format!("{address} is not an address that servers could answer to"))
    } else if own_address(holders.state, address) {
        one(key, format!("{address} is an interface's own address; a local address must be free"))
    } else if let Some(service) = holders.of_vip(address) {
        one(key, format!("{address} is the VIP of service {service}; a local address must be free"))
    } else {
        Vec::new()
    }
}

/// Rules for a server of a service.
pub fn server(service: ServiceKey, server: &Server) -> Vec<Problem> {
    let mut found = Vec::new();
    let address = server.key.address;
    let here = server.forward == Forward::Local && address.is_loopback();
    if !here && (!unicast(address) || link_local(address)) {
        add(&mut found, "address", format!("{address} is not an address that a server can have"));
    } else if Family::of(address) != service.family()
        && !matches!(server.forward, Forward::Tun | Forward::FullNat)
    {
        let (family, forward) = (service.family(), server.forward);
        let message = format!(
            "a {forward} server of this service must have an {family} address; of the other family may be tun and fullnat"
        );
        add(&mut found, "address", message);
    }
    if let Some(port) = service.port()
        && matches!(server.forward, Forward::Dr | Forward::Tun | Forward::Local)
        && server.key.port != port
    {
        let forward = server.forward;
        let message =
            format!("a {forward} server gets the packet as it is; its port must be the service's, {port}");
        add(&mut found, "address", message);
    }
    tunnel(&mut found, server);
    health::server(&mut found, server);
    if server.weight > MAX_WEIGHT {
        add(&mut found, "weight", format!("weight {} is out of range; 0 to {MAX_WEIGHT}", server.weight));
    }
    let (lower, upper) = (server.lower_threshold, server.upper_threshold);
    if upper > MAX_THRESHOLD {
        let message = format!("upper threshold {upper} is out of range; 0 to {MAX_THRESHOLD}");
        add(&mut found, "upper-threshold", message);
    }
    if lower > upper {
        let message = format!("lower threshold {lower} is above the upper one, {upper}");
        add(&mut found, "lower-threshold", message);
    }
    found
}

fn tunnel(found: &mut Vec<Problem>, server: &Server) {
    let tunnel = server.tunnel;
    if server.forward != Forward::Tun {
        let plain = Tunnel::default();
        let said = [
            (tunnel.kind != plain.kind, "tunnel"),
            (tunnel.checksum != plain.checksum, "tunnel-checksum"),
            (tunnel.source != plain.source, "tunnel-source"),
        ];
        if let Some((_, key)) = said.into_iter().find(|(said, _)| *said) {
            let message = format!("a {} server has no tunnel; only tun servers have", server.forward);
            add(found, key, message);
        }
        return;
    }
    let wrong = match (tunnel.kind, tunnel.checksum) {
        (TunnelKind::Ipip, TunnelChecksum::None)
        | (TunnelKind::Gre, TunnelChecksum::None | TunnelChecksum::Csum) => None,
        (TunnelKind::Ipip, _) => Some(("tunnel-checksum", "an ipip tunnel has no checksum; leave it away")),
        (TunnelKind::Gre, TunnelChecksum::Remcsum) => {
            Some(("tunnel-checksum", "a gre tunnel has no remcsum; none or csum"))
        }
        (TunnelKind::Gue { port: 0 }, _) => {
            Some(("tunnel-port", "a gue tunnel needs the UDP port of the server, 1 to 65535"))
        }
        (TunnelKind::Gue { .. }, _) => None,
    };
    if let Some((key, message)) = wrong {
        add(found, key, message);
    }
}

/// Which key of a server asks for local addresses, and in what words, if one does.
fn asks_for_local_address(server: &Server) -> Option<(&'static str, &'static str)> {
    match (server.forward, server.tunnel.source) {
        (Forward::FullNat, _) => Some(("forward", "is fullnat")),
        (Forward::Tun, TunnelSource::Local) => Some(("tunnel-source", "has tunnel-source `local`")),
        _ => None,
    }
}

/// The rule that spans a service and its servers: FULLNAT, and tunnels whose source they are, need local addresses of
/// the server's family. The first server that goes without is named by its place, the sorry server by none.
pub fn has_local_addresses(state: &State, service: &Service) -> Result<(), (Option<usize>, Problem)> {
    let named = |pool: &&LocalPool| Some(&pool.name) == service.local_pool.as_ref();
    let pool = state.local_pools.iter().find(named);
    // A pool that does not exist is a mistake of its own.
    if service.local_pool.is_some() && pool.is_none() {
        return Ok(());
    }
    let has = |family: Family| {
        service.local_addresses.iter().any(|own| Family::of(own.0) == family)
            || pool.is_some_and(|pool| pool.addresses.iter().any(|range| range.family() == family))
    };
    let (v4, v6) = (has(Family::V4), has(Family::V6));
    let sorry = service.health.sorry_server.iter().map(|sorry| (None, &**sorry));
    let servers = service.servers.iter().enumerate().map(|(nth, server)| (Some(nth), server));
    for (nth, server) in servers.chain(sorry) {
        let Some((key, words)) = asks_for_local_address(server) else { continue };
        let family = Family::of(server.key.address);
        let served = if family == Family::V4 { v4 } else { v6 };
        if served {
            continue;
        }
        let kind = if v4 || v6 { format!("{family} ") } else { String::new() };
        let message = format!(
            "server {} {words} but service {} has no {kind}local address; give the service a `local-pool` (or ipvsadm -P)",
            server.key, service.key
        );
        return Err((nth, Problem { key, item: None, message }));
    }
    Ok(())
}
