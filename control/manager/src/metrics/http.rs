//! The HTTP server of `/metrics` and `/healthz`: bounded, and never in anybody's way.
//!
//! Scrapes that come while one is being made wait for the next one and share it: any number of them asks the data
//! plane once at a time. Connections are bounded in number and in time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::families::families;
use super::scrape::Source;
use super::{health, text};

/// Connections at a time; others wait until one ends.
const CONNECTIONS: usize = 128;
/// A request has come whole within this time, or an idle connection is closed.
const REQUEST: Duration = Duration::from_secs(30);
/// A connection is asked to end after this time…
const CONNECTION: Duration = Duration::from_secs(300);
/// …and ended after this, whether its answer was taken or not.
const ANSWER: Duration = Duration::from_secs(30);
/// After the system refused to accept, as it does without file descriptors left.
const REFUSED: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve [control] metrics at {address}: {source}; choose an address of this host and a port that is free"
)]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError { address, source })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, source: Source) -> Infallible {
    let pages = Arc::new(Pages { source, last: Mutex::default() });
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(async || (StatusCode::NOT_FOUND, "here are /metrics and /healthz\n"))
        .with_state(pages);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    converse(stream, router).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(REFUSED).await,
        }
    }
}

/// Answers the requests of one connection.
async fn converse(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "a connection for metrics ended early");
            }
        }
        () = sleep(CONNECTION) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(ANSWER, connection).await;
        }
    }
}

/// The metrics as they were last told.
#[derive(Debug)]
struct Pages {
    source: Source,
    last: Mutex<Option<(Instant, Page)>>,
}

/// Metrics in OpenMetrics' format, and once somebody wants them in the older one, in that too; clones share them.
#[derive(Clone, Debug, Default)]
struct Page {
    open: Bytes,
    plain: Arc<OnceCell<Bytes>>,
}

impl Page {
    fn new(open: String) -> Page {
        Page { open: open.into(), plain: Arc::default() }
    }

    async fn plain(&self) -> Bytes {
        let make = async || {
            let open = self.open.clone();
            let plain = move || text::plain(&String::from_utf8_lossy(&open)).into();
            tokio::task::spawn_blocking(plain).await.unwrap_or_default()
        };
        self.plain.get_or_init(make).await.clone()
    }
}

impl Pages {
    /// Metrics of after `asked`.
    async fn since(&self, asked: Instant) -> Page {
        let mut last = self.last.lock().await;
        if let Some((begun, page)) = &*last
            && *begun >= asked
        {
            return page.clone();
        }
        let begun = Instant::now();
        let scrape = self.source.look().await;
        let made = tokio::task::spawn_blocking(|| {
            Page::new(text::open_metrics(scrape, families()).unwrap_or_default())
        });
        let page = made.await.unwrap_or_default();
        *last = Some((begun, page.clone()));
        page
    }
}

async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let asked = Instant::now();
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let open = accepted.contains("application/openmetrics-text");
    // A task of its own: who goes away does not leave a scrape half made, to be begun again by the next one.
    let page = tokio::spawn(async move { pages.since(asked).await }).await.unwrap_or_default();
    let (kind, text) = if open { (OPEN_METRICS, page.open) } else { (PLAIN, page.plain().await) };
    match text.is_empty() {
        true => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        false => ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response(),
    }
}

async fn healthz(State(pages): State<Arc<Pages>>) -> Response {
    let health = health::of(&pages.source).await;
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = serde_json::to_string_pretty(&health).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response()
}
