//! Frames from one thread to another by copy: slots go there full and come back empty, so that nobody allocates.

use fulcrum_director::snapshot::InterfaceId;
use rtrb::{Consumer, Producer, RingBuffer};

/// Room for a frame, and the frame in it.
#[derive(Debug)]
struct Slot {
    interface: InterfaceId,
    length: usize,
    bytes: Box<[u8]>,
}

/// The end that gives frames.
#[derive(Debug)]
pub(super) struct Sender {
    full: Producer<Slot>,
    empty: Consumer<Slot>,
    /// One that was taken for a frame which did not come.
    spare: Option<Slot>,
}

/// The end that takes them.
#[derive(Debug)]
pub(super) struct Receiver {
    full: Consumer<Slot>,
    empty: Producer<Slot>,
}

/// A way for `count` frames of at most `largest` bytes.
pub(super) fn lane(count: usize, largest: usize) -> (Sender, Receiver) {
    let (full, taken) = RingBuffer::new(count);
    let (mut free, empty) = RingBuffer::new(count);
    for _ in 0..count {
        // There is room for all of them.
        let _ = free.push(Slot { interface: 0, length: 0, bytes: vec![0; largest].into() });
    }
    (Sender { full, empty, spare: None }, Receiver { full: taken, empty: free })
}

impl Sender {
    /// Whether no slot is free.
    pub(super) fn is_full(&self) -> bool {
        self.spare.is_none() && self.empty.is_empty()
    }

    /// Has `fill` fill a slot with a frame, which gives its length; false when no slot is free, or there is no frame.
    #[inline]
    pub(super) fn send(
        &mut self,
        interface: InterfaceId,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(mut slot) = self.spare.take().or_else(|| self.empty.pop().ok()) else { return false };
        let Some(length) = fill(&mut slot.bytes).filter(|length| *length <= slot.bytes.len()) else {
            self.spare = Some(slot);
            return false;
        };
        (slot.interface, slot.length) = (interface, length);
        // There are no more slots than places.
        let _ = self.full.push(slot);
        true
    }
}

impl Receiver {
    /// Shows the next frame to `take`; false when there is none.
    #[inline]
    pub(super) fn take(&mut self, take: impl FnOnce(InterfaceId, &[u8])) -> bool {
        let Ok(slot) = self.full.pop() else { return false };
        take(slot.interface, &slot.bytes[..slot.length]);
        let _ = self.empty.push(slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_in_order_and_slots_come_back() {
        let (mut sender, mut receiver) = lane(2, 8);
        let put = |sender: &mut Sender, frame: &[u8]| sender.send(3, |room| super::super::copy(frame, room));
        for round in 0..5u8 {
            assert!(put(&mut sender, &[round; 3]) && put(&mut sender, &[round; 8]));
            assert!(!put(&mut sender, &[9]) && sender.is_full());
            for length in [3, 8] {
                assert!(receiver.take(|interface, frame| {
                    assert_eq!((interface, frame), (3, &vec![round; length][..]));
                }));
            }
            assert!(!receiver.take(|_, _| panic!("there are no more")));
        }
    }

    #[test]
    fn what_is_too_large_is_not_sent_and_costs_no_slot() {
        let (mut sender, mut receiver) = lane(1, 8);
        for _ in 0..3 {
            assert!(!sender.send(0, |room| super::super::copy(&[1; 9], room)));
            assert!(!receiver.take(|_, _| panic!("it has no frame")));
        }
        assert!(sender.send(0, |room| super::super::copy(&[1; 8], room)));
        assert!(receiver.take(|_, frame| assert_eq!(frame, [1; 8])));
    }
}
