//! What makes a state valid: the rules for one object and those that span several.
//!
//! Every rule says what is wrong and what would be right, and names the key it concerns, so that a file can
//! point at its line (`file`) and an edit can be refused (`edit`). A rule never changes anything.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::state::{
    AddressRange, Forward, Interface, LocalPool, Mac, MarkRule, Neighbour, Port, Route, RouteTarget, Server,
    Service, ServiceKey, Settings, State, Timeouts,
};

/// Schedulers that exist, by their IPVS names.
pub const SCHEDULERS: [&str; 4] = ["rr", "wrr", "lc", "wlc"];

/// The scheduler of a service that names none.
pub const DEFAULT_SCHEDULER: &str = "wlc";

/// The longest time-out and persistence in seconds: 31 days, as in ipvsadm.
pub const MAX_TIMEOUT: u32 = 31 * 24 * 3600;

/// The largest weight of a server, as in IPVS.
pub const MAX_WEIGHT: u32 = i32::MAX as u32;

/// Which object of a state a problem is about, by index into its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// `state.ports[_]`
    Port(usize),
    /// `state.interfaces[_]`
    Interface(usize),
    /// `state.routes[_]`
    Route(usize),
    /// `state.neighbours[_]`
    Neighbour(usize),
    /// `state.local_pools[_]`
    LocalPool(usize),
    /// `state.marks[_]`
    Mark(usize),
    /// `state.services[_]`
    Service(usize),
    /// `state.services[_].servers[_]`
    Server(usize, usize),
    /// `state.timeouts`
    Timeouts,
    /// `state.settings`
    Settings,
}

/// A broken rule about one object: the key of the configuration file that is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Key in the object's table of the file.
    pub key: &'static str,
    /// Which of the key's values, where it has several.
    pub item: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// All broken rules of a state, in the order of its lists.
pub fn state(state: &State) -> Vec<(Place, Problem)> {
    let mut found = Vec::new();
    let mut put =
        |place: Place, problems: Vec<Problem>| found.extend(problems.into_iter().map(|p| (place, p)));

    let mut names = Twice::default();
    let mut devices = Twice::default();
    for (at, port) in state.ports.iter().enumerate() {
        put(Place::Port(at), self::port(port));
        put(
            Place::Port(at),
            names.check("name", &port.name, || format!("two ports are called `{}`", port.name)),
        );
        let why = || format!("two ports have the device `{}`", port.device);
        put(Place::Port(at), devices.check("device", &port.device, why));
    }
    let (mut names, mut wires, mut own) = (Twice::default(), Twice::default(), Twice::default());
    for (at, interface) in state.interfaces.iter().enumerate() {
        put(Place::Interface(at), self::interface(state, interface));
        let why = || format!("two interfaces are called `{}`", interface.name);
        put(Place::Interface(at), names.check("name", &interface.name, why));
        let why = || match interface.vlan {
            0 => format!("two untagged interfaces on port `{}`; list all addresses in one", interface.port),
            vlan => format!(
                "two interfaces for VLAN {vlan} on port `{}`; list all addresses in one",
                interface.port
            ),
        };
        put(Place::Interface(at), wires.check("port", &(&interface.port, interface.vlan), why));
        for (item, net) in interface.addresses.iter().enumerate() {
            let why = || format!("address {} is listed twice among the interfaces", net.addr());
            let problems = own.check("addresses", &net.addr(), why);
            put(
                Place::Interface(at),
                problems.into_iter().map(|p| Problem { item: Some(item), ..p }).collect(),
            );
        }
    }
    let mut destinations = Twice::default();
    for (at, route) in state.routes.iter().enumerate() {
        put(Place::Route(at), self::route(state, route));
        put(Place::Route(at), destinations.check("to", &route.to, || format!("two routes to {}", route.to)));
    }
    let mut neighbours = Twice::default();
    for (at, neighbour) in state.neighbours.iter().enumerate() {
        put(Place::Neighbour(at), self::neighbour(state, neighbour));
        let why = || format!("two neighbours {} on `{}`", neighbour.address, neighbour.interface);
        let key = (&neighbour.interface, neighbour.address);
        put(Place::Neighbour(at), neighbours.check("address", &key, why));
    }
    let mut pools = Twice::default();
    for (at, pool) in state.local_pools.iter().enumerate() {
        put(Place::LocalPool(at), self::local_pool(state, pool));
        let why = || format!("two local pools are called `{}`", pool.name);
        put(Place::LocalPool(at), pools.check("name", &pool.name, why));
    }
    let mut services = Twice::default();
    for (at, service) in state.services.iter().enumerate() {
        put(Place::Service(at), self::service(state, service));
        put(
            Place::Service(at),
            services.check("address", &service.key, || format!("two services {}", service.key)),
        );
        let mut servers = Twice::default();
        for (nth, server) in service.servers.iter().enumerate() {
            let place = Place::Server(at, nth);
            put(place, self::server(service.key, server));
            let why = || format!("two servers {} of service {}", server.key, service.key);
            put(place, servers.check("address", &server.key, why));
        }
        if let Err(why) = fullnat_has_addresses(service) {
            let nth = service.servers.iter().position(|s| s.forward == Forward::FullNat).unwrap_or(0);
            put(Place::Server(at, nth), one("forward", why));
        }
    }
    put(Place::Timeouts, timeouts(&state.timeouts));
    put(Place::Settings, settings(&state.settings));
    found
}

/// Rules for a device.
pub fn port(port: &Port) -> Vec<Problem> {
    let mut found = Vec::new();
    name(&mut found, "a port", &port.name);
    if port.device.trim().is_empty() {
        add(
            &mut found,
            "device",
            "device is empty; a PCI address, a DPDK vdev string or a Linux interface name",
        );
    }
    if let Some(mac) = port.mac {
        unicast_mac(&mut found, mac);
    }
    found
}

/// Rules for an interface in a state.
pub fn interface(state: &State, interface: &Interface) -> Vec<Problem> {
    let mut found = Vec::new();
    name(&mut found, "an interface", &interface.name);
    if !state.ports.iter().any(|p| p.name == interface.port) {
        let known = listed(state.ports.iter().map(|p| p.name.as_str()));
        add(&mut found, "port", format!("there is no port `{}`; {known}", interface.port));
    }
    if interface.vlan > 4094 {
        add(
            &mut found,
            "vlan",
            format!("VLAN {} is out of range; 1 to 4094, 0 for untagged", interface.vlan),
        );
    }
    mtu(&mut found, interface.mtu);
    for (item, net) in interface.addresses.iter().enumerate() {
        let why = match net.addr() {
            address if !unicast(address) => Some("is not an address that a host can have".to_owned()),
            IpAddr::V4(a) if net.prefix_len() < 31 && IpAddr::V4(a) == net.network() => {
                Some("is its subnet's own address; give a host's address, e.g. with last byte 1".to_owned())
            }
            IpAddr::V4(a) if net.prefix_len() < 31 && IpAddr::V4(a) == net.broadcast() => {
                Some("is its subnet's broadcast address".to_owned())
            }
            _ => None,
        };
        if let Some(why) = why {
            found.push(Problem { key: "addresses", item: Some(item), message: format!("{net} {why}") });
        }
    }
    found
}

/// Rules for a route in a state.
pub fn route(state: &State, route: &Route) -> Vec<Problem> {
    let mut found = Vec::new();
    if route.to.addr() != route.to.network() {
        let message = format!("{} has host bits set; {} would be right", route.to, route.to.trunc());
        add(&mut found, "to", message);
    }
    match &route.target {
        RouteTarget::Via(gateway) => {
            let same_family = gateway.is_ipv4() == route.to.addr().is_ipv4();
            if !same_family {
                add(
                    &mut found,
                    "via",
                    format!("gateway {gateway} and destination {} are of two families", route.to),
                );
            } else if own_address(state, *gateway) {
                add(
                    &mut found,
                    "via",
                    format!("gateway {gateway} is the director's own address; give the router's"),
                );
            } else if !state.interfaces.iter().any(|i| i.addresses.iter().any(|n| n.contains(gateway))) {
                let subnets = listed(state.interfaces.iter().flat_map(|i| &i.addresses).map(|n| n.trunc()));
                add(&mut found, "via", format!("gateway {gateway} is on no interface's subnet; {subnets}"));
            }
        }
        RouteTarget::Interface(name) => known_interface(&mut found, state, name),
        RouteTarget::Unreachable | RouteTarget::Blackhole => {}
    }
    if let Some(value) = route.mtu {
        mtu(&mut found, value);
    }
    found
}

/// Rules for a neighbour in a state.
pub fn neighbour(state: &State, neighbour: &Neighbour) -> Vec<Problem> {
    let mut found = Vec::new();
    known_interface(&mut found, state, &neighbour.interface);
    unicast_mac(&mut found, neighbour.mac);
    if !unicast(neighbour.address) {
        add(&mut found, "address", format!("{} is not an address that a host can have", neighbour.address));
    } else if own_address(state, neighbour.address) {
        add(&mut found, "address", format!("{} is the director's own address", neighbour.address));
    }
    found
}

/// Rules for a pool of local addresses in a state.
pub fn local_pool(state: &State, pool: &LocalPool) -> Vec<Problem> {
    let mut found = Vec::new();
    name(&mut found, "a local pool", &pool.name);
    known_interface(&mut found, state, &pool.interface);
    if pool.addresses.is_empty() {
        add(
            &mut found,
            "addresses",
            "a local pool needs an address, such as \"192.168.20.200-192.168.20.203\"",
        );
    }
    if pool.ports.first == 0 || pool.ports.first > pool.ports.last {
        let message =
            format!("ports {}-{} are no range; such as \"1024-65535\"", pool.ports.first, pool.ports.last);
        add(&mut found, "ports", message);
    }
    for (item, range) in pool.addresses.iter().enumerate() {
        let mut say = |message: String| found.push(Problem { key: "addresses", item: Some(item), message });
        if range.first > range.last {
            say(format!("{}-{} ends before it begins; swap the two", range.first, range.last));
            continue;
        }
        if !unicast(range.first) || !unicast(range.last) {
            say(format!("{} holds addresses that no host can have", range));
            continue;
        }
        if let Some(other) =
            pool.addresses[..item].iter().find(|r| r.first <= range.last && range.first <= r.last)
        {
            say(format!("{range} and {other} overlap; list each address once"));
        }
        for interface in &state.interfaces {
            for net in interface.addresses.iter().filter(|n| range.contains(n.addr())) {
                let what = "a local pool needs addresses of its own";
                say(format!("{} is the address of interface `{}`; {what}", net.addr(), interface.name));
            }
        }
        let vip = |s: &Service| s.key.address().filter(|vip| range.contains(*vip)).map(|vip| (vip, s.key));
        let mut vips: Vec<_> = state.services.iter().filter_map(vip).collect();
        vips.dedup_by_key(|(vip, _)| *vip);
        for (vip, key) in vips {
            say(format!("{vip} is the VIP of service {key}; a local pool needs addresses of its own"));
        }
    }
    found
}

/// Rules for a service in a state, its servers aside.
pub fn service(state: &State, service: &Service) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(vip) = service.key.address() {
        self::vip(&mut found, state, vip);
    }
    if !SCHEDULERS.contains(&service.scheduler.as_str()) {
        let known = SCHEDULERS.join(", ");
        add(
            &mut found,
            "scheduler",
            format!("there is no scheduler `{}`; known: {known}", service.scheduler),
        );
    }
    match service.persistent {
        Some(seconds) if !(1..=MAX_TIMEOUT).contains(&seconds) => {
            let message =
                format!("persistence of {seconds} s is out of range; 1 to {MAX_TIMEOUT}, 0 for off");
            add(&mut found, "persistent", message);
        }
        None if service.key.port() == Some(0) => {
            add(
                &mut found,
                "address",
                "port 0 (every port) needs a persistent service; give a port or `persistent`",
            );
        }
        _ => {}
    }
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
        for problem in local_address(state, address.0) {
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

/// Rules for a VIP in a state.
fn vip(found: &mut Vec<Problem>, state: &State, vip: IpAddr) {
    match vip {
        IpAddr::V6(a) if a.is_unspecified() || a.is_multicast() => {
            let message = format!("{vip} cannot be a virtual address; give one that clients can connect to");
            add(found, "address", message);
        }
        IpAddr::V4(a) if a.is_unspecified() || a.is_multicast() || a.is_broadcast() => {
            let message = format!("{vip} cannot be a virtual address; give one that clients can connect to");
            add(found, "address", message);
        }
        _ => {}
    }
    if let Some(pool) = state.local_pools.iter().find(|p| pool_holds(p, vip)) {
        let message = format!("{vip} belongs to local pool `{}`; a VIP cannot be a local address", pool.name);
        add(found, "address", message);
    }
    let holder = |s: &&Service| s.local_addresses.iter().any(|a| a.0 == vip);
    if let Some(other) = state.services.iter().find(holder) {
        let message = format!("{vip} is a local address of service {}; a VIP cannot be one", other.key);
        add(found, "address", message);
    }
}

/// Rules for a local address of a service's own in a state.
pub fn local_address(state: &State, address: IpAddr) -> Vec<Problem> {
    let key = "local-addresses";
    if !unicast(address) {
        one(key, format!("{address} is not an address that a host can have"))
    } else if own_address(state, address) {
        one(key, format!("{address} is an interface's own address; a local address must be free"))
    } else if let Some(service) = state.services.iter().find(|s| s.key.address() == Some(address)) {
        one(key, format!("{address} is the VIP of service {}; a local address must be free", service.key))
    } else {
        Vec::new()
    }
}

/// Rules for a server of a service.
pub fn server(service: ServiceKey, server: &Server) -> Vec<Problem> {
    let mut found = Vec::new();
    let address = server.key.address;
    if !unicast(address) {
        add(&mut found, "address", format!("{address} is not an address that a server can have"));
    }
    if let Some(port) = service.port()
        && matches!(server.forward, Forward::Dr | Forward::Tun)
        && server.key.port != port
    {
        let forward = server.forward;
        let message =
            format!("a {forward} server gets the packet as it is; its port must be the service's, {port}");
        add(&mut found, "address", message);
    }
    if server.weight > MAX_WEIGHT {
        add(&mut found, "weight", format!("weight {} is out of range; 0 to {MAX_WEIGHT}", server.weight));
    }
    if server.lower_threshold > server.upper_threshold {
        let (lower, upper) = (server.lower_threshold, server.upper_threshold);
        let message = format!("lower threshold {lower} is above the upper one, {upper}");
        add(&mut found, "lower-threshold", message);
    }
    found
}

/// The rule that spans a service and its servers: FULLNAT needs local addresses.
pub fn fullnat_has_addresses(service: &Service) -> Result<(), String> {
    let starved = service.local_pool.is_none() && service.local_addresses.is_empty();
    match service.servers.iter().find(|s| s.forward == Forward::FullNat) {
        Some(server) if starved => Err(format!(
            "server {} is fullnat but service {} has no local address; give the service a `local-pool` (or ipvsadm -P)",
            server.key, service.key
        )),
        _ => Ok(()),
    }
}

/// Rules for the time-outs.
pub fn timeouts(timeouts: &Timeouts) -> Vec<Problem> {
    let mut found = Vec::new();
    for (key, value) in [("tcp", timeouts.tcp), ("tcp-fin", timeouts.tcp_fin), ("udp", timeouts.udp)] {
        if !(1..=MAX_TIMEOUT).contains(&value) {
            add(&mut found, key, format!("time-out {key} of {value} s is out of range; 1 to {MAX_TIMEOUT}"));
        }
    }
    found
}

/// Rules for the behaviour switches.
pub fn settings(settings: &Settings) -> Vec<Problem> {
    settings.check().into_iter().flat_map(|bad| one("", bad.to_string())).collect()
}

/// Rules for a rule that marks packets, in a state.
pub fn mark(state: &State, rule: &MarkRule) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(name) = &rule.interface {
        known_interface(&mut found, state, name);
    }
    found
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Finds what is listed twice.
struct Twice<K>(HashSet<K>);

impl<K> Default for Twice<K> {
    fn default() -> Twice<K> {
        Twice(HashSet::new())
    }
}

impl<K: Eq + Hash + Clone> Twice<K> {
    fn check(&mut self, key: &'static str, value: &K, why: impl FnOnce() -> String) -> Vec<Problem> {
        match self.0.insert(value.clone()) {
            true => Vec::new(),
            false => one(key, why()),
        }
    }
}

fn one(key: &'static str, message: impl Into<String>) -> Vec<Problem> {
    vec![Problem { key, item: None, message: message.into() }]
}

fn add(found: &mut Vec<Problem>, key: &'static str, message: impl Into<String>) {
    found.push(Problem { key, item: None, message: message.into() });
}

fn name(found: &mut Vec<Problem>, what: &str, name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        add(found, "name", format!("`{name}` cannot name {what}; use letters, digits and - _ . : @"));
    }
}

fn mtu(found: &mut Vec<Problem>, mtu: u16) {
    if !(576..=9000).contains(&mtu) {
        add(found, "mtu", format!("mtu {mtu} is out of range; 576 to 9000"));
    }
}

fn unicast_mac(found: &mut Vec<Problem>, mac: Mac) {
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        add(found, "mac", format!("{mac} is not the address of one station; such as 02:00:00:00:01:01"));
    }
}

fn known_interface(found: &mut Vec<Problem>, state: &State, name: &str) {
    if !state.interfaces.iter().any(|i| i.name == name) {
        let known = listed(state.interfaces.iter().map(|i| i.name.as_str()));
        add(found, "interface", format!("there is no interface `{name}`; {known}"));
    }
}

fn listed(names: impl Iterator<Item = impl fmt::Display>) -> String {
    let names: Vec<String> = names.map(|n| n.to_string()).collect();
    match names.is_empty() {
        true => "none is configured".to_owned(),
        false => format!("known: {}", names.join(", ")),
    }
}

fn own_address(state: &State, address: IpAddr) -> bool {
    state.interfaces.iter().any(|i| i.addresses.iter().any(|n: &IpNet| n.addr() == address))
}

fn unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified() || a.is_multicast() || a == Ipv4Addr::BROADCAST || a.octets()[0] >= 240)
        }
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast()),
    }
}

fn pool_holds(pool: &LocalPool, address: IpAddr) -> bool {
    pool.addresses.iter().any(|range| range.contains(address))
}
