//! `fulcrum route`: static routes.

use std::net::IpAddr;

use clap::{ArgGroup, Args, Subcommand};
use fulcrum_api::dataplane::GatewayStatus;
use fulcrum_model::validate::WEIGHTS;
use fulcrum_model::{Edit, NextHop, Route, RouteTarget};
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
    Add(Wanted),
    /// Add a route, in place of one to exactly this prefix where there is such
    Replace(Wanted),
    /// Delete the route to exactly this prefix
    Delete {
        /// Destination prefix
        to: IpNet,
    },
}

/// A route.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub struct Wanted {
    /// Destination prefix, such as 10.1.0.0/16
    to: IpNet,
    /// To a gateway, or, named again, to one of several, which share the flows; ADDRESS,WEIGHT for another share than 1
    #[arg(long, value_name = "ADDRESS[,WEIGHT]", group = "target", value_parser = next_hop)]
    via: Vec<NextHop>,
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
}

impl From<Wanted> for Route {
    fn from(wanted: Wanted) -> Route {
        let Wanted { to, via, interface, unreachable, blackhole: _, mtu } = wanted;
        let target = match interface {
            _ if !via.is_empty() => RouteTarget::Via(via),
            Some(name) => RouteTarget::Interface(name),
            None if unreachable => RouteTarget::Unreachable,
            None => RouteTarget::Blackhole,
        };
        Route { to, target, mtu }
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let mut client = global.client().await?;
            let state = client.state().await?;
            let gateways = match client.dataplane().await {
                Ok(dataplane) => dataplane.gateways,
                Err(Failure::NoDataplane(_)) => Vec::new(),
                Err(other) => return Err(other),
            };
            let connected = state.interfaces.iter().flat_map(|interface| {
                interface.addresses.iter().map(|net| RouteRow {
                    to: net.trunc(),
                    kind: "connected",
                    via: None,
                    weight: None,
                    answers: None,
                    interface: Some(interface.name.clone()),
                    mtu: Some(interface.mtu),
                })
            });
            let fixed = state.routes.iter().flat_map(|route| RouteRow::of(route, &gateways));
            let rows: Vec<RouteRow> = connected.chain(fixed).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add(wanted) => global.edit(&[Edit::AddRoute(wanted.into())]).await,
        Command::Replace(wanted) => {
            let state = global.client().await?.state().await?;
            let there = state.routes.iter().any(|route| route.to == wanted.to);
            let first = there.then_some(Edit::DeleteRoute(wanted.to));
            // Both are one change, or none is.
            let edits: Vec<Edit> = first.into_iter().chain([Edit::AddRoute(wanted.into())]).collect();
            global.edit(&edits).await
        }
        Command::Delete { to } => global.edit(&[Edit::DeleteRoute(to)]).await,
    }
}

/// A gateway with its weight, such as 192.0.2.1,2.
fn next_hop(text: &str) -> Result<NextHop, String> {
    let (via, weight) = text.split_once(',').unwrap_or((text, "1"));
    let via = via.parse().map_err(|_| format!("`{via}` is not an IP address"))?;
    let weight = weight.parse().ok().filter(|weight| WEIGHTS.contains(weight));
    let weight = weight.ok_or_else(|| format!("a weight is {} to {}", WEIGHTS.start(), WEIGHTS.end()))?;
    Ok(NextHop { via, weight })
}

/// A route, or one of its gateways.
#[derive(Clone, Debug, Serialize)]
struct RouteRow {
    to: IpNet,
    kind: &'static str,
    via: Option<IpAddr>,
    /// Where there are several gateways.
    weight: Option<u16>,
    /// Where there are several, and a data plane that knows.
    answers: Option<bool>,
    interface: Option<String>,
    mtu: Option<u16>,
}

impl RouteRow {
    fn of(route: &Route, gateways: &[GatewayStatus]) -> Vec<RouteRow> {
        let row = |kind| RouteRow {
            to: route.to,
            kind,
            via: None,
            weight: None,
            answers: None,
            interface: None,
            mtu: route.mtu,
        };
        match &route.target {
            RouteTarget::Via(hops) => {
                let several = hops.len() > 1;
                let gateway = |hop: &NextHop| {
                    let address = hop.via.to_string();
                    let known = gateways.iter().find(|gateway| several && gateway.address == address);
                    RouteRow {
                        via: Some(hop.via),
                        weight: several.then_some(hop.weight),
                        answers: known.map(|gateway| gateway.answers),
                        interface: known.map(|gateway| gateway.interface.clone()),
                        ..row("static")
                    }
                };
                hops.iter().map(gateway).collect()
            }
            RouteTarget::Interface(name) => {
                vec![RouteRow { interface: Some(name.clone()), ..row("static") }]
            }
            RouteTarget::Unreachable => vec![row("unreachable")],
            RouteTarget::Blackhole => vec![row("blackhole")],
        }
    }
}

impl Row for RouteRow {
    const HEAD: &'static [&'static str] = &["TO", "KIND", "VIA", "WEIGHT", "ANSWERS", "INTERFACE", "MTU"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.to.to_string(),
            self.kind.to_owned(),
            table::or_dash(self.via),
            table::or_dash(self.weight),
            table::or_dash(self.answers.map(|answers| if answers { "yes" } else { "no" })),
            table::or_dash(self.interface.as_ref()),
            table::or_dash(self.mtu),
        ]
    }
}
