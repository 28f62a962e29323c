//! The ways from here to a server.

mod through;

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};

use fulcrum_model::{Family, Via};
use socket2::{Domain, Protocol, Socket, Type};

use crate::target::Target;
pub use through::Through;

/// What a probe wants to talk with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// A TCP connection.
    Stream,
    /// UDP datagrams.
    Datagram,
    /// ICMP echoes.
    Echo,
}

/// A socket that is bound as its way needs it, and what it is to be connected to.
#[derive(Debug)]
pub struct Way {
    /// The socket, not connected.
    pub socket: Socket,
    /// Where to: the server, or a VIP that the way brings to the server.
    pub to: SocketAddr,
}

/// Why there is no way: a trouble of this side, which says nothing about the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoWay(pub String);

/// Finds ways to servers.
pub trait Path: Debug + Send + Sync {
    /// A socket on the way that the target's check asks for. Must not block.
    fn open(&self, target: &Target, flavour: Flavour) -> Result<Way, NoWay>;
}

/// The host's own way, the only one that it knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Path for Direct {
    fn open(&self, target: &Target, flavour: Flavour) -> Result<Way, NoWay> {
        if target.check.via != Via::Direct {
            return Err(NoWay("no way through the data plane".to_owned()));
        }
        if target.port == 0 && flavour != Flavour::Echo {
            return Err(NoWay("the server has no port of its own; give the check a port".to_owned()));
        }
        let socket = socket(flavour, target.address)?;
        if let Some(source) = target.check.source {
            bind(&socket, source, target.address)?;
        }
        Ok(Way { socket, to: target.socket() })
    }
}

fn socket(flavour: Flavour, to: IpAddr) -> Result<Socket, NoWay> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let echo = if to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let made = match flavour {
        Flavour::Stream => Socket::new(domain, Type::STREAM, Some(Protocol::TCP)),
        Flavour::Datagram => Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)),
        // Whoever is in net.ipv4.ping_group_range may have the first, CAP_NET_RAW gives the second.
        Flavour::Echo => Socket::new(domain, Type::DGRAM, Some(echo))
            .or_else(|_| Socket::new(domain, Type::RAW, Some(echo))),
    };
    let socket = made.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            NoWay("no permission to ping: it takes net.ipv4.ping_group_range or CAP_NET_RAW".to_owned())
        }
        _ => NoWay(format!("no socket: {}", words(&error))),
    })?;
    socket.set_nonblocking(true).map_err(|error| NoWay(format!("no socket: {}", words(&error))))?;
    Ok(socket)
}

fn bind(socket: &Socket, source: IpAddr, to: IpAddr) -> Result<(), NoWay> {
    if Family::of(source) != Family::of(to) {
        return Err(NoWay(format!("source address {source} and server {to} are of two families")));
    }
    socket.bind(&SocketAddr::new(source, 0).into()).map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => NoWay(format!("source address {source} is none of this host's")),
        _ => NoWay(format!("source address {source}: {}", words(&error))),
    })
}

/// What an error of the system says, without its number.
pub(crate) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => "connection closed".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed before the answer was complete".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}
