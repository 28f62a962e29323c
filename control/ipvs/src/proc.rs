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
