//! The way in which C functions fail.

use std::ffi::c_int;

/// What a C function returns that has failed, with the reason in `errno`.
pub(crate) fn fail(reason: c_int) -> c_int {
    set(reason);
    -1
}

/// Puts a reason into `errno`.
pub(crate) fn set(reason: c_int) {
    // SAFETY: glibc gives every thread an errno of its own, at an address that is good as long as the thread lives.
    unsafe { *libc::__errno_location() = reason };
}

/// The reason of the last failure.
pub(crate) fn last() -> c_int {
    // SAFETY: as in `set`.
    unsafe { *libc::__errno_location() }
}
