//! `fulcrum doctor`: looks over the set-up as it runs, and says what is wrong and what would be right.
//!
//! Here: what is asked for, and how findings are printed. What there is to find is in `network`, `vips` and `traffic`.

mod network;
#[cfg(test)]
mod tests;
mod traffic;
mod vips;

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use fulcrum_api::control::{ListVipsReply, ServiceStanding, Status};
use fulcrum_api::convert::{address, port};
use fulcrum_api::dataplane::{
    Counters, CountersChunk, DataplaneStatus, ListSessionsRequest, Session, SessionFilter,
};
use fulcrum_director::Snapshot;
use fulcrum_model::{Family, Protocol, Server, ServerKey, Service, ServiceKey, State};
use fulcrum_replay::trace::NeighbourFact;
use serde::Serialize;

use crate::client::Client;
use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::counted;
use crate::trace;

/// Half-open sessions that are counted at most.
const HALF_OPEN: u32 = 20_000;

/// What to look over.
///
/// Errors are what loses traffic now, warnings what loses some or is about to, advice what could be better. Exit codes:
/// 0 neither errors nor warnings, 1 warnings, 2 errors.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Errors and warnings only
    #[arg(long, short)]
    quiet: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Advice,
    Warning,
    Error,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// What it is about, such as `server 192.168.20.7:8080`.
    about: String,
    /// What is.
    what: String,
    /// What would be right.
    advice: String,
}

impl Finding {
    fn new(
        level: Level,
        about: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { level, about: about.into(), what: what.into(), advice: advice.into() }
    }
}

/// What is known of the set-up.
#[derive(Clone, Debug, Default)]
struct Facts {
    status: Status,
    /// What the data plane is to be programmed with: without servers that are down.
    state: State,
    /// How services and servers are by their checks.
    standings: Vec<ServiceStanding>,
    /// The same, compiled.
    snapshot: Arc<Snapshot>,
    neighbours: Vec<NeighbourFact>,
    vips: ListVipsReply,
    counters: HashMap<(ServiceKey, ServerKey), Counts>,
    host: Host,
}

/// What is to be read of the machine that the command runs on.
#[derive(Clone, Copy, Debug)]
struct Host(fn(&str) -> Option<String>);

impl Default for Host {
    fn default() -> Host {
        Host(|_| None)
    }
}

/// What is counted of a server.
#[derive(Clone, Debug, Default)]
struct Counts {
    counters: Counters,
    active: u64,
    /// Of these, TCP connections that have not come about.
    half_open: u64,
}

/// Does it; the exit code says how bad the worst finding is.
pub async fn run(global: &Global, arguments: Arguments, out: &mut Output<'_>) -> Result<ExitCode, Failure> {
    let mut findings = match gather(global).await {
        Ok(facts) => examine(&facts),
        // Whom nobody answers is what the doctor is called for.
        Err(failure @ (Failure::NotRunning(_) | Failure::Silent(_))) => {
            vec![Finding::new(
                Level::Error,
                "control",
                failure.to_string(),
                "systemctl status fulcrum-control; journalctl -u fulcrum-control",
            )]
        }
        Err(failure) => return Err(failure),
    };
    findings.retain(|finding| !arguments.quiet || finding.level > Level::Advice);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    match global.json {
        true => out.json(&findings)?,
        false => print(&findings, out)?,
    }
    Ok(match findings.iter().map(|finding| finding.level).max() {
        Some(Level::Error) => ExitCode::from(2),
        Some(Level::Warning) => ExitCode::from(1),
        _ => ExitCode::SUCCESS,
    })
}

async fn gather(global: &Global) -> Result<Facts, Failure> {
    let mut control = global.client().await?;
    let status = control.status().await?;
    let (state, standings) = (control.effective().await?, control.health(None).await?);
    let vips = control.vips().await?;
    let Some(dataplane) = status.dataplane.clone() else {
        return Ok(Facts { status, state, standings, vips, ..Facts::default() });
    };
    // A data plane that is lost meanwhile has nothing to say, which the next look tells.
    let answers = (control.counters().await, control.neighbours().await);
    let (Ok(counters), Ok(neighbours)) = answers else {
        return Ok(Facts {
            status: Status { dataplane: None, ..status },
            state,
            standings,
            vips,
            ..Facts::default()
        });
    };
    let half_open = half_open(&mut control).await.unwrap_or_default();
    let facts = Facts::new(status, state, &dataplane, counters, neighbours, &half_open)?;
    Ok(Facts { standings, vips, ..facts })
}

impl Facts {
    fn new(
        status: Status,
        state: State,
        dataplane: &DataplaneStatus,
        counters: CountersChunk,
        neighbours: Vec<fulcrum_api::dataplane::NeighbourStatus>,
        half_open: &HalfOpen,
    ) -> Result<Facts, Failure> {
        let mut its = HashMap::new();
        for service in &counters.services {
            let Some(key) = service.key.clone().map(ServiceKey::try_from).transpose()? else { continue };
            for server in &service.servers {
                let Some(server_key) = server.key.clone().map(ServerKey::try_from).transpose()? else {
                    continue;
                };
                let counts = Counts {
                    counters: server.counters.unwrap_or_default(),
                    active: server.active,
                    half_open: half_open.get(&(key, server_key)).copied().unwrap_or(0),
                };
                its.insert((key, server_key), counts);
            }
        }
        let known = trace::known(state.clone(), dataplane, counters, neighbours)?;
        let snapshot = fulcrum_replay::trace::compile(&known);
        let host = Host(|path| std::fs::read_to_string(path).ok());
        Ok(Facts {
            status,
            state,
            snapshot,
            neighbours: known.neighbours,
            counters: its,
            host,
            standings: Vec::new(),
            vips: ListVipsReply::default(),
        })
    }

    fn dataplane(&self) -> Option<&DataplaneStatus> {
        self.status.dataplane.as_ref()
    }

    /// Servers that may get connections, with their services.
    fn servers(&self) -> impl Iterator<Item = (&Service, &Server)> {
        self.state.services.iter().flat_map(|service| {
            service.servers.iter().filter(|server| server.weight > 0).map(move |server| (service, server))
        })
    }
}

/// TCP connections that have not come about, by service and server.
type HalfOpen = HashMap<(ServiceKey, ServerKey), u64>;

async fn half_open(control: &mut Client) -> Result<HalfOpen, Failure> {
    let filter = SessionFilter {
        protocol: Some(Protocol::Tcp.number().into()),
        state: "SYN_RECV".to_owned(),
        template: Some(false),
        ..SessionFilter::default()
    };
    let mut stream = control.sessions(ListSessionsRequest { limit: HALF_OPEN, filter: Some(filter) }).await?;
    let mut counts = HalfOpen::new();
    while let Some(chunk) = stream.message().await? {
        for session in &chunk.sessions {
            for (service, server) in whose(session)? {
                *counts.entry((service, server)).or_insert(0) += 1;
            }
        }
    }
    Ok(counts)
}

/// The services that a session may be of, with its server: by its mark, or by its virtual end or that of every port. A
/// server may be one of the port that was asked for, or of every port.
fn whose(session: &Session) -> Result<Vec<(ServiceKey, ServerKey)>, Failure> {
    let vip = address("virtual", &session.r#virtual)?;
    let vip_port = port("virtual", session.virtual_port)?;
    let services = match session.mark {
        0 => [vip_port, 0].map(|port| ServiceKey::new(Protocol::Tcp, vip, port)).to_vec(),
        mark => vec![ServiceKey::Mark { family: Family::of(vip), mark }],
    };
    let (its, its_port) = (address("server", &session.server)?, port("server", session.server_port)?);
    let servers = [its_port, 0].map(|port| ServerKey { address: its, port });
    Ok(services.into_iter().flat_map(|service| servers.map(|server| (service, server))).collect())
}

/// Everything that is not as it should be.
fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = network::processes(facts);
    if facts.dataplane().is_some() {
        findings.extend(network::ports(facts));
        findings.extend(network::ways(facts));
        findings.extend(network::claims(facts));
        findings.extend(network::room(facts));
        findings.extend(network::host(facts));
    }
    findings.extend(vips::vips(facts));
    findings.extend(traffic::services(facts));
    findings.extend(traffic::health(facts));
    if facts.dataplane().is_some() {
        findings.extend(traffic::answers(facts));
        findings.extend(traffic::tables(facts));
        findings.extend(traffic::drops(facts));
    }
    findings
}

fn print(findings: &[Finding], out: &mut Output<'_>) -> Result<(), Failure> {
    for Finding { level, about, what, advice } in findings {
        let level = match level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Advice => "advice",
        };
        writeln!(out, "{level:<8} {about}: {}", what.replace('\n', "\n         "))?;
        if !advice.is_empty() {
            writeln!(out, "         {}", advice.replace('\n', "\n         "))?;
        }
    }
    let count = |wanted| findings.iter().filter(|finding| finding.level == wanted).count() as u64;
    match (count(Level::Error), count(Level::Warning)) {
        (0, 0) => writeln!(out, "no errors, no warnings")?,
        (errors, warnings) => {
            writeln!(out, "{}, {}", counted(errors, "error"), counted(warnings, "warning"))?;
        }
    }
    Ok(())
}
