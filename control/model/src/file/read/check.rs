//! `[[check]]`, and checks inside of services.

use std::time::Duration;

use super::super::table::Table;
use crate::state::{Check, CheckKind, CheckTls, DnsRcode, DnsRecord, HttpMethod, Via, from_hex};
use crate::validate::CHECK_ROW;

/// A check with its name.
pub(super) fn check(table: &mut Table<'_>) -> Option<Check> {
    let name = table.text("name");
    let check = nameless(table);
    let name = table.required("name", "\"web\"", name);
    Some(Check { name: name?, ..check? })
}

/// A check that has no name, because only what it stands in uses it.
pub(super) fn nameless(table: &mut Table<'_>) -> Option<Check> {
    let word = table.word("type", &CheckKind::NAMES.map(|name| (name, name)));
    let interval = table.duration("interval").unwrap_or(Check::INTERVAL);
    let timeout = table.duration("timeout").unwrap_or(Check::TIMEOUT.min(interval));
    let rise = table.number("rise", CHECK_ROW).unwrap_or(Check::RISE);
    let fall = table.number("fall", CHECK_ROW).unwrap_or(Check::FALL);
    let warm_up = table.duration("warm-up").unwrap_or(Duration::ZERO);
    let port = table.number("port", 1..=u16::MAX);
    let source = table.parsed("source", "an IP address, such as 192.168.20.1");
    let via = table.word("via", &Via::WORDS).unwrap_or_default();
    if word.is_none() {
        // Which keys go with it nobody knows, so none is called unknown.
        table.ignore_rest();
    }
    let word = table.required("type", "\"http\"", word)?;
    let kind = kind(table, word)?;
    Some(Check { name: String::new(), kind, interval, timeout, rise, fall, warm_up, port, source, via })
}

fn kind(table: &mut Table<'_>, word: &str) -> Option<CheckKind> {
    Some(match word {
        "http" | "https" => http(table, word == "https"),
        "udp" => udp(table),
        "dns" => dns(table)?,
        "smtp" => {
            let helo = table.text("helo");
            let starttls = table.flag("starttls") == Some(true);
            CheckKind::Smtp { helo, tls: starttls.then(|| tls(table)) }
        }
        "exec" => {
            let program = table.text("program");
            let arguments = table.list("arguments", |text| Ok(text.to_owned()));
            let program = table.required("program", "\"/usr/lib/nagios/plugins/check_ldap\"", program);
            CheckKind::Exec { program: program?, arguments: arguments.unwrap_or_default() }
        }
        "grpc" => {
            let service = table.text("service").unwrap_or_default();
            let below = table.flag("tls") == Some(true);
            CheckKind::Grpc { service, tls: below.then(|| tls(table)) }
        }
        "ping" => CheckKind::Ping,
        _ => CheckKind::Tcp,
    })
}

fn http(table: &mut Table<'_>, secure: bool) -> CheckKind {
    let method = table.word("method", &HttpMethod::WORDS).unwrap_or_default();
    let path = table.text("path").unwrap_or_else(|| "/".to_owned());
    let host = table.text("host");
    let status = table.read("status", |text| text.parse().map_err(|bad| format!("status {bad}")));
    let body = table.text("body");
    let digest = table.read("digest", |text| text.parse().map_err(|bad| format!("digest {bad}")));
    let tls = secure.then(|| tls(table));
    CheckKind::Http { tls, method, path, host, status: status.unwrap_or_default(), body, digest }
}

fn udp(table: &mut Table<'_>) -> CheckKind {
    let send = bytes(table, "send", "send-hex").unwrap_or_default();
    let expect = bytes(table, "expect", "expect-hex");
    if expect.as_ref().is_some_and(Vec::is_empty) {
        let key = if table.has("expect") { "expect" } else { "expect-hex" };
        table.complain(key, format!("{key} is empty; write reply = true when any reply will do"));
    }
    let reply = table.flag("reply");
    if reply == Some(false) && expect.is_some() {
        table.complain("reply", "reply = false waits for nothing to expect; leave one of the two away");
    }
    CheckKind::Udp { send, reply: expect.or_else(|| (reply == Some(true)).then(Vec::new)) }
}

/// Bytes as a text, or as hexadecimal digits.
fn bytes(table: &mut Table<'_>, text: &'static str, digits: &'static str) -> Option<Vec<u8>> {
    let plain = table.text(text).map(String::into_bytes);
    let bytes = table.read(digits, |value| {
        let value: String = value.split_whitespace().collect();
        from_hex(&value).ok_or_else(|| {
            format!("{digits} `{value}` is no even number of hexadecimal digits, such as 00ff")
        })
    });
    if table.has(text) && table.has(digits) {
        table.complain(digits, format!("{text} and {digits} are both given; leave one of the two away"));
    }
    plain.or(bytes)
}

fn dns(table: &mut Table<'_>) -> Option<CheckKind> {
    let query = table.text("query");
    let record = table.word("record", &DnsRecord::WORDS).unwrap_or_default();
    let rcode = table.word("rcode", &DnsRcode::WORDS).unwrap_or_default();
    let answer = table.list("answer", |text| Ok(text.to_owned())).unwrap_or_default();
    let query = table.required("query", "\"example.org\"", query)?;
    Some(CheckKind::Dns { query, record, rcode, answer })
}

fn tls(table: &mut Table<'_>) -> CheckTls {
    let (name, ca) = (table.text("tls-name"), table.text("tls-ca"));
    CheckTls { name, ca, verify: table.flag("verify").unwrap_or(true) }
}
