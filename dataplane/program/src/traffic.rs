//! What a service carries: workers count by server alone, and whoever reads a service's counts adds those of its
//! servers, of deleted ones as long as they are known, and of forgotten ones what they came to.

use fulcrum_director::Cells;
use fulcrum_director::counters::{Counter, DestinationCells, Traffic};

/// Connections, packets in and out, bytes in and out; sums wrap.
pub type Totals = [u64; 5];

/// What a server's cells have of all workers together.
pub fn totals(cells: &Cells<DestinationCells>) -> Totals {
    let sum = |counter: fn(&Traffic) -> &Counter| cells.sum(|cell| counter(&cell.traffic));
    [
        sum(|traffic| &traffic.connections),
        sum(|traffic| &traffic.in_packets),
        sum(|traffic| &traffic.out_packets),
        sum(|traffic| &traffic.in_bytes),
        sum(|traffic| &traffic.out_bytes),
    ]
}

/// Where the traffic of a service is, since it was made, or made again.
#[derive(Clone, Debug)]
pub struct ServiceTraffic {
    /// The generation in which that was.
    pub since: u64,
    /// What is to be added to that of `servers`.
    pub base: Totals,
    /// What is counted of its servers.
    pub servers: Vec<Cells<DestinationCells>>,
}

impl ServiceTraffic {
    /// Its counts now.
    pub fn totals(&self) -> Totals {
        self.servers.iter().map(totals).fold(self.base, plus)
    }

    /// Whether both are of one service that was not deleted between them.
    pub fn continues(&self, other: &ServiceTraffic) -> bool {
        self.since == other.since
    }
}

pub(crate) fn plus(a: Totals, b: Totals) -> Totals {
    std::array::from_fn(|n| a[n].wrapping_add(b[n]))
}

pub(crate) fn minus(a: Totals, b: Totals) -> Totals {
    std::array::from_fn(|n| a[n].wrapping_sub(b[n]))
}
