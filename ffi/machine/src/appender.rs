//! Elements added to a vector one after the other, with its end kept at hand.

use std::ops::Range;

/// Adds elements to a vector, whose length is set when this goes: meanwhile its end is in registers, not in memory that
/// each element has to read and to write.
#[derive(Debug)]
pub struct Appender<'a, T> {
    vec: &'a mut Vec<T>,
    /// Where the next element goes, and the end of the vector's room.
    ///
    /// Invariant: of one allocation, the vector's; all before is initialised.
    room: Range<*mut T>,
}

impl<'a, T> Appender<'a, T> {
    /// Adds to `vec`.
    #[inline(always)]
    pub fn new(vec: &'a mut Vec<T>) -> Appender<'a, T> {
        const { assert!(size_of::<T>() > 0, "a place must differ from the next one") };
        let room = room(vec);
        Appender { vec, room }
    }

    /// Adds an element, as `Vec::push` does.
    #[inline(always)]
    pub fn push(&mut self, value: T) {
        if self.room.start == self.room.end {
            self.settle();
            self.room = more_room(self.vec);
        }
        // SAFETY: before the end of the vector's room, and behind its elements.
        unsafe {
            self.room.start.write(value);
            self.room.start = self.room.start.add(1);
        }
    }

    #[inline(always)]
    fn settle(&mut self) {
        // SAFETY: both are in the vector's allocation, and all elements in between are initialised.
        unsafe {
            let length = self.room.start.offset_from(self.vec.as_ptr());
            self.vec.set_len(length as usize);
        }
    }
}

impl<T> Drop for Appender<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.settle();
    }
}

#[inline(always)]
fn room<T>(vec: &mut Vec<T>) -> Range<*mut T> {
    let Range { start, end } = vec.spare_capacity_mut().as_mut_ptr_range();
    start.cast()..end.cast()
}

#[cold]
fn more_room<T>(vec: &mut Vec<T>) -> Range<*mut T> {
    vec.reserve(1);
    room(vec)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn elements_come_behind_those_that_are_there() {
        let mut vec = Vec::with_capacity(2);
        vec.push("one".to_owned());
        let mut appender = Appender::new(&mut vec);
        for word in ["two", "three", "four"] {
            appender.push(word.to_owned());
        }
        drop(appender);
        assert_eq!(vec, ["one", "two", "three", "four"]);
        drop(Appender::new(&mut vec));
        assert_eq!(vec.len(), 4);
    }

    #[test]
    fn none_is_lost_to_a_panic() {
        let value = Rc::new(());
        let mut vec = Vec::new();
        let added = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut appender = Appender::new(&mut vec);
            appender.push(Rc::clone(&value));
            panic!("on purpose");
        }));
        assert!(added.is_err());
        assert_eq!((vec.len(), Rc::strong_count(&value)), (1, 2));
    }
}
