//! `[[service]]` and `[[service.server]]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::table::{Places, Table};
use super::{health, switches};
use crate::state::{
    Announce, Announcement, ClientAddress, DEFAULT_ANNOUNCE_AFTER, Family, Forward, LocalAddress, Protocol,
    Server, ServerKey, Service, ServiceKey, Tunnel, TunnelChecksum, TunnelKind, TunnelSource, prefix_of_mask,
    scheduler_flag_words,
};
use crate::validate::{DEFAULT_SCHEDULER, MAX_ANNOUNCE_AFTER, MAX_TIMEOUT, MAX_WEIGHT, MSS};

pub(super) const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

pub(super) const FAMILIES: [(&str, Family); 2] = [("ipv4", Family::V4), ("ipv6", Family::V6)];

const METHODS: [(&str, Forward); 5] = [
    ("nat", Forward::Nat),
    ("fullnat", Forward::FullNat),
    ("dr", Forward::Dr),
    ("tun", Forward::Tun),
    ("local", Forward::Local),
];

const CHECKSUMS: [(&str, TunnelChecksum); 3] =
    [("none", TunnelChecksum::None), ("csum", TunnelChecksum::Csum), ("remcsum", TunnelChecksum::Remcsum)];

const SOURCES: [(&str, TunnelSource); 2] =
    [("interface", TunnelSource::Interface), ("local", TunnelSource::Local)];

/// Something in a service that has a table of its own.
pub(super) enum Part {
    Server(usize),
    SorryServer,
    Check(usize),
}

/// A service; says where its parts stand.
pub(super) fn service(table: &mut Table<'_>, mut part_at: impl FnMut(Part, Places)) -> Option<Service> {
    let key = key(table);
    let scheduler = table.text("scheduler").unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned());
    let scheduler_flags = table.list("scheduler-flags", |name| flag(&scheduler, name)).unwrap_or_default();
    let one_packet = table.flag("one-packet").unwrap_or_default();
    let persistent = table.number("persistent", 0..=MAX_TIMEOUT).filter(|seconds| *seconds != 0);
    let prefix = netmask(table, key.map(|key| key.family()));
    let persistence_engine = table.text("persistence-engine");
    let local_pool = table.text("local-pool");
    let local_addresses = table.list("local-addresses", |text| {
        text.parse()
            .map(LocalAddress)
            .map_err(|_| format!("`{text}` is not an IP address, such as 192.168.20.200"))
    });
    let interface = table.text("interface");
    let mss = table.number("mss", MSS);
    let client_address = table.word("client-address", &ClientAddress::ALL.map(|way| (way.name(), way)));
    let timeouts = table.table("timeouts", "[service.timeouts]").map(|mut table| {
        let read = switches::states(&mut table);
        table.finish();
        read
    });
    let service_port = key.map_or(Some(0), |key| key.port());
    let health = health::of_service(table, service_port, |check, at| {
        part_at(check.map_or(Part::SorryServer, Part::Check), at);
    });
    let announcement = Announcement {
        when: table.word("announce", &Announce::ALL.map(|when| (when.name(), when))).unwrap_or_default(),
        on: table.text("announce-on"),
        after: table.number("announce-after", 0..=MAX_ANNOUNCE_AFTER).unwrap_or(DEFAULT_ANNOUNCE_AFTER),
    };
    let mut servers = Vec::new();
    for mut table in table.tables("server", "[[service.server]]") {
        let read = server(&mut table, service_port);
        let (admin, health) = (health::admin(&mut table), health::of_server(&mut table));
        let at = table.finish();
        if let Some(server) = read.map(|server| Server { admin, health, ..server }) {
            part_at(Part::Server(servers.len()), at);
            servers.push(server);
        }
    }
    let bare = Service::new(key?, &scheduler);
    Some(Service {
        scheduler_flags: scheduler_flags.into_iter().fold(0, |all, flag| all | flag),
        one_packet,
        persistent,
        prefix: prefix.unwrap_or(bare.prefix),
        persistence_engine,
        local_pool,
        local_addresses: local_addresses.unwrap_or_default(),
        interface,
        timeouts: timeouts.unwrap_or_default(),
        mss,
        client_address: client_address.unwrap_or_default(),
        health,
        announcement,
        servers,
        ..bare
    })
}

/// `address` with `protocol`, or `mark` with `family`.
pub(super) fn key(table: &mut Table<'_>) -> Option<ServiceKey> {
    let address = table.read("address", |text| {
        address_port(text)
            .ok_or_else(|| format!("`{text}` is not an address with a port, such as 172.16.100.9:80"))
    });
    let protocol = table.word("protocol", &PROTOCOLS);
    let mark = table.number("mark", 1..=u32::MAX);
    let family = table.word("family", &FAMILIES);
    if table.has("mark") {
        for key in ["address", "protocol"] {
            if table.has(key) {
                table.complain(key, format!("a service by `mark` has no {key}; leave one of the two away"));
            }
        }
        return Some(ServiceKey::Mark { family: family.unwrap_or(Family::V4), mark: mark? });
    }
    if table.has("family") {
        table.complain("family", "family belongs to a service by `mark`; an address says its own");
    }
    let address = table.required("address", "\"172.16.100.9:80\"", address);
    let protocol = table.required("protocol", "\"tcp\"", protocol);
    let (address, port) = address?;
    Some(ServiceKey::new(protocol?, address, port.unwrap_or(0)))
}

/// A dotted mask, or a number of bits.
fn netmask(table: &mut Table<'_>, family: Option<Family>) -> Option<u8> {
    let most = family.map_or(128, Family::bits);
    let read = |text: &str| match (text.parse::<Ipv4Addr>(), text.parse::<u8>()) {
        (Ok(mask), _) if family != Some(Family::V6) => {
            prefix_of_mask(mask).ok_or_else(|| format!("netmask {mask} has holes; such as 255.255.255.0"))
        }
        (_, Ok(bits)) if bits <= most => Ok(bits),
        _ if family == Some(Family::V6) => Err(format!("netmask `{text}` is no prefix length, such as 64")),
        _ => Err(format!("netmask `{text}` is not a mask, such as 255.255.255.0")),
    };
    let text = table.scalar("netmask")?;
    read(&text).map_err(|why| table.complain("netmask", why)).ok()
}

/// The bit of a scheduler's flag.
fn flag(scheduler: &str, name: &str) -> Result<u8, String> {
    let words = scheduler_flag_words(scheduler);
    let found = words.iter().position(|word| *word == name);
    let found = found.or_else(|| scheduler_flag_words("").iter().position(|word| *word == name));
    found
        .map(|bit| 1 << bit)
        .ok_or_else(|| format!("scheduler {scheduler} has no flag `{name}`; one of {}", words.join(", ")))
}

/// A server of a service with this port; of a service by mark every server has its own.
pub(super) fn server(table: &mut Table<'_>, service_port: Option<u16>) -> Option<Server> {
    let address = table.read("address", |text| {
        address_port(text)
            .ok_or_else(|| format!("`{text}` is not an address with a port, such as 192.168.20.7:8080"))
    });
    let forward = table.word("forward", &METHODS);
    let tunnel = tunnel(table);
    let weight = table.number("weight", 0..=MAX_WEIGHT).unwrap_or(1);
    let upper_threshold = table.number("upper-threshold", 0..=u32::MAX).unwrap_or(0);
    let lower_threshold = table.number("lower-threshold", 0..=u32::MAX).unwrap_or(0);
    let address = table.required("address", "\"192.168.20.7:8080\"", address);
    let forward = table.required("forward", "\"nat\"", forward);
    let (address, port) = address?;
    let port = match (forward?, service_port) {
        // ipvsadm does the same: these servers get the packet as it is.
        (Forward::Dr | Forward::Tun | Forward::Local, Some(service)) => service,
        (_, service) => port.or(service).unwrap_or(0),
    };
    Some(Server {
        tunnel,
        weight,
        upper_threshold,
        lower_threshold,
        ..Server::new(ServerKey { address, port }, forward?)
    })
}

fn tunnel(table: &mut Table<'_>) -> Tunnel {
    let kind = table.word("tunnel", &["ipip", "gre", "gue"].map(|word| (word, word)));
    let port = table.number("tunnel-port", 1..=u16::MAX);
    let checksum = table.word("tunnel-checksum", &CHECKSUMS);
    let source = table.word("tunnel-source", &SOURCES);
    if kind == Some("gue") {
        table.required("tunnel-port", "6080", port);
    } else if table.has("tunnel-port") {
        table.complain("tunnel-port", "only a gue tunnel has a port; leave tunnel-port away");
    }
    let kind = match kind {
        Some("gue") => TunnelKind::Gue { port: port.unwrap_or(0) },
        Some("gre") => TunnelKind::Gre,
        _ => TunnelKind::Ipip,
    };
    Tunnel { kind, checksum: checksum.unwrap_or_default(), source: source.unwrap_or_default() }
}

/// `1.2.3.4:80`, `1.2.3.4`, `[fd00::1]:80`, `[fd00::1]` or `fd00::1`.
fn address_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(both) = text.parse::<SocketAddr>() {
        return Some((both.ip(), Some(both.port())));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    Some((bare.parse().ok()?, None))
}
