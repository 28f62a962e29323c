//! What is done with sockets beside sending and receiving: a connection to fulcrum-control answers as the netlink socket
//! would that the program has asked for. The older way to the kernel's IPVS, by socket options, leads nowhere.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{sockaddr, sockaddr_nl, socklen_t};

use crate::errno::fail;
use crate::table::{self, Entry};
use crate::{door, next};

/// The kernel's options of IPVS: IP_VS_BASE_CTL, and 64 of them (linux/ip_vs.h).
const IPVS_OPTIONS: std::ops::Range<c_int> = 1152..1216;

/// `struct sockaddr_nl` of what comes from the kernel, or of a socket of that port.
pub(crate) fn netlink_address(port: u32) -> sockaddr_nl {
    // SAFETY: zeros are an address without anything.
    let mut address: sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_pid = port;
    address
}

/// Writes an address where a program wants it, as far as there is room, and its whole length.
///
/// # Safety
///
/// As the functions demand that tell addresses: `length` is null or says how much room is at `to`.
pub(crate) unsafe fn tell(address: sockaddr_nl, to: *mut sockaddr, length: *mut socklen_t) {
    // SAFETY: the caller vouches for it.
    let Some(length) = (unsafe { length.as_mut() }) else { return };
    let room = (*length as usize).min(size_of::<sockaddr_nl>());
    if !to.is_null() {
        // SAFETY: no more is written than there is room for, and no more read than an address has.
        unsafe { ptr::copy_nonoverlapping(ptr::from_ref(&address).cast::<u8>(), to.cast::<u8>(), room) };
    }
    *length = size_of::<sockaddr_nl>() as socklen_t;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if domain != libc::AF_NETLINK || protocol != libc::NETLINK_GENERIC {
        // SAFETY: as the program meant it.
        return unsafe { next::socket(domain, kind, protocol) };
    }
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let of_netlink = kind & !flags;
    if ![libc::SOCK_RAW, libc::SOCK_DGRAM].contains(&of_netlink) {
        return fail(libc::ESOCKTNOSUPPORT);
    }
    let fd = match door::messages() {
        Ok(fd) => fd,
        Err(reason @ (libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => return fail(reason),
        Err(_) => return fail(libc::ECONNREFUSED),
    };
    door::dress(fd, kind & libc::SOCK_NONBLOCK != 0, kind & libc::SOCK_CLOEXEC == 0);
    let socket = table::identity(fd).unwrap_or_default();
    let entry = Entry { socket, kind: of_netlink, port: 0, asked: Vec::new(), watched: Vec::new() };
    if !table::insert(fd, entry) {
        door::close(fd);
        return fail(libc::EMFILE);
    }
    fd
}

/// The address of a socket that has not asked for a certain one: the process's number for the first, as the kernel has it.
pub(crate) fn free_port() -> u32 {
    static USED: AtomicU32 = AtomicU32::new(0);
    let before = USED.fetch_add(1, Ordering::Relaxed);
    if before == 0 { std::process::id() } else { 0xF000_0000 | before }
}

/// Gives a socket of ours an address, unless it has one. 0 asks for any.
fn take_port(fd: c_int, address: *const sockaddr, length: socklen_t, wanted: bool) -> Option<c_int> {
    if !table::knows(fd) {
        return None;
    }
    if address.is_null() || (length as usize) < size_of::<sockaddr_nl>() {
        return Some(fail(libc::EINVAL));
    }
    // SAFETY: the program says that there is as much, wherever it lies.
    let address = unsafe { ptr::read_unaligned(address.cast::<sockaddr_nl>()) };
    if c_int::from(address.nl_family) != libc::AF_NETLINK {
        return Some(fail(libc::EINVAL));
    }
    let asked = if wanted { address.nl_pid } else { 0 };
    let done = table::with(fd, |entry| {
        if entry.port == 0 {
            entry.port = if asked == 0 { free_port() } else { asked };
        }
        asked == 0 || entry.port == asked
    });
    Some(if done == Some(true) { 0 } else { fail(libc::EINVAL) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let ours = take_port(fd, address, length, true);
    // SAFETY: as the program meant it.
    ours.unwrap_or_else(|| unsafe { next::bind(fd, address, length) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // There is nobody else to connect to.
    let ours = take_port(fd, address, length, false);
    // SAFETY: as the program meant it.
    ours.unwrap_or_else(|| unsafe { next::connect(fd, address, length) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    let Some(port) = table::with(fd, |entry| entry.port) else {
        // SAFETY: as the program meant it.
        return unsafe { next::getsockname(fd, address, length) };
    };
    // SAFETY: the program vouches for its room.
    unsafe { tell(netlink_address(port), address, length) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    if !table::knows(fd) {
        // SAFETY: as the program meant it.
        return unsafe { next::getpeername(fd, address, length) };
    }
    // SAFETY: the program vouches for its room.
    unsafe { tell(netlink_address(0), address, length) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    if level == libc::IPPROTO_IP && IPVS_OPTIONS.contains(&name) {
        return fail(libc::ENOPROTOOPT);
    }
    let answer = match (level, name) {
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => Some(libc::AF_NETLINK),
        (libc::SOL_SOCKET, libc::SO_PROTOCOL) => Some(libc::NETLINK_GENERIC),
        (libc::SOL_SOCKET, libc::SO_TYPE) => Some(0),
        // No option of netlink is on: none changes what fulcrum-control says.
        (libc::SOL_NETLINK, _) => Some(0),
        _ => None,
    };
    let ours = answer.and_then(|answer| {
        let kind = table::with(fd, |entry| entry.kind)?;
        Some(if (level, name) == (libc::SOL_SOCKET, libc::SO_TYPE) { kind } else { answer })
    });
    let Some(answer) = ours else {
        // SAFETY: as the program meant it.
        return unsafe { next::getsockopt(fd, level, name, value, length) };
    };
    // SAFETY: the program vouches for its room and the length of it.
    match unsafe { length.as_mut() } {
        Some(length) if *length as usize >= size_of::<c_int>() && !value.is_null() => {
            // SAFETY: there is as much room.
            unsafe { ptr::write_unaligned(value.cast::<c_int>(), answer) };
            *length = size_of::<c_int>() as socklen_t;
            0
        }
        _ => fail(libc::EINVAL),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if level == libc::IPPROTO_IP && IPVS_OPTIONS.contains(&name) {
        return fail(libc::ENOPROTOOPT);
    }
    if level == libc::SOL_NETLINK && table::knows(fd) {
        return 0;
    }
    // SAFETY: as the program meant it.
    unsafe { next::setsockopt(fd, level, name, value, length) }
}
