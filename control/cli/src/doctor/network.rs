//! The processes, the links, and the ways to the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fulcrum_api::dataplane::{BondMember, BondStatus, PortStatus};
use fulcrum_director::Concern;
use fulcrum_director::explain::{self, Way};
use fulcrum_model::Forward;
use fulcrum_replay::trace::{CONFLICT, NeighbourFact};

use super::{Facts, Finding, Level};

/// Frames that a port may miss in a thousand before it is worth a word.
const MISSED_PER_MILLE: u64 = 1;
/// Names that are listed at most.
const MANY: usize = 4;

/// Whether everybody is there and of one mind.
pub(super) fn processes(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (control, link) =
        (facts.status.control.clone().unwrap_or_default(), facts.status.link.clone().unwrap_or_default());
    if !control.config_error.is_empty() {
        let advice = format!("correct it; `fulcrum check {}` says when it is right", control.config);
        findings.push(Finding::new(
            Level::Error,
            "configuration",
            format!("the file is not in effect: {}", control.config_error),
            advice,
        ));
    }
    let Some(dataplane) = facts.dataplane() else {
        let mut what = format!("not connected ({})", link.socket);
        if !link.last_error.is_empty() {
            what += &format!(": {}", link.last_error);
        }
        let advice =
            "start fulcrum-dataplane: systemctl status fulcrum-dataplane; journalctl -u fulcrum-dataplane";
        findings.push(Finding::new(Level::Error, "data plane", what, advice));
        return findings;
    };
    if !link.in_sync {
        let what = format!("does not hold the desired state: {}", link.last_error);
        findings.push(Finding::new(
            Level::Error,
            "data plane",
            what,
            "correct what it refuses; it is tried again by itself",
        ));
    } else if dataplane.acknowledged != dataplane.generation {
        let what =
            format!("workers still run generation {} of {}", dataplane.acknowledged, dataplane.generation);
        findings.push(Finding::new(
            Level::Warning,
            "data plane",
            what,
            "ask again in a second; `fulcrum worker list` shows who is busy",
        ));
    }
    for warning in &dataplane.warnings {
        let finding = match warning.strip_prefix("host: ") {
            Some(advice) => Finding::new(Level::Advice, "host", advice, ""),
            None => Finding::new(Level::Warning, "data plane", warning, ""),
        };
        findings.push(finding);
    }
    findings
}

/// Whether ports have a link, and take in what comes.
pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for port in facts.dataplane().into_iter().flat_map(|dataplane| &dataplane.ports) {
        let about = format!("port {}", port.name);
        if !port.link {
            let advice = format!(
                "look at cable, transceiver and switch; of a virtual device, whether its other end is up ({})",
                port.device
            );
            findings.push(Finding::new(Level::Error, &about, "no link", advice));
        }
        findings.extend(port.bond.iter().flat_map(|bond| bond_members(port, bond)));
        if port.rx_missed * 1000 > port.rx_packets * MISSED_PER_MILLE {
            let what =
                format!("{} frames found no place in its queues, {} did", port.rx_missed, port.rx_packets);
            let advice =
                "more workers or queues, or a worker that is kept from its work: `fulcrum worker list`";
            findings.push(Finding::new(Level::Warning, &about, what, advice));
        }
        if port.rx_errors * 1000 > port.rx_packets {
            let what = format!("{} broken frames came in", port.rx_errors);
            findings.push(Finding::new(Level::Warning, &about, what, "look at cable and transceiver"));
        }
        if let Some(steering) = port.steering.as_ref().filter(|steering| steering.disagreed > 0) {
            let what = format!(
                "of {} packets, {} came to other workers than the device promised",
                steering.checked, steering.disagreed
            );
            findings.push(Finding::new(
                Level::Warning,
                &about,
                what,
                "set steering = \"software\" for it if that goes on",
            ));
        }
    }
    findings
}

/// Members of a bond that others stand in for.
fn bond_members(port: &PortStatus, bond: &BondStatus) -> Vec<Finding> {
    let finding = |member: &BondMember| {
        let about = format!("port {}, member {}", port.name, member.device);
        let (what, advice) = match member.state.as_str() {
            "down" => (
                "no link",
                "look at cable, transceiver and switch: while it is down nothing stands in for the rest",
            ),
            "no-partner" => (
                "nobody answers its LACP",
                "set up the switch's port for LACP (802.3ad, active or passive), in the group of the other members'",
            ),
            "negotiating" => (
                "LACP has not put it into the bond",
                "the other end has to be the same switch (or stack) and the same group as the other members', of equal speed",
            ),
            _ => return None,
        };
        Some(Finding::new(Level::Warning, &about, what, advice))
    };
    bond.members.iter().filter_map(finding).collect()
}

/// Whether a way leads to every server, and its next hop answers.
pub(super) fn ways(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Whether servers have other ways beside this one, and which servers.
    let mut hops: BTreeMap<(u16, IpAddr), (bool, Vec<String>)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // A server that is this host has no way to it.
    for (service, server) in facts.servers().filter(|(_, server)| server.forward != Forward::Local) {
        let address = server.key.address;
        let about = format!("server {}", server.key);
        if facts.snapshot.locals.contains_key(&address) {
            let what = format!("its address is the director's own (of {})", service.key);
            findings.push(Finding::new(
                Level::Error,
                about,
                what,
                "correct the server, or the interface's addresses",
            ));
            continue;
        }
        match explain::ways(&facts.snapshot, address) {
            Ok(ways) => {
                let first = seen.insert(server.key);
                let several = ways.len() > 1;
                for way in ways {
                    let (others, names) =
                        hops.entry((way.interface, way.next_hop)).or_insert((true, Vec::new()));
                    *others &= several;
                    if first {
                        names.push(server.key.to_string());
                    }
                }
            }
            Err(reason) if seen.insert(server.key) => {
                let what = format!("no way leads there ({reason}, of {})", service.key);
                let advice = format!(
                    "fulcrum route add {address} via GATEWAY, or give an interface an address of its subnet"
                );
                findings.push(Finding::new(Level::Error, about, what, advice));
            }
            Err(_) => {}
        }
    }
    for ((interface, next_hop), (others, servers)) in hops {
        let name = &facts.snapshot.interfaces[usize::from(interface)].name;
        let fact = facts.neighbours.iter().find(|fact| fact.interface == *name && fact.address == next_hop);
        let Some(fact) = fact.filter(|fact| fact.mac.is_none()) else { continue };
        let what = format!(
            "does not answer on {name} ({}), {} packets wait; it is {} to {}",
            fact.state,
            fact.parked,
            if others { "one of the ways" } else { "the way" },
            some(&servers)
        );
        let question = if next_hop.is_ipv6() { "neighbour solicitations" } else { "ARP" };
        let advice = format!(
            "is it up, on this link and VLAN, with this address? `fulcrum capture --client {next_hop}` shows {question} and answers"
        );
        let level = if others { Level::Warning } else { Level::Error };
        findings.push(Finding::new(level, format!("neighbour {next_hop}"), what, advice));
    }
    let gateways = facts
        .state
        .routes
        .iter()
        .flat_map(|route| route.target.next_hops().iter().map(move |hop| (route, hop)));
    for (route, hop) in gateways {
        let (gateway, others) = (hop.via, route.target.next_hops().len() - 1);
        let dead = facts.neighbours.iter().find(|fact| fact.address == gateway && fact.mac.is_none());
        if let Some(fact) =
            dead.filter(|_| findings.iter().all(|finding| finding.about != format!("neighbour {gateway}")))
        {
            let (level, part) = match others {
                0 => (Level::Error, "the gateway".to_owned()),
                _ => (Level::Warning, format!("one of {} gateways", others + 1)),
            };
            let what = format!(
                "does not answer on {} ({}); it is {part} to {}",
                fact.interface, fact.state, route.to
            );
            findings.push(Finding::new(
                level,
                format!("neighbour {gateway}"),
                what,
                "is the router up, and on this link?",
            ));
        }
    }
    findings
}

/// Whether an address is the director's alone.
pub(super) fn claims(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for claim in facts.neighbours.iter().filter(|fact| fact.state == CONFLICT) {
        let Some(mac) = claim.mac else { continue };
        let same = |fact: &&NeighbourFact| {
            fact.state != CONFLICT && fact.interface == claim.interface && fact.mac == Some(mac)
        };
        let others: Vec<String> =
            facts.neighbours.iter().filter(same).map(|fact| fact.address.to_string()).collect();
        let who =
            if others.is_empty() { mac.to_string() } else { format!("{mac}, which is {}", some(&others)) };
        let what = format!("on {} also {who} claims it: clients reach one or the other", claim.interface);
        let advice = "a DR or TUN server has to keep it to itself: sysctl -w net.ipv4.conf.all.arp_ignore=1 \
                      net.ipv4.conf.all.arp_announce=2, and the address on lo; any other station has to give it up";
        findings.push(Finding::new(Level::Error, format!("address {}", claim.address), what, advice));
    }
    findings
}

/// Whether the kernel of this machine takes what comes to it by the interfaces' twins.
pub(super) fn host(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let read = |which: &str| {
        let text = facts.host.0(&format!("/proc/sys/net/ipv4/conf/{which}/rp_filter"));
        text.and_then(|text| text.trim().parse::<u32>().ok())
    };
    for twin in facts.state.interfaces.iter().filter_map(|interface| interface.exception.as_ref()) {
        // The larger of a device's and the machine's counts. // Linux: IN_DEV_MAXCONF
        if read("all").max(read(twin)) == Some(1) {
            let what = "rp_filter is 1: what comes to this host by another way than answers leave is dropped without a word";
            let advice = format!("sysctl -w net.ipv4.conf.{twin}.rp_filter=2");
            findings.push(Finding::new(Level::Advice, format!("host interface {twin}"), what, advice));
        }
    }
    findings
}

/// Whether packets that clients send have room on the way to servers.
pub(super) fn room(facts: &Facts) -> Vec<Finding> {
    let largest = facts.state.interfaces.iter().map(|interface| interface.mtu).max().unwrap_or(0);
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    for (service, server) in facts.servers().filter(|(_, server)| server.forward != Forward::Local) {
        let ways = explain::ways(&facts.snapshot, server.key.address).unwrap_or_default();
        let Some(way) = ways.into_iter().min_by_key(|way| way.mtu) else { continue };
        let overhead = overhead(facts, service.key, server.key);
        let room = way.mtu.saturating_sub(overhead);
        let clamped =
            service.mss.is_some() || facts.state.interfaces.iter().any(|interface| interface.mss.is_some());
        if room >= largest || clamped {
            continue;
        }
        let about = format!("service {}", service.key);
        let what = match server.forward {
            Forward::Tun => format!(
                "packets of {room} bytes fit into the tunnel to {}, but {largest} may come",
                server.key
            ),
            _ => format!("packets of {room} bytes fit on the way to {}, but {largest} may come", server.key),
        };
        let headers = if server.key.address.is_ipv6() { 60 } else { 40 };
        let advice = format!(
            "mss = {} for the service, or an MTU of {} on the way: larger ones need senders that hear ICMP",
            room.saturating_sub(headers),
            largest + overhead
        );
        findings.entry(about.clone()).or_insert(Finding::new(Level::Advice, about, what, advice));
    }
    findings.into_values().collect()
}

/// Bytes that are put before packets to a server.
fn overhead(facts: &Facts, service: fulcrum_model::ServiceKey, server: fulcrum_model::ServerKey) -> u16 {
    let is_it = |destination: &&std::sync::Arc<fulcrum_director::snapshot::Destination>| {
        destination.available && (destination.address, destination.port) == (server.address, server.port)
    };
    let protocol = service.protocol().map_or(0, |protocol| protocol.number());
    let found = facts.snapshot.destinations.iter().flatten().filter(is_it);
    let bytes = found
        .filter(|destination| destination.protocol == protocol)
        .map(|destination| explain::overhead(destination))
        .max();
    u16::try_from(bytes.unwrap_or(0)).unwrap_or(u16::MAX)
}

/// Some of many names.
pub(super) fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(MANY);
    let listed = names.iter().take(MANY).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

/// The way to a server whose next hop answers.
pub(super) fn good_way(facts: &Facts, server: IpAddr) -> Option<Way> {
    explain::ways(&facts.snapshot, server).ok()?.into_iter().find(|way| {
        let name = &facts.snapshot.interfaces[usize::from(way.interface)].name;
        let is_it = |fact: &&NeighbourFact| fact.interface == *name && fact.address == way.next_hop;
        facts.neighbours.iter().find(is_it).is_some_and(|fact| fact.mac.is_some())
    })
}

/// How a drop's concern shows.
pub(super) fn level(concern: Concern) -> Option<Level> {
    match concern {
        Concern::Noise => None,
        Concern::Watch => Some(Level::Advice),
        Concern::Act => Some(Level::Warning),
    }
}
