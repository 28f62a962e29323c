//! Services and their servers, as workers read them.

use std::net::IpAddr;
use std::sync::Arc;

use super::{DestinationId, ServiceId};
use crate::cells::Cells;
use crate::counters::DestinationCells;
use crate::schedule::Scheduler;
use crate::threshold::Thresholds;
use crate::{Nanos, SECOND};

/// A virtual service.
#[derive(Debug)]
pub struct Service {
    /// Identity.
    pub id: ServiceId,
    /// IP protocol number; 0 = any, of a mark's service.
    pub protocol: u8,
    /// VIP; unspecified, of the service's family, of a mark's service.
    pub address: IpAddr,
    /// Port, 0 = every port.
    pub port: u16,
    /// The mark of its packets, when that is what they are known by.
    pub mark: Option<u32>,
    /// Persistence.
    pub persistence: Option<Persistence>,
    /// Servers, newest first: the order in which IPVS's schedulers walk.
    pub destinations: Vec<Arc<Destination>>,
    /// Chooses among `destinations`.
    pub scheduler: Box<dyn Scheduler>,
    /// Local addresses for FULLNAT, those of IPv4 first; empty without a pool.
    pub local_addresses: Arc<[LocalRange]>,
    /// How many of them are of IPv4.
    pub local_v4: usize,
    /// What its sessions' packets need.
    pub profile: Arc<Profile>,
    /// Which worker owns a flow of this service.
    pub steering: Steering,
}

impl Service {
    /// The local addresses of a server's family.
    #[inline]
    pub fn local_addresses_for(&self, server: IpAddr) -> &[LocalRange] {
        let families = &self.local_addresses;
        if server.is_ipv6() { &families[self.local_v4..] } else { &families[..self.local_v4] }
    }
}

/// Which part of the client's end decides which worker owns a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Steering {
    /// Address and port.
    AddressPort,
    /// Address under a prefix of this length: persistence of some service, or FTP, wants it.
    Address(u8),
    /// Both ends of the flow, where devices spread by them: only for services whose answers do not show the client.
    Flow,
}

/// Persistence of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Life of a template after its last new session.
    pub timeout: Nanos,
    /// Clients whose addresses agree in this many leading bits share a template.
    pub prefix: u8,
    /// Whether the call of a SIP message, when there is one, decides instead of the client's address.
    pub sip: bool,
}

/// One local address and its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRange {
    /// The address.
    pub address: IpAddr,
    /// First port, at least 1.
    pub first: u16,
    /// Last port, not before the first.
    pub last: u16,
}

impl LocalRange {
    /// How many ports it has.
    pub fn ports(&self) -> u64 {
        (u64::from(self.last) + 1).saturating_sub(self.first.into())
    }
}

/// A real server in its service.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Identity.
    pub id: DestinationId,
    /// Its service, also after deletion.
    pub service: ServiceId,
    /// IP protocol number of the service.
    pub protocol: u8,
    /// RIP.
    pub address: IpAddr,
    /// Port; 0 = the port the client asked for.
    pub port: u16,
    /// Forwarding method for new sessions.
    pub forward: Forward,
    /// How packets are wrapped when that is TUN.
    pub tunnel: Tunnel,
    /// Outer source addresses to spread its flows over, of its family; empty: the way's.
    pub tunnel_sources: Arc<[IpAddr]>,
    /// 0 quiesces.
    pub weight: u32,
    /// The weight, or when that is 0 the one before it.
    pub last_weight: u32,
    /// How many connections it takes.
    pub thresholds: Thresholds,
    /// Whether it belongs to a service now; a deleted destination stays for its sessions.
    pub available: bool,
    /// Counts and traffic of the server.
    pub counters: Cells<DestinationCells>,
    /// What its sessions' packets need.
    pub profile: Arc<Profile>,
    /// Whether it is the host, whatever its address is.
    pub local: bool,
}

impl Destination {
    /// Whether its thresholds send new connections elsewhere.
    #[inline]
    pub fn overloaded(&self) -> bool {
        self.thresholds.overloaded()
    }
}

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Masquerading.
    Nat,
    /// Both addresses rewritten.
    FullNat,
    /// Direct routing.
    Dr,
    /// Through a tunnel, by [`Destination::tunnel`].
    Tun,
}

/// How packets are wrapped for a TUN server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// What is put between the two IP headers.
    pub kind: TunnelKind,
    /// Its checksum.
    pub checksum: TunnelChecksum,
}

/// The header between outer and inner IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelKind {
    /// None (RFC 2003, RFC 2473, RFC 4213).
    #[default]
    Ipip,
    /// GRE (RFC 2784).
    Gre,
    /// UDP and GUE, to this port.
    Gue(u16),
}

/// Checksum of a tunnel header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// That of UDP or GRE.
    Plain,
    /// Remote checksum offload (GUE).
    Remote,
}

/// What a service asks for its sessions' packets; shared by the service and its destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Session time-outs.
    pub timeouts: Timeouts,
    /// Largest TCP segment that SYNs may announce; 0 = as they are.
    pub mss: u16,
    /// How servers learn the client's address.
    pub client_address: ClientAddress,
    /// UDP sessions end with their first packet.
    pub one_packet: bool,
}

/// How a server learns its client's address by FULLNAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// It does not.
    #[default]
    None,
    /// In a TCP option.
    Toa,
    /// In a line before the data (PROXY protocol, version 1).
    ProxyV1,
    /// In a binary header before the data (PROXY protocol, version 2).
    ProxyV2,
}

/// How long a session stays in a state without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By [`crate::session::tcp::State`].
    pub tcp: [Nanos; crate::session::tcp::STATES],
    /// UDP.
    pub udp: Nanos,
    /// By [`crate::session::sctp::State`].
    pub sctp: [Nanos; crate::session::sctp::STATES],
}

impl Timeouts {
    /// The kernel's.
    pub const KERNEL: Timeouts = Timeouts {
        tcp: crate::session::tcp::TIMEOUTS,
        udp: 300 * SECOND,
        sctp: crate::session::sctp::TIMEOUTS,
    };
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts::KERNEL
    }
}
