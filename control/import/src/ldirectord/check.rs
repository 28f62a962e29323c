//! What servers are asked: `checktype` and `service`, with the directives that these need.

use std::time::Duration;

use fulcrum_model::{
    Check, CheckKind, CheckTls, DnsRcode, DnsRecord, HttpMethod, Protocol, ServiceKey, StatusSet,
};

use super::text::Directive;
use super::{Habits, number};
use crate::draft::{Draft, Pace};
use crate::words::{is_plain, words_of};

/// Well-known ports by the names of the services behind them.
const PORTS: [(&str, u16); 19] = [
    ("ftp", 21),
    ("smtp", 25),
    ("dns", 53),
    ("http", 80),
    ("pop", 110),
    ("nntp", 119),
    ("imap", 143),
    ("ldap", 389),
    ("https", 443),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pops", 995),
    ("oracle", 1521),
    ("radius", 1812),
    ("http_proxy", 3128),
    ("mysql", 3306),
    ("sip", 5060),
    ("pgsql", 5432),
];

/// A port by number or name.
pub(super) fn port_of(text: &str) -> Option<u16> {
    let named = || match text {
        "domain" => Some(53),
        "pop3" => Some(110),
        _ => PORTS.iter().find(|(name, _)| *name == text).map(|(_, port)| *port),
    };
    text.parse().ok().or_else(named)
}

/// `checktype`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Negotiate,
    Connect,
    Ping,
    External,
    On,
    Off,
}

/// What a service says of its checks.
#[derive(Clone, Debug, Default)]
pub(super) struct Negotiation {
    pub(super) kind: Kind,
    service: Option<Directive>,
    command: Option<Directive>,
    port: Option<u16>,
    pub(super) request: Option<String>,
    pub(super) receive: Option<String>,
    receive_at: Option<Directive>,
    head: bool,
    virtual_host: Option<String>,
}

impl Negotiation {
    /// Takes a directive in, if it is one of these.
    pub(super) fn take(&mut self, draft: &mut Draft, directive: &Directive) -> bool {
        let value = directive.unquoted();
        match directive.name.as_str() {
            "checktype" => {
                self.kind = match value {
                    "connect" => Kind::Connect,
                    "negotiate" => Kind::Negotiate,
                    "ping" => Kind::Ping,
                    "external" | "external-perl" => Kind::External,
                    "on" => Kind::On,
                    "off" => Kind::Off,
                    _ => {
                        let why = "only some probes would ask more than a connection: all do";
                        draft.leave_out(&directive.place, directive.text(), why);
                        Kind::Negotiate
                    }
                }
            }
            "service" => self.service = Some(directive.clone()),
            "checkcommand" => self.command = Some(directive.clone()),
            "checkport" => self.port = number(draft, directive),
            "request" => self.request = Some(value.to_owned()),
            "receive" => {
                self.receive = Some(value.to_owned());
                self.receive_at = Some(directive.clone());
            }
            "httpmethod" => self.head = value.eq_ignore_ascii_case("head"),
            "virtualhost" => self.virtual_host = Some(value.to_owned()),
            _ => return false,
        }
        true
    }

    /// The check of a server of a service, which has this port; `None`: it is always up.
    pub(super) fn check(
        &self,
        draft: &mut Draft,
        habits: &Habits,
        service: ServiceKey,
        port: Option<u16>,
    ) -> Option<Check> {
        let udp = service.protocol() == Some(Protocol::Udp);
        let kind = match self.kind {
            Kind::On | Kind::Off => return None,
            Kind::Ping => CheckKind::Ping,
            // As with ldirectord: nothing can be connected to.
            Kind::Connect if udp => CheckKind::Ping,
            Kind::Connect => CheckKind::Tcp,
            // Without one, ldirectord runs a program that does nothing.
            Kind::External => exec(words_of(self.command.as_ref()?.unquoted()))?,
            Kind::Negotiate => self.negotiated(draft, service, udp)?,
        };
        let interval = habits.interval.unwrap_or(Duration::from_secs(10));
        let timeout = match self.kind {
            Kind::Negotiate => habits.negotiate_timeout.unwrap_or(Duration::from_secs(30)),
            _ => habits.check_timeout.unwrap_or(Duration::from_secs(5)),
        };
        // A server by mark has a port only where it says one.
        let port = self.port.filter(|own| Some(*own) != port).filter(|_| kind.has_port());
        let check = Check { port, ..Check::new("", kind) };
        if let Some(said) = habits.said_timeout.as_ref().filter(|_| timeout > interval) {
            draft.leave_out(&said.place, said.text(), Pace::too_long(interval));
        }
        Some(Pace { interval, timeout, fall: habits.failures.unwrap_or(1) }.of(check))
    }

    /// What the protocol of the service is asked; `None`: nothing.
    fn negotiated(&self, draft: &mut Draft, service: ServiceKey, udp: bool) -> Option<CheckKind> {
        let by_port = |port| PORTS.iter().find(|(_, known)| *known == port);
        let said = self.service.as_ref().map(|directive| directive.value.as_str());
        let name = said.or_else(|| Some(by_port(service.port()?)?.0)).unwrap_or("none");
        Some(match name {
            "none" => return None,
            "http" | "http_proxy" => self.http(draft, None),
            "https" => self.http(draft, Some(CheckTls { verify: false, ..CheckTls::default() })),
            "smtp" | "submission" => CheckKind::Smtp { helo: None, tls: None },
            "dns" => CheckKind::Dns {
                query: self.request.clone().unwrap_or_else(|| ".".to_owned()),
                record: DnsRecord::A,
                rcode: DnsRcode::NoError,
                answer: self.receive.iter().cloned().collect(),
            },
            other => {
                let (kind, does) = match udp {
                    true => (CheckKind::Ping, "the host is pinged"),
                    false => (CheckKind::Tcp, "a connection is made"),
                };
                if let Some(directive) = &self.service {
                    let why = format!("{other} is not spoken: {does}; an exec check can ask a program");
                    draft.leave_out(&directive.place, directive.text(), why);
                }
                kind
            }
        })
    }

    fn http(&self, draft: &mut Draft, tls: Option<CheckTls>) -> CheckKind {
        let body = self.receive.clone().filter(|text| is_plain(text));
        if let (None, Some(_), Some(directive)) = (&body, &self.receive, &self.receive_at) {
            let why = "a body is looked through for a text, not for a pattern";
            draft.leave_out(&directive.place, directive.text(), why);
        }
        let request = self.request.as_deref().unwrap_or("/");
        let path = match request.starts_with('/') {
            true => request.to_owned(),
            false => format!("/{request}"),
        };
        let method = if self.head { HttpMethod::Head } else { HttpMethod::Get };
        let body = body.filter(|_| !self.head);
        let (host, status) = (self.virtual_host.clone(), StatusSet::default());
        CheckKind::Http { tls, method, path, host, status, body, digest: None }
    }
}

/// A program with ldirectord's arguments behind its own.
fn exec(words: Vec<String>) -> Option<CheckKind> {
    let told = ["{vip}", "{vip-port}", "{address}", "{port}"].map(str::to_owned);
    let mut words = words.into_iter();
    Some(CheckKind::Exec { program: words.next()?, arguments: words.chain(told).collect() })
}
