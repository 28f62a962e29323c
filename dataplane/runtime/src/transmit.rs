//! A worker's way out: its own transmit queues, and rings to the workers that own the others.

use std::sync::Arc;
use std::vec::Drain;

use fulcrum_director::{Buf, Reason, Transmit, WorkerCounters};
use fulcrum_dpdk::{Mbuf, TxQueue};
use rtrb::PushError;

use crate::ends::Egress;
use crate::mesh::Ends;
use crate::tap::Tap;

/// Frames that wait for one burst at most.
const BURST: usize = 64;
/// Frames taken from one ring in a turn at most.
const RING_BURST: usize = 256;

/// How a worker reaches a port.
#[derive(Debug)]
pub(crate) enum Way<E = TxQueue> {
    /// By a queue of its own.
    Own(E),
    /// By the worker that owns the queue.
    Worker(usize),
}

/// What a worker has for a port.
#[derive(Debug)]
struct Lane<E> {
    way: Way<E>,
    /// Frames for the own queue.
    waiting: Vec<Mbuf>,
    /// Largest frame that the port's device takes, in bytes.
    largest: usize,
}

/// All ways out of one worker.
#[derive(Debug)]
pub(crate) struct Transmitter<E = TxQueue> {
    /// By port.
    lanes: Vec<Lane<E>>,
    rings: Ends<Transmit<Mbuf>>,
    counters: Arc<WorkerCounters>,
}

impl<E: Egress> Transmitter<E> {
    pub(crate) fn new(
        ways: Vec<Way<E>>,
        largest: Vec<usize>,
        rings: Ends<Transmit<Mbuf>>,
        counters: Arc<WorkerCounters>,
    ) -> Transmitter<E> {
        let lane = |(way, largest)| Lane { way, waiting: Vec::with_capacity(BURST), largest };
        Transmitter { lanes: ways.into_iter().zip(largest).map(lane).collect(), rings, counters }
    }

    /// The own queue of a port that has one.
    pub(crate) fn own(&mut self, port: usize) -> Option<&mut E> {
        match &mut self.lanes.get_mut(port)?.way {
            Way::Own(queue) => Some(queue),
            Way::Worker(_) => None,
        }
    }

    /// Does for own queues what their devices want now and then.
    pub(crate) fn tend(&mut self) {
        for lane in &mut self.lanes {
            if let Way::Own(queue) = &mut lane.way {
                queue.tend();
            }
        }
    }

    /// Sends frames on their way, in order for each port.
    #[inline]
    pub(crate) fn send(&mut self, frames: &mut Vec<Transmit<Mbuf>>, tap: &mut Option<Box<Tap>>) {
        let mut frames = frames.drain(..);
        loop {
            self.put_run(&mut frames);
            let Some(frame) = frames.next() else { break };
            self.put(frame, tap);
        }
        self.flush_all(tap);
    }

    /// Sends what other workers gave for queues of this one; says how many frames that were.
    #[inline]
    pub(crate) fn forward(&mut self, tap: &mut Option<Box<Tap>>) -> usize {
        let mut count = 0;
        for sender in 0..self.rings.from.len() {
            for _ in 0..RING_BURST {
                let Some(Ok(frame)) = self.rings.from[sender].as_mut().map(|ring| ring.pop()) else { break };
                count += 1;
                self.put(frame, tap);
            }
        }
        if count > 0 {
            self.flush_all(tap);
        }
        count
    }

    /// Has frames wait for their port that go by the same one, as most of a burst do: as many as leave room for one more.
    #[inline(always)]
    fn put_run(&mut self, frames: &mut Drain<'_, Transmit<Mbuf>>) {
        let Some(&Transmit { port, .. }) = frames.as_slice().first() else { return };
        let Some(Lane { way: Way::Own(_), waiting, largest }) = self.lanes.get_mut(usize::from(port)) else {
            return;
        };
        let room = (BURST - 1).saturating_sub(waiting.len());
        let next = frames.as_slice();
        let next = &next[..next.len().min(room)];
        let differs = |frame: &Transmit<Mbuf>| frame.port != port || frame.buf.bytes().len() > *largest;
        let count = next.iter().position(differs).unwrap_or(next.len());
        waiting.extend(frames.take(count).map(|frame| frame.buf));
    }

    #[inline(always)]
    fn put(&mut self, frame: Transmit<Mbuf>, tap: &mut Option<Box<Tap>>) {
        let Transmit { port, buf } = frame;
        match self.lanes.get_mut(usize::from(port)) {
            // Some drivers lose what is too large without a word.
            Some(lane) if matches!(lane.way, Way::Own(_)) && buf.bytes().len() > lane.largest => {
                drop_frame(&self.counters, port, Reason::TooBig, &buf, tap);
            }
            Some(Lane { way: Way::Own(queue), waiting, .. }) => {
                waiting.push(buf);
                if waiting.len() == BURST {
                    flush(&self.counters, port, queue, waiting, tap);
                }
            }
            Some(Lane { way: Way::Worker(worker), .. }) => {
                let refused = match self.rings.to.get_mut(*worker).and_then(Option::as_mut) {
                    Some(ring) => {
                        ring.push(Transmit { port, buf }).err().map(|PushError::Full(frame)| frame.buf)
                    }
                    None => Some(buf),
                };
                if let Some(buf) = refused {
                    drop_frame(&self.counters, port, Reason::TxFull, &buf, tap);
                }
            }
            None => drop_frame(&self.counters, 0, Reason::TxFull, &buf, tap),
        }
    }

    #[inline]
    fn flush_all(&mut self, tap: &mut Option<Box<Tap>>) {
        for (lane, port) in self.lanes.iter_mut().zip(0..) {
            if let (Way::Own(queue), false) = (&mut lane.way, lane.waiting.is_empty()) {
                flush(&self.counters, port, queue, &mut lane.waiting, tap);
            }
        }
    }
}

#[inline(never)]
fn flush<E: Egress>(
    counters: &WorkerCounters,
    port: u16,
    queue: &mut E,
    waiting: &mut Vec<Mbuf>,
    tap: &mut Option<Box<Tap>>,
) {
    // A queue that took nothing twice in a row is full.
    let mut refusals = 0;
    while !waiting.is_empty() && refusals < 2 {
        refusals = if queue.send(waiting) == 0 { refusals + 1 } else { 0 };
    }
    for frame in waiting.drain(..) {
        drop_frame(counters, port, Reason::TxFull, &frame, tap);
    }
}

/// Counts a drop, and shows the frame.
#[cold]
fn drop_frame(
    counters: &WorkerCounters,
    port: u16,
    reason: Reason,
    frame: &Mbuf,
    tap: &mut Option<Box<Tap>>,
) {
    counters.count_drop(port, reason);
    if let Some(tap) = tap {
        tap.dropped(port, reason, frame);
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_dpdk::{Eal, EalConfig, Hugepages, Mempool, allowed_cpus};

    use super::*;
    use crate::mesh;

    /// A queue that takes a few frames at a time, until it is full; it keeps their marks.
    struct Sink {
        room: usize,
        marks: Vec<u8>,
    }

    impl Egress for Sink {
        fn send(&mut self, frames: &mut Vec<Mbuf>) -> usize {
            let count = frames.len().min(50).min(self.room);
            self.room -= count;
            self.marks.extend(frames.drain(..count).map(|frame| frame.bytes()[0]));
            count
        }
    }

    #[test]
    fn frames_leave_in_order_and_what_cannot_leave_is_counted() {
        let config = EalConfig {
            workers: vec![allowed_cpus()[0]],
            file_prefix: format!("fulcrum-transmit-{}", std::process::id()),
            hugepages: Hugepages::Off,
            frames: 1023,
            room: 256,
            ..EalConfig::default()
        };
        let pool = Mempool::new(Eal::start(&config).unwrap(), "frames", 1023, 256).unwrap();
        let counters = Arc::new(WorkerCounters::new(3));
        let rooms = [usize::MAX, usize::MAX, 10];
        let ways = rooms.map(|room| Way::Own(Sink { room, marks: Vec::new() }));
        let rings = mesh::rings(1, 8).pop().unwrap();
        let mut transmitter =
            Transmitter::new(ways.into(), vec![usize::MAX, 63, 256], rings, Arc::clone(&counters));
        // Alone for more than a burst, then in runs of several lengths; port 3 does not exist.
        let port = |mark: u8| if mark < 150 { 0 } else { u16::from(mark / 5 % 4 + mark / 100 % 2) % 4 };
        let length = |mark: u8| 60 + usize::from(mark % 7);
        let marks = 0..=255;
        let mut frames = Vec::from_iter(marks.clone().map(|mark| {
            let mut buf = Mbuf::alloc(pool, length(mark)).unwrap();
            buf.bytes_mut()[0] = mark;
            Transmit { port: port(mark), buf }
        }));
        transmitter.send(&mut frames, &mut None);
        assert!(frames.is_empty());
        let of = |wanted| marks.clone().filter(move |&mark| port(mark) == wanted);
        let mut sent = |port| transmitter.own(port).unwrap().marks.clone();
        assert_eq!(sent(0), Vec::from_iter(of(0)));
        assert_eq!(sent(1), Vec::from_iter(of(1).filter(|&mark| length(mark) <= 63)));
        assert_eq!(sent(2), Vec::from_iter(of(2).take(10)));
        let dropped = |port, reason| counters.dropped_on(port, reason) as usize;
        assert_eq!(dropped(1, Reason::TooBig), of(1).filter(|&mark| length(mark) > 63).count());
        assert_eq!(dropped(2, Reason::TxFull), of(2).count() - 10);
        assert_eq!(dropped(0, Reason::TxFull), of(3).count());
        assert_eq!(pool.available(), pool.size());
    }
}
