//! Rules for checks.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Problem, add, name, unicast};
use crate::state::{Check, CheckKind, CheckTls, HttpMethod, StatusSet, Via};

/// How far apart probes may be.
pub const CHECK_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;

/// How long a probe may take, if that is not longer than the interval.
pub const CHECK_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=DAY;

/// How long bad answers of a new server may not count.
pub const CHECK_WARM_UP: RangeInclusive<Duration> = Duration::ZERO..=DAY;

/// How many equal answers in a row may be asked for.
pub const CHECK_ROW: RangeInclusive<u32> = 1..=1000;

/// The most bytes of a datagram that is sent, and of what its reply has in it.
pub const CHECK_BYTES: usize = 1024;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Rules for a named check.
pub fn check(check: &Check) -> Vec<Problem> {
    let mut found = Vec::new();
    name(&mut found, "a check", &check.name);
    found.extend(nameless_check(check));
    found
}

/// Rules for a check whatever its name.
pub fn nameless_check(check: &Check) -> Vec<Problem> {
    let mut found = Vec::new();
    let times = [
        ("interval", check.interval, CHECK_INTERVAL),
        ("timeout", check.timeout, CHECK_TIMEOUT),
        ("warm-up", check.warm_up, CHECK_WARM_UP),
    ];
    for (key, time, range) in times {
        time_in(&mut found, key, time, &range);
    }
    if check.timeout > check.interval {
        let (timeout, interval) = (spelled(check.timeout), spelled(check.interval));
        add(
            &mut found,
            "timeout",
            format!("timeout of {timeout} is longer than the interval, {interval}; at most that"),
        );
    }
    for (key, row) in [("rise", check.rise), ("fall", check.fall)] {
        if !CHECK_ROW.contains(&row) {
            let (least, most) = (CHECK_ROW.start(), CHECK_ROW.end());
            add(&mut found, key, format!("{key} of {row} is out of range; {least} to {most}"));
        }
    }
    if check.port == Some(0) {
        add(&mut found, "port", "port of 0 is out of range; 1 to 65535, or none for the server's");
    }
    if check.port.is_some() && !check.kind.has_port() {
        add(&mut found, "port", format!("a {} check has no port; leave port away", check.kind.name()));
    }
    if let Some(source) = check.source.filter(|source| !unicast(*source)) {
        add(&mut found, "source", format!("{source} is not an address that a host can have"));
    }
    if check.source.is_some() && check.via != Via::Direct {
        let via = check.via.name();
        add(&mut found, "source", format!("via \"{via}\" brings its own source address; leave source away"));
    }
    if matches!(check.kind, CheckKind::Exec { .. }) {
        if check.via != Via::Direct {
            add(
                &mut found,
                "via",
                "a program finds its own way; only via \"direct\" goes with type \"exec\"",
            );
        }
        if check.source.is_some() {
            add(&mut found, "source", "a program has its own source address; leave source away");
        }
    }
    kind(&mut found, &check.kind);
    if let Some(tls) = check.kind.tls() {
        self::tls(&mut found, tls);
    }
    found
}

fn kind(found: &mut Vec<Problem>, kind: &CheckKind) {
    match kind {
        CheckKind::Tcp | CheckKind::Ping => {}
        CheckKind::Http { method, path, host, status, body, digest, .. } => {
            if !path.starts_with('/') || !printable(path) {
                add(found, "path", format!("`{path}` is no path of a URL, such as /health; others as %20"));
            }
            if let Some(host) = host.as_ref().filter(|host| host.is_empty() || !printable(host)) {
                add(found, "host", format!("`{host}` is no host, such as www.example.org"));
            }
            self::status(found, status);
            for (key, given) in [("body", body.is_some()), ("digest", digest.is_some())] {
                if given && *method == HttpMethod::Head {
                    add(found, key, format!("an answer to HEAD has no body; use GET, or leave {key} away"));
                }
            }
            if body.as_ref().is_some_and(String::is_empty) {
                add(found, "body", "body is empty; give a text of it, or leave body away");
            }
        }
        CheckKind::Udp { send, reply } => {
            for (key, bytes) in [("send", Some(send)), ("expect", reply.as_ref())] {
                if let Some(bytes) = bytes.filter(|bytes| bytes.len() > CHECK_BYTES) {
                    add(found, key, format!("{key} has {} bytes; at most {CHECK_BYTES}", bytes.len()));
                }
            }
        }
        CheckKind::Dns { query, answer, .. } => {
            if !dns_name(query) {
                add(found, "query", format!("`{query}` is no domain name, such as example.org"));
            }
            if answer.iter().any(String::is_empty) {
                add(found, "answer", "an answer is empty; give a record's data, such as \"192.0.2.1\"");
            }
        }
        CheckKind::Smtp { helo, .. } => {
            if let Some(helo) = helo.as_ref().filter(|helo| helo.is_empty() || !printable(helo)) {
                add(found, "helo", format!("`{helo}` is no host's name, such as director.example.org"));
            }
        }
        CheckKind::Exec { program, arguments } => {
            absolute(found, "program", program, "/usr/lib/nagios/plugins/check_ldap");
            if arguments.iter().any(|argument| argument.contains('\0')) {
                add(found, "arguments", "an argument holds a zero byte, which no program can be given");
            }
        }
        CheckKind::Grpc { service, .. } => {
            if service.contains(char::is_control) {
                add(found, "service", "service holds control characters; such as \"shop.v1.Orders\"");
            }
        }
    }
}

fn status(found: &mut Vec<Problem>, status: &StatusSet) {
    if status.0.is_empty() {
        add(found, "status", "no status is good; such as \"200-299\"");
    }
    for range in &status.0 {
        if range.first > range.last {
            add(found, "status", format!("status {range} ends before it begins; swap the two"));
        } else if range.first < 100 || range.last > 599 {
            add(found, "status", format!("status {range} is out of range; 100 to 599"));
        }
    }
}

fn tls(found: &mut Vec<Problem>, tls: &CheckTls) {
    if let Some(name) = tls.name.as_ref().filter(|name| name.is_empty() || !printable(name)) {
        add(found, "tls-name", format!("`{name}` is no server's name, such as www.example.org"));
    }
    if let Some(ca) = &tls.ca {
        absolute(found, "tls-ca", ca, "/etc/fulcrum/ca.pem");
    }
    if tls.ca.is_some() && !tls.verify {
        add(found, "verify", "verify = false asks nobody to vouch for the server; leave tls-ca away");
    }
}

fn absolute(found: &mut Vec<Problem>, key: &'static str, path: &str, example: &str) {
    if !path.starts_with('/') || path.contains('\0') {
        add(found, key, format!("{key} `{path}` is no absolute path, such as {example}"));
    }
}

/// Whether a text can stand in a line of a protocol between blanks.
fn printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 1035, 2.3.4: labels of 1 to 63 bytes, 253 with their dots.
fn dns_name(name: &str) -> bool {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let labels = bare.split('.').all(|label| (1..=63).contains(&label.len()) && !label.contains('\\'));
    name == "." || (labels && bare.len() <= 253 && printable(bare))
}

fn time_in(found: &mut Vec<Problem>, key: &'static str, time: Duration, range: &RangeInclusive<Duration>) {
    if !range.contains(&time) {
        let (least, most) = (spelled(*range.start()), spelled(*range.end()));
        add(found, key, format!("{key} of {} is out of range; {least} to {most}", spelled(time)));
    } else if !time.subsec_nanos().is_multiple_of(1_000_000) {
        add(found, key, format!("{key} is no whole number of milliseconds"));
    }
}

/// A time as people say it: `2 s`, `500 ms`.
pub(crate) fn spelled(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}
