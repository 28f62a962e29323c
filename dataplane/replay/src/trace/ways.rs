//! The way of a traced packet from its server's method to the link, and of the answers.

use fulcrum_director::explain::{self, Candidate, Way};
use fulcrum_director::snapshot::{Destination, Forward};
use fulcrum_model::Mac;

use super::steps::{MANY, end};
use super::{Mark, NeighbourFact, Run, Step, Tracer, way_back};

/// From the server that was chosen to the link.
pub(super) fn way(tracer: &Tracer, run: &Run, server: &Destination, known: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if server.local {
        let text = "local: the server is this host, which gets the packet by the interface's exception";
        return vec![Step::new("forwarding", Mark::Ok, text.to_owned())];
    }
    let local = run
        .bench
        .sessions()
        .iter()
        .find(|view| !view.template && view.local.is_some())
        .and_then(|view| view.local);
    let text = match server.forward {
        Forward::Nat => "nat: the destination becomes the server; its answers have to come back through the director".to_owned(),
        Forward::FullNat => match local {
            Some(local) if known => format!("fullnat: the source becomes {}, the destination the server", end(local)),
            Some(local) => format!("fullnat: the source becomes a local address such as {}, the destination the server", end(local)),
            None => "fullnat: the source becomes a local address, the destination the server".to_owned(),
        },
        Forward::Dr => "dr: the packet stays as it is; the server has to hold the address (on lo) and answers the client itself".to_owned(),
        Forward::Tun => format!("tun: in a tunnel, {} bytes more; the server has to hold the address and answers the client itself", explain::overhead(server)),
    };
    steps.push(Step::new("forwarding", Mark::Ok, text));
    steps.extend(pool(tracer, server));
    let ends = [tracer.from(), tracer.flow.virtual_];
    match explain::way(&tracer.snapshot, server.address, tracer.flow.protocol.number(), ends) {
        Err(reason) => {
            let text = format!("to {}: none ({reason}); {}", server.address, reason.remedy().advice);
            steps.push(Step::new("route", Mark::Stop, text));
        }
        Ok(way) => {
            steps.extend(link(tracer, server, way));
        }
    }
    if matches!(server.forward, Forward::Nat | Forward::FullNat) {
        steps.extend(answers(tracer));
    }
    steps
}

fn pool(tracer: &Tracer, server: &Destination) -> Option<Step> {
    if server.forward != Forward::FullNat {
        return None;
    }
    let ranges = tracer.compiled()?.local_addresses_for(server.address);
    if ranges.is_empty() {
        let text = "the service has no local address of the server's family".to_owned();
        return Some(Step::new("local pool", Mark::Stop, text));
    }
    let name = tracer.service?.to_string();
    let details = ranges.iter().take(MANY).map(|range| {
        let used = tracer
            .facts
            .pools
            .iter()
            .find(|(service, address, _)| *service == name && *address == range.address);
        let used = used.map_or(0, |(_, _, sessions)| *sessions);
        format!(
            "{} ports {}-{}: {used} sessions, {} for each server",
            range.address,
            range.first,
            range.last,
            range.ports()
        )
    });
    let text = format!("{} addresses to choose from", ranges.len());
    Some(Step::new("local pool", Mark::Ok, text).with(details.collect()))
}

/// Which of several gateways the answers take.
fn answers(tracer: &Tracer) -> Option<Step> {
    let client = tracer.flow.client.0;
    let (candidates, way) =
        (explain::candidates(&tracer.snapshot, client), way_back(&tracer.snapshot, &tracer.flow).ok()?);
    let out = &tracer.snapshot.interfaces[usize::from(way.interface)];
    let text = format!("to {client}: by {}, gateway {}", out.name, way.next_hop);
    (!candidates.is_empty()).then(|| of_several(tracer, Step::new("answers", Mark::Ok, text), &candidates))
}

/// Says why a way leads by its gateway and not by the others.
fn of_several(tracer: &Tracer, step: Step, candidates: &[Candidate]) -> Step {
    let (count, answering) =
        (candidates.len(), candidates.iter().filter(|candidate| candidate.answers).count());
    let whom = match answering {
        0 => format!("of {count} gateways, none of which answers"),
        _ if answering == count => format!("of {count} gateways"),
        _ => format!("of the {answering} of {count} gateways that answer"),
    };
    let why = match tracer.flow.client.1 {
        Some(_) => "the hash of both ends decides",
        None => "another one for another port of the client: give it",
    };
    let mark = if answering == count { Mark::Ok } else { Mark::Warning };
    let details = candidates.iter().map(|candidate| {
        let name = &tracer.snapshot.interfaces[usize::from(candidate.way.interface)].name;
        let silent = if candidate.answers { "" } else { ", does not answer: the others have its flows" };
        format!("gateway {} on {name}: weight {}{silent}", candidate.way.next_hop, candidate.weight)
    });
    Step { mark, text: format!("{}, {whom}: {why}", step.text), details: details.collect(), ..step }
}

fn link(tracer: &Tracer, server: &Destination, way: Way) -> Vec<Step> {
    let out = &tracer.snapshot.interfaces[usize::from(way.interface)];
    let route = match way.next_hop == server.address {
        true => format!("to {}: on the link of {}", server.address, out.name),
        false => format!("to {}: by {}, gateway {}", server.address, out.name, way.next_hop),
    };
    let configured =
        tracer.snapshot.neighbours.iter().find(|n| n.interface == way.interface && n.address == way.next_hop);
    let (mark, text) = match (tracer.neighbour(way.interface, way.next_hop), configured) {
        (Some(NeighbourFact { state, mac: Some(mac), .. }), _) => {
            (Mark::Ok, format!("{} is at {mac} ({state})", way.next_hop))
        }
        (Some(NeighbourFact { state, parked, .. }), _) => (
            Mark::Warning,
            format!(
                "{} does not answer ({state}), {parked} packets wait: is it up, and on {}?",
                way.next_hop, out.name
            ),
        ),
        (None, Some(neighbour)) => {
            (Mark::Ok, format!("{} is at {} (configured)", way.next_hop, Mac(neighbour.mac)))
        }
        (None, None) => (
            Mark::Note,
            format!("{} is not known yet: it is asked for, the packet waits meanwhile", way.next_hop),
        ),
    };
    let room = usize::from(way.mtu).saturating_sub(explain::overhead(server));
    let came = tracer.snapshot.interfaces[usize::from(tracer.interface)].mtu;
    let mtu = match room < usize::from(came) {
        true => Step::new(
            "mtu",
            Mark::Warning,
            format!(
                "packets of {room} bytes get through, but clients may send {came}: larger ones are refused or cut; mss = {} for TCP avoids it",
                room.saturating_sub(if server.address.is_ipv6() { 60 } else { 40 })
            ),
        ),
        false => Step::new(
            "mtu",
            Mark::Ok,
            format!("packets of {room} bytes get through, clients send up to {came}"),
        ),
    };
    let (candidates, route) =
        (explain::candidates(&tracer.snapshot, server.address), Step::new("route", Mark::Ok, route));
    let route = if candidates.is_empty() { route } else { of_several(tracer, route, &candidates) };
    vec![route, Step::new("next hop", mark, text), mtu]
}
