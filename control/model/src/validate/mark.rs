//! Rules for what marks packets.

use ipnet::IpNet;

use super::{Problem, add, known_interface};
use crate::state::{Family, MarkRule, PortRange, State};

/// The most ranges of ports of a rule, as in iptables' multiport.
const MAX_PORT_RANGES: usize = 15;

/// Rules for a rule that marks packets, in a state.
pub fn mark(state: &State, rule: &MarkRule) -> Vec<Problem> {
    let mut found = Vec::new();
    host_bits(&mut found, [("source", rule.source), ("destination", rule.destination)]);
    let family = |net: IpNet| Family::of(net.addr());
    let families = [rule.family, rule.source.map(family), rule.destination.map(family)];
    let mut named = families.into_iter().flatten();
    if let Some(first) = named.next()
        && named.any(|other| other != first)
    {
        add(&mut found, "family", "family, source and destination of a mark rule are of two families");
    }
    for (key, ranges) in
        [("source-ports", &rule.source_ports), ("destination-ports", &rule.destination_ports)]
    {
        ports(&mut found, key, ranges, rule.protocol.is_some());
    }
    if let Some(name) = &rule.interface {
        known_interface(&mut found, state, name);
    }
    found
}

/// That networks are networks.
pub(super) fn host_bits(found: &mut Vec<Problem>, networks: [(&'static str, Option<IpNet>); 2]) {
    for (key, net) in networks {
        if let Some(net) = net
            && net.addr() != net.network()
        {
            add(found, key, format!("{net} has host bits set; {} would be right", net.trunc()));
        }
    }
}

/// That ranges are ranges, and the packets have ports.
pub(super) fn ports(found: &mut Vec<Problem>, key: &'static str, ranges: &[PortRange], protocol: bool) {
    if !ranges.is_empty() && !protocol {
        add(found, key, format!("{key} need a protocol; give `protocol`, such as \"tcp\""));
    }
    if ranges.len() > MAX_PORT_RANGES {
        add(found, key, format!("{} ranges of ports; at most {MAX_PORT_RANGES} in one rule", ranges.len()));
    }
    if let Some(range) = ranges.iter().find(|range| range.first > range.last) {
        add(found, key, format!("ports {range} end before they begin; swap the two"));
    }
}
