//! Copies of frames for who watches a running data plane.
//!
//! A capture gives every worker a [`Tap`]: a filter and one end of a ring of fixed size, both made before by the control
//! thread, which holds the other end, the [`Catch`]. What finds no room in the ring is counted, and a worker waits
//! for nobody. Without a capture there is no tap, and nothing is looked at.

pub(crate) mod filter;

use std::sync::Arc;

use fulcrum_director::counters::Counter;
use fulcrum_director::{Buf, Drops, Nanos, Reason, Received, Transmit};
use fulcrum_dpdk::Mbuf;
use rtrb::{Consumer, Producer, RingBuffer};

use filter::{Filter, Place};

/// Before each frame in a ring: time 8, length on the wire 4, bytes kept 2, port 2, place 2.
const HEADER: usize = 18;
/// Dropped frames of a step that are looked at.
const DROPS: usize = 2048;

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Tap {
    filter: Filter,
    snap_length: usize,
    ring: Producer<u8>,
    lost: Arc<Counter>,
    drops: Option<Drops<Mbuf>>,
    now: Nanos,
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct Catch {
    ring: Consumer<u8>,
    lost: Arc<Counter>,
}

/// A frame that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    /// By the workers' clock.
    pub(crate) time: Nanos,
    pub(crate) port: u16,
    pub(crate) place: Place,
    /// Its length on the wire.
    pub(crate) length: u32,
    /// Its first bytes.
    pub(crate) bytes: Vec<u8>,
}

/// Both ends for one worker, with a ring of so many bytes.
pub(crate) fn tap(filter: Filter, snap_length: u16, ring: usize) -> (Box<Tap>, Catch) {
    let (producer, consumer) = RingBuffer::new(ring);
    let lost = Arc::new(Counter::default());
    let drops = filter.wants_drops().then(|| Drops::with_capacity(DROPS));
    let (its_lost, snap_length) = (Arc::clone(&lost), snap_length.into());
    let tap = Tap { filter, snap_length, ring: producer, lost: its_lost, drops, now: 0 };
    (Box::new(tap), Catch { ring: consumer, lost })
}

impl Tap {
    /// Before a step: looks at what came in, and gives the room for what the step drops.
    pub(crate) fn before(&mut self, now: Nanos, burst: &[Received<Mbuf>]) -> Option<Drops<Mbuf>> {
        self.now = now;
        if self.filter.wants_traffic() {
            burst.iter().for_each(|received| self.look(received.port, Place::In, received.buf.bytes()));
        }
        self.drops.take()
    }

    /// After the step: looks at what it dropped.
    pub(crate) fn after(&mut self, drops: Option<Drops<Mbuf>>) {
        let Some(mut drops) = drops else { return };
        for dropped in drops.frames.drain(..) {
            self.look(dropped.port, Place::Dropped(dropped.reason), dropped.buf.bytes());
        }
        self.lost.add(std::mem::take(&mut drops.lost));
        self.drops = Some(drops);
    }

    /// Looks at what is about to be sent.
    pub(crate) fn sending(&mut self, frames: &[Transmit<Mbuf>]) {
        if self.filter.wants_traffic() {
            frames.iter().for_each(|frame| self.look(frame.port, Place::Out, frame.buf.bytes()));
        }
    }

    /// Looks at a frame that the loop itself had to drop.
    pub(crate) fn dropped(&mut self, port: u16, reason: Reason, frame: &Mbuf) {
        self.look(port, Place::Dropped(reason), frame.bytes());
    }

    fn look(&mut self, port: u16, place: Place, frame: &[u8]) {
        if self.filter.takes(port, place, frame) && !self.keep(port, place, frame) {
            self.lost.add(1);
        }
    }

    /// Copies a frame into the ring; false when it finds no room.
    fn keep(&mut self, port: u16, place: Place, frame: &[u8]) -> bool {
        let kept = frame.len().min(self.snap_length);
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&self.now.to_le_bytes());
        header[8..12].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        header[12..14].copy_from_slice(&(kept as u16).to_le_bytes());
        header[14..16].copy_from_slice(&port.to_le_bytes());
        header[16..].copy_from_slice(&number(place).to_le_bytes());
        let Ok(mut room) = self.ring.write_chunk(HEADER + kept) else { return false };
        let rest = fill(room.as_mut_slices(), &header);
        fill(rest, &frame[..kept]);
        room.commit_all();
        true
    }
}

impl Catch {
    /// The next frame, when there is one.
    pub(crate) fn next(&mut self) -> Option<Caught> {
        let mut header = [0; HEADER];
        self.ring.pop_entire_slice(&mut header).ok()?;
        let [a, b, c, d, e, f, g, h, l0, l1, l2, l3, k0, k1, p0, p1, w0, w1] = header;
        let mut bytes = vec![0; usize::from(u16::from_le_bytes([k0, k1]))];
        // The worker gives both at once.
        self.ring.pop_entire_slice(&mut bytes).ok()?;
        Some(Caught {
            time: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            port: u16::from_le_bytes([p0, p1]),
            place: place(u16::from_le_bytes([w0, w1]))?,
            bytes,
        })
    }

    /// How many frames were wanted and found no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get()
    }
}

/// Copies bytes to the front of two slices, the second of which goes on where the first ends; what is left of both.
fn fill<'a>((first, second): (&'a mut [u8], &'a mut [u8]), bytes: &[u8]) -> (&'a mut [u8], &'a mut [u8]) {
    let (here, there) = bytes.split_at(bytes.len().min(first.len()));
    first[..here.len()].copy_from_slice(here);
    second[..there.len()].copy_from_slice(there);
    (&mut first[here.len()..], &mut second[there.len()..])
}

fn number(place: Place) -> u16 {
    match place {
        Place::In => 0,
        Place::Out => 1,
        Place::Dropped(reason) => 2 + reason as u16,
    }
}

fn place(number: u16) -> Option<Place> {
    match number {
        0 => Some(Place::In),
        1 => Some(Place::Out),
        more => Reason::ALL.get(usize::from(more) - 2).copied().map(Place::Dropped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_out_and_what_finds_no_room_is_counted() {
        let drops = vec![true; Reason::COUNT];
        let filter = || Filter { incoming: true, drops: drops.clone(), ..Filter::default() };
        let (mut tap, mut catch) = tap(filter(), 60, 3 * (HEADER + 60));
        // Round and round, so that frames lie across the ring's end.
        for round in 0..10u8 {
            tap.now = u64::from(round);
            let frames = [vec![round; 100], vec![round + 1; 17], vec![round; 60], vec![round; 60]];
            tap.look(7, Place::In, &frames[0]);
            tap.look(8, Place::Dropped(Reason::NdIgnored), &frames[1]);
            tap.look(9, Place::Out, &frames[2]);
            tap.look(9, Place::In, &frames[2]);
            tap.look(9, Place::In, &frames[3]);
            assert_eq!(catch.lost(), u64::from(round) + 1, "the last one; what is not wanted is not lost");
            let caught = |port, place, frame: &[u8], kept| Caught {
                time: round.into(),
                port,
                place,
                length: frame.len() as u32,
                bytes: frame[..kept].to_vec(),
            };
            assert_eq!(catch.next(), Some(caught(7, Place::In, &frames[0], 60)));
            assert_eq!(catch.next(), Some(caught(8, Place::Dropped(Reason::NdIgnored), &frames[1], 17)));
            assert_eq!(catch.next(), Some(caught(9, Place::In, &frames[2], 60)));
            assert_eq!(catch.next(), None);
        }
    }
}
