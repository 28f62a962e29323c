//! `fulcrum session`: sessions and persistence templates under way.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use clap::Subcommand;
use fulcrum_api::convert::{address, forward, port};
use fulcrum_api::{BadMessage, dataplane};
use fulcrum_model::Forward;
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::name::Endpoint;
use crate::output::Output;
use crate::table;

/// Sessions under way.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List sessions and persistence templates, in no order
    List(Filter),
}

/// Which sessions.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Of this client
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub client: Option<Endpoint>,
    /// To this virtual address
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub vip: Option<Endpoint>,
    /// With this server
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub server: Option<Endpoint>,
    /// In this state, such as ESTABLISHED
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Of this worker
    #[arg(long, value_name = "N")]
    pub worker: Option<u32>,
    /// Not more than this many, 0 = all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u32,
}

impl Filter {
    fn takes(&self, row: &SessionRow) -> bool {
        let at =
            |wanted: &Option<Endpoint>, is: SocketAddr| wanted.is_none_or(|w| w.matches(is.ip(), is.port()));
        at(&self.client, row.client)
            && at(&self.vip, row.r#virtual)
            && at(&self.server, row.server)
            && self.state.as_ref().is_none_or(|state| state.eq_ignore_ascii_case(&row.state))
            && self.worker.is_none_or(|worker| worker == row.worker)
    }

    /// What the data plane is asked for: it knows the limit, but none of the conditions.
    fn asked(&self) -> u32 {
        let Filter { client, vip, server, state, worker, limit } = self;
        let every =
            client.is_none() && vip.is_none() && server.is_none() && state.is_none() && worker.is_none();
        if every { *limit } else { 0 }
    }
}

/// A session or a persistence template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionRow {
    worker: u32,
    protocol: &'static str,
    state: String,
    expires_ms: u64,
    client: SocketAddr,
    r#virtual: SocketAddr,
    /// FULLNAT only.
    local: Option<SocketAddr>,
    server: SocketAddr,
    forward: Forward,
    template: bool,
}

impl TryFrom<dataplane::Session> for SessionRow {
    type Error = BadMessage;

    fn try_from(session: dataplane::Session) -> Result<SessionRow, BadMessage> {
        let end = |name: &str, bytes: &[u8], number| -> Result<SocketAddr, BadMessage> {
            let ip: IpAddr = address(name, bytes)?;
            Ok(SocketAddr::new(ip, port(name, number)?))
        };
        Ok(SessionRow {
            worker: session.worker,
            protocol: match session.protocol {
                6 => "tcp",
                17 => "udp",
                _ => "ip",
            },
            state: session.state,
            expires_ms: session.expires_ms,
            client: end("client", &session.client, session.client_port)?,
            r#virtual: end("virtual", &session.r#virtual, session.virtual_port)?,
            local: match session.local.is_empty() {
                true => None,
                false => Some(end("local", &session.local, session.local_port)?),
            },
            server: end("server", &session.server, session.server_port)?,
            forward: forward(session.forward)?,
            template: session.template,
        })
    }
}

const HEAD: [&str; 8] = ["PROTOCOL", "STATE", "EXPIRES", "CLIENT", "VIRTUAL", "LOCAL", "SERVER", "FORWARD"];
const WIDTHS: [usize; 8] = [8, 11, 7, 21, 21, 21, 21, 7];

impl SessionRow {
    fn cells(&self) -> [String; 8] {
        let seconds = self.expires_ms / 1000;
        [
            self.protocol.to_owned(),
            self.state.clone(),
            format!("{:02}:{:02}", seconds / 60, seconds % 60),
            self.client.to_string(),
            self.r#virtual.to_string(),
            table::or_dash(self.local),
            self.server.to_string(),
            self.forward.to_string(),
        ]
    }
}

/// Does it. Sessions are printed as they come: there may be millions.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let Command::List(filter) = command;
    let mut stream = global.client().await?.sessions(filter.asked()).await?;
    let mut listing = Listing::begin(global.json, filter, out)?;
    while let Some(chunk) = stream.message().await? {
        for session in chunk.sessions {
            listing.add(session.try_into()?)?;
        }
        if listing.is_full() {
            break;
        }
    }
    listing.end()
}

struct Listing<'a, 'b> {
    json: bool,
    filter: Filter,
    out: &'a mut Output<'b>,
    count: u32,
}

impl<'a, 'b> Listing<'a, 'b> {
    fn begin(json: bool, filter: Filter, out: &'a mut Output<'b>) -> Result<Listing<'a, 'b>, Failure> {
        match json {
            true => out.write_all(b"[")?,
            false => table::line(out, "", HEAD.into_iter(), &WIDTHS)?,
        }
        Ok(Listing { json, filter, out, count: 0 })
    }

    fn is_full(&self) -> bool {
        self.out.closed() || (self.filter.limit != 0 && self.count >= self.filter.limit)
    }

    fn add(&mut self, row: SessionRow) -> Result<(), Failure> {
        if self.is_full() || !self.filter.takes(&row) {
            return Ok(());
        }
        if self.json {
            self.out.write_all(if self.count == 0 { b"\n  " } else { b",\n  " })?;
            serde_json::to_writer(&mut *self.out, &row).map_err(std::io::Error::from)?;
        } else {
            table::line(self.out, "", row.cells().iter().map(String::as_str), &WIDTHS)?;
        }
        self.count += 1;
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        if self.json {
            self.out.write_all(if self.count == 0 { b"]\n" } else { b"\n]\n" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(client: u8, state: &str, worker: u32) -> dataplane::Session {
        dataplane::Session {
            worker,
            protocol: 6,
            state: state.into(),
            expires_ms: 899_500,
            client: vec![198, 51, 100, client],
            client_port: 40_000,
            r#virtual: vec![172, 16, 100, 9],
            virtual_port: 80,
            local: Vec::new(),
            local_port: 0,
            server: vec![192, 168, 20, 7],
            server_port: 8080,
            forward: 1,
            template: false,
        }
    }

    fn listed(json: bool, filter: Filter, sessions: &[dataplane::Session]) -> String {
        let mut text = Vec::new();
        {
            let mut out = Output::new(&mut text);
            let mut listing = Listing::begin(json, filter, &mut out).unwrap();
            for session in sessions {
                listing.add(session.clone().try_into().unwrap()).unwrap();
            }
            listing.end().unwrap();
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_listing_as_text_and_as_json() {
        let sessions = [
            session(1, "ESTABLISHED", 0),
            dataplane::Session {
                local: vec![10, 0, 0, 1],
                local_port: 1024,
                forward: 2,
                ..session(2, "SYN_RECV", 1)
            },
        ];
        assert_eq!(
            listed(false, Filter::default(), &sessions),
            "PROTOCOL  STATE        EXPIRES  CLIENT                 VIRTUAL                LOCAL                  SERVER                 FORWARD\n\
             tcp       ESTABLISHED  14:59    198.51.100.1:40000     172.16.100.9:80        -                      192.168.20.7:8080      nat\n\
             tcp       SYN_RECV     14:59    198.51.100.2:40000     172.16.100.9:80        10.0.0.1:1024          192.168.20.7:8080      fullnat\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&listed(true, Filter::default(), &sessions)).unwrap();
        assert_eq!(
            json[1],
            serde_json::json!({
                "worker": 1, "protocol": "tcp", "state": "SYN_RECV", "expires_ms": 899_500,
                "client": "198.51.100.2:40000", "virtual": "172.16.100.9:80", "local": "10.0.0.1:1024",
                "server": "192.168.20.7:8080", "forward": "fullnat", "template": false,
            })
        );
        assert_eq!(listed(true, Filter::default(), &[]), "[]\n");
    }

    #[test]
    fn filters_narrow_and_the_limit_counts_what_passed() {
        let sessions = [
            session(1, "FIN_WAIT", 0),
            session(2, "ESTABLISHED", 0),
            session(3, "ESTABLISHED", 1),
            session(4, "ESTABLISHED", 1),
        ];
        let count = |filter: Filter| listed(false, filter, &sessions).lines().count() - 1;
        let end = |text: &str| Some(text.parse().unwrap());
        assert_eq!(count(Filter { state: Some("established".into()), ..Filter::default() }), 3);
        assert_eq!(count(Filter { state: Some("established".into()), limit: 2, ..Filter::default() }), 2);
        assert_eq!(count(Filter { worker: Some(1), ..Filter::default() }), 2);
        assert_eq!(count(Filter { client: end("198.51.100.3"), ..Filter::default() }), 1);
        assert_eq!(count(Filter { client: end("198.51.100.3:1"), ..Filter::default() }), 0);
        assert_eq!(count(Filter { vip: end("172.16.100.9:80"), ..Filter::default() }), 4);
        assert_eq!(count(Filter { server: end("192.168.20.8"), ..Filter::default() }), 0);
        assert_eq!(Filter { limit: 5, ..Filter::default() }.asked(), 5);
        assert_eq!(Filter { limit: 5, worker: Some(1), ..Filter::default() }.asked(), 0);
    }

    #[test]
    fn a_session_without_an_address_is_an_error() {
        let broken = dataplane::Session { client: vec![1, 2], ..session(1, "NONE", 0) };
        assert_eq!(SessionRow::try_from(broken).unwrap_err().field, "client");
    }
}
