//! `fulcrum status`: how both processes are.

use std::io::Write as _;

use fulcrum_api::control::{ControlStatus, Link, Status};
use fulcrum_api::dataplane::{DataplaneStatus, LocalPoolUse};
use serde::Serialize;

use crate::command::Global;
use crate::drops::{DropRow, EventRow};
use crate::failure::Failure;
use crate::output::Output;
use crate::port::PortRow;
use crate::table::{self, Row, counted};
use crate::vip;
use crate::worker::WorkerRow;

/// What to show.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Also what was counted beside drops, and the use of local addresses
    #[arg(long, short)]
    pub verbose: bool,
}

/// Does it.
pub async fn run(global: &Global, arguments: Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let status = global.client().await?.status().await?;
    match global.json {
        true => Ok(out.json(&status)?),
        false => print(&status, arguments.verbose, out),
    }
}

fn print(status: &Status, verbose: bool, out: &mut Output<'_>) -> Result<(), Failure> {
    control(&status.control.clone().unwrap_or_default(), out)?;
    let link = status.link.clone().unwrap_or_default();
    match &status.dataplane {
        Some(dataplane) => self::dataplane(&link, dataplane, verbose, out),
        None => {
            writeln!(out, "data plane  not connected ({}); start fulcrum-dataplane", link.socket)?;
            last_error(&link, out)
        }
    }
}

fn control(control: &ControlStatus, out: &mut Output<'_>) -> Result<(), Failure> {
    let ControlStatus { version, pid, config, store, .. } = control;
    writeln!(out, "control     fulcrum-control {version}, pid {pid}, up {}", duration(control.uptime_ms))?;
    let (services, servers) = (counted(control.services, "service"), counted(control.servers, "server"));
    writeln!(out, "            {services}, {servers}")?;
    let states = [
        (control.servers_down, "down"),
        (control.servers_unknown, "unknown"),
        (control.servers_draining, "draining"),
        (control.servers_disabled, "disabled"),
    ];
    let mut states: Vec<String> =
        states.iter().filter(|(number, _)| *number != 0).map(|(n, word)| format!("{n} {word}")).collect();
    if !states.is_empty() {
        states[0].insert_str(0, "servers: ");
    }
    if control.quorums_lost != 0 {
        let services = counted(control.quorums_lost, "service");
        let sorry = counted(control.sorry_servers, "sorry server");
        states.push(format!("{services} without quorum, {sorry} on"));
    }
    if !states.is_empty() {
        writeln!(out, "            {}", states.join(", "))?;
    }
    if control.vips_released + control.vips_announced + control.vips_unannounced != 0 {
        let states = [
            (control.vips_released, "released"),
            (control.vips_announced, "announced"),
            (control.vips_unannounced, "not announced"),
        ];
        let states = states.iter().filter(|(number, _)| *number != 0);
        let states: Vec<String> = states.map(|(number, word)| format!("{number} {word}")).collect();
        writeln!(out, "            {}: {}", counted(control.vips, "VIP"), states.join(", "))?;
    }
    if control.withdrawn_ms != 0 {
        let withdrawn = vip::withdrawn(control.withdrawn_ms, &control.withdrawn_why);
        writeln!(out, "            {}", indented(&withdrawn))?;
    }
    let changed = if control.runtime_changes { ", changed at run time" } else { "" };
    writeln!(out, "            configuration {config}{changed}; state {store}")?;
    if !control.config_error.is_empty() {
        writeln!(
            out,
            "            the configuration file is not in effect: {}",
            indented(&control.config_error)
        )?;
    }
    Ok(())
}

fn dataplane(
    link: &Link,
    dataplane: &DataplaneStatus,
    verbose: bool,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let DataplaneStatus { version, pid, dpdk, idle, .. } = dataplane;
    writeln!(
        out,
        "data plane  fulcrum-dataplane {version}, pid {pid}, up {}",
        duration(dataplane.uptime_ms)
    )?;
    let pages = if dataplane.hugepages { "huge pages" } else { "no huge pages" };
    writeln!(out, "            {dpdk}, {pages}, idle {idle}")?;
    let sync = if link.in_sync { "in sync" } else { "not in sync" };
    let workers = match dataplane.acknowledged == dataplane.generation {
        true => String::new(),
        false => format!(" (workers still run {})", dataplane.acknowledged),
    };
    let Link { full_pushes, increments, repairs, .. } = link;
    let (pushes, repairs) = (counted(*full_pushes, "whole state"), counted(*repairs, "repair"));
    let history = format!("{pushes} and {} pushed, {repairs}", counted(*increments, "change"));
    writeln!(out, "            {sync}, generation {}{workers}; {history}", dataplane.generation)?;
    last_error(link, out)?;
    for warning in &dataplane.warnings {
        writeln!(out, "            warning: {}", indented(warning))?;
    }

    writeln!(out, "\nworkers")?;
    table::print_indented(out, "  ", &WorkerRow::all(dataplane))?;
    writeln!(out, "\nports")?;
    let ports: Vec<PortRow> = dataplane.ports.iter().cloned().map(PortRow).collect();
    table::print_indented(out, "  ", &ports)?;
    for port in &dataplane.ports {
        for note in &port.notes {
            writeln!(out, "  {}: {}", port.name, indented(note))?;
        }
    }
    let drops = DropRow::all(&dataplane.drops);
    if drops.is_empty() {
        writeln!(out, "\nnothing dropped")?;
    } else {
        writeln!(out, "\ndropped")?;
        table::print_indented(out, "  ", &drops)?;
    }
    if verbose {
        writeln!(out, "\ncounted")?;
        table::print_indented(out, "  ", &EventRow::all(&dataplane.events))?;
        for pool in &dataplane.frames {
            writeln!(out, "\nmemory for frames: {} of {} free", pool.free, pool.frames)?;
        }
        if let Some(log) = &dataplane.translation_log {
            let (exported, lost, failed) = (log.exported, log.lost, log.failed);
            writeln!(
                out,
                "translations told to {}: {exported}, too fast to be told: {lost}, datagrams not sent: {failed}",
                log.collector
            )?;
        }
        if !dataplane.local_pools.is_empty() {
            writeln!(out, "\nlocal addresses")?;
            let rows: Vec<PoolUseRow> = dataplane.local_pools.iter().cloned().map(PoolUseRow).collect();
            table::print_indented(out, "  ", &rows)?;
        }
    }
    Ok(())
}

fn last_error(link: &Link, out: &mut Output<'_>) -> Result<(), Failure> {
    if !link.last_error.is_empty() {
        let age = duration(link.error_age_ms);
        writeln!(out, "            since {age}: {}", indented(&link.last_error))?;
    }
    Ok(())
}

/// Lines after the first under the first.
fn indented(text: &str) -> String {
    text.replace('\n', "\n            ")
}

/// A time in its two largest units.
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

#[derive(Clone, Debug, Serialize)]
struct PoolUseRow(LocalPoolUse);

impl Row for PoolUseRow {
    const HEAD: &'static [&'static str] = &["SERVICE", "ADDRESS", "SESSIONS", "CONFLICTS"];

    fn cells(&self) -> Vec<String> {
        let LocalPoolUse { service, address, conflicts, sessions } = &self.0;
        vec![service.clone(), address.clone(), sessions.to_string(), conflicts.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_api::dataplane::{FramePool, NamedCount, PortStatus, Worker};

    use super::*;

    fn printed(status: &Status, verbose: bool) -> String {
        let mut text = Vec::new();
        print(status, verbose, &mut Output::new(&mut text)).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn status() -> Status {
        Status {
            control: Some(ControlStatus {
                version: "0.1.0".into(),
                pid: 7,
                uptime_ms: 3_723_000,
                config: "/etc/fulcrum/fulcrum.toml".into(),
                store: "/var/lib/fulcrum/state.toml".into(),
                runtime_changes: true,
                services: 1,
                servers: 2,
                ..ControlStatus::default()
            }),
            link: Some(Link {
                socket: "/run/fulcrum/dataplane.sock".into(),
                last_error: "nothing answers".into(),
                error_age_ms: 61_000,
                ..Link::default()
            }),
            dataplane: None,
        }
    }

    #[test]
    fn a_data_plane_that_is_not_there() {
        assert_eq!(
            printed(&status(), false),
            "control     fulcrum-control 0.1.0, pid 7, up 1 h 2 min\n            1 service, 2 servers\n            \
             configuration /etc/fulcrum/fulcrum.toml, changed at run time; state /var/lib/fulcrum/state.toml\n\
             data plane  not connected (/run/fulcrum/dataplane.sock); start fulcrum-dataplane\n            \
             since 1 min 1 s: nothing answers\n"
        );
    }

    #[test]
    fn vips_that_are_not_where_they_belong() {
        let mut status = status();
        let control = status.control.as_mut().unwrap();
        (control.vips, control.vips_released, control.vips_unannounced) = (3, 1, 2);
        (control.withdrawn_ms, control.withdrawn_why) = (61_000, "upgrade, by uid 0".to_owned());
        let text = printed(&status, false);
        for line in [
            "            3 VIPs: 1 released, 2 not announced",
            "            all announcements are withdrawn for 1 min 1 s more: upgrade, by uid 0",
        ] {
            assert!(text.lines().any(|is| is == line), "no line `{line}` in\n{text}");
        }
    }

    #[test]
    fn a_data_plane_with_drops() {
        let count = |name: &str, count| NamedCount { name: name.into(), count };
        let status = Status {
            link: Some(Link { in_sync: true, connected: true, ..Link::default() }),
            dataplane: Some(DataplaneStatus {
                version: "0.1.0".into(),
                dpdk: "DPDK 22.11.11".into(),
                idle: "poll".into(),
                generation: 4,
                acknowledged: 3,
                workers: vec![Worker { id: 0, lcore: 1, busy: 0.5, ..Worker::default() }],
                ports: vec![PortStatus {
                    name: "wan".into(),
                    device: "veth-wan".into(),
                    driver: "net_af_packet".into(),
                    link: true,
                    notes: vec!["checksums are completed in software".into()],
                    ..PortStatus::default()
                }],
                drops: vec![count("no-service", 3), count("no-route", 0)],
                events: vec![count("forwarded.nat", 9)],
                frames: vec![FramePool { frames: 20_480, free: 16_000 }],
                ..DataplaneStatus::default()
            }),
            ..status()
        };
        let text = printed(&status, true);
        for line in [
            "            DPDK 22.11.11, no huge pages, idle poll",
            "            in sync, generation 4 (workers still run 3); 0 whole states and 0 changes pushed, 0 repairs",
            "  WORKER  LCORE  SESSIONS  LIMIT  RX-PACKETS  TX-PACKETS  HANDED-OFF  BUSY  CYCLES  BURST  DROPPED",
            "  0       1      0         0      0           0           0           50%   -       -      0",
            "  wan: checksums are completed in software",
            "  no-service  3        TCP to an own address where nothing listens (answered with RST, if it may be).",
            "  forwarded.nat  9      Forwarded to a server by NAT.",
            "memory for frames: 16000 of 20480 free",
        ] {
            assert!(text.lines().any(|is| is == line), "no line `{line}` in\n{text}");
        }
        assert!(!text.contains("no-route"));
        assert!(!printed(&status, false).contains("forwarded.nat"));
    }

    #[test]
    fn times_in_their_two_largest_units() {
        let cases = [(999, "0 s"), (59_000, "59 s"), (3_599_000, "59 min 59 s"), (90_000_000, "1 d 1 h")];
        for (milliseconds, text) in cases {
            assert_eq!(duration(milliseconds), text);
        }
    }
}
