//! The system's allocator, counting what each thread asks of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Without a destructor and without lazy initialisation, so that the allocator may use it at any time.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// To be a program's `#[global_allocator]`, so that [`allocations`] counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// How often the calling thread has allocated, reallocated or freed memory, if [`CountingAllocator`] is the program's
/// allocator.
pub fn allocations() -> u64 {
    CALLS.get()
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: every call goes on to the system's allocator unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; what comes from us came from the system's allocator.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_thread_does_is_counted() {
        let layout = Layout::new::<u64>();
        let before = allocations();
        // SAFETY: the layout has a size, and memory goes back with the layout that it came with.
        unsafe {
            let at = CountingAllocator.alloc(layout);
            assert!(!at.is_null());
            CountingAllocator.dealloc(at, layout);
        }
        assert_eq!(allocations() - before, 2);
        std::thread::spawn(|| assert_eq!(allocations(), 0)).join().expect("it starts from nothing");
    }
}
