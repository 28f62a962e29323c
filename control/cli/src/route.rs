//! `fulcrum route`: static routes.

use std::net::IpAddr;

use clap::{ArgGroup, Subcommand};
use fulcrum_model::{Edit, Route, RouteTarget};
use ipnet::IpNet;
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// Static routes.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the routes: static ones, and the subnets of interfaces
    List,
    /// Add a route
    #[command(group = ArgGroup::new("target").required(true))]
    Add {
        /// Destination prefix, such as 10.1.0.0/16
        to: IpNet,
        /// To a gateway
        #[arg(long, value_name = "ADDRESS", group = "target")]
        via: Option<IpAddr>,
        /// To the destinations themselves, on an interface
        #[arg(long, value_name = "NAME", group = "target")]
        interface: Option<String>,
        /// Nowhere, answered with ICMP
        #[arg(long, group = "target")]
        unreachable: bool,
        /// Nowhere, silently
        #[arg(long, group = "target")]
        blackhole: bool,
        /// Largest IP packet in bytes
        #[arg(long, value_name = "BYTES")]
        mtu: Option<u16>,
    },
    /// Delete the route to exactly this prefix
    Delete {
        /// Destination prefix
        to: IpNet,
    },
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let state = global.client().await?.state().await?;
            let connected = state.interfaces.iter().flat_map(|interface| {
                interface.addresses.iter().map(|net| RouteRow {
                    to: net.trunc(),
                    kind: "connected",
                    via: None,
                    interface: Some(interface.name.clone()),
                    mtu: Some(interface.mtu),
                })
            });
            let rows: Vec<RouteRow> = connected.chain(state.routes.iter().map(RouteRow::of)).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add { to, via, interface, unreachable, blackhole: _, mtu } => {
            let target = match (via, interface) {
                (Some(gateway), _) => RouteTarget::Via(gateway),
                (None, Some(name)) => RouteTarget::Interface(name),
                (None, None) if unreachable => RouteTarget::Unreachable,
                (None, None) => RouteTarget::Blackhole,
            };
            global.edit(&[Edit::AddRoute(Route { to, target, mtu })]).await
        }
        Command::Delete { to } => global.edit(&[Edit::DeleteRoute(to)]).await,
    }
}

#[derive(Clone, Debug, Serialize)]
struct RouteRow {
    to: IpNet,
    kind: &'static str,
    via: Option<IpAddr>,
    interface: Option<String>,
    mtu: Option<u16>,
}

impl RouteRow {
    fn of(route: &Route) -> RouteRow {
        let (kind, via, interface) = match &route.target {
            RouteTarget::Via(gateway) => ("static", Some(*gateway), None),
            RouteTarget::Interface(name) => ("static", None, Some(name.clone())),
            RouteTarget::Unreachable => ("unreachable", None, None),
            RouteTarget::Blackhole => ("blackhole", None, None),
        };
        RouteRow { to: route.to, kind, via, interface, mtu: route.mtu }
    }
}

impl Row for RouteRow {
    const HEAD: &'static [&'static str] = &["TO", "KIND", "VIA", "INTERFACE", "MTU"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.to.to_string(),
            self.kind.to_owned(),
            table::or_dash(self.via),
            table::or_dash(self.interface.as_ref()),
            table::or_dash(self.mtu),
        ]
    }
}
