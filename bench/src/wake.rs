//! How long a frame waits for an adaptive worker that sleeps, by the clock: sleep is no CPU time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use fulcrum_director::{Engine, Message, Nanos, Output, Received, SECOND, WorkerCounters};
use fulcrum_dpdk::{Eal, Mbuf, Mempool};
use fulcrum_runtime::harness::{self, Parts};
use fulcrum_runtime::{Decide, Ingress, Policy};

use crate::feed::{Drain, MacSwap};
use crate::measure::median;
use crate::table::Lost;

pub(crate) const NAME: &str = "adaptive wake";

/// Frames that come, each to a worker that sleeps.
const FRAMES: usize = 301;
/// Between two of them: long after the worker has gone to sleep again.
const APART: Duration = Duration::from_millis(2);
/// What the kernel may keep a worker from its processor for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// What frames waited, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wake {
    pub(crate) median: f64,
    /// Nine of ten waited no longer.
    pub(crate) most: f64,
}

/// Where frames come from, one at a time.
#[derive(Debug)]
struct Door {
    pool: Mempool,
    start: Instant,
    /// When the frame came that is there, in nanoseconds since the start; 0: there is none.
    came: Arc<AtomicU64>,
    /// For how long the last one waited.
    waited: Arc<AtomicU64>,
}

impl Ingress for Door {
    fn poll(&mut self, _limit: usize, mut each: impl FnMut(Mbuf)) -> usize {
        let came = self.came.load(Relaxed);
        if came == 0 {
            return 0;
        }
        self.waited.store(nanos(self.start) - came, Relaxed);
        self.came.store(0, std::sync::atomic::Ordering::Release);
        let frame = Mbuf::alloc(self.pool, 60);
        frame.map_or(0, |frame| {
            each(frame);
            1
        })
    }
}

/// Turns frames round, and has timers as far away as an engine with nothing to do.
#[derive(Debug)]
struct Calm(MacSwap);

impl Decide for Calm {
    fn step(
        &mut self,
        now: Nanos,
        pool: &mut Mempool,
        burst: &mut Vec<Received<Mbuf>>,
        inbox: &mut Vec<Message<Mbuf>>,
        out: &mut Output<Mbuf>,
    ) {
        self.0.step(now, pool, burst, inbox, out);
    }

    fn next_deadline(&self, now: Nanos) -> Nanos {
        now + SECOND / 10
    }

    fn engine(&mut self) -> Option<&mut Engine<Mempool>> {
        None
    }
}

fn nanos(start: Instant) -> u64 {
    // Five hundred years.
    start.elapsed().as_nanos() as u64
}

/// Offers frames to a worker on the first lcore, from another thread.
pub(crate) fn measure(eal: &'static Eal, pool: Mempool) -> Result<Wake, Lost> {
    let start = Instant::now();
    let (came, waited) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let lcore = {
        let door = Door { pool, start, came: Arc::clone(&came), waited: Arc::clone(&waited) };
        let over = Arc::clone(&over);
        let work = move || {
            let parts = Parts {
                director: Calm(MacSwap),
                counters: Arc::new(WorkerCounters::new(1)),
                ingress: vec![door],
                egress: vec![Drain::default()],
            };
            let mut worker = harness::crew(pool, vec![parts]).pop().expect("one part, one worker");
            worker.rest_by(Policy::Adaptive);
            while !over.load(Relaxed) {
                worker.turn(nanos(start));
            }
        };
        eal.launch(0, work).map_err(|error| Lost(error.to_string()))?
    };
    let mut times = Vec::with_capacity(FRAMES);
    while times.len() < FRAMES {
        thread::sleep(APART);
        let now = nanos(start);
        came.store(now, Relaxed);
        while came.load(std::sync::atomic::Ordering::Acquire) != 0 {
            if nanos(start) - now > PATIENCE.as_nanos() as u64 {
                break;
            }
            thread::sleep(APART / 10);
        }
        times.push(waited.load(Relaxed) as f64 / 1e3);
    }
    over.store(true, Relaxed);
    drop(lcore);
    let median = median(&mut times);
    Ok(Wake { median, most: times[FRAMES * 9 / 10] })
}
