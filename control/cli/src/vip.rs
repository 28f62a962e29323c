//! `fulcrum vip`: which VIPs the director has, and where they are announced.

use std::net::IpAddr;
use std::time::Duration;

use clap::Subcommand;
use fulcrum_api::{BadMessage, control as wire, convert};
use serde::Serialize;

use crate::command::{Global, note};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// VIPs as a whole: which the director has, and where they are announced.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the VIPs of all services
    List,
    /// Take VIPs: answer for them, announce them on the link, and forward what comes to them
    Take {
        /// Their addresses
        #[arg(required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Release VIPs: neither answer for them nor forward what comes to them
    Release {
        /// Their addresses
        #[arg(required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Take all VIPs off the host's interfaces for a while, so that routers send their packets elsewhere; what still
    /// comes is forwarded
    Withdraw {
        /// For so long, such as 30s or 5m; 0s lets them come back
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
        time: Duration,
    },
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut client = global.client().await?;
    match command {
        Command::List => {
            let vips = client.vips().await?;
            let rows = vips.into_iter().map(VipRow::try_from).collect::<Result<Vec<_>, _>>()?;
            table::print(out, global.json, &rows)?;
        }
        Command::Take { addresses } => note(&client.set_vips(&addresses, true).await?),
        Command::Release { addresses } => note(&client.set_vips(&addresses, false).await?),
        Command::Withdraw { time } => client.withdraw_vips(time).await?,
    }
    Ok(())
}

#[derive(Clone, Debug, Serialize)]
struct VipRow {
    address: IpAddr,
    taken: bool,
    services: u64,
    announcements: Vec<Place>,
}

#[derive(Clone, Debug, Serialize)]
struct Place {
    interface: String,
    announced: bool,
    why: Option<String>,
}

impl TryFrom<wire::Vip> for VipRow {
    type Error = BadMessage;

    fn try_from(vip: wire::Vip) -> Result<VipRow, BadMessage> {
        let place = |place: wire::VipPlace| Place {
            interface: place.interface,
            announced: place.announced,
            why: Some(place.why).filter(|why| !why.is_empty()),
        };
        Ok(VipRow {
            address: convert::address("address", &vip.address)?,
            taken: vip.taken,
            services: vip.services,
            announcements: vip.places.into_iter().map(place).collect(),
        })
    }
}

impl Row for VipRow {
    const HEAD: &'static [&'static str] = &["ADDRESS", "SERVICES", "HELD", "ANNOUNCED"];

    fn cells(&self) -> Vec<String> {
        let places = self.announcements.iter().map(|place| match (&place.why, place.announced) {
            (Some(why), _) => format!("not on {}: {why}", place.interface),
            (None, _) => format!("on {}", place.interface),
        });
        let places: Vec<String> = places.collect();
        let announced = if places.is_empty() { "never".to_owned() } else { places.join(", ") };
        let held = if self.taken { "yes" } else { "released" };
        vec![self.address.to_string(), self.services.to_string(), held.to_owned(), announced]
    }
}
