//! What was measured, as a table for people and as JSON for programs.

use serde_json::{Value, json};

use crate::measure::Cost;
use crate::plan::Row;

/// A row of established sessions, measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Established {
    pub(crate) row: Row,
    pub(crate) cost: Cost,
    /// Of one dependent load, measured just before.
    pub(crate) latency: f64,
}

impl Established {
    pub(crate) fn head() -> String {
        format!(
            "{:<48} {:>8} {:>8} {:>8} {:>7} {:>7} {:>9}",
            "established sessions", "ns/pkt", "ceiling", "above", "of L", "spread", "Mpps/core"
        )
    }

    pub(crate) fn line(&self) -> String {
        let Cost { ns, ceiling, above, spread } = self.cost;
        let ratio = above / self.latency;
        let rate = 1e3 / ns;
        let name = self.row.name();
        format!("{name:<48} {ns:>8.1} {ceiling:>8.1} {above:>8.1} {ratio:>7.3} {spread:>7.1} {rate:>9.2}")
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.row.name(),
            "ns_per_packet": self.cost.ns,
            "ceiling_ns": self.cost.ceiling,
            "above_ceiling_ns": self.cost.above,
            "spread_ns": self.cost.spread,
            "latency_ns": self.latency,
            "above_in_latencies": self.cost.above / self.latency,
            "mpps_per_core_second": 1e3 / self.cost.ns,
        })
    }
}
