//! Weighted round robin: walks the list in rounds, each with a lower bar that a weight has to reach.
//!
//! The bar falls by the weights' greatest common divisor from round to round and starts again at the top, so
//! that weights 4, 3, 2 give A A B A B C A B C. An edit sends the walk back to the head of the list and keeps the bar.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Request, Scheduler, eligible};
use crate::snapshot::{Destination, DestinationId};

#[derive(Debug)]
struct WeightedRoundRobin {
    scale: Scale,
    /// A packed [`Cursor`].
    cursor: AtomicU64,
}

/// The bars of one list of weights.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Where the bar starts: the largest weight, less what the last step would go below 1; 0 = no weights.
    top: u32,
    /// How far the bar falls per round: the greatest common divisor of the weights above 0, at least 1.
    step: u32,
}

/// The walk's place.
#[derive(Clone, Copy)]
struct Cursor {
    /// Index that the walk looks at next.
    next: u32,
    /// Weight that is enough in this round.
    bar: u32,
}

pub(super) fn make(_: u8, destinations: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    let scale = Scale::of(destinations.iter().map(|d| d.weight));
    let cursor = Cursor { next: 0, bar: scale.top };
    Box::new(WeightedRoundRobin { scale, cursor: AtomicU64::new(cursor.pack()) })
}

impl Scale {
    fn of(weights: impl Iterator<Item = u32>) -> Scale {
        let (divisor, largest) = weights.fold((0, 0), |(d, max), weight| (gcd(d, weight), max.max(weight)));
        let step = divisor.max(1);
        // Weights 10 and 5 have the bars 6 and 1.
        Scale { top: largest.saturating_sub(step - 1), step }
    }
}

/// The greatest common divisor, 0 being divisible by everything.
pub(super) fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Cursor {
    fn pack(self) -> u64 {
        u64::from(self.next) << 32 | u64::from(self.bar)
    }

    fn unpack(word: u64) -> Cursor {
        Cursor { next: (word >> 32) as u32, bar: (word & u64::from(u32::MAX)) as u32 }
    }
}

impl WeightedRoundRobin {
    /// The chosen index, when there is one, and where the walk stands then.
    ///
    /// The bar falls until every server has been asked whether its weight is at least the last one, and a failing
    /// walk is remembered too. // IPVS: ip_vs_wrr_schedule
    fn walk(&self, cursor: Cursor, destinations: &[Arc<Destination>]) -> (Option<usize>, Cursor) {
        let Scale { top, step } = self.scale;
        if top == 0 {
            return (None, cursor);
        }
        let Cursor { mut next, mut bar } = cursor;
        // The server that the walk stands on, where it began in the middle of the list.
        let last = next.checked_sub(1);
        let mut stop = None;
        let (mut restarted, mut last_round) = (false, false);
        loop {
            for (index, destination) in (0u32..).zip(destinations).skip(next as usize) {
                let here = Cursor { next: index + 1, bar };
                if destination.weight >= bar && eligible(destination) {
                    return (Some(index as usize), here);
                }
                if stop == Some(index) {
                    return (None, here);
                }
            }
            next = 0;
            bar = bar.saturating_sub(step);
            if bar == 0 {
                bar = top;
                if last_round || last.is_none() {
                    return (None, Cursor { next, bar });
                }
                restarted = true;
            }
            last_round = bar <= step;
            if last_round && restarted {
                stop = last;
            }
        }
    }
}

impl Scheduler for WeightedRoundRobin {
    fn name(&self) -> &'static str {
        "wrr"
    }

    fn choose(&self, destinations: &[Arc<Destination>], _: &Request) -> Option<usize> {
        let mut word = self.cursor.load(Relaxed);
        loop {
            let (chosen, after) = self.walk(Cursor::unpack(word), destinations);
            match self.cursor.compare_exchange_weak(word, after.pack(), Relaxed, Relaxed) {
                Ok(_) => return chosen,
                Err(now) => word = now,
            }
        }
    }

    fn carry_over(&self, _: u8, old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        let before: HashMap<_, _> = old.iter().map(|d| (d.id, d)).collect();
        let after: HashMap<_, _> = new.iter().map(|d| (d.id, d)).collect();
        let mut edits = Edits {
            weights: old.iter().rev().map(|d| (d.id, d.weight)).collect(),
            scale: self.scale,
            cursor: Cursor::unpack(self.cursor.load(Relaxed)),
        };
        for gone in old.iter().rev().filter(|d| !after.contains_key(&d.id)) {
            edits.weights.retain(|(id, _)| *id != gone.id);
            edits.settle();
        }
        for added in new.iter().rev().filter(|d| !before.contains_key(&d.id)) {
            edits.weights.push((added.id, added.weight));
            edits.settle();
        }
        for edited in new.iter().rev() {
            let Some(past) = before.get(&edited.id) else { continue };
            let settings = |d: &Destination| (d.weight, d.forward, d.thresholds.limits());
            if settings(past) != settings(edited) {
                edits.reweigh(edited.id, edited.weight);
                edits.settle();
            }
        }
        let Edits { scale, cursor, .. } = edits;
        Box::new(WeightedRoundRobin { scale, cursor: AtomicU64::new(cursor.pack()) })
    }
}

/// The state while edits are replayed on it.
struct Edits {
    weights: Vec<(DestinationId, u32)>,
    scale: Scale,
    cursor: Cursor,
}

impl Edits {
    fn reweigh(&mut self, edited: DestinationId, to: u32) {
        for (_, weight) in self.weights.iter_mut().filter(|(id, _)| *id == edited) {
            *weight = to;
        }
    }

    /// What IPVS does after each edit: back to the head; the bar stays where the new rounds have one.
    fn settle(&mut self) {
        self.scale = Scale::of(self.weights.iter().map(|(_, weight)| *weight));
        let Scale { top, step } = self.scale;
        let bar = match self.cursor.bar {
            bar if bar > top || bar == 0 => top,
            bar if step > 1 => (bar / step) * step + 1,
            bar => bar,
        };
        self.cursor = Cursor { next: 0, bar };
    }
}
