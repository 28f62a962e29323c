//! Rules for what follows from checks, and for admin states.

use super::{MAX_SLOW_START, Problem, add, link_local, unicast};
use crate::state::{Admin, Server, ServerHealth, Service};

/// The latest time until which a server drains, in seconds since 1970: the end of the year 9999.
pub const MAX_DRAIN_UNTIL: u64 = 253_402_300_799;

/// Rules for what a service says of its servers' health.
pub(super) fn service(found: &mut Vec<Problem>, service: &Service) {
    let health = &service.health;
    twice(found, &health.checks);
    if health.quorum == 0 {
        add(found, "quorum", "quorum of 0 is out of range; at least 1");
    } else if health.hysteresis >= health.quorum {
        let message =
            format!("hysteresis {} must be less than the quorum, {}", health.hysteresis, health.quorum);
        add(found, "hysteresis", message);
    }
    if health.slow_start > MAX_SLOW_START {
        let message = format!("slow-start of {} s is out of range; 0 to {MAX_SLOW_START}", health.slow_start);
        add(found, "slow-start", message);
    }
}

/// Rules for the sorry server of a service, if it has one.
pub fn sorry_server(service: &Service) -> Vec<Problem> {
    let Some(sorry) = &service.health.sorry_server else { return Vec::new() };
    let mut found = super::server(service.key, sorry);
    if service.servers.iter().any(|server| server.key == sorry.key) {
        let message =
            format!("{} is a server of the service already; its sorry server must be another one", sorry.key);
        add(&mut found, "address", message);
    }
    if sorry.weight == 0 {
        add(&mut found, "weight", "a sorry server of weight 0 would get nothing; at least 1");
    }
    if sorry.admin != Admin::Enabled || sorry.health != ServerHealth::default() {
        add(&mut found, "address", "a sorry server has neither checks nor an admin state");
    }
    found
}

/// Rules for what a server says of its checks, and for its admin state.
pub(super) fn server(found: &mut Vec<Problem>, server: &Server) {
    let health = &server.health;
    twice(found, health.checks.as_deref().unwrap_or_default());
    if let Some(address) = health.address
        && (!unicast(address) || link_local(address))
    {
        add(found, "check-address", format!("{address} is not an address that a server can have"));
    }
    if health.port == Some(0) {
        add(found, "check-port", "check-port of 0 is out of range; 1 to 65535");
    }
    if let Admin::Drain { until: Some(until) } = server.admin
        && until > MAX_DRAIN_UNTIL
    {
        add(found, "drain-until", "drain-until is later than the year 9999");
    }
}

fn twice(found: &mut Vec<Problem>, names: &[String]) {
    for (item, name) in names.iter().enumerate() {
        if names[..item].contains(name) {
            let message = format!("check `{name}` is listed twice");
            found.push(Problem { key: "checks", item: Some(item), message });
        }
    }
}
