//! One look at the director, and what grew since the one before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use fulcrum_api::control::Status;
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
    pub(super) weights: Arc<Weights>,
}

/// Weights of servers in the desired state.
#[derive(Clone, Debug, Default)]
pub(super) struct Weights {
    fingerprint: Option<u64>,
    by_server: HashMap<(ServiceKey, ServerKey), u32>,
}

impl Weights {
    pub(super) fn new(fingerprint: u64, state: &State) -> Weights {
        let servers = state.services.iter().flat_map(|service| {
            service.servers.iter().map(|server| ((service.key, server.key), server.weight))
        });
        Weights { fingerprint: Some(fingerprint), by_server: servers.collect() }
    }

    pub(super) fn of(&self, service: ServiceKey, server: ServerKey) -> Option<u32> {
        self.by_server.get(&(service, server)).copied()
    }
}

/// Who looks.
#[derive(Debug)]
pub(super) struct Sampler {
    door: Door,
    client: Option<Client>,
    weights: Arc<Weights>,
}

impl Sampler {
    pub(super) fn new(door: &Door) -> Sampler {
        Sampler { door: door.clone(), client: None, weights: Arc::default() }
    }

    /// Looks, with a new connection when there is none or it failed.
    pub(super) async fn look(&mut self) -> Result<Sample, Failure> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.door).await?,
        };
        let status = client.status().await?;
        let fingerprint = status.control.as_ref().map(|control| control.fingerprint);
        if self.weights.fingerprint != fingerprint {
            self.weights = Arc::new(Weights::new(fingerprint.unwrap_or_default(), &client.state().await?));
        }
        let counters = match status.dataplane {
            Some(_) => match client.counters().await {
                Err(Failure::NoDataplane(_)) => CountersChunk::default(),
                counted => counted?,
            },
            None => CountersChunk::default(),
        };
        self.client = Some(client);
        Ok(Sample { at: Instant::now(), status, counters, weights: self.weights.clone() })
    }
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
