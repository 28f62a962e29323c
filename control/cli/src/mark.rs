//! `fulcrum mark`: rules that mark packets for services by mark.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use fulcrum_model::{Edit, Family, MarkRule, PortRange, Protocol, iptables};
use ipnet::IpNet;
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::name::{mark, protocol};
use crate::output::Output;
use crate::table::{self, Row, counted};

/// Rules that mark packets for services by mark.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the rules in their order: every packet meets all of them
    List,
    /// Add a rule: a packet that is all that is named gets the mark
    Add {
        /// The mark, such as 10; with a mask, such as 0x10/0xf0, only these bits of it
        #[arg(value_name = "MARK[/MASK]", value_parser = mark_and_mask)]
        mark: (u32, u32),
        /// Which packets
        #[command(flatten)]
        packets: Packets,
        /// Before the rule of this number instead of at the end
        #[arg(long, value_name = "NUMBER")]
        before: Option<usize>,
    },
    /// Delete the rule of a number
    Delete {
        /// Number of the rule, as listed
        number: usize,
    },
    /// Delete all rules
    Clear,
    /// Add the rules that mark packets in what iptables-save prints, all or none
    Import {
        /// File with lines such as `-A PREROUTING -d 10.0.0.1/32 -p tcp --dport 80 -j MARK --set-mark 10`, `-` for
        /// standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The rules are of IPv6 (ip6tables-save)
        #[arg(long)]
        ipv6: bool,
        /// Instead of the rules that there are
        #[arg(long)]
        replace: bool,
    },
}

/// What a packet has to be; what is not named may be anything.
#[derive(Clone, Debug, clap::Args)]
pub struct Packets {
    /// Of this address family
    #[arg(long, value_enum)]
    pub family: Option<FamilyWord>,
    /// Of this protocol
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// From this address or network
    #[arg(long, value_name = "ADDRESS[/BITS]", value_parser = network)]
    pub from: Option<IpNet>,
    /// To this address or network
    #[arg(long, value_name = "ADDRESS[/BITS]", value_parser = network)]
    pub to: Option<IpNet>,
    /// From one of these ports
    #[arg(long, value_name = "PORT[-PORT],…", value_delimiter = ',', value_parser = ports)]
    pub from_ports: Vec<PortRange>,
    /// To one of these ports
    #[arg(long, value_name = "PORT[-PORT],…", value_delimiter = ',', value_parser = ports)]
    pub ports: Vec<PortRange>,
    /// That came in by this interface
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FamilyWord {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

fn mark_and_mask(text: &str) -> Result<(u32, u32), String> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((mark(value)?, mark(mask)?)),
        None => Ok((mark(text)?, u32::MAX)),
    }
}

pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let read = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    read.map_err(|_| "neither an address nor a network, such as 172.16.100.0/24".to_owned())
}

pub(crate) fn ports(text: &str) -> Result<PortRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(PortRange { first, last }),
        _ => Err(format!("`{text}` is neither a port nor a range of ports such as 8000-8080")),
    }
}

impl Packets {
    fn rule(self, (mark, mask): (u32, u32)) -> MarkRule {
        MarkRule {
            family: self.family.map(|word| match word {
                FamilyWord::Ipv4 => Family::V4,
                FamilyWord::Ipv6 => Family::V6,
            }),
            protocol: self.protocol,
            source: self.from,
            destination: self.to,
            source_ports: self.from_ports,
            destination_ports: self.ports,
            interface: self.interface,
            mark,
            mask,
        }
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let marks = global.client().await?.state().await?.marks;
            let rows: Vec<MarkRow> =
                marks.iter().enumerate().map(|(at, rule)| MarkRow::of(at, rule)).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add { mark, packets, before } => {
            let at = before.map(|number| number.checked_sub(1).ok_or_else(|| no_rule(number))).transpose()?;
            global.edit(&[Edit::AddMark(packets.rule(mark), at)]).await
        }
        Command::Delete { number } => {
            let marks = global.client().await?.state().await?.marks;
            let at = number.checked_sub(1);
            let rule = at.and_then(|at| marks.get(at)).ok_or_else(|| no_rule(number))?;
            global.edit(&[Edit::DeleteMark(rule.clone(), at)]).await
        }
        Command::Clear => global.edit(&[Edit::ClearMarks]).await,
        Command::Import { file, ipv6, replace } => {
            let mut text = String::new();
            let read = match file.to_str() {
                Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
                _ => fs::read_to_string(&file).map(|read| text = read),
            };
            read.map_err(|source| Failure::file(&file, source))?;
            let family = if ipv6 { Family::V6 } else { Family::V4 };
            let mut import = iptables::parse(family, &text).map_err(|errors| {
                let lines: Vec<String> =
                    errors.iter().map(|error| format!("{}:{error}", file.display())).collect();
                Failure::Invalid(format!("{}\nnothing imported", lines.join("\n")))
            })?;
            if import.rules.is_empty() {
                let name = file.display();
                return Err(Failure::Invalid(format!(
                    "{name}: no rule of the mangle table's PREROUTING chain marks packets; nothing imported"
                )));
            }
            import.name_interfaces(&global.client().await?.state().await?);
            let imported = counted(import.rules.len() as u64, "rule");
            let skipped = match import.skipped {
                0 => String::new(),
                others => format!(", {others} that mark nothing for services passed over"),
            };
            let clear = replace.then_some(Edit::ClearMarks);
            let adds = import.rules.into_iter().map(|rule| Edit::AddMark(rule, None));
            let edits: Vec<Edit> = clear.into_iter().chain(adds).collect();
            global.edit(&edits).await?;
            match global.json {
                true => Ok(()),
                false => Ok(writeln!(out, "{imported} imported{skipped}")?),
            }
        }
    }
}

fn no_rule(number: usize) -> Failure {
    Failure::Missing(format!("there is no rule {number}; `fulcrum mark list` numbers them"))
}

#[derive(Clone, Debug, Serialize)]
struct MarkRow {
    number: usize,
    family: Option<&'static str>,
    protocol: Option<&'static str>,
    from: Option<IpNet>,
    from_ports: Vec<String>,
    to: Option<IpNet>,
    ports: Vec<String>,
    interface: Option<String>,
    mark: u32,
    mask: u32,
}

impl MarkRow {
    fn of(at: usize, rule: &MarkRule) -> MarkRow {
        let ports = |ranges: &[PortRange]| ranges.iter().map(ToString::to_string).collect();
        MarkRow {
            number: at + 1,
            family: rule.family.map(|family| family.name()),
            protocol: rule.protocol.map(|protocol| protocol.name()),
            from: rule.source,
            from_ports: ports(&rule.source_ports),
            to: rule.destination,
            ports: ports(&rule.destination_ports),
            interface: rule.interface.clone(),
            mark: rule.mark,
            mask: rule.mask,
        }
    }
}

impl Row for MarkRow {
    const HEAD: &'static [&'static str] =
        &["NUMBER", "MARK", "FAMILY", "PROTOCOL", "FROM", "FROM-PORTS", "TO", "PORTS", "INTERFACE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            match self.mask {
                u32::MAX => self.mark.to_string(),
                mask => format!("{:#x}/{mask:#x}", self.mark),
            },
            table::or_dash(self.family),
            table::or_dash(self.protocol),
            table::or_dash(self.from),
            table::joined(&self.from_ports),
            table::or_dash(self.to),
            table::joined(&self.ports),
            table::or_dash(self.interface.as_ref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_networks_and_ports_are_read_and_nonsense_is_not() {
        assert_eq!(mark_and_mask("10"), Ok((10, u32::MAX)));
        assert_eq!(mark_and_mask("0x10/0xf0"), Ok((0x10, 0xf0)));
        assert!(mark_and_mask("ten").is_err() && mark_and_mask("10/").is_err());
        assert_eq!(network("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(network("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        assert!(network("10.0.0").is_err());
        assert_eq!(ports("8000-8080"), Ok(PortRange { first: 8000, last: 8080 }));
        assert!(ports("80-79").is_err() && ports("http").is_err());
    }
}
