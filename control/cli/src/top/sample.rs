//! One look at the director, and what grew since the one before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use fulcrum_api::control::{ControlStatus, ServiceStanding, Status};
use fulcrum_api::dataplane::{CountersChunk, DataplaneStatus, NamedCount};
use fulcrum_model::{ServerKey, ServiceKey, State};

use crate::client::Client;
use crate::door::Door;
use crate::failure::Failure;

/// What was seen.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) status: Status,
    /// Empty without a data plane.
    pub(super) counters: CountersChunk,
    /// The desired state.
    pub(super) state: Arc<State>,
    pub(super) states: States,
}

/// Servers that are not as they should be, with their states.
pub(super) type States = HashMap<(ServiceKey, ServerKey), String>;

/// Who looks.
#[derive(Debug)]
pub(super) struct Sampler {
    door: Door,
    client: Option<Client>,
    /// The desired state, and its fingerprint.
    state: Option<(u64, Arc<State>)>,
}

impl Sampler {
    pub(super) fn new(door: &Door) -> Sampler {
        Sampler { door: door.clone(), client: None, state: None }
    }

    /// Looks, with a new connection when there is none or it failed.
    pub(super) async fn look(&mut self) -> Result<Sample, Failure> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.door).await?,
        };
        let status = client.status().await?;
        let control = status.control.clone().unwrap_or_default();
        let state = match &self.state {
            Some((fingerprint, state)) if *fingerprint == control.fingerprint => state.clone(),
            _ => Arc::new(client.state().await?),
        };
        self.state = Some((control.fingerprint, state.clone()));
        let states = match troubled(&control) {
            true => states(client.health(None).await?),
            false => States::default(),
        };
        let counters = match status.dataplane {
            Some(_) => match client.counters().await {
                Err(Failure::NoDataplane(_)) => CountersChunk::default(),
                counted => counted?,
            },
            None => CountersChunk::default(),
        };
        self.client = Some(client);
        Ok(Sample { at: Instant::now(), status, counters, state, states })
    }
}

/// Whether any server is not as it should be.
fn troubled(control: &ControlStatus) -> bool {
    control.servers_down + control.servers_unknown + control.servers_draining + control.servers_disabled > 0
}

fn states(standings: Vec<ServiceStanding>) -> States {
    let mut states = States::new();
    for service in standings {
        let Some(key) = service.key.and_then(|key| ServiceKey::try_from(key).ok()) else { continue };
        for server in service.servers {
            if let Some(server_key) = server.key.and_then(|key| ServerKey::try_from(key).ok()) {
                states.insert((key, server_key), server.state);
            }
        }
    }
    states
}

/// The last look, and the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) now: Option<Sample>,
    before: Option<Sample>,
}

impl Shown {
    /// The same with a newer look.
    pub(super) fn with(self, sample: Sample) -> Shown {
        Shown { before: self.now, now: Some(sample) }
    }

    /// The data plane as it told of itself.
    pub(super) fn dataplane(&self) -> Option<&DataplaneStatus> {
        self.now.as_ref()?.status.dataplane.as_ref()
    }

    pub(super) fn is_in_sync(&self) -> bool {
        let link = self.now.as_ref().and_then(|now| now.status.link.as_ref());
        link.is_some_and(|link| link.connected && link.in_sync)
    }

    /// What grew in a second, of a number that `count` finds; nothing to say after one look, or over a restart.
    pub(super) fn rate(&self, count: impl Fn(&DataplaneStatus) -> Option<u64>) -> f64 {
        let rate = || {
            let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
            let (new, old) = (now.status.dataplane.as_ref()?, before.status.dataplane.as_ref()?);
            let seconds = now.at.duration_since(before.at).as_secs_f64();
            let grown = count(new)?.checked_sub(count(old)?)?;
            (new.instance == old.instance && seconds > 0.0).then(|| grown as f64 / seconds)
        };
        rate().unwrap_or(f64::NAN)
    }
}

/// A count of that name; one that is not listed has not occurred.
pub(super) fn named(counts: &[NamedCount], name: &str) -> u64 {
    counts.iter().find(|count| count.name == name).map_or(0, |count| count.count)
}

/// All counts together.
pub(super) fn sum(counts: &[NamedCount]) -> u64 {
    counts.iter().map(|count| count.count).sum()
}
