//! Names from the machine: hosts from its resolver, ports from `/etc/services`.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use fulcrum_model::Protocol;
use fulcrum_model::ipvsadm::Names;

/// The machine's names. Each host is asked for once.
#[derive(Debug, Default)]
pub struct SystemNames {
    services: OnceCell<Services>,
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
}

impl SystemNames {
    fn services(&self) -> &Services {
        let read = || std::fs::read_to_string("/etc/services").unwrap_or_default();
        self.services.get_or_init(|| Services::parse(&read()))
    }
}

impl Names for SystemNames {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        (host, 0).to_socket_addrs().ok()?.find_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services().ports.get(&(name.to_owned(), protocol)).copied()
    }

    fn host(&self, address: IpAddr) -> Option<String> {
        let mut hosts = self.hosts.borrow_mut();
        let known = hosts.entry(address).or_insert_with(|| {
            // Who has no name is called by the number.
            dns_lookup::lookup_addr(&address).ok().filter(|name| name.parse::<IpAddr>().is_err())
        });
        known.clone()
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().names.get(&(port, protocol)).cloned()
    }
}

/// The contents of a services(5) file.
#[derive(Debug, Default)]
struct Services {
    ports: HashMap<(String, Protocol), u16>,
    names: HashMap<(u16, Protocol), String>,
}

impl Services {
    /// Of two lines about the same the first counts, as in getservbyname(3).
    fn parse(text: &str) -> Services {
        let mut services = Services::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(name), Some(end)) = (words.next(), words.next()) else { continue };
            let Some((port, protocol)) = end.split_once('/') else { continue };
            let (Ok(port), Some(protocol)) = (port.parse(), protocol_of(protocol)) else { continue };
            services.names.entry((port, protocol)).or_insert_with(|| name.to_owned());
            for name in std::iter::once(name).chain(words) {
                services.ports.entry((name.to_owned(), protocol)).or_insert(port);
            }
        }
        services
    }
}

fn protocol_of(name: &str) -> Option<Protocol> {
    match name {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_with_their_aliases() {
        let text = "# comment\nhttp\t80/tcp\twww  # WorldWideWeb\nwebcache 80/tcp\ndomain 53/tcp\ndomain 53/udp\nbad line\n";
        let services = Services::parse(text);
        let port = |name: &str, protocol| services.ports.get(&(name.to_owned(), protocol)).copied();
        assert_eq!(port("http", Protocol::Tcp), Some(80));
        assert_eq!(port("www", Protocol::Tcp), Some(80));
        assert_eq!(port("www", Protocol::Udp), None);
        assert_eq!(port("domain", Protocol::Udp), Some(53));
        assert_eq!(services.names[&(80, Protocol::Tcp)], "http");
    }

    #[test]
    fn hosts_without_a_name_stay_numbers() {
        let names = SystemNames::default();
        // TEST-NET-1 has no names.
        assert_eq!(names.host([192, 0, 2, 1].into()), None);
        assert_eq!(names.address("no-such-host.invalid"), None);
    }
}
