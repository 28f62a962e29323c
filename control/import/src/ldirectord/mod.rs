//! ldirectord.cf.
//!
//! Lives here: directives of the whole, and virtual services. Below: `text` reads, `server` are real servers and
//! fallbacks, `check` is what they are asked. Names of hosts are not looked up.

mod check;
mod server;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use fulcrum_model::{Family, OnFailure, Protocol, Service, ServiceKey, prefix_of_mask, scheduler_flag_words};

use crate::draft::Draft;
use crate::ldirectord::check::Negotiation;
use crate::ldirectord::text::{Directive, directives};
use crate::words::seconds;
use crate::{Import, ImportError};

/// Reads a configuration; `name` is the file's for the messages.
pub fn import(name: &str, text: &str) -> Result<Import, ImportError> {
    let read = directives(name, text)?;
    let mut draft = Draft::default();
    let mut habits = Habits::default();
    for directive in &read.global {
        if !habits.take(&mut draft, directive) {
            without(&mut draft, directive);
        }
    }
    for (head, body) in &read.services {
        service(&mut draft, &habits, head, body);
    }
    Ok(draft.finish())
}

/// What is said for the whole and may be said again for a service.
#[derive(Clone, Debug, Default)]
struct Habits {
    check_timeout: Option<Duration>,
    negotiate_timeout: Option<Duration>,
    interval: Option<Duration>,
    failures: Option<u32>,
    /// A directive that says a time-out, to name it when it is longer than the interval.
    said_timeout: Option<Directive>,
    quiescent: Option<bool>,
    /// Of both families.
    fallback: Option<Directive>,
    fallback6: Option<Directive>,
}

impl Habits {
    /// Takes a directive in, if it is one of these.
    fn take(&mut self, draft: &mut Draft, directive: &Directive) -> bool {
        if matches!(directive.name.as_str(), "checktimeout" | "negotiatetimeout") {
            self.said_timeout = Some(directive.clone());
        }
        match directive.name.as_str() {
            "checktimeout" => self.check_timeout = time(draft, directive),
            "negotiatetimeout" => self.negotiate_timeout = time(draft, directive),
            "checkinterval" => self.interval = time(draft, directive),
            "failurecount" | "checkcount" => self.failures = number(draft, directive),
            "quiescent" => self.quiescent = flag(draft, directive),
            "fallback" => self.fallback = Some(directive.clone()),
            "fallback6" => self.fallback6 = Some(directive.clone()),
            _ => return false,
        }
        true
    }

    /// These, where they do not say something, with what `others` say.
    fn or(self, others: &Habits) -> Habits {
        // One time-out stands for both where only one is said.
        let (check, negotiate) = (self.check_timeout, self.negotiate_timeout);
        Habits {
            check_timeout: check.or(negotiate).or(others.check_timeout).or(others.negotiate_timeout),
            negotiate_timeout: negotiate.or(check).or(others.negotiate_timeout).or(others.check_timeout),
            said_timeout: self.said_timeout.or_else(|| others.said_timeout.clone()),
            interval: self.interval.or(others.interval),
            failures: self.failures.or(others.failures),
            quiescent: self.quiescent.or(others.quiescent),
            fallback: self.fallback.or_else(|| others.fallback.clone()),
            fallback6: self.fallback6.or_else(|| others.fallback6.clone()),
        }
    }
}

fn service(draft: &mut Draft, global: &Habits, head: &Directive, body: &[Directive]) {
    let v6 = head.name == "virtual6";
    let mut habits = Habits::default();
    let mut negotiation = Negotiation::default();
    let (mut reals, mut flags) = (Vec::new(), None);
    let mut protocol = None;
    let bare = ServiceKey::Mark { family: if v6 { Family::V6 } else { Family::V4 }, mark: 1 };
    let mut service = Service::new(bare, "wrr");
    let mut bits = None;
    for directive in body {
        match directive.name.as_str() {
            "real" | "real6" => reals.push(directive),
            "scheduler" => service.scheduler = directive.value.clone(),
            "schedflags" => flags = Some(directive),
            "persistent" => service.persistent = number(draft, directive),
            "netmask" => {
                let mask = directive.value.parse().ok().and_then(prefix_of_mask);
                bits = mask.or_else(|| number(draft, directive));
            }
            "protocol" => match directive.value.as_str() {
                "tcp" => protocol = Some(Protocol::Tcp),
                "udp" => protocol = Some(Protocol::Udp),
                "fwm" => {}
                _ => draft.leave_out(&directive.place, directive.text(), "the protocol is tcp, udp or fwm"),
            },
            "ops" => service.one_packet = flag(draft, directive).unwrap_or_default(),
            _ if habits.take(draft, directive) || negotiation.take(draft, directive) => {}
            _ => without(draft, directive),
        }
    }
    let habits = habits.or(global);
    let Some(key) = key(draft, head, v6, protocol) else { return };
    service = Service { key, prefix: bits.unwrap_or(key.family().bits()), ..service };
    if let Some(flags) = flags {
        let words = scheduler_flag_words(&service.scheduler);
        for word in flags.value.split(',') {
            match words.iter().position(|known| *known == word.trim()) {
                Some(bit) => service.scheduler_flags |= 1 << bit,
                None => {
                    let why = format!("scheduler {} has no flag `{word}`", service.scheduler);
                    draft.leave_out(&flags.place, flags.text(), why);
                }
            }
        }
    }
    if habits.quiescent.unwrap_or(true) {
        service.health.on_failure = OnFailure::Quiesce;
    }
    for real in reals {
        server::real(draft, &habits, &negotiation, &mut service, real);
    }
    let fallback = if key.family() == Family::V6 { &habits.fallback6 } else { &habits.fallback };
    if let Some(fallback) = fallback {
        service.health.sorry_server = server::fallback(draft, &service, fallback).map(Box::new);
    }
    draft.service(&head.place, &head.text(), service);
}

/// `1.2.3.4:80`, `[fd00::1]:80`, or a mark.
fn key(draft: &mut Draft, head: &Directive, v6: bool, protocol: Option<Protocol>) -> Option<ServiceKey> {
    if let Ok(mark) = head.value.parse::<u32>()
        && mark != 0
    {
        return Some(ServiceKey::Mark { family: if v6 { Family::V6 } else { Family::V4 }, mark });
    }
    let Some((address, Some(port))) = address_port(&head.value) else {
        let why = "neither an address with a port nor a mark; names of hosts are not looked up";
        draft.leave_out(&head.place, head.text(), why);
        return None;
    };
    let protocol = protocol.unwrap_or(if port == 53 { Protocol::Udp } else { Protocol::Tcp });
    Some(ServiceKey::new(protocol, address, port))
}

/// An address, and a port by number or well-known name.
fn address_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(both) = text.parse::<SocketAddr>() {
        return Some((both.ip(), Some(both.port())));
    }
    let bare = |text: &str| {
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse::<IpAddr>().ok()
    };
    if let Some(address) = bare(text) {
        return Some((address, None));
    }
    let (address, port) = text.rsplit_once(':')?;
    Some((bare(address)?, Some(check::port_of(port)?)))
}

/// Names what there is nothing like.
fn without(draft: &mut Draft, directive: &Directive) {
    let why = match directive.name.as_str() {
        name if name.starts_with("emailalert") || name == "smtp" => {
            "no mail is sent: alert on the metrics, or follow `fulcrum events`"
        }
        "callback" | "fallbackcommand" => "no program is run on changes: follow `fulcrum events --follow`",
        "autoreload" => "`fulcrum apply` takes a file over, and fulcrum-control its own at SIGHUP",
        "logfile" | "monitorfile" => "the log goes to standard error, and from there to the journal",
        "execute" => "import that file, too",
        "fork" | "supervised" => "all servers are asked side by side by one process",
        "readdquiescent" => {
            "a server that was never asked is unknown, neither up nor down: see docs/health.md"
        }
        "cleanstop" => "services stay when fulcrum-control stops",
        "maintenancedir" => "use `fulcrum server drain` or `disable` instead",
        "servicename" | "comment" => "services have no names",
        _ => "there is nothing like it",
    };
    draft.leave_out(&directive.place, directive.text(), why);
}

fn number<T: FromStr>(draft: &mut Draft, directive: &Directive) -> Option<T> {
    let read = directive.value.parse().ok();
    if read.is_none() {
        let why = format!("`{}` is not a number that fits here", directive.value);
        draft.leave_out(&directive.place, directive.text(), why);
    }
    read
}

fn time(draft: &mut Draft, directive: &Directive) -> Option<Duration> {
    let read = seconds(&directive.value);
    if read.is_none() {
        let why = format!("`{}` is not a number of seconds", directive.value);
        draft.leave_out(&directive.place, directive.text(), why);
    }
    read
}

fn flag(draft: &mut Draft, directive: &Directive) -> Option<bool> {
    match directive.value.as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => {
            draft.leave_out(&directive.place, directive.text(), "it is yes or no");
            None
        }
    }
}
