//! Interfaces, routes, neighbours: names and addresses resolved to numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use fulcrum_director::snapshot::{
    Gateway, Hop, Interface, InterfaceId, MarkRule, Neighbour, NextHop, NextHops, Port, Route, Vlans,
};
use fulcrum_model::{self as model, Family, PortRange, Protocol, RouteTarget, State};
use fulcrum_packet::ip::unspecified;
use ipnet::IpNet;

/// Which interface has which id. Workers keep ids in sessions and neighbour tables: an interface keeps its id as
/// long as its name, port and VLAN stay, and no other ever gets it.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Interface>);

/// Gateways of routes that have several: what is known of them outlives a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    known: BTreeMap<(InterfaceId, IpAddr), Gateway>,
    turns: Arc<AtomicU64>,
}

/// The network of one state.
pub(crate) struct Network {
    /// By id; those of past states have no address and no route.
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Vec<Route>,
    pub(crate) next_hops: NextHops,
    pub(crate) neighbours: Vec<Neighbour>,
    /// The ids of this state's interfaces, by name.
    pub(crate) ids: HashMap<String, InterfaceId>,
}

pub(crate) fn compile(
    state: &State,
    ports: &[Port],
    slots: &mut Slots,
    gateways: &mut Gateways,
    twins: &HashMap<String, String>,
    warnings: &mut Vec<String>,
) -> Network {
    for port in &state.ports {
        if !ports.iter().any(|p| p.name == port.name) {
            warnings.push(format!("port `{}` is not open; ports are opened at start", port.name));
        }
    }
    let ids = slots.interfaces(state, ports, twins, warnings);
    let next_hops = NextHops::counted_by(Arc::clone(&gateways.turns));
    let interfaces = slots.0.clone();
    let mut network = Network { interfaces, routes: Vec::new(), next_hops, neighbours: Vec::new(), ids };
    network.routes = network.connected(state);
    let fixed: Vec<Route> =
        state.routes.iter().filter_map(|r| network.route(r, gateways, warnings)).collect();
    network.next_hops.gateways = gateways.keep(&network.next_hops.list);
    network.routes.extend(fixed);
    // Stable: of two routes to one prefix the connected one, or the first one, counts.
    network.routes.sort_by_key(|route| std::cmp::Reverse(route.length));
    network.neighbours = state.neighbours.iter().filter_map(|n| network.neighbour(n, warnings)).collect();
    network
}

impl Gateways {
    fn of(&mut self, interface: InterfaceId, address: IpAddr) -> Gateway {
        let new = || Gateway::new(interface, address);
        self.known.entry((interface, address)).or_insert_with(new).clone()
    }

    /// Those of these next hops, each once; what a state does not have is forgotten.
    fn keep(&mut self, list: &[NextHop]) -> Vec<Gateway> {
        let now: BTreeSet<_> = list.iter().map(|hop| (hop.gateway.interface, hop.gateway.address)).collect();
        self.known.retain(|at, _| now.contains(at));
        self.known.values().cloned().collect()
    }
}

impl Slots {
    /// Brings the slots up to date with `state`; the ids of its interfaces by name.
    fn interfaces(
        &mut self,
        state: &State,
        ports: &[Port],
        twins: &HashMap<String, String>,
        warnings: &mut Vec<String>,
    ) -> HashMap<String, InterfaceId> {
        for past in &mut self.0 {
            past.addresses.clear();
            past.exception = false;
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
                addresses: addresses(interface, ports[number].mac),
                mss: interface.mss.unwrap_or(0),
                exception: interface.exception.is_some() && twins.get(name) == interface.exception.as_ref(),
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

/// The addresses of an interface; one with IPv6 also has a link-local one, from which neighbours hear of it.
fn addresses(interface: &model::Interface, mac: [u8; 6]) -> Vec<(IpAddr, u8)> {
    let mut list: Vec<(IpAddr, u8)> = Vec::new();
    for net in &interface.addresses {
        if list.iter().all(|(address, _)| *address != net.addr()) {
            list.push((net.addr(), net.prefix_len()));
        }
    }
    let is_link_local = |address: &IpAddr| matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    let v6 = list.iter().any(|(address, _)| address.is_ipv6());
    if v6 && !list.iter().any(|(address, _)| is_link_local(address)) {
        list.push((link_local(mac).into(), LINK_LOCAL));
    }
    list
}

/// Prefix length of link-local addresses.
const LINK_LOCAL: u8 = 64;

/// The link-local address that a MAC address gives (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// The subnet that an interface's address is in.
fn subnet((address, length): (IpAddr, u8)) -> IpNet {
    IpNet::new_assert(address, length.min(host_length(address))).trunc()
}

/// Prefix length of a single address.
pub(crate) fn host_length(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// Whether an interface's address brings a subnet with it.
fn is_real((address, length): &(IpAddr, u8)) -> bool {
    let link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    *length < host_length(*address) && !link_local
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
    pub(crate) fn by_vlan(&self) -> Vlans {
        self.ids.values().map(|id| ((self.of(*id).port, self.of(*id).vlan), *id)).collect()
    }

    /// One route per subnet; a single address (/32, /128) adds none.
    fn connected(&self, state: &State) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for id in self.in_order(state) {
            for (address, length) in self.of(id).addresses.iter().copied().filter(is_real) {
                let prefix = subnet((address, length)).network();
                if routes.iter().all(|r| (r.prefix, r.length) != (prefix, length)) {
                    routes.push(Route { prefix, length, hop: Hop::Link(id), mtu: 0, source: address });
                }
            }
        }
        routes
    }

    /// The interface whose subnet holds `address`, the smallest subnet if several do.
    pub(crate) fn holding(&self, address: IpAddr) -> Option<InterfaceId> {
        let subnets = self.interfaces.iter().zip(0..).flat_map(|(interface, id)| {
            let real = interface.addresses.iter().filter(|a| is_real(a));
            real.map(move |a| (subnet(*a), id))
        });
        let (_, id) = subnets
            .filter(|(net, _)| net.contains(&address))
            .max_by_key(|(net, id)| (net.prefix_len(), std::cmp::Reverse(*id)))?;
        Some(id)
    }

    /// The address that packets of our own to `towards` by this interface come from.
    fn source(&self, id: InterfaceId, towards: IpAddr) -> IpAddr {
        let addresses = &self.of(id).addresses;
        let near = addresses.iter().find(|a| is_real(a) && subnet(**a).contains(&towards));
        let mut family = addresses.iter().filter(|(address, _)| address.is_ipv6() == towards.is_ipv6());
        near.or(family.next()).map_or(unspecified(towards.is_ipv6()), |(address, _)| *address)
    }

    fn route(
        &mut self,
        route: &model::Route,
        gateways: &mut Gateways,
        warnings: &mut Vec<String>,
    ) -> Option<Route> {
        let to = route.to.trunc();
        let nowhere = unspecified(to.addr().is_ipv6());
        let (hop, source) = match &route.target {
            RouteTarget::Via(hops) => {
                let mut near = Vec::new();
                for hop in hops {
                    match self.holding(hop.via) {
                        Some(id) => near.push((id, *hop)),
                        None => warnings
                            .push(format!("route to {to}: gateway {} is on no interface's subnet", hop.via)),
                    }
                }
                match near[..] {
                    [] => return None,
                    [(id, hop)] => (Hop::Via(id, hop.via), self.source(id, hop.via)),
                    _ => (self.several(&near, gateways), nowhere),
                }
            }
            RouteTarget::Interface(name) => match self.ids.get(name) {
                Some(id) => (Hop::Link(*id), self.source(*id, to.network())),
                None => {
                    warnings.push(format!("route to {to}: there is no interface `{name}`"));
                    return None;
                }
            },
            RouteTarget::Unreachable => (Hop::Unreachable, nowhere),
            RouteTarget::Blackhole => (Hop::Blackhole, nowhere),
        };
        let (prefix, length) = (to.network(), to.prefix_len());
        Some(Route { prefix, length, hop, mtu: route.mtu.unwrap_or(0), source })
    }

    /// Takes in the next hops of a route.
    fn several(&mut self, near: &[(InterfaceId, model::NextHop)], gateways: &mut Gateways) -> Hop {
        let first = self.next_hops.list.len() as u32;
        for (id, model::NextHop { via, weight }) in near.iter().copied() {
            let gateway = gateways.of(id, via);
            let source = self.source(id, via);
            self.next_hops.list.push(NextHop::new(gateway, source, weight));
        }
        Hop::Several { first, count: near.len() as u32 }
    }

    /// The rules that mark packets; one of an interface that is not there marks none.
    pub(crate) fn marks(&self, state: &State, warnings: &mut Vec<String>) -> Vec<MarkRule> {
        let mut rules = Vec::new();
        for rule in &state.marks {
            let interface = match &rule.interface {
                None => None,
                Some(name) => match self.ids.get(name) {
                    Some(id) => Some(*id),
                    None => {
                        warnings.push(format!("mark {}: there is no interface `{name}`", rule.mark));
                        continue;
                    }
                },
            };
            let network = |net: &Option<IpNet>| net.map(|net| (net.network(), net.prefix_len()));
            let ports = |ports: &[PortRange]| ports.iter().map(|range| (range.first, range.last)).collect();
            rules.push(MarkRule {
                v6: rule.family.map(|family| family == Family::V6),
                protocol: rule.protocol.map(Protocol::number),
                source: network(&rule.source),
                destination: network(&rule.destination),
                source_ports: ports(&rule.source_ports),
                destination_ports: ports(&rule.destination_ports),
                interface,
                mark: rule.mark,
                mask: rule.mask,
            });
        }
        rules
    }

    fn neighbour(&self, neighbour: &model::Neighbour, warnings: &mut Vec<String>) -> Option<Neighbour> {
        let model::Neighbour { address, mac, interface } = neighbour;
        let Some(id) = self.ids.get(interface) else {
            warnings.push(format!("neighbour {address}: there is no interface `{interface}`"));
            return None;
        };
        Some(Neighbour { interface: *id, address: *address, mac: mac.0 })
    }
}
