//! Rules that give packets the mark by which a service takes them.

use std::fmt;

use ipnet::IpNet;

use super::{Family, PortRange, Protocol};

/// Gives packets a mark. All rules are walked in order, also after one that fits, as iptables' MARK target does;
/// a packet begins with mark 0. What a rule does not name fits everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// Address family; of both when `None`.
    pub family: Option<Family>,
    /// Transport protocol.
    pub protocol: Option<Protocol>,
    /// Where packets come from.
    pub source: Option<IpNet>,
    /// Where packets go.
    pub destination: Option<IpNet>,
    /// Source ports, any of them; all when empty.
    pub source_ports: Vec<PortRange>,
    /// Destination ports, any of them; all when empty.
    pub destination_ports: Vec<PortRange>,
    /// Name of the interface by which packets come in.
    pub interface: Option<String>,
    /// The bits that are set.
    pub mark: u32,
    /// The bits that are cleared before: mark = (mark & !mask) | value. All ones to set the whole mark.
    pub mask: u32,
}

impl MarkRule {
    /// A rule that sets the whole mark of every packet.
    pub const fn new(mark: u32) -> MarkRule {
        MarkRule {
            family: None,
            protocol: None,
            source: None,
            destination: None,
            source_ports: Vec::new(),
            destination_ports: Vec::new(),
            interface: None,
            mark,
            mask: u32::MAX,
        }
    }
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.family.map(|family| family.name().to_owned()));
        words.extend(self.protocol.map(|protocol| protocol.to_string()));
        words.extend(self.source.map(|net| format!("from {net}")));
        words.extend(ports("source ports", &self.source_ports));
        words.extend(self.destination.map(|net| format!("to {net}")));
        words.extend(ports("ports", &self.destination_ports));
        words.extend(self.interface.as_ref().map(|name| format!("on {name}")));
        if words.is_empty() {
            words.push("everything".to_owned());
        }
        match self.mask {
            u32::MAX => write!(f, "{}: mark {}", words.join(" "), self.mark),
            mask => write!(f, "{}: mark {}/{mask:#x}", words.join(" "), self.mark),
        }
    }
}

fn ports(what: &str, ranges: &[PortRange]) -> Option<String> {
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    (!ranges.is_empty()).then(|| format!("{what} {}", ranges.join(",")))
}
