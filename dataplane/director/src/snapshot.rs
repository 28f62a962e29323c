//! The configuration as workers read it: immutable, indexed, everything resolved to numbers.
//!
//! Built by fulcrum-program, never here; a worker gets a new one between bursts and gives the old one back.
//! Objects that live longer than one snapshot (counters, scheduler state) are behind `Arc`s that successive
//! snapshots share. No session holds an `Arc`: sessions name destinations by id.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::Nanos;
use crate::counters::{DestinationCells, LocalCells, PerWorker, Traffic};
use crate::schedule::Scheduler;

/// Hash map with a hash that is cheap enough for the packet path and the same in every run.
pub type FastMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Index into [`Snapshot::interfaces`].
pub type InterfaceId = u16;
/// Identity of a service, stable over edits.
pub type ServiceId = u32;
/// Identity of a destination, stable over edits, deletion and re-adding; index into [`Snapshot::destinations`].
pub type DestinationId = u32;

/// Everything a worker needs to know.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Number of the transaction that made it; 0 = nothing programmed yet.
    pub generation: u64,
    /// Ports by number.
    pub ports: Vec<Port>,
    /// Interfaces by [`InterfaceId`].
    pub interfaces: Vec<Interface>,
    /// The interface of (port, VLAN).
    pub by_vlan: FastMap<(u16, u16), InterfaceId>,
    /// The director's own addresses: of interfaces, VIPs, pools.
    pub locals: FastMap<Ipv4Addr, Local>,
    /// Routes, longest prefix first.
    pub routes: Vec<Route>,
    /// Neighbours that are never asked for.
    pub neighbours: Vec<Neighbour>,
    /// Services by (protocol number, VIP, port).
    pub services: FastMap<(u8, Ipv4Addr, u16), Arc<Service>>,
    /// How flows of deleted services are steered while they have sessions; keys as in `services`.
    pub deleted_services: FastMap<(u8, Ipv4Addr, u16), Steering>,
    /// Whether any service has port 0 (every port).
    pub any_port_services: bool,
    /// Destinations by id: those of services, and deleted ones that sessions still name.
    pub destinations: Vec<Option<Arc<Destination>>>,
    /// How answers are steered: by (protocol number, server address, server port) of NAT servers;
    /// port 0 where the server takes every port.
    pub servers: FastMap<(u8, Ipv4Addr, u16), Steering>,
    /// Session time-outs.
    pub timeouts: Timeouts,
    /// Behaviour switches.
    pub settings: Settings,
}

impl Snapshot {
    /// A destination that sessions name.
    #[inline]
    pub fn destination(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.destinations.get(id as usize)?.as_ref()
    }

    /// What a worker counts of a local address, when it is one.
    pub fn local_cells(&self, address: Ipv4Addr, worker: usize) -> Option<&LocalCells> {
        Some(self.locals.get(&address)?.pool.as_ref()?.of(worker))
    }
}

/// A device.
#[derive(Clone, Debug)]
pub struct Port {
    /// Name, as configured.
    pub name: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Whether frames may come in with TCP/UDP checksums that only cover the pseudo-header (veth, TAP).
    pub partial_checksums: bool,
}

/// A port or a VLAN on it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Name, as configured.
    pub name: String,
    /// Number of its port.
    pub port: u16,
    /// VLAN id, 0 = untagged.
    pub vlan: u16,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// MAC address of the port.
    pub mac: [u8; 6],
    /// Own addresses with their prefix lengths, in configured order.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

/// An address of the director.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Interface that answers ARP for it; `None`: no interface does.
    pub arp: Option<InterfaceId>,
    /// What FULLNAT does with it, when it is a local address; the same object as long as the address is one.
    pub pool: Option<Arc<PerWorker<LocalCells>>>,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Delivers on the link.
    Link(InterfaceId),
    /// Sends to a gateway on the link.
    Via(InterfaceId, Ipv4Addr),
    /// Refuses with host unreachable.
    Unreachable,
    /// Drops.
    Blackhole,
}

/// A route; connected subnets are routes too.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Network address.
    pub prefix: Ipv4Addr,
    /// Prefix length.
    pub length: u8,
    /// Next hop.
    pub hop: Hop,
    /// Largest IP packet in bytes; 0 = the interface's.
    pub mtu: u16,
    /// Own address to use as source; unspecified where there is none.
    pub source: Ipv4Addr,
}

/// A static neighbour.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    /// Interface it is on.
    pub interface: InterfaceId,
    /// IP address.
    pub address: Ipv4Addr,
    /// MAC address.
    pub mac: [u8; 6],
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
    /// IP in IP.
    Tun,
}

/// Which part of the client's end decides which worker owns a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Address and port.
    AddressPort,
    /// Address under this mask (network order, as an integer): persistence of some service wants it.
    Address(u32),
}

/// A virtual service.
#[derive(Debug)]
pub struct Service {
    /// Identity.
    pub id: ServiceId,
    /// IP protocol number.
    pub protocol: u8,
    /// VIP.
    pub address: Ipv4Addr,
    /// Port, 0 = every port.
    pub port: u16,
    /// Persistence.
    pub persistence: Option<Persistence>,
    /// Servers, newest first: the order in which IPVS's schedulers walk.
    pub destinations: Vec<Arc<Destination>>,
    /// Chooses among `destinations`.
    pub scheduler: Box<dyn Scheduler>,
    /// Local addresses for FULLNAT; empty without a pool.
    pub local_addresses: Arc<[LocalRange]>,
    /// Which worker owns a flow of this service.
    pub steering: Steering,
    /// Traffic of the service.
    pub counters: Arc<PerWorker<Traffic>>,
}

/// Persistence of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Life of a template after its last new session.
    pub timeout: Nanos,
    /// Client addresses that agree under this mask share a template.
    pub netmask: u32,
}

/// One local address and its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRange {
    /// The address.
    pub address: Ipv4Addr,
    /// First port, at least 1.
    pub first: u16,
    /// Last port, not before the first.
    pub last: u16,
}

/// A real server in its service.
#[derive(Debug)]
pub struct Destination {
    /// Identity.
    pub id: DestinationId,
    /// Its service, also after deletion.
    pub service: ServiceId,
    /// IP protocol number of the service.
    pub protocol: u8,
    /// RIP.
    pub address: Ipv4Addr,
    /// Port; 0 = the port the client asked for.
    pub port: u16,
    /// Forwarding method for new sessions.
    pub forward: Forward,
    /// 0 quiesces.
    pub weight: u32,
    /// Whether it belongs to a service now; a deleted destination stays for its sessions.
    pub available: bool,
    /// Counts and traffic of the server.
    pub counters: Arc<PerWorker<DestinationCells>>,
    /// Traffic of its service.
    pub service_counters: Arc<PerWorker<Traffic>>,
}

/// Session time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP ESTABLISHED.
    pub tcp: Nanos,
    /// TCP FIN_WAIT.
    pub tcp_fin: Nanos,
    /// UDP.
    pub udp: Nanos,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { tcp: 900 * crate::SECOND, tcp_fin: 120 * crate::SECOND, udp: 300 * crate::SECOND }
    }
}

/// Behaviour switches; `net.ipv4.vs` has them under these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A packet of a session whose server was deleted ends the session.
    pub expire_nodest_conn: bool,
    /// Whether a SYN on a closing session is scheduled anew (bit 1: also in FIN_WAIT without a server's packet).
    pub conn_reuse_mode: u8,
    /// A template of a server of weight 0 is left.
    pub expire_quiescent_template: bool,
    /// A segment other than SYN may open a session.
    pub sloppy_tcp: bool,
    /// A NAT server's packet that fits no session is answered with port unreachable.
    pub nat_icmp_send: bool,
    /// Packets that are for nobody here are routed on.
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
