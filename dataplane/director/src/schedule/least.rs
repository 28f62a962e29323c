//! The server with the least load: lc (whatever its weight), wlc (for its weight), sed (as if it had the new
//! connection already), nq (as sed, but an idle server takes it at once).

use std::sync::Arc;

use super::{Request, Scheduler, active, eligible, overhead};
use crate::snapshot::Destination;

#[derive(Clone, Copy, Debug)]
struct Least {
    name: &'static str,
    load: fn(&Destination) -> u64,
    weight: fn(&Destination) -> u64,
    /// Whether the first idle server wins.
    idle_first: bool,
}

pub(super) fn lc(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(Least { name: "lc", load: overhead, weight: |_| 1, idle_first: false })
}

pub(super) fn wlc(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(WLC)
}

pub(super) fn sed(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(SED)
}

pub(super) fn nq(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(Least { name: "nq", idle_first: true, ..SED })
}

const WLC: Least = Least { name: "wlc", load: overhead, weight: own_weight, idle_first: false };
const SED: Least = Least { name: "sed", load: |d| active(d) + 1, weight: own_weight, idle_first: false };

fn own_weight(destination: &Destination) -> u64 {
    destination.weight.into()
}

/// The index of the server that wlc chooses.
pub(super) fn least_loaded(destinations: &[Arc<Destination>]) -> Option<usize> {
    WLC.least(destinations)
}

/// Whether one (load, weight) is less than another in proportion; compared without dividing.
pub(super) fn lighter(a: (u64, u64), b: (u64, u64)) -> bool {
    u128::from(b.0) * u128::from(a.1) > u128::from(a.0) * u128::from(b.1)
}

impl Least {
    fn least(&self, destinations: &[Arc<Destination>]) -> Option<usize> {
        let mut least: Option<(usize, (u64, u64))> = None;
        for (index, destination) in destinations.iter().enumerate().filter(|(_, d)| eligible(d)) {
            if self.idle_first && active(destination) == 0 {
                return Some(index);
            }
            let measure = ((self.load)(destination), (self.weight)(destination));
            // Of equals the first stays, as in IPVS.
            if least.is_none_or(|(_, least)| lighter(measure, least)) {
                least = Some((index, measure));
            }
        }
        least.map(|(index, _)| index)
    }
}

impl Scheduler for Least {
    fn name(&self) -> &'static str {
        self.name
    }

    fn choose(&self, destinations: &[Arc<Destination>], _: &Request) -> Option<usize> {
        self.least(destinations)
    }

    fn carry_over(&self, _: u8, _: &[Arc<Destination>], _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        Box::new(*self)
    }
}
