//! The control thread's view of everything: the state held, its way to the workers, counters, ports.
//!
//! Does not live here: how that is asked for (`service`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use fulcrum_api::state::Change;
use fulcrum_api::{BadMessage, apply_changes, fingerprint};
use fulcrum_director::{Reason, Snapshot, WorkerCounters};
use fulcrum_dpdk::Mempool;
use fulcrum_model::{Interface, State};
use fulcrum_program::{Probe, Program};

use crate::board::Board;
use crate::host::Addresses;
use crate::orders::Desk;
use crate::pace::{Pace, Reading};
use crate::ports::Port;
use crate::rates::Meters;
use crate::recent::{Counts, Recent};
use crate::steering;
use crate::translations::Collector;
use crate::worker::Clock;

/// One worker, from outside.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    pub(crate) lcore: usize,
    pub(crate) desk: Desk,
    pub(crate) board: Arc<Board>,
    pub(crate) counters: Arc<WorkerCounters>,
    /// How busy it was of late.
    pub(crate) pace: Pace,
    /// What it had counted then.
    reading: Reading,
    /// Number of the last snapshot sent.
    sent: u64,
}

impl WorkerLink {
    pub(crate) fn new(
        lcore: usize,
        desk: Desk,
        board: Arc<Board>,
        counters: Arc<WorkerCounters>,
    ) -> WorkerLink {
        let (pace, reading) = (Pace::default(), Reading::default());
        WorkerLink { lcore, desk, board, counters, pace, reading, sent: 0 }
    }
}

/// What the process is, for status.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Random, new at each start.
    pub(crate) instance: String,
    pub(crate) started: Instant,
    /// The workers' clock.
    pub(crate) clock: Clock,
    pub(crate) dpdk: String,
    pub(crate) hugepages: bool,
    pub(crate) idle: &'static str,
    /// Sessions and templates of each worker at most.
    pub(crate) sessions: usize,
    /// Memory for frames, a pool for each NUMA node with workers.
    pub(crate) frames: Vec<Mempool>,
    /// Said at start.
    pub(crate) warnings: Vec<String>,
    /// Who is told of translations.
    pub(crate) collector: Option<Arc<Collector>>,
}

/// What the control thread knows of the host.
#[derive(Debug)]
pub(crate) struct Host {
    /// What is done for it before the first state comes.
    pub(crate) boot: State,
    /// Interfaces with twins in Linux, and the twins' names.
    pub(crate) exceptions: HashMap<String, String>,
    /// The host's addresses.
    pub(crate) addresses: Addresses,
    /// What the thread between counts.
    pub(crate) counters: Arc<WorkerCounters>,
}

/// Why a transaction was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "the changes build on generation {base}, but this data plane holds generation {held}: send the whole state"
    )]
    OtherBase { base: u64, held: u64 },
    #[error("generation 0 means `never programmed`: number states from 1")]
    ZeroGeneration,
    #[error(transparent)]
    Bad(#[from] BadMessage),
}

/// Everything that the control thread holds.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) identity: Identity,
    pub(crate) workers: Vec<WorkerLink>,
    pub(crate) ports: Vec<Port>,
    pub(crate) meters: Meters,
    pub(crate) host: Host,
    pub(crate) program: Program,
    state: State,
    generation: u64,
    fingerprint: u64,
    /// Generation that every worker runs.
    acknowledged: u64,
    /// What could not be used of the state.
    pub(crate) warnings: Vec<String>,
    /// The last snapshot compiled; its generation is a serial number of ours.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Whether the state is newer than the snapshot.
    stale: bool,
    /// Snapshots on their way: serial number, generation of the state.
    under_way: VecDeque<(u64, u64)>,
    questions: u64,
    recent: Recent,
    /// When the workers' pace was last measured.
    measured: Instant,
}

impl Control {
    pub(crate) fn new(
        identity: Identity,
        workers: Vec<WorkerLink>,
        ports: Vec<Port>,
        program: Program,
        snapshot: Arc<Snapshot>,
        host: Host,
    ) -> Control {
        let state = State::default();
        Control {
            identity,
            workers,
            ports,
            meters: Meters::default(),
            host,
            program,
            fingerprint: fingerprint(&state),
            state,
            generation: 0,
            acknowledged: 0,
            warnings: Vec::new(),
            snapshot,
            stale: false,
            under_way: VecDeque::new(),
            questions: 0,
            recent: Recent::default(),
            measured: Instant::now(),
        }
    }

    /// Generation and fingerprint of the state held, and the generation that every worker runs.
    pub(crate) fn held(&self) -> (u64, u64, u64) {
        (self.generation, self.fingerprint, self.acknowledged)
    }

    /// Applies one transaction: all of it, or nothing. `base` is `None` for a whole state.
    pub(crate) fn synchronize(
        &mut self,
        generation: u64,
        base: Option<u64>,
        changes: Vec<Change>,
    ) -> Result<(u64, u64), Refused> {
        if generation == 0 {
            return Err(Refused::ZeroGeneration);
        }
        let mut state = match base {
            None => State::default(),
            Some(base) if base == self.generation => self.state.clone(),
            Some(base) => return Err(Refused::OtherBase { base, held: self.generation }),
        };
        apply_changes(&mut state, changes)?;
        self.fingerprint = fingerprint(&state);
        self.state = state;
        self.generation = generation;
        self.stale = true;
        self.pump();
        Ok((self.generation, self.fingerprint))
    }

    /// Takes in which addresses the host has now.
    pub(crate) fn hosts(&mut self, addresses: Addresses) {
        if self.program.hosts(addresses.clone()) {
            self.host.addresses = addresses;
            self.stale = true;
            self.pump();
        }
    }

    /// Looks after bonds, and has neighbours told where one uses another member.
    pub(crate) fn look_after_bonds(&mut self) {
        for number in 0..self.ports.len() {
            if self.ports[number].look_after() {
                self.program.announce_again(u16::try_from(number).unwrap_or(u16::MAX));
                self.stale = true;
            }
        }
        self.pump();
    }

    /// Whether a port is a bond.
    pub(crate) fn has_bonds(&self) -> bool {
        self.ports.iter().any(|port| !port.members.is_empty())
    }

    /// Takes in all probes that go through the data plane; gives the number of the snapshot that knows them.
    pub(crate) fn probes(&mut self, probes: Vec<Probe>) -> u64 {
        self.program.probes(probes);
        self.stale = true;
        self.pump();
        // A snapshot that is on its way was compiled before.
        self.snapshot.generation + u64::from(self.stale)
    }

    /// The number of the snapshot that every worker runs, or of a later one.
    pub(crate) fn taken_over(&mut self) -> u64 {
        self.pump();
        self.workers.iter().map(|worker| worker.board.acknowledged()).min().unwrap_or(0)
    }

    /// Moves things on: takes in what workers answered, compiles the state when they are ready for it, sends it.
    pub(crate) fn pump(&mut self) {
        for worker in &mut self.workers {
            worker.desk.collect();
        }
        let serial = self.workers.iter().map(|worker| worker.board.acknowledged()).min().unwrap_or(0);
        while let Some(&(taken, generation)) = self.under_way.front().filter(|(taken, _)| *taken <= serial) {
            self.under_way.pop_front();
            self.acknowledged = generation;
            self.program.acknowledged(taken);
        }
        // Changes that come while workers have not taken the last ones become one snapshot.
        if self.stale && self.under_way.is_empty() {
            self.compile();
        }
        for worker in &mut self.workers {
            if worker.sent < self.snapshot.generation && worker.desk.install(&self.snapshot) {
                worker.sent = self.snapshot.generation;
            }
        }
    }

    /// Tells the workers which ports have a link, where gateways take over from each other.
    pub(crate) fn look_at_links(&mut self) {
        if self.program.gateways().is_empty() {
            return;
        }
        for (number, port) in self.ports.iter().enumerate() {
            self.program.links().set(number, port.has_link());
        }
    }

    fn compile(&mut self) {
        let serial = self.snapshot.generation + 1;
        let state = if self.generation == 0 { &self.host.boot } else { &self.state };
        let (snapshot, mut warnings) = self.program.compile(state, serial);
        if self.generation != 0 {
            warnings.extend(self.port_differences());
            warnings.extend(self.exception_differences());
        }
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.warnings = warnings;
        steering::follow(&mut self.ports, &snapshot);
        self.snapshot = snapshot;
        self.under_way.push_back((serial, self.generation));
        self.stale = false;
        self.meters.follow(self.program.counters());
    }

    /// Ports are opened at start only: says where the state wants others.
    fn port_differences(&self) -> Vec<String> {
        let missing = self.state.ports.iter().filter_map(|wanted| {
            let open = self.ports.iter().find(|open| open.name == wanted.name);
            let problem = match open {
                None => format!("port {} is not open", wanted.name),
                Some(open) if open.device != wanted.made_of() => {
                    format!("port {} is {} here, not {}", wanted.name, open.device, wanted.made_of())
                }
                Some(open) if open.bond != wanted.bond => {
                    format!("port {} uses the members of its bond otherwise here", wanted.name)
                }
                Some(open) if wanted.mac.is_some_and(|mac| mac.0 != open.mac) => {
                    format!("port {} has another MAC address here", wanted.name)
                }
                Some(open) if wanted.steering != open.steering => {
                    format!(
                        "port {} is steered by `{}` here, not `{}`",
                        wanted.name, open.steering, wanted.steering
                    )
                }
                Some(_) => return None,
            };
            Some(format!(
                "{problem}: ports are opened at start, so restart the data plane with this configuration"
            ))
        });
        missing.collect()
    }

    /// The twins of interfaces are made at start only, too.
    fn exception_differences(&self) -> Vec<String> {
        let open = &self.host.exceptions;
        let wanted = |interface: &Interface| {
            let problem = match (&interface.exception, open.get(&interface.name)) {
                (Some(wanted), Some(open)) if wanted == open => return None,
                (Some(wanted), Some(open)) => format!("the exception is {open} here, not {wanted}"),
                (Some(wanted), None) => format!("the exception {wanted} is not open"),
                (None, Some(open)) => format!("the exception {open} is open but takes nothing"),
                (None, None) => return None,
            };
            Some(format!(
                "interface {}: {problem}; it is made at start, so restart the data plane",
                interface.name
            ))
        };
        self.state.interfaces.iter().filter_map(wanted).collect()
    }

    /// What all workers have dropped, by reason.
    fn dropped(&self) -> Counts {
        std::array::from_fn(|reason| {
            let counters = self.workers.iter().map(|worker| &worker.counters).chain([&self.host.counters]);
            counters.map(|counters| counters.dropped(Reason::ALL[reason])).sum()
        })
    }

    /// What all workers dropped in the last minute, by reason.
    pub(crate) fn recent_drops(&self) -> Counts {
        self.recent.since(self.dropped())
    }

    /// Every second: whether devices hash as they say, and how busy workers are.
    pub(crate) fn measure(&mut self) {
        self.recent.note(self.dropped());
        for port in &mut self.ports {
            port.way.judge(&port.name);
        }
        let time = std::mem::replace(&mut self.measured, Instant::now()).elapsed();
        for worker in &mut self.workers {
            let now = Reading::of(&worker.board, &worker.counters);
            worker.pace = now.since(&worker.reading, time);
            worker.reading = now;
        }
    }

    /// A number for a question to a worker; numbers grow.
    pub(crate) fn next_question(&mut self) -> u64 {
        self.questions += 1;
        self.questions
    }
}
