//! From a [`Config`] to TOML that reads back as the same.

mod check;

use std::fmt::{self, Display, Write as _};
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::{Config, ControlSettings, Dataplane, HugePages};
use crate::state::{
    Admin, Announce, Announcement, Bond, BondHash, BondMode, ClientAddress, DEFAULT_ANNOUNCE_AFTER,
    Exception, Family, Interface, LocalPool, MarkRule, Neighbour, NextHop, Override, Port, PortRange,
    PortSteering, Route, RouteTarget, Server, ServerHealth, ServerKey, Service, ServiceHealth, ServiceKey,
    Settings, Snat, State, Timeouts, Tunnel, TunnelChecksum, TunnelKind, TunnelSource, VipOwner,
};

pub use check::{KEYS as CHECK_KEYS, entries as check_entries};

/// The whole file of a configuration.
pub fn to_toml(config: &Config) -> String {
    let mut out = Out::default();
    dataplane(&mut out, &config.dataplane);
    control(&mut out, &config.control);
    state(&mut out, &config.state);
    out.0
}

/// The file of a desired state, without `[dataplane]` and `[control]`.
pub fn state_to_toml(state: &State) -> String {
    let mut out = Out::default();
    self::state(&mut out, state);
    out.0
}

fn dataplane(out: &mut Out, dataplane: &Dataplane) {
    out.table("[dataplane]");
    out.text("lcores", &dataplane.lcores);
    let hugepages = match dataplane.hugepages {
        HugePages::Auto => "auto",
        HugePages::Off => "off",
    };
    out.text("hugepages", hugepages);
    out.bare("sessions", dataplane.sessions);
    out.text("idle", dataplane.idle.name());
    if dataplane.misdirect {
        out.bare("misdirect", true);
    }
    if let Some(socket) = &dataplane.socket {
        out.text("socket", socket.display());
    }
    if let Some(prefix) = &dataplane.file_prefix {
        out.text("file-prefix", prefix);
    }
    if let Some(collector) = dataplane.translation_log {
        out.text("translation-log", collector);
    }
    if dataplane.observation_domain != Dataplane::default().observation_domain {
        out.bare("observation-domain", dataplane.observation_domain);
    }
}

fn control(out: &mut Out, control: &ControlSettings) {
    if *control == ControlSettings::default() {
        return;
    }
    out.table("[control]");
    out.text("socket", control.socket.display());
    if let Some(path) = &control.ipvs_socket {
        out.text("ipvs-socket", path.display());
    }
    out.text("state-file", control.state_file.display());
    if let Some(address) = control.metrics {
        out.text("metrics", address);
    }
    if control.metrics_limit != ControlSettings::default().metrics_limit {
        out.bare("metrics-limit", control.metrics_limit);
    }
    if control.announce_interface != ControlSettings::default().announce_interface {
        out.text("announce-interface", &control.announce_interface);
    }
    if control.vips != VipOwner::Always {
        out.text("vips", control.vips.name());
    }
    if let Some(remote) = &control.remote {
        super::remote::write(out, remote);
    }
}

fn state(out: &mut Out, state: &State) {
    state.ports.iter().for_each(|p| port(out, p));
    state.interfaces.iter().for_each(|i| interface(out, i));
    state.routes.iter().for_each(|r| route(out, r));
    state.neighbours.iter().for_each(|n| neighbour(out, n));
    state.local_pools.iter().for_each(|p| local_pool(out, p));
    state.marks.iter().for_each(|rule| mark(out, rule));
    state.snat.iter().for_each(|rule| snat(out, rule));
    timeouts(out, &state.timeouts);
    settings(out, &state.settings);
    state.checks.iter().for_each(|c| check::check(out, "[[check]]", c));
    exception(out, &state.exception);
    state.overrides.iter().for_each(|o| over(out, o));
    state.services.iter().for_each(|s| service(out, s));
}

fn port(out: &mut Out, port: &Port) {
    out.table("[[port]]");
    out.text("name", &port.name);
    if port.bond.is_none() {
        out.text("device", &port.device);
    }
    if let Some(mac) = port.mac {
        out.text("mac", mac);
    }
    if port.steering != PortSteering::default() {
        out.text("steering", port.steering);
    }
    if let Some(Bond { mode, members }) = &port.bond {
        out.table("[port.bond]");
        out.text("mode", mode.name());
        out.list("members", members);
        match mode {
            BondMode::ActiveBackup { primary } => {
                primary.iter().for_each(|primary| out.text("primary", primary));
            }
            BondMode::Lacp { hash } if *hash != BondHash::default() => out.text("hash", hash),
            BondMode::Lacp { .. } => {}
        }
    }
}

fn exception(out: &mut Out, exception: &Exception) {
    let default = Exception::default();
    if *exception == default {
        return;
    }
    out.table("[exception]");
    for ((name, rate), (_, usual)) in exception.rates().into_iter().zip(default.rates()) {
        if rate != usual {
            out.bare(name, rate);
        }
    }
    if exception.management_ports != default.management_ports {
        out.numbers("management-ports", &exception.management_ports);
    }
}

fn interface(out: &mut Out, interface: &Interface) {
    out.table("[[interface]]");
    out.text("name", &interface.name);
    out.text("port", &interface.port);
    if interface.vlan != 0 {
        out.bare("vlan", interface.vlan);
    }
    if interface.mtu != 1500 {
        out.bare("mtu", interface.mtu);
    }
    if let Some(mss) = interface.mss {
        out.bare("mss", mss);
    }
    out.maybe("exception", interface.exception.as_ref());
    out.list("addresses", &interface.addresses);
}

/// As one text, as a list, or with weights.
fn next_hops(out: &mut Out, hops: &[NextHop]) {
    match hops {
        [NextHop { via, weight: 1 }] => out.text("via", via),
        _ if hops.iter().all(|hop| hop.weight == 1) => {
            let hops: Vec<IpAddr> = hops.iter().map(|hop| hop.via).collect();
            out.list("via", &hops);
        }
        _ => {
            let hop = |hop: &NextHop| format!("{{ via = \"{}\", weight = {} }}", hop.via, hop.weight);
            let hops: Vec<String> = hops.iter().map(hop).collect();
            out.bare("next-hop", format_args!("[{}]", hops.join(", ")));
        }
    }
}

fn route(out: &mut Out, route: &Route) {
    out.table("[[route]]");
    out.text("to", route.to);
    match &route.target {
        RouteTarget::Via(hops) => next_hops(out, hops),
        RouteTarget::Interface(name) => out.text("interface", name),
        RouteTarget::Unreachable => out.text("type", "unreachable"),
        RouteTarget::Blackhole => out.text("type", "blackhole"),
    }
    if let Some(mtu) = route.mtu {
        out.bare("mtu", mtu);
    }
}

fn neighbour(out: &mut Out, neighbour: &Neighbour) {
    out.table("[[neighbour]]");
    out.text("address", neighbour.address);
    out.text("mac", neighbour.mac);
    out.text("interface", &neighbour.interface);
}

fn local_pool(out: &mut Out, pool: &LocalPool) {
    out.table("[[local-pool]]");
    out.text("name", &pool.name);
    out.text("interface", &pool.interface);
    out.list("addresses", &pool.addresses);
    let PortRange { first, last } = pool.ports;
    out.text("ports", format_args!("{first}-{last}"));
}

fn mark(out: &mut Out, rule: &MarkRule) {
    out.table("[[mark]]");
    out.maybe("family", rule.family.map(Family::name));
    out.maybe("protocol", rule.protocol);
    out.maybe("source", rule.source);
    out.maybe("source-ports", ports(&rule.source_ports));
    out.maybe("destination", rule.destination);
    out.maybe("destination-ports", ports(&rule.destination_ports));
    out.maybe("interface", rule.interface.as_ref());
    out.bare("mark", rule.mark);
    if rule.mask != u32::MAX {
        out.bare("mask", format_args!("{:#x}", rule.mask));
    }
}

fn snat(out: &mut Out, rule: &Snat) {
    out.table("[[snat]]");
    out.text("name", &rule.name);
    out.text("source", rule.source);
    out.maybe("destination", rule.destination);
    out.maybe("protocol", rule.protocol);
    out.maybe("destination-ports", ports(&rule.destination_ports));
    match &rule.pool {
        Some(pool) => out.text("pool", pool),
        None => out.bare("exempt", true),
    }
}

fn over(out: &mut Out, over: &Override) {
    out.table("[[override]]");
    key(out, over.service);
    if over.full_nat {
        out.text("forward", "fullnat");
    }
    out.maybe("local-pool", over.local_pool.as_ref());
    out.maybe("interface", over.interface.as_ref());
    if let Some(mss) = over.mss {
        out.bare("mss", mss);
    }
    out.maybe("client-address", over.client_address);
}

fn ports(ranges: &[PortRange]) -> Option<String> {
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    (!ranges.is_empty()).then(|| ranges.join(","))
}

fn timeouts(out: &mut Out, timeouts: &Timeouts) {
    if *timeouts == Timeouts::default() {
        return;
    }
    out.table("[timeouts]");
    out.bare("tcp", timeouts.tcp);
    out.bare("tcp-fin", timeouts.tcp_fin);
    out.bare("udp", timeouts.udp);
    for (state, seconds) in &timeouts.states {
        out.bare(state.name(), seconds);
    }
}

/// Those that are not as IPVS has them.
fn settings(out: &mut Out, settings: &Settings) {
    if *settings == Settings::default() {
        return;
    }
    out.table("[ipvs]");
    let default = Settings::default();
    for name in Settings::NAMES {
        if let Some(value) = settings.get(name).filter(|value| default.get(name).as_ref() != Some(value)) {
            out.bare(name, value);
        }
    }
}

fn key(out: &mut Out, key: ServiceKey) {
    match key {
        ServiceKey::Address { protocol, address, port } => {
            out.text("address", ServerKey { address, port });
            out.text("protocol", protocol);
        }
        ServiceKey::Mark { family, mark } => {
            out.bare("mark", mark);
            out.text("family", family.name());
        }
    }
}

fn service(out: &mut Out, service: &Service) {
    out.table("[[service]]");
    key(out, service.key);
    out.text("scheduler", &service.scheduler);
    let flags = service.scheduler_flag_names();
    if !flags.is_empty() {
        out.list("scheduler-flags", &flags);
    }
    if service.one_packet {
        out.bare("one-packet", true);
    }
    if let Some(seconds) = service.persistent {
        out.bare("persistent", seconds);
    }
    match service.key.family() {
        Family::V4 => out.maybe("netmask", service.mask()),
        Family::V6 if service.prefix == Family::V6.bits() => {}
        Family::V6 => out.bare("netmask", service.prefix),
    }
    out.maybe("persistence-engine", service.persistence_engine.as_ref());
    out.maybe("local-pool", service.local_pool.as_ref());
    if !service.local_addresses.is_empty() {
        let addresses: Vec<_> = service.local_addresses.iter().map(|a| a.0).collect();
        out.list("local-addresses", &addresses);
    }
    out.maybe("interface", service.interface.as_ref());
    if let Some(mss) = service.mss {
        out.bare("mss", mss);
    }
    if service.client_address != ClientAddress::None {
        out.text("client-address", service.client_address);
    }
    if !service.timeouts.is_empty() {
        let each: Vec<String> = service.timeouts.iter().map(|(state, n)| format!("{state} = {n}")).collect();
        out.bare("timeouts", format_args!("{{ {} }}", each.join(", ")));
    }
    announcement(out, &service.announcement);
    health(out, &service.health);
    for server in &service.servers {
        out.table("[[service.server]]");
        self::server(out, server);
        server_health(out, &server.health);
        admin(out, server.admin);
    }
}

fn announcement(out: &mut Out, announcement: &Announcement) {
    if announcement.when != Announce::Never {
        out.text("announce", announcement.when);
    }
    out.maybe("announce-on", announcement.on.as_ref());
    if announcement.after != DEFAULT_ANNOUNCE_AFTER {
        out.bare("announce-after", announcement.after);
    }
}

fn health(out: &mut Out, health: &ServiceHealth) {
    let default = ServiceHealth::default();
    if !health.checks.is_empty() {
        out.list("checks", &health.checks);
    }
    if health.on_failure != default.on_failure {
        out.text("on-failure", health.on_failure);
    }
    for (key, value, usual) in [
        ("quorum", health.quorum, default.quorum),
        ("hysteresis", health.hysteresis, default.hysteresis),
        ("slow-start", health.slow_start, default.slow_start),
    ] {
        if value != usual {
            out.bare(key, value);
        }
    }
    health.own_checks.iter().for_each(|own| check::check(out, "[[service.check]]", own));
    if let Some(sorry) = &health.sorry_server {
        out.table("[service.sorry-server]");
        server(out, sorry);
    }
}

fn server_health(out: &mut Out, health: &ServerHealth) {
    if let Some(checks) = &health.checks {
        out.list("checks", checks);
    }
    out.maybe("on-failure", health.on_failure);
    out.maybe("check-address", health.address);
    if let Some(port) = health.port {
        out.bare("check-port", port);
    }
}

fn admin(out: &mut Out, admin: Admin) {
    if admin == Admin::Enabled {
        return;
    }
    out.text("admin", admin.name());
    if let Admin::Drain { until: Some(until) } = admin {
        let time = UNIX_EPOCH + Duration::from_secs(until);
        out.text("drain-until", humantime::format_rfc3339_seconds(time));
    }
}

fn server(out: &mut Out, server: &Server) {
    out.text("address", server.key);
    out.text("forward", server.forward);
    tunnel(out, server.tunnel);
    out.bare("weight", server.weight);
    if server.upper_threshold != 0 {
        out.bare("upper-threshold", server.upper_threshold);
    }
    if server.lower_threshold != 0 {
        out.bare("lower-threshold", server.lower_threshold);
    }
}

fn tunnel(out: &mut Out, tunnel: Tunnel) {
    match tunnel.kind {
        TunnelKind::Ipip => {}
        TunnelKind::Gre => out.text("tunnel", "gre"),
        TunnelKind::Gue { port } => {
            out.text("tunnel", "gue");
            out.bare("tunnel-port", port);
        }
    }
    match tunnel.checksum {
        TunnelChecksum::None => {}
        TunnelChecksum::Csum => out.text("tunnel-checksum", "csum"),
        TunnelChecksum::Remcsum => out.text("tunnel-checksum", "remcsum"),
    }
    match tunnel.source {
        TunnelSource::Interface => {}
        TunnelSource::Local => out.text("tunnel-source", "local"),
    }
}

/// TOML text that grows.
#[derive(Debug, Default)]
pub(super) struct Out(String);

impl Out {
    pub(super) fn table(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.line(format_args!("{gap}{header}"));
    }

    pub(super) fn text(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {}", quoted(value)));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn bare(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn numbers(&mut self, key: &str, values: &[u16]) {
        let values: Vec<String> = values.iter().map(u16::to_string).collect();
        self.line(format_args!("{key} = [{}]", values.join(", ")));
    }

    fn list<T: Display>(&mut self, key: &str, values: &[T]) {
        let values: Vec<String> = values.iter().map(quoted).collect();
        self.line(format_args!("{key} = [{}]", values.join(", ")));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }
}

fn quoted(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}
