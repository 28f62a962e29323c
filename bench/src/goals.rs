//! What was aimed at, and whether it was reached: ratios within one run.

use fulcrum_model::{Family, Forward};
use serde_json::{Value, json};

use crate::plan::{Direction, K, M, Row, SERVERS, Size, plain, word};
use crate::report::{Established, Report};
use crate::world::World;

/// One goal and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    what: String,
    aim: String,
    value: String,
    /// Value by aim, or the reverse: at most 1 when reached.
    ratio: f64,
}

impl Goal {
    /// To be at most `aim`.
    fn at_most(what: impl Into<String>, aim: f64, value: f64, unit: &str) -> Goal {
        Goal {
            what: what.into(),
            aim: format!("≤ {aim}{unit}"),
            value: format!("{}{unit}", digits(value)),
            ratio: if aim == 0.0 { if value == 0.0 { 0.0 } else { f64::INFINITY } } else { value / aim },
        }
    }

    /// To be at least `aim`.
    pub(crate) fn at_least(what: impl Into<String>, aim: f64, value: f64, unit: &str) -> Goal {
        Goal {
            what: what.into(),
            aim: format!("≥ {aim}{unit}"),
            value: format!("{}{unit}", digits(value)),
            ratio: aim / value,
        }
    }

    pub(crate) fn reached(&self) -> bool {
        self.ratio <= 1.0
    }

    pub(crate) fn head() -> String {
        format!("{:<64} {:>22} {:>16} {:>6}", "goal", "aim", "value", "")
    }

    pub(crate) fn line(&self) -> String {
        let word = if self.reached() { "pass" } else { "miss" };
        format!("{:<64} {:>22} {:>16} {word:>6}", self.what, self.aim, self.value)
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "goal": self.what, "aim": self.aim, "value": self.value, "ratio": self.ratio, "reached": self.reached() })
    }
}

fn digits(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The goals about what was measured.
pub(crate) fn of(report: &Report) -> Vec<Goal> {
    let mut goals: Vec<Goal> = report.established.iter().filter_map(above_ceiling).collect();
    for row in requests_of_a_million(report) {
        let Established { row, .. } = row;
        let name = row.name();
        let compare = |what: String, aim: f64, base: Row| {
            let (one, other) = (find(report, row)?, find(report, base)?);
            Some(Goal::at_most(what, aim, one.cost.ceilings() / other.cost.ceilings(), "×"))
        };
        let plain_row = Row { world: plain(row.world.family, row.world.forward), ..row };
        if row.world == plain_row.world {
            goals.extend(compare(format!("{name}: against 1k"), 3.0, Row { sessions: K, ..row }));
            if row.world.family == Family::V6 {
                let v4 = Row { world: plain(Family::V4, row.world.forward), ..row };
                goals.extend(compare(format!("{name}: against IPv4"), 1.4, v4));
            }
        } else if row.world.services > 1 {
            goals.extend(compare(format!("{name}: against 1 service"), 1.15, plain_row));
        } else {
            goals.extend(compare(format!("{name}: against {SERVERS} servers"), 1.15, plain_row));
        }
    }
    goals.extend(others(report));
    goals
}

fn above_ceiling(row: &Established) -> Option<Goal> {
    let (ns, latencies) = match row.row.sessions {
        K => (15.0, 0.10),
        M => (25.0, 0.16),
        sessions if sessions == 10 * M => (35.0, 0.22),
        _ => return None,
    };
    let World { family, forward, .. } = row.row.world;
    if family != Family::V4 || row.row.size != Size::Smallest || row.row.world != plain(family, forward) {
        return None;
    }
    let aim = (latencies * row.latency * 10.0).round() / 10.0;
    let what = format!("{}: above the ceiling", row.row.name());
    Some(Goal::at_most(what, aim.max(ns), row.cost.above, " ns"))
}

fn requests_of_a_million(report: &Report) -> impl Iterator<Item = Established> {
    report.established.iter().copied().filter(|row| row.row.sessions == M && row.row.size == Size::Smallest)
}

fn find(report: &Report, wanted: Row) -> Option<Established> {
    report.established.iter().copied().find(|row| row.row == wanted)
}

fn others(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (world, life, connection) in &report.connections {
        if world.forward == Forward::FullNat && *life == crate::connections::Life::Syn {
            let rate = 1e3 / connection.ns;
            goals.push(Goal::at_least(
                "new connections, FULLNAT, create to expiry, 1m live",
                3.0,
                rate,
                " M/s",
            ));
        }
    }
    for row in &report.established {
        let World { family, forward, .. } = row.row.world;
        if row.row.sessions == 10 * M && family == Family::V4 && row.row.direction == Direction::Request {
            let what = format!("memory per session, IPv4 {}, 10m", word(forward));
            goals.push(Goal::at_most(what, 160.0, row.session_bytes, " bytes"));
        }
    }
    if let Some(two) = report.two {
        goals.push(Goal::at_least("two workers against one, as a share of ceilings", 0.95, two.share(), ""));
    }
    if let Some(quiet) = report.quiet {
        goals.push(Goal::at_most("allocations of a warm worker", 0.0, quiet.allocations as f64, ""));
        let (value, ratio) = match quiet.syscall {
            Some(None) => ("0".to_owned(), 0.0),
            Some(Some(number)) => (format!("call {number}"), f64::INFINITY),
            None => ("cannot be told".to_owned(), f64::INFINITY),
        };
        goals.push(Goal {
            what: "system calls of a warm worker".to_owned(),
            aim: "≤ 0".to_owned(),
            value,
            ratio,
        });
    }
    if let Some(wake) = report.wake {
        goals.push(Goal::at_most("a frame waits for an adaptive worker, median", 100.0, wake.median, " µs"));
    }
    if let Some(flood) = report.flood {
        let what = "established flows keep under 1 M SYN/s on a full table";
        goals.push(Goal::at_least(what, 0.8, flood.kept, ""));
    }
    if let Some(hold_up) = report.hold_up {
        let what = "a burst held up by a change of 10 000 services";
        goals.push(Goal::at_most(what, 100.0, hold_up.longest, " µs"));
    }
    if let Some(restore) = report.restore {
        let what = "ipvsadm -R of 10 000 services × 10 servers, reconciled";
        goals.push(Goal::at_most(what, 3.0, restore.seconds, " s"));
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_reached_up_to_their_aim() {
        assert!(Goal::at_most("x", 3.0, 3.0, "").reached());
        assert!(!Goal::at_most("x", 3.0, 3.1, "").reached());
        assert!(Goal::at_least("x", 0.8, 0.8, "").reached());
        assert!(!Goal::at_least("x", 0.8, 0.7, "").reached());
        assert!(Goal::at_most("x", 0.0, 0.0, "").reached());
        assert!(!Goal::at_most("x", 0.0, 1.0, "").reached());
    }
}
