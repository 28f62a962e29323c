//! What the data plane asks of the machine and safe Rust has no words for: cache lines ahead of their use, large
//! tables on large pages, clocks of processors and threads, TAP interfaces, giving up privileges; for benchmarks, whether it
//! calls the allocator or the kernel. Every function is safe to call with anything. No DPDK here.

mod allocations;
mod appender;
mod privileges;
mod syscalls;
mod tap;

use std::time::Duration;

pub use allocations::{CountingAllocator, allocations};
pub use appender::Appender;
pub use privileges::{Capability, PrivilegeError, keep_only};
pub use syscalls::first_syscall;
pub use tap::open_tap;

/// Asks for the cache line at which `value` begins, to be read or written soon.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    ask(value);
}

#[inline(always)]
fn ask<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it neither faults nor changes memory, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Asks for the cache line of an element of a slice; nothing when there is no such element.
#[inline(always)]
pub fn prefetch_at<T>(slice: &[T], index: usize) {
    if let Some(value) = slice.get(index) {
        prefetch(value);
    }
}

/// The same without looking whether there is such an element: if there is none, some other line is asked for in vain,
/// which takes longer than looking would have.
#[inline(always)]
pub fn prefetch_unseen<T>(slice: &[T], index: usize) {
    ask(slice.as_ptr().wrapping_add(index));
}

/// A bit for each of sixteen bytes that equals `byte`, the lowest for the first.
#[inline(always)]
pub fn bytes_equal(bytes: &[u8; 16], byte: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of this architecture; sixteen bytes are the 128 bits that are loaded, from wherever they lie.
    unsafe {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi32};
        // Four at once: without SSSE3 one by one takes longer.
        let four = _mm_set1_epi32(u32::from_ne_bytes([byte; 4]).cast_signed());
        let equal = _mm_cmpeq_epi8(_mm_loadu_si128(bytes.as_ptr().cast()), four);
        _mm_movemask_epi8(equal).cast_unsigned()
    }
    #[cfg(not(target_arch = "x86_64"))]
    bytes.iter().rev().fold(0, |bits, &other| bits << 1 | u32::from(other == byte))
}

/// A vector with room for `capacity` elements, on huge pages where the kernel has them to give (transparent ones:
/// `/sys/kernel/mm/transparent_hugepage/enabled` must not be `never`). Memory is taken as it is touched, by default
/// on the NUMA node of the thread that touches it.
pub fn vec_on_huge_pages<T>(capacity: usize) -> Vec<T> {
    let vec: Vec<T> = Vec::with_capacity(capacity);
    let (start, bytes) = (vec.as_ptr().addr(), vec.capacity().saturating_mul(size_of::<T>()));
    advise_huge_pages(start, bytes);
    vec
}

fn advise_huge_pages(start: usize, bytes: usize) {
    const HUGE: usize = 2 << 20;
    let first = start.next_multiple_of(HUGE);
    let length = (start + bytes).saturating_sub(first) & !(HUGE - 1);
    if length == 0 {
        return;
    }
    // SAFETY: the range is inside one live allocation of ours, and the advice does not change what is in it. That
    // the kernel may refuse is no harm.
    unsafe { libc::madvise(std::ptr::without_provenance_mut(first), length, libc::MADV_HUGEPAGE) };
}

/// The processor's own clock: cheap enough for every burst, of a constant rate, started nobody knows when. Readings
/// of one thread that stays on its processor never go back.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it only reads.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: the virtual counter may be read by everybody, and reading it changes nothing.
        unsafe {
            std::arch::asm!("mrs {count}, cntvct_el0", count = out(reg) count, options(nomem, nostack, preserves_flags));
        }
        count
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        thread_time().as_nanos() as u64
    }
}

/// CPU time that the calling thread has used.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec, which is all that the call asks for.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_element_may_be_asked_for() {
        let list = [1u8, 2, 3];
        prefetch(&list);
        prefetch_at(&list, 2);
        prefetch_at(&list, usize::MAX);
        prefetch_unseen(&list, 1);
        prefetch_unseen(&list, usize::MAX / 2);
    }

    #[test]
    fn equal_lanes_are_marked() {
        let bytes = [7, 0, 7, 1, 2, 3, 4, 7, 0x80, 0xff, 0x7f, 0, 0, 0, 0, 7];
        assert_eq!(bytes_equal(&bytes, 7), 0b1000_0000_1000_0101);
        assert_eq!(bytes_equal(&bytes, 0xff), 0b10_0000_0000);
        assert_eq!(bytes_equal(&[0; 16], 1), 0);
    }

    #[test]
    fn a_large_vector_is_usable_and_keeps_its_place() {
        let mut vec = vec_on_huge_pages::<u64>(1 << 20);
        let place = vec.as_ptr();
        vec.resize(1 << 20, 7);
        assert_eq!((vec.as_ptr(), vec[(1 << 20) - 1]), (place, 7));
        assert!(vec_on_huge_pages::<u8>(0).is_empty());
    }

    #[test]
    fn a_thread_that_works_uses_time_and_cycles() {
        let before = (thread_time(), cycles());
        let sum = (0..3_000_000u64).fold(0u64, |sum, i| std::hint::black_box(sum ^ i));
        assert!(thread_time() > before.0 && cycles() > before.1, "{sum}");
    }
}
