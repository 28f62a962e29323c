//! How much of its processor the machine leaves to a worker: where the host has other guests, all of a run is slower by
//! half for seconds, its ceiling, too, but not the memory's latency. What is measured in such a time does not count, as
//! long as a run may wait for better weather.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fulcrum_dpdk::Mempool;
use fulcrum_model::{Family, Forward};

use crate::feed::Stream;
use crate::frames::{Flows, Template};
use crate::measure::Clock;
use crate::plan::{K, plain};
use crate::table::{self, feed};

/// Of the fastest ceiling that a run has seen: what is slower is foul weather.
const FAIR: f64 = 1.12;
/// Packets of one look at the sky.
const LOOK: u64 = 100_000;
const PAUSE: Duration = Duration::from_millis(250);
/// Looks at the beginning, to learn what is fast, and the time between them.
const FIRST: usize = 16;
/// How much of what is left of a run's patience a row may use: so many times its even share.
const SHARE: u32 = 4;

/// What is known of the weather, and how long may be waited for better one.
pub(crate) struct Weather {
    /// Nanoseconds that the ceiling takes for a packet now.
    look: Box<dyn FnMut() -> f64 + Send>,
    fastest: f64,
    /// Whether anybody looks.
    watched: bool,
    /// For the rows that have not begun, and how many these are.
    patience: Duration,
    rows: u32,
    /// For the row in work.
    left: Duration,
}

impl Weather {
    /// For a run of so many rows that may take so much longer all in all; none, and all weather is fair.
    pub(crate) fn new(pool: Mempool, patience: Duration, rows: usize) -> Weather {
        let world = plain(Family::V4, Forward::FullNat);
        let mut flows = Flows::new(world.family, K);
        (0..K).for_each(|number| flows.push(&world.request(number)));
        let mut ceiling = table::ceiling(pool);
        feed(&mut ceiling).set_stream(Some(Stream::of(&Arc::new(flows), Template::new(world.family, 64))));
        let mut clock = Clock::at(0);
        Weather::seen_by(move || clock.slice(&mut ceiling, LOOK), patience, rows)
    }

    fn seen_by(look: impl FnMut() -> f64 + Send + 'static, patience: Duration, rows: usize) -> Weather {
        Weather {
            look: Box::new(look),
            fastest: f64::INFINITY,
            watched: !patience.is_zero(),
            patience,
            rows: rows as u32,
            left: Duration::ZERO,
        }
    }

    /// Begins a row, in fair weather if it comes while that row may wait. On the pinned thread, as all of this.
    pub(crate) fn begin(&mut self) {
        if self.watched && self.fastest.is_infinite() {
            for _ in 0..FIRST {
                self.is_fair();
                sleep(PAUSE);
            }
        }
        self.patience += std::mem::take(&mut self.left);
        self.left = (SHARE * self.patience / self.rows.max(1)).min(self.patience);
        self.patience -= self.left;
        self.rows = self.rows.saturating_sub(1);
        self.wait();
    }

    /// What `one` gives `count` times in fair weather, which [`Weather::begin`] has waited for, and how many of these were in foul one, when there was no more
    /// patience left for the row.
    pub(crate) fn measure<T>(&mut self, count: usize, mut one: impl FnMut() -> T) -> (Vec<T>, usize) {
        let (mut taken, mut foul) = (Vec::with_capacity(count), 0);
        while taken.len() < count {
            let start = Instant::now();
            let measured = one();
            let is_fair = self.is_fair();
            if !is_fair {
                self.left = self.left.saturating_sub(start.elapsed());
            }
            if is_fair || self.left.is_zero() {
                taken.push(measured);
                foul += usize::from(!is_fair);
            } else {
                self.wait();
            }
        }
        (taken, foul)
    }

    fn wait(&mut self) {
        while !self.left.is_zero() && !self.is_fair() {
            sleep(PAUSE);
            self.left = self.left.saturating_sub(PAUSE);
        }
    }

    /// Whether the ceiling is about as fast as it has been in this run.
    fn is_fair(&mut self) -> bool {
        if !self.watched {
            return true;
        }
        let now = (self.look)();
        self.fastest = self.fastest.min(now);
        now <= FAIR * self.fastest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weather that is foul in these looks after the first ones.
    fn foul_at(looks: &'static [usize], patience: Duration, rows: usize) -> Weather {
        let mut number = 0;
        let look = move || {
            number += 1;
            if number > FIRST && looks.contains(&(number - FIRST)) { 50.0 } else { 30.0 }
        };
        Weather::seen_by(look, patience, rows)
    }

    #[test]
    fn what_is_measured_in_foul_weather_does_not_count() {
        // Looks: one at the beginning, one after each, and one more after a foul one.
        let mut weather = foul_at(&[3, 6], Duration::from_secs(2), 1);
        weather.begin();
        let mut number = 0;
        let (taken, foul) = weather.measure(3, || {
            number += 1;
            number
        });
        assert_eq!((taken, foul), (vec![1, 3, 5], 0));
    }

    #[test]
    fn a_row_has_its_share_of_patience() {
        const FOUL: [usize; 100] = {
            let mut looks = [0; 100];
            let mut number = 0;
            while number < 100 {
                looks[number] = number + 1;
                number += 1;
            }
            looks
        };
        let mut weather = foul_at(&FOUL, PAUSE * 8, 8);
        weather.begin();
        // Four eighths were waited for; what then comes counts, and is told.
        assert_eq!((weather.left, weather.patience), (Duration::ZERO, PAUSE * 4));
        assert_eq!(weather.measure(2, || ()), (vec![(), ()], 2));
    }

    #[test]
    fn without_patience_nobody_looks() {
        let mut weather = foul_at(&[1, 2, 3, 4], Duration::ZERO, 1);
        weather.begin();
        assert_eq!(weather.measure(2, || ()), (vec![(), ()], 0));
        assert!(weather.fastest.is_infinite());
    }
}
