//! Interfaces, routes, neighbours: names and addresses resolved to numbers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use fulcrum_director::snapshot::{FastMap, Hop, Interface, InterfaceId, Neighbour, Port, Route};
use fulcrum_model::{self as model, RouteTarget, State};
use ipnet::{IpNet, Ipv4Net};

/// Which interface has which id. Workers keep ids in sessions and neighbour tables: an interface keeps its id as
/// long as its name, port and VLAN stay, and no other ever gets it.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Interface>);

/// The network of one state.
pub(crate) struct Network {
    /// By id; those of past states have no address and no route.
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Vec<Route>,
    pub(crate) neighbours: Vec<Neighbour>,
    /// The ids of this state's interfaces, by name.
    pub(crate) ids: HashMap<String, InterfaceId>,
}

pub(crate) fn compile(
    state: &State,
    ports: &[Port],
    slots: &mut Slots,
    warnings: &mut Vec<String>,
) -> Network {
    for port in &state.ports {
        if !ports.iter().any(|p| p.name == port.name) {
            warnings.push(format!("port `{}` is not open; ports are opened at start", port.name));
        }
    }
    let ids = slots.interfaces(state, ports, warnings);
    let mut network =
        Network { interfaces: slots.0.clone(), routes: Vec::new(), neighbours: Vec::new(), ids };
    network.routes = network.connected(state);
    let fixed: Vec<Route> = state.routes.iter().filter_map(|r| network.route(r, warnings)).collect();
    network.routes.extend(fixed);
    // Stable: of two routes to one prefix the connected one, or the first one, counts.
    network.routes.sort_by_key(|route| std::cmp::Reverse(route.length));
    network.neighbours = state.neighbours.iter().filter_map(|n| network.neighbour(n, warnings)).collect();
    network
}

impl Slots {
    /// Brings the slots up to date with `state`; the ids of its interfaces by name.
    fn interfaces(
        &mut self,
        state: &State,
        ports: &[Port],
        warnings: &mut Vec<String>,
    ) -> HashMap<String, InterfaceId> {
        for past in &mut self.0 {
            past.addresses.clear();
        }
        let mut ids = HashMap::new();
        for interface in &state.interfaces {
            let name = &interface.name;
            let Some(number) = ports.iter().position(|p| p.name == interface.port) else {
                warnings.push(format!("interface `{name}`: port `{}` is not open", interface.port));
                continue;
            };
            let port = u16::try_from(number).unwrap_or(u16::MAX);
            let known = |i: &Interface| i.name == *name && i.port == port && i.vlan == interface.vlan;
            let slot = self.0.iter().position(known).unwrap_or(self.0.len());
            let Ok(id) = InterfaceId::try_from(slot) else {
                warnings.push(format!("interface `{name}`: too many interfaces since the start"));
                continue;
            };
            let now = Interface {
                name: name.clone(),
                port,
                vlan: interface.vlan,
                mtu: interface.mtu,
                mac: ports[number].mac,
                addresses: addresses(interface, warnings),
            };
            match self.0.get_mut(slot) {
                Some(before) => *before = now,
                None => self.0.push(now),
            }
            ids.insert(name.clone(), id);
        }
        ids
    }
}

fn addresses(interface: &model::Interface, warnings: &mut Vec<String>) -> Vec<(Ipv4Addr, u8)> {
    let mut list: Vec<(Ipv4Addr, u8)> = Vec::new();
    for net in &interface.addresses {
        match net {
            IpNet::V4(net) if list.iter().all(|(a, _)| *a != net.addr()) => {
                list.push((net.addr(), net.prefix_len()));
            }
            IpNet::V4(_) => {}
            IpNet::V6(net) => {
                warnings.push(format!("interface `{}`: {net} is IPv6, not used yet", interface.name));
            }
        }
    }
    list
}

/// The subnet that an interface's address is in.
fn subnet((address, length): (Ipv4Addr, u8)) -> Ipv4Net {
    Ipv4Net::new_assert(address, length.min(32)).trunc()
}

impl Network {
    /// The ids of this state's interfaces, in its order.
    pub(crate) fn in_order<'a>(&'a self, state: &'a State) -> impl Iterator<Item = InterfaceId> + 'a {
        state.interfaces.iter().filter_map(|i| self.ids.get(&i.name).copied())
    }

    pub(crate) fn of(&self, id: InterfaceId) -> &Interface {
        &self.interfaces[usize::from(id)]
    }

    /// Interfaces by port and VLAN.
    pub(crate) fn by_vlan(&self) -> FastMap<(u16, u16), InterfaceId> {
        self.ids.values().map(|id| ((self.of(*id).port, self.of(*id).vlan), *id)).collect()
    }

    /// One route per subnet; a single address (/32) adds none.
    fn connected(&self, state: &State) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for id in self.in_order(state) {
            for (address, length) in self.of(id).addresses.iter().copied().filter(|(_, length)| *length < 32)
            {
                let prefix = subnet((address, length)).network();
                if routes.iter().all(|r| (r.prefix, r.length) != (prefix, length)) {
                    routes.push(Route { prefix, length, hop: Hop::Link(id), mtu: 0, source: address });
                }
            }
        }
        routes
    }

    /// The interface whose subnet holds `address`, the smallest subnet if several do.
    pub(crate) fn holding(&self, address: Ipv4Addr) -> Option<InterfaceId> {
        let subnets = self.interfaces.iter().zip(0..).flat_map(|(interface, id)| {
            let real = interface.addresses.iter().filter(|(_, length)| *length < 32);
            real.map(move |a| (subnet(*a), id))
        });
        let (_, id) = subnets
            .filter(|(net, _)| net.contains(&address))
            .max_by_key(|(net, id)| (net.prefix_len(), std::cmp::Reverse(*id)))?;
        Some(id)
    }

    /// The address that packets of our own to `towards` by this interface come from.
    fn source(&self, id: InterfaceId, towards: Ipv4Addr) -> Ipv4Addr {
        let addresses = &self.of(id).addresses;
        let near = addresses.iter().find(|a| a.1 < 32 && subnet(**a).contains(&towards));
        near.or(addresses.first()).map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| *address)
    }

    fn route(&self, route: &model::Route, warnings: &mut Vec<String>) -> Option<Route> {
        let IpNet::V4(to) = route.to else {
            warnings.push(format!("route to {}: IPv6, not used yet", route.to));
            return None;
        };
        let to = to.trunc();
        let (hop, source) = match &route.target {
            RouteTarget::Via(IpAddr::V4(gateway)) => match self.holding(*gateway) {
                Some(id) => (Hop::Via(id, *gateway), self.source(id, *gateway)),
                None => {
                    warnings.push(format!("route to {to}: gateway {gateway} is on no interface's subnet"));
                    return None;
                }
            },
            RouteTarget::Via(gateway) => {
                warnings.push(format!("route to {to}: gateway {gateway} is IPv6"));
                return None;
            }
            RouteTarget::Interface(name) => match self.ids.get(name) {
                Some(id) => (Hop::Link(*id), self.source(*id, to.network())),
                None => {
                    warnings.push(format!("route to {to}: there is no interface `{name}`"));
                    return None;
                }
            },
            RouteTarget::Unreachable => (Hop::Unreachable, Ipv4Addr::UNSPECIFIED),
            RouteTarget::Blackhole => (Hop::Blackhole, Ipv4Addr::UNSPECIFIED),
        };
        let (prefix, length) = (to.network(), to.prefix_len());
        Some(Route { prefix, length, hop, mtu: route.mtu.unwrap_or(0), source })
    }

    fn neighbour(&self, neighbour: &model::Neighbour, warnings: &mut Vec<String>) -> Option<Neighbour> {
        let model::Neighbour { address, mac, interface } = neighbour;
        let IpAddr::V4(address) = *address else {
            warnings.push(format!("neighbour {address}: IPv6, not used yet"));
            return None;
        };
        let Some(id) = self.ids.get(interface) else {
            warnings.push(format!("neighbour {address}: there is no interface `{interface}`"));
            return None;
        };
        Some(Neighbour { interface: *id, address, mac: mac.0 })
    }
}
