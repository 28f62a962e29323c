//! `udp`: a datagram, and a reply or at least no ICMP error.

use std::io;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::connect::begin;
use super::{Asked, Tools, Trouble, bad, holds, quoted};
use crate::path::{Flavour, Way, words};
use crate::target::Target;

pub(super) async fn ask(tools: &Tools, target: &Target, send: &[u8], reply: Option<&[u8]>) -> Asked {
    let socket = socket(tools, target).await?;
    self::send(&socket, send).await?;
    let mut buffer = vec![0; 65535];
    let waiting = async {
        let length = socket.recv(&mut buffer).await.map_err(refused)?;
        match reply {
            Some(expected) if !holds(&buffer[..length], expected) => {
                bad(format!("reply {} has no {} in it", quoted(&buffer[..length]), quoted(expected)))
            }
            _ => Ok(()),
        }
    };
    match reply {
        Some(_) => waiting.await,
        // As long as a probe may take, less what it takes to say so.
        None => timeout(target.check.timeout.mul_f64(0.9), waiting).await.unwrap_or(Ok(())),
    }
}

/// A socket that is connected, so that ICMP errors come back by it.
pub(super) async fn socket(tools: &Tools, target: &Target) -> Result<UdpSocket, Trouble> {
    let Way { socket, to } = tools.path.open(target, Flavour::Datagram)?;
    begin(&socket, to)?;
    UdpSocket::from_std(socket.into()).map_err(|error| Trouble::Here(words(&error)))
}

pub(super) async fn send(socket: &UdpSocket, bytes: &[u8]) -> Asked {
    match socket.send(bytes).await {
        Ok(_) => Ok(()),
        // What an earlier datagram of nobody else's could have met; of this one nothing is known yet.
        Err(error) => Err(Trouble::Here(format!("nothing could be sent: {}", words(&error)))),
    }
}

/// What ICMP says of a datagram.
pub(super) fn refused(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Trouble::Server("port unreachable".to_owned()),
        _ => error.into(),
    }
}
