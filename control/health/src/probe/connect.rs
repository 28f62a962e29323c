//! Connections, and the check that they can be made.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;
use tokio::net::TcpStream;

use super::{Asked, Tools, Trouble, awaiting};
use crate::path::{Flavour, Way, words};
use crate::target::Target;

/// `tcp`: the handshake is the answer.
pub(super) async fn tcp(tools: &Tools, target: &Target) -> Asked {
    let stream = stream(tools, target).await?;
    // Ended by RST: no TIME_WAIT is left behind, of which a host with many checks would have many.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    Ok(())
}

/// A TCP connection to the target.
pub(super) async fn stream(tools: &Tools, target: &Target) -> Result<TcpStream, Trouble> {
    let connecting = async {
        let Way { socket, to } = tools.path.open(target, Flavour::Stream)?;
        begin(&socket, to)?;
        let stream = TcpStream::from_std(socket.into()).map_err(|error| Trouble::Here(words(&error)))?;
        stream.writable().await?;
        match stream.take_error()? {
            None => Ok(stream),
            Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Trouble::Server("no connection: the host gave up".to_owned()))
            }
            Some(error) => Err(error.into()),
        }
    };
    awaiting("connection", connecting).await
}

/// Connects a socket that does not block. What fails at once never left this host, except for a refusal by the host
/// itself.
pub(super) fn begin(socket: &Socket, to: SocketAddr) -> Result<(), Trouble> {
    match socket.connect(&to.into()) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Ok(()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => Trouble::Server(words(&error)),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Trouble::Here(format!("no route to {}", to.ip()))
            }
            io::ErrorKind::AddrNotAvailable => Trouble::Here(format!("no local port is free for {to}")),
            io::ErrorKind::PermissionDenied => Trouble::Here(format!("this host forbids to reach {to}")),
            _ => Trouble::Here(format!("no connection to {to}: {}", words(&error))),
        }),
    }
}
