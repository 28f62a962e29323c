//! Messages to and from fulcrum-control. A request whose answer a restart of fulcrum-control has cut off is sent once more,
//! so that a program which keeps its socket for weeks, as keepalived does, sees nothing of the restart.

use std::ffi::{c_int, c_void};
use std::mem::take;
use std::ptr;
use std::slice;

use libc::{iovec, msghdr, sockaddr, socklen_t, ssize_t};

use crate::errno::{fail, last};
use crate::next::{self, message_of};
use crate::socket::{free_port, netlink_address, tell};
use crate::{door, table};

/// A request that is longer is none of IPVS's, and is not sent again. fulcrum-control refuses it.
const REMEMBERED: usize = 16384;

/// What it looks like when the other end has gone.
const GONE: [c_int; 4] = [libc::EPIPE, libc::ECONNRESET, libc::ENOTCONN, libc::ECONNREFUSED];

/// Sends a message of ours, if need be to who has taken the other's place.
///
/// # Safety
///
/// The pieces are there, with their lengths.
unsafe fn ask(fd: c_int, pieces: &[iovec], flags: c_int) -> ssize_t {
    let mut asked = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.iov_len > 0) {
        if asked.len().saturating_add(piece.iov_len) > REMEMBERED {
            return fail(libc::EMSGSIZE) as ssize_t;
        }
        // SAFETY: the program says that there is as much.
        asked.extend_from_slice(unsafe { slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len) });
    }
    let sent = send_whole(fd, &asked, flags);
    let sent = if sent < 0 && GONE.contains(&last()) {
        match door::again(fd) {
            Ok(()) => send_whole(fd, &asked, flags),
            Err(reason) => return fail(reason) as ssize_t,
        }
    } else {
        sent
    };
    if sent >= 0 {
        table::with(fd, |entry| {
            if entry.port == 0 {
                entry.port = free_port();
            }
            entry.asked = asked;
        });
    }
    sent
}

fn send_whole(fd: c_int, bytes: &[u8], flags: c_int) -> ssize_t {
    // SAFETY: the bytes are there, all of them.
    unsafe { next::send(fd, bytes.as_ptr().cast(), bytes.len(), flags | libc::MSG_NOSIGNAL) }
}

/// Receives a message of ours; `message` is the program's, without the address, which the caller tells.
///
/// # Safety
///
/// As `recvmsg` demands.
unsafe fn hear(fd: c_int, message: &mut msghdr, flags: c_int) -> ssize_t {
    let mut repeated = false;
    loop {
        let mut attempt = *message;
        (attempt.msg_name, attempt.msg_namelen) = (ptr::null_mut(), 0);
        // SAFETY: the caller vouches for what the message names.
        let heard = unsafe { next::recvmsg(fd, &mut attempt, flags) };
        let gone = heard == 0 || heard < 0 && GONE.contains(&last());
        if !gone {
            if heard > 0 && flags & libc::MSG_PEEK == 0 {
                table::with(fd, |entry| entry.asked.clear());
            }
            (message.msg_flags, message.msg_controllen) = (attempt.msg_flags, attempt.msg_controllen);
            return heard;
        }
        let asked = table::with(fd, |entry| take(&mut entry.asked)).unwrap_or_default();
        if repeated {
            return fail(libc::ECONNRESET) as ssize_t;
        }
        repeated = true;
        if let Err(reason) = door::again(fd) {
            return fail(reason) as ssize_t;
        }
        // Who was in the middle of an answer cannot be given the rest of it, and has to ask anew.
        if asked.is_empty() || send_whole(fd, &asked, 0) < 0 {
            return fail(libc::ECONNRESET) as ssize_t;
        }
        table::with(fd, |entry| entry.asked = asked);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, bytes: *const c_void, length: usize, flags: c_int) -> ssize_t {
    if !table::knows(fd) {
        // SAFETY: as the program meant it.
        return unsafe { next::send(fd, bytes, length, flags) };
    }
    // SAFETY: the program vouches for its bytes.
    unsafe { ask(fd, &[iovec { iov_base: bytes.cast_mut(), iov_len: length }], flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendto(
    fd: c_int,
    bytes: *const c_void,
    length: usize,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> ssize_t {
    if !table::knows(fd) {
        // SAFETY: as the program meant it.
        return unsafe { next::sendto(fd, bytes, length, flags, to, to_length) };
    }
    // SAFETY: the program vouches for its bytes.
    unsafe { ask(fd, &[iovec { iov_base: bytes.cast_mut(), iov_len: length }], flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    if message.is_null() || !table::knows(fd) {
        // SAFETY: as the program meant it.
        return unsafe { next::sendmsg(fd, message, flags) };
    }
    // SAFETY: the program vouches for its message, and for the pieces in it.
    unsafe {
        let message = &*message;
        let pieces = match message.msg_iovlen {
            0 => &[],
            count => slice::from_raw_parts(message.msg_iov, count),
        };
        ask(fd, pieces, flags)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, bytes: *mut c_void, length: usize, flags: c_int) -> ssize_t {
    if !table::knows(fd) {
        // SAFETY: as the program meant it.
        return unsafe { next::recv(fd, bytes, length, flags) };
    }
    // SAFETY: the program vouches for its room; nobody wants to know the address.
    unsafe { recvfrom(fd, bytes, length, flags, ptr::null_mut(), ptr::null_mut()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvfrom(
    fd: c_int,
    bytes: *mut c_void,
    length: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    // Without room nothing can be told from the end.
    if length == 0 && flags & libc::MSG_TRUNC == 0 || !table::knows(fd) {
        // SAFETY: as the program meant it.
        return unsafe { next::recvfrom(fd, bytes, length, flags, from, from_length) };
    }
    let mut piece = iovec { iov_base: bytes, iov_len: length };
    // SAFETY: the program vouches for its room.
    let heard = unsafe { hear(fd, &mut message_of(&mut piece), flags) };
    if heard >= 0 {
        // SAFETY: the program vouches for its room.
        unsafe { tell(netlink_address(0), from, from_length) };
    }
    heard
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the program vouches for its message.
    let ours = unsafe { message.as_mut() }.filter(|_| table::knows(fd));
    let Some(message) = ours else {
        // SAFETY: as the program meant it.
        return unsafe { next::recvmsg(fd, message, flags) };
    };
    // SAFETY: the program vouches for what its message names.
    let heard = unsafe { hear(fd, message, flags) };
    if heard >= 0 && !message.msg_name.is_null() {
        // SAFETY: the program vouches for its room.
        unsafe { tell(netlink_address(0), message.msg_name.cast(), &mut message.msg_namelen) };
    }
    heard
}

/// What a program calls that was compiled with checks of lengths.
#[unsafe(no_mangle)]
unsafe extern "C" fn __recv_chk(
    fd: c_int,
    bytes: *mut c_void,
    length: usize,
    room: usize,
    flags: c_int,
) -> ssize_t {
    if length > room {
        // SAFETY: it takes nothing and does not return.
        unsafe { libc::abort() }
    }
    // SAFETY: as the program meant it.
    unsafe { recv(fd, bytes, length, flags) }
}

/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    bytes: *mut c_void,
    length: usize,
    room: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    if length > room {
        // SAFETY: it takes nothing and does not return.
        unsafe { libc::abort() }
    }
    // SAFETY: as the program meant it.
    unsafe { recvfrom(fd, bytes, length, flags, from, from_length) }
}
