//! `fulcrum snat`: rules that masquerade what servers start themselves.

use std::collections::HashMap;

use clap::Subcommand;
use fulcrum_api::dataplane::SnatUse;
use fulcrum_model::{Edit, PortRange, Snat, SnatProtocol};
use ipnet::IpNet;
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::mark::{network, ports};
use crate::output::Output;
use crate::table::{self, Row};

/// Rules that masquerade what servers start themselves.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the rules in their order, of which the first that fits decides, with what they count
    List,
    /// Add a rule
    Add {
        /// Its name
        name: String,
        /// From this address or network
        #[arg(long, value_name = "ADDRESS[/BITS]", value_parser = network)]
        from: IpNet,
        /// To this address or network
        #[arg(long, value_name = "ADDRESS[/BITS]", value_parser = network)]
        to: Option<IpNet>,
        /// Of this protocol: tcp, udp, sctp or icmp (echo)
        #[arg(long, value_parser = protocol)]
        protocol: Option<SnatProtocol>,
        /// To one of these ports
        #[arg(long, value_name = "PORT[-PORT]", value_delimiter = ',', value_parser = ports)]
        ports: Vec<PortRange>,
        /// With addresses and ports of this local pool
        #[arg(long, value_name = "NAME", required_unless_present = "exempt")]
        pool: Option<String>,
        /// What fits is routed as it is
        #[arg(long, conflicts_with = "pool")]
        exempt: bool,
        /// Before the rule of this name instead of at the end
        #[arg(long, value_name = "NAME")]
        before: Option<String>,
    },
    /// Delete a rule; its sessions go on
    Delete {
        /// Its name
        name: String,
    },
}

fn protocol(text: &str) -> Result<SnatProtocol, String> {
    let mut known = SnatProtocol::WORDS.iter();
    let found = known.find(|(word, _)| *word == text).map(|(_, protocol)| *protocol);
    found.ok_or_else(|| "neither tcp, udp, sctp nor icmp".to_owned())
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let mut client = global.client().await?;
            let rules = client.state().await?.snat;
            let used = client.status().await?.dataplane.map(|dataplane| dataplane.snat);
            let used: HashMap<String, SnatUse> =
                used.unwrap_or_default().into_iter().map(|used| (used.name.clone(), used)).collect();
            let rows: Vec<SnatRow> =
                rules.into_iter().map(|rule| SnatRow::of(used.get(&rule.name), rule)).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add { name, from, to, protocol, ports, pool, exempt: _, before } => {
            let at = match before {
                None => None,
                Some(other) => {
                    let rules = global.client().await?.state().await?.snat;
                    let place = rules.iter().position(|rule| rule.name == other);
                    let missing = || Failure::Missing(format!("there is no snat rule `{other}`"));
                    Some(place.ok_or_else(missing)?)
                }
            };
            let rule = Snat { name, source: from, destination: to, protocol, destination_ports: ports, pool };
            global.edit(&[Edit::AddSnat(rule, at)]).await
        }
        Command::Delete { name } => global.edit(&[Edit::DeleteSnat(name)]).await,
    }
}

#[derive(Clone, Debug, Serialize)]
struct SnatRow {
    name: String,
    from: IpNet,
    to: Option<IpNet>,
    protocol: Option<String>,
    ports: Vec<String>,
    /// Absent: exempt.
    pool: Option<String>,
    sessions: u64,
    connections: u64,
    out_packets: u64,
    out_bytes: u64,
    in_packets: u64,
    in_bytes: u64,
    /// Flows that found no port.
    refused: u64,
}

impl SnatRow {
    fn of(used: Option<&SnatUse>, rule: Snat) -> SnatRow {
        let used = used.cloned().unwrap_or_default();
        SnatRow {
            name: rule.name,
            from: rule.source,
            to: rule.destination,
            protocol: rule.protocol.map(|protocol| protocol.to_string()),
            ports: rule.destination_ports.iter().map(ToString::to_string).collect(),
            pool: rule.pool,
            sessions: used.sessions,
            connections: used.connections,
            out_packets: used.out_packets,
            out_bytes: used.out_bytes,
            in_packets: used.in_packets,
            in_bytes: used.in_bytes,
            refused: used.refused,
        }
    }
}

impl Row for SnatRow {
    const HEAD: &'static [&'static str] = &[
        "NAME",
        "FROM",
        "TO",
        "PROTOCOL",
        "PORTS",
        "POOL",
        "SESSIONS",
        "CONNECTIONS",
        "OUT-PACKETS",
        "OUT-BYTES",
        "IN-PACKETS",
        "IN-BYTES",
        "REFUSED",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.from.to_string(),
            table::or_dash(self.to),
            table::or_dash(self.protocol.as_ref()),
            table::joined(&self.ports),
            self.pool.clone().unwrap_or_else(|| "(exempt)".to_owned()),
            self.sessions.to_string(),
            self.connections.to_string(),
            self.out_packets.to_string(),
            self.out_bytes.to_string(),
            self.in_packets.to_string(),
            self.in_bytes.to_string(),
            self.refused.to_string(),
        ]
    }
}
