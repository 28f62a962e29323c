//! What is probed, what came of one probe, and what is known of the server.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fulcrum_model::Check;

/// One thing that is probed. Equal ones are one probe, however many services and checks ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The check, without its name: that alone makes no other probe.
    pub check: Arc<Check>,
    /// The server's address.
    pub address: IpAddr,
    /// The port that is asked, 0 when there is none.
    pub port: u16,
    /// The virtual service for which it is asked, where that makes a difference.
    pub vip: Option<SocketAddr>,
}

impl Target {
    /// What `check` asks of the server at `address` and `port` for the service at `vip`.
    pub fn new(check: &Check, address: IpAddr, port: u16, vip: Option<SocketAddr>) -> Target {
        Target {
            address,
            port: if check.kind.has_port() { check.port.unwrap_or(port) } else { 0 },
            vip: vip.filter(|_| check.needs_vip()),
            check: Arc::new(Check { name: String::new(), ..check.clone() }),
        }
    }

    /// The same without how often it is asked and what a row of answers means.
    pub(crate) fn question(&self) -> Target {
        let Check { source, via, .. } = *self.check;
        let check = Check { source, via, ..Check::new("", self.check.kind.clone()) };
        Target { check: Arc::new(check), ..self.clone() }
    }

    /// Address and port together.
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{} {}", self.check.kind.name(), self.address),
            _ => write!(f, "{} {}", self.check.kind.name(), self.socket()),
        }
    }
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer was good.
    Good,
    /// The answer was bad, or there was none: why, in words.
    Bad(String),
    /// Nothing was asked, for a reason on this side that says nothing about the server.
    Unasked(String),
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing yet, or nothing any more.
    #[default]
    Unknown,
    /// It serves.
    Up,
    /// It does not.
    Down,
}

impl Verdict {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            Verdict::Up => "up",
            Verdict::Down => "down",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The target.
    pub target: Target,
    /// What is known of it.
    pub verdict: Verdict,
    /// Since when that is known.
    pub since: SystemTime,
    /// Why it is not up, or why the last probe was bad though it still is.
    pub last_error: Option<String>,
    /// When it was last asked.
    pub last: Option<SystemTime>,
    /// When it is asked next; `None` while it is being asked.
    pub next: Option<SystemTime>,
    /// How long the last probe took.
    pub took: Option<Duration>,
    /// Good answers so far.
    pub good: u64,
    /// Bad answers so far.
    pub bad: u64,
    /// Probes so far that were not made.
    pub unasked: u64,
    /// The [change](crate::Prober::changes) that last changed verdict or error.
    pub changed: u64,
}
