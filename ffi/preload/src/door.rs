//! Connections to fulcrum-control: packets for netlink's messages, streams for the listings of `/proc/net`.

use std::ffi::{CStr, c_int, c_void};
use std::mem::{size_of, size_of_val};
use std::ptr;
use std::thread::sleep;
use std::time::Duration;

use libc::{sockaddr_un, timeval};

use crate::descriptor::watch_again;
use crate::errno::last;
use crate::{next, table};

/// Where the doors are, and the variables that say otherwise.
const MESSAGES: (&CStr, &CStr) = (c"FULCRUM_IPVS_SOCKET", c"/run/fulcrum/ipvs.sock");
const LISTINGS: (&CStr, &CStr) = (c"FULCRUM_IPVS_PROC_SOCKET", c"/run/fulcrum/ipvs-proc.sock");

/// How long fulcrum-control may take to be started again. Less than what lets VRRP's peers believe that this one has
/// died: keepalived waits here, too.
const RESTART: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// A connection for netlink's messages; blocking, and closed by exec.
pub(crate) fn messages() -> Result<c_int, c_int> {
    open(MESSAGES, libc::SOCK_SEQPACKET)
}

/// A connection by which a listing comes; blocking, and closed by exec. `line` is its name and the end of the line.
pub(crate) fn listing(line: &CStr) -> Result<c_int, c_int> {
    let fd = open(LISTINGS, libc::SOCK_STREAM)?;
    let bytes = line.to_bytes();
    // SAFETY: the bytes are there, all of them.
    let sent = unsafe { next::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent == bytes.len().cast_signed() {
        return Ok(fd);
    }
    close(fd);
    Err(libc::EIO)
}

/// Whether listings can be had.
pub(crate) fn has_listings() -> bool {
    // SAFETY: the path is a string of C.
    unsafe { next::access(path(LISTINGS), libc::F_OK) == 0 }
}

/// Puts a new connection in the place of one whose other end has gone, and waits a little for it where the program
/// would wait for an answer. In its own eyes the program has the same socket.
pub(crate) fn again(fd: c_int) -> Result<(), c_int> {
    // SAFETY: these two only ask.
    let (of_file, of_fd) = unsafe { (next::fcntl(fd, libc::F_GETFL, 0), next::fcntl(fd, libc::F_GETFD, 0)) };
    let waits = of_file & libc::O_NONBLOCK == 0;
    let looks = if waits { RESTART.as_millis() / LOOK.as_millis() } else { 0 };
    let mut connected = messages();
    for _ in 0..looks {
        if connected.is_ok() {
            break;
        }
        sleep(LOOK);
        connected = messages();
    }
    let new = connected.map_err(|_| libc::ECONNREFUSED)?;
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        copy_time(fd, new, option);
    }
    dress(new, !waits, false);
    let on_exec = if of_fd & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
    let socket = table::identity(new).unwrap_or_default();
    let put = table::with(fd, |entry| {
        entry.socket = socket;
        // SAFETY: both are descriptors; what was behind the second one is closed by it.
        let put = unsafe { next::dup3(new, fd, on_exec) };
        watch_again(fd, &entry.watched);
        put
    });
    close(new);
    if put == Some(fd) { Ok(()) } else { Err(libc::EBADF) }
}

/// Gives a new connection what the program wanted of its socket.
pub(crate) fn dress(fd: c_int, nonblocking: bool, stays_on_exec: bool) {
    // SAFETY: these set flags of a descriptor of ours.
    unsafe {
        if nonblocking {
            next::fcntl(fd, libc::F_SETFL, libc::O_RDWR as usize | libc::O_NONBLOCK as usize);
        }
        if stays_on_exec {
            next::fcntl(fd, libc::F_SETFD, 0);
        }
    }
}

pub(crate) fn close(fd: c_int) {
    // SAFETY: the descriptor is ours, and nobody uses it after this.
    unsafe { libc::close(fd) };
}

fn open(place: (&CStr, &'static CStr), kind: c_int) -> Result<c_int, c_int> {
    // SAFETY: zeros are an address without anything.
    let mut address: sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // SAFETY: getenv's answer and the constants are strings of C.
    let path = unsafe { CStr::from_ptr(path(place)) };
    let bytes = path.to_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(libc::ENAMETOOLONG);
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed() as libc::c_char;
    }
    // SAFETY: it takes numbers.
    let fd = unsafe { next::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(last());
    }
    // A daemon that hangs lets its queue fill up: that must not hang us.
    set_time(fd, libc::SO_SNDTIMEO, timeval { tv_sec: RESTART.as_secs().cast_signed(), tv_usec: 0 });
    let length = size_of::<sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is there, with its length.
    if unsafe { next::connect(fd, ptr::from_ref(&address).cast(), length) } != 0 {
        let reason = last();
        close(fd);
        return Err(reason);
    }
    set_time(fd, libc::SO_SNDTIMEO, timeval { tv_sec: 0, tv_usec: 0 });
    Ok(fd)
}

fn path((variable, usual): (&CStr, &'static CStr)) -> *const libc::c_char {
    // SAFETY: the variable's name is a string of C. That nobody changes the environment meanwhile is what every
    // program has to see to that has threads and reads it.
    let said = unsafe { libc::getenv(variable.as_ptr()) };
    if said.is_null() { usual.as_ptr() } else { said }
}

fn set_time(fd: c_int, option: c_int, time: timeval) {
    let length = size_of_val(&time) as libc::socklen_t;
    // SAFETY: the value is there, with its length.
    unsafe { next::setsockopt(fd, libc::SOL_SOCKET, option, ptr::from_ref(&time).cast::<c_void>(), length) };
}

fn copy_time(from: c_int, to: c_int, option: c_int) {
    let mut time = timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = size_of_val(&time) as libc::socklen_t;
    // SAFETY: there is room for the answer, with its length.
    let said = unsafe {
        next::getsockopt(
            from,
            libc::SOL_SOCKET,
            option,
            ptr::from_mut(&mut time).cast::<c_void>(),
            &mut length,
        )
    };
    if said == 0 {
        set_time(to, option, time);
    }
}
