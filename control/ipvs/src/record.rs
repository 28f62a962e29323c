//! What answers hold: families, services and servers with what was counted, time-outs.

use std::net::IpAddr;

use fulcrum_model::ipvsadm::list::{Counters, ListedServer, ListedService};
use fulcrum_model::{Family, Forward, ServiceKey, Timeouts, TunnelChecksum, TunnelKind};

use crate::attribute::Writer;
use crate::controller::{self, Known};
use crate::family::{STATS_PAD, VERSION, af, command, dest, flag, info, method, service, top, tunnel};

/// One record of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A family of generic netlink.
    Family(Known),
    /// The version of IPVS, and the size of the table of connections.
    Info(u32),
    /// The time-outs.
    Timeouts(&'a Timeouts),
    /// A service, its servers aside.
    Service(&'a ListedService),
    /// A server.
    Server(&'a ListedServer),
}

impl Record<'_> {
    /// The family that says it.
    pub(crate) const fn family(&self) -> u16 {
        match self {
            Record::Family(_) => controller::CONTROLLER,
            _ => controller::FAMILY_ID,
        }
    }

    /// Its command, and the version of the header.
    pub(crate) const fn command(&self) -> (u8, u8) {
        match self {
            Record::Family(_) => (controller::NEW_FAMILY, controller::VERSION),
            Record::Info(_) => (command::SET_INFO, VERSION),
            Record::Timeouts(_) => (command::SET_CONFIG, VERSION),
            Record::Service(_) => (command::NEW_SERVICE, VERSION),
            Record::Server(_) => (command::NEW_DEST, VERSION),
        }
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        match self {
            Record::Family(known) => known.write(out),
            Record::Info(size) => {
                out.u32(info::VERSION, crate::family::IPVS_VERSION);
                out.u32(info::CONN_TAB_SIZE, *size);
            }
            Record::Timeouts(timeouts) => {
                out.u32(top::TIMEOUT_TCP, timeouts.tcp);
                out.u32(top::TIMEOUT_TCP_FIN, timeouts.tcp_fin);
                out.u32(top::TIMEOUT_UDP, timeouts.udp);
            }
            Record::Service(listed) => out.nest(top::SERVICE, |out| write_service(out, listed)),
            Record::Server(listed) => out.nest(top::DEST, |out| write_server(out, listed)),
        }
    }
}

/// Linux's number of an address family.
const fn number(family: Family) -> u16 {
    match family {
        Family::V4 => af::INET,
        Family::V6 => af::INET6,
    }
}

/// Sixteen bytes, of which an IPv4 address is the first four.
fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The bits of a service, without that of being in the table.
pub(crate) fn flags(of: &fulcrum_model::Service) -> u32 {
    let persistent = if of.persistent.is_some() { flag::PERSISTENT } else { 0 };
    let one_packet = if of.one_packet { flag::ONE_PACKET } else { 0 };
    persistent | one_packet | u32::from(of.scheduler_flags) << flag::SCHEDULER_SHIFT
}

fn write_service(out: &mut Writer<'_>, listed: &ListedService) {
    let of = &listed.service;
    out.u16(service::AF, number(of.key.family()));
    match of.key {
        ServiceKey::Mark { mark, .. } => out.u32(service::FWMARK, mark),
        ServiceKey::Address { protocol, address: vip, port } => {
            out.u16(service::PROTOCOL, protocol.number().into());
            out.bytes(service::ADDR, &address(vip));
            out.be16(service::PORT, port);
        }
    }
    out.text(service::SCHED_NAME, &of.scheduler);
    if let Some(engine) = &of.persistence_engine {
        out.text(service::PE_NAME, engine);
    }
    let mut bits = [0xff; 8];
    bits[..4].copy_from_slice(&(flags(of) | flag::HASHED).to_ne_bytes());
    out.bytes(service::FLAGS, &bits);
    out.u32(service::TIMEOUT, of.persistent.unwrap_or(0));
    out.bytes(service::NETMASK, &netmask(of.key.family(), of.prefix));
    write_stats(out, service::STATS, service::STATS64, &listed.counters);
}

/// A mask as it is sent for IPv4, a length for IPv6.
pub(crate) fn netmask(family: Family, prefix: u8) -> [u8; 4] {
    match family {
        Family::V4 => u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0).to_be_bytes(),
        Family::V6 => u32::from(prefix).to_ne_bytes(),
    }
}

fn write_server(out: &mut Writer<'_>, listed: &ListedServer) {
    let of = &listed.server;
    out.bytes(dest::ADDR, &address(of.key.address));
    out.be16(dest::PORT, of.key.port);
    out.u32(
        dest::FWD_METHOD,
        match of.forward {
            Forward::Nat | Forward::FullNat => method::MASQ,
            Forward::Local => method::LOCALNODE,
            Forward::Tun => method::TUNNEL,
            Forward::Dr => method::DROUTE,
        },
    );
    out.u32(dest::WEIGHT, of.weight);
    let (kind, port) = match of.tunnel.kind {
        TunnelKind::Ipip => (tunnel::IPIP, 0),
        TunnelKind::Gue { port } => (tunnel::GUE, port),
        TunnelKind::Gre => (tunnel::GRE, 0),
    };
    out.u8(dest::TUN_TYPE, kind);
    out.be16(dest::TUN_PORT, port);
    out.u16(
        dest::TUN_FLAGS,
        match of.tunnel.checksum {
            TunnelChecksum::None => 0,
            TunnelChecksum::Csum => tunnel::CSUM,
            TunnelChecksum::Remcsum => tunnel::REMCSUM,
        },
    );
    out.u32(dest::U_THRESH, of.upper_threshold);
    out.u32(dest::L_THRESH, of.lower_threshold);
    out.u32(dest::ACTIVE_CONNS, low(listed.active));
    out.u32(dest::INACT_CONNS, low(listed.inactive));
    out.u32(dest::PERSIST_CONNS, low(listed.persistent));
    out.u16(dest::ADDR_FAMILY, number(Family::of(of.key.address)));
    write_stats(out, dest::STATS, dest::STATS64, &listed.counters);
}

/// What fits: the kernel's counters of 32 bits begin again at 0 too.
#[allow(clippy::cast_possible_truncation, reason = "that is what is wanted")]
const fn low(count: u64) -> u32 {
    count as u32
}

fn write_stats(out: &mut Writer<'_>, stats: u16, stats64: u16, c: &Counters) {
    let counts = [c.connections, c.in_packets, c.out_packets, c.in_bytes, c.out_bytes];
    let rates = [c.cps, c.in_pps, c.out_pps, c.in_bps, c.out_bps];
    let all = (1..).zip(counts.into_iter().chain(rates));
    out.nest(stats, |out| {
        for (number, count) in all.clone() {
            match number {
                // Bytes have always had 64 bits.
                4 | 5 => out.u64(number, STATS_PAD, count),
                _ => out.u32(number, low(count)),
            }
        }
    });
    out.nest(stats64, |out| all.for_each(|(number, count)| out.u64(number, STATS_PAD, count)));
}
