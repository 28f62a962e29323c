//! Virtual services and their real servers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Admin, Announcement, Family, Protocol, ServerHealth, ServiceHealth, StateTimeouts};

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
    /// In a tunnel to the server.
    Tun,
    /// As it is to the director's own host, by the exception interface.
    Local,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forward::Nat => "nat",
            Forward::FullNat => "fullnat",
            Forward::Dr => "dr",
            Forward::Tun => "tun",
            Forward::Local => "local",
        })
    }
}

/// What a TUN server's packets travel in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP in IP (RFC 2003, RFC 2473).
    #[default]
    Ipip,
    /// GRE (RFC 2784).
    Gre,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the server, at least 1.
        port: u16,
    },
}

/// What guards the outside of a tunnelled packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelChecksum {
    /// Nothing; the only choice of IP in IP.
    #[default]
    None,
    /// A checksum over everything: GRE's, or the UDP header's of GUE.
    Csum,
    /// GUE's remote checksum offload.
    Remcsum,
}

/// Where the outer source address of a tunnel comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelSource {
    /// The director's address on the way to the server.
    #[default]
    Interface,
    /// The service's local addresses, a flow always the same one: servers spread flows over their receive queues.
    Local,
}

/// How a TUN server gets its packets. IP in IP without a checksum by default, and always for other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// Its checksum.
    pub checksum: TunnelChecksum,
    /// Its outer source address.
    pub source: TunnelSource,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TunnelKind::Ipip => f.write_str("ipip")?,
            TunnelKind::Gre => f.write_str("gre")?,
            TunnelKind::Gue { port } => write!(f, "gue:{port}")?,
        }
        f.write_str(match self.checksum {
            TunnelChecksum::None => "",
            TunnelChecksum::Csum => " csum",
            TunnelChecksum::Remcsum => " remcsum",
        })?;
        f.write_str(match self.source {
            TunnelSource::Interface => "",
            TunnelSource::Local => " local",
        })
    }
}

/// How a FULLNAT server learns the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// It does not.
    #[default]
    None,
    /// By a TCP option of the first segments.
    Toa,
    /// By a PROXY protocol header of version 1, in words.
    ProxyV1,
    /// By a PROXY protocol header of version 2, in bytes.
    ProxyV2,
}

impl ClientAddress {
    /// All of them.
    pub const ALL: [ClientAddress; 4] =
        [ClientAddress::None, ClientAddress::Toa, ClientAddress::ProxyV1, ClientAddress::ProxyV2];

    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            ClientAddress::None => "none",
            ClientAddress::Toa => "toa",
            ClientAddress::ProxyV1 => "proxy-v1",
            ClientAddress::ProxyV2 => "proxy-v2",
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a virtual service is known by: the service of two equal keys is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// What goes to an address and a port of it.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP.
        address: IpAddr,
        /// Port, 0 for every port (persistent services only).
        port: u16,
    },
    /// What carries a mark, whatever its protocol, address and port.
    Mark {
        /// Address family of its packets.
        family: Family,
        /// The mark, not 0.
        mark: u32,
    },
}

impl ServiceKey {
    /// A service by address and port.
    pub const fn new(protocol: Protocol, address: IpAddr, port: u16) -> ServiceKey {
        ServiceKey::Address { protocol, address, port }
    }

    /// Transport protocol; `None` of a service by mark.
    pub const fn protocol(&self) -> Option<Protocol> {
        match self {
            ServiceKey::Address { protocol, .. } => Some(*protocol),
            ServiceKey::Mark { .. } => None,
        }
    }

    /// VIP; `None` of a service by mark.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            ServiceKey::Address { address, .. } => Some(*address),
            ServiceKey::Mark { .. } => None,
        }
    }

    /// Port, 0 for every port; `None` of a service by mark.
    pub const fn port(&self) -> Option<u16> {
        match self {
            ServiceKey::Address { port, .. } => Some(*port),
            ServiceKey::Mark { .. } => None,
        }
    }

    /// Mark; `None` of a service by address.
    pub const fn mark(&self) -> Option<u32> {
        match self {
            ServiceKey::Address { .. } => None,
            ServiceKey::Mark { mark, .. } => Some(*mark),
        }
    }

    /// Address family of its clients.
    pub const fn family(&self) -> Family {
        match self {
            ServiceKey::Address { address, .. } => Family::of(*address),
            ServiceKey::Mark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ServiceKey::Address { protocol, address, port } => {
                write!(f, "{protocol} {}", std::net::SocketAddr::new(address, port))
            }
            ServiceKey::Mark { family: Family::V4, mark } => write!(f, "fwm {mark}"),
            ServiceKey::Mark { family: Family::V6, mark } => write!(f, "fwm {mark} IPv6"),
        }
    }
}

/// A real server of a service: address and port; a service lists each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey {
    /// RIP.
    pub address: IpAddr,
    /// Port; 0 keeps the port that the client asked for.
    pub port: u16,
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A real server (IPVS: destination).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address and port.
    pub key: ServerKey,
    /// Forwarding method.
    pub forward: Forward,
    /// How packets reach a TUN server.
    pub tunnel: Tunnel,
    /// 0..=2147483647; 0 quiesces.
    pub weight: u32,
    /// Connections from which on the server is overloaded, 0 = no limit.
    pub upper_threshold: u32,
    /// Connections below which it is not overloaded any more, 0 = three quarters of the upper one.
    pub lower_threshold: u32,
    /// What the operator wants of it.
    pub admin: Admin,
    /// What is special about its checks.
    pub health: ServerHealth,
}

impl Server {
    /// A server of weight 1 without anything special.
    pub const fn new(key: ServerKey, forward: Forward) -> Server {
        let tunnel = Tunnel {
            kind: TunnelKind::Ipip,
            checksum: TunnelChecksum::None,
            source: TunnelSource::Interface,
        };
        let health = ServerHealth { checks: None, on_failure: None, address: None, port: None };
        let admin = Admin::Enabled;
        Server { key, forward, tunnel, weight: 1, upper_threshold: 0, lower_threshold: 0, admin, health }
    }
}

/// Local addresses that belong to one service alone (`ipvsadm -P`), beside those of its named pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalAddress(pub IpAddr);

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Protocol, VIP and port, or mark.
    pub key: ServiceKey,
    /// Scheduler by its IPVS name, e.g. `wlc`.
    pub scheduler: String,
    /// Bit n-1 is IPVS's `flag-n`; sh and mh call flag-1 fallback and flag-2 port.
    pub scheduler_flags: u8,
    /// Whether every datagram is scheduled anew (UDP only).
    pub one_packet: bool,
    /// Persistence time-out in seconds, `None` = not persistent.
    pub persistent: Option<u32>,
    /// Persistence granularity: clients that agree in so many bits share a template. 32 or 128 by default.
    pub prefix: u8,
    /// What persistence goes by instead of the client's address, e.g. `sip`.
    pub persistence_engine: Option<String>,
    /// Name of the pool whose addresses FULLNAT servers of this service see as clients.
    pub local_pool: Option<String>,
    /// Further local addresses of this service's own, in order of addition.
    pub local_addresses: Vec<LocalAddress>,
    /// Interface on which the VIP answers ARP or neighbour solicitations when no interface's address or subnet
    /// decides.
    pub interface: Option<String>,
    /// Time-outs that differ from the global ones.
    pub timeouts: StateTimeouts,
    /// Largest TCP segment in bytes that a SYN of this service may announce, `None` = what it says.
    pub mss: Option<u16>,
    /// How FULLNAT servers learn the client's address.
    pub client_address: ClientAddress,
    /// What follows from checks of its servers.
    pub health: ServiceHealth,
    /// How its VIP is announced.
    pub announcement: Announcement,
    /// Whether the director does not have the VIP now. Control says so to the data plane; a file never does.
    pub withheld: bool,
    /// Real servers in order of addition, oldest first (schedulers walk them newest first, as in IPVS).
    pub servers: Vec<Server>,
}

impl Service {
    /// A service without servers and without anything special.
    pub fn new(key: ServiceKey, scheduler: &str) -> Service {
        Service {
            key,
            scheduler: scheduler.to_owned(),
            scheduler_flags: 0,
            one_packet: false,
            persistent: None,
            prefix: key.family().bits(),
            persistence_engine: None,
            local_pool: None,
            local_addresses: Vec::new(),
            interface: None,
            timeouts: StateTimeouts::new(),
            mss: None,
            client_address: ClientAddress::None,
            health: ServiceHealth::default(),
            announcement: Announcement::default(),
            withheld: false,
            servers: Vec::new(),
        }
    }

    /// The flags that are set, in ipvsadm's words for this scheduler.
    pub fn scheduler_flag_names(&self) -> Vec<&'static str> {
        let set = |(bit, name): (usize, &'static str)| (self.scheduler_flags & 1 << bit != 0).then_some(name);
        scheduler_flag_words(&self.scheduler).into_iter().enumerate().filter_map(set).collect()
    }

    /// The persistence granularity as ipvsadm writes it, a dotted mask for IPv4 and a length for IPv6; `None`
    /// when it is whole addresses.
    pub fn mask(&self) -> Option<String> {
        match self.key.family() {
            family if self.prefix == family.bits() => None,
            Family::V4 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                Some(Ipv4Addr::from_bits(mask).to_string())
            }
            Family::V6 => Some(self.prefix.to_string()),
        }
    }
}

/// ipvsadm's words for flag-1, flag-2 and flag-3 of a scheduler.
pub fn scheduler_flag_words(scheduler: &str) -> [&'static str; 3] {
    match scheduler {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    }
}

/// The prefix length that a mask is, if it has no holes.
pub fn prefix_of_mask(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    (ones + mask.to_bits().trailing_zeros() >= 32).then(|| u8::try_from(ones).expect("at most 32"))
}
