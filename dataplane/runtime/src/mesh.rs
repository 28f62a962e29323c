//! Rings between workers: one for each ordered pair, single producer, single consumer.
//!
//! [`Mesh`] is a worker's end of the rings that carry the engine's messages. When one is full, messages with a
//! packet are lost, counted; the others wait in a bounded backlog, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use fulcrum_director::{Envelope, Message, Reason, WorkerCounters};
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::board::Board;

/// Messages that a ring holds: as many as a device's queue, so that a worker that is kept from its work loses nothing
/// here which it would not lose there.
pub(crate) const RING: usize = 2048;
/// Messages without a packet that wait for a full ring at most.
const BACKLOG: usize = 4096;

/// One worker's ends: to each worker and from each worker, none to and from itself.
#[derive(Debug)]
pub(crate) struct Ends<T> {
    pub(crate) to: Vec<Option<Producer<T>>>,
    pub(crate) from: Vec<Option<Consumer<T>>>,
}

/// Rings of `capacity` between all pairs of `workers`.
pub(crate) fn rings<T>(workers: usize, capacity: usize) -> Vec<Ends<T>> {
    let mut ends: Vec<Ends<T>> = (0..workers)
        .map(|_| Ends { to: Vec::with_capacity(workers), from: (0..workers).map(|_| None).collect() })
        .collect();
    for sender in 0..workers {
        for receiver in 0..workers {
            let producer = (sender != receiver).then(|| {
                let (producer, consumer) = RingBuffer::new(capacity);
                ends[receiver].from[sender] = Some(consumer);
                producer
            });
            ends[sender].to.push(producer);
        }
    }
    ends
}

/// A worker's end of the message rings.
#[derive(Debug)]
pub(crate) struct Mesh<B> {
    ends: Ends<Message<B>>,
    backlogs: Vec<VecDeque<Message<B>>>,
    counters: Arc<WorkerCounters>,
    board: Arc<Board>,
}

impl<B> Mesh<B> {
    pub(crate) fn new(ends: Ends<Message<B>>, counters: Arc<WorkerCounters>, board: Arc<Board>) -> Mesh<B> {
        let backlogs = ends
            .to
            .iter()
            .map(|ring| VecDeque::with_capacity(if ring.is_some() { BACKLOG } else { 0 }))
            .collect();
        Mesh { ends, backlogs, counters, board }
    }

    /// Workers beside this one.
    pub(crate) fn others(&self) -> usize {
        self.ends.to.len() - 1
    }

    /// Adds what other workers sent to `inbox`, up to `limit` messages of each; says how many messages that were.
    #[inline]
    pub(crate) fn collect(&mut self, limit: usize, inbox: &mut Vec<Message<B>>) -> usize {
        let before = inbox.len();
        for ring in self.ends.from.iter_mut().flatten() {
            for _ in 0..limit {
                match ring.pop() {
                    Ok(message) => inbox.push(message),
                    Err(_) => break,
                }
            }
        }
        inbox.len() - before
    }

    #[inline]
    /// Sends messages to the workers that they are for, and shows the packets that found no room.
    pub(crate) fn deliver(
        &mut self,
        outbox: &mut Vec<Envelope<B>>,
        mut dropped: impl FnMut(u16, Reason, &B),
    ) {
        self.retry();
        for Envelope { to, message } in outbox.drain(..) {
            let to = usize::from(to);
            let Some(Some(ring)) = self.ends.to.get_mut(to) else { continue };
            let backlog = &mut self.backlogs[to];
            if message.carries_packet() {
                if let Err(PushError::Full(
                    Message::Packet { port, buf, .. } | Message::Park { port, buf, .. },
                )) = ring.push(message)
                {
                    self.counters.count_drop(port, Reason::HandoffFull);
                    dropped(port, Reason::HandoffFull, &buf);
                }
                continue;
            }
            // Behind those that wait already, so that news stay in order.
            let message = if backlog.is_empty() {
                match ring.push(message) {
                    Ok(()) => continue,
                    Err(PushError::Full(message)) => message,
                }
            } else {
                message
            };
            if backlog.len() < BACKLOG {
                backlog.push_back(message);
            } else {
                self.board.lost_messages.add(1);
            }
        }
    }

    fn retry(&mut self) {
        for (ring, backlog) in self.ends.to.iter_mut().zip(&mut self.backlogs) {
            let Some(ring) = ring else { continue };
            while !ring.is_full() {
                let Some(message) = backlog.pop_front() else { break };
                // There is room: we are the only producer.
                let _ = ring.push(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_director::message::Stage;

    use super::*;

    fn pair(capacity: usize) -> (Mesh<u32>, Mesh<u32>, Arc<WorkerCounters>, Arc<Board>) {
        let mut ends = rings(2, capacity);
        let (counters, board) = (Arc::new(WorkerCounters::new(2)), Arc::new(Board::default()));
        let second = Mesh::new(ends.pop().unwrap(), Arc::new(WorkerCounters::new(2)), Arc::default());
        let first = Mesh::new(ends.pop().unwrap(), counters.clone(), board.clone());
        (first, second, counters, board)
    }

    fn packet(buf: u32) -> Envelope<u32> {
        Envelope { to: 1, message: Message::Packet { port: 1, hops: 1, stage: Stage::Arrived, buf } }
    }

    fn news(last: u8) -> Envelope<u32> {
        let message = Message::NeighbourUsed { interface: 0, address: [10, 0, 0, last].into() };
        Envelope { to: 1, message }
    }

    #[test]
    fn messages_arrive_in_order() {
        let (mut first, mut second, ..) = pair(8);
        first.deliver(&mut (0..5).map(packet).collect(), |_, _, _| {});
        let mut inbox = Vec::new();
        assert_eq!(second.collect(64, &mut inbox), 5);
        let bufs: Vec<_> = inbox
            .iter()
            .map(|message| match message {
                Message::Packet { buf, .. } => *buf,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(bufs, [0, 1, 2, 3, 4]);
        assert_eq!(first.collect(64, &mut inbox), 0);
    }

    #[test]
    fn a_full_ring_loses_packets_counted_and_keeps_news() {
        let (mut first, mut second, counters, _) = pair(4);
        first.deliver(&mut (0..6).map(packet).chain((0..3).map(news)).collect(), |_, _, _| {});
        assert_eq!(counters.dropped_on(1, Reason::HandoffFull), 2);
        let mut inbox = Vec::new();
        assert_eq!(second.collect(64, &mut inbox), 4);
        inbox.clear();
        first.deliver(&mut vec![news(3)], |_, _, _| {});
        assert_eq!(second.collect(64, &mut inbox), 4);
        let last: Vec<_> = inbox
            .iter()
            .map(|message| match message {
                Message::NeighbourUsed { address: std::net::IpAddr::V4(address), .. } => address.octets()[3],
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(last, [0, 1, 2, 3]);
    }

    #[test]
    fn no_more_is_taken_of_one_than_of_another() {
        let counters = || Arc::new(WorkerCounters::new(1));
        let mut ends = rings(3, 8).into_iter().map(|ends| Mesh::new(ends, counters(), Arc::default()));
        let [mut one, mut two, mut three]: [Mesh<u32>; 3] = std::array::from_fn(|_| ends.next().unwrap());
        let to_three = |buf| Envelope { to: 2, ..packet(buf) };
        one.deliver(&mut (0..7).map(to_three).collect(), |_, _, _| {});
        two.deliver(&mut (0..2).map(to_three).collect(), |_, _, _| {});
        let mut inbox = Vec::new();
        assert_eq!([5, 3, 1].map(|limit| three.collect(limit, &mut inbox)), [7, 2, 0]);
    }

    #[test]
    fn the_backlog_is_bounded() {
        let (mut first, _second, _, board) = pair(1);
        first.deliver(&mut (0..BACKLOG + 11).map(|_| news(1)).collect(), |_, _, _| {});
        assert_eq!(board.lost_messages.get(), 10);
    }
}
