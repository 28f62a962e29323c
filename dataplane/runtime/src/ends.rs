//! What a worker's loop stands between: where frames come from, what decides on them, where they go.
//!
//! The data plane's are DPDK's queues and the engine; benchmarks put others in their place and run the same loop.

use fulcrum_director::{Engine, Message, Nanos, Output, Received};
use fulcrum_dpdk::{Mbuf, Mempool, TxQueue};

/// Where a worker's frames come from.
pub trait Ingress {
    /// Takes up to `limit` frames, at most [`fulcrum_dpdk::BURST`], in order; says how many there were.
    fn poll(&mut self, limit: usize, each: impl FnMut(Mbuf)) -> usize;

    /// As [`RxQueue::tend`].
    fn tend(&mut self) {}

    /// As [`RxQueue::watch`].
    fn watch(&mut self) -> bool {
        false
    }

    /// As [`RxQueue::arm`].
    fn arm(&mut self) {}

    /// As [`RxQueue::disarm`].
    fn disarm(&mut self) {}
}

/// Where a worker's frames go.
pub trait Egress {
    /// Takes frames from the front, in order, and says how many; those that it did not take stay.
    fn send(&mut self, frames: &mut Vec<Mbuf>) -> usize;

    /// As [`TxQueue::tend`].
    fn tend(&mut self) {}
}

/// What decides on a worker's frames.
pub trait Decide {
    /// As [`Engine::step`].
    fn step(
        &mut self,
        now: Nanos,
        pool: &mut Mempool,
        burst: &mut Vec<Received<Mbuf>>,
        inbox: &mut Vec<Message<Mbuf>>,
        out: &mut Output<Mbuf>,
    );

    /// As [`Engine::next_deadline`].
    fn next_deadline(&self, now: Nanos) -> Nanos;

    /// The engine that orders of the control thread are for, if this is one.
    fn engine(&mut self) -> Option<&mut Engine<Mempool>>;
}

impl Egress for TxQueue {
    #[inline]
    fn send(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        TxQueue::send(self, frames)
    }

    fn tend(&mut self) {
        TxQueue::tend(self);
    }
}

impl Decide for Engine<Mempool> {
    #[inline]
    fn step(
        &mut self,
        now: Nanos,
        pool: &mut Mempool,
        burst: &mut Vec<Received<Mbuf>>,
        inbox: &mut Vec<Message<Mbuf>>,
        out: &mut Output<Mbuf>,
    ) {
        Engine::step(self, now, pool, burst, inbox, out);
    }

    #[inline]
    fn next_deadline(&self, now: Nanos) -> Nanos {
        Engine::next_deadline(self, now)
    }

    #[inline]
    fn engine(&mut self) -> Option<&mut Engine<Mempool>> {
        Some(self)
    }
}
