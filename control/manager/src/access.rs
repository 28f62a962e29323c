//! Who asks, and what they may.
//!
//! Lives here: the one table of what each request needs, who a connection's other end is, and the layer that stands
//! before the service. Does not live here: how other machines connect (`remote`). What an edit needs beyond its
//! request is judged by the service, which reads it.

use std::fmt;
use std::task::{Context, Poll};

use fulcrum_model::Edit;
use fulcrum_model::file::{RemoteClient, Role};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo};
use tower::{Layer, Service};
use tracing::warn;

/// What requests that change nothing but look need at least. All others, those to come too, are for administrators.
const LOOKS: [&str; 9] = [
    "GetState",
    "GetConfig",
    "GetStatus",
    "ListSessions",
    "ListCounters",
    "ListNeighbours",
    "ListHealth",
    "ListVips",
    "WatchEvents",
];
/// What operators may beside looking. What edits are in it is looked at one by one.
const OPERATES: [&str; 5] = ["Edit", "ZeroCounters", "Capture", "SetVips", "WithdrawVips"];

fn needed(path: &str) -> Role {
    let method = path.rsplit('/').next().unwrap_or_default();
    match method {
        _ if LOOKS.contains(&method) => Role::Read,
        _ if OPERATES.contains(&method) => Role::Operate,
        _ => Role::Admin,
    }
}

/// What an edit needs.
pub fn needed_by(edit: &Edit) -> Role {
    match edit {
        Edit::SetServerAdmin { .. } => Role::Operate,
        _ => Role::Admin,
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// `uid 0 pid 4711`, or the name of a certificate.
    pub name: String,
    /// `socket`, or an address and port.
    pub from: String,
    /// What it may do.
    pub role: Role,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.name, self.from)
    }
}

impl Who {
    /// Whoever may connect to the Unix socket may do everything: its mode says who that is.
    fn local(info: &UdsConnectInfo) -> Who {
        let name = match &info.peer_cred {
            Some(peer) => match peer.pid() {
                Some(pid) => format!("uid {} pid {pid}", peer.uid()),
                None => format!("uid {}", peer.uid()),
            },
            None => "somebody unknown".to_owned(),
        };
        Who { name, from: "socket".to_owned(), role: Role::Admin }
    }

    /// Who has a certificate is one of the clients of that name, or nobody.
    fn remote(clients: &[RemoteClient], info: &TlsConnectInfo<TcpConnectInfo>) -> Result<Who, String> {
        let from = info.get_ref().remote_addr().map_or_else(|| "nowhere".to_owned(), |from| from.to_string());
        let certificates = info.peer_certs().unwrap_or_default();
        let first = certificates.first().ok_or_else(|| format!("{from} showed no certificate"))?;
        let read = webpki::EndEntityCert::try_from(first)
            .map_err(|error| format!("{from} showed a certificate that cannot be read: {error}"))?;
        let names: Vec<String> = read.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let known = clients.iter().filter(|client| names.contains(&client.name));
        match known.max_by_key(|client| client.role) {
            Some(client) => Ok(Who { name: client.name.clone(), from, role: client.role }),
            None => {
                let names = if names.is_empty() { "no DNS name".to_owned() } else { names.join(", ") };
                Err(format!("the certificate of {from} ({names}) is of no [[control.remote.client]]"))
            }
        }
    }
}

/// Stands before the service: finds out who asks, and turns away who may not.
#[derive(Clone, Debug)]
pub struct Access {
    clients: watch::Receiver<Vec<RemoteClient>>,
}

impl Access {
    /// For these clients with certificates, as they are when each asks, and everybody at the Unix socket.
    pub fn new(clients: watch::Receiver<Vec<RemoteClient>>) -> Access {
        Access { clients }
    }

    /// For everybody at the Unix socket alone.
    pub fn local() -> Access {
        Access::new(watch::channel(Vec::new()).1)
    }

    fn judge(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let extensions = request.extensions();
        let who =
            match (extensions.get::<UdsConnectInfo>(), extensions.get::<TlsConnectInfo<TcpConnectInfo>>()) {
                (Some(local), _) => Ok(Who::local(local)),
                (None, Some(remote)) => Who::remote(&self.clients.borrow(), remote),
                (None, None) => Err("a connection without a known end".to_owned()),
            };
        let who = who.map_err(|why| {
            warn!(why, "turned away");
            Status::permission_denied(why)
        })?;
        let (path, needed) = (request.uri().path(), needed(request.uri().path()));
        if who.role < needed {
            return Err(refused(&who, path.rsplit('/').next().unwrap_or_default(), needed));
        }
        request.extensions_mut().insert(who);
        Ok(())
    }
}

/// The answer to somebody who may not.
pub fn refused(who: &Who, what: &str, needed: Role) -> Status {
    let (role, needed) = (who.role.name(), needed.name());
    warn!(who = %who.name, from = %who.from, role, what, needed, "refused");
    Status::permission_denied(format!("{} has the role `{role}`; {what} needs `{needed}`", who.name))
}

impl<S> Layer<S> for Access {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { access: self.clone(), inner }
    }
}

/// A service that asks first who asks.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    access: Access,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.access.judge(&mut request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_there_to_be_asked() {
        let service = include_str!("../../api/proto/control.proto");
        for method in LOOKS.iter().chain(&OPERATES) {
            assert!(service.contains(&format!("rpc {method}(")), "{method}");
        }
    }

    #[test]
    fn what_is_not_known_is_for_administrators() {
        assert_eq!(needed("/fulcrum.control.v1.Control/GetState"), Role::Read);
        assert_eq!(needed("/fulcrum.control.v1.Control/Edit"), Role::Operate);
        for path in ["/fulcrum.control.v1.Control/Apply", "/fulcrum.control.v1.Control/New", "/", ""] {
            assert_eq!(needed(path), Role::Admin, "{path}");
        }
    }
}
