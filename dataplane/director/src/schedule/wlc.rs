//! Weighted least connections: the server with the least load in proportion to its weight.

use std::sync::Arc;

use super::{Request, Scheduler, overhead};
use crate::snapshot::Destination;

#[derive(Debug)]
struct WeightedLeastConnections;

pub(super) fn make(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(WeightedLeastConnections)
}

impl Scheduler for WeightedLeastConnections {
    fn name(&self) -> &'static str {
        "wlc"
    }

    fn choose(&self, destinations: &[Arc<Destination>], _: &Request) -> Option<usize> {
        let mut least: Option<(usize, u64, u64)> = None;
        for (index, destination) in destinations.iter().enumerate() {
            let weight = u64::from(destination.weight);
            if weight == 0 {
                continue;
            }
            let load = overhead(destination);
            // load / weight compared without dividing; of equals the first stays.
            let better = least.is_none_or(|(_, least_load, least_weight)| {
                least_load.saturating_mul(weight) > load.saturating_mul(least_weight)
            });
            if better {
                least = Some((index, load, weight));
            }
        }
        least.map(|(index, ..)| index)
    }

    fn carry_over(&self, flags: u8, _: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        make(flags, new)
    }
}
