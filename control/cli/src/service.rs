//! `fulcrum service`: virtual services.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::IpAddr;

use clap::Subcommand;
use fulcrum_api::dataplane::{Counters, ServiceCounters};
use fulcrum_model::validate::DEFAULT_SCHEDULER;
use fulcrum_model::{Edit, Family, LocalAddress, Service, ServiceKey, prefix_of_mask};
use serde::Serialize;

use crate::client::Client;
use crate::command::Global;
use crate::failure::Failure;
use crate::name::{AnyService, ServiceName};
use crate::output::Output;
use crate::server::ServerRow;
use crate::table::{self, Row};

/// Virtual services.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the services
    List,
    /// Show a service and its servers with their counters
    Show(ServiceName),
    /// Add a service
    Add {
        /// Which one
        #[command(flatten)]
        name: ServiceName,
        /// How it is
        #[command(flatten)]
        settings: Settings,
        /// A local address of the service's own for FULLNAT (may be repeated)
        #[arg(long, value_name = "ADDRESS")]
        local_address: Vec<IpAddr>,
    },
    /// Change what is named of a service; its servers and sessions stay
    Edit {
        /// Which one
        #[command(flatten)]
        name: ServiceName,
        /// How it shall be
        #[command(flatten)]
        settings: Settings,
        /// A local address to add (may be repeated)
        #[arg(long, value_name = "ADDRESS")]
        add_local_address: Vec<IpAddr>,
        /// A local address to take away (may be repeated)
        #[arg(long, value_name = "ADDRESS")]
        delete_local_address: Vec<IpAddr>,
    },
    /// Delete a service with its servers
    Delete(ServiceName),
    /// Zero the counters of a service, or of all
    Zero(AnyService),
}

/// Settings of a service.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// How connections are given to servers: rr, wrr, lc or wlc [default: wlc]
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// Seconds for which a client stays with its server, 0 = off
    #[arg(long, value_name = "SECONDS")]
    pub persistent: Option<u32>,
    /// Clients alike under this mask stay together
    #[arg(long, value_name = "MASK", value_parser = netmask)]
    pub netmask: Option<u8>,
    /// Pool of local addresses for FULLNAT, `none` for none
    #[arg(long, value_name = "NAME")]
    pub local_pool: Option<String>,
    /// Interface on which the address answers ARP when no subnet decides, `none` for none
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
}

/// The prefix length that a mask is.
fn netmask(text: &str) -> Result<u8, String> {
    let mask = text.parse().map_err(|_| "no mask such as 255.255.255.0".to_owned())?;
    prefix_of_mask(mask).ok_or_else(|| format!("netmask {mask} has holes; such as 255.255.255.0"))
}

/// `none` means none.
fn named(text: &str) -> Option<String> {
    (text != "none").then(|| text.to_owned())
}

impl Settings {
    /// A new service.
    fn create(&self, key: ServiceKey, local_addresses: &[IpAddr]) -> Service {
        let bare = Service::new(key, self.scheduler.as_deref().unwrap_or(DEFAULT_SCHEDULER));
        Service {
            persistent: self.persistent.filter(|seconds| *seconds != 0),
            prefix: self.netmask.unwrap_or(bare.prefix),
            local_pool: self.local_pool.as_deref().and_then(named),
            local_addresses: local_addresses.iter().copied().map(LocalAddress).collect(),
            interface: self.interface.as_deref().and_then(named),
            ..bare
        }
    }

    /// The edits that change what is named of a service and keep the rest.
    fn change(&self, service: &Service) -> Vec<Edit> {
        let key = service.key;
        let mut edits = Vec::new();
        if self.scheduler.is_some() || self.persistent.is_some() || self.netmask.is_some() {
            let mut changed = service.clone();
            if let Some(scheduler) = &self.scheduler {
                changed.scheduler.clone_from(scheduler);
            }
            if let Some(seconds) = self.persistent {
                changed.persistent = Some(seconds).filter(|seconds| *seconds != 0);
            }
            changed.prefix = self.netmask.unwrap_or(changed.prefix);
            edits.push(Edit::UpdateService(changed));
        }
        edits.extend(self.local_pool.as_deref().map(|pool| Edit::SetServicePool(key, named(pool))));
        edits.extend(self.interface.as_deref().map(|name| Edit::SetServiceInterface(key, named(name))));
        edits
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let rows = rows(&mut global.client().await?).await?;
            table::print(out, global.json, &rows)?;
            Ok(())
        }
        Command::Show(name) => {
            let rows = rows(&mut global.client().await?).await?;
            let key = name.key();
            let row = rows.into_iter().find(|row| row.key == key);
            let row = row.ok_or_else(|| Failure::Missing(format!("there is no service {key}")))?;
            show(global.json, &row, out)
        }
        Command::Add { name, settings, local_address } => {
            global.edit(&[Edit::AddService(settings.create(name.key(), &local_address))]).await
        }
        Command::Edit { name, settings, add_local_address, delete_local_address } => {
            let key = name.key();
            let state = global.client().await?.state().await?;
            let service =
                state.service(key).ok_or_else(|| Failure::Missing(format!("there is no service {key}")))?;
            let mut edits = settings.change(service);
            edits.extend(add_local_address.into_iter().map(|address| Edit::AddLocalAddress(key, address)));
            edits.extend(
                delete_local_address.into_iter().map(|address| Edit::DeleteLocalAddress(key, address)),
            );
            if edits.is_empty() {
                return Err(Failure::Invalid(format!(
                    "nothing to change in service {key}; name what, see --help"
                )));
            }
            global.edit(&edits).await
        }
        Command::Delete(name) => global.edit(&[Edit::DeleteService(name.key())]).await,
        Command::Zero(which) => global.client().await?.zero(which.key()).await,
    }
}

/// A service, its servers and what was counted.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceRow {
    /// Its name.
    #[serde(skip)]
    pub key: ServiceKey,
    protocol: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    mark: Option<u32>,
    scheduler: String,
    persistent: Option<u32>,
    netmask: String,
    local_pool: Option<String>,
    local_addresses: Vec<IpAddr>,
    interface: Option<String>,
    /// Absent when there is no data plane to ask.
    counters: Option<Counters>,
    /// Its servers, in order of addition.
    pub servers: Vec<ServerRow>,
}

impl ServiceRow {
    fn new(service: &Service, counted: Option<&ServiceCounters>) -> ServiceRow {
        ServiceRow {
            key: service.key,
            protocol: service.key.protocol().map(|protocol| protocol.to_string()),
            address: service.key.address(),
            port: service.key.port(),
            mark: service.key.mark(),
            scheduler: service.scheduler.clone(),
            persistent: service.persistent,
            netmask: service.mask().unwrap_or_else(|| match service.key.family() {
                Family::V4 => "255.255.255.255".to_owned(),
                Family::V6 => "128".to_owned(),
            }),
            local_pool: service.local_pool.clone(),
            local_addresses: service.local_addresses.iter().map(|local| local.0).collect(),
            interface: service.interface.clone(),
            counters: counted.map(|counted| counted.counters.unwrap_or_default()),
            servers: ServerRow::all(service, counted),
        }
    }
}

impl Row for ServiceRow {
    const HEAD: &'static [&'static str] = &[
        "SERVICE",
        "SCHEDULER",
        "PERSISTENT",
        "LOCAL-POOL",
        "SERVERS",
        "CONNECTIONS",
        "IN-PACKETS",
        "OUT-PACKETS",
    ];

    fn cells(&self) -> Vec<String> {
        let count = |field: fn(&Counters) -> u64| table::or_dash(self.counters.as_ref().map(field));
        vec![
            self.key.to_string(),
            self.scheduler.clone(),
            table::or_dash(self.persistent),
            table::or_dash(self.local_pool.as_ref()),
            self.servers.len().to_string(),
            count(|c| c.connections),
            count(|c| c.in_packets),
            count(|c| c.out_packets),
        ]
    }
}

/// All services with what was counted; without a data plane, without counters and with a note.
pub async fn rows(client: &mut Client) -> Result<Vec<ServiceRow>, Failure> {
    let state = client.state().await?;
    let counted = match client.counters().await {
        Ok(counted) => counted.services,
        Err(Failure::NoDataplane(why)) => {
            eprintln!("fulcrum: no counters: {why}");
            Vec::new()
        }
        Err(other) => return Err(other),
    };
    let mut by_key = HashMap::new();
    for counters in counted {
        if let Some(key) = counters.key.clone() {
            by_key.insert(ServiceKey::try_from(key)?, counters);
        }
    }
    Ok(state.services.iter().map(|service| ServiceRow::new(service, by_key.get(&service.key))).collect())
}

fn show(json: bool, row: &ServiceRow, out: &mut Output<'_>) -> Result<(), Failure> {
    if json {
        return Ok(out.json(row)?);
    }
    writeln!(out, "service          {}", row.key)?;
    writeln!(out, "scheduler        {}", row.scheduler)?;
    if let Some(seconds) = row.persistent {
        writeln!(out, "persistent       {seconds} s under {}", row.netmask)?;
    }
    if let Some(pool) = &row.local_pool {
        writeln!(out, "local pool       {pool}")?;
    }
    if !row.local_addresses.is_empty() {
        writeln!(out, "local addresses  {}", table::joined(&row.local_addresses))?;
    }
    if let Some(interface) = &row.interface {
        writeln!(out, "interface        {interface}")?;
    }
    if let Some(c) = &row.counters {
        writeln!(out, "connections      {} ({}/s)", c.connections, c.cps)?;
        let (packets, bytes) = (c.in_packets, c.in_bytes);
        writeln!(out, "in               {packets} packets ({}/s), {bytes} bytes ({}/s)", c.in_pps, c.in_bps)?;
        let (packets, bytes) = (c.out_packets, c.out_bytes);
        writeln!(
            out,
            "out              {packets} packets ({}/s), {bytes} bytes ({}/s)",
            c.out_pps, c.out_bps
        )?;
    }
    writeln!(out)?;
    Ok(table::print(out, false, &row.servers)?)
}

#[cfg(test)]
mod tests {
    use fulcrum_api::dataplane::ServerCounters;
    use fulcrum_model::file::Config;
    use serde_json::json;

    use super::*;

    const CONFIG: &str = r#"
        [[service]]
        address = "172.16.100.9:80"
        protocol = "tcp"
        scheduler = "wrr"
        persistent = 300
        [[service.server]]
        address = "192.168.20.7:8080"
        forward = "nat"
        weight = 3
    "#;

    fn row() -> ServiceRow {
        let service = Config::parse("test", CONFIG).unwrap().state.services.remove(0);
        let counters = Counters {
            connections: 7,
            in_packets: 21,
            out_packets: 14,
            in_bytes: 2100,
            ..Counters::default()
        };
        let server = ServerCounters {
            key: Some((&service.servers[0].key).into()),
            counters: Some(Counters { cps: 2, ..counters }),
            active: 5,
            inactive: 2,
            persistent: 1,
        };
        let counted = ServiceCounters {
            key: Some((&service.key).into()),
            counters: Some(counters),
            servers: vec![server],
        };
        ServiceRow::new(&service, Some(&counted))
    }

    fn printed(print: impl FnOnce(&mut Output<'_>)) -> String {
        let mut text = Vec::new();
        print(&mut Output::new(&mut text));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_service_with_counters_as_json() {
        let counters = |cps| {
            json!({
                "connections": 7, "in_packets": 21, "out_packets": 14, "in_bytes": 2100, "out_bytes": 0,
                "cps": cps, "in_pps": 0, "out_pps": 0, "in_bps": 0, "out_bps": 0,
            })
        };
        assert_eq!(
            serde_json::to_value(row()).unwrap(),
            json!({
                "protocol": "tcp", "address": "172.16.100.9", "port": 80, "mark": null, "scheduler": "wrr",
                "persistent": 300, "netmask": "255.255.255.255", "local_pool": null, "local_addresses": [], "interface": null,
                "counters": counters(0),
                "servers": [{
                    "service": "tcp 172.16.100.9:80", "address": "192.168.20.7", "port": 8080, "forward": "nat",
                    "weight": 3, "upper_threshold": 0, "lower_threshold": 0,
                    "active": 5, "inactive": 2, "persistent": 1, "counters": counters(2),
                }],
            })
        );
    }

    #[test]
    fn a_service_with_counters_as_text() {
        assert_eq!(
            printed(|out| show(false, &row(), out).unwrap()),
            "service          tcp 172.16.100.9:80\n\
             scheduler        wrr\n\
             persistent       300 s under 255.255.255.255\n\
             connections      7 (0/s)\n\
             in               21 packets (0/s), 2100 bytes (0/s)\n\
             out              14 packets (0/s), 0 bytes (0/s)\n\
             \n\
             SERVICE              SERVER             FORWARD  WEIGHT  ACTIVE  INACTIVE  CONNECTIONS  IN-PACKETS  OUT-PACKETS\n\
             tcp 172.16.100.9:80  192.168.20.7:8080  nat      3       5       2         7            21          14\n"
        );
    }
}
