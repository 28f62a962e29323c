//! The door for other machines: TCP, TLS, certificates at both ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fulcrum_api::control::control_server::ControlServer;
use fulcrum_model::file::Remote;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::access::Access;
use crate::service::Service;

/// A client has shown its certificate within this time.
const HANDSHAKE: Duration = Duration::from_secs(5);

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
        address: std::net::SocketAddr,
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
    Tls(tonic::transport::Error),
}

/// What is served on, and with what.
#[derive(Debug)]
pub struct Door {
    /// Where.
    pub listener: TcpListener,
    /// With which certificates.
    pub tls: ServerTlsConfig,
}

impl Door {
    /// Serves until it is dropped.
    pub async fn serve(self, access: Access, service: ControlServer<Service>) -> Result<(), RemoteError> {
        // The system refuses to accept when it has no file descriptors left: it is asked again a little later.
        let incoming = TcpListenerStream::new(self.listener).then(async |next| {
            if next.is_err() {
                sleep(REFUSED).await;
            }
            next
        });
        let server = Server::builder().tls_config(self.tls).map_err(RemoteError::Tls)?;
        let served = server
            .concurrency_limit_per_connection(STREAMS)
            .http2_keepalive_interval(Some(ALIVE))
            .layer(access)
            .add_service(service)
            .serve_with_incoming(incoming);
        served.await.map_err(RemoteError::Tls)
    }
}

/// Takes the address and reads the files.
pub async fn open(remote: &Remote) -> Result<Door, RemoteError> {
    use std::os::unix::fs::MetadataExt as _;

    let certificate = read("certificate", &remote.certificate)?;
    let key = read("key", &remote.key)?;
    let authority = read("client-ca", &remote.client_ca)?;
    if fs::metadata(&remote.key).is_ok_and(|file| file.mode() & 0o004 != 0) {
        return Err(RemoteError::Exposed(remote.key.clone()));
    }
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority))
        .timeout(HANDSHAKE);
    let address = remote.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| RemoteError::Address { address, source })?;
    Ok(Door { listener, tls })
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, RemoteError> {
    fs::read(path).map_err(|source| RemoteError::File { key, path: path.to_owned(), source })
}
