//! Where fulcrum-control is: behind a Unix socket of this machine, or on another one behind TLS.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fulcrum_api::socket;
use fulcrum_model::file;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::failure::Failure;

/// Another machine answers within this time.
const CONNECT: Duration = Duration::from_secs(5);

/// Where fulcrum-control is.
#[derive(Clone, Debug, clap::Args)]
pub struct Door {
    /// Socket of fulcrum-control
    #[arg(long, global = true, value_name = "PATH", default_value = file::DEFAULT_CONTROL_SOCKET)]
    #[arg(env = "FULCRUM_SOCKET")]
    pub socket: PathBuf,
    /// fulcrum-control of another machine, instead of the socket; needs --ca, --certificate and --key
    #[arg(long, global = true, value_name = "HOST:PORT", env = "FULCRUM_DIRECTOR")]
    pub director: Option<String>,
    /// Certificates of those who vouch for that director (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "FULCRUM_CA")]
    pub ca: Option<PathBuf>,
    /// Certificate to show it (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "FULCRUM_CERTIFICATE")]
    pub certificate: Option<PathBuf>,
    /// Key of that certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "FULCRUM_KEY")]
    pub key: Option<PathBuf>,
}

impl Door {
    /// Behind this socket.
    pub fn at(socket: &Path) -> Door {
        Door { socket: socket.to_owned(), director: None, ca: None, certificate: None, key: None }
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Channel, Failure> {
        match &self.director {
            None => local(&self.socket).await,
            Some(director) => self.remote(director).await,
        }
    }

    async fn remote(&self, director: &str) -> Result<Channel, Failure> {
        let read = |option: &str, path: &Option<PathBuf>| {
            let missing = || Failure::Usage(format!("--director needs {option} FILE, too"));
            let path = path.as_ref().ok_or_else(missing)?;
            fs::read(path).map_err(|source| Failure::file(path, source))
        };
        let ca = Certificate::from_pem(read("--ca", &self.ca)?);
        let identity =
            Identity::from_pem(read("--certificate", &self.certificate)?, read("--key", &self.key)?);
        let tls = ClientTlsConfig::new().ca_certificate(ca).identity(identity);
        let wrong = |why: String| {
            Failure::Usage(format!("--director {director}: {why}; right is such as lb1.example.org:4433"))
        };
        let endpoint = Endpoint::from_shared(format!("https://{director}"))
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(CONNECT)
            .tls_config(tls)
            .map_err(|error| wrong(innermost(&error)))?;
        if endpoint.uri().port().is_none() || endpoint.uri().path() != "/" {
            return Err(wrong("that is no host with a port".to_owned()));
        }
        endpoint.connect().await.map_err(|error| Failure::Unreachable(director.to_owned(), innermost(&error)))
    }
}

async fn local(path: &Path) -> Result<Channel, Failure> {
    socket::connect(path).await.map_err(|error| match root_kind(&error) {
        Some(ErrorKind::PermissionDenied) => Failure::Forbidden(path.to_owned()),
        _ => Failure::NotRunning(path.to_owned()),
    })
}

/// The kind of the I/O error at the bottom of `error`.
fn root_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => Some(io.kind()),
        None => root_kind(error.source()?),
    }
}

/// What the error at the bottom of `error` says.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
