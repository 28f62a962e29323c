//! Devices, interfaces, routes, neighbours, pools: where packets come in and go out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Bond, Family, Mac};

/// A device the data plane drives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Port {
    /// Name that interfaces refer to.
    pub name: String,
    /// PCI address, DPDK vdev string or Linux interface name; empty where the port is a bond.
    #[serde(default)]
    pub device: String,
    /// The devices that it is made of, where it is a bond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
    /// MAC address to use instead of the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// How its packets are to come to the workers that own them.
    #[serde(default)]
    pub steering: PortSteering,
}

impl Port {
    /// The devices that it needs.
    pub fn devices(&self) -> &[String] {
        match &self.bond {
            Some(bond) => &bond.members,
            None => std::slice::from_ref(&self.device),
        }
    }

    /// What it is, for people.
    pub fn made_of(&self) -> String {
        self.bond.as_ref().map_or_else(|| self.device.clone(), Bond::to_string)
    }
}

/// How packets come to the workers that own their flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortSteering {
    /// As well as the device can, by both ends of a flow.
    #[default]
    Auto,
    /// Workers hand over what is not theirs.
    Software,
    /// The device's hash of both ends decides who owns a flow.
    Rss,
    /// Its hash of the source does: a port towards clients of NAT.
    RssSource,
    /// Its hash of the destination does: a port towards NAT servers.
    RssDestination,
    /// Rules bring answers to local addresses to their owners.
    Flow,
}

impl PortSteering {
    /// All of them with their names.
    pub const WORDS: [(&'static str, PortSteering); 6] = [
        ("auto", PortSteering::Auto),
        ("software", PortSteering::Software),
        ("rss", PortSteering::Rss),
        ("rss-source", PortSteering::RssSource),
        ("rss-destination", PortSteering::RssDestination),
        ("flow", PortSteering::Flow),
    ];
}

impl fmt::Display for PortSteering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = PortSteering::WORDS.iter().find(|(_, way)| way == self).map_or("auto", |(word, _)| word);
        f.write_str(word)
    }
}

/// A place where addresses live: a port, or one VLAN on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name that routes, pools and services refer to.
    pub name: String,
    /// Name of its port.
    pub port: String,
    /// 802.1Q VLAN id 1..=4094, 0 = untagged.
    pub vlan: u16,
    /// Largest IP packet in bytes, 576..=9000.
    pub mtu: u16,
    /// Own addresses with their subnets; the first of a subnet is the source towards it.
    pub addresses: Vec<IpNet>,
    /// Largest TCP segment in bytes that a SYN may announce through this interface, `None` = what it says.
    pub mss: Option<u16>,
    /// Name of its twin in Linux, which takes what is not the director's; `None` = there is none.
    pub exception: Option<String>,
}

/// What a route does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// Sends it to a gateway, or to one of several, which interfaces' subnets must hold; at least one.
    Via(Vec<NextHop>),
    /// Sends it to its destination on the interface of that name.
    Interface(String),
    /// Refuses it with ICMP host unreachable.
    Unreachable,
    /// Drops it silently.
    Blackhole,
}

impl RouteTarget {
    /// One gateway.
    pub fn via(gateway: IpAddr) -> RouteTarget {
        RouteTarget::Via(vec![NextHop::new(gateway)])
    }

    /// The gateways, none where it has no such.
    pub fn next_hops(&self) -> &[NextHop] {
        match self {
            RouteTarget::Via(hops) => hops,
            RouteTarget::Interface(_) | RouteTarget::Unreachable | RouteTarget::Blackhole => &[],
        }
    }
}

/// A gateway among those of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Its address.
    pub via: IpAddr,
    /// Its share of the flows, 1..=256, measured by the others'.
    pub weight: u16,
}

impl NextHop {
    /// One of weight 1.
    pub const fn new(via: IpAddr) -> NextHop {
        NextHop { via, weight: 1 }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            1 => self.via.fmt(f),
            weight => write!(f, "{} weight {weight}", self.via),
        }
    }
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix.
    pub to: IpNet,
    /// Next hop.
    pub target: RouteTarget,
    /// Largest IP packet on this route in bytes, `None` = the interface's.
    pub mtu: Option<u16>,
}

/// A neighbour that is never asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// IP address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
    /// Name of the interface it is on.
    pub interface: String,
}

/// A range of addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// First address.
    pub first: IpAddr,
    /// Last address, not before the first.
    pub last: IpAddr,
}

impl AddressRange {
    /// The range's family.
    pub const fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// Whether `address` is one of the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        // Of two families, V4 comes before V6 and is never between two addresses of the other.
        self.first <= address && address <= self.last
    }

    /// How many addresses it has, at most `u64::MAX`.
    pub fn len(&self) -> u64 {
        match self.offset(self.last) {
            Some(last) => u64::try_from(last).map_or(u64::MAX, |n| n.saturating_add(1)),
            None => 0,
        }
    }

    /// Whether it ends before it begins.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its addresses, first to last.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let first = self.first;
        (0..self.len()).map(move |offset| match first {
            IpAddr::V4(v4) => {
                let offset = u32::try_from(offset).expect("a range of IPv4 has as many addresses");
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() + offset))
            }
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() + u128::from(offset))),
        })
    }

    /// How far `address` is behind the first one.
    fn offset(&self, address: IpAddr) -> Option<u128> {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                address.to_bits().checked_sub(first.to_bits()).map(u128::from)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => address.to_bits().checked_sub(first.to_bits()),
            _ => None,
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not before the first.
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Default for PortRange {
    /// All unprivileged ports.
    fn default() -> PortRange {
        PortRange { first: 1024, last: 65535 }
    }
}

/// Local addresses and ports that FULLNAT servers see as clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPool {
    /// Name that services refer to.
    pub name: String,
    /// Name of the interface on which the addresses answer ARP.
    pub interface: String,
    /// The addresses.
    pub addresses: Vec<AddressRange>,
    /// The ports of each address.
    pub ports: PortRange,
}
