//! What is known of services and servers, as messages.

use std::time::{SystemTime, UNIX_EPOCH};

use fulcrum_api::control as wire;
use fulcrum_model::{Server, Service, ServiceKey};

use super::event::Numbered;
use super::keeper::Known;
use super::memory::{Phase, ServerMemory, ServiceMemory};
use super::plan::Ask;
use super::{Report, Verdict};

/// How many servers are not as they are wished to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Servers of services that are down.
    pub down: u64,
    /// That nothing is known of, though they are checked.
    pub unknown: u64,
    /// That drain.
    pub draining: u64,
    /// That are disabled.
    pub disabled: u64,
    /// Services that have lost their quorum.
    pub quorums_lost: u64,
    /// Services whose sorry server answers.
    pub sorry: u64,
}

impl Known {
    /// How many servers are in which state.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (at, service) in self.desired.state.services.iter().enumerate() {
            let Some(known) = self.memory.services.get(&service.key) else { continue };
            tally.quorums_lost += u64::from(known.quorum_lost.is_some());
            tally.sorry += u64::from(known.sorry);
            for (nth, server) in service.servers.iter().enumerate() {
                match word(known.servers.get(&server.key), self.plan.of(at, nth)) {
                    "down" => tally.down += 1,
                    "unknown" => tally.unknown += 1,
                    "draining" => tally.draining += 1,
                    "disabled" => tally.disabled += 1,
                    _ => {}
                }
            }
        }
        tally
    }

    /// How the services are, or the one of this key.
    pub fn standings(&self, which: Option<ServiceKey>) -> Vec<wire::ServiceStanding> {
        let effective = self.effective.services.iter();
        let services = self.desired.state.services.iter().zip(effective).enumerate();
        let chosen = services.filter(|(_, (service, _))| which.is_none_or(|key| service.key == key));
        chosen.map(|(at, (service, held))| self.service(at, service, held)).collect()
    }

    fn service(&self, at: usize, service: &Service, held: &Service) -> wire::ServiceStanding {
        let known = self.memory.services.get(&service.key);
        let weights: std::collections::HashMap<_, _> =
            held.servers.iter().map(|server| (server.key, server.weight)).collect();
        let server = |(nth, server): (usize, &Server)| {
            let memory = known.and_then(|known| known.servers.get(&server.key));
            self.server(server, memory, self.plan.of(at, nth), weights.get(&server.key).copied())
        };
        wire::ServiceStanding {
            key: Some((&service.key).into()),
            quorum: service.health.quorum,
            healthy_weight: known.map_or_else(|| plain_weight(service), |known| known.weight),
            quorum_lost_ms: known.and_then(|known| millis(known.quorum_lost)),
            sorry: known.is_some_and(|known: &ServiceMemory| known.sorry),
            servers: service.servers.iter().enumerate().map(server).collect(),
        }
    }

    fn server(
        &self,
        server: &Server,
        memory: Option<&ServerMemory>,
        asks: &[Ask],
        weight: Option<u32>,
    ) -> wire::ServerStanding {
        let state = word(memory, asks);
        let since = memory.and_then(|memory| match memory.phase {
            Phase::Enabled => memory.since,
            Phase::Draining | Phase::Disabled => memory.phase_since,
        });
        let check = |ask: &Ask| check(ask, self.reports.get(ask.place).and_then(Option::as_ref));
        wire::ServerStanding {
            key: Some((&server.key).into()),
            state: state.to_owned(),
            since_ms: millis(since),
            why: memory.map(why).unwrap_or_default(),
            weight,
            admin: Some(server.admin.into()),
            healthy: memory.is_none_or(ServerMemory::healthy),
            checks: asks.iter().map(check).collect(),
        }
    }
}

/// The weight of the servers of a service that nothing is known of.
fn plain_weight(service: &Service) -> u64 {
    service.servers.iter().map(|server| u64::from(server.weight)).sum()
}

/// How a server is, in a word.
fn word(memory: Option<&ServerMemory>, asks: &[Ask]) -> &'static str {
    let Some(memory) = memory else { return "unchecked" };
    match (memory.phase, memory.verdict) {
        (Phase::Disabled, _) => "disabled",
        (Phase::Draining, _) => "draining",
        (Phase::Enabled, _) if asks.is_empty() => "unchecked",
        (Phase::Enabled, Verdict::Down) => "down",
        (Phase::Enabled, Verdict::Up) if memory.blind.is_empty() => "up",
        (Phase::Enabled, Verdict::Up | Verdict::Unknown) => "unknown",
    }
}

/// What is wrong with a server, if anything is.
fn why(memory: &ServerMemory) -> String {
    match (memory.verdict, memory.blind.as_str()) {
        (Verdict::Down, "") => memory.why.clone(),
        (Verdict::Down, blind) => format!("{}; now {blind}", memory.why),
        (_, blind) => blind.to_owned(),
    }
}

fn check(ask: &Ask, report: Option<&Report>) -> wire::CheckStanding {
    let mut standing = wire::CheckStanding {
        check: ask.check.to_string(),
        verdict: Verdict::Unknown.name().to_owned(),
        ..wire::CheckStanding::default()
    };
    if let Some(report) = report {
        standing.target = report.target.to_string();
        report.verdict.name().clone_into(&mut standing.verdict);
        standing.since_ms =
            (report.verdict != Verdict::Unknown).then(|| millis(Some(report.since))).flatten();
        standing.error = report.last_error.clone().unwrap_or_default();
        standing.last_ms = millis(report.last);
        standing.next_ms = millis(report.next);
        standing.took_us = report.took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    standing
}

/// An event as a message.
pub fn event((number, event): &Numbered) -> wire::Event {
    wire::Event {
        number: *number,
        time_ms: millis(Some(event.time)).unwrap_or_default(),
        kind: event.kind.name().to_owned(),
        service: Some((&event.service).into()),
        server: event.server.as_ref().map(Into::into),
        why: event.why.clone(),
    }
}

/// Milliseconds since 1970.
fn millis(time: Option<SystemTime>) -> Option<u64> {
    u64::try_from(time?.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// What a follower is told who was too slow.
pub fn missed(number: u64) -> wire::Event {
    wire::Event {
        time_ms: millis(Some(SystemTime::now())).unwrap_or_default(),
        kind: "missed".to_owned(),
        why: format!("{number} events, because they came faster than they were read"),
        ..wire::Event::default()
    }
}
