//! `[[port]]`, `[[interface]]`, `[[route]]`, `[[neighbour]]`, `[[local-pool]]`.

use ipnet::IpNet;

use super::super::table::Table;
use crate::state::{
    AddressRange, Bond, BondHash, BondMode, Exception, Interface, LocalPool, Neighbour, NextHop, Port,
    PortRange, PortSteering, Route, RouteTarget,
};
use crate::validate::{MAX_MTU, MAX_RATE, MSS, WEIGHTS};

pub(super) fn port(table: &mut Table<'_>) -> Option<Port> {
    let name = table.text("name");
    let device = table.text("device");
    let bonded = table.has_key("bond");
    let bond = table.table("bond", "[port.bond]").and_then(bond);
    let mac = table.parsed("mac", "a MAC address, such as 02:00:00:00:01:01");
    let steering = table.word("steering", &PortSteering::WORDS).unwrap_or_default();
    let name = table.required("name", "\"wan\"", name);
    let device = match (bonded, device) {
        (true, Some(_)) => {
            table.complain("device", "a port has a device or a bond; leave one of the two out");
            return None;
        }
        (true, None) => bond.as_ref().map(|_| String::new()),
        (false, None) if !table.has("device") => {
            table.complain("", "[[port]] needs `device`, such as device = \"eth1\", or a bond");
            None
        }
        (false, device) => device,
    };
    Some(Port { name: name?, device: device?, bond, mac, steering })
}

/// A mode has keys of its own.
fn bond(mut table: Table<'_>) -> Option<Bond> {
    let mode = table.word("mode", &[("active-backup", false), ("lacp", true)]);
    let members = table.list("members", |text| Ok(text.to_owned()));
    let primary = table.text("primary");
    let hash = table.word("hash", &BondHash::WORDS);
    let mode = table.required("mode", "\"active-backup\"", mode);
    let members = table.required("members", "[\"eth1\", \"eth2\"]", members);
    let mode = match (mode, &primary, hash) {
        (Some(true), Some(_), _) => {
            table.complain(
                "primary",
                "primary is a key of mode `active-backup`; with `lacp` all members carry traffic",
            );
            None
        }
        (Some(false), _, Some(_)) => {
            table.complain(
                "hash",
                "hash is a key of mode `lacp`; with `active-backup` one member carries all traffic",
            );
            None
        }
        (Some(true), None, hash) => Some(BondMode::Lacp { hash: hash.unwrap_or_default() }),
        (Some(false), ..) => Some(BondMode::ActiveBackup { primary }),
        (None, ..) => None,
    };
    table.finish();
    Some(Bond { mode: mode?, members: members? })
}

pub(super) fn interface(table: &mut Table<'_>) -> Option<Interface> {
    let name = table.text("name");
    let port = table.text("port");
    let vlan = table.number("vlan", 0..=4094).unwrap_or(0);
    let mtu = table.number("mtu", 576..=MAX_MTU).unwrap_or(1500);
    let mss = table.number("mss", MSS);
    let exception = table.text("exception");
    let addresses = table.list("addresses", |text| {
        text.parse::<IpNet>()
            .map_err(|_| format!("`{text}` is not an address with its subnet, such as 172.16.100.1/24"))
    });
    let name = table.required("name", "\"wan\"", name);
    let port = table.required("port", "\"wan\"", port);
    Some(Interface {
        name: name?,
        port: port?,
        vlan,
        mtu,
        addresses: addresses.unwrap_or_default(),
        mss,
        exception,
    })
}

pub(super) fn exception(table: &mut Table<'_>) -> Exception {
    let Exception { routing, link, management, answers, rest, management_ports } = Exception::default();
    let mut rate = |key, default| table.number(key, 0..=MAX_RATE).unwrap_or(default);
    Exception {
        routing: rate("routing", routing),
        link: rate("link", link),
        management: rate("management", management),
        answers: rate("answers", answers),
        rest: rate("rest", rest),
        management_ports: table.numbers("management-ports", 1..=u16::MAX).unwrap_or(management_ports),
    }
}

pub(super) fn route(table: &mut Table<'_>) -> Option<Route> {
    let to = table.parsed("to", "a prefix, such as 10.1.0.0/16");
    let via = table.one_or_list("via", GATEWAY, |text| {
        let gateway = text.parse().map_err(|_| format!("via `{text}` is not {GATEWAY}"));
        gateway.map(NextHop::new)
    });
    let mut hops = Vec::new();
    for mut hop in table.tables("next-hop", "[[route.next-hop]]") {
        hops.extend(next_hop(&mut hop));
        hop.finish();
    }
    let gateways = table.has("via") || table.has("next-hop");
    let interface = table.text("interface").map(RouteTarget::Interface);
    let refusal = table.word("type", &[("unreachable", false), ("blackhole", true)]);
    let refusal =
        refusal.map(|silent| if silent { RouteTarget::Blackhole } else { RouteTarget::Unreachable });
    let mtu = table.number("mtu", 576..=MAX_MTU);
    let to = table.required("to", "\"0.0.0.0/0\"", to);
    if table.has("via") && table.has("next-hop") {
        let rule = "list all gateways in one, with weights in `next-hop`";
        table.complain("next-hop", format!("[[route]] has both `via` and `next-hop`; {rule}"));
        return None;
    }
    let via = gateways.then(|| RouteTarget::Via(via.unwrap_or(hops)));
    let mut targets: Vec<RouteTarget> = [via, interface, refusal].into_iter().flatten().collect();
    if targets.len() != 1 {
        let count = if targets.is_empty() { "no" } else { "more than one" };
        let rule = "give one of `via = ADDRESS`, `next-hop = [{ via = ADDRESS, weight = NUMBER }, …]`, \
                    `interface = NAME`, `type = \"unreachable\"|\"blackhole\"`";
        table.complain("", format!("[[route]] has {count} target; {rule}"));
        return None;
    }
    Some(Route { to: to?, target: targets.remove(0), mtu })
}

const GATEWAY: &str = "an IP address, such as 172.16.100.254";

fn next_hop(table: &mut Table<'_>) -> Option<NextHop> {
    let via = table.parsed("via", GATEWAY);
    let weight = table.number("weight", WEIGHTS).unwrap_or(1);
    let via = table.required("via", "\"172.16.100.254\"", via);
    Some(NextHop { via: via?, weight })
}

pub(super) fn neighbour(table: &mut Table<'_>) -> Option<Neighbour> {
    let address = table.parsed("address", "an IP address, such as 192.168.20.7");
    let mac = table.parsed("mac", "a MAC address, such as 02:00:00:00:20:07");
    let interface = table.text("interface");
    let address = table.required("address", "\"192.168.20.7\"", address);
    let mac = table.required("mac", "\"02:00:00:00:20:07\"", mac);
    let interface = table.required("interface", "\"lan\"", interface);
    Some(Neighbour { address: address?, mac: mac?, interface: interface? })
}

pub(super) fn local_pool(table: &mut Table<'_>) -> Option<LocalPool> {
    let name = table.text("name");
    let interface = table.text("interface");
    let addresses = table.list("addresses", |text| {
        address_range(text).ok_or_else(|| {
            format!("`{text}` is not a range of addresses, such as 192.168.20.200-192.168.20.203")
        })
    });
    let ports = table.read("ports", |text| {
        port_range(text).ok_or_else(|| format!("`{text}` is not a range of ports; such as \"1024-65535\""))
    });
    let name = table.required("name", "\"inside\"", name);
    let interface = table.required("interface", "\"lan\"", interface);
    let addresses = table.required("addresses", "[\"192.168.20.200-192.168.20.203\"]", addresses);
    Some(LocalPool {
        name: name?,
        interface: interface?,
        addresses: addresses?,
        ports: ports.unwrap_or_default(),
    })
}

/// `1.2.3.4-1.2.3.9`, `1.2.3.4` or `1.2.3.0/28` (every address of it).
fn address_range(text: &str) -> Option<AddressRange> {
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(AddressRange { first: net.network(), last: net.broadcast() });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(AddressRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
}

/// `1024-65535` or `5000`.
pub(super) fn port_range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
}
