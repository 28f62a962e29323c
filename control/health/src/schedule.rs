//! Which probe is due when, and what is known of every target; no I/O.
//!
//! Probes are made in the order in which they are due. A new target's first one comes soon, but no two of many new
//! ones at the same time; from one to the next pass nine tenths of the interval at least and the whole at most, by
//! chance, so that probes that once met drift apart.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use fulcrum_model::CheckKind;

use crate::limits::Limits;
use crate::state::{Moment, Rules, State};
use crate::target::{Outcome, Report, Target};

/// New targets are first probed this far apart, unless the interval is over before.
const APART: Duration = Duration::from_millis(1);

/// What a target is known by while it is there.
pub type Id = u64;

/// All targets and their turns.
#[derive(Debug)]
pub struct Schedule {
    probes: HashMap<Id, Probe>,
    ids: HashMap<Target, Id>,
    lanes: [Lane; 2],
    next_id: Id,
    changes: u64,
}

/// Probes that share a limit.
#[derive(Debug)]
struct Lane {
    queue: BTreeSet<(Duration, Id)>,
    running: usize,
    limit: usize,
}

#[derive(Debug)]
struct Probe {
    target: Target,
    state: State,
    /// When it is asked, as it stands in its lane's queue; `None` while it is being asked.
    due: Option<Moment>,
    started: Option<Moment>,
    took: Option<Duration>,
    good: u64,
    bad: u64,
    unasked: u64,
    changed: u64,
}

impl Schedule {
    /// No targets.
    pub fn new(limits: Limits) -> Schedule {
        let lane = |limit: usize| Lane { queue: BTreeSet::new(), running: 0, limit: limit.max(1) };
        Schedule {
            probes: HashMap::new(),
            ids: HashMap::new(),
            lanes: [lane(limits.sockets), lane(limits.programs)],
            next_id: 0,
            changes: 0,
        }
    }

    /// Makes these the targets. Those that were there before keep what is known of them, also when they are asked the
    /// same at other times or with other patience. Gives back those that are gone, probes of which may be under way.
    pub fn set_targets(&mut self, wanted: impl IntoIterator<Item = Target>, now: Moment) -> Vec<Id> {
        let wanted: HashSet<Target> = wanted.into_iter().collect();
        let gone: Vec<Target> = self.ids.keys().filter(|target| !wanted.contains(target)).cloned().collect();
        let gone: Vec<Id> = gone.iter().filter_map(|target| self.ids.remove(target)).collect();
        let mut before: HashMap<Target, Probe> = HashMap::new();
        for id in &gone {
            before.extend(self.forget(*id).map(|probe| (probe.target.question(), probe)));
        }
        let new: Vec<Target> = wanted.into_iter().filter(|target| !self.ids.contains_key(target)).collect();
        if gone.is_empty() && new.is_empty() {
            return gone;
        }
        self.changes += 1;
        let spread = APART.saturating_mul(u32::try_from(new.len()).unwrap_or(u32::MAX));
        for target in new {
            self.next_id += 1;
            let id = self.next_id;
            let wait = spread.min(target.check.interval).mul_f64(chance(&target, 0));
            let due = now.after(wait);
            self.lanes[lane(&target)].queue.insert((due.elapsed, id));
            self.ids.insert(target.clone(), id);
            let heir = before.remove(&target.question());
            let probe = heir.unwrap_or_else(|| Probe::new(target.clone(), now));
            self.probes.insert(id, Probe { target, due: Some(due), changed: self.changes, ..probe });
        }
        gone
    }

    /// The probes whose turn it is now. Each counts as under way until it is [`Schedule::done`].
    pub fn start(&mut self, now: Moment) -> Vec<(Id, Target)> {
        let mut started = Vec::new();
        for lane in &mut self.lanes {
            while lane.running < lane.limit
                && let Some((due, id)) = lane.queue.first().copied()
                && due <= now.elapsed
            {
                lane.queue.pop_first();
                if let Some(probe) = self.probes.get_mut(&id) {
                    (probe.due, probe.started) = (None, Some(now));
                    lane.running += 1;
                    started.push((id, probe.target.clone()));
                }
            }
        }
        self.overdue(now);
        started
    }

    /// Those that waited so long that their next turn has come: nothing is known of them any more.
    fn overdue(&mut self, now: Moment) {
        for at in 0..self.lanes.len() {
            let (lane, mut late) = (&self.lanes[at], Vec::new());
            for (due, id) in lane.queue.iter().take_while(|(due, _)| *due <= now.elapsed) {
                let interval = self.probes.get(id).map(|probe| probe.target.check.interval);
                late.extend(interval.filter(|interval| *due + *interval <= now.elapsed).map(|_| *id));
            }
            let what = if at == 0 { "probes" } else { "programs" };
            let why = format!("{} {what} are under way, no more fit in this process's limits", lane.limit);
            for id in late {
                if let Some(probe) = self.probes.get_mut(&id) {
                    let due = probe.due.take();
                    self.lanes[at].queue.remove(&(due.map_or(Duration::ZERO, |due| due.elapsed), id));
                    self.lanes[at].running += 1;
                    probe.started = due;
                    self.done(id, Outcome::Unasked(why.clone()), now);
                }
            }
        }
    }

    /// When the next turn comes that can be taken; `None` when there is nothing to wait for but probes under way.
    pub fn wake(&self) -> Option<Duration> {
        let free = self.lanes.iter().filter(|lane| lane.running < lane.limit);
        let full = self.lanes.iter().filter(|lane| lane.running >= lane.limit);
        // Where there is no room, somebody has waited too long at some time.
        let late = full.filter_map(|lane| {
            let (due, id) = lane.queue.first()?;
            Some(*due + self.probes.get(id)?.target.check.interval)
        });
        free.filter_map(|lane| Some(lane.queue.first()?.0)).chain(late).min()
    }

    /// Takes the outcome of a probe, and gives the target its next turn. Whether its verdict changed comes back.
    pub fn done(&mut self, id: Id, outcome: Outcome, now: Moment) -> Option<Report> {
        let probe = self.probes.get_mut(&id).filter(|probe| probe.due.is_none())?;
        let lane = &mut self.lanes[lane(&probe.target)];
        lane.running -= 1;
        match &outcome {
            Outcome::Good => probe.good += 1,
            Outcome::Bad(_) => probe.bad += 1,
            Outcome::Unasked(_) => probe.unasked += 1,
        }
        let before = (probe.state.verdict, probe.state.last_error.clone());
        let rules = Rules::from(&*probe.target.check);
        probe.state = probe.state.after(rules, outcome, now);
        let (verdict, same_error) = (probe.state.verdict, probe.state.last_error == before.1);
        let started = probe.started.unwrap_or(now);
        probe.took = now.elapsed.checked_sub(started.elapsed);
        let count = probe.good + probe.bad + probe.unasked;
        let share = match count {
            // Those that began together do not go on together.
            1 => 0.5 + 0.5 * chance(&probe.target, 1),
            _ => 0.9 + 0.1 * chance(&probe.target, count),
        };
        let next = started.elapsed + probe.target.check.interval.mul_f64(share);
        let due = now.after(next.saturating_sub(now.elapsed));
        probe.due = Some(due);
        lane.queue.insert((due.elapsed, id));
        if verdict != before.0 || !same_error {
            self.changes += 1;
            probe.changed = self.changes;
        }
        (verdict != before.0).then(|| probe.report())
    }

    /// How often a verdict, an error or the targets changed.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// How a target is, if it is one.
    pub fn report(&self, target: &Target) -> Option<Report> {
        self.probes.get(self.ids.get(target)?).map(Probe::report)
    }

    /// How every target is.
    pub fn reports(&self) -> impl Iterator<Item = Report> {
        self.probes.values().map(Probe::report)
    }

    /// How the targets are that changed after the change of this number.
    pub fn reports_since(&self, change: u64) -> impl Iterator<Item = Report> {
        self.probes.values().filter(move |probe| probe.changed > change).map(Probe::report)
    }

    /// How many probes are under way.
    pub fn running(&self) -> usize {
        self.lanes.iter().map(|lane| lane.running).sum()
    }

    fn forget(&mut self, id: Id) -> Option<Probe> {
        let probe = self.probes.remove(&id)?;
        let lane = &mut self.lanes[lane(&probe.target)];
        match probe.due {
            Some(due) => drop(lane.queue.remove(&(due.elapsed, id))),
            None => lane.running -= 1,
        }
        Some(probe)
    }
}

impl Probe {
    /// Of which nothing is known.
    fn new(target: Target, now: Moment) -> Probe {
        Probe {
            target,
            state: State::new(now),
            due: None,
            started: None,
            took: None,
            good: 0,
            bad: 0,
            unasked: 0,
            changed: 0,
        }
    }

    fn report(&self) -> Report {
        Report {
            target: self.target.clone(),
            verdict: self.state.verdict,
            since: self.state.since.wall,
            last_error: self.state.last_error.clone(),
            last: self.started.map(|moment| moment.wall),
            next: self.due.map(|moment| moment.wall),
            took: self.took,
            good: self.good,
            bad: self.bad,
            unasked: self.unasked,
            changed: self.changed,
        }
    }
}

impl Moment {
    fn after(self, wait: Duration) -> Moment {
        Moment { elapsed: self.elapsed + wait, wall: self.wall + wait }
    }
}

fn lane(target: &Target) -> usize {
    usize::from(matches!(target.check.kind, CheckKind::Exec { .. }))
}

/// A number from 0 to 1 by chance, always the same for the same turn of a target.
fn chance(target: &Target, turn: u64) -> f64 {
    let mut hasher = DefaultHasher::new();
    (target, turn).hash(&mut hasher);
    f64::from((hasher.finish() >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
