//! `fulcrum session`: sessions and persistence templates under way.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use clap::Subcommand;
use fulcrum_api::convert::{address, forward, port};
use fulcrum_api::dataplane::{ListSessionsRequest, SessionFilter};
use fulcrum_api::{BadMessage, dataplane};
use fulcrum_model::{Forward, Protocol, TimeoutState};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::name::{End, mark, protocol, service};
use crate::output::Output;
use crate::table;

/// Sessions under way.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List sessions and persistence templates, in no order
    List(Filter),
}

/// Which sessions: those that are all that is named. The data plane chooses, so that no others travel.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Of this client, or of clients in this network
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK|:PORT")]
    pub client: Option<End>,
    /// To this virtual address
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK|:PORT")]
    pub vip: Option<End>,
    /// With this local address, that FULLNAT servers see as their client
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK|:PORT")]
    pub local: Option<End>,
    /// With this server
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK|:PORT")]
    pub server: Option<End>,
    /// Of this service, such as `tcp 172.16.100.9:80` or `fwm 10`
    #[arg(long, num_args = 2, value_names = ["PROTOCOL|fwm|fwm6", "ADDRESS[:PORT]|MARK"])]
    pub service: Vec<String>,
    /// Of a service by this mark, of either family
    #[arg(long, value_parser = mark)]
    pub mark: Option<u32>,
    /// Of this protocol
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// In this state, such as ESTABLISHED
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub state: Option<String>,
    /// Of this worker
    #[arg(long, value_name = "N")]
    pub worker: Option<u32>,
    /// Persistence templates only
    #[arg(long, conflicts_with = "no_templates")]
    pub templates: bool,
    /// No persistence templates
    #[arg(long)]
    pub no_templates: bool,
    /// Not more than this many, 0 = all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u32,
}

impl Filter {
    /// What the data plane is asked for.
    fn asked(self) -> Result<ListSessionsRequest, Failure> {
        let service = match self.service.as_slice() {
            [first, second] => Some(service(first, second)?),
            _ => None,
        };
        let template = match (self.templates, self.no_templates) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let filter = SessionFilter {
            worker: self.worker,
            protocol: self.protocol.map(|protocol| protocol.number().into()),
            state: self.state.unwrap_or_default(),
            client: self.client.map(Into::into),
            r#virtual: self.vip.map(Into::into),
            local: self.local.map(Into::into),
            server: self.server.map(Into::into),
            template,
            service: service.as_ref().map(Into::into),
            mark: self.mark,
        };
        Ok(ListSessionsRequest { limit: self.limit, filter: Some(filter) })
    }
}

/// Reads a state by the name that listings give it, in any case, with `-` or `_`.
fn state(text: &str) -> Result<String, String> {
    let listed = |state: TimeoutState| {
        let name = state.name().to_ascii_uppercase();
        match state.protocol() {
            Protocol::Tcp => name.trim_start_matches("TCP-").replace('-', "_"),
            Protocol::Sctp => name.trim_start_matches("SCTP-").to_owned(),
            Protocol::Udp => name,
        }
    };
    let mut known: Vec<String> = TimeoutState::ALL.into_iter().map(listed).collect();
    known.push("ASSURED".to_owned());
    let same = |name: &String| name.replace('_', "-").eq_ignore_ascii_case(&text.replace('_', "-"));
    match known.iter().find(|name| same(name)) {
        Some(name) => Ok(name.clone()),
        None => {
            known.sort();
            known.dedup();
            Err(format!("no state of a session; known: {}", known.join(", ")))
        }
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
    /// Of a service by mark only.
    mark: Option<u32>,
    /// The rule that masquerades it, of no service.
    snat: Option<String>,
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
                1 | 58 => "icmp",
                17 => "udp",
                132 => "sctp",
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
            mark: Some(session.mark).filter(|mark| *mark != 0),
            snat: Some(session.snat).filter(|rule| !rule.is_empty()),
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
            match self.snat {
                Some(_) => "snat".to_owned(),
                None => self.forward.to_string(),
            },
        ]
    }
}

/// Does it. Sessions are printed as they come: there may be millions.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let Command::List(filter) = command;
    let mut stream = global.client().await?.sessions(filter.asked()?).await?;
    let mut listing = Listing::begin(global.json, out)?;
    while let Some(chunk) = stream.message().await? {
        for session in chunk.sessions {
            listing.add(&session.try_into()?)?;
        }
        if listing.out.closed() {
            break;
        }
    }
    listing.end()
}

struct Listing<'a, 'b> {
    json: bool,
    out: &'a mut Output<'b>,
    first: bool,
}

impl<'a, 'b> Listing<'a, 'b> {
    fn begin(json: bool, out: &'a mut Output<'b>) -> Result<Listing<'a, 'b>, Failure> {
        match json {
            true => out.write_all(b"[")?,
            false => table::line(out, "", HEAD.into_iter(), &WIDTHS)?,
        }
        Ok(Listing { json, out, first: true })
    }

    fn add(&mut self, row: &SessionRow) -> Result<(), Failure> {
        if self.json {
            self.out.write_all(if self.first { b"\n  " } else { b",\n  " })?;
            serde_json::to_writer(&mut *self.out, row).map_err(std::io::Error::from)?;
        } else {
            table::line(self.out, "", row.cells().iter().map(String::as_str), &WIDTHS)?;
        }
        self.first = false;
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        if self.json {
            self.out.write_all(if self.first { b"]\n" } else { b"\n]\n" })?;
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
            mark: 0,
            snat: String::new(),
        }
    }

    fn listed(json: bool, sessions: &[dataplane::Session]) -> String {
        let mut text = Vec::new();
        {
            let mut out = Output::new(&mut text);
            let mut listing = Listing::begin(json, &mut out).unwrap();
            for session in sessions {
                listing.add(&session.clone().try_into().unwrap()).unwrap();
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
            listed(false, &sessions),
            "PROTOCOL  STATE        EXPIRES  CLIENT                 VIRTUAL                LOCAL                  SERVER                 FORWARD\n\
             tcp       ESTABLISHED  14:59    198.51.100.1:40000     172.16.100.9:80        -                      192.168.20.7:8080      nat\n\
             tcp       SYN_RECV     14:59    198.51.100.2:40000     172.16.100.9:80        10.0.0.1:1024          192.168.20.7:8080      fullnat\n"
        );
        let json: serde_json::Value = serde_json::from_str(&listed(true, &sessions)).unwrap();
        assert_eq!(
            json[1],
            serde_json::json!({
                "worker": 1, "protocol": "tcp", "state": "SYN_RECV", "expires_ms": 899_500,
                "client": "198.51.100.2:40000", "virtual": "172.16.100.9:80", "local": "10.0.0.1:1024",
                "server": "192.168.20.7:8080", "forward": "fullnat", "template": false, "mark": null, "snat": null,
            })
        );
        assert_eq!(listed(true, &[]), "[]\n");
    }

    #[test]
    fn states_are_read_as_they_are_listed() {
        for (text, name) in [("established", "ESTABLISHED"), ("syn-recv", "SYN_RECV"), ("udp", "UDP")] {
            assert_eq!(state(text).as_deref(), Ok(name));
        }
        assert_eq!(state("S_ACK_SENT").as_deref(), Ok("S-ACK-SENT"));
        assert_eq!(state("assured").as_deref(), Ok("ASSURED"));
        assert!(
            state("open")
                .unwrap_err()
                .contains("known: ASSURED, C-ECHOED, C-REPLIED, C-SENT, C-WAIT, CLOSE, ")
        );
    }

    #[test]
    fn a_session_without_an_address_is_an_error() {
        let broken = dataplane::Session { client: vec![1, 2], ..session(1, "NONE", 0) };
        assert_eq!(SessionRow::try_from(broken).unwrap_err().field, "client");
    }
}
