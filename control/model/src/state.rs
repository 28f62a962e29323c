//! The nouns of a director's configuration.
//!
//! Plain data with public fields; rules that span several objects are in `validate`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is not six hexadecimal bytes joined by colons.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address such as 02:00:00:00:01:01")]
pub struct BadMac(pub String);

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Mac, BadMac> {
        let bad = || BadMac(text.to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| (1..=2).contains(&p.len())).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Mac(bytes))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Mac, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A transport protocol that services balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// How a packet reaches its real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Masquerading: destination rewritten, answers come back through the director.
    Nat,
    /// Source and destination rewritten, the source from a pool of local addresses.
    FullNat,
    /// Direct routing: only the MAC address changes; ipvsadm's default.
    #[default]
    Dr,
    /// IP in IP to the server.
    Tun,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forward::Nat => "nat",
            Forward::FullNat => "fullnat",
            Forward::Dr => "dr",
            Forward::Tun => "tun",
        })
    }
}

/// What a virtual service is known by: the service of two equal keys is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// VIP.
    pub address: IpAddr,
    /// Port, 0 for every port (persistent services only).
    pub port: u16,
}

/// A real server of a service: address and port; a service lists each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey {
    /// RIP.
    pub address: IpAddr,
    /// Port; 0 keeps the port that the client asked for.
    pub port: u16,
}

/// A real server (IPVS: destination).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address and port.
    pub key: ServerKey,
    /// Forwarding method.
    pub forward: Forward,
    /// 0..=2147483647; 0 quiesces.
    pub weight: u32,
    /// Connections from which on the server is overloaded, 0 = no limit. Kept and listed, not yet enforced.
    pub upper_threshold: u32,
    /// Connections below which it is not overloaded any more, 0 = three quarters of the upper one.
    pub lower_threshold: u32,
}

/// Local addresses that belong to one service alone (`ipvsadm -P`), beside those of its named pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalAddress(pub IpAddr);

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Protocol, VIP and port.
    pub key: ServiceKey,
    /// Scheduler by its IPVS name, e.g. `wlc`.
    pub scheduler: String,
    /// Persistence time-out in seconds, `None` = not persistent.
    pub persistent: Option<u32>,
    /// Persistence granularity: clients that agree under this mask share a template. All ones by default.
    pub netmask: Ipv4Addr,
    /// Name of the pool whose addresses FULLNAT servers of this service see as clients.
    pub local_pool: Option<String>,
    /// Further local addresses of this service's own, in order of addition.
    pub local_addresses: Vec<LocalAddress>,
    /// Interface on which the VIP answers ARP when no interface's address or subnet decides.
    pub interface: Option<String>,
    /// Real servers in order of addition, oldest first (schedulers walk them newest first, as in IPVS).
    pub servers: Vec<Server>,
}

/// A device the data plane drives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Port {
    /// Name that interfaces refer to.
    pub name: String,
    /// PCI address, DPDK vdev string or Linux interface name.
    pub device: String,
    /// MAC address to use instead of the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
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
}

/// What a route does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// Sends it to a gateway (which an interface's subnet must hold).
    Via(IpAddr),
    /// Sends it to its destination on the interface of that name.
    Interface(String),
    /// Refuses it with ICMP host unreachable.
    Unreachable,
    /// Drops it silently.
    Blackhole,
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

/// A range of IPv4 addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address, not before the first.
    pub last: Ipv4Addr,
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// First port, at least 1.
    pub first: u16,
    /// Last port, not before the first.
    pub last: u16,
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

/// Time-outs that `ipvsadm --set` changes, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP ESTABLISHED, 900 by default.
    pub tcp: u32,
    /// TCP FIN_WAIT, 120 by default.
    pub tcp_fin: u32,
    /// UDP, 300 by default.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { tcp: 900, tcp_fin: 120, udp: 300 }
    }
}

/// The settings that IPVS keeps under `net.ipv4.vs`, and the director's own; names and defaults are the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// 1: a packet of a session whose server was deleted ends the session; 0: such packets are dropped.
    pub expire_nodest_conn: bool,
    /// 0: a SYN on a closing session stays with it; 1: it is scheduled anew.
    pub conn_reuse_mode: u8,
    /// Whether a template of a server of weight 0 is left.
    pub expire_quiescent_template: bool,
    /// Whether a segment other than SYN (never RST) may open a session.
    pub sloppy_tcp: bool,
    /// Whether a NAT server's packet that fits no session is answered with port unreachable.
    pub nat_icmp_send: bool,
    /// Whether packets that are for nobody here are routed on (the host's `ip_forward`).
    pub ip_forward: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            expire_nodest_conn: false,
            conn_reuse_mode: 1,
            expire_quiescent_template: false,
            sloppy_tcp: false,
            nat_icmp_send: false,
            ip_forward: true,
        }
    }
}

/// Everything that the data plane is programmed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Devices; their order is the order of port numbers in the data plane.
    pub ports: Vec<Port>,
    /// Interfaces on them.
    pub interfaces: Vec<Interface>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Static neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Pools of local addresses.
    pub local_pools: Vec<LocalPool>,
    /// Virtual services in order of addition, oldest first.
    pub services: Vec<Service>,
    /// Time-outs of `--set`.
    pub timeouts: Timeouts,
    /// Behaviour switches.
    pub settings: Settings,
}
