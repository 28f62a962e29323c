//! Checkers of real servers.

use std::net::IpAddr;
use std::time::Duration;

use fulcrum_model::{
    BodyDigest, Check, CheckKind, CheckTls, DnsRcode, DnsRecord, HttpMethod, StatusRange, StatusSet,
};

use crate::draft::{Draft, Pace};
use crate::keepalived::server::number;
use crate::keepalived::tree::Node;
use crate::left_out::Place;
use crate::words::{is_plain, seconds, words_of};

/// keepalived's `delay_loop`, where nothing says another.
const INTERVAL: Duration = Duration::from_secs(60);
/// keepalived's `connect_timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The name with which keepalived greets mail servers.
const HELO: &str = "smtpchecker.keepalived.org";

/// What virtual servers, real servers and checkers say of checks, each for those below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    interval: Option<Duration>,
    /// With where it stands, to name it when it is longer than the interval.
    timeout: Option<(Duration, Place, String)>,
    retry: Option<u32>,
    virtual_host: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    source: Option<IpAddr>,
}

impl Habits {
    /// Takes a word in, if it is one of habits.
    pub(super) fn word(&mut self, draft: &mut Draft, word: &Node) -> bool {
        let first = word.words.get(1).map_or("", String::as_str);
        match word.name() {
            "delay_loop" => self.interval = read(draft, word, "a number of seconds", seconds),
            "connect_timeout" | "misc_timeout" => {
                let time = read(draft, word, "a number of seconds", seconds);
                self.timeout = time.map(|time| (time, word.place.clone(), word.text()));
            }
            "retry" | "nb_get_retry" => self.retry = number(draft, word),
            "virtualhost" => self.virtual_host = Some(first.to_owned()),
            "connect_ip" => self.address = read(draft, word, "an address", |text| text.parse().ok()),
            "connect_port" => self.port = number(draft, word),
            "bindto" => self.source = read(draft, word, "an address", |text| text.parse().ok()),
            "delay_before_retry" => {
                draft.leave_out(&word.place, word.text(), "after a failure the next probe comes as always");
            }
            "warmup" => {
                draft.leave_out(&word.place, word.text(), "first probes are spread over one interval")
            }
            "alpha" => draft.leave_out(
                &word.place,
                word.text(),
                "a server that was never asked is unknown, neither up nor down: see docs/health.md",
            ),
            "log_all_failures" => draft.leave_out(&word.place, word.text(), "the log has changes only"),
            "bind_port" | "bind_if" | "fwmark" => {
                draft.leave_out(&word.place, word.text(), "probes choose only their source address");
            }
            _ => return false,
        }
        true
    }

    /// A check by these habits that is tried again `retry` times unless they say otherwise.
    fn check(&self, draft: &mut Draft, kind: CheckKind, retry: u32) -> Check {
        let interval = self.interval.unwrap_or(INTERVAL);
        let timeout = match (&self.timeout, &kind) {
            (Some((timeout, place, text)), _) => {
                if *timeout > interval {
                    draft.leave_out(place, text, Pace::too_long(interval));
                }
                *timeout
            }
            (None, CheckKind::Exec { .. }) => interval,
            (None, _) => TIMEOUT,
        };
        let fall = self.retry.unwrap_or(retry).saturating_add(1);
        let port = self.port.filter(|_| kind.has_port());
        let check = Check { port, source: self.source, ..Check::new("", kind) };
        Pace { interval, timeout, fall }.of(check)
    }
}

/// What a word's argument is, if it is what it should be.
fn read<T>(draft: &mut Draft, word: &Node, right: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = word.words.get(1).map_or("", String::as_str);
    let found = read(text);
    if found.is_none() {
        draft.leave_out(&word.place, word.text(), format!("`{text}` is not {right}"));
    }
    found
}

/// Names of checks that a checker is, and where they ask instead of at the server's address.
pub(super) type Checks = (Vec<String>, Option<IpAddr>);

/// Whether a word of a real server is a checker.
pub(super) fn is_checker(word: &Node) -> bool {
    word.name().ends_with("_CHECK") || matches!(word.name(), "HTTP_GET" | "SSL_GET")
}

/// Reads a checker of a real server with these habits.
pub(super) fn checker(draft: &mut Draft, habits: &Habits, server: IpAddr, node: &Node) -> Checks {
    let mut habits = habits.clone();
    let mut own = Vec::new();
    for word in &node.block {
        if !habits.word(draft, word) {
            own.push(word);
        }
    }
    let checks = match node.name() {
        "TCP_CHECK" => {
            unknown(draft, own);
            vec![habits.check(draft, CheckKind::Tcp, 1)]
        }
        "PING_CHECK" => {
            unknown(draft, own);
            vec![habits.check(draft, CheckKind::Ping, 1)]
        }
        "HTTP_GET" => http(draft, &habits, None, &own),
        "SSL_GET" => http(draft, &habits, Some(CheckTls { verify: false, ..CheckTls::default() }), &own),
        "SMTP_CHECK" => smtp(draft, &mut habits, server, &own),
        "DNS_CHECK" => dns(draft, &habits, &own),
        "UDP_CHECK" => udp(draft, &habits, &own),
        "MISC_CHECK" => misc(draft, &habits, &own, node),
        _ => {
            draft.leave_out(
                &node.place,
                node.text(),
                "there is no such check; an exec check can ask a program",
            );
            Vec::new()
        }
    };
    let (place, what) = (&node.place, node.text());
    let names = checks.into_iter().filter_map(|check| draft.check(place, &what, check)).collect();
    (names, habits.address.filter(|address| *address != server))
}

/// Each `url` is a check of its own.
fn http(draft: &mut Draft, habits: &Habits, mut tls: Option<CheckTls>, own: &[&Node]) -> Vec<Check> {
    let mut urls = Vec::new();
    for word in own {
        match (word.name(), tls.as_mut(), word.words.get(1)) {
            ("url", ..) => urls.push(*word),
            ("sni_name", Some(tls), Some(name)) => tls.name = Some(name.clone()),
            // Always so here.
            ("enable_sni" | "fast_recovery", ..) => {}
            ("http_protocol", ..) => draft.leave_out(&word.place, word.text(), "requests are of HTTP/1.1"),
            _ => unknown(draft, vec![*word]),
        }
    }
    let mut checks = Vec::new();
    for url in urls {
        let kind = http_url(draft, habits, tls.clone(), url);
        checks.push(habits.check(draft, kind, 1));
    }
    checks
}

fn http_url(draft: &mut Draft, habits: &Habits, tls: Option<CheckTls>, url: &Node) -> CheckKind {
    let mut path = "/".to_owned();
    let mut host = habits.virtual_host.clone();
    let (mut status, mut digest, mut body) = (Vec::new(), None, None);
    for word in &url.block {
        let first = word.words.get(1).map_or("", String::as_str);
        match word.name() {
            "path" => path = first.to_owned(),
            "virtualhost" => host = Some(first.to_owned()),
            "digest" => match format!("md5:{first}").parse::<BodyDigest>() {
                Ok(read) => digest = Some(read),
                Err(_) => {
                    draft.leave_out(&word.place, word.text(), "an MD5 digest has 32 hexadecimal digits")
                }
            },
            "status_code" => {
                for range in &word.words[1..] {
                    match range.parse::<StatusSet>() {
                        Ok(read) => status.extend(read.0),
                        Err(error) => draft.leave_out(&word.place, word.text(), error.to_string()),
                    }
                }
            }
            "regex" if is_plain(first) => body = Some(first.to_owned()),
            name if name.starts_with("regex") => {
                draft.leave_out(
                    &word.place,
                    word.text(),
                    "a body is looked through for a text, not for a pattern",
                );
            }
            _ => unknown(draft, vec![word]),
        }
    }
    if status.is_empty() {
        // What is told by its digest may come with any status.
        let (first, last) = if digest.is_some() || body.is_some() { (100, 599) } else { (200, 299) };
        status.push(StatusRange { first, last });
    }
    let (method, status) = (HttpMethod::Get, StatusSet(status));
    CheckKind::Http { tls, method, path, host, status, body, digest }
}

fn smtp(draft: &mut Draft, habits: &mut Habits, server: IpAddr, own: &[&Node]) -> Vec<Check> {
    let mut helo = HELO.to_owned();
    let mut hosts: Vec<(&Node, Habits)> = Vec::new();
    for word in own {
        match (word.name(), word.words.get(1)) {
            ("helo_name", Some(name)) => helo = name.clone(),
            ("host", _) => {
                let mut of_host = habits.clone();
                for word in &word.block {
                    if !of_host.word(draft, word) {
                        unknown(draft, vec![word]);
                    }
                }
                hosts.push((*word, of_host));
            }
            _ => unknown(draft, vec![*word]),
        }
    }
    let kind = || CheckKind::Smtp { helo: Some(helo.clone()), tls: None };
    if hosts.is_empty() {
        return vec![habits.check(draft, kind(), 1)];
    }
    let mut checks = Vec::new();
    for (node, of_host) in hosts {
        match of_host.address.filter(|address| *address != server) {
            None => checks.push(of_host.check(draft, kind(), 1)),
            Some(address) => {
                let why = format!("a server's checks ask at one address; this one would ask at {address}");
                draft.leave_out(&node.place, node.text(), why);
            }
        }
    }
    checks
}

fn dns(draft: &mut Draft, habits: &Habits, own: &[&Node]) -> Vec<Check> {
    let (mut query, mut record) = (".".to_owned(), DnsRecord::Soa);
    for word in own {
        match (word.name(), word.words.get(1)) {
            ("name", Some(name)) => query = name.clone(),
            ("type", Some(name)) => match name.to_ascii_uppercase().parse() {
                Ok(read) => record = read,
                Err(error) => draft.leave_out(&word.place, word.text(), format!("{error}")),
            },
            _ => unknown(draft, vec![*word]),
        }
    }
    let kind = CheckKind::Dns { query, record, rcode: DnsRcode::NoError, answer: Vec::new() };
    vec![habits.check(draft, kind, 3)]
}

fn udp(draft: &mut Draft, habits: &Habits, own: &[&Node]) -> Vec<Check> {
    let (mut send, mut reply) = (Vec::new(), None);
    let bytes = |text: &str| {
        let digits: String = text.split_whitespace().collect();
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        pairs.map(|pair| u8::from_str_radix(pair.filter(|pair| pair.len() == 2)?, 16).ok()).collect()
    };
    for word in own {
        let text = word.words[1..].concat();
        let read: Option<Vec<u8>> = bytes(&text);
        match (word.name(), read) {
            ("payload", Some(read)) => send = read,
            ("require_reply", Some(read)) => reply = Some(read),
            ("require_reply", None) => {
                reply = Some(Vec::new());
                draft.leave_out(
                    &word.place,
                    word.text(),
                    "a pattern with gaps is not compared: any reply is good",
                );
            }
            _ => unknown(draft, vec![*word]),
        }
    }
    vec![habits.check(draft, CheckKind::Udp { send, reply }, 1)]
}

fn misc(draft: &mut Draft, habits: &Habits, own: &[&Node], node: &Node) -> Vec<Check> {
    let mut command = Vec::new();
    for word in own {
        match word.name() {
            "misc_path" => command = words_of(&word.words[1..].join(" ")),
            "misc_dynamic" => {
                draft.leave_out(
                    &word.place,
                    word.text(),
                    "exit codes set no weights: 0 is up, another one down",
                );
            }
            "user" => draft.leave_out(&word.place, word.text(), "programs run as fulcrum-control does"),
            _ => unknown(draft, vec![*word]),
        }
    }
    if command.is_empty() {
        draft.leave_out(&node.place, node.text(), "it names no program");
        return Vec::new();
    }
    let program = command.remove(0);
    vec![habits.check(draft, CheckKind::Exec { program, arguments: command }, 0)]
}

fn unknown(draft: &mut Draft, words: Vec<&Node>) {
    for word in words {
        draft.leave_out(&word.place, word.text(), "there is nothing like it");
    }
}
