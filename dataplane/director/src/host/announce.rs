//! Announcing own addresses as they come up: each of them twice, and never many at a time, since a configuration may
//! bring up thousands.

use std::collections::VecDeque;
use std::ops::Range;

use crate::snapshot::Arrival;
use crate::{Nanos, SECOND};

/// Time between the two announcements of an address. // RFC 5227: ANNOUNCE_NUM, ANNOUNCE_INTERVAL
const INTERVAL: Nanos = 2 * SECOND;
/// Announcements of a step at most, and the time to the next ones: 4000 in a second.
const BATCH: usize = 32;
const PACE: Nanos = 8 * SECOND / 1000;
/// Batches whose second announcement is to come.
const UNDER_WAY: usize = (INTERVAL / PACE) as usize + 2;

/// How far the announcements of one engine are.
#[derive(Debug)]
pub(crate) struct Announcer {
    /// The last address that was announced once.
    once: Option<Arrival>,
    /// The last one that was announced twice.
    twice: Option<Arrival>,
    /// The last one whose second time has come.
    ripe: Option<Arrival>,
    /// Ends of batches that were announced once, and when.
    under_way: VecDeque<(Nanos, Arrival)>,
    /// When there is something to do; never when there is not.
    due: Nanos,
}

impl Default for Announcer {
    fn default() -> Announcer {
        let under_way = VecDeque::with_capacity(UNDER_WAY);
        Announcer { once: None, twice: None, ripe: None, under_way, due: 0 }
    }
}

impl Announcer {
    /// A new configuration may have brought up addresses.
    pub(crate) fn look(&mut self) {
        self.due = 0;
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Nanos {
        self.due
    }

    /// Which of the addresses are to be announced now: first those whose second time it is.
    pub(crate) fn next(&mut self, now: Nanos, arrivals: &[Arrival]) -> [Range<usize>; 2] {
        if now < self.due {
            return [0..0, 0..0];
        }
        while let Some((_, last)) = self.under_way.front().filter(|(at, _)| now >= at + INTERVAL) {
            self.ripe = Some(*last);
            self.under_way.pop_front();
        }
        // Configurations add at the end and take away anywhere, so places are looked for.
        let behind = |last: Option<Arrival>| arrivals.partition_point(|arrival| Some(*arrival) <= last);
        let second = behind(self.twice);
        let second = second..behind(self.ripe).clamp(second, second + BATCH);
        let first = behind(self.once);
        let first = first..arrivals.len().min(first + BATCH - second.len());
        if let Some(last) = arrivals[second.clone()].last() {
            self.twice = Some(*last);
        }
        if let Some(last) = arrivals[first.clone()].last() {
            self.once = Some(*last);
            if self.under_way.len() == UNDER_WAY {
                self.under_way.pop_back();
            }
            self.under_way.push_back((now, *last));
        }
        let more = first.end < arrivals.len() || second.end < behind(self.ripe);
        self.due = match self.under_way.front() {
            _ if more => now + PACE,
            Some((at, _)) => at + INTERVAL,
            None => Nanos::MAX,
        };
        [second, first]
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn arrivals(since: u64, numbers: Range<u32>) -> Vec<Arrival> {
        let arrival =
            |n| Arrival { since, interface: 0, address: Ipv4Addr::from_bits(0x0a00_0000 + n).into() };
        numbers.map(arrival).collect()
    }

    /// Announces what is due in steps of a millisecond; how often each address was and how many at a time at most.
    fn run(announcer: &mut Announcer, from: Nanos, time: Nanos, arrivals: &[Arrival]) -> (Vec<usize>, usize) {
        let (mut times, mut most) = (vec![0; arrivals.len()], 0);
        for moment in (from..from + time).step_by(SECOND as usize / 1000) {
            let ranges = announcer.next(moment, arrivals);
            most = most.max(ranges.iter().map(ExactSizeIterator::len).sum());
            ranges.into_iter().flatten().for_each(|place| times[place] += 1);
        }
        (times, most)
    }

    #[test]
    fn each_address_is_announced_twice_with_two_seconds_between() {
        let mut announcer = Announcer::default();
        let list = arrivals(1, 0..3);
        assert_eq!(announcer.next(5, &list), [0..0, 0..3]);
        assert_eq!(announcer.due(), 5 + INTERVAL);
        assert_eq!(run(&mut announcer, 6, INTERVAL - SECOND / 100, &list).0, [0; 3]);
        assert_eq!(announcer.next(5 + INTERVAL, &list), [0..3, 3..3]);
        assert_eq!(announcer.due(), Nanos::MAX);
        announcer.look();
        assert_eq!(run(&mut announcer, 3 * SECOND, 5 * SECOND, &list).0, [0; 3], "nothing came up");
    }

    #[test]
    fn thousands_are_announced_a_few_at_a_time() {
        let mut announcer = Announcer::default();
        let list = arrivals(1, 0..10_000);
        let (times, most) = run(&mut announcer, 0, 7 * SECOND, &list);
        assert!(times.iter().all(|times| *times == 2));
        assert_eq!(most, BATCH);
        assert_eq!(announcer.due(), Nanos::MAX);
    }

    #[test]
    fn what_comes_up_meanwhile_comes_after_and_what_goes_is_left_out() {
        let mut announcer = Announcer::default();
        let before = arrivals(1, 0..100);
        assert_eq!(announcer.next(0, &before), [0..0, 0..32]);
        // Addresses 10 to 49 go, one comes; those that were announced once are announced again.
        let after = [arrivals(1, 0..10), arrivals(1, 50..100), arrivals(2, 7..8)].concat();
        announcer.look();
        let (times, most) = run(&mut announcer, PACE, 4 * SECOND, &after);
        assert_eq!(times[..10], [1; 10]);
        assert_eq!(times[10..], [2; 51]);
        assert!(most <= BATCH);
    }
}
