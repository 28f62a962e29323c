//! The door for other machines: TCP, TLS, certificates at both ends.
//!
//! Certificates, keys and clients may change while connections are there: those that come get what is right then, those
//! that are there keep their keys, and each request is judged by the clients of its time.

mod papers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fulcrum_api::control::control_server::ControlServer;
use fulcrum_model::file::Remote;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tracing::debug;

use crate::access::Access;
use crate::service::Service;
pub use papers::Papers;

/// A client has shown its certificate within this time.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Clients that may be at that at a time; others wait.
const HANDSHAKES: usize = 64;

/// After the system refused to accept.
const REFUSED: Duration = Duration::from_millis(100);

/// Requests of one connection that are worked on at a time.
const STREAMS: usize = 32;

/// How often a connection on which nothing comes is asked whether its other end is there.
const ALIVE: Duration = Duration::from_secs(30);

/// Why other machines are not served.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The address is not to be had.
    #[error(
        "cannot serve [control.remote] at {address}: {source}; choose an address of this host and a port that is free"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not readable.
    #[error("[control.remote] {key}: cannot read {}: {source}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key that others may read is nobody's secret.
    #[error("[control.remote] key: {} may be read by everybody; give it the mode 0600 or 0640", .0.display())]
    Exposed(PathBuf),
    /// The files make no TLS.
    #[error("[control.remote] certificate, key and client-ca do not make a server: {0}")]
    Tls(String),
    /// The server ended.
    #[error("the door of [control.remote] failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// What is served on, and with what.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    access: Access,
}

impl Door {
    /// Serves until it is dropped.
    pub async fn serve(self, service: ControlServer<Service>) -> Result<(), RemoteError> {
        let (to, incoming) = mpsc::channel(1);
        let server = Server::builder()
            .concurrency_limit_per_connection(STREAMS)
            .http2_keepalive_interval(Some(ALIVE))
            .layer(self.access)
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(incoming));
        tokio::select! {
            served = server => Ok(served?),
            never = accept(self.listener, self.tls, to) => match never {},
        }
    }
}

/// Has those who come show their certificates, and hands them on.
async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    to: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) -> std::convert::Infallible {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let place = places.clone().acquire_owned().await;
        let (stream, from) = match listener.accept().await {
            Ok(came) => came,
            // It refuses when it has no file descriptors left: it is asked again a little later.
            Err(_) => {
                sleep(REFUSED).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        let to = to.clone();
        tokio::spawn(async move {
            let shown = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(place);
            match shown {
                // A server that is gone serves nobody.
                Ok(Ok(stream)) => drop(to.send(Ok(stream)).await),
                Ok(Err(error)) => debug!(%from, %error, "no TLS"),
                Err(_) => debug!(%from, "no TLS in time"),
            }
        });
    }
}

/// Takes the address and reads the files.
pub async fn open(remote: &Remote) -> Result<(Door, Papers), RemoteError> {
    let papers = Papers::read(remote)?;
    let address = remote.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| RemoteError::Address { address, source })?;
    let (tls, access) = (papers.tls(), Access::new(papers.clients()));
    Ok((Door { listener, tls, access }, papers))
}
