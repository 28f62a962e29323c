//! How busy a worker is, from two looks at its board.

use std::time::Duration;

use fulcrum_director::WorkerCounters;

use crate::board::Board;

/// What a worker's counters say at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    clock: u64,
    busy: u64,
    asleep: u64,
    bursts: u64,
    frames: u64,
    messages: u64,
    sent: u64,
}

/// What became of a worker's time between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pace {
    /// Share of the time that went into turns that found work.
    pub(crate) busy: f64,
    /// Share of it that was slept.
    pub(crate) asleep: f64,
    /// Cycles of such turns for each frame or message; 0 when there was none.
    pub(crate) cycles_per_packet: f64,
    /// The same in nanoseconds.
    pub(crate) ns_per_packet: f64,
    /// Frames of a poll that found any.
    pub(crate) burst_fill: f64,
    /// Frames received in a second.
    pub(crate) rx_pps: f64,
    /// Frames sent in a second.
    pub(crate) tx_pps: f64,
}

impl Reading {
    pub(crate) fn of(board: &Board, counters: &WorkerCounters) -> Reading {
        Reading {
            clock: board.clock.get(),
            busy: board.busy.get(),
            asleep: board.asleep.get(),
            bursts: board.bursts.get(),
            frames: board.frames.get(),
            messages: board.messages.get(),
            sent: counters.tx_packets.get(),
        }
    }

    /// The pace since an earlier reading, `time` ago. A worker that has not taken a turn since has none.
    pub(crate) fn since(&self, before: &Reading, time: Duration) -> Pace {
        let passed = |field: fn(&Reading) -> u64| field(self).wrapping_sub(field(before)) as f64;
        let cycles = passed(|now| now.clock);
        // The first reading of a worker that had not begun then says nothing of how long it took.
        if cycles == 0.0 || before.clock == 0 {
            return Pace::default();
        }
        let (busy, frames) = (passed(|now| now.busy), passed(|now| now.frames));
        let cycles_per_packet = share(busy, frames + passed(|now| now.messages));
        Pace {
            busy: share(busy, cycles).min(1.0),
            asleep: share(passed(|now| now.asleep), cycles).min(1.0),
            cycles_per_packet,
            ns_per_packet: cycles_per_packet * time.as_nanos() as f64 / cycles,
            burst_fill: share(frames, passed(|now| now.bursts)),
            rx_pps: share(frames, time.as_secs_f64()),
            tx_pps: share(passed(|now| now.sent), time.as_secs_f64()),
        }
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Reading =
        Reading { clock: 1000, busy: 70, asleep: 5, bursts: 10, frames: 100, messages: 3, sent: 90 };

    #[test]
    fn a_second_of_work() {
        let now = Reading {
            clock: 1000 + 2_000_000_000,
            busy: 70 + 500_000_000,
            asleep: 5 + 1_000_000_000,
            bursts: 10 + 100_000,
            frames: 100 + 800_000,
            messages: 3 + 200_000,
            sent: 90 + 900_000,
        };
        let pace = now.since(&BEFORE, Duration::from_secs(1));
        let expected = Pace {
            busy: 0.25,
            asleep: 0.5,
            cycles_per_packet: 500.0,
            ns_per_packet: 250.0,
            burst_fill: 8.0,
            rx_pps: 800_000.0,
            tx_pps: 900_000.0,
        };
        assert_eq!(pace, expected);
    }

    #[test]
    fn without_a_turn_or_a_packet_there_is_no_pace() {
        let second = Duration::from_secs(1);
        assert_eq!(BEFORE.since(&BEFORE, second), Pace::default());
        assert_eq!(BEFORE.since(&Reading::default(), second), Pace::default());
        let idle = Reading { clock: 5000, ..BEFORE };
        assert_eq!(idle.since(&BEFORE, second), Pace::default());
    }
}
