//! The power of two choices: two servers drawn by weight, the one with less load for its weight.

use std::sync::Arc;

use super::{Request, Scheduler, eligible, overhead};
use crate::snapshot::Destination;

#[derive(Clone, Copy, Debug)]
struct TwoChoices;

pub(super) fn make(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(TwoChoices)
}

impl Scheduler for TwoChoices {
    fn name(&self) -> &'static str {
        "twos"
    }

    fn choose(&self, destinations: &[Arc<Destination>], request: &Request) -> Option<usize> {
        let eligible = || destinations.iter().enumerate().filter(|(_, d)| eligible(d));
        let weights: u64 = eligible().map(|(_, d)| u64::from(d.weight)).sum();
        // IPVS draws from 0 up to and including the sum: 0 falls to the first server as 1 does.
        let draw = |half: u64| ((u128::from(half) * u128::from(weights + 1)) >> 32) as u64;
        let pick = |mut rest: u64| {
            eligible().find(|(_, d)| {
                let weight = u64::from(d.weight);
                let here = rest <= weight;
                rest = rest.saturating_sub(weight);
                here
            })
        };
        let (one, first) = pick(draw(request.chance >> 32))?;
        let (two, second) = pick(draw(request.chance & u64::from(u32::MAX)))?;
        let measure = |d: &Destination| (overhead(d), u64::from(d.weight));
        Some(if super::least::lighter(measure(second), measure(first)) { two } else { one })
    }

    fn carry_over(&self, _: u8, _: &[Arc<Destination>], _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        Box::new(*self)
    }
}
