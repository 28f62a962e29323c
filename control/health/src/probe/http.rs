//! `http` and `https`: one request, and what the answer has to be. Redirections are answers like others.

use bytes::Bytes;
use fulcrum_model::{BodyDigest, CheckKind, StatusSet};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Asked, Tools, Trouble, bad, connect, holds, quoted, tls};
use crate::target::Target;

/// As what probes present themselves.
pub(super) const AGENT: &str = concat!("fulcrum-health/", env!("CARGO_PKG_VERSION"));

/// How much of a body is looked at.
const BODY: usize = 1 << 20;

pub(super) async fn ask(tools: &Tools, target: &Target) -> Asked {
    let CheckKind::Http { tls, method, path, host, status, body, digest } = &target.check.kind else {
        return Ok(());
    };
    let authority = host.clone().unwrap_or_else(|| authority(target, tls.is_some()));
    let request = Request::builder()
        .method(method.name())
        .uri(path.as_str())
        .header(HOST, &authority)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Trouble::Here(format!("`{path}` of `{authority}` cannot be asked for: {error}")))?;
    let stream = connect::stream(tools, target).await?;
    let wanted = Wanted { status, body: body.as_deref(), digest: *digest };
    match tls {
        None => exchange(stream, request, &wanted).await,
        Some(tls) => {
            let name = host.as_deref().map(bare);
            let stream = tls::over(stream, &tools.trust, target, tls, name, Some("http/1.1")).await?;
            exchange(stream, request, &wanted).await
        }
    }
}

/// What an answer has to be.
struct Wanted<'a> {
    status: &'a StatusSet,
    body: Option<&'a str>,
    digest: Option<BodyDigest>,
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
    wanted: &Wanted<'_>,
) -> Asked {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        judge(answer, wanted).await
    };
    tokio::pin!(asking);
    tokio::select! {
        biased;
        asked = &mut asking => asked,
        // What came until the end of the connection is still to be read.
        _ = connection => asking.await,
    }
}

async fn judge(answer: Response<Incoming>, wanted: &Wanted<'_>) -> Asked {
    let status = answer.status().as_u16();
    if !wanted.status.contains(status) {
        return bad(format!("status {status}, expected {}", wanted.status));
    }
    if wanted.body.is_none() && wanted.digest.is_none() {
        return Ok(());
    }
    let mut incoming = answer.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        if let Some(data) = frame.map_err(broken)?.data_ref() {
            body.extend_from_slice(&data[..data.len().min(BODY + 1 - body.len())]);
        }
        if body.len() > BODY {
            break;
        }
    }
    if let Some(text) = wanted.body.filter(|text| !holds(&body, text.as_bytes())) {
        return bad(format!("no {} in the body, which begins {}", quoted(text.as_bytes()), quoted(&body)));
    }
    match wanted.digest {
        Some(_) if body.len() > BODY => {
            bad("the body is longer than 1 MiB, which is what a digest is made of")
        }
        Some(BodyDigest::Md5(expected)) => same::<Md5>("md5", &body, &expected),
        Some(BodyDigest::Sha256(expected)) => same::<Sha256>("sha256", &body, &expected),
        None => Ok(()),
    }
}

fn same<D: Digest>(name: &str, body: &[u8], expected: &[u8]) -> Asked {
    let digest = D::digest(body);
    if digest.as_slice() == expected {
        return Ok(());
    }
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    bad(format!("the body's digest is {name}:{digits}, not the expected one"))
}

/// The address as a Host header has it: the port where it is not the scheme's own.
fn authority(target: &Target, secure: bool) -> String {
    let own = if secure { 443 } else { 80 };
    match (target.port == own, target.address.is_ipv6()) {
        (false, _) => target.socket().to_string(),
        (true, false) => target.address.to_string(),
        (true, true) => format!("[{}]", target.address),
    }
}

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(host),
    }
}

fn broken(error: hyper::Error) -> Trouble {
    use std::error::Error as _;
    if let Some(inner) = error.source().and_then(|inner| inner.downcast_ref::<std::io::Error>()) {
        return Trouble::Server(crate::path::words(inner));
    }
    Trouble::Server(match () {
        () if error.is_incomplete_message() => "connection closed before the answer was complete".to_owned(),
        () if error.is_parse() => "the answer is no HTTP".to_owned(),
        () if error.is_canceled() || error.is_closed() => "connection closed before the answer".to_owned(),
        () => error.to_string(),
    })
}
