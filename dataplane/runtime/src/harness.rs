//! The workers' loop without ports, for benchmarks: frames come from and go to whatever they like, time is theirs.

use std::sync::Arc;

use fulcrum_director::{Nanos, Snapshot, WorkerCounters};
use fulcrum_dpdk::Mempool;
use fulcrum_machine::cycles;
use fulcrum_model::file::Idle as Policy;

use crate::board::Board;
use crate::ends::{Decide, Egress, Ingress};
use crate::idle::Idle;
use crate::mesh::{self, Mesh};
use crate::orders::{self, Desk};
use crate::transmit::{Transmitter, Way};
use crate::worker::{Clock, Hands, Signal, Worker};

/// What one worker is made of.
#[derive(Debug)]
pub struct Parts<D, I, E> {
    /// The engine, or what stands in its place.
    pub director: D,
    /// The counters that the engine was made with.
    pub counters: Arc<WorkerCounters>,
    /// Where frames come from, by port.
    pub ingress: Vec<I>,
    /// Where they go, by port.
    pub egress: Vec<E>,
}

/// One worker whose turns somebody else takes.
#[derive(Debug)]
pub struct Harness<D, I, E> {
    worker: Worker<D, I, E>,
    hands: Hands,
    desk: Desk,
}

/// Workers that are one another's crew: what one hands off another gets. Frames of theirs come from `pool`.
pub fn crew<D: Decide, I: Ingress, E: Egress>(
    pool: Mempool,
    parts: Vec<Parts<D, I, E>>,
) -> Vec<Harness<D, I, E>> {
    let messages = mesh::rings(parts.len(), mesh::RING);
    let frames = mesh::rings(parts.len(), mesh::RING);
    let ends = messages.into_iter().zip(frames);
    parts
        .into_iter()
        .zip(ends)
        .map(|(parts, (messages, frames))| {
            let Parts { director, counters, ingress, egress } = parts;
            let board = Arc::new(Board::default());
            let (desk, slot) = orders::channel();
            let largest = vec![usize::MAX; egress.len()];
            let ways = egress.into_iter().map(Way::Own).collect();
            let worker = Worker {
                engine: director,
                pool,
                rx: (0..).zip(ingress).collect(),
                transmitter: Transmitter::new(ways, largest, frames, Arc::clone(&counters)),
                mesh: Mesh::new(messages, Arc::clone(&counters), Arc::clone(&board)),
                uplink: None,
                slot,
                idle: Idle::new(Policy::Poll),
                clock: Clock::start(),
                counters,
                board,
                signal: Arc::new(Signal::default()),
                fault: None,
                tap: None,
                translations: None,
                tending: Nanos::MAX,
                lap: cycles(),
            };
            Harness { hands: worker.hands(), worker, desk }
        })
        .collect()
}

impl<D: Decide, I: Ingress, E: Egress> Harness<D, I, E> {
    /// One turn of the worker's loop at the time `now`.
    #[inline]
    pub fn turn(&mut self, now: Nanos) {
        self.worker.turn(now, self.worker.rx.len(), &mut self.hands);
    }

    /// Has the worker rest so from now on. For the thread that takes its turns.
    pub fn rest_by(&mut self, policy: Policy) {
        self.worker.idle = Idle::new(policy);
        self.worker.idle.settle();
    }

    /// What decides.
    pub fn director(&mut self) -> &mut D {
        &mut self.worker.engine
    }

    /// Where frames of a port come from.
    pub fn ingress(&mut self, port: usize) -> Option<&mut I> {
        self.worker.rx.get_mut(port).map(|(_, ingress)| ingress)
    }

    /// Where frames of a port go.
    pub fn egress(&mut self, port: usize) -> Option<&mut E> {
        self.worker.transmitter.own(port)
    }

    /// The worker's counters.
    pub fn counters(&self) -> &Arc<WorkerCounters> {
        &self.worker.counters
    }

    /// Sends the worker a configuration, which it takes in one of its next turns; false when others wait already.
    /// Configurations that it is done with are dropped here, too.
    pub fn install(&mut self, snapshot: &Arc<Snapshot>) -> bool {
        self.desk.install(snapshot)
    }

    /// Number of the configuration that the worker runs.
    pub fn installed(&self) -> u64 {
        self.worker.board.acknowledged()
    }
}
