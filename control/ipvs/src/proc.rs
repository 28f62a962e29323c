//! The files in `/proc/net` that tell of IPVS, in the kernel's words and columns.
//!
//! Each is made in pieces, so that a file of millions of lines is never in memory.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use fulcrum_model::ipvsadm::list::{Counters, ListedServer, ListedService};
use fulcrum_model::ipvsadm::sessions::ListedSession;
use fulcrum_model::{Forward, Server, ServiceKey};

use crate::record::netmask;

/// In so many parts of a second the kernel counts the time-outs of persistence.
const TICKS: u32 = 100;

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Services and servers.
    Services,
    /// Sessions and templates.
    Connections,
    /// The same, and who made them.
    ConnectionsSync,
    /// What was counted of all.
    Stats,
    /// The same by processor.
    StatsPerCpu,
}

impl File {
    /// All of them.
    pub const ALL: [File; 5] =
        [File::Services, File::Connections, File::ConnectionsSync, File::Stats, File::StatsPerCpu];

    /// Its name in `/proc/net`.
    pub const fn name(self) -> &'static str {
        match self {
            File::Services => "ip_vs",
            File::Connections => "ip_vs_conn",
            File::ConnectionsSync => "ip_vs_conn_sync",
            File::Stats => "ip_vs_stats",
            File::StatsPerCpu => "ip_vs_stats_percpu",
        }
    }

    /// The file of that name.
    pub fn named(name: &str) -> Option<File> {
        File::ALL.into_iter().find(|file| file.name() == name)
    }
}

/// What stands above services; `size` is that of the table of connections.
pub fn services_title(size: u64) -> String {
    format!(
        "IP Virtual Server version 1.2.1 (size={size})\n\
         Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    )
}

/// A service and its servers.
pub fn service(listed: &ListedService) -> String {
    let mut out = String::new();
    let of = &listed.service;
    let one_packet = if of.one_packet { "ops " } else { "" };
    let scheduler = &of.scheduler;
    match of.key {
        ServiceKey::Address { protocol, address: IpAddr::V4(vip), port } => {
            let (word, vip) = (protocol.name().to_uppercase(), vip.to_bits());
            put(&mut out, format_args!("{word}  {vip:08X}:{port:04X} {scheduler} {one_packet} "));
        }
        ServiceKey::Address { protocol, address: IpAddr::V6(vip), port } => {
            let word = protocol.name().to_uppercase();
            let vip = address(vip.into());
            put(&mut out, format_args!("{word}  [{vip}]:{port:04X} {scheduler} {one_packet}"));
        }
        ServiceKey::Mark { mark, .. } => {
            put(&mut out, format_args!("FWM  {mark:08X} {scheduler} {one_packet}"));
        }
    }
    if let Some(seconds) = of.persistent {
        // A mask is shown as a number, and so is what stands in its place for IPv6, with its bytes turned around.
        let mask = u32::from_be_bytes(netmask(of.key.family(), of.prefix));
        put(&mut out, format_args!("persistent {} {mask:08X}", seconds.saturating_mul(TICKS)));
    }
    out.push('\n');
    listed.servers.iter().rev().for_each(|listed| server(&mut out, listed));
    out
}

fn server(out: &mut String, listed: &ListedServer) {
    let Server { key, forward, weight, .. } = &listed.server;
    let end = match key.address {
        IpAddr::V4(_) => address(key.address),
        IpAddr::V6(_) => format!("[{}]", address(key.address)),
    };
    let method = match forward {
        Forward::Nat | Forward::FullNat => "Masq",
        Forward::Local => "Local",
        Forward::Tun => "Tunnel",
        Forward::Dr => "Route",
    };
    let (port, active, inactive) = (key.port, listed.active, listed.inactive);
    put(
        out,
        format_args!("  -> {end}:{port:04X}      {method:<7} {weight:<6} {active:<10} {inactive:<10}\n"),
    );
}

/// What stands above connections, and above those with their origin.
pub fn connections_title(sync: bool) -> &'static str {
    match sync {
        false => "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
        true => "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n",
    }
}

/// A session or a template, at the end of `out`: there may be millions.
pub fn connection(out: &mut String, listed: &ListedSession, sync: bool) {
    let protocol = listed.protocol.map_or("IP", |protocol| match protocol {
        fulcrum_model::Protocol::Tcp => "TCP",
        fulcrum_model::Protocol::Udp => "UDP",
        fulcrum_model::Protocol::Sctp => "SCTP",
    });
    put(out, format_args!("{protocol:<3}"));
    for end in [listed.client, listed.service, listed.server] {
        out.push(' ');
        put_address(out, end);
        put(out, format_args!(" {:04X}", end.port()));
    }
    let (state, expires) = (&listed.state, listed.expires);
    match (sync, &listed.persistence) {
        (true, _) => put(out, format_args!(" {state:<11} {:<6} {expires:>7}\n", "LOCAL")),
        (false, Some((engine, data))) => {
            put(out, format_args!(" {state:<11} {expires:>7} {engine} {data}\n"));
        }
        (false, None) => put(out, format_args!(" {state:<11} {expires:>7}\n")),
    }
}

/// What was counted of all services.
pub fn stats(all: &Counters) -> String {
    let mut out = String::from(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n",
    );
    counts(&mut out, all);
    out.push_str("\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n");
    rates(&mut out, all);
    out
}

/// The same by processor, of which each worker is one.
pub fn stats_per_cpu<'a>(workers: impl IntoIterator<Item = &'a Counters>, all: &Counters) -> String {
    let mut out = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    for (number, worker) in workers.into_iter().enumerate() {
        put(&mut out, format_args!("{number:3X} "));
        counts(&mut out, worker);
    }
    out.push_str("  ~ ");
    counts(&mut out, all);
    out.push_str("\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    ");
    rates(&mut out, all);
    out
}

fn counts(out: &mut String, c: &Counters) {
    row(out, [c.connections, c.in_packets, c.out_packets, c.in_bytes, c.out_bytes]);
}

fn rates(out: &mut String, c: &Counters) {
    row(out, [c.cps, c.in_pps, c.out_pps, c.in_bps, c.out_bps]);
}

fn row(out: &mut String, [connections, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]) {
    put(
        out,
        format_args!("{connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}\n"),
    );
}

fn address(of: IpAddr) -> String {
    let mut out = String::new();
    put_address(&mut out, SocketAddr::new(of, 0));
    out
}

fn put_address(out: &mut String, of: SocketAddr) {
    match of.ip() {
        IpAddr::V4(address) => put(out, format_args!("{:08X}", address.to_bits())),
        IpAddr::V6(address) => {
            for (at, group) in address.segments().into_iter().enumerate() {
                let colon = if at == 0 { "" } else { ":" };
                put(out, format_args!("{colon}{group:04x}"));
            }
        }
    }
}

/// Services in the order of the kernel's tables, as far as it has one: those by address, then those by mark, of each
/// the newest first.
pub fn in_order(services: &[ListedService]) -> impl Iterator<Item = &ListedService> {
    let marked =
        |wanted: bool| services.iter().rev().filter(move |s| s.service.key.mark().is_some() == wanted);
    marked(false).chain(marked(true))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use fulcrum_model::{Family, Protocol, ServerKey, Service};

    use super::*;

    fn listed(key: ServiceKey, scheduler: &str, change: impl FnOnce(&mut Service)) -> ListedService {
        let mut service = Service::new(key, scheduler);
        change(&mut service);
        ListedService::idle(service)
    }

    fn server(address: &str, forward: Forward, weight: u32) -> Server {
        let end: SocketAddr = address.parse().unwrap();
        Server { weight, ..Server::new(ServerKey { address: end.ip(), port: end.port() }, forward) }
    }

    // Recorded from Linux 6.1.
    #[test]
    fn services_stand_as_a_kernel_has_them() {
        let v4 = |protocol, port| ServiceKey::new(protocol, [10, 0, 0, 1].into(), port);
        let v6 = |port| ServiceKey::new(Protocol::Tcp, "2001:db8::1".parse().unwrap(), port);
        let mark = |family, mark| ServiceKey::Mark { family, mark };
        let mut plain = listed(v4(Protocol::Tcp, 80), "wlc", |service| {
            service.servers = vec![
                server("10.1.0.1:8080", Forward::Nat, 5),
                server("10.1.0.2:80", Forward::Dr, 0),
                server("10.1.0.3:80", Forward::Tun, 100_000),
            ];
        });
        plain.servers[2].active = 1;
        let persistent = |seconds, prefix| {
            move |service: &mut Service| {
                (service.persistent, service.prefix) = (Some(seconds), prefix);
            }
        };
        let mixed = listed(v6(81), "rr", |service| {
            service.servers =
                vec![server("[2001:db8:1::2]:80", Forward::Nat, 1), server("10.1.0.2:81", Forward::Tun, 1)];
        });
        let cases = [
            (
                plain,
                "TCP  0A000001:0050 wlc  \n\
                 \x20 -> 0A010003:0050      Tunnel  100000 1          0         \n\
                 \x20 -> 0A010002:0050      Route   0      0          0         \n\
                 \x20 -> 0A010001:1F90      Masq    5      0          0         \n",
            ),
            (
                listed(v4(Protocol::Tcp, 443), "rr", persistent(300, 24)),
                "TCP  0A000001:01BB rr  persistent 30000 FFFFFF00\n",
            ),
            (
                listed(v4(Protocol::Udp, 5060), "rr", |service| {
                    persistent(60, 32)(service);
                    service.one_packet = true;
                }),
                "UDP  0A000001:13C4 rr ops  persistent 6000 FFFFFFFF\n",
            ),
            (
                listed(v4(Protocol::Udp, 53), "sh", |service| service.one_packet = true),
                "UDP  0A000001:0035 sh ops  \n",
            ),
            (
                mixed,
                "TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0051 rr \n\
                 \x20 -> 0A010002:0051      Tunnel  1      0          0         \n\
                 \x20 -> [2001:0db8:0001:0000:0000:0000:0000:0002]:0050      Masq    1      0          0         \n",
            ),
            (
                listed(v6(80), "rr", persistent(30, 64)),
                "TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr persistent 3000 40000000\n",
            ),
            (
                listed(mark(Family::V4, 7), "rr", persistent(300, 32)),
                "FWM  00000007 rr persistent 30000 FFFFFFFF\n",
            ),
            (
                listed(mark(Family::V6, 8), "rr", persistent(33, 56)),
                "FWM  00000008 rr persistent 3300 38000000\n",
            ),
        ];
        for (listed, wanted) in cases {
            assert_eq!(service(&listed), wanted);
        }
        assert_eq!(
            services_title(4096),
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
        );
    }

    // Recorded from Linux 6.1.
    #[test]
    fn connections_stand_as_a_kernel_has_them() {
        let session = |protocol, ends: [&str; 3], state: &str, expires| ListedSession {
            protocol: Some(protocol),
            expires,
            client: ends[0].parse().unwrap(),
            service: ends[1].parse().unwrap(),
            server: ends[2].parse().unwrap(),
            local: None,
            state: state.to_owned(),
            persistence: None,
        };
        let six = session(
            Protocol::Tcp,
            ["[2001:db8::1]:43412", "[2001:db8::1]:80", "[2001:db8:1::2]:80"],
            "SYN_RECV",
            59,
        );
        let mut sip = session(Protocol::Udp, ["10.0.0.1:0", "10.0.0.1:5061", "10.1.0.1:5061"], "NONE", 59);
        sip.persistence = Some(("sip".into(), "a84b4c76e66710@pc33.atlanta.com".into()));
        let four = session(Protocol::Tcp, ["10.0.0.1:50794", "10.0.0.1:80", "10.1.0.3:80"], "SYN_RECV", 59);
        let written = |sync| {
            let mut out = connections_title(sync).to_owned();
            [&six, &sip, &four].into_iter().for_each(|session| connection(&mut out, session, sync));
            out
        };
        assert_eq!(
            written(false),
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
             TCP 2001:0db8:0000:0000:0000:0000:0000:0001 A994 2001:0db8:0000:0000:0000:0000:0000:0001 0050 2001:0db8:0001:0000:0000:0000:0000:0002 0050 SYN_RECV         59\n\
             UDP 0A000001 0000 0A000001 13C5 0A010001 13C5 NONE             59 sip a84b4c76e66710@pc33.atlanta.com\n\
             TCP 0A000001 C66A 0A000001 0050 0A010003 0050 SYN_RECV         59\n"
        );
        assert_eq!(
            written(true),
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n\
             TCP 2001:0db8:0000:0000:0000:0000:0000:0001 A994 2001:0db8:0000:0000:0000:0000:0000:0001 0050 2001:0db8:0001:0000:0000:0000:0000:0002 0050 SYN_RECV    LOCAL       59\n\
             UDP 0A000001 0000 0A000001 13C5 0A010001 13C5 NONE        LOCAL       59\n\
             TCP 0A000001 C66A 0A000001 0050 0A010003 0050 SYN_RECV    LOCAL       59\n"
        );
    }

    // Recorded from Linux 6.1.
    #[test]
    fn sums_stand_as_a_kernel_has_them() {
        let all = Counters {
            connections: 5,
            in_packets: 7,
            in_bytes: 0x1d2,
            cps: 1,
            in_pps: 1,
            in_bps: 0x3a,
            ..Counters::default()
        };
        assert_eq!(
            stats(&all),
            "   Total Incoming Outgoing         Incoming         Outgoing\n   \
             Conns  Packets  Packets            Bytes            Bytes\n       \
             5        7        0              1D2                0\n\n \
             Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       \
             1        1        0               3A                0\n"
        );
        let one = Counters { connections: 5, in_packets: 5, in_bytes: 0x146, ..Counters::default() };
        assert_eq!(
            stats_per_cpu([&one], &Counters::default()),
            "       Total Incoming Outgoing         Incoming         Outgoing\n\
             CPU    Conns  Packets  Packets            Bytes            Bytes\n  \
             0        5        5        0              146                0\n  \
             ~        0        0        0                0                0\n\n     \
             Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n           \
             0        0        0                0                0\n"
        );
    }

    #[test]
    fn files_are_found_by_name() {
        for file in File::ALL {
            assert_eq!(File::named(file.name()), Some(file));
        }
        assert_eq!(File::named("ip_vs_app"), None);
    }
}
