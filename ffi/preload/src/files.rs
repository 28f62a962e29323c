//! Files of `/proc` that are IPVS's, by the names that programs know. A listing comes from fulcrum-control as it is read;
//! what only a kernel has is not there.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr;

use libc::{FILE, mode_t};

use crate::errno::{fail, set};
use crate::path::{Ours, ours};
use crate::{door, next};

/// What the kernel's listings look like from outside.
const LIKE: &CStr = c"/proc/self/net/dev";

/// What a path of the program is, when it is IPVS's.
fn of(path: *const c_char) -> Option<Ours> {
    if path.is_null() {
        return None;
    }
    // SAFETY: programs give strings of C.
    ours(unsafe { CStr::from_ptr(path) }.to_bytes())
}

/// Opens what is ours.
fn opened(ours: Ours, flags: c_int) -> c_int {
    let Ours::Listing(line) = ours else { return fail(libc::ENOENT) };
    if flags & libc::O_ACCMODE != libc::O_RDONLY {
        return fail(libc::EACCES);
    }
    match door::listing(line) {
        Ok(fd) => {
            door::dress(fd, flags & libc::O_NONBLOCK != 0, flags & libc::O_CLOEXEC == 0);
            fd
        }
        Err(reason @ (libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => fail(reason),
        Err(_) => fail(libc::ENOENT),
    }
}

/// Opens what is ours as a stream. `None`: it is not.
fn opened_as_stream(path: *const c_char, mode: *const c_char) -> Option<*mut FILE> {
    let ours = of(path)?;
    // SAFETY: programs give strings of C.
    let letters = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let reads = letters.first() == Some(&b'r') && !letters.contains(&b'+');
    let on_exec = if letters.contains(&b'e') { libc::O_CLOEXEC } else { 0 };
    let fd = opened(ours, on_exec | if reads { libc::O_RDONLY } else { libc::O_RDWR });
    if fd < 0 {
        return Some(ptr::null_mut());
    }
    // SAFETY: the descriptor is open, and the mode one that the program has made.
    let stream = unsafe { libc::fdopen(fd, mode) };
    if stream.is_null() {
        door::close(fd);
    }
    Some(stream)
}

/// The path to look at instead of one of ours.
fn instead(path: *const c_char) -> Result<*const c_char, c_int> {
    match of(path) {
        None => Ok(path),
        Some(Ours::Listing(_)) if door::has_listings() => Ok(LIKE.as_ptr()),
        Some(_) => {
            set(libc::ENOENT);
            Err(-1)
        }
    }
}

macro_rules! open {
    ($(fn $name:ident($($folder:ident)? / $path:ident, $flags:ident $(, $mode:ident)?);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($folder: c_int,)? $path: *const c_char, $flags: c_int $(, $mode: mode_t)?) -> c_int {
            match of($path) {
                Some(ours) => opened(ours, $flags),
                // SAFETY: as the program meant it.
                None => unsafe { next::$name($($folder,)? $path, $flags $(, $mode)?) },
            }
        }
    )*};
}

open! {
    fn open(/path, flags, mode);
    fn open64(/path, flags, mode);
    fn openat(folder/path, flags, mode);
    fn openat64(folder/path, flags, mode);
    fn __open_2(/path, flags);
    fn __open64_2(/path, flags);
    fn __openat_2(folder/path, flags);
    fn __openat64_2(folder/path, flags);
}

macro_rules! stream {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut FILE {
            // SAFETY: as the program meant it.
            opened_as_stream(path, mode).unwrap_or_else(|| unsafe { next::$name(path, mode) })
        }
    )*};
}

stream! { fopen fopen64 }

macro_rules! look {
    ($(fn $name:ident($($folder:ident)? / $path:ident $(, $argument:ident: $type:ty)*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($folder: c_int,)? $path: *const c_char $(, $argument: $type)*) -> c_int {
            match instead($path) {
                // SAFETY: as the program meant it.
                Ok(path) => unsafe { next::$name($($folder,)? path $(, $argument)*) },
                Err(failed) => failed,
            }
        }
    )*};
}

look! {
    fn access(/path, mode: c_int);
    fn euidaccess(/path, mode: c_int);
    fn eaccess(/path, mode: c_int);
    fn faccessat(folder/path, mode: c_int, flags: c_int);
    fn stat(/path, about: *mut libc::stat);
    fn stat64(/path, about: *mut libc::stat);
    fn lstat(/path, about: *mut libc::stat);
    fn lstat64(/path, about: *mut libc::stat);
    fn fstatat(folder/path, about: *mut libc::stat, flags: c_int);
    fn fstatat64(folder/path, about: *mut libc::stat, flags: c_int);
    fn statx(folder/path, flags: c_int, mask: c_uint, about: *mut libc::statx);
}
