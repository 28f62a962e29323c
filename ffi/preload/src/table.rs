//! Which descriptors are netlink sockets in the program's eyes, and connections to fulcrum-control in the kernel's.
//!
//! A descriptor counts as ours as long as the socket behind it is the one that was put in. So nothing has to be known
//! of `close`, of descriptors that are closed in ranges, or by children that share the memory.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::epoll_event;

/// Descriptors from here on are none that this library gives out.
const MAX: usize = 65536;

/// A netlink socket in the program's eyes.
#[derive(Clone)]
pub(crate) struct Entry {
    /// Which socket it is in the kernel's eyes: the number of its inode.
    pub(crate) socket: u64,
    /// `SOCK_RAW` or `SOCK_DGRAM`, as it was asked for.
    pub(crate) kind: c_int,
    /// Its address, 0 while it has none.
    pub(crate) port: u32,
    /// What was sent last and not answered yet.
    pub(crate) asked: Vec<u8>,
    /// By which epoll instances it is watched, and for what: they watch a socket, which another one may replace.
    pub(crate) watched: Vec<(c_int, epoll_event)>,
}

static TABLE: [AtomicPtr<Entry>; MAX] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX];

/// Puts a descriptor in; `false` when the table has no place for it.
pub(crate) fn insert(fd: c_int, entry: Entry) -> bool {
    let Some(place) = place(fd) else { return false };
    let _lock = Lock::take();
    let old = place.swap(Box::into_raw(Box::new(entry)), Ordering::AcqRel);
    drop_entry(old);
    true
}

/// Does something with the entry of a descriptor, if it is ours. Nothing that waits may be done in it.
pub(crate) fn with<R>(fd: c_int, work: impl FnOnce(&mut Entry) -> R) -> Option<R> {
    let place = place(fd)?;
    if place.load(Ordering::Acquire).is_null() {
        return None;
    }
    let _lock = Lock::take();
    let entry = place.load(Ordering::Acquire);
    let socket = identity(fd);
    // SAFETY: what is in the table was made by `insert` and goes only under the lock, which we hold.
    match unsafe { entry.as_mut() } {
        Some(known) if socket == Some(known.socket) => Some(work(known)),
        _ => {
            // Closed meanwhile, and the number given to something else.
            drop_entry(place.swap(ptr::null_mut(), Ordering::AcqRel));
            None
        }
    }
}

/// Whether a descriptor is ours.
pub(crate) fn knows(fd: c_int) -> bool {
    with(fd, |_| ()).is_some()
}

/// Which socket a descriptor is: the number of its inode, `None` when it is no socket.
pub(crate) fn identity(fd: c_int) -> Option<u64> {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: there is room for the answer.
    let found = unsafe { libc::fstat(fd, about.as_mut_ptr()) } == 0;
    // SAFETY: fstat has succeeded, and with it filled the answer in.
    let about = found.then(|| unsafe { about.assume_init() })?;
    (about.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(about.st_ino)
}

fn place(fd: c_int) -> Option<&'static AtomicPtr<Entry>> {
    TABLE.get(usize::try_from(fd).ok()?)
}

/// Forgets an entry; the caller holds the lock and has taken it out of the table.
fn drop_entry(entry: *mut Entry) {
    if !entry.is_null() {
        // SAFETY: it came from `Box::into_raw`, is out of the table, and who still had it had the lock.
        drop(unsafe { Box::from_raw(entry) });
    }
}

/// The lock of all entries. It is one that a fork leaves usable in the child, whichever thread held it.
struct Lock;

struct Mutex(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a mutex of the C library is made to be used by all threads.
unsafe impl Sync for Mutex {}

static MUTEX: Mutex = Mutex(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

impl Lock {
    fn take() -> Lock {
        static FORKS: Once = Once::new();
        // SAFETY: these functions live as long as the process, and keep the mutex over a fork in pairs.
        FORKS.call_once(|| _ = unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) });
        lock();
        Lock
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        unlock();
    }
}

extern "C" fn lock() {
    // SAFETY: the mutex is initialised and never destroyed.
    unsafe { libc::pthread_mutex_lock(MUTEX.0.get()) };
}

extern "C" fn unlock() {
    // SAFETY: this thread holds it, or is the only one of a child whose parent's thread held it for the fork.
    unsafe { libc::pthread_mutex_unlock(MUTEX.0.get()) };
}
