//! Checks as TOML.

use std::time::Duration;

use super::{Out, quoted};
use crate::state::{Check, CheckKind, CheckTls, HttpMethod, StatusSet, Via, hex};

/// A check under a header such as `[[check]]`.
pub(super) fn check(out: &mut Out, header: &str, check: &Check) {
    out.table(header);
    for (key, value) in entries(check) {
        out.bare(key, value);
    }
}

/// Every key of a check but its name.
pub const KEYS: [&str; 33] = [
    "type",
    "method",
    "path",
    "host",
    "status",
    "body",
    "digest",
    "send",
    "send-hex",
    "reply",
    "expect",
    "expect-hex",
    "query",
    "record",
    "rcode",
    "answer",
    "helo",
    "starttls",
    "program",
    "arguments",
    "service",
    "tls",
    "tls-name",
    "tls-ca",
    "verify",
    "interval",
    "timeout",
    "rise",
    "fall",
    "warm-up",
    "port",
    "source",
    "via",
];

/// The keys of a check with their values as TOML has them; what is left away has its default.
pub fn entries(check: &Check) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    let mut put = |key: &'static str, value: Option<String>| list.extend(value.map(|value| (key, value)));
    put("name", (!check.name.is_empty()).then(|| quoted(&check.name)));
    put("type", Some(quoted(check.kind.name())));
    match &check.kind {
        CheckKind::Tcp | CheckKind::Ping => {}
        CheckKind::Http { method, path, host, status, body, digest, .. } => {
            put("method", (*method != HttpMethod::Get).then(|| quoted(method.name())));
            put("path", Some(quoted(path)));
            put("host", host.as_ref().map(quoted));
            put("status", (*status != StatusSet::default()).then(|| quoted(status)));
            put("body", body.as_ref().map(quoted));
            put("digest", digest.map(quoted));
        }
        CheckKind::Udp { send, reply } => {
            let (key, value) = bytes("send", "send-hex", send);
            put(key, (!send.is_empty()).then_some(value));
            match reply {
                None => {}
                Some(any) if any.is_empty() => put("reply", Some("true".to_owned())),
                Some(expected) => {
                    let (key, value) = bytes("expect", "expect-hex", expected);
                    put(key, Some(value));
                }
            }
        }
        CheckKind::Dns { query, record, rcode, answer } => {
            put("query", Some(quoted(query)));
            put("record", Some(quoted(record.name())));
            put("rcode", (*rcode != Default::default()).then(|| quoted(rcode.name())));
            put("answer", (!answer.is_empty()).then(|| all(answer)));
        }
        CheckKind::Smtp { helo, tls } => {
            put("helo", helo.as_ref().map(quoted));
            put("starttls", tls.as_ref().map(|_| "true".to_owned()));
        }
        CheckKind::Exec { program, arguments } => {
            put("program", Some(quoted(program)));
            put("arguments", (!arguments.is_empty()).then(|| all(arguments)));
        }
        CheckKind::Grpc { service, tls } => {
            put("service", (!service.is_empty()).then(|| quoted(service)));
            put("tls", tls.as_ref().map(|_| "true".to_owned()));
        }
    }
    if let Some(CheckTls { name, ca, verify }) = check.kind.tls() {
        put("tls-name", name.as_ref().map(quoted));
        put("tls-ca", ca.as_ref().map(quoted));
        put("verify", (!verify).then(|| "false".to_owned()));
    }
    put("interval", Some(duration(check.interval)));
    put("timeout", Some(duration(check.timeout)));
    put("rise", Some(check.rise.to_string()));
    put("fall", Some(check.fall.to_string()));
    put("warm-up", (!check.warm_up.is_zero()).then(|| duration(check.warm_up)));
    put("port", check.port.map(|port| port.to_string()));
    put("source", check.source.map(quoted));
    put("via", (check.via != Via::Direct).then(|| quoted(check.via.name())));
    list
}

fn bytes(text: &'static str, digits: &'static str, bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(plain) if !plain.contains(|c: char| c.is_control() && !"\r\n\t".contains(c)) => {
            (text, quoted(plain))
        }
        _ => (digits, quoted(hex(bytes))),
    }
}

fn all(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

/// Whole seconds as a number, as everywhere in the file, others in milliseconds.
fn duration(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => time.as_secs().to_string(),
        _ => quoted(format_args!("{}ms", time.as_millis())),
    }
}
