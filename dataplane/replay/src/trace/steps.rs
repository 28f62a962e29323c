//! The way of a traced packet in words, in the order in which the engine meets its questions.

use std::net::{IpAddr, SocketAddr};

use fulcrum_director::explain::{self, Choice};
use fulcrum_director::snapshot::{Destination, Service};
use fulcrum_director::{Event, Reason, VerdictKind};
use fulcrum_model::{Protocol, ServiceKey};
use fulcrum_packet::ethernet;

use super::{LoadFact, Mark, Report, Run, SessionFact, Step, Tracer, frame, way_back, ways};
use crate::verdict::word;

/// Things of one kind that are listed at most.
pub(super) const MANY: usize = 16;

/// Tells the way.
pub(super) fn report(
    tracer: &Tracer,
    session: Option<&SessionFact>,
    template: Option<&SessionFact>,
    run: &Run,
) -> Report {
    let mut steps = vec![arrival(tracer), address(tracer)];
    steps.extend(mark(tracer));
    steps.push(service(tracer));
    let mut certain = true;
    if let Some(compiled) = tracer.compiled() {
        steps.push(self::session(tracer, session));
        if session.is_none() {
            steps.extend(self::template(tracer, compiled, template, run));
            let decided = template.is_some() && run.recreated;
            if !decided {
                let (step, sure) = schedule(tracer, run);
                steps.push(step);
                certain = sure;
            }
        }
    }
    let released = tracer.snapshot.locals.get(&tracer.flow.virtual_.0).is_some_and(|local| local.withheld);
    if session.or(template).is_some() && !run.recreated && !released {
        let text = "what the data plane knows of this flow could not be made again here (the configuration has \
                    changed since, or a defence is at work): what follows is what a new flow meets";
        steps.push(Step::new("caution", Mark::Warning, text.to_owned()));
    }
    if let Some((server, _)) = run.server() {
        steps.extend(ways::way(tracer, run, &server, session.is_some()));
    }
    let verdict = run.verdict;
    steps.push(outcome(run));
    Report {
        session: session.is_some(),
        steps,
        verdict: verdict.map_or("drop", |verdict| word(verdict.kind)),
        reason: verdict.map_or("unknown", |verdict| verdict.reason),
        service: tracer.service.map(|service| service.to_string()),
        server: run.server().map(|(_, key)| key.to_string()),
        certain,
    }
}

impl Step {
    pub(super) fn new(about: &'static str, mark: Mark, text: String) -> Step {
        Step { about, mark, text, details: Vec::new() }
    }

    pub(super) fn with(self, details: Vec<String>) -> Step {
        Step { details, ..self }
    }
}

pub(super) fn end((address, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn arrival(tracer: &Tracer) -> Step {
    let place = &tracer.snapshot.interfaces[usize::from(tracer.interface)];
    let port = tracer.snapshot.ports.get(usize::from(place.port)).map_or("", |port| &port.name);
    let vlan = if place.vlan == 0 { String::new() } else { format!(", vlan {}", place.vlan) };
    let client = tracer.flow.client.0;
    let (mark, why) = match (&tracer.flow.interface, way_back(&tracer.snapshot, &tracer.flow)) {
        (None, _) => (Mark::Ok, format!("the way back to {client} leads there")),
        (Some(_), Ok(way)) if way.interface == tracer.interface => {
            (Mark::Ok, format!("so does the way back to {client} lead"))
        }
        (Some(_), Ok(way)) => {
            let other = &tracer.snapshot.interfaces[usize::from(way.interface)].name;
            (Mark::Note, format!("answers to {client} leave by {other}"))
        }
        (Some(_), Err(reason)) => {
            (Mark::Warning, format!("no way leads back to {client} ({reason}): answers are lost"))
        }
    };
    Step::new("arrival", mark, format!("by interface {} (port {port}{vlan}): {why}", place.name))
}

/// Whether the director has the address, and lets neighbours know.
fn address(tracer: &Tracer) -> Step {
    let (vip, _) = tracer.flow.virtual_;
    match tracer.snapshot.locals.get(&vip) {
        Some(local) if local.withheld => {
            let why = tracer.facts.released.iter().find(|(released, _)| *released == vip);
            let why = why.map_or("released", |(_, why)| why);
            let text = format!(
                "{vip} is a VIP that the director does not have ({why}): neighbours get no answer for it, and what comes \
                 is dropped; `fulcrum vip take {vip}` takes it"
            );
            Step::new("address", Mark::Stop, text)
        }
        Some(local) => {
            let answers = local.arp.map(|interface| &tracer.snapshot.interfaces[usize::from(interface)].name);
            let text = match answers {
                Some(name) => format!("{vip} is the director's, which answers for it on {name}"),
                None => format!(
                    "{vip} is the director's, which answers for it nowhere: routers have to send it here"
                ),
            };
            Step::new("address", Mark::Ok, text)
        }
        None => {
            let text =
                format!("{vip} is no address of the director: only a service by mark takes such packets");
            Step::new("address", Mark::Note, text)
        }
    }
}

fn mark(tracer: &Tracer) -> Option<Step> {
    let rules = &tracer.facts.state.marks;
    if rules.is_empty() {
        return None;
    }
    let count = rules.len();
    if tracer.rules.is_empty() {
        return Some(Step::new("mark", Mark::Ok, format!("0: none of {count} rules fits")));
    }
    // A rule that the program could not use shifts the numbers: then there is only the number.
    let whole = tracer.snapshot.marks.len() == count;
    let rule = |number: &usize| match rules.get(*number).filter(|_| whole) {
        Some(rule) => format!("rule {}: {rule}", number + 1),
        None => format!("rule {}", number + 1),
    };
    let details = tracer.rules.iter().map(rule).collect();
    Some(Step::new("mark", Mark::Ok, tracer.mark.to_string()).with(details))
}

fn service(tracer: &Tracer) -> Step {
    let Some(key) = tracer.service else {
        let (vip, port) = tracer.flow.virtual_;
        let wanted = ServiceKey::new(tracer.flow.protocol, vip, port);
        if tracer.facts.state.services.iter().any(|service| service.withheld && service.key == wanted) {
            let text = format!("{wanted} would take it, but takes nothing while its VIP is released");
            return Step::new("service", Mark::Stop, text);
        }
        let mut text = format!("none: there is no {wanted}");
        if tracer.mark != 0 {
            text += &format!(", and no service by mark {}", tracer.mark);
        }
        return Step::new("service", Mark::Stop, text).with(near(tracer));
    };
    let compiled = tracer.compiled();
    let servers = compiled.map_or(0, |service| service.destinations.len());
    let scheduler = compiled.map_or("", |service| service.scheduler.name());
    let text =
        format!("{key} takes it: {scheduler}, {servers} {}", if servers == 1 { "server" } else { "servers" });
    Step::new("service", if servers == 0 { Mark::Warning } else { Mark::Ok }, text)
}

/// Services that would take a packet that is a little different.
fn near(tracer: &Tracer) -> Vec<String> {
    let (vip, port) = tracer.flow.virtual_;
    let differs = |key: &ServiceKey| match *key {
        ServiceKey::Address { protocol, address, port: its } if address == vip => {
            match (protocol == tracer.flow.protocol, its == port) {
                (false, true) => Some("of another protocol"),
                (true, _) => Some("of another port"),
                (false, false) => Some("of another protocol and port"),
            }
        }
        ServiceKey::Address { protocol, port: its, .. }
            if protocol == tracer.flow.protocol && its == port =>
        {
            Some("of another address")
        }
        ServiceKey::Mark { .. } => Some("of a mark that no rule gives this flow"),
        ServiceKey::Address { .. } => None,
    };
    let mut near: Vec<_> = tracer
        .facts
        .state
        .services
        .iter()
        .filter_map(|service| Some((differs(&service.key)?, service.key)))
        .collect();
    // What differs least, first.
    near.sort_by_key(|(differs, key)| (key.address() != Some(vip), differs.len()));
    near.into_iter().take(MANY).map(|(differs, key)| format!("near: {key}, {differs}")).collect()
}

fn session(tracer: &Tracer, session: Option<&SessionFact>) -> Step {
    let Some(session) = session else {
        let what = match tracer.flow.protocol {
            Protocol::Tcp => "a SYN opens one, anything else is refused",
            Protocol::Sctp => "an INIT opens one, anything else is refused",
            Protocol::Udp => "its first datagram opens one",
        };
        let whose = match tracer.flow.client.1 {
            Some(_) => "none of these ends",
            None => "none of this client to this service's end",
        };
        return Step::new("session", Mark::Ok, format!("{whose}: {what}"));
    };
    let local = session.local.map_or(String::new(), |local| format!(", local {}", end(local)));
    let text = format!(
        "{} on worker {}: {} > {}{local}, server {} by {}; it ends in {} s without a packet",
        session.state,
        session.worker,
        end(session.client),
        end(session.virtual_),
        end(session.server),
        session.forward,
        session.expires_ms / 1000
    );
    Step::new("session", Mark::Ok, text)
}

fn template(tracer: &Tracer, service: &Service, template: Option<&SessionFact>, run: &Run) -> Option<Step> {
    let persistence = service.persistence?;
    let seconds = persistence.timeout / fulcrum_director::SECOND;
    if persistence.sip {
        let text = "by the call that a message is about: without one at hand, what follows is for a new call";
        return Some(Step::new("persistence", Mark::Note, text.to_owned()));
    }
    let Some(template) = template else {
        let client = tracer.template().map_or(tracer.flow.client.0, |[client, _]| client.0);
        let text = format!("no template of {client}/{}: one is made, for {seconds} s", persistence.prefix);
        return Some(Step::new("persistence", Mark::Ok, text));
    };
    let server = end(template.server);
    let kept = run.server().is_some_and(|(server, _)| server.address == template.server.0);
    let text = format!(
        "the template of {}/{} leads to {server}, for {} s yet",
        template.client.0,
        persistence.prefix,
        template.expires_ms / 1000
    );
    Some(match kept {
        true => Step::new("persistence", Mark::Ok, text),
        false => {
            let text = format!("{text}, but that server takes no connection any more: the template is left");
            Step::new("persistence", Mark::Warning, text)
        }
    })
}

/// Who is chosen, or who may be; and whether that is certain.
fn schedule(tracer: &Tracer, run: &Run) -> (Step, bool) {
    // Of the loads that the bench has: that of the tracer has none.
    let snapshot = run.bench.snapshot();
    let number = tracer.flow.protocol.number();
    let Some(service) = explain::service(snapshot, tracer.mark, number, tracer.flow.virtual_) else {
        return (Step::new("scheduler", Mark::Stop, "no service".to_owned()), true);
    };
    let name = service.scheduler.name();
    let may = |server: &Destination| server.weight > 0 && !server.overloaded();
    // Oldest first, as in listings.
    let servers: Vec<_> = service.destinations.iter().rev().collect();
    let candidates = servers.iter().filter(|server| may(server)).count();
    let choice = explain::choice(name);
    let certain = candidates <= 1 || choice == Some(Choice::Packet);
    let because = match (candidates, choice) {
        (0, _) => "no server may take connections".to_owned(),
        (1, _) => "only one server may take connections".to_owned(),
        (_, Some(Choice::Packet)) => "the packet alone decides, every time the same".to_owned(),
        (_, Some(Choice::Load)) => {
            "the connections that servers have decide, and as these are now".to_owned()
        }
        (_, Some(Choice::Turn)) => {
            format!("they take turns, so any of {candidates} may be next; for example")
        }
        (_, Some(Choice::Memory)) => {
            format!("where {} went before decides, else the load; for example", tracer.flow.virtual_.0)
        }
        (_, Some(Choice::Chance)) => {
            format!("two of {candidates} by chance, the less loaded of them; for example")
        }
        (_, None) => "how it chooses is not known here; for example".to_owned(),
    };
    let chosen = run.server();
    let text = match &chosen {
        Some((_, key)) => format!("{name}: {because}: {key}"),
        None => format!("{name}: {because}"),
    };
    let line = |server: &&std::sync::Arc<Destination>| {
        let key = run.bench.program().server_key(server.id).map(|(_, key)| key);
        let fact = |load: &&LoadFact| Some(load.service) == tracer.service && Some(load.server) == key;
        let (active, inactive) =
            tracer.facts.loads.iter().find(fact).map_or((0, 0), |load| (load.active, load.inactive));
        let key = key.map_or(String::new(), |key| key.to_string());
        let no = match () {
            () if server.weight == 0 => ": no, weight 0",
            () if server.overloaded() => ": no, at its threshold",
            () => "",
        };
        format!("{key} weight {}, {active} active, {inactive} inactive{no}", server.weight)
    };
    let mut details: Vec<String> = servers.iter().take(MANY).map(line).collect();
    if servers.len() > MANY {
        details.push(format!("and {} more", servers.len() - MANY));
    }
    let absent = tracer.facts.absent.iter().filter(|(service, ..)| Some(*service) == tracer.service);
    details.extend(absent.take(MANY).map(|(_, server, why)| format!("{server}: not in service, {why}")));
    let mark = if candidates == 0 { Mark::Stop } else { Mark::Ok };
    (Step::new("scheduler", mark, text).with(details), certain)
}

/// The end: what the engine did with the packet.
fn outcome(run: &Run) -> Step {
    let Some(verdict) = run.verdict else {
        return Step::new(
            "verdict",
            Mark::Stop,
            "the engine says nothing, which is a defect: please report it".to_owned(),
        );
    };
    let reason = Reason::ALL.iter().find(|reason| reason.name() == verdict.reason);
    let event = Event::ALL.iter().find(|event| event.name() == verdict.reason);
    let details: Vec<String> = run
        .sent
        .iter()
        .map(|sent| {
            let port = run.bench.snapshot().ports.get(usize::from(sent.port)).map_or("", |port| &port.name);
            let frame = match ethernet::Frame::new_checked(&sent.bytes[..]).map(|frame| frame.ethertype()) {
                Ok(ethernet::ARP) => "an ARP question".to_owned(),
                _ => frame::words(&sent.bytes),
            };
            format!("out by {port}: {frame}")
        })
        .collect();
    let step = match (verdict.kind, reason) {
        (VerdictKind::Drop, Some(reason)) => {
            let text = format!("dropped ({reason}): {} {}", reason.meaning(), reason.remedy().advice);
            Step::new("verdict", Mark::Stop, text)
        }
        (VerdictKind::Drop, None) => {
            Step::new("verdict", Mark::Stop, format!("dropped ({})", verdict.reason))
        }
        (VerdictKind::Hold, _) => Step::new("verdict", Mark::Note, "waits for its next hop".to_owned()),
        (kind, _) => {
            let what = event.map_or("", |event| event.meaning());
            Step::new("verdict", Mark::Ok, format!("{} ({}): {what}", word(kind), verdict.reason))
        }
    };
    step.with(details)
}
