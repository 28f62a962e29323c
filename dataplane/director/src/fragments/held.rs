//! Buffers that wait: lists in one arena of fixed size.

use super::Refusal;

/// No place.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Place<B> {
    buf: Option<B>,
    /// Offset in its datagram; the list is in this order.
    start: u32,
    why: Refusal,
    next: u32,
}

/// Buffers in the order of their offsets.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
}

impl Default for List {
    fn default() -> List {
        List { head: NONE }
    }
}

/// The arena.
#[derive(Debug)]
pub(super) struct Held<B> {
    places: Box<[Place<B>]>,
    free: u32,
    discarded: List,
}

impl<B> Held<B> {
    pub(super) fn new(count: usize) -> Held<B> {
        let place = |at: usize| Place {
            buf: None,
            start: 0,
            why: Refusal::TimedOut,
            next: if at + 1 < count { at as u32 + 1 } else { NONE },
        };
        Held { places: (0..count).map(place).collect(), free: 0, discarded: List::default() }
    }

    /// Whether no place is free; those of discarded buffers become free when they are fetched.
    pub(super) fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Adds a buffer to a list. The caller has asked whether there is room.
    pub(super) fn put(&mut self, list: &mut List, start: u32, buf: B) {
        let at = self.free;
        self.free = self.places[at as usize].next;
        let mut before = NONE;
        let mut next = list.head;
        while next != NONE && self.places[next as usize].start < start {
            (before, next) = (next, self.places[next as usize].next);
        }
        self.places[at as usize] = Place { buf: Some(buf), start, why: Refusal::TimedOut, next };
        match before {
            NONE => list.head = at,
            before => self.places[before as usize].next = at,
        }
    }

    /// Takes the first buffer of a list.
    pub(super) fn take(&mut self, list: &mut List) -> Option<B> {
        let at = list.head;
        let place = self.places.get_mut(at as usize)?;
        list.head = std::mem::replace(&mut place.next, self.free);
        self.free = at;
        place.buf.take()
    }

    /// Moves a list to the discarded ones and gives its length.
    pub(super) fn discard(&mut self, list: &mut List, why: Refusal) -> u32 {
        let mut count = 0;
        while let Some(place) = self.places.get_mut(list.head as usize) {
            place.why = why;
            let next = std::mem::replace(&mut place.next, self.discarded.head);
            self.discarded.head = std::mem::replace(&mut list.head, next);
            count += 1;
        }
        count
    }

    /// Takes a discarded buffer.
    pub(super) fn discarded(&mut self) -> Option<(B, Refusal)> {
        let why = self.places.get(self.discarded.head as usize)?.why;
        let mut list = self.discarded;
        let buf = self.take(&mut list);
        self.discarded = list;
        Some((buf?, why))
    }
}
