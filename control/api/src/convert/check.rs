//! Checks as messages.

use std::time::Duration;

use fulcrum_model as model;

use super::{BadMessage, Checked, address, address_bytes, present, small};
use crate::state::{self as wire, check::Kind};

impl From<&model::Check> for wire::Check {
    fn from(check: &model::Check) -> wire::Check {
        wire::Check {
            name: check.name.clone(),
            interval_ms: millis(check.interval),
            timeout_ms: millis(check.timeout),
            rise: check.rise,
            fall: check.fall,
            warm_up_ms: millis(check.warm_up),
            port: check.port.map(Into::into),
            source: check.source.map(address_bytes),
            via: match check.via {
                model::Via::Direct => wire::CheckVia::Direct,
                model::Via::LocalAddress => wire::CheckVia::LocalAddress,
                model::Via::Vip => wire::CheckVia::Vip,
            }
            .into(),
            kind: Some((&check.kind).into()),
        }
    }
}

impl TryFrom<wire::Check> for model::Check {
    type Error = BadMessage;

    fn try_from(check: wire::Check) -> Checked<model::Check> {
        Ok(model::Check {
            name: check.name,
            kind: kind(present("kind", check.kind)?)?,
            interval: Duration::from_millis(check.interval_ms.into()),
            timeout: Duration::from_millis(check.timeout_ms.into()),
            rise: check.rise,
            fall: check.fall,
            warm_up: Duration::from_millis(check.warm_up_ms.into()),
            port: check.port.map(|port| small("port", port)).transpose()?,
            source: check.source.map(|bytes| address("source", &bytes)).transpose()?,
            via: match wire::CheckVia::try_from(check.via) {
                Ok(wire::CheckVia::Direct) => model::Via::Direct,
                Ok(wire::CheckVia::LocalAddress) => model::Via::LocalAddress,
                Ok(wire::CheckVia::Vip) => model::Via::Vip,
                Err(_) => {
                    let problem = format!("{} is none of DIRECT 0, LOCAL_ADDRESS 1, VIP 2", check.via);
                    return Err(BadMessage::new("via", problem));
                }
            },
        })
    }
}

/// What is longer than 49 days is longer than any time of a check.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl From<&model::CheckKind> for Kind {
    fn from(kind: &model::CheckKind) -> Kind {
        match kind.clone() {
            model::CheckKind::Tcp => Kind::Tcp(true),
            model::CheckKind::Http { tls, method, path, host, status, body, digest } => {
                Kind::Http(wire::HttpCheck {
                    tls: tls.map(Into::into),
                    method: method.name().to_owned(),
                    path,
                    host,
                    status: status.to_string(),
                    body,
                    digest: digest.map(|digest| digest.to_string()),
                })
            }
            model::CheckKind::Udp { send, reply } => Kind::Udp(wire::UdpCheck { send, reply }),
            model::CheckKind::Dns { query, record, rcode, answer } => Kind::Dns(wire::DnsCheck {
                query,
                record: record.name().to_owned(),
                rcode: rcode.number().into(),
                answer,
            }),
            model::CheckKind::Smtp { helo, tls } => {
                Kind::Smtp(wire::SmtpCheck { helo, tls: tls.map(Into::into) })
            }
            model::CheckKind::Ping => Kind::Ping(true),
            model::CheckKind::Exec { program, arguments } => {
                Kind::Exec(wire::ExecCheck { program, arguments })
            }
            model::CheckKind::Grpc { service, tls } => {
                Kind::Grpc(wire::GrpcCheck { service, tls: tls.map(Into::into) })
            }
        }
    }
}

fn kind(kind: Kind) -> Checked<model::CheckKind> {
    Ok(match kind {
        Kind::Tcp(_) => model::CheckKind::Tcp,
        Kind::Http(http) => model::CheckKind::Http {
            tls: http.tls.map(Into::into),
            method: word("http.method", &http.method, &model::HttpMethod::WORDS)?,
            path: http.path,
            host: http.host,
            status: parsed("http.status", &http.status)?,
            body: http.body,
            digest: http.digest.map(|digest| parsed("http.digest", &digest)).transpose()?,
        },
        Kind::Udp(udp) => model::CheckKind::Udp { send: udp.send, reply: udp.reply },
        Kind::Dns(dns) => model::CheckKind::Dns {
            query: dns.query,
            record: parsed("dns.record", &dns.record)?,
            rcode: model::DnsRcode::WORDS
                .into_iter()
                .map(|(_, rcode)| rcode)
                .find(|rcode| u32::from(rcode.number()) == dns.rcode)
                .ok_or_else(|| BadMessage::new("dns.rcode", format!("{} is none of 0 to 5", dns.rcode)))?,
            answer: dns.answer,
        },
        Kind::Smtp(smtp) => model::CheckKind::Smtp { helo: smtp.helo, tls: smtp.tls.map(Into::into) },
        Kind::Ping(_) => model::CheckKind::Ping,
        Kind::Exec(exec) => model::CheckKind::Exec { program: exec.program, arguments: exec.arguments },
        Kind::Grpc(grpc) => model::CheckKind::Grpc { service: grpc.service, tls: grpc.tls.map(Into::into) },
    })
}

impl From<model::CheckTls> for wire::CheckTls {
    fn from(tls: model::CheckTls) -> wire::CheckTls {
        wire::CheckTls { name: tls.name, ca: tls.ca, unverified: !tls.verify }
    }
}

impl From<wire::CheckTls> for model::CheckTls {
    fn from(tls: wire::CheckTls) -> model::CheckTls {
        model::CheckTls { name: tls.name, ca: tls.ca, verify: !tls.unverified }
    }
}

fn word<T: Copy>(field: &str, text: &str, words: &[(&str, T)]) -> Checked<T> {
    let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let found = words.iter().find(|(word, _)| *word == text);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| BadMessage::new(field, format!("`{text}` is none of {}", known())))
}

fn parsed<T: std::str::FromStr<Err = model::UnknownWord>>(field: &str, text: &str) -> Checked<T> {
    text.parse().map_err(|bad: model::UnknownWord| BadMessage::new(field, bad.to_string()))
}
