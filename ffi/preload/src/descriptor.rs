//! Second descriptors of sockets that are ours already. That one is closed need not be known, see `table`.

use std::ffi::c_int;

use crate::table::{self, Entry};
use crate::{door, errno, next};

/// Makes the copy of a descriptor what the descriptor is.
fn copied(from: c_int, to: c_int) -> c_int {
    let ours = (to >= 0 && to != from).then(|| table::with(from, |entry| entry.clone())).flatten();
    match ours {
        Some(entry) if !table::insert(to, Entry { asked: Vec::new(), ..entry }) => {
            door::close(to);
            errno::fail(libc::EMFILE)
        }
        _ => to,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: as the program meant it.
    copied(fd, unsafe { next::dup(fd) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(fd: c_int, other: c_int) -> c_int {
    // SAFETY: as the program meant it.
    copied(fd, unsafe { next::dup2(fd, other) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(fd: c_int, other: c_int, flags: c_int) -> c_int {
    // SAFETY: as the program meant it.
    copied(fd, unsafe { next::dup3(fd, other, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: as the program meant it.
    of_command(fd, command, unsafe { next::fcntl(fd, command, argument) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: as the program meant it.
    of_command(fd, command, unsafe { next::fcntl64(fd, command, argument) })
}

fn of_command(fd: c_int, command: c_int, result: c_int) -> c_int {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => copied(fd, result),
        _ => result,
    }
}
