//! Rules for what follows from checks, and for admin states.

use super::{MAX_SLOW_START, Problem, add, link_local, listed, nameless_check, unicast};
use crate::state::{Admin, Check, CheckKind, Server, ServerHealth, Service, State};

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

/// Rules for a check that stands in a service.
pub(super) fn own_check(check: &Check) -> Vec<Problem> {
    let mut found = nameless_check(check);
    if !check.name.is_empty() {
        add(&mut found, "name", "a check inside of a service has no name; leave it away");
    }
    found
}

/// Rules for the parts of a service's health that are tables of their own.
pub fn service_health(service: &Service) -> Vec<Problem> {
    let checks = service.health.own_checks.iter().flat_map(own_check);
    checks.chain(sorry_server(service)).collect()
}

/// The rule that spans checks, a service and its servers: checks that are named exist, and know whom to ask. The
/// server where that is not so is told by its place, the service by none.
pub fn can_be_checked(state: &State, service: &Service) -> Result<(), (Option<usize>, Problem)> {
    let health = &service.health;
    let named = |nth: Option<usize>, names: &[String]| {
        let found = names.iter().enumerate().map(|(item, name)| {
            let known = || listed(state.checks.iter().map(|check| check.name.as_str()));
            state.checks.iter().find(|check| check.name == *name).ok_or_else(|| {
                let message = format!("there is no check `{name}`; {}", known());
                (nth, Problem { key: "checks", item: Some(item), message })
            })
        });
        found.collect::<Result<Vec<&Check>, _>>()
    };
    let mut usual = named(None, &health.checks)?;
    usual.extend(&health.own_checks);
    for (nth, server) in service.servers.iter().enumerate() {
        let own = server.health.checks.as_ref().map(|names| named(Some(nth), names)).transpose()?;
        let asks_for_port = |check: &&&Check| {
            check.port.is_none() && check.kind.has_port() && !matches!(check.kind, CheckKind::Exec { .. })
        };
        if server.key.port == 0
            && server.health.port.is_none()
            && let Some(check) = own.as_ref().unwrap_or(&usual).iter().find(asks_for_port)
        {
            let check = if check.name.is_empty() {
                "its check".to_owned()
            } else {
                format!("check `{}`", check.name)
            };
            let message = format!(
                "server {} keeps the clients' port, and {check} has none; give the check a `port` or the server a `check-port`",
                server.key
            );
            return Err((Some(nth), Problem { key: "address", item: None, message }));
        }
    }
    Ok(())
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
