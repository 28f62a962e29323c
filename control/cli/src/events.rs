//! `fulcrum events`: what happened to servers and services.

use std::io::Write as _;

use fulcrum_api::control::{Event, WatchEventsRequest};
use fulcrum_model::{ServerKey, ServiceKey};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::health::time;
use crate::output::Output;

/// Which events.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Go on with what happens, until interrupted; with --json an object a line
    #[arg(long, short)]
    pub follow: bool,
    /// Leave out those up to this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub after: u64,
}

/// An event as it is listed.
#[derive(Clone, Debug, Serialize)]
struct EventRow {
    /// Counts from the start of fulcrum-control on.
    number: u64,
    time: String,
    event: String,
    service: Option<String>,
    server: Option<String>,
    why: String,
}

impl TryFrom<Event> for EventRow {
    type Error = Failure;

    fn try_from(event: Event) -> Result<EventRow, Failure> {
        Ok(EventRow {
            number: event.number,
            time: time(event.time_ms),
            event: event.kind,
            service: event.service.map(ServiceKey::try_from).transpose()?.map(|key| key.to_string()),
            server: event.server.map(ServerKey::try_from).transpose()?.map(|key| key.to_string()),
            why: event.why,
        })
    }
}

impl EventRow {
    fn line(&self) -> String {
        let names = [&self.service, &self.server].into_iter().flatten().map(|name| format!(" {name}"));
        let names: String = names.collect();
        format!("{} {}{names}: {}", self.time, self.event, self.why)
    }
}

/// Does it.
pub async fn run(global: &Global, arguments: Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let Arguments { follow, after } = arguments;
    let mut stream = global.client().await?.events(WatchEventsRequest { follow, after }).await?;
    let mut all = Vec::new();
    while let Some(event) = stream.message().await? {
        let row = EventRow::try_from(event)?;
        match (global.json, follow) {
            (false, _) => writeln!(out, "{}", row.line())?,
            (true, true) => writeln!(out, "{}", serde_json::to_string(&row).map_err(std::io::Error::from)?)?,
            (true, false) => all.push(row),
        }
        if follow {
            out.flush()?;
        }
        if out.closed() {
            return Ok(());
        }
    }
    if global.json && !follow {
        out.json(&all)?;
    }
    Ok(())
}
