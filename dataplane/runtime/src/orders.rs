//! What the control thread asks of a worker, and the answers: two rings between them.
//!
//! Whatever an answer needs room for comes with its order, and what a worker is done with goes back with an answer:
//! a worker neither allocates nor frees here.

use std::collections::VecDeque;
use std::sync::Arc;

use fulcrum_director::Snapshot;
use fulcrum_director::export::{NeighbourView, SessionView};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::tap::Tap;

/// Orders under way to one worker at most.
const RING: usize = 16;
/// Of these, left free for new configurations.
const RESERVED: usize = 4;

/// To a worker.
#[derive(Debug)]
pub(crate) enum Order {
    /// Go over to this configuration.
    Install(Arc<Snapshot>),
    /// Copy sessions from `cursor` on into `room`, which is empty at first.
    Sessions { question: u64, cursor: u32, room: Vec<SessionView> },
    /// Copy neighbours into `room`, which is empty.
    Neighbours { question: u64, room: Vec<NeighbourView> },
    /// Copy frames so from now on, or not any more.
    Tap { question: u64, tap: Option<Box<Tap>> },
}

/// From a worker, one for each order, in order.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The configuration that is not used any more.
    Retired(Arc<Snapshot>),
    /// Sessions found, where to go on, whether that was all.
    Sessions { question: u64, cursor: u32, done: bool, found: Vec<SessionView> },
    /// Neighbours found.
    Neighbours { question: u64, found: Vec<NeighbourView> },
    /// What frames were copied by before.
    Tap { question: u64, old: Option<Box<Tap>> },
}

impl Answer {
    /// The number of the question that it is the answer to.
    fn question(&self) -> Option<u64> {
        match self {
            Answer::Retired(_) => None,
            Answer::Sessions { question, .. }
            | Answer::Neighbours { question, .. }
            | Answer::Tap { question, .. } => Some(*question),
        }
    }
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct Desk {
    orders: Producer<Order>,
    answers: Consumer<Answer>,
    under_way: usize,
    /// Answers to questions that nobody has picked up yet.
    answered: VecDeque<Answer>,
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Slot {
    orders: Consumer<Order>,
    answers: Producer<Answer>,
    /// An order that was begun.
    begun: Option<Order>,
}

/// Both ends for one worker.
pub(crate) fn channel() -> (Desk, Slot) {
    let (orders, orders_out) = RingBuffer::new(RING);
    let (answers, answers_out) = RingBuffer::new(RING);
    let desk = Desk { orders, answers: answers_out, under_way: 0, answered: VecDeque::new() };
    (desk, Slot { orders: orders_out, answers, begun: None })
}

impl Desk {
    /// Sends a configuration; false when the worker has not taken earlier ones yet.
    pub(crate) fn install(&mut self, snapshot: &Arc<Snapshot>) -> bool {
        self.collect();
        self.under_way < RING && self.send(Order::Install(Arc::clone(snapshot))).is_ok()
    }

    /// Asks a question; gives it back when the worker has too many already.
    pub(crate) fn ask(&mut self, question: Order) -> Result<(), Order> {
        self.collect();
        if self.under_way + RESERVED >= RING { Err(question) } else { self.send(question) }
    }

    /// The answer to the question of that number, when it is there.
    pub(crate) fn answer(&mut self, number: u64) -> Option<Answer> {
        self.collect();
        // Questions are answered in order: what comes before the wanted answer was given up by its asker.
        while let Some(answer) = self.answered.pop_front() {
            match answer.question() {
                Some(question) if question == number => return Some(answer),
                Some(question) if question > number => {
                    self.answered.push_front(answer);
                    return None;
                }
                _ => {}
            }
        }
        None
    }

    /// Takes in answers; configurations that the worker gave back are dropped here.
    pub(crate) fn collect(&mut self) {
        while let Ok(answer) = self.answers.pop() {
            self.under_way -= 1;
            match answer {
                Answer::Retired(snapshot) => drop(snapshot),
                answer => self.answered.push_back(answer),
            }
        }
    }

    fn send(&mut self, order: Order) -> Result<(), Order> {
        self.orders.push(order).map_err(|rtrb::PushError::Full(order)| order)?;
        self.under_way += 1;
        Ok(())
    }
}

impl Slot {
    /// The next order: the one that was put back, if one was.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Order> {
        self.begun.take().or_else(|| self.orders.pop().ok())
    }

    /// Goes on with an order at the next turn, before any other.
    pub(crate) fn put_back(&mut self, order: Order) {
        self.begun = Some(order);
    }

    /// Answers an order. There is always room: no more orders are under way than the ring holds.
    pub(crate) fn answer(&mut self, answer: Answer) {
        if let Err(rtrb::PushError::Full(answer)) = self.answers.push(answer) {
            debug_assert!(false, "no room for {answer:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_leave_room_for_configurations() {
        let (mut desk, mut slot) = channel();
        let ask = |question| Order::Sessions { question, cursor: 0, room: Vec::new() };
        let mut asked = 0;
        while desk.ask(ask(asked)).is_ok() {
            asked += 1;
        }
        assert_eq!(asked as usize, RING - RESERVED);
        let snapshot = Arc::new(Snapshot::default());
        for _ in 0..RESERVED {
            assert!(desk.install(&snapshot));
        }
        assert!(!desk.install(&snapshot));
        assert_eq!(Arc::strong_count(&snapshot), 1 + RESERVED);
        let mut installed = 0;
        while let Some(order) = slot.next() {
            slot.answer(match order {
                Order::Sessions { question, room, .. } => {
                    Answer::Sessions { question, cursor: 1, done: true, found: room }
                }
                Order::Install(snapshot) => {
                    installed += 1;
                    Answer::Retired(snapshot)
                }
                Order::Neighbours { question, room } => Answer::Neighbours { question, found: room },
                Order::Tap { question, tap } => Answer::Tap { question, old: tap },
            });
        }
        assert_eq!(installed, RESERVED);
        assert!(matches!(desk.answer(3), Some(Answer::Sessions { question: 3, .. })));
        assert!(desk.answer(2).is_none(), "given up by its asker");
        assert!(matches!(desk.answer(4), Some(Answer::Sessions { question: 4, .. })));
        assert_eq!(Arc::strong_count(&snapshot), 1);
    }

    #[test]
    fn an_order_that_was_put_back_comes_before_the_others() {
        let (mut desk, mut slot) = channel();
        for question in 0..2 {
            desk.ask(Order::Sessions { question, cursor: 0, room: Vec::new() }).unwrap();
        }
        let Some(Order::Sessions { question, room, .. }) = slot.next() else { panic!("the first order") };
        slot.put_back(Order::Sessions { question, cursor: 32, room });
        assert!(matches!(slot.next(), Some(Order::Sessions { question: 0, cursor: 32, .. })));
        assert!(matches!(slot.next(), Some(Order::Sessions { question: 1, cursor: 0, .. })));
        assert!(slot.next().is_none());
    }
}
