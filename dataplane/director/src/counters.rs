//! Counters: written by the worker that owns them with plain relaxed stores, summed by whoever reads.
//!
//! Also IPVS's rate estimator, which a reader drives every two seconds. Zeroing is the reader's affair:
//! it remembers a baseline, workers never see it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::exception::Class;
use crate::reason::{Event, Reason};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this: it is a load and a store, not one atomic operation.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes one away. Only for the owning worker, like [`Counter::add`].
    #[inline]
    pub fn sub_one(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// Replaces the value. Only for the owning worker.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One cell a worker, each on cache lines of its own.
#[derive(Debug)]
pub struct PerWorker<T> {
    cells: Box<[Padded<T>]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerWorker<T> {
    /// Cells for `workers` workers.
    pub fn new(workers: usize) -> PerWorker<T> {
        PerWorker { cells: (0..workers).map(|_| Padded::default()).collect() }
    }
}

impl<T> PerWorker<T> {
    /// The cell of `worker`, which must be one of those it was made for.
    #[inline]
    pub fn of(&self, worker: usize) -> &T {
        &self.cells[worker].0
    }

    /// All cells.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.cells.iter().map(|padded| &padded.0)
    }

    /// The sum of one counter over the workers (wrapping, so that a count that moved between workers is right).
    #[inline]
    pub fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.cells.iter().fold(0u64, |sum, padded| sum.wrapping_add(counter(&padded.0).get()))
    }
}

/// What a service or a server carried.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Sessions created.
    pub connections: Counter,
    /// Packets from clients.
    pub in_packets: Counter,
    /// Their bytes, IP headers included.
    pub in_bytes: Counter,
    /// Packets to clients.
    pub out_packets: Counter,
    /// Their bytes, IP headers included.
    pub out_bytes: Counter,
}

impl Traffic {
    /// Counts what came from clients. Only for the owning worker, like [`Counter::add`].
    #[inline]
    pub fn count_in(&self, packets: u64, bytes: u64) {
        self.in_packets.add(packets);
        self.in_bytes.add(bytes);
    }

    /// Counts what went to clients. Only for the owning worker, like [`Counter::add`].
    #[inline]
    pub fn count_out(&self, packets: u64, bytes: u64) {
        self.out_packets.add(packets);
        self.out_bytes.add(bytes);
    }
}

/// What one worker knows of a server.
#[derive(Debug, Default)]
pub struct DestinationCells {
    /// Traffic while the server was part of a service.
    pub traffic: Traffic,
    /// Sessions in an active state.
    pub active: Counter,
    /// Other sessions.
    pub inactive: Counter,
    /// Persistence templates.
    pub persistent: Counter,
}

impl DestinationCells {
    /// Sessions and templates that refer to the server.
    pub fn references(&self) -> u64 {
        self.active.get().wrapping_add(self.inactive.get()).wrapping_add(self.persistent.get())
    }
}

/// What one worker knows of a FULLNAT local address.
#[derive(Debug, Default)]
pub struct LocalCells {
    /// Sessions that use one of its ports.
    pub sessions: Counter,
    /// Ports tried that were in use towards the same server.
    pub conflicts: Counter,
}

/// What one worker counts of a class of the exception path, at one port.
#[derive(Debug, Default)]
pub struct ClassCells {
    /// Frames that were let up.
    pub up: Counter,
    /// Frames, and copies of frames, that were not: there were too many.
    pub policed: Counter,
    /// Of those let up, frames that found the class's queue full.
    pub full: Counter,
}

/// What one worker counts of the exception path, at one port.
#[derive(Debug, Default)]
pub struct ExceptionCells {
    classes: [ClassCells; Class::ALL.len()],
    /// Frames that the host sent.
    pub down: Counter,
}

impl ExceptionCells {
    /// Of a class.
    pub fn of(&self, class: Class) -> &ClassCells {
        &self.classes[class as usize]
    }
}

/// What one worker counts beside services.
#[derive(Debug)]
pub struct WorkerCounters {
    drops: Box<[[Counter; Reason::COUNT]]>,
    events: [Counter; Event::COUNT],
    exceptions: Box<[ExceptionCells]>,
    /// Frames taken from ports.
    pub rx_packets: Counter,
    /// Frames given to ports.
    pub tx_packets: Counter,
    /// Packets given to the worker that owns their flow.
    pub handed_off: Counter,
    /// Packets of established sessions that were forwarded by what the session remembers.
    pub short_way: Counter,
    /// Live sessions and templates.
    pub sessions: Counter,
}

impl WorkerCounters {
    /// Counters of a worker that receives from `ports` ports.
    pub fn new(ports: usize) -> WorkerCounters {
        WorkerCounters {
            drops: (0..ports.max(1)).map(|_| std::array::from_fn(|_| Counter::default())).collect(),
            events: std::array::from_fn(|_| Counter::default()),
            exceptions: (0..ports.max(1)).map(|_| ExceptionCells::default()).collect(),
            rx_packets: Counter::default(),
            tx_packets: Counter::default(),
            handed_off: Counter::default(),
            short_way: Counter::default(),
            sessions: Counter::default(),
        }
    }

    /// Counts a packet that came in by `port` and was dropped.
    #[inline]
    pub fn count_drop(&self, port: u16, reason: Reason) {
        let port = usize::from(port).min(self.drops.len() - 1);
        self.drops[port][reason as usize].add(1);
    }

    /// The exception path at `port`.
    pub fn exception(&self, port: u16) -> &ExceptionCells {
        &self.exceptions[usize::from(port).min(self.exceptions.len() - 1)]
    }

    /// Counts something that happened.
    #[inline]
    pub fn event(&self, event: Event) {
        self.events[event as usize].add(1);
    }

    /// Counts something that happened `count` times.
    #[inline]
    pub fn events(&self, event: Event, count: u64) {
        self.events[event as usize].add(count);
    }

    /// Packets dropped for `reason`, all ports.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.iter().map(|port| port[reason as usize].get()).sum()
    }

    /// Packets that came in by `port` and were dropped for `reason`.
    pub fn dropped_on(&self, port: u16, reason: Reason) -> u64 {
        self.drops.get(usize::from(port)).map_or(0, |drops| drops[reason as usize].get())
    }

    /// How often `event` happened.
    pub fn happened(&self, event: Event) -> u64 {
        self.events[event as usize].get()
    }
}

/// IPVS's estimator of one rate: an exponential average with weight ¼ over two-second periods.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimator {
    last: u64,
    scaled: i64,
    shift: u32,
}

impl Estimator {
    /// For events per second (IPVS keeps them scaled by 2¹⁰).
    pub fn of_events() -> Estimator {
        Estimator { last: 0, scaled: 0, shift: 10 }
    }

    /// For bytes per second (IPVS keeps them scaled by 2⁵).
    pub fn of_bytes() -> Estimator {
        Estimator { last: 0, scaled: 0, shift: 5 }
    }

    /// Takes in the counter's value; to be called every two seconds.
    pub fn tick(&mut self, value: u64) {
        let period = i64::try_from(value.wrapping_sub(self.last)).unwrap_or(0);
        self.last = value;
        // Two seconds a period: the increase doubled by one shift less is the rate per second.
        let rate = period.saturating_mul(1 << (self.shift - 1));
        self.scaled += (rate - self.scaled) >> 2;
    }

    /// Forgets the past; the counter now stands at `value`.
    pub fn reset(&mut self, value: u64) {
        *self = Estimator { last: value, scaled: 0, shift: self.shift };
    }

    /// The rate per second, rounded as IPVS does.
    pub fn rate(&self) -> u64 {
        let half = (1i64 << (self.shift - 1)) - 1;
        u64::try_from((self.scaled + half) >> self.shift).unwrap_or(0)
    }
}
