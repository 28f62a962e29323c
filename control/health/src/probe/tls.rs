//! TLS below a probe: whom it trusts, and what was wrong with a server in words.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use fulcrum_model::CheckTls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::{Trouble, awaiting, quoted};
use crate::path::words;
use crate::target::Target;

/// Configurations by what checks ask for, made once as long as their files stay the same.
#[derive(Debug, Default)]
pub(super) struct Trust {
    host: OnceLock<Arc<RootCertStore>>,
    configs: Mutex<HashMap<Wanted, Made>>,
}

/// A configuration, and of when the file is that it was made from.
type Made = (Option<SystemTime>, Arc<ClientConfig>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    ca: Option<String>,
    verify: bool,
    protocol: Option<&'static str>,
}

/// TLS over a connection. The server is called by the check's name for it, else by `host`, else by its address.
/// `protocol` is what is spoken on top, by its name in ALPN.
pub(super) async fn over(
    stream: TcpStream,
    trust: &Trust,
    target: &Target,
    tls: &CheckTls,
    host: Option<&str>,
    protocol: Option<&'static str>,
) -> Result<TlsStream<TcpStream>, Trouble> {
    let config = trust.config(tls, protocol)?;
    let called = tls.name.as_deref().or(host);
    let name = match called {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| Trouble::Here(format!("`{name}` is no name that a certificate can have")))?,
        None => ServerName::from(target.address),
    };
    let expected = called.map_or(target.address.to_string(), str::to_owned);
    awaiting("TLS handshake", TlsConnector::from(config).connect(name, stream))
        .await
        .map_err(|error| Trouble::Server(why(&error, &expected)))
}

impl Trust {
    fn config(&self, tls: &CheckTls, protocol: Option<&'static str>) -> Result<Arc<ClientConfig>, Trouble> {
        let changed = match tls.ca.as_ref().filter(|_| tls.verify) {
            Some(path) => {
                Some(fs::metadata(path).and_then(|file| file.modified()).map_err(|e| no_ca(path, e))?)
            }
            None => None,
        };
        let wanted = Wanted { ca: tls.ca.clone(), verify: tls.verify, protocol };
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((as_of, config)) = configs.get(&wanted)
            && *as_of == changed
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.made(&wanted)?);
        configs.insert(wanted, (changed, Arc::clone(&config)));
        Ok(config)
    }

    fn made(&self, wanted: &Wanted) -> Result<ClientConfig, Trouble> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Trouble::Here(format!("no TLS: {error}")))?;
        let builder = match (wanted.verify, &wanted.ca) {
            (false, _) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
            (true, Some(path)) => builder.with_root_certificates(from_file(path)?),
            (true, None) => builder.with_root_certificates(self.of_the_host()?),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = wanted.protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }

    /// Those whom the host trusts.
    fn of_the_host(&self) -> Result<Arc<RootCertStore>, Trouble> {
        let store = self.host.get_or_init(|| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(store)
        });
        match store.is_empty() {
            true => Err(Trouble::Here("this host trusts nobody; give tls-ca, or verify = false".to_owned())),
            false => Ok(Arc::clone(store)),
        }
    }
}

fn from_file(path: &str) -> Result<Arc<RootCertStore>, Trouble> {
    let text = fs::read(path).map_err(|error| no_ca(path, error))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| store.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| Trouble::Here(format!("tls-ca {path}: {error}")))?;
    }
    match store.is_empty() {
        true => Err(Trouble::Here(format!("tls-ca {path} holds no certificate"))),
        false => Ok(Arc::new(store)),
    }
}

fn no_ca(path: &str, error: io::Error) -> Trouble {
    Trouble::Here(format!("tls-ca {path}: {}", words(&error)))
}

/// What was wrong with a server.
fn why(error: &io::Error, expected: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else { return format!("no TLS: {}", words(error)) };
    match inner {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            CertificateError::UnknownIssuer => "its certificate is of an unknown issuer".to_owned(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("its certificate is not for {expected}")
            }
            other => format!("its certificate is bad: {other}"),
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("it refuses TLS: {alert:?}"),
        other => format!("no TLS: {}", quoted(other.to_string().as_bytes()).trim_matches('`')),
    }
}

/// Takes every certificate for good; the handshake has to be right all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
