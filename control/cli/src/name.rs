//! How things are named in arguments: services, servers, addresses.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use fulcrum_api::dataplane::SessionEnd;
use fulcrum_model::{Family, Protocol, ServerKey, ServiceKey};
use ipnet::IpNet;

use crate::failure::Failure;

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port, when one was given.
    pub port: Option<u16>,
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        if let Ok(both) = text.parse::<SocketAddr>() {
            return Ok(Endpoint { address: both.ip(), port: Some(both.port()) });
        }
        match text.parse() {
            Ok(address) => Ok(Endpoint { address, port: None }),
            Err(_) => {
                Err("neither an address nor an address with a port, such as 172.16.100.9:80".to_owned())
            }
        }
    }
}

/// One end of sessions: an address or a network, a port, or an address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The network, when an address was given.
    pub network: Option<IpNet>,
    /// The port, when one was given.
    pub port: Option<u16>,
}

impl std::str::FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<End, String> {
        if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
            return Ok(End { network: None, port: Some(port) });
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(End { network: Some(network.trunc()), port: None });
        }
        match text.parse::<Endpoint>() {
            Ok(end) => Ok(End { network: Some(end.address.into()), port: end.port }),
            Err(_) => {
                Err("no end of a session, such as 10.0.0.2, 10.0.0.2:4000, 10.0.0.0/8 or :4000".to_owned())
            }
        }
    }
}

impl From<End> for SessionEnd {
    fn from(end: End) -> SessionEnd {
        SessionEnd { network: end.network.as_ref().map(Into::into), port: end.port.map(Into::into) }
    }
}

/// Reads a transport protocol.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err("one of tcp, udp, sctp".to_owned()),
    }
}

/// What a service goes by: the first word of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// TCP, by address and port
    Tcp,
    /// UDP, by address and port
    Udp,
    /// SCTP, by address and port
    Sctp,
    /// The mark that IPv4 packets carry
    Fwm,
    /// The mark that IPv6 packets carry
    Fwm6,
}

/// Reads a mark: decimal, or hexadecimal with 0x.
pub fn mark(text: &str) -> Result<u32, String> {
    let read = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    read.map_err(|_| format!("`{text}` is no mark such as 10 or 0x1f"))
}

/// The service that goes by this.
fn service_key(kind: Kind, place: &str) -> Result<ServiceKey, Failure> {
    let by_address = |protocol| {
        let Endpoint { address, port } = place.parse()?;
        Ok(ServiceKey::new(protocol, address, port.unwrap_or(0)))
    };
    let by_mark = |family| Ok(ServiceKey::Mark { family, mark: mark(place)? });
    let key: Result<ServiceKey, String> = match kind {
        Kind::Tcp => by_address(Protocol::Tcp),
        Kind::Udp => by_address(Protocol::Udp),
        Kind::Sctp => by_address(Protocol::Sctp),
        Kind::Fwm => by_mark(Family::V4),
        Kind::Fwm6 => by_mark(Family::V6),
    };
    key.map_err(|why| Failure::Usage(format!("`{place}` names no service: {why}")))
}

/// Reads the two words that name a service.
pub fn service(first: &str, second: &str) -> Result<ServiceKey, Failure> {
    match Kind::from_str(first, true) {
        Ok(kind) => service_key(kind, second),
        Err(_) => Err(Failure::Usage(format!("`{first}` is none of tcp, udp, sctp, fwm, fwm6"))),
    }
}

/// The service that a command is about.
#[derive(Clone, Debug, Args)]
pub struct ServiceName {
    /// What the service goes by
    #[arg(value_enum, ignore_case = true)]
    pub kind: Kind,
    /// Virtual address and port, without a port every port; or the mark
    #[arg(value_name = "ADDRESS[:PORT]|MARK")]
    pub service: String,
}

impl ServiceName {
    /// The model's name of it.
    pub fn key(&self) -> Result<ServiceKey, Failure> {
        service_key(self.kind, &self.service)
    }
}

/// The service that a command is about, or all.
#[derive(Clone, Debug, Args)]
pub struct AnyService {
    /// What the service goes by
    #[arg(value_enum, ignore_case = true, requires = "service")]
    pub kind: Option<Kind>,
    /// Virtual address and port, or mark, of one service; all services without
    #[arg(value_name = "ADDRESS[:PORT]|MARK")]
    pub service: Option<String>,
}

impl AnyService {
    /// The model's name of it.
    pub fn key(&self) -> Result<Option<ServiceKey>, Failure> {
        match (self.kind, &self.service) {
            (Some(kind), Some(place)) => service_key(kind, place).map(Some),
            _ => Ok(None),
        }
    }
}

/// The server that a command is about.
#[derive(Clone, Debug, Args)]
pub struct ServerName {
    /// The service
    #[command(flatten)]
    pub service: ServiceName,
    /// Address and port of the real server; without a port: the service's
    #[arg(value_name = "SERVER[:PORT]")]
    pub server: Endpoint,
}

impl ServerName {
    /// The model's names of its service and of it.
    pub fn keys(&self) -> Result<(ServiceKey, ServerKey), Failure> {
        let service = self.service.key()?;
        let port = self.server.port.or(service.port()).unwrap_or(0);
        Ok((service, ServerKey { address: self.server.address, port }))
    }
}

/// Reads what an option calls `none`.
pub fn unless_none(text: &str) -> Option<String> {
    (text != "none").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_sessions_are_read_and_nonsense_is_not() {
        let end = |text: &str| {
            let end: End = text.parse()?;
            Ok::<_, String>((end.network.map(|net| net.to_string()), end.port))
        };
        let network = |text: &str| Some(text.to_owned());
        assert_eq!(end("10.0.0.2"), Ok((network("10.0.0.2/32"), None)));
        assert_eq!(end("10.0.0.2:80"), Ok((network("10.0.0.2/32"), Some(80))));
        assert_eq!(end("10.1.2.3/8"), Ok((network("10.0.0.0/8"), None)));
        assert_eq!(end("[2001:db8::1]:80"), Ok((network("2001:db8::1/128"), Some(80))));
        assert_eq!(end("2001:db8::/32"), Ok((network("2001:db8::/32"), None)));
        assert_eq!(end(":80"), Ok((None, Some(80))));
        for text in ["", ":", "10.0.0", "10.0.0.2:70000", "10.0.0.0/33", "web:80"] {
            assert!(end(text).is_err(), "{text}");
        }
    }

    #[test]
    fn services_go_by_address_or_by_mark() {
        let named = |first, second| service(first, second).map(|key| key.to_string());
        assert_eq!(named("tcp", "10.0.0.1:80").unwrap(), "tcp 10.0.0.1:80");
        assert_eq!(named("SCTP", "10.0.0.1").unwrap(), "sctp 10.0.0.1:0");
        assert_eq!(named("udp", "[2001:db8::1]:53").unwrap(), "udp [2001:db8::1]:53");
        assert_eq!(service("fwm", "10").unwrap(), ServiceKey::Mark { family: Family::V4, mark: 10 });
        assert_eq!(service("fwm6", "0x1f").unwrap(), ServiceKey::Mark { family: Family::V6, mark: 31 });
        for (first, second, why) in [
            ("icmp", "10.0.0.1", "`icmp` is none of tcp, udp, sctp, fwm, fwm6"),
            ("tcp", "10", "neither an address nor an address with a port"),
            ("fwm", "10.0.0.1:80", "`10.0.0.1:80` is no mark such as 10"),
            ("fwm", "4294967296", "is no mark"),
        ] {
            let said = named(first, second).unwrap_err();
            assert!(said.to_string().contains(why), "{said}");
        }
    }
}
