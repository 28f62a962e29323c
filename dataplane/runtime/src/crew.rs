//! Builds the workers (engines, queues dealt out, rings between them); waits for them to begin and to leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_director::rss::Rss;
use fulcrum_director::snapshot::InterfaceId;
use fulcrum_director::{Engine, EngineConfig, InitialNumbers, Nanos, Snapshot, WorkerCounters};
use fulcrum_dpdk::{Lcore, Mempool, Queues};
use fulcrum_model::file::Idle as Policy;
use tokio::time::sleep;

use crate::board::{Board, Stage};
use crate::deal;
use crate::exception::{self, Lines};
use crate::gauge::{Gauge, Inlet};
use crate::idle::Idle;
use crate::mesh::{self, Mesh};
use crate::orders::{self, Desk};
use crate::ports::Port;
use crate::translations::{self, Outlet};
use crate::transmit::{Transmitter, Way};
use crate::worker::{Clock, Fault, Phase, Signal, Worker};

/// How long workers may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all workers have in common.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) sessions: usize,
    pub(crate) seed: u64,
    pub(crate) numbers: InitialNumbers,
    pub(crate) misdirect: bool,
    pub(crate) idle: Policy,
    pub(crate) fault: Option<Fault>,
    pub(crate) clock: Clock,
    /// Of each worker.
    pub(crate) pools: Vec<Mempool>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) signal: Arc<Signal>,
    /// By what hash owners are found, if by one.
    pub(crate) rss: Option<Arc<Rss>>,
    /// Interfaces with twins in Linux, their ports, and the largest frame to and from them.
    pub(crate) twins: Option<(Vec<(InterfaceId, u16)>, usize)>,
    /// Where workers tell of translations; none where nobody asks.
    pub(crate) outlets: Vec<Outlet>,
}

/// A worker that has not begun.
pub(crate) struct Recruit {
    /// The control thread's ends of its rings.
    pub(crate) desk: Desk,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) board: Arc<Board>,
    /// Makes the worker with its tables. To be called on the thread that it will run on: memory is taken on the NUMA
    /// node of the thread that touches it first.
    pub(crate) begin: Box<dyn FnOnce() -> Worker + Send>,
}

impl Crew {
    /// The workers to be. `queues` and `gauges` are the ports', in their order.
    pub(crate) fn hire(
        self,
        ports: &[Port],
        queues: Vec<Queues>,
        gauges: Vec<Vec<Option<Gauge>>>,
        workers: usize,
    ) -> (Vec<Recruit>, Option<Lines>) {
        let largest: Vec<usize> = ports.iter().map(|port| port.largest).collect();
        let bonds = ports.iter().any(|port| !port.members.is_empty());
        let (receiving, sending) = deal_out(queues, gauges, workers);
        let messages = mesh::rings(workers, mesh::RING);
        let frames = mesh::rings(workers, mesh::RING);
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(WorkerCounters::new(ports.len()))).collect();
        let (uplinks, lines) = match self.twins {
            Some((twins, largest)) => {
                let (uplinks, lines) = exception::lines(&counters, twins, largest);
                (uplinks.into_iter().map(Some).collect(), Some(lines))
            }
            None => ((0..workers).map(|_| None).collect::<Vec<_>>(), None),
        };
        let outlets = self.outlets.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let counters = counters.into_iter().zip(uplinks.into_iter().zip(outlets));
        let hands = receiving.into_iter().zip(sending).zip(messages.into_iter().zip(frames));
        let recruits = hands
            .zip(counters)
            .enumerate()
            .map(|(number, (((rx, ways), (messages, frames)), (counters, (uplink, translations))))| {
                let board = Arc::new(Board::default());
                let (desk, slot) = orders::channel();
                let config = EngineConfig {
                    worker: u16::try_from(number).unwrap_or(u16::MAX),
                    workers: u16::try_from(workers).unwrap_or(u16::MAX),
                    sessions: self.sessions,
                    seed: self.seed,
                    numbers: self.numbers,
                    announce: true,
                    misdirect: self.misdirect,
                    short_way: true,
                };
                let (pool, idle, clock) = (self.pools[number], self.idle, self.clock);
                let (snapshot, signal) = (Arc::clone(&self.snapshot), Arc::clone(&self.signal));
                let (largest, fault) = (largest.clone(), self.fault.filter(|_| number == 0));
                let (its_counters, its_board) = (Arc::clone(&counters), Arc::clone(&board));
                let rss = self.rss.clone();
                let begin = move || Worker {
                    engine: {
                        let mut engine = Engine::new(config, snapshot, Arc::clone(&its_counters));
                        rss.into_iter().for_each(|rss| engine.steer_by(rss));
                        if translations.is_some() {
                            engine.keep_journal(translations::STEP);
                        }
                        engine
                    },
                    pool,
                    rx,
                    transmitter: Transmitter::new(ways, largest, frames, Arc::clone(&its_counters)),
                    mesh: Mesh::new(messages, Arc::clone(&its_counters), Arc::clone(&its_board)),
                    uplink,
                    slot,
                    idle: Idle::new(idle),
                    clock,
                    counters: its_counters,
                    board: its_board,
                    signal,
                    fault,
                    tap: None,
                    translations,
                    tending: if bonds { 0 } else { Nanos::MAX },
                    lap: 0,
                };
                Recruit { desk, counters, board, begin: Box::new(begin) }
            })
            .collect();
        (recruits, lines)
    }
}

type Receiving = Vec<Vec<(u16, Inlet)>>;

/// For each worker the receive queues that it polls and its ways out.
fn deal_out(
    queues: Vec<Queues>,
    gauges: Vec<Vec<Option<Gauge>>>,
    workers: usize,
) -> (Receiving, Vec<Vec<Way>>) {
    let mut receiving: Receiving = (0..workers).map(|_| Vec::new()).collect();
    let mut sending: Vec<Vec<Way>> = (0..workers).map(|_| Vec::new()).collect();
    for (port, (Queues { rx, tx }, gauges)) in queues.into_iter().zip(gauges).enumerate() {
        let number = u16::try_from(port).unwrap_or(u16::MAX);
        let count = rx.len();
        for (nth, (queue, gauge)) in rx.into_iter().zip(gauges).enumerate() {
            let inlet = Inlet { queue, gauge };
            receiving[deal::receiver(port, nth, count, workers)].push((number, inlet));
        }
        let mut tx: Vec<_> = tx.into_iter().map(Some).collect();
        let count = tx.len();
        for (worker, ways) in sending.iter_mut().enumerate() {
            let (queue, owner) = deal::sender(port, worker, count, workers);
            ways.push(match tx.get_mut(queue).filter(|_| owner == worker).and_then(Option::take) {
                Some(queue) => Way::Own(queue),
                None => Way::Worker(owner),
            });
        }
    }
    (receiving, sending)
}

/// The workers' threads.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) signal: Arc<Signal>,
    pub(crate) boards: Vec<Arc<Board>>,
    pub(crate) lcores: Vec<Lcore>,
}

impl Running {
    /// Waits for workers to have made their tables, which may take seconds when these are large: before that they
    /// show no sign of life.
    pub(crate) async fn begun(&self) {
        while self.boards.iter().any(|board| board.stage() == Stage::Starting) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets workers send what they have, then waits for them to leave.
    pub(crate) async fn stop(self) {
        self.signal.set(Phase::Drain);
        // Time for a frame to cross from worker to worker and out, naps included.
        sleep(Duration::from_millis(20)).await;
        self.signal.set(Phase::Quit);
        let deadline = Instant::now() + FAREWELL;
        while self.boards.iter().any(|board| board.stage() != Stage::Stopped) {
            if Instant::now() > deadline {
                tracing::error!(
                    "a worker does not stop; the process aborts, the next one puts interfaces right"
                );
                std::process::abort();
            }
            sleep(Duration::from_millis(1)).await;
        }
        drop(self.lcores);
    }
}
