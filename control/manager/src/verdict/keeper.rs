//! The task between the desired state and the data plane: follows changes, reports of probes and the time, and
//! publishes what the data plane is to be given.
//!
//! What happens within [`GATHER`] is one change: a thousand servers that fail at once are taken out by one push.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fulcrum_api::fingerprint;
use fulcrum_health::Prober;
use fulcrum_model::{ServiceKey, State};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Report;
use super::effective::effective;
use super::event::Events;
use super::memory::Memory;
use super::plan::Plan;
use super::remember::Remembered;
use crate::desired::Revision;

/// How long the first of several reports waits for the others.
const GATHER: Duration = Duration::from_millis(100);

/// The longest time without a look at the clock, which somebody may set.
const LOOK: Duration = Duration::from_secs(10);

/// The one who keeps it going.
#[derive(Debug)]
pub struct Keeper {
    desired: watch::Receiver<Revision>,
    prober: Arc<Prober>,
    remembered: Remembered,
    verdicts: Verdicts,
    publish: watch::Sender<Revision>,
    next: Option<SystemTime>,
}

/// What is known now, for everybody who wants to know.
#[derive(Clone, Debug)]
pub struct Verdicts {
    known: Arc<Mutex<Known>>,
    prober: Arc<Prober>,
    events: Arc<Events>,
    effective: watch::Receiver<Revision>,
}

/// All that is known at one moment.
#[derive(Clone, Debug)]
pub struct Known {
    /// What is wanted, services with their overrides.
    pub desired: Revision,
    /// What is asked for that.
    pub plan: Arc<Plan>,
    /// What came of it, by the places of targets.
    pub reports: Arc<Vec<Option<Report>>>,
    /// What that means.
    pub memory: Memory,
    /// What the data plane is given.
    pub effective: Arc<State>,
}

impl Keeper {
    /// For the desired state, stored at `store`. What is to be given to the data plane is known when this returns, and
    /// is what it was in the process before.
    pub fn new(mut desired: watch::Receiver<Revision>, store: &Path, prober: Prober) -> Keeper {
        let now = SystemTime::now();
        let revision = shaped(desired.borrow_and_update().clone());
        let (remembered, mut memory) = Remembered::load(store, &revision.state, now);
        let plan = Plan::new(&revision.state);
        prober.set_targets(plan.targets.iter().cloned());
        let events = Arc::new(Events::default());
        events.put(memory.observe(&revision.state, &plan, &[], now));
        let (state, next) = effective(&revision.state, &memory, now);
        let publish = watch::Sender::new(of(&revision, state.clone()));
        let known = Known {
            desired: revision,
            plan: Arc::new(plan),
            reports: Arc::default(),
            memory,
            effective: state,
        };
        let known = Arc::new(Mutex::new(known));
        let prober = Arc::new(prober);
        let verdicts = Verdicts { known, prober: prober.clone(), events, effective: publish.subscribe() };
        Keeper { desired, prober, remembered, verdicts, publish, next }
    }

    /// What the data plane is to be given, now and from now on. Its numbers are those of the desired revisions.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.publish.subscribe()
    }

    /// What is known, now and from now on.
    pub fn verdicts(&self) -> Verdicts {
        self.verdicts.clone()
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.prober.changes();
        loop {
            let now = SystemTime::now();
            let pause = self.next.map_or(LOOK, |next| next.duration_since(now).unwrap_or_default().min(LOOK));
            tokio::select! {
                // A sender that is gone means the end of the process.
                edited = self.desired.changed() => if edited.is_err() { return },
                _ = changes.changed() => {
                    // An edit does not wait for reports.
                    let _ = timeout(GATHER, self.desired.changed()).await;
                }
                () = sleep(pause) => {}
            }
            changes.mark_unchanged();
            self.turn(SystemTime::now());
        }
    }

    /// Takes in what has happened, and publishes what follows.
    fn turn(&mut self, now: SystemTime) {
        let desired = self.desired.borrow_and_update().clone();
        let mut known = self.verdicts.known();
        let edited = desired.number != known.desired.number;
        let desired = if edited { shaped(desired) } else { known.desired.clone() };
        if edited {
            known.plan = Arc::new(Plan::new(&desired.state));
            known.desired = desired.clone();
            self.prober.set_targets(known.plan.targets.iter().cloned());
        }
        known.reports = Arc::new(gather(&self.prober, &known.plan));
        let (plan, reports) = (known.plan.clone(), known.reports.clone());
        let events = known.memory.observe(&desired.state, &plan, &reports, now);
        let due = self.next.is_some_and(|next| next <= now);
        if edited || due || !events.is_empty() {
            let (state, next) = effective(&desired.state, &known.memory, now);
            self.next = next;
            let held = self.publish.borrow().state.clone();
            let state = if held == state { held } else { state };
            known.effective = state.clone();
            self.publish.send_if_modified(|published| {
                let news = published.number != desired.number || !Arc::ptr_eq(&published.state, &state);
                if news {
                    *published = of(&desired, state);
                }
                news
            });
            self.remembered.keep(&known.memory);
        }
        drop(known);
        self.verdicts.events.put(events);
    }
}

impl Verdicts {
    /// What is known of the revision with this number or a later one.
    pub async fn at(&self, number: u64) -> Known {
        // A keeper that is gone means the end of the process.
        let _ = self.effective.clone().wait_for(|revision| revision.number >= number).await;
        self.known().clone()
    }

    /// The same, with what probes say at this moment.
    pub async fn fresh(&self, number: u64) -> Known {
        let mut known = self.at(number).await;
        known.reports = Arc::new(gather(&self.prober, &known.plan));
        known
    }

    /// The services that have lost their quorum.
    pub fn without_quorum(&self) -> HashSet<ServiceKey> {
        let known = self.known();
        let lost = known.memory.services.iter().filter(|(_, service)| service.quorum_lost.is_some());
        lost.map(|(key, _)| *key).collect()
    }

    /// What is wanted, and what is probed for it.
    pub fn asked(&self) -> (Arc<State>, Arc<Plan>) {
        let known = self.known();
        (known.desired.state.clone(), known.plan.clone())
    }

    /// What happened.
    pub fn events(&self) -> &Events {
        &self.events
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The revision with every service as it is with its override.
fn shaped(revision: Revision) -> Revision {
    if revision.state.overrides.is_empty() {
        return revision;
    }
    let state = revision.state.with_overrides();
    Revision { fingerprint: fingerprint(&state), state: Arc::new(state), ..revision }
}

/// What probes say now, by the places of targets.
fn gather(prober: &Prober, plan: &Plan) -> Vec<Option<Report>> {
    let mut reports = vec![None; plan.targets.len()];
    for report in prober.reports() {
        if let Some(at) = plan.find(&report.target) {
            reports[at] = Some(report);
        }
    }
    reports
}

/// What the data plane is to be given for a desired revision.
fn of(desired: &Revision, state: Arc<State>) -> Revision {
    let fingerprint = match Arc::ptr_eq(&desired.state, &state) {
        true => desired.fingerprint,
        false => fingerprint(&state),
    };
    Revision { number: desired.number, state, fingerprint }
}
