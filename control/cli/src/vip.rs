//! `fulcrum vip`: which VIPs the director has, and where they are announced.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use clap::Subcommand;
use fulcrum_api::{BadMessage, control as wire, convert};
use serde::Serialize;

use crate::command::{Global, note};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};
use crate::{health, status};

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
        /// Why, for those who find them withdrawn
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut client = global.client().await?;
    match command {
        Command::List => {
            let wire::ListVipsReply { vips, withdrawal, manual } = client.vips().await?;
            let row = |vip| VipRow::new(vip, manual);
            let rows = vips.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
            table::print(out, global.json, &rows)?;
            if let Some(withdrawal) = withdrawal.filter(|_| !global.json) {
                writeln!(out, "{}", withdrawn(withdrawal.left_ms, &withdrawal.why))?;
            }
        }
        Command::Take { addresses } => note(&client.set_vips(&addresses, true).await?),
        Command::Release { addresses } => note(&client.set_vips(&addresses, false).await?),
        Command::Withdraw { time, why } => client.withdraw_vips(time, &why).await?,
    }
    Ok(())
}

#[derive(Clone, Debug, Serialize)]
struct VipRow {
    address: IpAddr,
    taken: bool,
    services: u64,
    announcements: Vec<Place>,
    /// Who took or released it last, and when.
    by: Option<String>,
    since: Option<String>,
    #[serde(skip)]
    since_ms: Option<u64>,
    #[serde(skip)]
    manual: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Place {
    interface: String,
    announced: bool,
    why: Option<String>,
}

/// That all announcements are withdrawn, in words.
pub(crate) fn withdrawn(left_ms: u64, why: &str) -> String {
    format!("all announcements are withdrawn for {} more: {why}", status::duration(left_ms))
}

/// Why the director does not have a VIP, in words; `manual`: it has those alone that somebody took.
pub(crate) fn released(vip: &wire::Vip, manual: bool) -> String {
    match (vip.since_ms, manual) {
        (Some(since), _) => format!("released {} ago by {}", health::ago(since), vip.by),
        (None, true) => "nobody has taken it since the machine started".to_owned(),
        (None, false) => "released".to_owned(),
    }
}

impl VipRow {
    fn new(vip: wire::Vip, manual: bool) -> Result<VipRow, BadMessage> {
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
            by: Some(vip.by).filter(|by| !by.is_empty()),
            since: vip.since_ms.map(health::time),
            since_ms: vip.since_ms,
            manual,
        })
    }
}

impl Row for VipRow {
    const HEAD: &'static [&'static str] = &["ADDRESS", "SERVICES", "HELD", "ANNOUNCED", "NOTE"];

    fn cells(&self) -> Vec<String> {
        let places = self.announcements.iter().map(|place| match (&place.why, place.announced) {
            (Some(why), _) => format!("not on {}: {why}", place.interface),
            (None, _) => format!("on {}", place.interface),
        });
        let places: Vec<String> = places.collect();
        let announced = if places.is_empty() { "never".to_owned() } else { places.join(", ") };
        let held = if self.taken { "yes" } else { "released" };
        let note = match (&self.by, self.since_ms) {
            (Some(by), Some(since)) => format!("{} ago by {by}", health::ago(since)),
            _ if !self.taken && self.manual => "nobody has taken it since the machine started".to_owned(),
            _ => String::new(),
        };
        vec![self.address.to_string(), self.services.to_string(), held.to_owned(), announced, note]
    }
}
