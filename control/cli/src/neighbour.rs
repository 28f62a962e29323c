//! `fulcrum neighbour`: neighbours, static and learned.

use std::net::IpAddr;

use clap::Subcommand;
use fulcrum_api::{BadMessage, convert, dataplane};
use fulcrum_model::{Edit, Mac, Neighbour};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// Neighbours, static and learned.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the neighbours that the data plane knows; without one, the static ones
    List,
    /// Add a static neighbour
    Add {
        /// Its IP address
        address: IpAddr,
        /// Its MAC address
        mac: Mac,
        /// The interface it is on
        #[arg(long, value_name = "NAME")]
        interface: String,
    },
    /// Delete a static neighbour
    Delete {
        /// Its IP address
        address: IpAddr,
        /// The interface it is on
        #[arg(long, value_name = "NAME")]
        interface: String,
    },
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let mut client = global.client().await?;
            let rows = match client.neighbours().await {
                Ok(known) => known.into_iter().map(NeighbourRow::try_from).collect::<Result<Vec<_>, _>>()?,
                Err(Failure::NoDataplane(why)) => {
                    eprintln!("fulcrum: static neighbours only: {why}");
                    client.state().await?.neighbours.iter().map(NeighbourRow::of).collect()
                }
                Err(other) => return Err(other),
            };
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add { address, mac, interface } => {
            global.edit(&[Edit::AddNeighbour(Neighbour { address, mac, interface })]).await
        }
        Command::Delete { address, interface } => {
            global.edit(&[Edit::DeleteNeighbour { interface, address }]).await
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct NeighbourRow {
    address: IpAddr,
    mac: Option<Mac>,
    interface: String,
    state: String,
    parked: u32,
}

impl NeighbourRow {
    fn of(neighbour: &Neighbour) -> NeighbourRow {
        NeighbourRow {
            address: neighbour.address,
            mac: Some(neighbour.mac),
            interface: neighbour.interface.clone(),
            state: "static".to_owned(),
            parked: 0,
        }
    }
}

impl TryFrom<dataplane::NeighbourStatus> for NeighbourRow {
    type Error = BadMessage;

    fn try_from(neighbour: dataplane::NeighbourStatus) -> Result<NeighbourRow, BadMessage> {
        Ok(NeighbourRow {
            address: convert::address("address", &neighbour.address)?,
            // One that is still asked for has none.
            mac: match neighbour.mac.is_empty() {
                true => None,
                false => Some(convert::mac("mac", &neighbour.mac)?),
            },
            interface: neighbour.interface,
            state: neighbour.state,
            parked: neighbour.parked,
        })
    }
}

impl Row for NeighbourRow {
    const HEAD: &'static [&'static str] = &["ADDRESS", "MAC", "INTERFACE", "STATE", "PARKED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.to_string(),
            table::or_dash(self.mac),
            self.interface.clone(),
            self.state.clone(),
            self.parked.to_string(),
        ]
    }
}
