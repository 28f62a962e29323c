//! What `-S` prints: the services as commands.

use super::list::{endpoint, put};
use super::order::{compare_servers, compare_services, sort_as_ipvsadm};
use super::values::{Names, Numeric};
use crate::state::{
    Family, Forward, Protocol, Server, Service, ServiceKey, Tunnel, TunnelChecksum, TunnelKind,
};

/// The answer to `-S`: lines that `-R` takes. Thresholds and time-outs are not among them, as in ipvsadm.
pub fn save(services: &[Service], numeric: bool, names: &dyn Names) -> String {
    let names: &dyn Names = if numeric { &Numeric } else { names };
    let mut out = String::new();
    let mut order: Vec<&Service> = services.iter().rev().collect();
    sort_as_ipvsadm(&mut order, |a, b| compare_services(a.key, b.key));
    for service in order {
        let key = service.key;
        let which = match key {
            ServiceKey::Address { protocol, address, port } => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                format!("{option} {}", endpoint(address, port, Some(protocol), names))
            }
            ServiceKey::Mark { family: Family::V4, mark } => format!("-f {mark}"),
            ServiceKey::Mark { family: Family::V6, mark } => format!("-f {mark} -6"),
        };
        put(&mut out, format_args!("-A {which} -s {}", service.scheduler));
        if let Some(seconds) = service.persistent {
            put(&mut out, format_args!(" -p {seconds}"));
            if let Some(mask) = service.mask() {
                put(&mut out, format_args!(" -M {mask}"));
            }
        }
        if let Some(engine) = &service.persistence_engine {
            put(&mut out, format_args!(" --pe {engine}"));
        }
        if service.one_packet {
            out.push_str(" -o");
        }
        let flags = service.scheduler_flag_names();
        if !flags.is_empty() {
            put(&mut out, format_args!(" -b {}", flags.join(",")));
        }
        if let Some(pool) = &service.local_pool {
            put(&mut out, format_args!(" --local-pool {pool}"));
        }
        if let Some(interface) = &service.interface {
            put(&mut out, format_args!(" --vip-interface {interface}"));
        }
        out.push('\n');
        for address in &service.local_addresses {
            put(&mut out, format_args!("-P {which} -z {}\n", address.0));
        }
        let mut servers: Vec<&Server> = service.servers.iter().rev().collect();
        sort_as_ipvsadm(&mut servers, |a, b| compare_servers(a, b));
        for server in servers {
            let forward = match server.forward {
                Forward::Nat => "-m",
                Forward::FullNat => "--fullnat",
                // ipvsadm has no word for a local server, and saves it like this.
                Forward::Dr | Forward::Local => "-g",
                Forward::Tun => "-i",
            };
            let name = endpoint(server.key.address, server.key.port, key.protocol(), names);
            put(&mut out, format_args!("-a {which} -r {name} {forward} -w {}", server.weight));
            if server.forward == Forward::Tun {
                put_tunnel(&mut out, server.tunnel);
            }
            out.push('\n');
        }
    }
    out
}

fn put_tunnel(out: &mut String, tunnel: Tunnel) {
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Csum => "--tun-csum",
        TunnelChecksum::Remcsum => "--tun-remcsum",
    };
    match tunnel.kind {
        TunnelKind::Ipip => out.push_str(" --tun-type ipip"),
        TunnelKind::Gre => put(out, format_args!(" --tun-type gre {checksum}")),
        TunnelKind::Gue { port } => put(out, format_args!(" --tun-type gue --tun-port {port} {checksum}")),
    }
}
