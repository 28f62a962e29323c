//! A verdict as a line of JSON, with names where the engine has numbers.

use fulcrum_director::{Verdict, VerdictKind};
use fulcrum_model::{ServerKey, ServiceKey};
use fulcrum_program::Program;
use serde::Serialize;

/// One input frame's line; displayed as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// 1-based number of the input frame.
    pub frame: u64,
    /// `forward`, `reply`, `drop`, `punt` or `hold`.
    pub verdict: &'static str,
    /// The name of a drop reason, else of the event that was counted.
    pub reason: &'static str,
    /// The service concerned, as `TCP 10.0.0.100:80` or `FWM 1`.
    pub service: Option<String>,
    /// The server concerned, as `10.1.0.11:8000` or `[2001:db8:1::b]:8000`.
    pub server: Option<String>,
    /// 1-based numbers of the frames that were sent while this one was processed.
    pub out: Vec<u64>,
}

impl Line {
    /// The line of input frame number `frame`.
    pub fn new(frame: u64, verdict: Option<Verdict>, out: Vec<u64>, program: &Program) -> Line {
        let server = verdict.and_then(|v| v.server).and_then(|id| program.server_key(id));
        let service = verdict.and_then(|v| v.service).and_then(|id| program.service_key(id));
        let service = service.or(server.map(|(service, _)| service));
        Line {
            frame,
            verdict: verdict.map_or("drop", |v| word(v.kind)),
            reason: verdict.map_or("unknown", |v| v.reason),
            service: service.map(service_text),
            server: server.map(|(_, server): (_, ServerKey)| server.to_string()),
            out,
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

pub(crate) fn word(kind: VerdictKind) -> &'static str {
    match kind {
        VerdictKind::Forward => "forward",
        VerdictKind::Reply => "reply",
        VerdictKind::Drop => "drop",
        VerdictKind::Punt => "punt",
        VerdictKind::Hold => "hold",
    }
}

/// A service as IPVS lists it: `TCP 10.0.0.100:80`, `FWM 1 IPv6`.
pub fn service_text(key: ServiceKey) -> String {
    let name = key.to_string();
    match name.split_once(' ') {
        Some((kind, rest)) => format!("{} {rest}", kind.to_uppercase()),
        None => name,
    }
}
