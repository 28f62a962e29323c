//! The engine's own answers about a flow, one question at a time: for who looks at packets or explains decisions.
//!
//! Nothing is decided here. Every answer is that of the function which decides about packets, on a snapshot.

use std::net::IpAddr;

use crate::connect;
use crate::forward::tunnel;
use crate::marks;
use crate::output;
use crate::reason::Reason;
use crate::session::Key;
use crate::snapshot::{Destination, Forward, InterfaceId, NextHop, Service, Snapshot};

/// The way out to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By this interface.
    pub interface: InterfaceId,
    /// To this neighbour.
    pub next_hop: IpAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// The director's own address there.
    pub source: IpAddr,
}

fn key(protocol: u8, from: (IpAddr, u16), to: (IpAddr, u16)) -> Key {
    Key { protocol: protocol.into(), src: from.0, sport: from.1, dst: to.0, dport: to.1 }
}

/// The mark of packets between these ends, whatever interface they come in by.
#[inline]
pub fn mark(snap: &Snapshot, protocol: u8, from: (IpAddr, u16), to: (IpAddr, u16)) -> u32 {
    marks::mark(snap, key(protocol, from, to), None)
}

/// The mark of packets between these ends that come in by `interface`, and the numbers of the rules that give it.
pub fn mark_by(
    snap: &Snapshot,
    protocol: u8,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    interface: InterfaceId,
) -> (u32, Vec<usize>) {
    let key = key(protocol, from, to);
    let mark = marks::mark(snap, key, Some(interface));
    let rules = snap.marks.iter().enumerate();
    let fitting = rules.filter(|(_, rule)| marks::fits(rule, key, Some(interface)));
    (mark, fitting.map(|(number, _)| number).collect())
}

impl From<output::Way> for Way {
    fn from(way: output::Way) -> Way {
        let output::Way { interface, next_hop, mtu, source, several: _ } = way;
        Way { interface, next_hop, mtu, source }
    }
}

/// The way to an address for packets of a flow between these ends, or why there is none.
pub fn way(snap: &Snapshot, to: IpAddr, protocol: u8, ends: [(IpAddr, u16); 2]) -> Result<Way, Reason> {
    output::way(snap, to, || key(protocol, ends[0], ends[1])).map(Way::from)
}

/// One of several next hops of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The way by it.
    pub way: Way,
    /// Its share of the flows, measured by the others'.
    pub weight: u16,
    /// Whether it answers, as far as is known.
    pub answers: bool,
}

/// The next hops of which flows to an address take one each; none where all take the same way.
pub fn candidates(snap: &Snapshot, to: IpAddr) -> Vec<Candidate> {
    let Some(route) = output::route(snap, to).ok().filter(|_| !snap.hosts.contains_key(&to)) else {
        return Vec::new();
    };
    let candidate = |hop: &NextHop| Candidate {
        way: output::way_by(snap, route, hop).into(),
        weight: hop.weight,
        answers: hop.gateway.answers(),
    };
    output::next_hops(snap, route).iter().map(candidate).collect()
}

/// All ways to an address, or why there is none.
pub fn ways(snap: &Snapshot, to: IpAddr) -> Result<Vec<Way>, Reason> {
    let several: Vec<Way> = candidates(snap, to).iter().map(|candidate| candidate.way).collect();
    match several.is_empty() {
        // Where there is one, the flow does not matter.
        true => way(snap, to, 0, [(to, 0); 2]).map(|way| vec![way]),
        false => Ok(several),
    }
}

/// Bytes that are put before a client's packet on its way to a server.
pub fn overhead(server: &Destination) -> usize {
    match server.forward {
        Forward::Tun => tunnel::overhead(server.tunnel, server.address),
        Forward::Nat | Forward::FullNat | Forward::Dr => 0,
    }
}

/// The service of packets with this mark to this end.
pub fn service(snap: &Snapshot, mark: u32, protocol: u8, to: (IpAddr, u16)) -> Option<&Service> {
    connect::service_of(snap, mark, protocol, to)
}

/// What the template of a client is listed by, as its client and its virtual end; `None` of a service that is not
/// persistent, or goes by what a packet says (SIP).
pub fn template(
    service: &Service,
    protocol: u8,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
) -> Option<[(IpAddr, u16); 2]> {
    let persistence = service.persistence.filter(|persistence| !persistence.sip)?;
    let key = connect::template_key(service, persistence, key(protocol, from, to));
    Some([(key.src, key.sport), (key.dst, key.dport)])
}

/// What decides which of the servers that may take a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The packet alone: the same flow goes to the same server as long as servers and weights stay.
    Packet,
    /// How many connections servers have now.
    Load,
    /// Whose turn it is, which every new connection moves on.
    Turn,
    /// Where the same address went before, else the load.
    Memory,
    /// Chance, and the load.
    Chance,
}

/// What decides by this scheduler.
pub fn choice(scheduler: &str) -> Option<Choice> {
    Some(match scheduler {
        "sh" | "dh" | "mh" => Choice::Packet,
        "lc" | "wlc" | "sed" | "nq" | "fo" | "ovf" => Choice::Load,
        "rr" | "wrr" => Choice::Turn,
        "lblc" | "lblcr" => Choice::Memory,
        "twos" => Choice::Chance,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule;

    #[test]
    fn of_every_scheduler_is_known_what_decides() {
        for name in schedule::NAMES {
            assert!(choice(name).is_some(), "{name}");
        }
    }
}
