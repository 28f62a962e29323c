//! The C library's own functions, behind those that this library puts before them.
//!
//! `fcntl` and `open` take arguments as they are needed; here they always take all. On Linux's x86-64 and AArch64 these
//! come in the same registers either way, and the C library looks only at what the others call for.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{FILE, epoll_event, iovec, mode_t, msghdr, sockaddr, socklen_t, ssize_t};

/// Where a function is, once it has been asked for.
struct Next {
    name: &'static CStr,
    at: AtomicPtr<c_void>,
}

impl Next {
    fn find(&self) -> *mut c_void {
        let known = self.at.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a string of C, and the library lives as long as the process.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            // Whoever called the hook was linked against a function that is not there: he could not have been started.
            // SAFETY: it takes nothing and does not return.
            unsafe { libc::abort() }
        }
        self.at.store(found, Ordering::Relaxed);
        found
    }
}

macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        /// The C library's function of this name.
        ///
        /// # Safety
        ///
        /// As that function demands.
        pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
            static NEXT: Next = Next {
                name: match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("a name without a zero inside"),
                },
                at: AtomicPtr::new(std::ptr::null_mut()),
            };
            // SAFETY: the C library's function of this name is of this type, as its manual page says.
            let function = unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $result>(NEXT.find())
            };
            // SAFETY: the caller vouches for the arguments.
            unsafe { function($($argument),*) }
        }
    )*};
}

functions! {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
    fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int;
    fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int;
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut socklen_t) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t) -> c_int;
    fn send(fd: c_int, bytes: *const c_void, length: usize, flags: c_int) -> ssize_t;
    fn sendto(fd: c_int, bytes: *const c_void, length: usize, flags: c_int, to: *const sockaddr, to_length: socklen_t) -> ssize_t;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t;
    fn recv(fd: c_int, bytes: *mut c_void, length: usize, flags: c_int) -> ssize_t;
    fn recvfrom(fd: c_int, bytes: *mut c_void, length: usize, flags: c_int, from: *mut sockaddr, from_length: *mut socklen_t) -> ssize_t;
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t;
    fn epoll_ctl(poll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
    fn dup(fd: c_int) -> c_int;
    fn dup2(fd: c_int, other: c_int) -> c_int;
    fn dup3(fd: c_int, other: c_int, flags: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int;
    fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int;
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn __open_2(path: *const c_char, flags: c_int) -> c_int;
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int;
    fn __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn __openat64_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE;
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE;
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn euidaccess(path: *const c_char, mode: c_int) -> c_int;
    fn eaccess(path: *const c_char, mode: c_int) -> c_int;
    fn faccessat(folder: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int;
    fn stat(path: *const c_char, about: *mut libc::stat) -> c_int;
    fn stat64(path: *const c_char, about: *mut libc::stat) -> c_int;
    fn lstat(path: *const c_char, about: *mut libc::stat) -> c_int;
    fn lstat64(path: *const c_char, about: *mut libc::stat) -> c_int;
    fn fstatat(folder: c_int, path: *const c_char, about: *mut libc::stat, flags: c_int) -> c_int;
    fn fstatat64(folder: c_int, path: *const c_char, about: *mut libc::stat, flags: c_int) -> c_int;
    fn statx(folder: c_int, path: *const c_char, flags: c_int, mask: c_uint, about: *mut libc::statx) -> c_int;
}

/// A message of one piece, without address and control data.
pub(crate) fn message_of(piece: &mut iovec) -> msghdr {
    // SAFETY: zeros are a message without anything.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message
}
