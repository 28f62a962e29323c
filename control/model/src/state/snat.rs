//! Rules by which what servers start themselves is masqueraded.

use std::fmt;

use ipnet::IpNet;

use super::{Family, PortRange, Protocol};

/// What a rule may be restricted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnatProtocol {
    /// One with ports.
    Transport(Protocol),
    /// ICMP echo, of the rule's family.
    Icmp,
}

impl SnatProtocol {
    /// All of them with their names.
    pub const WORDS: [(&'static str, SnatProtocol); 4] = [
        ("tcp", SnatProtocol::Transport(Protocol::Tcp)),
        ("udp", SnatProtocol::Transport(Protocol::Udp)),
        ("sctp", SnatProtocol::Transport(Protocol::Sctp)),
        ("icmp", SnatProtocol::Icmp),
    ];

    /// IP protocol number in a family.
    pub const fn number(self, family: Family) -> u8 {
        match (self, family) {
            (SnatProtocol::Transport(protocol), _) => protocol.number(),
            (SnatProtocol::Icmp, Family::V4) => 1,
            (SnatProtocol::Icmp, Family::V6) => 58,
        }
    }
}

impl fmt::Display for SnatProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnatProtocol::Transport(protocol) => protocol.fmt(f),
            SnatProtocol::Icmp => f.write_str("icmp"),
        }
    }
}

/// Masquerades what servers start themselves. The first rule that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snat {
    /// Name, by which it is listed and counted.
    pub name: String,
    /// Where flows come from.
    pub source: IpNet,
    /// Where they go; anywhere when `None`.
    pub destination: Option<IpNet>,
    /// Of which protocol; of any when `None`.
    pub protocol: Option<SnatProtocol>,
    /// To which ports, any of them; all when empty.
    pub destination_ports: Vec<PortRange>,
    /// Name of the local pool whose addresses and ports they get; `None`: they are routed as they are.
    pub pool: Option<String>,
}

impl Snat {
    /// The family of its flows.
    pub fn family(&self) -> Family {
        Family::of(self.source.addr())
    }
}
