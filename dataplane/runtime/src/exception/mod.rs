//! The twins of interfaces in Linux: frames between workers and TAP interfaces.
//!
//! Workers make no system calls, so a thread of its own (`pump`) reads and writes the TAPs. Frames cross to it and back
//! in slots that go round between two rings (`lane`); no thread but a worker touches DPDK's memory. Making the twins,
//! and moving what the host had on a port's interface to them, is `twin`.

mod lane;
mod pump;
mod twin;

use std::sync::Arc;

use fulcrum_director::exception::Class;
use fulcrum_director::snapshot::InterfaceId;
use fulcrum_director::{Buf, Message, Pool, Reason, Up, WorkerCounters};
use fulcrum_dpdk::Mbuf;

use self::lane::{Receiver, Sender, lane};
pub(crate) use self::pump::Pump;
pub(crate) use self::twin::OpenTwins;

/// Frames of one class of one worker that wait for the host at most.
const WAITING: usize = 256;
/// Frames of the host that wait for worker 0 at most: what is more waits in the TAP.
const SENT: usize = 512;
/// Frames of the host that worker 0 takes in a turn at most.
const BATCH: usize = 32;

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// By [`Class`].
    lanes: Vec<Sender>,
    /// What the host sends; worker 0's.
    down: Option<Receiver>,
    /// Ports of interfaces, to count drops.
    ports: Arc<[(InterfaceId, u16)]>,
    counters: Arc<WorkerCounters>,
}

/// The pump's ends: what comes from each worker, by class, and its way to worker 0.
#[derive(Debug)]
pub(crate) struct Lines {
    up: Vec<Vec<Receiver>>,
    down: Sender,
}

/// Lines between the workers with these counters and a pump, for frames of at most `largest` bytes.
pub(crate) fn lines(
    counters: &[Arc<WorkerCounters>],
    ports: Vec<(InterfaceId, u16)>,
    largest: usize,
) -> (Vec<Uplink>, Lines) {
    let ports: Arc<[_]> = ports.into();
    let (down, mut for_worker) = lane(SENT, largest);
    let mut from_worker = Some(std::mem::replace(&mut for_worker, lane(0, 0).1));
    let mut up = Vec::new();
    let uplinks = counters.iter().map(|counters| {
        let (lanes, ends) = Class::ALL.iter().map(|_| lane(WAITING, largest)).unzip();
        up.push(ends);
        Uplink { lanes, down: from_worker.take(), ports: ports.clone(), counters: counters.clone() }
    });
    let uplinks = uplinks.collect();
    (uplinks, Lines { up, down })
}

impl Uplink {
    /// Gives frames to the host, as far as there is room.
    #[inline]
    pub(crate) fn send(&mut self, up: &mut Vec<Up<Mbuf>>) {
        for Up { interface, class, buf } in up.drain(..) {
            if !self.lanes[class as usize].send(interface, |room| copy(buf.bytes(), room)) {
                let port = self.ports.iter().find(|(id, _)| *id == interface).map_or(0, |(_, port)| *port);
                self.counters.count_drop(port, Reason::ExceptionFull);
                self.counters.exception(port).of(class).full.add(1);
            }
        }
    }

    /// Adds what the host has sent to `inbox`; says how many frames that were.
    #[inline]
    pub(crate) fn collect<P: Pool>(&mut self, pool: &mut P, inbox: &mut Vec<Message<P::Buf>>) -> usize {
        let Some(down) = &mut self.down else { return 0 };
        let mut count = 0;
        while count < BATCH
            && down.take(|interface, frame| match pool.alloc(frame.len()) {
                Some(mut buf) => {
                    buf.bytes_mut().copy_from_slice(frame);
                    inbox.push(Message::FromHost { interface, buf });
                }
                None => self.counters.count_drop(0, Reason::NoBuffer),
            })
        {
            count += 1;
        }
        count
    }
}

/// Copies a frame to where there is room for it; its length, `None` when it is too large.
fn copy(frame: &[u8], room: &mut [u8]) -> Option<usize> {
    room.get_mut(..frame.len())?.copy_from_slice(frame);
    Some(frame.len())
}
