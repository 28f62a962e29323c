//! What the data plane is given of a desired state: weights times health, servers that are down or disabled taken out,
//! sorry servers in, and nothing that only control needs.
//!
//! A pure function. Servers keep their order: one that comes back has its place of the configuration again, so that
//! schedulers that go by places choose as they did before it failed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulcrum_model::validate::MAX_WEIGHT;
use fulcrum_model::{Admin, OnFailure, Server, ServerHealth, Service, ServiceHealth, State};

use super::memory::{Memory, Phase, ServerMemory, ServiceMemory};

/// In so many steps a weight grows.
pub const STEPS: u32 = 10;

/// The state for the data plane, and when it will be another one though nothing happens.
pub fn effective(desired: &Arc<State>, memory: &Memory, now: SystemTime) -> (Arc<State>, Option<SystemTime>) {
    if desired.checks.is_empty() && desired.services.iter().all(is_plain) {
        return (desired.clone(), None);
    }
    let mut state = State::clone(desired);
    state.checks.clear();
    let services = state.services.iter_mut();
    let next = services.filter_map(|service| shape(service, memory.services.get(&service.key), now)).min();
    (Arc::new(state), next)
}

/// Whether a service is for the data plane as it is.
fn is_plain(service: &Service) -> bool {
    let plain = |server: &Server| server.admin == Admin::Enabled && server.health == ServerHealth::default();
    service.health == ServiceHealth::default() && service.servers.iter().all(plain)
}

/// What a server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing: it is not there.
    Out,
    /// No new connections.
    Quiet,
    /// Its weight.
    Serves,
    /// So many of [`STEPS`] parts of its weight, until then.
    Grows(u32, SystemTime),
}

/// Makes a service what the data plane is given; tells when that will be something else.
fn shape(service: &mut Service, known: Option<&ServiceMemory>, now: SystemTime) -> Option<SystemTime> {
    let health = std::mem::take(&mut service.health);
    let sorry = health.sorry_server.filter(|_| known.is_some_and(|known| known.sorry));
    let slow_start = Duration::from_secs(health.slow_start.into());
    let mut next = None;
    let mut at = |time: SystemTime| next = Some(next.map_or(time, |next: SystemTime| next.min(time)));
    let mut standings = Vec::with_capacity(service.servers.len());
    for server in &mut service.servers {
        let memory = known.and_then(|known| known.servers.get(&server.key));
        let healthy = memory.is_none_or(ServerMemory::healthy);
        let admin = std::mem::take(&mut server.admin);
        let failed = match std::mem::take(&mut server.health).on_failure.unwrap_or(health.on_failure) {
            OnFailure::Remove => Standing::Out,
            OnFailure::Quiesce => Standing::Quiet,
        };
        let phase = Phase::of(admin, now);
        if let (Phase::Draining, Admin::Drain { until: Some(until) }) = (phase, admin) {
            at(UNIX_EPOCH + Duration::from_secs(until));
        }
        let standing = match phase {
            Phase::Disabled => Standing::Out,
            _ if !healthy => failed,
            Phase::Draining => Standing::Quiet,
            Phase::Enabled if sorry.is_some() => failed,
            Phase::Enabled => growth(memory, slow_start, now),
        };
        if let Standing::Grows(_, until) = standing {
            at(until);
        }
        standings.push(standing);
    }
    let scale = scale(service, &standings);
    let mut standings = standings.into_iter();
    service.servers.retain_mut(|server| {
        let standing = standings.next().unwrap_or(Standing::Serves);
        server.weight = match standing {
            Standing::Out | Standing::Quiet => 0,
            Standing::Serves => server.weight * scale,
            Standing::Grows(step, _) => {
                let grown = u64::from(server.weight * scale) * u64::from(step) / u64::from(STEPS);
                // What is not quiesced gets something.
                u32::try_from(grown).unwrap_or(MAX_WEIGHT).max(server.weight.min(1))
            }
        };
        standing != Standing::Out
    });
    service.servers.extend(sorry.map(|sorry| *sorry));
    next
}

/// How far a healthy server is on its way back.
fn growth(memory: Option<&ServerMemory>, slow_start: Duration, now: SystemTime) -> Standing {
    let Some(since) = memory.and_then(|memory| memory.warming) else { return Standing::Serves };
    // With the last step it has its weight.
    let length = slow_start / (STEPS - 1);
    let passed = now.duration_since(since).unwrap_or_default();
    match (1..STEPS).find(|step| passed < length * *step) {
        Some(step) => Standing::Grows(step, since + length * step),
        None => Standing::Serves,
    }
}

/// By what the weights of a service are multiplied, so that those that grow have steps to grow by. Where weights are
/// numbers of connections (ovf), and where there is no room, they stay.
fn scale(service: &Service, standings: &[Standing]) -> u32 {
    let small = |(server, standing): (&Server, &Standing)| {
        (1..STEPS).contains(&server.weight) && matches!(standing, Standing::Grows(..))
    };
    let largest = service.servers.iter().map(|server| server.weight).max().unwrap_or(0);
    let room = largest.checked_mul(STEPS).is_some_and(|largest| largest <= MAX_WEIGHT);
    match service.scheduler != "ovf" && room && service.servers.iter().zip(standings).any(small) {
        true => STEPS,
        false => 1,
    }
}
