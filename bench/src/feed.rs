//! The two ends of a worker under measurement: a [`Feed`] of frames from memory, and a [`Drain`] that takes them.

use std::collections::VecDeque;
use std::sync::Arc;

use fulcrum_director::{Buf, Engine, Message, Nanos, Output, Received, Transmit};
use fulcrum_dpdk::{Mbuf, Mempool};
use fulcrum_model::Family;
use fulcrum_runtime::{Decide, Egress, Ingress};

use crate::frames::{self, Flows, Segment, Template, Tuple, emit, length};

/// Where a worker's frames come from.
#[derive(Debug)]
pub(crate) struct Feed {
    pool: Mempool,
    /// Single frames, which go first.
    waiting: VecDeque<Mbuf>,
    stream: Option<Stream>,
    /// With how many frames of each burst it is mixed.
    second: Option<(Stream, usize)>,
    /// Frames given so far.
    pub(crate) given: u64,
    /// Of these, such as were mixed with the stream.
    pub(crate) mixed: u64,
    /// Whether its stream rests.
    pub(crate) paused: bool,
}

/// An endless repetition of flows, one packet each.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    flows: Arc<Flows>,
    templates: Arc<[Template]>,
    flow: usize,
    template: usize,
}

impl Stream {
    /// Packets of `flows`, the sizes of `templates` in turn.
    pub(crate) fn new(flows: Arc<Flows>, templates: Arc<[Template]>) -> Stream {
        Stream { flows, templates, flow: 0, template: 0 }
    }

    /// Frames that are all of one kind.
    pub(crate) fn of(flows: &Arc<Flows>, template: Template) -> Stream {
        Stream::new(Arc::clone(flows), [template].into())
    }

    /// How many flows there are.
    pub(crate) fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Goes `count` flows back, whose next frames come after `templates`.
    pub(crate) fn again(&mut self, count: usize, templates: &Arc<[Template]>) {
        self.flow = if self.flow < count { self.flow + self.flows.len() } else { self.flow } - count;
        self.templates = Arc::clone(templates);
        self.template = 0;
    }
}

impl Feed {
    pub(crate) fn new(pool: Mempool) -> Feed {
        let waiting = VecDeque::with_capacity(256);
        Feed { pool, waiting, stream: None, second: None, given: 0, mixed: 0, paused: false }
    }

    /// Offers one frame before all others.
    pub(crate) fn offer(&mut self, tuple: &Tuple, segment: Segment) {
        let length = length(Family::of(tuple.src), segment.wire);
        let mut frame = Mbuf::alloc(self.pool, length).expect("the pool is larger than what waits");
        emit(frame.bytes_mut(), tuple, segment);
        self.waiting.push_back(frame);
    }

    /// What is offered when no single frame waits.
    pub(crate) fn set_stream(&mut self, stream: Option<Stream>) {
        self.stream = stream;
        self.second = None;
    }

    /// What is offered beside that: so many frames at the end of each burst.
    pub(crate) fn mix(&mut self, second: Stream, share: usize) {
        self.second = Some((second, share));
    }

    /// With how many frames of each burst it is mixed from now on.
    pub(crate) fn set_share(&mut self, frames: usize) {
        if let Some((_, share)) = &mut self.second {
            *share = frames;
        }
    }

    /// The stream that is offered.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// Offers the answers that servers give to `frames`, before all others.
    pub(crate) fn answer(&mut self, frames: &mut Vec<Mbuf>, flags: u8) {
        for mut frame in frames.drain(..) {
            frames::answer(frame.bytes_mut(), flags);
            self.waiting.push_back(frame);
        }
    }
}

impl Ingress for Feed {
    #[inline]
    fn poll(&mut self, limit: usize, mut each: impl FnMut(Mbuf)) -> usize {
        let count = if !self.waiting.is_empty() {
            let count = self.waiting.len().min(limit);
            self.waiting.drain(..count).for_each(each);
            count
        } else if let Some(stream) = self.stream.as_mut().filter(|_| !self.paused) {
            let share = self.second.as_ref().map_or(0, |(_, share)| *share);
            let mut count = stream.burst(self.pool, limit - share, &mut each);
            if let Some((second, share)) = &mut self.second {
                let mixed = second.burst(self.pool, *share, &mut each);
                self.mixed += mixed as u64;
                count += mixed;
            }
            count
        } else {
            0
        };
        self.given += count as u64;
        count
    }
}

impl Stream {
    #[inline]
    fn burst(&mut self, pool: Mempool, limit: usize, each: &mut impl FnMut(Mbuf)) -> usize {
        let flows = Arc::clone(&self.flows);
        match &*flows {
            Flows::V4(list) => self.burst_of(list, pool, limit, each, Template::write_v4),
            Flows::V6(list) => self.burst_of(list, pool, limit, each, Template::write_v6),
        }
    }

    #[inline]
    fn burst_of<F>(
        &mut self,
        list: &[F],
        pool: Mempool,
        limit: usize,
        each: &mut impl FnMut(Mbuf),
        write: impl Fn(&Template, &F, &mut [u8]),
    ) -> usize {
        for count in 0..limit {
            let template = &self.templates[self.template];
            let Some(mut frame) = Mbuf::alloc(pool, template.length) else { return count };
            write(template, &list[self.flow], frame.bytes_mut());
            each(frame);
            self.flow = if self.flow + 1 == list.len() { 0 } else { self.flow + 1 };
            self.template = if self.template + 1 == self.templates.len() { 0 } else { self.template + 1 };
        }
        limit
    }
}

/// Where a worker's frames go.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Frames taken so far.
    pub(crate) taken: u64,
    /// Frames to be looked at; `None` gives them back to their pool at once.
    pub(crate) kept: Option<Vec<Mbuf>>,
}

impl Egress for Drain {
    #[inline]
    fn send(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        let count = frames.len();
        self.taken += count as u64;
        match &mut self.kept {
            None => frames.clear(),
            Some(kept) => kept.append(frames),
        }
        count
    }
}

/// The ceiling: sends every frame back where it came from, which is the least that one can do with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MacSwap;

impl Decide for MacSwap {
    #[inline]
    fn step(
        &mut self,
        _now: Nanos,
        _pool: &mut Mempool,
        burst: &mut Vec<Received<Mbuf>>,
        _inbox: &mut Vec<Message<Mbuf>>,
        out: &mut Output<Mbuf>,
    ) {
        for Received { port, mut buf } in burst.drain(..) {
            let (to, from) = buf.bytes_mut().split_at_mut(6);
            to.swap_with_slice(&mut from[..6]);
            out.tx.push(Transmit { port, buf });
        }
    }

    fn next_deadline(&self, now: Nanos) -> Nanos {
        now
    }

    fn engine(&mut self) -> Option<&mut Engine<Mempool>> {
        None
    }
}
