//! `[[snat]]`.

use super::super::table::Table;
use super::mark::ports;
use crate::state::{Snat, SnatProtocol};

pub(super) fn snat(table: &mut Table<'_>) -> Option<Snat> {
    let name = table.text("name");
    let source = table.parsed("source", "a prefix, such as 192.168.20.0/24");
    let destination = table.parsed("destination", "a prefix, such as 198.51.100.0/24");
    let protocol = table.word("protocol", &SnatProtocol::WORDS);
    let destination_ports = table.read("destination-ports", ports);
    let pool = table.text("pool");
    let exempt = table.flag("exempt").unwrap_or(false);
    let name = table.required("name", "\"servers\"", name);
    let source = table.required("source", "\"192.168.20.0/24\"", source);
    if pool.is_some() == exempt {
        let count = if exempt { "both `pool` and `exempt`" } else { "neither" };
        let rule = "give `pool = NAME`, or `exempt = true` for what is to be routed as it is";
        table.complain("", format!("[[snat]] has {count}; {rule}"));
        return None;
    }
    Some(Snat {
        name: name?,
        source: source?,
        destination,
        protocol,
        destination_ports: destination_ports.unwrap_or_default(),
        pool,
    })
}
