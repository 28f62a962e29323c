//! What services, servers and tables say about the traffic.

use std::collections::BTreeMap;

use fulcrum_director::Reason;
use fulcrum_model::{Forward, LocalPool, Protocol, ServerKey, ServiceKey};

use super::network::{good_way, level};
use super::{Counts, Facts, Finding, Level};
use crate::table::counted;

/// Connections that have to be half-open before that says something.
const HALF_OPEN: u64 = 3;
/// Packets to a server without an answer before that says something.
const UNANSWERED: u64 = 3;
/// Shares of tables, in percent.
const FULL: u64 = 95;
const NEARLY_FULL: u64 = 80;

/// Whether somebody can serve.
pub(super) fn services(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in &facts.state.services {
        let about = format!("service {}", service.key);
        let wire = (&service.key).into();
        let standing = facts.standings.iter().find(|standing| standing.key.as_ref() == Some(&wire));
        let wanted = standing.map_or(0, |standing| standing.servers.len());
        let (level, what, advice) = if service.servers.is_empty() && wanted > 0 {
            let what = format!("none of its {} is in service", counted(wanted as u64, "server"));
            (Level::Error, what, "`fulcrum server list` says why; a sorry server would answer meanwhile")
        } else if service.servers.is_empty() {
            (Level::Warning, "it has no server".to_owned(), "fulcrum server add, or delete the service")
        } else if service.servers.iter().all(|server| server.weight == 0) {
            let servers = counted(service.servers.len() as u64, "server");
            let what = format!("the weight of all of its {servers} is 0: it takes no new connections");
            (Level::Warning, what, "`fulcrum server list` says why; fulcrum server set gives a weight")
        } else {
            continue;
        };
        findings.push(Finding::new(level, about, what, advice));
    }
    findings
}

/// What checks say of services and servers.
pub(super) fn health(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for standing in &facts.standings {
        let name = standing.key.clone().and_then(|key| ServiceKey::try_from(key).ok());
        let name = name.map_or(String::new(), |key| key.to_string());
        if standing.quorum_lost_ms.is_some() {
            let answers = if standing.sorry { "the sorry server answers" } else { "it has lost its quorum" };
            let what = format!(
                "{answers}: a weight of {} is healthy, {} is wanted",
                standing.healthy_weight, standing.quorum
            );
            findings.push(Finding::new(
                Level::Error,
                format!("service {name}"),
                what,
                "`fulcrum server list` says which servers are down, and why",
            ));
        }
        for server in &standing.servers {
            let Some(key) = server.key.clone().and_then(|key| ServerKey::try_from(key).ok()) else {
                continue;
            };
            let about = format!("server {key}");
            let why = if server.why.is_empty() { String::new() } else { format!(": {}", server.why) };
            let (level, what, advice) = match &*server.state {
                "down" => (
                    Level::Warning,
                    format!("down, of {name}{why}"),
                    "see what the check sees; `fulcrum events` says since when",
                ),
                "unknown" => (
                    Level::Warning,
                    format!("nobody knows whether it serves, of {name}{why}"),
                    "its check cannot be made from here, or has not been yet; the server stays in service",
                ),
                "draining" | "disabled" => (
                    Level::Advice,
                    format!("{}, of {name}", server.state),
                    "fulcrum server enable puts it back",
                ),
                _ => continue,
            };
            findings.push(Finding::new(level, about, what, advice));
        }
    }
    findings
}

/// Whether servers answer, and by the right way.
pub(super) fn answers(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (service, server) in facts.servers() {
        let Some(counts) = facts.counters.get(&(service.key, server.key)) else { continue };
        let tcp = service.key.protocol().is_none_or(|protocol| protocol != Protocol::Udp);
        // Of a server that is not reached at all something else is said.
        let Some(way) = good_way(facts, server.key.address).filter(|_| tcp) else { continue };
        let about = format!("server {}", server.key);
        let half_open = counts.half_open >= HALF_OPEN && counts.half_open * 2 >= counts.active;
        match server.forward {
            Forward::Nat | Forward::FullNat if is_silent(counts) => {
                let Counts { counters, half_open, .. } = counts;
                let what = format!(
                    "of {}: {} packets went to it and {} came back through the director ({half_open} connections half-open)",
                    service.key, counters.in_packets, counters.out_packets
                );
                let advice = match server.forward {
                    Forward::Nat => format!(
                        "its answers go around the director, or nothing answers: on the server, ip route replace default via {}, and see with ss -ltn that it listens on port {}",
                        way.source, server.key.port
                    ),
                    _ => format!(
                        "it needs a way back to the local addresses (`fulcrum local-pool list`), and a firewall that lets them in; see with ss -ltn that it listens on port {}",
                        server.key.port
                    ),
                };
                findings.push(Finding::new(Level::Error, about, what, advice));
            }
            Forward::Nat | Forward::FullNat if half_open => {
                let what = format!(
                    "of {}: {} connections half-open although it answers",
                    service.key, counts.half_open
                );
                findings.push(Finding::new(Level::Warning, about, what, "answers do not reach the clients, or a SYN flood is under way: `fulcrum session list --state SYN_RECV`"));
            }
            Forward::Dr | Forward::Tun if half_open => {
                let what = format!(
                    "of {}: {} connections half-open: clients do not hear from it",
                    service.key, counts.half_open
                );
                let mut advice = "the server has to hold the virtual address on lo, with arp_ignore=1 and arp_announce=2, and to listen on it".to_owned();
                if server.forward == Forward::Tun {
                    advice +=
                        "; it has to unpack the tunnel, with rp_filter=0 on the tunnel's device and on all";
                }
                findings.push(Finding::new(Level::Warning, about, what, advice));
            }
            _ => {}
        }
    }
    findings
}

/// Whether a server that should answer through the director does not: never, or not any more.
fn is_silent(counts: &Counts) -> bool {
    let counters = &counts.counters;
    let never = counters.in_packets >= UNANSWERED && counters.out_packets * 20 < counters.in_packets;
    let not_now = counters.in_pps > 0 && counters.out_pps == 0 && counts.half_open >= HALF_OPEN;
    never || not_now
}

/// Whether tables have room.
pub(super) fn tables(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let share = |used: u64, limit: u64| (used * 100).checked_div(limit).unwrap_or(0);
    let fullness = |percent| match percent {
        FULL.. => Some(Level::Error),
        NEARLY_FULL.. => Some(Level::Warning),
        _ => None,
    };
    let Some(dataplane) = facts.dataplane() else { return findings };
    for worker in &dataplane.workers {
        let percent = share(worker.sessions, worker.session_limit);
        if let Some(level) = fullness(percent) {
            let what = format!(
                "its session table is {percent} % full ({} of {})",
                worker.sessions, worker.session_limit
            );
            let advice = "raise `sessions` in [dataplane], or shorten time-outs: `fulcrum timeout list`; look at `fulcrum session list --state SYN_RECV` for a flood";
            findings.push(Finding::new(level, format!("worker {}", worker.id), what, advice));
        }
    }
    let mut pools: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for used in &dataplane.local_pools {
        let pool = pools.entry(&used.service).or_default();
        *pool = (pool.0 + used.sessions, pool.1 + 1);
    }
    for service in &facts.state.services {
        let Some(&(used, addresses)) = pools.get(&*service.key.to_string()) else { continue };
        let servers = service
            .servers
            .iter()
            .filter(|server| server.weight > 0 && server.forward == Forward::FullNat)
            .count() as u64;
        let named = |pool: &&LocalPool| Some(&pool.name) == service.local_pool.as_ref();
        let ports = facts
            .state
            .local_pools
            .iter()
            .find(named)
            .map_or(64_512, |pool| u64::from(pool.ports.last - pool.ports.first) + 1);
        let room = addresses * ports * servers;
        if let Some(level) = fullness(share(used, room)) {
            let what = format!(
                "its local addresses are {} % in use ({used} sessions, {addresses} addresses × {ports} ports × {servers} servers)",
                share(used, room)
            );
            findings.push(Finding::new(
                level,
                format!("service {}", service.key),
                what,
                "add addresses to its local pool, or shorten time-outs",
            ));
        }
    }
    findings
}

/// What was dropped in the last minute, but for what every network has.
pub(super) fn drops(facts: &Facts) -> Vec<Finding> {
    let recent = facts.dataplane().into_iter().flat_map(|dataplane| &dataplane.recent_drops);
    let finding = |(name, count): (&str, u64)| {
        let reason = Reason::ALL.iter().find(|reason| reason.name() == name)?;
        let remedy = reason.remedy();
        let what = format!("{count} in the last minute: {}", reason.meaning());
        Some(Finding::new(level(remedy.concern)?, format!("drops {reason}"), what, remedy.advice))
    };
    recent.filter_map(|drop| finding((&drop.name, drop.count))).collect()
}
