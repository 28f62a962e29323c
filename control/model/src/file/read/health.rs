//! What `[[service]]` and `[[service.server]]` say of health and admin state.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use super::super::table::{Places, Table};
use super::check;
use super::service::server;
use crate::state::{Admin, OnFailure, ServerHealth, ServiceHealth};
use crate::validate::MAX_SLOW_START;

/// `checks`, `[[service.check]]`, `on-failure`, `quorum`, `hysteresis`, `slow-start` and `[service.sorry-server]`. What
/// stands in tables of its own says where: a check by its place, the sorry server by none.
pub(super) fn of_service(
    table: &mut Table<'_>,
    service_port: Option<u16>,
    mut own_at: impl FnMut(Option<usize>, Places),
) -> ServiceHealth {
    let default = ServiceHealth::default();
    let mut own_checks = Vec::new();
    for mut table in table.tables("check", "[[service.check]]") {
        let read = check::nameless(&mut table);
        let at = table.finish();
        if let Some(check) = read {
            own_at(Some(own_checks.len()), at);
            own_checks.push(check);
        }
    }
    ServiceHealth {
        checks: names(table).unwrap_or_default(),
        own_checks,
        on_failure: on_failure(table).unwrap_or_default(),
        quorum: table.number("quorum", 1..=u32::MAX).unwrap_or(default.quorum),
        hysteresis: table.number("hysteresis", 0..=u32::MAX).unwrap_or(default.hysteresis),
        slow_start: table.number("slow-start", 0..=MAX_SLOW_START).unwrap_or(default.slow_start),
        sorry_server: table.table("sorry-server", "[service.sorry-server]").and_then(|mut table| {
            let read = server(&mut table, service_port);
            own_at(None, table.finish());
            read.map(Box::new)
        }),
    }
}

/// `checks`, `on-failure`, `check-address` and `check-port` of a server.
pub(super) fn of_server(table: &mut Table<'_>) -> ServerHealth {
    ServerHealth {
        checks: names(table),
        on_failure: on_failure(table),
        address: table.parsed::<IpAddr>("check-address", "an IP address, such as 10.0.0.7"),
        port: table.number("check-port", 1..=u16::MAX),
    }
}

/// `admin` and `drain-until`.
pub(super) fn admin(table: &mut Table<'_>) -> Admin {
    let words = [Admin::Enabled, Admin::Drain { until: None }, Admin::Disabled];
    let admin = table.word("admin", &words.map(|admin| (admin.name(), admin))).unwrap_or_default();
    let until = table.read("drain-until", |text| {
        let time = humantime::parse_rfc3339_weak(text).ok();
        let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        time.map(|since| since.as_secs())
            .ok_or_else(|| format!("`{text}` is no time such as 2030-01-31T18:00:00Z"))
    });
    if table.has("drain-until") && !matches!(admin, Admin::Drain { .. }) {
        table.complain("drain-until", "drain-until belongs to admin = \"drain\"; leave it away");
    }
    match admin {
        Admin::Drain { .. } => Admin::Drain { until },
        other => other,
    }
}

fn names(table: &mut Table<'_>) -> Option<Vec<String>> {
    table.list("checks", |name| Ok(name.to_owned()))
}

fn on_failure(table: &mut Table<'_>) -> Option<OnFailure> {
    table.word("on-failure", &OnFailure::WORDS)
}
