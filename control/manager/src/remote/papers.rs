//! Certificates, keys and clients of the door: read, and read again when they change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use fulcrum_model::file::{Remote, RemoteClient};
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tracing::{error, info, warn};

use super::RemoteError;

/// What both ends are known by.
#[derive(Debug)]
pub struct Papers {
    remote: Remote,
    tls: watch::Sender<Arc<ServerConfig>>,
    clients: watch::Sender<Vec<RemoteClient>>,
    /// How the files were when they were read last, whatever came of it.
    read: Prints,
    /// How they were a look ago.
    seen: Prints,
}

/// By what a file that was written is known from the one before: device, inode, length, time of change.
type Print = Option<(u64, u64, u64, i64, i64)>;
type Prints = [Print; 3];

impl Papers {
    /// Reads the files.
    pub fn read(remote: &Remote) -> Result<Papers, RemoteError> {
        let prints = prints(remote);
        let tls = watch::Sender::new(load(remote)?);
        let clients = watch::Sender::new(remote.clients.clone());
        Ok(Papers { remote: remote.clone(), tls, clients, read: prints, seen: prints })
    }

    /// What connections that come are met with.
    pub fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }

    /// Who is let in.
    pub fn clients(&self) -> watch::Receiver<Vec<RemoteClient>> {
        self.clients.subscribe()
    }

    /// Reads the files again if they have changed, and are not being written any more.
    pub fn look(&mut self) {
        let now = prints(&self.remote);
        let still = std::mem::replace(&mut self.seen, now) == now;
        if still && now != self.read {
            // What is wrong has been logged, and is not tried again before it changes.
            let _ = self.again();
        }
    }

    /// Goes by what the configuration file says now, and reads the files again. What is wrong leaves in use what was
    /// read before.
    pub fn take(&mut self, remote: Option<&Remote>) -> Result<(), RemoteError> {
        match remote {
            None => {
                warn!("[control.remote] is gone: nobody is let in any more; a restart closes the address");
                self.clients.send_replace(Vec::new());
                Ok(())
            }
            Some(remote) => {
                if remote.listen != self.remote.listen {
                    let (now, wanted) = (self.remote.listen, remote.listen);
                    warn!(%now, %wanted, "another listen in [control.remote] takes a restart of fulcrum-control");
                }
                let listen = self.remote.listen;
                self.remote = Remote { listen, ..remote.clone() };
                self.clients.send_replace(remote.clients.clone());
                self.again()
            }
        }
    }

    fn again(&mut self) -> Result<(), RemoteError> {
        self.read = prints(&self.remote);
        match load(&self.remote) {
            Ok(tls) => {
                self.tls.send_replace(tls);
                info!("certificates of [control.remote] read again; connections that come get them");
                Ok(())
            }
            Err(error) => {
                error!(%error, "the certificates that were read before stay in use");
                Err(error)
            }
        }
    }
}

fn prints(remote: &Remote) -> Prints {
    [&remote.certificate, &remote.key, &remote.client_ca].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
    })
}

/// Makes of the files what a server is.
fn load(remote: &Remote) -> Result<Arc<ServerConfig>, RemoteError> {
    let certificate = read("certificate", &remote.certificate)?;
    let key = read("key", &remote.key)?;
    let authority = read("client-ca", &remote.client_ca)?;
    if fs::metadata(&remote.key).is_ok_and(|file| file.mode() & 0o004 != 0) {
        return Err(RemoteError::Exposed(remote.key.clone()));
    }
    let wrong = |what: &str, why: &dyn std::fmt::Display| RemoteError::Tls(format!("{what}: {why}"));
    let chain = certificates(&certificate).map_err(|why| wrong("certificate", &why))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|why| wrong("key", &why))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&authority).map_err(|why| wrong("client-ca", &why))? {
        roots.add(root).map_err(|why| wrong("client-ca", &why))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(|why| wrong("client-ca", &why))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| wrong("TLS", &why))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|why| wrong("certificate and key", &why))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

/// All certificates of a text, at least one.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(none) if none.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(all) => Ok(all),
        Err(why) => Err(why.to_string()),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, RemoteError> {
    fs::read(path).map_err(|source| RemoteError::File { key, path: path.to_owned(), source })
}
