//! `virtual_server` and `real_server`.

use std::net::IpAddr;
use std::str::FromStr;

use fulcrum_model::{
    ClientAddress, Family, Forward, OnFailure, Protocol, Server, ServerKey, Service, ServiceKey, Tunnel,
    TunnelChecksum, TunnelKind, prefix_of_mask, scheduler_flag_words,
};

use crate::draft::Draft;
use crate::keepalived::check::{self, Habits};
use crate::keepalived::group::{Groups, Target};
use crate::keepalived::tree::Node;

/// keepalived's, for `persistence_timeout` without a number.
const PERSISTENCE: u32 = 360;

/// What servers do unless they say otherwise.
#[derive(Clone, Debug)]
struct Defaults {
    forward: Forward,
    tunnel: Tunnel,
    inhibit: bool,
    habits: Habits,
}

/// Reads `virtual_server … { … }`: a group is as many services.
pub(super) fn virtual_server(draft: &mut Draft, groups: &Groups, node: &Node) {
    let targets = groups.targets(draft, &node.place, &node.words[1..]);
    let mut reading = Reading::new();
    // What servers inherit may stand behind them.
    for word in node.block.iter().filter(|word| word.name() != "real_server") {
        reading.word(draft, word);
    }
    let defaults = reading.defaults.clone();
    let real = node.block.iter().filter(|word| word.name() == "real_server");
    let servers: Vec<Real> = real.filter_map(|node| real_server(draft, &defaults, node)).collect();
    let flags = reading.flags();
    for (word, place) in flags.1 {
        draft.leave_out(&place, word, format!("scheduler {} has no such flag", reading.template.scheduler));
    }
    reading.template.scheduler_flags = flags.0;
    for target in targets {
        let key = match target {
            Target::Address(address, port) => ServiceKey::new(reading.protocol, address, port),
            Target::Mark(mark, family) => {
                let servers = || servers.first().map(|real| Family::of(real.server.key.address));
                let family = family.or(reading.family).or_else(servers).unwrap_or(Family::V4);
                ServiceKey::Mark { family, mark }
            }
        };
        let mut service = Service { key, ..reading.template.clone() };
        service.prefix = reading.bits.unwrap_or(key.family().bits());
        service.servers = servers.iter().map(|real| real.of(&service)).collect();
        let sorry = reading.sorry.map(|(address, port)| {
            let (forward, tunnel) = reading.sorry_method.unwrap_or((defaults.forward, defaults.tunnel));
            let server = Server { tunnel, ..Server::new(ServerKey { address, port: 0 }, forward) };
            Box::new(Real { server, port }.of(&service))
        });
        service.health.sorry_server = sorry;
        draft.service(&node.place, &node.text(), service);
    }
}

/// A real server, and its port where it says one.
#[derive(Clone, Debug)]
struct Real {
    server: Server,
    port: Option<u16>,
}

impl Real {
    /// As a server of this service: without a port of its own it has the service's, and where packets go on as they
    /// are there is no other.
    fn of(&self, service: &Service) -> Server {
        let (own, asked) = (self.port, service.key.port());
        let port = match self.server.forward {
            Forward::Dr | Forward::Tun | Forward::Local => asked.or(own),
            Forward::Nat | Forward::FullNat => own.or(asked),
        };
        let key = ServerKey { port: port.unwrap_or(0), ..self.server.key };
        Server { key, ..self.server.clone() }
    }
}

/// A virtual server as far as it is read.
struct Reading {
    /// Its key does not matter.
    template: Service,
    protocol: Protocol,
    family: Option<Family>,
    bits: Option<u8>,
    /// Words that are flags of the scheduler, which may be named later.
    words: Vec<(String, crate::Place)>,
    sorry: Option<(IpAddr, Option<u16>)>,
    sorry_method: Option<(Forward, Tunnel)>,
    defaults: Defaults,
}

impl Reading {
    fn new() -> Reading {
        let key = ServiceKey::Mark { family: Family::V4, mark: 1 };
        let habits = Habits::default();
        let defaults = Defaults { forward: Forward::Nat, tunnel: Tunnel::default(), inhibit: false, habits };
        Reading {
            template: Service::new(key, "wlc"),
            protocol: Protocol::Tcp,
            family: None,
            bits: None,
            words: Vec::new(),
            sorry: None,
            sorry_method: None,
            defaults,
        }
    }

    fn word(&mut self, draft: &mut Draft, word: &Node) {
        let (template, defaults) = (&mut self.template, &mut self.defaults);
        let first = word.words.get(1).map_or("", String::as_str);
        match word.name() {
            "lb_algo" | "lvs_sched" => template.scheduler = first.to_owned(),
            // Every service is.
            "hashed" => {}
            flag if flag.starts_with("flag-") || flag.starts_with("sh-") || flag.starts_with("mh-") => {
                self.words.push((flag.to_owned(), word.place.clone()));
            }
            "ops" => template.one_packet = true,
            "lb_kind" | "lvs_method" => {
                let Some((forward, tunnel)) = method(draft, word) else { return };
                (defaults.forward, defaults.tunnel) = (forward, tunnel);
            }
            "protocol" => match first.to_ascii_uppercase().as_str() {
                "TCP" => self.protocol = Protocol::Tcp,
                "UDP" => self.protocol = Protocol::Udp,
                "SCTP" => self.protocol = Protocol::Sctp,
                _ => draft.leave_out(&word.place, word.text(), "the protocol is TCP, UDP or SCTP"),
            },
            "ip_family" => self.family = Some(if first == "inet6" { Family::V6 } else { Family::V4 }),
            "persistence_engine" => template.persistence_engine = Some(first.to_owned()),
            "persistence_timeout" => {
                template.persistent = match word.words.len() {
                    1 => Some(PERSISTENCE),
                    _ => number(draft, word),
                };
            }
            "persistence_granularity" => {
                let mask = first.parse().ok().and_then(prefix_of_mask);
                self.bits = mask.or_else(|| number(draft, word));
            }
            "quorum" => template.health.quorum = number(draft, word).unwrap_or(1),
            "hysteresis" => template.health.hysteresis = number(draft, word).unwrap_or(0),
            "sorry_server" => {
                self.sorry = first.parse().ok().map(|address| (address, port(draft, word)));
                if self.sorry.is_none() {
                    draft.leave_out(&word.place, word.text(), format!("`{first}` is not an address"));
                }
            }
            "sorry_server_lvs_method" => self.sorry_method = method(draft, word),
            "inhibit_on_failure" => defaults.inhibit = true,
            // DPVS's.
            "laddr_group_name" => template.local_pool = Some(first.to_owned()),
            "establish_timeout" => {
                if let (Some(seconds), Ok(state)) = (number(draft, word), "tcp-established".parse()) {
                    template.timeouts.insert(state, seconds);
                }
            }
            "proxy_protocol" => {
                template.client_address = match first {
                    "v1" => ClientAddress::ProxyV1,
                    "v2" => ClientAddress::ProxyV2,
                    _ => return draft.leave_out(&word.place, word.text(), "the version is v1 or v2"),
                };
            }
            _ if defaults.habits.word(draft, word) => {}
            _ => without(draft, word),
        }
    }

    /// Bits of the flags that were named, and those that the scheduler does not have.
    fn flags(&self) -> (u8, Vec<(String, crate::Place)>) {
        let words = scheduler_flag_words(&self.template.scheduler);
        let bit = |word: &str| words.iter().chain(&scheduler_flag_words("")).position(|known| *known == word);
        let mut bits = 0;
        let unknown = self.words.iter().filter(|(word, _)| match bit(word) {
            Some(bit) => {
                bits |= 1 << (bit % 3);
                false
            }
            None => true,
        });
        let unknown = unknown.cloned().collect();
        (bits, unknown)
    }
}

fn real_server(draft: &mut Draft, defaults: &Defaults, node: &Node) -> Option<Real> {
    let first = node.words.get(1).map_or("", String::as_str);
    let Ok(address) = first.parse::<IpAddr>() else {
        draft.leave_out(&node.place, node.text(), format!("`{first}` is not an address"));
        return None;
    };
    let port = port(draft, node);
    let mut server = Server::new(ServerKey { address, port: 0 }, defaults.forward);
    server.tunnel = defaults.tunnel;
    let mut inhibit = defaults.inhibit;
    let mut habits = defaults.habits.clone();
    for word in node.block.iter().filter(|word| !check::is_checker(word)) {
        match word.name() {
            "weight" => server.weight = number(draft, word).unwrap_or(1),
            "uthreshold" => server.upper_threshold = number(draft, word).unwrap_or(0),
            "lthreshold" => server.lower_threshold = number(draft, word).unwrap_or(0),
            "lvs_method" | "lb_kind" => {
                if let Some((forward, tunnel)) = method(draft, word) {
                    (server.forward, server.tunnel) = (forward, tunnel);
                }
            }
            "inhibit_on_failure" => inhibit = true,
            _ if habits.word(draft, word) => {}
            _ => without(draft, word),
        }
    }
    if inhibit {
        server.health.on_failure = Some(OnFailure::Quiesce);
    }
    let checkers = node.block.iter().filter(|word| check::is_checker(word));
    let mut names = Vec::new();
    let mut asked = None;
    for checker in checkers {
        let (found, elsewhere) = check::checker(draft, &habits, address, checker);
        if !found.is_empty() && *asked.get_or_insert(elsewhere) != elsewhere {
            let why = "a server's checks ask at one address; this one asks at that of the first";
            draft.leave_out(&checker.place, checker.text(), why);
        }
        names.extend(found.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    server.health.address = asked.flatten();
    server.health.checks = Some(names);
    Some(Real { server, port })
}

/// `NAT`, `DR`, `TUN [type ipip | gre … | gue port N …]`, DPVS's `FNAT`.
fn method(draft: &mut Draft, word: &Node) -> Option<(Forward, Tunnel)> {
    let words = word.arguments();
    let forward = match words.first().map(|word| word.to_ascii_uppercase()).as_deref() {
        Some("NAT") => Forward::Nat,
        Some("DR") => Forward::Dr,
        Some("TUN") => Forward::Tun,
        Some("FNAT") => Forward::FullNat,
        _ => {
            draft.leave_out(&word.place, word.text(), "the way of forwarding is NAT, DR, TUN or FNAT");
            return None;
        }
    };
    let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
    let kind = match after("type").copied() {
        Some("gre") => TunnelKind::Gre,
        Some("gue") => match after("port").and_then(|port| port.parse().ok()) {
            Some(port) => TunnelKind::Gue { port },
            None => {
                draft.leave_out(&word.place, word.text(), "a gue tunnel needs a port");
                return None;
            }
        },
        _ => TunnelKind::Ipip,
    };
    let checksum = match words.last().copied() {
        Some("csum") => TunnelChecksum::Csum,
        Some("remcsum") => TunnelChecksum::Remcsum,
        _ => TunnelChecksum::None,
    };
    Some((forward, Tunnel { kind, checksum, ..Tunnel::default() }))
}

/// Names what neither a virtual nor a real server has here.
fn without(draft: &mut Draft, word: &Node) {
    let why = match word.name() {
        "notify_up" | "notify_down" | "quorum_up" | "quorum_down" => {
            "no program is run on changes: follow `fulcrum events --follow`"
        }
        "smtp_alert" => "no mail is sent: alert on the metrics, or follow `fulcrum events`",
        "omega" => "nothing happens to servers when fulcrum-control stops",
        "ha_suspend" => "servers are asked whether the VIP is here or not",
        "sorry_server_inhibit" => "a sorry server that is not needed is taken out",
        "snmp_name" => "there is no SNMP; metrics are at /metrics",
        "syn_proxy" => "SYNs are not answered for servers",
        "expire_quiescent_conn" => "see expire_quiescent_template and expire_nodest_conn in [ipvs]",
        _ => "there is nothing like it",
    };
    draft.leave_out(&word.place, word.text(), why);
}

/// The port behind the address, if there is one.
fn port(draft: &mut Draft, word: &Node) -> Option<u16> {
    let text = word.words.get(2)?;
    let port = text.parse().ok();
    if port.is_none() {
        draft.leave_out(&word.place, word.text(), format!("`{text}` is not a port"));
    }
    port
}

/// The number behind a word.
pub(super) fn number<T: FromStr>(draft: &mut Draft, word: &Node) -> Option<T> {
    let text = word.words.get(1).map_or("", String::as_str);
    let read = text.parse().ok();
    if read.is_none() {
        draft.leave_out(&word.place, word.text(), format!("`{text}` is not a number that fits here"));
    }
    read
}
