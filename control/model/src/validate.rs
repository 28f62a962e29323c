//! What makes a state valid: the rules for one object and those that span several.
//!
//! Every rule says what is wrong and what would be right, and names the key it concerns, so that a file can
//! point at its line (`file`) and an edit can be refused (`edit`). A rule never changes anything. Ports to pools
//! are in `network`, services and servers in `service`, rules that mark packets in `mark`, checks in `check`, time-outs and settings
//! in `switches`.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::state::{LocalPool, Mac, State};

mod check;
mod health;
mod mark;
mod network;
mod overrides;
mod service;
mod snat;
mod switches;
mod vip;

pub use check::{
    CHECK_BYTES, CHECK_INTERVAL, CHECK_ROW, CHECK_TIMEOUT, CHECK_WARM_UP, check, nameless_check,
};
pub use health::{MAX_DRAIN_UNTIL, can_be_checked, service_health, sorry_server};
pub use mark::mark;
pub use network::{WEIGHTS, exception, interface, local_pool, neighbour, port, route};
pub use overrides::over;
pub(crate) use service::{Holders, local_address_among, service_among};
pub use service::{has_local_addresses, local_address, server, service};
pub use snat::snat;
pub use switches::{settings, timeouts};
pub use vip::{MAX_ANNOUNCE_AFTER, host_interface};

/// Schedulers that exist, by their IPVS names, in the order of ipvsadm's help.
pub const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"];

/// The scheduler of a service that names none.
pub const DEFAULT_SCHEDULER: &str = "wlc";

/// The longest time-out and persistence in seconds: 31 days, as in ipvsadm.
pub const MAX_TIMEOUT: u32 = 31 * 24 * 3600;

/// The largest weight of a server, as in IPVS.
pub const MAX_WEIGHT: u32 = i32::MAX as u32;

/// The longest slow start in seconds: a day.
pub const MAX_SLOW_START: u32 = 24 * 3600;

/// Persistence engines that exist, by their IPVS names.
pub const PERSISTENCE_ENGINES: [&str; 1] = ["sip"];

/// The largest mtu of an interface, in bytes.
pub const MAX_MTU: u16 = 9000;

/// The highest rate of frames for the host, in frames a second.
pub const MAX_RATE: u32 = 10_000_000;

/// What a bound on TCP segments may be, in bytes; Linux too knows none below 88.
pub const MSS: std::ops::RangeInclusive<u16> = 88..=8960;

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
    /// `state.snat[_]`
    Snat(usize),
    /// `state.overrides[_]`
    Override(usize),
    /// `state.checks[_]`
    Check(usize),
    /// `state.services[_]`
    Service(usize),
    /// `state.services[_].servers[_]`
    Server(usize, usize),
    /// `state.services[_].health.own_checks[_]`
    OwnCheck(usize, usize),
    /// `state.services[_].health.sorry_server`
    SorryServer(usize),
    /// `state.timeouts`
    Timeouts,
    /// `state.settings`
    Settings,
    /// `state.exception`
    Exception,
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
        let key = if port.bond.is_some() { "bond" } else { "device" };
        let mut own = HashSet::new();
        // What a bond lists twice itself is said above.
        for device in port.devices().iter().filter(|device| own.insert(*device)) {
            let why = || format!("two ports have the device `{device}`");
            put(Place::Port(at), devices.check(key, device, why));
        }
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
            // A link-local address has to be unique on its link only.
            let link = link_local(net.addr()).then_some(at);
            let problems = own.check("addresses", &(net.addr(), link), why);
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
    for (at, rule) in state.marks.iter().enumerate() {
        put(Place::Mark(at), self::mark(state, rule));
    }
    let mut rules = Twice::default();
    for (at, rule) in state.snat.iter().enumerate() {
        put(Place::Snat(at), self::snat(state, rule));
        let why = || format!("two snat rules are called `{}`", rule.name);
        put(Place::Snat(at), rules.check("name", &rule.name, why));
    }
    let mut checks = Twice::default();
    for (at, check) in state.checks.iter().enumerate() {
        put(Place::Check(at), self::check(check));
        let why = || format!("two checks are called `{}`", check.name);
        put(Place::Check(at), checks.check("name", &check.name, why));
    }
    let mut overrides = Twice::default();
    for (at, over) in state.overrides.iter().enumerate() {
        put(Place::Override(at), self::over(state, over));
        let why = || format!("two overrides of service {}", over.service);
        put(Place::Override(at), overrides.check(service::name_key(&over.service), &over.service, why));
    }
    let mut services = Twice::default();
    let holders = Holders::index(state);
    for (at, service) in state.services.iter().enumerate() {
        put(Place::Service(at), service_among(&holders, service));
        put(
            Place::Service(at),
            services.check(service::name_key(&service.key), &service.key, || {
                format!("two services {}", service.key)
            }),
        );
        let mut servers = Twice::default();
        for (nth, server) in service.servers.iter().enumerate() {
            let place = Place::Server(at, nth);
            put(place, self::server(service.key, server));
            let why = || format!("two servers {} of service {}", server.key, service.key);
            put(place, servers.check("address", &server.key, why));
        }
        put(Place::SorryServer(at), sorry_server(service));
        for (nth, own) in service.health.own_checks.iter().enumerate() {
            put(Place::OwnCheck(at, nth), health::own_check(own));
        }
        let service = &*state.overridden(service);
        if let Err((nth, problem)) = can_be_checked(state, service) {
            put(nth.map_or(Place::Service(at), |nth| Place::Server(at, nth)), vec![problem]);
        }
        if let Err((nth, problem)) = has_local_addresses(state, service) {
            put(nth.map_or(Place::SorryServer(at), |nth| Place::Server(at, nth)), vec![problem]);
        }
    }
    put(Place::Timeouts, timeouts(&state.timeouts));
    put(Place::Settings, settings(&state.settings));
    put(Place::Exception, exception(&state.exception));
    found
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

fn mtu(found: &mut Vec<Problem>, mtu: u16, ipv6: bool) {
    // RFC 8200: a link that carries IPv6 carries packets of 1280 bytes.
    let least = if ipv6 { 1280 } else { 576 };
    if !(least..=MAX_MTU).contains(&mtu) {
        let why = if ipv6 { " with IPv6" } else { "" };
        add(found, "mtu", format!("mtu {mtu} is out of range; {least} to {MAX_MTU}{why}"));
    }
}

fn mss(found: &mut Vec<Problem>, mss: u16) {
    if !MSS.contains(&mss) {
        add(found, "mss", format!("mss {mss} is out of range; {} to {}", MSS.start(), MSS.end()));
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

/// The interfaces that have a subnet which holds `address`.
fn holders(state: &State, address: IpAddr) -> usize {
    state.interfaces.iter().filter(|i| i.addresses.iter().any(|net| net.contains(&address))).count()
}

fn link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

fn unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified() || a.is_multicast() || a == Ipv4Addr::BROADCAST || a.octets()[0] >= 240)
        }
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast() || a.to_ipv4_mapped().is_some()),
    }
}

fn pool_holds(pool: &LocalPool, address: IpAddr) -> bool {
    pool.addresses.iter().any(|range| range.contains(address))
}
