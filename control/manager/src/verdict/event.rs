//! What happens to servers and services: told in the log, kept for a while, and streamed to whoever follows.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use fulcrum_model::{ServerKey, ServiceKey};
use tokio::sync::broadcast;
use tracing::{info, warn};

/// How many past events are kept.
pub const KEPT: usize = 4096;

/// Events that a follower may be behind before it misses some.
const BEHIND: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// What.
    pub kind: EventKind,
    /// To which service.
    pub service: ServiceKey,
    /// To which of its servers, if to one.
    pub server: Option<ServerKey>,
    /// Why.
    pub why: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A server passes its checks again.
    ServerUp,
    /// A server fails a check.
    ServerDown,
    /// A server cannot be checked; it stays what it was.
    ServerUnknown,
    /// A server gets no new connections.
    ServerDraining,
    /// A server is taken out.
    ServerDisabled,
    /// A server may work again.
    ServerEnabled,
    /// There is not enough of a service's servers.
    QuorumLost,
    /// There is enough of them again.
    QuorumGained,
    /// The sorry server answers.
    SorryOn,
    /// It does not any more.
    SorryOff,
}

impl EventKind {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::ServerUp => "server-up",
            EventKind::ServerDown => "server-down",
            EventKind::ServerUnknown => "server-unknown",
            EventKind::ServerDraining => "server-draining",
            EventKind::ServerDisabled => "server-disabled",
            EventKind::ServerEnabled => "server-enabled",
            EventKind::QuorumLost => "quorum-lost",
            EventKind::QuorumGained => "quorum-gained",
            EventKind::SorryOn => "sorry-on",
            EventKind::SorryOff => "sorry-off",
        }
    }

    /// Whether somebody should look.
    const fn is_trouble(self) -> bool {
        matches!(
            self,
            EventKind::ServerDown | EventKind::ServerUnknown | EventKind::QuorumLost | EventKind::SorryOn
        )
    }
}

/// An event with its number.
pub type Numbered = (u64, Event);

/// Events of this process, numbered from 1 on.
#[derive(Debug)]
pub struct Events {
    past: Mutex<VecDeque<Numbered>>,
    new: broadcast::Sender<Numbered>,
}

impl Default for Events {
    fn default() -> Events {
        Events { past: Mutex::default(), new: broadcast::Sender::new(BEHIND) }
    }
}

impl Events {
    /// Takes note of events, in the log too.
    pub fn put(&self, events: Vec<Event>) {
        let mut past = self.past.lock().unwrap_or_else(|poison| poison.into_inner());
        for event in events {
            log(&event);
            let number = past.back().map_or(0, |(number, _)| *number) + 1;
            if past.len() == KEPT {
                past.pop_front();
            }
            past.push_back((number, event.clone()));
            // Nobody has to follow.
            let _ = self.new.send((number, event));
        }
    }

    /// Past events, oldest first, and those from now on; none is in both and none between.
    pub fn follow(&self) -> (Vec<Numbered>, broadcast::Receiver<Numbered>) {
        let past = self.past.lock().unwrap_or_else(|poison| poison.into_inner());
        (past.iter().cloned().collect(), self.new.subscribe())
    }
}

fn log(event: &Event) {
    let Event { kind, service, server, why, .. } = event;
    let (event, server) = (kind.name(), server.map(tracing::field::display));
    match kind.is_trouble() {
        true => warn!(event, %service, server, why, "{event}"),
        false => info!(event, %service, server, why, "{event}"),
    }
}
