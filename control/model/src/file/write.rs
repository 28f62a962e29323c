//! From a [`Config`] to TOML that reads back as the same.

use std::fmt::{self, Display, Write as _};

use super::{Config, ControlSettings, Dataplane, HugePages, Idle};
use crate::state::{
    Interface, LocalPool, Neighbour, Port, PortRange, Route, RouteTarget, Server, ServerKey, Service,
    ServiceKey, Settings, State, Timeouts,
};

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
    let idle = match dataplane.idle {
        Idle::Poll => "poll",
        Idle::Adaptive => "adaptive",
    };
    out.text("idle", idle);
    if dataplane.misdirect {
        out.bare("misdirect", true);
    }
    if let Some(socket) = &dataplane.socket {
        out.text("socket", socket.display());
    }
    if let Some(prefix) = &dataplane.file_prefix {
        out.text("file-prefix", prefix);
    }
}

fn control(out: &mut Out, control: &ControlSettings) {
    if *control == ControlSettings::default() {
        return;
    }
    out.table("[control]");
    out.text("socket", control.socket.display());
    out.text("state-file", control.state_file.display());
}

fn state(out: &mut Out, state: &State) {
    state.ports.iter().for_each(|p| port(out, p));
    state.interfaces.iter().for_each(|i| interface(out, i));
    state.routes.iter().for_each(|r| route(out, r));
    state.neighbours.iter().for_each(|n| neighbour(out, n));
    state.local_pools.iter().for_each(|p| local_pool(out, p));
    timeouts(out, &state.timeouts);
    settings(out, &state.settings);
    state.services.iter().for_each(|s| service(out, s));
}

fn port(out: &mut Out, port: &Port) {
    out.table("[[port]]");
    out.text("name", &port.name);
    out.text("device", &port.device);
    if let Some(mac) = port.mac {
        out.text("mac", mac);
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
    out.list("addresses", &interface.addresses);
}

fn route(out: &mut Out, route: &Route) {
    out.table("[[route]]");
    out.text("to", route.to);
    match &route.target {
        RouteTarget::Via(gateway) => out.text("via", gateway),
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

fn timeouts(out: &mut Out, timeouts: &Timeouts) {
    if *timeouts == Timeouts::default() {
        return;
    }
    out.table("[timeouts]");
    out.bare("tcp", timeouts.tcp);
    out.bare("tcp-fin", timeouts.tcp_fin);
    out.bare("udp", timeouts.udp);
}

fn settings(out: &mut Out, settings: &Settings) {
    if *settings == Settings::default() {
        return;
    }
    out.table("[ipvs]");
    out.bare("expire_nodest_conn", settings.expire_nodest_conn);
    out.bare("conn_reuse_mode", settings.conn_reuse_mode);
    out.bare("expire_quiescent_template", settings.expire_quiescent_template);
    out.bare("sloppy_tcp", settings.sloppy_tcp);
    out.bare("nat_icmp_send", settings.nat_icmp_send);
    out.bare("ip_forward", settings.ip_forward);
}

fn service(out: &mut Out, service: &Service) {
    out.table("[[service]]");
    if let ServiceKey::Address { protocol, address, port } = service.key {
        out.text("address", ServerKey { address, port });
        out.text("protocol", protocol);
    }
    out.text("scheduler", &service.scheduler);
    if let Some(seconds) = service.persistent {
        out.bare("persistent", seconds);
    }
    if let Some(mask) = service.mask() {
        out.text("netmask", mask);
    }
    if let Some(pool) = &service.local_pool {
        out.text("local-pool", pool);
    }
    if !service.local_addresses.is_empty() {
        let addresses: Vec<_> = service.local_addresses.iter().map(|a| a.0).collect();
        out.list("local-addresses", &addresses);
    }
    if let Some(interface) = &service.interface {
        out.text("interface", interface);
    }
    service.servers.iter().for_each(|s| server(out, s));
}

fn server(out: &mut Out, server: &Server) {
    out.table("[[service.server]]");
    out.text("address", server.key);
    out.text("forward", server.forward);
    out.bare("weight", server.weight);
    if server.upper_threshold != 0 {
        out.bare("upper-threshold", server.upper_threshold);
    }
    if server.lower_threshold != 0 {
        out.bare("lower-threshold", server.lower_threshold);
    }
}

/// TOML text that grows.
#[derive(Debug, Default)]
struct Out(String);

impl Out {
    fn table(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.line(format_args!("{gap}{header}"));
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {}", quoted(value)));
    }

    fn bare(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
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
