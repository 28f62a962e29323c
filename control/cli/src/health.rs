//! What follows from checks, as options, and how servers are, as listings show it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use fulcrum_api::control::{CheckStanding, ServerStanding, ServiceStanding};
use fulcrum_model::{OnFailure, Server, ServerHealth, ServerKey, Service, ServiceHealth, ServiceKey};
use serde::Serialize;

use crate::failure::Failure;
use crate::name::Endpoint;
use crate::server::{self, ChecksumWord, ForwardWord, SourceWord, TunnelWord};
use crate::status;

/// What becomes of a server that is down, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailureWord {
    /// It is taken out; its sessions end as those of a deleted server
    Remove,
    /// It stays with weight 0; its sessions go on
    Quiesce,
}

impl From<FailureWord> for OnFailure {
    fn from(word: FailureWord) -> OnFailure {
        match word {
            FailureWord::Remove => OnFailure::Remove,
            FailureWord::Quiesce => OnFailure::Quiesce,
        }
    }
}

/// What follows from checks of a service's servers.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServiceOptions {
    /// Names of the checks that every server has to pass, such as web,alive (`fulcrum probe add` makes them); `none`
    /// for none
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub checks: Option<Vec<String>>,
    /// Take away the checks that the service alone has ([[service.check]] of a file)
    #[arg(long)]
    pub no_own_checks: bool,
    /// What becomes of a server that is down [default: remove]
    #[arg(long, value_enum)]
    pub on_failure: Option<FailureWord>,
    /// Weight of healthy servers that the service needs [default: 1]
    #[arg(long, value_name = "WEIGHT")]
    pub quorum: Option<u32>,
    /// How far below the quorum it is lost, and above it regained [default: 0]
    #[arg(long, value_name = "WEIGHT")]
    pub hysteresis: Option<u32>,
    /// Seconds in which the weight of a server that came back grows, 0 = at once
    #[arg(long, value_name = "SECONDS")]
    pub slow_start: Option<u32>,
    /// Who answers while the quorum is lost, `none` for nobody
    #[arg(long, value_name = "ADDRESS[:PORT]|none")]
    pub sorry_server: Option<String>,
    /// How packets reach the sorry server
    #[arg(long, value_enum, requires = "sorry_server")]
    pub sorry_forward: Option<ForwardWord>,
    /// What packets to a sorry server travel in by tun [default: ipip]
    #[arg(long, value_enum, requires = "sorry_forward")]
    pub sorry_tunnel: Option<TunnelWord>,
    /// UDP port of the sorry server's end of a gue tunnel
    #[arg(long, value_name = "PORT", requires = "sorry_tunnel")]
    pub sorry_tunnel_port: Option<u16>,
    /// Checksum of the sorry server's gre or gue tunnel [default: none]
    #[arg(long, value_enum, requires = "sorry_tunnel")]
    pub sorry_tunnel_checksum: Option<ChecksumWord>,
    /// Outer source address of the sorry server's tunnel [default: interface]
    #[arg(long, value_enum, requires = "sorry_forward")]
    pub sorry_tunnel_source: Option<SourceWord>,
}

impl ServiceOptions {
    /// What `service` has with what is named here; `None` when nothing is.
    pub fn change(&self, service: &Service) -> Result<Option<ServiceHealth>, Failure> {
        let old = service.health.clone();
        let new = ServiceHealth {
            checks: self.checks.as_deref().map_or(old.checks.clone(), names),
            on_failure: self.on_failure.map_or(old.on_failure, Into::into),
            quorum: self.quorum.unwrap_or(old.quorum),
            hysteresis: self.hysteresis.unwrap_or(old.hysteresis),
            slow_start: self.slow_start.unwrap_or(old.slow_start),
            sorry_server: match self.sorry_server.as_deref() {
                None => old.sorry_server.clone(),
                Some("none") => None,
                Some(text) => Some(Box::new(self.sorry(service.key, text)?)),
            },
            own_checks: if self.no_own_checks { Vec::new() } else { old.own_checks.clone() },
        };
        let named = self.checks.is_some()
            || self.no_own_checks
            || self.on_failure.is_some()
            || self.quorum.is_some()
            || self.hysteresis.is_some()
            || self.slow_start.is_some()
            || self.sorry_server.is_some();
        Ok(named.then_some(new))
    }

    fn sorry(&self, service: ServiceKey, text: &str) -> Result<Server, Failure> {
        let usage = |why: &str| Failure::Usage(format!("--sorry-server `{text}`: {why}"));
        let Endpoint { address, port } = text.parse().map_err(|why: String| usage(&why))?;
        let forward = self.sorry_forward.ok_or_else(|| usage("add --sorry-forward, such as nat"))?;
        let port = port.or(service.port()).unwrap_or(0);
        let tunnel = server::Settings {
            weight: None,
            upper_threshold: None,
            lower_threshold: None,
            tunnel: self.sorry_tunnel,
            tunnel_port: self.sorry_tunnel_port,
            tunnel_checksum: self.sorry_tunnel_checksum,
            tunnel_source: self.sorry_tunnel_source,
        };
        tunnel.change(Server::new(ServerKey { address, port }, forward.into()), None)
    }
}

/// What is special about the checks of a server.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerOptions {
    /// Names of checks instead of the service's; `none` for no checks, `service` for the service's
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub checks: Option<Vec<String>>,
    /// What becomes of it when it is down [default: the service's]
    #[arg(long, value_enum)]
    pub on_failure: Option<FailureWord>,
    /// Where its checks go instead of its address
    #[arg(long, value_name = "ADDRESS")]
    pub check_address: Option<IpAddr>,
    /// Where its checks go instead of its port, 0 = its port
    #[arg(long, value_name = "PORT")]
    pub check_port: Option<u16>,
}

impl ServerOptions {
    /// What a server has with what is named here; `None` when nothing is.
    pub fn change(&self, old: &ServerHealth) -> Option<ServerHealth> {
        let new = ServerHealth {
            checks: match self.checks.as_deref() {
                None => old.checks.clone(),
                Some([word]) if word == "service" => None,
                Some(words) => Some(names(words)),
            },
            on_failure: self.on_failure.map(Into::into).or(old.on_failure),
            address: self.check_address.or(old.address),
            port: self.check_port.map_or(old.port, |port| Some(port).filter(|port| *port != 0)),
        };
        let named = self.checks.is_some()
            || self.on_failure.is_some()
            || self.check_address.is_some()
            || self.check_port.is_some();
        named.then_some(new)
    }
}

/// Names, of which `none` alone is none.
fn names(words: &[String]) -> Vec<String> {
    words.iter().filter(|word| !word.is_empty() && *word != "none").cloned().collect()
}

/// How a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// up, down, unknown, unchecked, draining or disabled.
    pub state: String,
    /// Since when, absent when that was before anything was known.
    pub since: Option<String>,
    /// Why it is down, or cannot be checked.
    pub why: Option<String>,
    /// Whether it would serve if it were enabled.
    pub healthy: bool,
    /// The weight in the data plane, absent when it is not there.
    pub effective_weight: Option<u32>,
    /// Its checks.
    pub checks: Vec<Check>,
    /// Milliseconds since 1970.
    #[serde(skip)]
    pub since_ms: Option<u64>,
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, or its kind where it has none.
    pub name: String,
    /// Whom it asks.
    pub target: String,
    /// up, down or unknown.
    pub verdict: String,
    /// Since when.
    pub since: Option<String>,
    /// What was wrong with the last probe that was not good.
    pub error: Option<String>,
    /// When it was asked last.
    pub last: Option<String>,
    /// When it is asked next.
    pub next: Option<String>,
    /// How long the last probe took, in microseconds.
    pub took_us: Option<u64>,
    /// Milliseconds since 1970.
    #[serde(skip)]
    pub next_ms: Option<u64>,
}

impl Health {
    /// What control says of a server; of one that it does not know, that it is unchecked.
    pub fn new(standing: Option<&ServerStanding>, weight: u32) -> Health {
        let Some(standing) = standing else {
            let state = "unchecked".to_owned();
            return Health { state, healthy: true, effective_weight: Some(weight), ..Health::default() };
        };
        Health {
            state: standing.state.clone(),
            since: standing.since_ms.map(time),
            why: some(&standing.why),
            healthy: standing.healthy,
            effective_weight: standing.weight,
            checks: standing.checks.iter().map(Check::new).collect(),
            since_ms: standing.since_ms,
        }
    }

    /// In a word, with how long it has been so.
    pub fn cell(&self) -> String {
        match self.since_ms {
            Some(since) => format!("{} {}", self.state, ago(since)),
            None => self.state.clone(),
        }
    }

    /// The weight that is configured, and the one in the data plane where that is another.
    pub fn weight_cell(&self, weight: u32) -> String {
        match self.effective_weight {
            Some(effective) if effective == weight => weight.to_string(),
            Some(effective) => format!("{effective}/{weight}"),
            None => format!("-/{weight}"),
        }
    }

    /// What there is to say beside.
    pub fn note(&self, left: Option<u64>, until: Option<u64>) -> String {
        let mut notes: Vec<String> = self.why.iter().cloned().collect();
        if self.state == "draining" {
            notes.extend(until.map(|until| format!("until {}", time(until.saturating_mul(1000)))));
        }
        if matches!(self.state.as_str(), "draining" | "disabled") {
            notes.extend(left.map(|left| format!("{left} connections left")));
        }
        if self.why.is_some() {
            let next = self.checks.iter().filter_map(|check| check.next_ms).min();
            notes.extend(next.map(|next| format!("next check in {}", ahead(next))));
        }
        notes.join("; ")
    }
}

impl Check {
    fn new(standing: &CheckStanding) -> Check {
        Check {
            name: standing.check.clone(),
            target: standing.target.clone(),
            verdict: standing.verdict.clone(),
            since: standing.since_ms.map(time),
            error: some(&standing.error),
            last: standing.last_ms.map(time),
            next: standing.next_ms.map(time),
            took_us: standing.took_us,
            next_ms: standing.next_ms,
        }
    }
}

/// What a service has of its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quorum {
    /// Weight that it needs.
    pub needed: u32,
    /// Weight of its healthy servers.
    pub healthy_weight: u64,
    /// Since when that is not enough, if it is not.
    pub lost_since: Option<String>,
    /// Whether the sorry server answers.
    pub sorry: bool,
}

impl Quorum {
    /// What control says of a service.
    pub fn new(standing: &ServiceStanding) -> Quorum {
        Quorum {
            needed: standing.quorum,
            healthy_weight: standing.healthy_weight,
            lost_since: standing.quorum_lost_ms.map(time),
            sorry: standing.sorry,
        }
    }
}

/// A time since 1970 in milliseconds, as RFC 3339 has it.
pub fn time(milliseconds: u64) -> String {
    // The end of the year 9999, beyond which it cannot be written.
    let milliseconds = milliseconds.min(253_402_300_799_000);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(milliseconds)).to_string()
}

pub(crate) fn ago(milliseconds: u64) -> String {
    status::duration(now().saturating_sub(milliseconds))
}

fn ahead(milliseconds: u64) -> String {
    status::duration(milliseconds.saturating_sub(now()))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
