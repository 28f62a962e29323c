//! The server with the highest weight: fo (fail over, as long as it may), ovf (overflow, as long as it has no more
//! active connections than its weight).

use std::sync::Arc;

use super::{Request, Scheduler, active, eligible};
use crate::snapshot::Destination;

#[derive(Clone, Copy, Debug)]
struct Priority {
    name: &'static str,
    /// Whether a server with more active connections than its weight is passed over.
    overflow: bool,
}

pub(super) fn fo(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(Priority { name: "fo", overflow: false })
}

pub(super) fn ovf(_: u8, _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
    Box::new(Priority { name: "ovf", overflow: true })
}

impl Scheduler for Priority {
    fn name(&self) -> &'static str {
        self.name
    }

    fn choose(&self, destinations: &[Arc<Destination>], _: &Request) -> Option<usize> {
        let full = |destination: &Destination| active(destination) > destination.weight.into();
        let mut highest: Option<(usize, u32)> = None;
        for (index, destination) in destinations.iter().enumerate() {
            let higher = highest.is_none_or(|(_, weight)| destination.weight > weight);
            if higher && eligible(destination) && !(self.overflow && full(destination)) {
                highest = Some((index, destination.weight));
            }
        }
        highest.map(|(index, _)| index)
    }

    fn carry_over(&self, _: u8, _: &[Arc<Destination>], _: &[Arc<Destination>]) -> Box<dyn Scheduler> {
        Box::new(*self)
    }
}
