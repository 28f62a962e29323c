//! How things are named in arguments: services, servers, addresses.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use fulcrum_model::{Protocol, ServerKey, ServiceKey};

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

impl Endpoint {
    /// Whether `address` and `port` are meant: any port is when none was given.
    pub fn matches(&self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|wanted| wanted == port)
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
        ServiceKey {
            protocol: self.protocol,
            address: self.service.address,
            port: self.service.port.unwrap_or(0),
        }
    }
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
        let port = self.server.port.unwrap_or(self.service.key().port);
        ServerKey { address: self.server.address, port }
    }
}
