//! `[[mark]]`.

use super::super::table::Table;
use super::network::port_range;
use super::service::{FAMILIES, PROTOCOLS};
use crate::state::{MarkRule, PortRange};

pub(super) fn mark(table: &mut Table<'_>) -> Option<MarkRule> {
    let family = table.word("family", &FAMILIES);
    let protocol = table.word("protocol", &PROTOCOLS);
    let source = table.parsed("source", "a prefix, such as 10.1.0.0/16");
    let destination = table.parsed("destination", "a prefix, such as 172.16.100.9/32");
    let source_ports = table.read("source-ports", ports);
    let destination_ports = table.read("destination-ports", ports);
    let interface = table.text("interface");
    let mark = table.number("mark", 0..=u32::MAX);
    let mask = table.number("mask", 0..=u32::MAX);
    let mark = table.required("mark", "10", mark);
    Some(MarkRule {
        family,
        protocol,
        source,
        destination,
        source_ports: source_ports.unwrap_or_default(),
        destination_ports: destination_ports.unwrap_or_default(),
        interface,
        mark: mark?,
        mask: mask.unwrap_or(u32::MAX),
    })
}

/// `80,443,8000-8999`
pub(super) fn ports(text: &str) -> Result<Vec<PortRange>, String> {
    let read = |part| {
        port_range(part).ok_or_else(|| format!("`{text}` is no list of ports, such as \"80,443,8000-8999\""))
    };
    text.split(',').map(read).collect()
}
