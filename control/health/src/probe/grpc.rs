//! `grpc`: the standard health service, grpc.health.v1.

use std::sync::Mutex;

use fulcrum_model::CheckTls;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::http::AGENT;
use super::{Asked, Tools, Trouble, bad, connect, quoted, tls};
use crate::target::Target;

pub(super) async fn ask(tools: &Tools, target: &Target, service: &str, secure: Option<&CheckTls>) -> Asked {
    let stream = connect::stream(tools, target).await?;
    let stream: Box<dyn Stream> = match secure {
        None => Box::new(stream),
        Some(secure) => Box::new(tls::over(stream, &tools.trust, target, secure, None, Some("h2")).await?),
    };
    let scheme = if secure.is_some() { "https" } else { "http" };
    let here = |error: tonic::transport::Error| Trouble::Here(format!("no gRPC: {error}"));
    let origin = format!("{scheme}://{}", target.socket()).try_into();
    let origin = origin.map_err(|error| Trouble::Here(format!("no gRPC: {error}")))?;
    let endpoint = Endpoint::from_static("http://server").origin(origin).user_agent(AGENT).map_err(here)?;
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().ok().and_then(|mut stream| stream.take());
        async move { stream.ok_or(std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| Trouble::Server(format!("no HTTP/2: {}", deepest(&error))))?;
    let request = HealthCheckRequest { service: service.to_owned() };
    match HealthClient::new(channel).max_decoding_message_size(4096).check(request).await {
        Ok(answer) => match ServingStatus::try_from(answer.get_ref().status) {
            Ok(ServingStatus::Serving) => Ok(()),
            Ok(status) => bad(format!("it says {}", status.as_str_name())),
            Err(_) => bad(format!("it says {}, which means nothing", answer.get_ref().status)),
        },
        Err(status) => bad(match status.code() {
            Code::Unimplemented => "it has no health service (grpc.health.v1)".to_owned(),
            Code::NotFound => format!("it knows no service `{service}`"),
            // What tonic says of a page of HTML.
            Code::Internal if status.message().starts_with("protocol error") => {
                "the answer is no gRPC".to_owned()
            }
            _ if status.message().is_empty() => format!("gRPC status {:?}", status.code()),
            code => format!("gRPC status {code:?}: {}", quoted(status.message().as_bytes())),
        }),
    }
}

/// What is below TLS or nothing.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What an error comes down to.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}
