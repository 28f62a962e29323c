//! How many connections a server takes: its upper and lower threshold, and whether it is overloaded now.
//!
//! A server is overloaded from the connection on that reaches the upper threshold, until its connections are fewer
//! than the lower one, or than three quarters of the upper one. Only new connections care: sessions and templates
//! that are there go on. All workers share the flag; a server without thresholds has nobody touch it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst, fence};

use crate::cells::Cells;
use crate::counters::DestinationCells;

/// Thresholds of a server.
#[derive(Clone, Debug, Default)]
pub struct Thresholds {
    /// Connections from which on it is overloaded; 0 = never.
    upper: u32,
    /// Connections below which it is not any more; 0 = three quarters of the upper one.
    lower: u32,
    overloaded: Arc<AtomicBool>,
}

impl Thresholds {
    /// Of a new server.
    pub fn new(upper: u32, lower: u32) -> Thresholds {
        Thresholds { upper, lower, overloaded: Arc::default() }
    }

    /// Of the same server after an edit. A higher upper threshold ends the overload; a lower one is noticed at the
    /// next connection. // IPVS: __ip_vs_update_dest
    pub fn edited(&self, upper: u32, lower: u32) -> Thresholds {
        if upper == 0 || upper > self.upper {
            // A flag of its own: a worker that still counts by the old thresholds does not set this one.
            return Thresholds::new(upper, lower);
        }
        Thresholds { upper, lower, overloaded: Arc::clone(&self.overloaded) }
    }

    /// Upper and lower threshold, 0 where there is none.
    pub fn limits(&self) -> (u32, u32) {
        (self.upper, self.lower)
    }

    /// Whether new connections are for other servers.
    #[inline]
    pub fn overloaded(&self) -> bool {
        self.upper != 0 && self.overloaded.load(Relaxed)
    }

    /// To be called when a session has been counted.
    #[inline]
    pub fn begun(&self, counters: &Cells<DestinationCells>) {
        if self.upper != 0 && connections(counters) >= self.upper.into() {
            self.overloaded.store(true, Relaxed);
        }
    }

    /// To be called when a session is counted no more.
    #[inline]
    pub fn ended(&self, counters: &Cells<DestinationCells>) {
        if self.upper == 0 {
            return;
        }
        let connections = connections(counters);
        let relieved = match self.lower {
            0 => connections * 4 < u64::from(self.upper) * 3,
            lower => connections < lower.into(),
        };
        if relieved {
            self.overloaded.store(false, Relaxed);
        }
    }
}

/// Sessions of all workers; of two workers that count at the same time at least one sees both.
fn connections(counters: &Cells<DestinationCells>) -> u64 {
    fence(SeqCst);
    let sum = counters.sum(|cells| &cells.active).wrapping_add(counters.sum(|cells| &cells.inactive));
    if sum > u64::MAX / 8 { 0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the server is overloaded after each of these connections begins (+) or ends (-).
    fn history(thresholds: &Thresholds, steps: &str) -> String {
        let counters = Cells::<DestinationCells>::new(2);
        let step = |step| {
            if step == '+' {
                counters.of(0).inactive.add(1);
                thresholds.begun(&counters);
            } else {
                counters.of(1).active.sub_one();
                thresholds.ended(&counters);
            }
            if thresholds.overloaded() { '!' } else { '.' }
        };
        steps.chars().map(step).collect()
    }

    #[test]
    fn overload_begins_at_the_upper_and_ends_below_the_lower_threshold() {
        assert_eq!(history(&Thresholds::new(4, 2), "++++++-----+++"), "...!!!!!!!...!");
        // Three quarters of 8 are 6: five are few enough.
        assert_eq!(history(&Thresholds::new(8, 0), "++++++++---+"), ".......!!!..");
        assert_eq!(history(&Thresholds::new(0, 3), "+++++---"), "........");
    }

    #[test]
    fn edits_end_the_overload_when_they_raise_the_threshold() {
        let two = Thresholds::new(2, 0);
        assert_eq!(history(&two, "++"), ".!");
        assert!(!two.edited(3, 0).overloaded());
        assert!(two.edited(1, 0).overloaded());
        assert!(two.edited(2, 1).overloaded());
        let none = two.edited(0, 0);
        assert!(!none.overloaded());
        assert!(!none.edited(1, 0).overloaded());
        assert!(two.overloaded());
    }
}
