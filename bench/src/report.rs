//! What was measured, as a table for people and as JSON for programs.

use serde_json::{Value, json};

use crate::change::HoldUp;
use crate::connections::{self, Connection, Life};
use crate::cores::Two;
use crate::flood::Flood;
use crate::goals::{self, Goal};
use crate::measure::Cost;
use crate::plan::Row;
use crate::quiet::Quiet;
use crate::restore::Restore;
use crate::wake::Wake;
use crate::world::World;

/// All that a run has measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) established: Vec<Established>,
    pub(crate) connections: Vec<(World, Life, Connection)>,
    pub(crate) flood: Option<Flood>,
    pub(crate) two: Option<Two>,
    pub(crate) quiet: Option<Quiet>,
    pub(crate) wake: Option<Wake>,
    pub(crate) hold_up: Option<HoldUp>,
    pub(crate) restore: Option<Restore>,
    /// Rows where packets were lost or something else went wrong.
    pub(crate) broken: Vec<String>,
}

/// A row of established sessions, measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Established {
    pub(crate) row: Row,
    pub(crate) cost: Cost,
    /// Of one dependent load, measured just before.
    pub(crate) latency: f64,
    /// What a packet's bucket and line take when nothing is done with them, measured just before.
    pub(crate) floor: f64,
    /// Memory that a session of the table took.
    pub(crate) session_bytes: f64,
}

impl Established {
    pub(crate) fn head() -> String {
        format!(
            "{:<48} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7} {:>9}",
            "established sessions", "ns/pkt", "ceiling", "above", "of L", "floor", "spread", "Mpps/core"
        )
    }

    pub(crate) fn line(&self) -> String {
        let Cost { ns, ceiling, above, spread, foul } = self.cost;
        let ratio = above / self.latency;
        let rate = 1e3 / ns;
        let name = self.row.name();
        let floor = self.floor;
        format!(
            "{name:<48} {ns:>8.1} {ceiling:>8.1} {above:>8.1} {ratio:>7.3} {floor:>7.1} {spread:>7.1} {rate:>9.2}{}",
            told(foul)
        )
    }

    fn json(&self) -> Value {
        json!({
            "name": self.row.name(),
            "ns_per_packet": self.cost.ns,
            "ceiling_ns": self.cost.ceiling,
            "above_ceiling_ns": self.cost.above,
            "spread_ns": self.cost.spread,
            "slices_in_foul_weather": self.cost.foul,
            "latency_ns": self.latency,
            "floor_ns": self.floor,
            "above_in_latencies": self.cost.above / self.latency,
            "mpps_per_core_second": 1e3 / self.cost.ns,
            "bytes_per_session": self.session_bytes,
        })
    }
}

/// One line about connections that come and go.
pub(crate) fn connection_line(world: &World, life: Life, connection: &Connection) -> String {
    let Connection { ns, packets, foul } = *connection;
    let name = connections::name(world, life);
    let rate = 1e3 / ns;
    format!(
        "{name:<48} {ns:>8.1} ns a connection of {packets:.0} packets, {rate:.2} M/s per core{}",
        told(foul)
    )
}

/// Says of a row how many of its slices the machine was slow in.
pub(crate) fn told(foul: usize) -> String {
    if foul == 0 { String::new() } else { format!("  ({foul} slices in foul weather)") }
}

impl Report {
    /// The goals, reached or not.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        goals::of(self)
    }

    pub(crate) fn json(&self) -> Value {
        let connection = |(world, life, connection): &(World, Life, Connection)| {
            json!({
                "name": connections::name(world, *life),
                "ns_per_connection": connection.ns,
                "packets": connection.packets,
                "slices_in_foul_weather": connection.foul,
                "connections_per_core_second": 1e9 / connection.ns,
            })
        };
        json!({
            "established": self.established.iter().map(Established::json).collect::<Vec<_>>(),
            "connections": self.connections.iter().map(connection).collect::<Vec<_>>(),
            "flood": self.flood.map(|flood| json!({
                "calm_ns": flood.calm,
                "ns_per_syn": flood.syn,
                "kept_under_a_million_a_second": flood.kept,
                "sessions_reclaimed": flood.reclaimed,
                "slices_in_foul_weather": flood.foul,
            })),
            "two_workers": self.two.map(|two| json!({
                "against_one": two.ours,
                "ceilings_against_one": two.ceilings,
                "share": two.share(),
                "half_handed_off_against_none": two.handed_off,
            })),
            "quiet": self.quiet.map(|quiet| json!({
                "packets": quiet.packets,
                "allocations": quiet.allocations,
                "first_system_call": quiet.syscall.flatten(),
                "system_calls_watched": quiet.syscall.is_some(),
            })),
            "adaptive_wake": self.wake.map(|wake| json!({ "median_us": wake.median, "nine_of_ten_us": wake.most })),
            "change_of_configuration": self.hold_up.map(|hold_up| json!({
                "turn_us": hold_up.turn,
                "longest_turn_more_us": hold_up.longest,
                "worst_change": hold_up.change,
            })),
            "restore": self.restore.map(|restore| json!({ "seconds": restore.seconds })),
            "broken": self.broken,
            "goals": self.goals().iter().map(Goal::json).collect::<Vec<_>>(),
        })
    }
}
