//! `fulcrum local-pool`: pools of local addresses for FULLNAT.

use std::net::IpAddr;

use clap::Subcommand;
use fulcrum_model::{AddressRange, Edit, LocalPool, PortRange, State};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// Pools of local addresses for FULLNAT.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the pools
    List,
    /// Add a pool
    Add {
        /// Its name
        name: String,
        /// Addresses or ranges, such as 192.168.20.200-192.168.20.203
        #[arg(required = true, value_name = "ADDRESS[-ADDRESS]", value_parser = address_range)]
        addresses: Vec<AddressRange>,
        /// The interface on which the addresses answer ARP
        #[arg(long, value_name = "NAME")]
        interface: String,
        /// Ports of each address
        #[arg(long, value_name = "FIRST-LAST", default_value = "1024-65535", value_parser = port_range)]
        ports: PortRange,
    },
    /// Delete a pool that no service and no snat rule uses
    Delete {
        /// Its name
        name: String,
    },
}

fn address_range(text: &str) -> Result<AddressRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let address = |text: &str| text.trim().parse::<IpAddr>();
    match (address(first), address(last)) {
        (Ok(first), Ok(last)) if first.is_ipv4() == last.is_ipv4() && first <= last => {
            Ok(AddressRange { first, last })
        }
        _ => Err("no range of addresses such as 192.168.20.200-192.168.20.203".to_owned()),
    }
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok(PortRange { first, last }),
        _ => Err("no range of ports such as 1024-65535".to_owned()),
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let state = global.client().await?.state().await?;
            let rows: Vec<PoolRow> = state.local_pools.iter().map(|pool| PoolRow::of(pool, &state)).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add { name, addresses, interface, ports } => {
            global.edit(&[Edit::AddLocalPool(LocalPool { name, interface, addresses, ports })]).await
        }
        Command::Delete { name } => global.edit(&[Edit::DeleteLocalPool(name)]).await,
    }
}

#[derive(Clone, Debug, Serialize)]
struct PoolRow {
    name: String,
    interface: String,
    addresses: Vec<String>,
    ports: String,
    services: Vec<String>,
    snat: Vec<String>,
}

impl PoolRow {
    fn of(pool: &LocalPool, state: &State) -> PoolRow {
        let users = state.services.iter().filter(|service| service.local_pool.as_ref() == Some(&pool.name));
        let rules = state.snat.iter().filter(|rule| rule.pool.as_ref() == Some(&pool.name));
        PoolRow {
            name: pool.name.clone(),
            interface: pool.interface.clone(),
            addresses: pool.addresses.iter().map(ToString::to_string).collect(),
            ports: format!("{}-{}", pool.ports.first, pool.ports.last),
            services: users.map(|service| service.key.to_string()).collect(),
            snat: rules.map(|rule| rule.name.clone()).collect(),
        }
    }
}

impl Row for PoolRow {
    const HEAD: &'static [&'static str] = &["NAME", "INTERFACE", "ADDRESSES", "PORTS", "SERVICES", "SNAT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.interface.clone(),
            table::joined(&self.addresses),
            self.ports.clone(),
            if self.services.is_empty() { "-".to_owned() } else { self.services.join(", ") },
            table::joined(&self.snat),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_nonsense_is_not() {
        assert_eq!(address_range("10.0.0.1").unwrap().to_string(), "10.0.0.1");
        assert_eq!(address_range("10.0.0.1-10.0.0.4").unwrap().to_string(), "10.0.0.1-10.0.0.4");
        assert!(address_range("10.0.0.4-10.0.0.1").is_err());
        assert!(address_range("10.0.0.4-").is_err());
        assert_eq!(port_range("80").unwrap(), PortRange { first: 80, last: 80 });
        assert!(port_range("0-80").is_err());
        assert!(port_range("80-65536").is_err());
    }
}
