//! A worker's way out: its own transmit queues, and rings to the workers that own the others.

use std::sync::Arc;

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

/// All ways out of one worker.
#[derive(Debug)]
pub(crate) struct Transmitter<E = TxQueue> {
    ways: Vec<Way<E>>,
    /// Frames for own queues, by port.
    waiting: Vec<Vec<Mbuf>>,
    /// Largest frame that the port's device takes, in bytes.
    largest: Vec<usize>,
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
        let waiting = ways.iter().map(|_| Vec::with_capacity(BURST)).collect();
        Transmitter { ways, waiting, largest, rings, counters }
    }

    /// The own queue of a port that has one.
    pub(crate) fn own(&mut self, port: usize) -> Option<&mut E> {
        match self.ways.get_mut(port) {
            Some(Way::Own(queue)) => Some(queue),
            _ => None,
        }
    }

    /// Does for own queues what their devices want now and then.
    pub(crate) fn tend(&mut self) {
        for way in &mut self.ways {
            if let Way::Own(queue) = way {
                queue.tend();
            }
        }
    }

    /// Sends frames on their way, in order for each port.
    #[inline]
    pub(crate) fn send(&mut self, frames: &mut Vec<Transmit<Mbuf>>, tap: &mut Option<Box<Tap>>) {
        for frame in frames.drain(..) {
            let port = usize::from(frame.port);
            match self.ways.get(port) {
                Some(Way::Own(_)) => self.put(frame, tap),
                Some(Way::Worker(worker)) => {
                    let refused = match self.rings.to.get_mut(*worker).and_then(Option::as_mut) {
                        Some(ring) => ring.push(frame).err().map(|PushError::Full(frame)| frame),
                        None => Some(frame),
                    };
                    if let Some(frame) = refused {
                        self.drop_frame(port as u16, Reason::TxFull, &frame.buf, tap);
                    }
                }
                None => self.drop_frame(0, Reason::TxFull, &frame.buf, tap),
            }
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

    #[inline]
    fn put(&mut self, frame: Transmit<Mbuf>, tap: &mut Option<Box<Tap>>) {
        let port = usize::from(frame.port);
        // Some drivers lose what is too large without a word.
        if frame.buf.bytes().len() > self.largest[port] {
            return self.drop_frame(frame.port, Reason::TooBig, &frame.buf, tap);
        }
        self.waiting[port].push(frame.buf);
        if self.waiting[port].len() == BURST {
            self.flush(port, tap);
        }
    }

    #[inline]
    fn flush_all(&mut self, tap: &mut Option<Box<Tap>>) {
        for port in 0..self.waiting.len() {
            if !self.waiting[port].is_empty() {
                self.flush(port, tap);
            }
        }
    }

    fn flush(&mut self, port: usize, tap: &mut Option<Box<Tap>>) {
        let waiting = &mut self.waiting[port];
        if let Way::Own(queue) = &mut self.ways[port] {
            // A queue that took nothing twice in a row is full.
            let mut refusals = 0;
            while !waiting.is_empty() && refusals < 2 {
                refusals = if queue.send(waiting) == 0 { refusals + 1 } else { 0 };
            }
        }
        for frame in waiting.drain(..) {
            self.counters.count_drop(port as u16, Reason::TxFull);
            if let Some(tap) = tap {
                tap.dropped(port as u16, Reason::TxFull, &frame);
            }
        }
    }

    /// Counts a drop, and shows the frame.
    fn drop_frame(&self, port: u16, reason: Reason, frame: &Mbuf, tap: &mut Option<Box<Tap>>) {
        self.counters.count_drop(port, reason);
        if let Some(tap) = tap {
            tap.dropped(port, reason, frame);
        }
    }
}
