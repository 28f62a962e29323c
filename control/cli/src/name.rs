//! How things are named in arguments: services, servers, addresses.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use fulcrum_api::dataplane::SessionEnd;
use fulcrum_model::{Protocol, ServerKey, ServiceKey};
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

/// Reads `tcp` or `udp`.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err("either tcp or udp".to_owned()),
    }
}

/// The service that a command is about.
#[derive(Clone, Copy, Debug, Args)]
pub struct ServiceName {
    /// tcp or udp
    #[arg(value_parser = protocol)]
    pub protocol: Protocol,
    /// Virtual address and port; without a port: every port
    #[arg(value_name = "ADDRESS[:PORT]")]
    pub service: Endpoint,
}

impl ServiceName {
    /// The model's name of it.
    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(self.protocol, self.service.address, self.service.port.unwrap_or(0))
    }
}

/// Reads the two words that name a service, as an option has them; no words, no service.
pub fn service(words: &[String]) -> Result<Option<ServiceKey>, Failure> {
    let [first, second] = words else { return Ok(None) };
    let name = protocol(first).and_then(|protocol| Ok(ServiceName { protocol, service: second.parse()? }));
    name.map(|name| Some(name.key()))
        .map_err(|why| Failure::Usage(format!("`{first} {second}` names no service: {why}")))
}

/// The service that a command is about, or all.
#[derive(Clone, Copy, Debug, Args)]
pub struct AnyService {
    /// tcp or udp
    #[arg(value_parser = protocol, requires = "service")]
    pub protocol: Option<Protocol>,
    /// Virtual address and port of one service; all services without
    #[arg(value_name = "ADDRESS[:PORT]")]
    pub service: Option<Endpoint>,
}

impl AnyService {
    /// The model's name of it.
    pub fn key(&self) -> Option<ServiceKey> {
        Some(ServiceName { protocol: self.protocol?, service: self.service? }.key())
    }
}

/// The server that a command is about.
#[derive(Clone, Copy, Debug, Args)]
pub struct ServerName {
    /// The service
    #[command(flatten)]
    pub service: ServiceName,
    /// Address and port of the real server; without a port: the service's
    #[arg(value_name = "SERVER[:PORT]")]
    pub server: Endpoint,
}

impl ServerName {
    /// The model's name of it.
    pub fn key(&self) -> ServerKey {
        let port = self.server.port.or(self.service.service.port).unwrap_or(0);
        ServerKey { address: self.server.address, port }
    }
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
}
