//! Marks (fwmark): what the rules of the configuration call a packet, and the service that takes it by that.

use std::net::IpAddr;

use crate::packet::{Packet, is_balanced};
use crate::session::Key;
use crate::snapshot::{InterfaceId, MarkRule, Snapshot};

/// The mark of a flow's packets that come in by `interface`, by any where that is not known: every rule that fits is
/// applied, in order, as by iptables' MARK target. What servers send to others is not marked: they answer.
#[inline]
pub(crate) fn mark(snap: &Snapshot, key: Key, interface: Option<InterfaceId>) -> u32 {
    if snap.marks.is_empty()
        || !snap.locals.contains_key(&key.dst) && snap.server_addresses.contains(&key.src)
    {
        return 0;
    }
    let rules = snap.marks.iter().filter(|rule| fits(rule, key, interface));
    rules.fold(0, |mark, rule| mark & !rule.mask | rule.mark)
}

/// Whether a packet is one that a mark's service takes, whoever it is to.
#[inline]
pub(crate) fn has_mark_service<B>(snap: &Snapshot, packet: &Packet<B>) -> bool {
    packet.mark != 0
        && is_balanced(packet.protocol)
        && snap.mark_services.contains_key(&(packet.src.is_ipv6(), packet.mark))
}

pub(crate) fn fits(rule: &MarkRule, key: Key, interface: Option<InterfaceId>) -> bool {
    let within = |network: Option<(IpAddr, u8)>, address| {
        network.is_none_or(|(prefix, length)| prefix_matches(prefix, length, address))
    };
    let among = |ports: &[(u16, u16)], port| {
        ports.is_empty() || ports.iter().any(|&(first, last)| (first..=last).contains(&port))
    };
    rule.v6.is_none_or(|v6| v6 == key.src.is_ipv6())
        && rule.protocol.is_none_or(|protocol| u16::from(protocol) == key.protocol)
        && rule.interface.is_none_or(|only| interface.is_none_or(|interface| interface == only))
        && within(rule.source, key.src)
        && within(rule.destination, key.dst)
        && among(&rule.source_ports, key.sport)
        && among(&rule.destination_ports, key.dport)
}

/// Whether an address is in a network; never in one of the other family.
#[inline]
pub(crate) fn prefix_matches(prefix: IpAddr, length: u8, address: IpAddr) -> bool {
    match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            (prefix.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            (prefix.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

/// An address with all but its first `length` bits cleared.
#[inline]
pub(crate) fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}
