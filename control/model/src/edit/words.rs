//! Edits in words, one line each, for logs.

use std::fmt;

use super::Edit;
use crate::state::{Admin, Server, Service};

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edit::AddService(service) => write!(f, "add service {}", Words(service)),
            Edit::UpdateService(service) => write!(f, "change service {}", Words(service)),
            Edit::DeleteService(key) => write!(f, "delete service {key}"),
            Edit::ClearServices => f.write_str("delete all services"),
            Edit::SetServicePool(key, pool) => set(f, key, "local-pool", pool.as_deref()),
            Edit::SetServiceInterface(key, name) => set(f, key, "interface", name.as_deref()),
            Edit::SetServiceMss(key, mss) => set(f, key, "mss", *mss),
            Edit::SetServiceClientAddress(key, way) => set(f, key, "client-address", Some(way)),
            Edit::SetServiceAnnouncement(key, announcement) => {
                set(f, key, "announce", Some(announcement.when))
            }
            Edit::SetServiceHealth(key, _) => write!(f, "change health of service {key}"),
            Edit::SetStateTimeout(Some(key), state, seconds) => set(f, key, state, *seconds),
            Edit::SetStateTimeout(None, state, Some(seconds)) => write!(f, "set time-out {state} {seconds}"),
            Edit::SetStateTimeout(None, state, None) => write!(f, "set time-out {state} to its default"),
            Edit::AddServer(key, server) => write!(f, "add server {} to {key}", Words(server)),
            Edit::UpdateServer(key, server) => write!(f, "change server {} of {key}", Words(server)),
            Edit::SetServerHealth(key, server, _) => write!(f, "change health of server {server} of {key}"),
            Edit::SetServerAdmin { service, address, port, admin } => {
                write!(f, "{} server {address}", Words(admin))?;
                if let Some(port) = port {
                    write!(f, " port {port}")?;
                }
                match service {
                    Some(key) => write!(f, " of {key}"),
                    None => f.write_str(" of all services"),
                }
            }
            Edit::DeleteServer(key, server) => write!(f, "delete server {server} of {key}"),
            Edit::AddLocalAddress(key, address) => write!(f, "add local address {address} to {key}"),
            Edit::DeleteLocalAddress(key, address) => write!(f, "delete local address {address} of {key}"),
            Edit::SetTimeouts(timeouts) => {
                let (tcp, tcp_fin, udp) = (timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
                write!(f, "set time-outs tcp {tcp} tcp-fin {tcp_fin} udp {udp}")
            }
            Edit::SetSettings(_) => f.write_str("set all settings"),
            Edit::SetSetting { name, value } => write!(f, "set {name}={value}"),
            Edit::AddMark(rule, _) => write!(f, "add rule for mark {}", rule.mark),
            Edit::DeleteMark(rule, _) => write!(f, "delete rule for mark {}", rule.mark),
            Edit::ClearMarks => f.write_str("delete all rules for marks"),
            Edit::AddRoute(route) => write!(f, "add route {}", route.to),
            Edit::DeleteRoute(to) => write!(f, "delete route {to}"),
            Edit::AddNeighbour(neighbour) => {
                write!(
                    f,
                    "add neighbour {} at {} on {}",
                    neighbour.address, neighbour.mac, neighbour.interface
                )
            }
            Edit::DeleteNeighbour { interface, address } => {
                write!(f, "delete neighbour {address} on {interface}")
            }
            Edit::AddLocalPool(pool) => write!(f, "add local pool {}", pool.name),
            Edit::DeleteLocalPool(name) => write!(f, "delete local pool {name}"),
            Edit::SetOverride(over) => write!(f, "set override of service {}", over.service),
            Edit::DeleteOverride(key) => write!(f, "delete override of service {key}"),
            Edit::AddSnat(rule, _) => write!(f, "add snat rule {}", rule.name),
            Edit::DeleteSnat(name) => write!(f, "delete snat rule {name}"),
            Edit::AddCheck(check) => write!(f, "add check {}", check.name),
            Edit::UpdateCheck(check) => write!(f, "change check {}", check.name),
            Edit::DeleteCheck(name) => write!(f, "delete check {name}"),
        }
    }
}

fn set(
    f: &mut fmt::Formatter<'_>,
    service: impl fmt::Display,
    what: impl fmt::Display,
    value: Option<impl fmt::Display>,
) -> fmt::Result {
    match value {
        Some(value) => write!(f, "set {what} {value} of service {service}"),
        None => write!(f, "take {what} from service {service}"),
    }
}

/// The part of a thing that a line has room for.
struct Words<'a, T>(&'a T);

impl fmt::Display for Words<'_, Service> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Service { key, scheduler, persistent, .. } = self.0;
        write!(f, "{key} {scheduler}")?;
        persistent.map_or(Ok(()), |seconds| write!(f, " persistent {seconds}"))
    }
}

impl fmt::Display for Words<'_, Server> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} weight {}", self.0.key, self.0.forward, self.0.weight)
    }
}

impl fmt::Display for Words<'_, Admin> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Admin::Enabled => "enable",
            Admin::Drain { .. } => "drain",
            Admin::Disabled => "disable",
        })
    }
}
