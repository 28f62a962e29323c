//! `fulcrum port`: devices of the data plane.

use std::io::Write as _;

use clap::Subcommand;
use fulcrum_api::dataplane::{BondMember, ExceptionClass, NamedCount, PortStatus};
use serde::Serialize;

use crate::command::Global;
use crate::drops::DropRow;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// Devices of the data plane.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the ports
    List,
    /// Show a port, and why packets that came in by it were dropped
    Show {
        /// Its name
        name: String,
    },
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let dataplane = global.client().await?.dataplane().await?;
    let rows: Vec<PortRow> = dataplane.ports.into_iter().map(PortRow).collect();
    match command {
        Command::List => Ok(table::print(out, global.json, &rows)?),
        Command::Show { name } => {
            let known: Vec<String> = rows.iter().map(|row| row.0.name.clone()).collect();
            let row = rows.into_iter().find(|row| row.0.name == name).ok_or_else(|| {
                Failure::Missing(format!("there is no port `{name}`; known: {}", table::joined(&known)))
            })?;
            show(global.json, &row.0, out)
        }
    }
}

/// A port as the data plane tells of it.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct PortRow(pub PortStatus);

impl Row for PortRow {
    const HEAD: &'static [&'static str] = &[
        "NAME",
        "DEVICE",
        "DRIVER",
        "LINK",
        "RX-PACKETS",
        "RX-BYTES",
        "TX-PACKETS",
        "TX-BYTES",
        "MISSED",
        "ERRORS",
        "DROPPED",
    ];

    fn cells(&self) -> Vec<String> {
        let port = &self.0;
        vec![
            port.name.clone(),
            port.device.clone(),
            port.driver.clone(),
            link(port),
            port.rx_packets.to_string(),
            port.rx_bytes.to_string(),
            port.tx_packets.to_string(),
            port.tx_bytes.to_string(),
            port.rx_missed.to_string(),
            (port.rx_errors + port.tx_errors).to_string(),
            sum(&port.drops).to_string(),
        ]
    }
}

/// A class of the exception path.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
struct ClassRow(ExceptionClass);

impl Row for ClassRow {
    const HEAD: &'static [&'static str] = &["CLASS", "PACKETS", "POLICED", "QUEUE-FULL"];

    fn cells(&self) -> Vec<String> {
        let ExceptionClass { name, up, policed, full } = &self.0;
        vec![name.clone(), up.to_string(), policed.to_string(), full.to_string()]
    }
}

fn sum(counts: &[NamedCount]) -> u64 {
    counts.iter().map(|count| count.count).sum()
}

fn link(port: &PortStatus) -> String {
    match (port.link, port.speed_mbps) {
        (false, _) => "down".to_owned(),
        // DPDK says "none" and "unknown" with these.
        (true, 0 | u32::MAX) => "up".to_owned(),
        (true, speed) => format!("up {speed} Mbit/s"),
    }
}

fn show(json: bool, port: &PortStatus, out: &mut Output<'_>) -> Result<(), Failure> {
    if json {
        return Ok(out.json(port)?);
    }
    writeln!(out, "port      {}", port.name)?;
    writeln!(out, "device    {} ({})", port.device, port.driver)?;
    writeln!(out, "MAC       {}", port.mac)?;
    writeln!(out, "link      {}", link(port))?;
    writeln!(out, "queues    {} receiving, {} sending", port.rx_queues, port.tx_queues)?;
    if let Some(steering) = &port.steering {
        let checked = match (steering.checked, steering.disagreed) {
            (0, _) => String::new(),
            (checked, 0) => format!("; {checked} packets checked"),
            (checked, disagreed) => format!("; {disagreed} of {checked} packets checked came otherwise"),
        };
        writeln!(out, "steering  {} ({}{checked})", steering.way, steering.detail)?;
    }
    let offloads = if port.offloads.is_empty() { "none".to_owned() } else { port.offloads.join(", ") };
    writeln!(out, "offloads  {offloads}")?;
    for exception in &port.exceptions {
        let addresses = match exception.addresses.is_empty() {
            true => "no address".to_owned(),
            false => exception.addresses.join(", "),
        };
        writeln!(out, "exception {} of interface {}: {addresses}", exception.name, exception.interface)?;
    }
    let (packets, bytes) = (port.rx_packets, port.rx_bytes);
    writeln!(
        out,
        "received  {packets} packets, {bytes} bytes, {} missed, {} errors",
        port.rx_missed, port.rx_errors
    )?;
    let (packets, bytes) = (port.tx_packets, port.tx_bytes);
    writeln!(
        out,
        "sent      {packets} packets, {bytes} bytes, {} not taken, {} errors",
        port.tx_dropped, port.tx_errors
    )?;
    for note in &port.notes {
        writeln!(out, "note      {note}")?;
    }
    if let Some(bond) = &port.bond {
        writeln!(out, "\n{} bond of", bond.mode)?;
        let members: Vec<MemberRow<'_>> = bond.members.iter().map(MemberRow).collect();
        table::print_indented(out, "  ", &members)?;
    }
    let classes: Vec<ClassRow> = port.exception_classes.iter().cloned().map(ClassRow).collect();
    if !classes.is_empty() {
        writeln!(out, "\ngiven to the host, which sent {} packets itself", port.exception_down)?;
        table::print_indented(out, "  ", &classes)?;
    }
    let drops = DropRow::all(&port.drops);
    if !drops.is_empty() {
        writeln!(out, "\ndropped of what came in")?;
        table::print_indented(out, "  ", &drops)?;
    }
    Ok(())
}

/// A device of a bond.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
struct MemberRow<'a>(&'a BondMember);

impl Row for MemberRow<'_> {
    const HEAD: &'static [&'static str] =
        &["MEMBER", "DRIVER", "MAC", "LINK", "STATE", "PARTNER", "RX-PACKETS", "TX-PACKETS"];

    fn cells(&self) -> Vec<String> {
        let member = self.0;
        vec![
            member.device.clone(),
            member.driver.clone(),
            member.mac.clone(),
            if member.link { "up" } else { "down" }.to_owned(),
            member.state.clone(),
            if member.partner.is_empty() { "-".to_owned() } else { member.partner.clone() },
            member.rx_packets.to_string(),
            member.tx_packets.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_api::dataplane::{BondStatus, PortSteering};

    use super::*;

    fn printed(json: bool, steering: PortSteering, offloads: &[&str]) -> String {
        let port = PortStatus {
            name: "wan".into(),
            device: "0000:03:00.0".into(),
            driver: "net_ice".into(),
            rx_queues: 4,
            tx_queues: 4,
            steering: Some(steering),
            offloads: offloads.iter().map(|&word| word.to_owned()).collect(),
            exception_classes: vec![ExceptionClass { name: "rest".into(), up: 7, policed: 40, full: 1 }],
            exception_down: 3,
            ..PortStatus::default()
        };
        let mut text = Vec::new();
        let mut out = Output::new(&mut text);
        show(json, &port, &mut out).unwrap();
        out.flush().unwrap();
        drop(out);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_bond_shows_its_members() {
        let member = |device: &str, active: bool, state: &str| BondMember {
            device: device.into(),
            driver: "net_ice".into(),
            mac: "02:00:00:00:00:01".into(),
            link: active,
            active,
            state: state.into(),
            ..BondMember::default()
        };
        let members = vec![member("0000:03:00.0", true, "active"), member("0000:03:00.1", false, "down")];
        let bond = Some(BondStatus { mode: "active-backup".into(), members });
        let mut text = Vec::new();
        let mut out = Output::new(&mut text);
        show(false, &PortStatus { bond, ..PortStatus::default() }, &mut out).unwrap();
        out.flush().unwrap();
        drop(out);
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .skip_while(|line| *line != "active-backup bond of")
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[2], ["0000:03:00.0", "net_ice", "02:00:00:00:00:01", "up", "active", "-", "0", "0"]);
        assert_eq!(lines[3][3..5], ["down", "down"]);
    }

    fn rss(checked: u64, disagreed: u64) -> PortSteering {
        PortSteering { way: "rss".into(), detail: "every hash leads to its owner".into(), checked, disagreed }
    }

    #[test]
    fn a_port_shows_how_packets_find_their_workers() {
        let text = printed(false, rss(0, 0), &[]);
        let lines = "queues    4 receiving, 4 sending\nsteering  rss (every hash leads to its owner)\noffloads  none\n";
        assert!(text.contains(lines), "{text}");
        let text = printed(false, rss(70, 0), &["ipv4-header-checksum"]);
        let lines = "steering  rss (every hash leads to its owner; 70 packets checked)\noffloads  ipv4-header-checksum\n";
        assert!(text.contains(lines), "{text}");
        let text = printed(false, rss(70, 2), &[]);
        assert!(text.contains("its owner; 2 of 70 packets checked came otherwise)\n"), "{text}");
        let lines = "which sent 3 packets itself\n  CLASS  PACKETS  POLICED  QUEUE-FULL\n  rest   7        40       1\n";
        assert!(text.contains(lines), "{text}");
        let value: serde_json::Value = serde_json::from_str(&printed(true, rss(70, 2), &[])).unwrap();
        assert_eq!((&value["steering"]["way"], &value["steering"]["disagreed"]), (&"rss".into(), &2.into()));
        assert_eq!(value["offloads"], serde_json::json!([]));
    }
}
