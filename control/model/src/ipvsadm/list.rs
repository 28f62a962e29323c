//! What is printed about services, sessions and local addresses: columns and widths are interface.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::order::{compare_servers, compare_services, sort_as_ipvsadm};
use super::values::{Names, Numeric};
use super::{Format, List, Usage};
use crate::state::{
    Family, Forward, Protocol, Server, Service, ServiceKey, Timeouts, TunnelChecksum, TunnelKind,
};

/// The size of the connection table in the first line when nobody knows better: the kernel's default.
pub const TABLE_SIZE: u64 = 4096;

/// A service with what was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedService {
    /// The service; the servers in it are not looked at.
    pub service: Service,
    /// Its counters.
    pub counters: Counters,
    /// Its servers, oldest first.
    pub servers: Vec<ListedServer>,
}

/// A server with what was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedServer {
    /// The server.
    pub server: Server,
    /// Its counters.
    pub counters: Counters,
    /// Active connections.
    pub active: u64,
    /// Inactive connections.
    pub inactive: u64,
    /// Persistence templates.
    pub persistent: u64,
}

impl ListedService {
    /// A service that has seen no packet.
    pub fn idle(service: Service) -> ListedService {
        let idle = |server: &Server| ListedServer {
            server: server.clone(),
            counters: Counters::default(),
            active: 0,
            inactive: 0,
            persistent: 0,
        };
        let servers = service.servers.iter().map(idle).collect();
        ListedService { service, counters: Counters::default(), servers }
    }
}

/// Counters and rates per second of a service or a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
    /// Connections per second.
    pub cps: u64,
    /// Packets from clients per second.
    pub in_pps: u64,
    /// Packets to clients per second.
    pub out_pps: u64,
    /// Bytes from clients per second.
    pub in_bps: u64,
    /// Bytes to clients per second.
    pub out_bps: u64,
}

/// Local addresses of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedLocalAddresses {
    /// The service.
    pub service: ServiceKey,
    /// Its addresses.
    pub addresses: Vec<ListedLocalAddress>,
}

/// A local address with what was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedLocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Ports tried that were taken.
    pub conflicts: u64,
    /// Sessions that use it.
    pub connections: u64,
}

/// The answer to `-L`. `services` is oldest first, `size` the number in the first line.
pub fn services(
    services: &[ListedService],
    list: &List,
    size: u64,
    names: &dyn Names,
) -> Result<String, Usage> {
    let names: &dyn Names = if list.numeric { &Numeric } else { names };
    let mut out = String::new();
    let chosen: Vec<&ListedService> = match list.service {
        Some(key) => {
            let found = services.iter().find(|s| s.service.key == key);
            vec![found.ok_or_else(Usage::no_such_service_listed)?]
        }
        None => {
            put(&mut out, format_args!("IP Virtual Server version 1.2.1 (size={size})\n"));
            in_order(services, list.sort)
        }
    };
    out.push_str(title(list.format));
    for listed in chosen {
        service_row(&mut out, listed, list, names);
        for server in servers_in_order(&listed.servers, list.sort) {
            server_row(&mut out, listed.service.key.protocol(), server, list, names);
        }
    }
    Ok(out)
}

const fn title(format: Format) -> &'static str {
    match format {
        Format::Plain => {
            "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        }
        Format::Stats => {
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  -> RemoteAddress:Port\n"
        }
        Format::Rate => {
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  -> RemoteAddress:Port\n"
        }
        Format::Thresholds => {
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  -> RemoteAddress:Port\n"
        }
        Format::PersistentConn => {
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  -> RemoteAddress:Port\n"
        }
        Format::TunInfo => {
            "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        }
    }
}

fn service_row(out: &mut String, listed: &ListedService, list: &List, names: &dyn Names) {
    let service = &listed.service;
    let name = service_name(service.key, names);
    let c = &listed.counters;
    let numbers = match list.format {
        Format::Stats => [c.connections, c.in_packets, c.out_packets, c.in_bytes, c.out_bytes],
        Format::Rate => [c.cps, c.in_pps, c.out_pps, c.in_bps, c.out_bps],
        _ => {
            put(out, format_args!("{name} {}", service.scheduler));
            let flags = service.scheduler_flag_names();
            if !flags.is_empty() {
                put(out, format_args!(" ({})", flags.join(",")));
            }
            if let Some(seconds) = service.persistent {
                put(out, format_args!(" persistent {seconds}"));
                if let Some(mask) = service.mask() {
                    put(out, format_args!(" mask {mask}"));
                }
                if let Some(engine) = &service.persistence_engine {
                    put(out, format_args!(" pe {engine}"));
                }
            }
            out.push_str(if service.one_packet { " ops\n" } else { "\n" });
            return;
        }
    };
    put(out, format_args!("{name:<33}"));
    numbers.iter().for_each(|n| large(out, *n, list.exact));
    out.push('\n');
}

/// A service's name as lists show it. What is longer than its column is cut, but for IPv6, which moves the rest.
fn service_name(key: ServiceKey, names: &dyn Names) -> String {
    match key {
        ServiceKey::Address { protocol, address, port } => {
            let word = protocol.name().to_uppercase();
            let name = format!("{word:<4} {}", endpoint(address, port, Some(protocol), names));
            cut(name, 33, address)
        }
        ServiceKey::Mark { family: Family::V4, mark } => format!("FWM  {mark}"),
        ServiceKey::Mark { family: Family::V6, mark } => format!("FWM  {mark} IPv6"),
    }
}

fn cut(name: String, columns: usize, address: IpAddr) -> String {
    if address.is_ipv6() { name } else { name.chars().take(columns).collect() }
}

fn server_row(
    out: &mut String,
    protocol: Option<Protocol>,
    listed: &ListedServer,
    list: &List,
    names: &dyn Names,
) {
    let ListedServer { server, counters: c, active, inactive, persistent } = listed;
    let address = server.key.address;
    let name = cut(endpoint(address, server.key.port, protocol, names), 28, address);
    put(out, format_args!("  -> {name:<28}"));
    let forward = match server.forward {
        Forward::Nat => "Masq",
        Forward::FullNat => "FullNat",
        Forward::Dr => "Route",
        Forward::Tun => "Tunnel",
        Forward::Local => "Local",
    };
    let weight = server.weight;
    match list.format {
        Format::Plain => put(out, format_args!(" {forward:<7} {weight:<6} {active:<10} {inactive:<10}")),
        Format::TunInfo => {
            let tunnel = tunnel_info(server);
            put(out, format_args!(" {forward:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}"));
        }
        Format::Stats => {
            for number in [c.connections, c.in_packets, c.out_packets, c.in_bytes, c.out_bytes] {
                large(out, number, list.exact);
            }
        }
        Format::Rate => {
            put(out, format_args!(" {:>8} {:>8} {:>8}", c.cps, c.in_pps, c.out_pps));
            large(out, c.in_bps, list.exact);
            large(out, c.out_bps, list.exact);
        }
        Format::Thresholds => {
            let (upper, lower) = (server.upper_threshold, server.lower_threshold);
            put(out, format_args!(" {upper:<10} {lower:<10} {active:<10} {inactive:<10}"));
        }
        Format::PersistentConn => {
            put(out, format_args!(" {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"));
        }
    }
    out.push('\n');
}

fn tunnel_info(server: &Server) -> String {
    if server.forward != Forward::Tun {
        return "n/a".to_owned();
    }
    let checksum = match server.tunnel.checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Csum => "+c",
        TunnelChecksum::Remcsum => "r+c",
    };
    match server.tunnel.kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gre => format!("gre:{checksum}"),
        TunnelKind::Gue { port } => format!("gue:{port}:{checksum}"),
    }
}

/// A number in nine columns: as it is, or in decimal thousands, cut off.
fn large(out: &mut String, number: u64, exact: bool) {
    match number {
        _ if exact => put(out, format_args!(" {number:>8}")),
        0..=99_999_999 => put(out, format_args!("{number:>9}")),
        100_000_000..=999_999_999 => put(out, format_args!("{:>8}K", number / 1000)),
        1_000_000_000..=99_999_999_999 => put(out, format_args!("{:>8}M", number / 1_000_000)),
        100_000_000_000..=99_999_999_999_999 => put(out, format_args!("{:>8}G", number / 1_000_000_000)),
        _ => put(out, format_args!("{:>8}T", number / 1_000_000_000_000)),
    }
}

/// The answer to `-L --timeout`.
pub fn timeouts(timeouts: &Timeouts) -> String {
    format!("Timeout (tcp tcpfin udp): {} {} {}\n", timeouts.tcp, timeouts.tcp_fin, timeouts.udp)
}

/// The answer to `-G`.
pub fn local_addresses(listed: &[ListedLocalAddresses], numeric: bool, names: &dyn Names) -> String {
    let names: &dyn Names = if numeric { &Numeric } else { names };
    let mut out = String::new();
    let mut row = |cells: [&str; 5]| {
        let [service, total, address, conflicts, connections] = cells;
        put(
            &mut out,
            format_args!("{service:<20} {total:<8} {address:<20} {conflicts:<10} {connections:<10}\n"),
        );
    };
    row(["VIP:VPORT", "TOTAL", "SNAT_IP", "CONFLICTS", "CONNS"]);
    for ListedLocalAddresses { service, addresses } in listed {
        let name = match *service {
            ServiceKey::Address { protocol, address, port } => endpoint(address, port, Some(protocol), names),
            ServiceKey::Mark { mark, .. } => mark.to_string(),
        };
        let total = addresses.len().to_string();
        let mut head = [name.as_str(), total.as_str()];
        if addresses.is_empty() {
            row([head[0], head[1], "", "", ""]);
        }
        for local in addresses {
            let address = names.host(local.address).unwrap_or_else(|| local.address.to_string());
            row([head[0], head[1], &address, &local.conflicts.to_string(), &local.connections.to_string()]);
            head = ["", ""];
        }
    }
    out
}

/// An address and a port, by their names where they have some. A port has no name without a protocol.
pub(super) fn endpoint(address: IpAddr, port: u16, protocol: Option<Protocol>, names: &dyn Names) -> String {
    let host = names.host(address).unwrap_or_else(|| address.to_string());
    let port = match protocol.and_then(|protocol| names.service(port, protocol)) {
        Some(service) => service,
        None => port.to_string(),
    };
    match address {
        IpAddr::V4(_) => format!("{host}:{port}"),
        IpAddr::V6(_) => format!("[{host}]:{port}"),
    }
}

fn in_order(services: &[ListedService], sort: bool) -> Vec<&ListedService> {
    let mut order: Vec<&ListedService> = services.iter().rev().collect();
    if sort {
        sort_as_ipvsadm(&mut order, |a, b| compare_services(a.service.key, b.service.key));
    }
    order
}

fn servers_in_order(servers: &[ListedServer], sort: bool) -> Vec<&ListedServer> {
    let mut order: Vec<&ListedServer> = servers.iter().rev().collect();
    if sort {
        sort_as_ipvsadm(&mut order, |a, b| compare_servers(&a.server, &b.server));
    }
    order
}

pub(super) fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::state::ServerKey;

    fn servers(newest_first: &[&str]) -> Vec<Server> {
        let server = |text: &&str| {
            let end: SocketAddr = text.parse().unwrap();
            Server::new(ServerKey { address: end.ip(), port: end.port() }, Forward::Nat)
        };
        newest_first.iter().map(server).collect()
    }

    fn a_service(key: ServiceKey, scheduler: &str) -> Service {
        Service::new(key, scheduler)
    }

    #[test]
    fn large_numbers_are_cut_to_nine_columns() {
        let shown = |number, exact| {
            let mut out = String::new();
            large(&mut out, number, exact);
            out
        };
        assert_eq!(shown(99_999_999, false), " 99999999");
        assert_eq!(shown(100_000_000, false), "  100000K");
        assert_eq!(shown(1_999_999_999, false), "    1999M");
        assert_eq!(shown(123_456_789_012, false), "     123G");
        assert_eq!(shown(u64::MAX, false), "18446744T");
        assert_eq!(shown(5, true), "        5");
        assert_eq!(shown(12_345_678_901, true), " 12345678901");
    }

    // Recorded from ipvsadm 1.31 on Debian 12.
    #[test]
    fn counts_stand_in_their_columns() {
        let key = ServiceKey::new(Protocol::Tcp, [10, 9, 0, 100].into(), 80);
        let mut service = a_service(key, "rr");
        service.servers = servers(&["10.0.0.11:8000"]);
        let mut listed = ListedService::idle(service);
        listed.counters = Counters {
            connections: 1,
            in_packets: 3,
            out_packets: 2,
            in_bytes: 164,
            out_bytes: 115,
            ..Counters::default()
        };
        listed.counters =
            Counters { cps: 2, in_pps: 9, out_pps: 6, in_bps: 502, out_bps: 313, ..listed.counters };
        listed.servers[0].counters = listed.counters;
        listed.servers[0].active = 1;
        let rows = |format| {
            let list = List { service: Some(key), format, numeric: true, ..List::default() };
            let text = services(std::slice::from_ref(&listed), &list, TABLE_SIZE, &Numeric).unwrap();
            text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let wanted = [
            (
                Format::Plain,
                "TCP  10.9.0.100:80 rr",
                "  -> 10.0.0.11:8000               Masq    1      1          0         ",
            ),
            (
                Format::Stats,
                "TCP  10.9.0.100:80                       1        3        2      164      115",
                "  -> 10.0.0.11:8000                      1        3        2      164      115",
            ),
            (
                Format::Rate,
                "TCP  10.9.0.100:80                       2        9        6      502      313",
                "  -> 10.0.0.11:8000                      2        9        6      502      313",
            ),
            (
                Format::PersistentConn,
                "TCP  10.9.0.100:80 rr",
                "  -> 10.0.0.11:8000               1         0           1          0         ",
            ),
        ];
        for (format, service, server) in wanted {
            assert_eq!(rows(format), [service, server], "{format:?}");
        }
    }

    // Recorded from ipvsadm 1.31 on Debian 12.
    #[test]
    fn long_names_are_cut() {
        struct Long;
        impl Names for Long {
            fn address(&self, _: &str) -> Option<std::net::Ipv4Addr> {
                None
            }
            fn port(&self, _: &str, _: Protocol) -> Option<u16> {
                None
            }
            fn host(&self, address: IpAddr) -> Option<String> {
                let name = if address == IpAddr::from([10, 9, 0, 100]) { "a" } else { "another" };
                Some(format!("{name}-very-long-host-name-that-overflows-columns.example"))
            }
            fn service(&self, _: u16, _: Protocol) -> Option<String> {
                Some("http".into())
            }
        }
        let key = ServiceKey::new(Protocol::Tcp, [10, 9, 0, 100].into(), 80);
        let mut service = a_service(key, "wlc");
        service.servers = servers(&["10.0.0.11:80"]);
        let text = services(&[ListedService::idle(service)], &List::default(), 1, &Long).unwrap();
        assert!(text.contains("\nTCP  a-very-long-host-name-that-o wlc\n"), "{text}");
        assert!(
            text.contains("\n  -> another-very-long-host-name- Masq    1      0          0         \n"),
            "{text}"
        );
    }

    #[test]
    fn local_addresses_are_listed_below_their_service() {
        let service = ServiceKey::new(Protocol::Tcp, [172, 16, 100, 9].into(), 80);
        let address = |last, conflicts| ListedLocalAddress {
            address: [192, 168, 20, last].into(),
            conflicts,
            connections: 3,
        };
        let listed = [ListedLocalAddresses { service, addresses: vec![address(200, 7), address(201, 0)] }];
        assert_eq!(
            local_addresses(&listed, true, &Numeric),
            "VIP:VPORT            TOTAL    SNAT_IP              CONFLICTS  CONNS     \n\
             172.16.100.9:80      2        192.168.20.200       7          3         \n\
             \x20                             192.168.20.201       0          3         \n"
        );
    }
}
