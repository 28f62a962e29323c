//! From TOML to a [`Config`]: shapes first, then the rules of `validate`, each mistake with its place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use toml::de::DeTable;

use super::table::{Found, Places, Sink, Table};
use super::{Config, ControlSettings, Dataplane, HugePages, Idle};
use crate::state::{
    AddressRange, Forward, Interface, LocalAddress, LocalPool, Neighbour, Port, PortRange, Protocol, Route,
    RouteTarget, Server, ServerKey, Service, ServiceKey, Settings, State, Timeouts, prefix_of_mask,
};
use crate::validate::{self, DEFAULT_SCHEDULER, MAX_TIMEOUT, MAX_WEIGHT, Place};

/// Reads a file's text. Mistakes of shape hide those of meaning, because these would often be mere echoes.
pub(super) fn config(text: &str) -> Result<Config, Vec<Found>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let found =
            errors.iter().map(|e| (e.span().map_or(0, |s| s.start), format!("not TOML: {}", e.message())));
        return Err(found.collect());
    }
    let sink = Sink::default();
    let mut places = HashMap::new();
    let mut root = Table::new("the file", 0, document.get_ref(), &sink);
    let dataplane = dataplane(&mut root);
    let control = control(&mut root);
    let state = state(&mut root, &mut places);
    root.finish();
    let found = sink.take();
    if !found.is_empty() {
        return Err(found);
    }
    let broken = validate::state(&state);
    if broken.is_empty() {
        return Ok(Config { dataplane, control, state });
    }
    let offset =
        |place: &Place, p: &validate::Problem| places.get(place).map_or(0, |at| at.offset(p.key, p.item));
    Err(broken.into_iter().map(|(place, p)| (offset(&place, &p), p.message)).collect())
}

fn dataplane(root: &mut Table<'_>) -> Dataplane {
    let default = Dataplane::default();
    let Some(mut table) = root.table("dataplane", "[dataplane]") else { return default };
    let read = Dataplane {
        lcores: table.text("lcores").unwrap_or(default.lcores),
        hugepages: table
            .word("hugepages", &[("auto", HugePages::Auto), ("off", HugePages::Off)])
            .unwrap_or(default.hugepages),
        sessions: table.number("sessions", 1024..=1u32 << 30).map_or(default.sessions, |n| n as usize),
        idle: table
            .word("idle", &[("poll", Idle::Poll), ("adaptive", Idle::Adaptive)])
            .unwrap_or(default.idle),
        misdirect: table.flag("misdirect").unwrap_or(default.misdirect),
        socket: table.text("socket").map(Into::into),
        file_prefix: table.text("file-prefix"),
    };
    if read.worker_lcores().is_none() {
        let message =
            format!("lcores `{}` is no list of lcores; such as \"1\", \"1-3\" or \"1,3\"", read.lcores);
        table.complain("lcores", message);
    }
    if read.file_prefix.as_ref().is_some_and(|p| p.is_empty() || p.contains('/')) {
        table.complain("file-prefix", "file-prefix must be a name without `/`, such as \"second\"");
    }
    table.finish();
    read
}

fn control(root: &mut Table<'_>) -> ControlSettings {
    let default = ControlSettings::default();
    let Some(mut table) = root.table("control", "[control]") else { return default };
    let read = ControlSettings {
        socket: table.text("socket").map_or(default.socket, Into::into),
        state_file: table.text("state-file").map_or(default.state_file, Into::into),
    };
    table.finish();
    read
}

fn state(root: &mut Table<'_>, places: &mut HashMap<Place, Places>) -> State {
    let mut state = State::default();
    for mut table in root.tables("port", "[[port]]") {
        let read = port(&mut table);
        keep(&mut state.ports, read, Place::Port, table.finish(), places);
    }
    for mut table in root.tables("interface", "[[interface]]") {
        let read = interface(&mut table);
        keep(&mut state.interfaces, read, Place::Interface, table.finish(), places);
    }
    for mut table in root.tables("route", "[[route]]") {
        let read = route(&mut table);
        keep(&mut state.routes, read, Place::Route, table.finish(), places);
    }
    for mut table in root.tables("neighbour", "[[neighbour]]") {
        let read = neighbour(&mut table);
        keep(&mut state.neighbours, read, Place::Neighbour, table.finish(), places);
    }
    for mut table in root.tables("local-pool", "[[local-pool]]") {
        let read = local_pool(&mut table);
        keep(&mut state.local_pools, read, Place::LocalPool, table.finish(), places);
    }
    for mut table in root.tables("service", "[[service]]") {
        let at = state.services.len();
        let read = service(&mut table, |nth, at_server| {
            places.insert(Place::Server(at, nth), at_server);
        });
        keep(&mut state.services, read, Place::Service, table.finish(), places);
    }
    if let Some(mut table) = root.table("timeouts", "[timeouts]") {
        state.timeouts = timeouts(&mut table);
        places.insert(Place::Timeouts, table.finish());
    }
    if let Some(mut table) = root.table("ipvs", "[ipvs]") {
        state.settings = settings(&mut table);
        places.insert(Place::Settings, table.finish());
    }
    state
}

/// Keeps an object that could be read, with its places.
fn keep<T>(
    list: &mut Vec<T>,
    read: Option<T>,
    place: impl Fn(usize) -> Place,
    at: Places,
    places: &mut HashMap<Place, Places>,
) {
    if let Some(read) = read {
        places.insert(place(list.len()), at);
        list.push(read);
    }
}

fn port(table: &mut Table<'_>) -> Option<Port> {
    let name = table.text("name");
    let device = table.text("device");
    let mac = table.parsed("mac", "a MAC address, such as 02:00:00:00:01:01");
    let name = table.required("name", "\"wan\"", name);
    Some(Port { device: table.required("device", "\"eth1\"", device)?, name: name?, mac })
}

fn interface(table: &mut Table<'_>) -> Option<Interface> {
    let name = table.text("name");
    let port = table.text("port");
    let vlan = table.number("vlan", 0..=4094).unwrap_or(0);
    let mtu = table.number("mtu", 576..=9000).unwrap_or(1500);
    let addresses = table.list("addresses", |text| {
        text.parse::<IpNet>()
            .map_err(|_| format!("`{text}` is not an address with its subnet, such as 172.16.100.1/24"))
    });
    let name = table.required("name", "\"wan\"", name);
    let port = table.required("port", "\"wan\"", port);
    Some(Interface {
        name: name?,
        port: port?,
        vlan,
        mtu,
        addresses: addresses.unwrap_or_default(),
        mss: None,
    })
}

fn route(table: &mut Table<'_>) -> Option<Route> {
    let to = table.parsed("to", "a prefix, such as 10.1.0.0/16");
    let via = table.parsed::<IpAddr>("via", "an IP address, such as 172.16.100.254").map(RouteTarget::Via);
    let interface = table.text("interface").map(RouteTarget::Interface);
    let refusal = table.word("type", &[("unreachable", false), ("blackhole", true)]);
    let refusal =
        refusal.map(|silent| if silent { RouteTarget::Blackhole } else { RouteTarget::Unreachable });
    let mtu = table.number("mtu", 576..=9000);
    let to = table.required("to", "\"0.0.0.0/0\"", to);
    let mut targets: Vec<RouteTarget> = [via, interface, refusal].into_iter().flatten().collect();
    if targets.len() != 1 {
        let count = if targets.is_empty() { "no" } else { "more than one" };
        let rule = "give one of `via = ADDRESS`, `interface = NAME`, `type = \"unreachable\"|\"blackhole\"`";
        table.complain("", format!("[[route]] has {count} target; {rule}"));
        return None;
    }
    Some(Route { to: to?, target: targets.remove(0), mtu })
}

fn neighbour(table: &mut Table<'_>) -> Option<Neighbour> {
    let address = table.parsed("address", "an IP address, such as 192.168.20.7");
    let mac = table.parsed("mac", "a MAC address, such as 02:00:00:00:20:07");
    let interface = table.text("interface");
    let address = table.required("address", "\"192.168.20.7\"", address);
    let mac = table.required("mac", "\"02:00:00:00:20:07\"", mac);
    let interface = table.required("interface", "\"lan\"", interface);
    Some(Neighbour { address: address?, mac: mac?, interface: interface? })
}

fn local_pool(table: &mut Table<'_>) -> Option<LocalPool> {
    let name = table.text("name");
    let interface = table.text("interface");
    let addresses = table.list("addresses", |text| {
        address_range(text).ok_or_else(|| {
            format!("`{text}` is not a range of IPv4 addresses, such as 192.168.20.200-192.168.20.203")
        })
    });
    let ports = table.text("ports");
    let ports = ports.map(|text| {
        let range = port_range(&text);
        if range.is_none() {
            table.complain("ports", format!("`{text}` is not a range of ports; such as \"1024-65535\""));
        }
        range.unwrap_or_default()
    });
    let name = table.required("name", "\"inside\"", name);
    let interface = table.required("interface", "\"lan\"", interface);
    let addresses = table.required("addresses", "[\"192.168.20.200-192.168.20.203\"]", addresses);
    Some(LocalPool {
        name: name?,
        interface: interface?,
        addresses: addresses?,
        ports: ports.unwrap_or_default(),
    })
}

fn service(table: &mut Table<'_>, mut server_at: impl FnMut(usize, Places)) -> Option<Service> {
    let address = table.text("address");
    let protocol = table.word("protocol", &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]);
    let scheduler = table.text("scheduler").unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned());
    let persistent = table.number("persistent", 0..=MAX_TIMEOUT).filter(|seconds| *seconds != 0);
    let netmask = table.parsed::<Ipv4Addr>("netmask", "a mask, such as 255.255.255.0");
    let prefix = netmask.map(|mask| {
        let prefix = prefix_of_mask(mask);
        if prefix.is_none() {
            table.complain("netmask", format!("netmask {mask} has holes; such as 255.255.255.0"));
        }
        prefix.unwrap_or(32)
    });
    let local_pool = table.text("local-pool");
    let local_addresses = table.list("local-addresses", |text| {
        text.parse()
            .map(LocalAddress)
            .map_err(|_| format!("`{text}` is not an IP address, such as 192.168.20.200"))
    });
    let interface = table.text("interface");
    let address = table.required("address", "\"172.16.100.9:80\"", address);
    let protocol = table.required("protocol", "\"tcp\"", protocol);
    let address = address.and_then(|text| {
        let read = address_port(&text);
        if read.is_none() {
            table.complain(
                "address",
                format!("`{text}` is not an address with a port, such as 172.16.100.9:80"),
            );
        }
        read
    });
    let vip_port = address.map_or(0, |(_, port)| port.unwrap_or(0));
    let mut servers = Vec::new();
    for mut table in table.tables("server", "[[service.server]]") {
        let read = server(&mut table, vip_port);
        let at = table.finish();
        if let Some(server) = read {
            server_at(servers.len(), at);
            servers.push(server);
        }
    }
    let (address, port) = address?;
    let key = ServiceKey::new(protocol?, address, port.unwrap_or(0));
    Some(Service {
        persistent,
        prefix: prefix.unwrap_or(key.family().bits()),
        local_pool,
        local_addresses: local_addresses.unwrap_or_default(),
        interface,
        servers,
        ..Service::new(key, &scheduler)
    })
}

fn server(table: &mut Table<'_>, vip_port: u16) -> Option<Server> {
    let address = table.text("address");
    let methods =
        [("nat", Forward::Nat), ("fullnat", Forward::FullNat), ("dr", Forward::Dr), ("tun", Forward::Tun)];
    let forward = table.word("forward", &methods);
    let weight = table.number("weight", 0..=MAX_WEIGHT).unwrap_or(1);
    let upper_threshold = table.number("upper-threshold", 0..=u32::MAX).unwrap_or(0);
    let lower_threshold = table.number("lower-threshold", 0..=u32::MAX).unwrap_or(0);
    let address = table.required("address", "\"192.168.20.7:8080\"", address);
    let forward = table.required("forward", "\"nat\"", forward);
    let address = address.and_then(|text| {
        let read = address_port(&text);
        if read.is_none() {
            table.complain(
                "address",
                format!("`{text}` is not an address with a port, such as 192.168.20.7:8080"),
            );
        }
        read
    });
    let (address, port) = address?;
    let port = match forward? {
        // ipvsadm does the same: these servers get the packet as it is.
        Forward::Dr | Forward::Tun => vip_port,
        Forward::Nat | Forward::FullNat => port.unwrap_or(vip_port),
    };
    Some(Server {
        weight,
        upper_threshold,
        lower_threshold,
        ..Server::new(ServerKey { address, port }, forward?)
    })
}

fn timeouts(table: &mut Table<'_>) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        tcp: table.number("tcp", 1..=MAX_TIMEOUT).unwrap_or(default.tcp),
        tcp_fin: table.number("tcp-fin", 1..=MAX_TIMEOUT).unwrap_or(default.tcp_fin),
        udp: table.number("udp", 1..=MAX_TIMEOUT).unwrap_or(default.udp),
        ..default
    }
}

fn settings(table: &mut Table<'_>) -> Settings {
    let default = Settings::default();
    Settings {
        expire_nodest_conn: table.flag("expire_nodest_conn").unwrap_or(default.expire_nodest_conn),
        conn_reuse_mode: table.number("conn_reuse_mode", 0..=1).unwrap_or(default.conn_reuse_mode),
        expire_quiescent_template: table
            .flag("expire_quiescent_template")
            .unwrap_or(default.expire_quiescent_template),
        sloppy_tcp: table.flag("sloppy_tcp").unwrap_or(default.sloppy_tcp),
        nat_icmp_send: table.flag("nat_icmp_send").unwrap_or(default.nat_icmp_send),
        ip_forward: table.flag("ip_forward").unwrap_or(default.ip_forward),
        ..default
    }
}

/// `1.2.3.4:80`, `1.2.3.4`, `[fd00::1]:80`, `[fd00::1]` or `fd00::1`.
fn address_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(both) = text.parse::<std::net::SocketAddr>() {
        return Some((both.ip(), Some(both.port())));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    Some((bare.parse().ok()?, None))
}

/// `1.2.3.4-1.2.3.9`, `1.2.3.4` or `1.2.3.0/28` (every address of it).
fn address_range(text: &str) -> Option<AddressRange> {
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(AddressRange { first: net.network(), last: net.broadcast() });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(AddressRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
}

/// `1024-65535` or `5000`.
fn port_range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
}
