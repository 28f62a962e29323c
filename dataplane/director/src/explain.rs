//! The engine's own answers about a flow, one question at a time: for who looks at packets or explains decisions.
//!
//! Nothing is decided here. Every answer is that of the function which decides about packets, on a snapshot.

use std::net::IpAddr;

use crate::forward::tunnel;
use crate::marks;
use crate::output;
use crate::reason::Reason;
use crate::session::Key;
use crate::snapshot::{Destination, Forward, InterfaceId, Snapshot};

/// The way out to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By this interface.
    pub interface: InterfaceId,
    /// To this neighbour.
    pub next_hop: IpAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
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

/// The way to an address, or why there is none.
pub fn way(snap: &Snapshot, to: IpAddr) -> Result<Way, Reason> {
    let output::Way { interface, next_hop, mtu, .. } = output::way(snap, to)?;
    Ok(Way { interface, next_hop, mtu })
}

/// Bytes that are put before a client's packet on its way to a server.
pub fn overhead(server: &Destination) -> usize {
    match server.forward {
        Forward::Tun => tunnel::overhead(server.tunnel, server.address),
        Forward::Nat | Forward::FullNat | Forward::Dr => 0,
    }
}
