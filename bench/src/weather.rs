//! How much of its processor the machine leaves to a worker: where the host has other guests, all of a run is slower by
//! half for seconds, its ceiling, too, but not the memory's latency. Rows wait for better weather, as long as a run may.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use fulcrum_dpdk::Mempool;
use fulcrum_model::{Family, Forward};

use crate::feed::Stream;
use crate::frames::{Flows, Template};
use crate::measure::Clock;
use crate::plan::{K, plain};
use crate::table::{self, feed};

/// Of the fastest ceiling that a run has seen: what is slower has to wait.
const FAIR: f64 = 1.12;
/// Packets of one look.
const LOOK: u64 = 200_000;
const PAUSE: Duration = Duration::from_millis(500);
/// Looks at the beginning, to learn what is fast.
const FIRST: usize = 8;

/// What is known of the weather, and how long may be waited for better one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    fastest: f64,
    patience: Duration,
}

impl Weather {
    /// For a run that may wait so long all in all.
    pub(crate) fn new(patience: Duration) -> Weather {
        Weather { fastest: f64::INFINITY, patience }
    }

    /// Waits until the ceiling is about as fast as it has been in this run. On the pinned thread.
    pub(crate) fn wait(&mut self, pool: Mempool) {
        let world = plain(Family::V4, Forward::FullNat);
        let mut flows = Flows::new(world.family, K);
        (0..K).for_each(|number| flows.push(&world.request(number)));
        let (mut ceiling, mut clock) = (table::ceiling(pool), Clock::at(0));
        feed(&mut ceiling).set_stream(Some(Stream::of(&Arc::new(flows), Template::new(world.family, 64))));
        clock.slice(&mut ceiling, LOOK);
        let mut first = if self.fastest.is_finite() { 0 } else { FIRST };
        loop {
            let now = clock.slice(&mut ceiling, LOOK);
            self.fastest = self.fastest.min(now);
            if first == 0 && now <= FAIR * self.fastest || self.patience.is_zero() {
                return;
            }
            first = first.saturating_sub(1);
            sleep(PAUSE);
            self.patience = self.patience.saturating_sub(PAUSE);
        }
    }
}
