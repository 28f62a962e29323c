//! One probe: what is asked, and what the answer is worth. A file a kind.
//!
//! Errors are words for operators. What a server said goes into them only in part and without control characters.

mod connect;
mod dns;
mod exec;
mod grpc;
mod http;
mod ping;
mod smtp;
mod tls;
mod udp;

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fulcrum_model::CheckKind;
use tokio::time::timeout;

use crate::path::{NoWay, Path, words};
use crate::target::{Outcome, Target};

/// What probes share.
#[derive(Debug)]
pub struct Tools {
    path: Arc<dyn Path>,
    trust: tls::Trust,
}

impl Tools {
    /// With ways to servers.
    pub fn new(path: Arc<dyn Path>) -> Tools {
        Tools { path, trust: tls::Trust::default() }
    }
}

tokio::task_local! {
    /// What the probe waits for, in words that follow a "no".
    static AWAITED: Cell<&'static str>;
}

/// Asks a target once, within its check's time-out.
pub async fn probe(tools: &Tools, target: &Target) -> Outcome {
    let limit = target.check.timeout;
    let ask = async {
        match &target.check.kind {
            CheckKind::Tcp => connect::tcp(tools, target).await,
            CheckKind::Http { .. } => http::ask(tools, target).await,
            CheckKind::Udp { send, reply } => udp::ask(tools, target, send, reply.as_deref()).await,
            CheckKind::Dns { query, record, rcode, answer } => {
                dns::ask(tools, target, (query, *record), *rcode, answer).await
            }
            CheckKind::Smtp { helo, tls } => smtp::ask(tools, target, helo.as_deref(), tls.as_ref()).await,
            CheckKind::Ping => ping::ask(tools, target).await,
            CheckKind::Exec { program, arguments } => exec::ask(target, program, arguments).await,
            CheckKind::Grpc { service, tls } => grpc::ask(tools, target, service, tls.as_ref()).await,
        }
    };
    // One clock for all that a probe does: of two with the same limit either may strike first.
    let asked = async { timeout(limit, ask).await.map_err(|_| AWAITED.with(Cell::get)) };
    match AWAITED.scope(Cell::new("answer"), asked).await {
        Ok(Ok(())) => Outcome::Good,
        Ok(Err(Trouble::Server(why))) => Outcome::Bad(why),
        Ok(Err(Trouble::Here(why))) => Outcome::Unasked(why),
        Err(awaited) => Outcome::Bad(late(awaited, limit)),
    }
}

/// Goes on with `work`; a probe that ends meanwhile is told to have waited for `what`.
async fn awaiting<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let before = AWAITED.with(|awaited| awaited.replace(what));
    let done = work.await;
    AWAITED.with(|awaited| awaited.set(before));
    done
}

/// Why an answer was not good.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// The server's.
    Server(String),
    /// This side's.
    Here(String),
}

impl From<NoWay> for Trouble {
    fn from(why: NoWay) -> Trouble {
        Trouble::Here(why.0)
    }
}

/// An error while talking, which is the server's.
impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Server(words(&error))
    }
}

type Asked = Result<(), Trouble>;

fn bad<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Server(why.into()))
}

/// `no answer within 2 s`
fn late(what: &str, limit: Duration) -> String {
    match limit.subsec_millis() {
        0 => format!("no {what} within {} s", limit.as_secs()),
        _ => format!("no {what} within {} ms", limit.as_millis()),
    }
}

/// The beginning of what somebody else said, fit for a line of a log.
fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
    let line = text.trim().lines().next().unwrap_or_default().trim_end();
    let short: String = line.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect();
    if short.len() < line.len() { format!("`{short}…`") } else { format!("`{short}`") }
}

/// Whether `text` holds `part`.
fn holds(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// A number that nobody can guess.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}
