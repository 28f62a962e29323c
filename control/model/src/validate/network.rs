//! Rules for ports, interfaces, routes, neighbours and pools.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{
    MAX_RATE, Problem, add, holders, known_interface, link_local, listed, mss, mtu, name, own_address,
    unicast, unicast_mac,
};
use crate::state::{
    Bond, BondMode, Exception, Interface, LocalPool, Neighbour, NextHop, Port, PortSteering, Route,
    RouteTarget, Service, State,
};

/// Rules for a device.
pub fn port(port: &Port) -> Vec<Problem> {
    let mut found = Vec::new();
    name(&mut found, "a port", &port.name);
    match &port.bond {
        Some(its_bond) => bond(&mut found, port, its_bond),
        None if port.device.trim().is_empty() => add(
            &mut found,
            "device",
            "device is empty; a PCI address, a DPDK vdev string or a Linux interface name",
        ),
        None => {}
    }
    if let Some(mac) = port.mac {
        unicast_mac(&mut found, mac);
    }
    found
}

fn bond(found: &mut Vec<Problem>, port: &Port, bond: &Bond) {
    let mut say = |message: String| add(found, "bond", message);
    if !port.device.is_empty() {
        say(format!("a port has a device or a bond; leave `{}` or the bond out", port.device));
    }
    let members = &bond.members;
    if members.is_empty() || members.len() > Bond::MOST {
        say(format!("a bond has 1 to {} members, not {}", Bond::MOST, members.len()));
    }
    for (nth, member) in members.iter().enumerate() {
        if member.trim().is_empty() {
            say("a member is empty; a PCI address, a DPDK vdev string or a Linux interface name".to_owned());
        } else if members[..nth].contains(member) {
            say(format!("member `{member}` is listed twice"));
        }
    }
    if let BondMode::ActiveBackup { primary: Some(primary) } = &bond.mode
        && !members.contains(primary)
    {
        say(format!("primary `{primary}` is none of the members; {}", listed(members.iter())));
    }
    if !matches!(port.steering, PortSteering::Auto | PortSteering::Software) {
        let message = format!(
            "steering `{}` is not for a bond, whose members spread packets each in its own way; leave it out",
            port.steering
        );
        add(found, "steering", message);
    }
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
    let ipv6 = interface.addresses.iter().any(|net| net.addr().is_ipv6());
    mtu(&mut found, interface.mtu, ipv6);
    if let Some(value) = interface.mss {
        mss(&mut found, value);
    }
    if let Some(name) = &interface.exception {
        let twin =
            |other: &&Interface| other.name != interface.name && other.exception.as_ref() == Some(name);
        if !is_link_name(name) {
            let message = format!(
                "exception `{name}` is no name that Linux gives interfaces; 1 to 15 characters without `/`, `:` and \
                 spaces, such as \"fc-wan\""
            );
            add(&mut found, "exception", message);
        } else if let Some(other) = state.interfaces.iter().find(twin) {
            let message =
                format!("interface `{}` has the exception `{name}` too; each needs its own", other.name);
            add(&mut found, "exception", message);
        } else if state.ports.iter().any(|port| port.devices().contains(name)) {
            add(
                &mut found,
                "exception",
                format!("exception `{name}` is a port's device; give a name of its own"),
            );
        }
    }
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

/// Whether Linux may have an interface of that name.
fn is_link_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    (1..=15).contains(&name.len())
        && name.chars().all(fits)
        && !matches!(name, "." | ".." | "lo" | "all" | "default")
}

/// Rules for what goes up to the host.
pub fn exception(exception: &Exception) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, rate) in exception.rates() {
        if rate > MAX_RATE {
            add(&mut found, name, format!("{rate} frames a second are out of range; 0 to {MAX_RATE}"));
        }
    }
    if exception.management_ports.len() > MAX_MANAGEMENT_PORTS {
        let message = format!(
            "{} management ports are too many; at most {MAX_MANAGEMENT_PORTS}",
            exception.management_ports.len()
        );
        add(&mut found, "management-ports", message);
    }
    found
}

/// Ports of management at most: each is looked at for packets that go up.
const MAX_MANAGEMENT_PORTS: usize = 16;

/// Rules for a route in a state.
pub fn route(state: &State, route: &Route) -> Vec<Problem> {
    let mut found = Vec::new();
    if route.to.addr() != route.to.network() {
        let message = format!("{} has host bits set; {} would be right", route.to, route.to.trunc());
        add(&mut found, "to", message);
    }
    match &route.target {
        RouteTarget::Via(hops) => next_hops(&mut found, state, route, hops),
        RouteTarget::Interface(name) => known_interface(&mut found, state, name),
        RouteTarget::Unreachable | RouteTarget::Blackhole => {}
    }
    if let Some(value) = route.mtu {
        mtu(&mut found, value, route.to.addr().is_ipv6());
    }
    found
}

fn next_hops(found: &mut Vec<Problem>, state: &State, route: &Route, hops: &[NextHop]) {
    // Where it was written, as far as that can be told.
    let key = if hops.iter().all(|hop| hop.weight == 1) { "via" } else { "next-hop" };
    if hops.is_empty() || hops.len() > MAX_NEXT_HOPS {
        let message = format!("a route has 1 to {MAX_NEXT_HOPS} gateways, not {}", hops.len());
        return add(found, key, message);
    }
    for (item, hop) in hops.iter().enumerate() {
        let again = hops[..item].iter().any(|other| other.via == hop.via);
        let message = match gateway_problem(state, route, hop.via) {
            Some(message) => message,
            None if again => {
                format!("gateway {} is there twice; give it once, with a weight in `next-hop`", hop.via)
            }
            None if !WEIGHTS.contains(&hop.weight) => {
                let (first, last) = (WEIGHTS.start(), WEIGHTS.end());
                format!("weight {} of gateway {} is out of range; {first} to {last}", hop.weight, hop.via)
            }
            None => continue,
        };
        found.push(Problem { key, item: Some(item), message });
    }
}

/// Gateways of a route at most.
const MAX_NEXT_HOPS: usize = 32;

/// What a gateway's weight may be. // Linux: rtnh_hops is weight - 1 in a byte
pub const WEIGHTS: RangeInclusive<u16> = 1..=256;

/// Why a gateway cannot be one of a route.
fn gateway_problem(state: &State, route: &Route, gateway: IpAddr) -> Option<String> {
    let same_family = gateway.is_ipv4() == route.to.addr().is_ipv4();
    if !same_family {
        return Some(format!("gateway {gateway} and destination {} are of two families", route.to));
    }
    if own_address(state, gateway) {
        return Some(format!("gateway {gateway} is the director's own address; give the router's"));
    }
    match holders(state, gateway) {
        0 => {
            let subnets = listed(state.interfaces.iter().flat_map(|i| &i.addresses).map(|n| n.trunc()));
            Some(format!("gateway {gateway} is on no interface's subnet; {subnets}"))
        }
        1 => None,
        _ if link_local(gateway) => Some(format!(
            "gateway {gateway} is link-local and several interfaces have that subnet; give its global address"
        )),
        _ => None,
    }
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
        if range.first.is_ipv4() != range.last.is_ipv4() {
            say(format!("{}-{} is of two families", range.first, range.last));
            continue;
        }
        if range.first > range.last {
            say(format!("{}-{} ends before it begins; swap the two", range.first, range.last));
            continue;
        }
        if !unicast(range.first) || !unicast(range.last) || link_local(range.first) || link_local(range.last)
        {
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
