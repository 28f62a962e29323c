//! Ports, interfaces, routes, neighbours, pools and marks as messages.

use fulcrum_model as model;
use ipnet::IpNet;

use super::service::{family, protocol};
use super::{BadMessage, Checked, address, address_bytes, each, mac, port, present, small};
use crate::state as wire;

impl From<&model::Port> for wire::Port {
    fn from(port: &model::Port) -> wire::Port {
        wire::Port {
            name: port.name.clone(),
            device: port.device.clone(),
            mac: port.mac.map(|mac| mac.0.to_vec()),
            steering: wire::PortSteering::from(port.steering).into(),
            bond: port.bond.as_ref().map(wire::Bond::from),
        }
    }
}

impl From<&model::Bond> for wire::Bond {
    fn from(bond: &model::Bond) -> wire::Bond {
        let mode = match &bond.mode {
            model::BondMode::ActiveBackup { primary } => {
                wire::bond::Mode::ActiveBackup(wire::bond::ActiveBackup { primary: primary.clone() })
            }
            model::BondMode::Lacp { hash } => {
                let hash = match hash {
                    model::BondHash::Layer34 => wire::BondHash::Layer34,
                    model::BondHash::Layer23 => wire::BondHash::Layer23,
                    model::BondHash::Layer2 => wire::BondHash::Layer2,
                };
                wire::bond::Mode::Lacp(wire::bond::Lacp { hash: hash.into() })
            }
        };
        wire::Bond { members: bond.members.clone(), mode: Some(mode) }
    }
}

impl TryFrom<wire::Bond> for model::Bond {
    type Error = BadMessage;

    fn try_from(bond: wire::Bond) -> Checked<model::Bond> {
        let mode = match present("mode", bond.mode)? {
            wire::bond::Mode::ActiveBackup(mode) => model::BondMode::ActiveBackup { primary: mode.primary },
            wire::bond::Mode::Lacp(mode) => {
                let hash = match wire::BondHash::try_from(mode.hash) {
                    Ok(wire::BondHash::Layer34) => model::BondHash::Layer34,
                    Ok(wire::BondHash::Layer23) => model::BondHash::Layer23,
                    Ok(wire::BondHash::Layer2) => model::BondHash::Layer2,
                    Err(_) => {
                        let problem = format!("{} is none of LAYER34 0, LAYER23 1, LAYER2 2", mode.hash);
                        return Err(BadMessage::new("hash", problem));
                    }
                };
                model::BondMode::Lacp { hash }
            }
        };
        Ok(model::Bond { mode, members: bond.members })
    }
}

impl From<model::PortSteering> for wire::PortSteering {
    fn from(way: model::PortSteering) -> wire::PortSteering {
        match way {
            model::PortSteering::Auto => wire::PortSteering::Auto,
            model::PortSteering::Software => wire::PortSteering::Software,
            model::PortSteering::Rss => wire::PortSteering::Rss,
            model::PortSteering::RssSource => wire::PortSteering::RssSource,
            model::PortSteering::RssDestination => wire::PortSteering::RssDestination,
            model::PortSteering::Flow => wire::PortSteering::Flow,
        }
    }
}

/// The way that a field called `steering` holds.
fn steering(number: i32) -> Checked<model::PortSteering> {
    match wire::PortSteering::try_from(number) {
        Ok(wire::PortSteering::Auto) => Ok(model::PortSteering::Auto),
        Ok(wire::PortSteering::Software) => Ok(model::PortSteering::Software),
        Ok(wire::PortSteering::Rss) => Ok(model::PortSteering::Rss),
        Ok(wire::PortSteering::RssSource) => Ok(model::PortSteering::RssSource),
        Ok(wire::PortSteering::RssDestination) => Ok(model::PortSteering::RssDestination),
        Ok(wire::PortSteering::Flow) => Ok(model::PortSteering::Flow),
        Err(_) => {
            let problem = format!(
                "{number} is none of AUTO 0, SOFTWARE 1, RSS 2, RSS_SOURCE 3, RSS_DESTINATION 4, FLOW 5"
            );
            Err(BadMessage::new("steering", problem))
        }
    }
}

impl TryFrom<wire::Port> for model::Port {
    type Error = BadMessage;

    fn try_from(port: wire::Port) -> Checked<model::Port> {
        let mac = port.mac.map(|bytes| mac("mac", &bytes)).transpose()?;
        let bond = port.bond.map(model::Bond::try_from).transpose().map_err(|bad| bad.within("bond"))?;
        let steering = steering(port.steering)?;
        Ok(model::Port { name: port.name, device: port.device, bond, mac, steering })
    }
}

impl From<&IpNet> for wire::Prefix {
    fn from(net: &IpNet) -> wire::Prefix {
        wire::Prefix { address: address_bytes(net.addr()), length: net.prefix_len().into() }
    }
}

impl TryFrom<wire::Prefix> for IpNet {
    type Error = BadMessage;

    fn try_from(prefix: wire::Prefix) -> Checked<IpNet> {
        let address = address("address", &prefix.address)?;
        let bad = || BadMessage::new("length", format!("{} is no prefix length of {address}", prefix.length));
        IpNet::new(address, u8::try_from(prefix.length).map_err(|_| bad())?).map_err(|_| bad())
    }
}

impl From<&model::Interface> for wire::Interface {
    fn from(interface: &model::Interface) -> wire::Interface {
        wire::Interface {
            name: interface.name.clone(),
            port: interface.port.clone(),
            vlan: interface.vlan.into(),
            mtu: interface.mtu.into(),
            addresses: interface.addresses.iter().map(Into::into).collect(),
            mss: interface.mss.map(Into::into),
            exception: interface.exception.clone(),
        }
    }
}

impl TryFrom<wire::Interface> for model::Interface {
    type Error = BadMessage;

    fn try_from(interface: wire::Interface) -> Checked<model::Interface> {
        Ok(model::Interface {
            name: interface.name,
            port: interface.port,
            vlan: small("vlan", interface.vlan)?,
            mtu: small("mtu", interface.mtu)?,
            addresses: each("addresses", interface.addresses)?,
            mss: interface.mss.map(|mss| small("mss", mss)).transpose()?,
            exception: interface.exception,
        })
    }
}

impl From<&model::Exception> for wire::Exception {
    fn from(exception: &model::Exception) -> wire::Exception {
        let model::Exception { routing, link, management, answers, rest, ref management_ports } = *exception;
        let management_ports = management_ports.iter().copied().map(Into::into).collect();
        wire::Exception { routing, link, management, answers, rest, management_ports }
    }
}

impl TryFrom<wire::Exception> for model::Exception {
    type Error = BadMessage;

    fn try_from(exception: wire::Exception) -> Checked<model::Exception> {
        let wire::Exception { routing, link, management, answers, rest, management_ports } = exception;
        let ports = management_ports.into_iter().map(|number| port("management_ports", number));
        let management_ports = ports.collect::<Checked<_>>()?;
        Ok(model::Exception { routing, link, management, answers, rest, management_ports })
    }
}

impl From<&model::NextHop> for wire::NextHop {
    fn from(hop: &model::NextHop) -> wire::NextHop {
        wire::NextHop { via: address_bytes(hop.via), weight: hop.weight.into() }
    }
}

impl TryFrom<wire::NextHop> for model::NextHop {
    type Error = BadMessage;

    fn try_from(hop: wire::NextHop) -> Checked<model::NextHop> {
        Ok(model::NextHop { via: address("via", &hop.via)?, weight: small("weight", hop.weight)? })
    }
}

impl From<&model::Route> for wire::Route {
    fn from(route: &model::Route) -> wire::Route {
        use wire::route::Target;
        wire::Route {
            to: Some((&route.to).into()),
            target: Some(match &route.target {
                model::RouteTarget::Via(hops) => match hops[..] {
                    [model::NextHop { via, weight: 1 }] => Target::Via(address_bytes(via)),
                    _ => Target::NextHops(wire::NextHops { list: hops.iter().map(Into::into).collect() }),
                },
                model::RouteTarget::Interface(name) => Target::Interface(name.clone()),
                model::RouteTarget::Unreachable => Target::Unreachable(true),
                model::RouteTarget::Blackhole => Target::Blackhole(true),
            }),
            mtu: route.mtu.map(Into::into),
        }
    }
}

impl TryFrom<wire::Route> for model::Route {
    type Error = BadMessage;

    fn try_from(route: wire::Route) -> Checked<model::Route> {
        use wire::route::Target;
        Ok(model::Route {
            to: present("to", route.to)?.try_into().map_err(|bad: BadMessage| bad.within("to"))?,
            target: match present("target", route.target)? {
                Target::Via(bytes) => model::RouteTarget::via(address("via", &bytes)?),
                Target::NextHops(hops) => model::RouteTarget::Via(each("next_hops", hops.list)?),
                Target::Interface(name) => model::RouteTarget::Interface(name),
                Target::Unreachable(_) => model::RouteTarget::Unreachable,
                Target::Blackhole(_) => model::RouteTarget::Blackhole,
            },
            mtu: route.mtu.map(|mtu| small("mtu", mtu)).transpose()?,
        })
    }
}

impl From<&model::Neighbour> for wire::Neighbour {
    fn from(neighbour: &model::Neighbour) -> wire::Neighbour {
        wire::Neighbour {
            address: address_bytes(neighbour.address),
            mac: neighbour.mac.0.to_vec(),
            interface: neighbour.interface.clone(),
        }
    }
}

impl TryFrom<wire::Neighbour> for model::Neighbour {
    type Error = BadMessage;

    fn try_from(neighbour: wire::Neighbour) -> Checked<model::Neighbour> {
        Ok(model::Neighbour {
            address: address("address", &neighbour.address)?,
            mac: mac("mac", &neighbour.mac)?,
            interface: neighbour.interface,
        })
    }
}

impl From<&model::AddressRange> for wire::AddressRange {
    fn from(range: &model::AddressRange) -> wire::AddressRange {
        wire::AddressRange { first: address_bytes(range.first), last: address_bytes(range.last) }
    }
}

impl TryFrom<wire::AddressRange> for model::AddressRange {
    type Error = BadMessage;

    fn try_from(range: wire::AddressRange) -> Checked<model::AddressRange> {
        let (first, last) = (address("first", &range.first)?, address("last", &range.last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(BadMessage::new("last", format!("{last} is not of the family of {first}")));
        }
        if last < first {
            return Err(BadMessage::new("last", format!("{last} comes before {first}")));
        }
        Ok(model::AddressRange { first, last })
    }
}

impl From<&model::LocalPool> for wire::LocalPool {
    fn from(pool: &model::LocalPool) -> wire::LocalPool {
        wire::LocalPool {
            name: pool.name.clone(),
            interface: pool.interface.clone(),
            addresses: pool.addresses.iter().map(Into::into).collect(),
            first_port: pool.ports.first.into(),
            last_port: pool.ports.last.into(),
        }
    }
}

impl TryFrom<wire::LocalPool> for model::LocalPool {
    type Error = BadMessage;

    fn try_from(pool: wire::LocalPool) -> Checked<model::LocalPool> {
        let (first, last) = (port("first_port", pool.first_port)?, port("last_port", pool.last_port)?);
        if first == 0 || last < first {
            return Err(BadMessage::new("first_port", format!("{first}-{last} is no range of ports")));
        }
        Ok(model::LocalPool {
            name: pool.name,
            interface: pool.interface,
            addresses: each("addresses", pool.addresses)?,
            ports: model::PortRange { first, last },
        })
    }
}

impl From<&model::PortRange> for wire::PortRange {
    fn from(range: &model::PortRange) -> wire::PortRange {
        wire::PortRange { first: range.first.into(), last: range.last.into() }
    }
}

impl TryFrom<wire::PortRange> for model::PortRange {
    type Error = BadMessage;

    fn try_from(range: wire::PortRange) -> Checked<model::PortRange> {
        let (first, last) = (port("first", range.first)?, port("last", range.last)?);
        match first <= last {
            true => Ok(model::PortRange { first, last }),
            false => Err(BadMessage::new("last", format!("{last} comes before {first}"))),
        }
    }
}

impl From<&model::Snat> for wire::Snat {
    fn from(rule: &model::Snat) -> wire::Snat {
        wire::Snat {
            name: rule.name.clone(),
            source: Some((&rule.source).into()),
            destination: rule.destination.as_ref().map(Into::into),
            protocol: rule.protocol.map(|protocol| protocol.number(model::Family::V4).into()),
            destination_ports: rule.destination_ports.iter().map(Into::into).collect(),
            pool: rule.pool.clone(),
        }
    }
}

impl TryFrom<wire::Snat> for model::Snat {
    type Error = BadMessage;

    fn try_from(rule: wire::Snat) -> Checked<model::Snat> {
        let net = |field: &'static str, prefix: wire::Prefix| -> Checked<ipnet::IpNet> {
            prefix.try_into().map_err(|bad: BadMessage| bad.within(field))
        };
        let protocol = |number: u32| {
            let known = model::SnatProtocol::WORDS.iter().map(|(_, protocol)| *protocol);
            let mut fits = known.filter(|protocol| u32::from(protocol.number(model::Family::V4)) == number);
            fits.next()
                .ok_or_else(|| BadMessage::new("protocol", format!("{number} is none that is masqueraded")))
        };
        Ok(model::Snat {
            name: rule.name,
            source: net("source", present("source", rule.source)?)?,
            destination: rule.destination.map(|prefix| net("destination", prefix)).transpose()?,
            protocol: rule.protocol.map(protocol).transpose()?,
            destination_ports: each("destination_ports", rule.destination_ports)?,
            pool: rule.pool,
        })
    }
}

impl From<&model::MarkRule> for wire::MarkRule {
    fn from(rule: &model::MarkRule) -> wire::MarkRule {
        wire::MarkRule {
            family: rule.family.map_or(0, |family| wire::Family::from(family).into()),
            protocol: rule.protocol.map_or(0, |protocol| wire::Protocol::from(protocol).into()),
            source: rule.source.as_ref().map(Into::into),
            destination: rule.destination.as_ref().map(Into::into),
            source_ports: rule.source_ports.iter().map(Into::into).collect(),
            destination_ports: rule.destination_ports.iter().map(Into::into).collect(),
            interface: rule.interface.clone(),
            mark: rule.mark,
            mask: rule.mask,
        }
    }
}

impl TryFrom<wire::MarkRule> for model::MarkRule {
    type Error = BadMessage;

    fn try_from(rule: wire::MarkRule) -> Checked<model::MarkRule> {
        let prefix = |field: &str, prefix: Option<wire::Prefix>| {
            prefix.map(|p| IpNet::try_from(p).map_err(|bad| bad.within(field))).transpose()
        };
        Ok(model::MarkRule {
            family: (rule.family != 0).then(|| family(rule.family)).transpose()?,
            protocol: (rule.protocol != 0).then(|| protocol(rule.protocol)).transpose()?,
            source: prefix("source", rule.source)?,
            destination: prefix("destination", rule.destination)?,
            source_ports: each("source_ports", rule.source_ports)?,
            destination_ports: each("destination_ports", rule.destination_ports)?,
            interface: rule.interface,
            mark: rule.mark,
            mask: rule.mask,
        })
    }
}
