//! `fulcrum trace`: what the director does, or would do, with a flow, step by step.
//!
//! What the running data plane holds and knows is asked for here; what it means is fulcrum-replay's, which has the
//! engine say it.

use std::io::Write as _;
use std::net::IpAddr;

use fulcrum_api::control::{ListVipsReply, ServiceStanding, Vip};
use fulcrum_api::convert::{address, forward, port};
use fulcrum_api::dataplane::{
    CountersChunk, DataplaneStatus, ListSessionsRequest, NamedCount, NeighbourStatus, Session, SessionEnd,
    SessionFilter,
};
use fulcrum_director::{Concern, Reason};
use fulcrum_model::{Mac, Protocol, ServerKey, ServiceKey, State};
use fulcrum_replay::trace::{Facts, Flow, LoadFact, Mark, NeighbourFact, Report, SessionFact, Step, Tracer};
use ipnet::IpNet;
use serde::Serialize;

use crate::client::Client;
use crate::command::Global;
use crate::failure::Failure;
use crate::name::{Endpoint, protocol};
use crate::output::Output;
use crate::vip;

/// Which flow.
///
/// The answer is the engine's own: a copy of it gets what the running data plane is programmed with and knows, and a
/// packet of this flow. Nothing is sent, and nothing changes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    fulcrum trace 198.51.100.7 172.16.100.9:80\n  \
    fulcrum trace 198.51.100.7:40000 172.16.100.9:53 --protocol udp --interface wan")]
pub struct Arguments {
    /// The client; without a port any of its sessions with the virtual end, or a new one
    #[arg(value_name = "CLIENT[:PORT]")]
    client: Endpoint,
    /// The virtual end
    #[arg(value_name = "VIP:PORT")]
    vip: Endpoint,
    /// The protocol: tcp, udp or sctp
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol, default_value = "tcp")]
    protocol: Protocol,
    /// The interface by which packets come in; without it the one by which answers leave
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
}

/// What is printed.
#[derive(Clone, Debug, Serialize)]
struct Answer {
    protocol: Protocol,
    client: String,
    vip: String,
    #[serde(flatten)]
    report: Report,
    /// Drops of the last minute that may have hit such packets, for reasons.
    drops: Vec<Drop>,
}

#[derive(Clone, Debug, Serialize)]
struct Drop {
    reason: String,
    count: u64,
    advice: &'static str,
}

/// Does it.
pub async fn run(global: &Global, arguments: Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let Arguments { client, vip, protocol, interface } = arguments;
    let vip_port = vip.port.ok_or_else(|| {
        Failure::Usage(format!("{} names no port: VIP:PORT, such as {}:80", vip.address, vip.address))
    })?;
    let mut control = global.client().await?;
    let facts = facts(&mut control).await?;
    let drops = drops(&control.dataplane().await?);
    let flow = Flow {
        protocol,
        client: (client.address, client.port),
        virtual_: (vip.address, vip_port),
        interface,
    };
    let tracer = Tracer::new(facts, flow).map_err(|error| Failure::Invalid(error.to_string()))?;
    let session = session(&mut control, protocol, client, (vip.address, vip_port)).await?;
    let template = match session {
        Some(_) => None,
        None => template(&mut control, &tracer).await?,
    };
    let report = tracer.trace(session.as_ref(), template.as_ref());
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let answer = Answer {
        protocol,
        client: end(client.address, client.port),
        vip: end(vip.address, Some(vip_port)),
        report,
        drops,
    };
    match global.json {
        true => Ok(out.json(&answer)?),
        false => print(&answer, out),
    }
}

/// What the running data plane is programmed with and knows.
pub(crate) async fn facts(control: &mut Client) -> Result<Facts, Failure> {
    let status = control.dataplane().await?;
    let (state, counters, neighbours) =
        (control.effective().await?, control.counters().await?, control.neighbours().await?);
    let absent = absent(&control.health(None).await?);
    let released = released(&control.vips().await?);
    Ok(Facts { absent, released, ..known(state, &status, counters, neighbours)? })
}

/// Servers that the data plane is not given, and why.
fn absent(standings: &[ServiceStanding]) -> Vec<(ServiceKey, ServerKey, String)> {
    let mut absent = Vec::new();
    for standing in standings {
        let Some(service) = standing.key.clone().and_then(|key| ServiceKey::try_from(key).ok()) else {
            continue;
        };
        for server in standing.servers.iter().filter(|server| server.weight.is_none()) {
            let Some(key) = server.key.clone().and_then(|key| ServerKey::try_from(key).ok()) else {
                continue;
            };
            let why = if server.why.is_empty() { String::new() } else { format!(": {}", server.why) };
            absent.push((service, key, format!("{}{why}", server.state)));
        }
    }
    absent
}

/// VIPs that the director does not have, and why.
fn released(vips: &ListVipsReply) -> Vec<(IpAddr, String)> {
    let released = vips.vips.iter().filter(|vip| !vip.taken);
    let words =
        |vip| Some((address("address", &Vip::clone(vip).address).ok()?, vip::released(vip, vips.manual)));
    released.filter_map(words).collect()
}

/// The same, of answers.
pub(crate) fn known(
    state: State,
    status: &DataplaneStatus,
    counters: CountersChunk,
    neighbours: Vec<NeighbourStatus>,
) -> Result<Facts, Failure> {
    let ports = status.ports.iter().filter_map(|port| Some((port.name.clone(), port.mac.parse().ok()?)));
    let neighbour = |neighbour: NeighbourStatus| -> Result<NeighbourFact, Failure> {
        Ok(NeighbourFact {
            address: address("address", &neighbour.address)?,
            mac: <[u8; 6]>::try_from(&neighbour.mac[..]).ok().map(Mac),
            interface: neighbour.interface,
            state: neighbour.state,
            parked: neighbour.parked,
        })
    };
    let mut loads = Vec::new();
    for service in counters.services {
        let Some(key) = service.key else { continue };
        let key = ServiceKey::try_from(key)?;
        for server in service.servers {
            let Some(its) = server.key else { continue };
            let (active, inactive) = (server.active, server.inactive);
            loads.push(LoadFact { service: key, server: ServerKey::try_from(its)?, active, inactive });
        }
    }
    let pools = status
        .local_pools
        .iter()
        .filter_map(|pool| Some((pool.service.clone(), pool.address.parse().ok()?, pool.sessions)));
    let silent = status.gateways.iter().filter(|gateway| !gateway.answers);
    Ok(Facts {
        state,
        ports: ports.collect(),
        neighbours: neighbours.into_iter().map(neighbour).collect::<Result<_, _>>()?,
        loads,
        absent: Vec::new(),
        released: Vec::new(),
        pools: pools.collect(),
        silent: silent
            .filter_map(|gateway| Some((gateway.interface.clone(), gateway.address.parse().ok()?)))
            .collect(),
    })
}

/// The session of the flow, when the data plane has it; without a client's port the first one of the client.
async fn session(
    control: &mut Client,
    protocol: Protocol,
    client: Endpoint,
    vip: (IpAddr, u16),
) -> Result<Option<SessionFact>, Failure> {
    let filter = SessionFilter {
        protocol: Some(protocol.number().into()),
        client: Some(exactly(client.address, client.port)),
        r#virtual: Some(exactly(vip.0, Some(vip.1))),
        template: Some(false),
        ..SessionFilter::default()
    };
    Ok(sessions(control, filter, 1).await?.into_iter().next())
}

/// The template that decides about the flow, when the data plane has it.
async fn template(control: &mut Client, tracer: &Tracer) -> Result<Option<SessionFact>, Failure> {
    let (Some(service), Some([client, vip])) = (tracer.service(), tracer.template()) else { return Ok(None) };
    let filter = SessionFilter {
        client: Some(exactly(client.0, None)),
        template: Some(true),
        service: Some((&service).into()),
        ..SessionFilter::default()
    };
    let found = sessions(control, filter, 0).await?;
    Ok(found.into_iter().find(|fact| (fact.client, fact.virtual_) == (client, vip)))
}

async fn sessions(
    control: &mut Client,
    filter: SessionFilter,
    limit: u32,
) -> Result<Vec<SessionFact>, Failure> {
    let mut stream = control.sessions(ListSessionsRequest { limit, filter: Some(filter) }).await?;
    let mut found = Vec::new();
    while let Some(chunk) = stream.message().await? {
        for session in chunk.sessions {
            found.push(fact(session)?);
        }
    }
    Ok(found)
}

fn exactly(address: IpAddr, port: Option<u16>) -> SessionEnd {
    SessionEnd { network: Some((&IpNet::from(address)).into()), port: port.map(Into::into) }
}

fn fact(session: Session) -> Result<SessionFact, Failure> {
    let end = |name: &str, bytes: &[u8], number: u32| -> Result<(IpAddr, u16), Failure> {
        Ok((address(name, bytes)?, port(name, number)?))
    };
    Ok(SessionFact {
        worker: session.worker,
        client: end("client", &session.client, session.client_port)?,
        virtual_: end("virtual", &session.r#virtual, session.virtual_port)?,
        local: match session.local.is_empty() {
            true => None,
            false => Some(end("local", &session.local, session.local_port)?),
        },
        server: end("server", &session.server, session.server_port)?,
        forward: forward(session.forward)?,
        state: session.state,
        expires_ms: session.expires_ms,
    })
}

/// What was dropped in the last minute, but for what every network has.
fn drops(status: &DataplaneStatus) -> Vec<Drop> {
    let matters = |count: &NamedCount| {
        let reason = Reason::ALL.iter().find(|reason| reason.name() == count.name)?;
        let remedy = reason.remedy();
        (remedy.concern > Concern::Noise).then(|| Drop {
            reason: count.name.clone(),
            count: count.count,
            advice: remedy.advice,
        })
    };
    status.recent_drops.iter().filter_map(matters).collect()
}

fn print(answer: &Answer, out: &mut Output<'_>) -> Result<(), Failure> {
    let Answer { protocol, client, vip, report, drops } = answer;
    let what = match report.session {
        true => "what happens to the packets of this session",
        false => "what would happen to a new flow",
    };
    writeln!(out, "{protocol} {client} > {vip}: {what}\n")?;
    let width = report.steps.iter().map(|step| step.about.len()).max().unwrap_or(0);
    for Step { about, mark, text, details } in &report.steps {
        let sign = match mark {
            Mark::Ok => ' ',
            Mark::Note => '.',
            Mark::Warning => '!',
            Mark::Stop => 'X',
        };
        writeln!(out, "{sign} {about:width$}  {text}")?;
        for line in details {
            writeln!(out, "  {:width$}    {line}", "")?;
        }
    }
    if !drops.is_empty() {
        writeln!(out, "\ndropped in the last minute, by all ports and flows")?;
        for Drop { reason, count, advice } in drops {
            writeln!(out, "  {count} {reason}: {advice}")?;
        }
    }
    Ok(())
}
