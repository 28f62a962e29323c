//! What is known of servers and services, and how it changes: verdicts, admin states, quorum, slow starts.
//!
//! A verdict stays until there is another one: what could not be found out changes nothing. Before the first one a
//! server counts as up, as with keepalived.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulcrum_model::{Admin, Server, ServerKey, Service, ServiceHealth, ServiceKey, State};

use super::event::{Event, EventKind};
use super::plan::Plan;
use super::{Report, Verdict};

/// What is known, by service; only of services whose servers have checks or admin states, or that ask for more than
/// a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The services.
    pub services: HashMap<ServiceKey, ServiceMemory>,
    /// Whether anything was looked at. What the operator had done before is no news.
    pub begun: bool,
}

/// What is known of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceMemory {
    /// Since when the quorum is lost, if it is.
    pub quorum_lost: Option<SystemTime>,
    /// Weight of its healthy servers.
    pub weight: u64,
    /// Whether its sorry server answers.
    pub sorry: bool,
    /// Its servers.
    pub servers: HashMap<ServerKey, ServerMemory>,
}

/// What is known of a server in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMemory {
    /// The last verdict that there was.
    pub verdict: Verdict,
    /// Since when it is so, or `None` when nothing has ever been found out.
    pub since: Option<SystemTime>,
    /// Why it is down.
    pub why: String,
    /// Why its checks cannot say anything now, empty when they can.
    pub blind: String,
    /// When it came back, as long as that is less than the slow start ago.
    pub warming: Option<SystemTime>,
    /// What the operator wants of it.
    pub phase: Phase,
    /// Since when that is so, as far as is known.
    pub phase_since: Option<SystemTime>,
}

/// What the operator wants of a server now: an admin state at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// That it works.
    Enabled,
    /// That it gets no new connections.
    Draining,
    /// That it is out.
    Disabled,
}

impl Phase {
    /// What an admin state means at a moment.
    pub fn of(admin: Admin, now: SystemTime) -> Phase {
        match admin {
            Admin::Enabled => Phase::Enabled,
            Admin::Drain { until: Some(until) } if UNIX_EPOCH + Duration::from_secs(until) <= now => {
                Phase::Disabled
            }
            Admin::Drain { .. } => Phase::Draining,
            Admin::Disabled => Phase::Disabled,
        }
    }
}

impl ServerMemory {
    /// What is known of a server that was never looked at.
    pub fn new(phase: Phase) -> ServerMemory {
        ServerMemory {
            verdict: Verdict::Unknown,
            since: None,
            why: String::new(),
            blind: String::new(),
            warming: None,
            phase,
            phase_since: None,
        }
    }

    /// Whether it would serve if it were enabled.
    pub fn healthy(&self) -> bool {
        self.verdict != Verdict::Down
    }
}

impl ServiceMemory {
    /// What is known of a service that was never looked at.
    pub fn new() -> ServiceMemory {
        ServiceMemory { quorum_lost: None, weight: 0, sorry: false, servers: HashMap::new() }
    }
}

impl Default for ServiceMemory {
    fn default() -> ServiceMemory {
        ServiceMemory::new()
    }
}

impl Memory {
    /// Takes in what the probes of `plan` say now of the servers of `state`; tells what that changes.
    pub fn observe(
        &mut self,
        state: &State,
        plan: &Plan,
        reports: &[Option<Report>],
        now: SystemTime,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let mut before = std::mem::take(&mut self.services);
        for (at, service) in state.services.iter().enumerate() {
            let checked = (0..service.servers.len()).any(|nth| !plan.of(at, nth).is_empty());
            let stays = checked || is_tended(service);
            if !stays && !before.contains_key(&service.key) {
                continue;
            }
            let mut known = before.remove(&service.key).unwrap_or_default();
            let mut servers = std::mem::take(&mut known.servers);
            for (nth, server) in service.servers.iter().enumerate() {
                let asks = plan.of(at, nth).iter();
                let found: Vec<Found<'_>> =
                    asks.map(|ask| (&*ask.check, reports.get(ask.place).and_then(Option::as_ref))).collect();
                let mut look = Look { service, server, now, begun: self.begun, events: &mut events };
                let memory = look.server(servers.remove(&server.key), &found);
                known.servers.insert(server.key, memory);
            }
            quorum(&mut known, service, checked, now, &mut events);
            if stays {
                self.services.insert(service.key, known);
            }
        }
        self.begun = true;
        events
    }

    /// What is known of a server.
    pub fn server(&self, service: ServiceKey, server: ServerKey) -> Option<&ServerMemory> {
        self.services.get(&service)?.servers.get(&server)
    }
}

/// Whether a service asks for anything but checks.
fn is_tended(service: &Service) -> bool {
    service.health != ServiceHealth::default()
        || service.servers.iter().any(|server| server.admin != Admin::Enabled)
}

/// A check's name, and what it found.
type Found<'a> = (&'a str, Option<&'a Report>);

/// A look at a server.
struct Look<'a> {
    service: &'a Service,
    server: &'a Server,
    now: SystemTime,
    begun: bool,
    events: &'a mut Vec<Event>,
}

impl Look<'_> {
    fn server(&mut self, known: Option<ServerMemory>, reports: &[Found<'_>]) -> ServerMemory {
        let phase = Phase::of(self.server.admin, self.now);
        let first = if self.begun { Phase::Enabled } else { phase };
        let mut memory = known.unwrap_or_else(|| ServerMemory::new(first));
        self.verdict(&mut memory, reports);
        self.phase(&mut memory, phase);
        let slow_start = Duration::from_secs(self.service.health.slow_start.into());
        memory.warming = memory.warming.filter(|since| {
            // A clock that was set back does not make a start any slower.
            self.now.duration_since(*since).is_ok_and(|passed| passed < slow_start)
        });
        memory
    }

    fn verdict(&mut self, memory: &mut ServerMemory, reports: &[Found<'_>]) {
        let of = |report: &Option<&Report>| report.map_or(Verdict::Unknown, |report| report.verdict);
        let down = reports.iter().find(|(_, report)| of(report) == Verdict::Down);
        let blind = reports.iter().find(|(_, report)| of(report) == Verdict::Unknown);
        let verdict = match (down, blind) {
            (Some(_), _) => Verdict::Down,
            (None, Some(_)) => memory.verdict,
            (None, None) if reports.is_empty() => Verdict::Unknown,
            (None, None) => Verdict::Up,
        };
        let why = blind.filter(|_| down.is_none()).map(said).unwrap_or_default();
        let was_blind = !memory.blind.is_empty();
        if !why.is_empty() && !was_blind {
            self.event(EventKind::ServerUnknown, format!("cannot be checked: {why}"));
        }
        memory.blind = why;
        if let Some(found) = down {
            memory.why = said(found);
        }
        if verdict == memory.verdict {
            if was_blind && memory.blind.is_empty() && verdict == Verdict::Up {
                self.event(EventKind::ServerUp, "can be checked again, and passes".to_owned());
            }
            return;
        }
        let before = std::mem::replace(&mut memory.verdict, verdict);
        let since = memory.since.replace(self.now);
        match verdict {
            Verdict::Down => {
                memory.warming = None;
                self.event(EventKind::ServerDown, memory.why.clone());
            }
            Verdict::Up if before == Verdict::Down => {
                memory.why.clear();
                memory.warming = Some(self.now);
                let down = since.and_then(|since| self.now.duration_since(since).ok()).unwrap_or_default();
                let down = Duration::from_secs(down.as_secs());
                self.event(
                    EventKind::ServerUp,
                    format!("passes its checks again after {}", humantime::format_duration(down)),
                );
            }
            Verdict::Unknown if before == Verdict::Down => {
                memory.why.clear();
                memory.since = None;
                self.event(EventKind::ServerUp, "has no checks any more".to_owned());
            }
            Verdict::Unknown => memory.since = None,
            // The first verdict: it counted as up before.
            Verdict::Up => {}
        }
    }

    fn phase(&mut self, memory: &mut ServerMemory, phase: Phase) {
        if phase == memory.phase {
            return;
        }
        let before = std::mem::replace(&mut memory.phase, phase);
        memory.phase_since = Some(self.now);
        match (phase, self.server.admin) {
            (Phase::Draining, Admin::Drain { until: Some(until) }) => {
                let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(until));
                self.event(EventKind::ServerDraining, format!("by the operator, until {until}"));
            }
            (Phase::Draining, _) => self.event(EventKind::ServerDraining, "by the operator".to_owned()),
            (Phase::Disabled, Admin::Drain { .. }) => {
                self.event(EventKind::ServerDisabled, "the time to drain is over".to_owned());
            }
            (Phase::Disabled, _) => self.event(EventKind::ServerDisabled, "by the operator".to_owned()),
            (Phase::Enabled, _) => {
                if before == Phase::Disabled && memory.healthy() {
                    memory.warming = Some(self.now);
                }
                self.event(EventKind::ServerEnabled, "by the operator".to_owned());
            }
        }
    }

    fn event(&mut self, kind: EventKind, why: String) {
        self.events.push(Event {
            time: self.now,
            kind,
            service: self.service.key,
            server: Some(self.server.key),
            why,
        });
    }
}

/// What a check says, with its name; nothing where it says nothing.
fn said((check, report): &Found<'_>) -> String {
    let error = report.and_then(|report| report.last_error.as_deref());
    error.map_or(String::new(), |error| format!("check {check}: {error}"))
}

/// Whether there is enough of the service's servers. It is lost when the weight of healthy servers is below the quorum
/// less the hysteresis, or nothing; regained from the quorum plus the hysteresis on, or, where there is no more, when no
/// server is missing.
fn quorum(
    known: &mut ServiceMemory,
    service: &Service,
    checked: bool,
    now: SystemTime,
    events: &mut Vec<Event>,
) {
    let health = &service.health;
    let (mut weight, mut missing) = (0u64, false);
    for server in &service.servers {
        let memory = known.servers.get(&server.key);
        if server.weight == 0 || memory.is_some_and(|memory| memory.phase != Phase::Enabled) {
            continue;
        }
        match memory.is_none_or(ServerMemory::healthy) {
            true => weight += u64::from(server.weight),
            false => missing = true,
        }
    }
    let (quorum, hysteresis) = (u64::from(health.quorum), u64::from(health.hysteresis));
    let keeps = weight > 0 && weight >= quorum.saturating_sub(hysteresis);
    let has = match known.quorum_lost {
        None => keeps,
        Some(_) => weight >= quorum + hysteresis || (keeps && !missing),
    };
    // A service that asks for nothing is not told that it has nothing.
    let asks = checked || health.sorry_server.is_some() || health.quorum > 1;
    let has = has || !asks;
    let mut event = |kind, why: String| {
        events.push(Event { time: now, kind, service: service.key, server: None, why });
    };
    known.weight = weight;
    match (known.quorum_lost, has) {
        (None, false) => {
            known.quorum_lost = Some(now);
            event(EventKind::QuorumLost, format!("healthy servers weigh {weight} of {quorum}"));
        }
        (Some(_), true) => {
            known.quorum_lost = None;
            event(EventKind::QuorumGained, format!("healthy servers weigh {weight} of {quorum}"));
        }
        _ => {}
    }
    let sorry = health.sorry_server.as_ref().filter(|_| known.quorum_lost.is_some());
    if sorry.is_some() != known.sorry {
        known.sorry = sorry.is_some();
        match sorry {
            Some(sorry) => event(EventKind::SorryOn, format!("{} answers", sorry.key)),
            None => event(EventKind::SorryOff, "the service's servers answer".to_owned()),
        }
    }
}
