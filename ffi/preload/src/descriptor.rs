//! Second descriptors of sockets that are ours already, and who watches them. That one is closed need not be known, see
//! `table`.

use std::ffi::c_int;

use libc::epoll_event;

use crate::table::{self, Entry};
use crate::{door, errno, next};

/// Makes the copy of a descriptor what the descriptor is.
fn copied(from: c_int, to: c_int) -> c_int {
    let ours = (to >= 0 && to != from).then(|| table::with(from, |entry| entry.clone())).flatten();
    match ours {
        Some(entry) if !table::insert(to, Entry { asked: Vec::new(), watched: Vec::new(), ..entry }) => {
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

/// By so many instances a socket is watched at most; a further one loses sight of it when fulcrum-control is started again.
const WATCHERS: usize = 8;

#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_ctl(poll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    // SAFETY: as the program meant it.
    let done = unsafe { next::epoll_ctl(poll, operation, fd, event) };
    if done == 0 {
        // SAFETY: the kernel has read it just now, where it reads it at all.
        let event = unsafe { event.as_ref() }.filter(|_| operation != libc::EPOLL_CTL_DEL).copied();
        table::with(fd, |entry| {
            entry.watched.retain(|(known, _)| *known != poll);
            if entry.watched.len() < WATCHERS {
                entry.watched.extend(event.map(|event| (poll, event)));
            }
        });
    }
    done
}

/// Lets those watch a descriptor who watched it before another socket came to be behind it.
pub(crate) fn watch_again(fd: c_int, watched: &[(c_int, epoll_event)]) {
    for &(poll, mut event) in watched {
        // SAFETY: the event is there. Whoever is no epoll instance any more refuses.
        unsafe { next::epoll_ctl(poll, libc::EPOLL_CTL_ADD, fd, &mut event) };
    }
}
