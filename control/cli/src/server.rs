//! `fulcrum server`: real servers of services.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use fulcrum_api::control::{ServerStanding, ServiceStanding};
use fulcrum_api::dataplane::{Counters, ServerCounters, ServiceCounters};
use fulcrum_model::{
    Admin, Edit, Forward, Server, ServerHealth, ServerKey, Service, ServiceKey, Tunnel, TunnelChecksum,
    TunnelKind, TunnelSource,
};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::health::{self, Health, ServerOptions};
use crate::name::{self, AnyService, Endpoint, ServerName};
use crate::output::Output;
use crate::service;
use crate::table::{self, Row};

/// Real servers of services.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the servers of a service, or of all
    List(AnyService),
    /// Add a server to a service
    Add {
        /// Which one
        #[command(flatten)]
        name: ServerName,
        /// How packets reach it
        #[arg(long, value_enum)]
        forward: ForwardWord,
        /// How it is
        #[command(flatten)]
        settings: Settings,
        /// How it is checked
        #[command(flatten)]
        health: ServerOptions,
    },
    /// Change what is named of a server; its sessions stay
    Edit {
        /// Which one
        #[command(flatten)]
        name: ServerName,
        /// How packets reach it
        #[arg(long, value_enum)]
        forward: Option<ForwardWord>,
        /// How it shall be
        #[command(flatten)]
        settings: Settings,
        /// How it shall be checked
        #[command(flatten)]
        health: ServerOptions,
    },
    /// Delete a server; its sessions end as they end in IPVS
    Delete(ServerName),
    /// Give a server no new connections; those that are go on
    Drain {
        /// Which one
        #[command(flatten)]
        place: Place,
        /// Disable it after this time, such as 10m or 1h30m
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        deadline: Option<Duration>,
    },
    /// Take a server out; its sessions end as they end in IPVS when it is deleted
    Disable(Place),
    /// Let a server that drains or is disabled work again
    Enable(Place),
}

/// A server in a service, or in all that have it.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The service, as for other commands, and the server: `tcp 172.16.100.9:80 192.168.20.7`; or the server alone,
    /// for all services that have it, whatever its port when none is given
    #[arg(value_name = "[SERVICE] SERVER[:PORT]", num_args = 1..=3, required = true)]
    pub words: Vec<String>,
}

impl Place {
    fn edit(&self, admin: Admin) -> Result<Edit, Failure> {
        let (service, server) = match self.words.as_slice() {
            [server] => (None, server),
            [kind, service, server] => (Some(name::service(kind, service)?), server),
            _ => {
                let why = "name a server, or a service such as `tcp 172.16.100.9:80` and a server";
                return Err(Failure::Usage(why.to_owned()));
            }
        };
        let Endpoint { address, port } =
            server.parse().map_err(|why| Failure::Usage(format!("`{server}` names no server: {why}")))?;
        // Within a service a server without a port has the service's, as everywhere.
        let port = port.or(service.map(|key| key.port().unwrap_or(0)));
        Ok(Edit::SetServerAdmin { service, address, port, admin })
    }
}

/// Settings of a server.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Settings {
    /// Share of the connections, 0 = no new ones [default: 1]
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,
    /// Connections from which on it is overloaded, 0 = no limit
    #[arg(long, value_name = "N")]
    pub upper_threshold: Option<u32>,
    /// Connections below which it is not overloaded any more
    #[arg(long, value_name = "N")]
    pub lower_threshold: Option<u32>,
    /// What packets to a TUN server travel in [default: ipip]
    #[arg(long, value_enum)]
    pub tunnel: Option<TunnelWord>,
    /// UDP port of the server's end of a gue tunnel
    #[arg(long, value_name = "PORT")]
    pub tunnel_port: Option<u16>,
    /// Checksum of a gre or gue tunnel [default: none]
    #[arg(long, value_enum)]
    pub tunnel_checksum: Option<ChecksumWord>,
    /// Outer source address of the tunnel [default: interface]
    #[arg(long, value_enum)]
    pub tunnel_source: Option<SourceWord>,
}

/// Tunnels in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TunnelWord {
    /// IP in IP
    Ipip,
    /// GRE
    Gre,
    /// Generic UDP encapsulation
    Gue,
}

/// Checksums of tunnels in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChecksumWord {
    /// None
    None,
    /// Over everything
    Csum,
    /// Remote checksum offload (gue)
    Remcsum,
}

/// Outer source addresses of tunnels in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceWord {
    /// The director's on the way to the server
    Interface,
    /// One of the service's local addresses, by flow: the server spreads flows over its receive queues
    Local,
}

/// Forwarding methods in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForwardWord {
    /// Destination rewritten; answers come back through the director
    Nat,
    /// Source and destination rewritten
    Fullnat,
    /// Only the MAC address rewritten
    Dr,
    /// In a tunnel, see --tunnel
    Tun,
    /// To a daemon of the director's own host that listens on the VIP
    Local,
}

impl From<ForwardWord> for Forward {
    fn from(word: ForwardWord) -> Forward {
        match word {
            ForwardWord::Nat => Forward::Nat,
            ForwardWord::Fullnat => Forward::FullNat,
            ForwardWord::Dr => Forward::Dr,
            ForwardWord::Tun => Forward::Tun,
            ForwardWord::Local => Forward::Local,
        }
    }
}

impl Settings {
    /// The server with what is named here.
    pub(crate) fn change(self, server: Server, forward: Option<ForwardWord>) -> Result<Server, Failure> {
        let forward = forward.map_or(server.forward, Into::into);
        Ok(Server {
            forward,
            tunnel: self.tunnel(if forward == Forward::Tun { server.tunnel } else { Tunnel::default() })?,
            weight: self.weight.unwrap_or(server.weight),
            upper_threshold: self.upper_threshold.unwrap_or(server.upper_threshold),
            lower_threshold: self.lower_threshold.unwrap_or(server.lower_threshold),
            ..server
        })
    }

    /// The tunnel with what is named of it; another kind begins without a checksum.
    fn tunnel(self, now: Tunnel) -> Result<Tunnel, Failure> {
        let known_port = match now.kind {
            TunnelKind::Gue { port } => Some(port),
            TunnelKind::Ipip | TunnelKind::Gre => None,
        };
        let gue = || match self.tunnel_port.or(known_port) {
            Some(port) => Ok(TunnelKind::Gue { port }),
            None => {
                Err(Failure::Usage("a gue tunnel needs the server's --tunnel-port, often 6080".to_owned()))
            }
        };
        let kind = match self.tunnel {
            Some(TunnelWord::Ipip) => TunnelKind::Ipip,
            Some(TunnelWord::Gre) => TunnelKind::Gre,
            Some(TunnelWord::Gue) => gue()?,
            None if known_port.is_some() => gue()?,
            None => now.kind,
        };
        if self.tunnel_port.is_some() && !matches!(kind, TunnelKind::Gue { .. }) {
            return Err(Failure::Usage("--tunnel-port is of a gue tunnel; add --tunnel gue".to_owned()));
        }
        let same = std::mem::discriminant(&kind) == std::mem::discriminant(&now.kind);
        let checksum = match self.tunnel_checksum {
            Some(ChecksumWord::None) => TunnelChecksum::None,
            Some(ChecksumWord::Csum) => TunnelChecksum::Csum,
            Some(ChecksumWord::Remcsum) => TunnelChecksum::Remcsum,
            None if same => now.checksum,
            None => TunnelChecksum::None,
        };
        let source = match self.tunnel_source {
            Some(SourceWord::Interface) => TunnelSource::Interface,
            Some(SourceWord::Local) => TunnelSource::Local,
            None => now.source,
        };
        Ok(Tunnel { kind, checksum, source })
    }

    fn names_nothing(self) -> bool {
        self.weight.is_none()
            && self.upper_threshold.is_none()
            && self.lower_threshold.is_none()
            && self.tunnel.is_none()
            && self.tunnel_port.is_none()
            && self.tunnel_checksum.is_none()
            && self.tunnel_source.is_none()
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List(which) => {
            let which = which.key()?;
            let services = service::rows(&mut global.client().await?).await?;
            if let Some(key) = which
                && !services.iter().any(|service| service.key == key)
            {
                return Err(Failure::Missing(format!("there is no service {key}")));
            }
            let chosen = services.into_iter().filter(|service| which.is_none_or(|key| service.key == key));
            let rows: Vec<ServerRow> = chosen.flat_map(|service| service.servers).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Add { name, forward, settings, health } => {
            let (service, key) = name.keys()?;
            let server = settings.change(Server::new(key, forward.into()), None)?;
            let health = health.change(&server.health).unwrap_or_default();
            let server = Server { health, ..server };
            global.edit(&[Edit::AddServer(service, server)]).await
        }
        Command::Edit { name, forward, settings, health } => {
            let (service, key) = name.keys()?;
            let health_named = health.change(&ServerHealth::default()).is_some();
            let plain_named = forward.is_some() || !settings.names_nothing();
            if !plain_named && !health_named {
                return Err(Failure::Invalid(format!(
                    "nothing to change in server {key}; name what, see --help"
                )));
            }
            let state = global.client().await?.state().await?;
            let known = state
                .service(service)
                .ok_or_else(|| Failure::Missing(format!("there is no service {service}")))?
                .servers
                .iter()
                .find(|server| server.key == key)
                .ok_or_else(|| Failure::Missing(format!("service {service} has no server {key}")))?;
            let mut edits = Vec::new();
            if plain_named {
                edits.push(Edit::UpdateServer(service, settings.change(known.clone(), forward)?));
            }
            edits.extend(
                health.change(&known.health).map(|health| Edit::SetServerHealth(service, key, health)),
            );
            global.edit(&edits).await
        }
        Command::Delete(name) => {
            let (service, key) = name.keys()?;
            global.edit(&[Edit::DeleteServer(service, key)]).await
        }
        Command::Drain { place, deadline } => {
            let until = deadline.map(|time| {
                let until = SystemTime::now().checked_add(time);
                let since = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
                since.map_or(u64::MAX, |since| since.as_secs())
            });
            global.edit(&[place.edit(Admin::Drain { until })?]).await
        }
        Command::Disable(place) => global.edit(&[place.edit(Admin::Disabled)?]).await,
        Command::Enable(place) => global.edit(&[place.edit(Admin::Enabled)?]).await,
    }
}

/// A server and what was counted.
#[derive(Clone, Debug, Serialize)]
pub struct ServerRow {
    #[serde(skip)]
    key: ServerKey,
    #[serde(serialize_with = "as_text")]
    service: ServiceKey,
    address: IpAddr,
    port: u16,
    forward: Forward,
    /// Of TUN servers.
    tunnel: Option<String>,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    /// enabled, drain or disabled.
    admin: &'static str,
    drain_until: Option<String>,
    health: Health,
    /// Whether it is the service's sorry server.
    sorry: bool,
    /// These are absent when there is no data plane to ask.
    active: Option<u64>,
    inactive: Option<u64>,
    persistent: Option<u64>,
    counters: Option<Counters>,
    #[serde(skip)]
    until: Option<u64>,
}

fn as_text<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl ServerRow {
    /// The servers of a service, in order of addition, and its sorry server.
    pub fn all(
        service: &Service,
        counted: Option<&ServiceCounters>,
        standing: Option<&ServiceStanding>,
    ) -> Vec<ServerRow> {
        let counted: HashMap<ServerKey, &ServerCounters> = counted
            .into_iter()
            .flat_map(|counted| &counted.servers)
            .filter_map(|server| Some((server.key.clone()?.try_into().ok()?, server)))
            .collect();
        let standings: HashMap<ServerKey, &ServerStanding> = standing
            .into_iter()
            .flat_map(|standing| &standing.servers)
            .filter_map(|server| Some((server.key.clone()?.try_into().ok()?, server)))
            .collect();
        let answers = standing.is_some_and(|standing| standing.sorry);
        let row = |server: &Server, sorry: bool| {
            let health = match sorry {
                false => Health::new(standings.get(&server.key).copied(), server.weight),
                true => Health {
                    state: if answers { "answering" } else { "standby" }.to_owned(),
                    healthy: true,
                    effective_weight: answers.then_some(server.weight),
                    ..Health::default()
                },
            };
            let until = match server.admin {
                Admin::Drain { until } => until,
                Admin::Enabled | Admin::Disabled => None,
            };
            let counted = counted.get(&server.key);
            ServerRow {
                key: server.key,
                service: service.key,
                address: server.key.address,
                port: server.key.port,
                forward: server.forward,
                tunnel: (server.forward == Forward::Tun).then(|| server.tunnel.to_string()),
                weight: server.weight,
                upper_threshold: server.upper_threshold,
                lower_threshold: server.lower_threshold,
                admin: server.admin.name(),
                drain_until: until.map(|until| health::time(until.saturating_mul(1000))),
                health,
                sorry,
                until,
                active: counted.map(|counted| counted.active),
                inactive: counted.map(|counted| counted.inactive),
                persistent: counted.map(|counted| counted.persistent),
                counters: counted.map(|counted| counted.counters.unwrap_or_default()),
            }
        };
        let servers = service.servers.iter().map(|server| row(server, false));
        servers.chain(service.health.sorry_server.iter().map(|sorry| row(sorry, true))).collect()
    }
}

impl ServerRow {
    /// Whether it is the service's sorry server.
    pub fn is_sorry(&self) -> bool {
        self.sorry
    }

    /// Whether the data plane gives it what its weight says.
    pub fn serves(&self) -> bool {
        self.health.effective_weight.is_some_and(|weight| weight != 0 || self.weight == 0)
    }
}

impl Row for ServerRow {
    const HEAD: &'static [&'static str] = &[
        "SERVICE",
        "SERVER",
        "FORWARD",
        "WEIGHT",
        "STATE",
        "ACTIVE",
        "INACTIVE",
        "CONNECTIONS",
        "IN-PACKETS",
        "OUT-PACKETS",
        "NOTE",
    ];

    fn cells(&self) -> Vec<String> {
        let count = |field: fn(&Counters) -> u64| table::or_dash(self.counters.as_ref().map(field));
        vec![
            self.service.to_string(),
            self.key.to_string(),
            match &self.tunnel {
                Some(tunnel) if tunnel != "ipip" => format!("{} {tunnel}", self.forward),
                _ => self.forward.to_string(),
            },
            self.health.weight_cell(self.weight),
            self.health.cell(),
            table::or_dash(self.active),
            table::or_dash(self.inactive),
            count(|c| c.connections),
            count(|c| c.in_packets),
            count(|c| c.out_packets),
            self.health.note(self.active.zip(self.inactive).map(|(a, b)| a + b), self.until),
        ]
    }
}
