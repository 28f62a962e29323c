//! The task that puts VIPs on interfaces of the host, where routing daemons find them, and takes them off.
//!
//! Level-triggered: every round compares what is there with what should be. A round that finds a VIP there that it may
//! not judge yet leaves it: another control process changes nothing. The end of this process takes nothing off.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::dataplane::{ListNeighboursRequest, NeighbourStatus};
use fulcrum_api::socket;
use fulcrum_model::{Announce, ServiceKey, State};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tracing::{info, warn};

use super::host::{Host, HostError, Place};
use super::ready::Sight;
use crate::desired::Revision;
use crate::reconcile::Link;

/// Between two rounds.
const PERIOD: Duration = Duration::from_millis(500);

/// A data plane that is gone for longer than this forwards nothing.
const GONE: Duration = Duration::from_secs(1);

/// So long after its start this process knows how the data plane is.
const START: Duration = Duration::from_secs(3);

/// The data plane tells its neighbours within this time, or they are taken for unknown.
const ANSWER: Duration = Duration::from_secs(1);

/// Tells which services have lost their quorum.
pub type Lost = Box<dyn Fn() -> HashSet<ServiceKey> + Send + Sync>;

/// What it works from.
pub struct Announcer {
    /// What the data plane is given.
    pub given: watch::Receiver<Revision>,
    /// How the data plane is.
    pub link: watch::Receiver<Link>,
    /// Services without their quorum.
    pub lost: Lost,
    /// What this process marks addresses with.
    pub mark: u8,
    /// The interface for those who name none.
    pub interface: String,
    /// What is shown to others, and what they ask.
    pub board: Board,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("interface", &self.interface).finish_non_exhaustive()
    }
}

/// How announcements are, for everybody who wants to know.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    shown: Mutex<Shown>,
    look: Notify,
}

#[derive(Debug, Default)]
struct Shown {
    places: BTreeMap<Place, Standing>,
    withdrawn: Option<Withdrawn>,
    rounds: u64,
}

#[derive(Debug)]
struct Withdrawn {
    until: Instant,
    why: String,
}

/// How it is with a VIP on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Announced,
    /// It is not, or not for long any more.
    Withdrawn(String),
}

impl Board {
    /// How it is with each VIP that anybody wants announced.
    pub fn places(&self) -> BTreeMap<Place, Standing> {
        self.shown().places.clone()
    }

    /// Withdraws all for so long; with nothing, lets them come back. Returns when that is done.
    pub async fn withdraw(&self, time: Duration, why: String) {
        let rounds = {
            let mut shown = self.shown();
            let until = Instant::now().checked_add(time).filter(|_| !time.is_zero());
            shown.withdrawn = until.map(|until| Withdrawn { until, why });
            shown.rounds
        };
        // The round that is under way may not know of it yet.
        while self.shown().rounds < rounds + 2 {
            self.0.look.notify_one();
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// For how long all are withdrawn still because somebody wants it, and why.
    pub fn withdrawal(&self) -> Option<(Duration, String)> {
        let shown = self.shown();
        let withdrawn = shown.withdrawn.as_ref()?;
        let left = withdrawn.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some((left, withdrawn.why.clone()))
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it remembers from round to round.
#[derive(Debug)]
struct Memory {
    started: Instant,
    /// Since when the data plane is gone.
    gone: Option<Instant>,
    /// Since when services could be announced.
    ready: HashMap<ServiceKey, Instant>,
    /// What went wrong last, by place, so that it is told once.
    told: BTreeMap<Place, String>,
}

/// What a place should be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// It should be there.
    On,
    /// As it is: it is too early to say.
    Stay,
    /// It should not, for this reason.
    Off(String),
}

impl Announcer {
    /// Works until it is dropped.
    pub async fn run(mut self) {
        let mut memory =
            Memory { started: Instant::now(), gone: None, ready: HashMap::new(), told: BTreeMap::new() };
        let mut host = None;
        let mut tidy = false;
        loop {
            let state = self.given.borrow_and_update().state.clone();
            let wished = !tidy || state.services.iter().any(|s| s.announcement.when != Announce::Never);
            let outcome = if wished || !self.board.places().is_empty() {
                self.round(&state, &mut memory, &mut host).await
            } else {
                Ok(())
            };
            match outcome {
                Ok(()) => tidy = true,
                Err(error) => {
                    host = None;
                    let place = (String::new(), IpAddr::from([0, 0, 0, 0]));
                    tell(&mut memory.told, &place, Some(&error));
                }
            }
            self.board.shown().rounds += 1;
            tokio::select! {
                () = sleep(PERIOD) => {}
                () = self.board.0.look.notified() => {}
                // A sender that is gone means the end of the process: then only time wakes the loop.
                Ok(()) = self.given.changed() => {}
            }
        }
    }

    async fn round(
        &self,
        state: &Arc<State>,
        memory: &mut Memory,
        host: &mut Option<Host>,
    ) -> Result<(), HostError> {
        let wishes = self.wishes(state, memory).await;
        let host = match host {
            Some(host) => host,
            none => none.insert(Host::open(self.mark)?),
        };
        let there = host.addresses().await?;
        let mut shown: BTreeMap<Place, Standing> = BTreeMap::new();
        for (place, wish) in &wishes {
            let standing = match (wish, there.contains_key(place)) {
                (Wish::On | Wish::Stay, true) => Standing::Announced,
                (Wish::Stay, false) => Standing::Withdrawn("not long enough ready".to_owned()),
                (Wish::Off(why), _) => Standing::Withdrawn(why.clone()),
                (Wish::On, false) => match host.put(place).await {
                    Ok(()) => {
                        info!(vip = %place.1, interface = place.0, "announced");
                        memory.told.remove(place);
                        Standing::Announced
                    }
                    Err(error) => {
                        tell(&mut memory.told, place, Some(&error));
                        Standing::Withdrawn(error.to_string())
                    }
                },
            };
            shown.insert(place.clone(), standing);
        }
        for (place, there) in there {
            let keep = matches!(wishes.get(&place), Some(Wish::On | Wish::Stay));
            if !there.ours || keep {
                continue;
            }
            let why = match wishes.get(&place) {
                Some(Wish::Off(why)) => why.as_str(),
                _ => "nobody wants it announced",
            };
            match host.take_off(there).await {
                Ok(()) => warn!(vip = %place.1, interface = place.0, why, "withdrawn"),
                Err(error) => {
                    tell(&mut memory.told, &place, Some(&error));
                    // It is there still.
                    shown.entry(place).and_modify(|standing| *standing = Standing::Announced);
                }
            }
        }
        self.board.shown().places = shown;
        Ok(())
    }

    /// What should be where. A VIP is announced as long as one of its services may be.
    async fn wishes(&self, state: &Arc<State>, memory: &mut Memory) -> BTreeMap<Place, Wish> {
        let now = Instant::now();
        let link = self.link.borrow().clone();
        let dataplane =
            link.status.as_ref().filter(|status| link.channel.is_some() && status.generation != 0);
        match dataplane {
            Some(_) => memory.gone = None,
            None => _ = memory.gone.get_or_insert(now),
        }
        let starting = now < memory.started + START;
        let unsure = memory.gone.is_some_and(|since| now < since + GONE || starting);
        let neighbours = match &link.channel {
            Some(channel) => neighbours(channel).await,
            None => Vec::new(),
        };
        let lost = (self.lost)();
        let sight = Sight { state, dataplane, neighbours: &neighbours, lost: &lost };
        let withdrawal = self.board.withdrawal();
        let withdrawn = withdrawal.is_some();
        let mut wishes = BTreeMap::new();
        let mut ready = HashMap::new();
        for service in state.services.iter().filter(|s| s.announcement.when != Announce::Never) {
            let Some(vip) = service.key.address() else { continue };
            let name = service.announcement.on.clone().unwrap_or_else(|| self.interface.clone());
            let objection = match &withdrawal {
                Some((_, why)) => Some(format!("withdrawn: {why}")),
                None => sight.objection(service),
            };
            let wish = match objection {
                _ if unsure && !service.withheld && !withdrawn => {
                    ready.extend(memory.ready.get(&service.key).map(|since| (service.key, *since)));
                    Wish::Stay
                }
                Some(why) => Wish::Off(why),
                None => {
                    let since = *memory.ready.get(&service.key).unwrap_or(&now);
                    ready.insert(service.key, since);
                    let after = Duration::from_secs(service.announcement.after.into());
                    // What the data plane does not have yet cannot be served, but what it had stays.
                    if now < since + after || !link.in_sync { Wish::Stay } else { Wish::On }
                }
            };
            let known = wishes.entry((name, vip)).or_insert_with(|| wish.clone());
            *known = either(known.clone(), wish);
        }
        memory.ready = ready;
        wishes
    }
}

/// What two services want of one place: the one that wants more of it.
fn either(one: Wish, other: Wish) -> Wish {
    match (&one, &other) {
        (Wish::On, _) => one,
        (_, Wish::On) => other,
        (Wish::Stay, _) => one,
        (_, Wish::Stay) => other,
        _ => one,
    }
}

/// Neighbours that the data plane knows; none where it does not tell.
async fn neighbours(channel: &Channel) -> Vec<NeighbourStatus> {
    let mut client = DataplaneClient::new(channel.clone()).max_decoding_message_size(socket::MESSAGE_LIMIT);
    match timeout(ANSWER, client.list_neighbours(ListNeighboursRequest {})).await {
        Ok(Ok(reply)) => reply.into_inner().neighbours,
        _ => Vec::new(),
    }
}

/// Logs what went wrong at a place, once as long as it is the same.
fn tell(told: &mut BTreeMap<Place, String>, place: &Place, error: Option<&HostError>) {
    let text = error.map(HostError::to_string).unwrap_or_default();
    if told.get(place) != Some(&text) {
        warn!(vip = %place.1, interface = place.0, error = text, "cannot bring announcements in line");
        told.insert(place.clone(), text);
    }
}
