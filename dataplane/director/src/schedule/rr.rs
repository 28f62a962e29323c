//! Round robin: every server in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Request, Scheduler, eligible};
use crate::snapshot::Destination;

/// The place in the list where the next walk begins: one past the server chosen last.
#[derive(Debug)]
struct RoundRobin(AtomicU64);

pub(super) fn make(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(RoundRobin(AtomicU64::new(0)))
}

impl Scheduler for RoundRobin {
    fn name(&self) -> &'static str {
        "rr"
    }

    fn choose(&self, destinations: &[Arc<Destination>], _: &Request) -> Option<usize> {
        let mut next = self.0.load(Relaxed);
        loop {
            let start = usize::try_from(next).unwrap_or(0).min(destinations.len());
            let chosen = (start..destinations.len()).chain(0..start).find(|&i| eligible(&destinations[i]))?;
            match self.0.compare_exchange_weak(next, chosen as u64 + 1, Relaxed, Relaxed) {
                Ok(_) => return Some(chosen),
                Err(now) => next = now,
            }
        }
    }

    fn carry_over(&self, _: u8, old: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        let next = usize::try_from(self.0.load(Relaxed)).unwrap_or(0).min(old.len());
        // The server chosen last, or if it is gone the one before it that is left.
        let place = old[..next]
            .iter()
            .rev()
            .find_map(|last| new.iter().position(|d| d.id == last.id))
            .map_or(0, |position| position + 1);
        Box::new(RoundRobin(AtomicU64::new(place as u64)))
    }
}
