//! The task that makes the probes: one for all of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::sleep_until;

use crate::limits::Limits;
use crate::path::Path;
use crate::probe::{Tools, probe};
use crate::schedule::{Id, Schedule};
use crate::state::Moment;
use crate::target::{Outcome, Report, Target};

/// Probes targets, each at its interval, and knows how they are. Stops when it is dropped.
pub struct Prober {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    schedule: Mutex<Schedule>,
    begun: Instant,
    wake: Notify,
    gone: Mutex<Vec<Id>>,
    changes: watch::Sender<u64>,
}

impl Prober {
    /// Begins without targets, on the runtime that it is called in. Ways to servers are `path`'s.
    pub fn start(path: Arc<dyn Path>, limits: Limits) -> Prober {
        let shared = Arc::new(Shared {
            schedule: Mutex::new(Schedule::new(limits)),
            begun: Instant::now(),
            wake: Notify::new(),
            gone: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let task = tokio::spawn(run(Arc::clone(&shared), Arc::new(Tools::new(path))));
        Prober { shared, task }
    }

    /// Makes these the targets. What is known of those that stay is kept.
    pub fn set_targets(&self, targets: impl IntoIterator<Item = Target>) {
        let gone = {
            let mut schedule = self.shared.schedule();
            let gone = schedule.set_targets(targets, self.shared.now());
            self.shared.tell(&schedule);
            gone
        };
        self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
        self.shared.wake.notify_one();
    }

    /// How a target is, if it is one.
    pub fn report(&self, target: &Target) -> Option<Report> {
        self.shared.schedule().report(target)
    }

    /// How every target is, in no order.
    pub fn reports(&self) -> Vec<Report> {
        self.shared.schedule().reports().collect()
    }

    /// How the targets are that changed after the change of this number.
    pub fn reports_since(&self, change: u64) -> Vec<Report> {
        self.shared.schedule().reports_since(change).collect()
    }

    /// Counts changes of verdicts, of errors and of the targets: who waits for it to change and then reads the reports
    /// misses nothing but what was over in between.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

impl Shared {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment { elapsed: self.begun.elapsed(), wall: SystemTime::now() }
    }

    fn tell(&self, schedule: &Schedule) {
        let now = schedule.changes();
        self.changes.send_if_modified(|known| std::mem::replace(known, now) != now);
    }
}

async fn run(shared: Arc<Shared>, tools: Arc<Tools>) {
    let mut probes: JoinSet<(Id, Outcome)> = JoinSet::new();
    let mut handles: HashMap<Id, AbortHandle> = HashMap::new();
    loop {
        for id in std::mem::take(&mut *shared.gone.lock().unwrap_or_else(PoisonError::into_inner)) {
            if let Some(handle) = handles.remove(&id) {
                handle.abort();
            }
        }
        let (due, wake) = {
            let mut schedule = shared.schedule();
            let due = schedule.start(shared.now());
            shared.tell(&schedule);
            (due, schedule.wake())
        };
        for (id, target) in due {
            let tools = Arc::clone(&tools);
            handles.insert(id, probes.spawn(async move { (id, probe(&tools, &target).await) }));
        }
        let turn = async {
            match wake {
                Some(elapsed) => sleep_until((shared.begun + elapsed).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = turn => {}
            () = shared.wake.notified() => {}
            Some(ended) = probes.join_next_with_id(), if !probes.is_empty() => {
                let mut ended = Some(ended);
                let mut schedule = shared.schedule();
                while let Some(one) = ended {
                    take(&mut schedule, &mut handles, one, shared.now());
                    ended = probes.try_join_next_with_id();
                }
                shared.tell(&schedule);
            }
        }
    }
}

type Ended = Result<(tokio::task::Id, (Id, Outcome)), tokio::task::JoinError>;

/// Takes what came of a probe. One that was stopped is of a target that is gone.
fn take(schedule: &mut Schedule, handles: &mut HashMap<Id, AbortHandle>, ended: Ended, now: Moment) {
    let (id, outcome) = match ended {
        Ok((_, done)) => done,
        Err(error) => {
            let Some((&id, _)) = handles.iter().find(|(_, handle)| handle.id() == error.id()) else { return };
            tracing::error!("a probe came to a sudden end: {error}");
            (id, Outcome::Unasked("the probe came to a sudden end".to_owned()))
        }
    };
    handles.remove(&id);
    if let Some(report) = schedule.done(id, outcome, now) {
        let why = report.last_error.as_deref().unwrap_or("the answer is good");
        tracing::debug!("{} is {}: {why}", report.target, report.verdict);
    }
}
