//! The nouns of a director's configuration.
//!
//! Plain data with public fields: services and servers (`service`), what follows from checks (`health`), checks of
//! servers (`check`), ports to pools (`network`), rules that mark packets (`mark`) and that masquerade (`snat`),
//! time-outs (`timeouts`), VIPs (`vip`), behaviour switches (`settings`). Rules that span several objects are in
//! `validate`.

mod bond;
mod check;
mod exception;
mod health;
mod mac;
mod mark;
mod network;
mod overrides;
mod service;
mod settings;
mod snat;
mod timeouts;
mod vip;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use bond::{Bond, BondHash, BondMode};
pub use check::{
    BodyDigest, Check, CheckKind, CheckTls, DnsRcode, DnsRecord, EXEC_VIP_WORDS, HttpMethod, StatusRange,
    StatusSet, UnknownWord, Via,
};
pub(crate) use check::{from_hex, hex};
pub use exception::Exception;
pub use health::{Admin, OnFailure, ServerHealth, ServiceHealth};
pub use mac::{BadMac, Mac};
pub use mark::MarkRule;
pub use network::{
    AddressRange, Interface, LocalPool, Neighbour, NextHop, Port, PortRange, PortSteering, Route, RouteTarget,
};
pub use overrides::Override;
pub use service::{
    ClientAddress, Forward, LocalAddress, Server, ServerKey, Service, ServiceKey, Tunnel, TunnelChecksum,
    TunnelKind, TunnelSource, prefix_of_mask, scheduler_flag_words,
};
pub use settings::{BadSetting, FIXED_SETTINGS, FixedSetting, Settings};
pub use snat::{Snat, SnatProtocol};
pub use timeouts::{StateTimeouts, TimeoutState, Timeouts, UnknownState};
pub use vip::{Announce, Announcement, DEFAULT_ANNOUNCE_AFTER, VipOwner};

/// A transport protocol that services balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Its name in small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bits of an address: the length of the longest prefix.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// Its word in the configuration: `ipv4` or `ipv6`.
    pub const fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
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
    /// Rules that mark packets, in order.
    pub marks: Vec<MarkRule>,
    /// Rules that masquerade, in order.
    pub snat: Vec<Snat>,
    /// What services have beside what tools of IPVS can say, by their keys.
    pub overrides: Vec<Override>,
    /// Checks that services name.
    pub checks: Vec<Check>,
    /// Virtual services in order of addition, oldest first.
    pub services: Vec<Service>,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Behaviour switches.
    pub settings: Settings,
    /// How much goes up to the host.
    pub exception: Exception,
}
