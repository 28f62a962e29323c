//! Time: of the worker's thread per packet, beside the ceiling's, and of one load from memory.

use std::hint::black_box;

use fulcrum_director::Nanos;
use fulcrum_dpdk::BURST;
use fulcrum_machine::{prefetch_at, thread_time, vec_on_huge_pages};
use fulcrum_runtime::Decide;
use fulcrum_runtime::harness::Harness;

use crate::feed::{Drain, Feed, Stream};
use crate::frames::Chance;
use crate::table::{self, Ceiling, Lost, Table, drain, feed};
use crate::weather::Weather;

/// How much is measured for one figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Of which the median counts; odd.
    pub(crate) slices: usize,
    /// Packets of a slice at least.
    pub(crate) packets: u64,
}

/// What a packet took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Thread CPU time per packet, in nanoseconds: the median slice.
    pub(crate) ns: f64,
    /// The same of the ceiling.
    pub(crate) ceiling: f64,
    /// The difference: the median over pairs of slices.
    pub(crate) above: f64,
    /// Between the fastest and the slowest slice, in nanoseconds.
    pub(crate) spread: f64,
    /// Slices in which the machine was known to have others to serve.
    pub(crate) foul: usize,
}

impl Cost {
    /// In ceilings: what slowed the machine down while a row was measured slowed its ceiling down, too.
    pub(crate) fn ceilings(&self) -> f64 {
        self.ns / self.ceiling
    }
}

/// The middle of `values`.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The time of a worker under measurement: it goes on as if the worker had its processor for itself, however the
/// machine shares it out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    now: Nanos,
    /// What a turn took in the last slice.
    turn: Nanos,
}

impl Clock {
    pub(crate) fn at(now: Nanos) -> Clock {
        Clock { now, turn: 6400 }
    }

    /// The time of the next turn.
    #[inline]
    pub(crate) fn tick(&mut self) -> Nanos {
        self.now += self.turn;
        self.now
    }

    /// Nanoseconds of this thread per packet, over at least `packets` packets that `worker` is offered.
    pub(crate) fn slice<D: Decide>(&mut self, worker: &mut Harness<D, Feed, Drain>, packets: u64) -> f64 {
        self.slice_of(worker, packets, Harness::turn)
    }

    /// The same with turns that `turn` takes.
    pub(crate) fn slice_of<D: Decide>(
        &mut self,
        worker: &mut Harness<D, Feed, Drain>,
        packets: u64,
        mut turn: impl FnMut(&mut Harness<D, Feed, Drain>, Nanos),
    ) -> f64 {
        let before = feed(worker).given;
        let mut turns = 0;
        let start = thread_time();
        while feed(worker).given - before < packets {
            turn(worker, self.tick());
            turns += 1;
        }
        let took = (thread_time() - start).as_nanos();
        self.turn = took as u64 / turns;
        took as f64 / (feed(worker).given - before) as f64
    }
}

/// What packets of `stream` take, in slices that take turns with the ceiling's; all of them must be forwarded.
pub(crate) fn established(
    table: &mut Table,
    ceiling: &mut Ceiling,
    stream: &Stream,
    effort: Effort,
    weather: &mut Weather,
) -> Result<Cost, Lost> {
    table.check(stream)?;
    feed(&mut table.worker).set_stream(Some(stream.clone()));
    feed(ceiling).set_stream(Some(stream.clone()));
    let mut idle = Clock::at(0);
    let before = state(table);
    // Each session's first packets find out what later ones profit from.
    table.slice(effort.packets.max(stream.flows() as u64));
    idle.slice(ceiling, effort.packets);
    let (slices, foul) =
        weather.measure(effort.slices, || (idle.slice(ceiling, effort.packets), table.slice(effort.packets)));
    let after = state(table);
    let [given, taken, forwarded] = std::array::from_fn(|i| after[i] - before[i]);
    if given != taken || given != forwarded {
        let drops = table::drops(table.worker.counters());
        return Err(Lost(format!("of {given} frames {taken} came out, {forwarded} by sessions: {drops}")));
    }
    let mut above: Vec<f64> = slices.iter().map(|(least, ours)| ours - least).collect();
    let (mut least, mut ours): (Vec<f64>, Vec<f64>) = slices.into_iter().unzip();
    let spread =
        ours.iter().copied().fold(f64::MIN, f64::max) - ours.iter().copied().fold(f64::MAX, f64::min);
    Ok(Cost { ns: median(&mut ours), ceiling: median(&mut least), above: median(&mut above), spread, foul })
}

fn state(table: &mut Table) -> [u64; 3] {
    let forwarded = table::forwarded(table.worker.counters());
    [feed(&mut table.worker).given, drain(&mut table.worker).taken, forwarded]
}

/// Latency of the machine's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    /// In each line the number of the next one; all of them are one cycle.
    lines: Vec<[u32; 16]>,
    at: u32,
}

impl Memory {
    /// `bytes` of memory, on huge pages where there are some, to be walked in random order.
    pub(crate) fn new(bytes: usize) -> Memory {
        let count = bytes / 64;
        // Sattolo: a permutation that is one cycle.
        let mut order: Vec<u32> = (0..count as u32).collect();
        let mut chance = Chance(4);
        for last in (1..count).rev() {
            order.swap(last, chance.below(last as u64) as usize);
        }
        let mut lines = vec_on_huge_pages(count);
        lines.extend(order.into_iter().map(|next| {
            let mut line = [0; 16];
            line[0] = next;
            line
        }));
        Memory { lines, at: 0 }
    }

    /// Nanoseconds of one load whose address the load before gave: the median of five times `loads`.
    pub(crate) fn latency(&mut self, loads: u32) -> f64 {
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let start = thread_time();
                for _ in 0..loads {
                    self.at = self.lines[self.at as usize][0];
                }
                black_box(self.at);
                (thread_time() - start).as_nanos() as f64 / f64::from(loads)
            })
            .collect();
        median(&mut times)
    }
}

/// As much memory as the tables of so many sessions take, and nothing done with it.
#[derive(Debug)]
pub(crate) struct Floor {
    /// Of the index, where each session has two entries. All ones, which the compiler does not know.
    buckets: Vec<[u64; 8]>,
    lines: Vec<[u64; 8]>,
}

impl Floor {
    pub(crate) fn new(sessions: usize) -> Floor {
        let of = |count: usize| {
            let mut lines = vec_on_huge_pages(count);
            lines.resize(count, [1; 8]);
            lines
        };
        Floor { buckets: of((2 * sessions).div_ceil(ENTRIES)), lines: of(sessions) }
    }

    /// Nanoseconds that an established packet's memory takes at least, in bursts whose every look at memory is asked for
    /// ahead: a bucket that is read, and the line that follows from it, which is read and written. The median of five
    /// times `bursts`.
    pub(crate) fn least(&mut self, bursts: u32) -> f64 {
        let mut chance = Chance(5);
        let (mut buckets, mut lines) = ([0; BURST], [0; BURST]);
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let start = thread_time();
                for _ in 0..bursts {
                    for bucket in &mut buckets {
                        *bucket = chance.below(self.buckets.len() as u64) as usize;
                        prefetch_at(&self.buckets, *bucket);
                    }
                    for (line, &bucket) in lines.iter_mut().zip(&buckets) {
                        let drawn = chance.below(self.lines.len() as u64) as usize;
                        *line = drawn * self.buckets[bucket][0] as usize;
                        prefetch_at(&self.lines, *line);
                    }
                    for &line in &lines {
                        self.lines[line][1] += 1;
                    }
                }
                (thread_time() - start).as_nanos() as f64 / f64::from(bursts) / BURST as f64
            })
            .collect();
        median(&mut times)
    }
}

/// Entries of a bucket of the index that are taken when the table is full.
const ENTRIES: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_memory_is_walked() {
        let mut memory = Memory::new(64 << 10);
        let mut seen = [false; 1024];
        for _ in 0..1024 {
            seen[memory.at as usize] = true;
            memory.at = memory.lines[memory.at as usize][0];
        }
        assert!(seen.iter().all(|seen| *seen));
        assert!(memory.latency(10_000) > 0.0 && Floor::new(1000).least(100) > 0.0);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 9.0]), 3.0);
        assert!(median(&mut []).is_nan());
    }
}
