//! The configuration as workers read it: immutable, indexed, everything resolved to numbers.
//!
//! Built by fulcrum-program, never here; a worker gets a new one between bursts and gives the old one back.
//! Objects that live longer than one snapshot (counters, scheduler state) are behind `Arc`s that successive
//! snapshots share. No session holds an `Arc`: sessions name destinations by id.

mod local;
mod route;
mod service;
mod snat;
mod vlans;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::Nanos;
use crate::cells::CellTable;
use crate::counters::{DestinationCells, LocalCells};
use crate::exception::Limits;
use crate::session::Key;
pub use local::{Local, Locals};
pub use route::{Gateway, Hop, Links, NextHop, NextHops, Route};
pub use service::{
    ClientAddress, Destination, Forward, LocalRange, Persistence, Profile, Service, Steering, Timeouts,
    Tunnel, TunnelChecksum, TunnelKind,
};
pub use snat::SnatRule;
pub use vlans::Vlans;

/// Hash map with a hash that is cheap enough for the packet path and the same in every run.
pub type FastMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Set with that hash.
pub type FastSet<T> = std::collections::HashSet<T, foldhash::fast::FixedState>;

/// Index into [`Snapshot::interfaces`].
pub type InterfaceId = u16;
/// Identity of a service, stable over edits.
pub type ServiceId = u32;
/// Identity of a destination, stable over edits, deletion and re-adding; index into [`Snapshot::destinations`].
pub type DestinationId = u32;

/// The port that FTP's control connections come to.
pub const FTP: u16 = 21;
/// The port that active FTP's data connections come from.
pub const FTP_DATA: u16 = 20;
/// The first port that anybody may use.
const UNPRIVILEGED: u16 = 1024;
const TCP: u8 = fulcrum_packet::ipv4::TCP;

/// The destination of a session that goes past all servers to where its client sent it.
pub const NO_DESTINATION: DestinationId = DestinationId::MAX;

/// The service of what counts for a rule of [`Snapshot::snat`]: none.
pub const GATEWAY: ServiceId = ServiceId::MAX;

/// Everything a worker needs to know.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Number of the transaction that made it; 0 = nothing programmed yet.
    pub generation: u64,
    /// The generation that last changed anything that can alter what becomes of an established session's packets.
    /// What a session remembers of its way is good while this stays: edits of weights, thresholds and schedulers, and
    /// most additions of servers, leave it alone. (What opens a connection asks for its server's weight too.)
    pub paths: u64,
    /// Ports by number.
    pub ports: Vec<Port>,
    /// Interfaces by [`InterfaceId`].
    pub interfaces: Vec<Interface>,
    /// The interface of (port, VLAN).
    pub by_vlan: Vlans,
    /// The director's own addresses: of interfaces, VIPs, pools.
    pub locals: Locals,
    /// Those of `locals` that an interface answers for, in the order in which they came up.
    pub arrivals: Arc<[Arrival]>,
    /// Routes, longest prefix first.
    pub routes: Vec<Route>,
    /// The next hops of those that have several.
    pub next_hops: NextHops,
    /// Which ports have a link; successive snapshots share it.
    pub links: Arc<Links>,
    /// Neighbours that are never asked for; the same list as long as they are the same.
    pub neighbours: Arc<[Neighbour]>,
    /// Services by (protocol number, VIP, port).
    pub services: FastMap<(u8, IpAddr, u16), Arc<Service>>,
    /// Services of marked packets, by (IPv6, mark).
    pub mark_services: FastMap<(bool, u32), Arc<Service>>,
    /// Rules that mark packets, all walked in order.
    pub marks: Vec<MarkRule>,
    /// How what servers start themselves is masqueraded: by the first rule that fits.
    pub snat: Arc<[SnatRule]>,
    /// How flows of deleted services are steered while they have sessions; keys as in `services`.
    pub deleted_services: FastMap<(u8, IpAddr, u16), Steering>,
    /// How flows of deleted mark services are steered while they have sessions.
    pub deleted_mark_services: FastMap<(bool, u32), Steering>,
    /// Whether any service has port 0 (every port).
    pub any_port_services: bool,
    /// Whether any service has TCP port 21, whose data connections come to other ports.
    pub ftp_services: bool,
    /// Destinations by id: those of services, and deleted ones that sessions still name.
    pub destinations: Vec<Option<Arc<Destination>>>,
    /// What is counted of destinations, by [`DestinationId`].
    pub destination_cells: CellTable<DestinationCells>,
    /// Ways in which services that still have sessions were steered before, each once.
    pub former_steerings: Vec<Steering>,
    /// How answers are steered: by (protocol number, server address, server port) of NAT servers;
    /// port 0 where the server takes every port.
    pub servers: Arc<FastMap<(u8, IpAddr, u16), Steering>>,
    /// The addresses of `servers`: their fragments may be of answers.
    pub server_addresses: Arc<FastSet<IpAddr>>,
    /// Ends of tunnels: addresses of TUN servers, with the UDP port of GUE, 0 of other kinds.
    pub tunnels: Arc<FastSet<(IpAddr, u16)>>,
    /// Addresses of the host, with the interface by whose twin packets to them go up unless they came by one with a
    /// twin of its own. The director may have some of them too.
    pub hosts: Arc<FastMap<IpAddr, InterfaceId>>,
    /// Servers that probes of the host are for, by (protocol number, source port).
    pub probes: Arc<FastMap<(u8, u16), Arc<Destination>>>,
    /// How much goes up to the host.
    pub exception: Limits,
    /// Behaviour switches.
    pub settings: Settings,
    /// New connections while some are dropped, of all workers; successive snapshots share it.
    pub offered: Arc<AtomicU64>,
}

impl Snapshot {
    /// Whether there is no service at all, and no rule that masquerades: then there are no sessions, and old ones get
    /// no packets.
    #[inline]
    pub fn without_services(&self) -> bool {
        self.services.is_empty() && self.mark_services.is_empty() && self.snat.is_empty()
    }

    /// Whether a rule masquerades packets with this key, or did before it was deleted: sessions may be by it.
    #[inline]
    pub(crate) fn masquerades(&self, key: Key) -> bool {
        self.snat.iter().any(|rule| rule.fits(key))
    }

    /// The rule that a session's destination stands for.
    pub fn snat_of(&self, destination: DestinationId) -> Option<&SnatRule> {
        self.snat.iter().find(|rule| rule.counts.id == destination)
    }

    /// The service of packets to an address and port: of this port, of FTP whose data connections come to other
    /// ports, of every port. // IPVS: ip_vs_service_find
    #[inline]
    pub fn service(&self, protocol: u8, address: IpAddr, port: u16) -> Option<&Arc<Service>> {
        let of = |port| self.services.get(&(protocol, address, port));
        let ftp_data = self.ftp_services && protocol == TCP && (port == FTP_DATA || port >= UNPRIVILEGED);
        of(port)
            .or_else(|| if ftp_data { of(FTP) } else { None })
            .or_else(|| if self.any_port_services { of(0) } else { None })
    }

    /// A destination that sessions name.
    #[inline]
    pub fn destination(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.destinations.get(id as usize)?.as_ref()
    }

    /// What a worker counts of a destination, without a look at the destination: `None` when nobody has that id.
    #[inline]
    pub fn cells(&self, id: DestinationId, worker: usize) -> Option<&DestinationCells> {
        self.destination_cells.of(worker)?.get(id)
    }

    /// What a worker counts of a local address, when it is one.
    #[inline]
    pub fn local_cells(&self, address: IpAddr, worker: usize) -> Option<&LocalCells> {
        Some(self.locals.get(&address)?.pool.as_ref()?.of(worker))
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name, as configured.
    pub name: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Whether frames may come in with TCP/UDP checksums that only cover the pseudo-header (veth, TAP).
    pub partial_checksums: bool,
}

/// A port or a VLAN on it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Own addresses with their prefix lengths, in configured order; of IPv6, the link-local one last.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Largest TCP segment that SYNs through this interface may announce; 0 = as they are.
    pub mss: u16,
    /// Whether it has a twin in Linux, which takes what is not the director's.
    pub exception: bool,
}

/// An own address that came up: neighbours are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// The first generation in which this interface answered for it.
    pub since: u64,
    /// The interface.
    pub interface: InterfaceId,
    /// The address.
    pub address: IpAddr,
}

/// A static neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface it is on.
    pub interface: InterfaceId,
    /// IP address.
    pub address: IpAddr,
    /// MAC address.
    pub mac: [u8; 6],
}

/// Marks packets of some kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarkRule {
    /// Only IPv6 (true) or IPv4 (false).
    pub v6: Option<bool>,
    /// Only this IP protocol.
    pub protocol: Option<u8>,
    /// Only from this network.
    pub source: Option<(IpAddr, u8)>,
    /// Only to this network.
    pub destination: Option<(IpAddr, u8)>,
    /// Only from one of these ports (first and last); empty = any.
    pub source_ports: Vec<(u16, u16)>,
    /// Only to one of these ports; empty = any.
    pub destination_ports: Vec<(u16, u16)>,
    /// Only what came in by this interface.
    pub interface: Option<InterfaceId>,
    /// The mark to give, where `mask` has ones.
    pub mark: u32,
    /// The bits of the mark that the rule decides.
    pub mask: u32,
}

/// Behaviour switches; `net.ipv4.vs` has them under these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Free sessions of a worker below which the defences in automatic mode begin.
    pub amemthresh: u32,
    /// With `drop_packet` 3, every so many-th packet that would open a session is dropped; at least 1.
    pub am_droprate: u32,
    /// A marked packet whose service has no server goes on to where it was sent.
    pub cache_bypass: bool,
    /// Whether a SYN on a closing session is scheduled anew (bit 1: also in FIN_WAIT without a server's packet).
    pub conn_reuse_mode: u8,
    /// Random sessions that nobody misses are dropped: never (0), when memory is short (1, 2), always (3).
    pub drop_entry: u8,
    /// Some packets that would open sessions are dropped; as above.
    pub drop_packet: u8,
    /// A packet of a session whose server was deleted ends the session.
    pub expire_nodest_conn: bool,
    /// A template of a server of weight 0 is left.
    pub expire_quiescent_template: bool,
    /// How long lblc remembers where an address went.
    pub lblc_expiration: Nanos,
    /// After how long lblcr shrinks an address's set of servers.
    pub lblcr_expiration: Nanos,
    /// A NAT server's packet that fits no session is answered with port unreachable.
    pub nat_icmp_send: bool,
    /// Packets in tunnels may not be cut.
    pub pmtu_disc: bool,
    /// ICMP errors may open sessions.
    pub schedule_icmp: bool,
    /// A TCP session is only established when both ends have answered; as `drop_entry`.
    pub secure_tcp: u8,
    /// An SCTP packet other than INIT may open a session.
    pub sloppy_sctp: bool,
    /// A segment other than SYN may open a session.
    pub sloppy_tcp: bool,
    /// Packets that are for nobody here are routed on.
    pub ip_forward: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            amemthresh: 1024,
            am_droprate: 10,
            cache_bypass: false,
            conn_reuse_mode: 1,
            drop_entry: 0,
            drop_packet: 0,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            lblc_expiration: 86_400 * crate::SECOND,
            lblcr_expiration: 86_400 * crate::SECOND,
            nat_icmp_send: false,
            pmtu_disc: true,
            schedule_icmp: false,
            secure_tcp: 0,
            sloppy_sctp: false,
            sloppy_tcp: false,
            ip_forward: true,
        }
    }
}
