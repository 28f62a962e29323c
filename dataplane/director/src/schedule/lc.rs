//! Least connections: the server with the least load, whatever its weight.

use std::sync::Arc;

use super::{Request, Scheduler, overhead};
use crate::snapshot::Destination;

#[derive(Debug)]
struct LeastConnections;

pub(super) fn make(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(LeastConnections)
}

impl Scheduler for LeastConnections {
    fn name(&self) -> &'static str {
        "lc"
    }

    fn choose(&self, destinations: &[Arc<Destination>], _: &Request) -> Option<usize> {
        let eligible = destinations.iter().enumerate().filter(|(_, d)| d.weight > 0);
        // Of equals `min_by_key` takes the first, as IPVS does.
        eligible.min_by_key(|(_, d)| overhead(d)).map(|(index, _)| index)
    }

    fn carry_over(&self, flags: u8, _: &[Arc<Destination>], new: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        make(flags, new)
    }
}
